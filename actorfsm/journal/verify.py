"""Verify: all that a journal can show of itself, read once from front to back, in pages.

Of each machine: its entries have no gaps (I3) and each fits the one before by its checksum (I6) and by its state (I4);
an event id is used up once (I2); head, snapshot and entries tell the same (I5). Of all together: the timers that are
stored are those that the machines have; a promise is made once, settled once, and is not pending after that (I7).

Where entries were trimmed, a machine is judged from its snapshot on. A promise that was settled without an entry (a
hook that has run, a dead letter) leaves nothing to look at. Whether a client was told the truth no journal can show.

What has to be compared over all machines stands in a temporary SQLite file, so that memory does not grow with the
journal.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, Protocol, TypeVar

from actorfsm.errors import JournalCorrupt
from actorfsm.journal import codec
from actorfsm.journal.image import Image

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from actorfsm.journal.codec import Row
    from actorfsm.journal.entry import Entry, Head, StoredTimer
    from actorfsm.journal.protocol import Journal, StoredSnapshot

__all__ = ["Fault", "Verdict", "verify_journal"]

T = TypeVar("T")

_PAGE: Final = 1_000
_EVER_US: Final = 2**62
_MOST_FAULTS: Final = 1_000


class Fault(NamedTuple):
    """The first thing that is wrong with a machine.

    Attributes:
        machine_id: The machine.
        seq: The entry at which it shows; 0 where it is beside the entries.
        rule: Which invariant does not hold: I2 to I7, or `timers`.
        text: What is wrong.
    """

    machine_id: str
    seq: int
    rule: str
    text: str

    def __str__(self) -> str:
        where = f"entry {self.seq:,} of {self.machine_id}" if self.seq else self.machine_id
        return f"{where}: {self.text} ({self.rule})"


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What came of it.

    Attributes:
        machines: How many machines there are.
        entries: How many entries.
        trimmed: How many of them were trimmed.
        timers: How many timers run.
        pending: How much is pending.
        dead_letters: How many dead letters there are.
        faults: For each machine that has one the first, in the order of their ids; at most 1,000.
        faulty: How many machines have one.
    """

    machines: int = 0
    entries: int = 0
    trimmed: int = 0
    timers: int = 0
    pending: int = 0
    dead_letters: int = 0
    faults: list[Fault] = field(default_factory=list[Fault])
    faulty: int = 0

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return self.faulty == 0


async def verify_journal(
    journal: Journal, *, progress: Callable[[int], None] = lambda _entries: None
) -> Verdict:
    """Look at everything in a journal.

    Nobody may write to it meanwhile: open it to read only and `still`, or before a system does.

    Args:
        journal: The journal; it is open.
        progress: Called now and then with how many entries were looked at.

    Raises:
        JournalError: It cannot be read.
    """
    verdict = Verdict()
    with closing(_Facts()) as facts:
        await _look_at_machines(journal, verdict, facts, progress)
        await _look_beside(journal, verdict, facts)
        facts.judge()
        verdict.faults, verdict.faulty = facts.faults(_MOST_FAULTS)
    return verdict


async def _look_at_machines(
    journal: Journal, verdict: Verdict, facts: _Facts, progress: Callable[[int], None]
) -> None:
    """Go through entries, heads and snapshots side by side: all three come in the order of the machines' ids."""
    heads = _Ahead(_paged(lambda last: journal.machines(after=last.machine_id if last else "", limit=_PAGE)))
    snapshots = _Ahead(_paged(lambda last: journal.snapshots(last.machine_id if last else "", _PAGE)))
    rows = _Ahead(_paged(lambda last: journal.rows((last.machine_id, last.seq) if last else ("", 0), _PAGE)))
    await rows.step()
    await heads.step()
    await snapshots.step()
    while (machine_id := _least(rows.item, heads.item, snapshots.item)) is not None:
        head = await heads.taken(machine_id)
        check = _Machine(machine_id, await snapshots.taken(machine_id), facts)
        verdict.machines += 1
        while (row := rows.item) is not None and row.machine_id == machine_id:
            verdict.entries += 1
            verdict.trimmed += row.body is None
            check.see(row)
            if verdict.entries % _PAGE == 0:
                progress(verdict.entries)
            await rows.step()
        check.finish(head)


