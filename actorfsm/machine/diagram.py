"""The diagram of a machine: what a picture of it shows, read from its definition. Pure data; renderers make it visible.

What leads to another state is an arrow, and arrows with the same ends are one. What stays, and what is postponed,
stands inside the state, as in UML. Everything comes in the order of the definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto
from typing import TYPE_CHECKING, Any

from actorfsm.clock import in_words
from actorfsm.event import StateTimeout, TransitionRequested
from actorfsm.machine.definition import Transition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from actorfsm.machine.definition import Choice, Definition, StateNode

__all__ = ["Arrow", "Diagram", "Reaction", "ReactionKind", "State", "diagram_of"]


class ReactionKind(StrEnum):
    """What an event does to the state."""

    GO = auto()
    STAY = auto()
    POSTPONE = auto()


@dataclass(frozen=True, slots=True)
class Reaction:
    """What a machine does with one event in one state.

    Attributes:
        source: The state's name; None before birth.
        event: The event class's name; of a timeout, when it comes: `after 30 min`.
        guard: The guard's name, or an empty text.
        kind: Whether it goes somewhere, stays, or postpones the event.
        target: Where it leads; the source itself if it stays; None if the event is postponed.
    """

    source: str | None
    event: str
    guard: str
    kind: ReactionKind
    target: str | None

    @property
    def label(self) -> str:
        """The event, and the guard in brackets."""
        return f"{self.event} [{self.guard}]" if self.guard else self.event

    @property
    def inside(self) -> str:
        """How it is written inside a state that it does not leave."""
        return f"{self.label} / {self.kind}"


@dataclass(frozen=True, slots=True)
class State:
    """One state.

    Attributes:
        name: The Enum member's name.
        final: Whether the machine's life ends here.
        current: Whether the machine that is shown is here.
        inside: What does not lead out of it, as text.
    """

    name: str
    final: bool
    current: bool
    inside: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Arrow:
    """All that leads from one state to another.

    Attributes:
        source: The state's name; None for the start.
        target: The state's name.
        labels: The events with their guards, one text for each.
    """

    source: str | None
    target: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Diagram:
    """What a picture of a machine shows.

    Attributes:
        name: The machine class's name.
        states: Its states.
        reactions: What it does with which event in which state. Without those of `any_event`.
        any_event: Name of the event class that leads from any state to any other, if the machine declares no
            transitions of its own; else None.
    """

    name: str
    states: tuple[State, ...]
    reactions: tuple[Reaction, ...]
    any_event: str | None

    @property
    def arrows(self) -> tuple[Arrow, ...]:
        """What leads where; arrows with the same ends are one."""
        labels: dict[tuple[str | None, str], list[str]] = {}
        for reaction in self.reactions:
            if reaction.kind is ReactionKind.GO and reaction.target is not None:
                labels.setdefault((reaction.source, reaction.target), []).append(reaction.label)
        return tuple(Arrow(source, target, tuple(texts)) for (source, target), texts in labels.items())


def diagram_of(definition: Definition, current: object = None) -> Diagram:
    """Return what a picture of the machine shows.

    Args:
        definition: The machine's definition.
        current: The state that a machine is in, to be marked; None for a picture of the class alone.
    """
    reactions = tuple(_reactions(definition))
    states = tuple(
        State(
            node.name,
            node.final,
            node.member is current,
            tuple(
                reaction.inside
                for reaction in reactions
                if reaction.source == node.name and reaction.kind is not ReactionKind.GO
            ),
        )
        for node in definition.states.values()
    )
    any_event = TransitionRequested.__name__ if definition.any_to_any else None
    return Diagram(definition.name, states, reactions, any_event)


def _reactions(definition: Definition) -> Iterator[Reaction]:
    for node in (definition.root, *definition.states.values()):
        for event_class, choices in node.choices.items():
            for choice in choices:
                if not (definition.any_to_any and event_class is TransitionRequested):
                    yield _reaction(node, event_class, choice)


def _reaction(node: StateNode, event_class: type[Any], choice: Choice) -> Reaction:
    source = None if node.parent is None else node.name
    event = event_class.__name__
    if not isinstance(choice, Transition):
        return Reaction(source, event, "", ReactionKind.POSTPONE, None)
    if event_class is StateTimeout:
        after_s = next(timer.after_s for timer in node.timers if timer.name == choice.name)
        event = f"after {in_words(after_s)}"
    kind = ReactionKind.STAY if choice.stays else ReactionKind.GO
    return Reaction(source, event, choice.guard_name, kind, choice.target.name)
