"""Bugs to plant into timers, jobs, watches, suspension and trees; see `planted_p1_p5`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actorfsm import TimerScope
from actorfsm.runtime import jobs, timers
from actorfsm.runtime.actor import IDLE, READY
from actorfsm.runtime.dynamic_supervisor import DynamicSupervisor
from actorfsm.runtime.intensity import Intensity
from actorfsm.runtime.supervised import MachineChild
from actorfsm.runtime.supervisor import LiveSupervisor
from actorfsm.runtime.turn import Turn
from actorfsm.runtime.watches import Watches, _end_of
from tests.campaigns.planted_p1_p5 import found_by, put

if TYPE_CHECKING:
    import pytest


@found_by("P1", "P5")
def a_cancelled_timer_comes_if_its_event_waits(patch: pytest.MonkeyPatch) -> None:
    def ends(self: timers.Timer) -> None:
        if self.key:
            self.actor.kind.parts.timers.cancel(self.key)
            self.key = 0
            self.actor.kind.parts.counters.timers -= 1

    put(patch, timers.Timer, "end", ends)


@found_by("P1", "P5")
def a_timer_of_a_state_outlives_it(patch: pytest.MonkeyPatch) -> None:
    left_by = timers._left_by

    def leaves(turn: Any, choice: Any) -> Any:
        table = left_by(turn, choice)
        for name, timer in (turn.actor.timers or {}).items():
            if timer.scope is TimerScope.STATE and timer.envelope is not turn.envelope:
                table.setdefault(name, timer)
        return table

    put(patch, timers, "_left_by", leaves)


@found_by("P1", "P5")
def timers_come_a_second_early(patch: pytest.MonkeyPatch) -> None:
    arm = timers.Timer._arm
    put(patch, timers.Timer, "_arm", lambda self, delay_s: arm(self, max(0.0, delay_s - 1)))


@found_by("P1", "P5")
def a_failed_event_of_a_timer_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    put(patch, timers.Timer, "come_again", timers._remove)


@found_by("P1")
def a_job_begins_before_its_commit(patch: pytest.MonkeyPatch) -> None:
    start = jobs.start

    def begins(turn: Any, *arguments: Any, **named: Any) -> str:
        name = start(turn, *arguments, **named)
        turn.jobs[name].begin()
        return name

    put(patch, jobs, "start", begins)


@found_by("P1")
def a_job_outlives_its_state(patch: pytest.MonkeyPatch) -> None:
    put(patch, jobs, "_left_by", lambda turn, choice: dict(turn.actor.jobs or {}))


@found_by("P1")
def a_job_that_is_given_up_tells_nobody(patch: pytest.MonkeyPatch) -> None:
    resume = jobs.Job.resume

    def gives_up(self: jobs.Job) -> None:
        if self._again:
            resume(self)
        else:
            self.is_interrupted = False

    put(patch, jobs.Job, "resume", gives_up)


@found_by("P1", "P5")
def the_end_of_a_machine_is_told_twice(patch: pytest.MonkeyPatch) -> None:
    ended = Watches.ended

    def tells_again(self: Watches, actor: Any, reason: Any, cause: Any = None) -> None:
        watchers = [watcher for watcher in self._watchers.get(actor.id, {}) if isinstance(watcher, str)]
        ended(self, actor, reason, cause)
        for watcher in watchers:
            self._parts.admission.send(watcher, _end_of(actor, reason), cause)

    put(patch, Watches, "ended", tells_again)


@found_by("P1", "P5")
def a_watch_outlives_the_turn_that_failed(patch: pytest.MonkeyPatch) -> None:
    def watches(self: Turn, target: Any) -> None:
        self.actor.kind.parts.watches.apply(self.actor, [(str(target), True)])

    put(patch, Turn, "watch", watches)


@found_by("P1", "P5")
def a_suspended_machine_takes_one_more(patch: pytest.MonkeyPatch) -> None:
    suspend = DynamicSupervisor.suspend

    def lets_go(self: DynamicSupervisor, actor: Any) -> None:
        was = actor.status
        suspend(self, actor)
        if was in {IDLE, READY}:
            actor.status = IDLE
            self._parts.dispatcher.made_room(actor)

    put(patch, DynamicSupervisor, "suspend", lets_go)


@found_by("P1")
def children_are_stopped_in_the_order_of_start(patch: pytest.MonkeyPatch) -> None:
    async def stops(self: LiveSupervisor) -> None:
        self._is_open = False
        self._inbox.clear()
        for child in self.children:
            self._forget_pause(child)
        for child in self.children:
            if child.status != "new":
                await child.stop()

    put(patch, LiveSupervisor, "_stop_children", stops)


@found_by("P1")
def siblings_are_not_restarted(patch: pytest.MonkeyPatch) -> None:
    put(patch, LiveSupervisor, "_affected", lambda self, child: [child])


@found_by("P1", "P5")
def a_supervisor_never_gives_up(patch: pytest.MonkeyPatch) -> None:
    put(patch, Intensity, "allows", lambda self, policy, now: True)


@found_by("P1", "P5")
def a_restart_in_the_tree_loses_the_mail(patch: pytest.MonkeyPatch) -> None:
    keep = MachineChild._keep

    def loses(self: MachineChild, actor: Any) -> None:
        keep(self, actor)
        if actor.mailbox is not None:
            actor.mailbox.queue.clear()

    put(patch, MachineChild, "_keep", loses)