async def _look_beside(journal: Journal, verdict: Verdict, facts: _Facts) -> None:
    try:
        async for timer in _paged(
            lambda last: journal.timers(
                _EVER_US, (last.due_us, last.machine_id, last.name) if last else None, _PAGE
            )
        ):
            verdict.timers += 1
            facts.add("timer", _key_of(timer), timer.machine_id, 0, codec.encode_timer(timer)[1])
    except JournalCorrupt as error:
        facts.wrong(Fault(error.machine_id or "", 0, "timers", str(error)))
    try:
        async for placed in _paged(lambda last: journal.pending(last.place if last else 0, _PAGE)):
            verdict.pending += 1
            pending = placed.pending
            facts.add("pending", pending.key, pending.machine_id, 0, codec.encode_pending(pending)[1])
    except JournalCorrupt as error:
        facts.wrong(Fault(error.machine_id or "", 0, "I7", str(error)))
    try:
        async for _ in _paged(lambda last: journal.dead_letters(last.place if last else 0, _PAGE)):
            verdict.dead_letters += 1
    except JournalCorrupt as error:
        facts.wrong(Fault(error.machine_id or "", 0, "I7", str(error)))


async def _paged(page_after: Callable[[T | None], Awaitable[Sequence[T]]]) -> AsyncIterator[T]:
    last: T | None = None
    while page := await page_after(last):
        for item in page:
            yield item
        last = page[-1]


class _OfMachine(Protocol):
    @property
    def machine_id(self) -> str: ...


OfMachine = TypeVar("OfMachine", bound=_OfMachine)


class _Ahead(Generic[OfMachine]):
    """A stream of which the next item is known."""

    def __init__(self, items: AsyncIterator[OfMachine]) -> None:
        self._items = items
        self.item: OfMachine | None = None

    async def step(self) -> None:
        self.item = await anext(self._items, None)

    async def taken(self, machine_id: str) -> OfMachine | None:
        """Return the next item and step on, if it is of this machine."""
        item = self.item
        if item is None or item.machine_id != machine_id:
            return None
        await self.step()
        return item


def _least(*items: _OfMachine | None) -> str | None:
    return min((item.machine_id for item in items if item is not None), default=None)


# -- one machine -------------------------------------------------------------------------------------------------------


