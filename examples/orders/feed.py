"""Feeding the machines: every line becomes an event, a bad line, or nothing, and all of them are accounted for.

The law: what is on the way to the machines lies within a window of the log, so that no mailbox ever overflows, however
long the log is, and a run that was killed need only look at its last lines. Events that a machine has postponed are not
on the way; they wait for their time.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from actorfsm import ActorSystem, InvalidEvent, Record
from actorfsm.feed.log import Log, LogError
from actorfsm.feed.position import WINDOW
from actorfsm.shown import shown
from examples.orders.books import Books, event_id_of
from examples.orders.log import BadLine, in_thread, parse
from examples.orders.order import OrderEvent
from examples.orders.shop import LogClock

__all__ = ["Account", "Feeder", "OtherLog", "Progress"]


@dataclass(slots=True)
class Account:
    """What became of the lines that were read, and of the gateway meanwhile. It is a trace sink too.

    Attributes:
        lines: Lines read: blank, bad, known or sent.
        known: Those that the journal had from an earlier run.
        restarts: How often the gateway was called again.
    """

    lines: int = 0
    blank: int = 0
    bad: int = 0
    known: int = 0
    sent: int = 0
    restarts: int = 0

    def __call__(self, record: Record) -> None:
        """Take note of a record."""
        self.restarts += record.name == "restarted" and record.machine_id == "gateway"


class OtherLog(LogError):
    """The journal was fed from another log."""


class Line(NamedTuple):
    """A line of the log that is an event."""

    number: int
    machine_id: str
    event: OrderEvent


class Feeder:
    """Reads a log, and sends it to the machines of a system.

    Args:
        clock: The system's clock, on a loop whose time is virtual.
        account: Where the lines are accounted for.
        say: Called with what a person should see on the way: bad lines, progress.
        books: What an earlier run has sent.
    """

    def __init__(
        self,
        clock: LogClock,
        account: Account,
        say: Callable[[str], None],
        books: Books | None = None,
    ) -> None:
        self._clock = clock
        self._account = account
        self._say = say
        books = books or Books()
        self._last, self._position = books.last, books.position
        self._rested = 0
        self._lines: AsyncIterator[Line] | None = None
        self._next: Line | None = None

    async def begin(self, log: Log) -> bool:
        """Read to the first event that is to be sent; return whether there is one. The clock then stands before it.

        Raises:
            LogError: The log cannot be read to there.
            OtherLog: It is not the one that the journal was fed from.
        """
        self._lines = self._events(log)
        stood: datetime | None = None
        async for line in self._lines:
            if not self._is_known(line):
                self._clock.begin(stood or line.event.at)
                self._next = line
                return True
            stood = line.event.at if stood is None else max(stood, line.event.at)
        if stood is not None:
            self._clock.begin(stood)
        if self._account.lines < self._last.number:
            raise OtherLog(
                f"the log ends after {self._account.lines:,} lines, and the journal knows line "
                f"{self._last.number:,}: it was fed from another log; give a journal of its own to each (--journal)"
            )
        return False

    def _is_known(self, line: Line) -> bool:
        if line.number == self._last.number:
            self._check(line)
        is_known = self._position.knows(line.number)
        self._account.known += is_known
        return is_known

    def _check(self, line: Line) -> None:
        if (type(line.event).__name__, line.machine_id) != self._last[1:]:
            raise OtherLog(
                f"line {line.number:,} is not what the journal has of it: it was fed from another log; give a journal "
                "of its own to each (--journal)"
            )

    async def feed(self, system: ActorSystem[Any]) -> None:
        """Send what was begun, to its end.

        Raises:
            LogError: It cannot be read to its end.
        """
        if self._lines is None or self._next is None:
            return
        await self._send(system, self._next)
        async for line in self._lines:
            if not self._is_known(line):
                await self._send(system, line)

    async def _events(self, log: Log) -> AsyncIterator[Line]:
        progress = Progress(log, self._account, self._say)
        async for lines in log.chunks(in_thread):
            for text in lines:
                self._account.lines += 1
                if not text.strip():
                    self._account.blank += 1
                    continue
                try:
                    machine_id, event = parse(text)
                except BadLine as error:
                    self._refuse(self._account.lines, error)
                    continue
                yield Line(self._account.lines, machine_id, event)
            progress.tick()

    async def _send(self, system: ActorSystem[Any], line: Line) -> None:
        """Send an event to its machine when its time has come."""
        await self._clock.reach(line.event.at)
        if line.number - self._rested >= WINDOW:  # time need not have passed: much can happen in one second
            await self._clock.rest()
            self._rested = line.number
        try:
            # The receipt is not needed: the journal keeps the event, and what becomes of it.
            _ = system.tell(line.machine_id, line.event, event_id=event_id_of(line.number), durable=True)
        except InvalidEvent as error:
            self._refuse(line.number, BadLine(shown(str(error), 200)))
            return
        self._account.sent += 1

    def _refuse(self, number: int, error: BadLine) -> None:
        self._account.bad += 1
        if number > self._last.number:  # otherwise an earlier run has said so
            self._say(f"line {number:,}: {error}")


class Progress:
    """One line about every second, once it has taken a while: a second of ours, not of the log.

    Args:
        log: What is read.
        account: How much has been read.
        say: Called with the line.
        clock: Our time, in seconds.
    """

    EVERY_S: Final = 1.0

    def __init__(
        self,
        log: Log,
        account: Account,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._account = account
        self._say = say
        self._clock = clock
        self._began = clock()
        self._next = self._began + 2 * self.EVERY_S

    def tick(self) -> None:
        """Say how far it has come, if it is time."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + self.EVERY_S
        done, part = self._account.lines, self._log.progress
        share = "" if part is None else f" ({part:.0%})"
        self._say(f"{done:,} lines{share}, {done / (now - self._began):,.0f} per second")
