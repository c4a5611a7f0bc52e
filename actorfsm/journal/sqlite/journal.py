"""The journal over SQLite: the store's calls, made on its thread, and batches that are written in groups."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from actorfsm.errors import ActorFSMError, JournalClosed, JournalLocked, Unsupported
from actorfsm.journal.executor import executor_for
from actorfsm.journal.group import Group
from actorfsm.journal.sqlite import changes, queries
from actorfsm.journal.sqlite.store import Store

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Sequence
    from os import PathLike

    from actorfsm.journal.codec import Row
    from actorfsm.journal.entry import Batch, DeadMessage, Entry, Head, Recorded, Status, StoredTimer
    from actorfsm.journal.executor import Executor
    from actorfsm.journal.protocol import Part, Placed, Stored, StoredSnapshot
    from actorfsm.journal.sqlite.store import Connect, Durability

__all__ = ["SQLiteJournal"]

T = TypeVar("T")


class SQLiteJournal:
    """A journal in a SQLite file.

    Args:
        path: The file; it is made if it is not there.
        durability: `full`, the default: what is acknowledged survives a loss of power. `process`: it survives the
            end of the process, whatever ends it; a loss of power may take the last commits.
        read_only: To look at a journal, also while another process uses it. Nothing can be stored.
        still: With `read_only`: show the journal as it was when it was opened, whatever is written meanwhile. Not for
            long: the owner's log grows until this is closed.
        connect: Makes the connection, for tests.
        executor: Where the store's calls are made; by default a thread, or a simulated loop itself.

    Raises:
        ActorFSMError: There is no such durability.
    """

    durable = True
    shares_transactions = False

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        durability: Durability = "full",
        read_only: bool = False,
        still: bool = False,
        connect: Connect = sqlite3.connect,
        executor: Executor | None = None,
    ) -> None:
        if durability not in {"full", "process"}:
            raise ActorFSMError(f"durability={durability!r}: give 'full' or 'process'")
        self._path = Path(path)
        self._store = Store(self._path, durability, connect, read_only=read_only, still=still)
        self._given_executor = executor
        self._executor: Executor | None = None
        self._group: Group | None = None
        self._is_in_use = False

    def __repr__(self) -> str:
        return f"<SQLiteJournal {self._path} epoch={self.epoch}{'' if self._executor else ' closed'}>"

    @property
    def epoch(self) -> int:
        """Which owner this is."""
        return self._store.epoch

    async def open(self) -> None:
        """Open the file and take the machines over; see `Journal`."""
        if self._is_in_use:
            raise JournalLocked(
                f"{self._path} is open already: one SQLiteJournal serves one system, make another",
                pid=os.getpid(),
            )
        self._is_in_use = True
        executor = self._given_executor or executor_for(asyncio.get_running_loop())
        try:
            await executor.submit(self._store.open)
        except BaseException:
            executor.submit(self._store.close)  # if the call was given up it may still succeed
            executor.close()
            self._is_in_use = False
            raise
        self._executor = executor
        self._group = Group(executor, self._store.write)

    def append(self, batch: Batch) -> Future[None]:
        """Store a batch; see `Journal`."""
        if self._group is None:
            answer: Future[None] = asyncio.get_running_loop().create_future()
            answer.set_exception(JournalClosed("the journal is not open"))
            return answer
        return self._group.add(batch)

    async def append_in(self, _connection: Any, _batch: Batch, /) -> None:
        """Refuse it: a file has one writer; see `Journal`.

        Raises:
            Unsupported: Always.
        """
        raise Unsupported("append_in() needs a journal at postgresql://: this one is in a file")

    async def close(self) -> None:
        """Store what was handed in, then close the file; see `Journal`."""
        executor, group = self._executor, self._group
        self._executor = self._group = None
        if executor is not None and group is not None:
            group.flush()
            closed = executor.submit(self._store.close)
            executor.close()
            try:
                await closed
            finally:
                self._is_in_use = False

    async def _call(self, work: Callable[[], T]) -> T:
        if self._executor is None:
            raise JournalClosed("the journal is not open")
        return await self._executor.submit(work)

    async def _read(self, look: Callable[[sqlite3.Connection], T]) -> T:
        return await self._call(lambda: self._store.read(look))

    async def _change(self, change: Callable[[sqlite3.Connection], int]) -> int:
        return await self._call(lambda: self._store.change(change))

    async def settle(self, batch: Batch) -> bool:
        """Return whether a batch is stored; see `Journal`."""
        return await self._call(lambda: self._store.settle(batch))

    async def load(self, machine_id: str) -> Stored | None:
        """Return a machine; see `Journal`."""
        return await self._read(lambda connection: queries.load(connection, machine_id))

    async def lookup(self, machine_id: str, event_id: str) -> Recorded | None:
        """Return what became of an event id; see `Journal`."""
        return await self._read(lambda connection: queries.lookup(connection, machine_id, event_id))

    async def entries(self, machine_id: str, after_seq: int = 0, limit: int = 1_000) -> Sequence[Entry]:
        """Return entries of a machine; see `Journal`."""
        return await self._read(
            lambda connection: queries.entries_of(connection, machine_id, after_seq, limit)
        )

    async def rows(self, after: tuple[str, int] = ("", 0), limit: int = 1_000) -> Sequence[Row]:
        """Return entries of all machines; see `Journal`."""
        return await self._read(lambda connection: queries.all_rows(connection, after, limit))

    async def snapshots(self, after: str = "", limit: int = 1_000) -> Sequence[StoredSnapshot]:
        """Return snapshots; see `Journal`."""
        return await self._read(lambda connection: queries.snapshots_of(connection, after, limit))

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
        return await self._read(
            lambda connection: queries.machines_of(
                connection, machine=machine, status=status, state=state, after=after, limit=limit
            )
        )

    async def timers(
        self, before_us: int, after: tuple[int, str, str] | None = None, limit: int = 1_000
    ) -> Sequence[StoredTimer]:
        """Return timers; see `Journal`."""
        behind = after or queries.BEFORE_ALL
        return await self._read(lambda connection: queries.timers_of(connection, before_us, behind, limit))

    async def last_pending(self) -> int:
        """Return the last place of what is pending; see `Journal`."""
        return await self._read(queries.last_pending)

    async def pending(
        self, after: int = 0, limit: int = 1_000, *, machine_id: str | None = None
    ) -> Sequence[Placed]:
        """Return what is pending; see `Journal`."""
        return await self._read(lambda connection: queries.pending_of(connection, after, limit, machine_id))

    async def dead_letters(self, after: int = 0, limit: int = 1_000) -> Sequence[DeadMessage]:
        """Return dead letters; see `Journal`."""
        return await self._read(lambda connection: queries.dead_letters_of(connection, after, limit))

    async def drop_dead_letters(self, places: Sequence[int]) -> int:
        """Forget dead letters; see `Journal`."""
        return await self._change(lambda connection: changes.drop_dead_letters(connection, places))

    async def snapshot(self, machine_id: str, *, keep: int | None = None) -> None:
        """Store a machine's image; see `Journal`."""
        await self._change(lambda connection: changes.snapshot(connection, machine_id, keep))

    async def restore(self, part: Part) -> None:
        """Store part of another journal; see `Journal`."""
        await self._change(lambda connection: changes.restore(connection, part))

    async def forget(self, machine_id: str, through_seq: int) -> int:
        """Forget event ids and answers; see `Journal`."""
        return await self._change(lambda connection: changes.forget(connection, machine_id, through_seq))
