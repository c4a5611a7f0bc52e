"""Which values cannot change, and copies of those that can."""

from __future__ import annotations

import datetime
import decimal
import enum
import ipaddress
import pathlib
import types
import uuid
from collections import Counter, defaultdict
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    TypeVar,
    Union,
)

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, SecretStr, ValidationError
from typing_extensions import TypeAliasType

from actorfsm import Event, TransitionRequested
from actorfsm.values import copy_value, is_immutable, revalidated, shares_nothing

if TYPE_CHECKING:
    from somewhere import Unknown  # type: ignore[import-not-found]

pytestmark = pytest.mark.rule("C10")

T = TypeVar("T")


class Colour(enum.Enum):
    RED = 1


class Frozen(BaseModel, frozen=True):
    n: int
    place: tuple[str, ...] = ()


class Loose(BaseModel):
    n: int


class FrozenWithList(BaseModel, frozen=True):
    lines: list[int]


class FrozenAndOpen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class FrozenWithPrivate(BaseModel, frozen=True):
    _seen: int = 0


class Node(BaseModel, frozen=True):
    next: Node | None = None


class NodeWithList(BaseModel, frozen=True):
    next: NodeWithList | None = None
    lines: list[int] = []


@dataclass(frozen=True)
class Point:
    x: int
    to: Point | None = None


@dataclass(frozen=True)
class PointWithList:
    xs: list[int]


@dataclass(frozen=True)
class PointOfUnknown:
    x: Unknown


@dataclass
class LoosePoint:
    x: int


class Name(NamedTuple):
    first: str


Sku = NewType("Sku", str)
Skus = NewType("Skus", list[str])
Number = TypeAliasType("Number", int | decimal.Decimal)
Numbers = TypeAliasType("Numbers", list[int])


class Batch(Event[None], Generic[T]):
    items: tuple[T, ...]


class Pay(Event[int]):
    amount: decimal.Decimal
    to: Colour | None = None


class PayLines(Event[int]):
    lines: list[int]


IMMUTABLE = [
    *(int, float, complex, bool, str, bytes, None, type(None), range, type),
    *(decimal.Decimal, uuid.UUID, datetime.datetime, datetime.date, datetime.timedelta, pathlib.Path),
    *(ipaddress.IPv4Address, SecretStr, Colour, enum.Enum),
    *(Optional[int], Union[int, str], int | None, Literal["a", 1]),  # noqa: UP007, UP045
    *(tuple[int, ...], tuple[int, str], tuple[()], frozenset[str]),
    *(Annotated[int, Field(gt=0)], Annotated[int, []], tuple[Annotated[int, {"a": []}], ...]),
    *(Sku, Number, Frozen, Node, Point, Pay, TransitionRequested, Batch[int]),
]

MUTABLE = [
    *(Any, object, list, dict, set, tuple, frozenset, bytearray, list[int], dict[str, int], set[int]),
    *(tuple[list[int], ...], frozenset[Any], Optional[list[int]], AbstractSet[int], "int"),  # noqa: UP045
    *(Annotated[list[int], Field(min_length=1)], Skus, Numbers, T),
    *(Loose, FrozenWithList, FrozenAndOpen, FrozenWithPrivate, NodeWithList),
    *(
        PointWithList,
        PointOfUnknown,
        LoosePoint,
        Name,
        PayLines,
        Batch,
        Batch[list[int]],
        types.SimpleNamespace,
    ),
]


@pytest.mark.parametrize("annotation", IMMUTABLE, ids=repr)
def test_values_of_these_annotations_are_passed_on_as_they_are(annotation: Any) -> None:
    assert is_immutable(annotation)


@pytest.mark.parametrize("annotation", MUTABLE, ids=repr)
def test_values_of_these_annotations_are_copied(annotation: Any) -> None:
    assert not is_immutable(annotation)


def test_an_event_class_with_a_mutable_field_is_recognised() -> None:
    assert shares_nothing(Pay)
    assert not shares_nothing(PayLines)


def test_an_alias_of_the_language_is_seen_through() -> None:
    typing_alias = getattr(__import__("typing"), "TypeAliasType", TypeAliasType)
    assert is_immutable(typing_alias("A", int))
    assert not is_immutable(typing_alias("B", list[int]))


class Deep(BaseModel):
    model_config = ConfigDict(extra="allow")
    lines: list[Loose]
    by: dict[str, list[int]]
    _seen: list[int] = []


COPIED: list[Any] = [
    [1, [2]],
    {"a": {"b": [1]}},
    {1, 2},
    (1, [2]),
    frozenset({1}),
    Loose(n=1),
    Deep(lines=[Loose(n=1)], by={"a": [1]}, more=[3]),  # type: ignore[call-arg]
    LoosePoint(1),
    Name("x"),
    defaultdict(list, a=[1]),
    Counter("aab"),
    bytearray(b"x"),
    types.SimpleNamespace(a=[1]),
]


@pytest.mark.parametrize("value", COPIED, ids=repr)
@pytest.mark.parametrize("act", [copy_value, revalidated])
def test_a_copy_equals_the_value_and_has_its_class(value: Any, act: Any) -> None:
    twin = act(value)
    assert (twin, type(twin)) == (value, type(value))
    if not isinstance(value, frozenset | Name):
        assert twin is not value


@pytest.mark.parametrize("value", [1, "a", None, Colour.RED, decimal.Decimal(1), SecretStr("s")], ids=repr)
@pytest.mark.parametrize("act", [copy_value, revalidated])
def test_what_cannot_change_is_its_own_copy(value: Any, act: Any) -> None:
    assert act(value) is value


@pytest.mark.parametrize("act", [copy_value, revalidated])
def test_a_copy_of_a_model_shares_nothing_and_keeps_what_is_hidden(act: Any) -> None:
    model = Deep(lines=[Loose(n=1)], by={"a": [1]}, more=[3])  # type: ignore[call-arg]
    model._seen.append(5)
    twin = act(model)
    twin.lines[0].n = 2
    twin.by["a"].append(2)
    twin.more.append(4)
    twin._seen.append(6)
    assert (model.lines[0].n, model.by, model.model_extra, model._seen) == (1, {"a": [1]}, {"more": [3]}, [5])
    assert twin.model_fields_set == model.model_fields_set


def test_what_a_model_has_cached_is_no_field_of_it() -> None:
    class Strict(BaseModel, extra="forbid"):
        n: int = 1

        @cached_property
        def double(self) -> int:
            return self.n * 2

    model = Strict()
    assert model.double == 2
    model.n = 5
    twin = revalidated(model)
    assert (twin.n, twin.double) == (5, 10)


def test_a_root_model_is_validated_by_its_root() -> None:
    class Numbers(RootModel[list[int]]): ...

    numbers = Numbers([1])
    assert revalidated(numbers) == numbers
    numbers.root.append("x")  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        revalidated(numbers)
