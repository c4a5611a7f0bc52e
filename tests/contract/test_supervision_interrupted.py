"""C16, C19: what befalls a tree while some of it waits for a restart. Each was found by the simulation (P2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

import pytest

from actorfsm import (
    STAY,
    Child,
    Event,
    HookFailed,
    Machine,
    NoSuchMachine,
    Redelivery,
    Restart,
    RestartPolicy,
    Strategy,
    Supervisor,
    Terminated,
    transition,
)
from tests.contract.lamp import raising, times
from tests.contract.paths import Path, Script, Style
from tests.contract.tree import (
    PROMPT,
    Finish,
    Services,
    Steps,
    Work,
    settle,
    trees_over_a_journal_too,
    worker_of,
)

__all__ = ["trees_over_a_journal_too"]
pytestmark = pytest.mark.usefixtures("over_a_journal")
ASYNC = Path(Style.ASYNC, inline=True)
SLOW = RestartPolicy(max_restarts=5, first_delay_s=1, max_delay_s=1, jitter=0, within_s=20)
"""Leaves a second between a failure and the restart."""


class Watch(Event):
    pass


class Post(Enum):
    ON_DUTY = auto()
    OFF_DUTY = auto()


class Guard(Machine[Post], initial=Post.ON_DUTY, final=(Post.OFF_DUTY,)):
    """Watches the machine "a"."""

    @transition(Post.ON_DUTY, to=Post.OFF_DUTY)
    async def finish(self, event: Finish) -> None: ...

    @transition(Post.ON_DUTY, to=STAY)
    async def begin(self, event: Watch) -> None:
        self.watch("a")

    @transition(Post.ON_DUTY, to=STAY)
    async def lost(self, event: Terminated) -> None: ...


@pytest.mark.rule("C16")
@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
def test_siblings_do_not_stay_down_when_the_one_they_were_stopped_with_is_stopped_for_good(
    strategy: Strategy, sim: Callable[..., None]
) -> None:
    """Seed 90: it was stopped while it waited for its restart, and nobody started the others again."""

    async def scenario() -> None:
        worker, services, steps = worker_of(Style.ASYNC), Services(), Steps()
        script = Script(**{"work a": times(1, raising(ValueError))})
        children = [Child(worker, "a", restart=Restart.TRANSIENT), Child(worker, "b"), services("one")]
        group = Supervisor("group", strategy=strategy, children=children, policy=SLOW)
        async with ASYNC.system(children=[group], services=script, trace=steps) as system:
            with pytest.raises(HookFailed):
                await system.ask("a", Work())
            await settle(0.5)
            steps.drain()
            waiting = system.tell("b", Work(n=3))
            await system.stop("a")
            await settle()
            assert steps.drain() == [
                "stopped a",
                "restarted b",
                "started b",
                "restarted one",
                "started one",
            ]
            assert (await waiting).kind == "committed"
            with pytest.raises(NoSuchMachine):
                await system.ask("a", Work())
            await settle(2)
            assert steps.drain() == []

    sim(scenario)


@pytest.mark.rule("C16")
def test_a_child_that_is_stopped_for_good_while_its_siblings_are_still_being_stopped_is_not_started_again(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        worker, steps = worker_of(Style.ASYNC), Steps()
        script = Script(
            **{
                "work a": times(1, lambda machine: asyncio.sleep(1, result=7)),
                "work b": raising(ValueError),
            }
        )
        children = [Child(worker, "a"), Child(worker, "b", restart=Restart.TRANSIENT)]
        group = Supervisor("group", strategy=Strategy.ONE_FOR_ALL, children=children, policy=SLOW)
        async with ASYNC.system(children=[group], services=script, trace=steps) as system:
            at_hand = system.tell("a", Work())
            await settle()
            with pytest.raises(HookFailed):
                await system.ask("b", Work())
            await settle(0.5)  # b is stopped, and a finishes the event at hand
            steps.drain()
            await system.stop("b")
            assert (await at_hand).reply == 7
            await settle()
            assert steps.drain() == ["stopped b", "stopped a", "restarted a", "started a"]
            assert asyncio.get_running_loop().time() < 1.1  # without the pause: nothing is to be restarted
            await settle(5)
            assert (steps.drain(), system.ids()) == ([], ["a"])

    sim(scenario)


@pytest.mark.rule("C19")
@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
def test_siblings_that_wait_for_a_restart_finish_their_mail_when_the_system_stops_meanwhile(
    strategy: Strategy, sim: Callable[..., None]
) -> None:
    """Seed 113: only the one that had failed was started again, the mail of the others waited for the deadline."""

    async def scenario() -> None:
        worker = worker_of(Style.ASYNC)
        script = Script(**{"work a": times(1, raising(ValueError))})
        children = [Child(worker, "a"), Child(worker, "b"), Child(worker, "c")]
        group = Supervisor("group", strategy=strategy, children=children, policy=SLOW)
        async with ASYNC.system(children=[group], services=script) as system:
            with pytest.raises(HookFailed):
                await system.ask("a", Work())
            await settle(0.5)
            mail = [system.tell(machine_id, Work()) for machine_id in "abc"]
        assert [(await receipt).kind for receipt in mail] == ["committed"] * 3
        assert system.report is not None
        assert (system.report.finished, system.report.abandoned) == (True, 0)
        assert asyncio.get_running_loop().time() < 2

    sim(scenario)


@pytest.mark.rule("C19")
@pytest.mark.parametrize("fails", [1, 9])
def test_siblings_finish_their_mail_though_one_of_them_does_not_start_while_the_system_stops(
    fails: int, sim: Callable[..., None]
) -> None:
    """However often: after too many attempts that one is given up, and the others go on."""

    async def scenario() -> None:
        worker = worker_of(Style.ASYNC)
        script = Script(**{"work a": times(1, raising(ValueError))})
        children = [Child(worker, "a"), Child(worker, "b"), Child(worker, "c")]
        group = Supervisor("group", strategy=Strategy.ONE_FOR_ALL, children=children, policy=SLOW)
        async with ASYNC.system(children=[group], services=script) as system:
            await system.stop("b")  # so that it is born anew
            await settle(1.5)
            with pytest.raises(HookFailed):
                await system.ask("a", Work())
            await system.stop("b")
            script.does["born b"] = times(fails, raising(ValueError))
            mail = [system.tell(machine_id, Work()) for machine_id in "abc"]
        last = "committed" if fails == 1 else "dead_lettered"
        assert [(await receipt).kind for receipt in mail] == ["committed", last, "committed"]
        assert system.report is not None
        assert system.report.finished

    sim(scenario)


@pytest.mark.rule("C30")
@pytest.mark.parametrize("ends", ["finishes", "fails"])
def test_a_machine_that_is_given_up_with_its_supervisor_leaves_a_record(
    ends: str, sim: Callable[..., None]
) -> None:
    """Seed 139: it had finished, or waited for its restart; then its id was unknown, and the trace did not say why."""

    async def scenario() -> None:
        worker, services, steps = worker_of(Style.ASYNC), Services(), Steps()
        script = Script(**{"work a": raising(ValueError)})
        restart = Restart.TEMPORARY if ends == "finishes" else Restart.TRANSIENT
        children = [Child(worker, "a", restart=restart), services("one")]
        group = Supervisor(
            "group",
            strategy=Strategy.ONE_FOR_ALL,
            children=children,
            restart=Restart.TEMPORARY,
            policy=SLOW if ends == "finishes" else RestartPolicy(max_restarts=0),
        )
        async with ASYNC.system(children=[group], services=script, trace=steps) as system:
            if ends == "finishes":
                await system.ask("a", Finish())
            steps.drain()
            if ends == "finishes":
                services.fail("one")
            else:
                with pytest.raises(HookFailed):
                    await system.ask("a", Work())
            await settle(2)
            with pytest.raises(NoSuchMachine):
                system.snapshot("a")
            assert steps.drain().count("stopped a") == 1

    sim(scenario)


@pytest.mark.rule("C7")
def test_a_birth_that_fails_after_the_system_has_begun_to_stop_is_not_put_back_for_another_attempt(
    sim: Callable[..., None],
) -> None:
    """A machine of the tree may finish its event while the system stops; where one tries again, it was lost then."""

    async def scenario() -> None:
        async def fail_late(machine: Any) -> None:
            await asyncio.sleep(1)
            raise ValueError("late")

        worker = worker_of(Style.ASYNC, redelivery=Redelivery(attempts=2))
        script = Script()
        group = Supervisor("group", children=[Child(worker, "a", shutdown=5)], policy=PROMPT)
        async with ASYNC.system(children=[group], services=script) as system:
            script.does["born a"] = fail_late
            await system.stop("a")  # it is born anew
            await settle()
            await system.shutdown(queues="abandon")
            stats = system.stats()
            assert (stats.balance, stats.outcomes["dead_lettered"], stats.in_flight) == (0, 1, 0)

    sim(scenario)


@pytest.mark.rule("C18")
def test_a_watch_of_a_machine_that_has_stopped_and_waits_for_its_next_birth_ends_at_once(
    sim: Callable[..., None],
) -> None:
    """Seed 18194: it was told of the end of the next incarnation instead."""

    async def scenario() -> None:
        steps = Steps()
        children = [Child(worker_of(Style.ASYNC), "a"), Child(Guard, "b")]
        async with ASYNC.system(children=children, services=Script(), trace=steps, root=SLOW) as system:
            await system.stop("a")
            await system.ask("b", Watch())
            notice = await system.watch("a")
            assert (notice.incarnation, notice.reason) == (0, "stopped")
            await settle(0.5)
            assert [record.machine_id for record in steps.records if record.event_type == "Terminated"] == [
                "b"
            ]
            assert steps.times[-1] < 0.1
            await settle(1)
            await system.stop("a")
            await settle()
            assert [record.machine_id for record in steps.records if record.event_type == "Terminated"] == [
                "b"
            ]

    sim(scenario)


@pytest.mark.rule("C16")
def test_a_machine_that_is_stopped_again_while_it_waits_for_its_next_birth_has_stopped_once(
    sim: Callable[..., None],
) -> None:
    """Seed 18194: the trace had it stopped twice, and who watched it since was told of the same end."""

    async def scenario() -> None:
        steps = Steps()
        children = [Child(worker_of(Style.ASYNC), "a")]
        async with ASYNC.system(children=children, services=Script(), trace=steps, root=SLOW) as system:
            await system.stop("a")
            waiting = system.tell("a", Work(n=3))
            await system.stop("a")
            await settle(1.5)
            assert steps.drain() == ["started a", "stopped a", "restarted a", "started a"]
            assert (await waiting).kind == "committed"
            await system.stop("a")
            assert steps.drain() == ["stopped a"]

    sim(scenario)
