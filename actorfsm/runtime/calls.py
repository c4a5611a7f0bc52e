"""Calls from other threads: how they reach the event loop, and how each of them is answered.

They wait in one queue and are made on the event loop's thread in the order in which they came, so those of one thread
keep their order. There is no lock: appending to a deque and taking from it are atomic, and a call that comes while the
queue is being closed finds out by itself. Every future is answered, at the latest when the system ends.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, TypeVar

from actorfsm.errors import (
    ActorFSMError,
    MailboxFull,
    SystemFailed,
    SystemStopping,
    WrongProcess,
    WrongThread,
)
from actorfsm.runtime.tasks import start_eagerly
from actorfsm.runtime.turn import CURRENT

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Mapping

    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.turn import Turn

__all__ = ["Answer", "Calls"]

T = TypeVar("T")

_PARENTS: Final = (
    "the system was started in the parent process, before a fork: each process makes a system of its own"
)


class Answer(Future[T]):
    """The answer of a call from a thread. To cancel it gives up the answer, never the event (C8).

    Attributes:
        task: What waits for the answer on the event loop, once the call has been made.
        begun: Whether that task has made the call.
    """

    def __init__(self, calls: Calls, make: Callable[[], Coroutine[Any, Any, T]], turn: Turn | None) -> None:
        super().__init__()
        self._calls = calls
        self.make = make
        self.turn = turn
        self.task: asyncio.Future[Any] | None = None
        self.begun = False

    def result(self, timeout: float | None = None) -> T:
        """Wait for the answer, as `concurrent.futures.Future.result`.

        Raises:
            WrongThread: On the event loop's own thread it would wait for ever.
        """
        if not self.done():
            self._calls.check_may_wait()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the error, as `concurrent.futures.Future.exception`.

        Raises:
            WrongThread: On the event loop's own thread it would wait for ever.
        """
        if not self.done():
            self._calls.check_may_wait()
        return super().exception(timeout)

    def cancel(self) -> bool:
        """Give up the answer; what was sent takes its course."""
        if not super().cancel():
            return False
        self._calls.give_up(self)
        return True

    def end_cancelled(self) -> None:
        """Follow the end of the task, which somebody else cancelled."""
        super().cancel()


