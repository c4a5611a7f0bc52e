"""C2, C7, C23 with a journal: a machine's end and what becomes of its postponed events are stored as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

import pytest

from actorfsm import STAY, Event, Machine, Outcome, postpone, transition
from actorfsm.errors import Expired, JournalFull, MachineStopped
from actorfsm.journal.entry import Batch
from actorfsm.journal.memory import MemoryJournal
from actorfsm.journal.verify import verify_journal
from tests.contract.durable import Lives, in_memory, lives_on_every_journal

__all__ = ["lives_on_every_journal"]
SEEDS = range(2)
LivesOf = Callable[[], Lives]


class S(Enum):
    OPEN = auto()
    READY = auto()
    CLOSED = auto()


class Late(Event[None]):
    number: int


class End(Event[None]):
    pass


class Close(Event[None]):
    pass


class Ready(Event[None]):
    pass


class Box(Machine[S, Any], initial=S.OPEN, final=(S.CLOSED,)):
    @postpone(S.OPEN)
    @transition(S.READY, to=STAY)
    async def late(self, event: Late) -> None: ...

    @transition(S.OPEN, to=STAY)
    async def end(self, event: End) -> None:
        self.stop()

    @transition(S.OPEN, S.READY, to=S.CLOSED)
    async def close(self, event: Close) -> None: ...

    @transition(S.OPEN, to=S.READY)
    async def ready(self, event: Ready) -> None:
        self.stop()


class L(Enum):
    OPEN = auto()


class Ledger(Machine[L, Any], initial=L.OPEN):
    seen: tuple[str, ...] = ()

    @transition(L.OPEN, to=STAY)
    async def heard(self, event: Outcome) -> None:
        error = "" if event.error is None else event.error.type
        self.seen = (*self.seen, f"{event.kind} {error}")


class Written(MemoryJournal):
    """Keeps what it is handed."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.batches: list[Batch] = []

    def append(self, batch: Batch) -> asyncio.Future[None]:
        self.batches.append(batch)
        return super().append(batch)


class Full(Written):
    """Takes nothing of a machine for now."""

    is_full = False

    def append(self, batch: Batch) -> asyncio.Future[None]:
        if self.is_full:
            answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(2, answer.set_exception, JournalFull("no room"))
            return answer
        return super().append(batch)


async def _end(system: Any, how: str) -> None:
    """Postpone three events, then let the machine come to its end."""
    await system.spawn(Ledger, "ledger")
    await system.spawn(Box, "box")
    for number in range(3):
        await system.tell("box", Late(number=number), reply_to="ledger").accepted()
    await system.clock.advance(1)
    if how == "operator":
        await system.stop("box")
    else:
        await system.ask("box", {"itself": End(), "after a change": Ready(), "finishes": Close()}[how])
    await system.clock.advance(1)


@pytest.mark.rule("C2")
@pytest.mark.rule("C7")
@pytest.mark.rule("C23")
@pytest.mark.parametrize("how", ["itself", "after a change", "finishes", "operator"])
def test_wherever_the_process_dies_a_machine_has_ended_with_all_that_it_had_postponed_or_not_at_all(
    sim: Callable[..., None], lives_of: LivesOf, how: str
) -> None:
    """Each life begins with what was stored when the one before it died after so many batches."""

    async def scenario() -> None:
        journal = Written(in_memory().store)
        async with Lives(lambda: journal, None).begin(Box, Ledger) as system:
            await _end(system, how)
            said = system.snapshot("ledger").data["seen"]
        assert said == ("unhandled Unhandled" if how == "finishes" else "dead_lettered MachineStopped",) * 3
        found = [
            await _found(lives_of(), journal.batches[:died_after], said)
            for died_after in range(_postponed_after(journal.batches), len(journal.batches) + 1)
        ]
        status, letters = ("finished", 0) if how == "finishes" else ("stopped", 3)
        assert set(found) == {("alive", 3, 0), (status, 0, letters)}

    sim(scenario, seeds=SEEDS)


def _postponed_after(batches: list[Batch]) -> int:
    """Return after how many batches everything is postponed."""
    return max(
        n for n, batch in enumerate(batches, 1) if any(entry.kind == "postponed" for entry in batch.entries)
    )


async def _found(lives: Lives, batches: list[Batch], said: tuple[str, ...]) -> tuple[str, int, int]:
    """Return what a life finds that begins with these batches: status, postponed events, and dead letters."""
    async with lives.begin(Box, Ledger) as system:
        journal: Any = system._parts.journal
        for batch in batches:
            await journal.append(batch)
        image = (await journal.load("box")).image
        found = image.status, len(image.postponed), len(await journal.dead_letters())
        assert (await verify_journal(journal)).faults == []
        await system.shutdown(queues="abandon")
    async with lives.begin(Box, Ledger) as system:
        await system.load("ledger")
        await system.clock.advance(1)
        assert system.snapshot("ledger").data["seen"] == (() if image.postponed else said)
        assert (await verify_journal(system._parts.journal)).faults == []
    return found


@pytest.mark.rule("C2")
@pytest.mark.parametrize("how", ["itself", "finishes"])
@pytest.mark.parametrize("expires", [False, True], ids=["waits", "expires meanwhile"])
def test_an_end_that_is_not_stored_has_not_befallen_what_is_postponed(
    sim: Callable[..., None], how: str, *, expires: bool
) -> None:
    """An ask whose deadline passes meanwhile has ended all the same, and is not tried again in the next life."""

    async def scenario() -> None:
        store = in_memory().store
        journal = Full(store)
        lives = Lives(lambda: journal, store)
        async with lives.begin(Box, Ledger) as system:
            await system.spawn(Ledger, "ledger")
            await system.spawn(Box, "box")
            await system.tell("box", Late(number=1), reply_to="ledger").accepted()
            asked = asyncio.ensure_future(system.ask("box", Late(number=2), timeout=3 if expires else 50))
            await system.clock.advance(2)
            journal.is_full = True
            ending = asyncio.ensure_future(system.ask("box", End() if how == "itself" else Close()))
            await system.clock.advance(1.5)
            assert not ending.done()
            await system.clock.advance(1)
            with pytest.raises(JournalFull):
                await ending
            journal.is_full = False
            assert asked.done() is expires
            assert system.stats().postponed == (1 if expires else 2)
            await system.clock.advance(5)
            assert system.snapshot("ledger").data["seen"] == ()
            journal.batches.clear()
            await system.ask("box", Ready())
            await system.clock.advance(1)
            assert system.snapshot("ledger").data["seen"] == ("dead_lettered MachineStopped",)
            if expires:
                with pytest.raises(Expired):
                    await asked
            else:
                with pytest.raises(MachineStopped):
                    await asked
            ended = next(
                batch for batch in journal.batches if batch.entries and batch.entries[0].kind == "committed"
            )
            assert len(ended.dead) == (1 if expires else 2)
            assert (await verify_journal(journal)).faults == []

    sim(scenario, seeds=SEEDS)
