"""A journal that is as it was written is passed; what was broken is named at the right entry (I2 to I7)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from actorfsm.journal import codec
from actorfsm.journal.entry import Answer, Batch, Entry, Message, Payload, Pending, StoredTimer
from actorfsm.journal.memory import MemoryJournal, MemoryStore
from actorfsm.journal.sqlite.journal import SQLiteJournal
from actorfsm.journal.verify import Verdict, verify_journal

ENTRIES = 12
SNAPSHOT = 8


def message(event_id: str) -> Message:
    return Message(event=Payload("Pay", 1, '{"amount":9}'), event_id=event_id)


def entry(machine_id: str, seq: int, **more: Any) -> Entry:
    """An entry that promises something to z; z has settled the first of a's."""
    usual: dict[str, Any] = {
        "machine_id": machine_id,
        "machine": "Order",
        "seq": seq,
        "kind": "committed",
        "at_us": seq,
        "commits": seq,
        "message": message(f"e-{seq}"),
        "source": (f"S{seq - 1}",) if seq > 1 else (),
        "target": (f"S{seq}",),
        "data": Payload("Order", 1, f'{{"paid":{seq}}}'),
        "answer": Answer(kind="committed", commits=seq),
        "timers_set": (
            StoredTimer(machine_id=machine_id, name="t", due_us=seq, scope="NAMED", message=message("t")),
        ),
        "promises": (Pending(key=f"{machine_id}/{seq}", kind="event", machine_id="z", message=message("m")),),
    }
    return Entry(**usual | more)


async def fill(journal: Any) -> None:
    await journal.open()
    for machine_id in ("a", "b"):
        for seq in range(1, ENTRIES + 1):
            await journal.append(Batch(entries=(entry(machine_id, seq),)))
            if seq == SNAPSHOT:
                await journal.snapshot(machine_id)
    await journal.append(Batch(entries=(entry("z", 1, settles=("a/1",)), entry("z", 2))))
    await journal.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("written") / "orders.db"
    asyncio.run(fill(SQLiteJournal(path, durability="process")))
    return path


async def verdict_of(path: Path) -> Verdict:
    journal = SQLiteJournal(path, read_only=True, still=True)
    await journal.open()
    try:
        return await verify_journal(journal)
    finally:
        await journal.close()


def rechained(connection: sqlite3.Connection, machine_id: str, change: Callable[[Entry], Entry]) -> None:
    """Write the entries of a machine anew, each changed, with checksums that fit."""
    rows = [
        codec.Row(*row)
        for row in connection.execute(
            "SELECT * FROM entries WHERE machine_id = ? ORDER BY seq", (machine_id,)
        )
    ]
    before = codec.FIRST
    image = codec.decode_image(
        machine_id,
        SNAPSHOT,
        connection.execute("SELECT image FROM snapshots WHERE machine_id = ?", (machine_id,)).fetchone()[0],
    )
    for row in rows:
        entry = change(
            codec.decode(row._replace(checksum=codec.chained(row, _before(rows, row))), _before(rows, row))
        )
        planned = codec.plan(Batch(entries=(entry,)), lambda _, seq=row.seq, last=before: (seq - 1, last))
        (new,) = planned.rows
        connection.execute(
            "UPDATE entries SET concluded_id = ?, body = ?, checksum = ? WHERE machine_id = ? AND seq = ?",
            (new.concluded_id, new.body, new.checksum, machine_id, row.seq),
        )
        before = new.checksum
        if row.seq == SNAPSHOT:
            connection.execute(
                "UPDATE snapshots SET checksum = ? WHERE machine_id = ?",
                (codec.encode_image(image, before)[1], machine_id),
            )
    connection.execute("UPDATE machines SET checksum = ? WHERE machine_id = ?", (before, machine_id))


def _before(rows: list[codec.Row], row: codec.Row) -> bytes:
    return rows[row.seq - 2].checksum if row.seq > 1 else codec.FIRST


def faults(
    written: Path, folder: Path, *statements: str, **rewritten: Callable[[Entry], Entry]
) -> list[tuple[str, int, str]]:
    path = folder / "orders.db"
    path.write_bytes(written.read_bytes())
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
        for machine_id, change in rewritten.items():
            rechained(connection, machine_id, change)
    verdict = asyncio.run(verdict_of(path))
    assert verdict.holds == (not verdict.faults)
    return [(fault.machine_id, fault.seq, fault.rule) for fault in verdict.faults]


def at(seq: int, **values: Any) -> Callable[[Entry], Entry]:
    def change(entry: Entry) -> Entry:
        if entry.seq == seq:
            for name, value in values.items():
                setattr(entry, name, value)
        return entry

    return change


def test_a_journal_that_is_as_it_was_written_is_passed(written: Path) -> None:
    verdict = asyncio.run(verdict_of(written))
    assert verdict.faults == []
    assert verdict.holds
    assert (verdict.machines, verdict.entries, verdict.timers, verdict.pending) == (3, 26, 3, 25)


def test_a_journal_that_was_written_anew_with_nothing_changed_is_passed(
    written: Path, tmp_path: Path
) -> None:
    assert faults(written, tmp_path, a=lambda entry: entry) == []


def test_i2_an_event_id_that_is_used_up_twice_is_named_at_the_second(written: Path, tmp_path: Path) -> None:
    again = faults(written, tmp_path, "DROP INDEX entries_concluded", a=at(10, message=message("e-4")))
    assert again == [("a", 10, "I2")]


def test_i3_an_entry_that_is_missing_is_named(written: Path, tmp_path: Path) -> None:
    assert faults(written, tmp_path, "DELETE FROM entries WHERE machine_id = 'b' AND seq = 5") == [
        ("b", 5, "I3")
    ]


