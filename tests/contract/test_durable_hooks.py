"""C24: `@after_transition(..., durable=True)` runs at least once, with a key that stays the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

import pytest

from actorfsm import STAY, Event, Machine, after_transition, transition
from actorfsm.journal.memory import MemoryJournal, MemoryStore
from actorfsm.testing import SimulatedSystem
from tests.contract.durable import Lives, lives_on_every_journal

__all__ = ["lives_on_every_journal"]
SEEDS = range(2)


class S(Enum):
    OPEN = auto()
    PAID = auto()
    CLOSED = auto()


class Pay(Event[None]):
    amount: int


class More(Event[None]):
    pass


class Close(Event[None]):
    pass


class Order(Machine[S, Any], initial=S.OPEN, final=(S.CLOSED,)):
    paid: int = 0

    @transition(S.OPEN, to=S.PAID)
    async def pay(self, event: Pay) -> None:
        self.paid = event.amount

    @transition(S.PAID, to=STAY)
    async def more(self, event: More) -> None:
        self.paid += 1

    @transition(S.PAID, to=S.CLOSED)
    async def close(self, event: Close) -> None:
        self.stop()

    @after_transition(S.PAID, durable=True)
    async def announce(self, old: S, new: S, event: Pay) -> None:
        await self.services(self.idempotency_key, old, new, event.amount, self.paid)


class Announcer:
    """Notes what is announced, and does with it what it is told to."""

    def __init__(self, *doings: Any) -> None:
        self.said: list[tuple[Any, ...]] = []
        self._doings = list(doings)

    async def __call__(self, *said: Any) -> None:
        self.said.append(said)
        doing = self._doings.pop(0) if self._doings else None
        if isinstance(doing, BaseException):
            raise doing
        if doing is not None:
            await asyncio.sleep(doing)


@pytest.mark.rule("C24")
def test_it_runs_beside_the_machine_and_is_settled_then(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        store, announcer = MemoryStore(), Announcer(5)
        async with SimulatedSystem(Order, journal=MemoryJournal(store), services=announcer) as system:
            order = await system.spawn(Order, "o")
            await order.ask(Pay(amount=3))
            await order.ask(More())
            assert len(store.pending) == 1
            await system.clock.advance(6)
            assert not store.pending
            [(_, old, new, amount, paid)] = announcer.said
            assert (old, new, amount, paid) == (S.OPEN, S.PAID, 3, 3)
        async with SimulatedSystem(Order, journal=MemoryJournal(store), services=announcer) as system:
            await system.clock.advance(10)
        assert len(announcer.said) == 1

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C24")
def test_it_runs_again_in_the_next_life_with_the_same_key_if_it_did_not_end(
    sim: Callable[..., None], lives_of: Callable[[], Lives]
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        announcer = Announcer(1000, 1000)
        for life in range(3):
            async with lives.begin(Order, services=announcer) as system:
                if life == 0:
                    order = await system.spawn(Order, "o")
                    await order.ask(Pay(amount=3), event_id="pay-1")
                    await order.ask(More())
                await system.clock.advance(1)
                await system.ask("o", More())  # it does not hold up the machine, nor its loading
                await system.shutdown(queues="abandon")
        assert [said[1:4] for said in announcer.said] == [(S.OPEN, S.PAID, 3)] * 3
        assert len({said[0] for said in announcer.said}) == 1
        async with lives.begin(Order, services=announcer) as system:
            await system.clock.advance(1)
        assert len(announcer.said) == 3

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C24")
def test_one_that_fails_is_tried_again_with_growing_pauses_and_is_a_dead_letter_at_last(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        store, announcer = MemoryStore(), Announcer(*[ValueError("no line")] * 6)
        async with SimulatedSystem(Order, journal=MemoryJournal(store), services=announcer) as system:
            order = await system.spawn(Order, "o")
            await order.ask(Pay(amount=3))
            for after, times in ((0.5, 1), (1, 2), (2, 3), (4, 4), (8, 5)):
                await system.clock.advance(after)
                assert len(announcer.said) == times
                assert len(store.pending) == 1
            await system.clock.advance(60)
            assert len(announcer.said) == 6
            assert not store.pending
            assert len({said[0] for said in announcer.said}) == 1
            [letter] = system.dead_letters
            assert letter.reason == "announce failed 6 times, last with ValueError: no line"
            assert system.stats().after_hooks_failed == 6
            [stored] = await MemoryJournal(store).dead_letters()
            assert stored.message.event.type == "Pay"

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C24")
def test_it_runs_for_a_machine_that_has_stopped_meanwhile(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        store, announcer = MemoryStore(), Announcer(1000)
        async with SimulatedSystem(
            Order, journal=MemoryJournal(store), services=announcer, check=False
        ) as system:
            order = await system.spawn(Order, "o")
            await order.ask(Pay(amount=3))
            await order.ask(Close())
            await system.shutdown(queues="abandon")
        async with SimulatedSystem(
            Order, journal=MemoryJournal(store), services=announcer, check=False
        ) as system:
            await system.clock.advance(1)
        assert [said[1:4] for said in announcer.said] == [(S.OPEN, S.PAID, 3)] * 2
        assert not store.pending

    sim(scenario, seeds=SEEDS)


def _without_the_hook() -> Any:
    """Return the class as another version has it, under the same name."""

    class Order(Machine[S, Any], initial=S.OPEN, final=(S.CLOSED,)):
        paid: int = 0

        @transition(S.OPEN, to=S.PAID)
        async def pay(self, event: Pay) -> None: ...

        @transition(S.PAID, to=STAY)
        async def more(self, event: More) -> None: ...

        @transition(S.PAID, to=S.CLOSED)
        async def close(self, event: Close) -> None: ...

    return Order


@pytest.mark.rule("C28")
def test_one_that_the_class_has_no_more_is_a_dead_letter_and_the_machine_goes_on(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        async with SimulatedSystem(
            Order, journal=MemoryJournal(store), services=Announcer(1000), check=False
        ) as system:
            await (await system.spawn(Order, "o")).ask(Pay(amount=3))
            await system.shutdown(queues="abandon")
        async with SimulatedSystem(_without_the_hook(), journal=MemoryJournal(store), check=False) as system:
            await system.ask("o", More())
            assert system.trace.of("o")[0].name == "after_hook_failed"
        assert not store.pending
        [letter] = await MemoryJournal(store).dead_letters()
        assert letter.reason == (
            "announce cannot be run: Order has no durable hook announce for this transition"
        )

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C24")
def test_without_a_journal_it_is_tried_again_too(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        announcer = Announcer(*[ValueError("no line")] * 6)
        async with SimulatedSystem(Order, services=announcer) as system:
            await (await system.spawn(Order, "o")).ask(Pay(amount=3))
            await system.clock.advance(100)
            assert len(announcer.said) == 6
            [letter] = system.dead_letters
            assert letter.event == Pay(amount=3)

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C24")
def test_a_commit_that_is_not_stored_announces_nothing(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        store, announcer = MemoryStore(), Announcer()
        async with SimulatedSystem(Order, journal=MemoryJournal(store), services=announcer) as system:
            order = await system.spawn(Order, "o")
            store.fate = lambda: "full"
            with pytest.raises(Exception, match="no room"):
                await order.ask(Pay(amount=3))
            store.fate = lambda: "stored"
            await system.clock.advance(1)
        assert announcer.said == []

    sim(scenario, seeds=SEEDS)
