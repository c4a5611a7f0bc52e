"""The gateway to the customers: the part of the shop that is not in its own hands, and fails now and then.

It is a service of the supervision tree: a coroutine that connects, says that it has started, and raises when the line
breaks. Its supervisor calls it again, after a pause that grows while nobody answers. Notices that could not be sent
meanwhile are in quarantine, and are released when the line is there again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from random import Random
from typing import Any, Final, Protocol

from actorfsm import ActorSystem, Clock

__all__ = ["CONNECTS_IN_S", "BadLuck", "Gateway", "GatewayDown", "Weather"]

CONNECTS_IN_S: Final = 2.0
CHANCE_OF_AN_OUTAGE: Final = 0.2
"""On how many of the days the line breaks."""
LONGEST_OUTAGE_S: Final = 3 * 3600.0
A_DAY: Final = timedelta(days=1)


class GatewayDown(ConnectionError):
    """There is no line at the moment."""


class Weather(Protocol):
    """When the line holds."""

    def breaks_at(self, now: datetime) -> datetime:
        """Return when it breaks next; a time that is not after `now` if it is broken."""
        ...


class BadLuck:
    """Some days, at some time of the day, the line breaks for some time.

    What happens on a day depends on nothing but the seed: a shop that was killed and opens again has the same luck as
    one that never closed.

    Args:
        seed: The same seed, the same bad luck.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def breaks_at(self, now: datetime) -> datetime:
        """Return when the line breaks next, or since when it is broken."""
        day = datetime.combine(now.date(), time(), UTC)
        while True:
            outage = self._outage(day)
            if outage is not None and now < outage[1]:
                return outage[0]
            day += A_DAY

    def _outage(self, day: datetime) -> tuple[datetime, datetime] | None:
        """Return from when to when the line is broken on a day; it is there again before the next one begins."""
        random = Random(f"{self._seed} {day:%Y-%m-%d}")
        if random.random() >= CHANCE_OF_AN_OUTAGE:
            return None
        lasts_s = random.uniform(0, LONGEST_OUTAGE_S)
        begins = day + timedelta(seconds=random.uniform(0, A_DAY.total_seconds() - lasts_s))
        return begins, begins + timedelta(seconds=lasts_s)


class Gateway:
    """Tells customers what they should know: the `services` of the machines, and a service of the tree.

    Args:
        weather: Says when the line breaks, and for how long.
        clock: The time of day.
    """

    def __init__(self, weather: Weather, clock: Clock) -> None:
        self._weather = weather
        self._clock = clock

    @property
    def _holds_s(self) -> float:
        """How long the line will hold from now on, in seconds; not positive if it is broken."""
        now = self._clock.now()
        return (self._weather.breaks_at(now) - now).total_seconds()

    def tell_customer(self, order_id: str, text: str) -> None:
        """Tell the customer of an order something: here, find out whether it could be sent.

        Raises:
            GatewayDown: It could not be sent.
        """
        if self._holds_s <= 0:
            raise GatewayDown("the line to the customers is down")

    async def serve(self, system: ActorSystem[Any], started: Callable[[], None]) -> None:
        """Connect, hold the line, and fail when it breaks: a child of the supervision tree.

        Raises:
            ConnectionError: The line broke, or there was none.
        """
        await asyncio.sleep(CONNECTS_IN_S)
        if self._holds_s <= 0:
            raise ConnectionError("nobody answers")
        started()
        for notice_id in system.quarantined():
            system.release(notice_id)  # with what it could not do; it is tried again now
        await asyncio.sleep(self._holds_s)
        raise ConnectionError("the line broke")
