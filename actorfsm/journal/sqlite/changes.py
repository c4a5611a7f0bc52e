"""What is changed in the tables, inside a transaction that somebody else begins and ends."""

from __future__ import annotations

import sqlite3
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from actorfsm.journal import codec
from actorfsm.journal.codec import FIRST
from actorfsm.journal.sqlite import queries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from sqlite3 import Connection

    from actorfsm.errors import EventIdUsed
    from actorfsm.journal.codec import Row
    from actorfsm.journal.entry import Batch, Entry
    from actorfsm.journal.protocol import Part

__all__ = ["Head", "drop_dead_letters", "forget", "insert", "plan", "restore", "snapshot", "used_by"]

Head: TypeAlias = tuple[int, bytes]
"""Number and checksum of a machine's last entry."""

_ROWS_AT_A_TIME: Final = (512, 64, 8)
"""How many rows one statement writes, if there are as many and SQLite was built for so many values.

For each statement the thread gives the interpreter's lock away and has to wait for it again: beside a busy loop one row
at a time took 4 times as long for a hundred rows (CPython 3.13).
"""


def plan(
    connection: Connection, batch: Batch, heads: dict[str, Head], known: Mapping[str, Head]
) -> codec.Plan:
    """Return what a batch comes to after those before it in the same transaction.

    Args:
        connection: The connection.
        batch: What is to be stored.
        heads: The last entries of machines, as those before leave them; this one is added.
        known: Those of machines that were written by earlier transactions, where they are known.

    Raises:
        NotStored: It breaks a rule of the journal.
    """

    def head_of(machine_id: str) -> Head:
        head = heads.get(machine_id) or known.get(machine_id)
        if head is None:
            select = "SELECT seq, checksum FROM machines WHERE machine_id = ?"
            head = heads[machine_id] = connection.execute(select, (machine_id,)).fetchone() or (0, FIRST)
        return head

    planned = codec.plan(batch, head_of)
    for pending in batch.accepted:
        if queries.seq_of(connection, pending.machine_id, pending.message.event_id) is not None:
            raise codec.used_before(pending.machine_id, pending.message.event_id)
    for row in planned.rows:
        heads[row.machine_id] = (row.seq, row.checksum)
    return planned


def insert(connection: Connection, plans: Sequence[codec.Plan], batches: Sequence[Batch]) -> None:
    """Write batches.

    Args:
        connection: The connection.
        plans: What they come to.
        batches: The same batches.

    Raises:
        sqlite3.IntegrityError: An event id or a key is used twice.
    """
    rows = [row for planned in plans for row in planned.rows]
    if rows:
        _write(connection, "INSERT INTO entries VALUES", rows)
        _move_heads(connection, [entry for batch in batches for entry in batch.entries], rows)
    unusual = [planned for planned in plans if not planned.is_usual]
    if unusual:
        _insert_beside(connection, unusual)


def _insert_beside(connection: Connection, plans: Sequence[codec.Plan]) -> None:
    """Write what stands beside the entries."""
    many = connection.executemany
    timers = {key: timer for planned in plans for key, timer in planned.timers.items()}
    if timers:
        many("DELETE FROM timers WHERE machine_id = ? AND name = ?", timers)
        armed = [(*key, *timer) for key, timer in timers.items() if timer is not None]
        many("INSERT INTO timers VALUES (?, ?, ?, ?, ?)", armed)
    promises = [(key, *promise) for planned in plans for key, promise in planned.promises.items()]
    if promises:
        many(
            "INSERT INTO pending (key, machine_id, event_id, body, checksum) VALUES (?, ?, ?, ?, ?)", promises
        )
    settled = [(key,) for planned in plans for key in planned.settled]
    if settled:
        many("DELETE FROM pending WHERE key = ?", settled)
    dead = [letter for planned in plans for letter in planned.dead]
    if dead:
        many(
            "INSERT INTO dead_letters (machine_id, reason, at_us, body, checksum) VALUES (?, ?, ?, ?, ?)",
            dead,
        )
    images = [image for planned in plans for image in planned.images]
    if images:
        many("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?)", images)


def _move_heads(connection: Connection, entries: Sequence[Entry], rows: Sequence[Row]) -> None:
    """Let the heads of machines show their last entries."""
    heads = {
        entry.machine_id: (
            *(entry.machine_id, entry.machine, entry.status, queries.text_of(entry.target)),
            *(row.seq, row.checksum),
        )
        for entry, row in zip(entries, rows, strict=True)
    }
    _write(
        connection,
        "INSERT INTO machines VALUES",
        list(heads.values()),
        "ON CONFLICT (machine_id) DO UPDATE SET machine = excluded.machine, status = excluded.status, "
        "state = excluded.state, seq = excluded.seq, checksum = excluded.checksum",
    )


