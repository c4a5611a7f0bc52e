"""What pydantic says about values that do not validate, without the values: they may hold secrets.

A place is shown as far as its words are names of fields; a key that came with the input is shown as `*`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import BaseModel, TypeAdapter
from pydantic_core import core_schema

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

__all__ = ["field_names", "problems_in", "problems_of", "without_input"]

_SHOWN_PROBLEMS: Final = 5
_KNOWN_KINDS: Final = frozenset(get_args(core_schema.ErrorType))
_OWN_WORDS: Final = frozenset({"value_error", "assertion_error"})
"""Kinds of problems whose sentence a validator wrote."""
_REPEATING: Final = frozenset(
    {
        *("union_tag_invalid", "uuid_parsing", "url_parsing", "url_syntax_violation"),
        *("get_attribute_error", "iteration_error", "mapping_type"),
    }
)
"""Kinds of problems whose sentence repeats something of the input."""
_NOT_SCHEMA: Final = frozenset({"default", "metadata"})


def problems_of(error: ValidationError, names: Collection[str] = ()) -> str:
    """Return what did not validate, without what was given: it may be secret.

    Args:
        error: What pydantic says.
        names: Names that may be shown where a problem is located, see `field_names`. Other words there are keys that
            came with the input.
    """
    return problems_in(error.errors(include_url=False), names)


def problems_in(problems: Sequence[ErrorDetails], names: Collection[str] = ()) -> str:
    """Return what did not validate, as `problems_of` does, from the list of problems alone."""
    return "; ".join(
        f"{_place(problem['loc'], names) or 'the value'}: {_said(problem, names)}"
        for problem in problems[:_SHOWN_PROBLEMS]
    )


def without_input(error: ValidationError) -> str:
    """Return a validation error as text, without what was given."""
    return f"{error.error_count()} problems with {error.title}: {problems_of(error)}"


def field_names(model: type[BaseModel] | TypeAdapter[Any]) -> frozenset[str]:
    """Return the names of all fields of a model, or what an adapter reads, and of the models inside."""
    found: set[str] = set()
    schema: Any = model.core_schema if isinstance(model, TypeAdapter) else model.__pydantic_core_schema__
    pending: list[Any] = [schema]
    while pending:
        part = pending.pop()
        kind = part.__class__
        if kind is dict:
            # Of a model they come by name, of a dataclass as a list.
            found.update(
                field if isinstance(field, str) else field["name"] for field in part.get("fields", ())
            )
            pending.extend(value for key, value in part.items() if key not in _NOT_SCHEMA)
        elif kind is list or kind is tuple:
            pending.extend(part)
    return frozenset(found)


def _place(location: tuple[int | str, ...], names: Collection[str]) -> str:
    return ".".join(str(part) if isinstance(part, int) or part in names else "*" for part in location)


def _said(problem: ErrorDetails, names: Collection[str]) -> str:
    """Return pydantic's own sentence, or a validator's if it does not repeat what it was given."""
    kind, text = problem["type"], problem["msg"]
    if kind in _REPEATING:
        return kind
    if kind in _OWN_WORDS or kind not in _KNOWN_KINDS:
        return kind if any(leaf in text for leaf in _leaves(problem["input"]) if leaf not in names) else text
    return text


def _leaves(value: Any) -> Iterator[str]:
    """Yield the texts and numbers in what was given."""
    if isinstance(value, BaseModel):
        value = value.__dict__
    kind = value.__class__
    if issubclass(kind, dict):
        value = [*value.keys(), *value.values()]
    if issubclass(kind, dict | list | tuple | set | frozenset):
        for item in value:
            yield from _leaves(item)
    elif issubclass(kind, str | int | float | Decimal) and value != "":
        yield str(value)
