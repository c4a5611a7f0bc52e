"""Corners of the runtime that no everyday scenario turns."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

import pytest

from actorfsm import (
    AskTimeout,
    Directive,
    Event,
    Expired,
    HookFailed,
    Limits,
    Machine,
    MailboxPolicy,
    NoSuchMachine,
    Overflow,
    RestartPolicy,
    SystemFailed,
    Unhandled,
    after_transition,
    transition,
)
from actorfsm.runtime import dispatcher as dispatcher_module
from actorfsm.runtime.dispatcher import Dispatcher
from actorfsm.runtime.reply import safe_text
from actorfsm.testing.loop import SimLoop
from tests.contract.lamp import Birth, Count, State, Stubborn, Switch, Trace, lamp_of, raising
from tests.contract.paths import Path, Script, Style, on_every_async_path, on_every_path, until

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.rule("C13")
def test_an_interrupt_in_a_callback_or_in_a_text_is_no_failure_of_it() -> None:
    class Interrupting(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        safe_text(Interrupting())

    def interrupting(outcome: Any) -> None:
        raise KeyboardInterrupt

    async def scenario() -> None:
        path = Path(Style.ASYNC, inline=True)
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script()) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            lamp.tell(Count(), callback=interrupting)
            await asyncio.sleep(30)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(scenario())


@pytest.mark.rule("C12")
def test_more_mailboxes_than_are_kept_can_be_empty(
    monkeypatch: pytest.MonkeyPatch, sim: Callable[..., None]
) -> None:
    monkeypatch.setattr(dispatcher_module, "_SPARE_MAILBOXES", 1)

    async def scenario() -> None:
        path = Path(Style.ASYNC, inline=False)
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script()) as system:
            lamps = [await system.spawn(lamp_class, f"lamp-{number}") for number in range(4)]
            assert await asyncio.gather(*(lamp.ask(Count()) for lamp in lamps)) == [1] * 4
            assert len(system._parts.dispatcher._empty_mailboxes) == 1

    sim(scenario)


@pytest.mark.rule("C8")
def test_an_ask_that_is_driven_outside_of_a_task_is_answered_too(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        path = Path(Style.PLAIN, inline=True)
        lamp_class = lamp_of(path.style)
        answers: list[Any] = []

        def drive(coroutine: Any) -> None:
            try:
                coroutine.send(None)
            except StopIteration as stop:
                answers.append(stop.value)

        async with path.system(lamp_class, services=Script()) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            asyncio.get_running_loop().call_soon(drive, lamp.ask(Count()))
            await until(lambda: answers)
        assert answers == [1]

    sim(scenario)


@pytest.mark.rule("C12")
@on_every_path
def test_a_hook_that_sets_two_context_variables_is_not_felt_by_the_next_machine(
    path: Path, sim: Callable[..., None]
) -> None:
    one, two = contextvars.ContextVar[int]("one"), contextvars.ContextVar[int]("two")

    def sets(_machine: Any) -> None:
        seen.append((one.get(0), two.get(0)))
        one.set(1)
        two.set(2)

    seen: list[Any] = []

    async def scenario() -> None:
        seen.clear()
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script(count=sets)) as system:
            lamps = [await system.spawn(lamp_class, f"lamp-{number}") for number in range(3)]
            await asyncio.gather(*(lamp.ask(Count()) for lamp in lamps))
        assert seen == [(0, 0)] * 3

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_path
def test_a_birth_whose_guard_says_no_leaves_the_id_unknown(path: Path, sim: Callable[..., None]) -> None:
    def never(machine: Any, event: Any) -> bool:
        return False

    def nor_now(machine: Any, event: Any) -> bool:
        return False

    class Born(Machine[State, Script], final=(State.ON, State.OFF)):
        @transition(to=State.ON, when=never)
        @path.style
        def born_on(self, event: Birth) -> None: ...

        @transition(to=State.OFF, when=nor_now)
        @path.style
        def born_off(self, event: Birth) -> None: ...

    async def scenario() -> None:
        async with path.system(Born, services=Script()) as system:
            with pytest.raises(Unhandled) as caught:
                await system.ask("nobody", Birth())
            assert caught.value.guards == ("never", "nor_now")
            assert system.ids() == []
            assert system.stats().balance == 0

    sim(scenario)


@pytest.mark.rule("C13")
def test_a_hook_that_takes_back_its_cancellation_has_failed_nevertheless(sim: Callable[..., None]) -> None:
    async def stubborn(_machine: Any) -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()

    async def scenario() -> None:
        path = Path(Style.SUSPENDING, inline=True)
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script(count=stubborn)) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            with pytest.raises(HookFailed, match="took longer than 1 s"):
                await lamp.ask(Count())
            assert lamp.snapshot().data["count"] == 0

    sim(scenario)


@pytest.mark.rule("C11")
def test_two_may_wait_for_the_same_receipt_to_be_accepted(sim: Callable[..., None]) -> None:
    class Ping(Event):
        pass

    class Sender(Machine[State], initial=State.OFF):
        @transition(State.OFF, to=State.ON)
        async def send(self, event: Ping) -> None:
            receipts.append(self.tell("receiver", Ping()))
            await asyncio.sleep(1)

        @transition(State.ON, to=State.OFF)
        async def again(self, event: Ping) -> None: ...

    receipts: list[Any] = []

    async def scenario() -> None:
        receipts.clear()
        async with Path(Style.ASYNC, inline=True).system(Sender) as system:
            sender, _ = await system.spawn(Sender, "sender"), await system.spawn(Sender, "receiver")
            sender.tell(Ping())
            await until(lambda: receipts)
            first, second = await asyncio.gather(receipts[0].accepted(), receipts[0].accepted())
            assert first is second is receipts[0]

    sim(scenario)


@pytest.mark.rule("C17")
def test_a_system_that_was_started_by_a_task_that_is_gone_fails_without_cancelling_anybody(
    monkeypatch: pytest.MonkeyPatch, sim: Callable[..., None]
) -> None:
    def faulty(self: Dispatcher) -> None:
        self._pump_is_due = False
        raise ZeroDivisionError

    async def scenario() -> None:
        path = Path(Style.ASYNC, inline=True)
        lamp_class = lamp_of(path.style)
        system = path.system(lamp_class, services=Script())
        await asyncio.get_running_loop().create_task(system.__aenter__())
        system._parts.dispatcher._guarded_pump = system._parts.guarded(
            lambda: faulty(system._parts.dispatcher)
        )
        receipt = system.tell("lamp", Birth())
        with pytest.raises(SystemFailed):
            await system.ask("lamp", Count())
        outcome = await receipt.outcome()
        assert outcome.kind == "dead_lettered"
        with pytest.raises(SystemFailed):
            await system.__aexit__(None, None, None)

    sim(scenario)


@pytest.mark.rule("C13")
def test_a_turn_that_is_left_when_its_loop_is_gone_ends_without_touching_anything() -> None:
    async def for_ever(_machine: Any) -> None:
        await asyncio.sleep(1e9)

    async def scenario() -> Any:
        path = Path(Style.SUSPENDING, inline=True)
        lamp_class = lamp_of(path.style)
        system = await path.system(lamp_class, services=Script(count=for_ever)).__aenter__()
        lamp = await system.spawn(lamp_class, "lamp")
        lamp.tell(Count())
        await asyncio.sleep(0.5)
        return system

    loop = SimLoop(0)
    system = loop.run_until_complete(scenario())
    (task,) = system._parts.dispatcher.workers
    outcomes = dict(system._parts.counters.outcomes)
    task.get_coro().close()
    assert system._parts.counters.outcomes == outcomes
    loop.abandon()


# -- what mutants of the runtime have shown to be untested -----------------------------------------------------------


@pytest.mark.rule("C13")
@on_every_async_path
def test_after_a_hook_that_was_left_behind_no_other_hook_of_that_turn_runs_and_no_turn_is_disturbed(
    path: Path, sim: Callable[..., None]
) -> None:
    class Two(lamp_of(path.style)):  # type: ignore[misc]
        @after_transition(State.ON)
        async def second(self, old: State, new: State, event: Event) -> None:
            called.append("second")

    called: list[str] = []

    async def scenario() -> None:
        called.clear()
        stubborn = Stubborn()
        script = Script(after=stubborn)
        async with path.system(Two, services=script, limits=Limits(grace_s=0.5)) as system:
            lamp = await system.spawn(Two, "lamp")
            await lamp.ask(Switch())
            await asyncio.sleep(5)
            running = 0

            async def alone(machine: Any) -> None:
                nonlocal running
                running += 1
                assert running == 1
                await asyncio.sleep(0.5)
                running -= 1

            script.does = {"count": alone}
            counts = [lamp.tell(Count(n=n)) for n in range(3)]
            await asyncio.sleep(0.25)
            await stubborn.let_go()  # while the first of them is handled
            assert [(await count).kind for count in counts] == ["committed"] * 3
            assert called == []

    sim(scenario)


@pytest.mark.rule("C12")
def test_as_many_asks_are_handled_at_once_as_the_budget_of_a_step_allows(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        path = Path(Style.PLAIN, inline=True)
        lamp_class = lamp_of(path.style)
        for budget in (2, 3):
            async with path.system(
                lamp_class, services=Script(), limits=Limits(turns_per_step=budget)
            ) as system:
                lamp = await system.spawn(lamp_class, "lamp")
                await asyncio.sleep(1)
                assert system.stats().turns_plain == 1
                for _ in range(budget + 1):
                    await lamp.ask(Count())
                assert (system.stats().turns_plain, system.stats().turns_queued) == (1 + budget, 1)

    sim(scenario)


@pytest.mark.rule("C12")
def test_asks_are_handled_at_once_as_deep_as_the_limit_allows(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        path = Path(Style.PLAIN, inline=True)
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script(), limits=Limits(inline_depth=1)) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            assert await lamp.ask(Count()) == 1
            path.assert_taken(system, 2)

    sim(scenario)


@pytest.mark.rule("C6")
@on_every_async_path
def test_an_event_that_found_room_and_then_expires_has_expired(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async def nap(machine: Any) -> None:
            await asyncio.sleep(10)

        lamp_class = lamp_of(
            path.style,
            hook_timeout=100,
            mailbox=MailboxPolicy(capacity=1, overflow=Overflow.WAIT),
        )
        async with path.system(lamp_class, services=Script(count=nap)) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            told = [lamp.tell(Count(n=0))]
            await asyncio.sleep(1)
            told.append(lamp.tell(Count(n=1)))
            told.append(lamp.tell(Count(n=2), timeout=15))  # finds room after 10 s
            assert [(await receipt).kind for receipt in told] == ["committed", "committed", "expired"]
            assert (system.stats().outcomes["expired"], system.stats().refused) == (1, 0)
            assert [letter.event for letter in system.dead_letters] == []
            assert system.stats().balance == 0

    sim(scenario)


@pytest.mark.rule("C16")
def test_restarts_that_are_older_than_the_period_are_forgotten_one_by_one(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        path = Path(Style.ASYNC, inline=True)
        lamp_class = lamp_of(
            path.style,
            on_failure={ValueError: Directive.RESTART},
            restart=RestartPolicy(max_restarts=2, within_s=5, jitter=0),
        )
        async with path.system(lamp_class, services=Script(count=raising(ValueError))) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            for _ in range(6):  # two within any 5 s
                lamp.tell(Count())
                await asyncio.sleep(4)
            assert (system.quarantined(), lamp.snapshot().incarnation) == ([], 6)

    sim(scenario)


@pytest.mark.rule("C16")
@pytest.mark.parametrize("discard", [True, False])
def test_the_record_of_a_release_says_whether_the_events_are_gone(
    discard: bool, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        path = Path(Style.ASYNC, inline=True)
        trace = Trace()
        lamp_class = lamp_of(
            path.style,
            on_failure={ValueError: Directive.RESTART},
            restart=RestartPolicy(max_restarts=0),
        )
        script = Script(count=raising(ValueError))
        async with path.system(lamp_class, services=script, trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            with pytest.raises(HookFailed):
                await lamp.ask(Count())
            system.release("lamp", discard=discard)
        (released,) = [record for record in trace if record.name == "released"]
        assert released.reason == ("without the events that were held" if discard else "")

    sim(scenario)


@pytest.mark.rule("C13")
@pytest.mark.parametrize("place", ["before", "body"])
def test_an_event_that_was_interrupted_is_a_dead_letter(place: str) -> None:
    systems: list[Any] = []
    trace = Trace()

    async def scenario() -> None:
        path = Path(Style.ASYNC, inline=True)
        lamp_class = lamp_of(path.style)
        script = Script(**{place: raising(KeyboardInterrupt)})
        async with path.system(lamp_class, services=script, trace=trace) as system:
            systems.append(system)
            lamp = await system.spawn(lamp_class, "lamp")
            lamp.tell(Switch(n=3))
            await asyncio.sleep(30)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(scenario())
    assert [(letter.event, letter.reason) for letter in systems[0].dead_letters] == [
        (Switch(n=3), "interrupted")
    ]
    assert [record.reason for record in trace if record.event_type == "Switch"] == ["interrupted"]


@pytest.mark.rule("C6")
@on_every_async_path
def test_a_machine_whose_askers_deadline_is_over_asks_in_vain_and_at_once(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        seen: list[Any] = []

        async def nap(machine: Any) -> None:
            await asyncio.sleep(10)

        async def ask_late(machine: Any) -> None:
            await asyncio.sleep(2)
            began = asyncio.get_running_loop().time()
            with pytest.raises(Expired):
                await machine.ask("busy", Count(n=9))
            seen.append(asyncio.get_running_loop().time() - began)

        script = Script(body=ask_late, count=nap)
        lamp_class = lamp_of(path.style, hook_timeout=100)
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            busy = await system.spawn(lamp_class, "busy")
            napping = busy.tell(Count())
            with pytest.raises(AskTimeout):
                await lamp.ask(Switch(), timeout=1)
            await napping
            assert [round(waited_s) for waited_s in seen] == [0]

    sim(scenario)


@pytest.mark.rule("C8")
def test_a_birth_that_expires_before_its_turn_leaves_the_id_unknown(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        def block(machine: Any) -> None:
            asyncio.get_running_loop()._now += 1  # type: ignore[attr-defined]

        path = Path(Style.ASYNC, inline=False)
        lamp_class = lamp_of(path.style, initial=None)
        async with path.system(
            lamp_class, services=Script(birth=block), limits=Limits(turns_per_step=1)
        ) as system:
            for number in range(20):
                system.tell(f"other-{number}", Birth())
            late = system.tell("lamp", Birth(), timeout=0)
            assert (await late).kind == "expired"
            await asyncio.sleep(1)
            with pytest.raises(NoSuchMachine):
                await system.ask("lamp", Count())
            assert "lamp" not in system._parts.registry.actors
            assert system.stats().balance == 0

    sim(scenario)


@pytest.mark.rule("C8")
@on_every_async_path
def test_a_duplicate_that_waits_no_longer_has_a_record_that_says_so(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async def nap(machine: Any) -> None:
            await asyncio.sleep(10)

        trace = Trace()
        lamp_class = lamp_of(path.style, hook_timeout=100)
        async with path.system(lamp_class, services=Script(count=nap), trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            first = lamp.tell(Count(), event_id="mine")
            await asyncio.sleep(1)
            with pytest.raises(AskTimeout):
                await lamp.ask(Count(), event_id="mine", timeout=2)
            await first
        mine = [(record.name, record.duplicate) for record in trace if record.event_id == "mine"]
        assert mine == [("expired", True), ("committed", False)]

    sim(scenario)


@pytest.mark.rule("C12")
@on_every_async_path
def test_what_was_answered_in_time_does_not_wait_for_its_deadline(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async def nap(machine: Any) -> None:
            await asyncio.sleep(0.1)

        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script(count=nap)) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await asyncio.gather(*(lamp.ask(Count(n=n), timeout=1e6) for n in range(5)))
            assert not any(system._parts.deadlines._buckets.values())

    sim(scenario)
