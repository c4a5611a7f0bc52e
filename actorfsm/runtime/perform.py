"""Perform: what follows from a turn. What the commit lets out, or the rollback; and what runs after and beside it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any

from actorfsm.errors import (
    ActorFSMError,
    HookFailed,
    InvalidData,
    MailboxFull,
    Veto,
    Vetoed,
)
from actorfsm.runtime import jobs, settling, timers
from actorfsm.runtime.crash import Crash
from actorfsm.runtime.mailbox import Mailbox
from actorfsm.runtime.reply import described, safe_text
from actorfsm.runtime.tasks import start_task, to_the_end
from actorfsm.runtime.turn import CURRENT, Turn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from actorfsm.machine.definition import Choice, Step, Transition
    from actorfsm.runtime.actor import Actor
    from actorfsm.runtime.envelope import Envelope

__all__ = [
    "Interrupted",
    "NotWritten",
    "after_hook_failed",
    "after_interruption",
    "committed",
    "failure_of",
    "leave_detached",
    "refusal",
    "roll_back",
    "run_beside",
    "set_aside",
    "undo",
]


class Interrupted(BaseException):
    """A hook came back although the runtime had cancelled it; what it returned does not count."""


class NotWritten(BaseException):
    """The journal did not do its part of a turn; `error` says why. No user code is to blame."""

    def __init__(self, error: ActorFSMError) -> None:
        super().__init__(error)
        self.error = error


def refusal(step: Step, verdict: Any) -> BaseException:
    """Return what a hook's answer other than True and None means."""
    if verdict is False:
        return Veto()
    if isinstance(verdict, Veto):
        return verdict
    if asyncio.iscoroutine(verdict):
        verdict.close()
        return TypeError(f"{step.name} returned a coroutine: write it as `async def`")
    return TypeError(
        f"{step.name} returned {type(verdict).__name__}; a hook returns True or None to allow, False or a Veto to "
        "refuse"
    )


# -- the three ends of a turn ---------------------------------------------------------------------------------------


def committed(turn: Turn, choice: Transition, reply: Any) -> None:
    """Let out what waited for the commit: own events, reply, messages; start what runs beside the machine."""
    actor, envelope = turn.actor, turn.envelope
    if turn.own_events is not None:
        _raise_own(actor, turn.own_events)
    # Each argument in its place: the interpreter has a shorter way for such a call, half a percent of an ask.
    settling.settle(
        actor,
        envelope,
        "committed",
        choice.source.member,
        choice.new,
        reply,
        None,
        "",
        None,
        turn,
        False,  # noqa: FBT003
    )
    mailbox = actor.mailbox
    if mailbox is not None and mailbox.postponed and choice.changes_state:
        _state_changed(actor)  # after the record: what the final state answers comes after what led there
    if turn.has_more_to_do or choice.is_rare or actor.timers is not None or actor.jobs is not None:
        timers.commit(turn, choice)
        jobs.commit(turn, choice)
        if turn.outgoing is not None:
            _send(turn, turn.outgoing)
        for step in choice.detached:
            if step.durable:
                actor.kind.parts.hooks.begin(turn, choice, step)
            else:
                _start_detached(turn, choice, step)
        if turn.watching is not None:
            actor.kind.parts.watches.apply(actor, turn.watching)
        if choice.target.final:
            actor.kind.parts.watches.ended(actor, "finished", envelope)
        actor.kind.supervisor.committed(turn, choice)


def set_aside(turn: Turn, choice: Choice | None) -> None:
    """End the turn of an event that no transition took: postponed, or unhandled."""
    actor, envelope = turn.actor, turn.envelope
    turn.close()
    recording = actor.kind.parts.recording
    if choice is None or envelope.timer is not None:
        if actor.timers is not None:
            timers.other_event_ended(actor)  # first, so that one entry says both
        settling.settle_unhandled(actor, envelope, turn)
        if recording is not None:
            recording.timers_ended(actor)
        if actor.node.parent is None:
            actor.kind.supervisor.birth_failed(actor)
        return
    if actor.timers is not None:
        timers.other_event_ended(actor)
    mailbox = actor.mailbox = actor.mailbox or Mailbox()
    limit = actor.kind.options.postpone_limit
    if mailbox.postponed is not None and len(mailbox.postponed) >= limit:
        error = MailboxFull(
            f"{actor.id}: {limit} events are postponed already", machine_id=actor.id, event=envelope.event
        )
        settling.settle(
            actor,
            envelope,
            "dead_lettered",
            actor.node.member,
            None,
            error=error,
            turn=turn,
            burial=str(error),
        )
        return
    envelope.begun = False
    actor.kind.parts.counters.in_flight -= 1
    mailbox.postpone(envelope)
    if recording is not None:
        recording.postponed(actor, envelope)


