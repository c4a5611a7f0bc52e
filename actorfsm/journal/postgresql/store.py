"""The store: one connection, and what its errors mean (C23, C25). All of it blocks, and runs in one thread.

Each write is one call of a function of the server. It ends in one of three ways. The server says that it is committed.
The server says that it is not, and nothing of it is left. Or the connection ends before the server has said anything:
then a new connection is made, by which the owner shuts out what the old one may still have under way, and after that it
is looked up.
"""

from __future__ import annotations

import os
import platform
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar

from actorfsm.errors import (
    Fenced,
    JournalClosed,
    JournalError,
    JournalLocked,
    JournalUnusable,
    NotStored,
    OutcomeUnknown,
)
from actorfsm.journal.group import most_telling
from actorfsm.journal.postgresql import changes, queries, refusals, schema
from actorfsm.journal.postgresql.changes import Owner
from actorfsm.journal.postgresql.connecting import connected
from actorfsm.journal.postgresql.driver import is_lost, psycopg, said_by

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg import Connection

    from actorfsm.journal.codec import Plan
    from actorfsm.journal.entry import Batch
    from actorfsm.journal.postgresql.connecting import Connect
    from actorfsm.journal.postgresql.target import Target

__all__ = ["Durability", "Store"]

T = TypeVar("T")

Durability: TypeAlias = Literal["full", "process"]

_PATIENCE_S: Final = 2.0
"""How long an owner that was killed may take to be gone for the server."""

_SETTINGS: Final = """
SELECT set_config('search_path', format('%%I, pg_temp', %s::text), false),
       set_config('lock_timeout', '10s', false),
       set_config('default_transaction_isolation', 'read committed', false),
       set_config('idle_in_transaction_session_timeout', '60s', false),
       set_config('tcp_keepalives_idle', '20', false),
       set_config('tcp_keepalives_interval', '10', false),
       set_config('tcp_keepalives_count', '3', false)
"""

_DURABILITY: Final = """
SELECT current_setting('fsync'), set_config(
  'synchronous_commit',
  CASE WHEN %s = 'process' THEN 'off' WHEN current_setting('synchronous_commit') = 'off' THEN 'on'
       ELSE current_setting('synchronous_commit') END,
  false)
"""

_MYSELF: Final = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"

_END_BACKEND: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s"
)


