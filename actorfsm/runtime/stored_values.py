"""Values as the journal keeps them: events, replies and data of machines as JSON, and back.

What does not come back as it was is refused before it is stored: nobody is there to ask when it is read (C28).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from actorfsm.errors import DefinitionError, InvalidData, Unsupported
from actorfsm.event import Outcome, TransitionRequested
from actorfsm.journal.entry import Payload
from actorfsm.machine.identity import definition_id
from actorfsm.problems import problems_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from actorfsm.event import Event
    from actorfsm.machine.definition import EventSpec, StateNode
    from actorfsm.runtime.kind import Kind

__all__ = ["StoredValues", "event_payload"]

_VERSION: Final = 1
"""Of all schemas, until they can say theirs."""


def event_payload(event: Event[Any, Any]) -> Payload:
    """Return an event as it is stored.

    Raises:
        InvalidData: It would not come back as it was.
        Unsupported: It is of a kind that is not stored yet.
    """
    cls = type(event)
    if isinstance(event, TransitionRequested):
        return Payload(cls.__name__, _VERSION, _state_request(event))
    if isinstance(event, Outcome):
        raise Unsupported("an Outcome is not stored yet: leave reply_to= away where there is a journal")
    validator = cls.__pydantic_validator__
    text = _dumped(cls.__name__, lambda: cls.__pydantic_serializer__.to_json(event, by_alias=True))
    _check_comes_back(cls.__name__, event, lambda: validator.validate_json(text))
    return Payload(cls.__name__, _VERSION, text)


def _state_request(event: TransitionRequested) -> str:
    return TypeAdapter(dict[str, str]).dump_json({"to": event.to.name}).decode()


class StoredValues:
    """How the values of one machine class are stored.

    Attributes:
        definition: Identity of the class's definition.
        states: Its states by name.
    """

    def __init__(self, kind: Kind) -> None:
        self._kind: Final = kind
        self.definition: Final = definition_id(kind.definition)
        self.states: Final[dict[str, StateNode]] = {
            node.name: node for node in kind.definition.states.values()
        }
        self._events: dict[str, EventSpec] = {}
        self._replies: dict[type[Any], TypeAdapter[Any]] = {}
        for spec in kind.events.values():
            known = self._events.setdefault(spec.name, spec)
            if known is not spec:
                raise DefinitionError(
                    f"{kind.name} takes two event classes {spec.name}; with a journal each needs a name of its own"
                )

    # -- state ----------------------------------------------------------------------------------------------------

    def node(self, state: tuple[str, ...]) -> StateNode:
        """Return a stored state.

        Raises:
            InvalidData: The class does not have it.
        """
        node = self.states.get(state[0]) if len(state) == 1 else None
        if node is None:
            raise InvalidData(
                f"{self._kind.name} has no state {', '.join(state) or '(none)'}, which is stored"
            )
        return node

    # -- events ---------------------------------------------------------------------------------------------------

    def takes(self, payload: Payload) -> bool:
        """Return whether the class takes such events."""
        return payload.type in self._events

    def event(self, payload: Payload) -> Event[Any, Any]:
        """Return a stored event.

        Raises:
            InvalidData: The class does not take it, or it no longer validates.
        """
        spec = self._events.get(payload.type)
        if spec is None or payload.version != _VERSION:
            raise InvalidData(
                f"{self._kind.name} does not take {payload.type} version {payload.version}, which is stored"
            )
        if spec.event_class is TransitionRequested:
            return self._request(payload)
        event: Event[Any, Any] = _read(
            payload.type, lambda: spec.event_class.__pydantic_validator__.validate_json(payload.json)
        )
        return event

    def _request(self, payload: Payload) -> TransitionRequested:
        named = _read(payload.type, lambda: TypeAdapter(dict[str, str]).validate_json(payload.json))
        return TransitionRequested(to=self.node((named["to"],)).member)

    # -- data -----------------------------------------------------------------------------------------------------

    def data_payload(self, data: dict[str, Any]) -> Payload:
        """Return the data of a machine as it is stored.

        Raises:
            InvalidData: It would not come back as it was.
        """
        kind = self._kind
        cls = kind.machine_class
        machine = kind.drafts.showing(data)
        text = _dumped(kind.name, lambda: cls.__pydantic_serializer__.to_json(machine, by_alias=False))
        _check_comes_back(kind.name, data, lambda: self._data(text))
        return Payload(kind.name, _VERSION, text)

    def data(self, payload: Payload) -> dict[str, Any]:
        """Return stored data.

        Raises:
            InvalidData: It no longer validates.
        """
        if payload.version != _VERSION:
            raise InvalidData(f"the data of {self._kind.name} is stored in version {payload.version}")
        fields: dict[str, Any] = _read(self._kind.name, lambda: self._data(payload.json))
        return fields

    def _data(self, text: str) -> dict[str, Any]:
        validator = self._kind.machine_class.__pydantic_validator__
        fields: dict[str, Any] = validator.validate_json(text, by_alias=False, by_name=True).__dict__
        return fields

    # -- replies --------------------------------------------------------------------------------------------------

    def reply_payload(self, event: Event[Any, Any], reply: Any) -> Payload | None:
        """Return a reply as it is stored; None for none.

        Raises:
            InvalidData: It would not come back as it was.
        """
        if reply is None:
            return None
        adapter, name = self._reply(type(event)), type(event).__name__
        text = _dumped(f"the reply to {name}", lambda: adapter.dump_json(reply, by_alias=True))
        _check_comes_back(f"the reply to {name}", reply, lambda: adapter.validate_json(text))
        return Payload(type(reply).__name__, _VERSION, text)

    def reply(self, event: Event[Any, Any], payload: Payload | None) -> Any:
        """Return a stored reply.

        Raises:
            InvalidData: It no longer validates.
        """
        if payload is None:
            return None
        if payload.version != _VERSION:
            raise InvalidData(f"the reply to {type(event).__name__} is stored in version {payload.version}")
        adapter = self._reply(type(event))
        return _read(f"the reply to {type(event).__name__}", lambda: adapter.validate_json(payload.json))

    def _reply(self, event_class: type[Any]) -> TypeAdapter[Any]:
        adapter = self._replies.get(event_class)
        if adapter is None:
            adapter = self._replies[event_class] = TypeAdapter(
                self._kind.events[event_class].reply.annotation
            )
        return adapter


def _dumped(what: str, dump: Callable[[], bytes]) -> str:
    try:
        return dump().decode()
    except (PydanticSerializationError, UnicodeError, ValueError, TypeError) as error:
        raise InvalidData(
            f"{what} cannot be stored: {type(error).__name__} when it was written as JSON"
        ) from None


def _check_comes_back(what: str, value: Any, read: Callable[[], Any]) -> None:
    try:
        again = read()
    except ValidationError as error:
        raise InvalidData(
            f"{what} cannot be stored, because it could not be read again: {problems_of(error)}"
        ) from None
    if again != value:
        raise InvalidData(f"{what} cannot be stored, because it would not be the same when it is read again")


def _read(what: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except ValidationError as error:
        raise InvalidData(f"what is stored of {what} no longer validates: {problems_of(error)}") from None
