"""Calls from plain threads: `system.threadsafe` on real loops, prompt, in order, with an exact account and no hang."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from enum import StrEnum, auto
from typing import Any

import pytest

from actorfsm import (
    ActorSystem,
    AskCycle,
    Event,
    Expired,
    InvalidEvent,
    Limits,
    Machine,
    MachineExists,
    MailboxFull,
    MailboxPolicy,
    NoSuchMachine,
    Outcome,
    StaleTurn,
    SystemFailed,
    SystemStopping,
    ThreadsafeRef,
    Vetoed,
    WrongThread,
    transition,
)
from tests.contract.lamp import Count, Later, State, Switch, Trace, lamp_of
from tests.contract.paths import Script, Style, until

T = 20.0
"""How long a test waits for what comes at once, in seconds: it is never reached."""
FAST = Limits(blocked_s=0, grace_s=0.5)


class Page(StrEnum):
    OPEN = auto()


class Note(Event[int]):
    n: int = 0


class Pad(Machine[Page], initial=Page.OPEN, mailbox=MailboxPolicy(capacity=100_000)):
    notes: tuple[int, ...] = ()

    @transition(Page.OPEN, to=Page.OPEN)
    async def note(self, event: Note) -> int:
        self.notes = (*self.notes, event.n)
        return len(self.notes)


@pytest.fixture
def quiet(inline: bool) -> Callable[..., ActorSystem[Any]]:
    def make(*machines: Any, **options: Any) -> ActorSystem[Any]:
        return ActorSystem(*machines, inline=inline, **({"trace": None, "limits": FAST} | options))

    return make


def in_threads(count: int, work: Callable[[int], Any]) -> Coroutine[Any, Any, list[Any]]:
    """Run the work in so many threads at a time; raise what one of them raised."""

    async def run() -> list[Any]:
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            loop = asyncio.get_running_loop()
            return await asyncio.gather(*(loop.run_in_executor(pool, work, n) for n in range(count)))

    return run()


async def in_thread(work: Callable[[], Any]) -> Any:
    (result,) = await in_threads(1, lambda _: work())
    return result


@pytest.mark.rule("C8")
def test_a_thread_has_all_that_it_needs_to_live_with_a_machine(quiet: Callable[..., Any]) -> None:
    lamp_class = lamp_of(Style.ASYNC)
    called: list[tuple[str, bool]] = []

    async def main() -> None:
        async with quiet(lamp_class, services=Script()) as system:
            loop_thread = threading.get_ident()

            def work() -> None:
                calls = system.threadsafe
                lamp = calls.spawn(lamp_class, "lamp", data={"count": 5}).result(T)
                assert lamp == calls.ref(lamp_class, "lamp")
                assert lamp != calls.ref(lamp_class, "other")
                assert {lamp: 1}[calls.ref(lamp_class, "lamp")] == 1
                assert repr(lamp) == "ThreadsafeRef(Lamp, 'lamp')"
                assert isinstance(lamp, ThreadsafeRef)
                assert (lamp.id, lamp.machine_class) == ("lamp", lamp_class)
                assert calls.get_or_spawn(lamp_class, "lamp").result(T) == lamp
                assert calls.get_or_spawn(lamp_class, "new").result(T).snapshot().result(T).state is State.OFF
                assert lamp.ask(Switch(), event_id="s-1", headers={"correlation_id": "c"}).result(T) == "on"
                assert lamp.ask(Switch(), event_id="s-1").result(T) == "on"
                assert calls.ask("lamp", Count(), timeout=3).result(T) == 7
                outcome = lamp.tell(
                    Count(),
                    event_id="c-7",
                    callback=lambda outcome: called.append(
                        (outcome.event_id, threading.get_ident() == loop_thread)
                    ),
                    reply_to="nobody",
                    timeout=3,
                ).result(T)
                assert isinstance(outcome, Outcome)
                assert (outcome.kind, outcome.reply, outcome.event_id) == ("committed", 8, "c-7")
                assert calls.snapshot("lamp").result(T).data["count"] == 8
                assert calls.call(system.stats).result(T).duplicates == 1
                assert calls.call(system.ids, lamp_class).result(T) == ["lamp", "new"]
                assert lamp.stop().result(T) is None
                assert calls.stop("new").result(T) is None
                assert isinstance(lamp.snapshot().exception(T), NoSuchMachine)

            await in_thread(work)
            assert system.ids() == []
            assert system.stats().balance == 0

    asyncio.run(main())
    assert called == [("c-7", True)]


@pytest.mark.rule("C8")
def test_what_goes_wrong_is_in_the_future_as_it_would_be_raised_on_the_loop(
    quiet: Callable[..., Any],
) -> None:
    lamp_class = lamp_of(Style.ASYNC)

    async def main() -> None:
        script = Script(before=lambda machine: False)
        async with quiet(lamp_class, services=script) as system:
            await system.spawn(lamp_class, "lamp")

            def work() -> None:
                calls = system.threadsafe
                for future, error in (
                    (calls.ask("lamp", Switch()), Vetoed),
                    (calls.ask("nobody", Count()), NoSuchMachine),
                    (calls.tell("nobody", Count()), NoSuchMachine),
                    (calls.ask("lamp", Note()), InvalidEvent),
                    (calls.tell("lamp", None), InvalidEvent),  # type: ignore[arg-type]
                    (calls.ask("lamp", Later(), timeout=0.05), Expired),
                    (calls.spawn(lamp_class, "lamp"), MachineExists),
                    (calls.stop("nobody"), NoSuchMachine),
                    (calls.snapshot("nobody"), NoSuchMachine),
                    (calls.call(lambda: 1 / 0), ZeroDivisionError),
                ):
                    assert isinstance(future.exception(T), error), future
                assert calls.tell("lamp", Switch()).result(T).kind == "vetoed"

            await in_thread(work)
            assert system.stats().balance == 0

    asyncio.run(main())


@pytest.mark.rule("C4")
def test_an_ask_to_an_idle_loop_is_answered_at_once(quiet: Callable[..., Any]) -> None:
    """The loop sleeps, with nothing due for an hour: the call wakes it."""

    async def main() -> list[float]:
        async with quiet(Pad) as system:
            await system.spawn(Pad, "pad")
            asyncio.get_running_loop().call_later(3600, print)
            taken: list[float] = []

            def work() -> None:
                for n in range(50):
                    time.sleep(0.002)  # the loop falls asleep
                    began = time.perf_counter()
                    system.threadsafe.ask("pad", Note(n=n)).result(T)
                    taken.append(time.perf_counter() - began)

            await in_thread(work)
            return taken

    taken = sorted(asyncio.run(main()))
    assert taken[len(taken) // 2] < 0.05, taken


@pytest.mark.rule("C4")
@pytest.mark.rule("C7")
def test_eight_threads_keep_their_order_and_the_account_is_exact(quiet: Callable[..., Any]) -> None:
    each = 500

    async def main() -> None:
        async with quiet(Pad) as system:
            await system.spawn(Pad, "pad")

            def work(thread: int) -> list[Any]:
                calls = system.threadsafe.ref(Pad, "pad")
                futures: list[concurrent.futures.Future[Any]] = []
                for n in range(each):
                    number = thread * each + n
                    futures.append(
                        calls.ask(Note(n=number), timeout=60) if n % 3 == 0 else calls.tell(Note(n=number))
                    )
                return [future.result(60) for future in futures]

            answers = await in_threads(8, work)
            notes = system.snapshot("pad").data["notes"]
            assert sorted(notes) == list(range(8 * each))
            for thread in range(8):
                own = [note for note in notes if note // each == thread]
                assert own == sorted(own)
            place = {note: number for number, note in enumerate(notes, 1)}
            for thread, replies in enumerate(answers):
                for n, reply in enumerate(replies):
                    told = reply.reply if isinstance(reply, Outcome) else reply
                    assert told == place[thread * each + n]
            stats = system.stats()
            assert (stats.accepted, stats.outcomes["committed"]) == (8 * each + 1, 8 * each + 1)
            assert (stats.balance, stats.refused, stats.pending_asks) == (0, 0, 0)

    asyncio.run(main())


@pytest.mark.rule("C10")
def test_what_the_thread_changes_after_the_call_is_not_felt(quiet: Callable[..., Any]) -> None:
    class Lines(Event[list[str]]):
        lines: list[str]

    class Paper(Machine[Page], initial=Page.OPEN):
        lines: list[str] = []

        @transition(Page.OPEN, to=Page.OPEN)
        async def write(self, event: Lines) -> list[str]:
            self.lines = event.lines
            return self.lines

    async def main() -> None:
        async with quiet(Paper) as system:

            def work() -> None:
                data = {"lines": ["born"]}
                held = threading.Event()
                system.threadsafe.call(held.wait, T)  # the loop is held until the caller has changed its mind
                spawned = system.threadsafe.spawn(Paper, "p", data=data)
                event = Lines(lines=["written"])
                asked = system.threadsafe.ask("p", event)
                data["lines"].append("later")
                event.lines.append("later")
                held.set()
                spawned.result(T)
                reply = asked.result(T)
                assert reply == ["written"]
                reply.append("after")
                assert system.threadsafe.snapshot("p").result(T).data["lines"] == ["written"]

            await in_thread(work)

    asyncio.run(main())


# -- to give up ------------------------------------------------------------------------------------------------------


@pytest.mark.rule("C8")
@pytest.mark.parametrize("how", ["ask", "tell"])
def test_to_cancel_the_future_gives_up_the_answer_and_never_the_event(
    how: str, quiet: Callable[..., Any]
) -> None:
    lamp_class = lamp_of(Style.ASYNC, hook_timeout=100)

    async def main() -> None:
        begun, go_on = threading.Event(), asyncio.Event()

        async def slowly(machine: Any) -> None:
            begun.set()
            await go_on.wait()

        async with quiet(lamp_class, services=Script(count=slowly)) as system:
            loop = asyncio.get_running_loop()
            await system.spawn(lamp_class, "lamp")

            def work() -> None:
                future: Any = getattr(system.threadsafe, how)("lamp", Count())
                assert begun.wait(T)
                assert future.cancel()
                assert future.cancel()
                with pytest.raises(concurrent.futures.CancelledError):
                    future.result(T)
                assert concurrent.futures.wait([future], T).not_done == set()
                while system.threadsafe.call(lambda: len(system._parts.calls.waiting)).result(T) > 1:
                    pass  # the one that asks
                loop.call_soon_threadsafe(go_on.set)
                while system.threadsafe.snapshot("lamp").result(T).data["count"] == 0:
                    time.sleep(0.001)

            await in_thread(work)
            assert system.snapshot("lamp").data["count"] == 1
            assert (system.stats().balance, system.stats().pending_asks) == (0, 0)

    asyncio.run(main())


@pytest.mark.rule("C8")
@pytest.mark.parametrize("how", ["ask", "tell"])
def test_a_future_cancelled_before_the_loop_came_to_the_call_still_sends_its_event(
    how: str, quiet: Callable[..., Any]
) -> None:
    lamp_class = lamp_of(Style.SUSPENDING)

    async def main() -> None:
        async with quiet(lamp_class, services=Script()) as system:
            await system.spawn(lamp_class, "lamp")

            def work() -> None:
                held = threading.Event()
                system.threadsafe.call(held.wait, T)
                future: Any = getattr(system.threadsafe, how)("lamp", Count())
                assert future.cancel()
                held.set()
                while system.threadsafe.snapshot("lamp").result(T).data["count"] == 0:
                    time.sleep(0.001)
                assert future.cancelled()

            await in_thread(work)
            assert (system.stats().balance, system.stats().pending_asks) == (0, 0)
            assert system.stats().outcomes["committed"] == 2

    asyncio.run(main())


@pytest.mark.rule("C13")
def test_a_callback_of_a_future_that_raises_hurts_nobody(quiet: Callable[..., Any]) -> None:
    async def main() -> None:
        async with quiet(Pad) as system:
            await system.spawn(Pad, "pad")

            def hurt(_: Any) -> None:
                raise SystemExit

            def work() -> None:
                held = threading.Event()
                system.threadsafe.call(held.wait, T)
                future = system.threadsafe.ask("pad", Note())
                future.add_done_callback(hurt)
                held.set()
                assert future.result(T) == 1
                assert system.threadsafe.ask("pad", Note()).result(T) == 2

            await in_thread(work)
            assert system.stats().callbacks_failed == 1

    asyncio.run(main())


@pytest.mark.rule("C8")
def test_when_somebody_cancels_all_tasks_of_the_loop_the_future_is_cancelled(
    quiet: Callable[..., Any],
) -> None:
    lamp_class = lamp_of(Style.ASYNC)

    async def main() -> None:
        async with quiet(lamp_class, services=Script()) as system:
            await system.spawn(lamp_class, "lamp")

            def work() -> None:
                future = system.threadsafe.ask("lamp", Later())  # postponed
                waiting = system._parts.calls.waiting
                while not any(not task.done() for task in list(waiting)):
                    time.sleep(0.001)
                system.threadsafe.call(lambda: [task.cancel() for task in list(waiting)])
                with pytest.raises(concurrent.futures.CancelledError):
                    future.result(T)

            await in_thread(work)
            await system.shutdown(queues="abandon")

    asyncio.run(main())


# -- bounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.rule("C11")
def test_calls_that_wait_for_the_loop_are_bounded(quiet: Callable[..., Any]) -> None:
    async def main() -> None:
        async with quiet(Pad, limits=Limits(blocked_s=0, thread_calls=10)) as system:
            await system.spawn(Pad, "pad")

            def work() -> None:
                held = threading.Event()
                holding = threading.Event()
                system.threadsafe.call(lambda: holding.set() or held.wait(T))
                assert holding.wait(T)
                futures = [system.threadsafe.tell("pad", Note(n=n)) for n in range(15)]
                held.set()
                kinds = Counter(type(future.exception(T)) for future in futures)
                assert kinds == {type(None): 10, MailboxFull: 5}
                assert "10 calls from threads" in str(futures[-1].exception(T))

            await in_thread(work)
            assert len(system.snapshot("pad").data["notes"]) == 10

    asyncio.run(main())


@pytest.mark.rule("C12")
def test_a_flood_from_a_thread_leaves_the_loop_its_turns(quiet: Callable[..., Any]) -> None:
    async def main() -> None:
        async with quiet(Pad, limits=Limits(blocked_s=0, turns_per_step=10)) as system:
            await system.spawn(Pad, "pad")
            steps: list[int] = []

            def work() -> None:
                held = threading.Event()
                system.threadsafe.call(held.wait, T)
                futures = [system.threadsafe.call(lambda: steps.append(0)) for _ in range(1000)]
                held.set()
                for future in futures:
                    future.result(T)

            working = asyncio.ensure_future(in_thread(work))
            while not steps:  # noqa: ASYNC110 -- steps of the loop are what is counted
                await asyncio.sleep(0)
            seen: list[int] = []
            while len(steps) < 1000:
                seen.append(len(steps))
                await asyncio.sleep(0)
            assert len(seen) >= 50
            await working

    asyncio.run(main())


# -- on the loop's own thread, and in a hook -------------------------------------------------------------------------


@pytest.mark.rule("C9")
def test_on_the_loops_own_thread_everything_is_allowed_but_to_wait(quiet: Callable[..., Any]) -> None:
    async def main() -> None:
        async with quiet(Pad) as system:
            calls = system.threadsafe
            assert await asyncio.wrap_future(calls.spawn(Pad, "pad")) == calls.ref(Pad, "pad")
            told = calls.tell("pad", Note(n=1))
            asked = calls.ask("pad", Note(n=2))
            for wait in (told.result, told.exception, asked.result, asked.exception):
                with pytest.raises(WrongThread, match=r"await system\.ask"):
                    wait(T)
            assert await asyncio.wrap_future(asked) == 2
            assert told.result().reply == 1
            assert told.exception() is None

    asyncio.run(main())


@pytest.mark.rule("C2")
def test_a_hook_on_the_loop_is_told_to_use_self(quiet: Callable[..., Any]) -> None:
    lamp_class = lamp_of(Style.ASYNC)
    caught: list[str] = []

    async def main() -> None:
        def hook(machine: Any) -> None:
            with pytest.raises(WrongThread) as error:
                system.threadsafe.tell("lamp", Count())
            caught.append(str(error.value))

        async with quiet(lamp_class, services=Script(body=hook)) as system:
            await system.spawn(lamp_class, "lamp")
            await system.ask("lamp", Switch())

    asyncio.run(main())
    assert len(caught) == 1
    assert "self.tell" in caught[0]


@pytest.mark.rule("C2")
@pytest.mark.rule("C9")
def test_in_a_thread_of_a_hook_it_means_self(quiet: Callable[..., Any]) -> None:
    """`asyncio.to_thread` carries the turn over: a message waits for the commit, a circle of asks is found."""
    lamp_class = lamp_of(Style.ASYNC)
    trace = Trace()

    async def main() -> None:
        told: list[Any] = []
        errors: list[Any] = []

        def threaded() -> None:
            calls = system.threadsafe
            assert calls.ask("other", Count()).result(T) == len(told) + 1
            told.append(calls.tell("other", Count()))
            errors.append(calls.ask("lamp", Count()).exception(T))

        async def hook(machine: Any) -> Any:
            await asyncio.to_thread(threaded)
            if len(told) == 1:
                return False
            return None

        script = Script(enter=hook)
        async with quiet(lamp_class, services=script, trace=trace) as system:
            for name in ("lamp", "other"):
                await system.spawn(lamp_class, name)
            with pytest.raises(Vetoed):
                await system.ask("lamp", Switch())
            assert system.snapshot("other").data["count"] == 1
            assert type(await asyncio.to_thread(told[0].exception, T)).__name__ == "Discarded"
            assert await system.ask("lamp", Switch()) == "on"
            outcome = await asyncio.to_thread(told[1].result, T)
            assert (outcome.kind, outcome.reply) == ("committed", 3)
        assert [type(error) for error in errors] == [AskCycle, AskCycle]

    asyncio.run(main())
    causes = [
        record.causation_id
        for record in trace
        if record.event_type == "Count" and record.machine_id == "other"
    ]
    assert None not in causes


@pytest.mark.rule("C13")
def test_a_thread_that_a_hook_left_behind_calls_in_vain(quiet: Callable[..., Any]) -> None:
    lamp_class = lamp_of(Style.ASYNC)

    async def main() -> None:
        over = threading.Event()
        answers: list[Any] = []

        def late() -> None:
            assert over.wait(T)
            answers.append(system.threadsafe.ask("other", Count()).exception(T))
            answers.append(system.threadsafe.tell("other", Count()).exception(T))

        async def hook(machine: Any) -> None:
            import contextvars

            threads.append(threading.Thread(target=contextvars.copy_context().run, args=(late,)))
            threads[0].start()

        threads: list[threading.Thread] = []
        async with quiet(lamp_class, services=Script(body=hook)) as system:
            for name in ("lamp", "other"):
                await system.spawn(lamp_class, name)
            await system.ask("lamp", Switch())
            over.set()
            await asyncio.to_thread(threads[0].join)
        assert [type(answer) for answer in answers] == [StaleTurn, StaleTurn]

    asyncio.run(main())


# -- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.rule("C19")
def test_before_the_start_and_after_the_end_a_call_is_refused_at_once(quiet: Callable[..., Any]) -> None:
    system = quiet(Pad)
    early = system.threadsafe.ask("pad", Note())
    assert isinstance(early.exception(0), SystemStopping)
    assert "was not started" in str(early.exception(0))

    async def main() -> None:
        async with system:
            pass
        for call in every_call(system):
            assert isinstance(call().exception(0), SystemStopping)  # here, too: nothing to wait for

    asyncio.run(main())
    for call in every_call(system):
        assert isinstance(call().exception(0), SystemStopping)
    assert system._parts.calls.waiting == {}


def every_call(system: ActorSystem[Any]) -> list[Callable[[], concurrent.futures.Future[Any]]]:
    calls = system.threadsafe
    return [
        lambda: calls.ask("pad", Note()),
        lambda: calls.tell("pad", Note()),
        lambda: calls.spawn(Pad, "new"),
        lambda: calls.get_or_spawn(Pad, "new"),
        lambda: calls.stop("pad"),
        lambda: calls.snapshot("pad"),
        lambda: calls.call(system.stats),
    ]


@pytest.mark.rule("C19")
@pytest.mark.parametrize("queues", ["finish", "abandon"])
def test_no_future_is_left_pending_by_a_system_that_stops_under_load(
    queues: str, quiet: Callable[..., Any]
) -> None:
    """Eight threads call without a pause while it stops; whatever is true, each future ends, and nothing is lost."""
    ends: list[Counter[str]] = []

    def end_of(future: concurrent.futures.Future[Any]) -> str:
        error = future.exception(T)
        if error is not None:
            return type(error).__name__
        return future.result().kind if isinstance(future.result(), Outcome) else "committed"

    async def main() -> None:
        enough = threading.Event()

        def work(thread: int) -> None:
            futures: list[concurrent.futures.Future[Any]] = []
            n = after = 0
            while after < 20:
                after += enough.is_set()
                n += 1
                send = system.threadsafe.ask if n % 2 else system.threadsafe.tell
                futures.append(send(f"pad-{n % 3}", Note(n=n)))  # type: ignore[operator]
                if len(futures) - n % 50 > 2000:
                    time.sleep(0.001)
            ends.append(Counter(map(end_of, futures)))

        async with quiet(Pad) as system:
            for n in range(3):
                await system.spawn(Pad, f"pad-{n}")
            working = asyncio.ensure_future(in_threads(8, work))
            await asyncio.sleep(0.05)
            report = await system.shutdown(queues=queues)
            enough.set()
            await working
        counted = sum(ends, Counter())
        assert set(counted) <= {"committed", "SystemStopping", "MailboxFull", "dead_lettered"}
        assert counted["committed"] == report.outcomes["committed"] - 3
        assert counted["SystemStopping"] >= 8 * 19
        assert system._parts.calls.waiting == {}
        assert system.stats().balance == 0

    asyncio.run(main())


@pytest.mark.rule("C19")
def test_a_call_that_waits_for_a_postponed_event_does_not_hold_up_the_end(quiet: Callable[..., Any]) -> None:
    lamp_class = lamp_of(Style.ASYNC)

    async def main() -> None:
        futures: list[Any] = []
        async with quiet(lamp_class, services=Script()) as system:
            await system.spawn(lamp_class, "lamp")
            futures += [system.threadsafe.ask("lamp", Later()), system.threadsafe.tell("lamp", Later())]
            await until(lambda: system.stats().postponed == 2)
        assert isinstance(futures[0].exception(0), SystemStopping)
        assert futures[1].result(0).kind == "dead_lettered"
        assert system.report.seconds < 2

    asyncio.run(main())


@pytest.mark.rule("C17")
def test_when_the_system_fails_each_call_is_told_why(quiet: Callable[..., Any]) -> None:
    lamp_class = lamp_of(Style.ASYNC)

    async def main() -> None:
        futures: list[Any] = []
        with pytest.raises(SystemFailed):  # noqa: PT012 -- it is raised where the block ends
            async with quiet(lamp_class, services=Script()) as system:
                await system.spawn(lamp_class, "lamp")
                futures.append(system.threadsafe.ask("lamp", Later()))
                await until(lambda: system.stats().postponed)
                system._fail(ValueError("planted"))
                futures.append(system.threadsafe.ask("lamp", Later()))
                await asyncio.sleep(T)
        futures.append(system.threadsafe.ask("lamp", Later()))
        for future in futures:
            assert isinstance(future.exception(0), SystemFailed)
            assert isinstance(future.exception(0).__cause__, ValueError)

    asyncio.run(main())


@pytest.mark.rule("C19")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("blocked_s", [0, 0.2])
def test_a_loop_that_is_closed_under_the_system_leaves_no_future_pending(
    blocked_s: float, quiet: Callable[..., Any]
) -> None:
    lamp_class = lamp_of(Style.ASYNC)
    loop = asyncio.new_event_loop()
    system = quiet(lamp_class, services=Script(), limits=Limits(blocked_s=blocked_s))

    async def begin() -> concurrent.futures.Future[Any]:
        await system.__aenter__()
        await system.spawn(lamp_class, "lamp")
        waiting = system.threadsafe.ask("lamp", Later(), timeout=3600)
        await until(lambda: system.stats().postponed)
        return waiting

    waiting = loop.run_until_complete(begin())
    queued = system.threadsafe.ask("lamp", Later())
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    for future in (waiting, queued):
        assert in_another_thread(lambda future=future: future.exception(T)) is SystemStopping
    late = system.threadsafe.ask("lamp", Later())
    assert isinstance(late.exception(0), SystemStopping)
    assert late.cancel() is False


@pytest.mark.rule("C19")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_call_to_a_loop_that_was_closed_just_now_is_refused_at_once(quiet: Callable[..., Any]) -> None:
    loop = asyncio.new_event_loop()
    system = quiet(Pad)
    loop.run_until_complete(system.__aenter__())
    loop.close()
    assert isinstance(system.threadsafe.ask("pad", Note()).exception(0), SystemStopping)


def in_another_thread(function: Callable[[], Any]) -> type[Any]:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return type(pool.submit(function).result(T))


@pytest.mark.rule("C13")
def test_an_interrupt_in_a_turn_of_a_thread_answers_the_thread() -> None:
    lamp_class = lamp_of(Style.PLAIN)

    def interrupted(machine: Any) -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        async with ActorSystem(
            lamp_class, services=Script(count=interrupted), trace=None, limits=FAST
        ) as system:
            await system.spawn(lamp_class, "lamp")
            futures.append(system.threadsafe.ask("lamp", Count()))
            futures.append(system.threadsafe.ask("lamp", Switch()))
            await asyncio.sleep(T)

    futures: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    for future in futures:
        assert future.done()


@pytest.mark.rule("C32")
def test_on_the_simulated_loop_calls_work_from_its_own_thread_and_no_other(
    quiet: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with quiet(Pad) as system:
            await system.spawn(Pad, "pad")
            assert await asyncio.wrap_future(system.threadsafe.ask("pad", Note())) == 1
            raised: list[BaseException] = []

            def call() -> None:
                try:
                    system.threadsafe.ask("pad", Note())
                except RuntimeError as error:
                    raised.append(error)

            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
            assert "one thread" in str(raised[0])
            assert await asyncio.wrap_future(system.threadsafe.ask("pad", Note())) == 2

    sim(scenario)
