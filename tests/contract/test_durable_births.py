"""C26: a machine that is born while somebody else looks for it in the journal is there once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from actorfsm.journal.sqlite.journal import SQLiteJournal
from actorfsm.testing import SimulatedSystem, simulate
from tests.contract.durable import Order, Pay, S

pytestmark = pytest.mark.rule("C26")

SEEDS = range(30)


@pytest.mark.parametrize("pause", [0, 1, 2, 3])
def test_who_looks_for_a_machine_while_it_is_born_finds_that_one(tmp_path: Path, pause: int) -> None:
    async def scenario() -> None:
        numbers = iter(range(1_000_000))

        async def client(system: SimulatedSystem[None], machine_id: str, steps: int) -> None:
            for _ in range(steps * pause):
                await asyncio.sleep(0)
            await system.get_or_spawn(Order, machine_id)
            await system.ask(machine_id, Pay(amount=1), event_id=f"pay-{next(numbers)}")

        journal = SQLiteJournal(tmp_path / f"{seed}.db")
        # Which of those that spawn at the same time was too late, the checker cannot tell from the record.
        async with SimulatedSystem(Order, journal=journal, check=False) as system:
            await asyncio.gather(
                *(client(system, f"order-{number % 3}", number // 3) for number in range(12))
            )
            for number in range(3):
                entries = await journal.entries(f"order-{number}")
                snapshot = system.ref(Order, f"order-{number}").snapshot()
                assert (snapshot.state, snapshot.data["paid"]) == (S.PAID, 4)
                assert snapshot.seq == entries[-1].commits

    for seed in SEEDS:
        simulate(scenario, seed=seed)
