"""The one place where tasks are made, and where tasks that a hook starts are noticed.

A task of the runtime never inherits the context of whoever happened to cause it: otherwise every later line of a
machine would carry the first request's id.
"""

from __future__ import annotations

import asyncio
import sys
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

__all__ = [
    "EAGER",
    "TaskWatch",
    "Verdict",
    "enter_task",
    "leave_task",
    "start_eagerly",
    "start_task",
    "to_the_end",
]

EAGER: Final = sys.version_info >= (3, 12)
"""Whether a task can run up to its first suspension where it is made."""

enter_task: Final = asyncio.tasks._enter_task  # noqa: SLF001 -- documented: "Extending asyncio"
leave_task: Final = asyncio.tasks._leave_task  # noqa: SLF001 -- as above
"""A plain turn runs in its asker's task: a hook shall not find it there, and cancel it."""

NAME: Final = "actorfsm"
"""One name for all: asyncio's own numbers would differ between two runs of one seed."""


def start_task(
    coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, context: Context | None = None
) -> asyncio.Task[T]:
    """Start a task in a clean context; it begins in the loop's next step."""
    return asyncio.Task(coroutine, loop=loop, context=Context() if context is None else context, name=NAME)


def start_eagerly(
    coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, context: Context
) -> asyncio.Task[None]:
    """Start a task in a clean context; it runs at once, up to its first suspension (from Python 3.12 on)."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(coroutine, loop=loop, context=context, name=NAME, eager_start=True)
    return asyncio.Task(coroutine, loop=loop, context=context, name=NAME)


async def to_the_end(future: asyncio.Future[T]) -> T:
    """Return what a future says, however often the current task is cancelled meanwhile.

    Such a cancellation is not forgotten: the task meets it at its next await, or ends with it.
    """
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError as error:
            if not future.cancelled():
                cancelled = error
        except Exception:  # noqa: BLE001 -- what the future says, which is raised below
            break
    if cancelled is not None:
        _cancel_again(cancelled)
    return future.result()


def _cancel_again(cancelled: asyncio.CancelledError) -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()  # it was counted when it came
        task.cancel(*cancelled.args)


class Verdict:
    """What is said once, to one task that waits for it to the end: as `to_the_end`, without a shield around it."""

    __slots__ = ("_error", "_is_known", "_waiter")

    def __init__(self) -> None:
        self._error: Exception | None = None
        self._is_known = False
        self._waiter: asyncio.Future[None] | None = None

    def say(self, error: Exception | None) -> None:
        """Say that it went well, or why not; what is said after that does not count."""
        if self._is_known:
            return
        self._is_known, self._error = True, error
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def heard(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for it, however often the current task is cancelled meanwhile; it meets that at its next await.

        Raises:
            Exception: What was said.
        """
        cancelled: asyncio.CancelledError | None = None
        while not self._is_known:
            self._waiter = loop.create_future()  # a cancellation ends the one before
            try:
                await self._waiter
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            _cancel_again(cancelled)
        if self._error is not None:
            raise self._error


class TaskWatch:
    """The loop's task factory while a system runs: tells a running turn of each task that its hooks start.

    Shared by the systems of one loop; the factory that was there before makes the tasks.
    """

    def __init__(self, adopt: Callable[[asyncio.Future[Any]], None], previous: Any) -> None:
        self._adopt = adopt
        self._previous = previous
        self._users = 0

    @classmethod
    def install(
        cls, loop: asyncio.AbstractEventLoop, adopt: Callable[[asyncio.Future[Any]], None]
    ) -> TaskWatch:
        """Watch the loop, or share the watch that is there."""
        factory: Any = loop.get_task_factory()
        watch = factory if isinstance(factory, cls) else cls(adopt, factory)
        if watch is not factory:
            loop.set_task_factory(watch)
        watch._users += 1  # noqa: SLF001 -- its own class
        return watch

    def uninstall(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch no longer, once the last user has said so."""
        self._users -= 1
        if self._users == 0 and loop.get_task_factory() is self:
            loop.set_task_factory(self._previous)

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Future[Any]:
        """Make the task, and tell the turn in which it is made."""
        task: asyncio.Future[Any]
        if self._previous is None:
            task = asyncio.Task(coroutine, loop=loop, **options)
        else:
            task = self._previous(loop, coroutine, **options)
        self._adopt(task)
        return task
