"""The shop: what stands in the supervision tree, and whose clock it goes by."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

from actorfsm import ActorSystem, Child, RestartPolicy, Sink, Supervisor
from actorfsm.journal.protocol import Journal
from examples.orders.gateway import Gateway, Weather
from examples.orders.notice import Notice
from examples.orders.order import Order

__all__ = ["MOMENT_S", "LogClock", "open_shop"]

MOMENT_S: Final = 0.001
"""The log knows whole seconds. What was due at its time comes first; its event comes a moment later."""


def open_shop(
    clock: LogClock, weather: Weather, sinks: Sequence[Sink] = (), *, journal: Journal | None = None
) -> ActorSystem[Gateway]:
    """Make the system of the shop: the fleet of orders, and beside it what may fail without harm to them.

    Args:
        clock: The time of day.
        weather: When the line to the customers breaks.
        sinks: Where the records go.
        journal: Where the orders and notices are kept; by default in memory only.
    """
    gateway = Gateway(weather, clock)
    outside = Supervisor(
        "outside",
        # After a minute, then two, four, up to an hour. More than twenty in an hour would be the end of the shop.
        policy=RestartPolicy(max_restarts=20, within_s=3600, first_delay_s=60, max_delay_s=3600),
        children=[
            Child(gateway.serve, "gateway"),
            Notice,
        ],  # Notice: here its machines are supervised, one by one
    )
    return ActorSystem(
        children=[outside, Order],  # they are started in this order, and stopped in reverse
        services=gateway,
        clock=clock,
        trace=list(sinks) or None,
        random=Random(0),  # what is drawn from it must be the same in every run
        journal=journal,
    )


class LogClock:
    """The time of day of a log: it stands at an event until the next one is read.

    It needs a loop whose time is virtual (`actorfsm.testing.SimLoop`). There, to sleep is to let time pass: everything
    that is due meanwhile happens in its order, and nobody waits.
    """

    def __init__(self) -> None:
        self._start: datetime | None = None

    def begin(self, at: datetime) -> None:
        """Set it, before the shop is opened; once it goes, nobody turns it."""
        if self._start is None:
            self._start = at - self._passed

    @property
    def _passed(self) -> timedelta:
        return timedelta(seconds=asyncio.get_running_loop().time())

    def now(self) -> datetime:
        """Return the time of day, in UTC, aware; a day of no meaning before it was set."""
        start = datetime.fromtimestamp(0, UTC) if self._start is None else self._start
        return start + self._passed

    async def reach(self, at: datetime) -> None:
        """Let time pass until then. A log that goes back in time does not turn the clock back."""
        ahead_s = (at - self.now()).total_seconds()
        if ahead_s >= 0:
            await asyncio.sleep(ahead_s + MOMENT_S)

    async def rest(self) -> None:
        """Let a moment pass: on a virtual clock it does not before everything is done that can be."""
        await asyncio.sleep(MOMENT_S)
