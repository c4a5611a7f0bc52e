"""Rehydration: a stored machine becomes an actor again, and what is pending for it envelopes, jobs and hooks.

No user code runs here; what does not fit what the code has now is an error that names it (C23, C28).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

from actorfsm.errors import InvalidData
from actorfsm.journal.entry import Pending
from actorfsm.machine.timers import TimerScope
from actorfsm.runtime import jobs
from actorfsm.runtime.actor import QUARANTINED, STOPPED, SUSPENDED, Actor
from actorfsm.runtime.deliveries import Count, note_of, note_of_timer
from actorfsm.runtime.dynamic_supervisor import rare_of
from actorfsm.runtime.envelope import Envelope
from actorfsm.runtime.mailbox import Mailbox
from actorfsm.runtime.stored_jobs import read_note
from actorfsm.runtime.timers import Timer
from actorfsm.runtime.track import NOT_STORED, Track, microseconds, time_of_day

if TYPE_CHECKING:
    from collections.abc import Iterable

    from actorfsm.journal.entry import Message
    from actorfsm.journal.protocol import Stored
    from actorfsm.runtime.kind import Kind
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.recording import Recording

__all__ = ["Counts", "Item", "Rehydration", "counts_of"]

Item: TypeAlias = Envelope | Pending
"""What waits for a machine that is loaded: it was sent in this life of the system, or promised in an earlier one."""

Counts: TypeAlias = dict[str, tuple[str, ...]]
"""In how many lives something was begun, a key for each, by the name that the journal has for it."""
_EVENTS: Final = frozenset({"event", "own"})
"""What is pending and an event."""


class Rehydration:
    """Makes the actors of one system out of what its journal has."""

    def __init__(self, parts: Parts, recording: Recording) -> None:
        self._parts = parts
        self._recording = recording
        self._kinds = list(parts.registry.kinds.values())
        self._since_us = microseconds(parts.clock.now())

    def actor_of(self, stored: Stored) -> Actor:
        """Return the actor that a machine's entries have left; it is not alive if they have ended.

        Raises:
            SchemaMismatch: Its class is not there, or something of it does not fit what the code has now.
        """
        image = stored.image
        kind, values = self._recording.entries.reader_of(image)
        child = self._parts.registry.reserved.get(image.machine_id)
        if child is not None and child.kind is not kind:
            raise InvalidData(
                f"{image.machine_id} is stored as a {kind.name}, and the tree has it as a {child.kind.name}: give "
                "one of them another id",
                machine_id=image.machine_id,
            )
        actor = Actor(kind, image.machine_id, *values.machine(image))
        actor.seq, actor.incarnation = image.commits, image.incarnation
        actor.track = track = Track(image.seq, image.status)
        track.snapshot_seq = stored.snapshot_seq
        track.is_outdated = values.is_outdated(image)
        track.watches = dict.fromkeys(image.watches)
        if image.status == "quarantined":
            actor.status = QUARANTINED
            rare_of(actor)
        elif image.status == "suspended":
            actor.status, rare_of(actor).suspended = SUSPENDED, True
        elif image.status == "stopped":
            actor.status = STOPPED
        for name, stored_timer in image.timers.items():
            timer = values.timer(stored_timer, actor.node)
            if timer is None or timer.name != name:
                track.timers_given_up += (name,)
            if timer is not None:
                origin = self.envelope_of(kind, actor.id, timer.message)
                revived = Timer(
                    actor, timer.name, TimerScope[timer.scope], origin, None, time_of_day(timer.due_us)
                )
                revived.failures, revived.due_us = timer.failures, timer.due_us
                track.timers[timer.name] = (revived, timer.failures if timer.name == name else NOT_STORED)
        if image.postponed:
            self._put_aside(actor, image.postponed)
        return actor

    def _put_aside(self, actor: Actor, postponed: Iterable[Message]) -> None:
        """Let what was postponed wait again; what waits already in this life of the system goes on waiting."""
        passivation = self._parts.passivation
        waiting = {} if passivation is None else passivation.waiting_for(actor.id)
        actor.mailbox = mailbox = Mailbox()
        for message in postponed:
            envelope = waiting.pop(message.event_id, None)
            if envelope is not None:
                envelope.actor = actor
                mailbox.postpone(envelope)
                continue
            envelope = self.envelope_of(actor.kind, actor.id, message)
            envelope.actor, envelope.accepted, envelope.is_put_aside = actor, True, True
            # The definition may have changed since: it is tried again, and waits again if it has to.
            mailbox.released = mailbox.released or deque()
            mailbox.released.append(envelope)

    def envelope_of(
        self, kind: Kind, machine_id: str, message: Message, *, is_arriving: bool = False
    ) -> Envelope:
        """Return a stored message as an envelope.

        Args:
            kind: The class of the machine that it is for.
            machine_id: The machine.
            message: The message.
            is_arriving: Whether it was promised, and has not reached the machine yet.

        Raises:
            InvalidData: The class does not take it as it is stored.
        """
        where = f"event {message.event_id} for {machine_id}"
        values = self._recording.entries.values(kind)
        event = (values.arriving if is_arriving else values.event)(message.event, where)
        envelope = Envelope(event, machine_id, self._parts.ids.next_number(), self._parts.time())
        envelope.event_id, envelope.has_own_id = message.event_id, message.has_own_id
        envelope.causation_id, envelope.correlation_id = message.causation_id, message.correlation_id
        envelope.headers = dict(message.headers) or None
        envelope.reply_to, envelope.attempt = message.reply_to, message.attempt
        envelope.machine_name = kind.name
        envelope.keeps_settlement = True
        return envelope

    def events_of(
        self, items: Iterable[Item], actor: Actor | None, counts: Counts
    ) -> tuple[list[Envelope], list[Envelope]]:
        """Return the events among what waits for a machine: those that were sent to it, and those that it has raised.

        Args:
            items: What waits.
            actor: The machine, if it is alive; what it has postponed is counted too.
            counts: What was begun in earlier lives; what is taken from it is removed.

        Raises:
            InvalidData: Nobody takes one that was promised.
        """
        sent: list[Envelope] = []
        own: list[Envelope] = []
        for item in items:
            if not isinstance(item, Pending):
                sent.append(item)
            elif item.kind in _EVENTS and not self.is_put_aside(item, actor):
                envelope = self.promised(item, actor)
                lane = own if item.kind == "own" else sent
                if not lane or note_of(envelope, envelope.event_id) in counts:
                    _count(envelope, counts)
                lane.append(envelope)
        if actor is not None:
            self._count_what_it_has(actor, counts)
        return sent, own

    def _count_what_it_has(self, actor: Actor, counts: Counts) -> None:
        """Count what the machine has itself and an earlier life may have begun: postponed events, and timers."""
        for envelope in () if actor.mailbox is None else actor.mailbox.released or ():
            _count(envelope, counts)
        overdue = [timer for timer, _ in _timers_of(actor) if timer.due_us < self._since_us]
        first = min(overdue, key=lambda timer: timer.due_us, default=None)
        for timer in overdue:
            if timer is first or note_of_timer(timer) in counts:
                timer.deliveries = Count(counts.pop(note_of_timer(timer), ()))

    def promised(self, pending: Pending, actor: Actor | None) -> Envelope:
        """Return a promised message as an envelope.

        Raises:
            InvalidData: Nobody takes it.
        """
        kinds = self._kinds if actor is None else [actor.kind]
        takers = [kind for kind in kinds if self._recording.entries.values(kind).takes(pending.message.event)]
        kind = (takers or kinds)[0]
        envelope = self.envelope_of(kind, pending.machine_id, pending.message, is_arriving=True)
        envelope.machine_name = "" if actor is None else kind.name
        envelope.promise = pending.key
        envelope.own_depth = int(pending.note or 0)
        return envelope

    def is_put_aside(self, item: Item, actor: Actor | None) -> bool:
        """Return whether the machine has a promised event already, since it failed there: its outcome settles that."""
        if actor is None or actor.mailbox is None or not isinstance(item, Pending):
            return False
        for envelope in actor.mailbox.released or ():
            if (
                envelope.event_id == item.message.event_id
                and self.promised(item, actor).event == envelope.event
            ):
                envelope.promise = item.key
                return True
        return False

    def revive_jobs(self, actor: Actor, items: Iterable[Item]) -> None:
        """Give a machine the jobs that were promised.

        Raises:
            InvalidData: Something that one needs is not there.
        """
        kind, track = actor.kind, actor.track
        assert track is not None  # noqa: S101 -- it was revived
        events = self._recording.entries.values(kind).event_classes()
        for item in items:
            if isinstance(item, Pending) and _is_job(item):
                stored = read_note(item.note, self._parts.services, events)
                jobs.revive(actor, self.envelope_of(kind, actor.id, item.message), item.key, stored)
                track.jobs[item.key] = None

    def revive_hooks(self, actor: Actor | None, items: Iterable[Item]) -> None:
        """Run the after-hooks that were promised, also those of a machine that has stopped."""
        for item in items:
            if actor is not None and isinstance(item, Pending) and _is_hook(item):
                self._parts.hooks.revive(actor, item, self.envelope_of)


def counts_of(items: Iterable[Item]) -> Counts:
    """Return what was begun in earlier lives."""
    counts: Counts = {}
    for item in items:
        if isinstance(item, Pending) and item.kind == "delivery":
            counts[item.note] = (*counts.get(item.note, ()), item.key)
    return counts


def _timers_of(actor: Actor) -> Iterable[tuple[Timer, int]]:
    return () if actor.track is None else actor.track.timers.values()


def _count(envelope: Envelope, counts: Counts) -> None:
    envelope.deliveries = Count(counts.pop(note_of(envelope, envelope.event_id), ()))


def _is_job(item: Item) -> bool:
    return isinstance(item, Pending) and item.kind == "job"


def _is_hook(item: Item) -> bool:
    return isinstance(item, Pending) and item.kind == "hook"
