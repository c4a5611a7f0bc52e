"""What is asked of the tables: each question a function of the connection. Nothing here writes.

The questions are those that are asked of a SQLite file, in PostgreSQL's words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, LiteralString

from actorfsm.errors import JournalCorrupt
from actorfsm.journal import codec
from actorfsm.journal.codec import FIRST, Row
from actorfsm.journal.entry import Head
from actorfsm.journal.loading import image_of, page_of
from actorfsm.journal.postgresql.text import from_column, to_column
from actorfsm.journal.protocol import Placed, Stored, StoredSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from psycopg import Connection

    from actorfsm.journal.entry import Batch, DeadMessage, Entry, Recorded, State, Status, StoredTimer

__all__ = [
    "BEFORE_ALL",
    "all_rows",
    "dead_letters_of",
    "entries_of",
    "has",
    "head_of",
    "heads_of",
    "is_pending",
    "last_pending",
    "load",
    "lookup",
    "machines_of",
    "pending_of",
    "seq_of",
    "snapshot_of",
    "snapshots_of",
    "text_of",
    "timers_of",
    "untrimmed",
    "wait_out",
]

BEFORE_ALL: Final = (-(2**62), "", "")
"""A timer before all timers."""

_BETWEEN: Final = "\x1f"
_LAST: Final = 2**62


def text_of(state: State) -> str:
    """Return a state as text, in which each name can be found as a whole."""
    return to_column("".join(f"{_BETWEEN}{name}{_BETWEEN}" for name in state))


# -- one machine -------------------------------------------------------------------------------------------------------


def load(connection: Connection, machine_id: str) -> Stored | None:
    """Return a machine; see `Journal.load`."""
    head = head_of(connection, machine_id)
    if head is None:
        return None
    snapshot = snapshot_of(connection, machine_id)
    image = image_of(head, snapshot, lambda seq: _rows(connection, machine_id, seq, head.seq))
    return Stored(head, image, 0 if snapshot is None else snapshot[0])


def head_of(connection: Connection, machine_id: str) -> Head | None:
    """Return where a machine is."""
    row = connection.execute(
        "SELECT machine_id, machine, status, state, seq, checksum FROM machines WHERE machine_id = %s",
        (to_column(machine_id),),
        binary=True,
    ).fetchone()
    return None if row is None else _head(row)


def heads_of(connection: Connection, machine_ids: Iterable[str]) -> dict[str, tuple[int, bytes]]:
    """Return number and checksum of the last entry of those machines that are stored."""
    rows = connection.execute(
        "SELECT machine_id, seq, checksum FROM machines WHERE machine_id = ANY (%b::text[])",
        ([to_column(machine_id) for machine_id in machine_ids],),
        binary=True,
    )
    return {from_column(machine_id): (seq, checksum) for machine_id, seq, checksum in rows}


def _head(row: tuple[Any, ...]) -> Head:
    machine_id, machine, status, state, seq, checksum = row
    names: Iterable[str] = from_column(state).split(_BETWEEN)[1::2]
    return Head(from_column(machine_id), from_column(machine), status, tuple(names), seq, checksum)


def snapshot_of(connection: Connection, machine_id: str) -> tuple[int, str, bytes] | None:
    """Return a machine's snapshot: number of the entry that it shows, text and checksum."""
    select = "SELECT seq, image, checksum FROM snapshots WHERE machine_id = %s"
    found = connection.execute(select, (to_column(machine_id),), binary=True).fetchone()
    return None if found is None else (found[0], found[1], found[2])


_COLUMNS: Final = "SELECT machine_id, seq, concluded_id, body, answer, trimmed, checksum FROM entries "


def _rows(
    connection: Connection, machine_id: str, first: int, last: int = _LAST, limit: int | None = None
) -> list[Row]:
    """Return rows of a machine's entries, in order."""
    condition = "WHERE machine_id = %s AND seq BETWEEN %s AND %s ORDER BY seq LIMIT %s"
    return _read(connection, condition, (to_column(machine_id), first, last, limit))


