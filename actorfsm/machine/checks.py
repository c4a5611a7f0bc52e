"""The checks of a definition (C33): each names the class, the member and the remedy."""

from __future__ import annotations

from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from actorfsm.errors import DefinitionError
from actorfsm.event import StateTimeout, TransitionRequested
from actorfsm.machine.definition import Choice, Definition, Postponed, StateNode, Transition
from actorfsm.machine.upcasts import check_upcasts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from actorfsm.machine.definition import Hook

__all__ = ["RESERVED_NAMES", "check_class", "check_definition", "check_names", "check_system"]

RESERVED_NAMES: Final = frozenset(
    {
        *("id", "state", "services", "now", "idempotency_key", "tell", "ask", "next_event", "stop"),
        *("start_timer", "cancel_timer", "start_job", "cancel_job", "watch", "unwatch"),
    }
)
"""Names that a machine has itself; no field and no method may use them."""


def check_names(class_name: str, names: Iterable[str], kind: str) -> None:
    """Check that no data field and no method uses a name of the machine's own.

    Raises:
        DefinitionError: One does.
    """
    for name in names:
        if name in RESERVED_NAMES:
            raise DefinitionError(
                f"{class_name}.{name}: {name!r} is a name of the machine itself; rename the {kind}"
            )


def check_class(cls: type[Any], own: Iterable[type[Any]]) -> None:
    """Check what a class holds besides its definition.

    Args:
        cls: The machine class.
        own: The classes that a machine itself consists of.

    Raises:
        DefinitionError: A name of the machine's own is used, or there is something that would not last.
    """
    inherited = [base for base in cls.__mro__ if base not in own]
    for base in inherited:
        check_names(base.__name__, vars(base), "member")
    check_names(cls.__name__, cls.__pydantic_fields__, "field")
    if cls.__private_attributes__:
        raise DefinitionError(
            f"{cls.__name__}.{next(iter(cls.__private_attributes__))}: a private attribute is lost after each turn; "
            "make it a data field, without the underscore"
        )
    for base in inherited:
        for name, attribute in vars(base).items():
            if isinstance(attribute, cached_property):
                raise DefinitionError(
                    f"{cls.__name__}.{name}: a machine lives for a turn and caches nothing; use property"
                )
    if cls.model_config.get("extra") == "allow" or cls.model_config.get("frozen"):
        raise DefinitionError(
            f"{cls.__name__}.model_config: a machine's data has declared fields that its hooks change; "
            "leave extra= and frozen= away"
        )


def check_definition(definition: Definition) -> None:
    """Check one machine class.

    Raises:
        DefinitionError: Something in it cannot be meant.
    """
    _check_shadowing(definition)
    _check_final_states(definition)
    _check_exits(definition, definition.hooks)
    if not definition.any_to_any:
        _check_dead_ends(definition)
        _check_reachability(definition)


def check_system(definitions: Iterable[Definition]) -> None:
    """Check the machine classes of one system together.

    Raises:
        DefinitionError: Two have the same name, or a birth for the same event class, or upcasts are no chain.
    """
    names: dict[str, Definition] = {}
    births: dict[type[Any], Definition] = {}
    for definition in definitions:
        check_upcasts(definition)
        if definition.name in names:
            raise DefinitionError(f"two machine classes are called {definition.name}: rename one")
        names[definition.name] = definition
        for event_class in definition.births:
            other = births.setdefault(event_class, definition)
            if other is not definition:
                raise DefinitionError(
                    f"{event_class.__name__} gives birth to {other.name} and to {definition.name}: "
                    "which one an unknown id should be could not be said; use two event classes"
                )


def _nodes(definition: Definition) -> Iterator[StateNode]:
    yield definition.root
    yield from definition.states.values()


def _check_shadowing(definition: Definition) -> None:
    for node in _nodes(definition):
        for event_class, choices in node.choices.items():
            for earlier, later in combinations(choices, 2):
                if _always_before(earlier, later, event_class):
                    raise DefinitionError(
                        f"{definition.name}: in {node.name}, {_label(earlier)} takes every {event_class.__name__} "
                        f"that {_label(later)} could; give the first a guard (when=...) of its own or remove one"
                    )


def _always_before(earlier: Choice, later: Choice, event_class: type[Any]) -> bool:
    """Return whether the first choice takes all that the second could."""
    if isinstance(earlier, Postponed):
        return True
    guard, other = earlier.guard, later.guard
    if event_class is StateTimeout:
        return False  # each has a timer of its own, by its name
    if event_class is TransitionRequested:  # the guard of the target stands before the user's
        if isinstance(later, Transition) and later.target is not earlier.target:
            return False
        guard, other = getattr(guard, "__wrapped__", None), getattr(other, "__wrapped__", None)
        if isinstance(later, Postponed):
            return False
    return guard is None or guard is other


def _label(choice: Transition | Postponed) -> str:
    return choice.name if isinstance(choice, Transition) else "@postpone"


def _check_final_states(definition: Definition) -> None:
    for node in definition.states.values():
        for edge in _edges(node):
            if node.final and not edge.stays:
                raise DefinitionError(
                    f"{definition.name}.{edge.name}: leads out of the final state {node.name}; "
                    "take the state out of final=(...) or the transition away"
                )
        if node.final and any(isinstance(c, Postponed) for choices in node.choices.values() for c in choices):
            raise DefinitionError(f"{definition.name}: {node.name} is final, nothing can be postponed there")


def _check_dead_ends(definition: Definition) -> None:
    alone = len(definition.states) == 1  # there is nowhere to go
    for node in definition.states.values():
        edges = list(_edges(node))
        if node.final or (alone and edges):
            continue
        if all(edge.stays for edge in edges):
            raise DefinitionError(
                f"{definition.name}: nothing leads out of {node.name}; add a transition or declare it final=(...)"
            )


def _check_exits(definition: Definition, hooks: Iterable[Hook]) -> None:
    """An exit hook of a state that is never left would be lost in silence."""
    for hook in hooks:
        for state in hook.states if hook.step.kind == "exit" else ():
            node = definition.states[state]
            if all(edge.stays for edge in _edges(node)):
                raise DefinitionError(
                    f"{definition.name}.{hook.step.name}: {node.name} is never left, so that the hook cannot run; "
                    "remove it or add a transition"
                )


def _check_reachability(definition: Definition) -> None:
    reached = {id(definition.root)}
    frontier = [definition.root]
    while frontier:
        for edge in _edges(frontier.pop()):
            if id(edge.target) not in reached:
                reached.add(id(edge.target))
                frontier.append(edge.target)
    for node in definition.states.values():
        if id(node) not in reached:
            raise DefinitionError(
                f"{definition.name}: no transition leads to {node.name}; add one or remove the state from "
                f"{definition.state_class.__name__}"
            )


def _edges(node: StateNode) -> Iterator[Transition]:
    for choices in node.choices.values():
        for choice in choices:
            if isinstance(choice, Transition):
                yield choice
