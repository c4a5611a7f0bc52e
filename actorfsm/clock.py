"""The clock: wall time for people, monotonic time for deadlines.

Deadlines and delays are measured on the event loop's own clock (`loop.time()`), so that a simulated loop simulates them
too. What is here is the wall clock only, as a seam: a test gives its own.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeAlias

__all__ = ["Clock", "Duration", "SystemClock", "seconds"]

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
