"""The wall clock, and durations."""

from __future__ import annotations

from datetime import UTC, timedelta
from math import inf

import pytest

from actorfsm import SystemClock
from actorfsm.clock import roughly, seconds


@pytest.mark.parametrize(
    ("given", "expected"), [(3, 3.0), (0.5, 0.5), (timedelta(minutes=1, milliseconds=5), 60.005)]
)
def test_a_duration_is_seconds_or_a_timedelta(given: float | timedelta, expected: float) -> None:
    assert seconds(given) == expected


def test_the_time_of_day_is_aware_and_in_utc() -> None:
    now = SystemClock().now()
    assert now.tzinfo is UTC
    assert now <= SystemClock().now()


@pytest.mark.parametrize(
    ("duration_s", "words"),
    [
        (0.0000727, "0 s"),
        (0.0123, "0.012 s"),
        (5.2345, "5.23 s"),
        (99.96, "100 s"),
        (119.6, "2 min"),
        (7_261, "2 h 1 min 1 s"),
        (432_000, "5 d"),
        (inf, "inf s"),
    ],
)
def test_a_time_is_told_roughly_as_people_read_it(duration_s: float, words: str) -> None:
    assert roughly(duration_s) == words
