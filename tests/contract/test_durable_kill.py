"""C23 and C24 against a real SIGKILL: what was answered is on disk, and each event and message is applied once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from actorfsm import ActorSystem
from tests.contract.till import TILLS, Book, Ledger, Pay, Till

ROOT = Path(__file__).parents[2]


def run_until_killed(
    journal: Path | str, first: int, answers: int, *options: str
) -> list[tuple[str, int, int]]:
    """Let the program run, kill it when it has printed so many answers, and return all that it printed."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.contract.till", str(journal), str(first), *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(answers)]
    child.send_signal(signal.SIGKILL)
    lines += child.stdout.readlines()
    child.stdout.close()
    assert child.wait(30) == -signal.SIGKILL
    whole = [line.split() for line in lines if line.endswith("\n")]
    return [(till, int(number), int(reply)) for till, number, reply in whole]


@pytest.mark.many
@pytest.mark.rule("C23")
@pytest.mark.rule("C24")
def test_a_killed_process_has_lost_nothing_that_it_answered_and_does_nothing_twice(tmp_path: Path) -> None:
    journal = tmp_path / "till.db"
    answered: list[tuple[str, int, int]] = []
    for life in range(4):
        answered += run_until_killed(journal, 1_000 * life, 40 + 17 * life)
    asyncio.run(check(journal, answered))


@pytest.mark.many
@pytest.mark.rule("C23")
@pytest.mark.rule("C24")
def test_a_killed_process_has_lost_nothing_that_it_had_accepted_durably_and_tells_each_outcome_once(
    tmp_path: Path,
) -> None:
    journal = tmp_path / "till.db"
    accepted: list[tuple[str, int, int]] = []
    for life in range(3):
        accepted += run_until_killed(journal, 1_000_000 * life, 60 + 17 * life, "tell")
    asyncio.run(_check_accepted(journal, accepted))


async def _check_accepted(journal: Path, accepted: list[tuple[str, int, int]]) -> None:
    heard: list[tuple[str, int]] = []
    async with ActorSystem(Till, Ledger, journal=journal, trace=None) as system:
        for n in range(TILLS):
            till = await system.get_or_spawn(Till, f"till-{n}")
            await till.ask(Pay(number=10_000_000), timeout=60)  # behind all that was promised
            paid = till.snapshot().data["paid"]
            assert paid == tuple(sorted(set(paid))), "in order, and each once"
            assert {number for who, number, _ in accepted if who == till.id} <= set(paid)
            heard += [(till.id, number) for number in range(1, len(paid))]  # but for the last one, just now
        ledger = await system.get_or_spawn(Ledger, "ledger")
        await ledger.ask(Book(till="", number=0), timeout=60)  # behind all that was promised
        assert sorted(ledger.snapshot().data["outcomes"]) == sorted(heard), "each once"


async def check(journal: Path | str, answered: list[tuple[str, int, int]]) -> None:
    async with ActorSystem(Till, Ledger, journal=journal, trace=None) as system:
        for till, number, reply in answered:
            assert await system.ask(till, Pay(number=number), event_id=f"pay-{number}") == reply
        ledger = await system.get_or_spawn(Ledger, "ledger")
        lines = ledger.snapshot().data["lines"]
        booked: set[tuple[str, int]] = set()
        for n in range(TILLS):
            till = await system.get_or_spawn(Till, f"till-{n}")
            data = till.snapshot().data
            assert data["paid"] == tuple(sorted(set(data["paid"]))), "in order, and each once"
            assert data["counted"] == data["paid"]
            booked |= {(till.id, number) for number in data["paid"]}
            assert [number for who, number in lines if who == till.id] == list(data["paid"])
        assert {(till, number) for till, number, _ in answered} <= booked
        assert set(lines) == booked
        assert len(lines) == len(booked)
        assert system.stats().outgoing == 0
