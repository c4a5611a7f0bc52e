"""C13 for plain hooks marked @blocking: they run in threads, the event loop goes on, and the rules of a turn hold."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from enum import StrEnum, auto
from random import Random
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

from actorfsm import (
    STAY,
    ActorSystem,
    DefinitionError,
    Discarded,
    Event,
    HookFailed,
    Limits,
    Machine,
    ReadOnly,
    StaleTurn,
    StateTimeout,
    Terminated,
    Veto,
    Vetoed,
    WrongThread,
    after_transition,
    before_transition,
    blocking,
    on_enter,
    on_exit,
    on_timeout,
    postpone,
    transition,
)
from actorfsm.machine.machine import definition_of
from actorfsm.runtime.turn import CURRENT
from actorfsm.testing.faults import EVIL
from tests.contract.lamp import HOOKS, USES, Count, Later, Reset, State, Switch, Trace, lamp_of, raising
from tests.contract.paths import Script, Style, at_rest, until

pytestmark = pytest.mark.rule("C13")
BLOCKING: Any = blocking
LONG_S = 30.0
"""Longer than any of these tests may take: what waits as long was not let go."""


def on_a_real_loop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run on asyncio's own loop, with real threads; a call that blocks the loop fails."""
    with blockbuster_ctx("actorfsm") as watch:
        watch.functions[
            "threading.Lock.acquire"
        ].deactivate()  # the start of the watchdog takes one, for a moment
        asyncio.run(main())


def real_system(*machines: Any, **options: Any) -> ActorSystem[Any]:
    return ActorSystem(*machines, **({"trace": None, "random": Random(7)} | options))


async def eventually(condition: Callable[[], object]) -> None:
    """Wait, on a real loop, until a thread has made the condition true."""
    async with asyncio.timeout(LONG_S):
        while not condition():  # noqa: ASYNC110 -- a condition of the runtime has no event to wait for
            await asyncio.sleep(0.002)


# -- the rules of a turn, on the simulated loop ----------------------------------------------------------------------


