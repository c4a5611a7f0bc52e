"""A machine class as a resource of HTTP: what can be done with it, as pydantic models, without any framework.

The event model is the body of a request and the reply model that of the response. A field that the class keeps out of
its repr can be given at the birth and is never shown.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, create_model

from actorfsm.errors import DefinitionError, NoSuchMachine
from actorfsm.event import Event, Outcome, Spawn, StateTimeout, Terminated, TransitionRequested
from actorfsm.ids import check_machine_id
from actorfsm.machine.machine import definition_of
from actorfsm.runtime.transitions import TransitionEntry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from actorfsm.clock import Duration
    from actorfsm.integrations.http import EventAddress
    from actorfsm.journal.entry import Entry
    from actorfsm.machine.machine import Machine
    from actorfsm.runtime.system import ActorSystem

__all__ = ["MAX_HISTORY", "MAX_SEQ", "Happened", "History", "Resource", "happened", "the_one"]

MAX_HISTORY: Final = 1_000
"""Entries of one page of a history."""
MAX_SEQ: Final = 2**53 - 1
"""The greatest number of an entry that every client can read."""
_OF_THE_RUNTIME: Final = (Outcome, Spawn, StateTimeout, Terminated, TransitionRequested)


class Happened(BaseModel):
    """What happened to a machine: an entry of its journal, or the end of an event where there is none.

    Attributes:
        seq: Its number at this machine; without a journal how many transitions the machine had committed then.
        at: When (UTC).
        kind: committed, or what else: vetoed, unhandled, failed, expired, postponed, restarted, quarantined, ...
        event: Name of the event's class.
        event_id: Its id.
        source: State before, by name.
        target: State from then on, by name.
        reason: Why not, in words.
    """

    model_config = ConfigDict(frozen=True)

    seq: int
    at: datetime
    kind: str
    event: str | None = None
    event_id: str | None = None
    source: str | None = None
    target: str | None = None
    reason: str = ""


class History(BaseModel):
    """A page of a machine's history, the oldest first.

    Attributes:
        entries: What happened.
        next: What to give as `after` for the next page; None if this is the last.
    """

    entries: list[Happened]
    next: int | None = None


class Resource:
    """One machine class, to be served.

    Args:
        machine_class: The class.
        events: Which of its events may be sent from outside; all that it declares by default.
        timeout: Deadline of an event, seconds or timedelta; the system's own by default.

    Attributes:
        name: Name of the class.
        events: The event classes by name.
        replies: The annotations of their replies by name; None where there is none.
        data: Model of the data that a machine is created with.
        given: The same, or None where all of it has defaults.
        snapshot: Model of what is shown of a machine.
        can_spawn: Whether machines are created without an event.

    Raises:
        DefinitionError: The class cannot live, or does not take an event that was named.
    """

    def __init__(
        self,
        machine_class: type[Machine[Any, Any]],
        events: Iterable[type[Event[Any, Any]]] | None = None,
        timeout: Duration | None = None,
    ) -> None:
        definition = definition_of(machine_class)
        taken = [cls for cls in definition.events if cls not in _OF_THE_RUNTIME]
        chosen = taken if events is None else list(events)
        strangers = ", ".join(getattr(cls, "__name__", repr(cls)) for cls in chosen if cls not in taken)
        if strangers:
            raise DefinitionError(f"{definition.name} takes no {strangers}: name events that it declares")
        self.machine_class: Final = machine_class
        self.name: Final[str] = definition.name
        self.can_spawn: Final = definition.initial is not None
        self.events: Final[dict[str, type[Event[Any, Any]]]] = {cls.__name__: cls for cls in chosen}
        if len(self.events) < len(chosen):
            raise DefinitionError(
                f"{self.name}: two of its events have the same name; choose with events=[...]"
            )
        self.replies: Final[dict[str, Any]] = {
            name: definition.events[cls].reply.annotation for name, cls in self.events.items()
        }
        self._timeout: Final = timeout
        fields = machine_class.model_fields
        self._shown: Final = {name for name, info in fields.items() if info.repr and not info.exclude}
        self.data: Final = _data_model(machine_class, f"{self.name}Data", set(fields))
        states: Any = Literal[tuple(state.name for state in definition.state_class)]
        self.has_defaults: Final = not any(info.is_required() for info in fields.values())
        self.given: Final[Any] = self.data | None if self.has_defaults else self.data
        self.snapshot: Final[type[BaseModel]] = create_model(
            f"{self.name}Snapshot",
            id=(str, ...),
            state=(states, ...),
            data=(_data_model(machine_class, f"{self.name}Shown", self._shown), ...),
            seq=(int, ...),
            incarnation=(int, ...),
            allowed=(list[str], ...),
        )

    async def create(
        self, system: ActorSystem[Any], machine_id: str, data: BaseModel | None, address: EventAddress
    ) -> BaseModel:
        """Create a machine and return what is shown of it.

        Raises:
            ActorFSMError: As `ActorSystem.spawn`.
        """
        given = None if data is None else {name: getattr(data, name) for name in data.model_fields_set}
        await system.spawn(self.machine_class, machine_id, data=given, **address._asdict())
        return await self.show(system, machine_id)

    async def send(
        self, system: ActorSystem[Any], machine_id: str, event: Event[Any, Any], address: EventAddress
    ) -> Any:
        """Send an event and return the reply.

        Raises:
            NoSuchMachine: There is none, or it is one of another class.
            ActorFSMError: As `ActorSystem.ask`.
        """
        try:
            await system.load(check_machine_id(machine_id))
        except NoSuchMachine:
            pass  # the event may give birth: the ask will say
        else:
            self._check_class(system, machine_id)
        return await system.ask(machine_id, event, timeout=self._timeout, **address._asdict())

    async def find(self, system: ActorSystem[Any], machine_id: str) -> None:
        """Bring a machine into memory.

        Raises:
            NoSuchMachine: There is none, or it is one of another class.
            ActorFSMError: It cannot be loaded.
        """
        try:
            await system.load(check_machine_id(machine_id))
        except NoSuchMachine:
            raise NoSuchMachine(f"there is no {self.name} {machine_id}", machine_id=machine_id) from None
        self._check_class(system, machine_id)

    def _check_class(self, system: ActorSystem[Any], machine_id: str) -> None:
        if not issubclass(system.class_of(machine_id), self.machine_class):
            raise NoSuchMachine(f"there is no {self.name} {machine_id}", machine_id=machine_id)

    async def show(self, system: ActorSystem[Any], machine_id: str) -> BaseModel:
        """Return what is shown of a machine.

        Raises:
            NoSuchMachine: There is none, or it is one of another class.
        """
        await self.find(system, machine_id)
        seen = system.snapshot(machine_id)
        return self.snapshot.model_validate(
            {
                "id": machine_id,
                "state": seen.state.name,
                "data": {name: value for name, value in seen.data.items() if name in self._shown},
                "seq": seen.seq,
                "incarnation": seen.incarnation,
                "allowed": [name for name in seen.allowed if name in self.events],
            }
        )

    async def history(
        self, system: ActorSystem[Any], machine_id: str, *, after: int = 0, limit: int = 100
    ) -> History:
        """Return what happened to a machine: from its journal, or from the newest transitions of the system.

        Args:
            system: Where the machine lives, or has lived.
            machine_id: Its id.
            after: Only what comes after this `seq`.
            limit: At most so many; without a journal the newest.

        Raises:
            NoSuchMachine: Nothing is known of it, or it is one of another class.
        """
        check_machine_id(machine_id)
        if system.journal is None:
            rows = [row for row in system.transitions(machine_id, limit) if row.machine == self.name]
            if not rows:
                await self.find(system, machine_id)
            return History(entries=[happened(row) for row in rows if row.seq > after])
        entries = await system.journal.entries(machine_id, after, limit + 1)
        if not entries:
            await self.find(system, machine_id)
        elif entries[0].machine != self.name:
            raise NoSuchMachine(f"there is no {self.name} {machine_id}", machine_id=machine_id)
        page = entries[:limit]
        return History(
            entries=[happened(entry) for entry in page],
            next=page[-1].seq if len(entries) > limit else None,
        )


def the_one(
    systems: list[ActorSystem[Any]], machine_class: type[Machine[Any, Any]] | None, where: str, remedy: str
) -> ActorSystem[Any]:
    """Return the system that an application has.

    Args:
        systems: All that it has.
        machine_class: A class that lives in it; needed where there are several.
        where: Where they were looked for.
        remedy: What to do where there is none.

    Raises:
        DefinitionError: There is no such system, or more than one.
    """
    found = [system for system in systems if machine_class is None or machine_class in system.machine_classes]
    if len(found) == 1:
        return found[0]
    what = "system" if machine_class is None else f"system with {machine_class.__name__}"
    raise DefinitionError(
        f"{len(found) or 'no'} {what} {where}: " + ("name one of its machine classes" if found else remedy)
    )


def happened(what: Entry | TransitionEntry) -> Happened:
    """Return an entry of the journal, or the end of an event, as it is shown."""
    if isinstance(what, TransitionEntry):
        return Happened(
            seq=what.seq,
            at=what.accepted_at,
            kind=what.outcome,
            event=what.event_type,
            event_id=what.event_id,
            source=what.source,
            target=what.target,
        )
    message = what.message
    return Happened(
        seq=what.seq,
        at=datetime.fromtimestamp(what.at_us / 1_000_000, UTC),
        kind=what.kind,
        event=None if message is None else message.event.type,
        event_id=None if message is None else message.event_id,
        source=",".join(what.source) or None,
        target=",".join(what.target) or None,
        reason="" if what.answer is None else what.answer.reason,
    )


def _data_model(machine_class: type[Machine[Any, Any]], name: str, shown: set[str]) -> type[BaseModel]:
    fields: dict[str, Any] = {
        field: (info.annotation, info) for field, info in machine_class.model_fields.items() if field in shown
    }
    return create_model(name, __config__=machine_class.model_config, **fields)
