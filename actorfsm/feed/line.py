"""A line: what one line of a log must say to be an event, or the birth of a machine.

Nothing of a line is trusted, and nothing of it is printed as it is. What is wrong with it is a `BadLine` that says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic_core import from_json

from actorfsm.errors import ActorFSMError, InvalidEvent
from actorfsm.event import Event, Outcome, Spawn, StateTimeout, Terminated, TransitionRequested
from actorfsm.feed.log import MAX_LINE_BYTES
from actorfsm.ids import check_event_id, check_machine_id
from actorfsm.machine.machine import definition_of
from actorfsm.shown import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from enum import Enum

    from actorfsm.machine.machine import Machine

__all__ = ["BadLine", "Line", "LineReader"]

_KEYS: Final = ("machine_id", "event", "spawn", "data", "event_id", "headers", "at")
_OF_THE_RUNTIME: Final = frozenset({Spawn, StateTimeout, Terminated, Outcome})


class BadLine(ActorFSMError):
    """A line that is no event; its text says why."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is an event, or the birth of a machine.

    Attributes:
        number: Its number, from 1.
        machine_id: The machine that it is for.
        event: The event; None where a machine is to be spawned.
        spawn: The class of that machine, or None.
        data: What it is born with.
        event_id: The event's id as the line has it, or None.
        headers: Its headers.
        at: When it is to be sent, or None for at once.
    """

    number: int
    machine_id: str
    event: Event[Any, Any] | None = None
    spawn: type[Machine[Any, Any]] | None = None
    data: Mapping[str, Any] | None = None
    event_id: str | None = None
    headers: Mapping[str, str] | None = None
    at: datetime | None = None


class LineReader:
    """Reads lines for a system.

    Args:
        machines: The machine classes of the system.
    """

    def __init__(self, machines: Iterable[type[Machine[Any, Any]]]) -> None:
        self._machines = {definition_of(machine).name: machine for machine in machines}
        self._events: dict[str, list[type[Event[Any, Any]]]] = {}
        self._states: list[type[Enum]] = []
        for machine in self._machines.values():
            definition = definition_of(machine)
            for event_class, spec in definition.events.items():
                if event_class is TransitionRequested:
                    self._states.append(definition.state_class)
                known = self._events.setdefault(spec.name, [])
                if event_class not in _OF_THE_RUNTIME and event_class not in known:
                    known.append(event_class)

    def read(self, number: int, text: bytes) -> Line:
        """Read one line.

        Raises:
            BadLine: It is neither an event nor a birth.
        """
        fields = _object(text)
        for key in fields:
            if key not in _KEYS:
                raise BadLine(f"{shown(key)!r} is no key of a line: the fields of the event stand in data")
        try:
            machine_id = check_machine_id(fields.get("machine_id"))
            event_id = fields.get("event_id")
            event_id = None if event_id is None else check_event_id(event_id)
        except InvalidEvent as error:
            raise BadLine(str(error)) from None
        spawn, event, given = None, None, fields.get("data", {})
        if not isinstance(given, dict):
            raise BadLine("data is not a JSON object")
        data = cast("dict[str, Any]", given)
        if "spawn" in fields:
            spawn = self._machine(fields)
        else:
            event = self._event(fields.get("event"), data)
        headers, at = _headers(fields.get("headers")), _time(fields.get("at"))
        return Line(number, machine_id, event, spawn, data, event_id, headers, at)

    def _machine(self, fields: dict[str, Any]) -> type[Machine[Any, Any]]:
        if "event" in fields:
            raise BadLine("a line has an event or spawn, not both")
        name = fields["spawn"]
        if not isinstance(name, str) or name not in self._machines:
            raise BadLine(
                f"the system has no machine class {shown(name)}; it has {', '.join(self._machines)}"
            )
        return self._machines[name]

    def _event(self, name: object, data: dict[str, Any]) -> Event[Any, Any]:
        if not isinstance(name, str):
            raise BadLine("no event: name its class" if name is None else "event is not a string")
        classes = self._events.get(name, [])
        if len(classes) != 1:
            takes = ", ".join(sorted(name for name, known in self._events.items() if known))
            raise BadLine(
                f"two event classes of the system are called {name}: rename one"
                if classes
                else f"no machine takes {shown(name)}; they take {shown(takes, 400)}"
            )
        if classes[0] is TransitionRequested:
            return self._request(data)
        try:
            return classes[0].from_fields(data)
        except InvalidEvent as error:
            raise BadLine(shown(str(error), 400)) from None

    def _request(self, data: dict[str, Any]) -> Event[Any, Any]:
        """Return a request to go to a state, which stands in the line by its name."""
        name = data.get("to")
        found = [
            states[name] for states in self._states if isinstance(name, str) and name in states.__members__
        ]
        if len(found) != 1 or len(data) != 1:
            raise BadLine(
                "TransitionRequested has one field, to: the name of a state that one class of machines has"
            )
        return TransitionRequested(to=found[0])


def _object(text: bytes) -> dict[str, Any]:
    if len(text) > MAX_LINE_BYTES:
        raise BadLine(f"longer than {MAX_LINE_BYTES:,} bytes")
    try:
        value: Any = from_json(text, allow_inf_nan=False)
    except ValueError as error:  # not JSON, not UTF-8, nested too deep
        raise BadLine(f"not JSON: {shown(str(error), 200)}") from None
    if type(value) is not dict:
        raise BadLine(f"not a JSON object but {type(value).__name__}")
    return cast("dict[str, Any]", value)


def _headers(given: object) -> dict[str, str] | None:
    if given is None:
        return None
    headers = cast("dict[str, Any]", given)
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise BadLine("headers is not a JSON object of strings")
    return headers


def _time(given: object) -> datetime | None:
    if given is None:
        return None
    try:
        at = datetime.fromisoformat(cast("str", given))
    except (TypeError, ValueError):
        at = None
    if at is None or at.tzinfo is None:
        raise BadLine("at is not a time with its offset, such as 2026-01-31T12:00:00Z")
    return at
