"""What is asked of the tables: each question a function of the connection. Nothing here writes."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from actorfsm.errors import JournalCorrupt
from actorfsm.journal import codec
from actorfsm.journal.codec import FIRST, Row
from actorfsm.journal.entry import Head
from actorfsm.journal.loading import image_of, page_of
from actorfsm.journal.protocol import Placed, Stored, StoredSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterable
    from sqlite3 import Connection

    from actorfsm.journal.entry import Batch, DeadMessage, Entry, Recorded, State, Status, StoredTimer

__all__ = [
    "BEFORE_ALL",
    "all_rows",
    "dead_letters_of",
    "entries_of",
    "has",
    "head_of",
    "is_pending",
    "last_pending",
    "load",
    "lookup",
    "machines_of",
    "pending_of",
    "rows_of",
    "seq_of",
    "snapshot_of",
    "snapshots_of",
    "text_of",
    "timers_of",
]

BEFORE_ALL: Final = (-(2**62), "", "")
"""A timer before all timers."""

_BETWEEN: Final = "\x1f"


@lru_cache(maxsize=1_024)
def text_of(state: State) -> str:
    """Return a state as text, in which each name can be found as a whole."""
    return "".join(f"{_BETWEEN}{name}{_BETWEEN}" for name in state)


# -- one machine -------------------------------------------------------------------------------------------------------


def load(connection: Connection, machine_id: str) -> Stored | None:
    """Return a machine; see `Journal.load`.

    Raises:
        JournalCorrupt: What is stored of it is not what was written.
    """
    head = head_of(connection, machine_id)
    if head is None:
        if rows_of(connection, machine_id, "seq > ?", (0,), 1):
            raise _corrupt(f"the head of {machine_id}", machine_id)  # there are entries, and so there was one
        return None
    snapshot = snapshot_of(connection, machine_id)
    image = image_of(head, snapshot, lambda seq: rows_of(connection, machine_id, "seq >= ?", (seq,)))
    return Stored(head, image, 0 if snapshot is None else snapshot[0])


def head_of(connection: Connection, machine_id: str) -> Head | None:
    """Return where a machine is."""
    row = connection.execute("SELECT * FROM machines WHERE machine_id = ?", (machine_id,)).fetchone()
    return None if row is None else _head(row)


def _head(row: tuple[Any, ...]) -> Head:
    machine_id, machine, status, state, seq, checksum = row
    names: Iterable[str] = state.split(_BETWEEN)[1::2]
    return Head(machine_id, machine, status, tuple(names), seq, checksum)


def snapshot_of(connection: Connection, machine_id: str) -> tuple[int, str, bytes] | None:
    """Return a machine's snapshot: number of the entry that it shows, text and checksum."""
    select = "SELECT seq, image, checksum FROM snapshots WHERE machine_id = ?"
    found: tuple[int, str, bytes] | None = connection.execute(select, (machine_id,)).fetchone()
    return found


def rows_of(
    connection: Connection, machine_id: str, which: str, values: tuple[int, ...], limit: int = -1
) -> list[Row]:
    """Return rows of a machine's entries, in order."""
    columns = "machine_id, seq, concluded_id, body, answer, trimmed, checksum"
    condition = f"machine_id = ? AND {which} ORDER BY seq LIMIT ?"
    select = f"SELECT {columns} FROM entries WHERE {condition}"  # noqa: S608 -- `which` is a constant of this package
    return [Row(*row) for row in connection.execute(select, (machine_id, *values, limit))]


def entries_of(connection: Connection, machine_id: str, after_seq: int, limit: int) -> list[Entry]:
    """Return entries; see `Journal.entries`."""
    rows = rows_of(connection, machine_id, "seq > ? AND body IS NOT NULL", (after_seq,), limit)
    if not rows:
        return []
    checksum = _checksum_before(connection, rows[0])
    found: list[Entry] = []
    for row in rows:
        found.append(codec.decode(row, checksum))
        checksum = row.checksum
    return found


def seq_of(connection: Connection, machine_id: str, event_id: str) -> int | None:
    """Return the number of the entry with which an event id was used up."""
    select = "SELECT seq FROM entries WHERE machine_id = ? AND concluded_id = ?"
    found = connection.execute(select, (machine_id, event_id)).fetchone()
    return None if found is None else int(found[0])


def lookup(connection: Connection, machine_id: str, event_id: str) -> Recorded | None:
    """Return what became of an event id; see `Journal.lookup`."""
    seq = seq_of(connection, machine_id, event_id)
    if seq is None:
        return None
    (row,) = rows_of(connection, machine_id, "seq = ?", (seq,))
    return codec.decode_recorded(row, _checksum_before(connection, row))


def _checksum_before(connection: Connection, row: Row) -> bytes:
    before = rows_of(connection, row.machine_id, "seq = ?", (row.seq - 1,))
    return before[0].checksum if before else FIRST


# -- lists -------------------------------------------------------------------------------------------------------------


def all_rows(connection: Connection, after: tuple[str, int], limit: int) -> list[Row]:
    """Return entries of all machines; see `Journal.rows`."""
    select = (
        "SELECT machine_id, seq, concluded_id, body, answer, trimmed, checksum FROM entries "
        "WHERE (machine_id, seq) > (?, ?) ORDER BY machine_id, seq LIMIT ?"
    )
    return [Row(*row) for row in connection.execute(select, (*after, limit))]


