"""The door: what gets in, and how an answer gets out again.

Every event passes here once, at its sender: the class must be one that the machine declares, ids and headers must be
well-formed, what could be changed later is copied. Inside a turn a message waits for the commit, and an ask is checked
against the wait-for graph.
"""

from __future__ import annotations

import threading
from math import nan
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, cast

from actorfsm.clock import Duration, seconds
from actorfsm.errors import (
    ActorFSMError,
    AskCycle,
    AskTimeout,
    EventIdConflict,
    Expired,
    InvalidData,
    InvalidEvent,
    MachineExists,
    MailboxFull,
    NoSuchMachine,
    SystemFailed,
    SystemStopping,
    WrongProcess,
    WrongThread,
)
from actorfsm.event import Event, Outcome, Spawn, StateTimeout, Terminated, TransitionRequested
from actorfsm.ids import check_event_id, check_machine_id
from actorfsm.machine.snapshot import Snapshot
from actorfsm.runtime import perform
from actorfsm.runtime.actor import RUNNING, Actor
from actorfsm.runtime.dynamic_supervisor import rare_of
from actorfsm.runtime.envelope import Envelope, Settlement
from actorfsm.runtime.receipt import Receipt
from actorfsm.runtime.ref import Ref
from actorfsm.runtime.reply import outcome_of, refuse
from actorfsm.runtime.turn import CURRENT, Turn, checked_headers
from actorfsm.trace import Record
from actorfsm.values import copy_value

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping
    from enum import Enum

    from actorfsm.machine.definition import Transition
    from actorfsm.runtime.kind import Kind
    from actorfsm.runtime.parts import Parts

__all__ = ["MAX_TIMEOUT_S", "Door"]

SPAWN: Final = Spawn()
MAX_TIMEOUT_S: Final = 1e9
"""The longest deadline: 31 years, in seconds."""

FORKED: Final = 0
"""No thread has this number: in a forked child the door belongs to nobody, which costs the parent nothing."""


