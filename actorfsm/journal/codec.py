"""The codec: entries as rows and back, with checksums that are chained per machine (C27).

The checksum of an entry covers its body and the checksum before it: a row that was changed, moved, copied or left out
does not fit. A trimmed entry keeps the hash of its body, and so is still a link of the chain.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from actorfsm.errors import EventIdUsed, Fenced, JournalCorrupt, NotStored
from actorfsm.journal.entry import (
    Answer,
    DeadMessage,
    Entry,
    Message,
    Payload,
    Pending,
    Recorded,
    StoredTimer,
)
from actorfsm.journal.entry_text import text_of_usual
from actorfsm.journal.image import Image

if TYPE_CHECKING:
    from collections.abc import Callable

    from actorfsm.journal.entry import Batch

__all__ = [
    "FIRST",
    "Plan",
    "Row",
    "chained",
    "check_trimmed",
    "checksum_of_image",
    "decode",
    "decode_dead",
    "decode_image",
    "decode_pending",
    "decode_recorded",
    "decode_timer",
    "encode_dead",
    "encode_image",
    "encode_pending",
    "encode_timer",
    "event_id_of",
    "fingerprint_of",
    "hash_of",
    "is_link",
    "is_row_of",
    "plan",
    "trimmed",
    "used_before",
]

T = TypeVar("T")

_SIZE: Final = 16

FIRST: Final = b"\0" * _SIZE
"""What stands for the checksum before a machine's first entry."""


@dataclass(frozen=True, slots=True)
class _StoredAnswer:
    event_type: str
    fingerprint: str
    answer: Answer
    event_version: int = 1


_ENTRY: Final = TypeAdapter(Entry)
_ANSWER: Final = TypeAdapter(_StoredAnswer)
_TIMER: Final = TypeAdapter(StoredTimer)
_PENDING: Final = TypeAdapter(Pending)
_MESSAGE: Final = TypeAdapter(Message)
_IMAGE: Final = TypeAdapter(Image)


class Row(NamedTuple):
    """An entry as it is stored.

    Attributes:
        machine_id: The machine.
        seq: The entry's number.
        concluded_id: The event id that is used up with it, or None.
        body: The entry as JSON; None once it was trimmed.
        answer: What is left of a trimmed entry, as JSON: its answer, if it had one.
        trimmed: The hash of the body that was trimmed and that of what is left, or None.
        checksum: Of this entry and all before it.
    """

    machine_id: str
    seq: int
    concluded_id: str | None
    body: str | None
    answer: str | None
    trimmed: bytes | None
    checksum: bytes


def hash_of(*parts: str | bytes | None) -> bytes:
    """Return a hash of the parts, each with its length, so that none can pass for two."""
    state = blake2b(digest_size=_SIZE)
    for part in parts:
        if part is None:
            state.update(b"-")
            continue
        raw = part.encode() if isinstance(part, str) else part
        state.update(b"%d:" % len(raw))
        state.update(raw)
    return state.digest()


def fingerprint_of(event: Payload) -> bytes:
    """Return a hash that tells this event from another one."""
    return hash_of(event.type, event.json)


