"""Counters: plain ints that anybody may read, and the account that must always balance (C7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actorfsm.event import OutcomeKind

__all__ = ["Counters", "Stats"]


class Counters:
    """What happened since the system started."""

    def __init__(self) -> None:
        self.accepted = 0
        self.refused = 0
        self.duplicates = 0
        self.outcomes: dict[OutcomeKind, int] = dict.fromkeys(
            ("committed", "vetoed", "unhandled", "failed", "expired", "dead_lettered"), 0
        )
        self.late_replies = 0
        self.restarts = 0
        self.quarantines = 0
        self.after_hooks_failed = 0
        self.callbacks_failed = 0
        self.sinks_failed = 0
        self.loop_blocked = 0
        self.turns_queued = 0
        self.turns_eager = 0
        self.turns_plain = 0
        self.pending_asks = 0
        self.in_flight = 0
        self.joined = 0
        self.outgoing = 0
        self.withdrawn = 0
        self.jobs_failed = 0
        self.timers = 0
        self.timers_fired = 0
        self.timers_withdrawn = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """The account of a system at one moment.

    `accepted == sum(outcomes) + queued + postponed + in_flight + outgoing` holds whenever it is taken.

    Attributes:
        accepted: Events accepted since the start.
        outcomes: How they ended, by kind.
        queued: Those that wait in mailboxes.
        postponed: Those that wait for a change of state.
        in_flight: Those whose turn is running.
        outgoing: Messages of machines that wait for room at their receivers.
        machines: Machines alive that are in memory.
        machines_by_class: The same by the names of their classes.
        refused: Events that were never accepted.
        duplicates: Events answered by the outcome of an earlier one with the same id; they are among `accepted` and
            `outcomes`.
        late_replies: Replies that nobody waited for any more.
        restarts: Restarts of machines.
        quarantined: Machines in quarantine now.
        suspended: Machines that an operator holds now.
        dead_letters: Dead letters since the start.
        after_hooks_failed: After-hooks that raised or took too long.
        callbacks_failed: Callbacks that raised or took too long.
        sinks_failed: Records that a sink raised on.
        loop_blocked: How often the event loop was found blocked.
        turns_queued: Turns that were run from the mailbox.
        turns_eager: Turns that were run inside the ask, in a task of their own.
        turns_plain: Turns that were run inside the ask, without a task: all hooks are plain functions.
        pending_asks: Asks that wait for an answer.
        withdrawn: Events of the runtime's own that were taken back before they were handled; they count as never
            accepted.
        jobs: Jobs of machines that run now.
        jobs_failed: Jobs that failed without a `failed=` to tell their machines.
        timers: Timers of machines that run now.
        timers_fired: Timers that fell due: each time an event was accepted.
        timers_withdrawn: Those of them that were cancelled while their events waited; `accepted` counts them no more.
        unwritten: Entries, and outcomes without one, that the journal has not yet stored.
        passivated: How often a machine has left memory.
    """

    accepted: int
    outcomes: dict[str, int]
    queued: int
    postponed: int
    in_flight: int
    outgoing: int
    machines: int
    machines_by_class: dict[str, int]
    refused: int
    duplicates: int
    late_replies: int
    restarts: int
    quarantined: int
    suspended: int
    dead_letters: int
    after_hooks_failed: int
    callbacks_failed: int
    sinks_failed: int
    loop_blocked: int
    turns_queued: int
    turns_eager: int
    turns_plain: int
    pending_asks: int
    withdrawn: int
    jobs: int
    jobs_failed: int
    timers: int
    timers_fired: int
    timers_withdrawn: int
    unwritten: int
    passivated: int

    @property
    def balance(self) -> int:
        """Accepted events that the account cannot explain: always 0."""
        held = self.queued + self.postponed + self.in_flight + self.outgoing
        return self.accepted - sum(self.outcomes.values()) - held
