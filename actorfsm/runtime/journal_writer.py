"""The journal's writer: each machine has one batch on its way, and what is not stored is tried again in order.

The journal refuses an entry that is not the next of its machine; what comes meanwhile waits in the machine's line and
goes as one batch after it.
"""

from __future__ import annotations

from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from actorfsm.errors import Fenced, JournalClosed, JournalError, NotStored, OutcomeUnknown
from actorfsm.journal.entry import Batch
from actorfsm.runtime.tasks import start_task

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable

    from actorfsm.journal.entry import Entry
    from actorfsm.journal.protocol import Journal
    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.snapshots import Snapshots
    from actorfsm.runtime.track import Line, Telling, Track
    from actorfsm.runtime.transaction import Transaction

__all__ = ["JournalWriter"]

_RETRY_S: Final = 1.0
"""How long what could not be stored waits before it is tried again."""
_ASK_AGAIN_S: Final = 0.1
"""How long it takes to ask the journal again whether something is stored."""


class JournalWriter:
    """Hands the entries of one system in, each machine's in order, and tells who waits how that ended."""

    def __init__(self, parts: Parts, journal: Journal, snapshots: Snapshots) -> None:
        self._parts = parts
        self._journal = journal
        self._snapshots = snapshots
        self._unfinished: dict[str, Track] = {}
        """The machines of which something is not stored yet, by id."""
        self._in_flight: dict[str, list[Line]] = {}
        """What is on its way, by machine."""
        self._loose: dict[object, Callable[[JournalError | None], None]] = {}
        """Whom to tell about what belongs to no machine and is not stored yet."""
        self._waiters: list[Future[None]] = []
        self.unsure: Final[set[str]] = set()
        """The machines of which nobody knows what became of their last commit."""
        self.is_closing = False
        self._context = Context()
        self._guarded = parts.guarded(self._written)

    def write(self, machine_id: str, track: Track) -> None:
        """Hand in what waits in the line of a machine, unless something of it is on its way."""
        if track.is_writing or not track.lines or self.is_closing:
            return
        track.is_writing = True
        self._unfinished[machine_id] = track
        lines = list(track.lines)
        track.lines.clear()
        self._in_flight[machine_id] = lines
        last = track.last
        for seq, line in enumerate(lines, track.seq + 1):
            line.entry.seq = seq
            if line.follows is not None and last is not None:
                _goes_on(line.entry, last)
            last = line.entry
        image = lines[-1].image
        if image is not None:
            image.seq = lines[-1].entry.seq
        batch = Batch(
            entries=tuple(line.entry for line in lines),
            dead=tuple(letter for line in lines for letter in line.dead),
            images=() if image is None else (image,),
        )
        if track.transaction is None:
            future = self._journal.append(batch)
        else:
            future = self._in_transaction(machine_id, track.transaction, batch)
            track.transaction = None
        future.add_done_callback(
            partial(self._guarded, machine_id, track, lines, batch), context=self._context
        )

    def _in_transaction(self, machine_id: str, transaction: Transaction, batch: Batch) -> Future[None]:
        """Store a batch with the rows of a turn."""
        task = start_task(transaction.store(self._journal, batch), self._parts.loop)
        self._parts.keep(task, f"the commit of {machine_id} with its rows")
        return task

    def _written(
        self, machine_id: str, track: Track, lines: list[Line], batch: Batch, future: Future[None]
    ) -> None:
        error: Any = OutcomeUnknown("its task was cancelled") if future.cancelled() else future.exception()
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
        self.unsure.add(machine_id)
        try:
            outcome = await self._settled(batch, error)
        finally:
            self.unsure.discard(machine_id)
            self._answer(machine_id, track, lines, outcome)

    async def _settled(self, batch: Batch, error: OutcomeUnknown) -> JournalError | None:
        """Return what became of a batch: None if it is stored, the error that there was if nobody knows at the end."""
        try:
            while not self.is_closing:
                try:
                    is_stored = await self._journal.settle(batch)
                except OutcomeUnknown:
                    await self._parts.until(
                        lambda: self.is_closing, _ASK_AGAIN_S
                    )  # whatever else changes meanwhile
                    continue
                return None if is_stored else NotStored("the journal found out that it is not stored")
        except JournalError:
            pass  # it was closed meanwhile
        return error

    def _answer(self, machine_id: str, track: Track, lines: list[Line], error: JournalError | None) -> None:
        track.is_writing = False
        self._in_flight.pop(machine_id, None)
        if error is None:
            track.last = lines[-1].entry
            track.seq = track.last.seq
            self._snapshots.follow(machine_id, track, lines[-1])
        else:
            _put_back(track, lines)
        if isinstance(error, Fenced):
            self._parts.fail(error, "another system has taken the machines over")
        for line in lines:
            _tell(line, error)
        if track.is_writing:
            return  # what was told just now has led to something new
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

    # -- what belongs to no machine --------------------------------------------------------------------------------

    def store(self, batch: Batch, tell: Callable[[JournalError | None], None]) -> None:
        """Store a batch without entries, and tell how that ended once that is known: None, or why not.

        Args:
            batch: The batch.
            tell: Told once, at the end of the system at the latest.
        """
        if self.is_closing:
            tell(JournalClosed("the journal is being closed"))
            return
        mark = object()
        self._loose[mark] = tell
        answered = self._parts.guarded(self._answered)
        self._journal.append(batch).add_done_callback(partial(answered, mark, batch), context=Context())

    def _answered(self, mark: object, batch: Batch, future: Future[None]) -> None:
        error: Any = None if future.cancelled() else future.exception()
        if isinstance(error, OutcomeUnknown):
            task = start_task(self._find_out_loose(mark, batch, error), self._parts.loop)
            self._parts.keep(task, "what was handed in, of which nobody knows whether it is stored")
            return
        self._tell_loose(mark, error)

    async def _find_out_loose(self, mark: object, batch: Batch, error: OutcomeUnknown) -> None:
        outcome: JournalError | None = error
        try:
            outcome = await self._settled(batch, error)
        finally:
            self._tell_loose(mark, outcome)

    def _tell_loose(self, mark: object, error: JournalError | None) -> None:
        tell = self._loose.pop(mark, None)
        if isinstance(error, Fenced):
            self._parts.fail(error, "another system has taken the machines over")
        if tell is not None:
            tell(error)
        self._parts.note_change()

    def hand_in(self, batch: Batch, telling: Telling | None = None) -> None:
        """Store what has happened all the same: it is tried again until it is stored, or given up at the end."""
        self.store(batch, partial(self._handed_in, batch, telling))

    def _handed_in(self, batch: Batch, telling: Telling | None, error: JournalError | None) -> None:
        if error is None or self.is_closing or isinstance(error, Fenced):
            if telling is not None:
                telling(error)
            return
        mark = object()
        self._loose[mark] = partial(self._handed_in, batch, telling)

        def again() -> None:
            if self._loose.pop(mark, None) is not None:
                self.hand_in(batch, telling)

        self._parts.timers.call_later(_RETRY_S, again)

    # -- the end --------------------------------------------------------------------------------------------------

    @property
    def is_written(self) -> bool:
        """Whether everything is stored."""
        return not self._unfinished and not self._loose

    @property
    def waiting(self) -> int:
        """How many entries, and outcomes without one, are not stored yet."""
        lines = sum(len(track.lines) for track in self._unfinished.values())
        return lines + sum(map(len, self._in_flight.values())) + len(self._loose)

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

    def give_up(self) -> int:
        """Tell whoever still waits that nobody knows; return how much is not stored. It is done again in the next life.

        Call it when the journal is closed and nothing runs any more.
        """
        waiting = self.waiting
        unknown = OutcomeUnknown("the system stopped before this was stored: the next one does it again")
        lines = [line for flight in self._in_flight.values() for line in flight]
        lines += [line for track in self._unfinished.values() for line in track.lines]
        for line in lines:
            if line.telling is not None:
                line.telling(unknown)
        for tell in list(self._loose.values()):
            tell(unknown)
        self._loose.clear()
        return waiting


def _put_back(track: Track, lines: list[Line]) -> None:
    """Follow a batch that is not stored. What is no commit has happened all the same: it is tried again, first."""
    track.lines.extendleft(
        reversed([line for line in lines if line.answer is None and not line.is_of_commit])
    )
    for line in lines:
        if line.refused is not None:
            line.refused()


def _goes_on(entry: Entry, last: Entry) -> None:
    """Let an entry that is no commit go on where the last one has led to: a commit was on its way when it was made."""
    entry.source = entry.target = last.target
    entry.commits = last.commits


def _tell(line: Line, error: JournalError | None) -> None:
    """Tell how a line's batch ended: a commit either way, another outcome once it is stored."""
    if error is None and line.telling is not None:
        line.telling(None)
    if line.answer is not None:
        line.answer.say(error)


def _tell_unknown(envelope: Envelope, error: OutcomeUnknown) -> None:
    """Let the asker know that nobody knows; the event goes on."""
    waiter = envelope.waiter
    if waiter is not None and not waiter.done():
        envelope.error = error
        waiter.set_result(None)
