"""Run a program until it ends or is told to: SIGTERM and Ctrl-C stop it in order.

Nothing else in this package touches a signal. A first signal cancels the program's main coroutine, so that each `async
with ActorSystem` in it finishes its queues; a second one cancels it again, and a system that is finishing its queues
then abandons what waits: each event is answered even so.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from actorfsm.errors import WrongThread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import FrameType

__all__ = ["run"]

T = TypeVar("T")

_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
_EXIT_BY_SIGNAL: Final = 128
"""A process that a signal ended has this plus the signal's number as its exit code, by convention of the shells."""


def run(
    main: Callable[[], Coroutine[Any, Any, T]],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> T:
    """Run a program's main coroutine function on a new event loop, and stop it in order when a signal says so.

    The handlers of SIGTERM and SIGINT that were there before are put back when `main` has ended. A signal that the
    process was started to ignore stays ignored.

    Args:
        main: The coroutine function.
        loop_factory: Makes the event loop, such as `uvloop.new_event_loop`; asyncio's own by default.

    Returns:
        What `main` returns.

    Raises:
        SystemExit: SIGTERM came; the exit code is 143.
        KeyboardInterrupt: SIGINT came.
        WrongThread: Not called on the main thread, the only one where signals can be handled.
    """
    if threading.current_thread() is not threading.main_thread():
        raise WrongThread(
            f"actorfsm.run was called on the thread {threading.current_thread().name}; signals are handled on the "
            "main thread: call it there, or use asyncio.run"
        )
    signals = _Signals()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        signals.install(runner.get_loop())
        try:
            result = runner.run(signals.obey(main))
        except asyncio.CancelledError:
            signals.raise_what_came()
            raise
        finally:
            signals.restore()
    signals.raise_what_came()
    return result


class _Signals:
    """The two signals, while a program runs."""

    def __init__(self) -> None:
        self._first: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Handle the signals, but for one that the process ignores or that has a handler from outside Python."""
        self._loop = loop
        for number in _STOPPING:
            before = signal.getsignal(number)
            if before is not None and before != signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self._came)

    def restore(self) -> None:
        """Put the handlers back that were there."""
        for number, before in self._before.items():
            signal.signal(number, before)
        self._task = None

    async def obey(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run the program in the task that a signal cancels."""
        self._task = asyncio.current_task()
        if self._first is not None:
            raise asyncio.CancelledError
        return await main()

    def raise_what_came(self) -> None:
        """Raise what the first signal means to whoever called `run`; nothing if there was none."""
        if self._first == signal.SIGINT:
            raise KeyboardInterrupt
        if self._first is not None:
            raise SystemExit(_EXIT_BY_SIGNAL + self._first)

    def _came(self, number: int, _frame: FrameType | None) -> None:
        self._first = self._first or signal.Signals(number)
        self._loop.call_soon_threadsafe(self._cancel)  # wakes a loop that is asleep

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
