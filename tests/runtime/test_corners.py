"""Corners of the runtime that no everyday scenario turns."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

import pytest

from actorfsm import Event, HookFailed, Machine, SystemFailed, Unhandled, transition
from actorfsm.runtime import dispatcher as dispatcher_module
from actorfsm.runtime.dispatcher import Dispatcher
from actorfsm.runtime.reply import safe_text
from actorfsm.testing.loop import SimLoop
from tests.contract.lamp import Birth, Count, State, lamp_of
from tests.contract.paths import Path, Script, Style, on_every_path, until

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
