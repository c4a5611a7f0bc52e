"""C14, C23: an event that ends the process comes back so often, and then it is a dead letter like one that fails."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from typing import Any

import pytest

from actorfsm import STAY, ActorSystem, Event, Machine, transition
from actorfsm.journal.memory import MemoryJournal, MemoryStore
from actorfsm.journal.verify import verify_journal
from tests.contract.durable import Lives, lives_on_every_journal
from tests.contract.killer import Bomb, Born

__all__ = ["lives_on_every_journal"]
ROOT = Path(__file__).parents[2]
SEEDS = range(2)
LivesOf = Callable[[], Lives]


def _life(journal: Path, how: str, *options: str) -> tuple[bool, str]:
    """Let the program live once; return whether it was killed, and what it printed."""
    child = subprocess.run(
        [sys.executable, "-m", "tests.contract.killer", str(journal), how, *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    return child.returncode in {-9, 9}, child.stdout.strip()


@pytest.mark.many
@pytest.mark.rule("C14", "C23")
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("durable", "notes,behind dead,Kill held"),
        ("own", "notes,own,behind dead,Kill held"),
        ("postponed", "notes,behind dead,Kill held"),
        ("birth", "dead,Start held"),
        ("timer", "notes dead held,bomb"),
    ],
)
def test_an_event_that_ends_the_process_does_so_in_four_lives_at_most(
    tmp_path: Path, how: str, said: str
) -> None:
    journal = tmp_path / "bomb.db"
    assert _life(journal, how, "begin") == (True, "")
    for _ in range(3):
        assert _life(journal, how) == (True, "")
    assert _life(journal, how) == (False, said)
    asyncio.run(_check(journal))


async def _check(name: Path) -> None:
    async with ActorSystem(Bomb, Born, journal=name, trace=None) as system:
        journal = system._parts.journal
        assert journal is not None
        await asyncio.sleep(0.1)
        assert await journal.pending() == []
        assert (await verify_journal(journal)).holds


class S(Enum):
    ON = auto()


class Work(Event[None]):
    pass


class Slow(Machine[S, Any], initial=S.ON, final=(S.ON,)):
    """Its services are how often it has begun, and how long it takes."""

    @transition(S.ON, to=STAY)
    async def work(self, event: Work) -> None:
        self.services["begun"] += 1
        await asyncio.sleep(self.services["takes_s"])


@pytest.mark.rule("C14", "C19")
def test_a_life_that_was_ended_in_order_in_the_middle_of_a_turn_does_not_count(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives, services = lives_of(), {"begun": 0, "takes_s": 20}
        async with lives.begin(Slow, services=services) as system:
            slow = await system.spawn(Slow, "s")
            await slow.tell(Work(), durable=True).accepted()
            await system.clock.advance(1)
            await system.shutdown(queues="abandon")
        for _ in range(6):
            async with lives.begin(Slow, services=services) as system:
                await system.clock.advance(1)
                await system.shutdown(queues="abandon")
        services["takes_s"] = 0
        async with lives.begin(Slow, services=services) as system:
            await system.clock.advance(1)
            journal = system._parts.journal
            assert journal is not None
            assert await journal.pending() == []
            assert await journal.dead_letters() == []
            assert [entry.kind for entry in await journal.entries("s")] == ["committed", "committed"]
        assert services["begun"] == 8

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23", "C25")
def test_what_cannot_be_counted_is_not_begun_and_tried_again(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        store, services = MemoryStore(), {"begun": 0, "takes_s": 20}
        async with Lives(lambda: MemoryJournal(store), store).begin(Slow, services=services) as system:
            slow = await system.spawn(Slow, "s")
            await slow.tell(Work(), durable=True).accepted()
            await system.clock.advance(1)
            await system.shutdown(queues="abandon")
        assert services["begun"] == 1
        services["takes_s"] = 0
        fates = iter(["full", "unknown, not stored"])
        store.fate = lambda: next(fates, "stored")  # type: ignore[assignment,return-value]
        async with Lives(lambda: MemoryJournal(store), store).begin(Slow, services=services) as system:
            await system.clock.advance(0.5)
            assert services["begun"] == 1
            await system.clock.advance(5)
            assert services["begun"] == 2
        assert not store.pending

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
def test_an_event_of_this_life_is_not_counted(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        store, services = MemoryStore(), {"begun": 0, "takes_s": 20}
        async with Lives(lambda: MemoryJournal(store), store).begin(Slow, services=services) as system:
            slow = await system.spawn(Slow, "s")
            await slow.tell(Work(), durable=True).accepted()
            await system.clock.advance(1)
            assert len(store.pending) == 1
            await system.shutdown(queues="abandon")
        async with Lives(lambda: MemoryJournal(store), store).begin(Slow, services=services) as system:
            await system.clock.advance(1)
            assert len(store.pending) == 2
            await system.clock.advance(30)
            assert not store.pending

    sim(scenario, seeds=SEEDS)
