"""The gateway to the customers: the part of the shop that is not in its own hands, and fails now and then.

It is a service of the supervision tree: a coroutine that connects, says that it has started, and raises when the line
breaks. Its supervisor calls it again, after a pause that grows while nobody answers. Notices that could not be sent
meanwhile are in quarantine, and are released when the line is there again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any, Final

from actorfsm import ActorSystem

__all__ = ["Gateway", "GatewayDown"]

CONNECTS_IN_S: Final = 2.0
HOLDS_S: Final = timedelta(days=5).total_seconds()
"""How long a line holds on average, in seconds."""
MOST_ATTEMPTS: Final = 8
"""How many attempts it takes at most to get the next one."""


class GatewayDown(ConnectionError):
    """There is no line at the moment."""


class Gateway:
    """Tells customers what they should know: the `services` of the machines, and a service of the tree.

    Args:
        random: Says when the line breaks, and for how long: the same seed, the same bad luck.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._is_up = False
        self._refusals = 0

    def tell_customer(self, order_id: str, text: str) -> None:
        """Tell the customer of an order something: here, find out whether it could be sent.

        Raises:
            GatewayDown: It could not be sent.
        """
        if not self._is_up:
            raise GatewayDown("the line to the customers is down")

    async def serve(self, system: ActorSystem[Any], started: Callable[[], None]) -> None:
        """Connect, hold the line, and fail when it breaks: a child of the supervision tree.

        Raises:
            ConnectionError: The line broke, or there was none.
        """
        await asyncio.sleep(CONNECTS_IN_S)
        if self._refusals:
            self._refusals -= 1
            raise ConnectionError("nobody answers")
        self._is_up = True
        started()
        for notice_id in system.quarantined():
            system.release(notice_id)  # with what it could not do; it is tried again now
        try:
            await asyncio.sleep(self._random.expovariate(1 / HOLDS_S))
        finally:
            self._is_up = False
        self._refusals = self._random.randrange(MOST_ATTEMPTS)
        raise ConnectionError("the line broke")
