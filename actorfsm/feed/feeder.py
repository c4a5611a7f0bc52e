"""The feeder: sends the lines of a log to the machines of a system, no faster than they are handled (C11).

The law: what is on its way to the disk is bounded by a window, what waits at machines by their mailboxes. A line that
cannot be sent, or that is refused for another reason than that nobody has its id, stops the feeding before anything
after it is read, unless the user has said that such lines are to be passed over.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from actorfsm.errors import (
    ActorFSMError,
    HookFailed,
    InvalidData,
    InvalidEvent,
    JournalError,
    MachineExists,
    NoSuchMachine,
    SystemFailed,
    SystemStopping,
    Vetoed,
)
from actorfsm.feed.line import BadLine, Line, LineReader
from actorfsm.feed.position import WINDOW, Position, event_id_at
from actorfsm.shown import shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from actorfsm.event import Event, Outcome
    from actorfsm.feed.log import Log
    from actorfsm.runtime.receipt import Receipt
    from actorfsm.runtime.system import ActorSystem

__all__ = ["Account", "Feeder", "LineRefused", "OtherLog"]

_AT_MOST_S: Final = 3_600.0
"""So long is slept at a time."""
_ENDINGS: Final = frozenset({SystemStopping.__name__, SystemFailed.__name__})


class LineRefused(ActorFSMError):
    """A line was no event, or its event was refused: the feeding stopped there."""


class OtherLog(ActorFSMError):
    """The journal was fed from another log of this name."""


@dataclass(slots=True)
class Account:
    """What became of the lines that were read.

    Attributes:
        lines: Lines read: blank, bad, known, or sent.
        blank: Empty ones.
        bad: Those that are no event, or none that the machine takes.
        known: Those that the journal had from an earlier run.
        sent: Events sent, and births.
        refused: Of them, those that were not let in for another reason than that nobody has their id.
        outcomes: How they ended, by kind.
        duplicates: How many of these had ended before: the machine knew the event id.
    """

    lines: int = 0
    blank: int = 0
    bad: int = 0
    known: int = 0
    sent: int = 0
    refused: int = 0
    outcomes: Counter[str] = field(default_factory=Counter[str])
    duplicates: int = 0

    @property
    def waiting(self) -> int:
        """How many events have not ended: postponed, or kept for the next run."""
        return self.sent - self.outcomes.total()


class Feeder:
    """Feeds a system that runs from a log.

    Args:
        system: The system.
        log: The log.
        source: What the log is called in the event ids of lines that have none of their own; None: the runtime makes
            ids, and a line that is read again is another event.
        position: What an earlier run has sent.
        passes_over: Whether lines that are wrong or refused are told and passed over.
        say: Told of each such line.
        now: The time of day.
        progress: Called after each piece of the log.
    """

    def __init__(
        self,
        system: ActorSystem[Any],
        log: Log,
        *,
        source: str | None,
        position: Position,
        passes_over: bool,
        say: Callable[[str], None],
        now: Callable[[], datetime],
        progress: Callable[[Account], None] = lambda _account: None,
    ) -> None:
        self.account = Account()
        self._system = system
        self._log = log
        self._reader = LineReader(system.machine_classes)
        self._source = source
        self._position = position
        self._passes_over = passes_over
        self._say = say
        self._now = now
        self._progress = progress
        self._is_durable = None if system.journal is None else True
        self._on_the_way: deque[tuple[int, Receipt]] = deque()
        self._trouble: ActorFSMError | None = None

    async def feed(self) -> None:
        """Send the log to its end, and wait until all of it is accepted: it is on the disk then.

        Raises:
            LineRefused: A line is no event, or was refused.
            OtherLog: The journal was fed from another log.
            LogError: It cannot be read to its end.
            JournalError: What was sent could not be stored.
        """
        try:
            await self._read()
        finally:
            with suppress(asyncio.CancelledError):
                await self._all_accepted()
        self._stop_if_in_trouble()

    async def _read(self) -> None:
        account, last = self.account, self._position.last
        async for texts in self._log.chunks():
            for text in texts:
                account.lines += 1
                if text.strip():
                    await self._line(account.lines, text)
                else:
                    account.blank += 1
            self._progress(account)
        if account.lines < last:
            raise OtherLog(
                f"{self._log.name} has {account.lines:,} lines, and the journal knows line {last:,} of a log of this "
                "name: give this one a name of its own with --source, or a journal of its own"
            )

    async def _line(self, number: int, text: bytes) -> None:
        position = self._position
        try:
            line = self._reader.read(number, text)
        except BadLine as error:
            self.account.bad += 1
            if number > position.last:  # otherwise an earlier run has passed it over
                self._wrong(number, error)
        else:
            if number == position.last:
                self._check(line)
            if position.knows(number):
                self.account.known += 1
            else:
                await self._send(line)
        self._stop_if_in_trouble()

    def _check(self, line: Line) -> None:
        """Refuse a log whose line is for another machine than the journal knows it for."""
        known = self._position.machine_id
        if line.machine_id != known:
            raise OtherLog(
                f"{self._log.name}:{line.number} is for {line.machine_id}, and the journal knows this line as one for "
                f"{known}: the log was changed, or it is another one: give it a name of its own with --source, or a "
                "journal of its own"
            )

    async def _send(self, line: Line) -> None:
        if line.at is not None:
            await self._reach(line.at)
        await self._system.wait_for_room(line.machine_id)
        # By numbers, not by how many: blank lines and bad ones may lie between. See `position`.
        while self._on_the_way and self._on_the_way[0][0] <= line.number - WINDOW:
            await self._accepted()
        event_id = line.event_id
        if event_id is None and self._source is not None:
            event_id = event_id_at(self._source, line.number)
        try:
            if line.event is None:
                await self._spawn(line, event_id)
            else:
                self._tell(line, line.event, event_id)
        except (InvalidEvent, InvalidData, MachineExists) as error:
            self.account.bad += 1
            self._wrong(line.number, error)

    async def _reach(self, at: datetime) -> None:
        """Wait until the time of day is that: a clock may be set meanwhile, so it is looked at now and then."""
        ahead_s = (at - self._now()).total_seconds()
        while ahead_s > 0:
            await asyncio.sleep(min(ahead_s, _AT_MOST_S))
            ahead_s = (at - self._now()).total_seconds()

    def _tell(self, line: Line, event: Event[Any, Any], event_id: str | None) -> None:
        receipt = self._system.tell(
            line.machine_id,
            event,
            event_id=event_id,
            headers=line.headers,
            callback=self._ended,
            durable=self._is_durable,
        )
        self.account.sent += 1
        self._on_the_way.append((line.number, receipt))

    async def _spawn(self, line: Line, event_id: str | None) -> None:
        assert line.spawn is not None  # noqa: S101 -- a line has an event or this
        outcome = "committed"
        await self._all_accepted()  # an event that is being stored would come after the birth
        try:
            await self._system.spawn(
                line.spawn, line.machine_id, data=line.data, event_id=event_id, headers=line.headers
            )
        except Vetoed:
            outcome = "vetoed"
        except HookFailed:
            outcome = "failed"
        self.account.sent += 1
        self.account.outcomes[outcome] += 1

    async def _all_accepted(self) -> None:
        while self._on_the_way:
            await self._accepted()

    async def _accepted(self) -> None:
        """Wait until the oldest event on its way is accepted or refused."""
        number, receipt = self._on_the_way[0]
        try:
            await receipt.accepted()
        except (NoSuchMachine, SystemStopping, SystemFailed):
            pass  # a dead letter as any other; or the system tells why it ends
        except JournalError as error:  # its callback is called all the same; but the next run sends it again
            self.account.outcomes["dead_lettered"] -= 1
            self._trouble = self._trouble or error
        except ActorFSMError as error:
            self.account.refused += 1
            self._wrong(number, error)
        self._on_the_way.popleft()

    def _ended(self, outcome: Outcome) -> None:
        """Take note of how an event ended."""
        if outcome.error is None or outcome.error.type not in _ENDINGS:  # those are kept for the next run
            self.account.outcomes[outcome.kind] += 1
            self.account.duplicates += outcome.duplicate

    def _wrong(self, number: int, why: ActorFSMError) -> None:
        told = f"{self._log.name}:{number}: {shown(str(why), 600)}"
        if self._passes_over:
            self._say(told)
        elif self._trouble is None:
            self._trouble = LineRefused(
                f"{told}; all before it is done. Mend the line and run this again, it goes on there; or pass over such "
                "lines with --on-error skip"
            )

    def _stop_if_in_trouble(self) -> None:
        if self._trouble is not None:
            raise self._trouble
