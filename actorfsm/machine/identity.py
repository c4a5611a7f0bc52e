"""The identity of a definition: what a machine class declares, as lines of text, and a hash of them.

The same class gives the same lines in every process. They name states, edges, hooks, fields and events, and not where
the class is or what its hooks do: a hook that is mended, or a class that is moved, keeps its identity.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args, get_origin

from actorfsm.machine.definition import Transition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

    from actorfsm.machine.definition import Choice, Definition, StateNode

__all__ = ["definition_id", "definition_lines"]

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")


def definition_id(definition: Definition) -> str:
    """Return a short text that changes when the definition does."""
    return blake2b("\n".join(definition_lines(definition)).encode(), digest_size=8).hexdigest()


def definition_lines(definition: Definition) -> list[str]:
    """Return all that a machine class declares, a line for each thing."""
    return [
        f"machine {definition.name}",
        *(f"data {field}" for field in _fields(definition.machine_class)),
        *(line for node in (definition.root, *definition.states.values()) for line in _state(node)),
        *sorted(
            f"event {spec.name}({', '.join(_fields(spec.event_class))}) -> {spec.reply.name}"
            for spec in definition.events.values()
        ),
    ]


def _state(node: StateNode) -> Iterator[str]:
    yield f"state {node.name}{' final' if node.final else ''}"
    for timer in node.timers:
        yield f"state {node.name} times out by {timer.name} after {timer.after_s:g} s"
    for event_class, choices in node.choices.items():
        for choice in choices:
            yield f"state {node.name} takes {event_class.__name__}{_choice(choice)}"


def _choice(choice: Choice) -> str:
    if not isinstance(choice, Transition):
        return ", postponed"
    hooks = (*choice.steps, *choice.afters, *choice.detached)
    guard = f" when {choice.guard_name}" if choice.guard is not None else ""
    return f" to {choice.target.name}{guard}{' and stays' if choice.stays else ''}: " + ", ".join(
        f"{step.kind} {step.name}" for step in hooks
    )


def _fields(model: type[BaseModel]) -> list[str]:
    return [
        f"{name}: {_name(info.annotation)}{'' if info.is_required() else ' = ...'}"
        for name, info in model.__pydantic_fields__.items()
    ]


def _name(annotation: Any) -> str:
    """Return an annotation as text that is the same in every process."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return _name(arguments[0])
    if arguments and not isinstance(annotation, str):
        origin: Any = get_origin(annotation)
        return f"{getattr(origin, '__name__', origin)}[{', '.join(map(_name, arguments))}]"
    if isinstance(annotation, type):
        return annotation.__qualname__
    return _ADDRESS.sub("", str(annotation))
