"""Three places to store a history in, which take the same steps of a simulated loop, so that the same seed must agree.

A life of a system ends as a process does: what was handed in and is not written by then is lost, and nothing of it is
written after that.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import psycopg

from actorfsm.errors import JournalClosed, JournalError
from actorfsm.journal.executor import LoopExecutor
from actorfsm.journal.group import Group
from actorfsm.journal.memory import MemoryJournal, MemoryStore
from actorfsm.journal.postgresql.journal import PostgreSQLJournal
from actorfsm.journal.sqlite.journal import SQLiteJournal
from actorfsm.journal.verify import verify_journal
from actorfsm.testing.loop import SimLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from actorfsm.journal.entry import Batch

__all__ = ["InAFile", "InMemory", "OnAServer", "Place", "history", "throw_away", "verified"]

EVER_US = 2**62


class Mortal(LoopExecutor):
    """Makes its calls as steps of the loop, until the process dies: then it makes none, and nobody is there to be told.

    Whoever waits all the same is refused, so that what is left of the dead process can be thrown away.
    """

    is_dead = False

    def submit(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        return super().submit(lambda: self._made(work))

    def _made(self, work: Callable[[], Any]) -> Any:
        if self.is_dead:
            raise JournalClosed("the process has died")
        return work()


class MemoryInSteps:
    """A journal in memory that takes as many steps as one in a file: each call is one of the loop's."""

    durable = False
    shares_transactions = False

    def __init__(self, store: MemoryStore, executor: Mortal) -> None:
        self._inner = MemoryJournal(store)
        self._executor = executor
        self._group = Group(executor, self._write)
        self._is_closed = False

    @property
    def epoch(self) -> int:
        return self._inner.epoch

    def append(self, batch: Batch) -> asyncio.Future[None]:
        if self._is_closed:
            answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            answer.set_exception(JournalClosed("the journal is not open"))
            return answer
        return self._group.add(batch)

    def _write(self, batches: Sequence[Batch]) -> list[JournalError | None]:
        return [self._written(batch) for batch in batches]

    def _written(self, batch: Batch) -> JournalError | None:
        try:
            self._inner._commit(partial(self._inner.store.apply, batch))
        except JournalError as error:
            return error
        return None

    async def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._group.flush()
            await self._executor.submit(lambda: _at_once(self._inner.close()))

    def __getattr__(self, name: str) -> Any:
        return partial(self._call, getattr(self._inner, name))

    async def _call(self, what: Callable[..., Coroutine[Any, Any, Any]], *given: Any, **options: Any) -> Any:
        if self._is_closed:
            raise JournalClosed("the journal is not open")
        return await self._executor.submit(lambda: _at_once(what(*given, **options)))


def _at_once(call: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine returns that never waits."""
    try:
        call.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError(f"{call} waits")


class Place(Protocol):
    """Where a history is stored: one life after the other opens a journal there."""

    @property
    def is_dead(self) -> bool:
        """Whether the process of this life has died."""
        ...

    def journal(self) -> Any:
        """Return the journal of the next life."""
        ...

    def crash(self) -> None:
        """End the life as the death of its process does: nothing of it is written from here on."""
        ...

    def take_over(self) -> None:
        """Let somebody else take the machines over, who then dies."""
        ...


class InMemory:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self._executor = Mortal()

    @property
    def is_dead(self) -> bool:
        return self._executor.is_dead

    def journal(self) -> Any:
        self._executor = Mortal()
        return MemoryInSteps(self.store, self._executor)

    def crash(self) -> None:
        self._executor.is_dead = True

    def take_over(self) -> None:
        self.store.epoch += 1


class InAFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._executor = Mortal()
        self._journal: Any = None

    @property
    def is_dead(self) -> bool:
        return self._executor.is_dead

    def journal(self) -> Any:
        self._executor = Mortal()
        # What is tested here is not the disk: it need not be waited for.
        self._journal = SQLiteJournal(
            self._path, durability="process", executor=self._executor, connect=_connect
        )
        return self._journal

    def crash(self) -> None:
        self._executor.is_dead = True
        self._journal._store.close()  # as the system does with the files of a process that dies

    def take_over(self) -> None:
        with closing(_connect(self._path)) as other, other:
            other.execute("UPDATE owners SET epoch = epoch + 1")


def _connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
    connection = sqlite3.connect(*arguments, **options)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


class OnAServer:
    def __init__(self, url: str) -> None:
        self._url = url
        self._executor = Mortal()
        self._journal: Any = None

    @property
    def is_dead(self) -> bool:
        return self._executor.is_dead

    def journal(self) -> Any:
        self._executor = Mortal()
        self._journal = PostgreSQLJournal(
            self._url, durability="process", take_over=True, executor=self._executor, connect=_connect_to
        )
        return self._journal

    def crash(self) -> None:
        self._executor.is_dead = True
        self._journal._store.close()

    def take_over(self) -> None:
        other = PostgreSQLJournal(self._url, durability="process", take_over=True)._store
        other.open()
        other.close()


def _connect_to(*arguments: Any, **options: Any) -> psycopg.Connection[Any]:
    return psycopg.Connection.connect(*arguments, **options)


def throw_away(loop: SimLoop) -> None:
    """Throw away what a dead process has left: for it time stands still, so that nothing is tried again."""

    def never(when: float, callback: Any, *arguments: Any, context: Any = None) -> asyncio.TimerHandle:
        return asyncio.TimerHandle(when, callback, arguments, loop, context)

    loop._timers.clear()
    loop.call_at = never
    loop.abandon()


async def _read(place: Place, look: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    journal = place.journal()
    await journal.open()
    try:
        return await look(journal)
    finally:
        await journal.close()


def _run(main: Coroutine[Any, Any, Any]) -> Any:
    loop = SimLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.abandon()


def verified(place: Place) -> list[str]:
    """Return what `actorfsm journal verify` finds in a place that nobody uses."""
    verdict = _run(_read(place, verify_journal))
    return [str(fault) for fault in verdict.faults]


def history(place: Place) -> dict[str, list[Any]]:
    """Return all that is stored in a place that nobody uses: ids come from the seed and times from the clock."""
    return _run(_read(place, _history))


async def _history(journal: Any) -> dict[str, list[Any]]:
    return {
        "entries": await journal.rows(limit=1_000_000),
        "machines": await journal.machines(limit=1_000_000),
        "timers": await journal.timers(EVER_US, limit=1_000_000),
        "pending": [placed.pending for placed in await journal.pending(limit=1_000_000)],
        "dead letters": [
            (letter.machine_id, letter.message, letter.reason, letter.at_us)
            for letter in await journal.dead_letters(limit=1_000_000)
        ],
    }
