"""A journal in memory: the same laws, and nothing is left of it when the process ends.

The rows are those of every journal, with their checksums. A `MemoryStore` outlives the `MemoryJournal` that writes to
it, as a disk outlives a process: that is how tests stop a system and start another one behind it.
"""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_left, bisect_right, insort
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from actorfsm.errors import (
    Fenced,
    JournalClosed,
    JournalError,
    JournalFull,
    JournalLocked,
    NotStored,
    OutcomeUnknown,
    Unsupported,
)
from actorfsm.journal import codec
from actorfsm.journal.codec import FIRST, Row
from actorfsm.journal.entry import Head
from actorfsm.journal.loading import image_of, page_of
from actorfsm.journal.protocol import Placed, Stored, StoredSnapshot

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Sequence

    from actorfsm.journal.entry import Batch, DeadMessage, Entry, Recorded, Status, StoredTimer
    from actorfsm.journal.image import Image
    from actorfsm.journal.protocol import Part

__all__ = ["Fate", "MemoryJournal", "MemoryStore"]

Fate: TypeAlias = Literal["stored", "not stored", "full", "lost", "unknown, stored", "unknown, not stored"]
"""What may become of a commit: `lost` is the answer that never comes, because the process dies before."""


class MemoryStore:
    """What a journal in memory has stored.

    Attributes:
        fate: What becomes of the next commit, for tests: called once for each; by default all are stored.
        epoch: The owner.
        rows: The entries of each machine, in order.
    """

    def __init__(self) -> None:
        self.fate: Callable[[], Fate] = lambda: "stored"
        self.epoch = 0
        self.rows: dict[str, list[Row]] = {}
        self.heads: dict[str, Head] = {}
        self.ids: list[str] = []
        """The ids of the machines, sorted."""
        self.concluded: dict[tuple[str, str], int] = {}
        self.snapshots: dict[str, tuple[int, str, bytes]] = {}
        self.timers: dict[tuple[str, str], tuple[int, str, bytes]] = {}
        self.pending: dict[str, tuple[int, str, str, bytes]] = {}
        self.dead: dict[int, tuple[str, str, int, str, bytes]] = {}
        self.places = 0

    def head_of(self, machine_id: str) -> tuple[int, bytes]:
        """Return number and checksum of a machine's last entry."""
        head = self.heads.get(machine_id)
        return (0, FIRST) if head is None else (head.seq, head.checksum)

    def apply(self, batch: Batch) -> None:
        """Store a batch.

        Raises:
            NotStored: It breaks a rule of the journal; nothing was changed.
        """
        plan = codec.plan(batch, self.head_of)
        self._check(batch, plan)
        for entry, row in zip(batch.entries, plan.rows, strict=True):
            self._add(entry, row)
        for key, timer in plan.timers.items():
            self.timers.pop(key, None)
            if timer is not None:
                self.timers[key] = timer
        for promise, (machine_id, _, text, checksum) in plan.promises.items():
            self.pending[promise] = (self._next_place(), machine_id, text, checksum)
        for promise in plan.settled:
            self.pending.pop(promise, None)
        for letter in plan.dead:
            self.dead[self._next_place()] = letter
        for machine_id, seq, text, checksum in plan.images:
            self.snapshots[machine_id] = (seq, text, checksum)

    def _check(self, batch: Batch, plan: codec.Plan) -> None:
        """Refuse what is stored already, before anything is."""
        for row in plan.rows:
            if row.concluded_id is not None and (row.machine_id, row.concluded_id) in self.concluded:
                raise codec.used_before(row.machine_id, row.concluded_id)
        for key, (machine_id, event_id, _, _) in plan.promises.items():
            if key in self.pending:
                raise codec.used_before(machine_id, event_id)
        for pending in batch.accepted:
            if (pending.machine_id, pending.message.event_id) in self.concluded:
                raise codec.used_before(pending.machine_id, pending.message.event_id)

    def _add(self, entry: Entry, row: Row) -> None:
        machine_id = entry.machine_id
        if machine_id not in self.heads:
            insort(self.ids, machine_id)
        self.rows.setdefault(machine_id, []).append(row)
        self.heads[machine_id] = Head(
            machine_id, entry.machine, entry.status, entry.target, entry.seq, row.checksum
        )
        if row.concluded_id is not None:
            self.concluded[machine_id, row.concluded_id] = row.seq

    def restore(self, part: Part) -> None:
        """Store part of another journal.

        Raises:
            NotStored: Some of it is there already.
        """
        known = any(head.machine_id in self.heads for head in part.heads) or any(
            row.seq == there.seq for row in part.rows for there in self.rows.get(row.machine_id, ())
        )
        if known or any(pending.key in self.pending for pending in part.pending):
            raise NotStored("some of it is stored already")
        for head in part.heads:
            insort(self.ids, head.machine_id)
            self.heads[head.machine_id] = head
        for row in part.rows:
            self.rows.setdefault(row.machine_id, []).append(row)
            if row.concluded_id is not None:
                self.concluded[row.machine_id, row.concluded_id] = row.seq
        for machine_id, seq, text, checksum in part.snapshots:
            self.snapshots[machine_id] = (seq, text, checksum)
        for timer in part.timers:
            self.timers[timer.machine_id, timer.name] = (timer.due_us, *codec.encode_timer(timer))
        for pending in part.pending:
            self.pending[pending.key] = (
                self._next_place(),
                pending.machine_id,
                *codec.encode_pending(pending),
            )
        for letter in part.dead:
            words = (letter.machine_id, letter.reason, letter.at_us)
            self.dead[self._next_place()] = (*words, *codec.encode_dead(letter))

    def _next_place(self) -> int:
        self.places += 1
        return self.places

    def has(self, batch: Batch) -> bool:
        """Return whether a batch is stored."""
        for entry in batch.entries:
            rows = self.rows.get(entry.machine_id, [])
            if not any(row.seq == entry.seq and codec.is_row_of(row, entry) for row in rows):
                return False
        if batch.entries:
            return True
        dead = {(letter[0], letter[2]) for letter in self.dead.values()}
        return (
            all(pending.key in self.pending for pending in batch.accepted)
            and not any(key in self.pending for key in batch.settled)
            and all((letter.machine_id, letter.at_us) in dead for letter in batch.dead)
        )


