"""Planted bugs: patches to the runtime that P2, unchanged, must find.

Each is one that somebody could write. They are rare on purpose: not every time, only where a condition holds.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any
from unittest import mock

from actorfsm import Restart, RestartPolicy, Strategy, TimerScope, Veto
from actorfsm.machine.definition import Transition
from actorfsm.machine.selection import select
from actorfsm.runtime import actor as actor_module, jobs, perform, settling, timers
from actorfsm.runtime.admission import Admission
from actorfsm.runtime.door import Door
from actorfsm.runtime.dynamic_supervisor import DynamicSupervisor
from actorfsm.runtime.intensity import Intensity
from actorfsm.runtime.mailbox import Mailbox
from actorfsm.runtime.supervised import MachineChild
from actorfsm.runtime.supervisor import LiveSupervisor
from actorfsm.runtime.timers import Timer
from actorfsm.runtime.turn import CURRENT, Turn
from actorfsm.runtime.watches import Watches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLANTS: dict[str, tuple[Callable[[], Any], frozenset[str]]] = {}
"""By name: what plants it, and the rules of which at least one must be reported broken."""


def plant(*rules: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def add(function: Callable[[], Iterator[None]]) -> Callable[[], Any]:
        manager = contextmanager(function)
        PLANTS[function.__name__.replace("_", " ")] = manager, frozenset(rules)
        return manager

    return add


@plant("C8")
def a_lost_reply() -> Iterator[None]:
    """The event is committed, its deadline still runs, but the asker is not woken."""
    settle, numbers = settling.settle, count(1)

    def losing(actor: Any, envelope: Any, *arguments: Any, **options: Any) -> None:
        waiter = envelope.waiter
        if waiter is None or waiter.done() or next(numbers) % 10:
            settle(actor, envelope, *arguments, **options)
            return
        envelope.waiter = None
        settle(actor, envelope, *arguments, **options)
        envelope.waiter = waiter
        actor.kind.parts.deadlines.add(envelope, envelope.deadline)

    with mock.patch.object(settling, "settle", losing):
        yield


@plant("C4")
def a_reordered_mailbox() -> Iterator[None]:
    """Now and then the newest event is taken, not the oldest."""
    take, numbers = Mailbox.take, count(1)

    def jumping(self: Mailbox) -> Any:
        if len(self.queue) > 1 and not self.own and not self.released and next(numbers) % 20 == 0:
            return self.queue.pop()
        return take(self)

    with mock.patch.object(Mailbox, "take", jumping):
        yield


@plant("C2", "C7", "C8")
def a_reply_before_the_commit() -> Iterator[None]:
    """The asker is answered when the transition is chosen, while its hooks are still to come."""

    def answering(node: Any, event: Any, machine: Any) -> Any:
        choice = select(node, event, machine)
        envelope = machine._turn.envelope
        if (
            isinstance(choice, Transition)
            and any(step.kind == "enter" for step in choice.steps)
            and hasattr(event, "n")
            and envelope.waiter is not None
            and not envelope.waiter.done()
        ):
            envelope.reply = event.n
            envelope.waiter.set_result(None)
        return choice

    with mock.patch.object(actor_module, "select", answering):
        yield


@plant("C2")
def a_veto_that_leaves_an_exit_hooks_changes() -> Iterator[None]:
    """A refusal by an enter hook keeps the draft, so that the next commit takes it along."""
    roll_back = perform.roll_back

    def keeping(turn: Turn, error: BaseException) -> bool:
        refused = isinstance(error, Veto) and turn.step is not None and turn.step.kind == "enter"
        if refused and not turn.closed and turn.draft is not None and turn.actor.node.parent is not None:
            turn.actor.data = dict(turn.draft)
        return roll_back(turn, error)

    with mock.patch.object(perform, "roll_back", keeping):
        yield


@plant("C13", "C8")
def a_cancelled_caller_that_cancels_the_event() -> Iterator[None]:
    """Whoever gives up waiting takes the running hook with him."""
    wait = Door.wait

    async def cancelling(self: Any, envelope: Any) -> None:
        try:
            await wait(self, envelope)
        except asyncio.CancelledError:
            for task, context in list(self._parts.dispatcher.workers.items()):
                turn = context.get(CURRENT)
                if turn is not None and turn.envelope is envelope:
                    task.cancel()
            raise

    with mock.patch.object(Door, "wait", cancelling):
        yield


@plant("C7")
def a_postponed_event_forgotten() -> Iterator[None]:
    """When the state changes, the last of several postponed events is not tried again."""
    release = Mailbox.release_postponed

    def forgetting(self: Mailbox) -> None:
        if self.postponed and len(self.postponed) > 1:
            self.postponed.pop()
        release(self)

    with mock.patch.object(Mailbox, "release_postponed", forgetting):
        yield


@plant("C24")
def a_duplicate_applied_twice() -> Iterator[None]:
    """An event id is forgotten when its event is committed."""
    is_repetition = Admission._is_repetition

    def forgetful(self: Any, actor: Any, envelope: Any) -> bool:
        known = None if actor.rare is None else actor.rare.ids.get(envelope.event_id)
        if known is not None and known.settlement is not None:
            del actor.rare.ids[envelope.event_id]
        return is_repetition(self, actor, envelope)

    with mock.patch.object(Admission, "_is_repetition", forgetful):
        yield


@plant("C2")
def an_outgoing_message_sent_although_rolled_back() -> Iterator[None]:
    """What a turn wanted to send leaves when the turn ends, however it ends."""

    def sending(self: Turn, outgoing: list[Any]) -> None:
        for envelope in outgoing:
            envelope.sender = None
            self.actor.kind.parts.admission.deliver(envelope)

    with mock.patch.object(Turn, "_discard", sending):
        yield


# -- the supervision tree ------------------------------------------------------------------------------------------


@plant("C16", "C17", "C19")
def a_pause_before_a_restart_that_is_forgotten() -> Iterator[None]:
    """Now and then the end of a child's pause wakes nobody."""
    is_over, numbers = LiveSupervisor._pause_is_over, count(1)

    def forgetting(self: LiveSupervisor, child: Any) -> None:
        child.pause_key = 0
        if next(numbers) % 25:
            is_over(self, child)

    with mock.patch.object(LiveSupervisor, "_pause_is_over", forgetting):
        yield