def untrimmed(
    connection: Connection, machine_id: str, after: int, last: int = _LAST, limit: int | None = None
) -> list[Row]:
    """Return rows of a machine's entries that were not trimmed, in order."""
    condition = "WHERE machine_id = %s AND seq > %s AND seq <= %s AND body IS NOT NULL ORDER BY seq LIMIT %s"
    return _read(connection, condition, (to_column(machine_id), after, last, limit))


def _read(connection: Connection, condition: LiteralString, values: Sequence[Any]) -> list[Row]:
    return [
        Row(
            from_column(machine_id),
            seq,
            None if concluded_id is None else from_column(concluded_id),
            *(body, answer, trimmed, checksum),
        )
        for machine_id, seq, concluded_id, body, answer, trimmed, checksum in connection.execute(
            _COLUMNS + condition, values, binary=True
        )
    ]


def entries_of(connection: Connection, machine_id: str, after_seq: int, limit: int) -> list[Entry]:
    """Return entries; see `Journal.entries`."""
    rows = untrimmed(connection, machine_id, after_seq, limit=limit)
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
    select = "SELECT seq FROM entries WHERE machine_id = %s AND concluded_id = %s"
    found = connection.execute(select, (to_column(machine_id), to_column(event_id))).fetchone()
    return None if found is None else int(found[0])


def lookup(connection: Connection, machine_id: str, event_id: str) -> Recorded | None:
    """Return what became of an event id; see `Journal.lookup`."""
    seq = seq_of(connection, machine_id, event_id)
    if seq is None:
        return None
    (row,) = _rows(connection, machine_id, seq, seq)
    return codec.decode_recorded(row, _checksum_before(connection, row))


def _checksum_before(connection: Connection, row: Row) -> bytes:
    before = _rows(connection, row.machine_id, row.seq - 1, row.seq - 1)
    return before[0].checksum if before else FIRST


# -- lists -------------------------------------------------------------------------------------------------------------


def all_rows(connection: Connection, after: tuple[str, int], limit: int) -> list[Row]:
    """Return entries of all machines; see `Journal.rows`."""
    condition = "WHERE (machine_id, seq) > (%s, %s) ORDER BY machine_id, seq LIMIT %s"
    return _read(connection, condition, (to_column(after[0]), after[1], limit))


def snapshots_of(connection: Connection, after: str, limit: int) -> list[StoredSnapshot]:
    """Return snapshots; see `Journal.snapshots`."""
    rows = connection.execute(
        "SELECT machine_id, seq, image, checksum FROM snapshots WHERE machine_id > %s ORDER BY machine_id LIMIT %s",
        (to_column(after), limit),
        binary=True,
    )
    return [
        StoredSnapshot(from_column(machine_id), seq, text, checksum)
        for machine_id, seq, text, checksum in rows
    ]


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
    rows = connection.execute(
        "SELECT machine_id, machine, status, state, seq, checksum FROM machines WHERE machine_id > %(after)s "
        "AND (%(machine)s::text IS NULL OR machine = %(machine)s) "
        "AND (%(status)s::text IS NULL OR status = %(status)s) "
        "AND (%(state)s::text IS NULL OR strpos(state, %(state)s) > 0) ORDER BY machine_id LIMIT %(limit)s",
        {
            "after": to_column(after),
            "machine": None if machine is None else to_column(machine),
            "status": status,
            "state": within,
            "limit": limit,
        },
        binary=True,
    )
    return [_head(row) for row in rows]


def timers_of(
    connection: Connection, before_us: int, after: tuple[int, str, str], limit: int
) -> list[StoredTimer]:
    """Return timers; see `Journal.timers`."""
    rows = connection.execute(
        "SELECT due_us, machine_id, name, body, checksum FROM timers WHERE due_us < %s AND (due_us, machine_id, name) "
        "> (%s, %s, %s) ORDER BY due_us, machine_id, name LIMIT %s",
        (before_us, after[0], to_column(after[1]), to_column(after[2]), limit),
        binary=True,
    )
    read = [
        (due_us, from_column(machine_id), from_column(name), body, checksum)
        for due_us, machine_id, name, body, checksum in rows
    ]
    return page_of(read, lambda row: _timer(*row), lambda row: row[:3])


def _timer(due_us: int, machine_id: str, name: str, body: str, checksum: bytes) -> StoredTimer:
    timer = codec.decode_timer(machine_id, body, checksum)
    if (timer.due_us, timer.machine_id, timer.name) != (due_us, machine_id, name):
        raise _corrupt(f"the timer {name} of {machine_id}", machine_id)
    return timer


