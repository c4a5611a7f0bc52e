"""Admission: what gets in. Every event passes here once, on its way from its sender to the dispatcher.

The class must be one that the machine declares, an event id that is known joins its event or is answered from the
record, what could be changed later is copied. What is refused after its sender has gone on is a dead letter. An event
whose deadline passes before its turn leaves again here.
"""

from __future__ import annotations

import threading
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, cast

from actorfsm.errors import (
    ActorFSMError,
    AskTimeout,
    EventIdConflict,
    Expired,
    InvalidEvent,
    MailboxFull,
    NoSuchMachine,
    SystemFailed,
    SystemStopping,
    WrongProcess,
    WrongThread,
)
from actorfsm.event import Event, Spawn, StateTimeout, Terminated, TransitionRequested
from actorfsm.ids import check_machine_id
from actorfsm.runtime import settling
from actorfsm.runtime.actor import RUNNING, Actor
from actorfsm.runtime.dynamic_supervisor import rare_of
from actorfsm.runtime.reply import finish, outcome_of, refuse, refused_with
from actorfsm.trace import Record
from actorfsm.values import copy_value

if TYPE_CHECKING:
    from actorfsm.errors import JournalError
    from actorfsm.runtime.envelope import Envelope, Settlement
    from actorfsm.runtime.kind import Kind
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.turn import Turn

__all__ = ["Admission", "check_is_event"]

FORKED: Final = 0
"""No thread has this number: in a forked child the system belongs to nobody, which costs the parent nothing."""


