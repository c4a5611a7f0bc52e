"""Transactions of MongoDB: what follows from an event in one waits until it is committed, and ends with it otherwise.

A session of PyMongo tells nobody when it has committed. So the transaction is begun and ended here, in the user's own
session.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from actorfsm.errors import ActorFSMError, ConcurrentTransition, Discarded, OutcomeUnknown, Unsupported
from actorfsm.integrations.mongo.driver import ReadPreference, errors, is_lost_race, is_unknown
from actorfsm.integrations.row_turn import at_once

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from pymongo.asynchronous.client_session import AsyncClientSession
    from pymongo.client_session import ClientSession

    from actorfsm.integrations.row_turn import RowTurn

__all__ = ["following", "sync_transaction", "transaction"]

_WAITING: Final[WeakKeyDictionary[object, list[RowTurn]]] = WeakKeyDictionary()


@asynccontextmanager
async def transaction(session: AsyncClientSession, **options: Any) -> AsyncGenerator[None]:
    """Begin a transaction in a session; commit it at the end of the block, or abort it when that raises.

    After-hooks of the machines that were asked in it run after the commit, before the block is left.

    Args:
        session: The caller's session.
        options: As for its `start_transaction`.

    Raises:
        ConcurrentTransition: The server gave the transaction up at its commit. Nothing of it is stored.
        OutcomeUnknown: The commit was sent, and its answer is not known. Read the documents.
    """
    await session.start_transaction(**_reading_there(options))
    with _waiting(session) as turns:
        try:
            yield
        except BaseException:
            _undone(turns)
            if session.in_transaction:
                await session.abort_transaction()
            raise
    with _committing(turns):
        await session.commit_transaction()
    with _following(turns):
        for turn in turns:
            await turn.follow()


@contextmanager
def sync_transaction(session: ClientSession, **options: Any) -> Generator[None]:
    """Do the same in a session that is not async.

    Raises:
        ConcurrentTransition, OutcomeUnknown: As `transaction`.
    """
    session.start_transaction(**_reading_there(options))
    with _waiting(session) as turns:
        try:
            yield
        except BaseException:
            _undone(turns)
            if session.in_transaction:
                session.abort_transaction()
            raise
    with _committing(turns):
        session.commit_transaction()
    with _following(turns):
        for turn in turns:
            at_once(turn.follow())


def following(session: AsyncClientSession | ClientSession | None) -> list[RowTurn] | None:
    """Return where turns wait for the commit of a session's transaction; None if what is written is stored at once.

    Raises:
        Unsupported: The transaction was begun elsewhere, so that nobody would say when it is committed.
    """
    if session is None or not session.in_transaction:
        return None
    turns = _WAITING.get(session)
    if turns is None:
        raise Unsupported(
            "after-hooks wait for the commit of a transaction, and a session tells nobody of it: begin it by "
            "`async with transaction(session)`, or `with sync_transaction(session)`"
        )
    return turns


@contextmanager
def _waiting(session: object) -> Generator[list[RowTurn]]:
    turns: list[RowTurn] = []
    _WAITING[session] = turns
    try:
        yield turns
    finally:
        del _WAITING[session]


@contextmanager
def _following(turns: list[RowTurn]) -> Generator[None]:
    """Say of all turns that they are committed, before the first has something to wait for, and end them."""
    for turn in turns:
        turn.committed()
    try:
        yield
    finally:
        for turn in turns:
            turn.close()  # what was cancelled has not come to the last


@contextmanager
def _committing(turns: list[RowTurn]) -> Generator[None]:
    """Say what becomes of turns whose transaction is being committed, unless all is well."""
    try:
        yield
    except errors.PyMongoError as error:
        meaning = _meaning(error)
        for turn in turns:
            turn.undone(meaning or error, None if meaning else type(error).__name__)
        if meaning is None:
            raise
        raise meaning from error
    except BaseException:
        unknown = OutcomeUnknown("it was interrupted while the transaction was committed: read the documents")
        for turn in turns:
            turn.undone(unknown)
        raise


def _meaning(error: errors.PyMongoError) -> ActorFSMError | None:
    if is_lost_race(error):
        return ConcurrentTransition(
            "the server gave up the transaction, because of another one: begin again, with what is there then"
        )
    if is_unknown(error):
        return OutcomeUnknown(
            f"the transaction was being committed when {type(error).__name__} came: whether it is stored is not "
            "known; read the documents"
        )
    return None


def _reading_there(options: dict[str, Any]) -> dict[str, Any]:
    """Return options of a transaction: it reads at the primary, where the client's own preference is another too."""
    return {"read_preference": ReadPreference.PRIMARY, **options}


def _undone(turns: list[RowTurn]) -> None:
    for turn in turns:
        turn.undone(Discarded("the transaction was aborted", machine_id=turn.machine_id))
