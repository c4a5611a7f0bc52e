"""The journal's writer: each machine has one batch on its way, and what is not stored is tried again in order.

The journal refuses an entry that is not the next of its machine; what comes meanwhile waits in the machine's line and
goes as one batch after it.
"""

from __future__ import annotations

from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from actorfsm.errors import Fenced, JournalError, NotStored, OutcomeUnknown
from actorfsm.journal.entry import Batch
from actorfsm.runtime.tasks import start_task

if TYPE_CHECKING:
    from asyncio import Future

    from actorfsm.journal.protocol import Journal
    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.track import Line, Track

__all__ = ["JournalWriter"]

_RETRY_S: Final = 1.0
"""How long what could not be stored waits before it is tried again."""
_ASK_AGAIN_S: Final = 0.1
"""How long it takes to ask the journal again whether something is stored."""


class JournalWriter:
    """Hands the entries of one system in, each machine's in order, and tells who waits how that ended."""

    def __init__(self, parts: Parts, journal: Journal) -> None:
        self._parts = parts
        self._journal = journal
        self._unfinished: dict[str, Track] = {}
        """The machines of which something is not stored yet, by id."""
        self._waiters: list[Future[None]] = []
        self.is_closing = False

    def write(self, machine_id: str, track: Track) -> None:
        """Hand in what waits in the line of a machine, unless something of it is on its way."""
        if track.is_writing or not track.lines or self.is_closing:
            return
        track.is_writing = True
        self._unfinished[machine_id] = track
        lines = list(track.lines)
        track.lines.clear()
        for seq, line in enumerate(lines, track.seq + 1):
            line.entry.seq = seq
        batch = Batch(
            entries=tuple(line.entry for line in lines),
            dead=tuple(letter for line in lines for letter in line.dead),
        )
        future = self._journal.append(batch)
        future.add_done_callback(partial(self._written, machine_id, track, lines, batch), context=Context())

    def _written(
        self, machine_id: str, track: Track, lines: list[Line], batch: Batch, future: Future[None]
    ) -> None:
        error: Any = None if future.cancelled() else future.exception()
        if isinstance(error, OutcomeUnknown):
            task = start_task(self._find_out(machine_id, track, lines, batch, error), self._parts.loop)
            self._parts.keep(task, f"the commit of {machine_id}, of which nobody knows")
            return
        self._answer(machine_id, track, lines, error)

    async def _find_out(
        self, machine_id: str, track: Track, lines: list[Line], batch: Batch, error: OutcomeUnknown
    ) -> None:
        """Ask the journal until it knows; until then the machine takes no event (C25)."""
        for line in lines:
            if line.envelope is not None:
                _tell_unknown(line.envelope, error)
        outcome: JournalError | None = error
        try:
            while not self.is_closing:
                try:
                    is_stored = await self._journal.settle(batch)
                except OutcomeUnknown:
                    await self._parts.next_change(self._parts.loop.time() + _ASK_AGAIN_S)
                    continue
                outcome = None if is_stored else NotStored("the journal found out that it is not stored")
                break
        except JournalError:
            pass  # it was closed meanwhile, and so nobody knows
        finally:
            self._answer(machine_id, track, lines, outcome)

    def _answer(self, machine_id: str, track: Track, lines: list[Line], error: JournalError | None) -> None:
        track.is_writing = False
        if error is None:
            track.seq = lines[-1].entry.seq
        else:
            # What is no commit has happened all the same: it is tried again, before whatever comes next.
            track.lines.extendleft(reversed([line for line in lines if line.answer is None]))
        if isinstance(error, Fenced):
            self._parts.fail(error, "another system has taken the machines over")
        for line in lines:
            if line.answer is not None and not line.answer.done():
                if error is None:
                    line.answer.set_result(None)
                else:
                    line.answer.set_exception(error)
        if not track.lines:
            self._unfinished.pop(machine_id, None)
            self._parts.note_change()
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
        elif error is None or any(line.answer is not None for line in track.lines):
            self.write(machine_id, track)
        else:
            self._parts.timers.call_later(_RETRY_S, self.write, machine_id, track)

    # -- what is done without an entry ----------------------------------------------------------------------------

    def hand_in(self, batch: Batch) -> None:
        """Hand in what belongs to no machine; if it is not stored, it is tried again."""
        if not self.is_closing:
            future = self._journal.append(batch)
            future.add_done_callback(partial(self._handed_in, batch), context=Context())

    def _handed_in(self, batch: Batch, future: Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        if isinstance(error, Fenced):
            self._parts.on_failure(error)
        elif isinstance(error, NotStored) and not self.is_closing:
            self._parts.timers.call_later(_RETRY_S, self.hand_in, batch)

    # -- the end --------------------------------------------------------------------------------------------------

    @property
    def is_written(self) -> bool:
        """Whether everything is stored."""
        return not self._unfinished

    async def until_written(self, machine_id: str) -> None:
        """Wait until everything of a machine is stored."""
        while machine_id in self._unfinished:
            waiter: Future[None] = self._parts.loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)

    async def close(self) -> None:
        """Write no more; what was handed in is stored."""
        self.is_closing = True
        await self._journal.close()


def _tell_unknown(envelope: Envelope, error: OutcomeUnknown) -> None:
    """Let the asker know that nobody knows; the event goes on."""
    waiter = envelope.waiter
    if waiter is not None and not waiter.done():
        envelope.error = error
        waiter.set_result(None)
