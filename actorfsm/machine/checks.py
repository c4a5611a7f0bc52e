"""The checks of a definition (C33): each names the class, the member and the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from actorfsm.errors import DefinitionError
from actorfsm.event import TransitionRequested
from actorfsm.machine.definition import Definition, Postponed, StateNode, Transition

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["RESERVED_NAMES", "check_definition", "check_field_names", "check_system"]

RESERVED_NAMES: Final = frozenset(
    {
        *("id", "state", "services", "now", "idempotency_key", "tell", "ask", "next_event", "stop"),
        *("start_timer", "cancel_timer", "start_job", "watch", "unwatch"),
    }
)
"""Names that a machine has itself; no data field may use them."""


def check_field_names(class_name: str, names: Iterable[str]) -> None:
    """Check that no data field uses a name of the machine's own.

    Raises:
        DefinitionError: One does.
    """
    for name in names:
        if name in RESERVED_NAMES:
            raise DefinitionError(f"{class_name}.{name}: {name!r} is a name of the machine itself; rename the field")


def check_definition(definition: Definition) -> None:
    """Check one machine class.

    Raises:
        DefinitionError: Something in it cannot be meant.
    """
    _check_shadowing(definition)
    _check_final_states(definition)
    if not definition.any_to_any:
        _check_dead_ends(definition)
        _check_reachability(definition)


def check_system(definitions: Iterable[Definition]) -> None:
    """Check the machine classes of one system together.

    Raises:
        DefinitionError: Two have the same name, or a birth for the same event class.
    """
    names: dict[str, Definition] = {}
    births: dict[type[Any], Definition] = {}
    for definition in definitions:
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
            if event_class is TransitionRequested:
                _check_same_request(definition, node, choices)
            for earlier, later in zip(choices, choices[1:], strict=False):
                if earlier.guard is None:
                    raise DefinitionError(
                        f"{definition.name}: in {node.name}, {_label(earlier)} always takes {event_class.__name__}, so "
                        f"{_label(later)} never can; give the first a guard (when=...) or remove one"
                    )


def _check_same_request(definition: Definition, node: StateNode, choices: tuple[Any, ...]) -> None:
    unguarded = [c.target for c in choices if isinstance(c, Transition) and not c.guard_name]
    for target in unguarded:
        if unguarded.count(target) > 1:
            raise DefinitionError(
                f"{definition.name}: in {node.name}, two transitions take a request for {target.name}; give the first a "
                "guard (when=...) or remove one"
            )


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
    for node in definition.states.values():
        if not node.final and all(edge.stays for edge in _edges(node)):
            raise DefinitionError(
                f"{definition.name}: nothing leads out of {node.name}; add a transition or declare it final=(...)"
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
