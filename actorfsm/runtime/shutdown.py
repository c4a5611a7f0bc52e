"""Shutdown: admission has stopped; now queues are finished or abandoned, and nothing is left running (C19)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actorfsm.errors import SystemStopping
from actorfsm.runtime.actor import PAUSED, RUNNING

if TYPE_CHECKING:
    from actorfsm.errors import ActorFSMError
    from actorfsm.runtime.parts import Parts

__all__ = ["StopReport", "shut_down"]


@dataclass(frozen=True, slots=True)
class StopReport:
    """How a system stopped.

    Attributes:
        finished: Whether all queues were finished within the deadline.
        abandoned: Events that were accepted and never handled; each was answered `SystemStopping` or is a dead letter.
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
) -> StopReport:
    """Bring a system to its end.

    Args:
        parts: The system's parts, closed for new events already.
        finish: Whether queues are finished first.
        timeout_s: How long that may take, in seconds.
        error: What those get who still wait; `SystemStopping` by default.

    Raises:
        CancelledError: The caller was cancelled; the system has stopped nevertheless.
    """
    parts.stopping = True
    loop, started_at = parts.loop, parts.loop.time()
    cancelled: asyncio.CancelledError | None = None
    finished = False
    if finish:
        try:
            finished = await _come_to_rest(parts, started_at + timeout_s)
        except asyncio.CancelledError as error_from_outside:
            cancelled = error_from_outside
    parts.dispatcher.close()
    abandoned_before = parts.counters.outcomes["dead_lettered"]
    _end_everything(parts, error or SystemStopping("the system stopped before it came to this event"))
    for turn in list(parts.dispatcher.running_turns()):
        parts.dispatcher.interrupt(turn, "stopping")
    for task in list(parts.background):
        task.cancel()
    deadline = loop.time() + parts.limits.grace_s
    while not await _nothing_runs(parts, deadline):
        if loop.time() >= deadline:
            break
    unstopped = _leave_behind(parts)
    _end_everything(parts, error or SystemStopping("the system stopped before it came to this event"))
    parts.timers.close()
    parts.deadlines.close()
    parts.sweeper.close()
    for sink in parts.sinks:
        flush = getattr(sink, "flush", None)
        if flush is not None:
            flush()
    report = StopReport(
        finished=finished,
        abandoned=parts.counters.outcomes["dead_lettered"] - abandoned_before,
        unstopped=unstopped,
        seconds=loop.time() - started_at,
        outcomes={str(kind): count for kind, count in parts.counters.outcomes.items()},
    )
    if cancelled is not None:
        raise cancelled
    return report


def _end_everything(parts: Parts, error: ActorFSMError) -> None:
    for actor in list(parts.registry.actors.values()):
        actor.kind.supervisor.end_with(actor, error)


def _leave_behind(parts: Parts) -> tuple[str, ...]:
    for turn in list(parts.dispatcher.running_turns()):
        parts.dispatcher.leave_behind(turn)
    return tuple(name for task, name in parts.background.items() if not task.done())


async def _come_to_rest(parts: Parts, deadline: float) -> bool:
    """Wait until nothing is queued, running or about to run; return whether that came before the deadline."""
    while not _is_at_rest(parts):
        if parts.loop.time() >= deadline:
            return False
        await _change(parts, deadline)
    return True


async def _nothing_runs(parts: Parts, deadline: float) -> bool:
    if not parts.dispatcher.workers and not parts.background:
        return True
    try:
        await _change(parts, deadline)
    except asyncio.CancelledError:
        # Cancelled again while cleaning up: nothing is waited for any more, and nothing is left undone.
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        return True
    return not parts.dispatcher.workers and not parts.background


def _is_at_rest(parts: Parts) -> bool:
    if not parts.dispatcher.is_at_rest or parts.background or parts.counters.outgoing:
        return False
    return not any(
        actor.status in {PAUSED, RUNNING} and actor.mailbox is not None and actor.mailbox.waiting
        for actor in parts.registry.actors.values()
    )


async def _change(parts: Parts, deadline: float) -> None:
    parts.changed = parts.loop.create_future()
    handle = parts.loop.call_at(deadline, parts.note_change)
    try:
        await parts.changed
    finally:
        handle.cancel()
        parts.changed = None
