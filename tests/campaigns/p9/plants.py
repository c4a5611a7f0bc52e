"""Bugs to plant into the runtime, each of which one of the storms must find, unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

from actorfsm.runtime.actor import Actor
from actorfsm.runtime.dynamic_supervisor import DynamicSupervisor
from actorfsm.runtime.intensity import Backoff, Intensity
from actorfsm.runtime.shutdown import Shutdown
from actorfsm.runtime.supervised import LiveChild, ServiceChild
from actorfsm.runtime.supervisor import LiveSupervisor
from actorfsm.runtime.timer_queue import TimerQueue

PLANTS: dict[str, Callable[[], AbstractContextManager[None]]] = {}
FOUND_BY: dict[str, tuple[str, str]] = {}
"""By name of the plant: the storm that finds it, and a word of what it says."""


def found_by(storm: str, says: str) -> Callable[[Callable[[], Iterator[None]]], Any]:
    def enter(function: Callable[[], Iterator[None]]) -> Any:
        PLANTS[function.__name__] = contextmanager(function)
        FOUND_BY[function.__name__] = storm, says
        return function

    return enter


@found_by("one_failure_too_many", "in one step of the loop")
def a_supervisor_sees_to_everybody_in_one_step() -> Iterator[None]:
    async def holds_its_breath(self: LiveSupervisor) -> None: ...

    with mock.patch.object(LiveSupervisor, "_breathe", holds_its_breath):
        yield


@found_by("all_fail_at_once", "pauses of")
def a_pause_is_never_doubled() -> Iterator[None]:
    next_pause_s = Backoff.next_pause_s

    def forgets(self: Backoff, policy: Any, now: float, random: Any) -> float:
        self.clear()
        return next_pause_s(self, policy, now, random)

    with mock.patch.object(Backoff, "next_pause_s", forgets):
        yield


@found_by("one_failure_too_many", "C17")
def one_restart_more_is_allowed() -> Iterator[None]:
    allows = Intensity.allows

    def generous(self: Intensity, policy: Any, now: float) -> bool:
        return allows(self, policy, now) or self.count(policy, now) == policy.max_restarts + 1

    with mock.patch.object(Intensity, "allows", generous):
        yield


@found_by("all_fail_in_a_deep_tree", "C17")
def a_supervisor_remembers_the_restarts_of_its_last_life() -> Iterator[None]:
    def keep(self: Intensity) -> None: ...

    with mock.patch.object(Intensity, "clear", keep):
        yield


@found_by("all_fail_up_to_the_root", "SimDeadlock")
def an_event_is_forgotten_when_the_system_fails() -> Iterator[None]:
    end_with = DynamicSupervisor.end_with

    def forgets(self: DynamicSupervisor, actor: Actor, error: Any) -> None:
        if actor.id.endswith("-7") and actor.mailbox is not None and len(actor.mailbox.queue) > 1:
            actor.mailbox.queue.pop()
        end_with(self, actor, error)

    with mock.patch.object(DynamicSupervisor, "end_with", forgets):
        yield


@found_by("never_starts", "seconds")
def a_service_has_all_the_time_to_start() -> Iterator[None]:
    start = ServiceChild.start

    async def patiently(self: Any) -> None:
        self._start_timeout_s = 3_600.0
        await start(self)

    with mock.patch.object(ServiceChild, "start", patiently):
        yield


@found_by("never_starts_again", "stopped in the order")
def children_stop_in_the_order_of_start() -> Iterator[None]:
    stop_children = LiveSupervisor._stop_children

    async def forwards(self: LiveSupervisor) -> None:
        self.children.reverse()
        try:
            await stop_children(self)
        finally:
            self.children.reverse()

    with mock.patch.object(LiveSupervisor, "_stop_children", forwards):
        yield


@found_by("all_timers_are_due_at_once", "timers fell due in one step")
def all_timers_fall_due_in_one_step() -> Iterator[None]:
    run = TimerQueue._run

    def greedy(self: Any) -> None:
        self._per_step = 10**9
        run(self)

    with mock.patch.object(TimerQueue, "_run", greedy):
        yield


@found_by("children_start_restart_and_stop", "times as long to start")
def each_start_looks_at_all_siblings() -> Iterator[None]:
    has_started = LiveChild.has_started

    def curious(self: LiveChild) -> None:
        if self.parent is not None:
            assert self.parent.children.count(self) == 1
        has_started(self)

    with mock.patch.object(LiveChild, "has_started", curious):
        yield


@found_by("sigterm_with_too_little_time", "balance")
def an_event_is_forgotten_at_the_deadline() -> Iterator[None]:
    end_with = DynamicSupervisor.end_with

    def forgets(self: DynamicSupervisor, actor: Actor, error: Any) -> None:
        if actor.id == "m7" and actor.mailbox is not None and actor.mailbox.queue:
            actor.mailbox.queue.pop()
        end_with(self, actor, error)

    with mock.patch.object(DynamicSupervisor, "end_with", forgets):
        yield


@found_by("sigterm_with_too_little_time", "waited for its queues")
def the_deadline_of_a_shutdown_is_not_kept() -> Iterator[None]:
    until = Shutdown._until

    async def patiently(self: Any, is_over: Any, deadline: float, **more: Any) -> None:
        await until(self, is_over, deadline + 5, **more)

    with mock.patch.object(Shutdown, "_until", patiently):
        yield
