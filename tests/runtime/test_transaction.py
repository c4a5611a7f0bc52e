"""C2, C25: the user's own transaction in a turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

import pytest

from actorfsm import STAY, ActorSystem, Event, Machine, OutcomeUnknown, transition
from actorfsm.journal.memory import MemoryJournal


class S(Enum):
    ON = auto()


class Rows:
    """What hooks are given."""


class Hanging:
    """A transaction whose database does not answer."""

    def __init__(self) -> None:
        self.handle = Rows()
        self.failure: BaseException | None = None
        self.is_over = False
        self.is_used = True

    async def flush(self) -> None:
        pass

    async def store(self, journal: Any, batch: Any) -> None:
        await asyncio.Event().wait()

    async def undo(self) -> None:
        pass

    def cut(self) -> None:
        pass


class Transactions:
    def gives(self, wanted: type[Any]) -> bool:
        return wanted is Rows

    def begin(self, machine_id: str) -> Hanging:
        return Hanging()


class Shared(MemoryJournal):
    shares_transactions = True


class Work(Event[None]):
    pass


class Box(Machine[S, Any], initial=S.ON):
    done: int = 0

    @transition(S.ON, to=STAY)
    async def work(self, event: Work, *, rows: Rows) -> None:
        self.done += 1


@pytest.mark.rule("C2", "C25")
def test_a_commit_whose_task_is_cancelled_is_not_taken_for_stored(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with ActorSystem(Box, journal=Shared(), transactions=Transactions(), trace=None) as system:
            await system.spawn(Box, "a")
            asking = asyncio.create_task(system.ask("a", Work()))
            await asyncio.sleep(1)
            (commit,) = [task for task, name in system._parts.background.items() if "its rows" in name]
            commit.cancel()
            with pytest.raises(OutcomeUnknown):
                await asking
            await asyncio.sleep(1)
            assert system.snapshot("a").data == {"done": 0}

    sim(scenario, seeds=range(2))
