"""Scenarios about supervision trees: order, strategies, restart types, starts that fail or hang, escalation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from actorfsm import Child, Restart, RestartPolicy, Strategy, Supervisor
from tests.campaigns.p1.machines import Finish, Go, Ping, Probe, Steady
from tests.campaigns.p1.scenario import discard, fail_async, hang, hang_on, nap, scenario
from tests.campaigns.p1.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENT = RestartPolicy(max_restarts=3, within_s=60, first_delay_s=1, jitter=0)


def tries(*acts: Any, then: Any = None) -> Any:
    """Return a step that does one thing after another, and the same from then on."""
    left = iter(acts)

    async def step(machine: Any = None) -> Any:
        act = next(left, then)
        return None if act is None else await act(machine)

    return step


async def run_on(machine: Any = None) -> None:
    """Be a service that has nothing to do."""
    await asyncio.get_running_loop().create_future()


def family(strategy: Strategy) -> Callable[[World], list[Any]]:
    """Return what makes a supervisor of two machines with a service between them."""

    def tree(w: World) -> list[Any]:
        children = [Child(Probe, "a"), w.service("poller"), Child(Probe, "b")]
        return [Supervisor("family", strategy=strategy, policy=PATIENT, children=children)]

    return tree


def _a_child_fails(strategy: Strategy) -> None:
    async def play(w: World) -> None:
        w.at("1:body", fail_async)
        failing, waiting = w.tell("a", Go(tag="1")), w.tell("a", Go(tag="2"), callback=True)
        other = w.tell("b", Go(tag="3"))
        await w.ask("b", Ping(tag="4"))
        for receipt in (failing, waiting, other):
            await w.wait_for(receipt)

    play.__name__ = f"a_child_fails_{strategy}"
    scenario(Probe, tree=family(strategy))(play)


for _strategy in Strategy:
    _a_child_fails(_strategy)


def _service_fails(w: World) -> list[Any]:
    poller = w.service("poller", tries(fail_async, then=run_on))
    return [
        Supervisor(
            "pollers", strategy=Strategy.REST_FOR_ONE, policy=PATIENT, children=[poller, Child(Probe, "a")]
        )
    ]


@scenario(Probe, tree=_service_fails)
async def a_service_fails_and_is_started_again(w: World) -> None:
    await w.ask("a", Go(tag="1"))
    await asyncio.sleep(3)
    await w.ask("a", Go(tag="2"))


def _three_types(w: World) -> list[Any]:
    children = [
        Child(Probe, "permanent"),
        Child(Probe, "transient", restart=Restart.TRANSIENT),
        Child(Probe, "temporary", restart=Restart.TEMPORARY),
        w.service("short", nap, restart=Restart.TRANSIENT),
    ]
    return [Supervisor("types", policy=PATIENT, children=children)]


@scenario(Probe, tree=_three_types)
async def children_end_normally(w: World) -> None:
    for machine_id in ("permanent", "transient"):
        await w.ask(machine_id, Finish(tag=f"finish of {machine_id}"))
    await w.stop("temporary")
    await asyncio.sleep(4)
    await w.ask("permanent", Go(tag="1"))
    await w.stop("permanent")
    await asyncio.sleep(4)
    await w.ask("permanent", Go(tag="2"))


@scenario(Probe, tree=_three_types)
async def children_fail(w: World) -> None:
    for machine_id in ("permanent", "transient", "temporary"):
        w.at(f"{machine_id} fails:body", fail_async)
        held = w.tell(machine_id, Go(tag=f"{machine_id} fails")), w.tell(machine_id, Ping(tag=machine_id))
        for receipt in held:
            await w.wait_for(receipt)


def _does_not_start(w: World) -> list[Any]:
    w.at("Spawn:enter", tries(None, fail_async))
    children = [Child(Probe, "a"), Child(Probe, "b"), w.service("never")]
    return [Supervisor("broken", children=children)]


@scenario(Probe, tree=_does_not_start)
async def a_machine_does_not_start(w: World) -> None:
    w.wrong("the body of a system began that had not started")


def _hangs_at_start(w: World) -> list[Any]:
    w.at("Spawn:enter", tries(None, hang))
    return [Child(Probe, "a"), Child(Probe, "b", start_timeout=2), w.service("never")]


@scenario(Probe, tree=_hangs_at_start)
async def a_machine_hangs_at_its_start(w: World) -> None:
    w.wrong("the body of a system began that had not started")


def _service_hangs(w: World) -> list[Any]:
    return [Child(Probe, "a"), w.service("hangs", before=hang, start_timeout=2)]


@scenario(Probe, tree=_service_hangs)
async def a_service_hangs_at_its_start(w: World) -> None:
    w.wrong("the body of a system began that had not started")


def _starts_badly_again(w: World) -> list[Any]:
    policy = RestartPolicy(max_restarts=5, within_s=60, first_delay_s=1, jitter=0)
    hurdle = w.service("hurdle", before=tries(None, fail_async, hang), start_timeout=2)
    return [
        Supervisor(
            "stubborn",
            strategy=Strategy.ONE_FOR_ALL,
            policy=policy,
            children=[Child(Probe, "a"), hurdle, Child(Probe, "b")],
        )
    ]


@scenario(Probe, tree=_starts_badly_again)
async def restarts_fail_and_hang(w: World) -> None:
    w.at("1:body", fail_async)
    failing, held = w.tell("a", Go(tag="1")), w.tell("b", Ping(tag="2"), callback=True)
    await w.wait_for(failing)
    await w.ask("a", Ping(tag="3"))
    await w.wait_for(held)


def _short_of_patience(w: World, outer: RestartPolicy = PATIENT) -> list[Any]:
    impatient = RestartPolicy(max_restarts=1, within_s=60, first_delay_s=1, jitter=0)
    inner = Supervisor("inner", policy=impatient, children=[Child(Probe, "a"), Child(Probe, "b")])
    return [Supervisor("outer", policy=outer, children=[w.service("poller"), inner])]


def _without_patience(w: World) -> list[Any]:
    return _short_of_patience(w, RestartPolicy(max_restarts=0))


async def fail_often(w: World, times: int) -> None:
    for n in range(times):
        w.at(f"fails {n}:body", fail_async)
        await w.wait_for(w.tell("a", Go(tag=f"fails {n}"), callback=True))


@scenario(Probe, tree=_short_of_patience)
async def a_supervisor_gives_up_and_is_started_again(w: World) -> None:
    held = w.tell("b", Go(tag="held"))
    await fail_often(w, 2)
    await w.wait_for(held)
    await w.ask("a", Ping(tag="1"))


@scenario(Probe, tree=_without_patience, root=RestartPolicy(max_restarts=0))
async def failures_reach_the_root(w: World) -> None:
    asking = asyncio.ensure_future(w.ask("b", Go(tag="1")))
    w.at("1:body", lambda m: discard(asyncio.sleep(3)))
    try:
        await fail_often(w, 4)
        await asyncio.sleep(100)
        w.wrong("four failures were not too many")
    finally:
        await asyncio.wait([asking])


def _refuses_to_stop(w: World) -> list[Any]:
    return [
        w.service("poller", hang_on, shutdown=1),
        Child(Probe, "a", shutdown=1),
        Child(Probe, "b", shutdown=1),
    ]


@scenario(Probe, tree=_refuses_to_stop)
async def children_refuse_to_stop(w: World) -> None:
    w.at("1:body", hang_on)
    hanging, waiting = w.tell("b", Go(tag="1")), w.tell("a", Go(tag="2"))
    await w.wait_for(waiting)
    w.rest_cut_short = True
    try:
        await w.system.shutdown(queues="abandon")
        w.rest_cut_short = False
    finally:
        await asyncio.sleep(100)  # they give in at last
    await w.wait_for(hanging)


def _with_places(w: World) -> list[Any]:
    return [Supervisor("outer", policy=PATIENT, children=[Steady, Child(Steady, "a"), Supervisor("inner")])]


@scenario(Steady, tree=_with_places)
async def machines_that_are_spawned_stand_in_the_tree(w: World) -> None:
    await w.spawn(Steady, "b")
    w.at("1:body", fail_async)
    await w.ask("a", Go(tag="1"))
    await w.ask("b", Ping(tag="2"))
    await w.stop("a")
    await w.ask("a", Go(tag="3"))
