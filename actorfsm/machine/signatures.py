"""What the signatures of a machine's methods say: shapes, event classes, replies."""

from __future__ import annotations

import inspect
import types
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Union, get_args, get_origin, get_type_hints

from actorfsm.errors import DefinitionError
from actorfsm.event import Event
from actorfsm.machine.decorators import BlockingMark, marks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "EVERY_EVENT",
    "NOT_SAID",
    "Namespace",
    "body_events",
    "given_argument",
    "guard_is_callable",
    "guard_name",
    "hook_events",
    "is_async",
    "resolve_now",
    "return_annotation",
]

Namespace = dict[str, Any]
EVERY_EVENT: Final = (Event,)
NOT_SAID: Final = inspect.Parameter.empty
"""The annotation of what has none, or none that can be resolved."""
_HINTS: Final = "__actorfsm_hints__"
_BODY_ARGUMENTS: Final = 1
_HOOK_ARGUMENTS: Final = 2


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether calling the function, or what it wraps, gives something to await."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(inspect.unwrap(function))


def body_events(
    owner: str, function: Callable[..., Any], namespace: Namespace
) -> tuple[type[Event[Any, Any]], ...]:
    """Return the event classes that a transition's body takes: `(self, event: Pay)`.

    Raises:
        DefinitionError: Another signature, or no concrete event class in it.
    """
    names = _arguments(owner, function)
    if len(names) != _BODY_ARGUMENTS:
        raise DefinitionError(f"{owner}: a transition's body is written (self, event: SomeEvent)")
    events = _event_classes(owner, function, names[0], namespace)
    if not events or Event in events:
        raise DefinitionError(f"{owner}: annotate {names[0]!r} with the event class that it handles")
    return events


def hook_events(
    owner: str, function: Callable[..., Any], namespace: Namespace
) -> tuple[type[Event[Any, Any]], ...] | None:
    """Return the event classes that a hook accepts, or None if it does not take the event.

    Raises:
        DefinitionError: The hook is not written `(self, old, new)` or `(self, old, new, event: SomeEvent)`.
    """
    names = _arguments(owner, function)
    if len(names) == _HOOK_ARGUMENTS:
        return None
    if len(names) != _HOOK_ARGUMENTS + 1:
        raise DefinitionError(
            f"{owner}: a hook is written (self, old, new) or (self, old, new, event: SomeEvent)"
        )
    return _event_classes(owner, function, names[2], namespace)


def given_argument(
    owner: str, function: Callable[..., Any], namespace: Namespace
) -> tuple[str, type[Any]] | None:
    """Return name and class of what the system gives a hook or a body by name: `*, session: AsyncSession`.

    Raises:
        DefinitionError: There is more than one such argument, or its annotation is no class.
    """
    parameters = inspect.signature(function).parameters.values()
    names = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    if not names:
        return None
    if len(names) > 1:
        raise DefinitionError(
            f"{owner}: a turn has one session; {' and '.join(names)} after the * are more than that"
        )
    [name] = names
    try:
        wanted = _resolve(function, name, namespace)
    except Exception as error:  # noqa: BLE001 -- evaluating an annotation may raise anything
        raise DefinitionError(
            f"{owner}: the annotation of {name!r} cannot be resolved ({error}); import its class at run time, not "
            "under TYPE_CHECKING"
        ) from None
    if not isinstance(wanted, type) or wanted is NOT_SAID:
        raise DefinitionError(
            f"{owner}: what stands after the * is given by the system, by its class: annotate {name!r} with the "
            "class of a session, *, session: AsyncSession"
        )
    given: type[Any] = wanted
    if issubclass(given, Event):
        raise DefinitionError(f"{owner}: the event stands before the *: move {name!r} there")
    return name, given


