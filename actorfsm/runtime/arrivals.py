"""Arrivals: a machine that was loaded takes its place, and what waits for it gets in, in order."""

from __future__ import annotations

from collections import deque
from itertools import groupby
from typing import TYPE_CHECKING

from actorfsm.errors import ActorFSMError, InvalidData, MachineStopped, Quarantined
from actorfsm.event import Terminated
from actorfsm.journal.entry import Pending
from actorfsm.runtime import settling
from actorfsm.runtime.actor import IDLE, STOPPED
from actorfsm.runtime.dynamic_supervisor import is_spawned, rare_of
from actorfsm.runtime.envelope import Envelope
from actorfsm.runtime.mailbox import Mailbox
from actorfsm.runtime.reply import refuse, tell_accepted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from actorfsm.journal.entry import Recorded
    from actorfsm.journal.protocol import Journal
    from actorfsm.runtime.actor import Actor
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.recording import Recording
    from actorfsm.runtime.rehydration import Item
    from actorfsm.runtime.timers import Timer
    from actorfsm.runtime.track import Track

__all__ = ["Arrivals"]


class Arrivals:
    """Lets machines, and what waits for them, into one system.

    Attributes:
        machine_id: The id whose events get in now: if it is not alive, there is nothing to load.
    """

    def __init__(
        self,
        parts: Parts,
        journal: Journal,
        recording: Recording,
        watch: Callable[[Actor, Iterable[str]], None],
    ) -> None:
        self._parts = parts
        self._journal = journal
        self._recording = recording
        self._watch = watch
        self.machine_id: str | None = None

    def let_in(
        self,
        machine_id: str,
        events: Iterable[Envelope],
        dead: Actor | None,
        answers: dict[str, Recorded],
    ) -> None:
        """Let in the events for an id.

        Args:
            machine_id: The id.
            events: The events, in order.
            dead: The machine, if it has stopped.
            answers: What that answered, by event id.
        """
        self.machine_id = machine_id
        try:
            for envelope in events:
                if dead is not None and envelope.event_id in answers:
                    self._answer_for_the_dead(dead, envelope, answers[envelope.event_id])
                else:
                    self._let_in(envelope)
        finally:
            self.machine_id = None

    def end_own(self, own: Iterable[Envelope]) -> None:
        """End what a machine has raised itself and did not come to before it stopped."""
        for envelope in own:
            what = type(envelope.event).__name__
            error = MachineStopped(
                f"{envelope.machine_id} stopped before it came to {what}",
                machine_id=envelope.machine_id,
                event=envelope.event,
            )
            self._parts.counters.accepted += 1
            self._parts.counters.outgoing += 1
            envelope.outgoing = True
            self._parts.admission.return_to_sender(envelope, error)

    def settle_in(self, actor: Actor, own: list[Envelope], arriving: list[Envelope]) -> None:
        """Let a machine live that was loaded, with its own events, timers and watches.

        Args:
            actor: The machine.
            own: Events that it has raised itself and not come to.
            arriving: The events that get in after this.
        """
        parts, track = self._parts, actor.track
        assert track is not None  # noqa: S101 -- it was revived
        parts.registry.actors[actor.id] = actor
        if is_spawned(actor):
            actor.kind.supervisor.take_back(actor)
        if own:
            actor.mailbox = actor.mailbox or Mailbox()
            actor.mailbox.own = deque(_as_raised(own))
            for envelope in own:
                envelope.actor, envelope.accepted = actor, True
        mailbox = actor.mailbox
        if mailbox is not None:
            parts.counters.accepted += mailbox.waiting
            for envelope in (*(mailbox.released or ()), *(mailbox.postponed or ())):
                if envelope.has_own_id:
                    rare_of(actor).remember(envelope, actor.kind.options.remembered_ids)
            if actor.status == IDLE and mailbox.waiting:
                parts.dispatcher.make_ready(actor)
        timers = [timer for timer, _ in track.timers.values()]
        actor.timers = {timer.name: timer for timer in timers} or None
        for timer in sorted(timers, key=_due_at):
            timer.arm()
        self._go_on_watching(actor, track, arriving)
        if parts.passivation is not None:
            parts.passivation.came_back(actor.id)

    def _go_on_watching(self, actor: Actor, track: Track, arriving: list[Envelope]) -> None:
        """Let a machine watch what it watched. While it was away its watches went on: what has ended arrives."""
        told = [envelope.event.machine_id for envelope in arriving if isinstance(envelope.event, Terminated)]
        goes_on = {*self._parts.watches.by(actor.id), *told}
        unknown = [machine_id for machine_id in track.watches if machine_id not in goes_on]
        if unknown:
            self._watch(actor, unknown)

    def _let_in(self, envelope: Envelope) -> None:
        """Let in what has waited."""
        parts = self._parts
        if (
            envelope.promise is not None and not envelope.outgoing
        ):  # it comes from an earlier life of the system
            parts.admission.deliver(envelope)
            return
        try:
            parts.admission.accept(envelope)
        except ActorFSMError as error:
            self.turn_away(envelope, error)
        else:
            if envelope.accepted:
                tell_accepted(envelope)

    def _answer_for_the_dead(self, actor: Actor, envelope: Envelope, recorded: Recorded) -> None:
        counters = self._parts.counters
        try:
            settlement = self._recording.settlement_of(actor, envelope, recorded)
        except ActorFSMError as error:
            self.turn_away(envelope, error)
            return
        if envelope.promise is None:
            counters.accepted += 1
        envelope.actor, envelope.accepted = actor, True
        settling.settle_duplicate(actor, envelope, settlement)

    def turn_away(self, item: Item, error: ActorFSMError) -> None:
        """End what waits for a machine that is not loaded; what the journal has is left there."""
        if isinstance(item, Pending):
            return  # the journal keeps it
        admission, counters = self._parts.admission, self._parts.counters
        if isinstance(error, Quarantined | InvalidData):
            item.promise = None  # the journal keeps it until the machine can be loaded
        if item.outgoing:
            admission.return_to_sender(item, error)
        elif item.is_ask:
            counters.refused += 1
            refuse(item, error)
        else:
            admission.refuse(item, error)

    async def answers_of_the_dead(self, actor: Actor | None, items: Iterable[Item]) -> dict[str, Recorded]:
        """Return what a machine that has stopped answered to the event ids that are asked for again."""
        known: dict[str, Recorded] = {}
        if actor is None or actor.status != STOPPED:
            return known
        asked: set[str] = set()
        while (
            left := {item.event_id for item in items if isinstance(item, Envelope) and item.has_own_id}
            - asked
        ):
            event_id = left.pop()
            asked.add(event_id)
            recorded = await self._journal.lookup(actor.id, event_id)
            if recorded is not None:
                known[event_id] = recorded
        return known


def _as_raised(own: Sequence[Envelope]) -> Iterable[Envelope]:
    """Yield own events in the order in which they were to be handled: the newest turn's first, each in its order."""
    turns = [list(group) for _, group in groupby(own, key=lambda envelope: envelope.causation_id)]
    for group in reversed(turns):
        yield from group


def _due_at(timer: Timer) -> datetime:
    assert timer.at is not None  # noqa: S101 -- it was revived
    return timer.at
