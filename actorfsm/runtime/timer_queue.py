"""The timer queue: delayed calls of the runtime's own, however many, behind one handle of the loop.

Calls are made in the order of their time, then of their making, never early, and only so many in one step of the loop:
what is due all at once does not keep others from their turn.
"""

from __future__ import annotations

from contextvars import Context
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["TimerQueue"]

_FEW: Final = 64
"""So many cancelled calls are left where they are."""


class TimerQueue:
    """Delayed calls, by time.

    Args:
        loop: The event loop.
        per_step: How many calls one step of the loop makes.
        guarded: Makes a callback of the loop out of a function, see `Parts.guarded`.
    """

    __slots__ = ("_armed", "_calls", "_handle", "_heap", "_keys", "_loop", "_per_step", "_run_guarded")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        per_step: int,
        guarded: Callable[[Callable[..., None]], Callable[..., None]],
    ) -> None:
        self._loop = loop
        self._per_step = per_step
        self._run_guarded = guarded(self._run)
        self._keys = count(1)
        self._heap: list[tuple[float, int]] = []
        self._calls: dict[int, tuple[Callable[..., None], tuple[Any, ...]]] = {}
        """By key; a key in the heap that is not here was cancelled."""
        self._handle: asyncio.TimerHandle | None = None
        self._armed: float = inf

    def call_later(self, delay_s: float, function: Callable[..., None], *arguments: Any) -> int:
        """Call the function after the delay; return a key to cancel it by, never 0."""
        return self.call_at(self._loop.time() + delay_s, function, *arguments)

    def call_at(self, when: float, function: Callable[..., None], *arguments: Any) -> int:
        """Call the function at a time of the loop's clock; return a key to cancel it by, never 0."""
        key = next(self._keys)
        self._calls[key] = (function, arguments)
        heappush(self._heap, (when, key))
        if when < self._armed:
            self._arm(when)
        return key

    def cancel(self, key: int) -> None:
        """Cancel a call that may have been made already."""
        if self._calls.pop(key, None) is None:
            return
        if not self._calls:
            self.close()
        elif len(self._heap) > 2 * len(self._calls) + _FEW:
            self._heap = [entry for entry in self._heap if entry[1] in self._calls]
            heapify(self._heap)

    def is_next(self, key: int) -> bool:
        """Return whether no other call comes before this one."""
        self._drop_cancelled()
        return bool(self._heap) and self._heap[0][1] == key

    def close(self) -> None:
        """Cancel all of them."""
        self._disarm()
        self._calls.clear()
        self._heap.clear()

    def __len__(self) -> int:
        """How many calls are to be made."""
        return len(self._calls)

    def _arm(self, when: float) -> None:
        self._disarm()
        self._armed = when
        self._handle = self._loop.call_at(when, self._run_guarded, context=Context())

    def _disarm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self._armed = None, inf

    def _run(self) -> None:
        """Make the calls that are due, as many as a step may, and come again for the rest."""
        self._handle, self._armed = None, inf
        now = self._loop.time()
        for _ in range(self._per_step):
            self._drop_cancelled()
            if not self._heap or self._heap[0][0] > now:
                break
            function, arguments = self._calls.pop(heappop(self._heap)[1])
            function(*arguments)
        self._drop_cancelled()
        if self._heap and self._heap[0][0] < self._armed:  # what was called may have armed it already
            self._arm(self._heap[0][0])

    def _drop_cancelled(self) -> None:
        heap, calls = self._heap, self._calls
        while heap and heap[0][1] not in calls:
            heappop(heap)