class _Machine:
    """Follows the chain of one machine, up to the first thing that is wrong."""

    def __init__(self, machine_id: str, snapshot: StoredSnapshot | None, facts: _Facts) -> None:
        self._id = machine_id
        self._snapshot = snapshot
        self._facts = facts
        self._seq = 0
        self._checksum = codec.FIRST
        self._image: Image | None = Image(machine_id=machine_id)
        """What the entries so far have left; None where some are trimmed, until the snapshot says it."""
        self._is_wrong = False

    def see(self, row: Row) -> None:
        """Look at the next entry."""
        if self._is_wrong:
            return
        try:
            self._see(row)
        except JournalCorrupt as error:
            self._wrong(row.seq, "I6", str(error))
        except _Wrong as wrong:
            self._wrong(wrong.seq, wrong.rule, wrong.text)

    def _see(self, row: Row) -> None:
        is_first_left = self._seq == 0 and codec.is_link(row)
        if row.seq != self._seq + 1 and not is_first_left:
            raise _Wrong(self._seq + 1, "I3", f"it is not there; the next one is {row.seq:,}")
        entry: Entry | None = None
        if is_first_left:
            pass  # those before it are forgotten, so that nothing can be said of it
        elif row.body is None:
            codec.check_trimmed(row, self._checksum)
        else:
            entry = codec.decode(row, self._checksum)
        if row.concluded_id is not None:
            self._facts.add("event id", f"{self._id}\0{row.concluded_id}", self._id, row.seq)
        if entry is None:
            self._image = None
        else:
            self._follow(entry)
        self._seq, self._checksum = row.seq, row.checksum
        if self._snapshot is not None and self._snapshot.seq == row.seq:
            self._compare(self._snapshot)

    def _follow(self, entry: Entry) -> None:
        image = self._image
        if image is not None:
            is_birth = entry.source == () and (entry.seq == 1 or image.status != "alive")
            if entry.source != image.state and not is_birth:
                raise _Wrong(
                    entry.seq,
                    "I4",
                    f"it begins in {_shown(entry.source)}, and the one before ends in {_shown(image.state)}",
                )
            image.apply(entry)
        for pending in entry.promises:
            self._facts.add("promise", pending.key, self._id, entry.seq, codec.encode_pending(pending)[1])
        for key in entry.settles:
            self._facts.add("settled", key, self._id, entry.seq)

    def _compare(self, snapshot: StoredSnapshot) -> None:
        if codec.checksum_of_image(snapshot.text, self._checksum) != snapshot.checksum:
            raise _Wrong(snapshot.seq, "I5", "its snapshot is not what was written")
        shown = codec.decode_image(self._id, snapshot.seq, snapshot.text)
        if self._image is None:
            self._image = shown
        elif shown != self._image:
            raise _Wrong(snapshot.seq, "I5", "its snapshot does not show what the entries have left")

    def finish(self, head: Head | None) -> None:
        """Look at the head, after the last entry."""
        if self._is_wrong:
            return
        seq, snapshot, image = self._seq, self._snapshot, self._image
        if head is None:
            self._wrong(seq, "I5", "the machine's head is not there")
        elif head.seq > seq:
            self._wrong(seq + 1, "I3", f"it is not there; the machine's head says {head.seq:,}")
        elif snapshot is not None and snapshot.seq > seq:
            self._wrong(seq + 1, "I3", f"it is not there; the machine's snapshot shows {snapshot.seq:,}")
        elif image is None:
            self._wrong(seq, "I5", "entries were trimmed, and there is no snapshot to begin with")
        elif (head.machine, head.status, head.state, head.seq, head.checksum) != (
            *(image.machine, image.status, image.state),
            *(seq, self._checksum),
        ):
            self._wrong(seq, "I5", "the machine's head does not show it")
        else:
            for timer in image.timers.values():
                self._facts.add("timer of", _key_of(timer), self._id, seq, codec.encode_timer(timer)[1])

    def _wrong(self, seq: int, rule: str, text: str) -> None:
        self._is_wrong = True
        self._facts.wrong(Fault(self._id, seq, rule, text))


class _Wrong(Exception):
    def __init__(self, seq: int, rule: str, text: str) -> None:
        super().__init__(text)
        self.seq, self.rule, self.text = seq, rule, text


def _shown(state: tuple[str, ...]) -> str:
    return ", ".join(state) or "no state"


def _key_of(timer: StoredTimer) -> str:
    return f"{timer.name} of {timer.machine_id}"


# -- all machines ------------------------------------------------------------------------------------------------------