@pytest.mark.rule("C3")
def test_blocking_hooks_run_in_their_order_and_write_to_the_machine(
    sim: Callable[..., None], system_of: Callable[..., ActorSystem[Any]]
) -> None:
    async def scenario() -> None:
        script = Script()
        lamp_class = lamp_of(BLOCKING)
        async with system_of(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            assert await lamp.ask(Switch()) == "on"
            await at_rest(system)
            assert script.calls == ["guard", *HOOKS]
            assert await lamp.ask(Count(n=5)) == 2
            assert lamp.snapshot().data == {"count": 2, "seen": (5,)}
            assert system.stats().turns_plain == 0
            assert system.stats().balance == 0

    sim(scenario)


@pytest.mark.rule("C2")
@pytest.mark.parametrize("place", HOOKS[:-1])
def test_a_blocking_hook_may_refuse_and_nothing_of_it_remains(
    place: str, sim: Callable[..., None], system_of: Callable[..., ActorSystem[Any]]
) -> None:
    async def scenario() -> None:
        receipts: list[Any] = []

        def refuse(machine: Any) -> None:
            machine.count = 99
            receipts.append(machine.tell("lamp", Count()))
            machine.next_event(Count())
            raise Veto("no")

        lamp_class = lamp_of(BLOCKING)
        async with system_of(lamp_class, services=Script(**{place: refuse})) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            before = lamp.snapshot()
            with pytest.raises(Vetoed) as caught:
                await lamp.ask(Switch())
            assert caught.value.by == place
            assert lamp.snapshot() == before
            with pytest.raises(Discarded):
                await receipts[0]

    sim(scenario)


@pytest.mark.parametrize("place", HOOKS)
def test_whatever_a_blocking_hook_raises_the_event_gets_its_outcome(
    place: str, sim: Callable[..., None], system_of: Callable[..., ActorSystem[Any]]
) -> None:
    async def scenario() -> None:
        script, trace = Script(), Trace()
        lamp_class = lamp_of(BLOCKING)
        async with system_of(lamp_class, services=script, trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            for name in EVIL:
                expected = RuntimeError if name == "StopIteration" else type(EVIL[name]())
                script.does = {place: raising(EVIL[name])}
                if place == "after":
                    assert await lamp.ask(Switch()) == "on"
                    await at_rest(system)
                    assert type(trace[-1].error) is expected
                    assert trace[-1].name == "after_hook_failed"
                    await lamp.ask(Reset())
                else:
                    with pytest.raises(HookFailed) as caught:
                        await lamp.ask(Switch())
                    assert caught.value.hook == place
                    assert type(caught.value.__cause__) is expected
                    assert lamp.snapshot().state is State.OFF
            script.does = {}
            assert await lamp.ask(Switch()) == "on"
            assert lamp.snapshot().incarnation == 0

    sim(scenario)


def test_a_blocking_hook_sends_raises_own_events_and_stops_with_the_commit(
    sim: Callable[..., None], system_of: Callable[..., ActorSystem[Any]]
) -> None:
    async def scenario() -> None:
        def send(machine: Any) -> None:
            machine.tell("other", Count(n=1))
            assert system.tell("other", Count(n=2)).machine_id == "other"  # means self.tell
            machine.next_event(Count(n=3))
            assert machine.idempotency_key
            assert machine.now().tzinfo is not None

        lamp_class = lamp_of(BLOCKING)
        async with system_of(lamp_class, services=Script(enter=send)) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            other = await system.spawn(lamp_class, "other")
            await lamp.ask(Switch())
            await at_rest(system)
            assert other.snapshot().data["seen"] == (1, 2)
            assert lamp.snapshot().data["seen"] == (3,)

    sim(scenario)


def test_a_blocking_after_hook_may_only_look(
    sim: Callable[..., None], system_of: Callable[..., ActorSystem[Any]]
) -> None:
    async def scenario() -> None:
        trace = Trace()
        script = Script(after=lambda machine: setattr(machine, "count", 7))
        lamp_class = lamp_of(BLOCKING)
        async with system_of(lamp_class, services=script, trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            assert await lamp.ask(Switch()) == "on"
            await at_rest(system)
            assert isinstance(trace[-1].error, ReadOnly)
            assert lamp.snapshot().data["count"] == 1

    sim(scenario)


REQUEST: ContextVar[str] = ContextVar("request", default="none")


def test_a_blocking_hook_runs_in_a_context_of_its_own(
    sim: Callable[..., None], system_of: Callable[..., ActorSystem[Any]]
) -> None:
    async def scenario() -> None:
        seen: list[Any] = []

        def look(machine: Any) -> None:
            turn = CURRENT.get()
            seen.append((REQUEST.get(), turn is not None and turn.machine_id))
            REQUEST.set("of the hook")

        lamp_class = lamp_of(BLOCKING)
        async with system_of(lamp_class, services=Script(count=look)) as system:
            REQUEST.set("of the request")
            lamp = await system.spawn(lamp_class, "lamp")
            await lamp.ask(Count())
            await lamp.ask(Count())
        assert seen == [("none", "lamp")] * 2
        assert REQUEST.get() == "of the request"

    sim(scenario)


@pytest.mark.rule("C6")
def test_postponed_events_and_births_reach_blocking_bodies(
    sim: Callable[..., None], system_of: Callable[..., ActorSystem[Any]]
) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(BLOCKING)
        async with system_of(lamp_class, services=Script()) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            later = lamp.tell(Later(n=4))
            await lamp.ask(Switch())
            assert (await later).success
            assert lamp.snapshot().data["seen"] == (4,)

    sim(scenario)


# -- real threads ----------------------------------------------------------------------------------------------------


def test_a_blocking_hook_runs_in_a_daemon_thread_and_the_loop_goes_on() -> None:
    async def main() -> None:
        loop_thread, threads, gate = threading.current_thread(), [], threading.Event()

        def block(machine: Any) -> None:
            threads.append(threading.current_thread())
            assert gate.wait(LONG_S)

        lamp_class = lamp_of(BLOCKING)
        async with real_system(lamp_class, services=Script(body=block)) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            other = await system.spawn(lamp_class, "other")
            asked = asyncio.ensure_future(lamp.ask(Switch()))
            await eventually(lambda: threads)
            assert await other.ask(Count()) == 1  # nobody else is held up
            assert not asked.done()
            gate.set()
            assert await asked == "on"
        (thread,) = threads
        assert thread is not loop_thread
        assert thread.daemon
        assert thread.name == "lamp.body"
        await eventually(lambda: not thread.is_alive())

    on_a_real_loop(main)


@pytest.mark.parametrize("style", [BLOCKING, Style.PLAIN, Style.ASYNC], ids=["blocking", "plain", "async"])
def test_a_sleep_blocks_the_loop_unless_its_hook_is_blocking(style: Any) -> None:
    async def main() -> None:
        lamp_class = lamp_of(style)
        script = Script(body=lambda _: time.sleep(0.01))
        async with real_system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            if style is BLOCKING:
                assert await lamp.ask(Switch()) == "on"
            else:
                with pytest.raises(HookFailed, match="Blocking call to time"):
                    await lamp.ask(Switch())

    with blockbuster_ctx() as watch:
        watch.functions["threading.Lock.acquire"].deactivate()
        asyncio.run(main())


def test_no_more_than_so_many_run_at_a_time_and_the_others_in_order() -> None:
    async def main() -> None:
        running, most, order, lock = 0, 0, [], threading.Lock()

        def block(machine: Any) -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
                order.append(machine.id)
            time.sleep(0.01)
            with lock:
                running -= 1

        lamp_class = lamp_of(BLOCKING)
        limits = Limits(blocking_threads=2)
        async with real_system(lamp_class, services=Script(count=block), limits=limits) as system:
            ids = [f"lamp-{n}" for n in range(8)]
            for machine_id in ids:
                await system.spawn(lamp_class, machine_id)
            assert await asyncio.gather(*(system.ask(machine_id, Count()) for machine_id in ids)) == [1] * 8
            assert most == 2
            assert sorted(order[:2]) == ids[:2]
            assert sorted(order) == ids
            assert system._parts.threads.running == ()

    on_a_real_loop(main)


def test_what_stands_in_line_past_its_deadline_is_never_begun() -> None:
    async def main() -> None:
        gate, ran = threading.Event(), []

        def block(machine: Any) -> None:
            ran.append(machine.id)
            assert gate.wait(LONG_S)

        class Hasty(Machine[Place], initial=Place.A, final=(Place.B,), hook_timeout=0.05):
            @transition(Place.A, to=Place.B)
            @blocking
            def go(self, event: Go) -> str:
                block(self)
                return "went"

        patient, limits = lamp_of(BLOCKING, hook_timeout=LONG_S), Limits(blocking_threads=1)
        async with real_system(patient, Hasty, services=Script(count=block), limits=limits) as system:
            await system.spawn(patient, "patient")
            hasty = await system.spawn(Hasty, "hasty")
            asked = asyncio.ensure_future(system.ask("patient", Count()))
            await eventually(lambda: ran)
            with pytest.raises(HookFailed, match=r"TimeoutError: took longer than 0\.05 s"):
                await hasty.ask(Go())
            assert hasty.snapshot().incarnation == 0
            gate.set()
            assert await asked == 1
            assert await hasty.ask(Go()) == "went"
        assert ran == ["patient", "hasty"]

    on_a_real_loop(main)


def test_a_blocking_hook_that_ends_within_its_grace_only_fails_its_event() -> None:
    async def main() -> None:
        gate = threading.Event()

        def block(machine: Any) -> None:
            machine.count = 50
            assert gate.wait(LONG_S)
            machine.count = 99  # the turn still waits

        lamp_class = lamp_of(BLOCKING, hook_timeout=0.05)
        script = Script(count=block)
        async with real_system(lamp_class, services=script, limits=Limits(grace_s=LONG_S)) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            asked = asyncio.ensure_future(lamp.ask(Count()))
            await eventually(
                lambda: any(turn.interruption for turn in system._parts.dispatcher.running_turns())
            )
            assert not asked.done()
            gate.set()
            with pytest.raises(HookFailed, match=r"TimeoutError: took longer than 0\.05 s"):
                await asked
            script.does = {}
            assert await lamp.ask(Count()) == 1
            assert lamp.snapshot().incarnation == 0

    on_a_real_loop(main)


class Stuck:
    """A blocking call that does not end before the test lets it go; then it uses the `self` that it still holds."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.gate = threading.Event()
        self.ended = threading.Event()
        self.stale: list[str] = []

    def __call__(self, machine: Any) -> None:
        self.began.set()
        self.gate.wait(LONG_S)
        for name, use in USES.items():
            try:
                use(machine)
            except StaleTurn:
                self.stale.append(name)
        self.ended.set()


@pytest.mark.rule("C15")
@pytest.mark.rule("C19")
@pytest.mark.parametrize("place", HOOKS)
def test_a_blocking_hook_that_does_not_end_is_left_behind_and_named_and_cannot_touch_the_machine(
    place: str,
) -> None:
    async def main() -> None:
        stuck, trace = Stuck(), Trace()
        script = Script(**{place: stuck})
        lamp_class = lamp_of(BLOCKING, hook_timeout=0.05)
        limits = Limits(grace_s=0.05)
        async with real_system(lamp_class, services=script, trace=trace, limits=limits) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            asked = asyncio.ensure_future(lamp.ask(Switch()))
            await eventually(stuck.began.is_set)
            script.does = {}
            if place == "after":
                assert await asked == "on"
                await eventually(lambda: "restarted" in trace.names())
            else:
                with pytest.raises(
                    HookFailed, match=rf"{place} was cancelled and did not end within 0\.05 s"
                ):
                    await asked
            assert await lamp.ask(Count()) == (2 if place == "after" else 1)
            assert lamp.snapshot().incarnation == 1
            assert system._parts.threads.running == (f"lamp.{place}",)
        assert system.report is not None
        assert system.report.unstopped == (f"lamp.{place}",)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        stuck.gate.set()
        await eventually(stuck.ended.is_set)
        assert stuck.stale == list(USES)
        assert system.snapshot("lamp").data["count"] == (2 if place == "after" else 1)
        assert system.stats().balance == 0

    on_a_real_loop(main)


def test_a_hook_left_behind_frees_its_place_when_it_ends() -> None:
    async def main() -> None:
        stuck = Stuck()
        script = Script(count=stuck)
        lamp_class = lamp_of(BLOCKING, hook_timeout=0.05)
        limits = Limits(grace_s=0.05, blocking_threads=1)
        async with real_system(lamp_class, services=script, limits=limits) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            with pytest.raises(HookFailed):
                await lamp.ask(Count())
            script.does = {}
            with pytest.raises(HookFailed, match=r"took longer than 0\.05 s"):
                await lamp.ask(Count())  # the only place is still taken
            stuck.gate.set()
            await eventually(lambda: not system._parts.threads.running)
            assert await lamp.ask(Count()) == 1
        assert system.report is not None
        assert system.report.unstopped == ()

    on_a_real_loop(main)


@pytest.mark.rule("C19")
def test_shutdown_waits_for_a_blocking_hook_and_finishes_its_event() -> None:
    async def main() -> None:
        lamp_class = lamp_of(BLOCKING)
        async with real_system(lamp_class, services=Script(count=lambda _: time.sleep(0.1))) as system:
            await system.spawn(lamp_class, "lamp")
            receipts = [system.tell("lamp", Count()) for _ in range(2)]
        assert [(await receipt).kind for receipt in receipts] == ["committed"] * 2
        assert system.report is not None
        assert (system.report.finished, system.report.unstopped) == (True, ())

    on_a_real_loop(main)


@pytest.mark.rule("C19")
def test_shutdown_leaves_a_blocking_hook_that_does_not_end_after_its_deadlines_and_names_it() -> None:
    async def main() -> None:
        stuck = Stuck()
        lamp_class = lamp_of(BLOCKING)
        limits = Limits(grace_s=0.05, stop_timeout_s=0.05)
        async with real_system(lamp_class, services=Script(count=stuck), limits=limits) as system:
            await system.spawn(lamp_class, "lamp")
            receipt = system.tell("lamp", Count())
            await eventually(stuck.began.is_set)
        assert (await receipt).kind == "failed"
        assert system.report is not None
        assert (system.report.finished, system.report.unstopped) == (False, ("lamp.counted",))
        assert asyncio.all_tasks() == {asyncio.current_task()}
        stuck.gate.set()
        await eventually(stuck.ended.is_set)
        assert stuck.stale == list(USES)

    on_a_real_loop(main)


@pytest.mark.rule("C19")
def test_a_hook_left_behind_may_end_when_its_loop_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    stuck, threads = Stuck(), []

    def block(machine: Any) -> None:
        threads.append(threading.current_thread())
        stuck(machine)

    async def main() -> None:
        lamp_class = lamp_of(BLOCKING)
        limits = Limits(grace_s=0.05, stop_timeout_s=0.05)
        async with real_system(lamp_class, services=Script(count=block), limits=limits) as system:
            await system.spawn(lamp_class, "lamp")
            system.tell("lamp", Count())
            await eventually(stuck.began.is_set)

    on_a_real_loop(main)
    stuck.gate.set()
    threads[0].join(LONG_S)
    assert stuck.stale == list(USES)
    assert caplog.records == []


STUCK_AT_EXIT = """
import asyncio, threading, time
from enum import Enum, auto
from actorfsm import ActorSystem, Event, Limits, Machine, blocking, transition

class State(Enum):
    ON = auto()
    OFF = auto()

class Off(Event):
    pass

began = threading.Event()

class Lamp(Machine[State], initial=State.ON, final=(State.OFF,)):
    @transition(State.ON, to=State.OFF)
    @blocking
    def off(self, event: Off) -> None:
        began.set()
        time.sleep(1_000_000)

async def main():
    async with ActorSystem(Lamp, trace=None, limits=Limits(grace_s=0.1, stop_timeout_s=0.1)) as system:
        await system.spawn(Lamp, "lamp")
        system.tell("lamp", Off())
        while not began.is_set():
            await asyncio.sleep(0.001)
    print(system.report.unstopped)

asyncio.run(main())
"""


@pytest.mark.rule("C19")
def test_a_process_ends_although_a_blocking_hook_does_not() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", STUCK_AT_EXIT],
        capture_output=True,
        text=True,
        check=True,
        timeout=LONG_S,
    )
    assert (done.stdout, done.stderr) == ("('lamp.off',)\n", "")


class Place(StrEnum):
    A = auto()
    B = auto()


class Go(Event[str]):
    pass


def beside_of(hook: Callable[[Any], None], **choices: Any) -> Any:
    class Beside(Machine[Place], **({"initial": Place.A} | choices)):
        count: int = 0

        @transition(Place.A, to=Place.B)
        def go(self, event: Go) -> str:
            self.count += 1
            return "went"

        @transition(Place.B, to=Place.A)
        def back(self, event: Reset) -> None: ...

        @transition(Place.B, to=STAY)
        def counted(self, event: Count) -> int:
            self.count += 1
            return self.count

        @blocking
        @after_transition(Place.B, detached=True)
        def beside(self, old: Place, new: Place) -> None:
            hook(self)

    return Beside


def test_a_detached_blocking_hook_does_not_hold_the_machine_and_is_left_at_its_deadline() -> None:
    async def main() -> None:
        stuck, trace = Stuck(), Trace()
        cls = beside_of(stuck, hook_timeout=0.05)
        async with real_system(cls, trace=trace, limits=Limits(grace_s=0.05)) as system:
            beside = await system.spawn(cls, "beside")
            assert await beside.ask(Go()) == "went"
            await eventually(stuck.began.is_set)
            assert await beside.ask(Count()) == 2
            await eventually(lambda: "after_hook_failed" in trace.names("beside"))
            (failed,) = [record for record in trace if record.name == "after_hook_failed"]
            assert (failed.hook, type(failed.error)) == ("beside", TimeoutError)
            assert beside.snapshot().incarnation == 0
        assert system.report is not None
        assert system.report.unstopped == ("beside.beside",)
        stuck.gate.set()
        await eventually(stuck.ended.is_set)
        assert stuck.stale == list(USES)

    on_a_real_loop(main)


def test_a_detached_blocking_hook_sees_what_was_committed() -> None:
    async def main() -> None:
        seen: list[Any] = []
        cls = beside_of(lambda machine: seen.append((machine.count, machine.state, threading.get_ident())))
        async with real_system(cls) as system:
            beside = await system.spawn(cls, "beside")
            await beside.ask(Go())
        assert [entry[:2] for entry in seen] == [(1, Place.B)]
        assert seen[0][2] != threading.get_ident()

    on_a_real_loop(main)


def test_a_blocking_hook_in_its_thread_sends_raises_starts_timers_and_watches() -> None:
    class Busy(Machine[Place], initial=Place.A):
        seen: list[str] = []

        @transition(Place.A, to=Place.B)
        @blocking
        def go(self, event: Go) -> str:
            self.tell(self.id, Count())
            system.tell(self.id, Later())
            self.next_event(Reset())
            self.start_timer(Switch(), after=0)
            assert self.cancel_timer("unknown") is False
            self.watch("nobody")
            self.seen.append(threading.current_thread().name)
            return "went"

        @transition(Place.B, to=STAY)
        def noted(self, event: Count | Later | Reset | Switch | Terminated) -> Any:
            self.seen.append(type(event).__name__)
            return {Count: 1, Switch: "on"}.get(type(event))

        @on_timeout(Place.B, after=0.01, to=Place.A)
        @blocking
        def late(self, event: StateTimeout) -> None:
            self.seen.append(threading.current_thread().name)

    async def main() -> None:
        async with system:
            busy = await system.spawn(Busy, "busy")
            assert await busy.ask(Go()) == "went"
            await eventually(lambda: busy.snapshot().state is Place.A)
            seen = busy.snapshot().data["seen"]
            assert seen[:2] == ["busy.go", "Reset"]
            assert sorted(seen[2:-1]) == ["Count", "Later", "Switch", "Terminated"]
            assert seen[-1] == "busy.late"
            assert system.stats().balance == 0

    system = real_system(Busy)
    on_a_real_loop(main)


def test_another_thread_than_the_hooks_own_is_refused_and_so_is_an_ask() -> None:
    async def main() -> None:
        caught: list[str] = []

        def misuse(machine: Any) -> None:
            def elsewhere() -> None:
                try:
                    machine.tell("lamp", Count())
                except WrongThread:
                    caught.append("tell from another thread")

            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            try:
                asyncio.run(machine.ask("other", Count()))
            except WrongThread:
                caught.append("ask")
            try:
                asyncio.run(system.ask("other", Count()))
            except WrongThread:
                caught.append("ask of the system")

        lamp_class = lamp_of(BLOCKING)
        async with real_system(lamp_class, services=Script(body=misuse)) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await system.spawn(lamp_class, "other")
            assert await lamp.ask(Switch()) == "on"
        assert caught == ["tell from another thread", "ask", "ask of the system"]

    on_a_real_loop(main)


def test_a_task_of_a_hook_on_the_loop_may_not_use_the_machine_from_a_thread_pool() -> None:
    async def main() -> None:
        async def body(machine: Any) -> None:
            with pytest.raises(WrongThread):
                await asyncio.to_thread(system.tell, "lamp", Count())

        lamp_class = lamp_of(Style.ASYNC)
        async with real_system(lamp_class, services=Script(body=body)) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            assert await lamp.ask(Switch()) == "on"

    asyncio.run(main())


def test_a_thread_that_cannot_be_started_fails_the_event_and_takes_no_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        lamp_class = lamp_of(BLOCKING)
        async with real_system(lamp_class, services=Script(), limits=Limits(blocking_threads=1)) as system:
            lamp = await system.spawn(lamp_class, "lamp")

            def start(thread: Any) -> None:
                raise RuntimeError("can't start new thread")

            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", start)
                with pytest.raises(HookFailed, match="can't start new thread"):
                    await lamp.ask(Switch())
            assert await lamp.ask(Switch()) == "on"

    on_a_real_loop(main)


def test_a_place_that_is_given_to_somebody_who_gives_up_in_that_moment_is_handed_on(
    sim: Callable[..., None], system_of: Callable[..., ActorSystem[Any]]
) -> None:
    async def scenario() -> None:
        async with system_of(lamp_of(BLOCKING), limits=Limits(blocking_threads=1)) as system:
            pool = system._parts.threads
            await pool._enter()
            line = []
            for length in (1, 2, 3):
                line.append(asyncio.ensure_future(pool._enter()))
                await until(lambda length=length: len(pool._line) == length)
            line[1].cancel()  # it stands in line
            pool._make_room()
            line[0].cancel()  # it has been given the place
            await asyncio.wait(line)
            assert [task.cancelled() for task in line] == [True, True, False]
            pool._make_room()
            assert (pool._free, len(pool._line)) == (1, 0)

    sim(scenario)


# -- definitions -----------------------------------------------------------------------------------------------------


@pytest.mark.rule("C33")
def test_blocking_stands_above_or_below_and_makes_the_class_one_whose_hooks_are_awaited() -> None:
    class Both(Machine[Place], initial=Place.A, final=(Place.B,)):
        @blocking
        @transition(Place.A, to=Place.B)
        def go(self, event: Go) -> str:
            return "went"

        @on_enter(Place.B)
        @blocking
        def enter(self, old: Place, new: Place) -> None: ...

    class Child(Both):
        def go(self, event: Go) -> str:
            return "the child went"

    for cls in (Both, Child):
        (edge,) = definition_of(cls).states[Place.A].choices[Go]
        assert [(step.name, step.is_async) for step in edge.steps] == [("go", True), ("enter", True)]
        assert not definition_of(cls).is_plain


@pytest.mark.rule("C33")
def test_what_is_not_a_plain_hook_may_not_be_blocking() -> None:
    with pytest.raises(DefinitionError, match=r"Coro\.go: @blocking is for a plain `def`.*to_thread"):

        class Coro(Machine[Place], initial=Place.A, final=(Place.B,)):
            @blocking
            @transition(Place.A, to=Place.B)
            async def go(self, event: Go) -> str:
                return "went"

    with pytest.raises(DefinitionError, match=r"Helper\.help: @blocking stands at hooks and at bodies"):

        class Helper(Machine[Place], initial=Place.A, final=(Place.B,)):
            @blocking
            def help(self) -> None: ...

            @transition(Place.A, to=Place.B)
            def go(self, event: Go) -> str:
                return "went"

    with pytest.raises(DefinitionError, match=r"Aside\.later: @blocking stands at hooks and at bodies"):

        class Aside(Machine[Place], initial=Place.A, final=(Place.B,)):
            @blocking
            @postpone(Place.A, Count)
            def later(self) -> None: ...

            @transition(Place.A, to=Place.B)
            def go(self, event: Go) -> str:
                return "went"

    with pytest.raises(DefinitionError, match="@blocking stands above a method"):
        blocking(staticmethod(len))  # type: ignore[type-var]

    @blocking
    def may(machine: Any, event: Any) -> bool:
        return True

    with pytest.raises(DefinitionError, match="the guard may is @blocking"):

        class Guarded(Machine[Place], initial=Place.A, final=(Place.B,)):
            @transition(Place.A, to=Place.B, when=may)
            def go(self, event: Go) -> str:
                return "went"


def test_every_kind_of_hook_may_block() -> None:
    @blocking
    def hook(self: Any, old: Place, new: Place) -> None: ...

    for mark in (before_transition, on_exit(Place.A), on_enter(Place.B), after_transition(Place.B)):
        hook = mark(hook)

    class Every(Machine[Place], initial=Place.A, final=(Place.B,)):
        anything = hook

        @transition(Place.A, to=Place.B)
        def go(self, event: Go) -> str:
            return "went"

    (edge,) = definition_of(Every).states[Place.A].choices[Go]
    assert [step.is_async for step in (*edge.steps, *edge.afters)] == [True, True, False, True, True]