def guard_is_callable(owner: str, guard: Any) -> None:
    """Check that a guard is a plain function of machine and event.

    Raises:
        DefinitionError: It is not callable, is async, or takes other arguments.
    """
    if not callable(guard):
        raise DefinitionError(f"{owner}: when= takes a plain function (machine, event) -> bool")
    call: Any = guard if inspect.isroutine(guard) else type(guard).__call__
    if inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call):
        raise DefinitionError(
            f"{owner}: the guard {guard_name(guard)} has a yield; a guard returns True or False"
        )
    if any(isinstance(mark, BlockingMark) for mark in marks_of(guard)):
        raise DefinitionError(
            f"{owner}: the guard {guard_name(guard)} is @blocking; a guard only looks at the machine, so that "
            "selection is pure. Ask outside in a before hook."
        )
    if is_async(guard) or is_async(call):
        raise DefinitionError(
            f"{owner}: the guard {guard_name(guard)} is async; a guard is a plain function, so that selection is pure. "
            "Ask outside in a before hook."
        )
    try:
        inspect.signature(guard).bind(None, None)
    except TypeError:
        raise DefinitionError(f"{owner}: the guard {guard_name(guard)} must take (machine, event)") from None
    except ValueError:  # a builtin without a signature: it is called as it is
        return


def guard_name(guard: Any) -> str:
    """Return what a guard is called."""
    return str(getattr(guard, "__name__", None) or type(guard).__name__)


def return_annotation(function: Callable[..., Any], namespace: Namespace) -> Any:
    """Return the resolved return annotation, or `NOT_SAID` if there is none that can be resolved."""
    try:
        return _resolve(function, "return", namespace)
    except Exception:  # noqa: BLE001 -- an annotation may raise anything; the reply is checked at run time too
        return NOT_SAID


def resolve_now(function: Any, namespace: Namespace) -> None:
    """Resolve what can be where the function is defined: elsewhere the same names may mean other classes."""
    for argument in getattr(function, "__annotations__", ()):
        with suppress(Exception):
            _resolve(function, argument, namespace)


def _arguments(owner: str, function: Any) -> list[str]:
    if (
        not inspect.isfunction(function)
        or inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
    ):
        raise DefinitionError(f"{owner}: must be a method, `def` or `async def`, without yield")
    parameters = list(inspect.signature(function).parameters.values())[1:]
    for parameter in parameters:
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            raise DefinitionError(f"{owner}: takes positional arguments only, not {parameter}")
    return [parameter.name for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY]


def _event_classes(
    owner: str, function: Callable[..., Any], argument: str, namespace: Namespace
) -> tuple[type[Event[Any, Any]], ...]:
    try:
        annotation = _resolve(function, argument, namespace)
    except Exception as error:  # noqa: BLE001 -- evaluating an annotation may raise anything
        raise DefinitionError(
            f"{owner}: the annotation of {argument!r} cannot be resolved ({error}); define the event class before "
            "the machine, and import it at run time, not under TYPE_CHECKING"
        ) from None
    if annotation is NOT_SAID:
        raise DefinitionError(f"{owner}: annotate {argument!r} with an event class")
    members = get_args(annotation) if get_origin(annotation) in {Union, types.UnionType} else (annotation,)
    classes = tuple(get_origin(member) or member for member in members)
    if classes in {(Any,), (object,)}:
        return EVERY_EVENT
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, Event)):
            raise DefinitionError(f"{owner}: {argument!r} is annotated {cls!r}, which is not an event class")
    return classes


def _resolve(function: Callable[..., Any], argument: str, namespace: Mapping[str, Any]) -> Any:
    known: dict[str, Any] = function.__dict__.setdefault(_HINTS, {})
    if argument not in known:
        raw = function.__annotations__
        if argument not in raw:
            return NOT_SAID
        origin = inspect.unwrap(function)  # what functools.wraps has wrapped lives in its own module
        module = getattr(origin, "__globals__", {})
        # The nearest name is meant, as if the annotation were no text.
        nearest = "<locals>" in getattr(origin, "__qualname__", "")
        names = {**module, **namespace} if nearest else {**namespace, **module}
        holder = types.SimpleNamespace(__annotations__={argument: raw[argument]})
        known[argument] = get_type_hints(holder, names)[argument]
    return known[argument]
