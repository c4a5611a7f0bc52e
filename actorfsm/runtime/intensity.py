"""Intensity and backoff: how many restarts are too many, and how long to wait before the next one (C17).

Shared by both kinds of supervisor: a declared one counts the restarts of all its children together, as OTP does; the
dynamic supervisor of a class counts those of each machine by itself.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from actorfsm.machine.options import backoff

if TYPE_CHECKING:
    from random import Random

    from actorfsm.machine.options import RestartPolicy

__all__ = ["Backoff", "Intensity"]


class Intensity:
    """The restarts within the policy's period (OTP's intensity and period)."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def allows(self, policy: RestartPolicy, now: float) -> bool:
        """Count a restart; return whether there were not too many within the period."""
        self._times.append(now)
        return self.count(policy, now) <= policy.max_restarts

    def count(self, policy: RestartPolicy, now: float) -> int:
        """Return how many restarts count now."""
        times = self._times
        while times and times[0] <= now - policy.within_s:
            times.popleft()
        return len(times)

    def clear(self) -> None:
        """Begin to count anew."""
        self._times.clear()


class Backoff:
    """The pauses of one child: each is the last one doubled, until it was stable for a while.

    Attributes:
        resumes_at: When the last pause ends, or ended, on the loop's clock.
    """

    __slots__ = ("_streak", "resumes_at")

    def __init__(self) -> None:
        self._streak = 0
        self.resumes_at = 0.0

    def next_pause_s(self, policy: RestartPolicy, now: float, random: Random) -> float:
        """Return how long to wait before the restart that is due now."""
        self._streak = 1 if now - self.resumes_at >= policy.stable_after_s else self._streak + 1
        pause_s = backoff(policy, self._streak - 1) * (1 + policy.jitter * (2 * random.random() - 1))
        self.resumes_at = now + pause_s
        return pause_s

    def clear(self) -> None:
        """Begin with the first pause again."""
        self._streak = 0
