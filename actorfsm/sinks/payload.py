"""Payloads for log lines: plain data of an event, without what its class keeps out of its repr."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Final, cast

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

from actorfsm.sinks.text import one_line

__all__ = ["data_of", "payload_of"]

MAX_TEXT: Final = 1_000
"""Characters of one string."""
MAX_ITEMS: Final = 100
"""Items of one collection."""
MAX_DEPTH: Final = 10

MASK: Final = "**********"


def payload_of(event: BaseModel) -> Any:
    """Return an event's fields as plain data.

    Fields declared with `repr=False` or `exclude=True` are left out, in nested models and dataclasses too; `SecretStr`
    and `SecretBytes` are masked. Long texts, long collections and deep nesting are cut. Sets are sorted, so that the
    same event gives the same line.
    """
    return _plain(event, MAX_DEPTH)


def data_of(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a machine's data as plain data, as `payload_of` does; a field that is kept out of the repr is masked.

    Never fails: a value that cannot be shown is named by its class.
    """
    return {
        name: _shown(values[name]) if info.repr and not info.exclude else MASK
        for name, info in model.__pydantic_fields__.items()
        if name in values
    }


def _shown(value: Any) -> Any:
    try:
        return _plain(value, MAX_DEPTH)
    except Exception:  # noqa: BLE001 -- a class of the user's may raise anything when it is looked at
        return f"<{type(value).__name__}>"


def _plain(value: Any, depth: int) -> Any:
    if type(value) is str:
        return _text(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, SecretStr | SecretBytes):
        return MASK
    if depth == 0:
        return f"<{type(value).__name__}>"
    return _parts(value, depth - 1)


def _parts(value: Any, depth: int) -> Any:
    """Return a collection with its items as plain data; depth is what they have left."""
    if isinstance(value, BaseModel):
        model_fields = type(value).model_fields
        shown = (name for name, info in model_fields.items() if info.repr and not info.exclude)
        return {name: _plain(value.__dict__.get(name), depth) for name in shown}
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name, None), depth) for f in fields(value) if f.repr}
    if isinstance(value, Mapping):
        return _mapping(cast("dict[Any, Any]", value), depth)
    if isinstance(value, list | tuple):
        return _items(cast("list[Any]", value), depth)
    if isinstance(value, set | frozenset):
        plain = sorted((_plain(item, depth) for item in cast("set[Any]", value)), key=repr)
        return _items(plain, depth)
    return _scalar(value)


def _text(value: str) -> str:
    return one_line(value if len(value) <= MAX_TEXT else f"{value[:MAX_TEXT]}... ({len(value):,} characters)")


def _mapping(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    pairs = list(value.items())
    plain = {str(_plain(key, 0)): _plain(item, depth) for key, item in pairs[:MAX_ITEMS]}
    if len(pairs) > MAX_ITEMS:
        plain["..."] = f"{len(pairs) - MAX_ITEMS:,} more"
    return plain


def _items(value: Sequence[Any], depth: int) -> list[Any]:
    plain = [_plain(item, depth) for item in value[:MAX_ITEMS]]
    if len(value) > MAX_ITEMS:
        plain.append(f"... {len(value) - MAX_ITEMS:,} more")
    return plain


def _scalar(value: Any) -> Any:
    """Return dates, decimals, UUIDs, enums, bytes as pydantic writes them; of anything else the name of its class."""
    plain = to_jsonable_python(
        value, bytes_mode="base64", fallback=lambda unknown: f"<{type(unknown).__name__}>"
    )
    return _text(plain) if isinstance(plain, str) else plain