@plant("C16")
def the_last_sibling_not_stopped_with_the_others() -> Iterator[None]:
    """Under rest_for_one the child that was started last goes on while those before it are restarted."""
    affected = LiveSupervisor._affected

    def sparing(self: LiveSupervisor, child: Any) -> list[Any]:
        found = affected(self, child)
        rest = self.strategy is Strategy.REST_FOR_ONE and len(found) > 2
        return found[:-1] if rest else found

    with mock.patch.object(LiveSupervisor, "_affected", sparing):
        yield


@plant("C17")
def restarts_that_are_not_counted() -> Iterator[None]:
    """One restart more than the limit is allowed."""
    allows = Intensity.allows

    def generous(self: Intensity, policy: RestartPolicy, now: float) -> bool:
        return allows(self, replace(policy, max_restarts=policy.max_restarts + 1), now)

    with mock.patch.object(Intensity, "allows", generous):
        yield


@plant("C15", "C4", "C7", "C8")
def mail_lost_in_a_restart_by_the_supervisor() -> Iterator[None]:
    """A machine that its supervisor holds forgets the newest of what waits."""
    keep, numbers = MachineChild._keep, count(1)

    def losing(self: MachineChild, actor: Any) -> None:
        keep(self, actor)
        if actor.mailbox is not None and len(actor.mailbox.queue) > 1 and next(numbers) % 3 == 0:
            actor.mailbox.queue.pop()

    with mock.patch.object(MachineChild, "_keep", losing):
        yield