class Admission:
    """Lets events in, for the machines of one system."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._addressing = parts.addressing
        self._actors = parts.registry.actors
        self.thread = get_ident()
        """The only thread that may send."""

    # -- who may send -------------------------------------------------------------------------------------------

    def check_open(self, machine_id: str, event: Any) -> None:
        """Refuse an event from outside when the system takes none.

        Raises:
            WrongThread, WrongProcess: As `check_thread`.
            SystemStopping, SystemFailed: It is ending, or has ended.
        """
        self.check_sender(event)
        if self._parts.stopping:
            if self._parts.failed_with is not None:
                raise SystemFailed(
                    "the system has failed", machine_id=machine_id, event=event
                ) from self._parts.failed_with
            raise SystemStopping("the system is stopping, or has stopped", machine_id=machine_id, event=event)

    def check_sender(self, event: Any, turn: Turn | None = None) -> None:
        """Refuse an event from another thread, but for the one in which a step of the sending turn blocks.

        Raises:
            WrongThread, WrongProcess: As `check_thread`.
        """
        thread = get_ident()
        if thread != self.thread and (turn is None or thread != turn.thread):
            self.check_thread(f"{type(event).__name__} was sent", event)

    def check_thread(self, what: str, event: Any = None) -> None:
        """Refuse a call from another thread than the event loop's.

        Raises:
            WrongThread: It is another one.
            WrongProcess: The thread belongs to the parent process.
        """
        if self.thread == FORKED:
            raise WrongProcess(
                f"{what} in a child process of the one that started the system, after a fork: each process makes a "
                "system of its own",
                event=event,
            )
        if get_ident() != self.thread:
            raise WrongThread(
                f"{what} from the thread {threading.current_thread().name}; a system is used from the thread of its "
                "event loop: other threads use system.threadsafe, whose calls return futures",
                event=event,
            )

    def forked(self) -> None:
        """Refuse everything from now on: this is a child process, and the system is its parent's."""
        self.thread = FORKED

    def check_room_for_asks(self, envelope: Envelope) -> None:
        """Refuse one more ask if as many wait as may.

        Raises:
            MailboxFull: They do.
        """
        counters = self._parts.counters
        if counters.pending_asks >= self._parts.limits.pending_asks:
            counters.refused += 1
            raise MailboxFull(
                f"{counters.pending_asks:,} asks wait for their answers: the limit of this system",
                machine_id=envelope.machine_id,
                event=envelope.event,
            )

    # -- events -------------------------------------------------------------------------------------------------

    def accept(self, envelope: Envelope) -> None:
        """Bring an event to its machine's mailbox.

        Raises:
            ActorFSMError: It is not accepted; nothing was changed.
        """
        parts = self._parts
        try:
            actor = self._actors.get(envelope.machine_id)
        except TypeError:  # not even hashable: refused by name below
            actor = None
        inbox = parts.inbox
        if actor is not None:
            kind = actor.kind
        else:
            if self._waits_for_machine(envelope):
                return
            kind = self._kind_to_be_born(envelope)
        spec = kind.events.get(envelope.event.__class__)
        if spec is None or spec.needs_care:
            self.check_event(kind, envelope)
        if inbox is not None and inbox.takes(kind, actor, envelope):
            return
        if actor is None:
            actor = self._give_birth(kind, envelope.machine_id)
        if envelope.has_own_id and self._is_repetition(actor, envelope):
            return
        try:
            parts.dispatcher.admit(actor, envelope)
        except ActorFSMError:
            if envelope.has_own_id:
                rare_of(actor).ids.pop(envelope.event_id, None)
            raise

    def _waits_for_machine(self, envelope: Envelope) -> bool:
        """Let an event wait for a machine that is loaded, or will be born of an event which is being stored."""
        recovery, inbox = self._parts.recovery, self._parts.inbox
        if recovery is None:
            return False
        check_is_event(envelope.event, check_machine_id(envelope.machine_id))
        # One that is being stored is before whatever comes: were this one loaded for now, it would find nobody.
        return (inbox is not None and inbox.follows(envelope)) or recovery.takes(envelope)

    def _kind_to_be_born(self, envelope: Envelope) -> Kind:
        """Return the class of which an event gives birth to a machine.

        Raises:
            NoSuchMachine: It does not.
        """
        machine_id = check_machine_id(envelope.machine_id)
        if machine_id in self._parts.registry.reserved:
            raise NoSuchMachine(
                f"{machine_id} stands in the supervision tree and is not running: only its supervisor starts it",
                machine_id=machine_id,
                event=envelope.event,
            )
        kind = self._parts.registry.births.get(type(envelope.event))
        if kind is None:
            check_is_event(envelope.event, machine_id)
            raise NoSuchMachine(
                f"no machine {machine_id}: spawn it, or send an event that a birth transition takes "
                f"({type(envelope.event).__name__} is none)",
                machine_id=machine_id,
                event=envelope.event,
            )
        return kind

    def _give_birth(self, kind: Kind, machine_id: str) -> Actor:
        self._actors[machine_id] = actor = Actor(kind, machine_id, kind.root, kind.rules.before_birth())
        kind.supervisor.adopt(actor)
        return actor

    def check_event(self, kind: Kind, envelope: Envelope) -> None:
        """Refuse what a class of machines does not take; copy what could be changed later.

        Raises:
            InvalidEvent: It does not take it, or only from the runtime.
        """
        event = envelope.event
        spec = kind.events.get(event.__class__)
        if spec is None:
            self._refuse_class(kind, envelope)
        elif spec.mutable:
            envelope.event = copy_value(event)
            if kind.options.redelivery.attempts or self._parts.has_journal:
                envelope.as_sent = copy_value(event)
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
        if not known.is_same(envelope):
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
            settling.settle_duplicate(actor, envelope, known.settlement)
        return True

    # -- messages of machines and of the runtime ----------------------------------------------------------------

    def deliver(self, envelope: Envelope) -> None:
        """Deliver a message that a machine has sent; what cannot be delivered is a dead letter."""
        counters = self._parts.counters
        counters.accepted += 1
        counters.outgoing += 1
        envelope.outgoing = True
        try:
            self.accept(envelope)
        except ActorFSMError as error:
            self.return_to_sender(envelope, error)

    def return_to_sender(self, envelope: Envelope, error: ActorFSMError) -> None:
        """End a message of a machine that reaches nobody: a dead letter."""
        counters = self._parts.counters
        counters.outgoing -= 1
        counters.outcomes["dead_lettered"] += 1
        envelope.outgoing = False
        counters.refused -= 1
        self.refuse(envelope, error)

    def send_outcome(self, envelope: Envelope, settlement: Settlement) -> None:
        """Send an event's outcome to the machine that its sender named; with a journal, the one that was promised."""
        answer = envelope.answer or self.outcome_for_reply_to(envelope, settlement)
        envelope.answer = None
        self.deliver(answer)

    def outcome_for_reply_to(self, envelope: Envelope, settlement: Settlement) -> Envelope:
        """Return the envelope of an event's outcome for the machine that its sender named."""
        assert envelope.reply_to is not None  # noqa: S101 -- checked by the caller
        outcome = outcome_of(envelope, self._parts.event_id(envelope), settlement)
        answer = self._addressing.from_runtime(outcome, envelope.reply_to, envelope)
        answer.durable = self._parts.has_journal
        return answer

    def send(self, machine_id: str, event: Event[Any, Any], cause: Envelope | None) -> Envelope:
        """Send a machine an event of the runtime's own: it finds room, and waits out a quarantine.

        Args:
            machine_id: For whom; if it is gone the event is a dead letter.
            event: The event.
            cause: The event that this one follows from, if any.
        """
        envelope = self._addressing.from_runtime(event, machine_id, cause)
        envelope.of_runtime = True
        self.deliver(envelope)
        return envelope

    # -- what does not get in -----------------------------------------------------------------------------------

    def refuse(self, envelope: Envelope, error: ActorFSMError) -> None:
        """End an event that was not accepted and for whose answer nobody waits: a dead letter.

        That is told when it is stored, if the event was promised.
        """
        self._parts.counters.refused += 1
        recording = self._parts.recording
        if recording is None:
            self._tell_refused(envelope, error)
        else:
            recording.undelivered(envelope, error, partial(self._tell_refused, envelope, error))

    def _tell_refused(
        self, envelope: Envelope, error: ActorFSMError, unknown: JournalError | None = None
    ) -> None:
        parts = self._parts
        error = unknown or error
        parts.bury(envelope, str(error))
        refuse(envelope, error)
        if envelope.callback is not None or envelope.reply_to is not None:
            settlement = refused_with(error)
            if envelope.callback is not None:
                outcome = outcome_of(envelope, parts.event_id(envelope), settlement)
                parts.callbacks.add(envelope, outcome)
            if envelope.reply_to is not None and unknown is None:
                self.send_outcome(envelope, settlement)
        self._emit_dead_letter(envelope, error)

    def _emit_dead_letter(self, envelope: Envelope, error: ActorFSMError) -> None:
        parts, event_id = self._parts, self._parts.event_id(envelope)
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

    def keep(self, envelope: Envelope, error: ActorFSMError) -> None:
        """End an event that was accepted by storing it, because the system goes down: the next one handles it."""
        parts, counters = self._parts, self._parts.counters
        counters.accepted += 1
        counters.outcomes["dead_lettered"] += 1
        settlement = refused_with(error)
        finish(envelope, settlement)
        if envelope.callback is not None:
            parts.callbacks.add(envelope, outcome_of(envelope, parts.event_id(envelope), settlement))
        self._emit_dead_letter(envelope, error)

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
            self.refuse(envelope, error)
        for twin in twins or ():
            settling.settle(
                actor, twin, "dead_lettered", actor.node.member, None, error=error, duplicate=True
            )

    # -- deadlines ----------------------------------------------------------------------------------------------

    def expire(self, envelope: Envelope) -> None:
        """Follow a deadline that has passed: an event not yet begun is removed, one being handled keeps its turn."""
        actor: Actor = envelope.actor
        parts = self._parts
        if envelope.actor is None and parts.recovery is not None and not envelope.settled:
            if parts.inbox is None or not parts.inbox.expire(envelope):
                parts.recovery.expire(envelope)
            return
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
            settling.end_undelivered(actor, envelope, error)
        else:
            settling.settle(actor, envelope, "expired", actor.node.member, None, error=error)
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
        settling.settle(actor, envelope, "expired", actor.node.member, None, error=error, duplicate=True)


def check_is_event(event: object, machine_id: str) -> None:
    """Refuse what is no event at all.

    Raises:
        InvalidEvent: It is none.
    """
    if not isinstance(event, Event):
        raise InvalidEvent(f"a {type(event).__name__} is not an event", machine_id=machine_id)
