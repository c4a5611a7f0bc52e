"""Jobs as the journal keeps them: what to begin again, by name, and with which arguments.

A function is stored as the name by which it is imported, or by which the services have it; an argument as JSON of the
type that its parameter is annotated with, or as the name of a service. Of a job that is not to be begun again only
`failed` is stored, which is told that it was given up.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import Any, Final, NamedTuple, cast, get_type_hints

from pydantic import BaseModel, JsonValue, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from actorfsm.errors import InvalidData, InvalidEvent
from actorfsm.event import Event

__all__ = ["StoredJob", "note_of", "read_note"]

_MISSING: Final = object()
_SERVICES: Final = "services"
_EVENT: Final = "event"


class StoredJob(NamedTuple):
    """What is stored of a job.

    Attributes:
        name: Its name.
        again: Whether it is begun again.
        function: What it runs; None if it is not begun again.
        arguments: With what.
        done: What makes an event of its result.
        failed: What makes an event of its error.
        timeout_s: How long it may take, in seconds.
    """

    name: str
    again: bool
    function: Callable[..., Any] | None
    arguments: tuple[Any, ...]
    done: Any
    failed: Any
    timeout_s: float | None


class _Call(BaseModel):
    """A function with some of its arguments, as JSON."""

    function: str
    arguments: list[dict[str, JsonValue]] = []
    keywords: dict[str, dict[str, JsonValue]] = {}


class _Note(BaseModel):
    name: str
    again: bool
    run: _Call | None = None
    done: _Call | None = None
    failed: _Call | None = None
    timeout_s: float | None = None


def note_of(job: StoredJob, services: Any) -> str:
    """Return what is to be stored of a job, as JSON.

    Raises:
        InvalidEvent: Something of it could not be found again.
    """
    run = done = None
    if job.again:
        assert job.function is not None  # noqa: S101 -- it is to run
        run = _call(job.function, job.arguments, services, f"the job {job.name}")
        done = None if job.done is None else _call(job.done, (), services, "done")
    failed = None if job.failed is None else _call(job.failed, (), services, "failed")
    return _Note(
        name=job.name, again=job.again, run=run, done=done, failed=failed, timeout_s=job.timeout_s
    ).model_dump_json(exclude_defaults=True)


def read_note(note: str, services: Any, events: Mapping[str, type[Event[Any, Any]]]) -> StoredJob:
    """Return what is stored of a job.

    Args:
        note: As `note_of` made it.
        services: Those of the system.
        events: The event classes of its machine, by name.

    Raises:
        InvalidData: Something of it is not there any more.
    """
    try:
        stored = _Note.model_validate_json(note)
    except ValidationError:
        raise InvalidData("what is stored of a job cannot be read") from None
    function: Any = None
    arguments: tuple[Any, ...] = ()
    if stored.run is not None:
        whole = function = _callable(stored.run, services, events)
        if isinstance(whole, partial):  # what was passed with it is copied for each run
            arguments, keywords = function.args, function.keywords
            function = partial(function.func, **keywords) if keywords else function.func
    return StoredJob(
        stored.name,
        stored.again,
        function,
        arguments,
        None if stored.done is None else _callable(stored.done, services, events),
        None if stored.failed is None else _callable(stored.failed, services, events),
        stored.timeout_s,
    )


# -- to the journal ----------------------------------------------------------------------------------------------------


def _call(function: Any, arguments: tuple[Any, ...], services: Any, what: str) -> _Call:
    keywords: dict[str, Any] = {}
    while isinstance(function, partial):
        arguments, keywords = (*function.args, *arguments), {**function.keywords, **keywords}
        function = function.func
    shown = getattr(function, "__qualname__", "") or type(function).__name__
    if isinstance(function, type) and issubclass(function, Event):
        return _Call(function=f"{_EVENT}:{function.__name__}")
    name = _name_of(function, services)
    if name is None:
        raise InvalidEvent(
            f"{what}: {shown} could not be found again after a crash; where there is a journal give a function of a "
            "module or a method of a service" + ("" if what.startswith("the job") else ", or an event class")
        )
    positional, named = _annotations(function, arguments, keywords)
    return _Call(
        function=name,
        arguments=[
            _argument(value, given, services, f"{what}: argument {number}")
            for number, (value, given) in enumerate(zip(arguments, positional, strict=True), 1)
        ],
        keywords={
            key: _argument(value, named[key], services, f"{what}: {key}") for key, value in keywords.items()
        },
    )


def _name_of(function: Any, services: Any) -> str | None:
    """Return the name by which a function is found again, or None."""
    owner, name = getattr(function, "__self__", None), getattr(function, "__name__", None)
    if owner is not None and owner is services:
        return f"{_SERVICES}:{name}"
    for place, value in _members(services):
        if value is function:
            return f"{_SERVICES}:{place}"
        if owner is not None and value is owner:
            return f"{_SERVICES}:{place}.{name}"
    module, path = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if module is None or path is None or "<" in path:
        return None
    reference = f"{module}:{path}"
    try:
        return reference if _found(reference, services) == function else None
    except (ImportError, AttributeError):
        return None


def _members(services: Any) -> Iterator[tuple[str, Any]]:
    """Yield the services by name, whatever holds them: a mapping, a namespace, a dataclass, a named tuple."""
    held = services
    if isinstance(services, Mapping):
        yield from ((name, value) for name, value in held.items() if isinstance(name, str))
        return
    names = dict.fromkeys([*getattr(services, "__dict__", ()), *getattr(services, "_fields", ())])
    for cls in type(services).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        names.update(dict.fromkeys([slots] if isinstance(slots, str) else slots))
    for name in names:
        value = getattr(services, name, _MISSING)
        if value is not _MISSING:
            yield name, value


def _annotations(
    function: Any, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Return the types of the parameters that positional and named arguments are for; Any where nothing is said."""
    target = function if inspect.isroutine(function) else type(function).__call__
    try:
        hints = get_type_hints(target, include_extras=True)
    except Exception:  # noqa: BLE001 -- evaluating an annotation may raise anything
        hints = {}
    kinds = inspect.Parameter
    found: list[Any] = []
    for parameter in inspect.signature(function).parameters.values():
        given = hints.get(parameter.name, Any)
        if parameter.kind is kinds.VAR_POSITIONAL:
            found += [given] * (len(arguments) - len(found))
        elif parameter.kind in {kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD}:
            found.append(given)
    found += [Any] * (len(arguments) - len(found))
    return found[: len(arguments)], {name: hints.get(name, Any) for name in keywords}


