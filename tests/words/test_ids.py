"""Ids: what a machine and an event may be called, and ids that are derived."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from actorfsm import InvalidEvent
from actorfsm.ids import MAX_ID_LENGTH, EventIds, check_event_id, check_machine_id, derive_id

pytestmark = pytest.mark.rule("C10")


@pytest.mark.parametrize("machine_id", ["a", "order-42", "A.b_c:d~e-9", "x" * 200])
def test_a_machine_may_have_this_id(machine_id: str) -> None:
    assert check_machine_id(machine_id) is machine_id


NOT_IDS = [
    "",
    " ",
    "a b",
    "a\n",
    "a\0",
    "\x1b[31m",
    "order/1",
    "ä",
    "x" * 201,
    "x" * 100_000,
    "\ud800",
    None,
    7,
    b"a",
    ["a"],
]


@pytest.mark.parametrize("machine_id", NOT_IDS, ids=lambda given: repr(given)[:20])
def test_a_machine_may_not_have_this_id(machine_id: Any) -> None:
    with pytest.raises(
        InvalidEvent, match=r"is not a machine id: use 1 to 200 characters of \[A-Za-z0-9"
    ) as caught:
        check_machine_id(machine_id)
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 160


@pytest.mark.parametrize("event_id", ["a", "payment 1", "Zahlung-ä", "x" * 200])
def test_an_event_may_have_this_id(event_id: str) -> None:
    assert check_event_id(event_id) is event_id


@pytest.mark.parametrize(
    "event_id", ["", "a\n", "a\0", "x" * 201, "\ud800", None, 7, b"a"], ids=lambda given: repr(given)[:20]
)
def test_an_event_may_not_have_this_id(event_id: Any) -> None:
    with pytest.raises(InvalidEvent, match="1 to 200 printable characters"):
        check_event_id(event_id)


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(st.lists(st.text(alphabet="ab/", max_size=120), min_size=1, max_size=4))
def test_a_derived_id_is_the_same_for_the_same_parts_and_short_enough_to_derive_from(
    parts: list[str],
) -> None:
    derived = derive_id(*parts)
    assert derived == derive_id(*parts)
    assert len(derived) <= 160
    assert len(derive_id(derived, "x" * 30)) <= MAX_ID_LENGTH


def test_derived_ids_of_long_parts_differ_where_the_parts_do() -> None:
    long = "x" * 200
    assert derive_id(long, 1) != derive_id(long, 2)
    assert derive_id("a", "b", 1) == "a/b/1"


def test_event_ids_count_under_a_run_id_that_comes_from_the_seed() -> None:
    ids, again, other = EventIds(Random(1)), EventIds(Random(1)), EventIds(Random(2))
    assert [ids.next_number(), ids.next_number()] == [1, 2]
    assert ids.text(7) == again.text(7) != other.text(7)
    assert ids.text(7) == f"{ids.run_id}-7"
    assert len(ids.run_id) == 12
