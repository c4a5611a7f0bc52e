"""The protocol of a journal, for those who use one and those who write one.

Its laws are in `actorfsm.testing.journal_laws`: whoever passes them may stand behind a system. What they say in short:
a batch is stored as a whole or not at all; entries of a machine follow each other without gaps; an event id is used up
once per machine; who was taken over cannot write; every answer is true, and where it cannot be had yet, that is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Sequence

    from actorfsm.journal.codec import Row
    from actorfsm.journal.entry import Batch, DeadMessage, Entry, Head, Pending, Recorded, Status, StoredTimer
    from actorfsm.journal.image import Image

__all__ = ["Journal", "Part", "Placed", "Stored", "StoredSnapshot"]


class Stored(NamedTuple):
    """A machine as it is stored.

    Attributes:
        head: Where it is.
        image: All that its entries have left.
        snapshot_seq: Number of the entry that its snapshot shows; 0 if there is none.
    """

    head: Head
    image: Image
    snapshot_seq: int = 0


class Placed(NamedTuple):
    """Something pending, with its place in the order of acceptance."""

    place: int
    pending: Pending


class StoredSnapshot(NamedTuple):
    """A snapshot as it is stored, not yet looked at.

    Attributes:
        machine_id: The machine.
        seq: Number of the entry that it shows.
        text: The image, as JSON.
        checksum: Of the image, after that of the entry.
    """

    machine_id: str
    seq: int
    text: str
    checksum: bytes


class Part(NamedTuple):
    """Part of a journal, as it is stored: what is carried from one to another.

    Attributes:
        heads: Where machines are.
        rows: Entries.
        snapshots: Snapshots.
        timers: Timers.
        pending: What is pending, in its order.
        dead: Dead letters, in their order.
    """

    heads: Sequence[Head] = ()
    rows: Sequence[Row] = ()
    snapshots: Sequence[StoredSnapshot] = ()
    timers: Sequence[StoredTimer] = ()
    pending: Sequence[Pending] = ()
    dead: Sequence[DeadMessage] = ()


class Journal(Protocol):
    """Where commits go. One object serves one system on one event loop.

    Every list is given in pages, so that none needs memory for all: ask again with what the last one ended with, until
    one is empty. A page of timers or of what is pending ends before a row that cannot be read.
    """

    @property
    def durable(self) -> bool:
        """Whether what is stored outlives the process."""
        ...

    @property
    def shares_transactions(self) -> bool:
        """Whether `append_in` can be had."""
        ...

    @property
    def epoch(self) -> int:
        """Which owner this is, counted from 1; 0 until it is open."""
        ...

    async def open(self) -> None:
        """Take the machines over: whoever owned them before is fenced from now on.

        Raises:
            JournalLocked: Another process uses it, and cannot be taken over; or this object is open already.
            JournalUnusable: It is none that this version can use. Nothing was changed.
            JournalFull: There is no room to begin one.
        """
        ...

    def append(self, batch: Batch) -> Future[None]:
        """Store a batch as a whole or not at all. Batches are stored in the order of the calls.

        The call never blocks and never raises: what there is to say, the future says. To cancel the future, or a task
        that awaits it, gives up the answer and never the batch; who needs the answer awaits it through a shield.

        The future raises:
            NotStored: Surely not stored. Its subclasses say why: `Fenced`, `EventIdUsed`, `JournalFull`,
                `JournalClosed`.
            OutcomeUnknown: It could not be settled whether it is stored: see `settle`.
        """
        ...

    async def append_in(self, connection: Any, batch: Batch, /) -> None:
        """Store a batch inside a transaction of the caller's, as a whole or not at all: it is stored when that commits.

        What is refused leaves the transaction as it was. From here to its end the machines of the batch take no other
        batch, and nobody can take them over; so it should be short.

        Args:
            connection: The driver's connection, to the journal's own database: a `psycopg.AsyncConnection`.
            batch: What is to be stored.

        Raises:
            Unsupported: This journal cannot, or not by such a connection.
            NotStored: It is not part of the transaction; see `append`.
        """
        ...

    async def settle(self, batch: Batch) -> bool:
        """Return whether a batch is stored, after an `OutcomeUnknown`.

        Also of one with entries that went in by `append_in`, when nobody has said how the caller's transaction ended.
        If this says no, it will not be stored later either.

        Raises:
            OutcomeUnknown: That still cannot be said.
        """
        ...

    async def load(self, machine_id: str) -> Stored | None:
        """Return a machine; None if nothing is stored of it.

        Raises:
            JournalCorrupt: What is stored of it is not what was written.
            JournalError: Nothing can be read now; so with whatever else reads.
        """
        ...

    async def lookup(self, machine_id: str, event_id: str) -> Recorded | None:
        """Return what became of an event id; None if it was not applied to this machine, or that was forgotten.

        Raises:
            JournalCorrupt: What is stored is not what was written.
        """
        ...

    async def entries(self, machine_id: str, after_seq: int = 0, limit: int = 1_000) -> Sequence[Entry]:
        """Return entries of a machine in order, those that were trimmed left out.

        Raises:
            JournalCorrupt: One of them is not what was written.
        """
        ...

    async def rows(self, after: tuple[str, int] = ("", 0), limit: int = 1_000) -> Sequence[Row]:
        """Return entries of all machines by machine and number, as they are stored: trimmed ones too, nothing checked.

        Args:
            after: Only those behind this one: its machine and number.
            limit: At most so many.
        """
        ...

    async def snapshots(self, after: str = "", limit: int = 1_000) -> Sequence[StoredSnapshot]:
        """Return snapshots in the order of the ids of their machines, as they are stored, nothing checked."""
        ...

    async def machines(
        self,
        *,
        machine: str | None = None,
        status: Status | None = None,
        state: str | None = None,
        after: str = "",
        limit: int = 1_000,
    ) -> Sequence[Head]:
        """Return machines in the order of their ids.

        Args:
            machine: Only those of this class.
            status: Only those that are this.
            state: Only those in this state, alone or beside others.
            after: Only those with a greater id.
            limit: At most so many.
        """
        ...

    async def timers(
        self, before_us: int, after: tuple[int, str, str] | None = None, limit: int = 1_000
    ) -> Sequence[StoredTimer]:
        """Return timers by deadline, then by machine and name.

        Args:
            before_us: Only those that fall due before that.
            after: Only those behind this one: its deadline, machine and name.
            limit: At most so many.

        Raises:
            JournalCorrupt: The first of them is not what was written; its `place` is what to go on behind.
        """
        ...

    async def last_pending(self) -> int:
        """Return the last place of what is pending; 0 if nothing is."""
        ...

    async def pending(
        self, after: int = 0, limit: int = 1_000, *, machine_id: str | None = None
    ) -> Sequence[Placed]:
        """Return what is pending, in the order in which it was stored.

        Args:
            after: Only what stands behind this place.
            limit: At most so much.
            machine_id: Only what this machine has to do.

        Raises:
            JournalCorrupt: The first of it is not what was written; its `place` is what to go on behind.
        """
        ...

    async def dead_letters(self, after: int = 0, limit: int = 1_000) -> Sequence[DeadMessage]:
        """Return dead letters, in the order in which they were stored."""
        ...

    async def drop_dead_letters(self, places: Sequence[int]) -> int:
        """Forget dead letters, and return how many there were.

        Raises:
            NotStored: None was forgotten.
            OutcomeUnknown: That could not be settled.
        """
        ...

    async def snapshot(self, machine_id: str, *, keep: int | None = None) -> None:
        """Store a machine's image, so that loading it begins there.

        Args:
            machine_id: The machine.
            keep: Trim all entries but so many of the newest. Event ids and answers stay. None trims nothing.

        Raises:
            JournalCorrupt: What is stored of it is not what was written.
            NotStored: There is no new snapshot; the old one and the entries are as they were.
            OutcomeUnknown: That could not be settled; what `load` returns is the same either way.
        """
        ...

    async def restore(self, part: Part) -> None:
        """Store part of another journal as it was there, nothing checked: for a journal that was empty, part by part.

        Raises:
            NotStored: Nothing of it was stored: some of it is there already, or it failed.
            OutcomeUnknown: That could not be settled.
        """
        ...

    async def forget(self, machine_id: str, through_seq: int) -> int:
        """Forget the event ids and answers of trimmed entries up to a number, and return how many there were.

        Raises:
            NotStored: None was forgotten.
            OutcomeUnknown: That could not be settled.
        """
        ...

    async def close(self) -> None:
        """Store what was handed in, then end. Twice is once."""
        ...
