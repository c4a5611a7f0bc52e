"""Group commit: what is handed in while the store writes is written together, next (C23).

The group is formed on the side of the event loop. A commit of the store costs the same for one batch and for a
hundred, and to wake a thread costs more than to write a batch.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from itertools import islice
from typing import TYPE_CHECKING, Final

from actorfsm.errors import OutcomeUnknown

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Sequence

    from actorfsm.errors import JournalError
    from actorfsm.journal.entry import Batch
    from actorfsm.journal.executor import Executor

__all__ = ["MOST_IN_A_GROUP", "Group", "most_telling"]

MOST_IN_A_GROUP: Final = 1_000
"""How many batches are written together at most, so that the first of them does not wait for ever."""


class Group:
    """Batches on their way to a store.

    What waits has no bound of its own: each machine hands in one batch at a time and waits for it.

    Args:
        executor: Where the store's calls are made.
        write: Writes batches and returns for each why not, or None.
    """

    def __init__(
        self, executor: Executor, write: Callable[[Sequence[Batch]], Sequence[JournalError | None]]
    ) -> None:
        self._executor = executor
        self._write = write
        self._waiting: deque[tuple[Batch, Future[None]]] = deque()
        self._is_due = False
        self._is_writing = False

    def add(self, batch: Batch) -> Future[None]:
        """Write a batch, with whatever else is handed in in this step of the loop or while the store is busy."""
        loop = asyncio.get_running_loop()
        answer: Future[None] = loop.create_future()
        self._waiting.append((batch, answer))
        if not (self._is_due or self._is_writing):
            self._is_due = True
            loop.call_soon(self._begin, context=Context())
        return answer

    def flush(self) -> None:
        """Hand all that waits to the store, for it will be handed nothing more."""
        while self._waiting:
            self._hand_over()

    def _begin(self) -> None:
        self._is_due = False
        if self._waiting and not self._is_writing:
            self._hand_over()

    def _hand_over(self) -> None:
        members = list(islice(self._waiting, MOST_IN_A_GROUP))
        for _ in members:
            self._waiting.popleft()
        self._is_writing = True
        batches = [batch for batch, _ in members]
        written = self._executor.submit(lambda: self._write(batches))
        written.add_done_callback(lambda done: self._finish(members, done))

    def _finish(
        self,
        members: Sequence[tuple[Batch, Future[None]]],
        written: Future[Sequence[JournalError | None]],
    ) -> None:
        self._is_writing = False
        self._begin()
        failure = written.exception()
        if failure is None:
            errors = written.result()
        else:
            unknown = OutcomeUnknown(f"the journal failed while it wrote: {type(failure).__name__}")
            unknown.__cause__ = failure
            errors = [unknown] * len(members)
        for (_, answer), error in zip(members, errors, strict=True):
            if answer.done():
                continue  # nobody waits for it any more
            if error is None:
                answer.set_result(None)
            else:
                answer.set_exception(error)


def most_telling(batches: Sequence[Batch]) -> Batch:
    """Return that batch of a group, which is stored as one, by which it can best be seen whether it is.

    What only says that a promise is done looks stored as soon as there is no such promise.
    """
    return max(batches, key=lambda batch: (bool(batch.entries), bool(batch.dead), bool(batch.accepted)))
