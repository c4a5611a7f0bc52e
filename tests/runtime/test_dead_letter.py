"""The box of dead letters."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from actorfsm import DeadLetter, Spawn
from actorfsm.runtime.dead_letter import DeadLetters

pytestmark = pytest.mark.rule("C11")
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)


def letter(number: int) -> DeadLetter:
    return DeadLetter("a", Spawn(), f"id-{number}", "nobody", NOON)


def test_it_keeps_the_newest_and_counts_them_all() -> None:
    box = DeadLetters(3)
    assert (len(box), box.total, list(box)) == (0, 0, [])
    for number in range(5):
        box.add(letter(number))
    assert (len(box), box.total) == (3, 5)
    assert [found.event_id for found in box] == ["id-2", "id-3", "id-4"]


def test_a_look_is_not_disturbed_by_what_comes_meanwhile() -> None:
    box = DeadLetters(3)
    box.add(letter(1))
    for found in box:
        assert found.event_id == "id-1"
        box.add(letter(2))
    assert len(box) == 2


def test_it_may_keep_none() -> None:
    box = DeadLetters(0)
    box.add(letter(1))
    assert (len(box), box.total) == (0, 1)


def test_a_letter_says_for_whom_what_why_and_when() -> None:
    found = letter(1)
    assert (found.machine_id, found.event, found.reason, found.at, found.attempts) == (
        "a",
        Spawn(),
        "nobody",
        NOON,
        0,
    )
