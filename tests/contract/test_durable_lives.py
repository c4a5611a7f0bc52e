"""C23 to C26 over many lives: systems that are taken over, abandoned or stopped, on a journal that fails now and then.

In memory a takeover is what a crash is on a disk: the old system never writes again, whatever it was doing.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from actorfsm import AskTimeout, Expired, Fenced, NotStored, OutcomeUnknown, SystemFailed
from actorfsm.testing import SimulatedSystem, simulate
from tests.contract.durable import Lives, in_memory
from tests.contract.till import Ledger, Pay, Till

OPEN = (NotStored, OutcomeUnknown, Expired, AskTimeout)
"""What a client may be answered whose payment is not known to be done."""
FATES = ("not stored", "full", "unknown, stored", "unknown, not stored")
TILLS = ("till-0", "till-1", "till-2")
PAYMENTS = 60
"""How many each till takes in a life at most: while the journal never fails nothing takes time, and none would wait."""


class History:
    """Clients that pay, life after life, and note what they are answered."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.lives: Lives = in_memory()
        self.fates = ["stored"] * self.random.choice([3, 10, 100]) + list(FATES)
        self.answered: list[tuple[str, int, int]] = []
        self.number = 0

    def begin(self) -> SimulatedSystem[Any]:
        assert self.lives.store is not None
        self.lives.store.fate = lambda: self.random.choice(self.fates)
        return self.lives.begin(Till, Ledger)

    async def spawned(self, system: SimulatedSystem[Any], kind: Any, machine_id: str) -> Any:
        while True:
            with suppress(NotStored, OutcomeUnknown):
                return await system.get_or_spawn(kind, machine_id)

    async def pay(self, system: SimulatedSystem[Any], till: str) -> None:
        await self.spawned(system, Till, till)
        for _ in range(PAYMENTS):
            self.number += 1
            number, is_open = self.number, True
            while is_open and self.random.random() > 0.1:
                try:
                    timeout = self.random.choice([0.5, 10, 50])
                    reply = await system.ask(
                        till, Pay(number=number), event_id=f"pay-{number}", timeout=timeout
                    )
                except OPEN:
                    await asyncio.sleep(self.random.random())
                else:
                    self.answered.append((till, number, reply))
                    is_open = False

    async def live(self, *, is_last: bool) -> None:
        async with self.begin() as system:
            await self.spawned(system, Ledger, "ledger")
            clients = [asyncio.ensure_future(self.pay(system, till)) for till in TILLS]
            try:
                for _ in range(self.random.randrange(5, 300)):
                    await asyncio.sleep(0 if self.random.random() < 0.9 else self.random.random())
                end = self.random.choice(["taken over", "abandoned", "stopped"])
                if end == "taken over" and not is_last:
                    await self.live(is_last=True)
                    await asyncio.sleep(5)
                elif end == "abandoned":
                    await system.shutdown(queues="abandon")
            finally:
                for client in clients:
                    client.cancel()
                await asyncio.gather(*clients, return_exceptions=True)

    async def judge(self) -> None:
        """Ask again for everything that was answered; then nothing may be missing, and nothing be there twice."""
        self.fates = ["stored"]
        async with self.begin() as system:
            for till, number, reply in self.answered:
                assert await system.ask(till, Pay(number=number), event_id=f"pay-{number}") == reply
            await system.clock.advance(30)
            lines = (await system.get_or_spawn(Ledger, "ledger")).snapshot().data["lines"]
            booked: list[tuple[str, int]] = []
            for till in TILLS:
                data = (await system.get_or_spawn(Till, till)).snapshot().data
                assert data["counted"] == data["paid"], "each payment raised one event, in order"
                assert [number for who, number in lines if who == till] == list(data["paid"])
                booked += [(till, number) for number in data["paid"]]
        assert len(set(booked)) == len(booked) == len(lines)
        assert {(till, number) for till, number, _ in self.answered} <= set(booked)
        assert self.lives.store is not None
        assert self.lives.store.pending == {}


@pytest.mark.many
@pytest.mark.rule("C23")
@pytest.mark.rule("C24")
@pytest.mark.rule("C26")
@pytest.mark.parametrize("seed", range(6))
def test_through_crashes_takeovers_and_failed_commits_nothing_answered_is_lost_or_done_twice(
    seed: int,
) -> None:
    history = History(seed)

    async def scenario() -> None:
        for _ in range(3):
            try:
                await history.live(is_last=False)
            except SystemFailed as failure:
                assert isinstance(failure.__cause__, Fenced)  # noqa: PT017 -- it need not fail
        assert len(history.answered) > 10
        await history.judge()

    simulate(scenario, seed=seed)
