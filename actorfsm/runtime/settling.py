"""Settling: how an event ends. Whoever waits is answered, and there is one record.

`settle` is the one place where an event ends; every event passes it exactly once (C7).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from actorfsm.errors import (
    ActorFSMError,
    MachineStopped,
    NoSuchMachine,
    Unhandled,
)
from actorfsm.machine.definition import POSTPONE
from actorfsm.machine.selection import guards_that_refused, in_words
from actorfsm.runtime import jobs, timers
from actorfsm.runtime.envelope import Envelope, Settlement
from actorfsm.runtime.reply import finish, outcome_of, safe_text
from actorfsm.runtime.turn import CURRENT, Turn
from actorfsm.trace import Record
from actorfsm.values import copy_value, is_immutable

if TYPE_CHECKING:
    from actorfsm.errors import JournalError
    from actorfsm.event import Outcome, OutcomeKind
    from actorfsm.machine.definition import StateNode
    from actorfsm.runtime.actor import Actor

__all__ = [
    "STOPPED_ITSELF",
    "end_undelivered",
    "never_born",
    "record_of",
    "settle",
    "settle_duplicate",
    "settle_unhandled",
    "stopped_before",
    "unhandled_in",
]


STOPPED_ITSELF: Final = "stopped itself"
"""Why a machine has ended that has called `self.stop()`."""


def settle(  # noqa: C901, PLR0912, PLR0913, PLR0917 -- the columns of an outcome, and who waits for it
    actor: Actor,
    envelope: Envelope,
    kind: OutcomeKind,
    old: Any,
    new: Any,
    reply: Any = None,
    error: ActorFSMError | None = None,
    reason: str = "",
    hook: str | None = None,
    turn: Turn | None = None,
    duplicate: bool = False,  # noqa: FBT001, FBT002 -- as `committed` says
    burial: str = "",
) -> None:
    """End an event: count it, answer whoever waits, record it.

    With a journal an outcome of an event that the journal knows of is an entry first, and told when that is stored.

    Args:
        actor: The machine.
        envelope: The event.
        kind: How it ended.
        old: The state that it found.
        new: The state that it was to lead to.
        reply: What the body returned.
        error: The typed error for the asker.
        reason: Why not, in words; by default those of the error.
        hook: The hook that refused or failed.
        turn: Its turn, if it had one.
        duplicate: Whether this is the outcome of an earlier event with the same id.
        burial: Why it becomes a dead letter; empty if it does not.
    """
    parts = actor.kind.parts
    counters = parts.counters
    counters.outcomes[kind] += 1
    if envelope.begun:
        counters.in_flight -= 1
    elif envelope.outgoing:
        counters.outgoing -= 1
        envelope.outgoing = False
    elif envelope.joins is not None:
        counters.joined -= 1
    envelope.settled = True
    envelope.reply = reply
    if error is not None:
        envelope.error = error
        reason = reason or safe_text(error)
    recording = parts.recording
    if (
        recording is not None
        and (kind != "committed" or duplicate)
        and recording.tells_later(actor, envelope)
    ):
        record = None
        if parts.sinks:
            record = record_of(
                actor, envelope, kind, turn, reason, hook, error, old, new, duplicate=duplicate
            )
        ended = Settlement(
            kind,
            old,
            new,
            _unshared(reply) if envelope.is_ask else reply,
            error,
            reason,
            actor.seq,
            duplicate=duplicate,
        )
        _free_what_sent_it(envelope, kind)  # the entry says what becomes of it
        if kind == "expired" and envelope.waiter is not None:
            # Its deadline is behind it: for a journal that is away the asker waits so long and no longer (C8).
            parts.deadlines.add(envelope, parts.loop.time() + parts.limits.grace_s)
        recording.ended(actor, envelope, ended, partial(_tell, actor, envelope, ended, record, burial))
        return
    if burial:
        parts.bury(envelope, burial)
    if envelope.tick:
        parts.deadlines.remove(envelope)
    waiter = envelope.waiter
    if waiter is not None:
        if waiter.done():
            counters.late_replies += 1
        else:
            waiter.set_result(None)
    took_s = None
    if parts.sinks:
        record = record_of(actor, envelope, kind, turn, reason, hook, error, old, new, duplicate=duplicate)
        took_s = record.queue_s + record.run_s
        (parts.emit_outside if turn is None else parts.emit)(record)
    rows = parts.transitions
    if rows is not None and not duplicate:
        # References only, 0.1 µs: names, ids and times are made when somebody looks, see `Ring`.
        what, known, at = envelope.event.__class__, envelope.event_id or envelope.number, envelope.accepted_at
        rows.append((actor.kind, actor.id, actor.seq, what, known, at, old, new, kind, took_s))
    if (
        envelope.keeps_settlement
    ):  # after the record: duplicates that waited for this outcome have records of their own
        if envelope.is_ask:
            reply = _unshared(reply)  # the asker has the other one, and may do with it what it likes
        _free_what_sent_it(envelope, kind)
        _conclude(
            actor, envelope, Settlement(kind, old, new, reply, error, reason, actor.seq, duplicate=duplicate)
        )


def _tell(  # noqa: PLR0917 -- what `settle` has made, and what the journal says
    actor: Actor,
    envelope: Envelope,
    settlement: Settlement,
    record: Record | None,
    burial: str,
    unknown: JournalError | None,
) -> None:
    """Tell an outcome that the journal has by now, or, at the end of the system, that nobody knows whether it has."""
    parts = actor.kind.parts
    kind, error = settlement.kind, settlement.error
    if unknown is not None:
        counters = parts.counters
        counters.outcomes[kind] -= 1
        counters.outcomes["failed"] += 1
        kind, error, burial = "failed", unknown, ""
        envelope.reply_to = None  # what its Outcome is, the next system knows
        settlement = Settlement(kind, settlement.old, settlement.new, None, error, str(error), settlement.seq)
        envelope.error = error
        if record is not None:
            record = record._replace(name=kind, reason=str(error), error=error)
    if burial:
        parts.bury(envelope, burial)
    if envelope.tick:
        parts.deadlines.remove(envelope)
    if envelope.waiter is not None:
        if envelope.waiter.done():
            parts.counters.late_replies += 1
        else:
            envelope.waiter.set_result(None)
    took_s = None
    if record is not None:
        took_s = record.queue_s + record.run_s
        parts.emit_outside(record)
    rows = parts.transitions
    if rows is not None and not settlement.duplicate:
        what, known, at = envelope.event.__class__, envelope.event_id or envelope.number, envelope.accepted_at
        old, new = settlement.old, settlement.new
        rows.append((actor.kind, actor.id, settlement.seq, what, known, at, old, new, kind, took_s))
    _conclude(actor, envelope, settlement)


def settle_unhandled(actor: Actor, envelope: Envelope, turn: Turn | None) -> None:
    """End an event that the machine has no transition for in its state."""
    error = unhandled_in(actor.node, actor, envelope)
    settle(actor, envelope, "unhandled", actor.node.member, None, error=error, turn=turn)


def unhandled_in(node: StateNode, actor: Actor, envelope: Envelope) -> Unhandled:
    """Return the error for an event that a machine has no transition for in a state."""
    event = envelope.event
    guards = guards_that_refused(node, event)
    allowed = [name for name in node.allowed if name != "Spawn"]
    said = in_words(guards)
    if envelope.timer is not None and POSTPONE in node.choices.get(type(event), ()):
        said = ", and what a timer sends is not postponed"
    return Unhandled(
        f"{actor.id} has no transition for {type(event).__name__} in {node.name}{said}; it takes "
        + (", ".join(allowed) or "nothing"),
        state=node.member,
        allowed=allowed,
        guards=guards,
        machine_id=actor.id,
        event=event,
    )


def stopped_before(actor: Actor, envelope: Envelope, reason: str) -> MachineStopped:
    """Return the error for an event that a machine did not come to before its end."""
    return MachineStopped(
        f"{actor.id} {reason} before it came to {type(envelope.event).__name__}",
        machine_id=actor.id,
        event=envelope.event,
    )


def _conclude(actor: Actor, envelope: Envelope, settlement: Settlement) -> None:
    parts = actor.kind.parts
    envelope.machine_name = actor.kind.name
    finish(envelope, settlement)
    if envelope.has_own_id and actor.rare is not None:
        actor.rare.conclude(envelope, settlement)
    if envelope.callback is not None:
        _call_back(actor, envelope, outcome_of(envelope, parts.event_id(envelope), settlement))
    if envelope.reply_to is not None:
        parts.admission.send_outcome(envelope, settlement)
    for twin in envelope.joined or ():
        settle_duplicate(actor, twin, settlement)
    envelope.joined = None


def _free_what_sent_it(envelope: Envelope, kind: OutcomeKind) -> None:
    """Let the timer or the job that sent an event know how that ended."""
    if envelope.timer is not None:
        timers.settled(envelope.timer, kind)
    if envelope.job is not None:
        jobs.settled(envelope.job)


def _call_back(actor: Actor, envelope: Envelope, outcome: Outcome) -> None:
    turn = CURRENT.get()
    if turn is None or turn.actor is not actor or turn.closed or not turn.holds_machine:
        actor.kind.parts.callbacks.add(envelope, outcome)
        return
    # A turn lasts until its after-hooks end, and no callback of the machine runs during it (C1).
    if turn.callbacks is None:
        turn.callbacks = []
    turn.callbacks.append((envelope, outcome))


def _unshared(reply: Any) -> Any:
    return reply if is_immutable(type(reply)) else copy_value(reply)


def settle_duplicate(actor: Actor, envelope: Envelope, settlement: Settlement) -> None:
    """End an event with the outcome of an earlier one with the same id."""
    actor.kind.parts.counters.duplicates += 1
    settle(
        actor,
        envelope,
        settlement.kind,
        settlement.old,
        settlement.new,
        _unshared(settlement.reply),
        settlement.error,
        settlement.reason,
        duplicate=True,
    )


def record_of(  # noqa: PLR0917 -- the columns of a record
    actor: Actor,
    envelope: Envelope,
    name: str,
    turn: Turn | None,
    reason: str = "",
    hook: str | None = None,
    error: BaseException | None = None,
    old: Any = None,
    new: Any = None,
    *,
    duplicate: bool = False,
) -> Record:
    """Return the trace record of an event."""
    parts = actor.kind.parts
    now = parts.time()
    started_at = now if turn is None else turn.started_at
    if turn is not None and new is None:
        old, new = turn.old, turn.new
    headers = envelope.headers
    event_id = parts.event_id(envelope)
    return Record(
        name,
        actor.kind.name,
        actor.id,
        actor.incarnation,
        actor.seq,
        type(envelope.event).__name__,
        event_id,
        envelope.causation_id,
        envelope.correlation_id or event_id,
        None if old is None else old.name,
        None if new is None else new.name,
        reason,
        hook,
        max(0.0, started_at - envelope.accepted_at),
        now - started_at,
        None if headers is None else (envelope.passed_on or headers).get("traceparent"),
        error,
        envelope.event,
        duplicate,
    )


def never_born(actor: Actor, envelope: Envelope) -> None:
    """End an event for a machine whose birth was refused or failed."""
    error = NoSuchMachine(
        f"{actor.id} was not born: the event that should have created it was refused or failed",
        machine_id=actor.id,
        event=envelope.event,
    )
    end_undelivered(actor, envelope, error)


def end_undelivered(actor: Actor, envelope: Envelope, error: ActorFSMError) -> None:
    """End an event that will never be handled: the asker gets the error, a tell is a dead letter."""
    if not envelope.accepted and not envelope.outgoing:
        actor.kind.parts.admission.turn_away(actor, envelope, error)
        return
    burial = "" if envelope.is_ask else str(error)
    settle(actor, envelope, "dead_lettered", actor.node.member, None, error=error, burial=burial)