def snapshots_of(connection: Connection, after: str, limit: int) -> list[StoredSnapshot]:
    """Return snapshots; see `Journal.snapshots`."""
    select = (
        "SELECT machine_id, seq, image, checksum FROM snapshots "
        "WHERE machine_id > ? ORDER BY machine_id LIMIT ?"
    )
    return [StoredSnapshot(*row) for row in connection.execute(select, (after, limit))]


def machines_of(
    connection: Connection,
    *,
    machine: str | None,
    status: Status | None,
    state: str | None,
    after: str,
    limit: int,
) -> list[Head]:
    """Return machines; see `Journal.machines`."""
    within = None if state is None else text_of((state,))
    # The same words as those of the index, by which it is recognised.
    held = "AND status IN ('quarantined', 'suspended') " if status in {"quarantined", "suspended"} else ""
    select = (
        "SELECT * FROM machines WHERE machine_id > :after "  # noqa: S608 -- `held` is a constant
        "AND (:machine IS NULL OR machine = :machine) AND (:status IS NULL OR status = :status) "
        f"{held}AND (:state IS NULL OR instr(state, :state)) ORDER BY machine_id LIMIT :limit"
    )
    rows = connection.execute(
        select,
        {"after": after, "machine": machine, "status": status, "state": within, "limit": limit},
    )
    return [_head(row) for row in rows]


def timers_of(
    connection: Connection, before_us: int, after: tuple[int, str, str], limit: int
) -> list[StoredTimer]:
    """Return timers; see `Journal.timers`."""
    rows = connection.execute(
        "SELECT due_us, machine_id, name, body, checksum FROM timers WHERE due_us < ? AND (due_us, machine_id, name) "
        "> (?, ?, ?) ORDER BY due_us, machine_id, name LIMIT ?",
        (before_us, *after, limit),
    )
    return page_of(rows, lambda row: _timer(*row), lambda row: row[:3])


def _timer(due_us: int, machine_id: str, name: str, body: str, checksum: bytes) -> StoredTimer:
    timer = codec.decode_timer(machine_id, body, checksum)
    if (timer.due_us, timer.machine_id, timer.name) != (due_us, machine_id, name):
        raise _corrupt(f"the timer {name} of {machine_id}", timer.machine_id)
    return timer


def last_pending(connection: Connection) -> int:
    """Return the last place of what is pending; see `Journal.last_pending`."""
    (last,) = connection.execute("SELECT max(place) FROM pending").fetchone()
    return int(last or 0)


def pending_of(connection: Connection, after: int, limit: int, machine_id: str | None = None) -> list[Placed]:
    """Return what is pending; see `Journal.pending`."""
    rows = connection.execute(
        "SELECT place, key, machine_id, body, checksum FROM pending WHERE place > :after AND (:machine_id IS NULL OR "
        "machine_id = :machine_id) ORDER BY place LIMIT :limit",
        {"after": after, "limit": limit, "machine_id": machine_id},
    )
    return page_of(rows, lambda row: _placed(*row), lambda row: row[0])


def _placed(place: int, key: str, machine_id: str, body: str, checksum: bytes) -> Placed:
    pending = codec.decode_pending(machine_id, body, checksum)
    if (pending.key, pending.machine_id) != (key, machine_id):
        raise _corrupt(f"what is pending for {machine_id} as {key}", pending.machine_id)
    return Placed(place, pending)


def dead_letters_of(connection: Connection, after: int, limit: int) -> list[DeadMessage]:
    """Return dead letters; see `Journal.dead_letters`."""
    select = "SELECT * FROM dead_letters WHERE place > ? ORDER BY place LIMIT ?"
    return [
        codec.decode_dead(place, (machine_id, reason, at_us, body, checksum))
        for place, machine_id, reason, at_us, body, checksum in connection.execute(select, (after, limit))
    ]


def _corrupt(what: str, machine_id: str) -> JournalCorrupt:
    return JournalCorrupt(
        f"{what} is not what was written: the row was changed", seq=0, machine_id=machine_id
    )


# -- what is stored of a batch -----------------------------------------------------------------------------------------


def is_pending(connection: Connection, key: str) -> bool:
    """Return whether something is pending under a key."""
    return connection.execute("SELECT 1 FROM pending WHERE key = ?", (key,)).fetchone() is not None


def has(connection: Connection, batch: Batch) -> bool:
    """Return whether a batch is stored; see `Journal.settle`."""
    for entry in batch.entries:
        rows = rows_of(connection, entry.machine_id, "seq = ?", (entry.seq,))
        if not (rows and codec.is_row_of(rows[0], entry)):
            return False
    if batch.entries:
        return True
    dead = "SELECT 1 FROM dead_letters WHERE machine_id = ? AND at_us = ? AND checksum = ?"
    return (
        all(is_pending(connection, pending.key) for pending in batch.accepted)
        and not any(is_pending(connection, key) for key in batch.settled)
        and all(
            connection.execute(
                dead, (letter.machine_id, letter.at_us, codec.encode_dead(letter)[1])
            ).fetchone()
            for letter in batch.dead
        )
    )
