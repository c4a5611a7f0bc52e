"""Round trips: of which values it is known beforehand that as JSON they are read as what they were.

To write a value, read it again and compare costs more than all the rest that an entry of the journal needs. Where a
class has nothing but fields of plain types, with no serializer, validator, constraint or other name in between, to
look at the types of the values says the same. When in doubt the answer is no: then the value is written and read.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, Flag
from math import isfinite
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, Union, cast, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel, RootModel
from pydantic_core import TzInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["RoundTrips", "Sure", "is_sure", "sure_of"]

Test: TypeAlias = "Callable[[Any], bool]"
Sure: TypeAlias = "dict[type, Test | None]"
"""Of which classes values surely come back, each with what has to hold of the value besides; None for nothing."""

_WORD_BITS: Final = 63
_USUAL_SCHEMA: Final[Any] = cast("Any", BaseModel.__get_pydantic_core_schema__).__func__
_HARMLESS_CONFIG: Final = frozenset({"extra", "allow_inf_nan", "frozen", "title", "validate_default"})
_USUAL_EQUALITY: Final = (object.__eq__, str.__eq__, int.__eq__)
_NONE_IS_SURE: Final[Sure] = {}


class RoundTrips:
    """Which values of one model class come back.

    Args:
        model: The class; its own schema must be complete.
    """

    __slots__ = ("_fields",)

    def __init__(self, model: type[BaseModel]) -> None:
        self._fields: Final = _fields_of(model, ())

    def are_sure(self, fields: Mapping[str, Any]) -> bool:
        """Return whether a model with these fields surely comes back; False is no answer."""
        known = self._fields
        return known is not None and _are_sure(known, fields)


def _are_sure(known: dict[str, Sure], fields: Mapping[str, Any]) -> bool:
    if len(fields) != len(known):
        return False  # one is missing, or there is something that is no field
    for name, value in fields.items():
        test = known.get(name, _NONE_IS_SURE).get(value.__class__, _never)
        if test is not None and not test(value):
            return False
    return True


def _fields_of(model: type[BaseModel], seen: tuple[type, ...]) -> dict[str, Sure] | None:
    """Return what is sure of each field; None if something else than the fields decides."""
    if model in seen or issubclass(model, RootModel) or not model.__pydantic_complete__:
        return None
    decorators = model.__pydantic_decorators__
    config = model.model_config
    if (
        any(getattr(decorators, name) for name in decorators.__slots__)
        or not config.keys() <= _HARMLESS_CONFIG
        or config.get("extra") == "allow"
        or model.__private_attributes__
        or model.__pydantic_post_init__
        or model.__pydantic_custom_init__
        or model.__eq__ is not BaseModel.__eq__
        or cast("Any", model.__get_pydantic_core_schema__).__func__ is not _USUAL_SCHEMA
    ):
        return None
    return {
        name: _NONE_IS_SURE
        if info.metadata
        or info.exclude
        or info.exclude_if
        or info.discriminator
        or info.alias
        or info.validation_alias
        or info.serialization_alias
        else sure_of(info.annotation, (*seen, model))
        for name, info in model.__pydantic_fields__.items()
    }


def sure_of(annotation: Any, seen: tuple[type, ...] = ()) -> Sure:
    """Return which values of an annotation are sure.

    Args:
        annotation: Of a field, or of something that is written by itself.
        seen: The models around it.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is None:
        return _sure_of_class(annotation, seen)
    if origin is Literal:
        texts = frozenset(value for value in arguments if value.__class__ is str)
        return {str: texts.__contains__} if len(texts) == len(arguments) else _NONE_IS_SURE
    if origin is list or (origin is tuple and arguments[1:] == (...,)):
        items = sure_of(arguments[0], seen)
        return {origin: lambda value: all(is_sure(items, item) for item in value)}
    if origin is dict and arguments[0] is str:
        items = sure_of(arguments[1], seen)
        return {
            dict: lambda value: all(
                key.__class__ is str and is_sure(items, item) for key, item in value.items()
            )
        }
    others = [argument for argument in arguments if argument is not NoneType]
    if origin in {Union, UnionType} and len(others) == 1 < len(arguments):
        return {
            NoneType: None,
            **sure_of(others[0], seen),
        }  # of two others one may take what the other has written
    return _NONE_IS_SURE


def _sure_of_class(annotation: Any, seen: tuple[type, ...]) -> Sure:
    if not isinstance(annotation, type):
        return _NONE_IS_SURE
    if annotation in _PLAIN:
        return {annotation: _PLAIN[annotation]}
    if issubclass(annotation, Enum):
        return {annotation: None} if _is_plain_enum(annotation) else _NONE_IS_SURE
    if issubclass(annotation, BaseModel):
        known = _fields_of(annotation, seen)
        if known is not None:
            return {annotation: lambda value: _are_sure(known, value.__dict__)}
    return _NONE_IS_SURE


def _is_plain_enum(cls: type[Enum]) -> bool:
    """Return whether each member is known by a value of its own, of one plain type."""
    values = [member.value for member in cls]
    return (
        not issubclass(cls, Flag)
        and cls.__eq__ in _USUAL_EQUALITY
        and not hasattr(cls, "__get_pydantic_core_schema__")
        and (
            all(value.__class__ is str for value in values)
            or all(value.__class__ is int and _is_word(value) for value in values)
        )
    )


def is_sure(sure: Sure, value: Any) -> bool:
    """Return whether a value surely comes back; False is no answer."""
    test = sure.get(value.__class__, _never)
    return test is None or test(value)


def _never(_value: Any) -> bool:
    return False


def _is_word(value: int) -> bool:
    return value.bit_length() <= _WORD_BITS


def _is_plain_time(value: datetime) -> bool:
    """Return whether a time is naive or in UTC, which is pydantic's own after it was read once.

    What another zone makes of it need not be equal.
    """
    zone = value.tzinfo
    return zone is None or zone is UTC or (zone.__class__ is TzInfo and not zone.utcoffset(value))


_PLAIN: Final[Sure] = {
    NoneType: None,
    str: None,
    bool: None,
    int: _is_word,
    float: isfinite,
    UUID: None,
    Decimal: Decimal.is_finite,
    date: None,
    datetime: _is_plain_time,
}
