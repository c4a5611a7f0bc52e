"""Where a store's blocking calls are made: on a thread of its own, or as steps of a simulated loop."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import Context
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Callable

__all__ = ["Executor", "LoopExecutor", "WriterThread", "executor_for"]

T = TypeVar("T")


class Executor(Protocol):
    """Makes calls one after the other, in the order in which they were handed in."""

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Make a call; the future has its result. To cancel the future does not cancel the call."""
        ...

    def close(self) -> None:
        """Make the calls that were handed in, then no more."""
        ...


def executor_for(loop: AbstractEventLoop) -> Executor:
    """Return the executor that suits an event loop: a simulated one must see everything in its own order."""
    return LoopExecutor() if getattr(loop, "simulated", False) else WriterThread()


class WriterThread:
    """One thread. It is a daemon: a program that forgot to close the journal still ends."""

    def __init__(self) -> None:
        self._work: SimpleQueue[tuple[Callable[[], Any], AbstractEventLoop, Future[Any]] | None] = (
            SimpleQueue()
        )
        self._thread = Thread(target=self._run, name="actorfsm-journal", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Make a call on the thread."""
        loop = asyncio.get_running_loop()
        answer: Future[T] = loop.create_future()
        self._work.put((work, loop, answer))
        return answer

    def close(self) -> None:
        """End the thread after what was handed in."""
        self._work.put(None)

    def _run(self) -> None:
        while (job := self._work.get()) is not None:
            work, loop, answer = job
            result, error = _made(work)
            with suppress(RuntimeError):  # the loop is closed: nobody waits for the answer
                loop.call_soon_threadsafe(_deliver, answer, result, error, context=Context())
            del job, work, answer, result, error  # while it waits, the thread holds nothing


class LoopExecutor:
    """The loop itself: each call is a step of its own."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], Any], Future[Any]]] = []

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Make a call in a later step of the loop."""
        loop = asyncio.get_running_loop()
        answer: Future[T] = loop.create_future()
        first = not self._waiting
        self._waiting.append((work, answer))
        if first:
            loop.call_soon(self._step, loop, context=Context())
        return answer

    def close(self) -> None:
        """Nothing is to be ended: what was handed in is made."""

    def _step(self, loop: AbstractEventLoop) -> None:
        """Make the first call. A loop that shuffles its steps must not shuffle the calls."""
        work, answer = self._waiting.pop(0)
        if self._waiting:
            loop.call_soon(self._step, loop, context=Context())
        _deliver(answer, *_made(work))


def _made(work: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    try:
        return work(), None
    except BaseException as error:  # noqa: BLE001 -- whoever waits for the answer gets it
        return None, error


def _deliver(answer: Future[Any], result: Any, error: BaseException | None) -> None:
    if answer.done():
        return  # nobody waits for it any more
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)