def _write(connection: Connection, insert: str, rows: Sequence[Sequence[Any]], then: str = "") -> None:
    """Insert rows of one width, as many as possible with one statement."""
    width = len(rows[0])
    one = f"({', '.join('?' * width)})"
    done = 0
    most = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // width
    for size in _ROWS_AT_A_TIME:
        if size > min(most, len(rows) - done):
            continue
        statement = f"{insert} {', '.join([one] * size)} {then}"
        while len(rows) - done >= size:
            connection.execute(statement, list(chain.from_iterable(rows[done : done + size])))
            done += size
    connection.executemany(f"{insert} {one} {then}", rows[done:])


def used_by(connection: Connection, batch: Batch) -> EventIdUsed | None:
    """Return which event id of a batch is used already, or waits; None if it is none of them."""
    for entry in batch.entries:
        event_id = entry.concluded_id
        if event_id is not None and queries.seq_of(connection, entry.machine_id, event_id) is not None:
            return codec.used_before(entry.machine_id, event_id)
    for pending in (*batch.accepted, *(pending for entry in batch.entries for pending in entry.promises)):
        if queries.is_pending(connection, pending.key):
            return codec.used_before(pending.machine_id, pending.message.event_id)
    return None


def snapshot(connection: Connection, machine_id: str, keep: int | None) -> int:
    """Store a machine's image and trim its entries; see `Journal.snapshot`.

    Raises:
        JournalCorrupt: What is stored of it is not what was written.
    """
    stored = queries.load(connection, machine_id)
    if stored is None:
        return 0
    seq = stored.head.seq
    image, checksum = codec.encode_image(stored.image, stored.head.checksum)
    connection.execute(
        "INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?)", (machine_id, seq, image, checksum)
    )
    if keep is not None:
        old = queries.rows_of(connection, machine_id, "seq <= ? AND body IS NOT NULL", (seq - keep,))
        left = [codec.trimmed(row) for row in old]
        connection.executemany(
            "UPDATE entries SET body = NULL, answer = ?, trimmed = ? WHERE machine_id = ? AND seq = ?",
            [(row.answer, row.trimmed, row.machine_id, row.seq) for row in left],
        )
    return 1


def restore(connection: Connection, part: Part) -> int:
    """Store part of another journal; see `Journal.restore`."""
    tables: list[tuple[str, list[tuple[object, ...]]]] = [
        (
            "machines VALUES (?, ?, ?, ?, ?, ?)",
            [(*head[:3], queries.text_of(head.state), head.seq, head.checksum) for head in part.heads],
        ),
        ("entries VALUES (?, ?, ?, ?, ?, ?, ?)", [tuple(row) for row in part.rows]),
        ("snapshots VALUES (?, ?, ?, ?)", [tuple(snapshot) for snapshot in part.snapshots]),
        (
            "timers VALUES (?, ?, ?, ?, ?)",
            [
                (timer.machine_id, timer.name, timer.due_us, *codec.encode_timer(timer))
                for timer in part.timers
            ],
        ),
        (
            "pending (key, machine_id, event_id, body, checksum) VALUES (?, ?, ?, ?, ?)",
            [
                (pending.key, pending.machine_id, pending.message.event_id, *codec.encode_pending(pending))
                for pending in part.pending
            ],
        ),
        (
            "dead_letters (machine_id, reason, at_us, body, checksum) VALUES (?, ?, ?, ?, ?)",
            [
                (letter.machine_id, letter.reason, letter.at_us, *codec.encode_dead(letter))
                for letter in part.dead
            ],
        ),
    ]
    for table, rows in tables:
        connection.executemany(f"INSERT INTO {table}", rows)
    return sum(len(rows) for _, rows in tables)


def forget(connection: Connection, machine_id: str, through_seq: int) -> int:
    """Forget event ids and answers; see `Journal.forget`."""
    known = queries.snapshot_of(connection, machine_id)
    last = min(through_seq, 0 if known is None else known[0] - 1)
    (last,) = connection.execute(
        "SELECT coalesce(min(seq) - 1, ?) FROM entries WHERE machine_id = ? AND seq <= ? AND body IS NOT NULL",
        (last, machine_id, last),
    ).fetchone()
    gone = (machine_id, last)
    select = "SELECT count(concluded_id) FROM entries WHERE machine_id = ? AND seq <= ?"
    (count,) = connection.execute(select, gone).fetchone()
    connection.execute("DELETE FROM entries WHERE machine_id = ? AND seq < ?", gone)
    # The last of them stays as a link of the chain, without what it says.
    connection.execute(
        "UPDATE entries SET concluded_id = NULL, answer = NULL, trimmed = NULL WHERE machine_id = ? AND seq = ?",
        gone,
    )
    return int(count)


def drop_dead_letters(connection: Connection, places: Sequence[int]) -> int:
    """Forget dead letters; see `Journal.drop_dead_letters`."""
    found = connection.executemany("DELETE FROM dead_letters WHERE place = ?", [(place,) for place in places])
    return max(found.rowcount, 0)
