"""Values of a machine's fields in BSON and back: what each kind is stored as, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum, auto
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from typing import Annotated, Any
from uuid import UUID

import pytest
from bson import Binary, Decimal128, Int64, UuidRepresentation
from bson.codec_options import CodecOptions
from bson.datetime_ms import DatetimeMS
from pydantic import BaseModel, Field, PlainSerializer, SecretStr
from pymongo import AsyncMongoClient

from actorfsm import STAY, Event, HookFailed, InvalidData, Machine, SchemaMismatch, transition
from actorfsm.integrations.mongo import Documents
from tests.mongodb_server import new_database

NUMBER = UUID("12345678-1234-5678-1234-567812345678")
NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
CUT = datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=UTC)


class State(StrEnum):
    OPEN = auto()


class Colour(Enum):
    RED = "r"
    BLUE = "b"


class Size(IntEnum):
    SMALL = 1


class Line(BaseModel, frozen=True):
    price: Decimal
    sku: str = Field(alias="SKU", default="", validate_default=True)
    at: datetime | None = None
    model_config = {"populate_by_name": True}


class Set(Event):
    name: str
    value: Any


Masked = Annotated[str, PlainSerializer(lambda _: "***", return_type=str)]


class Box(Machine[State, Any], initial=State.OPEN):
    amount: Decimal = Decimal(0)
    at: datetime | None = None
    number: UUID | None = None
    colour: Colour = Colour.RED
    size: Size | None = None
    line: Line | None = None
    lines: list[Line] = []
    tags: frozenset[str] = frozenset()
    pair: tuple[int, str] | None = None
    by_number: dict[int, Decimal] = {}
    by_colour: dict[Colour, list[UUID]] = {}
    by_number_key: dict[UUID, bool] = {}
    raw: bytes = b""
    ratio: float = 0.0
    day: date | None = None
    hour: time | None = None
    span: timedelta | None = None
    path: PurePosixPath | None = None
    address: IPv4Address | None = None
    count: int = 0
    text: str = ""
    any: Any = None
    secret: SecretStr | None = None
    masked: Masked = "***"

    @transition(State.OPEN, to=STAY)
    def set(self, event: Set) -> None:
        self.services.append(getattr(self, event.name))
        if event.name:
            setattr(self, event.name, event.value)


KINDS: list[tuple[str, Any, Any]] = [
    ("amount", Decimal("9.90"), Decimal128("9.90")),
    (
        "amount",
        Decimal("1234567890123456789012345678.901234"),
        Decimal128("1234567890123456789012345678.901234"),
    ),
    ("amount", Decimal("-0.000000000000000000000001"), Decimal128("-1E-24")),
    ("at", CUT, CUT),
    ("at", datetime(2026, 3, 1, 14, 0, tzinfo=timezone(timedelta(hours=2))), CUT.replace(microsecond=0)),
    ("at", datetime(1901, 1, 1, tzinfo=UTC), datetime(1901, 1, 1, tzinfo=UTC)),
    ("number", NUMBER, Binary.from_uuid(NUMBER)),
    ("colour", Colour.BLUE, "b"),
    ("size", Size.SMALL, 1),
    (
        "line",
        Line(price=Decimal("1.5"), sku="s", at=CUT),
        {"price": Decimal128("1.5"), "sku": "s", "at": CUT},
    ),
    ("lines", [Line(price=Decimal(1))], [{"price": Decimal128("1"), "sku": "", "at": None}]),
    ("tags", frozenset({"a"}), ["a"]),
    ("pair", (1, "a"), [1, "a"]),
    ("by_number", {7: Decimal("1.5")}, {"7": Decimal128("1.5")}),
    ("by_colour", {Colour.BLUE: [NUMBER]}, {"b": [Binary.from_uuid(NUMBER)]}),
    ("by_number_key", {NUMBER: True}, {str(NUMBER): True}),
    ("raw", b"\0\xff", b"\0\xff"),
    ("ratio", 0.1, 0.1),
    ("day", date(2026, 3, 1), "2026-03-01"),
    ("hour", time(12, 30), "12:30:00"),
    ("span", timedelta(days=1, microseconds=1), "P1DT0.000001S"),
    ("path", PurePosixPath("a/b"), "a/b"),
    ("address", IPv4Address("127.0.0.1"), "127.0.0.1"),
    ("count", -(2**63), Int64(-(2**63))),
    ("text", "ä\0€", "ä\0€"),
    ("any", [1, {"a": None}], [1, {"a": None}]),
]


def on_boxes(
    url: str,
    scenario: Callable[[Documents[Box], Any, list[Any]], Coroutine[Any, Any, None]],
    **options: Any,
) -> None:
    async def main() -> None:
        async with AsyncMongoClient[Any](url) as client:
            collection = client[new_database()].get_collection("boxes", CodecOptions(**options))
            seen: list[Any] = []
            try:
                await scenario(Documents(Box, collection, services=seen, trace=()), collection, seen)
            finally:
                await client.drop_database(collection.database.name)

    asyncio.run(main())


@pytest.mark.parametrize(("name", "value", "stored"), KINDS, ids=lambda value: str(value)[:30])
def test_a_value_is_stored_as_what_bson_has_and_is_read_as_what_it_was(
    name: str, value: Any, stored: Any, mongodb_url: str
) -> None:
    async def scenario(boxes: Documents[Box], collection: Any, seen: list[Any]) -> None:
        await collection.insert_one({"_id": 1, **boxes.new()})
        await collection.insert_one({"_id": 2, **boxes.new(**{name: value})})
        await boxes.ask(1, Set(name=name, value=value))
        aware = collection.with_options(CodecOptions(tz_aware=True))
        for key in (1, 2):
            found = (await aware.find_one({"_id": key}))[name]
            assert (found, type(found)) == (stored, type(stored))
            await boxes.ask(key, Set(name=name, value=value))
        assert seen[1:] == [value, value]
        assert type(seen[1]) is type(value)

    on_boxes(mongodb_url, scenario)


def test_what_is_finer_than_a_millisecond_is_cut_off(mongodb_url: str) -> None:
    async def scenario(boxes: Documents[Box], collection: Any, seen: list[Any]) -> None:
        await collection.insert_one({"_id": 1, **boxes.new(at=NOON)})
        for name, value in (("at", NOON), ("line", Line(price=Decimal(1), at=NOON)), ("lines", [])):
            await boxes.ask(1, Set(name=name, value=value))
            seen.clear()
            await boxes.ask(1, Set(name=name, value=value))
        await boxes.ask(1, Set(name="at", value=None))
        assert seen[-1] == CUT
        await boxes.ask(1, Set(name="line", value=None))
        assert seen[-1] == Line(price=Decimal(1), at=CUT)

    on_boxes(mongodb_url, scenario)


REFUSED: list[tuple[str, Any, str]] = [
    ("at", datetime(2026, 3, 1), "at of Box cannot be stored: a time without a zone"),  # noqa: DTZ001 -- that is it
    ("line", Line(price=Decimal(1), at=datetime(2026, 3, 1)), "line of Box cannot be stored: a time without"),  # noqa: DTZ001 -- as above
    ("amount", Decimal("1." + "3" * 40), "amount of Box cannot be stored: Inexact"),
    ("count", 2**63, "count of Box cannot be stored: OverflowError"),
    ("text", "half a \ud800", "text of Box cannot be stored"),
    ("secret", SecretStr("s3cret"), "secret of Box cannot be stored: InvalidDocument"),
    ("masked", "s3cret", "masked of Box cannot be stored, because it would not be the same"),
    ("any", Colour.RED, "any of Box cannot be stored, because it would not be the same"),
    ("any", object, "any of Box cannot be stored"),
    ("any", {"a\0b": 1}, "any of Box cannot be stored: InvalidDocument"),
]


@pytest.mark.parametrize(("name", "value", "said"), REFUSED, ids=lambda value: str(value)[:30])
def test_what_would_not_come_back_is_refused_before_it_is_stored_and_its_value_is_not_shown(
    name: str, value: Any, said: str, mongodb_url: str
) -> None:
    async def scenario(boxes: Documents[Box], collection: Any, seen: list[Any]) -> None:
        await collection.insert_one({"_id": 1, **boxes.new()})
        before = await collection.find_one()
        with pytest.raises(HookFailed) as failed:
            await boxes.ask(1, Set(name=name, value=value))
        assert failed.value.hook == "commit"
        assert isinstance(failed.value.__cause__, InvalidData)
        assert said in str(failed.value)
        assert "s3cret" not in str(failed.value)
        assert await collection.find_one() == before
        with pytest.raises(InvalidData):
            boxes.new(**{name: value})

    on_boxes(mongodb_url, scenario)


@pytest.mark.parametrize(
    "representation",
    [
        UuidRepresentation.UNSPECIFIED,
        UuidRepresentation.STANDARD,
        UuidRepresentation.PYTHON_LEGACY,
        UuidRepresentation.JAVA_LEGACY,
    ],
)
def test_uuids_are_stored_as_the_collection_has_them_and_by_the_standard_where_it_says_nothing(
    representation: int, mongodb_url: str
) -> None:
    async def scenario(boxes: Documents[Box], collection: Any, seen: list[Any]) -> None:
        await collection.insert_one({"_id": 1, **boxes.new()})
        for _ in range(2):
            await boxes.ask(1, Set(name="number", value=NUMBER))
        raw = collection.with_options(CodecOptions(uuid_representation=UuidRepresentation.UNSPECIFIED))
        subtype = (await raw.find_one())["number"].subtype
        assert subtype == (4 if representation in {0, UuidRepresentation.STANDARD} else 3)
        assert seen == [None, NUMBER]

    on_boxes(mongodb_url, scenario, uuid_representation=representation)


def test_a_time_of_a_year_that_python_does_not_have_is_data_that_does_not_validate(mongodb_url: str) -> None:
    async def scenario(boxes: Documents[Box], collection: Any, seen: list[Any]) -> None:
        await collection.insert_one({"_id": 1, "state": "OPEN", "at": DatetimeMS(2**60)})
        with pytest.raises(SchemaMismatch, match="at:"):
            await boxes.ask(1, Set(name="text", value="x"))

    on_boxes(mongodb_url, scenario)


def test_numbers_that_others_have_written_as_floats_and_integers_are_read_as_decimals(
    mongodb_url: str,
) -> None:
    async def scenario(boxes: Documents[Box], collection: Any, seen: list[Any]) -> None:
        for stored, read in ((9.9, "9.9"), (10, "10"), ("1.50", "1.50")):
            await collection.delete_many({})
            await collection.insert_one({"_id": 1, "state": "OPEN", "amount": stored})
            await boxes.ask(1, Set(name="amount", value=Decimal(1)))
            assert str(seen[-1]) == read

    on_boxes(mongodb_url, scenario)
