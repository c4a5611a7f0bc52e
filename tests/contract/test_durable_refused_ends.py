"""C2, C7, C25: what befalls a machine while the commit of its end is stored is right if that commit is refused, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

import pytest

from actorfsm import STAY, Event, Machine, postpone, transition
from actorfsm.errors import Expired, JournalFull
from actorfsm.journal.memory import MemoryStore
from actorfsm.journal.verify import verify_journal
from tests.contract.durable import Lives, in_memory
from tests.contract.test_durable_stop import Box, Close, End, Full, Late, Ledger, Ready, Written

SEEDS = range(2)


class S(Enum):
    OPEN = auto()
    CLOSED = auto()


class Come(Event[None]):
    pass


class Ring(Event[None]):
    pass


class Start(Event[None]):
    pass


class Bell(Machine[S, Any], initial=S.OPEN, final=(S.CLOSED,)):
    """Its services count how often its timer rang."""

    @transition(S.OPEN, to=STAY)
    async def start(self, event: Start) -> None:
        self.start_timer(Ring(), after=60, name="bell")

    @transition(S.OPEN, to=STAY)
    async def ring(self, event: Ring) -> None:
        self.services.append(self.id)

    @postpone(S.OPEN)
    @transition(S.CLOSED, to=STAY)
    async def come(self, event: Come) -> None: ...

    @transition(S.OPEN, to=STAY)
    async def end(self, event: End) -> None:
        self.stop()

    @transition(S.OPEN, to=S.CLOSED)
    async def close(self, event: Close) -> None: ...


async def _refused(system: Any, journal: Full, machine_id: str, event: Any) -> None:
    """Let the machine end with a commit that is refused after two seconds, of which one and a half are over."""
    journal.is_full = True
    ending = asyncio.ensure_future(system.ask(machine_id, event))
    await system.clock.advance(1.5)
    assert not ending.done()
    await system.clock.advance(0.7)
    journal.is_full = False
    with pytest.raises(JournalFull):
        await ending


@pytest.mark.rule("C2", "C25")
@pytest.mark.parametrize("how", ["stops", "finishes"])
@pytest.mark.parametrize("has_entry", [True, False])
def test_what_expires_while_the_end_is_stored_says_that_the_machine_lives_if_the_end_is_refused(
    sim: Callable[..., None], how: str, *, has_entry: bool
) -> None:
    async def scenario() -> None:
        store, rung = in_memory().store, list[str]()
        journal = Full(store)
        all_lives = Lives(lambda: journal, store)
        async with all_lives.begin(Bell, Ledger, services=rung) as system:
            await system.spawn(Ledger, "ledger")
            await system.spawn(Bell, "b")
            await system.ask("b", Start())
        journal = Full(store)
        async with all_lives.begin(Bell, Ledger, services=rung) as system:
            await system.load("b")
            if has_entry:
                await system.ask("b", Start())
            # It is in the mailbox and not postponed when the commit begins: its outcome is an entry after that.
            journal.is_full = True
            ending = asyncio.ensure_future(system.ask("b", End() if how == "stops" else Close()))
            await asyncio.sleep(0)
            late = system.tell("b", Come(), timeout=1, reply_to="ledger")
            await system.clock.advance(2.2)
            journal.is_full = False
            with pytest.raises(JournalFull):
                await ending
            await system.clock.advance(2)
            assert (await late).kind == "expired"
            entries = await journal.entries("b")
            if how == "finishes":  # of one that is to stop there is no entry more, only what is told
                assert (entries[-1].kind, entries[-1].status) == ("expired", "alive")
            assert {entry.status for entry in entries} == {"alive"}
            assert [timer.name for timer in await journal.timers(2**62)] == ["bell"]
            await system.shutdown(queues="abandon")
        journal = Full(store)
        async with all_lives.begin(Bell, Ledger, services=rung) as system:
            await system.load("b")
            assert system.snapshot("b").state is S.OPEN
            await system.load("ledger")
            assert system.snapshot("ledger").data["seen"] == ("expired Expired",)
            await system.clock.advance(60)
            assert rung == ["b"]
            assert (await verify_journal(journal)).holds

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C2", "C25")
def test_an_operator_who_holds_the_machine_while_its_end_is_stored_holds_it_if_the_end_is_refused(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        store = in_memory().store
        journal = Full(store)
        lives = Lives(lambda: journal, store)
        async with lives.begin(Bell, services=[]) as system:
            await system.spawn(Bell, "b")
            journal.is_full = True
            ending = asyncio.ensure_future(system.ask("b", Close()))
            await system.clock.advance(1)
            system.suspend("b")
            await system.clock.advance(1.2)
            journal.is_full = False
            with pytest.raises(JournalFull):
                await ending
            await system.clock.advance(2)
            system._parts.recording.befell(system._parts.registry.actors["b"], "restarted")
            await system.clock.advance(1)
            entries = await journal.entries("b")
            assert [(entry.kind, entry.status) for entry in entries][1:] == [
                ("suspended", "suspended"),
                ("restarted", "suspended"),
            ]
            await system.shutdown(queues="abandon")
        journal = Full(store)
        async with lives.begin(Bell, services=[]) as system:
            await system.clock.advance(1)
            assert system.suspended() == ["b"]
            assert (await verify_journal(journal)).holds

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C7", "C25")
@pytest.mark.parametrize("how", ["itself", "finishes"])
def test_what_expires_with_a_reply_to_while_an_end_is_refused_is_told_once_and_stored_with_its_entry(
    sim: Callable[..., None], how: str
) -> None:
    async def scenario() -> None:
        store = in_memory().store
        journal = Full(store)
        async with Lives(lambda: journal, store).begin(Box, Ledger) as system:
            await system.spawn(Ledger, "ledger")
            await system.spawn(Box, "box")
            late = system.tell("box", Late(number=1), reply_to="ledger", timeout=3)
            stays = system.tell("box", Late(number=2), reply_to="ledger")
            await system.clock.advance(2)
            journal.batches.clear()
            await _refused(system, journal, "box", End() if how == "itself" else Close())
            await system.clock.advance(3)
            assert (await late).kind == "expired"
            [batch] = [batch for batch in journal.batches if any(e.kind == "expired" for e in batch.entries)]
            [entry] = batch.entries
            assert entry.status == "alive"
            assert [promise.machine_id for promise in entry.promises] == ["ledger"]
            assert system.snapshot("ledger").data["seen"] == ("expired Expired",)
            image = (await journal.load("box")).image  # type: ignore[union-attr]
            assert len(image.postponed) == 1
            await system.ask("box", Ready())
            assert (await stays).kind == "dead_lettered"
            await system.clock.advance(1)
            assert system.snapshot("ledger").data["seen"] == (
                "expired Expired",
                "dead_lettered MachineStopped",
            )
            assert system.stats().balance == 0
            assert (await verify_journal(journal)).holds
        assert not store.pending  # type: ignore[union-attr]

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C7", "C8")
def test_all_that_expires_while_an_end_is_refused_is_told_whoever_comes_between(
    sim: Callable[..., None],
) -> None:
    """What comes between has an entry of its own, and a telling of its own."""

    async def scenario() -> None:
        store = in_memory().store
        journal = Full(store)
        async with Lives(lambda: journal, store).begin(Box, Ledger) as system:
            await system.spawn(Ledger, "ledger")
            await system.spawn(Box, "box")
            first = asyncio.ensure_future(system.ask("box", Late(number=1), timeout=2.5))
            last = asyncio.ensure_future(system.ask("box", Late(number=3), timeout=3.5))
            await system.clock.advance(2)
            journal.is_full = True
            ending = asyncio.ensure_future(system.ask("box", End()))
            await asyncio.sleep(0)
            between = system.tell("box", Late(number=2), reply_to="ledger", timeout=1)
            await system.clock.advance(2.2)
            journal.is_full = False
            with pytest.raises(JournalFull):
                await asyncio.wait_for(ending, 10)
            for asked in (first, last):
                with pytest.raises(Expired):
                    await asyncio.wait_for(asked, 10)
            assert (await between).kind == "expired"
            await system.clock.advance(5)
            assert system.snapshot("ledger").data["seen"] == ("expired Expired",)
            assert system.stats().balance == 0
            assert (await verify_journal(journal)).holds

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C7", "C25")
@pytest.mark.parametrize("ends", ["there is room again", "the system stops"])
def test_an_operators_stop_that_is_refused_is_stored_as_a_whole_when_there_is_room_again(
    sim: Callable[..., None], ends: str
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        journal = Written(store)
        lives = Lives(lambda: journal, store)
        async with lives.begin(Box, Ledger) as system:
            await system.spawn(Ledger, "ledger")
            await system.spawn(Box, "box")
            receipts = [system.tell("box", Late(number=n), reply_to="ledger") for n in range(2)]
            await system.clock.advance(1)
            store.fate = lambda: "full"
            await system.stop("box")
            await system.clock.advance(10)
            assert not any(repr(receipt).endswith("dead_lettered>") for receipt in receipts)
            assert (await journal.load("box")).image.status == "alive"  # type: ignore[union-attr]
            assert await journal.dead_letters() == []
            if ends == "the system stops":
                await system.shutdown(queues="abandon")
                assert [(await receipt).error.type for receipt in receipts] == ["OutcomeUnknown"] * 2  # type: ignore[union-attr]
            else:
                born = asyncio.ensure_future(system.spawn(Box, "box"))
                await system.clock.advance(3)
                assert not born.done()  # its id is not free before the end is stored
                store.fate = lambda: "stored"
                journal.batches.clear()
                await born
                whole = next(batch for batch in journal.batches if batch.entries[0].machine_id == "box")
                assert [entry.kind for entry in whole.entries] == [
                    "dead_lettered",
                    "dead_lettered",
                    "stopped",
                ]
                assert len(whole.dead) == 2
                assert [(await receipt).kind for receipt in receipts] == ["dead_lettered"] * 2
                await system.clock.advance(1)
                assert system.snapshot("ledger").data["seen"] == ("dead_lettered MachineStopped",) * 2
            assert system.stats().balance == 0
        store.fate = lambda: "stored"
        journal = Written(store)
        async with lives.begin(Box, Ledger) as system:
            image = (await journal.load("box")).image  # type: ignore[union-attr]
            assert (image.status, len(image.postponed)) == (
                ("alive", 2) if ends == "the system stops" else ("alive", 0)
            )
            assert (await verify_journal(journal)).holds

    sim(scenario, seeds=SEEDS)
