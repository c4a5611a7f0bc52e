"""The dynamic supervisor of a machine class: what becomes of a machine after a failure, a birth, a stop.

A failed event is answered and rolled back; then the class's directive for the error applies. Only restarts count: more
than the policy allows within its period put the machine into quarantine, where an operator finds it (C14 to C17).

A machine that was declared in the supervision tree passes here too, but its restarts are the business of its supervisor
there: `Rare.child` leads to it.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from actorfsm.errors import Fenced, InvalidData, OutcomeUnknown, Quarantined
from actorfsm.machine.options import Directive, backoff
from actorfsm.runtime import jobs, perform, settling, timers
from actorfsm.runtime.actor import (
    IDLE,
    PAUSED,
    QUARANTINED,
    READY,
    RUNNING,
    STOPPED,
    SUSPENDED,
    Actor,
    Rare,
)
from actorfsm.runtime.intensity import Backoff, Intensity
from actorfsm.runtime.mailbox import Mailbox
from actorfsm.trace import Record
from actorfsm.values import copy_value

if TYPE_CHECKING:
    import asyncio

    from actorfsm.errors import ActorFSMError, HookFailed
    from actorfsm.journal.entry import EntryKind, Status
    from actorfsm.machine.definition import Transition
    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.kind import Kind
    from actorfsm.runtime.supervised import ClassChild
    from actorfsm.runtime.timers import Timer
    from actorfsm.runtime.turn import Turn

__all__ = ["DynamicSupervisor", "is_spawned", "rare_of"]


_JOURNAL_PAUSE_S: Final = 1.0
_HELD: Final = "is held by its supervisor"


def rare_of(actor: Actor) -> Rare:
    """Return what few machines need, made now if it was not there."""
    if actor.rare is None:
        actor.rare = Rare()
    return actor.rare


def is_spawned(actor: Actor) -> bool:
    """Return whether the machine was spawned by id, not declared in the supervision tree."""
    return actor.rare is None or actor.rare.child is None


class DynamicSupervisor:
    """Supervises the machines of one class that were spawned by id (OTP's `simple_one_for_one`).

    Attributes:
        node: Its place in the supervision tree.
    """

    node: ClassChild

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._parts = kind.parts
        self._options = kind.options
        self._held: dict[Actor, None] | None = None
        """The machines that wait until the tree lets them go on, while it holds them."""

    # -- birth --------------------------------------------------------------------------------------------------

    def committed(self, turn: Turn, choice: Transition) -> None:
        """Follow a commit that gave birth, or that stops the machine."""
        actor = turn.actor
        if choice.is_birth and actor.rare is not None:
            _wake(actor.rare.birth_waiters)
        if turn.stops_machine:
            rare_of(actor).stop_reason = settling.STOPPED_ITSELF
        elif (
            choice.target.final
            and not choice.stays
            and actor.rare is not None
            and actor.rare.child is not None
        ):
            actor.rare.child.finished()

    def birth_failed(self, actor: Actor) -> None:
        """Forget an id whose birth was refused or failed, unless the next event in its mailbox gives birth too."""
        if actor.status in {PAUSED, STOPPED}:
            return  # the birth is tried again, or everything is over
        if actor.rare is not None and actor.rare.child is not None:
            actor.rare.child.birth_failed()
            return
        mailbox = actor.mailbox
        queue = () if mailbox is None else mailbox.queue
        while queue and type(queue[0].event) not in self._kind.root.choices:
            settling.never_born(actor, queue.popleft())
        if queue:
            # A birth event: a second spawn is refused while the first is on its way. What a refused spawn was given was
            # for that one only.
            actor.data = self._kind.rules.before_birth()
            return
        actor.status = STOPPED
        if mailbox is not None:
            for envelope in mailbox.drain():
                settling.never_born(actor, envelope)
        actor.mailbox = None
        self._parts.registry.actors.pop(actor.id, None)  # last: until then what waits is accounted for
        self._parts.watches.ended(actor, "unknown")
        if actor.rare is not None:
            _wake(actor.rare.birth_waiters)

    # -- failure ------------------------------------------------------------------------------------------------

    def event_failed(self, turn: Turn, failure: HookFailed) -> None:
        """Answer a failed event, or try it again; then apply the directive for its error."""
        actor, envelope = turn.actor, turn.envelope
        rare_of(actor).crash = failure.crash
        policy = self._options.redelivery
        # A machine that is to stop after this event has no use for a pause, and would not come to its end in one.
        stops = (
            actor.status == STOPPED
            or turn.interruption in {"stopping", "supervisor"}
            or (actor.rare is not None and actor.rare.stop_reason is not None)
        )
        if envelope.attempt < policy.attempts and not stops and envelope.timer is None:
            self._redeliver(actor, envelope)
            return
        if (
            policy.attempts and envelope.timer is None
        ):  # a timer comes again by itself, and keeps nobody waiting
            settling.settle(
                actor,
                envelope,
                "dead_lettered",
                turn.old,
                turn.new,
                error=failure,
                hook=failure.hook,
                turn=turn,
                burial=f"poison: failed {envelope.attempt + 1} times, last with {failure}",
            )
        else:
            settling.settle(
                actor, envelope, "failed", turn.old, turn.new, error=failure, hook=failure.hook, turn=turn
            )
        if stops or actor.node.parent is None:
            return
        cause = failure.__cause__ or failure
        child = None if actor.rare is None else actor.rare.child
        directive = self._options.directive_for(
            cause, Directive.RESUME if child is None else Directive.RESTART
        )
        if failure.hook == "commit" and not self._is_sound(actor):
            directive = Directive.RESTART
        gave_up = envelope.timer is not None and envelope.timer.gave_up
        if child is not None:
            if gave_up or directive is not Directive.RESUME:
                child.failed(cause)
        elif directive is Directive.STOP:
            rare = rare_of(actor)
            rare.stop_reason, rare.stop_is_failure = f"stopped after {type(cause).__name__}", True
        elif envelope.timer is not None and gave_up:
            self._give_up_timer(actor, envelope.timer, cause)
        elif directive is Directive.RESTART:
            self.restart(actor, cause)

    def _is_sound(self, actor: Actor) -> bool:
        """Return whether the committed data still validates; if not, the incarnation is in doubt (C14)."""
        try:
            self._kind.rules.validated(actor.data, self._kind.definition.mutable_fields)
        except InvalidData:
            return False
        return True

    def hook_left_behind(self, turn: Turn) -> None:
        """Go on without a hook that did not end: its incarnation is in doubt, so the machine is restarted."""
        actor = turn.actor
        turn.interruption = "abandoned"
        hook = "" if turn.step is None else turn.step.name
        error = TimeoutError(f"{hook} was cancelled and did not end within {self._parts.limits.grace_s:g} s")
        was_committed = turn.committed
        turn.close()
        if was_committed:
            assert turn.step is not None  # noqa: S101 -- an after-hook
            perform.report_after_hook(turn, turn.step, error)
        else:
            failure = perform.failure_of(turn, error)
            rare_of(actor).crash = failure.crash
            settling.settle(
                actor,
                turn.envelope,
                "failed",
                turn.old,
                turn.new,
                error=failure,
                hook=failure.hook,
                turn=turn,
            )
        if actor.status == STOPPED:
            return  # the system is going down
        if actor.node.parent is None:
            self.birth_failed(actor)
            if (
                actor.status == RUNNING
            ):  # the next event gives birth too, and the worker stayed behind with the hook
                self.go_on(actor)
        elif actor.rare is not None and actor.rare.stop_reason is not None:
            self.stop_now(actor)
        elif turn.envelope.timer is not None and turn.envelope.timer.gave_up and is_spawned(actor):
            self._give_up_timer(actor, turn.envelope.timer, error)
        else:
            self.restart(actor, error)

    def _redeliver(self, actor: Actor, envelope: Envelope) -> None:
        """Try a failed event again after a pause, during which the machine handles nothing else."""
        policy = self._options.redelivery
        delay_s = backoff(policy, envelope.attempt)
        envelope.attempt += 1
        envelope.begun = False
        if envelope.as_sent is not None:
            envelope.event = copy_value(envelope.as_sent)  # whatever a hook has done to the one that failed
        self._parts.counters.in_flight -= 1
        actor.mailbox = actor.mailbox or Mailbox()
        actor.mailbox.put_back(envelope)
        if self._parts.recording is not None:
            self._parts.recording.tried(actor, envelope)
        self._pause(actor, delay_s)

    def try_again(self, turn: Turn, error: ActorFSMError) -> bool:
        """Handle a promised event again after a pause, because the journal did not take its commit.

        Returns:
            Whether it will be; otherwise the machine is to end, and the journal keeps the event.
        """
        actor, envelope = turn.actor, turn.envelope
        is_to_stop = actor.rare is not None and actor.rare.stop_reason is not None
        if actor.status == STOPPED or is_to_stop or isinstance(error, Fenced | OutcomeUnknown):
            return False
        envelope.begun = False
        self._parts.counters.in_flight -= 1
        actor.mailbox = actor.mailbox or Mailbox()
        actor.mailbox.put_back(envelope)
        self._pause(actor, _JOURNAL_PAUSE_S)
        return True

    # -- restart, backoff, quarantine ---------------------------------------------------------------------------

    def restart(self, actor: Actor, cause: BaseException) -> None:
        """Begin a new incarnation from the last committed state; mail is kept, in order."""
        rare, policy, now = rare_of(actor), self._options.restart, self._parts.loop.time()
        if rare.child is not None:
            rare.child.failed(cause)
            return
        intensity = rare.intensity = rare.intensity or Intensity()
        pauses = rare.backoff = rare.backoff or Backoff()
        is_allowed = intensity.allows(policy, now)
        if not is_allowed and policy.escalate and not self._parts.stopping and self._held is None:
            actor.status = PAUSED
            self.hold_all()
            self.node.exited(cause)
            return
        actor.incarnation += 1
        jobs.interrupt(actor)
        self._parts.counters.restarts += 1
        if not is_allowed:
            self._quarantine(actor, cause, f"more than {policy.max_restarts} restarts")
            return
        delay_s = pauses.next_pause_s(policy, now, self._parts.random)
        reason = f"after {type(cause).__name__}; resumes in {delay_s:.3g} s"
        self.record(actor, "restarted", reason, cause)
        self.write(actor, "restarted")
        self._pause(actor, delay_s)

    def _pause(self, actor: Actor, delay_s: float) -> None:
        actor.status = PAUSED
        rare_of(actor).pause_key = self._parts.timers.call_later(
            delay_s, self._parts.guarded(self._resume), actor
        )

    def _resume(self, actor: Actor) -> None:
        rare_of(actor).pause_key = 0
        self.go_on(actor)
        self._parts.note_change()

    def go_on(self, actor: Actor) -> None:
        """Let a machine handle events again."""
        actor.status = IDLE
        mailbox = actor.mailbox
        if actor.node.parent is None and (mailbox is None or not mailbox.own):
            self.birth_failed(actor)  # what would have given birth has expired meanwhile
        if actor.status == IDLE:
            if actor.rare is not None and actor.rare.suspended:
                actor.status = SUSPENDED
            self._parts.dispatcher.made_room(actor)
        jobs.resume(actor)

    def _give_up_timer(self, actor: Actor, timer: Timer, cause: BaseException) -> None:
        """Hold a machine, and with it the timer whose event has failed too often: it is tried again at the release."""
        actor.incarnation += 1
        jobs.interrupt(actor)
        self._parts.counters.restarts += 1
        self._quarantine(actor, cause, f"the timer {timer.name} failed {timer.failures} times")

    def _quarantine(self, actor: Actor, cause: BaseException, reason: str) -> None:
        actor.status = QUARANTINED
        self._parts.counters.quarantines += 1
        self.record(actor, "quarantined", reason, cause)
        self.write(actor, "quarantined", "quarantined")
        self._answer_asks_in_quarantine(actor)
        if self._parts.on_quarantine is not None:
            self._parts.on_quarantine(actor.id, cause)

    def _answer_asks_in_quarantine(self, actor: Actor) -> None:
        mailbox = actor.mailbox
        if mailbox is None:
            return
        for envelope in [envelope for envelope in mailbox if envelope.is_ask]:
            mailbox.remove(envelope)
            error = Quarantined(
                f"{actor.id} was quarantined before it came to this event",
                machine_id=actor.id,
                event=envelope.event,
            )
            settling.end_undelivered(actor, envelope, error)

    def release(self, actor: Actor, *, discard: bool) -> None:
        """Let a quarantined machine go on, with the events that were held or without."""
        if actor.status != QUARANTINED:
            return
        rare = rare_of(actor)
        if rare.intensity is not None and rare.backoff is not None:
            rare.intensity.clear()
            rare.backoff.clear()
        timers.forgive(actor)
        self.record(actor, "released", "without the events that were held" if discard else "", None)
        self.write(actor, "released", self._status_of(actor))
        if discard and actor.mailbox is not None:
            for envelope in actor.mailbox.drain():
                error = Quarantined(
                    f"{actor.id} was released without the events that were held",
                    machine_id=actor.id,
                    event=envelope.event,
                )
                settling.end_undelivered(actor, envelope, error)
            actor.mailbox = None
        self.go_on(actor)

    # -- suspend ------------------------------------------------------------------------------------------------

    def suspend(self, actor: Actor) -> None:
        """Hold a machine, at most after the event now being handled; a pause or a quarantine goes on meanwhile."""
        rare = rare_of(actor)
        if rare.suspended:
            return
        rare.suspended = True
        if actor.status == READY:
            self._parts.dispatcher.hold_back(actor)
        if actor.status in {IDLE, READY}:
            actor.status = SUSPENDED
        busy = actor.status == RUNNING
        self.record(actor, "suspended", "after the event that is being handled" if busy else "", None)
        self._write_held(actor, "suspended")

    def resume(self, actor: Actor) -> None:
        """Let a suspended machine go on, unless a pause or a quarantine still holds it."""
        rare = actor.rare
        if rare is None or not rare.suspended:
            return
        rare.suspended = False
        self.record(actor, "resumed", "", None)
        self._write_held(actor, "resumed")
        if actor.status == SUSPENDED:
            self.go_on(actor)

    # -- stop ---------------------------------------------------------------------------------------------------

    def stop(self, actor: Actor, reason: str) -> None:
        """Stop a machine, at most after the event now being handled: a system message overtakes the queue."""
        if actor.status == RUNNING:
            rare_of(actor).stop_reason = reason
        elif actor.status != STOPPED:
            rare_of(actor).stop_reason = reason
            self.stop_now(actor)

    def stop_now(self, actor: Actor, *, is_shown: bool = True) -> None:
        """End the actor: what waits gets its outcome, the id becomes unknown. One that is started again is only held.

        Args:
            actor: It has no turn, or its turn is over.
            is_shown: Whether the trace has a record of it.
        """
        rare = rare_of(actor)
        if self._held is not None and rare.stop_reason == _HELD:
            self._hold(actor, self._held)
            return
        child = rare.child
        if child is not None and child.keeps(actor):
            _wake(rare.stop_waiters)
            return
        reason = rare.stop_reason or "stopped"
        actor.status = STOPPED
        if rare.pause_key:
            self._parts.timers.cancel(rare.pause_key)
        timers.cancel_all(actor)
        jobs.cancel_all(actor)
        recording = self._parts.recording
        with nullcontext() if recording is None else recording.as_a_whole(actor):
            if actor.mailbox is not None:
                for envelope in actor.mailbox.drain():
                    settling.end_undelivered(
                        actor, envelope, settling.stopped_before(actor, envelope, reason)
                    )
                actor.mailbox = None
            self.write(actor, "stopped", "stopped")
        self._parts.registry.actors.pop(actor.id, None)  # last: until then what waits is accounted for
        if is_shown:
            self.record(actor, "stopped", reason, None)
        self._parts.watches.drop(actor)
        self._parts.watches.ended(actor, "failed" if rare.stop_is_failure else "stopped")
        _wake(rare.stop_waiters)
        _wake(rare.birth_waiters)
        self._parts.note_change()
        if child is not None:
            child.is_gone()

    def end_with(self, actor: Actor, error: ActorFSMError) -> None:
        """End everything that waits at a machine with one error: the system is going down."""
        rare = actor.rare
        if rare is not None and rare.pause_key:
            self._parts.timers.cancel(rare.pause_key)
        actor.status = STOPPED
        timers.cancel_all(actor)
        jobs.cancel_all(actor)
        if actor.mailbox is not None:
            for envelope in actor.mailbox.drain():
                settling.end_undelivered(actor, envelope, error)
            actor.mailbox = None
        if actor.node.parent is None:
            self._parts.registry.actors.pop(
                actor.id, None
            )  # who waits for its birth shall find no trace of it
        if rare is not None:
            _wake(rare.stop_waiters)
            _wake(rare.birth_waiters)

    # -- what the tree asks for -------------------------------------------------------------------------------------

    def hold_all(self) -> None:
        """Let none of the machines handle more than the event at hand; what is born meanwhile waits, too."""
        held = self._held = self._held or {}
        for actor in list(self._parts.registry.actors.values()):
            if actor.kind is self._kind and is_spawned(actor):
                if actor.status == RUNNING:
                    rare = rare_of(actor)
                    rare.stop_reason = rare.stop_reason or _HELD
                else:
                    self._hold(actor, held)

    def _hold(self, actor: Actor, held: dict[Actor, None]) -> None:
        if actor.status in {QUARANTINED, STOPPED}:
            return
        rare = rare_of(actor)
        actor.status, rare.stop_reason = PAUSED, None
        jobs.interrupt(actor)
        held[actor] = None
        if rare.pause_key:
            self._parts.timers.cancel(rare.pause_key)
            rare.pause_key = 0
        self._parts.note_change()

    @property
    def is_holding(self) -> bool:
        """Whether the tree lets none of the machines go on for now."""
        return self._held is not None

    def adopt(self, actor: Actor) -> None:
        """Take a machine that is about to be born under supervision."""
        if self._parts.recovery is not None:
            self._parts.recovery.adopt(actor)
        if self._held is not None:
            self._hold(actor, self._held)

    def take_back(self, actor: Actor) -> None:
        """Take a machine back that the journal had."""
        if self._held is not None:
            self._hold(actor, self._held)

    def resume_all(self) -> None:
        """Let the machines that were held go on, each in a new incarnation."""
        held, self._held = self._held, None
        for actor in held or ():
            if actor.status != PAUSED:
                continue  # stopped meanwhile
            if actor.node.parent is not None:
                actor.incarnation += 1
                self._parts.counters.restarts += 1
                self.record(actor, "restarted", "with its supervisor", None)
                self.write(actor, "restarted")
            self.go_on(actor)

    def give_up(self) -> None:
        """Stop the machines that are held: they are not started again. What is stored of them stays."""
        held, self._held = self._held, None
        for actor in held or ():
            if self._parts.recording is not None:
                self._parts.recording.leave(actor)
            self.stop(actor, "is not started again")

    def write(self, actor: Actor, kind: EntryKind, status: Status | None = None) -> None:
        """Let the journal have an entry of what befell a machine."""
        if self._parts.recording is not None:
            self._parts.recording.befell(actor, kind, status)

    def _write_held(self, actor: Actor, kind: EntryKind) -> None:
        """Let the journal know that an operator holds a machine, or no longer; a quarantine counts more."""
        self.write(actor, kind, None if actor.status == QUARANTINED else self._status_of(actor))

    def _status_of(self, actor: Actor) -> Status:
        """Return what the journal is to say of a machine that was released, suspended or resumed."""
        if actor.rare is not None and actor.rare.suspended:
            return "suspended"
        return "finished" if actor.node.final else "alive"

    def record(self, actor: Actor, name: str, reason: str, error: BaseException | None) -> None:
        """Let the trace have a record of a machine."""
        if self._parts.sinks:
            state = None if actor.node.parent is None else actor.node.name
            record = Record(
                name,
                self._kind.name,
                actor.id,
                actor.incarnation,
                actor.seq,
                source=state,
                target=state,
                reason=reason,
                error=error,
            )
            recording = self._parts.recording
            if recording is None:
                self._parts.emit_outside(record)
            else:  # behind the outcomes that led to it
                recording.tell_in_order(actor, lambda _: self._parts.emit_outside(record))


def _wake(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()
