"""Durable after-hooks: each a row of the outbox, stored with the commit, run beside the machine at least once (C24)."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from actorfsm.errors import InvalidData
from actorfsm.journal.entry import Batch, DeadMessage
from actorfsm.machine.options import Redelivery, backoff
from actorfsm.runtime import perform
from actorfsm.runtime.reply import described
from actorfsm.runtime.tasks import start_task
from actorfsm.runtime.track import Telling, microseconds
from actorfsm.runtime.turn import Turn
from actorfsm.trace import Record
from actorfsm.values import copy_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from actorfsm.errors import JournalError
    from actorfsm.journal.entry import Message, Pending
    from actorfsm.machine.definition import Step, Transition
    from actorfsm.runtime.actor import Actor
    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.kind import Kind
    from actorfsm.runtime.parts import Parts

__all__ = ["DurableHooks"]

_RETRIES: Final = Redelivery(attempts=5, first_delay_s=1.0, max_delay_s=60.0)
"""How often a hook that failed is tried again."""


class _Run:
    """A hook that is to be run, until it has succeeded or is a dead letter."""

    __slots__ = ("actor", "choice", "data", "envelope", "failures", "key", "new", "old", "step")

    def __init__(  # noqa: PLR0917 -- made in two places
        self, actor: Actor, step: Step, old: Any, new: Any, envelope: Envelope, key: str | None
    ) -> None:
        self.actor = actor
        self.step = step
        self.old = old
        self.new = new
        self.envelope = envelope
        self.key = key
        self.data = actor.data
        self.choice: Transition | None = None
        self.failures = 0


class DurableHooks:
    """Runs the durable after-hooks of one system."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def begin(self, turn: Turn, choice: Transition, step: Step) -> None:
        """Run a hook that follows from a commit."""
        key = None if turn.hook_keys is None else turn.hook_keys[step.name]
        run = _Run(turn.actor, step, choice.old, choice.new, turn.envelope, key)
        run.choice = choice
        self._start(run)

    def revive(self, actor: Actor, pending: Pending, read: Callable[[Kind, str, Message], Envelope]) -> None:
        """Run a hook that an earlier system has not brought to its end.

        Args:
            actor: The machine, as it is loaded.
            pending: The hook.
            read: Makes an envelope of a stored message.
        """
        note = json.loads(pending.note)
        step = _step(actor.kind, note["hook"])
        states = {node.name: node.member for node in actor.kind.definition.states.values()}
        try:
            if step is None or not {note["old"], note["new"]} <= states.keys():
                raise InvalidData(f"{actor.kind.name} has no durable hook {note['hook']} for this transition")
            envelope = read(actor.kind, actor.id, pending.message)
        except InvalidData as error:
            self._give_up_stored(actor, pending, note["hook"], error)
            return
        self._start(_Run(actor, step, states[note["old"]], states[note["new"]], envelope, pending.key))

    def _start(self, run: _Run) -> None:
        parts = self._parts
        if not parts.dispatcher.is_closed:  # otherwise the journal keeps it for the next system
            task = start_task(self._work(run), parts.loop)
            parts.keep(task, f"{run.actor.id}.{run.step.name}")

    async def _work(self, run: _Run) -> None:
        envelope = run.envelope
        turn = Turn(run.actor, envelope)
        turn.choice, turn.data, turn.started_at = run.choice, run.data, self._parts.time()
        event = envelope.event if envelope.as_sent is None else copy_value(envelope.as_sent)
        error = await perform.run_beside(turn, run.step, (run.old, run.new, event))
        if error is None:
            self._settle(run.key, ())
            return
        run.failures += 1
        if run.failures <= _RETRIES.attempts:
            delay_s = backoff(_RETRIES, run.failures - 1)
            self._parts.timers.call_later(delay_s, self._parts.guarded(self._start), run)
        else:
            self._give_up(run, error)

    def _give_up(self, run: _Run, error: BaseException) -> None:
        reason = f"{run.step.name} failed {run.failures} times, last with {described(error)}"
        recording = self._parts.recording
        if recording is None or run.key is None:
            self._parts.bury(run.envelope, reason)
            return
        self._settle(
            run.key,
            (recording.entries.dead(run.envelope, reason),),
            partial(self._bury, run.envelope, reason),
        )

    def _bury(self, envelope: Envelope, reason: str, unknown: JournalError | None) -> None:
        if unknown is None:
            self._parts.bury(envelope, reason)

    def _give_up_stored(self, actor: Actor, pending: Pending, hook: str, error: InvalidData) -> None:
        """Make a dead letter of what is stored and cannot be run: nothing of it is lost."""
        parts = self._parts
        reason = f"{hook} cannot be run: {error}"
        at_us = microseconds(parts.clock.now())
        dead = DeadMessage(machine_id=actor.id, message=pending.message, reason=reason, at_us=at_us)
        self._settle(pending.key, (dead,))
        parts.counters.after_hooks_failed += 1
        if parts.sinks:
            parts.emit_outside(
                Record(
                    "after_hook_failed",
                    actor.kind.name,
                    actor.id,
                    actor.incarnation,
                    actor.seq,
                    pending.message.event.type,
                    pending.message.event_id,
                    reason=reason,
                    hook=hook,
                    error=error,
                )
            )

    def _settle(
        self,
        key: str | None,
        dead: tuple[DeadMessage, ...],
        tell: Callable[[JournalError | None], None] | None = None,
    ) -> None:
        recording = self._parts.recording
        if recording is not None and key is not None:
            telling = None if tell is None else Telling(None, tell)
            recording.writer.hand_in(Batch(settled=(key,), dead=dead), telling)


def _step(kind: Kind, name: str) -> Step | None:
    """Return a durable hook by its name."""
    steps = (hook.step for hook in kind.definition.hooks)
    return next((step for step in steps if step.durable and step.name == name), None)
