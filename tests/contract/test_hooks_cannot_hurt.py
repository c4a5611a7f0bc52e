"""C13: whatever user code raises, leaves behind or refuses, its event gets its outcome and nobody else notices."""

from __future__ import annotations

import asyncio
import contextvars
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from actorfsm import ActorSystem, HookFailed, Limits, Record, StaleTurn
from actorfsm.testing.faults import EVIL
from actorfsm.testing.loop import SimLoop
from tests.contract.lamp import (
    ALL_USES,
    HOOKS,
    PLACES,
    USES,
    Birth,
    Count,
    Reset,
    State,
    Stubborn,
    Switch,
    Trace,
    hang,
    lamp_of,
    raising,
)
from tests.contract.paths import Path, Script, Style, at_rest, on_every_async_path, on_every_path

pytestmark = pytest.mark.rule("C13")
QUICK = Limits(grace_s=0.5)
SEEDS = range(2)


def cause_type(name: str, path: Path, place: str) -> type[BaseException]:
    """Python turns a StopIteration that leaves a coroutine into a RuntimeError."""
    if name == "StopIteration" and path.is_async and place != "guard":
        return RuntimeError
    return type(EVIL[name]())


@on_every_path
@pytest.mark.parametrize("place", PLACES[:-1])
def test_whatever_user_code_raises_the_event_fails_and_the_machine_goes_on(
    path: Path, place: str, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script()
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            other = await system.spawn(lamp_class, "other")
            for turn, name in enumerate(EVIL, start=1):
                script.does = {place: raising(EVIL[name])}
                with pytest.raises(HookFailed) as caught:
                    await lamp.ask(Switch())
                assert caught.value.hook == place
                assert caught.value.machine_id == "lamp"
                cause = caught.value.__cause__
                assert type(cause) is cause_type(name, path, place)
                assert any("while lamp handled Switch" in note for note in cause.__notes__)
                root = cause.__cause__ or cause
                assert "action" in [frame.name for frame in traceback.extract_tb(root.__traceback__)]
                assert (lamp.snapshot().state, lamp.snapshot().data["count"]) == (State.OFF, 0)
                assert (lamp.snapshot().seq, lamp.snapshot().incarnation) == (1, 0)
                assert await other.ask(Count()) == turn
                assert system.stats().outcomes["failed"] == turn
                assert system.stats().balance == 0
            script.does = {}
            assert await lamp.ask(Switch()) == "on"

    sim(scenario, seeds=SEEDS)


@on_every_path
def test_whatever_an_after_hook_raises_the_event_stays_committed_and_a_record_says_what_happened(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script, trace = Script(), Trace()
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=script, trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            for turn, name in enumerate(EVIL, start=1):
                trace.clear()
                script.does = {"after": raising(EVIL[name])}
                assert await lamp.ask(Switch()) == "on"
                await at_rest(system)
                assert system.stats().after_hooks_failed == turn
                committed, failed = trace
                assert (committed.name, failed.name, failed.hook) == (
                    "committed",
                    "after_hook_failed",
                    "after",
                )
                assert committed.event_id == failed.event_id
                assert type(failed.error) is cause_type(name, path, "after")
                assert lamp.snapshot().state is State.ON
                await lamp.ask(Reset())
            assert system.stats().outcomes["failed"] == 0

    sim(scenario, seeds=SEEDS)


@on_every_path
@pytest.mark.parametrize("is_async", [False, True])
def test_whatever_a_callback_raises_it_is_counted_and_the_next_one_is_called(
    path: Path, is_async: bool, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(path.style)
        trace, called = Trace(), []
        async with path.system(lamp_class, services=Script(), trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            for name in EVIL:

                def evil(outcome: Any, name: str = name) -> Any:
                    called.append(name)
                    raise EVIL[name]()  # noqa: RSE102 -- a factory

                async def evil_later(outcome: Any, evil: Any = evil) -> None:
                    await asyncio.sleep(0)
                    evil(outcome)

                lamp.tell(Count(), callback=evil_later if is_async else evil)
        assert called == list(EVIL)
        assert system.stats().callbacks_failed == len(EVIL)
        assert trace.names().count("callback_failed") == len(EVIL)
        assert system.stats().outcomes["committed"] == len(EVIL) + 1

    sim(scenario, seeds=SEEDS)


@on_every_path
def test_whatever_a_sink_raises_it_is_counted_and_the_other_sinks_are_served(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(path.style)
        names, trace = iter([*EVIL] * 4), Trace()

        def evil(record: Record) -> None:
            raise EVIL[next(names)]()  # noqa: RSE102 -- a factory

        script = Script(after=raising(ValueError))
        async with path.system(lamp_class, services=script, trace=[evil, trace]) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            for _ in EVIL:
                assert await lamp.ask(Switch()) == "on"
                await lamp.ask(Reset())
            system.tell("nobody", Count())
        assert len(trace) == 1 + 3 * len(EVIL) + 1
        assert system.stats().sinks_failed == len(trace)

    sim(scenario, seeds=SEEDS)


@on_every_async_path
@pytest.mark.parametrize("place", HOOKS)
def test_a_hook_that_hangs_is_cancelled_at_its_deadline_and_the_machine_goes_on(
    path: Path, place: str, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        loop, script, trace = asyncio.get_running_loop(), Script(), Trace()
        script.does = {place: hang}
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=script, trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            other = await system.spawn(lamp_class, "other")
            asked = asyncio.ensure_future(lamp.ask(Switch()))
            await asyncio.sleep(0.5)
            assert await other.ask(Count()) == 1
            if place == "after":
                assert await asked == "on"
                assert loop.time() == 0.5
                await asyncio.sleep(0.5)
                await asyncio.sleep(0)
                await at_rest(system)
                assert system.stats().after_hooks_failed == 1
                assert trace[-1].reason == "TimeoutError: took longer than 1 s"
            else:
                with pytest.raises(HookFailed) as caught:
                    await asked
                assert (caught.value.hook, str(caught.value.__cause__)) == (place, "took longer than 1 s")
                assert type(caught.value.__cause__) is TimeoutError
            assert loop.time() == 1
            script.does = {}
            assert await lamp.ask(Count()) == (2 if place == "after" else 1)
            assert lamp.snapshot().incarnation == 0

    sim(scenario)


async def swallowing(machine: Any) -> None:
    try:
        await hang(machine)
    except asyncio.CancelledError:
        return


async def converting(machine: Any) -> None:
    try:
        await hang(machine)
    except asyncio.CancelledError:
        raise RuntimeError("something else") from None


async def tidying_up(machine: Any) -> None:
    try:
        await hang(machine)
    finally:
        await asyncio.sleep(0.25)


@on_every_async_path
@pytest.mark.parametrize("place", HOOKS)
@pytest.mark.parametrize("action", [swallowing, converting, tidying_up], ids=lambda action: action.__name__)
def test_what_a_hook_makes_of_its_cancellation_does_not_matter(
    path: Path, place: str, action: Any, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script, trace = Script(**{place: action}), Trace()
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=script, trace=trace, limits=QUICK) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            if place == "after":
                assert await lamp.ask(Switch()) == "on"
                await asyncio.sleep(1.4)
                assert trace.names() == ["committed", "committed", "after_hook_failed"]
                assert trace[-1].reason == "TimeoutError: took longer than 1 s"
            else:
                with pytest.raises(HookFailed, match="TimeoutError: took longer than 1 s"):
                    await lamp.ask(Switch())
                assert lamp.snapshot().state is State.OFF
            assert lamp.snapshot().incarnation == 0
            script.does = {}
            await lamp.ask(Reset())
            assert await lamp.ask(Switch()) == "on"

    sim(scenario)


@on_every_async_path
@pytest.mark.parametrize("place", HOOKS)
def test_a_hook_that_refuses_to_end_is_left_behind_and_named_and_cannot_touch_the_machine(
    path: Path, place: str, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        stubborn, trace = Stubborn(), Trace()
        script = Script(**{place: stubborn})
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=script, trace=trace, limits=QUICK) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            asked = asyncio.ensure_future(lamp.ask(Switch()))
            await asyncio.sleep(0.1)
            waiting = lamp.tell(Count())
            script.does = {}
            await asyncio.sleep(1.5)
            said = f"{place} was cancelled and did not end within 0.5 s"
            if place == "after":
                assert await asked == "on"
                assert trace.names()[1:4] == ["committed", "after_hook_failed", "restarted"]
                assert trace[2].reason == f"TimeoutError: {said}"
            else:
                with pytest.raises(HookFailed, match=said) as caught:
                    await asked
                assert caught.value.hook == place
            assert (await waiting.outcome()).success
            assert lamp.snapshot().incarnation == 1
            assert lamp.snapshot().state is (State.ON if place == "after" else State.OFF)
            before = lamp.snapshot()
            await lamp.ask(Reset())
        assert system.report.unstopped == (f"lamp.{place}",)
        assert stubborn.cancels == 2
        await stubborn.let_go()
        assert stubborn.stale == ALL_USES
        assert before.data["count"] == (2 if place == "after" else 1)

    sim(scenario)


@on_every_async_path
def test_a_hook_that_ends_after_it_was_left_behind_changes_nothing(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        stubborn, trace = Stubborn(), Trace()
        script = Script(enter=stubborn)
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=script, trace=trace, limits=QUICK) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            with pytest.raises(HookFailed):
                await lamp.ask(Switch())
            script.does = {}
            assert await lamp.ask(Switch()) == "on"
            seen = len(trace)
            await stubborn.let_go()
            assert len(trace) == seen
            assert (lamp.snapshot().state, lamp.snapshot().seq) == (State.ON, 2)
            assert await lamp.ask(Count()) == 2
        assert system.report.unstopped == ()

    sim(scenario)


@on_every_async_path
def test_a_birth_that_hangs_past_its_grace_leaves_the_id_unknown(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        stubborn = Stubborn()
        script = Script(birth=stubborn)
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=script, limits=QUICK) as system:
            with pytest.raises(HookFailed):
                await system.ask("lamp", Birth())
            assert system.ids() == []
            script.does = {}
            await system.ask("lamp", Birth())
            assert system.ids() == ["lamp"]
            await stubborn.let_go()

    sim(scenario)


def cancel_own_task(machine: Any) -> None:
    task = asyncio.current_task()
    if task is not None:
        task.cancel()


async def cancel_own_task_and_await(machine: Any) -> None:
    cancel_own_task(machine)
    await asyncio.sleep(0)


@on_every_path
@pytest.mark.parametrize("place", PLACES)
def test_a_hook_that_cancels_the_task_it_runs_in_hurts_its_own_event_at_most(
    path: Path, place: str, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script(**{place: cancel_own_task})
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            other = await system.spawn(lamp_class, "other")
            receipts = [lamp.tell(Switch()), other.tell(Count()), lamp.tell(Count()), other.tell(Count())]
            first, *others = [await receipt.outcome() for receipt in receipts]
            assert first.kind in {"committed", "failed"}
            assert [outcome.kind for outcome in others] == ["committed"] * 3
            await lamp.ask(Reset())
            try:
                await lamp.ask(Switch())
            except HookFailed as failure:
                assert type(failure.__cause__) in {asyncio.CancelledError, AttributeError}  # noqa: PT017
            await asyncio.sleep(0)  # the asker itself was not cancelled
            script.does = {}
            await lamp.ask(Reset())
            assert await lamp.ask(Switch()) == "on"

    sim(scenario)


@on_every_async_path
@pytest.mark.parametrize("place", HOOKS)
def test_a_hook_that_cancels_the_task_it_runs_in_and_awaits_fails_its_own_event(
    path: Path, place: str, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script(**{place: cancel_own_task_and_await})
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            other = await system.spawn(lamp_class, "other")
            other_asked = asyncio.ensure_future(other.ask(Count()))
            if place == "after":
                assert await lamp.ask(Switch()) == "on"
                await at_rest(system)
                assert system.stats().after_hooks_failed == 1
            else:
                with pytest.raises(HookFailed) as caught:
                    await lamp.ask(Switch())
                assert type(caught.value.__cause__) is asyncio.CancelledError
            assert await other_asked == 1
            script.does = {}
            await lamp.ask(Reset())
            assert await lamp.ask(Switch()) == "on"

    sim(scenario)


@on_every_path
@pytest.mark.parametrize("place", PLACES)
def test_a_task_that_a_hook_leaves_behind_is_cancelled_at_the_end_of_its_turn(
    path: Path, place: str, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        leaked: list[asyncio.Task[None]] = []
        script = Script(**{place: lambda machine: leaked.append(asyncio.create_task(hang(machine)))})
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            assert await lamp.ask(Switch()) == "on"
            await at_rest(system)
            await asyncio.sleep(0.001)
            assert [task.cancelled() for task in leaked] == [True]
        assert system.report.unstopped == ()

    sim(scenario)


@on_every_async_path
def test_a_task_that_a_hook_leaves_behind_and_that_refuses_to_end_is_named_in_the_report(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        stubborn = Stubborn()

        async def leak(machine: Any) -> None:
            leaked.append(asyncio.create_task(stubborn(machine)))
            while not stubborn.began:  # noqa: ASYNC110 -- it has no event
                await asyncio.sleep(0)

        leaked: list[Any] = []
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script(body=leak), limits=QUICK) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await lamp.ask(Switch())
        assert system.report.unstopped == ("a task that a hook of lamp left behind",)
        await stubborn.let_go()
        assert stubborn.stale == ALL_USES

    sim(scenario)


@on_every_path
@pytest.mark.parametrize("place", PLACES)
def test_a_callback_that_a_hook_leaves_behind_finds_self_closed(
    path: Path, place: str, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        stale: list[str] = []

        def use(machine: Any) -> None:
            for name, action in USES.items():
                try:
                    action(machine)
                except StaleTurn:
                    stale.append(name)

        def leak(machine: Any) -> None:
            asyncio.get_running_loop().call_later(0.1, use, machine)

        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script(**{place: leak})) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            assert await lamp.ask(Switch()) == "on"
            seen = lamp.snapshot()
            await asyncio.sleep(0.2)
            assert stale == list(USES)
            assert lamp.snapshot() == seen

    sim(scenario)


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")


@on_every_path
@pytest.mark.parametrize("place", PLACES)
def test_a_context_variable_that_a_hook_sets_is_seen_by_no_later_event_and_no_asker(
    path: Path, place: str, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        seen: list[str] = []

        def look(machine: Any) -> None:
            seen.append(VARIABLE.get())

        script = Script(**{place: lambda machine: VARIABLE.set("dirty") and None, "count": look})
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            other = await system.spawn(lamp_class, "other")
            receipts = [lamp.tell(Switch()), lamp.tell(Count()), other.tell(Count()), lamp.tell(Reset())]
            for receipt in receipts:
                assert (await receipt.outcome()).success
            await lamp.ask(Switch())
            assert VARIABLE.get() == "clean"
            await lamp.ask(Count())
            await other.ask(Count())
        assert seen == ["clean"] * 4

    sim(scenario)


@on_every_path
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("by", ["ask", "tell"])
def test_keyboard_interrupt_is_a_signal_to_shut_down(path: Path, place: str, by: str) -> None:
    trace = Trace()
    systems: list[ActorSystem[Any]] = []

    async def scenario() -> None:
        lamp_class = lamp_of(path.style)
        script = Script(**{place: raising(KeyboardInterrupt)})
        async with path.system(lamp_class, services=script, trace=trace) as system:
            systems.append(system)
            lamp = await system.spawn(lamp_class, "lamp")
            if by == "ask":
                await lamp.ask(Switch())
            else:
                lamp.tell(Switch())
            await asyncio.sleep(1e9)

    for seed in range(3):
        trace.clear()
        loop = SimLoop(seed)
        main = loop.create_task(scenario())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(main)
        if not main.done():  # as asyncio.run does: what was interrupted is told to end
            main.cancel()
            with pytest.raises(asyncio.CancelledError):
                loop.run_until_complete(main)
        loop.run_until_idle()
        # Nobody retrieves it from the task that it was raised in: it went up through the loop.
        assert [thing for thing in loop.leftovers() if "KeyboardInterrupt" not in thing] == []
        loop.close()
        assert systems[-1].report is not None
        assert trace.names()[1] == ("committed" if place == "after" else "dead_lettered")
        assert systems[-1].stats().balance == 0


class RefusesNotes(Exception):
    def add_note(self, note: str) -> None:
        raise ValueError(note)


class SpeaksByExiting(Exception):
    def __str__(self) -> str:
        raise SystemExit

    __repr__ = __str__


@on_every_path
@pytest.mark.parametrize("error", [RefusesNotes, SpeaksByExiting])
def test_an_exception_that_refuses_a_note_or_a_text_fails_its_event_all_the_same(
    path: Path, error: type[Exception], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script(body=raising(error))
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            with pytest.raises(HookFailed) as caught:
                await lamp.ask(Switch())
            assert type(caught.value.__cause__) is error
            outcome = await lamp.tell(Switch()).outcome()
            assert (outcome.error.type, outcome.error.hook) == (error.__name__, "body")

    sim(scenario)


@on_every_path
@pytest.mark.parametrize("reply", [3, b"on", ["on"], object()])
def test_a_reply_of_another_type_than_declared_fails_the_event(
    path: Path, reply: object, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script(body=lambda machine: reply)
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            with pytest.raises(
                HookFailed, match=f"replied {type(reply).__name__}, where the event declares str"
            ):
                await lamp.ask(Switch())
            assert (lamp.snapshot().state, lamp.snapshot().data["count"]) == (State.OFF, 0)

    sim(scenario)


@on_every_path
def test_a_callback_that_hangs_is_cancelled_and_the_next_one_is_called(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        called: list[str] = []
        lamp_class = lamp_of(path.style)
        limits = Limits(callback_timeout_s=2)
        async with path.system(lamp_class, services=Script(), limits=limits) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            lamp.tell(Count(), callback=hang)
            await lamp.tell(Count(), callback=lambda outcome: called.append(outcome.kind)).outcome()
            assert await lamp.ask(Count()) == 3
            assert called == []
            await asyncio.sleep(2)
            await asyncio.sleep(0.1)
            assert called == ["committed"]
            assert system.stats().callbacks_failed == 1

    sim(scenario)


def test_a_machine_whose_hooks_are_plain_needs_no_task(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        path = Path(Style.PLAIN, inline=True)
        lamp_class = lamp_of(Style.PLAIN)
        async with path.system(lamp_class, services=Script()) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await lamp.ask(Switch())
            path.assert_taken(system, 2)

    sim(scenario)
