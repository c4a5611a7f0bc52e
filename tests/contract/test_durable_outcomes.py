"""C23: the outcome of an event that the journal knows of is an entry, and is told when that is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

import pytest

from actorfsm import (
    STAY,
    Event,
    Machine,
    OutcomeUnknown,
    Receipt,
    Redelivery,
    Unhandled,
    Veto,
    postpone,
    transition,
)
from actorfsm.errors import AskTimeout, JournalFull
from actorfsm.journal.memory import MemoryJournal, MemoryStore
from actorfsm.testing import SimulatedSystem
from tests.contract.durable import Order, Ship
from tests.contract.slow_journals import SlowToSay

SEEDS = range(2)


class S(Enum):
    OPEN = auto()
    LATER = auto()
    CLOSED = auto()


class Send(Event[None]):
    to: str
    what: str


class Refused(Event[None]):
    pass


class Failing(Event[None]):
    pass


class NotHere(Event[None]):
    pass


class Wait(Event[None]):
    pass


class Start(Event[None]):
    pass


class Close(Event[None]):
    pass


class Later(Event[None]):
    pass


EVENTS = {cls.__name__: cls for cls in (Refused, Failing, NotHere, Wait)}


class Box(Machine[S, Any], initial=S.OPEN, final=(S.CLOSED,)):
    @transition(S.OPEN, to=STAY)
    async def send(self, event: Send) -> None:
        receipt = self.tell(event.to, EVENTS[event.what]())
        if self.services is not None:
            self.services.append(receipt)

    @transition(S.OPEN, to=STAY)
    async def start(self, event: Start) -> None:
        self.start_timer(NotHere(), after=5)

    @transition(S.OPEN, to=STAY)
    async def refused(self, event: Refused) -> None:
        raise Veto("not today")

    @transition(S.OPEN, to=STAY)
    async def failing(self, event: Failing) -> None:
        raise ValueError("it fails")

    @transition(S.LATER, to=STAY)
    async def not_here(self, event: NotHere) -> None: ...

    @postpone(S.OPEN)
    @transition(S.LATER, to=STAY)
    async def wait(self, event: Wait) -> None: ...

    @transition(S.OPEN, to=S.LATER)
    async def later(self, event: Later) -> None: ...

    @transition(S.OPEN, S.LATER, to=S.CLOSED)
    async def close(self, event: Close) -> None: ...


class Poisonous(Box, initial=S.OPEN, final=(S.CLOSED,), redelivery=Redelivery(attempts=1)):
    pass


async def _kinds(journal: MemoryJournal, machine_id: str) -> list[str]:
    return [entry.kind for entry in await journal.entries(machine_id)]


async def _sent(system: Any, what: str, to: str = "b") -> Receipt:
    """Let a machine send a message, and return its receipt."""
    await system.ask("a", Send(to=to, what=what))
    receipt: Receipt = system._parts.services[-1]
    return receipt


@pytest.mark.rule("C23")
@pytest.mark.rule("C7")
@pytest.mark.parametrize(
    ("what", "kind"),
    [("Refused", "vetoed"), ("Failing", "failed"), ("NotHere", "unhandled")],
)
def test_a_message_that_is_not_committed_is_told_so_when_its_entry_is_stored(
    sim: Callable[..., None], what: str, kind: str
) -> None:
    async def scenario() -> None:
        journal = SlowToSay()
        async with SimulatedSystem(Box, journal=journal, services=[]) as system:
            await system.spawn(Box, "a")
            await system.spawn(Box, "b")
            system.suspend("b")
            receipt = await _sent(system, what)
            system.resume("b")
            journal.takes_s = 2
            telling = asyncio.ensure_future(receipt.outcome())
            await system.clock.advance(1)
            assert not telling.done()
            assert system.trace.of("b")[-1].name == "resumed"
            assert system.stats().unwritten  # until then: the resumption is stored before it
            await system.clock.advance(2)
            assert telling.result().kind == kind
            assert system.trace.of("b")[-1].name == kind
            assert system.stats().unwritten == 0
        assert not journal.store.pending

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
def test_a_poisoned_message_is_a_dead_letter_when_that_is_stored(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        journal = SlowToSay()
        async with SimulatedSystem(Box, Poisonous, journal=journal, services=[]) as system:
            await system.spawn(Box, "a")
            await system.spawn(Poisonous, "b")
            system.suspend("b")
            receipt = await _sent(system, "Failing")
            journal.takes_s = 2
            system.resume("b")
            await system.clock.advance(1)
            assert system.dead_letters == ()
            assert (await receipt).kind == "dead_lettered"
            [letter] = system.dead_letters
            assert letter.reason.startswith("poison")
            [stored] = await journal.dead_letters()
            assert stored.machine_id == "b"

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
def test_a_message_for_nobody_is_a_dead_letter_when_that_is_stored(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        journal = SlowToSay()
        async with SimulatedSystem(Box, journal=journal, services=[]) as system:
            await system.spawn(Box, "a")
            journal.dead_take_s = 2
            receipt = await _sent(system, "Refused", to="nobody")
            await system.clock.advance(1)
            assert (system.dead_letters, system.stats().unwritten) == ((), 1)
            with pytest.raises(Exception, match="no machine nobody"):
                await receipt.outcome()
            assert [letter.machine_id for letter in system.dead_letters] == ["nobody"]

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
def test_a_postponed_ask_that_is_not_handled_is_answered_when_that_is_stored_with_the_end_of_its_machine(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        journal = SlowToSay()
        async with SimulatedSystem(Box, journal=journal) as system:
            await system.spawn(Box, "b")
            asking = asyncio.ensure_future(system.ask("b", Wait(), timeout=100))
            await system.clock.advance(1)
            journal.takes_s = 2
            closing = asyncio.ensure_future(system.ask("b", Close()))
            await system.clock.advance(1)
            assert not asking.done()
            await closing
            with pytest.raises(Unhandled):
                await asking
            assert (await _kinds(journal, "b"))[-2:] == ["committed", "unhandled"]

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
@pytest.mark.rule("C20")
def test_a_timer_that_is_not_handled_is_consumed_before_that_is_told(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        journal = SlowToSay()
        async with SimulatedSystem(Box, journal=journal) as system:
            await system.spawn(Box, "b")
            await system.ask("b", Start())
            journal.takes_s = 2
            await system.clock.advance(6)
            assert journal.store.timers == {}
            assert system.trace.of("b")[-1].name == "committed"
            await system.clock.advance(2)
            assert system.trace.of("b")[-1].name == "unhandled"

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C30")
def test_what_ends_meanwhile_is_told_after_it(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        journal = SlowToSay()
        told: list[str] = []
        async with SimulatedSystem(Box, journal=journal, services=[]) as system:
            await system.spawn(Box, "a")
            await system.spawn(Box, "b")
            system.suspend("b")
            await _sent(system, "Refused")
            journal.takes_s = 2
            system.resume("b")
            system.tell("b", NotHere(), callback=lambda outcome: told.append(outcome.kind))
            system.tell("b", Later(), callback=lambda outcome: told.append(outcome.kind))
            await system.clock.advance(0.5)
            assert told == []
            await system.clock.advance(5)
            assert told == ["unhandled", "committed"]
            assert [record.name for record in system.trace.of("b")] == [
                *("committed", "suspended", "resumed", "vetoed", "unhandled", "committed")
            ]

    sim(scenario, seeds=SEEDS)


class Choosy(MemoryJournal):
    """Stores what commits, and answers for the rest as `fates` has it."""

    def __init__(self, store: MemoryStore, *fates: Any) -> None:
        super().__init__(store)
        self.fates = iter(fates)

    def append(self, batch: Any) -> asyncio.Future[None]:
        is_commit = any(entry.kind == "committed" for entry in batch.entries)
        self.store.fate = lambda: "stored" if is_commit else next(self.fates, "stored")
        return super().append(batch)


@pytest.mark.rule("C25")
@pytest.mark.parametrize("to", ["b", "nobody"])
def test_an_outcome_that_is_not_stored_is_tried_again_and_told_then(
    sim: Callable[..., None], to: str
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        journal = Choosy(store, "full", "unknown, not stored")
        async with SimulatedSystem(Box, journal=journal, services=[]) as system:
            await system.spawn(Box, "a")
            await system.spawn(Box, "b")
            receipt = await _sent(system, "Refused", to)
            await system.clock.advance(0.5)
            assert system.stats().unwritten == 1
            assert repr(receipt).endswith(("not yet accepted>", "accepted>"))
            await system.clock.advance(5)
            assert system.stats().unwritten == 0
            assert repr(receipt).endswith(("vetoed>", "refused: NoSuchMachine>"))
        assert not store.pending

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
@pytest.mark.rule("C25")
@pytest.mark.parametrize("to", ["b", "nobody"])
def test_what_is_never_stored_is_told_as_unknown_at_the_end_and_happens_in_the_next_life(
    sim: Callable[..., None], to: str
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        journal = Choosy(store, *["full"] * 1_000)
        async with SimulatedSystem(Box, journal=journal, services=[], check=False) as system:
            await system.spawn(Box, "a")
            await system.spawn(Box, "b")
            receipt = await _sent(system, "Refused", to)
            await system.clock.advance(3.3)
            assert system.stats().unwritten == 1
        assert system.report is not None
        assert system.report.unwritten == 1
        assert system.stats().balance == 0
        if to == "b":
            outcome = await receipt.outcome()
            assert (outcome.kind, outcome.error and outcome.error.type) == ("failed", "OutcomeUnknown")
        else:
            with pytest.raises(OutcomeUnknown):
                await receipt.outcome()
        assert len(store.pending) == 1
        async with SimulatedSystem(Box, journal=Choosy(store), check=False) as system:
            await system.clock.advance(1)
            ended = system.trace.of(to)[-1].name
            assert ended == ("vetoed" if to == "b" else "dead_lettered")
        assert not store.pending

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C25")
def test_a_full_disk_refuses_what_is_asked_and_keeps_what_was_promised(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        async with SimulatedSystem(Box, journal=MemoryJournal(store), services=[]) as system:
            await system.spawn(Box, "a")
            await system.spawn(Box, "b")
            await _sent(system, "Wait")
            store.fate = lambda: "full"
            with pytest.raises(JournalFull):
                await system.ask("a", Later())
            store.fate = lambda: "stored"
            await system.ask("b", Later())
            await system.clock.advance(5)
            assert system.stats().unwritten == 0

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C8", "C25")
def test_an_ask_that_expires_while_nothing_can_be_stored_does_not_wait_for_the_journal(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        async with SimulatedSystem(Order, journal=MemoryJournal(store)) as system:
            await system.spawn(Order, "o")
            asking = asyncio.create_task(system.ask("o", Ship(), timeout=5))
            await system.clock.advance(1)
            store.fate = lambda: "full"
            await system.clock.advance(10)
            assert asking.done()
            with pytest.raises(AskTimeout):
                await asking
            store.fate = lambda: "stored"
            await system.clock.advance(5)
            assert system.stats().unwritten == 0
            assert system.stats().outcomes["expired"] == 1
            assert system.stats().pending_asks == 0

    sim(scenario, seeds=SEEDS)
