"""What is written: each change is one call of a function of the server; see `migrations/`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, LiteralString, NamedTuple

from actorfsm.journal import codec
from actorfsm.journal.codec import FIRST
from actorfsm.journal.postgresql import queries
from actorfsm.journal.postgresql.text import to_column

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from psycopg import Connection

    from actorfsm.errors import EventIdUsed
    from actorfsm.journal.entry import Batch
    from actorfsm.journal.protocol import Part

__all__ = [
    "APPEND",
    "FIRST_USED",
    "Claim",
    "Owner",
    "Values",
    "claims_of",
    "drop_dead_letters",
    "forget",
    "plan",
    "restore",
    "snapshot",
    "used_by",
    "values_of",
    "values_of_claims",
]

Values = list[Any]

_TYPES: Final = {
    # Of each kind of row the columns: s is text, n a number, b bytes.
    "entry": "snssb",
    "head": "ssssnbnb",
    "ended": "ss",
    "timer": "ssnsb",
    "accepted": "ss",
    "pending": "ssssb",
    "settled": "s",
    "dead": "ssnsb",
    "image": "snsb",
}
_ARRAYS: Final[dict[str, LiteralString]] = {"s": "%b::text[]", "n": "%b::bigint[]", "b": "%b::bytea[]"}

_PLACES: Final[list[LiteralString]] = [_ARRAYS[of] for columns in _TYPES.values() for of in columns]

APPEND: Final[LiteralString] = "append(%s, %s, " + ", ".join(_PLACES) + ")"
"""The call that stores batches, for the `values_of` them."""


class Owner(NamedTuple):
    """What shows a connection to be that of the owner."""

    epoch: int
    token: UUID


def plan(batch: Batch, heads: dict[str, tuple[int, bytes]]) -> codec.Plan:
    """Return what a batch comes to after those before it in the same call.

    Args:
        batch: What is to be stored.
        heads: Number and checksum of the last entry of machines, as those before leave them; this one is added.

    Raises:
        NotStored: It breaks a rule of the journal.
    """
    planned = codec.plan(batch, lambda machine_id: heads.get(machine_id, (0, FIRST)))
    for row in planned.rows:
        heads[row.machine_id] = (row.seq, row.checksum)
    return planned


def values_of(
    owner: Owner,
    plans: Sequence[codec.Plan],
    batches: Sequence[Batch],
    before: Mapping[str, tuple[int, bytes]],
) -> Values:
    """Return the values for `APPEND`.

    Args:
        owner: Who stores them.
        plans: What the batches come to.
        batches: The same batches.
        before: Number and checksum of the last entry of the machines, before all of them.
    """
    text = to_column
    rows = [row for planned in plans for row in planned.rows]
    entries = [entry for batch in batches for entry in batch.entries]
    heads = {
        entry.machine_id: (
            *(text(entry.machine_id), text(entry.machine), entry.status, queries.text_of(entry.target)),
            *(row.seq, row.checksum, *before.get(entry.machine_id, (0, FIRST))),
        )
        for entry, row in zip(entries, rows, strict=True)
    }
    timers = {key: timer for planned in plans for key, timer in planned.timers.items()}
    images = {image[0]: image for planned in plans for image in planned.images}
    tables: list[tuple[str, Iterable[tuple[Any, ...]]]] = [
        (
            "entry",
            (
                (
                    *(
                        text(row.machine_id),
                        row.seq,
                        None if row.concluded_id is None else text(row.concluded_id),
                    ),
                    *(row.body, row.checksum),
                )
                for row in rows
            ),
        ),
        ("head", heads.values()),
        ("ended", ((text(of), text(name)) for (of, name), timer in timers.items() if timer is None)),
        (
            "timer",
            ((text(of), text(name), *timer) for (of, name), timer in timers.items() if timer is not None),
        ),
        (
            "accepted",
            (
                (text(pending.machine_id), text(pending.message.event_id))
                for batch in batches
                for pending in batch.accepted
            ),
        ),
        (
            "pending",
            (
                (text(key), text(of), text(event_id), body, checksum)
                for planned in plans
                for key, (of, event_id, body, checksum) in planned.promises.items()
            ),
        ),
        ("settled", ((text(key),) for planned in plans for key in planned.settled)),
        (
            "dead",
            (
                (text(of), text(reason), at_us, body, checksum)
                for planned in plans
                for of, reason, at_us, body, checksum in planned.dead
            ),
        ),
        ("image", ((text(of), seq, body, checksum) for of, seq, body, checksum in images.values())),
    ]
    values: Values = [owner.epoch, owner.token]
    for kind, table in tables:
        columns = list(zip(*table, strict=True)) or [()] * len(_TYPES[kind])
        values += [list(column) for column in columns]
    return values


FIRST_USED: Final = "first_used(%b::text[], %b::text[], %b::text[])"
"""The call that finds which of the `claims_of` a batch comes too late."""


class Claim(NamedTuple):
    """What a batch has to be the first with.

    Attributes:
        machine_id: The machine.
        event_id: The event id.
        uses_up: Whether with it the event id is used up, or accepted so that it will be.
        key: Under which it waits, or None.
    """

    machine_id: str
    event_id: str
    uses_up: bool
    key: str | None


def claims_of(batch: Batch) -> list[Claim]:
    """Return all that a batch has to be the first with."""
    concluded = [
        Claim(entry.machine_id, entry.concluded_id, uses_up=True, key=None)
        for entry in batch.entries
        if entry.concluded_id is not None
    ]
    promised = [
        Claim(pending.machine_id, pending.message.event_id, uses_up=False, key=pending.key)
        for entry in batch.entries
        for pending in entry.promises
    ]
    accepted = [
        Claim(pending.machine_id, pending.message.event_id, uses_up=True, key=pending.key)
        for pending in batch.accepted
    ]
    return concluded + promised + accepted


def values_of_claims(claims: Sequence[Claim]) -> Values:
    """Return the values for `FIRST_USED`."""
    return [
        [to_column(claim.machine_id) for claim in claims],
        [to_column(claim.event_id) if claim.uses_up else None for claim in claims],
        [None if claim.key is None else to_column(claim.key) for claim in claims],
    ]


def used_by(claims: Sequence[Claim], found: Sequence[Any] | None) -> EventIdUsed | None:
    """Return the error for what `FIRST_USED` has found; None if it found nothing."""
    if found is None or found[0] is None:
        return None
    place: int = found[0]
    claim = claims[place - 1]
    return codec.used_before(claim.machine_id, claim.event_id)


def snapshot(connection: Connection, owner: Owner, machine_id: str, keep: int | None) -> int:
    """Store a machine's image and trim its entries; see `Journal.snapshot`.

    Raises:
        JournalCorrupt: What is stored of it is not what was written.
    """
    stored = queries.load(connection, machine_id)
    if stored is None:
        return 0
    head = stored.head
    image, checksum = codec.encode_image(stored.image, head.checksum)
    old = [] if keep is None else queries.untrimmed(connection, machine_id, 0, head.seq - keep)
    left = [codec.trimmed(row) for row in old]
    return _count(
        connection,
        "SELECT snapshot(%s, %s, %s, %s, %b, %s, %b, %b::bigint[], %b::text[], %b::bytea[])",
        [
            *owner,
            *(to_column(machine_id), head.seq, head.checksum, image, checksum),
            *([row.seq for row in left], [row.answer for row in left], [row.trimmed for row in left]),
        ],
    )


def restore(connection: Connection, part: Part) -> int:
    """Store part of another journal; see `Journal.restore`."""
    text = to_column
    tables: list[tuple[LiteralString, list[tuple[Any, ...]]]] = [
        (
            "machines VALUES (%s, %s, %s, %s, %s, %b)",
            [
                (text(of), text(machine), status, queries.text_of(state), seq, checksum)
                for of, machine, status, state, seq, checksum in part.heads
            ],
        ),
        (
            "entries VALUES (%s, %s, %s, %s, %s, %b, %b)",
            [
                (
                    text(row.machine_id),
                    row.seq,
                    None if row.concluded_id is None else text(row.concluded_id),
                    *row[3:],
                )
                for row in part.rows
            ],
        ),
        ("snapshots VALUES (%s, %s, %s, %b)", [(text(of), *rest) for of, *rest in part.snapshots]),
        (
            "timers VALUES (%s, %s, %s, %s, %b)",
            [
                (text(timer.machine_id), text(timer.name), timer.due_us, *codec.encode_timer(timer))
                for timer in part.timers
            ],
        ),
        (
            "pending (key, machine_id, event_id, body, checksum) VALUES (%s, %s, %s, %s, %b)",
            [
                (
                    *(text(pending.key), text(pending.machine_id), text(pending.message.event_id)),
                    *codec.encode_pending(pending),
                )
                for pending in part.pending
            ],
        ),
        (
            "dead_letters (machine_id, reason, at_us, body, checksum) VALUES (%s, %s, %s, %s, %b)",
            [
                (text(letter.machine_id), text(letter.reason), letter.at_us, *codec.encode_dead(letter))
                for letter in part.dead
            ],
        ),
    ]
    with connection.transaction(), connection.cursor() as cursor:
        for table, rows in tables:
            cursor.executemany("INSERT INTO " + table, rows)
    return sum(len(rows) for _, rows in tables)


def forget(connection: Connection, owner: Owner, machine_id: str, through_seq: int) -> int:
    """Forget event ids and answers; see `Journal.forget`."""
    values = [*owner, to_column(machine_id), through_seq]
    return _count(connection, "SELECT forget(%s, %s, %s, %s)", values)


def drop_dead_letters(connection: Connection, owner: Owner, places: Sequence[int]) -> int:
    """Forget dead letters; see `Journal.drop_dead_letters`."""
    return _count(connection, "SELECT drop_dead_letters(%s, %s, %b::bigint[])", [*owner, list(places)])


def _count(connection: Connection, call: Any, values: Values) -> int:
    row = connection.execute(call, values).fetchone()
    return int(row[0]) if row else 0
