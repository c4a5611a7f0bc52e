"""What waits for the end of a session's transaction: done after the commit, dropped after a rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from actorfsm.integrations.sqlalchemy.driver import await_only, event, sqlalchemy_asyncio

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sqlalchemy.orm import Session, SessionTransaction

__all__ = ["AfterCommit", "after_commit"]

_WAITING: Final = "actorfsm_waiting"


class AfterCommit(Protocol):
    """Something that follows from a transaction."""

    def committed(self) -> Coroutine[Any, Any, None]:
        """Take note that the transaction is committed, and return what is to be done now."""
        ...

    def given_up(self) -> None:
        """Take note that the rest of it is not done, because what waits for it was cancelled."""
        ...

    def rolled_back(self) -> None:
        """Take note that it is not."""
        ...


def after_commit(session: Session, follows: AfterCommit) -> None:
    """Let something follow from the transaction that the session is in; a savepoint that is undone undoes it too."""
    waiting: list[tuple[AfterCommit, SessionTransaction]] | None = session.info.get(_WAITING)
    if waiting is None:
        session.info[_WAITING] = waiting = []
        event.listen(session, "after_commit", _committed)
        event.listen(session, "after_soft_rollback", _rolled_back)
        event.listen(session, "after_transaction_end", _ended)
    transaction = session.get_nested_transaction() or session.get_transaction()
    assert transaction is not None  # noqa: S101 -- it has just been used
    waiting.append((follows, transaction))


def _committed(session: Session) -> None:
    waiting = session.info[_WAITING]
    savepoint = session.get_nested_transaction()
    if (
        savepoint is not None
    ):  # it was released, and nothing is stored yet: what it held belongs to what it was in
        waiting[:] = [(follows, savepoint.parent if held is savepoint else held) for follows, held in waiting]
        return
    done = [follows for follows, _ in waiting]
    waiting.clear()
    # All know it before the first has something to wait for.
    works = [follows.committed() for follows in done]
    try:
        for work in works:
            _do(session, work)
    finally:
        for follows, work in zip(done, works, strict=True):
            work.close()
            follows.given_up()


def _rolled_back(session: Session, transaction: SessionTransaction) -> None:
    waiting = session.info[_WAITING]
    undone = [item for item in waiting if _is_within(item[1], transaction)]
    waiting[:] = [item for item in waiting if item not in undone]
    for follows, _ in undone:
        follows.rolled_back()


def _ended(session: Session, transaction: SessionTransaction) -> None:
    """Drop what is left when a session was closed without either."""
    if transaction.parent is None:
        _rolled_back(session, transaction)


def _is_within(held: SessionTransaction | None, transaction: SessionTransaction) -> bool:
    while held is not None:
        if held is transaction:
            return True
        held = held.parent
    return False


def _do(session: Session, work: Coroutine[Any, Any, None]) -> None:
    """Run what follows to its end: in place, or, in an async session, by waiting for it where the session waits."""
    if sqlalchemy_asyncio.async_session(session) is not None:
        await_only(work)
        return
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("what follows a Session's commit has nothing to wait for")
