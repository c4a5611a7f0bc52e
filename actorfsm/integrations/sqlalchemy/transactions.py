"""Transactions of turns: a hook's rows, the machine's new state and the journal's entry are stored together.

A turn has one session, made when the first of its hooks takes it. What the hook did is sent to the database before the
next one begins. At the end the entry goes into the same transaction, which is committed then; if the turn comes to
nothing it is rolled back before anybody is told so.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from actorfsm.errors import JournalError, NotStored, OutcomeUnknown, StaleTurn, Unsupported
from actorfsm.integrations.sqlalchemy.driver import event, exc, sqlalchemy_asyncio

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
    from sqlalchemy.orm import Session, SessionTransaction

    from actorfsm.journal.entry import Batch
    from actorfsm.journal.protocol import Journal
    from actorfsm.runtime.transaction import Transaction

__all__ = ["Transactions"]

_PATIENCE_S: Final = 5.0
"""How long a rollback may take; then the connection is closed, which is one too."""
_PAUSE_S: Final = 0.05
"""Between two tries to close a session that somebody still uses."""
_TRIES: Final = 100


class Transactions:
    """Gives hooks a session, whose transaction is committed with the machine's new state.

    `ActorSystem(Order, journal="postgresql://...", transactions=Transactions(sessions))`, and a hook or a body takes it
    after a `*`: `async def charge(self, old, new, event: Pay, *, session: AsyncSession)`.

    Args:
        sessions: Makes the sessions: an `async_sessionmaker` for an engine at `postgresql+psycopg://`, in the
            database of the journal.

    Raises:
        Unsupported: It makes other sessions, or has another driver.
    """

    def __init__(self, sessions: async_sessionmaker[Any]) -> None:
        given: Any = sessions  # whatever it is annotated to be
        if not isinstance(given, sqlalchemy_asyncio.async_sessionmaker):
            raise Unsupported(
                f"Transactions takes an async_sessionmaker, not {type(sessions).__name__}: a session that is not async "
                "would block all machines while it waits for the database"
            )
        bind: Any = sessions.kw.get("bind")
        if bind is not None:
            if not isinstance(bind, sqlalchemy_asyncio.AsyncEngine):
                raise Unsupported(
                    "Transactions takes an async_sessionmaker for an engine: on a connection of yours a commit "
                    "would be no commit yet"
                )
            _check_driver(bind.dialect)
        self._sessions = sessions

    def gives(self, wanted: type[Any]) -> bool:
        """Return whether its sessions are of this class."""
        return issubclass(self._sessions.class_, wanted)

    def begin(self, machine_id: str) -> Transaction:
        """Return a new transaction for a turn; the database hears of it when a hook asks it something."""
        return _Transaction(self._sessions(), machine_id)


class _Transaction:
    """The transaction of one turn; see `actorfsm.runtime.transaction.Transaction`."""

    def __init__(self, session: AsyncSession, machine_id: str) -> None:
        self.handle = session
        self.failure: BaseException | None = None
        self.is_over = False
        self._machine_id = machine_id
        self._connection: Any = None
        """The driver's connection, once there is one."""
        self._was_ended = False
        """Whether a hook has ended it."""
        self._may_commit = False
        self._is_cut = False
        plain = session.sync_session
        event.listen(plain, "after_begin", self._begun)
        event.listen(plain, "before_commit", self._is_about_to_commit)
        event.listen(plain, "after_transaction_end", self._ended)

    @property
    def is_used(self) -> bool:
        """Whether a hook has done anything with it."""
        return self.handle.in_transaction() or self._was_ended

    async def flush(self) -> None:
        """Send what hooks did to the database.

        Raises:
            Unsupported: A statement failed, and the hook went on.
        """
        await self.handle.flush()
        own = self._connection
        if own is not None and own.info.transaction_status == own.info.transaction_status.INERROR:
            raise self._went_on()

    async def store(self, journal: Journal, batch: Batch) -> None:
        """Commit with a batch; see `Transaction`."""
        self.is_over = True
        try:
            try:
                await self._bring_in(journal, batch)
            except JournalError:
                raise
            except BaseException as error:
                raise self._refused(error) from error
            self._may_commit = True
            try:
                await self.handle.commit()
            except BaseException as error:
                if self._has_answered(error):
                    raise self._refused(error) from error
                self.cut()  # so that the server rolls back what it has not committed
                raise OutcomeUnknown(
                    f"the connection was gone before the server said whether it has committed the turn of "
                    f"{self._machine_id}: {_said_by(error)}",
                    machine_id=self._machine_id,
                ) from error
        finally:
            await self._close()

    async def _bring_in(self, journal: Journal, batch: Batch) -> None:
        """Let the batch be part of the transaction."""
        if self._was_ended or not self.handle.is_active:
            raise self._went_on()
        await self.handle.flush()
        if self._connection is None:
            await self.handle.connection()  # something was begun, and nothing asked
        await journal.append_in(self._connection, batch)

    def _went_on(self) -> Unsupported:
        return Unsupported(
            f"the transaction of {self._machine_id} was rolled back, by a hook or by an error that a hook has "
            "caught, and the event went on: raise, or do what may fail in `async with session.begin_nested()`",
            machine_id=self._machine_id,
        )

    def _refused(self, error: BaseException) -> NotStored:
        """Return that nothing is stored, and remember the reason if the rows are to blame."""
        if isinstance(error, Exception):
            self.failure = error
        return NotStored(
            f"the transaction of {self._machine_id} was not committed: {_said_by(error)}",
            machine_id=self._machine_id,
        )

    def _has_answered(self, error: BaseException) -> bool:
        """Return whether it is the server that refuses the commit; otherwise nobody knows."""
        from actorfsm.journal.postgresql.driver import is_lost, psycopg  # noqa: PLC0415 -- an extra of its own

        cause = error.orig if isinstance(error, exc.DBAPIError) else None
        return isinstance(cause, psycopg.Error) and not is_lost(cause, self._connection)

    async def undo(self) -> None:
        """Roll back, or close the connection."""
        if self.is_over:
            return
        self.is_over = True
        await self._close()

    async def _close(self) -> None:
        for _ in range(_TRIES):
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await (self.handle.invalidate() if self._is_cut else self.handle.close())
            except exc.IllegalStateChangeError:  # a hook that was left behind is at it
                await asyncio.sleep(_PAUSE_S)
            except Exception:  # noqa: BLE001 -- it is over either way
                if self._is_cut:
                    return
                self.cut()
            else:
                return

    def cut(self) -> None:
        """Close the way to the server: it rolls back, and whoever waits for an answer gets an error."""
        self._is_cut = True
        connection = self._connection
        if connection is not None and not connection.closed:
            with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as way:
                way.shutdown(socket.SHUT_RDWR)

    # -- what the session tells -----------------------------------------------------------------------------------

    def _begun(self, _session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
        if self.is_over or self._is_cut:
            connection.close()  # nobody else would give it back
            raise StaleTurn(
                f"the session of {self._machine_id} was used after its turn: open one of your own",
                machine_id=self._machine_id,
            )
        _check_driver(connection.dialect)
        own: Any = connection.connection.driver_connection
        if own.autocommit:
            raise Unsupported(
                "the engine commits each statement by itself (isolation_level='AUTOCOMMIT'): nothing could be rolled "
                "back with the machine; leave that away"
            )
        if self._connection not in {None, own}:
            raise Unsupported(
                "the session uses two databases, which do not commit together: give hooks one that is bound to the "
                "journal's own"
            )
        self._connection = own
        event.listen(connection, "commit", self._is_about_to_end)

    def _is_about_to_commit(self, session: Session) -> None:
        if session.get_nested_transaction() is None:
            self._is_about_to_end()

    def _is_about_to_end(self, _connection: Connection | None = None) -> None:
        if not self._may_commit:
            raise Unsupported(
                f"the transaction of {self._machine_id} is committed with its new state, at the end of the turn: leave "
                "commit() away; `async with session.begin_nested()` is for a part that may fail",
                machine_id=self._machine_id,
            )

    def _ended(self, _session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is None and not self.is_over:
            self._was_ended = True


def _check_driver(dialect: Any) -> None:
    """Check that the journal's entry can go where the rows go.

    Raises:
        Unsupported: It cannot.
    """
    if (dialect.name, dialect.driver) != ("postgresql", "psycopg"):
        raise Unsupported(
            f"hooks get sessions of an engine at postgresql+psycopg://, not {dialect.name}+{dialect.driver}://: the "
            "journal's entry is written by the same connection, which is psycopg's. With other engines let the outbox "
            "tell the machine with your rows: ref.on(session).tell(...)"
        )


def _said_by(error: BaseException) -> str:
    return " ".join(str(error).split("\n", 1)[0].split()) or type(error).__name__
