"""The wall clock, and durations."""

from __future__ import annotations

from datetime import UTC, timedelta

import pytest

from actorfsm import SystemClock
from actorfsm.clock import seconds


@pytest.mark.parametrize(
    ("given", "expected"), [(3, 3.0), (0.5, 0.5), (timedelta(minutes=1, milliseconds=5), 60.005)]
)
def test_a_duration_is_seconds_or_a_timedelta(given: float | timedelta, expected: float) -> None:
    assert seconds(given) == expected


def test_the_time_of_day_is_aware_and_in_utc() -> None:
    now = SystemClock().now()
    assert now.tzinfo is UTC
    assert now <= SystemClock().now()