def _argument(value: Any, annotation: Any, services: Any, what: str) -> dict[str, JsonValue]:
    shown = type(value).__name__
    for name, service in (("", services), *_members(services)):
        if service is value and value is not None and not isinstance(value, bool | int | float | str | tuple):
            return {"service": name}
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        text = adapter.dump_json(value, warnings="error").decode()
        if adapter.validate_json(text) == value:
            return {"json": text, "of": _described(annotation)}
    except (
        PydanticSerializationError,
        PydanticUserError,
        ValidationError,
        UnicodeError,
        ValueError,
        TypeError,
    ):
        pass
    raise InvalidEvent(
        f"{what}: a {shown} would not be the same after a crash; annotate the parameter with its type, "
        "pass plain values, or a service"
    )


def _described(annotation: Any) -> str:
    """Return a type for whoever reads the journal."""
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


# -- from the journal --------------------------------------------------------------------------------------------------


def _callable(call: _Call, services: Any, events: Mapping[str, type[Event[Any, Any]]]) -> Any:
    """Return a stored function; with arguments as a `partial`.

    Raises:
        InvalidData: It is not there, or does not take what is stored.
    """
    where, _, name = call.function.partition(":")
    try:
        function: Any = events[name] if where == _EVENT else _found(call.function, services)
    except (ImportError, AttributeError, KeyError):
        raise InvalidData(
            f"a job is stored that needs {call.function}, which is not there: give it that name again"
        ) from None
    if where != _EVENT and not callable(function):
        raise InvalidData(f"a job is stored that needs {call.function}, which is no function")
    if not call.arguments and not call.keywords:
        return function
    positional, named = _annotations(function, tuple(call.arguments), call.keywords)
    try:
        arguments = [
            _value(stored, annotation, services)
            for stored, annotation in zip(call.arguments, positional, strict=True)
        ]
        keywords = {key: _value(stored, named[key], services) for key, stored in call.keywords.items()}
    except (PydanticUserError, ValidationError, AttributeError, KeyError):
        raise InvalidData(f"a job is stored whose arguments {call.function} does not take any more") from None
    return partial(function, *arguments, **keywords)


def _value(stored: Mapping[str, JsonValue], annotation: Any, services: Any) -> Any:
    if "service" in stored:
        name = str(stored["service"])
        return _member(services, name) if name else services
    return TypeAdapter(annotation).validate_json(str(stored["json"]))


def _found(reference: str, services: Any) -> Any:
    where, _, path = reference.partition(":")
    first, *rest = path.split(".")
    found = _member(services, first) if where == _SERVICES else getattr(import_module(where), first)
    for name in rest:
        found = getattr(found, name)
    return found


def _member(services: Any, name: str) -> Any:
    return (
        cast("Mapping[str, Any]", services)[name]
        if isinstance(services, Mapping)
        else getattr(services, name)
    )
