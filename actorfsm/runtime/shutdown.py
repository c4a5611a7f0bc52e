"""Shutdown: admission has stopped; now queues are finished or abandoned, and nothing is left running (C19)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actorfsm.errors import SystemStopping
from actorfsm.runtime.actor import PAUSED, RUNNING, SUSPENDED

if TYPE_CHECKING:
    from collections.abc import Callable

    from actorfsm.errors import ActorFSMError
    from actorfsm.runtime.parts import Parts

__all__ = ["StopReport", "shut_down"]


@dataclass(frozen=True, slots=True)
class StopReport:
    """How a system stopped.

    Attributes:
        finished: Whether all queues were finished within the deadline, but for what suspended machines and those in
            quarantine hold.
        abandoned: Events that were accepted and never handled, also by suspended machines; each was answered
            `SystemStopping` or is a dead letter.
        unstopped: Hooks and callbacks that refused to be cancelled, by name; they still run.
        seconds: How long it took.
        outcomes: How all events of the system ended, by kind.
    """

    finished: bool
    abandoned: int
    unstopped: tuple[str, ...]
    seconds: float
    outcomes: dict[str, int]


async def shut_down(
    parts: Parts, *, finish: bool, timeout_s: float, error: ActorFSMError | None = None
) -> tuple[StopReport, asyncio.CancelledError | None]:
    """Bring a system to its end.

    Args:
        parts: The system's parts, closed for new events already.
        finish: Whether queues are finished first.
        timeout_s: How long that may take, in seconds.
        error: What those get who still wait; `SystemStopping` by default.

    Returns:
        The report, and the cancellation of the caller, if it was cancelled: it is not swallowed, but raised by whoever
        keeps the report.
    """
    parts.stopping = True
    loop, started_at = parts.loop, parts.loop.time()
    grace_s = parts.limits.grace_s
    cancelled: asyncio.CancelledError | None = None
    if finish:
        cancelled = await _until(parts, _is_at_rest, started_at + timeout_s)
    finished = finish and _is_at_rest(parts)
    parts.dispatcher.close()
    parts.watches.close()
    abandoned_before = parts.counters.outcomes["dead_lettered"]
    error = error or SystemStopping("the system stopped before it came to this event")
    _end_everything(parts, error)
    for turn in list(parts.dispatcher.running_turns()):
        parts.dispatcher.interrupt(turn, "stopping")
    cancelled = await _until(parts, _no_turn_runs, loop.time() + grace_s) or cancelled
    for turn in list(parts.dispatcher.running_turns()):
        parts.dispatcher.leave_behind(turn)
    _end_everything(parts, error)
    if cancelled is None:  # callbacks and detached hooks, those of the events abandoned above too
        cancelled = await _until(
            parts, _only_the_stubborn_run, max(started_at + timeout_s, loop.time() + grace_s)
        )
    parts.close_callbacks()
    for task in list(parts.background):
        task.cancel()
    cancelled = await _until(parts, _nothing_runs, loop.time() + grace_s) or cancelled
    stubborn = [name for task, name in parts.background.items() if not task.done()]
    unstopped = (*stubborn, *parts.threads.running)
    parts.timers.close()
    parts.deadlines.close()
    parts.sweeper.close()
    parts.flush_sinks()
    report = StopReport(
        finished=finished,
        abandoned=parts.counters.outcomes["dead_lettered"] - abandoned_before,
        unstopped=unstopped,
        seconds=loop.time() - started_at,
        outcomes={str(kind): count for kind, count in parts.counters.outcomes.items()},
    )
    return report, cancelled


def _end_everything(parts: Parts, error: ActorFSMError) -> None:
    for actor in list(parts.registry.actors.values()):
        actor.kind.supervisor.end_with(actor, error)


async def _until(
    parts: Parts, is_over: Callable[[Parts], bool], deadline: float
) -> asyncio.CancelledError | None:
    """Wait until it is over or the deadline has passed.

    Returns:
        The cancellation that ended the wait, if one did: it is raised when everything has been stopped.
    """
    while not is_over(parts) and parts.loop.time() < deadline:
        try:
            await _change(parts, deadline)
        except asyncio.CancelledError as error:
            return error
    return None


def _no_turn_runs(parts: Parts) -> bool:
    return not parts.dispatcher.workers


def _only_the_stubborn_run(parts: Parts) -> bool:
    """Return whether all tasks beside the turns have been cancelled and only refuse to end."""
    return not parts.callbacks.waiting and all(
        isinstance(task, asyncio.Task) and task.cancelling() for task in parts.background
    )


def _nothing_runs(parts: Parts) -> bool:
    return not (
        parts.dispatcher.workers or parts.background or parts.callbacks.waiting or parts.threads.running
    )


def _is_at_rest(parts: Parts) -> bool:
    if (
        not parts.dispatcher.is_at_rest
        or parts.background
        or parts.callbacks.waiting
        or parts.counters.outgoing > _held_outside(parts)
    ):
        return False
    return not any(
        actor.status in {PAUSED, RUNNING} and actor.mailbox is not None and actor.mailbox.waiting
        for actor in parts.registry.actors.values()
    )


def _held_outside(parts: Parts) -> int:
    """Return how many messages wait for room at suspended machines: as long as these are held there will be none."""
    return sum(
        1
        for actor in parts.registry.actors.values()
        if actor.status == SUSPENDED and actor.mailbox is not None
        for envelope in actor.mailbox.outside or ()
        if envelope.outgoing
    )


async def _change(parts: Parts, deadline: float) -> None:
    waiter: asyncio.Future[None] = parts.loop.create_future()
    handle = parts.loop.call_at(deadline, parts.note_change)
    parts.changed.append(waiter)
    try:
        await waiter
    finally:
        handle.cancel()
        parts.changed.remove(waiter)
