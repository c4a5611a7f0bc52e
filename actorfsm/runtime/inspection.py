"""Inspection: all that can be seen of one machine from outside, at once and without a turn, while a hook hangs too.

It takes nothing and changes nothing. What it returns is plain data: values that the class keeps out of its repr, and
secrets, are masked, and nothing is shared with the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Final

from actorfsm.clock import roughly
from actorfsm.runtime.actor import IDLE, PAUSED, QUARANTINED, READY, RUNNING, STOPPED, SUSPENDED
from actorfsm.runtime.turn import CURRENT
from actorfsm.sinks.payload import data_of
from actorfsm.sinks.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from enum import Enum

    from actorfsm.machine.timers import TimerScope
    from actorfsm.runtime.actor import Actor
    from actorfsm.runtime.mailbox import Mailbox
    from actorfsm.runtime.turn import Turn

__all__ = ["FailureSeen", "Inspection", "JobSeen", "RunningSeen", "TimerSeen", "WaitingSeen", "inspect_actor"]

_WORDS: Final = {
    IDLE: "idle",
    READY: "ready",
    RUNNING: "running",
    PAUSED: "paused",
    SUSPENDED: "suspended",
    QUARANTINED: "quarantined",
    STOPPED: "stopped",
}


@dataclass(frozen=True, slots=True)
class WaitingSeen:
    """An event that waits.

    Attributes:
        event_type: Name of its class.
        event_id: Its id.
        seconds: How long it has waited.
    """

    event_type: str
    event_id: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.event_type} {self.event_id} for {roughly(self.seconds)}"


@dataclass(frozen=True, slots=True)
class RunningSeen:
    """The event that is being handled.

    Attributes:
        event_type: Name of its class.
        event_id: Its id.
        seconds: How long ago it was accepted.
        hook: The hook or body that is running; None between two of them.
        hook_s: How long that has been running, in seconds; 0 for a plain function, which nothing can interrupt.
        is_committed: Whether the transition has been committed, so that only after-hooks are running.
        is_cancelled: Whether the runtime has cancelled the hook because its deadline passed.
        sent_by: Id of the machine that sent the event, if it was one and that is still known.
        causation_id: Id of the event in whose turn it was sent; None if it came from outside.
    """

    event_type: str
    event_id: str
    seconds: float
    hook: str | None
    hook_s: float
    is_committed: bool
    is_cancelled: bool
    sent_by: str | None
    causation_id: str | None

    def __str__(self) -> str:
        sender = self.sent_by or ("outside" if self.causation_id is None else f"event {self.causation_id}")
        place = "between hooks" if self.hook is None else f"in {self.hook} for {roughly(self.hook_s)}"
        notes = f"{', committed' if self.is_committed else ''}{', cancelled' if self.is_cancelled else ''}"
        return (
            f"{self.event_type} {self.event_id} {place}{notes}, sent by {sender} {roughly(self.seconds)} ago"
        )


@dataclass(frozen=True, slots=True)
class TimerSeen:
    """A timer that runs, or whose event waits.

    Attributes:
        name: Its name.
        event_type: Name of the class of its event.
        scope: How long it lives.
        due_in_s: When it is due, in seconds from now; None if it was, and its event waits or is being handled.
        failures: How often its event has failed in a row.
    """

    name: str
    event_type: str
    scope: TimerScope
    due_in_s: float | None
    failures: int

    def __str__(self) -> str:
        due = "has fired" if self.due_in_s is None else f"in {roughly(self.due_in_s)}"
        return f"{self.name} {due}{f', failed {self.failures} times' if self.failures else ''}"


@dataclass(frozen=True, slots=True)
class JobSeen:
    """A job that has not yet ended.

    Attributes:
        name: Its name.
        status: running, answered (the event with its result waits, or is being handled), or interrupted (by a restart
            of the machine, after which it begins again or is given up).
        causation_id: Id of the event in whose turn it was started.
    """

    name: str
    status: str
    causation_id: str

    def __str__(self) -> str:
        return f"{self.name} {self.status}"


@dataclass(frozen=True, slots=True)
class FailureSeen:
    """The last failure of user code.

    Attributes:
        error_type: Name of the class of what was raised.
        error_text: Its message.
        hook: The guard, hook or body.
        event_type: Name of the event's class.
        event_id: The event's id.
        seconds: How long ago.
    """

    error_type: str
    error_text: str
    hook: str
    event_type: str
    event_id: str
    seconds: float

    def __str__(self) -> str:
        text = f": {one_line(self.error_text)}" if self.error_text else ""
        when = f"{roughly(self.seconds)} ago"
        return f"{self.error_type} in {self.hook} at {self.event_type} {self.event_id}, {when}{text}"


@dataclass(frozen=True, slots=True)
class Inspection:
    """One machine as it is now; `print` it.

    Attributes:
        machine: Name of the machine class.
        machine_id: Its id.
        state: Its state; None while it is being born.
        status: idle, ready (has mail and will have its turn), running (in a turn), paused (before a restart or a
            redelivery), suspended, quarantined, stopped.
        is_suspended: Whether an operator wants it held; `status` says suspended once that is in effect.
        data: Its committed data, redacted.
        seq: How many transitions it has committed.
        incarnation: How often it was restarted.
        restarts: Those of them that count at present.
        allowed: Names of the event classes that have a transition, or are postponed, in this state.
        queued: Accepted events that wait to be tried.
        postponed: Events that wait for a change of state.
        outside: Events that wait for room in the mailbox.
        oldest: The event that has waited longest, postponed ones too.
        running: The event that is being handled.
        waits_for: Ids of the machines that it waits for in its turn.
        waited_for_by: Ids of the machines that wait for it in theirs.
        timers: Its timers, in the order in which they were started.
        jobs: Its jobs, in the order in which they were started.
        watchers: Ids of the machines that watch it, and None for each caller outside that does.
        resumes_in_s: When the pause before its restart ends, in seconds from now; None if there is none.
        failure: Its last failure.
        remembered_ids: How many event ids it remembers.
    """

    machine: str
    machine_id: str
    state: Enum | None
    status: str
    is_suspended: bool
    data: dict[str, Any]
    seq: int
    incarnation: int
    restarts: int
    allowed: tuple[str, ...]
    queued: int
    postponed: int
    outside: int
    oldest: WaitingSeen | None
    running: RunningSeen | None
    waits_for: tuple[str, ...]
    waited_for_by: tuple[str, ...]
    timers: tuple[TimerSeen, ...]
    jobs: tuple[JobSeen, ...]
    watchers: tuple[str | None, ...]
    resumes_in_s: float | None
    failure: FailureSeen | None
    remembered_ids: int

    def __str__(self) -> str:
        state = "is being born" if self.state is None else f"is in {self.state.name}"
        status = f"{self.status}, to be suspended" if self._waits_for_suspension else self.status
        pause = "" if self.resumes_in_s is None else f", goes on in {roughly(self.resumes_in_s)}"
        waiting = f"{self.queued} queued, {self.postponed} postponed, {self.outside} outside"
        facts = {
            "running": self.running,
            "waits for": ", ".join(self.waits_for),
            "waited for by": ", ".join(self.waited_for_by),
            "waiting": f"{waiting}{'' if self.oldest is None else f'; oldest {self.oldest}'}",
            "timers": "; ".join(map(str, self.timers)),
            "jobs": "; ".join(map(str, self.jobs)),
            "watched by": ", ".join(watcher or "outside" for watcher in self.watchers),
            "last failure": self.failure,
            "restarts": f"{self.restarts} that count" if self.restarts else "",
            "data": ", ".join(f"{name}={value!r}" for name, value in self.data.items()),
            "takes": ", ".join(self.allowed) or "nothing",
        }
        head = (
            f"{self.machine} {self.machine_id} {state}, {status}{pause}, #{self.seq}, life {self.incarnation}"
        )
        return "\n".join([head, *(f"  {name:<14}{fact}" for name, fact in facts.items() if fact)])

    @property
    def _waits_for_suspension(self) -> bool:
        return self.is_suspended and self.status != "suspended"


def inspect_actor(actor: Actor) -> Inspection:
    """Return all that can be seen of a machine."""
    kind = actor.kind
    parts, rare, mailbox, now = kind.parts, actor.rare, actor.mailbox, kind.parts.time()
    intensity = None if rare is None else rare.intensity
    pauses = None if rare is None else rare.backoff if rare.child is None else rare.child.backoff
    return Inspection(
        machine=kind.name,
        machine_id=actor.id,
        state=actor.node.member,
        status=_WORDS[actor.status],
        is_suspended=rare is not None and rare.suspended,
        data=data_of(kind.machine_class, actor.data),
        seq=actor.seq,
        incarnation=actor.incarnation,
        restarts=0 if intensity is None else intensity.count(kind.options.restart, now),
        allowed=actor.node.allowed,
        queued=0 if mailbox is None else mailbox.waiting,
        postponed=0 if mailbox is None else len(mailbox.postponed or ()),
        outside=0 if mailbox is None else len(mailbox.outside or ()),
        oldest=None if mailbox is None else _oldest(actor, mailbox, now),
        running=_running(actor, now) if actor.status == RUNNING else None,
        waits_for=tuple(parts.waits.waits_for(actor.id)),
        waited_for_by=tuple(parts.waits.waiting_for(actor.id)),
        timers=_timers(actor, now),
        jobs=_jobs(actor),
        watchers=tuple(parts.watches.of(actor.id)),
        resumes_in_s=pauses.resumes_at - now if pauses is not None and pauses.resumes_at > now else None,
        failure=_failure(actor, now),
        remembered_ids=0 if rare is None else len(rare.ids),
    )


def _timers(actor: Actor, now: float) -> tuple[TimerSeen, ...]:
    return tuple(
        TimerSeen(
            timer.name,
            type(timer.origin.event).__name__,
            timer.scope,
            max(0.0, timer.due - now) if timer.key else None,
            timer.failures,
        )
        for timer in (actor.timers or {}).values()
    )


def _jobs(actor: Actor) -> tuple[JobSeen, ...]:
    return tuple(
        JobSeen(
            job.name,
            "answered" if job.answer is not None else "running" if job.is_running else "interrupted",
            actor.kind.parts.event_id(job.origin),
        )
        for job in (actor.jobs or {}).values()
    )


def _oldest(actor: Actor, mailbox: Mailbox, now: float) -> WaitingSeen | None:
    lanes = (mailbox.own, mailbox.released, mailbox.postponed, mailbox.queue, mailbox.outside)
    firsts = [lane[0] for lane in lanes if lane]
    if not firsts:
        return None
    first = min(firsts, key=lambda envelope: envelope.accepted_at)
    event_id = actor.kind.parts.event_id(first)
    return WaitingSeen(type(first.event).__name__, event_id, max(0.0, now - first.accepted_at))


def _running(actor: Actor, now: float) -> RunningSeen | None:
    turn = _turn_of(actor)
    if turn is None:
        return None
    parts, envelope, step = actor.kind.parts, turn.envelope, turn.step
    sent_by = parts.waits.asker_of(envelope)
    if sent_by is None and envelope.causation_id is not None:
        sent_by = parts.ring.machine_of(parts.ids, envelope.causation_id)
    return RunningSeen(
        event_type=type(envelope.event).__name__,
        event_id=parts.event_id(envelope),
        seconds=max(0.0, now - envelope.accepted_at),
        hook=None if step is None else step.name,
        hook_s=_hook_s(turn, now),
        is_committed=turn.committed,
        is_cancelled=turn.interruption is not None,
        sent_by=sent_by,
        causation_id=envelope.causation_id,
    )


def _turn_of(actor: Actor) -> Turn | None:
    """Return the turn that a machine is in: ours, one in a task, or one that waits for us."""
    dispatcher, waits = actor.kind.parts.dispatcher, actor.kind.parts.waits
    waiting: Iterator[Any] = waits.turns_of(actor.id)
    turns: tuple[Turn | None, ...] = (CURRENT.get(), *dispatcher.running_turns(), *waiting)
    for turn in turns:
        if turn is not None and turn.actor is actor and not turn.closed and turn.holds_machine:
            return turn
    return None


def _hook_s(turn: Turn, now: float) -> float:
    """Return how long an async hook has been running: its deadline says when it began."""
    step, deadline = turn.step, turn.step_deadline
    if step is None or not step.is_async or deadline == inf:
        return 0.0
    began_at = deadline - step.timeout_s if turn.interruption is None else turn.cancelled_step_began_at
    return max(0.0, now - began_at)


def _failure(actor: Actor, now: float) -> FailureSeen | None:
    crash = None if actor.rare is None else actor.rare.crash
    if crash is None:
        return None
    return FailureSeen(
        crash.error_class.__name__,
        crash.error_text,
        crash.hook,
        type(crash.event).__name__,
        crash.event_id,
        max(0.0, now - crash.at),
    )
