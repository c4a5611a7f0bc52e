"""Export and import: a journal as lines that JSON can say, with nothing left out, and back.

The first line says what it is, the last one how much there was: an export that was cut off is found. What is stored as
text or bytes stays as it is, so that checksums hold. Epochs and places are not carried: they belong to a store.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, cast

from actorfsm.errors import ActorFSMError, JournalCorrupt, JournalUnusable
from actorfsm.journal import codec
from actorfsm.journal.codec import Row
from actorfsm.journal.dead_letters import all_letters
from actorfsm.journal.entry import Head
from actorfsm.journal.protocol import Part, StoredSnapshot
from actorfsm.journal.verify import verify_journal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from actorfsm.journal.protocol import Journal

__all__ = ["FORMAT", "exported", "imported"]

FORMAT: Final = 1
"""The newest format of an export that this version reads and the one that it writes."""

_PAGE: Final = 1_000
_EVER_US: Final = 2**62
_KINDS: Final = ("machine", "entry", "snapshot", "timer", "pending", "dead_letter")


async def exported(journal: Journal) -> AsyncIterator[dict[str, Any]]:
    """Yield the lines of an export. Nobody may write to the journal meanwhile.

    Raises:
        JournalCorrupt: A timer, something pending or a dead letter is not what was written. Entries are not looked at.
    """
    counts: Counter[str] = Counter()
    yield {"kind": "actorfsm journal", "format": FORMAT}
    async for line in _lines(journal):
        counts[line["kind"]] += 1
        yield line
    yield {"kind": "end", "counts": {kind: counts[kind] for kind in _KINDS}}


async def _lines(journal: Journal) -> AsyncIterator[dict[str, Any]]:
    for stream in (_heads, _rows, _snapshots, _timers, _pending, _letters):
        async for line in stream(journal):
            yield line


async def _heads(journal: Journal) -> AsyncIterator[dict[str, Any]]:
    last = ""
    while heads := await journal.machines(after=last, limit=_PAGE):
        for head in heads:
            yield {"kind": "machine", **head._asdict(), "checksum": head.checksum.hex()}
        last = heads[-1].machine_id


async def _rows(journal: Journal) -> AsyncIterator[dict[str, Any]]:
    last = ("", 0)
    while rows := await journal.rows(last, _PAGE):
        for row in rows:
            left = None if row.trimmed is None else row.trimmed.hex()
            yield {"kind": "entry", **row._asdict(), "trimmed": left, "checksum": row.checksum.hex()}
        last = (rows[-1].machine_id, rows[-1].seq)


async def _snapshots(journal: Journal) -> AsyncIterator[dict[str, Any]]:
    last = ""
    while snapshots := await journal.snapshots(last, _PAGE):
        for snapshot in snapshots:
            yield {"kind": "snapshot", **snapshot._asdict(), "checksum": snapshot.checksum.hex()}
        last = snapshots[-1].machine_id


async def _timers(journal: Journal) -> AsyncIterator[dict[str, Any]]:
    last: tuple[int, str, str] | None = None
    while timers := await journal.timers(_EVER_US, last, _PAGE):
        for timer in timers:
            yield _beside("timer", timer.machine_id, *codec.encode_timer(timer))
        last = (timers[-1].due_us, timers[-1].machine_id, timers[-1].name)


async def _pending(journal: Journal) -> AsyncIterator[dict[str, Any]]:
    last = 0
    while page := await journal.pending(last, _PAGE):
        for _, pending in page:
            yield _beside("pending", pending.machine_id, *codec.encode_pending(pending))
        last = page[-1].place


async def _letters(journal: Journal) -> AsyncIterator[dict[str, Any]]:
    async for letter in all_letters(journal):
        line = _beside("dead_letter", letter.machine_id, *codec.encode_dead(letter))
        yield {**line, "reason": letter.reason, "at_us": letter.at_us}


def _beside(kind: str, machine_id: str, text: str, checksum: bytes) -> dict[str, Any]:
    return {"kind": kind, "machine_id": machine_id, "text": text, "checksum": checksum.hex()}


async def imported(
    journal: Journal, lines: Iterable[str], progress: Callable[[int], None] = lambda _lines: None
) -> dict[str, int]:
    """Store an export in a journal that is empty, and verify it. Return how much of each kind there was.

    Raises:
        JournalUnusable: It is no export, one of a newer version, or cut off; or the journal is not empty.
        JournalCorrupt: The journal that was exported was not as it was written.
        JournalError: It could not be stored.
    """
    if (
        await journal.machines(limit=1)
        or await journal.pending(limit=1)
        or await journal.dead_letters(limit=1)
    ):
        raise JournalUnusable("there is something in the journal already: import into a new one")
    counts: Counter[str] = Counter()
    waiting = _empty()
    is_begun = has_ended = False
    for number, text in enumerate(lines, start=1):
        line = _read(number, text)
        kind = line["kind"]
        if not is_begun:
            _check_header(line)
            is_begun = True
        elif has_ended:
            raise JournalUnusable(f"line {number:,}: there is more behind the end of the export")
        elif kind == "end":
            has_ended = True
            if line.get("counts") != {kind: counts[kind] for kind in _KINDS}:
                raise JournalUnusable(f"line {number:,}: lines are missing: export the journal again")
        else:
            _take(waiting, number, line)
            counts[kind] += 1
        if number % _PAGE == 0:
            await _store(journal, waiting)
            waiting = _empty()
            progress(number)
    if not has_ended:
        raise JournalUnusable("the export ends before its end: export the journal again")
    await _store(journal, waiting)
    verdict = await verify_journal(journal)
    for fault in verdict.faults:
        raise JournalCorrupt(
            f"what was exported is not as it was written: {fault}", seq=fault.seq, machine_id=fault.machine_id
        )
    return {kind: counts[kind] for kind in _KINDS}


def _empty() -> dict[str, list[Any]]:
    return {kind: [] for kind in _KINDS}


def _read(number: int, text: str) -> dict[str, Any]:
    try:
        line: Any = json.loads(text)
    except ValueError:
        line = None
    if not isinstance(line, dict) or not isinstance(cast("Any", line).get("kind"), str):
        raise JournalUnusable(f"line {number:,} is no line of an export")
    return cast("dict[str, Any]", line)


def _check_header(line: dict[str, Any]) -> None:
    if line["kind"] != "actorfsm journal" or not isinstance(line.get("format"), int):
        raise JournalUnusable("this is no export: make one with `actorfsm export`")
    if line["format"] > FORMAT:
        raise JournalUnusable(
            f"the export was written by a newer version of actorfsm (format {line['format']}, this one reads up to "
            f"{FORMAT}): use that version"
        )


def _take(waiting: dict[str, list[Any]], number: int, line: dict[str, Any]) -> None:
    try:
        waiting[line["kind"]].append(_PARSERS[line["kind"]](line))
    except (KeyError, TypeError, ValueError, AttributeError, ActorFSMError) as error:
        raise JournalUnusable(f"line {number:,} is no line of an export, or was changed: {error!r}") from None


_PARSERS: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    "machine": lambda line: Head(
        *(line["machine_id"], line["machine"], line["status"], tuple(line["state"])),
        *(line["seq"], bytes.fromhex(line["checksum"])),
    ),
    "entry": lambda line: Row(
        *(line["machine_id"], line["seq"], line["concluded_id"], line["body"], line["answer"]),
        None if line["trimmed"] is None else bytes.fromhex(line["trimmed"]),
        bytes.fromhex(line["checksum"]),
    ),
    "snapshot": lambda line: StoredSnapshot(
        *(line["machine_id"], line["seq"], line["text"]), bytes.fromhex(line["checksum"])
    ),
    "timer": lambda line: codec.decode_timer(
        line["machine_id"], line["text"], bytes.fromhex(line["checksum"])
    ),
    "pending": lambda line: codec.decode_pending(
        line["machine_id"], line["text"], bytes.fromhex(line["checksum"])
    ),
    "dead_letter": lambda line: codec.decode_dead(
        0,
        (line["machine_id"], line["reason"], line["at_us"], line["text"], bytes.fromhex(line["checksum"])),
    ),
}


async def _store(journal: Journal, waiting: dict[str, list[Any]]) -> None:
    part = Part(*(waiting[kind] for kind in _KINDS))
    if any(part):
        await journal.restore(part)
