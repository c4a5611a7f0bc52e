"""C23: the short way to an entry's text writes to the letter what pydantic does, and refuses what pydantic refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given, strategies as st
from pydantic import TypeAdapter

from actorfsm import NotStored
from actorfsm.journal import codec
from actorfsm.journal.entry import (
    Answer,
    Batch,
    Entry,
    EntryKind,
    Failure,
    Message,
    Payload,
    Pending,
    Status,
    StoredTimer,
)
from actorfsm.journal.entry_text import text_of_usual

pytestmark = pytest.mark.rule("C23")

ADAPTER = TypeAdapter(Entry)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(0, 2**62)
STATES = st.lists(TEXTS, max_size=3).map(tuple)
MAYBE = st.none() | TEXTS
PAYLOADS = st.builds(Payload, TEXTS, st.integers(1, 99), TEXTS)
MESSAGES = st.builds(
    Message,
    event=PAYLOADS,
    event_id=TEXTS,
    causation_id=MAYBE,
    correlation_id=MAYBE,
    headers=st.lists(st.tuples(TEXTS, TEXTS), max_size=3).map(tuple),
    sender=MAYBE,
    reply_to=MAYBE,
    attempt=NUMBERS,
    has_own_id=st.booleans(),
)
ANSWERS = st.builds(
    Answer,
    kind=st.sampled_from(get_args(EntryKind)),
    old=STATES,
    new=STATES,
    reply=st.none() | PAYLOADS,
    reason=TEXTS,
    commits=NUMBERS,
)
USUAL = st.builds(
    Entry,
    machine_id=TEXTS,
    machine=TEXTS,
    seq=NUMBERS,
    kind=st.sampled_from(get_args(EntryKind)),
    at_us=st.integers(-(2**62), 2**62),
    incarnation=NUMBERS,
    commits=NUMBERS,
    status=st.sampled_from(get_args(Status)),
    definition=TEXTS,
    message=MESSAGES,
    source=STATES,
    target=STATES,
    data=st.none() | PAYLOADS,
    answer=st.none() | ANSWERS,
    settles=STATES,
)


@given(entry=USUAL)
def test_the_text_of_a_usual_entry_is_what_pydantic_writes(entry: Entry) -> None:
    assert text_of_usual(entry) == ADAPTER.dump_json(entry, exclude_defaults=True).decode()


MESSAGE = Message(event=Payload("Go", 1, "{}"), event_id="e")
ENTRY = Entry(machine_id="a", machine="A", seq=1, kind="committed", at_us=1, message=MESSAGE)
TIMER = StoredTimer(machine_id="a", name="t", due_us=1, scope="STATE", message=MESSAGE)
PENDING = Pending(key="k", kind="event", machine_id="b", message=MESSAGE)
FAILED = Answer(kind="failed", error=Failure("E", "text"))


@pytest.mark.parametrize(
    "more",
    [
        {"message": None},
        {"answer": FAILED},
        {"timers_set": (TIMER,)},
        {"timers_ended": ("t",)},
        {"promises": (PENDING,)},
        {"watches": ("b",)},
        {"unwatches": ("b",)},
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_few_entries_have_is_written_by_pydantic(more: dict[str, Any]) -> None:
    entry = replace(ENTRY, **more)
    assert text_of_usual(entry) is None
    row = codec.plan(Batch(entries=(entry,)), lambda _: (0, codec.FIRST)).rows[0]
    assert codec.decode(row, codec.FIRST) == entry


@pytest.mark.parametrize(
    "wrong",
    [
        {"machine_id": "\ud800"},
        {"machine": 1},
        {"at_us": 1.5},
        {"at_us": "1"},
        {"kind": 1},
        {"status": None},
        {"target": (1,)},
        {"target": ("a", 1)},
        {"definition": b"a"},
        {"data": Payload("Go", 1, None)},  # type: ignore[arg-type]
        {"data": Payload("Go", "1", "{}")},  # type: ignore[arg-type]
        {"message": replace(MESSAGE, event_id=1)},  # type: ignore[arg-type]
        {"message": replace(MESSAGE, headers=(("a", 1),))},  # type: ignore[arg-type]
        {"answer": Answer(kind=1)},  # type: ignore[arg-type]
    ],
    ids=str,
)
def test_what_is_no_entry_is_refused(wrong: dict[str, Any]) -> None:
    entry = replace(ENTRY, **wrong)
    with pytest.raises(NotStored, match="cannot be written as JSON"):
        codec.plan(Batch(entries=(entry,)), lambda _: (0, codec.FIRST))
