"""Text and payloads for log lines: bounded, on one line, without secrets."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
import json
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretBytes, SecretStr, TypeAdapter, ValidationError

from actorfsm.sinks.payload import data_of, payload_of
from actorfsm.sinks.text import one_line, render_exception
from actorfsm.testing.faults import EVIL


def test_printable_text_is_left_alone() -> None:
    assert one_line("Käse 🧀 costs 3 €") == "Käse 🧀 costs 3 €"


def test_what_a_terminal_obeys_is_escaped() -> None:
    assert one_line("a\tb\x00\x7f\u2028\U000e0001") == "a\\tb\\x00\\x7f\\u2028\\U000e0001"


@pytest.mark.parametrize("name", EVIL)
def test_every_evil_exception_has_a_text(name: str) -> None:
    assert type(EVIL[name]()).__name__ in render_exception(EVIL[name]())


def test_an_exception_whose_text_cannot_be_had_says_so() -> None:
    assert render_exception(EVIL["Unprintable"]()) == "Unprintable: <its text cannot be shown>"


def test_the_input_of_pydantic_is_not_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(dict[str, int]).validate_python({"pin": "hun" + "ter2"})
    text = render_exception(caught.value)
    assert "valid integer" in text
    assert "hunter2" not in text


def test_a_message_cannot_begin_a_line_of_its_own() -> None:
    error = ValueError("x\nERROR fake\x1b[0m")
    error.add_note("y\nz")
    assert render_exception(error) == "ValueError: x\\nERROR fake\\x1b[0m\ny\\nz"


def test_a_cause_comes_before_its_effect() -> None:
    effect = RuntimeError("effect")
    effect.__cause__ = KeyError("cause")
    assert render_exception(effect).splitlines() == [
        "KeyError: 'cause'",
        "",
        "The above exception was the direct cause of the following exception:",
        "",
        "RuntimeError: effect",
    ]


def test_a_context_is_shown_unless_it_is_suppressed() -> None:
    effect = RuntimeError("effect")
    effect.__context__ = KeyError("context")
    assert "During handling" in render_exception(effect)
    effect.__suppress_context__ = True
    assert render_exception(effect) == "RuntimeError: effect"


def test_the_members_of_a_group_are_shown() -> None:
    group = BaseExceptionGroup("two", [ValueError("one"), asyncio.CancelledError("other")])
    assert render_exception(group).splitlines() == [
        "BaseExceptionGroup: two (2 sub-exceptions)",
        "  member 1:",
        "    ValueError: one",
        "  member 2:",
        "    CancelledError: other",
    ]


def test_a_chain_that_bites_its_tail_ends() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert len(render_exception(first)) < 1_000


def test_a_long_chain_a_long_message_and_deep_frames_are_cut() -> None:
    error = ValueError("x" * 100_000)
    for _ in range(1_000):
        effect = ValueError("next")
        effect.__cause__, error = error, effect
    assert len(render_exception(error)) < 5_000
    assert len(render_exception(ValueError("x" * 100_000))) < 3_000

    def dive(depth: int) -> None:
        if depth:
            dive(depth - 1)
        raise ValueError

    with pytest.raises(ValueError) as caught:
        dive(500)
    assert render_exception(caught.value).count("in dive") <= 30


def test_evil_notes_are_left_out_and_odd_ones_named() -> None:
    class Evil(Exception):
        @property
        def __notes__(self) -> Any:
            raise ValueError

    assert render_exception(Evil("x")) == "Evil: x"
    odd = ValueError("x")
    odd.__notes__ = [3]
    assert render_exception(odd) == "ValueError: x\nint"


def test_an_interrupt_in_a_text_is_passed_on() -> None:
    class Pressed(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    class PressedInNotes(Exception):
        @property
        def __notes__(self) -> Any:
            raise KeyboardInterrupt

    for error in (Pressed(), PressedInNotes()):
        with pytest.raises(KeyboardInterrupt):
            render_exception(error)


class Colour(enum.StrEnum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    hidden: int = dataclasses.field(default=2, repr=False)


class Evil:
    def __repr__(self) -> str:
        raise AssertionError("nobody asks")

    __str__ = __repr__


class Everything(BaseModel):
    model_config = {"arbitrary_types_allowed": True}

    text: str = "a\nb"
    nothing: None = None
    number: float = 0.5
    flag: bool = True
    colour: Colour = Colour.RED
    secret: SecretBytes = SecretBytes(b"hunter2")
    raw: bytes = b"\xff\x00"
    when: datetime.datetime = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    point: Point = Point(1)
    points: tuple[Point, ...] = (Point(1), Point(2))
    names: frozenset[str] = frozenset("bca")
    table: dict[str, Any] = {"password": SecretStr("hunter2")}
    odd: Any = Evil()
    left_out: str = Field(default="hunter2", exclude=True)
    hidden: str = Field(default="hunter2", repr=False)


def test_a_payload_is_plain_data_without_what_is_kept_out() -> None:
    payload = payload_of(Everything())
    assert payload == {
        "text": "a\\nb",
        "nothing": None,
        "number": 0.5,
        "flag": True,
        "colour": "red",
        "secret": "**********",
        "raw": "_wA=",
        "when": "2026-01-02T00:00:00Z",
        "point": {"x": 1},
        "points": [{"x": 1}, {"x": 2}],
        "names": ["a", "b", "c"],
        "table": {"password": "**********"},
        "odd": "<Evil>",
    }
    assert json.dumps(payload)


def test_data_that_cannot_be_looked_at_is_named_by_its_class() -> None:
    class Broken(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            raise AssertionError("nobody asks")

        def __iter__(self) -> Any:
            raise AssertionError("nobody asks")

        def __len__(self) -> int:
            return 1

    class Holder(BaseModel):
        model_config = {"arbitrary_types_allowed": True}

        table: Any = None
        size: int = 1
        hidden: str = Field(default="hunter2", repr=False)

    values = {"table": Broken(), "size": 2, "hidden": "hunter2"}
    assert data_of(Holder, values) == {"table": "<Broken>", "size": 2, "hidden": "**********"}


def test_a_payload_is_bounded_in_every_direction() -> None:
    class Big(BaseModel):
        text: str = "x" * 100_000
        items: list[int] = list(range(100_000))
        table: dict[int, int] = dict.fromkeys(range(100_000), 0)
        deep: Any = None

    deep: Any = "bottom"
    for _ in range(10_000):
        deep = [deep]
    payload = payload_of(Big(deep=deep))
    assert payload["text"] == "x" * 1_000 + "... (100,000 characters)"
    assert payload["items"][-1] == "... 99,900 more"
    assert payload["table"]["..."] == "99,900 more"
    assert len(json.dumps(payload)) < 10_000