class Calls:
    """The calls from threads that one system has not answered yet.

    Attributes:
        waiting: The tasks on the event loop that wait for answers, each with the future of its caller.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: int | None = None
        self._queue: deque[Answer[Any]] = deque()
        self._is_due = False
        self._closed = False
        self._forked = False
        self._context = Context()
        self.waiting: dict[asyncio.Future[Any], Answer[Any]] = {}

    # -- from the thread to the loop ----------------------------------------------------------------------------

    def submit(self, make: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        """Make a call on the event loop: the future has what the coroutine returns or raises.

        Raises:
            WrongThread: A hook called on the event loop's own thread.
            WrongProcess: In a child that was forked.
        """
        turn = CURRENT.get()
        if self._forked:
            raise WrongProcess(_PARENTS)
        if turn is not None and get_ident() == self._thread:
            raise WrongThread(
                f"a hook of {turn.machine_id} called system.threadsafe on the event loop's own thread: it has "
                "self.tell and await self.ask",
                machine_id=turn.machine_id,
            )
        answer = Answer(self, make, turn)
        limit = self._parts.limits.thread_calls
        if self._loop is None:
            answer.set_exception(
                SystemStopping("the system was not started: use `async with ActorSystem(...) as system`")
            )
        elif len(self._queue) >= limit:
            answer.set_exception(
                MailboxFull(f"{limit:,} calls from threads wait for the event loop: the limit of this system")
            )
        else:
            self._enqueue(answer, self._loop)
        return answer

    def carried(self, headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
        """Return the headers of a call, with the trace context of the thread that makes it."""
        tracing = self._parts.tracing
        return headers if tracing is None else tracing.carry(headers)

    def _enqueue(self, answer: Answer[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._queue.append(answer)
        if self._closed:
            self._refuse_queued()
        elif not self._is_due:
            self._is_due = True
            try:
                loop.call_soon_threadsafe(self._drain, context=self._context)
            except RuntimeError:  # the loop takes no more
                self._is_due = False
                if not loop.is_closed():
                    self._queue.remove(answer)
                    raise
                self.close()

    def give_up(self, answer: Answer[Any]) -> None:
        """Let nobody wait on the loop for an answer that was cancelled."""
        if not self._forked:
            with suppress(RuntimeError):  # the loop has been closed: nobody waits there
                self._parts.loop.call_soon_threadsafe(self._cancel, answer, context=self._context)

    def check_may_wait(self) -> None:
        """Refuse to wait where the answer could never come.

        Raises:
            WrongThread: On the event loop's own thread.
            WrongProcess: In a child that was forked.
        """
        if self._forked:
            raise WrongProcess(_PARENTS)
        if get_ident() == self._thread and not self._closed:
            raise WrongThread(
                "waiting here would block the event loop that has to answer: on its own thread use "
                "`await system.ask(...)`, `await asyncio.wrap_future(future)` or future.add_done_callback"
            )

    # -- on the loop --------------------------------------------------------------------------------------------

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take calls from now on, for the running loop."""
        self._loop = loop
        self._thread = get_ident()
        self._drain = self._parts.guarded(self._make_calls)

    def _make_calls(self) -> None:
        """Make the calls that wait; a bounded number in one step of the loop, so that threads starve nobody."""
        self._is_due = False
        queue, loop = self._queue, self._parts.loop
        try:
            for _ in range(min(len(queue), self._parts.limits.turns_per_step)):
                self._make(queue.popleft(), loop)
        finally:
            if queue and not self._is_due and not self._closed:
                self._is_due = True
                loop.call_soon(self._drain, context=self._context)

    def _make(self, answer: Answer[Any], loop: asyncio.AbstractEventLoop) -> None:
        context = Context()
        if answer.turn is not None:
            context.run(CURRENT.set, answer.turn)
        try:
            task = start_eagerly(_serve(answer), loop, context)
        except BaseException:  # an interrupt: it goes on to the loop, and nobody waits in vain
            _settle(answer, error=SystemStopping("the call was interrupted"))
            raise
        if task.done():
            self._finish(answer, task)
            return
        answer.task = task
        self.waiting[task] = answer
        task.add_done_callback(self._ended, context=self._context)
        if answer.cancelled():
            loop.call_soon(self._cancel, answer, context=self._context)

    def _cancel(self, answer: Answer[Any]) -> None:
        if answer.task is not None and answer.begun:
            answer.task.cancel()

    def _ended(self, task: asyncio.Future[Any]) -> None:
        answer = self.waiting.pop(task, None)
        if answer is not None:
            self._finish(answer, task)
            self._parts.note_change()
        elif not task.cancelled():
            task.exception()  # retrieved: its caller was answered when the system ended

    def _finish(self, answer: Answer[Any], task: asyncio.Future[Any]) -> None:
        try:
            if task.cancelled():
                answer.end_cancelled()
                _settle(answer)
            elif (error := task.exception()) is not None:
                _settle(answer, error=error)
            else:
                _settle(answer, result=task.result())
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 -- a callback of the future cannot hurt the runtime (C13)
            self._parts.counters.callbacks_failed += 1

    # -- the end ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Take no more calls, and answer those that wait. Called once the system has ended, or its loop is closed."""
        self._closed = True
        self._refuse_queued()
        while self.waiting:
            task, answer = self.waiting.popitem()
            if not task.get_loop().is_closed():
                task.cancel()
            _settle(answer, error=self._ending())

    def forked(self) -> None:
        """Take no more calls: this is a child process, whose loop and threads are the parent's."""
        self._forked = True

    def _refuse_queued(self) -> None:
        while True:
            try:
                answer = self._queue.popleft()
            except IndexError:
                return
            _settle(answer, error=self._ending())

    def _ending(self) -> ActorFSMError:
        cause = self._parts.failed_with
        if cause is None:
            return SystemStopping("the system is stopping, or has stopped")
        error = SystemFailed("the system has failed")
        error.__cause__ = cause
        return error


async def _serve(answer: Answer[T]) -> T:
    answer.begun = True
    return await answer.make()


def _settle(answer: Answer[Any], result: Any = None, error: BaseException | None = None) -> None:
    """Give the answer, unless it was given up."""
    if not answer.set_running_or_notify_cancel():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
