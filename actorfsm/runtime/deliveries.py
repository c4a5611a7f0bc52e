"""Deliveries: what an earlier life has left is counted before its turn: so often it may end the process (C14).

A hook that ends the process leaves no outcome, and so its event comes again in the next life. Before such an event has
its turn the journal is told that it is about to begin; its outcome settles that. So the next system knows how often it
was begun, and after too many it is a dead letter; what a timer sends puts its machine into quarantine, as when it
fails. Events are handled in order, so that only the first of those that wait for a machine can have been begun: to
count that one in each life is enough. An event of this life is not counted: it costs nothing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from actorfsm.errors import HookFailed, JournalError
from actorfsm.journal.entry import Batch, Pending
from actorfsm.machine.definition import POSTPONE
from actorfsm.runtime import perform, settling
from actorfsm.runtime.tasks import to_the_end

if TYPE_CHECKING:
    from asyncio import Future

    from actorfsm.runtime.actor import Actor
    from actorfsm.runtime.entries import Entries
    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.journal_writer import JournalWriter
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.timers import Timer
    from actorfsm.runtime.turn import Turn

__all__ = ["Count", "Deliveries", "note_of", "note_of_timer"]

_LIVES = 10
"""In so many lives an event may be begun that an earlier one has left, or in more if it may fail more often.

So many that an event which is no cause of it is hardly in its turn each time that the process is killed.
"""


class Count:
    """In how many lives an event was begun that an earlier one has left.

    Attributes:
        keys: What the journal has of that, a key for each.
        is_counted: Whether this life is among them.
    """

    __slots__ = ("is_counted", "keys")

    def __init__(self, keys: tuple[str, ...] = ()) -> None:
        self.keys = keys
        self.is_counted = False


def note_of(envelope: Envelope, event_id: str) -> str:
    """Return how the journal names what is counted: what was promised, a timer, or a postponed event."""
    if envelope.timer is not None:
        return note_of_timer(envelope.timer)
    return _note("promise", envelope.promise) if envelope.promise else _note("postponed", event_id)


def note_of_timer(timer: Timer) -> str:
    """Return how the journal names what a timer sends."""
    return _note("timer", timer.name)


def _note(of: str, name: str) -> str:
    return json.dumps({of: name})


class Deliveries:
    """Counts in one system what earlier ones have left."""

    def __init__(self, parts: Parts, entries: Entries, writer: JournalWriter) -> None:
        self._parts = parts
        self._entries = entries
        self._writer = writer

    async def is_poison(self, turn: Turn, count: Count) -> bool:
        """Return whether an event has ended too many lives; then it has its outcome. Otherwise this one is counted.

        Raises:
            NotWritten: That could not be stored.
        """
        actor, envelope = turn.actor, turn.envelope
        if count.is_counted or not _may_run(actor, envelope):
            return False
        if len(count.keys) >= max(_LIVES, actor.kind.options.redelivery.attempts):
            self._end(turn, len(count.keys))
            return True
        key = f"{actor.id}/begun/{self._parts.ids.text(self._parts.ids.next_number())}"
        event_id = self._parts.event_id(envelope)
        pending = Pending(
            key=key,
            kind="delivery",
            machine_id=actor.id,
            message=self._entries.message(envelope),
            note=note_of(envelope, event_id),
        )
        stored: Future[JournalError | None] = self._parts.loop.create_future()
        self._writer.store(Batch(accepted=(pending,)), stored.set_result)
        turn.is_committing = True
        try:
            error = await to_the_end(stored)
        finally:
            turn.is_committing = False
        if error is not None:
            raise perform.NotWritten(error)
        count.keys, count.is_counted = (*count.keys, key), True
        return False

    def _end(self, turn: Turn, lives: int) -> None:
        actor, envelope = turn.actor, turn.envelope
        what = type(envelope.event).__name__
        said = f"the process ended in {lives} lives while {actor.id} handled {what}"
        failure = HookFailed(said, hook="turn", machine_id=actor.id, event=envelope.event)
        supervisor = actor.kind.supervisor
        turn.close()
        if envelope.timer is not None:
            envelope.timer.failures = actor.kind.options.timer_attempts  # this one is one too many
            supervisor.event_failed(turn, failure)
            return
        settling.settle(
            actor,
            envelope,
            "dead_lettered",
            turn.old,
            turn.new,
            error=failure,
            hook=failure.hook,
            turn=turn,
            burial=f"poison: {said}",
        )
        if actor.node.parent is None:
            supervisor.birth_failed(actor)

    def interrupted(self, envelope: Envelope) -> None:
        """Follow the end of a turn in which the system was stopped: this life does not count."""
        count = envelope.deliveries
        if count is not None and count.is_counted and count.keys:
            *before, last = count.keys
            count.keys, count.is_counted = tuple(before), False
            self._writer.hand_in(Batch(settled=(last,)))


def _may_run(actor: Actor, envelope: Envelope) -> bool:
    """Return whether any user code may run for an event: guards at least."""
    return any(choice is not POSTPONE for choice in actor.node.choices.get(type(envelope.event), ()))
