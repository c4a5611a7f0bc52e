"""The data fields of a machine as values of BSON, and back.

What BSON has is stored as that: numbers, texts, bytes, UUIDs, Decimal128, instants. BSON keeps instants in whole
milliseconds of UTC: what is finer is cut off. Enums are stored by their values, models as objects, sets as arrays, and
dates, times of day and spans as text of ISO 8601. What would not be read as what it was is refused before it is stored.
"""

from __future__ import annotations

import datetime
from collections import deque
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

from pydantic_core import to_jsonable_python

from actorfsm.errors import InvalidData
from actorfsm.integrations.mongo.driver import BSON, Binary, BSONError, Decimal128

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from actorfsm.integrations.mongo.driver import CodecOptions
    from actorfsm.integrations.row_turn import RowKind

__all__ = ["Fields", "read_from_bson"]

_ARRAYS: Final = (list, tuple, set, frozenset, deque)
_TEXTS: Final = (PurePath, IPv4Address, IPv4Network, IPv6Address, IPv6Network)
_UNWRITABLE: Final = (BSONError, ArithmeticError, ValueError, TypeError, RecursionError)


class Fields:
    """How the data fields of one machine class are stored.

    Args:
        kind: The class.
        options: How the collection writes and reads BSON.
    """

    def __init__(self, kind: RowKind, options: CodecOptions[dict[str, Any]]) -> None:
        self._kind: Final = kind
        self._options: Final = options
        self._serializer: Final = kind.machine_class.__pydantic_serializer__

    def stored(self, data: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
        """Return some of the fields as they are stored.

        Args:
            data: All fields, validated.
            names: Names of those to be stored.

        Raises:
            InvalidData: A value has no place in BSON, or would not be read as what it was.
        """
        if not names:
            return {}
        fields = {name: self._written(name, value) for name, value in self._dumped(data, names).items()}
        read = {name: self._read_again(name, value) for name, value in fields.items()}
        again = self._kind.rules.at_birth({**data, **read})
        for name, stored in fields.items():
            if again[name] == data[name]:
                continue
            # Instants were cut to milliseconds, or it is something else.
            if not _cut(self._dumped(data, [name])) or self._dumped_as_bson(again, name) != stored:
                raise InvalidData(
                    f"{name} of {self._kind.name} cannot be stored, because it would not be the same when it is "
                    "read again"
                )
        return fields

    def _read_again(self, name: str, value: Any) -> Any:
        try:
            document = BSON.encode({name: value}, codec_options=self._options).decode(self._options)
        except _UNWRITABLE as error:
            raise self._unwritable(name, error) from None
        return read_from_bson(document[name])

    def _dumped_as_bson(self, data: dict[str, Any], name: str) -> Any:
        return self._written(name, self._dumped(data, [name])[name])

    def _dumped(self, data: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
        """Return fields as pydantic's serializers have them, still with objects for what is no container."""
        dumped: dict[str, Any] = self._serializer.to_python(
            self._kind.drafts.showing(data),
            mode="python",
            include=set(names),
            by_alias=False,
            round_trip=True,
        )
        return dumped

    def _written(self, name: str, value: Any) -> Any:
        try:
            return _bson(value, self._options.uuid_representation)
        except _UNWRITABLE as error:
            raise self._unwritable(name, error) from None

    def _unwritable(self, name: str, error: Exception) -> InvalidData:
        said = (
            "a time without a zone, and MongoDB keeps instants; give it one, such as datetime.UTC"
            if isinstance(error, _NoZone)
            else f"{type(error).__name__} when it was written as BSON"
        )
        return InvalidData(f"{name} of {self._kind.name} cannot be stored: {said}")


class _NoZone(ValueError):
    """A time that is no instant."""


def _bson(value: Any, uuids: int) -> Any:
    """Return a value as the driver takes it. What nobody here knows is left to the driver, and to the user's codecs."""
    if isinstance(value, Enum):
        return _bson(value.value, uuids)
    if isinstance(value, Mapping):
        return {_key(key): _bson(item, uuids) for key, item in _items(value)}
    if isinstance(value, _ARRAYS):
        return [_bson(item, uuids) for item in cast("Iterable[Any]", value)]
    if isinstance(value, UUID):
        return Binary.from_uuid(value, uuids)
    for cls, write in _WRITTEN:
        if isinstance(value, cls):
            return write(value)
    return value


def _items(value: Any) -> Iterable[tuple[Any, Any]]:
    items: Iterable[tuple[Any, Any]] = value.items()
    return items


def _instant(value: datetime.datetime) -> datetime.datetime:
    if value.utcoffset() is None:
        raise _NoZone
    value = value.astimezone(datetime.UTC)
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


_WRITTEN: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (datetime.datetime, _instant),  # before date, which it is too
    ((datetime.date, datetime.time, datetime.timedelta), to_jsonable_python),
    (Decimal, Decimal128),
    (bytearray, bytes),
    (_TEXTS, str),
)
"""How values that are no containers are written; UUIDs are not among them, because collections differ."""


def _key(key: Any) -> str:
    """Return the key of an object, which is always a text."""
    (text,) = to_jsonable_python({key: None})
    return str(text)


def _cut(value: Any) -> bool:
    """Return whether something in a value is finer than MongoDB keeps it."""
    if isinstance(value, datetime.datetime):
        return value.microsecond % 1000 != 0
    if isinstance(value, Mapping):
        return any(_cut(item) for _, item in _items(value))
    return isinstance(value, _ARRAYS) and any(_cut(item) for item in cast("Iterable[Any]", value))


def read_from_bson(value: Any) -> Any:
    """Return what the driver has read, with numbers of Python for those of BSON."""
    if isinstance(value, Decimal128):
        return value.to_decimal()
    if isinstance(value, dict):
        return {key: read_from_bson(item) for key, item in _items(value)}
    if isinstance(value, list):
        return [read_from_bson(item) for item in cast("Iterable[Any]", value)]
    return value
