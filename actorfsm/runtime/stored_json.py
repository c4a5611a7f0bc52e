"""JSON of the journal: written so that it comes back, read so that errors name the field, carried through upcasts."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from actorfsm.errors import InvalidData, SchemaMismatch
from actorfsm.problems import field_names, problems_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from actorfsm.journal.entry import Payload
    from actorfsm.machine.upcasts import Fields, Upcast

__all__ = [
    "UNWRITABLE",
    "check_comes_back",
    "dumped",
    "read",
    "unwritable",
    "upcasted",
    "upcasted_machine",
]

T = TypeVar("T")

_PAIR: Final = 2

UNWRITABLE: Final = (PydanticSerializationError, UnicodeError, ValueError, TypeError)
"""What pydantic raises for a value that it cannot write."""


def dumped(what: str, dump: Callable[[], bytes]) -> str:
    """Return JSON as it is stored.

    Raises:
        InvalidData: There is none of the value.
    """
    try:
        return dump().decode()
    except UNWRITABLE as error:
        raise unwritable(what, error) from None


def unwritable(what: str, error: Exception) -> InvalidData:
    """Return the error for a value of which there is no JSON."""
    return InvalidData(f"{what} cannot be stored: {type(error).__name__} when it was written as JSON")


def check_comes_back(what: str, value: Any, read: Callable[[], Any]) -> None:
    """Check that what is stored is read as what it was.

    Raises:
        InvalidData: It is not.
    """
    try:
        again = read()
    except ValidationError as error:
        raise InvalidData(
            f"{what} cannot be stored, because it could not be read again: {problems_of(error)}"
        ) from None
    if again != value:
        raise InvalidData(f"{what} cannot be stored, because it would not be the same when it is read again")


def read(
    where: str, reader: type[BaseModel] | TypeAdapter[Any], payload: Payload, validate: Callable[[], T]
) -> T:
    """Return what is stored.

    Args:
        where: Where it is stored.
        reader: What validates it; it knows the names of fields, which may be said.
        payload: As it is stored.
        validate: Validates it, after upcasts if there were any.

    Raises:
        SchemaMismatch: It does not validate. The message names fields, never their values.
    """
    try:
        return validate()
    except ValidationError as error:
        # A field that the class no longer has is named too: nobody but a class has written these names.
        names = field_names(reader) | _stored_names(payload)
        said = problems_of(error, names)
    except Exception as error:
        raise _mismatch(
            f"{where}: a validator raised {type(error).__name__} for {payload.type} version {payload.version}",
            payload,
        ) from error
    raise _mismatch(
        f"{where}: {payload.type} version {payload.version} does not validate: {said}. Put the class back, or raise "
        f"its schema_version and write @upcast({payload.type}, from_version={payload.version})",
        payload,
    )


def upcasted(payload: Payload, steps: Sequence[Upcast], where: str) -> str:
    """Return the JSON of an event or a reply as the class has it now.

    Raises:
        SchemaMismatch: An upcast raised, or returned no fields.
    """
    fields = _fields(payload, where)
    for step in steps:
        given = _called(step, payload, where, fields)
        if not isinstance(given, dict):
            raise _mismatch(f"{where}: the upcast {step} returned no dict of fields", payload)
        fields = cast("Fields", given)
    return _json(fields, payload, where)


def upcasted_machine(payload: Payload, state: str, steps: Sequence[Upcast], where: str) -> tuple[str, str]:
    """Return the name of a machine's state, and the JSON of its data, as the class has them now.

    Raises:
        SchemaMismatch: An upcast raised, or returned no state and fields.
    """
    fields = _fields(payload, where)
    for step in steps:
        given: Any = _called(step, payload, where, step.states.get(state, state), fields)
        pair = _pair(given)
        if len(pair) != _PAIR or not isinstance(pair[0], str | Enum) or not isinstance(pair[1], dict):
            raise _mismatch(f"{where}: the upcast {step} returned no (state, fields)", payload)
        # A member of a StrEnum is a text too, but not always that of its name.
        state = pair[0].name if isinstance(pair[0], Enum) else pair[0]
        fields = cast("Fields", pair[1])
    return state, _json(fields, payload, where)


def _pair(given: Any) -> tuple[Any, ...]:
    pair: Any = given
    return pair if isinstance(given, tuple) else ()


def _called(step: Upcast, payload: Payload, where: str, *arguments: Any) -> Any:
    try:
        return step.function(*arguments)
    except Exception as error:
        raise _mismatch(
            f"{where}: the upcast {step} from {payload.type} version {step.from_version} raised {type(error).__name__}",
            payload,
        ) from error


def _fields(payload: Payload, where: str) -> Fields:
    try:
        fields: Any = from_json(payload.json)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise _mismatch(
            f"{where}: {payload.type} version {payload.version} is stored as no object of fields, so that there is "
            "nothing to upcast",
            payload,
        )
    return cast("Fields", fields)


def _json(fields: Fields, payload: Payload, where: str) -> str:
    try:
        return to_json(fields, inf_nan_mode="constants").decode()
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        raise _mismatch(
            f"{where}: what the upcasts of {payload.type} return cannot be written as JSON ({type(error).__name__})",
            payload,
        ) from None


def _stored_names(payload: Payload) -> frozenset[str]:
    try:
        fields: Any = from_json(payload.json)
    except ValueError:
        return frozenset()
    return frozenset(cast("Fields", fields)) if isinstance(fields, dict) else frozenset()


def _mismatch(message: str, payload: Payload) -> SchemaMismatch:
    return SchemaMismatch(message, stored=payload.type, version=payload.version)
