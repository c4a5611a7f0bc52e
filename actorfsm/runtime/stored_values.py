"""Values as the journal keeps them: events and data of machines as JSON, and back.

What does not come back as it was is refused before it is stored: nobody is there to ask when it is read. What an older
version of a class has stored is read by way of its upcasts, and what does not fit even so is refused with its name.
None of this changes what is stored (C28).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakKeyDictionary

from pydantic import TypeAdapter

from actorfsm.errors import DefinitionError, SchemaMismatch
from actorfsm.event import Outcome, Spawn, StateTimeout, TransitionRequested
from actorfsm.journal.codec import fingerprint_of
from actorfsm.journal.entry import Payload
from actorfsm.machine.draft import Drafts, show_fields
from actorfsm.machine.identity import definition_id
from actorfsm.machine.machine import definition_of
from actorfsm.machine.upcasts import Lineage
from actorfsm.runtime.round_trips import RoundTrips
from actorfsm.runtime.stored_json import (
    UNWRITABLE,
    check_comes_back,
    read,
    unwritable,
    upcasted,
    upcasted_machine,
)
from actorfsm.runtime.stored_outcomes import StoredOutcomes
from actorfsm.runtime.stored_replies import StoredReplies

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from actorfsm.event import Event
    from actorfsm.journal.entry import Recorded, State, StoredTimer
    from actorfsm.journal.image import Image
    from actorfsm.machine.definition import EventSpec, StateNode
    from actorfsm.machine.machine import Machine

__all__ = ["StoredValues", "event_payload", "no_such_class", "values_of"]

K = TypeVar("K")

_NAMES: Final = TypeAdapter(dict[str, str])


def event_payload(event: Event[Any, Any], outcomes: StoredOutcomes) -> Payload:
    """Return an event as it is stored.

    Args:
        event: The event.
        outcomes: How an Outcome is stored.

    Raises:
        InvalidData: It would not come back as it was.
    """
    cls = type(event)
    if isinstance(event, TransitionRequested):
        return Payload(cls.__name__, cls.schema_version, _NAMES.dump_json({"to": event.to.name}).decode())
    if isinstance(event, Outcome):
        return outcomes.payload(event)
    try:
        text = cls.__pydantic_serializer__.to_json(event, by_alias=True).decode()
    except UNWRITABLE as error:
        raise unwritable(cls.__name__, error) from None
    if not (_ROUND_TRIPS.get(cls) or _round_trips_of(cls)).are_sure(event.__dict__):
        check_comes_back(cls.__name__, event, lambda: cls.__pydantic_validator__.validate_json(text))
    return Payload(cls.__name__, cls.schema_version, text)


_ROUND_TRIPS: Final[WeakKeyDictionary[type[BaseModel], RoundTrips]] = WeakKeyDictionary()


def _round_trips_of(cls: type[BaseModel]) -> RoundTrips:
    found = _ROUND_TRIPS[cls] = RoundTrips(cls)
    return found


class StoredValues:
    """How the values of one machine class are stored.

    Attributes:
        definition: Identity of the class's definition.
        states: Its states by name.
        lineage: The class with its older versions.
    """

    def __init__(self, machine_class: type[Machine[Any, Any]], outcomes: StoredOutcomes) -> None:
        """Read the class.

        Args:
            machine_class: The class.
            outcomes: How the Outcomes that it takes are stored.

        Raises:
            DefinitionError: Two of its event classes could be meant by what is stored.
        """
        definition = definition_of(machine_class)
        self._class: Final = machine_class
        self._name: Final = definition.name
        self._shown: Final = Drafts(machine_class).showing({})
        """An instance that shows, while they are written, the fields of one machine after the other."""
        self._round_trips: Final = RoundTrips(machine_class)
        self.definition: Final = definition_id(definition)
        self.states: Final[dict[str, StateNode]] = {node.name: node for node in definition.states.values()}
        self.lineage: Final = Lineage(machine_class)
        self.replies: Final = StoredReplies(definition)
        self._outcomes: Final = outcomes
        self._events: dict[tuple[str, int], tuple[EventSpec, Lineage]] = {}
        self._by_name: dict[str, Lineage] = {}
        for spec in definition.events.values():
            self._take(spec, Lineage(spec.event_class))

    def _take(self, spec: EventSpec, lineage: Lineage) -> None:
        for name, version in lineage.known:
            other, _ = self._events.setdefault((name, version), (spec, lineage))
            if other is not spec:
                raise DefinitionError(
                    f"{self._name} takes two event classes {name}, both of schema version {version}; with a journal "
                    f"each needs a name of its own: rename {other.name}, {spec.name} or what their upcasts say"
                )
            self._by_name.setdefault(name, lineage)
        self._by_name[spec.name] = lineage  # before one that was called so in the past

    # -- events ---------------------------------------------------------------------------------------------------

    def takes(self, payload: Payload) -> bool:
        """Return whether the class takes events of this name."""
        return payload.type in self._by_name

    def event(self, payload: Payload, where: str) -> Event[Any, Any]:
        """Return a stored event.

        Args:
            payload: As it is stored.
            where: Where it is stored, for whoever has to mend it.

        Raises:
            SchemaMismatch: The class does not take it, or it does not validate.
        """
        spec, lineage = self._events.get((payload.type, payload.version)) or (None, None)
        if spec is None or lineage is None:
            raise self._unknown(payload, where)
        if spec.event_class is TransitionRequested:
            return self._request(payload, where)
        if spec.event_class is Outcome:
            return self._outcomes.outcome(payload, where)
        if spec.event_class is Spawn:
            return Spawn()  # what is stored says more, see `spawn_data`
        text = payload.json
        if payload.version != lineage.version:
            text = upcasted(payload, lineage.steps_from(payload.version), where)
        event: Event[Any, Any] = read(
            where,
            spec.event_class,
            payload,
            lambda: spec.event_class.__pydantic_validator__.validate_json(text),
        )
        return event

    def arriving(self, payload: Payload, where: str) -> Event[Any, Any]:
        """Return a stored event on its way: also an Outcome that the class does not take, which is refused at the door.

        Raises:
            SchemaMismatch: The class does not take it, or it does not validate.
        """
        if payload.type == Outcome.__name__ and not self.takes(payload):
            return self._outcomes.outcome(payload, where)
        return self.event(payload, where)

    def event_class(self, payload: Payload) -> type[Event[Any, Any]] | None:
        """Return the class that reads such events, or None."""
        found = self._events.get((payload.type, payload.version))
        return None if found is None else found[0].event_class

    def event_classes(self) -> dict[str, type[Event[Any, Any]]]:
        """Return the event classes by the names that they have, and had."""
        return {name: lineage.cls for name, lineage in self._by_name.items()}

    def _unknown(self, payload: Payload, where: str) -> SchemaMismatch:
        name, version = payload.type, payload.version
        lineage = self._by_name.get(name)
        why = (
            f"give it a transition, or, if another class is what it was, write in that one's module @upcast(..., "
            f"from_version={version}, named={name!r})"
            if lineage is None
            else lineage.why_not(name, version)
        )
        return _mismatch(f"{where}: {self._name} does not take {name} version {version}: {why}", payload)

    def _request(self, payload: Payload, where: str) -> TransitionRequested:
        named = read(where, TransitionRequested, payload, lambda: _NAMES.validate_json(payload.json))
        return TransitionRequested(to=self.node((named["to"],), where).member)

    def is_recorded(self, event: Event[Any, Any], recorded: Recorded, where: str) -> bool:
        """Return whether an event is the one that was recorded with its id.

        Of an event that was trimmed a hash is left. That of an older version says nothing of the event in this one:
        then the class decides.

        Raises:
            SchemaMismatch: What is recorded does not fit what the code has now.
        """
        given, stored = event_payload(event, self._outcomes), recorded.event
        known = (given.type, given.version) == (recorded.event_type, recorded.event_version)
        if stored is None:
            if known:
                return fingerprint_of(given) == recorded.fingerprint
            found = self._events.get((recorded.event_type, recorded.event_version))
            return found is not None and found[0].event_class is type(event)
        if known and given.json == stored.json:
            return True
        found = self._events.get((stored.type, stored.version))
        return (
            found is not None and found[0].event_class is type(event) and self.event(stored, where) == event
        )

    # -- state and data -------------------------------------------------------------------------------------------

    def node(self, state: State, where: str) -> StateNode:
        """Return a state that is stored by its name alone, which may have been given up.

        Raises:
            SchemaMismatch: The class does not have it.
        """
        name = state[0] if len(state) == 1 else ""
        return self._node(self.lineage.states.get(name, name), state, where)

    def _node(self, name: str, stored: State, where: str) -> StateNode:
        node = self.states.get(name)
        if node is None:
            said = ", ".join(stored) or "(none)"
            led = f" ({said} when it was stored)" if name and (name,) != stored else ", which is stored"
            raise SchemaMismatch(
                f"{where}: {self._name} has no state {name or said}{led}; there are {', '.join(self.states)}. Raise "
                f"its schema_version and say what became of the state: @upcast({self._name}, from_version=..., "
                f"states={{{said!r}: ...}})",
                stored=self._name,
                version=self.lineage.version,
            )
        return node

    def machine(self, image: Image) -> tuple[StateNode, dict[str, Any]]:
        """Return state and data of a stored machine.

        Raises:
            SchemaMismatch: They do not fit what the code has now.
        """
        where, payload, lineage = (
            f"{image.machine_id} as entry {image.seq} leaves it",
            image.data,
            self.lineage,
        )
        if payload is None:
            raise SchemaMismatch(f"{where} has no data", stored=self._name)
        if (payload.type, payload.version) not in lineage.known:
            why = lineage.why_not(payload.type, payload.version)
            raise _mismatch(f"{where} is {payload.type} version {payload.version}: {why}", payload)
        name, text = image.state[0] if len(image.state) == 1 else "", payload.json
        if payload.version != lineage.version:
            steps = lineage.steps_from(payload.version)
            name, text = upcasted_machine(payload, name, steps, where)
        node = self._node(name, image.state, where)
        return node, read(where, self._class, payload, lambda: self._data(text))

    def timer(self, timer: StoredTimer, node: StateNode) -> StoredTimer | None:
        """Return a stored timer under its name of today, or None for a timeout that is no more.

        Raises:
            SchemaMismatch: The machine's state has no such timeout. It would never come.
        """
        message, event = timer.message, timer.message.event
        if event.type != StateTimeout.__name__:
            lineage = self._by_name.get(event.type)
            if timer.name == event.type and lineage is not None:
                return replace(timer, name=lineage.name)  # it has no name but that of its event's class
            return timer
        name = self.lineage.timeouts.get(timer.name, timer.name)
        if name is None:
            return None
        if all(name != own.name for own in node.timers):
            raise SchemaMismatch(
                f"{timer.machine_id} has the timeout {name} running in {node.name}, and {self._name} has no "
                f"@on_timeout of that name there. Raise its schema_version and say what became of it: "
                f"@upcast({self._name}, from_version=..., timeouts={{{timer.name!r}: ...}})",
                stored=self._name,
                version=self.lineage.version,
                machine_id=timer.machine_id,
            )
        if name == timer.name:
            return timer
        renamed = event._replace(json=_NAMES.dump_json({"name": name}).decode())
        return replace(timer, name=name, message=replace(message, event=renamed))

    def is_outdated(self, image: Image) -> bool:
        """Return whether state and data are stored in an older version, or under another name."""
        return image.data is not None and image.data[:2] != (self._name, self.lineage.version)

    def data_payload(self, data: dict[str, Any]) -> Payload:
        """Return the data of a machine as it is stored.

        Raises:
            InvalidData: It would not come back as it was.
        """
        machine = self._shown
        show_fields(machine, data)
        try:
            text = self._class.__pydantic_serializer__.to_json(machine, by_alias=False).decode()
        except UNWRITABLE as error:
            raise unwritable(self._name, error) from None
        finally:
            show_fields(machine, {})
        if not self._round_trips.are_sure(data):
            check_comes_back(self._name, data, lambda: self._data(text))
        return Payload(self._name, self.lineage.version, text)

    def _data(self, text: str) -> dict[str, Any]:
        validator = self._class.__pydantic_validator__
        fields: dict[str, Any] = validator.validate_json(text, by_alias=False, by_name=True).__dict__
        return fields


def values_of(
    classes: Mapping[K, type[Machine[Any, Any]]],
) -> tuple[dict[K, StoredValues], dict[str, K], StoredOutcomes]:
    """Return how the values of each class are stored, whose each name is that one has or had, and how Outcomes are.

    Raises:
        DefinitionError: Two classes could be meant.
    """
    outcomes = StoredOutcomes()
    values = {key: StoredValues(machine_class, outcomes) for key, machine_class in classes.items()}
    readers = _readers_of(values)
    outcomes.know({name: values[key] for name, key in readers.items()})
    return values, readers, outcomes


def _readers_of(values: Mapping[K, StoredValues]) -> dict[str, K]:
    found: dict[str, K] = {}
    for key, of_class in values.items():
        for name in of_class.lineage.names:
            other = found.setdefault(name, key)
            if other is not key:
                raise DefinitionError(
                    f"{name} is stored of machines of two classes, {values[other].lineage.name} and "
                    f"{of_class.lineage.name}; with a journal each needs a name of its own: rename one, or mend the "
                    "named= of their upcasts"
                )
    return found


def no_such_class(machine_id: str, name: str) -> SchemaMismatch:
    """Return the error for a stored machine whose class is not there."""
    return SchemaMismatch(
        f"{machine_id} is a {name}, and the system has no such class: give it to ActorSystem; if another class is what "
        f"it was, write @upcast(..., from_version=1, named={name!r}) for that one",
        stored=name,
        machine_id=machine_id,
    )


def _mismatch(message: str, payload: Payload) -> SchemaMismatch:
    return SchemaMismatch(message, stored=payload.type, version=payload.version)
