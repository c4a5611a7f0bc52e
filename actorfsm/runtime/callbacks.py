"""Callbacks: called with an event's outcome after its turn, in order per machine, holding nothing."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from typing import TYPE_CHECKING, Any

from actorfsm.runtime.reply import described
from actorfsm.runtime.tasks import start_task
from actorfsm.trace import Record

if TYPE_CHECKING:
    from actorfsm.event import Outcome
    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.parts import Parts

__all__ = ["Callbacks"]


class Callbacks:
    """The callbacks that wait, a lane for each machine. A lane has a task only while something waits in it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._lanes: dict[str, deque[tuple[Envelope, Outcome]]] = {}
        self._closed = False

    def add(self, envelope: Envelope, outcome: Outcome) -> None:
        """Call the event's callback, after those that wait already."""
        if self._closed:
            self._report(envelope, "the system has stopped: not called", None)
            return
        lane = self._lanes.get(envelope.machine_id)
        if lane is None:
            lane = self._lanes[envelope.machine_id] = deque[tuple["Envelope", "Outcome"]]()
            self._start(envelope.machine_id, lane)
        if len(lane) >= self._parts.limits.callbacks:
            self._report(envelope, f"{len(lane)} callbacks wait already: not called", None)
            return
        lane.append((envelope, outcome))

    def close(self) -> None:
        """Call no more: what still waits is reported."""
        self._closed = True

    @property
    def waiting(self) -> int:
        """How many machines have callbacks that have not been called, or have not ended."""
        return len(self._lanes)

    def _start(self, machine_id: str, lane: deque[tuple[Envelope, Outcome]]) -> None:
        task = start_task(self._drain(lane), self._parts.loop)
        task.add_done_callback(lambda _: self._ended(machine_id, lane))
        self._parts.keep(task, f"callbacks of {machine_id}")

    async def _drain(self, lane: deque[tuple[Envelope, Outcome]]) -> None:
        while lane:
            envelope, outcome = lane.popleft()
            await self._call(envelope, outcome)

    def _ended(self, machine_id: str, lane: deque[tuple[Envelope, Outcome]]) -> None:
        if lane and not self._closed:
            # A callback had its own task cancelled: the others are called nevertheless.
            self._start(machine_id, lane)
            return
        del self._lanes[machine_id]
        for envelope, _ in lane:
            self._report(envelope, "the system has stopped: not called", None)
        self._parts.note_change()

    async def _call(self, envelope: Envelope, outcome: Outcome) -> None:
        callback: Any = envelope.callback
        timeout_s = self._parts.limits.callback_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                result = callback(outcome)
                if inspect.isawaitable(result):
                    await result
        except KeyboardInterrupt:
            raise
        except TimeoutError as error:
            self._report(
                envelope, f"a callback raised TimeoutError or took longer than {timeout_s:g} s", error
            )
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                self._report(envelope, "a callback was cancelled", error)
                raise
            self._report(envelope, "a callback raised CancelledError", error)
        except BaseException as error:  # noqa: BLE001 -- a callback cannot hurt the runtime (C13)
            self._report(envelope, f"a callback raised {described(error)}", error)

    def _report(self, envelope: Envelope, reason: str, error: BaseException | None) -> None:
        parts = self._parts
        parts.counters.callbacks_failed += 1
        if parts.sinks:
            parts.emit_outside(
                Record(
                    "callback_failed",
                    envelope.machine_name,
                    envelope.machine_id,
                    event_type=type(envelope.event).__name__,
                    event_id=parts.event_id(envelope),
                    causation_id=envelope.causation_id,
                    correlation_id=envelope.correlation_id or parts.event_id(envelope),
                    reason=reason,
                    error=error,
                )
            )
