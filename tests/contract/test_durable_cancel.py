"""C2, C19: a cancellation that comes while the journal is at work waits for it, and is not forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

import pytest

from actorfsm import Event, Machine, after_transition, transition
from actorfsm.journal.memory import MemoryJournal
from actorfsm.testing import SimulatedSystem


class S(Enum):
    OPEN = auto()
    PAID = auto()
    CLOSED = auto()


class Pay(Event[int]):
    pass


class PayAndTell(Event[int]):
    pass


class CancelMyself(Event[int]):
    pass


class Order(Machine[S, Any], initial=S.OPEN, final=(S.CLOSED,)):
    @transition(S.OPEN, to=S.PAID)
    async def pay(self, event: Pay) -> int:
        return 1

    @transition(S.PAID, to=S.CLOSED)
    async def pay_and_tell(self, event: PayAndTell) -> int:
        return 2

    @transition(S.OPEN, to=S.PAID)
    async def cancel_myself(self, event: CancelMyself) -> int:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return 3

    @after_transition(S.CLOSED)
    async def wait(self, old: S, new: S) -> None:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            self.services.append("cancelled")
            raise


class Slow(MemoryJournal):
    """Needs a second for each answer."""

    def append(self, batch: Any) -> asyncio.Future[None]:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        super().append(batch).add_done_callback(
            lambda _: asyncio.get_running_loop().call_later(1, _answer, answer)
        )
        return answer

    async def lookup(self, machine_id: str, event_id: str) -> Any:
        await asyncio.sleep(1)
        return await super().lookup(machine_id, event_id)


def _answer(answer: asyncio.Future[None]) -> None:
    if not answer.done():
        answer.set_result(None)


def _only_worker(system: Any) -> asyncio.Task[Any]:
    [task] = system._parts.dispatcher.workers
    worker: asyncio.Task[Any] = task
    return worker


async def _ended(task: asyncio.Task[Any]) -> None:
    await asyncio.wait([task])


@pytest.mark.rule("C2")
@pytest.mark.rule("C19")
def test_a_cancellation_during_a_commit_waits_for_its_settlement_and_ends_the_task_then(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        async with SimulatedSystem(Order, journal=Slow()) as system:
            order = await system.spawn(Order, "o")
            asking = asyncio.ensure_future(order.ask(Pay()))
            await system.clock.advance(0.5)
            worker = _only_worker(system)
            worker.cancel("from outside")
            await system.clock.advance(0.1)
            worker.cancel("once more")
            assert not asking.done()
            assert await asking == 1
            await _ended(worker)
            assert worker.cancelled()
            assert order.snapshot().state is S.PAID
            assert await _pay_and_wait(system) == 2

    sim(scenario, seeds=range(2))


async def _pay_and_wait(system: Any) -> int:
    reply: int = await system.ask("o", PayAndTell())
    await system.clock.advance(2)
    return reply


@pytest.mark.rule("C2")
@pytest.mark.rule("C19")
def test_after_hooks_meet_the_cancellation_that_came_during_the_commit(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        told: list[str] = []
        async with SimulatedSystem(Order, journal=Slow(), services=told) as system:
            order = await system.spawn(Order, "o")
            await order.ask(Pay())
            asking = asyncio.ensure_future(order.ask(PayAndTell()))
            await system.clock.advance(0.5)
            _only_worker(system).cancel()
            assert await asking == 2
            await system.clock.advance(2)
            assert told == ["cancelled"]
            assert system.stats().after_hooks_failed == 1
            assert system.stats().in_flight == 0

    sim(scenario, seeds=range(2))


@pytest.mark.rule("C2")
@pytest.mark.rule("C19")
def test_a_cancellation_while_an_event_id_is_looked_up_is_met_by_what_is_awaited_next(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        journal = Slow()
        async with SimulatedSystem(Order, journal=journal) as system:
            await system.spawn(Order, "o")
        told: list[str] = []
        async with SimulatedSystem(Order, journal=Slow(journal.store), check=False, services=told) as system:
            await system.ask("o", Pay())
            asking = asyncio.ensure_future(system.ask("o", PayAndTell(), event_id="x"))
            await system.clock.advance(0.5)
            worker = _only_worker(system)
            worker.cancel()
            assert await asking == 2
            await _ended(worker)
            assert told == ["cancelled"]
            assert system.stats().in_flight == 0

    sim(scenario, seeds=range(2))


@pytest.mark.rule("C13")
def test_a_body_that_cancels_its_own_task_does_not_harm_the_commit_or_another_machine(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        async with SimulatedSystem(Order, journal=Slow()) as system:
            await system.spawn(Order, "a")
            await system.spawn(Order, "b")
            receipts = [system.tell("a", CancelMyself()), system.tell("b", Pay())]
            assert [(await receipt).reply for receipt in receipts] == [3, 1]

    sim(scenario, seeds=range(2))