def last_pending(connection: Connection) -> int:
    """Return the last place of what is pending; see `Journal.last_pending`."""
    found = connection.execute("SELECT max(place) FROM pending").fetchone()
    return 0 if found is None else int(found[0] or 0)


def pending_of(connection: Connection, after: int, limit: int, machine_id: str | None = None) -> list[Placed]:
    """Return what is pending; see `Journal.pending`."""
    which = "" if machine_id is None else "AND machine_id = %s "
    rows = connection.execute(
        f"SELECT place, key, machine_id, body, checksum FROM pending WHERE place > %s {which}"  # noqa: S608 -- a constant
        "ORDER BY place LIMIT %s",
        (after, limit) if machine_id is None else (after, to_column(machine_id), limit),
        binary=True,
    )
    read = [
        (place, from_column(key), from_column(machine_id), body, checksum)
        for place, key, machine_id, body, checksum in rows
    ]
    return page_of(read, lambda row: _placed(*row), lambda row: row[0])


def _placed(place: int, key: str, machine_id: str, body: str, checksum: bytes) -> Placed:
    pending = codec.decode_pending(machine_id, body, checksum)
    if (pending.key, pending.machine_id) != (key, machine_id):
        raise _corrupt(f"what is pending for {machine_id} as {key}", machine_id)
    return Placed(place, pending)


def dead_letters_of(connection: Connection, after: int, limit: int) -> list[DeadMessage]:
    """Return dead letters; see `Journal.dead_letters`."""
    rows = connection.execute(
        "SELECT place, machine_id, reason, at_us, body, checksum FROM dead_letters WHERE place > %s ORDER BY place "
        "LIMIT %s",
        (after, limit),
        binary=True,
    )
    return [
        codec.decode_dead(place, (from_column(machine_id), from_column(reason), at_us, body, checksum))
        for place, machine_id, reason, at_us, body, checksum in rows
    ]


def _corrupt(what: str, machine_id: str) -> JournalCorrupt:
    return JournalCorrupt(
        f"{what} is not what was written: the row was changed", seq=0, machine_id=machine_id
    )


# -- what is stored of a batch -----------------------------------------------------------------------------------------


def is_pending(connection: Connection, key: str) -> bool:
    """Return whether something is pending under a key."""
    return (
        connection.execute("SELECT 1 FROM pending WHERE key = %s", (to_column(key),)).fetchone() is not None
    )


def wait_out(connection: Connection, batch: Batch) -> None:
    """Wait until no transaction is open any more in which one of these machines has changed: the batch may be in it.

    An update of a machine's row waits for who has written it, and an insert for who has inserted it; what is done here
    is undone. It waits a moment at a time, for it holds up everything else.

    Raises:
        psycopg.Error: Such a transaction is still open.
    """
    machine_ids = sorted({to_column(entry.machine_id) for entry in batch.entries})
    if not machine_ids:
        return
    with connection.transaction(force_rollback=True):
        connection.execute("SELECT set_config('lock_timeout', '20ms', true)")
        connection.execute(
            "INSERT INTO machines SELECT it, '', '', '', 0, '' FROM unnest(%b::text[]) AS it (it) "
            "ON CONFLICT (machine_id) DO UPDATE SET seq = machines.seq",
            (machine_ids,),
        )


def has(connection: Connection, batch: Batch) -> bool:
    """Return whether a batch is stored; see `Journal.settle`."""
    for entry in batch.entries:
        rows = _rows(connection, entry.machine_id, entry.seq, entry.seq)
        if not (rows and codec.is_row_of(rows[0], entry)):
            return False
    if batch.entries:
        return True
    dead = "SELECT 1 FROM dead_letters WHERE machine_id = %s AND at_us = %s AND checksum = %s"
    return (
        all(is_pending(connection, pending.key) for pending in batch.accepted)
        and not any(is_pending(connection, key) for key in batch.settled)
        and all(
            connection.execute(
                dead, (to_column(letter.machine_id), letter.at_us, codec.encode_dead(letter)[1])
            ).fetchone()
            for letter in batch.dead
        )
    )
