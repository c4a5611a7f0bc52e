"""The store: one connection, its transactions, and how they end (C23, C25). All of it blocks, and runs in one thread.

A transaction ends in one of three ways. It was committed. It was surely not: whatever fails before COMMIT is rolled
back, or the connection is given up. Or COMMIT itself failed: then SQLite says no, and yet it may be there after a
crash. So nothing else is done before that is settled: by a checkpoint that leaves nothing behind in the log, if need be
after opening the file again; and then by looking.
"""

from __future__ import annotations

import os
import platform
import sqlite3
from contextlib import suppress
from importlib.resources import files
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar

from actorfsm.errors import (
    Fenced,
    JournalClosed,
    JournalError,
    JournalFull,
    JournalUnusable,
    NotStored,
    OutcomeUnknown,
)
from actorfsm.journal.group import most_telling
from actorfsm.journal.sqlite import changes, queries
from actorfsm.journal.sqlite.file import APPLICATION, FORMAT, Lock, check, error_code, is_new

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from actorfsm.journal.codec import Plan
    from actorfsm.journal.entry import Batch
    from actorfsm.journal.sqlite.changes import Head

__all__ = ["Connect", "Durability", "Store"]

T = TypeVar("T")

_HELD: Final = """
    CREATE INDEX IF NOT EXISTS machines_held ON machines (machine_id) WHERE status IN ('quarantined', 'suspended')"""
"""A journal that an earlier version has begun has not got it; that version does not mind."""

Durability: TypeAlias = Literal["full", "process"]
Connect: TypeAlias = "Callable[..., sqlite3.Connection]"

_MOST_HEADS: Final = 100_000
"""How many machines' last entries are remembered; some 200 bytes each."""

_SYNCHRONOUS: Final = {"full": 2, "process": 1}