class MemoryJournal:
    """A journal that writes to a `MemoryStore`.

    Args:
        store: Where to; a new one if there is none yet.
    """

    durable = False
    shares_transactions = False

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = MemoryStore() if store is None else store
        self.epoch = 0
        self._closed = True

    def __repr__(self) -> str:
        return f"<MemoryJournal epoch={self.epoch} machines={len(self.store.heads)}>"

    async def open(self) -> None:
        """Take the machines over; see `Journal`."""
        if not self._closed:
            raise JournalLocked(
                "this MemoryJournal is open already: one serves one system, make another for the same store",
                pid=os.getpid(),
            )
        self.store.epoch += 1
        self.epoch = self.store.epoch
        self._closed = False

    def append(self, batch: Batch) -> Future[None]:
        """Store a batch; see `Journal`."""
        answer: Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._commit(lambda: self.store.apply(batch))
        except _Lost:
            return answer  # the process dies before there is one
        except JournalError as error:
            answer.set_exception(error)
        else:
            answer.set_result(None)
        return answer

    def _commit(self, write: Callable[[], None]) -> None:
        """Write, as fate wants it.

        Raises:
            JournalError: As fate wants it, or the rules of the journal.
        """
        if self._closed:
            raise JournalClosed("the journal is not open")
        if self.epoch != self.store.epoch:
            raise Fenced("another system has taken the machines over: this one may not write any more")
        fate = self.store.fate()
        if fate == "not stored":
            raise NotStored("the journal did not store it")
        if fate == "full":
            raise JournalFull("there is no room")
        if fate != "unknown, not stored":
            write()
        if fate == "lost":
            raise _Lost
        if fate != "stored":
            raise OutcomeUnknown("it is not known whether it was stored")

    async def append_in(self, _connection: Any, _batch: Batch, /) -> None:
        """Refuse it: there is no connection that a caller could own; see `Journal`.

        Raises:
            Unsupported: Always.
        """
        raise Unsupported("append_in() needs a journal at postgresql://: this one is in memory")

    async def settle(self, batch: Batch) -> bool:
        """Return whether a batch is stored; see `Journal`."""
        return self.store.has(batch)

    async def load(self, machine_id: str) -> Stored | None:
        """Return a machine; see `Journal`."""
        head = self.store.heads.get(machine_id)
        if head is None:
            return None
        snapshot = self.store.snapshots.get(machine_id)
        return Stored(head, self._image(head), 0 if snapshot is None else snapshot[0])

    def _image(self, head: Head) -> Image:
        rows = self.store.rows[head.machine_id]
        snapshot = self.store.snapshots.get(head.machine_id)
        return image_of(head, snapshot, lambda seq: rows[bisect_left(rows, seq, key=_seq_of) :])

    async def lookup(self, machine_id: str, event_id: str) -> Recorded | None:
        """Return what became of an event id; see `Journal`."""
        seq = self.store.concluded.get((machine_id, event_id))
        if seq is None:
            return None
        rows = self.store.rows[machine_id]
        place = bisect_left(rows, seq, key=_seq_of)
        return codec.decode_recorded(rows[place], rows[place - 1].checksum if place else FIRST)

    async def entries(self, machine_id: str, after_seq: int = 0, limit: int = 1_000) -> Sequence[Entry]:
        """Return entries of a machine; see `Journal`."""
        found: list[Entry] = []
        checksum = FIRST
        for row in self.store.rows.get(machine_id, ()):
            if row.seq > after_seq and row.body is not None and len(found) < limit:
                found.append(codec.decode(row, checksum))
            checksum = row.checksum
        return found

    async def rows(self, after: tuple[str, int] = ("", 0), limit: int = 1_000) -> Sequence[Row]:
        """Return entries of all machines; see `Journal`."""
        machine_id, seq = after
        ids = self.store.ids[bisect_left(self.store.ids, machine_id) :]
        rows = (row for of in ids for row in self.store.rows.get(of, ()) if of != machine_id or row.seq > seq)
        return list(islice(rows, limit))

    async def snapshots(self, after: str = "", limit: int = 1_000) -> Sequence[StoredSnapshot]:
        """Return snapshots; see `Journal`."""
        known = sorted(machine_id for machine_id in self.store.snapshots if machine_id > after)
        return [StoredSnapshot(machine_id, *self.store.snapshots[machine_id]) for machine_id in known[:limit]]

    async def machines(
        self,
        *,
        machine: str | None = None,
        status: Status | None = None,
        state: str | None = None,
        after: str = "",
        limit: int = 1_000,
    ) -> Sequence[Head]:
        """Return machines; see `Journal`."""
        store = self.store
        heads = (store.heads[machine_id] for machine_id in store.ids[bisect_right(store.ids, after) :])
        fitting = (
            head
            for head in heads
            if (machine is None or head.machine == machine)
            and (status is None or head.status == status)
            and (state is None or state in head.state)
        )
        return list(islice(fitting, limit))

    async def timers(
        self, before_us: int, after: tuple[int, str, str] | None = None, limit: int = 1_000
    ) -> Sequence[StoredTimer]:
        """Return timers; see `Journal`."""
        due = sorted((row[0], *key) for key, row in self.store.timers.items() if row[0] < before_us)
        rest = due if after is None else due[bisect_right(due, after) :]
        return page_of(
            rest[:limit],
            lambda row: codec.decode_timer(row[1], *self.store.timers[row[1], row[2]][1:]),
            lambda row: row,
        )

    async def last_pending(self) -> int:
        """Return the last place of what is pending; see `Journal`."""
        return max((row[0] for row in self.store.pending.values()), default=0)

    async def pending(
        self, after: int = 0, limit: int = 1_000, *, machine_id: str | None = None
    ) -> Sequence[Placed]:
        """Return what is pending; see `Journal`."""
        rows = (row for row in self.store.pending.values() if row[0] > after and machine_id in {None, row[1]})
        return page_of(
            islice(rows, limit),
            lambda row: Placed(row[0], codec.decode_pending(*row[1:])),
            lambda row: row[0],
        )

    async def dead_letters(self, after: int = 0, limit: int = 1_000) -> Sequence[DeadMessage]:
        """Return dead letters; see `Journal`."""
        rows = ((place, row) for place, row in self.store.dead.items() if place > after)
        return [codec.decode_dead(place, row) for place, row in islice(rows, limit)]

    async def drop_dead_letters(self, places: Sequence[int]) -> int:
        """Forget dead letters; see `Journal`."""
        known = [place for place in dict.fromkeys(places) if place in self.store.dead]

        def write() -> None:
            for place in known:
                del self.store.dead[place]

        self._commit(write)
        return len(known)

    async def snapshot(self, machine_id: str, *, keep: int | None = None) -> None:
        """Store a machine's image; see `Journal`."""
        if machine_id in self.store.heads:
            self._commit(lambda: self._snapshot(machine_id, keep))

    def _snapshot(self, machine_id: str, keep: int | None) -> None:
        store, head = self.store, self.store.heads[machine_id]
        store.snapshots[machine_id] = (head.seq, *codec.encode_image(self._image(head), head.checksum))
        if keep is not None:
            store.rows[machine_id] = [
                codec.trimmed(row) if row.seq <= head.seq - keep else row for row in store.rows[machine_id]
            ]

    async def restore(self, part: Part) -> None:
        """Store part of another journal; see `Journal`."""
        self._commit(lambda: self.store.restore(part))

    async def forget(self, machine_id: str, through_seq: int) -> int:
        """Forget event ids and answers; see `Journal`."""
        rows = self.store.rows.get(machine_id, [])
        snapshot = self.store.snapshots.get(machine_id)
        last = min(through_seq, 0 if snapshot is None else snapshot[0] - 1)
        gone = list(takewhile(lambda row: row.seq <= last and row.body is None, rows))

        def write() -> None:
            for row in gone:
                if row.concluded_id is not None:
                    del self.store.concluded[machine_id, row.concluded_id]
            # The last of them stays as a link of the chain, without what it says.
            links = [row._replace(concluded_id=None, answer=None, trimmed=None) for row in gone[-1:]]
            self.store.rows[machine_id] = links + rows[len(gone) :]

        self._commit(write)
        return sum(row.concluded_id is not None for row in gone)

    async def close(self) -> None:
        """End; see `Journal`."""
        self._closed = True


def _seq_of(row: Row) -> int:
    return row.seq


class _Lost(Exception):
    """The process dies between the commit and its answer."""
