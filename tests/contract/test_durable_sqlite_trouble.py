"""C25 with a real file: a full disk refuses what is asked, reads go on, and what was promised waits for room."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actorfsm import JournalFull
from actorfsm.journal.sqlite.journal import SQLiteJournal
from actorfsm.testing import SimulatedSystem
from tests.contract.durable import Note, Order, Remind, S, Send

SEEDS = range(1)


class Disk:
    """Makes the journal's connections, and says how much room there is."""

    def __init__(self) -> None:
        self._connections: list[sqlite3.Connection] = []

    def connect(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = sqlite3.connect(*arguments, **options)
        self._connections.append(connection)
        return connection

    def _set(self, pages: int) -> None:
        for connection in self._connections:
            try:
                connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()
            except sqlite3.ProgrammingError:
                continue  # closed meanwhile

    def fill(self) -> None:
        self._set(1)  # the least that SQLite takes is what is used already

    def make_room(self) -> None:
        self._set(1_000_000)


async def _until_it_is_full(order: Any) -> None:
    for _ in range(1_000):
        await order.ask(Note(text="x" * 5_000))


@pytest.mark.rule("C25")
def test_a_full_disk_refuses_and_reads_go_on_and_what_was_promised_is_done_when_there_is_room(
    sim: Callable[..., None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        path, disk = tmp_path / "orders.db", Disk()
        async with SimulatedSystem(Order, journal=SQLiteJournal(path), check=False) as system:
            await system.spawn(Order, "read")
        async with SimulatedSystem(
            Order, journal=SQLiteJournal(path, connect=disk.connect), check=False
        ) as system:
            order, other = await system.spawn(Order, "o"), await system.spawn(Order, "b")
            system.suspend("b")
            await order.ask(Send(to="b", text="y" * 5_000))
            await order.ask(Remind(after=3, name="reminder"))
            disk.fill()
            with pytest.raises(JournalFull):
                await _until_it_is_full(order)
            before = order.snapshot()
            large = Note(text="x" * 50_000)
            with pytest.raises(JournalFull):
                await order.ask(large, event_id="note")
            with pytest.raises(JournalFull):
                await order.tell(large, durable=True).accepted()
            assert order.snapshot() == before
            assert (await system.get_or_spawn(Order, "read")).snapshot().state is S.OPEN
            system.resume("b")
            await system.clock.advance(10)
            assert other.snapshot().data["notes"] == ()
            disk.make_room()
            await system.clock.advance(10)
            assert other.snapshot().data["notes"] == ("y" * 5_000,)
            assert order.snapshot().data["notes"][-1] == "reminder"
            await order.ask(Note(text="x" * 50_000), event_id="note")
            assert system.stats().unwritten == 0
            assert system.stats().restarts == 0
        async with SimulatedSystem(Order, journal=SQLiteJournal(path), check=False) as system:
            await system.ask("o", Note(text="x" * 50_000), event_id="note")  # from the record
            assert system.snapshot("o").data["notes"][-2:] == ("reminder", "x" * 50_000)

    sim(scenario, seeds=SEEDS)
