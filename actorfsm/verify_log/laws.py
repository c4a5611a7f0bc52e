"""Laws: what the log of one machine class may say, read from its definition, by the names that stand in a log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from actorfsm.event import StateTimeout, TransitionRequested
from actorfsm.machine.definition import Postponed, Transition
from actorfsm.shown import shown
from actorfsm.sinks.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from actorfsm.machine.definition import Choice, Definition, StateNode, Step
    from actorfsm.trace import Record

__all__ = ["Illegal", "Law", "Reaction", "check_names", "check_reaction", "law_of"]


class Illegal(Exception):
    """A record contradicts the definition, or what the log said before; the text says why."""


_SELECTIVE: Final = frozenset({TransitionRequested.__name__, StateTimeout.__name__})
"""Events that say which edge they take: a guard of the library's own stands before the user's."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """What may become of an event in a state.

    Attributes:
        targets: The states that it may lead to.
        taken: Whether a transition without a guard takes it, so that it cannot be unhandled.
        postponed: Whether it is postponed if no transition takes it.
        guarded: Whether a guard could refuse or fail.
        afters: By target, the names of the after-hooks that hold the machine.
        detached: By target, the names of those that do not.
    """

    targets: frozenset[str] = frozenset()
    taken: bool = False
    postponed: bool = False
    guarded: bool = False
    afters: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    detached: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])


_NOTHING: Final = Reaction()
"""Of an event for which the state has no choice."""


@dataclass(frozen=True, slots=True)
class Law:
    """What the log of one machine class may say.

    Attributes:
        name: The class's name.
        states: The names of its states.
        finals: Those in which its life ends.
        events: The names of its event classes.
        postponable: Those that are postponed in some state.
        reactions: By state and event class; the state is None before birth.
        remembered: How many explicit event ids a machine remembers.
    """

    name: str
    states: frozenset[str]
    finals: frozenset[str]
    events: frozenset[str]
    postponable: frozenset[str]
    reactions: dict[tuple[str | None, str], Reaction]
    remembered: int

    def reaction(self, record: Record) -> Reaction:
        """Return what may become of the record's event in its state."""
        return self.reactions.get((record.source, record.event_type), _NOTHING)

    def allowed(self, state: str | None) -> str:
        """Return the names of the event classes that have a choice in the state, for a message."""
        names = [event for source, event in self.reactions if source == state]
        return ", ".join(names) or "nothing"


def law_of(definition: Definition) -> Law:
    """Read a definition."""
    choices: dict[tuple[str | None, str], list[Choice]] = {}
    for node in (definition.root, *definition.states.values()):
        for event_class, found in node.choices.items():
            # Two event classes may have one name; the log does not tell them apart.
            choices.setdefault((_text(node), event_class.__name__), []).extend(found)
    nodes = definition.states.values()
    reactions = {key: _reaction(found, len(nodes), key[1]) for key, found in choices.items()}
    return Law(
        name=one_line(definition.name),
        states=frozenset(one_line(node.name) for node in nodes),
        finals=frozenset(one_line(node.name) for node in nodes if node.final),
        events=frozenset(event_class.__name__ for event_class in definition.events),
        postponable=frozenset(
            event for (_, event), found in choices.items() if any(isinstance(c, Postponed) for c in found)
        ),
        reactions=reactions,
        remembered=definition.options.remembered_ids,
    )


def _text(node: StateNode) -> str | None:
    return None if node.parent is None else one_line(node.name)


def _reaction(choices: list[Choice], states: int, event: str) -> Reaction:
    edges = [choice for choice in choices if isinstance(choice, Transition)]
    free = [edge for edge in edges if _guard_of(edge, event) is None]
    # A request takes the edge to its state, a timeout that of its name: all of them must be there, without a guard.
    if event == StateTimeout.__name__:
        taken = len(free) == len(edges)
    else:
        taken = len({edge.target.name for edge in free}) >= (states if event in _SELECTIVE else 1)
    return Reaction(
        targets=frozenset(one_line(edge.target.name) for edge in edges),
        taken=taken,
        postponed=any(isinstance(choice, Postponed) for choice in choices),
        guarded=len(free) < len(edges),
        afters={one_line(edge.target.name): _names(edges, edge, "afters") for edge in edges},
        detached={one_line(edge.target.name): _names(edges, edge, "detached") for edge in edges},
    )


def _guard_of(edge: Transition, event: str) -> Any:
    if event in _SELECTIVE:
        return getattr(edge.guard, "__wrapped__", None)
    return edge.guard


def _names(edges: Iterable[Transition], like: Transition, kind: str) -> frozenset[str]:
    """Return the names of the after-hooks of all edges with the same target."""
    steps: list[Step] = [step for edge in edges if edge.target is like.target for step in getattr(edge, kind)]
    return frozenset(one_line(step.name) for step in steps)


# -- the checks


def check_names(law: Law, record: Record) -> None:
    """Check that the definition knows what the record names.

    Raises:
        Illegal: It does not.
    """
    if record.event_type not in law.events:
        raise Illegal(f"a {law.name} has no event {shown(record.event_type) or 'without a name'}")
    if not record.event_id:
        raise Illegal("no event_id")
    for state in (record.source, record.target):
        if state is not None and state not in law.states:
            raise Illegal(f"a {law.name} has no state {shown(state)}")


def check_reaction(law: Law, record: Record) -> None:
    """Check that the definition lets an event end so in this state.

    Raises:
        Illegal: It does not.
    """
    name, target, event = record.name, record.target, record.event_type
    reaction = law.reaction(record)
    if target is not None:
        if name in {"unhandled", "expired"}:
            raise Illegal(f"leads to {target}, but no transition was chosen")
        if target not in reaction.targets:
            where = "a birth" if record.source is None else record.source
            ends = " which is final" if record.source in law.finals else ""
            raise Illegal(
                f"{event} leads from {where}{ends} to {target}, which the definition does not say"
                if reaction.targets
                else f"{event} leads nowhere from {where}{ends}; there it takes {law.allowed(record.source)}"
            )
    elif name == "committed":
        raise Illegal("committed, but leads to no state")
    elif name in {"vetoed", "failed"} and not reaction.guarded:
        raise Illegal(f"{event} was {name} by a guard, but has none in {record.source}")
    elif name == "unhandled" and reaction.taken and not _answered_at_the_end(law, record):
        raise Illegal(f"{event} is unhandled, but a transition without a guard takes it in {record.source}")
    elif name == "unhandled" and reaction.postponed and not _comes_from_a_timer(record):
        raise Illegal(f"{event} is unhandled, but is postponed in {record.source}")


def _answered_at_the_end(law: Law, record: Record) -> bool:
    """Return whether it may have been postponed when the machine came to its end (C18)."""
    return record.source in law.finals and record.event_type in law.postponable


def _comes_from_a_timer(record: Record) -> bool:
    """Return whether a timer may have sent it: such an event is not postponed (C20)."""
    cause = record.causation_id
    # A long id is cut after 40 characters, and ends in a hash (`derive_id`).
    return cause is not None and record.event_id.startswith(f"{cause}/timer/"[:40])
