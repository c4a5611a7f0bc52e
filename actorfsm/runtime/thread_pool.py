"""The thread pool: where plain hooks marked `@blocking` run, so that they do not block the event loop.

Each call has a daemon thread of its own while it runs, and at most so many run at a time; the others stand in line. So
nothing idles, nothing has to be joined, and a call that never returns cannot keep the process from its exit. Only the
loop's thread keeps the books: there is no lock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Executor, Future
from contextvars import Context
from threading import Thread, get_ident
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from actorfsm.runtime.turn import CURRENT, Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from actorfsm.runtime.parts import Parts

__all__ = ["ThreadPool"]

P = ParamSpec("P")
T = TypeVar("T")


class ThreadPool:
    """Runs blocking steps of turns in threads, a bounded number at a time."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._free = parts.limits.blocking_threads
        self._line: deque[asyncio.Future[None]] = deque()
        self._calls: dict[asyncio.Future[Any], str] = {}
        self._waiters: dict[Turn, asyncio.Future[None]] = {}

    @property
    def running(self) -> tuple[str, ...]:
        """The names of the calls that have not returned."""
        return tuple(self._calls.values())

    async def run(self, turn: Turn, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Run a step of a turn in a thread, with the turn as its context, and return what it returns.

        A thread cannot be cancelled. A turn that holds its machine waits for it until the sweeper leaves the hook
        behind, as it does with one that refuses its cancellation; one that holds nothing leaves it behind at once.
        """
        await self._enter()
        call = self._start(turn, function, arguments)
        cancelled: asyncio.CancelledError | None = None
        self._waiters[turn] = waiter = self._parts.loop.create_future()
        call.add_done_callback(lambda _: self.leave(turn))
        while not waiter.done():
            try:
                await asyncio.wait([waiter])
            except asyncio.CancelledError as cancellation:
                cancelled = cancellation
                if not turn.holds_machine:
                    self.leave(turn)
        if cancelled is not None:
            raise cancelled
        result, error = call.result()
        if error is not None:
            raise error
        return result

    def leave(self, turn: Turn) -> None:
        """Let the turn go on: its call has returned, or is left behind."""
        waiter = self._waiters.pop(turn, None)
        if waiter is not None:
            waiter.set_result(None)

    async def _enter(self) -> None:
        """Wait for a free place, in order."""
        if self._free:
            self._free -= 1
            return
        place: asyncio.Future[None] = self._parts.loop.create_future()
        self._line.append(place)
        try:
            await place
        except BaseException:
            if not place.cancelled():  # it was given the place in the moment in which it gave up
                self._make_room()
            elif place in self._line:
                self._line.remove(place)
            raise

    def _make_room(self) -> None:
        while self._line:
            place = self._line.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._free += 1

    def _start(
        self, turn: Turn, function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> asyncio.Future[Any]:
        name = f"{turn.machine_id}.{'' if turn.step is None else turn.step.name}"
        context = Context()
        if self._parts.tracing is not None:
            context.run(self._parts.tracing.enter, turn.envelope)

        def in_context() -> tuple[Any, BaseException | None]:
            return context.run(_call, turn, function, arguments)

        try:
            call = self._parts.loop.run_in_executor(_OwnThread(name), in_context)
        except BaseException:
            self._make_room()  # the system can start no more threads
            raise
        self._calls[call] = name
        call.add_done_callback(self._ended, context=Context())
        return call

    def _ended(self, call: asyncio.Future[Any]) -> None:
        del self._calls[call]
        self._make_room()
        self._parts.note_change()


class _OwnThread(Executor):
    """Runs one call in a daemon thread, which the interpreter does not wait for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()

        def work() -> None:
            future.set_result(fn(*args, **kwargs))  # never raises: see `_call`

        Thread(target=work, name=self._name, daemon=True).start()
        return future


def _call(
    turn: Turn, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> tuple[Any, BaseException | None]:
    """Call the function, in its thread; what it raises is handed over: no future takes a StopIteration."""
    CURRENT.set(turn)
    turn.thread = get_ident()
    try:
        return function(*arguments), None
    except BaseException as error:  # noqa: BLE001 -- raised again in the turn
        return None, error
    finally:
        turn.thread = 0
