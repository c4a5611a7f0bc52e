"""What the sweep (P1) and the model (P5) found: one small test for each, so that it stays found."""

from __future__ import annotations

import asyncio
from enum import StrEnum, auto
from typing import TYPE_CHECKING, Any

import pytest

from actorfsm import (
    STAY,
    Directive,
    Event,
    Limits,
    Machine,
    Outcome,
    Redelivery,
    RestartPolicy,
    after_transition,
    postpone,
    transition,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class S(StrEnum):
    A = auto()
    B = auto()


class Go(Event):
    pass


class Later(Event):
    pass


class Fail(Event):
    pass


class Hang(Event):
    pass


class Base(Machine[S]):
    heard: list[str] = []

    @transition(S.A, S.B, to=STAY)
    async def go(self, event: Go) -> None:
        await asyncio.sleep(0)

    @transition(S.A, S.B, to=STAY)
    async def hang(self, event: Hang) -> None:
        await asyncio.sleep(1_000)

    @transition(S.A, to=S.B)
    @transition(S.B, to=S.A)
    async def fail(self, event: Fail) -> None:
        raise LookupError

    @transition(S.A, S.B, to=STAY)
    async def told(self, event: Outcome) -> None:
        self.heard.append(event.kind)


class Worker(Base, initial=S.A):
    pass


class Fragile(
    Base, initial=S.A, on_failure={Exception: Directive.RESTART}, restart=RestartPolicy(max_restarts=0)
):
    pass


class Detaching(Machine[S], initial=S.A):
    @transition(S.A, to=S.B)
    @transition(S.B, to=S.A)
    async def go(self, event: Go) -> None: ...

    @after_transition(S.B, detached=True)
    async def beside(self, old: S, new: S) -> None:
        await asyncio.sleep(1_000)


@pytest.mark.rule("C13")
def test_a_callback_that_cancels_its_own_task_does_not_keep_others_from_being_called(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        called: list[str] = []

        async def cancelled(outcome: Outcome) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(1)

        async with system_of(Worker) as system:
            ref = await system.spawn(Worker, "a")
            ref.tell(Go(), callback=cancelled)
            ref.tell(Go(), callback=lambda outcome: called.append(outcome.kind))
            await ref.tell(Go(), callback=lambda outcome: called.append(outcome.kind))
            await asyncio.sleep(1)
            assert called == ["committed", "committed"]
            assert system.stats().callbacks_failed == 1

    sim(scenario)


@pytest.mark.rule("C19")
def test_callbacks_of_abandoned_events_are_called_before_the_system_has_stopped(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        called: list[str] = []

        async def slowly(outcome: Outcome) -> None:
            await asyncio.sleep(3)
            called.append(outcome.kind)

        async with system_of(Worker) as system:
            ref = await system.spawn(Worker, "a")
            for event in (Hang(), Go(), Go()):
                ref.tell(event, callback=slowly)
            await asyncio.sleep(1)
            report = await system.shutdown(queues="abandon")
            assert called == ["dead_lettered", "dead_lettered", "failed"]
            assert (report.unstopped, report.seconds) == ((), 9)

    sim(scenario)


@pytest.mark.rule("C19")
def test_callbacks_that_do_not_end_are_cancelled_at_the_deadline_of_the_shutdown(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with system_of(Worker) as system:
            ref = await system.spawn(Worker, "a")

            async def hang(outcome: Outcome) -> None:
                await asyncio.sleep(1_000)

            await ref.tell(Go(), callback=hang)
            ref.tell(Go(), callback=hang)
            await asyncio.sleep(1)
            report = await system.shutdown(timeout=7)
            assert (report.finished, report.unstopped, report.seconds) == (False, (), 12)
            assert system.stats().callbacks_failed == 2

    sim(scenario)


@pytest.mark.rule("C19")
@pytest.mark.parametrize("queues", ["finish", "abandon"])
@pytest.mark.parametrize("after_s", [1, 12])
def test_a_shutdown_that_is_cancelled_stops_the_system_and_is_cancelled(
    queues: str, after_s: float, system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        system = system_of(Detaching, limits=Limits(stop_timeout_s=10))
        async with system:
            ref = await system.spawn(Detaching, "a")
            await ref.ask(Go())

            async def stubborn(outcome: Outcome) -> None:
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.sleep(1_000)
                await asyncio.sleep(4)

            await ref.tell(Go(), callback=stubborn)
            stopping = asyncio.ensure_future(system.shutdown(queues=queues))
            await asyncio.sleep(after_s)
            assert not stopping.done()
            stopping.cancel()
            await asyncio.wait([stopping])
            assert stopping.cancelled()
            await asyncio.sleep(100)

    sim(scenario)


@pytest.mark.rule("C19")
def test_two_shutdowns_at_once_both_end(system_of: Callable[..., Any], sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with system_of(Worker) as system:
            ref = await system.spawn(Worker, "a")
            ref.tell(Go())
            reports = await asyncio.gather(system.shutdown(), system.shutdown())
            assert [report.seconds for report in reports] == [0, 0]

    sim(scenario)


@pytest.mark.rule("C13")
@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, GeneratorExit, ValueError])
def test_what_the_operators_callback_raises_hurts_nobody(
    error: type[BaseException], system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async def operator(machine_id: str, cause: BaseException) -> None:
            raise error

        async with system_of(Fragile, on_quarantine=operator) as system:
            ref = await system.spawn(Fragile, "a")
            await ref.tell(Fail())
            await asyncio.sleep(1)
            assert (system.quarantined(), system.stats().callbacks_failed) == (["a"], 1)
            system.release("a")
            await ref.ask(Go())

    sim(scenario)


@pytest.mark.rule("C7")
def test_the_machine_named_in_reply_to_hears_that_an_event_was_refused(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with system_of(Worker) as system:
            listener = await system.spawn(Worker, "listener")
            system.tell("nobody", Go(), reply_to="listener")
            await asyncio.sleep(1)
            assert listener.snapshot().data["heard"] == ["dead_lettered"]

    sim(scenario)


class Ending(Machine[S], initial=S.A, final=(S.B,)):
    @transition(S.A, to=S.B)
    async def go(self, event: Go) -> None: ...

    @postpone(S.A, Later)
    @transition(S.A, to=STAY)
    async def fail(self, event: Fail) -> None: ...


@pytest.mark.rule("C30")
def test_the_record_of_the_end_comes_before_those_of_the_postponed_events_it_answers(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        seen: list[tuple[str, str, int]] = []
        trace = lambda record: seen.append((record.name, record.event_type, record.seq))  # noqa: E731
        async with system_of(Ending, trace=trace) as system:
            ref = await system.spawn(Ending, "a")
            late = ref.tell(Later())
            await ref.ask(Go())
            assert (await late).kind == "unhandled"
        assert seen == [("committed", "Spawn", 1), ("committed", "Go", 2), ("unhandled", "Later", 2)]

    sim(scenario)


class FailSlowly(Event):
    pass


class Restarting(Base, initial=S.A, on_failure={Exception: Directive.RESTART}):
    @transition(S.A, S.B, to=STAY)
    async def fail_slowly(self, event: FailSlowly) -> None:
        await asyncio.sleep(2)
        raise LookupError


class Redelivering(Restarting, initial=S.A, redelivery=Redelivery(attempts=3)):
    pass


class Quarantining(Restarting, initial=S.A, restart=RestartPolicy(max_restarts=0)):
    pass


@pytest.mark.rule("C12")
@pytest.mark.parametrize("machine", [Restarting, Redelivering, Quarantining])
def test_a_stop_during_a_turn_that_fails_takes_effect_after_it(
    machine: type[Any], system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with system_of(machine) as system:
            ref = await system.spawn(machine, "a")
            failing, waiting = ref.tell(FailSlowly()), ref.tell(Go())
            await asyncio.sleep(1)
            async with asyncio.timeout(10):
                await system.stop("a")
            assert {(await failing).kind, (await waiting).kind} <= {"failed", "dead_lettered"}
            assert (system.ids(), system.stats().restarts) == ([], 0)

    sim(scenario)
