"""Deadlines on the loop's clock, with as few handles of the loop as can be.

An ask's deadline is an entry in a coarse wheel: 0.15 µs, where a `call_later` for each costs 2.4 and would halve the
throughput. A hook's deadline is a number on its turn that a sweeper looks at when it is due. No handle keeps the
context of whoever happened to set it: it serves others too, and their lines would carry that one's variables.
"""

from __future__ import annotations

from contextvars import Context
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.turn import Turn

__all__ = ["DeadlineWheel", "HookSweeper"]

TICKS_PER_S: Final = 20


class DeadlineWheel:
    """Deadlines of envelopes, in buckets of 50 ms: never early, at most a tick late."""

    __slots__ = ("_armed", "_buckets", "_expire", "_handle", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[Envelope], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._buckets: dict[int, dict[Envelope, None]] = {}
        self._armed: float = inf
        self._handle: asyncio.TimerHandle | None = None

    def add(self, envelope: Envelope, deadline: float) -> None:
        """Expire the envelope at the deadline, unless it is removed before."""
        tick = int(deadline * TICKS_PER_S) + 1
        envelope.tick = tick
        bucket = self._buckets.get(tick)
        if bucket is None:
            self._buckets[tick] = bucket = {}
            if tick < self._armed:
                self._arm(tick)
        bucket[envelope] = None

    def remove(self, envelope: Envelope) -> None:
        """Forget the envelope's deadline."""
        bucket = self._buckets.get(envelope.tick)
        if bucket is not None:
            bucket.pop(envelope, None)
        envelope.tick = 0

    def close(self) -> None:
        """Forget all deadlines."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None
        self._armed = inf
        self._buckets.clear()

    def _arm(self, tick: int) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed = tick
        self._handle = self._loop.call_at(tick / TICKS_PER_S, self._turn, context=Context())

    def _turn(self) -> None:
        now = self._loop.time()
        self._handle, self._armed = None, inf
        for tick in sorted(tick for tick in self._buckets if tick / TICKS_PER_S <= now):
            for envelope in self._buckets.pop(tick):
                envelope.tick = 0
                self._expire(envelope)
        for tick in [tick for tick, bucket in self._buckets.items() if not bucket]:
            del self._buckets[tick]
        earliest = min(self._buckets, default=inf)
        if earliest < self._armed:  # what was told may have armed it for a later one
            self._arm(int(earliest))


class HookSweeper:
    """Looks at running hooks when one of their deadlines may have passed.

    Attributes:
        next_check: When it looks next; a hook that must end earlier arms it.
    """

    __slots__ = ("_handle", "_loop", "_overdue", "_running", "next_check")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        running: Callable[[], Iterable[Turn]],
        overdue: Callable[[Turn], None],
    ) -> None:
        self._loop = loop
        self._running = running
        self._overdue = overdue
        self._handle: asyncio.TimerHandle | None = None
        self.next_check: float = inf

    def arm(self, when: float) -> None:
        """Look at that time, or earlier."""
        if when < self.next_check:
            if self._handle is not None:
                self._handle.cancel()
            self.next_check = when
            self._handle = self._loop.call_at(when, self._sweep, context=Context())

    def close(self) -> None:
        """Look no more."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self.next_check = None, inf

    def _sweep(self) -> None:
        self._handle, self.next_check = None, inf
        now = self._loop.time()
        running = list(self._running())
        for turn in running:
            if turn.step_deadline <= now:
                self._overdue(turn)
        for turn in running:
            if now < turn.step_deadline < inf:
                self.arm(turn.step_deadline)