async def undo(turn: Turn, error: BaseException) -> None:
    """Roll the user's own transaction back, before anybody is told that the event was refused or failed."""
    transaction = turn.transaction
    if transaction is None or isinstance(error, GeneratorExit):
        return  # where nothing can be awaited any more, the end of the turn cuts it off
    turn.is_committing = True
    try:
        await to_the_end(start_task(transaction.undo(), turn.actor.kind.parts.loop))
    finally:
        turn.is_committing = False


def _state_changed(actor: Actor) -> None:
    mailbox = actor.mailbox
    assert mailbox is not None  # noqa: S101 -- checked by the caller
    if actor.node.final:
        while mailbox.postponed:
            settling.settle_unhandled(actor, mailbox.postponed.pop(0), None)
        return
    mailbox.release_postponed()


def _raise_own(actor: Actor, own: Iterable[Envelope]) -> None:
    mailbox = actor.mailbox = actor.mailbox or Mailbox()
    envelopes = list(own)
    actor.kind.parts.counters.accepted += len(envelopes)
    for envelope in envelopes:
        envelope.actor, envelope.accepted, envelope.sender = actor, True, None
    mailbox.raise_own(envelopes)


def _send(turn: Turn, outgoing: list[Envelope]) -> None:
    turn.outgoing = None
    for envelope in outgoing:
        envelope.sender = None
        turn.actor.kind.parts.admission.deliver(envelope)


def roll_back(turn: Turn, error: BaseException) -> bool:
    """End the turn of an event that was refused or failed. The draft is dropped; that is the rollback.

    Returns:
        Whether the worker may go on with the actor.

    Raises:
        KeyboardInterrupt: It is a signal to shut down, not a failure.
        GeneratorExit: The loop is gone.
    """
    if turn.closed:
        return False  # left behind by the sweeper, which has answered the event already
    if isinstance(error, GeneratorExit) and asyncio._get_running_loop() is None:  # noqa: SLF001 -- the quiet question
        raise error
    turn.close()
    actor, envelope = turn.actor, turn.envelope
    if isinstance(error, KeyboardInterrupt):
        reason = "interrupted"
        settling.settle(
            actor, envelope, "dead_lettered", turn.old, turn.new, reason=reason, turn=turn, burial=reason
        )
        raise error
    if isinstance(error, NotWritten):
        _not_written(turn, error.error)
    elif isinstance(error, Veto):
        by = turn.step.name if turn.step is not None else getattr(error, "by", "guard")
        reason = safe_text(error.reason)
        text = f"{actor.id}: {type(envelope.event).__name__} was refused by {by}" + (
            f": {reason}" if reason else ""
        )
        vetoed = Vetoed(text, by=by, reason=reason, machine_id=actor.id, event=envelope.event)
        settling.settle(
            actor, envelope, "vetoed", turn.old, turn.new, error=vetoed, reason=reason, hook=by, turn=turn
        )
    else:
        actor.kind.supervisor.event_failed(turn, failure_of(turn, error))
    if actor.node.parent is None:
        actor.kind.supervisor.birth_failed(actor)
    return True


def _not_written(turn: Turn, error: ActorFSMError) -> None:
    """Answer an event that the journal did not take: nobody has failed. What was promised is tried again (C25)."""
    actor, envelope = turn.actor, turn.envelope
    is_promised = envelope.promise or envelope.is_put_aside or envelope.timer
    if is_promised and actor.kind.supervisor.try_again(turn, error):
        return
    settling.settle(actor, envelope, "failed", turn.old, turn.new, error=error, hook="commit", turn=turn)


def failure_of(turn: Turn, error: BaseException) -> HookFailed:
    """Return the typed failure for what user code raised."""
    actor, event = turn.actor, turn.envelope.event
    hook = "guard" if turn.step is None else turn.step.name
    if turn.interruption is not None and turn.interruption != "abandoned":
        error = _interruption(turn)
    elif isinstance(error, InvalidData) or (turn.step is not None and not turn.writable):
        hook = "commit"
    elif isinstance(error, HookFailed) and turn.step is None:
        hook = error.hook
        error = error.__cause__ or error
    said = safe_text(error)
    failure = HookFailed(
        f"{actor.id}: {type(event).__name__} failed in {hook}: {type(error).__name__}"
        + (f": {said}" if said else ""),
        hook=hook,
        machine_id=actor.id,
        event=event,
    )
    failure.__cause__ = error
    failure.crash = _crash_of(turn, hook, error, said)
    _add_note(
        error, f"while {actor.id} handled {type(event).__name__} {actor.kind.parts.event_id(turn.envelope)}"
    )
    return failure