class Store:
    """A journal in a schema of a database.

    Args:
        target: Where.
        durability: `full` for every commit on disk, `process` for what outlives this process and not the server.
        connect: Makes a connection: `psycopg.Connection.connect`, or what a test puts in its place.
        take_over: Whether to become the owner while another one lives.
        read_only: Only to look, beside the process that owns it.
        still: Then, to see it as it was when it was opened.

    Attributes:
        owner: Who this is; None until it is open, and where it is only read.
        epoch: Which owner that is.
    """

    def __init__(
        self,
        target: Target,
        durability: Durability,
        connect: Connect,
        *,
        take_over: bool,
        read_only: bool,
        still: bool = False,
    ) -> None:
        self._target = target
        self._durability: Durability = durability
        self._make = connect
        self._take_over = take_over
        self._read_only = read_only
        self._is_still = still and read_only
        self._connection: Connection | None = None
        self._backend: tuple[Any, ...] | None = None
        self._is_open = False
        self._is_fenced = False
        self.owner: Owner | None = None
        self.epoch = 0

    # -- opening and closing ------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect and take the machines over; see `Journal.open`."""
        try:
            connection = self._connection = connected(self._target, self._make)
            if not schema.check(connection, self._target):
                if self._read_only:
                    raise JournalUnusable(f"there is no journal at {self._target.shown}")
                schema.create(connection, self._target)
            self._prepare(connection)
            if self._read_only:
                row = connection.execute("SELECT epoch FROM owners").fetchone()
                self.epoch = row[0] if row else 0
            else:
                self._claim(connection)
        except psycopg.Error as error:
            self.close()
            raise JournalUnusable(f"{self._target.shown} cannot be opened: {said_by(error)}") from error
        except BaseException:
            self.close()
            raise
        self._is_open = True
        self._is_fenced = False

    def _prepare(self, connection: Connection) -> None:
        connection.execute(_SETTINGS, (self._target.schema,))
        row = connection.execute(_DURABILITY, (self._durability,)).fetchone()
        if row and row[0] == "off" and self._durability == "full":
            raise JournalUnusable(
                f"{self._target.shown} runs with fsync = off and may lose what it has acknowledged: switch it on, or "
                "ask for no more with durability='process'"
            )
        self._backend = connection.execute(_MYSELF).fetchone()
        if self._read_only:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
        if self._is_still:
            connection.execute("SET idle_in_transaction_session_timeout = 0")
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def _claim(self, connection: Connection) -> None:
        values = (self._take_over, os.getpid(), platform.node())
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                row = connection.execute("SELECT * FROM take_over(%s, %s, %s)", values).fetchone()
            except psycopg.Error as error:
                if error.sqlstate == refusals.LOCKED and time.monotonic() < until:
                    time.sleep(0.05)
                    continue
                raise self._locked(error) from error
            assert row is not None  # noqa: S101 -- it has OUT parameters
            self.owner = Owner(row[0], row[1])
            self.epoch = self.owner.epoch
            return

    def _locked(self, error: psycopg.Error) -> JournalError:
        shown = self._target.shown
        match error.sqlstate:
            case refusals.LOCKED:
                pid = int(error.diag.message_detail or 0)
                return JournalLocked(
                    f"{shown} is in use by process {pid} on {error.diag.message_primary}: stop that one first, give "
                    "this one a schema of its own, or take the machines over: PostgreSQLJournal(url, take_over=True)",
                    pid=pid,
                )
            case "55P03":  # lock_not_available
                return JournalLocked(
                    f"a transaction that is open holds the machines of {shown}: end that one first"
                )
            case _:
                return JournalUnusable(f"{shown} cannot be taken over: {said_by(error)}")

    def close(self) -> None:
        """Close the connection; a store that is not open is left as it is."""
        self._is_open = False
        self.owner = None
        connection = self._connection
        if connection is not None:
            with suppress(psycopg.Error):
                connection.execute(
                    "SELECT pg_advisory_unlock_all()"
                )  # the next one need not wait for the server
        self._give_up()

    def _give_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    # -- the connection -----------------------------------------------------------------------------------------

    def _ready(self) -> Connection:
        """Return the owner's connection, a new one if need be, beside which nothing of his is under way.

        Raises:
            NotStored: There is none to be had now, or he is not the owner any more.
        """
        if not self._is_open:
            raise JournalClosed("the journal is not open")
        if self._read_only:
            raise NotStored("the journal was opened to read only")
        if self._is_fenced:
            raise Fenced("another system has taken the machines over: this one may not write any more")
        return self._connection or self._resumed()

    def _resumed(self) -> Connection:
        try:
            before = self._backend
            connection = self._reconnect()
            if before is not None:
                connection.execute(_END_BACKEND, before)
            row = connection.execute("SELECT resume(%s)", (self.epoch,)).fetchone()
            assert row is not None  # noqa: S101 -- it returns a token, or raises
        except psycopg.Error as error:
            if error.sqlstate == refusals.FENCED:
                self._is_fenced = True
                raise Fenced(
                    "another system has taken the machines over: this one may not write any more"
                ) from error
            self._give_up()
            raise NotStored(f"{self._target.shown} cannot be used now: {said_by(error)}") from error
        except JournalUnusable as error:
            self._give_up()
            raise NotStored(f"{self._target.shown} cannot be used now: {error}") from error
        self.owner = Owner(self.epoch, row[0])
        return connection

    def _reconnect(self) -> Connection:
        connection = self._connection = connected(self._target, self._make)
        self._prepare(connection)
        return connection

    def _readable(self) -> Connection:
        """Return a connection to read by.

        Raises:
            JournalError: There is none to be had now.
            psycopg.Error: The same.
        """
        if self._is_still and self._connection is None:
            raise JournalError(
                f"the connection to {self._target.shown} is gone, and with it what it showed: open it again"
            )
        if self._read_only or self._is_fenced:
            return self._connection or self._reconnect()
        try:
            return self._ready()
        except Fenced:
            return self._connection or self._reconnect()

    def _has_lost(self, error: psycopg.Error) -> bool:
        """Return whether the connection is gone, and part with it then."""
        connection = self._connection
        if connection is not None and is_lost(error, connection):
            self._give_up()
        return self._connection is None

    def _look(self, connection_to_use: Callable[[], Connection], look: Callable[[Connection], T]) -> T:
        """Look something up, once more if the connection turns out to be gone.

        Raises:
            JournalError: There is no connection to be had now.
            psycopg.Error: It cannot be looked up.
        """
        try:
            return self._looked(connection_to_use(), look)
        except psycopg.Error as error:
            if not self._has_lost(error):
                raise
        try:
            return self._looked(connection_to_use(), look)
        except psycopg.Error as error:
            self._has_lost(error)
            raise

    def _looked(self, connection: Connection, look: Callable[[Connection], T]) -> T:
        if not self._read_only or self._is_still:
            return look(connection)
        with connection.transaction():  # in which the owner's writes do not show
            return look(connection)

    # -- writing ------------------------------------------------------------------------------------------------

    def write(self, batches: Sequence[Batch]) -> list[JournalError | None]:
        """Store batches by one call, each as a whole or not at all; return for each why not, or None."""
        answers: list[JournalError | None] = [None] * len(batches)
        plans: dict[int, Plan] = {}
        machine_ids = {entry.machine_id for batch in batches for entry in batch.entries}
        try:
            before: dict[str, tuple[int, bytes]] = {}
            if machine_ids:
                before = self._look(self._ready, lambda connection: queries.heads_of(connection, machine_ids))
            connection = self._ready()
        except (psycopg.Error, JournalError) as error:
            return [self._refusal(error)] * len(batches)
        heads = dict(before)
        for place, batch in enumerate(batches):
            try:
                plans[place] = changes.plan(batch, heads)
            except NotStored as refusal:
                answers[place] = refusal
        if not plans:
            return answers
        planned = [batches[place] for place in plans]
        assert self.owner is not None  # noqa: S101 -- `_ready` has seen to that
        values = changes.values_of(self.owner, list(plans.values()), planned, before)
        try:
            connection.execute(f"SELECT {changes.APPEND}", values, prepare=True)
        except psycopg.Error as error:
            if self._has_lost(error):
                fate = self._after_loss(error, planned)
            elif len(planned) > 1 and refusals.is_of_one(error):
                return [self.write([batch])[0] for batch in batches]  # which of them it is, it does not say
            else:
                fate = self._refused(error, planned)
            return [fate if answer is None else answer for answer in answers]
        return answers

    def change(self, change: Callable[[Connection, Owner], int]) -> int:
        """Make a change that is no batch, and return what it returns.

        Raises:
            NotStored: It was not made.
            OutcomeUnknown: It is not known whether it was made.
        """
        try:
            # That the connection is there is looked at before, for after it nobody can tell.
            connection = self._look(self._ready, _checked)
            assert self.owner is not None  # noqa: S101 -- `_ready` has seen to that
            return change(connection, self.owner)
        except psycopg.Error as error:
            if self._has_lost(error):
                raise self._unknown(error) from error
            raise self._refusal(error) from error

    def _refusal(self, error: psycopg.Error | JournalError) -> JournalError:
        return refusals.refusal(error, self._target.shown)

    def _refused(self, error: psycopg.Error, batches: Sequence[Batch]) -> JournalError:
        """Return why the server refuses a batch."""
        if len(batches) == 1 and refusals.is_used(error):
            with suppress(psycopg.Error, JournalError):
                used = self._look(self._ready, lambda connection: _used_by(connection, batches[0]))
                if used is not None:
                    return used
        return self._refusal(error)

    # -- when nobody has said how it ended ----------------------------------------------------------------------

    def _after_loss(self, error: psycopg.Error, batches: Sequence[Batch]) -> JournalError | None:
        """Return why batches are not stored that were under way by a connection that is gone, or None."""
        try:
            if self._is_stored(most_telling(batches)):
                return None
        except (psycopg.Error, JournalError):
            return self._unknown(error)
        if self._is_fenced:
            return Fenced("another system has taken the machines over: this one may not write any more")
        answer = NotStored(f"{self._target.shown} was gone before it stored it: {said_by(error)}")
        answer.__cause__ = error
        return answer

    def _unknown(self, error: psycopg.Error) -> OutcomeUnknown:
        unknown = OutcomeUnknown(
            f"{self._target.shown} was gone before it said whether it stored it, and could not be asked yet: "
            f"{said_by(error)}"
        )
        unknown.__cause__ = error
        return unknown

    def _is_stored(self, batch: Batch) -> bool:
        return self._look(self._readable, lambda connection: queries.has(connection, batch))

    def settle(self, batch: Batch) -> bool:
        """Return whether a batch is stored; see `Journal.settle`."""
        if not self._is_open:
            raise OutcomeUnknown("the journal is not open")
        try:
            if self._is_stored(batch):
                return True
            self._look(self._readable, lambda connection: queries.wait_out(connection, batch))
            return self._is_stored(batch)
        except (psycopg.Error, JournalError) as error:
            raise OutcomeUnknown(f"{self._target.shown} still cannot be asked: {said_by(error)}") from error

    # -- reading ------------------------------------------------------------------------------------------------

    def read(self, look: Callable[[Connection], T]) -> T:
        """Look something up.

        Raises:
            JournalError: The journal is not open, or cannot be read.
        """
        if not self._is_open:
            raise JournalClosed("the journal is not open")
        try:
            return self._look(self._readable, look)
        except NotStored as error:
            raise JournalError(str(error)) from error
        except JournalUnusable as error:
            raise JournalError(f"{self._target.shown} cannot be read now: {error}") from error
        except psycopg.Error as error:
            raise JournalError(f"{self._target.shown} cannot be read: {said_by(error)}") from error


def _checked(connection: Connection) -> Connection:
    connection.execute("SELECT")
    return connection


def _used_by(connection: Connection, batch: Batch) -> JournalError | None:
    claims = changes.claims_of(batch)
    found = connection.execute(f"SELECT {changes.FIRST_USED}", changes.values_of_claims(claims))
    return changes.used_by(claims, found.fetchone())
