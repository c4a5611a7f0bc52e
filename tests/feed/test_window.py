"""How far lines may be apart that are on their way to the disk together: a later run looks no further back."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from actorfsm.feed.feeder import Feeder
from actorfsm.feed.position import WINDOW, Position
from examples.orders.order import Order

PAY = json.dumps({"machine_id": "o-1", "event": "Canceled", "data": {"at": "2018-01-01T00:00:00Z", "seq": 1}})


class Lines:
    """A log in memory."""

    name = "log"

    def __init__(self, lines: list[str]) -> None:
        self.texts = [text.encode() for text in lines]

    async def chunks(self) -> AsyncIterator[list[bytes]]:
        yield self.texts


class Receipt:
    def __init__(self) -> None:
        self.is_stored = asyncio.Event()

    async def accepted(self) -> None:
        await self.is_stored.wait()


class SlowSystem:
    """A system that stores an event when somebody has waited a while for it, and notes how far lines are apart."""

    machine_classes = (Order,)
    journal = object()

    def __init__(self) -> None:
        self.under_way: deque[tuple[int, Receipt]] = deque()
        self.furthest = 0

    async def wait_for_room(self, machine_id: str) -> None: ...

    def tell(self, machine_id: str, event: Any, *, event_id: str, **options: Any) -> Receipt:
        number = int(event_id.partition(":")[2])
        while self.under_way and self.under_way[0][1].is_stored.is_set():
            self.under_way.popleft()
        if self.under_way:
            self.furthest = max(self.furthest, number - self.under_way[0][0])
        receipt = Receipt()
        self.under_way.append((number, receipt))
        asyncio.get_running_loop().call_later(3_600, receipt.is_stored.set)
        return receipt


@pytest.mark.rule("C23")
@pytest.mark.parametrize("between", [0, 1, 50, 10 * WINDOW], ids=str)
def test_events_under_way_lie_within_a_window_of_lines_however_many_blank_ones_lie_between(
    between: int, sim: Any
) -> None:
    async def scenario() -> None:
        system: Any = SlowSystem()
        log: Any = Lines([PAY, *[""] * between] * (3 * WINDOW // (between + 1) + 3))
        feeder = Feeder(
            system,
            log,
            source="log",
            position=Position(),
            passes_over=False,
            say=print,
            now=lambda: datetime.now(UTC),
        )
        await feeder.feed()
        assert feeder.account.sent == len(log.texts) // (between + 1)
        assert system.furthest < WINDOW
        if between < WINDOW:
            assert system.furthest >= WINDOW - 1 - between

    sim(scenario)
