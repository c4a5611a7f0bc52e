"""What does not happen here: the faults of the sketch that the project grew from, and of libraries of today."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from enum import StrEnum, auto
from pathlib import Path as FilePath
from typing import Any

import pytest
from pydantic import ValidationError

from actorfsm import (
    STAY,
    ActorSystem,
    AskTimeout,
    DefinitionError,
    Directive,
    Event,
    HookFailed,
    InvalidEvent,
    Machine,
    MachineStopped,
    MailboxFull,
    MailboxPolicy,
    NoSuchMachine,
    Redelivery,
    Ref,
    RestartPolicy,
    SystemStopping,
    Unhandled,
    Unsupported,
    Veto,
    Vetoed,
    WrongThread,
    after_transition,
    before_transition,
    on_enter,
    on_exit,
    transition,
)
from actorfsm.testing.loop import SimDeadlock, SimLoop, observe
from tests.contract.paths import (
    Path,
    Script,
    Style,
    at_rest,
    on_every_async_path,
    on_every_path,
    until,
)


class State(StrEnum):
    CREATED = auto()
    PAYING = auto()
    SHIPPED = auto()


class Go(Event[str]):
    n: int = 0


class Ship(Event): ...


class Stranger(Event): ...


def seed_of(style: Style, **options: Any) -> Any:
    """A machine in the sketch's style: no transitions, hooks only."""

    class Order(Machine[State, Script], initial=State.CREATED, hook_timeout=1, **options):
        counted: int = 0
        visited: list[str] = []

        @before_transition
        @style
        def before(self, old: State, new: State) -> Any:
            return self.services.play("before", self)

        @on_exit(State.CREATED)
        @style
        def leave(self, old: State, new: State) -> Any:
            self.counted += 1
            self.visited.append("left")
            return self.services.play("exit", self)

        @on_enter(State.PAYING)
        @style
        def enter(self, old: State, new: State) -> Any:
            return self.services.play("enter", self)

        @after_transition(State.PAYING)
        @style
        def after(self, old: State, new: State) -> Any:
            return self.services.play("after", self)

    return Order


def order_of(style: Style, **options: Any) -> Any:
    """A machine with transitions, whose body the test scripts."""

    class Order(
        Machine[State, Script], initial=State.CREATED, final=(State.SHIPPED,), hook_timeout=1, **options
    ):
        done: tuple[int, ...] = ()

        @transition(State.CREATED, to=State.PAYING)
        @transition(State.PAYING, to=State.CREATED)
        @style
        def go(self, event: Go) -> str:
            self.done = (*self.done, event.n)
            return self.services.play(f"go {event.n}", self, f"{self.id} went {event.n}")

        @transition(State.PAYING, to=State.SHIPPED)
        @style
        def ship(self, event: Ship) -> None: ...

    return Order


SEED = {style: seed_of(style) for style in Style}
ORDER = {style: order_of(style) for style in Style}


def raising(error: BaseException) -> Callable[..., Any]:
    def hook(*arguments: Any) -> Any:
        raise error

    return hook


async def hang(machine: Any) -> Any:
    await asyncio.sleep(1_000)


# -- of the sketch ----------------------------------------------------------------------------------------------------


