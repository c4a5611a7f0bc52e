"""Feeding the machines: every line becomes an event, a bad line, or nothing, and all of them are accounted for.

The law: what is on the way to the machines is bounded, so that no mailbox ever overflows, however long the log is.
Events that a machine has postponed are not on the way; they wait for their time and would block the road for ever.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from actorfsm import ActorSystem, InvalidEvent, Record
from examples.orders.log import BadLine, Log, parse, shown
from examples.orders.order import Order, OrderState
from examples.orders.summary import Summary

__all__ = ["OUTCOMES", "Account", "Feeder", "Progress"]

WINDOW: Final = 512
"""Events under way at a time, over all machines: half of what one mailbox holds."""
PATIENCE_S: Final = 0.05
"""How long no event may end before the feeder looks whether those under way have been postponed, in seconds."""
OUTCOMES: Final = ("committed", "vetoed", "unhandled", "failed", "expired", "dead_lettered")


@dataclass(slots=True)
class Account:
    """What became of the lines that were read: the sender's own books.

    It is a trace sink too: a record tells the outcome of each event when it is known, for the price of a call.
    """

    lines: int = 0
    blank: int = 0
    bad: int = 0
    sent: int = 0
    outcomes: Counter[str] = field(default_factory=Counter[str])
    ended: int = 0
    wake: Callable[[], None] | None = None

    def __call__(self, record: Record) -> None:
        """Count how an event ended."""
        if record.name in OUTCOMES:
            self.outcomes[record.name] += 1
            self.ended += 1
            if self.wake is not None:
                self.wake()

    @property
    def under_way(self) -> int:
        """Events that were sent and have not ended: in a mailbox, in a turn, or postponed."""
        return self.sent - self.ended


class Feeder:
    """Sends a log to the machines of a system.

    Args:
        system: The system; `account` must be one of its sinks.
        account: Where the lines are accounted for.
        say: Called with what a person should see on the way: bad lines, progress.
    """

    def __init__(self, system: ActorSystem[Any], account: Account, say: Callable[[str], None]) -> None:
        self._system = system
        self._account = account
        self._say = say
        self._postponed = 0
        account.wake = self._wake
        self._waiter: asyncio.Future[None] | None = None

    async def feed(self, log: Log) -> None:
        """Send the log, to its end.

        Raises:
            LogError: It cannot be read to its end.
        """
        progress = Progress(log, self._account, self._say)
        async for lines in log.lines():
            for line in lines:
                if self._on_the_road >= WINDOW:
                    await self._until(WINDOW // 2)
                self.send(line)
            progress.tick()

    def send(self, line: bytes) -> None:
        """Send the event of one line to its machine, or say what is wrong with the line."""
        account = self._account
        account.lines += 1
        if not line.strip():
            account.blank += 1
            return
        try:
            machine_id, event = parse(line)
            account.sent += 1
            try:
                # The receipt is not needed: the account hears of the outcome.
                _ = self._system.tell(machine_id, event)
            except InvalidEvent as error:
                account.sent -= 1
                raise BadLine(shown(str(error), 200)) from None
        except BadLine as error:
            account.bad += 1
            self._say(f"line {account.lines:,}: {error}")

    async def settle(self) -> None:
        """Wait until every event has ended or is postponed."""
        while self._account.under_way > self._count_postponed():
            await self._until(0)

    def summary(self, seconds: float, *, interrupted: bool = False, broken_off: str | None = None) -> Summary:
        """Return the account, and where the orders are."""
        account = self._account
        return Summary(
            lines=account.lines,
            blank=account.blank,
            bad=account.bad,
            events=account.sent,
            outcomes={kind: account.outcomes[kind] for kind in OUTCOMES},
            postponed=self._count_postponed(),
            orders={state.name: len(self._system.ids(Order, state=state)) for state in OrderState},
            seconds=seconds,
            interrupted=interrupted,
            broken_off=broken_off,
        )

    @property
    def _on_the_road(self) -> int:
        return self._account.under_way - self._postponed

    async def _until(self, limit: int) -> None:
        """Wait until no more than so many events are on the way."""
        while self._on_the_road > limit:
            ended = self._account.ended
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._waiter
            except TimeoutError:
                pass
            finally:
                self._waiter = None
            if ended == self._account.ended:
                self._count_postponed()

    def _count_postponed(self) -> int:
        # Asks every machine, so it is done only when the road is blocked, and at the end.
        self._postponed = self._system.stats().postponed
        return self._postponed

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Progress:
    """One line about every second, once it has taken a while."""

    EVERY_S: Final = 1.0

    def __init__(self, log: Log, account: Account, say: Callable[[str], None]) -> None:
        self._log = log
        self._account = account
        self._say = say
        self._time = asyncio.get_running_loop().time
        self._began = self._time()
        self._next = self._began + 2 * self.EVERY_S

    def tick(self) -> None:
        """Say how far it has come, if it is time."""
        now = self._time()
        if now < self._next:
            return
        self._next = now + self.EVERY_S
        done, part = self._account.lines, self._log.progress
        share = "" if part is None else f" ({part:.0%})"
        self._say(f"{done:,} lines{share}, {done / (now - self._began):,.0f} per second")