# -- writing -----------------------------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """What a batch comes to, all of it checked for what can be known before. Only its last word on a thing is in it.

    Attributes:
        rows: The entries as rows, in the order of the batch.
        timers: Timers by machine and name: deadline, text and checksum, or None if it is to be none.
        promises: What is pending from now on, by key: machine, event id, text and checksum.
        settled: Keys of what is done; some may never have been promised.
        dead: Dead letters: machine, reason, time, text and checksum.
        images: Snapshots: machine, number of the entry, text and checksum.
        is_usual: Whether there is nothing but one row.
    """

    rows: list[Row]
    timers: dict[tuple[str, str], tuple[int, str, bytes] | None]
    promises: dict[str, tuple[str, str, str, bytes]]
    settled: set[str]
    dead: list[tuple[str, str, int, str, bytes]]
    images: list[tuple[str, int, str, bytes]]
    is_usual: bool = False


def plan(batch: Batch, head_of: Callable[[str], tuple[int, bytes]]) -> Plan:
    """Return what a batch comes to, each entry as the next of its machine.

    Args:
        batch: What is to be stored.
        head_of: Returns number and checksum of a machine's last entry; 0 and `FIRST` if there is none.

    Raises:
        Fenced: An entry is not the next of its machine: somebody else has written there.
        EventIdUsed: The batch would use an event id, or a key, twice.
        NotStored: It holds what cannot be written as JSON.
    """
    if len(batch.entries) == 1 and not (batch.accepted or batch.settled or batch.dead or batch.images):
        entry = batch.entries[0]
        if not (entry.timers_set or entry.timers_ended or entry.promises or entry.settles):
            row = _next_row(entry, head_of(entry.machine_id))
            return Plan([row], {}, {}, set(), [], [], is_usual=True)
    planned = Plan([], {}, {}, set(batch.settled), [], [])
    heads: dict[str, tuple[int, bytes]] = {}
    used: set[tuple[str, str]] = set()
    for entry in batch.entries:
        row = _next_row(entry, heads.get(entry.machine_id) or head_of(entry.machine_id))
        heads[entry.machine_id] = (row.seq, row.checksum)
        if row.concluded_id is not None:
            if (row.machine_id, row.concluded_id) in used:
                raise used_before(row.machine_id, row.concluded_id)
            used.add((row.machine_id, row.concluded_id))
        planned.rows.append(row)
        _follow(planned, entry)
    for pending in batch.accepted:
        _promise(planned, pending)
    for key in planned.settled & planned.promises.keys():
        del planned.promises[key]
    for dead in batch.dead:
        planned.dead.append((dead.machine_id, dead.reason, dead.at_us, *encode_dead(dead)))
    planned.images.extend(_snapshot(image, heads.get(image.machine_id, (0, FIRST))) for image in batch.images)
    return planned


def _snapshot(image: Image, last: tuple[int, bytes]) -> tuple[str, int, str, bytes]:
    seq, checksum = last
    if image.seq != seq:
        raise NotStored(
            f"the image of {image.machine_id} shows entry {image.seq}; the last one in its batch is {seq or 'none'}",
            machine_id=image.machine_id,
        )
    return (image.machine_id, seq, *encode_image(image, checksum))


def _follow(planned: Plan, entry: Entry) -> None:
    """Note what an entry changes beside the entries."""
    for name in entry.timers_ended:
        planned.timers[entry.machine_id, name] = None
    for timer in entry.timers_set:
        planned.timers[entry.machine_id, timer.name] = (timer.due_us, *encode_timer(timer))
    for pending in entry.promises:
        _promise(planned, pending)
    planned.settled.update(entry.settles)


def _next_row(entry: Entry, head: tuple[int, bytes]) -> Row:
    seq, checksum = head
    if entry.seq != seq + 1:
        raise Fenced(
            f"entry {entry.seq} of {entry.machine_id} is not the next one, {seq + 1} is: another system has written "
            "to this machine",
            machine_id=entry.machine_id,
        )
    return _encode(entry, checksum)


def _promise(planned: Plan, pending: Pending) -> None:
    if pending.key in planned.promises:
        raise used_before(pending.machine_id, pending.message.event_id)
    planned.promises[pending.key] = (
        pending.machine_id,
        pending.message.event_id,
        *encode_pending(pending),
    )


def used_before(machine_id: str, event_id: str) -> EventIdUsed:
    """Return the error for an event id that is used up, or waits."""
    return EventIdUsed(
        f"event id {event_id!r} was applied to {machine_id} before, or waits for it", machine_id=machine_id
    )


def event_id_of(row: Row, begin: str = "") -> str | None:
    """Return the event id of an entry as it is stored, nothing checked; None if it has none, or was trimmed.

    Args:
        row: The entry.
        begin: Only of ids that begin like this: others may be left out, which is quicker.
    """
    if row.concluded_id is not None:
        return row.concluded_id
    if row.body is None or json.dumps(begin, ensure_ascii=False)[1:-1] not in row.body:
        return None
    try:
        event_id: str | None = json.loads(row.body)["message"]["event_id"]
    except (
        ValueError,
        LookupError,
        TypeError,
    ):  # a birth without an event; or damaged, which is for others to tell
        return None
    return event_id


def is_row_of(row: Row, entry: Entry) -> bool:
    """Return whether a stored row is this entry and not another one with its number."""
    return row.body is not None and _encode(entry, FIRST)[:5] == row[:5]


def _encode(entry: Entry, previous: bytes) -> Row:
    machine_id = entry.machine_id
    try:
        body = text_of_usual(entry) or _dump(_ENTRY, entry, machine_id)
        of_body = blake2b(body.encode(), digest_size=_SIZE).digest()
    except (UnicodeError, ValueError, TypeError) as error:
        raise _unwritable(machine_id, error) from None
    checksum = blake2b(previous + of_body, digest_size=_SIZE).digest()
    return Row(machine_id, entry.seq, entry.concluded_id, body, None, None, checksum)


def _hash(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=_SIZE).digest()


def chained(row: Row, previous: bytes) -> bytes:
    """Return the checksum that a row must have after the one before it."""
    of_body = (row.trimmed or b"")[:_SIZE] if row.body is None else _hash(row.body)
    return blake2b(previous + of_body, digest_size=_SIZE).digest()


def trimmed(row: Row) -> Row:
    """Return the row without its body, but for the answer; the chain still holds."""
    if row.body is None:
        return row
    entry = _load(_ENTRY, row.body, row.machine_id, row.seq)
    answer = None
    if entry.answer is not None and entry.message is not None:
        event = entry.message.event
        left = _StoredAnswer(event.type, fingerprint_of(event).hex(), entry.answer, event.version)
        answer = _dump(_ANSWER, left, row.machine_id)
    trimmed = _hash(row.body) + hash_of(row.concluded_id, answer)
    return row._replace(body=None, answer=answer, trimmed=trimmed)


def _dump(adapter: TypeAdapter[Any], value: Any, machine_id: str) -> str:
    try:
        return adapter.dump_json(value, exclude_defaults=True, warnings="error").decode()
    except (PydanticSerializationError, UnicodeError, ValueError) as error:
        raise _unwritable(machine_id, error) from None


def _unwritable(machine_id: str, error: Exception) -> NotStored:
    return NotStored(
        f"what {machine_id} would store cannot be written as JSON: {type(error).__name__}",
        machine_id=machine_id,
    )


# -- reading -----------------------------------------------------------------------------------------------------------


def decode(row: Row, previous: bytes) -> Entry:
    """Return the entry of a row that was not trimmed.

    Args:
        row: The row.
        previous: The checksum of the entry before it.

    Raises:
        JournalCorrupt: It is not what was written, or not the next one.
    """
    if row.body is None or chained(row, previous) != row.checksum:
        raise _corrupt(row, "the checksum does not fit")
    entry = _load(_ENTRY, row.body, row.machine_id, row.seq)
    if (entry.machine_id, entry.seq, entry.concluded_id) != (row.machine_id, row.seq, row.concluded_id):
        raise _corrupt(row, "body and row are not of the same entry")
    return entry


def decode_recorded(row: Row, previous: bytes) -> Recorded:
    """Return what a row says of its event id.

    Raises:
        JournalCorrupt: It is not what was written.
    """
    if row.body is not None:
        entry = decode(row, previous)
        assert entry.answer is not None  # noqa: S101 -- `decode` has seen that it concludes the id of the row
        assert entry.message is not None  # noqa: S101 -- the same
        event = entry.message.event
        return Recorded(row.seq, event.type, event, fingerprint_of(event), entry.answer, event.version)
    left = (row.trimmed or b"")[_SIZE:]
    if (
        row.answer is None
        or chained(row, previous) != row.checksum
        or left != hash_of(row.concluded_id, row.answer)
    ):
        raise _corrupt(row, "the checksum does not fit")
    stored = _load(_ANSWER, row.answer, row.machine_id, row.seq)
    fingerprint = bytes.fromhex(stored.fingerprint)
    return Recorded(row.seq, stored.event_type, None, fingerprint, stored.answer, stored.event_version)


def is_link(row: Row) -> bool:
    """Return whether of this entry, and those before it, nothing is left but the checksum: they were forgotten."""
    return row.body is None and row.trimmed is None


def check_trimmed(row: Row, previous: bytes) -> None:
    """Look at a row that was trimmed.

    Raises:
        JournalCorrupt: It is not what was written.
    """
    left = (row.trimmed or b"")[_SIZE:]
    if chained(row, previous) != row.checksum or left != hash_of(row.concluded_id, row.answer):
        raise _corrupt(row, "the checksum does not fit")


def _corrupt(row: Row, why: str) -> JournalCorrupt:
    return JournalCorrupt(
        f"entry {row.seq} of {row.machine_id} is not what was written: {why}",
        seq=row.seq,
        machine_id=row.machine_id,
    )


def _load(adapter: TypeAdapter[T], text: str, machine_id: str, seq: int) -> T:
    try:
        return adapter.validate_json(text)
    except ValidationError:
        raise JournalCorrupt(
            f"entry {seq} of {machine_id} cannot be read: it was not written by this version, nor by an older one",
            seq=seq,
            machine_id=machine_id,
        ) from None


# -- what stands beside the entries ------------------------------------------------------------------------------------


def encode_image(image: Image, checksum: bytes) -> tuple[str, bytes]:
    """Return the text of a snapshot, and its own checksum after that of the entry that it shows."""
    text = _dump(_IMAGE, image, image.machine_id)
    return text, checksum_of_image(text, checksum)


def checksum_of_image(text: str, checksum: bytes) -> bytes:
    """Return the checksum that a snapshot must have."""
    return hash_of("snapshot", checksum, text)


def decode_image(machine_id: str, seq: int, text: str) -> Image:
    """Return a snapshot.

    Raises:
        JournalCorrupt: It cannot be read.
    """
    return _load(_IMAGE, text, machine_id, seq)


def encode_timer(timer: StoredTimer) -> tuple[str, bytes]:
    """Return a timer as text, with its checksum."""
    text = _dump(_TIMER, timer, timer.machine_id)
    return text, hash_of("timer", text)


def decode_timer(machine_id: str, text: str, checksum: bytes) -> StoredTimer:
    """Return a timer.

    Raises:
        JournalCorrupt: It is not what was written.
    """
    _check_beside("timer", machine_id, text, checksum)
    return _load(_TIMER, text, machine_id, 0)


def encode_pending(pending: Pending) -> tuple[str, bytes]:
    """Return what is pending as text, with its checksum."""
    text = _dump(_PENDING, pending, pending.machine_id)
    return text, hash_of("pending", text)


def decode_pending(machine_id: str, text: str, checksum: bytes) -> Pending:
    """Return what is pending.

    Raises:
        JournalCorrupt: It is not what was written.
    """
    _check_beside("pending", machine_id, text, checksum)
    return _load(_PENDING, text, machine_id, 0)


def encode_dead(dead: DeadMessage) -> tuple[str, bytes]:
    """Return the message of a dead letter as text, with its checksum."""
    text = _dump(_MESSAGE, dead.message, dead.machine_id)
    return text, hash_of("dead", dead.machine_id, dead.reason, str(dead.at_us), text)


def decode_dead(place: int, letter: tuple[str, str, int, str, bytes]) -> DeadMessage:
    """Return a dead letter.

    Raises:
        JournalCorrupt: It is not what was written.
    """
    machine_id, reason, at_us, text, checksum = letter
    if hash_of("dead", machine_id, reason, str(at_us), text) != checksum:
        raise _corrupt_beside("dead letter", machine_id)
    message = _load(_MESSAGE, text, machine_id, 0)
    return DeadMessage(machine_id=machine_id, message=message, reason=reason, at_us=at_us, place=place)


def _check_beside(what: str, machine_id: str, text: str, checksum: bytes) -> None:
    if hash_of(what, text) != checksum:
        raise _corrupt_beside(what, machine_id)


def _corrupt_beside(what: str, machine_id: str) -> JournalCorrupt:
    return JournalCorrupt(
        f"a {what} row of {machine_id} is not what was written: the checksum does not fit",
        seq=0,
        machine_id=machine_id,
    )