class _Facts:
    """What has to be compared over all machines, on disk, and what is wrong."""

    def __init__(self) -> None:
        self._database: Final = sqlite3.connect("", isolation_level=None)  # a temporary file of SQLite's own
        self._database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN;"
            "CREATE TABLE facts (kind TEXT, key TEXT, machine_id TEXT, seq INTEGER, content BLOB);"
            "CREATE TABLE faults (machine_id TEXT, seq INTEGER, rule TEXT, text TEXT);"
        )
        self._waiting: list[tuple[str, str, str, int, bytes | None]] = []

    def close(self) -> None:
        self._database.close()

    def add(self, kind: str, key: str, machine_id: str, seq: int, content: bytes | None = None) -> None:
        self._waiting.append((kind, key, machine_id, seq, content))
        if len(self._waiting) >= _PAGE:
            self._flush()

    def _flush(self) -> None:
        self._database.executemany("INSERT INTO facts VALUES (?, ?, ?, ?, ?)", self._waiting)
        self._waiting.clear()

    def wrong(self, fault: Fault) -> None:
        self._database.execute("INSERT INTO faults VALUES (?, ?, ?, ?)", fault)

    def judge(self) -> None:
        """Compare."""
        self._flush()
        self._database.execute("CREATE INDEX facts_by_key ON facts (kind, key, seq)")
        for rule, text, select in _COMPARISONS:
            self._database.execute(
                f"INSERT INTO faults SELECT machine_id, seq, ?, ? || key FROM ({select})",  # noqa: S608 -- constants
                (rule, text),
            )

    def faults(self, limit: int) -> tuple[list[Fault], int]:
        """Return the first fault of each machine, and how many machines have one."""
        # The bare columns of min() are those of its row: a promise of SQLite's.
        select = "SELECT machine_id, min(seq), rule, text FROM faults GROUP BY machine_id ORDER BY machine_id LIMIT ?"
        found = [Fault(*row) for row in self._database.execute(select, (limit,))]
        (count,) = self._database.execute("SELECT count(DISTINCT machine_id) FROM faults").fetchone()
        return found, int(count)


_TWICE: Final = """
    SELECT machine_id, seq, {key} AS key FROM (
      SELECT machine_id, seq, key, row_number() OVER (PARTITION BY key ORDER BY rowid) AS nth
      FROM facts WHERE kind = '{kind}' {more}
    ) WHERE nth > 1"""

_COMPARISONS: Final = [
    (
        "I2",
        "it uses up an event id that was used up before: ",
        _TWICE.format(kind="event id", key="substr(key, instr(key, char(0)) + 1)", more=""),
    ),
    ("I7", "it promises what was promised before: ", _TWICE.format(kind="promise", key="key", more="")),
    (
        "I7",
        "it settles what was settled before: ",
        # Only what an entry has promised: an event id of the durable inbox may come again.
        _TWICE.format(
            kind="settled",
            key="key",
            more="AND EXISTS (SELECT 1 FROM facts AS p WHERE p.kind = 'promise' AND p.key = facts.key)",
        ),
    ),
    (
        "I7",
        "what it has settled is still pending: ",
        (
            "SELECT s.machine_id, s.seq, s.key FROM facts AS p JOIN facts AS s ON s.kind = 'settled' AND s.key = p.key "
            "JOIN facts AS m ON m.kind = 'promise' AND m.key = p.key WHERE p.kind = 'pending'"
        ),
    ),
    (
        "I7",
        "what is pending is not what it has promised: ",
        (
            "SELECT m.machine_id, m.seq, m.key FROM facts AS p JOIN facts AS m ON m.kind = 'promise' AND m.key = p.key "
            "WHERE p.kind = 'pending' AND p.content <> m.content"
        ),
    ),
    (
        "timers",
        "a timer that it has is not stored, or not as it was set: ",
        (
            "SELECT machine_id, seq, key FROM facts AS t WHERE kind = 'timer of' AND NOT EXISTS "
            "(SELECT 1 FROM facts AS s WHERE s.kind = 'timer' AND s.key = t.key AND s.content = t.content)"
        ),
    ),
    (
        "timers",
        "a timer is stored that it does not have: ",
        # Of a machine that is wrong already its timers are not known.
        (
            "SELECT machine_id, 0 AS seq, key FROM facts AS t WHERE kind = 'timer' AND machine_id NOT IN "
            "(SELECT machine_id FROM faults) AND NOT EXISTS "
            "(SELECT 1 FROM facts AS s WHERE s.kind = 'timer of' AND s.key = t.key)"
        ),
    ),
]
