"""Shutdown: admission has stopped; now queues are finished or abandoned, and nothing is left running (C19).

Services still run while queues are finished. Then the supervision tree is stopped, in the reverse order of start and
children before parents; then callbacks and detached hooks.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actorfsm.errors import SystemStopping
from actorfsm.runtime import perform
from actorfsm.runtime.actor import PAUSED, RUNNING, SUSPENDED
from actorfsm.runtime.dynamic_supervisor import is_spawned
from actorfsm.runtime.tasks import start_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from actorfsm.errors import ActorFSMError
    from actorfsm.runtime.journal_writer import JournalWriter
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.supervisor import LiveSupervisor

__all__ = ["Shutdown", "StopReport"]


@dataclass(frozen=True, slots=True)
class StopReport:
    """How a system stopped.

    Attributes:
        finished: Whether all queues were finished within the deadline, but for what suspended machines and those in
            quarantine hold.
        abandoned: Events that were accepted and never handled, also by suspended machines; each was answered
            `SystemStopping` or is a dead letter.
        unstopped: Hooks, callbacks and services that refused to be cancelled, by name; they still run.
        seconds: How long it took.
        outcomes: How all events of the system ended, by kind.
        unwritten: What happened and the journal did not take until the end; who waited for an outcome was told
            `OutcomeUnknown`, and the next system handles that event again.
    """

    finished: bool
    abandoned: int
    unstopped: tuple[str, ...]
    seconds: float
    outcomes: dict[str, int]
    unwritten: int = 0


class Shutdown:
    """One stop of a system: a task of its own, for which all who ask for the stop wait together.

    Args:
        parts: The system's parts.
        root: The root of its supervision tree.
        finish: Whether queues are finished first.
        timeout_s: How long that may take, in seconds.
        error: What those get who still wait; `SystemStopping` if it is None.
        ended: Called when everything has stopped, with the report.
    """

    def __init__(
        self,
        parts: Parts,
        root: LiveSupervisor,
        *,
        finish: bool,
        timeout_s: float,
        error: ActorFSMError | None,
        ended: Callable[[StopReport | None], None],
    ) -> None:
        self._parts = parts
        self._root = root
        self._finishes = finish
        self._timeout_s = timeout_s
        self._error = error or SystemStopping("the system stopped before it came to this event")
        self._ended = ended
        self._hurries = 0
        parts.stopping = True
        self.task = start_task(self._run(), parts.loop)

    async def wait(self) -> StopReport:
        """Wait until everything has stopped.

        Raises:
            asyncio.CancelledError: The caller was cancelled: it is not swallowed, but passed on when everything has
                stopped, as soon as can be. What the system itself cancels does not wait.
        """
        cancelled: asyncio.CancelledError | None = None
        while not self.task.done():
            try:
                await asyncio.wait([self.task])
            except asyncio.CancelledError as error:
                if self._parts.owns(asyncio.current_task()):
                    raise
                cancelled = error
                self.hurry()
        if cancelled is not None:
            raise cancelled
        return self.task.result()

    def hurry(self) -> None:
        """End the wait that is going on: for queues to be finished, for hooks or callbacks to end."""
        self._hurries += 1
        self._parts.note_change()

    async def _run(self) -> StopReport:
        try:
            report = await self._stop_everything()
        except BaseException:
            self._ended(None)
            raise
        self._ended(report)
        return report

    async def _stop_everything(self) -> StopReport:
        parts = self._parts
        loop, started_at, grace_s = parts.loop, parts.loop.time(), parts.limits.grace_s
        if self._finishes:
            await self._until(_is_at_rest, started_at + self._timeout_s)
        finished = self._finishes and _is_at_rest(parts)
        parts.dispatcher.close()
        self._take_in_no_more()
        abandoned_before = parts.counters.outcomes["dead_lettered"]
        self._end_everything()
        for turn in list(parts.dispatcher.running_turns()):
            if is_spawned(turn.actor) and not turn.actor.kind.supervisor.node.is_shown:
                parts.dispatcher.interrupt(turn, "stopping")
        await self._stop_tree()
        self._end_everything()
        if parts.recording is not None:  # first what is told when it is stored
            writer = parts.recording.writer
            await self._until(lambda _: writer.is_written, loop.time() + grace_s)
        if not self._hurries:  # callbacks and detached hooks, those of the events abandoned above too
            await self._until(
                _only_the_stubborn_run, max(started_at + self._timeout_s, loop.time() + grace_s)
            )
        parts.close_callbacks()
        for task in list(parts.background):
            task.cancel()
        await self._until(_nothing_runs, loop.time() + grace_s)
        await self._until(_threads_are_answered, loop.time() + grace_s, patiently=True)  # they know by now
        unwritten = 0
        if parts.recording is not None:
            unwritten = await self._close_journal(parts.recording.writer)
        stubborn = [name for task, name in parts.background.items() if not task.done()]
        unstopped = (*stubborn, *parts.threads.running)
        for turn in list(parts.detached):
            perform.leave_detached(turn)
        parts.timers.close()
        parts.deadlines.close()
        parts.sweeper.close()
        parts.flush_sinks()
        return StopReport(
            finished=finished,
            abandoned=parts.counters.outcomes["dead_lettered"] - abandoned_before,
            unstopped=unstopped,
            seconds=loop.time() - started_at,
            outcomes={str(kind): count for kind, count in parts.counters.outcomes.items()},
            unwritten=unwritten,
        )

    def _take_in_no_more(self) -> None:
        """End what is on its way to a mailbox."""
        parts = self._parts
        if parts.recovery is not None:
            parts.recovery.close(self._error)
        if parts.inbox is not None:
            parts.inbox.close(self._error)
        parts.watches.close()

    async def _close_journal(self, writer: JournalWriter) -> int:
        """Let what is on its way be stored; then whoever waits for that ends. Return how much is not stored."""
        parts = self._parts
        closing = start_task(writer.close(), parts.loop)
        while not closing.done():
            try:
                await asyncio.wait([closing])
            except asyncio.CancelledError:
                self._hurries += 1
        closing.result()
        await self._until(_nothing_runs, parts.loop.time() + parts.limits.grace_s, patiently=True)
        return writer.give_up()

    async def _stop_tree(self) -> None:
        """Stop the supervision tree: each child within its deadline, so that it ends whoever is in a hurry."""
        while True:
            try:
                await self._root.stop()
            except asyncio.CancelledError:
                self._hurries += 1
            else:
                return

    def _end_everything(self) -> None:
        for actor in list(self._parts.registry.actors.values()):
            actor.kind.supervisor.end_with(actor, self._error)

    async def _until(
        self, is_over: Callable[[Parts], bool], deadline: float, *, patiently: bool = False
    ) -> None:
        """Wait until it is over, the deadline has passed, or somebody is in a hurry."""
        parts, hurries = self._parts, self._hurries
        while not is_over(parts) and parts.loop.time() < deadline:
            if self._hurries != hurries and not patiently:
                return
            try:
                await parts.next_change(deadline)
            except asyncio.CancelledError:
                self._hurries += 1


def _only_the_stubborn_run(parts: Parts) -> bool:
    """Return whether all tasks beside the turns have been cancelled and only refuse to end."""
    return not parts.callbacks.waiting and all(
        isinstance(task, asyncio.Task) and task.cancelling() for task in parts.background
    )


def _nothing_runs(parts: Parts) -> bool:
    """Return whether all tasks have ended, those too that carry answers back to threads."""
    return (
        not parts.dispatcher.workers
        and not parts.background
        and not parts.callbacks.waiting
        and not parts.calls.waiting
        and not parts.threads.running
    )


def _threads_are_answered(parts: Parts) -> bool:
    return not parts.calls.waiting


def _is_at_rest(parts: Parts) -> bool:
    if (
        not parts.dispatcher.is_at_rest
        or parts.background
        or parts.callbacks.waiting
        or (parts.inbox is not None and not parts.inbox.is_empty)
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
