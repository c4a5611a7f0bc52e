"""The rules of the check. Each says what is so for the classes that it is shown, and nothing that only might be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actorfsm.check.findings import Finding, Level
from actorfsm.clock import in_words
from actorfsm.event import Spawn, StateTimeout, Terminated, TransitionRequested
from actorfsm.machine.definition import Postponed, Transition

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from actorfsm.check.calls import Call
    from actorfsm.machine.definition import Definition, StateNode

__all__ = ["check_machines"]

_OF_THE_RUNTIME = (Spawn, StateTimeout, TransitionRequested)


def check_machines(calls: Mapping[Definition, Sequence[Call]]) -> Iterator[Finding]:
    """Check the machines of a system together.

    Args:
        calls: By machine, what its methods send.

    Yields:
        What was found, machine by machine.
    """
    for definition, sent in calls.items():
        yield from _totality(definition)
        yield from _postponed_for_ever(definition)
        yield from _timeouts_that_never_come(definition)
        yield from _sent_to_itself(definition, sent)
        yield from _watches(definition, sent)
        yield from _told_to_nobody(definition, sent, list(calls))
        yield from _final_states(definition)
    yield from _ask_cycles(calls)


def _totality(definition: Definition) -> Iterator[Finding]:
    """Of each state and each event it is said what becomes of it: handled, postponed or refused."""
    births_only = definition.births - {cls for node in definition.states.values() for cls in node.choices}
    for node in definition.states.values():
        if node.final or definition.any_to_any:
            continue
        silent = tuple(
            event_class.__name__
            for event_class in definition.events
            if event_class not in (*_OF_THE_RUNTIME, *births_only, *node.choices, *node.refused)
        )
        if silent:
            yield Finding(
                Level.NOTE,
                "not-total",
                definition.name,
                f"{node.name} does not say what becomes of {', '.join(silent)}: it is Unhandled there. If that is "
                f"meant, say @refuse({node.name})",
                state=node.name,
                events=silent,
            )


def _postponed_for_ever(definition: Definition) -> Iterator[Finding]:
    """What is postponed is handled in some state that can come."""
    for node in definition.states.values():
        for event_class, choices in node.choices.items():
            if not any(isinstance(choice, Postponed) for choice in choices):
                continue
            if not any(_handles(later, event_class) for later in _reachable([node])):
                yield Finding(
                    Level.WRONG,
                    "postponed-for-ever",
                    definition.name,
                    f"{node.name} postpones {event_class.__name__}, and no state that can come after it handles that",
                    state=node.name,
                    events=(event_class.__name__,),
                )


def _timeouts_that_never_come(definition: Definition) -> Iterator[Finding]:
    """No timeout of a state is always overtaken by another one that leaves the state."""
    for node in definition.states.values():
        edges = {
            edge.name: edge for edge in node.choices.get(StateTimeout, ()) if isinstance(edge, Transition)
        }
        leaving = [
            timer for timer in node.timers if not edges[timer.name].guard_name and not edges[timer.name].stays
        ]
        for timer in node.timers:
            first = min(leaving, key=lambda other: other.after_s, default=timer)
            if first.after_s < timer.after_s:
                yield Finding(
                    Level.WRONG,
                    "unreachable-timeout",
                    definition.name,
                    f"{timer.name} cannot run: after {in_words(first.after_s)} {first.name} has left {node.name}, and "
                    f"{timer.name} waits {in_words(timer.after_s)}",
                    state=node.name,
                )


def _sent_to_itself(definition: Definition, sent: Sequence[Call]) -> Iterator[Finding]:
    """What a machine sends to itself, by a timer, a job or at once, is handled in a state in which it can arrive."""
    says = {
        "start_timer": ("timer-without-handler", "starts a timer for"),
        "start_job": ("job-without-handler", "starts a job that ends with"),
        "next_event": ("raised-without-handler", "raises"),
    }
    for call in sent:
        if call.verb not in says or call.event is None:
            continue
        rule, what = says[call.verb]
        if not any(_takes(node, call.event) for node in definition.states.values()):
            text = f"{call.method} {what} {call.event.__name__}, which no state takes"
            name = call.event.__name__
            yield Finding(Level.WRONG, rule, definition.name, text, events=(name,), where=call.where)
            continue
        for target in _targets(definition, call.method):
            at_once = call.verb == "next_event"
            later = [target] if at_once else list(_reachable([target]))
            takes = _takes if at_once else _handles
            if target.final or any(takes(node, call.event) for node in later):
                continue
            yield Finding(
                Level.WRONG,
                rule,
                definition.name,
                f"{call.method} {what} {call.event.__name__} on the way to {target.name}, "
                + ("which does not take it" if at_once else "from where no state handles it"),
                state=target.name,
                events=(call.event.__name__,),
                where=call.where,
            )


def _watches(definition: Definition, sent: Sequence[Call]) -> Iterator[Finding]:
    """A machine that watches handles `Terminated`, and the other way round."""
    watches = [call for call in sent if call.verb == "watch"]
    handled = Terminated in definition.events
    if watches and not handled:
        yield Finding(
            Level.WRONG,
            "watch-without-handler",
            definition.name,
            f"{watches[0].method} watches, and no state handles Terminated",
            events=("Terminated",),
            where=watches[0].where,
        )
    if handled and not watches:
        yield Finding(
            Level.DOUBT,
            "handler-without-watch",
            definition.name,
            "handles Terminated, and no method of it calls self.watch",
            events=("Terminated",),
        )


def _told_to_nobody(
    definition: Definition, sent: Sequence[Call], machines: Sequence[Definition]
) -> Iterator[Finding]:
    """What is told or asked is an event that one of the machines takes."""
    taken = {event_class for machine in machines for event_class in machine.events}
    for call in sent:
        if call.verb in {"tell", "ask"} and call.event is not None and call.event not in taken:
            yield Finding(
                Level.DOUBT,
                "nobody-takes-it",
                definition.name,
                f"{call.method} {call.verb}s {call.event.__name__}, which none of the machines that were checked takes",
                events=(call.event.__name__,),
                where=call.where,
            )


def _final_states(definition: Definition) -> Iterator[Finding]:
    """A final state that still takes events."""
    for node in definition.states.values():
        events = tuple(event_class.__name__ for event_class in node.choices)
        if node.final and events:
            yield Finding(
                Level.NOTE,
                "final-takes-events",
                definition.name,
                f"{node.name} is final and still takes {', '.join(events)}",
                state=node.name,
                events=events,
            )


def _ask_cycles(calls: Mapping[Definition, Sequence[Call]]) -> Iterator[Finding]:
    """Classes whose machines ask one another in a circle: two that do so at once cannot both be answered."""
    asks: dict[Definition, dict[Definition, Call]] = {definition: {} for definition in calls}
    for definition, sent in calls.items():
        for call in sent:
            if call.verb == "ask" and call.event is not None:
                for asked in calls:
                    if call.event in asked.events:
                        asks[definition].setdefault(asked, call)
    found: set[frozenset[str]] = set()
    for start in calls:
        for circle in _circles(asks, start):
            names = frozenset(definition.name for definition in circle)
            if names in found:
                continue
            found.add(names)
            steps = [
                f"{one.name}.{asks[one][other].method} asks {other.name}"
                for one, other in zip(circle, [*circle[1:], circle[0]], strict=True)
            ]
            yield Finding(
                Level.DOUBT,
                "ask-cycle",
                start.name,
                f"{', '.join(steps)}: machines that ask one another at the same time get AskCycle; let one tell "
                "instead",
                where=asks[start][circle[1] if len(circle) > 1 else start].where,
            )


def _circles(
    asks: Mapping[Definition, Mapping[Definition, Any]], start: Definition
) -> Iterator[list[Definition]]:
    """Yield the shortest circle through each edge that leaves a machine."""
    for first in asks[start]:
        paths, seen = [[start, first]], {first}
        while paths:
            path = paths.pop(0)
            if path[-1] is start:
                yield path[:-1]
                break
            for following in asks[path[-1]]:
                if following is start or following not in seen:
                    seen.add(following)
                    paths.append([*path, following])


# -- walking the definition -------------------------------------------------------------------------------------------


def _targets(definition: Definition, method: str) -> list[StateNode]:
    """Return where a machine is after the turns in which a method runs; nowhere, if only other methods call it."""
    found: dict[int, StateNode] = {}
    for node in (definition.root, *definition.states.values()):
        for edge in _edges(node):
            steps = (*edge.steps, *edge.afters, *edge.detached)
            if any(step.name == method for step in steps):
                found[id(edge.target)] = edge.target
    return list(found.values())


def _reachable(nodes: list[StateNode]) -> Iterator[StateNode]:
    """Yield states, and all that can come after them."""
    seen = {id(node) for node in nodes}
    frontier = list(nodes)
    while frontier:
        node = frontier.pop()
        yield node
        for edge in _edges(node):
            if id(edge.target) not in seen:
                seen.add(id(edge.target))
                frontier.append(edge.target)


def _edges(node: StateNode) -> Iterator[Transition]:
    for choices in node.choices.values():
        for choice in choices:
            if isinstance(choice, Transition):
                yield choice


def _handles(node: StateNode, event_class: type[Any]) -> bool:
    return any(isinstance(choice, Transition) for choice in node.choices.get(event_class, ()))


def _takes(node: StateNode, event_class: type[Any]) -> bool:
    return event_class in node.choices
