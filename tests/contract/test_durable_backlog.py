"""C4, C23: what earlier lives have promised is read while the system runs, and is before what is new all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actorfsm.errors import JournalCorrupt, JournalError
from actorfsm.journal.memory import MemoryJournal, MemoryStore
from actorfsm.journal.protocol import Placed, Stored
from tests.contract.durable import Lives, Note, Order, Send, hold

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


class Paged(MemoryJournal):
    """Has a page of seven rows; what is to go wrong is said of it.

    Attributes:
        page_s: How long each page of all but the first takes.
        fails: How often what one machine has to do cannot be read.
        damaged: A machine that cannot be read.
        damaged_place: Of what is pending, the row that cannot be read; it is for the machine a.
    """

    def __init__(
        self, store: MemoryStore, *, page_s: float = 0, fails: dict[str, int] | None = None, damaged: str = ""
    ) -> None:
        super().__init__(store)
        self.page_s = page_s
        self.fails = fails or {}
        self.damaged = damaged
        self.damaged_place = 0

    async def pending(
        self, after: int = 0, limit: int = 1_000, *, machine_id: str | None = None
    ) -> list[Placed]:
        if machine_id is not None and self.fails.get(machine_id, 0):
            self.fails[machine_id] -= 1
            raise JournalError("it cannot be read now")
        page = list(await super().pending(after, min(limit, 7), machine_id=machine_id))
        if machine_id is None and after and self.page_s:
            await asyncio.sleep(self.page_s)
        places = [row.place for row in page]
        if machine_id in {None, "a"} and self.damaged_place in places:
            page = page[: places.index(self.damaged_place)]
            if not page:
                error = JournalCorrupt("it is not what was written", seq=1, machine_id="a")
                error.place = self.damaged_place
                raise error
        return page

    async def load(self, machine_id: str) -> Stored | None:
        if machine_id == self.damaged:
            raise JournalCorrupt("it is not what was written", seq=1, machine_id=machine_id)
        return await super().load(machine_id)


async def _leave(store: MemoryStore, counts: dict[str, int]) -> None:
    """Leave so many events for each machine, one machine's after the other's; a machine s has sent them."""
    async with Lives(lambda: MemoryJournal(store), store).begin() as system:
        await system.spawn(Order, "s")
        for name, count in counts.items():
            await system.spawn(Order, name)
            hold(system, name)
            for text in range(count):
                await system.ask("s", Send(to=name, text=str(text)))
        await system.shutdown(queues="abandon")


def _texts(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


@pytest.mark.rule("C4", "C23")
def test_a_machine_that_is_loaded_before_the_last_page_has_what_stands_there_too(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await _leave(store, {"a": 7, "b": 12})
        async with Lives(lambda: Paged(store), store).begin() as system:
            await system.clock.advance(60)
            await system.ask("b", Note(text="new"))
            assert system.snapshot("b").data["notes"] == (*_texts(12), "new")
            assert not store.pending

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C4", "C23")
def test_what_could_not_be_looked_up_at_first_is_before_what_is_new_also_when_all_was_read_meanwhile(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await _leave(store, {"a": 12})
        async with Lives(lambda: Paged(store, fails={"a": 1}), store).begin() as system:
            await system.clock.advance(60)
            await system.ask("a", Note(text="new"))
            assert system.snapshot("a").data["notes"] == (*_texts(12), "new")

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C4", "C24")
def test_a_message_of_this_life_waits_behind_what_could_not_be_looked_up_at_first(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await _leave(store, {"a": 12})
        async with Lives(lambda: Paged(store, page_s=3, fails={"a": 1}), store).begin() as system:
            await system.ask("s", Send(to="a", text="new"))
            await system.clock.advance(60)
            assert system.snapshot("a").data["notes"] == (*_texts(12), "new")

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C4", "C27")
def test_a_machine_that_is_released_has_what_was_promised_before_what_is_new(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await _leave(store, {"a": 12})
        async with Lives(lambda: Paged(store, damaged="a"), store).begin() as system:
            await system.clock.advance(5)
            journal: Any = system._parts.journal
            journal.damaged = ""
            system.release("a")
            await system.clock.advance(5)
            assert system.snapshot("a").data["notes"] == _texts(12)
            await system.ask("a", Note(text="new"))
            assert system.snapshot("a").data["notes"] == (*_texts(12), "new")

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C19", "C23")
def test_no_machine_is_loaded_any_more_when_the_system_stops_while_a_page_is_read(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await _leave(store, {"a": 7, "b": 7, "c": 7, "d": 7})
        async with Lives(lambda: Paged(store, page_s=0.5), store).begin() as system:
            await system.clock.advance(0.1)
            there = set(system._parts.registry.actors)
            report = await system.shutdown(queues="abandon")
            assert set(system._parts.registry.actors) <= there
            assert report.seconds < 0.5
            assert "d" not in there
        async with Lives(lambda: Paged(store), store).begin() as system:
            await system.clock.advance(60)
            for name in "abcd":
                await system.load(name)
                assert system.snapshot(name).data["notes"] == _texts(7)

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C27")
def test_a_row_that_a_machine_and_the_reader_of_all_find_damaged_holds_the_machine_once(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await _leave(store, {"a": 12, "b": 9})
        journal = Paged(store, page_s=0.1)
        journal.damaged_place = sorted(row[0] for row in store.pending.values())[8]
        held: list[str] = []

        def told(machine_id: str, error: BaseException) -> None:
            held.append(machine_id)

        async with Lives(lambda: journal, store).begin(on_quarantine=told) as system:
            await system.clock.advance(5)
            assert held == ["a"]
            assert system.stats().quarantined == 1
            assert system.snapshot("b").data["notes"] == _texts(9)

    sim(scenario, seeds=SEEDS)