class Store:
    """One SQLite file.

    Args:
        path: The file.
        durability: `full` for every commit on disk, `process` for what outlives the process and not the power.
        connect: Makes the connection: `sqlite3.connect`, or what a test puts in its place.
        read_only: Only to look, beside the process that owns it.
        still: Then, to see it as it was when it was opened.

    Attributes:
        epoch: Which owner this is.
    """

    def __init__(
        self, path: Path, durability: Durability, connect: Connect, *, read_only: bool, still: bool = False
    ) -> None:
        self._path = path
        self._durability: Durability = durability
        self._connect = connect
        self._read_only = read_only
        self._is_still = still
        self._lock = Lock(path)
        self._connection: sqlite3.Connection | None = None
        self._is_open = False
        self._is_unsettled = False
        self._heads: dict[str, Head] = {}
        """The last entries of machines that were written lately: nobody else writes while this owns them."""
        self.epoch = 0

    # -- opening and closing ------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the file and take the machines over; see `Journal.open`."""
        check(self._path)
        try:
            if self._read_only:
                self._open_to_read()
            else:
                self._lock.acquire()
                check(self._path)  # it may have come into being meanwhile
                self._claim(self._reconnect())
        except sqlite3.Error as error:
            self.close()
            raise self._unusable(error) from error
        except BaseException:
            self.close()
            raise
        self._is_open = True

    def _open_to_read(self) -> None:
        if is_new(self._path):
            raise JournalUnusable(f"there is no journal {self._path}")
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        self._connection = self._connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        if self._is_still:
            self._connection.execute("BEGIN")
        self.epoch = _epoch_in(self._connection)

    def _reconnect(self) -> sqlite3.Connection:
        """Open the file, which also brings what an earlier process left in the log to where it belongs."""
        self._give_up()
        connection = self._connect(self._path, isolation_level=None, check_same_thread=False)
        self._connection = connection
        if is_new(self._path):
            self._create(connection)
        for pragma, value in (
            ("journal_mode", "wal"),
            ("synchronous", _SYNCHRONOUS[self._durability]),
            ("fullfsync", int(self._durability == "full")),
            ("checkpoint_fullfsync", int(self._durability == "full")),
        ):
            connection.execute(f"PRAGMA {pragma} = {value}").fetchall()
            (found,) = connection.execute(f"PRAGMA {pragma}").fetchone()
            if found != value:
                raise JournalUnusable(
                    f"{self._path}: SQLite says {pragma} = {found} where {value} was asked for; this file system does "
                    "not keep what a journal promises"
                )
        # What a process that died has left in the log counts from here on: to disk with it, before anybody sees it.
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return connection

    @staticmethod
    def _create(connection: sqlite3.Connection) -> None:
        # In one transaction, before the write-ahead log is switched on: a crash here leaves no journal, or a whole one.
        schema = files("actorfsm.journal.sqlite").joinpath("schema.sql").read_text(encoding="utf-8")
        connection.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT}; {schema} COMMIT;"
        )

    def _claim(self, connection: sqlite3.Connection) -> None:
        connection.execute(_HELD)
        connection.execute(
            "UPDATE owners SET epoch = epoch + 1, pid = ?, host = ? WHERE partition = 0",
            (os.getpid(), platform.node()),
        )
        self.epoch = _epoch_in(connection)

    def _unusable(self, error: sqlite3.Error) -> JournalError:
        match error_code(error):
            case sqlite3.SQLITE_FULL:
                return JournalFull(
                    f"there is no room for the journal {self._path}: make some, then start again"
                )
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM if self._read_only:
                return JournalUnusable(
                    f"{self._path} cannot be looked at where it is: SQLite has to write files beside it, and this user "
                    "may not; copy it to another folder, with what stands beside it"
                )
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
                return JournalUnusable(
                    f"{self._path} cannot be written to: may this user write the file and its folder?"
                )
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                return JournalUnusable(f"{self._path} is damaged ({error}): restore it from a backup")
            case _:
                return JournalUnusable(f"{self._path} cannot be opened: {error}")

    def close(self) -> None:
        """Close the file; a store that is not open is left as it is."""
        self._is_open = False
        self._give_up()
        self._lock.release()

    def _give_up(self) -> None:
        """Part with the connection; a transaction that it was in is no more."""
        connection, self._connection = self._connection, None
        self._heads.clear()
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    # -- writing ------------------------------------------------------------------------------------------------

    def write(self, batches: Sequence[Batch]) -> list[JournalError | None]:
        """Store batches in one transaction, each as a whole or not at all; return for each why not, or None."""
        answers: list[JournalError | None] = [None] * len(batches)
        plans: dict[int, Plan] = {}
        heads: dict[str, Head] = {}
        try:
            connection = self._begin()
            for place, batch in enumerate(batches):
                try:
                    plans[place] = changes.plan(connection, batch, heads, self._heads)
                except NotStored as refusal:
                    answers[place] = refusal
            if not plans:
                self._roll_back()
                return answers
            planned = [batches[place] for place in plans]
            changes.insert(connection, list(plans.values()), planned)
        except sqlite3.IntegrityError as error:
            self._roll_back()
            if len(batches) > 1:
                return [self.write([batch])[0] for batch in batches]  # which of them it is, it does not say
            return [self._twice(batches[0], error)]
        except (sqlite3.Error, JournalError) as error:
            self._roll_back()
            return [self._refusal(error)] * len(batches)
        except BaseException:
            self._roll_back()
            raise
        fate = self._commit(
            lambda connection: queries.has(connection, most_telling(planned))
        )  # they share it
        if fate is None:
            self._remember(heads, planned)
        return [fate if answer is None else answer for answer in answers]

    def _remember(self, heads: dict[str, Head], stored: list[Batch]) -> None:
        if len(self._heads) > _MOST_HEADS:
            self._heads.clear()
        self._heads.update(heads)
        for batch in stored:
            for entry in batch.entries:
                if entry.status == "stopped":  # most machines that end are not written to again
                    self._heads.pop(entry.machine_id, None)

    def change(self, change: Callable[[sqlite3.Connection], int]) -> int:
        """Make a change that is no batch, and return what it returns.

        Raises:
            NotStored: It was not made.
            OutcomeUnknown: It is not known whether it was made.
        """
        try:
            count = change(self._begin())
        except sqlite3.Error as error:
            self._roll_back()
            raise self._refusal(error) from error
        except BaseException:
            self._roll_back()
            raise
        fate = self._commit(None)
        if fate is not None:
            raise fate
        return count

    def _begin(self) -> sqlite3.Connection:
        """Begin a transaction of the owner.

        Raises:
            NotStored: The journal is closed, cannot be written to, or is owned by somebody else.
            sqlite3.Error: As it says.
        """
        if not self._is_open:
            raise JournalClosed("the journal is not open")
        if self._read_only:
            raise NotStored("the journal was opened to read only")
        connection = self._settled()
        connection.execute("BEGIN IMMEDIATE")
        if _epoch_in(connection) != self.epoch:
            raise Fenced("another system has taken the machines over: this one may not write any more")
        return connection

    def _roll_back(self) -> None:
        """End a transaction that is not to be, if need be together with the connection."""
        connection = self._connection
        if connection is not None and connection.in_transaction:
            try:
                connection.execute("ROLLBACK")
            except sqlite3.Error:
                self._give_up()

    def _refusal(self, error: sqlite3.Error | JournalError) -> JournalError:
        """Return what an error before COMMIT means: surely not stored."""
        if isinstance(error, JournalError):
            return error
        if error_code(error) == sqlite3.SQLITE_FULL:
            refusal: NotStored = JournalFull(
                f"there is no room on the disk of {self._path}: nothing was stored"
            )
        else:
            refusal = NotStored(f"{self._path} did not store it: {error}")
        refusal.__cause__ = error
        return refusal

    def _twice(self, batch: Batch, error: sqlite3.IntegrityError) -> JournalError:
        """Return why SQLite refuses to store something twice."""
        try:
            used = changes.used_by(self._settled(), batch)
        except (sqlite3.Error, NotStored):
            used = None
        return used or self._refusal(error)

    # -- COMMIT, and what if it fails ---------------------------------------------------------------------------

    def _commit(self, look: Callable[[sqlite3.Connection], bool] | None) -> JournalError | None:
        """Commit; return why what was written is not stored, or None.

        Args:
            look: Returns whether it is stored; None if nobody can tell.
        """
        connection = self._connection
        assert connection is not None  # noqa: S101 -- it is in a transaction
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if error_code(error) in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY}:
                # The log was not written to its end, so that nothing of it counts.
                self._roll_back()
                return self._refusal(error)
            return self._after_failed_commit(error, look)
        return None

    def _after_failed_commit(
        self, error: sqlite3.Error, look: Callable[[sqlite3.Connection], bool] | None
    ) -> JournalError | None:
        self._is_unsettled = True
        with suppress(sqlite3.Error, NotStored):
            connection = self._settled()
            if look is not None:
                return None if look(connection) else self._refusal(error)
        unknown = OutcomeUnknown(f"the commit to {self._path} failed and could not be settled yet: {error}")
        unknown.__cause__ = error
        return unknown

    def _settled(self) -> sqlite3.Connection:
        """Return a connection that works, behind which no failed COMMIT is left unsettled.

        Raises:
            NotStored: There is none to be had now.
        """
        if self._connection is not None and not self._is_unsettled:
            return self._connection
        try:
            self._roll_back()
            try:
                connection = self._connection or self._reconnect()
                self._settle_log(connection)
            except sqlite3.Error:
                connection = self._reconnect()
                self._settle_log(connection)
        except (sqlite3.Error, JournalUnusable) as error:
            self._give_up()
            raise NotStored(f"{self._path} cannot be used now: {error}") from error
        self._is_unsettled = False
        return connection

    @staticmethod
    def _settle_log(connection: sqlite3.Connection) -> None:
        """Bring what the log holds to where it belongs, on disk, and leave nothing in it.

        Raises:
            sqlite3.OperationalError: That failed, or a reader held it up for too long.
        """
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise sqlite3.OperationalError("a reader keeps the log from being settled")

    def settle(self, batch: Batch) -> bool:
        """Return whether a batch is stored; see `Journal.settle`."""
        try:
            return queries.has(self._settled(), batch)
        except (sqlite3.Error, NotStored) as error:
            raise OutcomeUnknown(f"{self._path} still cannot be settled: {error}") from error

    # -- reading ------------------------------------------------------------------------------------------------

    def read(self, look: Callable[[sqlite3.Connection], T]) -> T:
        """Look something up.

        Raises:
            JournalError: The journal is not open, or SQLite cannot read it.
        """
        if not self._is_open:
            raise JournalClosed("the journal is not open")
        try:
            return look(self._settled())
        except NotStored as error:
            raise JournalError(str(error)) from error
        except sqlite3.Error as error:
            raise JournalError(f"{self._path} cannot be read: {error}") from error
        except (AttributeError, TypeError, ValueError) as error:
            # SQLite does not look whether a row has the form that its table asks for.
            raise JournalError(f"{self._path} is damaged: what is stored has not its form") from error


def _epoch_in(connection: sqlite3.Connection) -> int:
    """Return who owns the machines.

    Raises:
        sqlite3.DatabaseError: That is not there any more.
    """
    found = connection.execute("SELECT epoch FROM owners WHERE partition = 0").fetchone()
    if found is None or not isinstance(found[0], int):
        raise sqlite3.DatabaseError("it does not say whose it is")
    return found[0]
