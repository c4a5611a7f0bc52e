"""C28: what is said to come back without being looked at does come back, and what might not is looked at."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, strategies as st
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    computed_field,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_core import TzInfo

from actorfsm import Event, InvalidData
from actorfsm.runtime.round_trips import RoundTrips, is_sure, sure_of
from actorfsm.runtime.stored_outcomes import StoredOutcomes
from actorfsm.runtime.stored_values import event_payload

pytestmark = pytest.mark.rule("C28")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Word(enum.StrEnum):
    YES = enum.auto()
    NO = enum.auto()


class Item(BaseModel):
    article: str
    price: Decimal
    count: int = 1


class All(Event[None]):
    text: str
    number: int
    real: float
    truth: bool
    key: UUID
    money: Decimal
    day: date
    when: datetime
    colour: Colour
    size: Size
    word: Word
    mode: Literal["fast", "slow"]
    nothing: None
    maybe: str | None
    item: Item
    items: list[Item]
    row: tuple[int, ...]
    table: dict[str, float | None]


SURE = RoundTrips(All)
TEXT = st.text()
MONEY = st.decimals(allow_nan=False, allow_infinity=False)
ITEMS = st.builds(Item, article=TEXT, price=MONEY, count=st.integers())
TIMES = st.datetimes(timezones=st.none() | st.just(UTC) | st.just(TzInfo(0)))


@given(
    event=st.builds(
        All,
        text=TEXT,
        number=st.integers(),
        real=st.floats(allow_nan=False, allow_infinity=False),
        truth=st.booleans(),
        key=st.uuids(),
        money=MONEY,
        day=st.dates(),
        when=TIMES,
        colour=st.sampled_from(Colour),
        size=st.sampled_from(Size),
        word=st.sampled_from(Word),
        mode=st.sampled_from(["fast", "slow"]),
        nothing=st.none(),
        maybe=st.none() | TEXT,
        item=ITEMS,
        items=st.lists(ITEMS),
        row=st.lists(st.integers()).map(tuple),
        table=st.dictionaries(TEXT, st.none() | st.floats(allow_nan=False, allow_infinity=False)),
    )
)
def test_what_is_sure_to_come_back_does_so_with_the_same_classes(event: All) -> None:
    if SURE.are_sure(event.__dict__):
        again = All.model_validate_json(event.model_dump_json(by_alias=True))
        assert again == event
        assert _classes(again.__dict__) == _classes(event.__dict__)


def _classes(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return type(value), _classes(value.__dict__)
    if isinstance(value, dict):
        return type(value), {key: _classes(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [_classes(item) for item in value]
    if isinstance(value, datetime):
        return type(value), value.utcoffset()
    return type(value)


USUAL: dict[str, Any] = {
    "text": '\0é\U0001f600\u2028\\"',
    "number": -(2**63) + 1,
    "real": 0.1,
    "truth": True,
    "key": UUID(int=7),
    "money": Decimal("1.50"),
    "day": date(1, 1, 1),
    "when": datetime(1, 1, 1, 0, 0, 0, 1, UTC),
    "colour": Colour.RED,
    "size": Size.LARGE,
    "word": Word.NO,
    "mode": "fast",
    "nothing": None,
    "maybe": None,
    "item": Item(article="a", price=Decimal(1)),
    "items": [Item(article="a", price=Decimal(1))],
    "row": (1, 2),
    "table": {"a": 1.5, "b": None},
}


def test_plain_values_are_sure() -> None:
    assert RoundTrips(All).are_sure(All(**USUAL).__dict__)


class Text(str):
    __slots__ = ()


class Bulky(Item):
    weight: int = 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": Text("a")},
        {"text": 1},
        {"number": 2**64},
        {"number": True},
        {"real": float("nan")},
        {"real": float("inf")},
        {"real": 1},
        {"money": Decimal("NaN")},
        {"when": datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))},
        {"day": datetime(2026, 1, 1)},  # noqa: DTZ001 -- a naive time where a day belongs
        {"colour": "red"},
        {"size": 1},
        {"mode": "odd"},
        {"nothing": 0},
        {"item": Bulky(article="a", price=Decimal(1))},
        {"item": Item.model_construct(article=1, price=Decimal(1), count=1)},
        {"items": [None]},
        {"items": ()},
        {"row": [1]},
        {"table": {1: 1.0}},
        {"table": {"a": 1}},
        {"more": 1},
    ],
    ids="-".join,
)
def test_a_value_that_is_not_just_what_the_field_says_is_looked_at(wrong: dict[str, Any]) -> None:
    assert not RoundTrips(All).are_sure(USUAL | wrong)


def test_a_field_that_is_missing_makes_it_unsure() -> None:
    assert not RoundTrips(All).are_sure({name: value for name, value in USUAL.items() if name != "text"})
    without = USUAL | {"other": "a"}
    del without["text"]
    assert not RoundTrips(All).are_sure(without)


def test_what_only_looks_valid_is_still_refused() -> None:
    with pytest.raises(InvalidData, match="could not be read again"):
        event_payload(Paid.model_construct(amount=-1, note="a"), StoredOutcomes())
    with pytest.raises(InvalidData, match="PydanticSerializationError"):
        event_payload(Paid(amount=1, note="\ud800"), StoredOutcomes())


class Paid(Event[None]):
    amount: int = Field(gt=0)
    note: str


class Many(enum.Enum):
    ONE = (1, 2)
    TWO = (2, 1)


class Bits(enum.IntFlag):
    ONE = 1


class Odd(enum.Enum):
    ONE = "1"

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = enum.Enum.__hash__


class Pair(NamedTuple):
    one: int


class Aliased(BaseModel):
    value: int = Field(alias="v")


class WrittenAs(BaseModel):
    value: int = Field(serialization_alias="v")


class LeftOut(BaseModel):
    value: int = Field(1, exclude=True)


class Bounded(BaseModel):
    value: int = Field(gt=0)


class Checked(BaseModel):
    value: int

    @field_validator("value")
    @classmethod
    def double(cls, value: int) -> int:
        return value * 2


class CheckedAsWhole(BaseModel):
    value: int

    @model_validator(mode="after")
    def refuse(self) -> CheckedAsWhole:
        raise ValueError


class Shown(BaseModel):
    value: int

    @field_serializer("value")
    def hide(self, _value: int) -> int:
        return 0


class Computed(BaseModel):
    value: int

    @computed_field
    def more(self) -> int:
        return 1


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")

    value: int


class Trimmed(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True)

    value: str = "a"


class Private(BaseModel):
    value: int
    _more: int = PrivateAttr(1)


class Initialised(BaseModel):
    value: int

    def __init__(self, value: int) -> None:
        super().__init__(value=value + 1)


class After(BaseModel):
    value: int

    def model_post_init(self, _context: Any) -> None:
        self.value += 1


class Unequal(BaseModel):
    value: int

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


class Node(BaseModel):
    value: int = 1
    next: Node | None = None


class Annotations(BaseModel):
    value: Annotated[int, AfterValidator(lambda value: value + 1)]


class Rounded(BaseModel):
    value: Annotated[float, PlainSerializer(round)]


@pytest.mark.parametrize(
    "model",
    [
        *(Aliased, WrittenAs, LeftOut, Bounded, Checked, CheckedAsWhole, Shown, Computed, Extra, Private),
        *(Initialised, After, Unequal, Annotations, Rounded),
    ],
)
def test_a_class_with_something_between_its_fields_and_the_json_is_never_sure(model: type[BaseModel]) -> None:
    assert not RoundTrips(model).are_sure({"value": 1})
    assert not RoundTrips(model).are_sure({"value": 1.5})


def test_a_class_with_a_setting_that_changes_values_is_never_sure() -> None:
    assert not RoundTrips(Trimmed).are_sure({"value": "a"})


def test_a_class_that_refers_to_itself_is_sure_only_where_it_does_not() -> None:
    assert RoundTrips(Node).are_sure(Node().__dict__)
    assert not RoundTrips(Node).are_sure(Node(next=Node()).__dict__)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (bytes, b"a"),
        (timedelta, timedelta(1)),
        (int | str, 1),
        (Decimal | str, "1"),
        (set[int], {1}),
        (tuple[int, str], (1, "a")),
        (dict[int, int], {1: 1}),
        (Literal[1, "a"], "a"),
        (Many, Many.ONE),
        (Bits, Bits.ONE),
        (Odd, Odd.ONE),
        (Pair, Pair(1)),
        (Any, 1),
        (list, [1]),
    ],
    ids=str,
)
def test_a_field_of_another_kind_is_looked_at(annotation: Any, value: Any) -> None:
    model = type("Model", (BaseModel,), {"__annotations__": {"value": annotation}})
    assert not RoundTrips(model).are_sure({"value": value})
    assert not is_sure(sure_of(annotation), value)


def test_a_value_by_itself_may_be_sure() -> None:
    assert is_sure(sure_of(int | None), 1)
    assert not is_sure(sure_of(int | None), 1.5)