@pytest.mark.rule("C12")
@on_every_async_path
def test_one_slow_machine_does_not_hold_up_the_others_of_its_class(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        def slow_only_here(machine: Any) -> Any:
            return asyncio.sleep(0.9) if machine.id == "slow" else None

        async with path.system(SEED[path.style], services=Script(enter=slow_only_here)) as system:
            slow: Ref[Any] = await system.spawn(SEED[path.style], "slow")
            fast: Ref[Any] = await system.spawn(SEED[path.style], "fast")
            first = slow.request_transition(State.PAYING)
            loop = asyncio.get_running_loop()
            started_at = loop.time()
            assert (await fast.request_transition(State.PAYING)).success
            assert loop.time() == started_at
            assert slow.snapshot().state is State.CREATED
            assert (await first).success

    sim(scenario)


@pytest.mark.rule("C13")
@pytest.mark.parametrize("stage", ["before", "exit", "enter", "after"])
@pytest.mark.parametrize(
    "error", [ValueError("x"), asyncio.CancelledError(), SystemExit(3), TimeoutError()], ids=repr
)
@on_every_path
def test_a_hook_that_raises_does_not_end_the_worker_and_later_requests_do_not_rot(
    path: Path, stage: str, error: BaseException, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script(**{stage: raising(error)})
        heard: list[bool] = []
        async with path.system(SEED[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(SEED[path.style], "m")
            for _ in range(3):
                ref.request_transition(State.PAYING, lambda success, old, new: heard.append(success))
            await until(lambda: len(heard) == 3)
            script.does.clear()
            assert (await ref.request_transition(State.SHIPPED)).success
        assert heard == [stage == "after"] * 3

    sim(scenario, seeds=range(2))


@pytest.mark.rule("C13")
@pytest.mark.parametrize("error", [ValueError("x"), asyncio.CancelledError(), SystemExit(3)], ids=repr)
@on_every_path
def test_a_callback_that_raises_does_not_end_the_worker_and_later_callbacks_are_called(
    path: Path, error: BaseException, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        heard: list[Any] = []
        async with path.system(SEED[path.style], services=Script()) as system:
            ref: Ref[Any] = await system.spawn(SEED[path.style], "m")
            ref.request_transition(State.PAYING, raising(error))
            ref.request_transition(State.SHIPPED, lambda *answer: heard.append(answer))
            await system.shutdown()
            assert system.stats().callbacks_failed == 1
        assert heard == [(True, State.PAYING, State.SHIPPED)]

    sim(scenario)


@pytest.mark.rule("C1")
@on_every_path
def test_reading_the_state_in_a_hook_does_not_deadlock(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        seen: list[Any] = []

        def read(machine: Any) -> None:
            seen.append(
                (
                    machine.state,
                    ref.snapshot().state,
                    system.snapshot("m").state,
                    system.ids(state=State.CREATED),
                )
            )

        async with path.system(SEED[path.style], services=Script()) as system:
            ref: Ref[Any] = await system.spawn(SEED[path.style], "m")
            await at_rest(system)
            ref._post._parts.services.does.update(dict.fromkeys(("before", "exit", "enter"), read))
            await ref.request_transition(State.PAYING)
        assert seen == [(State.CREATED, State.CREATED, State.CREATED, ["m"])] * 3

    sim(scenario)


@pytest.mark.rule("C2")
@on_every_path
def test_what_an_exit_hook_did_does_not_stay_done_when_the_enter_hook_vetoes(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with path.system(SEED[path.style], services=Script(enter=raising(Veto("no")))) as system:
            ref: Ref[Any] = await system.spawn(SEED[path.style], "m")
            assert (await ref.request_transition(State.PAYING)).kind == "vetoed"
            assert ref.snapshot().data == {"counted": 0, "visited": []}
            assert (await ref.request_transition(State.SHIPPED)).success
            assert ref.snapshot().data == {"counted": 1, "visited": ["left"]}

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_path
def test_a_hook_that_returns_none_does_not_veto(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        nothing = dict.fromkeys(("before", "exit", "enter", "after"), lambda machine: None)
        async with path.system(SEED[path.style], services=Script(**nothing)) as system:
            ref: Ref[Any] = await system.spawn(SEED[path.style], "m")
            assert (await ref.request_transition(State.PAYING)).success

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_path
def test_the_hooks_of_a_base_class_are_not_lost_in_a_subclass(path: Path, sim: Callable[..., None]) -> None:
    class Special(SEED[path.style]):  # type: ignore[misc]
        @on_enter(State.PAYING)
        @path.style
        def enter_too(self, old: State, new: State) -> Any:
            return self.services.play("enter of the subclass", self)

    class Overridden(Special):
        def leave(self, old: State, new: State) -> Any:
            return self.services.play("exit of the subclass", self)

    async def scenario() -> None:
        script = Script()
        async with path.system(Special, Overridden, services=script) as system:
            for cls in (Special, Overridden):
                ref: Ref[Any] = await system.spawn(cls, cls.__name__)
                await ref.request_transition(State.PAYING)
                await at_rest(system)
        assert script.calls == [
            *("before", "exit", "enter", "enter of the subclass", "after"),
            *("before", "exit of the subclass", "enter", "enter of the subclass", "after"),
        ]

    sim(scenario)


@pytest.mark.rule("C10")
def test_a_request_from_another_thread_is_not_taken_at_a_random_moment_but_refused_there() -> None:
    caught: list[BaseException] = []

    async def scenario() -> None:
        async with ActorSystem(ORDER[Style.ASYNC], services=Script(), trace=None) as system:
            ref: Ref[Any] = await system.spawn(ORDER[Style.ASYNC], "m")

            def from_a_thread() -> None:
                for send in (
                    lambda: ref.tell(Go()),
                    lambda: ref.request_transition(State.PAYING),
                    lambda: ref.ask(Go()).send(None),
                ):
                    try:
                        send()
                    except WrongThread as error:
                        caught.append(error)

            thread = threading.Thread(target=from_a_thread)
            thread.start()
            thread.join()
            assert ref.snapshot().seq == 1
            assert system.stats().accepted == 1

    asyncio.run(scenario())
    assert len(caught) == 3
    assert "system.threadsafe" in str(caught[0])


@pytest.mark.rule("C12")
def test_a_request_handed_over_by_another_thread_is_not_noticed_late() -> None:
    """The runtime never polls: the loop sleeps until it is woken, and no timer has to fire for that."""

    async def scenario() -> None:
        async with ActorSystem(ORDER[Style.ASYNC], services=Script(), trace=None) as system:
            ref: Ref[Any] = await system.spawn(ORDER[Style.ASYNC], "m")
            loop: Any = asyncio.get_running_loop()
            answered = loop.create_future()
            timers = list(loop._scheduled)

            def on_done(outcome: Any) -> None:
                answered.set_result(outcome.reply)

            thread = threading.Thread(
                target=lambda: loop.call_soon_threadsafe(lambda: ref.tell(Go(), callback=on_done))
            )
            thread.start()
            assert await answered == "m went 0"
            assert all(timer in loop._scheduled for timer in timers)  # none of them had to fire for that
            thread.join()

    asyncio.run(scenario())


@pytest.mark.rule("C12")
def test_an_idle_system_does_not_poll(inline: bool) -> None:
    async def scenario() -> None:
        async with Path(Style.ASYNC, inline).system(ORDER[Style.ASYNC], services=Script()) as system:
            await system.spawn(ORDER[Style.ASYNC], "m")
            await asyncio.get_running_loop().create_future()

    assert isinstance(observe(scenario, loop=SimLoop(0)).error, SimDeadlock)


@pytest.mark.rule("C19")
@on_every_path
def test_requests_do_not_vanish_at_shutdown(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        heard: list[Any] = []
        async with path.system(SEED[path.style], services=Script()) as system:
            refs: list[Ref[Any]] = [await system.spawn(SEED[path.style], f"m{n}") for n in range(3)]
            receipts = [
                ref.request_transition(state, lambda *answer: heard.append(answer))
                for state in (State.PAYING, State.SHIPPED) * 10
                for ref in refs
            ]
        assert len(heard) == 60
        assert all([(await receipt).success for receipt in receipts])
        with pytest.raises(SystemStopping):
            await refs[0].request_transition(State.CREATED)

    sim(scenario)


@pytest.mark.rule("C19")
@on_every_async_path
def test_requests_that_are_abandoned_at_shutdown_are_not_left_without_an_answer(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        heard: list[Any] = []
        async with path.system(ORDER[path.style], services=Script(**{"go 0": hang})) as system:
            ref: Ref[Any] = await system.spawn(ORDER[path.style], "m")
            running = asyncio.create_task(ref.ask(Go(n=0)))
            await asyncio.sleep(0.1)
            told = ref.tell(Go(n=1), callback=heard.append)
            asked = asyncio.create_task(ref.ask(Go(n=2)))
            await asyncio.sleep(0.1)
            report = await system.shutdown(queues="abandon")
            assert report.abandoned == 2
            with pytest.raises(HookFailed):
                await running
            with pytest.raises(SystemStopping):
                await asked
            assert (await told).kind == "dead_lettered"
            assert system.stats().balance == 0
        assert [outcome.kind for outcome in heard] == ["dead_lettered"]

    sim(scenario)


@pytest.mark.rule("C14")
@on_every_async_path
def test_a_hook_that_hangs_does_not_hold_its_machine_for_ever(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script(enter=hang)
        async with path.system(SEED[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(SEED[path.style], "m")
            outcome = await ref.request_transition(State.PAYING)
            assert (outcome.kind, outcome.error.type, outcome.error.hook) == (
                "failed",
                "TimeoutError",
                "enter",
            )
            script.does.clear()
            assert (await ref.request_transition(State.PAYING)).success

    sim(scenario)


@pytest.mark.rule("C11")
@on_every_path
def test_a_queue_does_not_grow_without_bound(path: Path, sim: Callable[..., None]) -> None:
    cls = seed_of(path.style, mailbox=MailboxPolicy(capacity=10))

    async def scenario() -> None:
        async with path.system(cls, services=Script()) as system:
            ref: Ref[Any] = await system.spawn(cls, "m")
            await at_rest(system)
            receipts = [ref.request_transition(State.PAYING) for _ in range(1_000)]
            assert system.stats().queued == 10
            refused = 0
            for receipt in receipts:
                try:
                    assert (await receipt).success
                except MailboxFull:
                    refused += 1
            assert refused == 990

    sim(scenario, seeds=[0])


@pytest.mark.rule("C19")
@on_every_path
def test_a_machine_does_not_run_on_after_its_stop(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script()
        async with path.system(SEED[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(SEED[path.style], "m")
            await at_rest(system)
            waiting = ref.request_transition(State.PAYING)
            await system.stop("m")
            outcome = await waiting
            assert (outcome.kind, outcome.error.type) == ("dead_lettered", MachineStopped.__name__)
            assert "enter" not in script.calls
            with pytest.raises(NoSuchMachine):
                await ref.request_transition(State.PAYING)

    sim(scenario)


# -- of libraries of today --------------------------------------------------------------------------------------------


@pytest.mark.rule("C13")
@on_every_path
def test_a_failed_event_does_not_fail_or_drop_the_events_of_other_callers(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script(**{"go 2": raising(ValueError("only this one"))})
        async with path.system(ORDER[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(ORDER[path.style], "m")
            tells = [ref.tell(Go(n=n)) for n in range(5)]
            asks = await asyncio.gather(*(ref.ask(Go(n=n)) for n in (5, 2, 6)), return_exceptions=True)
            assert [(await tell).kind for tell in tells] == [
                *("committed", "committed", "failed"),
                *("committed", "committed"),
            ]
            assert [type(answer) for answer in asks] == [str, HookFailed, str]
            assert sorted(ref.snapshot().data["done"]) == [0, 1, 3, 4, 5, 6]

    sim(scenario)


@pytest.mark.rule("C8")
@on_every_async_path
def test_a_callers_timeout_does_not_cancel_the_transition_of_another_caller_nor_its_own(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        def slowly(machine: Any) -> Any:
            return asyncio.sleep(0.5)

        script = Script(**{"go 0": slowly, "go 1": slowly})
        async with path.system(ORDER[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(ORDER[path.style], "m")
            impatient = asyncio.create_task(ref.ask(Go(n=0), timeout=0.1))
            await asyncio.sleep(0.01)
            patient = asyncio.create_task(ref.ask(Go(n=1)))
            with pytest.raises(AskTimeout):
                await impatient
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await ref.ask(Go(n=2))
            assert await patient == "m went 1"
            await at_rest(system)
            assert ref.snapshot().data["done"] == (0, 1, 2)

    sim(scenario)


@pytest.mark.rule("C7")
@on_every_path
def test_an_event_that_was_thrown_away_is_not_reported_as_a_success(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        heard: list[Any] = []
        async with path.system(ORDER[path.style], services=Script()) as system:
            ref: Ref[Any] = await system.spawn(ORDER[path.style], "m")
            with pytest.raises(Unhandled):
                await ref.ask(Ship())
            outcome = await ref.tell(Ship(), callback=heard.append)
            assert (outcome.kind, outcome.success) == ("unhandled", False)
        assert [outcome.success for outcome in heard] == [False]

    sim(scenario)


@pytest.mark.rule("C33")
def test_an_async_guard_that_returns_false_does_not_fire() -> None:
    async def never(machine: Any, event: Go) -> bool:
        return False

    with pytest.raises(DefinitionError, match="async"):

        class Wrong(Machine[State], initial=State.CREATED):
            @transition(State.CREATED, to=State.PAYING, when=never)  # type: ignore[arg-type]
            async def go(self, event: Go) -> str: ...


@pytest.mark.rule("C3")
def test_a_guard_that_hides_a_coroutine_does_not_fire(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def never() -> bool:
        return False

    class Sly(Machine[State], initial=State.CREATED, final=(State.PAYING, State.SHIPPED)):
        @transition(State.CREATED, to=State.PAYING, when=lambda machine, event: never())
        async def go(self, event: Go) -> str:
            return "went"

        @transition(State.CREATED, to=State.SHIPPED)
        async def ship(self, event: Ship) -> None: ...

    async def scenario() -> None:
        async with system_of(Sly) as system:
            ref: Ref[Any] = await system.spawn(Sly, "m")
            with pytest.raises(HookFailed, match="coroutine"):
                await ref.ask(Go())
            assert ref.snapshot().state is State.CREATED

    sim(scenario)


@pytest.mark.rule("C2")
@on_every_async_path
def test_a_timeout_inside_an_action_does_not_leave_the_machine_in_no_state(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async def time_out(machine: Any) -> None:
            async with asyncio.timeout(0.1):
                await asyncio.sleep(1)

        script = Script(**{"go 0": time_out, "go 1": hang})
        async with path.system(ORDER[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(ORDER[path.style], "m")
            for n in range(2):  # its own timeout, and the runtime's
                with pytest.raises(HookFailed) as caught:
                    await ref.ask(Go(n=n))
                assert isinstance(caught.value.__cause__, TimeoutError)
                assert (ref.snapshot().state, ref.snapshot().data) == (State.CREATED, {"done": ()})
                assert system.ids(state=State.CREATED) == ["m"]
            assert await ref.ask(Go(n=2)) == "m went 2"

    sim(scenario)


@pytest.mark.rule("C12")
@on_every_async_path
def test_the_caller_that_comes_first_does_not_wait_for_the_events_of_all_others(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script(**{f"go {n}": lambda machine: asyncio.sleep(0.1) for n in range(10)})
        async with path.system(ORDER[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(ORDER[path.style], "m")
            loop = asyncio.get_running_loop()
            started_at = loop.time()
            first = asyncio.create_task(ref.ask(Go(n=0)))
            await asyncio.sleep(0.05)
            others = [asyncio.create_task(ref.ask(Go(n=n))) for n in range(1, 10)]
            await first
            assert loop.time() - started_at == pytest.approx(0.1)
            assert not any(other.done() for other in others)
            await asyncio.gather(*others)

    sim(scenario)


class Only(StrEnum):
    ON = auto()


class Chatter(Machine[Only], initial=Only.ON, final=(Only.ON,)):
    """Raises event after event of its own."""

    done: int = 0

    @transition(Only.ON, to=STAY)
    def go(self, event: Go) -> str:
        self.done += 1
        if event.n:
            self.next_event(Go(n=event.n - 1))
        return "went"

    @transition(Only.ON, to=STAY)
    def ship(self, event: Ship) -> None:
        self.tell(self.id, Ship())


@pytest.mark.rule("C12")
def test_a_caller_handled_inline_does_not_wait_for_the_events_that_its_own_one_causes(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        path = Path(Style.PLAIN, inline=True)
        async with path.system(Chatter) as system:
            ref: Ref[Any] = await system.spawn(Chatter, "m")
            assert await ref.ask(Go(n=50)) == "went"
            assert ref.snapshot().data["done"] == 1  # the fifty that follow are not the asker's business
            await at_rest(system)
            assert ref.snapshot().data["done"] == 51
            await ref.ask(Ship())  # sends itself the next one, for ever
            await asyncio.sleep(0)
            await system.stop("m")

    sim(scenario)


@pytest.mark.rule("C12")
@on_every_path
def test_a_delay_before_a_retry_or_a_restart_blocks_neither_sender_nor_other_machines(
    path: Path, sim: Callable[..., None]
) -> None:
    retried = order_of(path.style, redelivery=Redelivery(attempts=1, first_delay_s=60, max_delay_s=60))
    restarted = order_of(
        path.style,
        on_failure={ValueError: Directive.RESTART},
        restart=RestartPolicy(first_delay_s=60, max_delay_s=60, jitter=0),
    )

    async def scenario(cls: Any) -> None:
        script = Script(**{"go 0": raising(ValueError("once"))})
        async with path.system(cls, services=script) as system:
            ref: Ref[Any] = await system.spawn(cls, "delayed")
            other: Ref[Any] = await system.spawn(cls, "other")
            loop = asyncio.get_running_loop()
            ref.tell(Go(n=0))
            await at_rest(system)
            waiting = ref.tell(Go(n=1))
            assert await other.ask(Go(n=2)) == "other went 2"
            assert loop.time() == 0
            script.does.clear()
            assert (await waiting).kind == "committed"
            assert loop.time() == pytest.approx(60)

    for cls in (retried, restarted):
        sim(lambda cls=cls: scenario(cls), seeds=range(2))


@pytest.mark.rule("C10")
@on_every_path
def test_an_unknown_event_is_not_silently_ignored(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with path.system(ORDER[path.style], services=Script()) as system:
            ref: Ref[Any] = await system.spawn(ORDER[path.style], "m")
            for strange in (Stranger(), "go", None, Go):
                with pytest.raises(InvalidEvent, match="does not take"):
                    await ref.ask(strange)  # type: ignore[call-overload, arg-type]
                with pytest.raises(InvalidEvent, match="does not take"):
                    ref.tell(strange)  # type: ignore[arg-type]
            assert system.stats().accepted == 1

    sim(scenario, seeds=[0])


@pytest.mark.rule("C33")
def test_a_hook_with_a_typing_error_is_not_accepted() -> None:
    class Other(StrEnum):
        PAYING = auto()

    with pytest.raises(DefinitionError, match="payng"):

        class Misspelt(Machine[State], initial=State.CREATED):
            @on_enter("payng")  # type: ignore[arg-type]
            async def enter(self, old: State, new: State) -> None: ...

    with pytest.raises(DefinitionError, match="enter"):

        class OfAnother(Machine[State], initial=State.CREATED):
            @on_enter(Other.PAYING)
            async def enter(self, old: Any, new: Any) -> None: ...

    with pytest.raises(DefinitionError, match=r"\(self, old, new\)"):

        class TooFew(Machine[State], initial=State.CREATED):
            @on_enter(State.PAYING)
            async def enter(self, new: State) -> None: ...

    with pytest.raises(ValidationError):
        Go(m=1)  # type: ignore[call-arg]


@pytest.mark.rule("C2")
@on_every_path
def test_a_field_with_a_typing_error_is_not_accepted(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        def misspell(machine: Any) -> None:
            machine.dnoe = (1,)

        async with path.system(ORDER[path.style], services=Script(**{"go 0": misspell})) as system:
            ref: Ref[Any] = await system.spawn(ORDER[path.style], "m")
            with pytest.raises(HookFailed, match="dnoe"):
                await ref.ask(Go())

    sim(scenario)


REQUEST: ContextVar[str] = ContextVar("request", default="none")


@pytest.mark.rule("C30")
@on_every_path
def test_an_actor_does_not_log_the_first_requests_id_for_ever(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        logged: list[Any] = []
        script = Script(
            **{f"go {n}": lambda machine: logged.append(("hook", REQUEST.get())) for n in range(3)}
        )

        def sink(record: Any) -> None:
            logged.append((record.name, REQUEST.get(), record.correlation_id))

        async with path.system(ORDER[path.style], services=script, trace=sink) as system:

            async def request(n: int) -> None:
                REQUEST.set(f"request {n}")
                headers = {"correlation_id": f"r-{n}"}
                ref = (
                    await system.spawn(ORDER[path.style], "m", headers=headers)
                    if n == 0
                    else system.ref(ORDER[path.style], "m")
                )
                await ref.ask(Go(n=n), headers=headers)

            for n in range(3):
                await asyncio.create_task(request(n))
        assert logged == [
            ("committed", "none", "r-0"),
            *(line for n in range(3) for line in (("hook", "none"), ("committed", "none", f"r-{n}"))),
        ]

    sim(scenario)


@pytest.mark.rule("C19")
@pytest.mark.parametrize("end", ["return", "raise", "exit"])
def test_a_process_does_not_hang_at_its_end_though_the_system_was_never_stopped(end: str) -> None:
    how = {"return": "return", "raise": "raise RuntimeError('the end')", "exit": "sys.exit(3)"}[end]
    program = f"""
import asyncio, sys
from enum import StrEnum, auto
from actorfsm import ActorSystem, Machine, on_enter

class State(StrEnum):
    A = auto()
    B = auto()

class Sleeper(Machine[State], initial=State.A):
    @on_enter(State.B)
    async def enter(self, old: State, new: State) -> None:
        await asyncio.sleep(1_000)

async def main() -> None:
    system = await ActorSystem(Sleeper, trace=None).__aenter__()
    sleeper = await system.spawn(Sleeper, "s")
    sleeper.request_transition(State.B)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    {how}

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=FilePath(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == {"return": 0, "raise": 1, "exit": 3}[end], done.stderr


def test_a_journal_is_not_silently_left_out() -> None:
    with pytest.raises(Unsupported, match="journal"):
        ActorSystem(ORDER[Style.ASYNC], journal="redis://orders")


@pytest.mark.rule("C3")
@on_every_path
def test_a_refused_event_does_not_look_like_a_failed_one(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script(**{"go 0": raising(Veto("closed today")), "go 1": raising(ValueError("broken"))})
        async with path.system(ORDER[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(ORDER[path.style], "m")
            with pytest.raises(Vetoed, match="closed today"):
                await ref.ask(Go(n=0))
            with pytest.raises(HookFailed, match="broken"):
                await ref.ask(Go(n=1))

    sim(scenario)
