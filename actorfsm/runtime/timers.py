"""The timers of machines. They are committed state: started and cancelled with the transition, or not at all (C20).

A turn works on a table of its own, which says what the commit will leave; a rollback drops it. A timer that falls due
puts its event at the end of the mailbox and stays in the table until that event has its outcome, so that cancelling it
takes the event away again.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from actorfsm.clock import seconds
from actorfsm.errors import InvalidEvent, MailboxFull
from actorfsm.ids import MAX_ID_LENGTH, derive_id, is_name
from actorfsm.machine.options import Redelivery, backoff
from actorfsm.machine.timers import TimerScope
from actorfsm.runtime.envelope import Envelope
from actorfsm.values import copy_value

if TYPE_CHECKING:
    from actorfsm.clock import Duration
    from actorfsm.event import Event, OutcomeKind
    from actorfsm.machine.definition import Transition
    from actorfsm.runtime.actor import Actor
    from actorfsm.runtime.deliveries import Count
    from actorfsm.runtime.turn import Turn

__all__ = [
    "Timer",
    "cancel",
    "cancel_all",
    "commit",
    "forgive",
    "left_by",
    "other_event_ended",
    "settled",
    "start",
]

MAX_DELAY_S: Final = 1e9
"""The longest timer: 31 years, in seconds."""

_RETRIES: Final = Redelivery()
"""The pauses before a timer comes again whose event failed."""


class Timer:
    """One timer of a machine.

    Attributes:
        name: Its name, one of a kind at its machine.
        scope: When it dies of itself.
        origin: The event as an envelope that is copied when the timer falls due.
        after_s: How long after the commit, or None if `at` says when.
        at: The time of day.
        due: When, on the loop's clock; known from the commit on.
        due_us: When, as the journal has it: microseconds since 1970, in UTC.
        key: Its place in the timer queue; 0 if it is not there.
        envelope: Its event, from the moment when it is due until it has its outcome.
        failures: How often that event failed since the machine was last released.
        deliveries: In how many lives its event was begun, if it was due before this one.
    """

    __slots__ = (
        *(
            "actor",
            "after_s",
            "at",
            "deliveries",
            "due",
            "due_us",
            "envelope",
            "failures",
            "key",
            "name",
            "origin",
            "scope",
        ),
    )

    def __init__(  # noqa: PLR0917 -- made in two places
        self,
        actor: Actor,
        name: str,
        scope: TimerScope,
        origin: Envelope,
        after_s: float | None,
        at: datetime | None = None,
    ) -> None:
        self.actor = actor
        self.name = name
        self.scope = scope
        self.origin = origin
        self.after_s = after_s
        self.at = at
        self.due = 0.0
        self.due_us = 0
        self.key = 0
        self.envelope: Envelope | None = None
        self.failures = 0
        self.deliveries: Count | None = None

    @property
    def gave_up(self) -> bool:
        """Whether its event failed too often."""
        return self.failures > self.actor.kind.options.timer_attempts

    def arm(self) -> None:
        """Let it run from now on."""
        parts = self.actor.kind.parts
        delay_s = self.after_s
        if delay_s is None:
            assert self.at is not None  # noqa: S101 -- one of the two is given
            # The time of day first: the time between the two readings makes it late, not early.
            delay_s = max(0.0, (self.at - parts.clock.now()).total_seconds())
        self._arm(delay_s)

    def _arm(self, delay_s: float) -> None:
        parts = self.actor.kind.parts
        now = parts.loop.time()
        self.due = now + delay_s
        self.key = parts.timers.call_at(self.due, self._fall_due)
        parts.counters.timers += 1
        if self.due <= now and parts.timers.is_next(self.key):
            # Behind what waits already, ahead of what is not yet there: as gen_statem's zero time-out.
            parts.timers.cancel(self.key)
            self._fall_due()

    def _fall_due(self) -> None:
        parts = self.actor.kind.parts
        self.key = 0
        parts.counters.timers -= 1
        parts.counters.timers_fired += 1
        origin, event = self.origin, self.origin.event
        if self.actor.kind.events[type(event)].mutable:
            event = copy_value(event)  # it comes again as it was, whatever a hook does to this one
        self.envelope = envelope = Envelope(event, self.actor.id, parts.ids.next_number(), parts.time())
        envelope.event_id, envelope.causation_id = origin.event_id, origin.causation_id
        envelope.headers, envelope.correlation_id = origin.headers, origin.correlation_id
        envelope.attempt = origin.attempt
        envelope.timer, envelope.of_runtime = self, True
        if self.deliveries is not None:
            envelope.deliveries = self.deliveries
        envelope.keeps_settlement = True
        parts.dispatcher.admit(self.actor, envelope)

    def end(self) -> None:
        """Follow its removal from the table: it does not come, and if it has come and waits, it is taken away."""
        parts = self.actor.kind.parts
        if self.key:
            parts.timers.cancel(self.key)
            self.key = 0
            parts.counters.timers -= 1
        elif self.envelope is not None and not self.envelope.begun:
            parts.dispatcher.withdraw(self.actor, self.envelope)
            parts.counters.timers_withdrawn += 1
        self.envelope = None

    def come_again(self) -> None:
        """Follow a failure: come again after a pause, or, after too many, wait in the mailbox for `release`."""
        self.failures += 1
        self.origin.attempt += 1
        if self.gave_up:
            self.actor.kind.parts.counters.timers += 1
            self._fall_due()
        else:
            self._arm(backoff(_RETRIES, self.failures - 1))


# -- in a turn ---------------------------------------------------------------------------------------------------------


def start(  # noqa: PLR0917 -- as `Machine.start_timer`, with the turn
    turn: Turn,
    event: Event[Any, Any],
    after: Duration | None,
    at: datetime | None,
    name: str | None,
    scope: TimerScope,
) -> None:
    """Start a timer with the commit of the turn; see `Machine.start_timer`."""
    actor = turn.actor
    after_s = _checked(turn, after, at)
    name = _checked_name(turn, type(event).__name__ if name is None else name)
    given: Any = scope
    if not isinstance(given, TimerScope):
        raise InvalidEvent(f"scope={scope!r}: give a member of TimerScope", machine_id=actor.id, event=event)
    timer = Timer(actor, name, scope, _origin(turn, event, name), after_s, at)
    table = _draft(turn)
    table.pop(name, None)
    limit = actor.kind.options.timer_limit
    if len(table) >= limit:
        raise MailboxFull(
            f"{actor.id} has {limit} timers, as many as it may; raise `timer_limit` if that is meant",
            machine_id=actor.id,
            event=event,
        )
    table[name] = timer


def cancel(turn: Turn, name: str | type[Event[Any, Any]]) -> bool:
    """Cancel a timer with the commit of the turn; see `Machine.cancel_timer`."""
    key = name.__name__ if isinstance(name, type) else name
    return _draft(turn).pop(key, None) is not None


def _checked(turn: Turn, after: Duration | None, at: datetime | None) -> float | None:
    """Return the delay in seconds; None if `at` says when.

    Raises:
        InvalidEvent: There is none, or more than one, or it cannot be meant.
    """
    who = turn.actor.id
    if (after is None) == (at is None):
        raise InvalidEvent("start_timer takes one of after= and at=", machine_id=who)
    if at is not None:
        given: Any = at
        if not isinstance(given, datetime) or given.utcoffset() is None:
            raise InvalidEvent(f"at={at!r}: a datetime with a time zone", machine_id=who)
        delay_s = (at - turn.now()).total_seconds()
    else:
        assert after is not None  # noqa: S101 -- one of the two is given
        try:
            delay_s = seconds(after)
        except (TypeError, ValueError, OverflowError):
            delay_s = -1.0
    if not (at is not None or delay_s >= 0) or not delay_s <= MAX_DELAY_S:
        raise InvalidEvent(
            f"a timer of {after if at is None else at!r}: give seconds or a timedelta from 0 to {MAX_DELAY_S:,.0f} s, "
            "or a time of day in the next 31 years",
            machine_id=who,
        )
    return delay_s if at is None else None


def _checked_name(turn: Turn, name: object) -> str:
    if is_name(name):
        return name
    raise InvalidEvent(
        f"the name of a timer is a string of 1 to {MAX_ID_LENGTH} printable characters",
        machine_id=turn.actor.id,
    )


def _origin(turn: Turn, event: Any, name: str, *, is_from_state: bool = False) -> Envelope:
    parts = turn.actor.kind.parts
    event_id = derive_id(parts.event_id(turn.envelope), "timer", name)
    return parts.door.prepare_timer(turn, event, event_id, is_from_state=is_from_state)


def _draft(turn: Turn) -> dict[str, Timer]:
    if turn.timers is None:
        assert turn.choice is not None  # noqa: S101 -- a turn is writable from the choice on
        turn.timers = _left_by(turn, turn.choice)
    return turn.timers


def _left_by(turn: Turn, choice: Transition) -> dict[str, Timer]:
    """Return the table as the commit of a transition leaves it if the turn starts and cancels nothing."""
    actor = turn.actor
    left = {
        timer.name: timer
        for timer in (actor.timers or {}).values()
        if timer.envelope is not turn.envelope
        and (timer.scope is TimerScope.NAMED or (timer.scope is TimerScope.STATE and choice.stays))
    }
    if not choice.stays:
        for spec in choice.target.timers:
            origin = _origin(turn, spec.event, spec.name, is_from_state=True)
            left.pop(spec.name, None)
            left[spec.name] = Timer(actor, spec.name, TimerScope.STATE, origin, spec.after_s)
    return left


# -- afterwards --------------------------------------------------------------------------------------------------------


def left_by(turn: Turn, choice: Transition) -> dict[str, Timer]:
    """Return the table as the commit of a turn leaves it."""
    if choice.target.final and not choice.stays:
        return {}
    return _left_by(turn, choice) if turn.timers is None else turn.timers


def commit(turn: Turn, choice: Transition) -> None:
    """Let the commit of a turn start and cancel: the table of the turn is that of the machine now."""
    actor = turn.actor
    if actor.is_stopped:
        return  # the system went down meanwhile: nothing begins any more
    before = actor.timers or {}
    table = left_by(turn, choice)
    actor.timers = table or None
    for timer in before.values():
        if table.get(timer.name) is not timer:
            timer.end()
    for timer in list(table.values()):
        if before.get(timer.name) is not timer:
            timer.arm()


def other_event_ended(actor: Actor) -> None:
    """End the timers that die with any event: one was postponed, or not known."""
    for timer in list((actor.timers or {}).values()):
        if timer.scope is TimerScope.EVENT:
            _remove(timer)


def settled(timer: Timer, kind: OutcomeKind) -> None:
    """Follow the outcome of a timer's event: it is used up, but for a failure, after which it comes again."""
    actor = timer.actor
    if actor.timers is None or actor.timers.get(timer.name) is not timer:
        return
    timer.envelope = None
    if kind == "failed":
        timer.come_again()
    else:
        _remove(timer)


def _remove(timer: Timer) -> None:
    table = timer.actor.timers
    assert table is not None  # noqa: S101 -- the timer is in it
    del table[timer.name]
    if not table:
        timer.actor.timers = None
    timer.end()


def cancel_all(actor: Actor) -> None:
    """Cancel all timers of a machine that is to run no more."""
    table, actor.timers = actor.timers or {}, None
    for timer in table.values():
        timer.end()


def forgive(actor: Actor) -> None:
    """Forget how often timers failed: the machine was released from its quarantine."""
    for timer in (actor.timers or {}).values():
        timer.failures = 0
