"""The outbox: events that the user stores with rows of their own, in their own transaction, and that are told after it.

Where they are stored is the business of an integration. This is the seam: what a ref needs to put an event there, and
what brings a stored one in. It is told durably where there is a journal, with its own id, so that it is applied once,
however often it is brought.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol
from uuid import uuid4

from typing_extensions import TypeVar

from actorfsm.errors import InvalidEvent
from actorfsm.event import Outcome
from actorfsm.ids import check_event_id, check_machine_id
from actorfsm.journal.entry import Message
from actorfsm.machine.machine import definition_of
from actorfsm.runtime.stored_outcomes import StoredOutcomes
from actorfsm.runtime.stored_values import event_payload, no_such_class, values_of

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from actorfsm.event import Event
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.receipt import Receipt

__all__ = ["Delivery", "OnSession", "Outbox", "Told"]

MachineT = TypeVar("MachineT", default=Any, covariant=True)


class Outbox(Protocol):
    """Where events are stored beside the user's rows."""

    def put(self, session: Any, machine_id: str, machine: str, message: Message) -> None:
        """Store an event with what else the session stores."""
        ...


class Told:
    """An event that is stored when the session commits. To await it is optional.

    Attributes:
        event_id: The event's id.
    """

    __slots__ = ("event_id",)

    def __init__(self, event_id: str) -> None:
        self.event_id = event_id

    def __await__(self) -> Generator[Any, None, Told]:
        """Return at once: what is left to do is the session's commit."""
        yield from ()
        return self

    def __repr__(self) -> str:
        return f"<Told {self.event_id}>"


class OnSession(Generic[MachineT]):
    """A ref as it is used in the user's own transaction."""

    __slots__ = ("_machine_class", "_machine_id", "_outbox", "_session")

    def __init__(self, outbox: Outbox, session: Any, machine_id: str, machine_class: type[Any]) -> None:
        self._outbox = outbox
        self._session = session
        self._machine_id = check_machine_id(machine_id)
        self._machine_class = machine_class

    def tell(
        self,
        event: Event[Any, MachineT],
        *,
        event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Told:
        """Store an event with the session's rows: it is told after the commit, and never if there is none.

        It may be called in any thread, as the session may.

        Args:
            event: The event.
            event_id: The caller's own id; by default one of its own. The machine applies it once.
            headers: As for `Ref.tell`.

        Raises:
            InvalidEvent: The machine does not take this event class, or an id or header is malformed.
            InvalidData: The event would not come back as it was.
        """
        definition = definition_of(self._machine_class)
        if type(event) not in definition.events or isinstance(event, Outcome):
            raise InvalidEvent(
                f"{definition.name} takes no {type(event).__name__}", machine_id=self._machine_id, event=event
            )
        pairs: tuple[tuple[Any, Any], ...] = tuple((headers or {}).items())
        if not all(isinstance(name, str) and isinstance(value, str) for name, value in pairs):
            raise InvalidEvent("headers are strings", machine_id=self._machine_id, event=event)
        told = Told(uuid4().hex if event_id is None else check_event_id(event_id))
        message = Message(
            event=event_payload(event, StoredOutcomes()),
            event_id=told.event_id,
            headers=pairs,
            has_own_id=True,
        )
        self._outbox.put(self._session, self._machine_id, definition.name, message)
        return told


class Delivery:
    """Brings stored events into a system."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        classes = {kind: kind.machine_class for kind in parts.registry.kinds.values()}
        self._values, self._readers, _ = values_of(classes)

    async def deliver(self, machine_id: str, machine: str, message: Message) -> Receipt:
        """Tell a stored event; return once it need not be kept any more: it is in the journal, or has its outcome.

        Raises:
            SchemaMismatch: The event or its machine's class is not known any more.
            ActorFSMError: It was refused, see `Receipt.accepted`.
        """
        kind = self._readers.get(machine)
        if kind is None:
            raise no_such_class(machine_id, machine)
        event = self._values[kind].event(message.event, f"an event in the outbox for {machine_id}")
        is_durable = self._parts.has_journal
        receipt = self._parts.door.tell(
            machine_id,
            event,
            event_id=message.event_id,
            headers=dict(message.headers) or None,
            durable=True if is_durable else None,
        )
        await receipt.accepted()
        if not is_durable:
            await receipt.outcome()
        return receipt
