"""C4, C23: what earlier lives have promised is read while the system runs, and is before what is new all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actorfsm.journal.memory import MemoryJournal, MemoryStore
from actorfsm.journal.protocol import Placed
from tests.contract.durable import Lives, Note, Order, hold

SEEDS = range(3)
MACHINES, EACH = 60, 5


class Slow(MemoryJournal):
    """Has a page of seven rows, and needs a while for each page of all."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.pages = 0

    async def pending(
        self, after: int = 0, limit: int = 1_000, *, machine_id: str | None = None
    ) -> list[Placed]:
        if machine_id is None:
            self.pages += 1
            if after:
                await asyncio.sleep(0.1)
        return list(await super().pending(after, min(limit, 7), machine_id=machine_id))


async def _begin(lives: Lives) -> None:
    """Leave five events for each machine, of which none was handled."""
    async with lives.begin() as system:
        for number in range(MACHINES):
            await system.spawn(Order, f"o-{number}")
            hold(system, f"o-{number}")
        for text in range(EACH):
            for number in range(MACHINES):
                await system.tell(f"o-{number}", Note(text=str(text)), durable=True).accepted()
        await system.shutdown(queues="abandon")


def _lives() -> Lives:
    store = MemoryStore()
    return Lives(lambda: Slow(store), store)


@pytest.mark.rule("C4", "C23")
def test_who_is_asked_before_all_was_read_has_what_was_promised_first_and_nothing_twice(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        lives = _lives()
        await _begin(lives)
        async with lives.begin() as system:
            journal: Any = system._parts.journal
            last = f"o-{MACHINES - 1}"
            await system.ask(last, Note(text="new"))
            assert system.snapshot(last).data["notes"] == (*map(str, range(EACH)), "new")
            assert journal.pages < MACHINES * EACH / 7 / 2
            await system.clock.advance(60)
            for number in range(MACHINES):
                name = f"o-{number}"
                new = ("new",) if name == last else ()
                assert system.snapshot(name).data["notes"] == (*map(str, range(EACH)), *new)
            assert await journal.pending() == []
            assert await journal.last_pending() == 0

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C4", "C23")
def test_what_is_promised_in_this_life_is_not_taken_for_what_an_earlier_one_has_promised(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        lives = _lives()
        await _begin(lives)
        async with lives.begin() as system:
            for _ in range(20):
                for number in range(0, MACHINES, 3):
                    await system.tell(f"o-{number}", Note(text="x"), durable=True).accepted()
                await asyncio.sleep(0.05)
            await system.clock.advance(60)
            for number in range(MACHINES):
                new = ("x",) * (20 if number % 3 == 0 else 0)
                assert system.snapshot(f"o-{number}").data["notes"] == (*map(str, range(EACH)), *new)
            assert system.stats().balance == 0

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C19", "C23")
def test_what_was_not_read_when_the_system_stops_is_for_the_next_one(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lives = _lives()
        await _begin(lives)
        async with lives.begin() as system:
            await system.shutdown(queues="abandon")
        async with lives.begin() as system:
            await system.clock.advance(60)
            for number in range(MACHINES):
                assert system.snapshot(f"o-{number}").data["notes"] == tuple(map(str, range(EACH)))

    sim(scenario, seeds=SEEDS)
