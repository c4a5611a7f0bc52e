"""The clock: wall time for people, monotonic time for deadlines.

Deadlines and delays are measured on the event loop's own clock (`loop.time()`), so that a simulated loop simulates them
too. What is here is the wall clock only, as a seam: a test gives its own.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import inf
from typing import Final, Protocol, TypeAlias

__all__ = ["Clock", "Duration", "SystemClock", "in_words", "roughly", "seconds"]

_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60))
_LONG_S: Final = 100
"""From here on a time is read in minutes, hours and days."""

Duration: TypeAlias = float | timedelta
"""Seconds, or a timedelta."""


class Clock(Protocol):
    """Where the time of day comes from."""

    def now(self) -> datetime:
        """Return the time of day, in UTC, aware."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the time of day, in UTC, aware."""
        return datetime.now(UTC)


def seconds(duration: Duration) -> float:
    """Return a duration in seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)


def in_words(duration_s: float) -> str:
    """Return a time in words: `1 h 30 min`, `0.25 s`."""
    words: list[str] = []
    rest = duration_s
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            words.append(f"{count:.0f} {unit}")
    if rest or not words:
        words.append(f"{rest:.6g} s")
    return " ".join(words)


def roughly(duration_s: float) -> str:
    """Return a time as somebody on call wants to read it: `0.012 s`, `86 s`, `1 d 3 h`; what is below 1 ms is 0 s."""
    if _LONG_S <= duration_s < inf:
        return in_words(round(duration_s))
    return f"{round(duration_s, 3):.3g} s"