@plant("C16")
def a_transient_child_that_failed_and_is_left_alone() -> Iterator[None]:
    """One is started again only if it is permanent."""
    is_restarted = LiveSupervisor._is_restarted

    def hesitating(self: LiveSupervisor, child: Any, error: BaseException | None) -> bool:
        return child.restart is not Restart.TRANSIENT and is_restarted(self, child, error)

    with mock.patch.object(LiveSupervisor, "_is_restarted", hesitating):
        yield


@plant("C16")
def children_that_are_stopped_in_the_order_of_start() -> Iterator[None]:
    """A supervisor that is stopped begins with the child that it had started first."""

    async def stop_children(self: LiveSupervisor) -> None:
        self._is_open = False
        self._inbox.clear()
        for child in self.children:
            self._forget_pause(child)
        for child in self.children:
            if child.status != "new":
                await child.stop()

    with mock.patch.object(LiveSupervisor, "_stop_children", stop_children):
        yield


# -- timers, jobs, watches -----------------------------------------------------------------------------------------


@plant("C20")
def a_cancelled_timer_that_waits_already_and_comes() -> Iterator[None]:
    """What is cancelled after it fell due stays in the mailbox."""

    def staying(self: Timer) -> None:
        parts = self.actor.kind.parts
        if self.key:
            parts.timers.cancel(self.key)
            self.key = 0
            parts.counters.timers -= 1
        self.envelope = None

    with mock.patch.object(Timer, "end", staying):
        yield


@plant("C20")
def a_timer_that_is_early() -> Iterator[None]:
    """A timer for a second or more comes a little too soon."""
    arm = Timer._arm

    with mock.patch.object(Timer, "_arm", lambda self, delay_s: arm(self, delay_s - 0.01 * (delay_s >= 1))):
        yield


@plant("C20")
def a_timer_that_dies_with_an_event_and_does_not() -> Iterator[None]:
    """One of scope EVENT is kept as a named one."""

    def keeping(turn: Turn, choice: Transition) -> dict[str, Timer]:
        table = turn.actor.timers or {}
        for timer in table.values():
            if timer.scope is TimerScope.EVENT:
                timer.scope = TimerScope.NAMED
        return left_by(turn, choice)

    left_by = timers._left_by
    with mock.patch.object(timers, "_left_by", keeping):
        yield


@plant("C22")
def a_job_that_answers_although_its_state_was_left() -> Iterator[None]:
    """Leaving the state leaves the jobs alone."""
    left_by = jobs._left_by

    def keeping(turn: Turn, choice: Transition) -> dict[str, Any]:
        table = turn.actor.jobs or {}
        return dict(table) if not choice.stays and table else left_by(turn, choice)

    with mock.patch.object(jobs, "_left_by", keeping):
        yield


@plant("C22")
def a_job_begun_before_the_commit() -> Iterator[None]:
    """It runs from `start_job` on, whatever becomes of the turn."""
    start = jobs.start

    def eager(turn: Turn, *arguments: Any, **options: Any) -> str:
        name = start(turn, *arguments, **options)
        assert turn.jobs is not None
        turn.jobs[name].begin()
        return name

    with mock.patch.object(jobs, "start", eager):
        yield


@plant("C18")
def a_watcher_that_is_not_told_of_a_final_state() -> Iterator[None]:
    """Only the first of several watchers is told."""
    ended = Watches.ended

    def telling_one(self: Watches, actor: Any, reason: Any, cause: Any = None) -> None:
        watchers = self._watchers.get(actor.id, {})
        for watcher in list(watchers)[1:]:
            self._forget(watcher, actor.id)
        ended(self, actor, reason, cause)

    with mock.patch.object(Watches, "ended", telling_one):
        yield


@plant("C31")
def a_machine_that_goes_on_although_it_is_suspended() -> Iterator[None]:
    """The end of a pause before a restart lets it go on, whatever an operator has said."""
    go_on = DynamicSupervisor.go_on

    def forgetting(self: DynamicSupervisor, actor: Any) -> None:
        rare = actor.rare
        suspended = rare.suspended
        rare.suspended = False
        go_on(self, actor)
        rare.suspended = suspended

    with mock.patch.object(DynamicSupervisor, "go_on", forgetting):
        yield
