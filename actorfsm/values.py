"""Values at the seams: which are provably immutable, and copies of those that are not.

A machine's data is never shared with an event, a reply or a snapshot. What cannot change may be passed as it is; what
may change is copied, and this module knows which is which, from the annotation, once, when the class is created.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import decimal
import enum
import fractions
import ipaddress
import pathlib
import types
import typing
import uuid
from copy import deepcopy
from typing import Annotated, Any, Final, Literal, NewType, Union, get_args, get_origin

from pydantic import BaseModel, SecretBytes, SecretStr
from typing_extensions import TypeAliasType

__all__ = ["copy_value", "is_immutable", "revalidated", "shares_nothing"]

_IMMUTABLE: Final[frozenset[Any]] = frozenset(
    {
        *(int, float, complex, bool, str, bytes, type(None), range, type),
        *(decimal.Decimal, fractions.Fraction, uuid.UUID),
        *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone),
        *(pathlib.Path, pathlib.PurePath, pathlib.PosixPath, pathlib.PurePosixPath, pathlib.WindowsPath),
        *(ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network),
        *(SecretStr, SecretBytes),
    }
)


def is_immutable(annotation: Any) -> bool:  # noqa: PLR0911 -- one line per kind of annotation
    """Return whether no value of this annotation can be changed in place.

    When in doubt the answer is no: then the value is copied, which is slower but never wrong.
    """
    if annotation in _IMMUTABLE or annotation is None:
        return True
    origin = get_origin(annotation)
    if origin is Annotated:
        return is_immutable(get_args(annotation)[0])
    if origin is Literal:
        return True
    if origin in {Union, types.UnionType, tuple, frozenset, collections.abc.Set}:
        return origin is not collections.abc.Set and all(
            argument is Ellipsis or is_immutable(argument) for argument in get_args(annotation)
        )
    if isinstance(annotation, TypeAliasType | getattr(typing, "TypeAliasType", TypeAliasType)):
        return is_immutable(annotation.__value__)
    if isinstance(annotation, NewType):
        return is_immutable(annotation.__supertype__)
    return isinstance(annotation, type) and _is_immutable_class(annotation)


def _is_immutable_class(cls: type) -> bool:
    if issubclass(cls, enum.Enum):
        return True
    if issubclass(cls, BaseModel):
        return shares_nothing(cls)
    if dataclasses.is_dataclass(cls):
        parameters = getattr(cls, "__dataclass_params__", None)
        hints = typing.get_type_hints(cls)
        return bool(parameters and parameters.frozen) and all(
            is_immutable(hints[field.name]) for field in dataclasses.fields(cls)
        )
    return False


def shares_nothing(model: type[BaseModel]) -> bool:
    """Return whether instances of the model cannot change, so that they may be passed on without a copy."""
    if not model.model_config.get("frozen") or model.model_config.get("extra") == "allow":
        return False
    if model.__private_attributes__:
        return False
    return all(is_immutable(field.annotation) for field in model.model_fields.values())


def copy_value(value: Any) -> Any:
    """Return a copy that shares nothing changeable with the value.

    Lists, dicts, sets, tuples and pydantic models by structure (10 to 17 µs for a list of 20 models, where
    `copy.deepcopy` takes 80), anything else by `deepcopy`.
    """
    kind = value.__class__
    if kind in _IMMUTABLE:
        return value
    if kind is list:
        return [copy_value(item) for item in value]
    if kind is dict:
        return {copy_value(key): copy_value(item) for key, item in value.items()}
    if kind is tuple or kind is set or kind is frozenset:
        return kind(copy_value(item) for item in value)
    if isinstance(value, enum.Enum):
        return value
    if isinstance(value, BaseModel):
        return _copy_model(value)
    return deepcopy(value)


def _copy_model(model: BaseModel) -> BaseModel:
    twin = model.__class__.__new__(model.__class__)
    object.__setattr__(twin, "__dict__", {name: copy_value(item) for name, item in model.__dict__.items()})
    extra = model.__pydantic_extra__
    private = model.__pydantic_private__
    object.__setattr__(twin, "__pydantic_fields_set__", set(model.__pydantic_fields_set__))
    object.__setattr__(twin, "__pydantic_extra__", None if extra is None else copy_value(extra))
    object.__setattr__(twin, "__pydantic_private__", None if private is None else copy_value(private))
    return twin


def revalidated(value: Any) -> Any:
    """Return a copy of the value in which every pydantic model was validated again.

    Pydantic takes an instance of a model as it is, even if somebody changed it since; a machine's data may not.

    Raises:
        pydantic.ValidationError: A model inside no longer validates.
    """
    if isinstance(value, BaseModel):
        model = value.__class__
        fields = {name: revalidated(item) for name, item in value.__dict__.items()}
        if value.__pydantic_extra__:
            fields |= {name: revalidated(item) for name, item in value.__pydantic_extra__.items()}
        twin = model.__pydantic_validator__.validate_python(fields, by_alias=False, by_name=True)
        if value.__pydantic_private__ is not None:
            object.__setattr__(twin, "__pydantic_private__", copy_value(value.__pydantic_private__))
        return twin
    kind = value.__class__
    if kind is list:
        return [revalidated(item) for item in value]
    if kind is dict:
        return {revalidated(key): revalidated(item) for key, item in value.items()}
    if kind is tuple or kind is set or kind is frozenset:
        return kind(revalidated(item) for item in value)
    return copy_value(value)
