"""C12: no machine starves another or the event loop, and system messages overtake the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actorfsm import Limits, MachineStopped, MailboxPolicy
from actorfsm.testing.loop import simulate
from tests.contract.puppet import STYLES, Do, Eager, Suspending, took_path

pytestmark = pytest.mark.rule("C12")
ALL = pytest.mark.parametrize("puppet", STYLES, ids=["eager", "suspending", "plain"])
ASYNC = pytest.mark.parametrize("puppet", [Eager, Suspending], ids=["eager", "suspending"])
MANY = 10_000
STEPS_BETWEEN = 20
"""So many steps of the dispatcher may a shuffled loop draw before somebody else's."""


def roomy(base: type[Any]) -> type[Any]:
    """Return the puppet with room for ten thousand events, and without its list of what it did."""

    class Roomy(base, mailbox=MailboxPolicy(capacity=2 * MANY)):
        def __setattr__(self, name: str, value: Any) -> None:
            if name != "done":
                super().__setattr__(name, value)

    return Roomy


async def world(system: Any, puppet: type[Any], *machine_ids: str) -> None:
    for machine_id in machine_ids:
        await system.spawn(puppet, machine_id)


@pytest.mark.many
@ALL
@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "in order"])
def test_ten_thousand_queued_events_of_one_machine_do_not_starve_another(
    puppet: Any, shuffle: bool, system_of: Callable[..., Any]
) -> None:
    async def scenario() -> None:
        handled = {"busy": 0, "other": 0}
        waits: list[int] = []

        def count(machine: Any) -> None:
            handled[machine.id] += 1

        kind = roomy(puppet)
        async with system_of(kind, services={"count": count}, limits=Limits(turns_per_step=32)) as system:
            await world(system, kind, "busy", "other")
            receipts = [system.tell("busy", Do(script="count")) for _ in range(MANY)]
            for _ in range(20):
                before = handled["busy"]
                await system.tell("other", Do(script="count"))
                waits.append(handled["busy"] - before)
            assert handled["busy"] < MANY
            await receipts[-1]
            assert handled == {"busy": MANY, "other": 20}
            assert max(waits) <= (STEPS_BETWEEN if shuffle else 2) * 32

    simulate(scenario, seed=1, shuffle=shuffle)


@ALL
def test_ready_machines_take_turns_of_a_few_events(puppet: Any, system_of: Callable[..., Any]) -> None:
    async def scenario() -> None:
        order: list[str] = []
        kind = roomy(puppet)
        async with system_of(
            kind,
            services={"note": lambda machine: order.append(machine.id)},
            limits=Limits(events_in_a_row=4),
        ) as system:
            await world(system, kind, "a", "b", "c")
            for machine_id in "abc":
                for _ in range(40):
                    system.tell(machine_id, Do(script="note"))
            await asyncio.sleep(1)
        for n in range(0, 90, 12):
            round_of_all = order[n : n + 12]
            assert {machine_id: round_of_all.count(machine_id) for machine_id in "abc"} == {
                "a": 4,
                "b": 4,
                "c": 4,
            }

    if puppet is not Suspending:  # there each event suspends, and the others go on meanwhile
        simulate(scenario, shuffle=False)
        return

    async def suspending() -> None:
        order: list[str] = []
        async with system_of(puppet, services={"note": lambda machine: order.append(machine.id)}) as system:
            await world(system, puppet, "a", "b", "c")
            receipts = [system.tell(machine_id, Do(script="note")) for machine_id in "abc" for _ in range(40)]
            for receipt in receipts:
                await receipt
        for n in range(0, 90, 12):
            assert set(order[n : n + 12]) == {"a", "b", "c"}

    simulate(suspending, shuffle=False)


@pytest.mark.many
@ALL
@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "in order"])
def test_ten_thousand_queued_events_do_not_starve_the_event_loop(
    puppet: Any, shuffle: bool, system_of: Callable[..., Any]
) -> None:
    async def scenario() -> None:
        handled = 0
        between: list[int] = []

        def count(machine: Any) -> None:
            nonlocal handled
            handled += 1

        async def somebody_else() -> None:
            while handled < MANY:
                before = handled
                await asyncio.sleep(0)
                between.append(handled - before)

        kind = roomy(puppet)
        async with system_of(kind, services={"count": count}, limits=Limits(turns_per_step=50)) as system:
            await world(system, kind, "busy")
            for _ in range(MANY):
                system.tell("busy", Do(script="count"))
            await somebody_else()
        assert handled == MANY
        assert sum(between) == MANY
        if shuffle:  # several steps of the dispatcher may be drawn before ours
            assert len(between) > MANY / 50 / 4
        else:
            assert max(between) <= 2 * 50

    simulate(scenario, seed=2, shuffle=shuffle)


