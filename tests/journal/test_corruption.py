"""What was changed on disk is found, at the entry where it was changed, and costs no other machine anything (C27)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from actorfsm import JournalCorrupt
from actorfsm.journal import codec
from actorfsm.journal.entry import Answer, Batch, DeadMessage, Entry, Message, Payload, Pending, StoredTimer
from actorfsm.journal.sqlite.journal import SQLiteJournal

ENTRIES = 12
SNAPSHOT = 8


def message(event_id: str) -> Message:
    return Message(event=Payload("Pay", 1, '{"amount":9}'), event_id=event_id)


def entry(machine_id: str, seq: int) -> Entry:
    return Entry(
        machine_id=machine_id,
        machine="Order",
        seq=seq,
        kind="committed",
        at_us=seq,
        commits=seq,
        message=message(f"e-{seq}"),
        target=(f"S{seq}",),
        data=Payload("Order", 1, f'{{"paid":{seq}}}'),
        answer=Answer(kind="committed", commits=seq),
        timers_set=(
            StoredTimer(machine_id=machine_id, name="t", due_us=seq, scope="NAMED", message=message("t")),
        ),
        promises=(Pending(key=f"{machine_id}/{seq}", kind="event", machine_id="z", message=message("m")),),
    )


async def write(path: Path) -> None:
    journal = SQLiteJournal(path)
    await journal.open()
    for machine_id in ("a", "b"):
        for seq in range(1, ENTRIES + 1):
            await journal.append(Batch(entries=(entry(machine_id, seq),)))
            if seq == SNAPSHOT:
                await journal.snapshot(machine_id)
    dead = DeadMessage(machine_id="x", message=message("d"), reason="gone", at_us=1)
    await journal.append(Batch(dead=(dead,)))
    await journal.close()


async def all_of(read: Callable[[Any], Any], after: Any, place_of: Callable[[Any], Any]) -> None:
    """Read a list to its end; a page of it ends before what cannot be read."""
    while page := await read(after):
        after = place_of(page[-1])


async def complaints(path: Path) -> dict[str, int]:
    """Return what the journal finds wrong: by what was asked, the entry that it names."""
    journal = SQLiteJournal(path)
    await journal.open()
    asked: dict[str, Callable[[], Any]] = {
        "load": lambda: journal.load("a"),
        "entries": lambda: journal.entries("a"),
        "lookup": lambda: journal.lookup("a", "e-10"),
        "timers": lambda: all_of(
            lambda after: journal.timers(1_000, after),
            None,
            lambda last: (last.due_us, last.machine_id, last.name),
        ),
        "pending": lambda: all_of(journal.pending, 0, lambda last: last.place),
        "dead": journal.dead_letters,
    }
    found: dict[str, int] = {}
    for name, ask in asked.items():
        try:
            await ask()
        except JournalCorrupt as error:
            found[name] = error.seq
    other = await journal.load("b")
    assert other is not None
    assert other.image.seq == ENTRIES
    assert len(await journal.entries("b")) == ENTRIES
    await journal.close()
    return found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("written") / "orders.db"
    asyncio.run(write(path))
    return path


def changed(written: Path, folder: Path, *statements: str) -> dict[str, int]:
    path = folder / "orders.db"
    path.write_bytes(written.read_bytes())
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
        assert connection.total_changes > 0 or not statements
    return asyncio.run(complaints(path))


OF_TEN = "WHERE machine_id = 'a' AND seq = 10"


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (
            f"UPDATE entries SET body = replace(body, '9', '1') {OF_TEN}",
            {"load": 10, "entries": 10, "lookup": 10},
        ),
        (
            f"UPDATE entries SET body = NULL, trimmed = x'00' {OF_TEN}",
            {"load": 10, "entries": 11, "lookup": 10},
        ),
        (f"UPDATE entries SET checksum = x'00' {OF_TEN}", {"load": 10, "entries": 10, "lookup": 10}),
        (f"UPDATE entries SET concluded_id = 'other' {OF_TEN}", {"load": 10, "entries": 10}),
        (f"UPDATE entries SET concluded_id = NULL {OF_TEN}", {"load": 10, "entries": 10}),
        (f"DELETE FROM entries {OF_TEN}", {"load": 10, "entries": 11}),
        ("DELETE FROM entries WHERE machine_id = 'a' AND seq = 12", {"load": 12}),
        ("DELETE FROM entries WHERE machine_id = 'a' AND seq > 7", {"load": 12}),
        (
            "DELETE FROM entries WHERE machine_id = 'a' AND seq < 10 AND seq > 5",
            {"load": 6, "entries": 10, "lookup": 10},
        ),
        ("UPDATE entries SET seq = 13 WHERE machine_id = 'a' AND seq = 12", {"load": 12, "entries": 13}),
        ("UPDATE machines SET seq = 11 WHERE machine_id = 'a'", {"load": 12}),
        ("UPDATE machines SET state = 'S' WHERE machine_id = 'a'", {"load": 12}),
        ("UPDATE machines SET status = 'stopped' WHERE machine_id = 'a'", {"load": 12}),
        ("UPDATE machines SET machine = 'Payment' WHERE machine_id = 'a'", {"load": 12}),
        ("UPDATE machines SET checksum = x'00' WHERE machine_id = 'a'", {"load": 12}),
        ("UPDATE timers SET body = replace(body, '12', '13') WHERE machine_id = 'a'", {"timers": 0}),
        ("UPDATE timers SET due_us = 13 WHERE machine_id = 'a'", {"timers": 0}),
        ("UPDATE timers SET name = 'u' WHERE machine_id = 'a'", {"timers": 0}),
        ("UPDATE pending SET body = replace(body, '9', '1') WHERE place = 3", {"pending": 0}),
        ("UPDATE pending SET machine_id = 'y' WHERE place = 3", {"pending": 0}),
        ("UPDATE pending SET key = 'y' WHERE place = 3", {"pending": 0}),
        ("UPDATE dead_letters SET reason = 'why'", {"dead": 0}),
        ("UPDATE dead_letters SET body = replace(body, '9', '1')", {"dead": 0}),
        ("UPDATE dead_letters SET machine_id = 'y'", {"dead": 0}),
    ],
)
def test_what_was_changed_is_found(
    statement: str, found: dict[str, int], written: Path, tmp_path: Path
) -> None:
    assert changed(written, tmp_path, statement) == found


def test_two_entries_that_changed_places_are_found(written: Path, tmp_path: Path) -> None:
    found = changed(
        written,
        tmp_path,
        "UPDATE entries SET seq = 100 WHERE machine_id = 'a' AND seq = 10",
        "UPDATE entries SET seq = 10 WHERE machine_id = 'a' AND seq = 11",
        "UPDATE entries SET seq = 11 WHERE machine_id = 'a' AND seq = 100",
    )
    assert found == {"load": 10, "entries": 10, "lookup": 11}


def test_an_entry_of_another_machine_is_found(written: Path, tmp_path: Path) -> None:
    found = changed(
        written,
        tmp_path,
        f"DELETE FROM entries {OF_TEN}",
        "INSERT INTO entries SELECT 'a', seq, concluded_id, body, answer, trimmed, checksum FROM entries WHERE "
        "machine_id = 'b' AND seq = 10",
    )
    assert found == {"load": 10, "entries": 10, "lookup": 10}


@pytest.mark.parametrize("what", ["image = replace(image, '8', '9')", "checksum = x'00'", "seq = 7"])
def test_a_snapshot_that_cannot_be_believed_is_passed_over(what: str, written: Path, tmp_path: Path) -> None:
    assert changed(written, tmp_path, f"UPDATE snapshots SET {what} WHERE machine_id = 'a'") == {}


def test_a_snapshot_that_cannot_be_believed_is_missed_once_its_entries_are_trimmed(
    written: Path, tmp_path: Path
) -> None:
    found = changed(
        written,
        tmp_path,
        "UPDATE entries SET body = NULL, trimmed = x'00' WHERE machine_id = 'a' AND seq < 8",
        "UPDATE snapshots SET image = '' WHERE machine_id = 'a'",
    )
    assert found == {"load": 1}


@pytest.mark.parametrize(
    "what",
    ["answer = replace(answer, '3', '4')", "answer = NULL", "trimmed = x'00'", "concluded_id = 'e-99'"],
)
def test_a_trimmed_answer_that_was_changed_is_found(what: str, written: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        journal = SQLiteJournal(tmp_path / "orders.db")
        await journal.open()
        await journal.snapshot("a", keep=2)
        assert await journal.lookup("a", "e-3") is not None
        await journal.close()
        with closing(sqlite3.connect(tmp_path / "orders.db")) as connection, connection:
            connection.execute(f"UPDATE entries SET {what} WHERE machine_id = 'a' AND seq = 3")
        await journal.open()
        with pytest.raises(JournalCorrupt) as found:
            await journal.lookup("a", "e-99" if "e-99" in what else "e-3")
        assert found.value.seq == 3
        assert await journal.lookup("a", "e-2") is not None
        stored = await journal.load("a")
        assert stored is not None
        assert stored.image.seq == ENTRIES
        await journal.close()

    (tmp_path / "orders.db").write_bytes(written.read_bytes())
    asyncio.run(scenario())


def test_an_entry_whose_checksum_fits_and_that_is_none_of_this_version_is_named_as_such() -> None:
    row = codec.Row("a", 7, None, '{"machine_id":"a","wings":2}', None, None, b"")
    row = row._replace(checksum=codec.chained(row, codec.FIRST))
    with pytest.raises(JournalCorrupt, match="entry 7 of a cannot be read") as found:
        codec.decode(row, codec.FIRST)
    assert (found.value.seq, found.value.machine_id) == (7, "a")


def test_what_was_not_changed_is_not_complained_of(written: Path, tmp_path: Path) -> None:
    assert changed(written, tmp_path) == {}