def _crash_of(turn: Turn, hook: str, error: BaseException, said: str) -> Crash:
    """Return what the failure was made of: references, no copies."""
    actor, envelope = turn.actor, turn.envelope
    parts = actor.kind.parts
    remembered = None if actor.rare is None else actor.rare.ids.get(envelope.event_id)
    return Crash(
        machine_class=actor.kind.machine_class,
        machine_id=actor.id,
        state=actor.node.member,
        committed=actor.data,
        seq=actor.seq,
        incarnation=actor.incarnation,
        event=envelope.event if remembered is None else remembered.event,
        event_may_have_changed=remembered is None and actor.kind.events[type(envelope.event)].mutable,
        event_id=parts.event_id(envelope),
        causation_id=envelope.causation_id,
        headers=envelope.headers,
        attempt=envelope.attempt,
        hook=hook,
        error_class=type(error),
        error_text=said,
        at=parts.time(),
        seed=getattr(parts.loop, "seed", None),
    )


def _interruption(turn: Turn) -> BaseException:
    task = asyncio.current_task()
    if turn.interruption == "stopping":
        return TimeoutError("the system was stopped")
    if task is not None and task.cancelling():
        task.uncancel()  # it was ours, and has done its work
    if turn.interruption == "supervisor":
        return TimeoutError("its supervisor stopped it and waited no longer")
    limit = 0 if turn.step is None else turn.step.timeout_s
    return TimeoutError(f"took longer than {limit:g} s")


def _add_note(error: BaseException, note: str) -> None:
    with suppress(Exception):  # a note is a courtesy; an evil exception may refuse it
        error.add_note(note)


# -- after-hooks ----------------------------------------------------------------------------------------------------


def after_hook_failed(turn: Turn, step: Step, error: BaseException) -> None:
    """Record that an after-hook raised; the event stays committed."""
    if isinstance(error, KeyboardInterrupt) or (
        isinstance(error, GeneratorExit) and asyncio._get_running_loop() is None  # noqa: SLF001 -- the quiet question
    ):
        raise error
    if turn.interruption is not None:
        return  # reported by `after_interruption`, or by the sweeper that left it behind
    report_after_hook(turn, step, error)


def after_interruption(turn: Turn, step: Step) -> bool:
    """Record that an after-hook exceeded its deadline; return whether it was left behind."""
    if turn.closed:
        return True
    error = _interruption(turn)
    turn.interruption = None
    report_after_hook(turn, step, error)
    return False


def report_after_hook(turn: Turn, step: Step, error: BaseException) -> None:
    parts = turn.actor.kind.parts
    parts.counters.after_hooks_failed += 1
    if parts.sinks:
        reason = described(error)
        parts.emit(
            settling.record_of(turn.actor, turn.envelope, "after_hook_failed", turn, reason, step.name, error)
        )


def _start_detached(turn: Turn, choice: Transition, step: Step) -> None:
    parts = turn.actor.kind.parts
    task = start_task(_run_detached(turn, choice, step, turn.actor.data), parts.loop)
    parts.keep(task, f"{turn.actor.id}.{step.name}")


async def _run_detached(origin: Turn, choice: Transition, step: Step, data: dict[str, Any]) -> None:
    turn = Turn(origin.actor, origin.envelope)
    turn.choice, turn.started_at, turn.data = choice, origin.started_at, data
    await run_beside(turn, step, (choice.old, choice.new, origin.envelope.event))


async def run_beside(turn: Turn, step: Step, arguments: tuple[Any, ...]) -> BaseException | None:
    """Run an after-hook beside its machine in a turn of its own; return why it failed, which is reported.

    Args:
        turn: Made for it.
        step: The hook.
        arguments: `(old, new, event)`.
    """
    actor = turn.actor
    turn.step, turn.committed, turn.holds_machine = step, True, False
    machine = turn.machine = actor.kind.drafts.open(turn)
    CURRENT.set(turn)
    parts = actor.kind.parts
    if parts.tracing is not None:
        parts.tracing.enter(turn.envelope)
    parts.detached[turn] = parts.loop.call_later(
        step.timeout_s + parts.limits.grace_s, leave_detached, turn, context=Context()
    )
    try:
        async with asyncio.timeout(step.timeout_s):
            result = step.function(machine, *arguments[: step.arguments])
            if step.is_async:
                await result
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        after_hook_failed(turn, step, error)
        return error
    except BaseException as error:  # noqa: BLE001 -- what is committed stays committed
        after_hook_failed(turn, step, error)
        return error
    finally:
        if not turn.closed:
            parts.detached.pop(turn).cancel()
            turn.close()
    return None


def leave_detached(turn: Turn) -> None:
    """Leave a detached hook behind that refused to end when it was cancelled: its machine instance is closed."""
    parts, step = turn.actor.kind.parts, turn.step
    assert step is not None  # noqa: S101 -- it runs
    parts.detached.pop(turn).cancel()
    turn.interruption = "abandoned"
    turn.close()
    error = TimeoutError(f"{step.name} was cancelled and did not end within {parts.limits.grace_s:g} s")
    report_after_hook(turn, step, error)