@pytest.mark.parametrize("seq", [1, 12])
def test_i3_the_first_entry_and_the_last_are_missed_too(seq: int, written: Path, tmp_path: Path) -> None:
    gone = faults(written, tmp_path, f"DELETE FROM entries WHERE machine_id = 'b' AND seq = {seq}")
    assert gone == [("b", seq, "I3")]


def test_i4_an_entry_that_begins_in_another_state_is_named(written: Path, tmp_path: Path) -> None:
    assert faults(written, tmp_path, a=at(10, source=("S3",))) == [("a", 10, "I4")]


def test_i4_a_machine_that_is_alive_is_not_born(written: Path, tmp_path: Path) -> None:
    assert faults(written, tmp_path, a=at(10, source=())) == [("a", 10, "I4")]


def test_i5_a_snapshot_that_shows_something_else_is_named(written: Path, tmp_path: Path) -> None:
    assert faults(written, tmp_path, a=at(7, data=Payload("Order", 1, "{}"))) == []  # overwritten at 8
    assert faults(written, tmp_path, a=at(8, data=Payload("Order", 1, "{}"))) == [("a", 8, "I5")]


@pytest.mark.parametrize(
    "what", ["state = 'x'", "status = 'stopped'", "machine = 'X'", "checksum = x'00'", "seq = 11"]
)
def test_i5_a_head_that_shows_something_else_is_named(what: str, written: Path, tmp_path: Path) -> None:
    assert faults(written, tmp_path, f"UPDATE machines SET {what} WHERE machine_id = 'b'") == [
        ("b", 12, "I5")
    ]


@pytest.mark.parametrize("what", ["image = image || ' '", "checksum = x'00'"])
def test_i5_a_snapshot_that_was_changed_is_named(what: str, written: Path, tmp_path: Path) -> None:
    assert faults(written, tmp_path, f"UPDATE snapshots SET {what} WHERE machine_id = 'b'") == [
        ("b", 8, "I5")
    ]


def test_i6_an_entry_that_was_changed_is_named(written: Path, tmp_path: Path) -> None:
    changed = "UPDATE entries SET body = replace(body, '9', '1') WHERE machine_id = 'b' AND seq = 9"
    assert faults(written, tmp_path, changed) == [("b", 9, "I6")]


def test_i7_what_was_settled_and_is_pending_again_is_named_where_it_was_settled(
    written: Path, tmp_path: Path
) -> None:
    promise = entry("a", 1).promises[0]
    text, checksum = codec.encode_pending(promise)
    back = (
        "INSERT INTO pending (key, machine_id, event_id, body, checksum) "
        f"VALUES ('a/1', 'z', 'm', '{text}', x'{checksum.hex()}')"
    )
    assert faults(written, tmp_path, back) == [("z", 1, "I7")]


def test_i7_what_is_settled_twice_is_named_at_the_second(written: Path, tmp_path: Path) -> None:
    assert faults(written, tmp_path, b=at(3, settles=("a/1",))) == [("z", 1, "I7")]


def test_i7_what_is_promised_twice_is_named_at_the_second(written: Path, tmp_path: Path) -> None:
    assert faults(written, tmp_path, b=at(3, promises=entry("a", 2).promises)) == [("b", 3, "I7")]


def test_a_timer_that_is_lost_and_one_that_nobody_has_are_named(written: Path, tmp_path: Path) -> None:
    assert faults(written, tmp_path, "DELETE FROM timers WHERE machine_id = 'a'") == [("a", 12, "timers")]
    text, checksum = codec.encode_timer(
        StoredTimer(machine_id="b", name="u", due_us=5, scope="NAMED", message=message("t"))
    )
    more = f"INSERT INTO timers VALUES ('b', 'u', 5, '{text}', x'{checksum.hex()}')"
    assert faults(written, tmp_path, more) == [("b", 0, "timers")]


def test_each_machine_that_is_wrong_is_named_with_its_first_fault(written: Path, tmp_path: Path) -> None:
    found = faults(
        written,
        tmp_path,
        "UPDATE entries SET checksum = x'00' WHERE seq IN (4, 9) AND machine_id <> 'z'",
        "UPDATE timers SET body = '{}' WHERE machine_id = 'z'",
    )
    assert found == [("a", 4, "I6"), ("b", 4, "I6"), ("z", 0, "timers")]


def test_a_machine_whose_entries_were_trimmed_and_forgotten_is_passed_from_its_snapshot_on() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await fill(MemoryJournal(store))
        journal = MemoryJournal(store)
        await journal.open()
        await journal.snapshot("a", keep=3)
        await journal.snapshot("b", keep=3)
        assert await journal.forget("b", 6) == 6
        verdict = await verify_journal(journal)
        assert verdict.faults == []
        assert (verdict.entries, verdict.trimmed) == (21, 13)
        row = store.rows["a"][4]
        store.rows["a"][4] = row._replace(answer=f"{row.answer} ")
        verdict = await verify_journal(journal)
        assert [fault[:3] for fault in verdict.faults] == [("a", 5, "I6")]
        assert str(verdict.faults[0]).startswith("entry 5 of a: ")
        await journal.close()

    asyncio.run(scenario())


def test_a_journal_in_use_is_shown_as_it_was_when_it_was_opened(written: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        owner, reader = SQLiteJournal(path), SQLiteJournal(path, read_only=True, still=True)
        await owner.open()
        await reader.open()
        await owner.append(Batch(entries=(entry("z", 3),)))
        assert (await verify_journal(reader)).entries == 26
        await reader.close()
        assert (await verify_journal(owner)).entries == 27
        await owner.close()

    path = tmp_path / "orders.db"
    path.write_bytes(written.read_bytes())
    asyncio.run(scenario())