class Door:
    """Takes events in, for the machines of one system."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._loop = parts.loop
        self._time = parts.time
        self._thread = get_ident()
        self._actors = parts.registry.actors
        self._next_number = parts.ids.next_number
        self._ask_timeout_s = parts.limits.ask_timeout_s
        self._pending_asks = parts.limits.pending_asks

    # -- ask ----------------------------------------------------------------------------------------------------

    async def ask(
        self,
        machine_id: str,
        event: Event[Any, Any],
        *,
        timeout: Duration | None = None,  # noqa: ASYNC109 -- a deadline of the event, not of this call alone
        event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send an event and wait for its reply; see `Ref.ask`."""
        turn = CURRENT.get()
        if turn is not None:
            return await self.ask_in_turn(turn, machine_id, event, timeout, event_id, headers)
        envelope = self.begin_ask(machine_id, event, timeout, event_id, headers)
        if not envelope.settled:
            await self.wait(envelope)
        if envelope.error is not None:
            raise envelope.error
        return envelope.reply

    def begin_ask(
        self,
        machine_id: str,
        event: Event[Any, Any],
        timeout: Duration | None,
        event_id: str | None,
        headers: Mapping[str, str] | None,
    ) -> Envelope:
        """Send an event whose sender waits, from outside all turns; it may be settled already on return."""
        if self._parts.stopping or get_ident() != self._thread:
            self._check_open(machine_id, event)
        now = self._time()
        envelope = Envelope(event, machine_id, self._next_number(), now)
        envelope.is_ask = True
        envelope.deadline = now + (self._ask_timeout_s if timeout is None else _within(timeout))
        if event_id is not None or headers is not None:
            self._address(envelope, event_id, headers)
        self._accept_ask(envelope)
        return envelope

    async def ask_in_turn(  # noqa: PLR0917 -- as `ask`, with the turn
        self,
        turn: Turn,
        target: Any,
        event: Event[Any, Any],
        timeout: Duration | None,  # noqa: ASYNC109 -- as in `ask`
        event_id: str | None,
        headers: Mapping[str, str] | None,
    ) -> Any:
        """Ask on behalf of a machine: at once, within what remains of its deadline, refused if it closes a cycle."""
        turn.check_open(event)
        self._check_thread(event)
        machine_id = target.id if isinstance(target, Ref) else target
        timeout_s = self._ask_timeout_s if timeout is None else _within(timeout)
        derived = turn.next_ask_id()
        envelope = self._caused(turn, event, machine_id, event_id or derived, headers)
        envelope.has_own_id = True
        envelope.keeps_settlement = True
        return await self._answer_machine(turn, envelope, timeout_s)

    async def _answer_machine(self, turn: Turn, envelope: Envelope, limit_s: float) -> Any:
        """Answer a machine that waits in its turn, within what remains of its own deadline, if that closes no cycle."""
        if turn.envelope.deadline is not None and not turn.committed:
            limit_s = max(0.0, min(limit_s, turn.envelope.deadline - envelope.accepted_at))
        if not turn.holds_machine:
            return await self._answer(envelope, limit_s)
        self._parts.waits.begin(turn, envelope)
        try:
            return await self._answer(envelope, limit_s)
        finally:
            self._parts.waits.end(turn, envelope)

    def _begin_answer(self, envelope: Envelope, timeout_s: float) -> None:
        envelope.is_ask = True
        envelope.deadline = envelope.accepted_at + timeout_s
        self._accept_ask(envelope)

    async def _answer(self, envelope: Envelope, timeout_s: float) -> Any:
        self._begin_answer(envelope, timeout_s)
        return await self.wait_for_end(envelope)

    async def wait_for_end(self, envelope: Envelope) -> Any:
        """Return the reply to an ask that was begun, or raise its error."""
        if not envelope.settled:
            await self.wait(envelope)
        if envelope.error is not None:
            raise envelope.error
        return envelope.reply

    def _accept_ask(self, envelope: Envelope) -> None:
        counters = self._parts.counters
        if counters.pending_asks >= self._pending_asks:
            self._check_room_for_asks(envelope)
        try:
            self.accept(envelope)
        except ActorFSMError:
            counters.refused += 1
            raise

    async def wait(self, envelope: Envelope) -> None:
        """Wait until an ask is settled.

        Raises:
            AskTimeout: Its deadline passed while the event was being handled.
        """
        counters = self._parts.counters
        envelope.waiter = waiter = self._loop.create_future()
        if not envelope.tick and envelope.deadline is not None:
            self._parts.deadlines.add(envelope, envelope.deadline)
        counters.pending_asks += 1
        try:
            gave_up = await waiter
        finally:
            # An asker that is cancelled gives up the reply; the event keeps its deadline.
            counters.pending_asks -= 1
        if gave_up:
            waited_s = (envelope.deadline or 0.0) - envelope.accepted_at
            raise AskTimeout(
                f"{envelope.machine_id} was still handling {type(envelope.event).__name__} after {waited_s:g} s: "
                "whether it will be done is unknown; ask again with the same event_id",
                machine_id=envelope.machine_id,
                event=envelope.event,
            )

    def _check_room_for_asks(self, envelope: Envelope) -> None:
        counters = self._parts.counters
        if counters.pending_asks >= self._pending_asks:
            counters.refused += 1
            raise MailboxFull(
                f"{counters.pending_asks:,} asks wait for their answers: the limit of this system",
                machine_id=envelope.machine_id,
                event=envelope.event,
            )

    # -- tell ---------------------------------------------------------------------------------------------------

    def tell(
        self,
        machine_id: str,
        event: Event[Any, Any],
        *,
        event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        callback: Callable[[Outcome], Any] | None = None,
        reply_to: str | None = None,
        timeout: Duration | None = None,
    ) -> Receipt:
        """Send an event and go on; see `Ref.tell`."""
        turn = CURRENT.get()
        timeout_s = None if timeout is None else _within(timeout)
        if reply_to is not None:
            check_machine_id(reply_to)
            if isinstance(event, Outcome):
                raise InvalidEvent(
                    "an Outcome never causes another Outcome: leave reply_to= away", event=event
                )
        if turn is not None:
            turn.check_open(event)
            self._check_thread(event, turn)
            receipt = turn.tell(machine_id, event, event_id, headers)
            assert turn.outgoing is not None  # noqa: S101 -- it was put there just now
            envelope = turn.outgoing[-1]
        else:
            self._check_thread(event)
            envelope = Envelope(event, machine_id, self._next_number(), self._time())
            if event_id is not None or headers is not None:
                self._address(envelope, event_id, headers)
            envelope.keeps_settlement = True
            receipt = Receipt(envelope, self._parts, CURRENT.get)
        envelope.callback = callback
        envelope.reply_to = reply_to
        if timeout_s is not None:
            envelope.deadline = envelope.accepted_at + timeout_s
        if turn is None:
            self._accept_or_bury(envelope)
        return receipt

    def request_transition(
        self, machine_id: str, new_state: Enum, callback: Callable[[bool, Any, Any], Any] | None
    ) -> Receipt:
        """Queue a request to go to a state; see `Ref.request_transition`."""
        event = TransitionRequested(to=new_state)
        if callback is None:
            return self.tell(machine_id, event)

        def told(outcome: Outcome) -> Any:
            return callback(outcome.success, outcome.old, new_state)

        return self.tell(machine_id, event, callback=told)

    def snapshot(self, machine_id: str) -> Snapshot[Any]:
        """Return a machine's last committed state; see `Ref.snapshot`."""
        if not self._parts.has_ended:
            self.check_thread(f"snapshot of {machine_id} was called")
        actor = self._parts.registry.alive(machine_id)
        if actor is None:
            raise NoSuchMachine(f"no machine {machine_id!r} is alive", machine_id=machine_id)
        return Snapshot(
            machine=actor.kind.name,
            machine_id=actor.id,
            state=actor.node.member,
            data=actor.kind.rules.copy(actor.data),
            seq=actor.seq,
            incarnation=actor.incarnation,
            allowed=actor.node.allowed,
            definition=actor.kind.definition,
        )

    def _accept_or_bury(self, envelope: Envelope) -> None:
        """Nobody need look at a receipt, so what was refused is a dead letter too."""
        try:
            self._check_open(envelope.machine_id, envelope.event)
            self.accept(envelope)
        except (InvalidEvent, WrongThread):
            raise
        except ActorFSMError as error:
            self._refuse(envelope, error)

    def turn_away(self, actor: Actor, envelope: Envelope, error: ActorFSMError) -> None:
        """End an event that waited outside a full mailbox and was never accepted."""
        self._parts.deadlines.remove(envelope)
        if envelope.has_own_id:
            rare_of(actor).ids.pop(envelope.event_id, None)
        twins, envelope.joined = envelope.joined, None
        if envelope.is_ask:
            self._parts.counters.refused += 1
            refuse(envelope, error)
        else:
            self._refuse(envelope, error)
        for twin in twins or ():
            perform.settle(actor, twin, "dead_lettered", actor.node.member, None, error=error, duplicate=True)

    def _refuse(self, envelope: Envelope, error: ActorFSMError) -> None:
        parts = self._parts
        parts.counters.refused += 1
        parts.bury(envelope, str(error))
        refuse(envelope, error)
        event_id = parts.event_id(envelope)
        if envelope.callback is not None or envelope.reply_to is not None:
            settlement = Settlement("dead_lettered", None, None, None, error, str(error), 0)
            outcome = outcome_of(envelope, event_id, settlement)
            if envelope.callback is not None:
                parts.callbacks.add(envelope, outcome)
            if envelope.reply_to is not None:
                self.send_outcome(envelope, outcome)
        if parts.sinks:
            parts.emit_outside(
                Record(
                    "dead_lettered",
                    envelope.machine_name,
                    envelope.machine_id,
                    event_type=type(envelope.event).__name__,
                    event_id=event_id,
                    causation_id=envelope.causation_id,
                    correlation_id=envelope.correlation_id or event_id,
                    reason=str(error),
                    error=error,
                    event=envelope.event,
                )
            )

    # -- messages of machines -----------------------------------------------------------------------------------

    def prepare(
        self,
        target: Any,
        event: Event[Any, Any],
        turn: Turn,
        event_id: str,
        headers: Mapping[str, str] | None,
        *,
        has_own_id: bool = False,
    ) -> tuple[Receipt, Envelope]:
        """Make the envelope of a message that waits for the commit of the turn that sends it."""
        self._check_thread(event, turn)
        machine_id = target.id if isinstance(target, Ref) else target
        envelope = self._caused(turn, event, machine_id, event_id, headers)
        envelope.has_own_id = has_own_id
        envelope.keeps_settlement = True
        envelope.sender = turn
        actor = self._actors.get(machine_id)
        if actor is not None:
            self._check_event(actor.kind, envelope)
        else:
            _check_is_event(event, machine_id)
        return Receipt(envelope, self._parts, CURRENT.get), envelope

    def prepare_timer(
        self, turn: Turn, event: Event[Any, Any], event_id: str, *, is_from_state: bool = False
    ) -> Envelope:
        """Make the envelope of an event that a machine's timer will send it.

        Raises:
            InvalidEvent: The machine does not take it.
        """
        envelope = self._caused(turn, event, turn.actor.id, event_id, None)
        if not is_from_state:
            self._check_thread(event, turn)
            self._check_event(turn.actor.kind, envelope)
        return envelope

    def prepare_answer(self, actor: Actor, event: Event[Any, Any], cause: Envelope) -> Envelope:
        """Make the envelope of an event that a machine's job answers with.

        Raises:
            InvalidEvent: The machine does not take it.
        """
        envelope = self._consequence(actor.id, event, cause)
        self._check_event(actor.kind, envelope)
        return envelope

    def deliver(self, envelope: Envelope) -> None:
        """Deliver a message that a machine has sent; what cannot be delivered is a dead letter."""
        counters = self._parts.counters
        counters.accepted += 1
        counters.outgoing += 1
        envelope.outgoing = True
        try:
            self.accept(envelope)
        except ActorFSMError as error:
            counters.outgoing -= 1
            counters.outcomes["dead_lettered"] += 1
            envelope.outgoing = False
            counters.refused -= 1
            self._refuse(envelope, error)

    def send_outcome(self, envelope: Envelope, outcome: Outcome) -> None:
        """Send an event's outcome to the machine that its sender named."""
        assert envelope.reply_to is not None  # noqa: S101 -- checked by the caller
        self.deliver(self._consequence(envelope.reply_to, outcome, envelope))

    def send(self, machine_id: str, event: Event[Any, Any], cause: Envelope | None) -> Envelope:
        """Send a machine an event of the runtime's own: it finds room, and waits out a quarantine.

        Args:
            machine_id: For whom; if it is gone the event is a dead letter.
            event: The event.
            cause: The event that this one follows from, if any.
        """
        envelope = self._consequence(machine_id, event, cause)
        envelope.of_runtime = True
        self.deliver(envelope)
        return envelope

    def _consequence(self, machine_id: str, event: Event[Any, Any], cause: Envelope | None) -> Envelope:
        envelope = Envelope(event, machine_id, self._next_number(), self._time())
        if cause is not None:
            event_id = self._parts.event_id(cause)
            envelope.causation_id, envelope.headers = event_id, cause.headers
            envelope.correlation_id = cause.correlation_id or event_id
        return envelope

    def wake_refused(self, envelope: Envelope) -> None:
        """Tell whoever waits for a message that it was never sent."""
        assert envelope.refusal is not None  # noqa: S101 -- set by the caller
        refuse(envelope, envelope.refusal)

    # -- birth --------------------------------------------------------------------------------------------------

    async def spawn(
        self,
        kind: Kind,
        machine_id: str,
        data: Mapping[str, Any] | None,
        event_id: str | None,
        headers: Mapping[str, str] | None,
    ) -> None:
        """Create a machine and wait until its birth is finished; see `ActorSystem.spawn`."""
        turn = CURRENT.get()
        envelope = self._prepare_birth(turn, kind, machine_id, data, event_id, headers)
        if turn is None:
            await self._answer(envelope, self._ask_timeout_s)
        else:
            await self._answer_machine(turn, envelope, self._ask_timeout_s)

    def begin_birth(self, kind: Kind, machine_id: str, data: Mapping[str, Any] | None) -> Envelope:
        """Begin to create a machine, from outside all turns; its birth may be over already on return."""
        envelope = self._prepare_birth(None, kind, machine_id, data, None, None)
        self._begin_answer(envelope, self._ask_timeout_s)
        return envelope

    def bear(self, kind: Kind, birth: Transition, machine_id: str, data: Mapping[str, Any] | None) -> bool:
        """Create a machine whose birth runs no hook: its outcome, without a turn.

        Returns:
            Whether it was born; if not it needs a turn: one that fails and is recorded, or one that waits until the
            tree lets its class go on.

        Raises:
            MachineExists, InvalidData, InvalidEvent: As `spawn`; nothing was changed.
        """
        if self._parts.stopping or get_ident() != self._thread:
            self._check_open(machine_id, SPAWN)
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
        envelope = Envelope(SPAWN, machine_id, self._next_number(), self._time())
        perform.settle(actor, envelope, "committed", birth.source.member, birth.new)
        return True

    def check_spawnable(self, kind: Kind, machine_id: str | None = None) -> None:
        """Refuse to spawn machines of a class that has no initial state.

        Raises:
            InvalidEvent: It has none.
        """
        if kind.definition.initial is None:
            births = ", ".join(sorted(cls.__name__ for cls in kind.definition.births))
            raise InvalidEvent(
                f"{kind.name} has no initial state: it is born by {births}", machine_id=machine_id
            )

    def _prepare_birth(  # noqa: PLR0917 -- as `spawn`, with the turn
        self,
        turn: Turn | None,
        kind: Kind,
        machine_id: str,
        data: Mapping[str, Any] | None,
        event_id: str | None,
        headers: Mapping[str, str] | None,
    ) -> Envelope:
        event = Spawn()
        if turn is not None:
            turn.check_open(event)
        self._check_thread(event)
        if turn is None:
            self._check_open(machine_id, event)
        check_machine_id(machine_id)
        self.check_spawnable(kind, machine_id)
        known = self._actors.get(machine_id)
        if turn is not None and event_id is None:
            event_id = turn.next_ask_id()  # so that a repetition is answered from the record
        if known is not None and (
            event_id is None or known.kind is not kind or not self._knows(known, event_id)
        ):
            raise self._exists(machine_id)
        if turn is None:
            envelope = Envelope(event, machine_id, self._next_number(), self._time())
            self._address(envelope, event_id, headers)
        else:
            assert event_id is not None  # noqa: S101 -- derived above
            envelope = self._caused(turn, event, machine_id, event_id, headers)
            envelope.has_own_id = envelope.keeps_settlement = True
        envelope.birth_data = copy_value(dict(data or {}))
        if known is None:
            self._check_not_reserved(machine_id)
            self._check_room_for_asks(envelope)
            self._actors[machine_id] = actor = Actor(kind, machine_id, kind.root, kind.rules.at_birth(data))
            kind.supervisor.adopt(actor)
        return envelope

    def _check_not_reserved(self, machine_id: str) -> None:
        if machine_id in self._parts.registry.reserved:
            raise MachineExists(
                f"{machine_id} stands in the supervision tree, and only its supervisor starts it",
                machine_id=machine_id,
            )

    def _exists(self, machine_id: str) -> MachineExists:
        known = self._actors[machine_id]
        return MachineExists(f"{machine_id} exists already, as {known.kind.name}", machine_id=machine_id)

    async def wait_for_birth(self, actor: Actor) -> None:
        """Wait until a birth that is going on has ended.

        Raises:
            AskCycle: The machine that is being born waits for this one.
        """
        waiter: asyncio.Future[None] = self._loop.create_future()
        rare_of(actor).birth_waiters.append(waiter)
        await self._wait_in_turn(actor, waiter)

    async def wait_for_stop(self, actor: Actor) -> None:
        """Wait until a machine that was told to stop has stopped.

        Raises:
            AskCycle: The machine waits for this one.
        """
        waiter: asyncio.Future[None] = self._loop.create_future()
        rare_of(actor).stop_waiters.append(waiter)
        await self._wait_in_turn(actor, waiter)

    async def _wait_in_turn(self, actor: Actor, waiter: asyncio.Future[None]) -> None:
        """Wait for what befalls another machine; a machine that does so in its turn waits like one that asks."""
        turn = CURRENT.get()
        if turn is None or turn.closed or not turn.holds_machine:
            await waiter
            return
        mark = Envelope(Spawn(), actor.id, 0, 0.0)
        mark.waiter = waiter
        try:
            self._parts.waits.begin(turn, mark)
        except AskCycle:
            waiter.cancel()
            raise
        try:
            await waiter
        finally:
            self._parts.waits.end(turn, mark)

    def _knows(self, actor: Actor, event_id: str) -> bool:
        known = None if actor.rare is None else actor.rare.ids.get(event_id)
        return known is not None and isinstance(known.event, Spawn)

    def _give_birth(self, envelope: Envelope) -> Actor:
        machine_id = check_machine_id(envelope.machine_id)
        if machine_id in self._parts.registry.reserved:
            raise NoSuchMachine(
                f"{machine_id} stands in the supervision tree and is not running: only its supervisor starts it",
                machine_id=machine_id,
                event=envelope.event,
            )
        kind = self._parts.registry.births.get(type(envelope.event))
        if kind is None:
            _check_is_event(envelope.event, machine_id)
            raise NoSuchMachine(
                f"no machine {machine_id}: spawn it, or send an event that a birth transition takes "
                f"({type(envelope.event).__name__} is none)",
                machine_id=machine_id,
                event=envelope.event,
            )
        self._actors[machine_id] = actor = Actor(kind, machine_id, kind.root, kind.rules.before_birth())
        kind.supervisor.adopt(actor)
        return actor

    # -- checks -------------------------------------------------------------------------------------------------

    def accept(self, envelope: Envelope) -> None:
        """Bring an event to its machine's mailbox.

        Raises:
            ActorFSMError: It is not accepted; nothing was changed.
        """
        try:
            actor = self._actors.get(envelope.machine_id)
        except TypeError:  # not even hashable: refused by name below
            actor = None
        if actor is None:
            actor = self._give_birth(envelope)
        spec = actor.kind.events.get(envelope.event.__class__)
        if spec is None or spec.needs_care:
            self._check_event(actor.kind, envelope)
        if envelope.has_own_id and self._is_repetition(actor, envelope):
            return
        try:
            self._parts.dispatcher.admit(actor, envelope)
        except ActorFSMError:
            if envelope.has_own_id:
                rare_of(actor).ids.pop(envelope.event_id, None)
            raise

    def _check_event(self, kind: Kind, envelope: Envelope) -> None:
        event = envelope.event
        spec = kind.events.get(event.__class__)
        if spec is None:
            self._refuse_class(kind, envelope)
        elif spec.mutable:
            envelope.event = copy_value(event)
        elif spec.event_class in {StateTimeout, Terminated} and not envelope.of_runtime:
            how = (
                "self.watch(...)"
                if spec.event_class is Terminated
                else "entering a state with an @on_timeout"
            )
            raise InvalidEvent(
                f"only the runtime sends {spec.name}; {envelope.machine_id} gets it after {how}",
                machine_id=envelope.machine_id,
                event=event,
            )
        if isinstance(event, TransitionRequested) and type(event.to) is not kind.definition.state_class:
            raise InvalidEvent(
                f"{event.to!r} is not a state of {kind.name}: it has those of {kind.definition.state_class.__name__}",
                machine_id=envelope.machine_id,
                event=event,
            )

    def _refuse_class(self, kind: Kind, envelope: Envelope) -> None:
        event = cast("object", envelope.event)
        own = {Spawn, StateTimeout}
        takes = ", ".join(sorted(spec.name for spec in kind.events.values() if spec.event_class not in own))
        name = type(event).__name__
        what = name if isinstance(event, Event) else f"{name}, which is no event"
        raise InvalidEvent(
            f"{kind.name} {envelope.machine_id} does not take {what}; it takes {takes}",
            machine_id=envelope.machine_id,
            event=event,
        )

    def _is_repetition(self, actor: Actor, envelope: Envelope) -> bool:
        """Join the event in flight with the same id, or answer from the record; otherwise remember the id."""
        rare = rare_of(actor)
        known = rare.ids.get(envelope.event_id)
        if known is None:
            rare.remember(envelope, actor.kind.options.remembered_ids)
            if actor.kind.events[type(envelope.event)].mutable:
                rare.ids[envelope.event_id].event = copy_value(
                    envelope.event
                )  # as it was sent, whatever a hook does to it
            return False
        same_content = known.event == envelope.event and known.birth_data == envelope.birth_data
        if type(known.event) is not type(envelope.event) or not same_content:
            raise EventIdConflict(
                f"{actor.id} knows the event id {envelope.event_id!r} as another {type(known.event).__name__}",
                machine_id=actor.id,
                event=envelope.event,
            )
        envelope.actor, envelope.accepted = actor, True
        counters = self._parts.counters
        if envelope.outgoing:
            envelope.outgoing = False
            counters.outgoing -= 1
        else:
            counters.accepted += 1
        if known.envelope is not None:
            known.envelope.joined = [*(known.envelope.joined or ()), envelope]
            counters.joined += 1
            envelope.joins = known.envelope
            if envelope.deadline is not None:
                self._parts.deadlines.add(envelope, envelope.deadline)
        else:
            assert known.settlement is not None  # noqa: S101 -- it is either in flight or settled
            perform.settle_duplicate(actor, envelope, known.settlement)
        return True

    def _caused(
        self,
        turn: Turn,
        event: Event[Any, Any],
        machine_id: Any,
        event_id: str,
        headers: Mapping[str, str] | None,
    ) -> Envelope:
        parent = turn.envelope
        envelope = Envelope(event, check_machine_id(machine_id), self._next_number(), self._time())
        envelope.event_id = check_event_id(event_id)
        envelope.causation_id = self._parts.event_id(parent)
        envelope.headers = parent.headers
        if headers is not None:
            envelope.headers = self._headers({**(parent.headers or {}), **self._headers(headers)})
        envelope.correlation_id = (envelope.headers or {}).get("correlation_id") or (
            parent.correlation_id or envelope.causation_id
        )
        return envelope

    def _address(self, envelope: Envelope, event_id: str | None, headers: Mapping[str, str] | None) -> None:
        if event_id is not None:
            envelope.event_id = check_event_id(event_id)
            envelope.has_own_id = envelope.keeps_settlement = True
        if headers is not None:
            envelope.headers = self._headers(headers)
            envelope.correlation_id = envelope.headers.get("correlation_id")

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        return checked_headers(headers, self._parts.limits.header_count, self._parts.limits.header_bytes)

    def _check_thread(self, event: Any, turn: Turn | None = None) -> None:
        thread = get_ident()
        if thread != self._thread and (turn is None or thread != turn.thread):
            self.check_thread(f"{type(event).__name__} was sent", event)

    def check_thread(self, what: str, event: Any = None) -> None:
        """Refuse a call from another thread than the event loop's.

        Raises:
            WrongThread: It is another one.
            WrongProcess: The thread belongs to the parent process.
        """
        if self._thread == FORKED:
            raise WrongProcess(
                f"{what} in a child process of the one that started the system, after a fork: each process makes a "
                "system of its own",
                event=event,
            )
        if get_ident() != self._thread:
            raise WrongThread(
                f"{what} from the thread {threading.current_thread().name}; a system is used from the thread of its "
                "event loop: other threads use system.threadsafe, whose calls return futures",
                event=event,
            )

    def forked(self) -> None:
        """Refuse everything from now on: this is a child process, and the system is its parent's."""
        self._thread = FORKED

    def _check_open(self, machine_id: str, event: Any) -> None:
        if get_ident() != self._thread:
            self._check_thread(event)
        if self._parts.stopping:
            if self._parts.failed_with is not None:
                raise SystemFailed(
                    "the system has failed", machine_id=machine_id, event=event
                ) from self._parts.failed_with
            raise SystemStopping("the system is stopping, or has stopped", machine_id=machine_id, event=event)

    # -- deadlines ----------------------------------------------------------------------------------------------

    def expire(self, envelope: Envelope) -> None:
        """Follow a deadline that has passed: an event not yet begun is removed, one being handled keeps its turn."""
        actor: Actor = envelope.actor
        if envelope.begun or envelope.settled:
            if envelope.waiter is not None and not envelope.waiter.done():
                envelope.waiter.set_result(True)
            return
        if envelope.joins is not None:
            self._expire_duplicate(actor, envelope)
            return
        assert actor.mailbox is not None  # noqa: S101 -- where an event that has not begun waits
        actor.mailbox.remove(envelope)
        what = type(envelope.event).__name__
        if envelope.room_only:
            error: ActorFSMError = MailboxFull(
                f"{actor.id} had no room for {what} in {actor.kind.options.mailbox.wait_timeout_s:g} s",
                machine_id=actor.id,
                event=envelope.event,
            )
        else:
            error = Expired(
                f"{actor.id} had not begun {what} when its deadline passed: it was removed, it is surely not done",
                machine_id=actor.id,
                event=envelope.event,
            )
        if envelope.outside and not envelope.outgoing:
            self.turn_away(actor, envelope, error)
        elif envelope.room_only:
            perform.end_undelivered(actor, envelope, error)
        else:
            perform.settle(actor, envelope, "expired", actor.node.member, None, error=error)
        self._parts.dispatcher.made_room(actor)
        if actor.node.parent is None and actor.status != RUNNING:
            actor.kind.supervisor.birth_failed(actor)

    def _expire_duplicate(self, actor: Actor, envelope: Envelope) -> None:
        """Let a duplicate wait no longer; the event that it joined goes on, so it is not surely undone."""
        assert envelope.joins is not None  # noqa: S101 -- checked by the caller
        envelope.joins.joined.remove(envelope)
        error = AskTimeout(
            f"{actor.id} had not finished the {type(envelope.event).__name__} with the same event id when the deadline "
            "of this one passed: whether it will be done is unknown; ask again with the same event_id",
            machine_id=actor.id,
            event=envelope.event,
        )
        perform.settle(actor, envelope, "expired", actor.node.member, None, error=error, duplicate=True)


def _within(timeout: Duration) -> float:
    """Return a deadline in seconds.

    Raises:
        InvalidEvent: It is none.
    """
    try:
        timeout_s = seconds(timeout)
    except (TypeError, ValueError, OverflowError):
        timeout_s = nan
    if not 0 <= timeout_s <= MAX_TIMEOUT_S:
        raise InvalidEvent(
            f"timeout={timeout!r}: give seconds or a timedelta, from 0 to {MAX_TIMEOUT_S:,.0f} s"
        )
    return timeout_s


def _check_is_event(event: object, machine_id: str) -> None:
    if not isinstance(event, Event):
        raise InvalidEvent(f"a {type(event).__name__} is not an event", machine_id=machine_id)
