"""Feeding the machines: every line becomes an event, a bad line, or nothing, and all of them are accounted for.

The law: what is on the way to the machines is bounded, so that no mailbox ever overflows, however long the log is.
Events that a machine has postponed are not on the way; they wait for their time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from actorfsm import ActorSystem, InvalidEvent, Record, StateTimeout
from examples.orders.log import BadLine, Log, parse, shown
from examples.orders.order import EVENTS, DeliveryOverdue, Order, OrderState, ShippingLimitPassed
from examples.orders.shop import LogClock
from examples.orders.summary import Summary

__all__ = ["OUTCOMES", "Account", "Feeder", "Progress"]

WINDOW: Final = 512
"""Events under way at a time, over all machines: half of what one mailbox holds."""
OUTCOMES: Final = ("committed", "vetoed", "unhandled", "failed", "expired", "dead_lettered")


@dataclass(slots=True)
class Account:
    """What became of the lines that were read: the sender's own books.

    It is a trace sink too: the records tell how each event ended, and what else befell the shop.
    """

    lines: int = 0
    blank: int = 0
    bad: int = 0
    sent: int = 0
    records: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    """How many records there were, by name and event class."""

    def __call__(self, record: Record) -> None:
        """Count a record."""
        self.records[record.name, record.event_type] += 1

    def outcomes(self) -> dict[str, int]:
        """Return how the events of the log ended; timers and what they did are not among them."""
        return {kind: sum(self.records[kind, name] for name in EVENTS) for kind in OUTCOMES}


class Feeder:
    """Sends a log to the machines of a system.

    Args:
        system: The system; `account` must be one of its sinks.
        clock: Its clock, on a loop whose time is virtual.
        account: Where the lines are accounted for.
        say: Called with what a person should see on the way: bad lines, progress.
    """

    def __init__(
        self, system: ActorSystem[Any], clock: LogClock, account: Account, say: Callable[[str], None]
    ) -> None:
        self._system = system
        self._clock = clock
        self._account = account
        self._say = say

    async def feed(self, log: Log) -> None:
        """Send the log, to its end.

        Raises:
            LogError: It cannot be read to its end.
        """
        progress = Progress(log, self._account, self._say)
        async for lines in log.lines():
            for line in lines:
                await self.send(line)
            progress.tick()

    async def send(self, line: bytes) -> None:
        """Send the event of one line to its machine when its time has come, or say what is wrong with the line."""
        account = self._account
        account.lines += 1
        if not line.strip():
            account.blank += 1
            return
        try:
            machine_id, event = parse(line)
            await self._clock.reach(event.at)
            try:
                # The receipt is not needed: the account hears of the outcome.
                _ = self._system.tell(machine_id, event)
            except InvalidEvent as error:
                raise BadLine(shown(str(error), 200)) from None
        except BadLine as error:
            account.bad += 1
            self._say(f"line {account.lines:,}: {error}")
            return
        account.sent += 1
        if account.sent % WINDOW == 0:  # time need not have passed meanwhile: much can happen in one second
            await self._clock.rest()

    def summary(self, seconds: float, *, interrupted: bool = False, broken_off: str | None = None) -> Summary:
        """Return the account, and where the orders are."""
        account, records = self._account, self._account.records
        return Summary(
            lines=account.lines,
            blank=account.blank,
            bad=account.bad,
            events=account.sent,
            outcomes=account.outcomes(),
            postponed=self._system.stats().postponed,
            orders={state.name: len(self._system.ids(Order, state=state)) for state in OrderState},
            late={
                "not handed over in time": records["committed", ShippingLimitPassed.__name__],
                "not delivered in time": records["committed", DeliveryOverdue.__name__],
            },
            gateway={
                "customers told": records["committed", StateTimeout.__name__],
                "restarts": records["restarted", ""],
                "notices put into quarantine": records["quarantined", ""],
                "of them released": records["released", ""],
            },
            days=self._clock.passed.days,
            seconds=seconds,
            interrupted=interrupted,
            broken_off=broken_off,
        )


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
