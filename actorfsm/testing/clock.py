"""Virtual time: the time of day on the simulated loop, and the way to let it pass.

Time moves only when nothing is ready, so an hour of a machine's life costs no more than what happens in it.
"""

from __future__ import annotations

import asyncio
import math
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from actorfsm.clock import seconds
from actorfsm.testing.loop import SimLoop

if TYPE_CHECKING:
    from actorfsm.clock import Duration

__all__ = ["START", "VirtualClock", "parse_duration"]

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""The time of day at which simulations begin, unless they say otherwise."""

_UNITS_S: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|d|h|m|s)")


class VirtualClock:
    """A clock that shows the time of the loop it is read on, counted from a start.

    Give it to a system as `clock=`; on the simulated loop its hours pass in no time.

    Args:
        start: The time of day at which the loop's own time is 0; aware.

    Raises:
        ValueError: The start has no time zone.
    """

    def __init__(self, start: datetime = START) -> None:
        if start.tzinfo is None:
            raise ValueError("start= needs a time zone: datetime(2026, 1, 1, tzinfo=timezone.utc)")
        self.start: Final = start.astimezone(UTC)

    def now(self) -> datetime:
        """Return the time of day, in UTC, aware."""
        return self.start + timedelta(seconds=asyncio.get_running_loop().time())

    async def advance(self, duration: Duration | str) -> datetime:
        """Let time pass, with all that happens meanwhile, until nothing is ready at its end.

        Args:
            duration: Seconds, a timedelta, or text such as "1h", "90s", "1h 30m", "250ms", "2d".

        Returns:
            The time of day afterwards.

        Raises:
            ValueError: The duration is negative, or text that is none.
            RuntimeError: The loop is not a simulated one, whose time cannot be advanced.
        """
        duration_s = parse_duration(duration)
        loop = _simulated_loop()
        await _sleep_until(loop, loop.time() + duration_s)
        await self.settle()
        return self.now()

    async def settle(self) -> None:
        """Let everything run that is ready at this moment, and what that makes ready, while the clock stands still.

        Raises:
            RuntimeError: The loop is not a simulated one.
        """
        loop = _simulated_loop()
        # The next moment there is: the loop comes to it only when nothing is left to do in this one.
        await _sleep_until(loop, math.nextafter(loop.time(), math.inf))

    def __repr__(self) -> str:
        return f"VirtualClock(start={self.start.isoformat()})"


def parse_duration(duration: Duration | str) -> float:
    """Return a duration in seconds.

    Raises:
        ValueError: It is negative, infinite, or text that is no duration.
    """
    duration_s = _seconds_of(duration) if isinstance(duration, str) else seconds(duration)
    if not 0 <= duration_s < math.inf:
        raise ValueError(f"{duration!r}: time goes forward, by a finite duration")
    return duration_s


def _seconds_of(text: str) -> float:
    position, total_s = 0, 0.0
    while (part := _PART.match(text, position)) is not None:
        total_s += float(part[1]) * _UNITS_S[part[2]]
        position = part.end()
    if position == 0 or text[position:].strip():
        raise ValueError(f"{text!r} is not a duration: write '1h', '90s', '1h 30m', '250ms' or '2d'")
    return total_s


def _simulated_loop() -> SimLoop:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, SimLoop):
        raise RuntimeError(  # noqa: TRY004 -- the loop that runs is no argument
            f"time cannot be advanced on a {type(loop).__name__}: run the test on the simulated loop "
            "(`actorfsm.testing.simulate`, or the marker `actor_seeds`)"
        )
    return loop


async def _sleep_until(loop: SimLoop, when: float) -> None:
    waiter: asyncio.Future[None] = loop.create_future()
    handle = loop.call_at(when, _wake, waiter)
    try:
        await waiter
    finally:
        handle.cancel()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
