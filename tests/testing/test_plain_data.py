"""What a capsule is filled with: fields come back from JSON as they were, or are noted by their place."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, RootModel, SecretBytes, SecretStr, field_validator

from actorfsm.testing.plain_data import MASK, Encoder, decoded


class Colour(Enum):
    RED = "red"
    BLUE = 4


class Tags(RootModel[list[str]]):
    pass


class Line(BaseModel):
    article: str
    price: Decimal
    note: str = Field(default="", repr=False)


@dataclass
class Point:
    x: int
    colour: Colour = Colour.RED
    hidden: int = field(default=0, repr=False)


class Everything(BaseModel):
    text: str = "tea\n\u2603"
    number: int = 2**60
    share: float = 0.1
    flag: bool = True
    nothing: None = None
    price: Decimal = Decimal("1.50")
    at: datetime = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    after: timedelta = timedelta(hours=1.5)
    key: UUID = UUID(int=7)
    raw: bytes = b"cup"
    colour: Colour = Colour.BLUE
    tags: Tags = Tags(["b", "a"])
    line: Line = Line(article="tea", price=Decimal(3))
    point: Point = Point(x=2, colour=Colour.BLUE)
    lines: list[Line] = [Line(article="cup", price=Decimal("1.10"))]
    pair: tuple[int, str] = (1, "one")
    last: deque[int] = deque([3, 1, 2])
    known: set[str] = {"c", "a", "b"}
    frozen: frozenset[int] = frozenset({2, 1})
    table: dict[int, Point] = {1: Point(x=1), 2: Point(x=2)}
    pin: SecretStr = SecretStr("4711")
    token: SecretBytes = SecretBytes(b"t0ken")


def plain_of(model: BaseModel, *, reveal_secrets: bool = False) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the fields of a model as plain data, and the notes."""
    encoder = Encoder(reveal_secrets=reveal_secrets)
    return encoder.fields(type(model), model.__dict__, "data"), encoder.notes


@pytest.mark.parametrize("name", Everything.model_fields)
def test_a_value_of_every_supported_kind_comes_back_as_it_was(name: str) -> None:
    given = Everything()
    plain, notes = plain_of(given, reveal_secrets=True)
    back = decoded(Everything, json.loads(json.dumps(plain)))
    assert getattr(back, name) == getattr(given, name)
    assert type(getattr(back, name)) is type(getattr(given, name))
    assert notes == {}


def test_the_same_values_give_the_same_text_whatever_the_order_of_their_sets() -> None:
    plain, _ = plain_of(Everything(known={"b", "c", "a"}, frozen=frozenset({1, 2})))
    assert (plain["known"], plain["frozen"]) == (["a", "b", "c"], [1, 2])
    assert plain["table"] == {"1": {"x": 1, "colour": "red"}, "2": {"x": 2, "colour": "red"}}


def test_what_is_masked_or_kept_out_is_noted_by_its_place() -> None:
    plain, notes = plain_of(Everything())
    assert (plain["pin"], plain["token"]) == (MASK, MASK)
    assert plain["point"] == {"x": 2, "colour": 4}
    assert plain["lines"] == [{"article": "cup", "price": "1.10"}]
    assert notes == {
        "data.line.note": "kept out of the repr",
        "data.lines.0.note": "kept out of the repr",
        "data.point": "kept out of the repr",
        "data.table.*": "kept out of the repr",
        "data.pin": "masked",
        "data.token": "masked",
    }


class Odd:
    """Has no JSON."""


class Loose(BaseModel):
    model_config = {"arbitrary_types_allowed": True}

    anything: Any = None
    odd: Odd | None = None


def test_what_has_no_json_is_noted_by_its_place() -> None:
    plain, notes = plain_of(Loose(anything=[1, Odd()], odd=Odd()))
    assert plain == {"anything": [1, None], "odd": None}
    assert notes == {"data.anything.1": "a Odd has no JSON", "data.odd": "a Odd has no JSON"}


def test_what_comes_back_as_something_else_is_noted_by_its_place() -> None:
    plain, notes = plain_of(Loose(anything=(1, 2)))
    assert plain == {"anything": [1, 2], "odd": None}
    assert notes == {"data.anything": "does not come back the same"}


class Side(Enum):
    LEFT = (0, 1)


class Sided(BaseModel):
    side: Side


def test_a_value_that_json_does_not_give_back_is_noted() -> None:
    plain, notes = plain_of(Sided(side=Side.LEFT))
    assert plain == {"side": [0, 1]}
    assert notes == {"data": "does not validate again: ValidationError"}  # pydantic finds no member by a list


class Picky(BaseModel):
    even: int

    @field_validator("even")
    @classmethod
    def is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("odd")
        return value


def test_what_its_own_class_would_not_take_again_is_noted() -> None:
    plain, notes = plain_of(Picky.model_construct(even=3))
    assert plain == {"even": 3}
    assert notes == {"data": "does not validate again: ValidationError"}


def test_a_field_without_a_value_is_left_out() -> None:
    encoder = Encoder(reveal_secrets=False)
    assert encoder.fields(Loose, {"anything": 1}, "data") == {"anything": 1}
    assert encoder.notes == {}
