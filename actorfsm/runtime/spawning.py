"""Spawning: a machine is registered before it is born, so that its id is taken and its mail waits for it."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

from actorfsm.errors import InvalidData, InvalidEvent, MachineExists
from actorfsm.event import Spawn
from actorfsm.ids import check_machine_id
from actorfsm.runtime import settling
from actorfsm.runtime.actor import Actor
from actorfsm.runtime.envelope import Envelope
from actorfsm.values import copy_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from actorfsm.machine.definition import Transition
    from actorfsm.runtime.kind import Kind
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.turn import Turn

__all__ = ["Spawning", "check_spawnable"]

SPAWN: Final = Spawn()


class Spawning:
    """Registers the machines that are spawned in one system."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._addressing = parts.addressing
        self._admission = parts.admission
        self._actors = parts.registry.actors

    def prepare(  # noqa: PLR0917 -- as `ActorSystem.spawn`, with the turn
        self,
        turn: Turn | None,
        kind: Kind,
        machine_id: str,
        data: Mapping[str, Any] | None,
        event_id: str | None,
        headers: Mapping[str, str] | None,
    ) -> Envelope:
        """Register a machine that is not yet born, and return the envelope of the event that will give birth to it.

        Raises:
            ActorFSMError: It cannot be; nothing was changed.
        """
        event = Spawn()
        if turn is not None:
            turn.check_open(event)
        self._admission.check_sender(event)
        if turn is None:
            self._admission.check_open(machine_id, event)
        check_machine_id(machine_id)
        check_spawnable(kind, machine_id)
        known = self._actors.get(machine_id)
        if turn is not None and event_id is None:
            event_id = turn.next_ask_id(machine_id)  # so that a repetition is answered from the record
        if known is not None and (
            event_id is None or known.kind is not kind or not self._knows(known, event_id)
        ):
            raise self._exists(machine_id)
        if turn is None:
            envelope = self._addressing.from_outside(event, machine_id, event_id, headers)
        else:
            assert event_id is not None  # noqa: S101 -- derived above
            envelope = self._addressing.from_machine(turn.envelope, event, machine_id, event_id, headers)
            envelope.has_own_id = envelope.keeps_settlement = True
        envelope.birth_data = copy_value(dict(data or {}))
        if known is None:
            self._check_not_reserved(machine_id)
            self._admission.check_room_for_asks(envelope)
            self._actors[machine_id] = actor = Actor(kind, machine_id, kind.root, kind.rules.at_birth(data))
            kind.supervisor.adopt(actor)
        return envelope

    def bear(self, kind: Kind, birth: Transition, machine_id: str, data: Mapping[str, Any] | None) -> bool:
        """Create a machine whose birth runs no hook: its outcome, without a turn.

        Returns:
            Whether it was born; if not it needs a turn: one that fails and is recorded, or one that waits until the
            tree lets its class go on.

        Raises:
            MachineExists, InvalidData, InvalidEvent: As `spawn`; nothing was changed.
        """
        if self._parts.stopping or get_ident() != self._admission.thread:
            self._admission.check_open(machine_id, SPAWN)
        if check_machine_id(machine_id) in self._actors:
            raise self._exists(machine_id)
        self._check_not_reserved(machine_id)
        if kind.supervisor.is_holding:
            return False
        rules = kind.rules
        draft = rules.at_birth(data)
        try:
            committed = rules.at_commit_of_birth(draft)
        except InvalidData:
            return False
        self._actors[machine_id] = actor = Actor(kind, machine_id, birth.target, committed)
        actor.seq = 1
        self._parts.counters.accepted += 1
        envelope = Envelope(SPAWN, machine_id, self._parts.ids.next_number(), self._parts.time())
        settling.settle(actor, envelope, "committed", birth.source.member, birth.new)
        return True

    def _check_not_reserved(self, machine_id: str) -> None:
        if machine_id in self._parts.registry.reserved:
            raise MachineExists(
                f"{machine_id} stands in the supervision tree, and only its supervisor starts it",
                machine_id=machine_id,
            )

    def _exists(self, machine_id: str) -> MachineExists:
        known = self._actors[machine_id]
        return MachineExists(f"{machine_id} exists already, as {known.kind.name}", machine_id=machine_id)

    def _knows(self, actor: Actor, event_id: str) -> bool:
        known = None if actor.rare is None else actor.rare.ids.get(event_id)
        return known is not None and isinstance(known.event, Spawn)


def check_spawnable(kind: Kind, machine_id: str | None = None) -> None:
    """Refuse to spawn machines of a class that has no initial state.

    Raises:
        InvalidEvent: It has none.
    """
    if kind.definition.initial is None:
        births = ", ".join(sorted(cls.__name__ for cls in kind.definition.births))
        raise InvalidEvent(f"{kind.name} has no initial state: it is born by {births}", machine_id=machine_id)