@ALL
def test_asks_in_a_tight_loop_do_not_starve_the_event_loop(
    puppet: Any, inline: bool, system_of: Callable[..., Any]
) -> None:
    """An ask that is answered at once takes no step of the loop: a budget makes it take one now and then."""

    async def scenario() -> None:
        steps = 0
        running = True

        async def somebody_else() -> None:
            nonlocal steps
            while running:
                steps += 1
                await asyncio.sleep(0)

        kind = roomy(puppet)
        async with system_of(kind, services={}, limits=Limits(turns_per_step=50)) as system:
            await world(system, kind, "a")
            task = asyncio.create_task(somebody_else())
            for _ in range(1000):
                await system.ask("a", Do())
            running = False
            await task
            assert steps >= 1000 / 50 - 1
            assert took_path(system.stats(), puppet, inline=inline)

    simulate(scenario, shuffle=False)


@ALL
@pytest.mark.parametrize("chain", [("a", "b"), ("a",)], ids=["to each other", "to itself"])
def test_machines_that_write_to_each_other_for_ever_let_a_third_have_its_turn(
    puppet: Any, chain: tuple[str, ...], system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        rounds = 0
        going = True

        def again(machine: Any) -> None:
            nonlocal rounds
            rounds += 1
            if going:
                machine.tell(chain[0] if machine.id == chain[-1] else chain[-1], Do(script="again"))

        kind = roomy(puppet)
        async with system_of(kind, services={"again": again}, limits=Limits(turns_per_step=32)) as system:
            await world(system, kind, "a", "b", "c")
            try:
                system.tell("a", Do(script="again"))
                for _ in range(10):
                    before = rounds
                    assert (await system.tell("c", Do())).kind == "committed"
                    assert rounds - before <= STEPS_BETWEEN * 32
            finally:
                going = False
        assert rounds > 10

    sim(scenario)


@ASYNC
def test_a_slow_hook_holds_its_own_machine_and_no_other(
    puppet: Any, system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async def slow(machine: Any) -> None:
            await asyncio.sleep(5)

        async with system_of(puppet, services={"slow": slow}) as system:
            await world(system, puppet, *(f"m{n}" for n in range(20)))
            for n in range(19):
                system.tell(f"m{n}", Do(script="slow"))
            await system.ask("m19", Do())
            assert asyncio.get_running_loop().time() == 0
            await system.ask("m18", Do())
            assert asyncio.get_running_loop().time() == 5  # all nineteen at once

    sim(scenario)


# -- system messages -------------------------------------------------------------------------------------------------


@ALL
def test_a_stop_overtakes_ten_thousand_queued_events(puppet: Any, system_of: Callable[..., Any]) -> None:
    async def scenario() -> None:
        handled = 0

        def count(machine: Any) -> None:
            nonlocal handled
            handled += 1

        kind = roomy(puppet)
        async with system_of(kind, services={"count": count}, limits=Limits(dead_letters=10)) as system:
            await world(system, kind, "a")
            receipts = [system.tell("a", Do(script="count")) for _ in range(MANY)]
            await receipts[0]
            before = handled
            await system.stop("a")
            assert handled - before <= 1
            assert system.ids() == []
            stats = system.stats()
            assert stats.outcomes["dead_lettered"] == MANY - handled
            assert stats.balance == 0
            outcome = await receipts[-1]
            assert (outcome.kind, outcome.error.type) == ("dead_lettered", "MachineStopped")

    simulate(scenario)


@ASYNC
def test_a_stop_takes_effect_after_the_event_being_handled(
    puppet: Any, system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()

        async def slow(machine: Any) -> str:
            await asyncio.sleep(5)
            return "done"

        async with system_of(puppet, services={"slow": slow}) as system:
            await world(system, puppet, "a")
            handled = asyncio.create_task(system.ask("a", Do(script="slow")))
            await asyncio.sleep(1)
            queued = asyncio.create_task(system.ask("a", Do(script="slow")))
            await asyncio.sleep(1)
            await asyncio.gather(system.stop("a"), system.stop("a"))
            assert loop.time() == 5
            assert await handled == "done"
            with pytest.raises(MachineStopped):
                await queued
            assert loop.time() == 5

    sim(scenario)


@ASYNC
def test_a_look_needs_no_turn_and_does_not_wait_for_one(
    puppet: Any, system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async def slow(machine: Any) -> None:
            await asyncio.sleep(5)

        async with system_of(puppet, services={"slow": slow}) as system:
            await world(system, puppet, "a")
            for _ in range(10):
                system.tell("a", Do(script="slow", n=7))
            await asyncio.sleep(1)
            snapshot = system.snapshot("a")
            assert (snapshot.seq, snapshot.data) == (
                1,
                {"done": ()},
            )  # as committed, not as the hook has left it
            assert (system.stats().in_flight, system.stats().queued) == (1, 9)
            assert asyncio.get_running_loop().time() == 1
            await system.shutdown(queues="abandon")

    sim(scenario)
