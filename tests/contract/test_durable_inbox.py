"""C23, C24, C11: an event that is told durably is on disk when it is accepted, and is handled once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

import pytest

from actorfsm import (
    STAY,
    ActorSystem,
    DefinitionError,
    Event,
    EventIdConflict,
    Expired,
    Machine,
    MachineStopped,
    MailboxFull,
    MailboxPolicy,
    NoSuchMachine,
    Overflow,
    SystemStopping,
    Unsupported,
    transition,
)
from actorfsm.errors import InvalidData, JournalFull
from actorfsm.journal.memory import MemoryJournal, MemoryStore
from actorfsm.testing import SimulatedSystem
from tests.contract.durable import Lives, Note, Order, Pay, hold, in_memory, lives_on_every_journal
from tests.contract.slow_journals import SlowToLoad, SlowToSay

__all__ = ["lives_on_every_journal"]
SEEDS = range(2)
LivesOf = Callable[[], Lives]


class S(Enum):
    OPEN = auto()
    CLOSED = auto()


class Post(Event[int]):
    text: str


class Open(Event[None]):
    text: Any


class Close(Event[None]):
    pass


class Box(
    Machine[S, Any],
    initial=S.OPEN,
    final=(S.CLOSED,),
    durable_inbox=True,
    mailbox=MailboxPolicy(capacity=3),
):
    texts: tuple[str, ...] = ()

    @transition(to=S.OPEN)
    async def open(self, event: Open) -> None: ...

    @transition(S.OPEN, to=STAY)
    async def post(self, event: Post) -> int:
        self.texts = (*self.texts, event.text)
        return len(self.texts)

    @transition(S.OPEN, to=S.CLOSED)
    async def close(self, event: Close) -> None: ...


def _fates(store: MemoryStore, *fates: Any) -> None:
    given = iter(fates)
    store.fate = lambda: next(given, "stored")


@pytest.mark.rule("C23")
@pytest.mark.rule("C24")
def test_what_is_accepted_durably_is_handled_in_the_next_life_once_and_in_order(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin() as system:
            order = await system.spawn(Order, "o")
            hold(system, "o")
            for n in range(4):
                receipt = await order.tell(Note(text=str(n)), durable=True).accepted()
                assert receipt.durable is (lives.store is None)
                assert not order.tell(Note(text="lost")).durable
            await system.shutdown(queues="abandon")
        for more in ((".",), (".", ".")):
            async with lives.begin() as system:
                await system.ask("o", Note(text="."))
                assert system.snapshot("o").data["notes"] == ("0", "1", "2", "3", *more)

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
def test_it_is_accepted_when_it_is_stored_and_what_is_sent_behind_it_waits(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        journal = SlowToSay()
        async with SimulatedSystem(Box, journal=journal) as system:
            box = await system.spawn(Box, "b")
            journal.takes_s = 2
            first = asyncio.ensure_future(box.tell(Post(text="1"), durable=True).accepted())
            second = asyncio.ensure_future(box.ask(Post(text="2")))
            third = box.tell(Post(text="3"), durable=False)
            await system.clock.advance(1)
            assert not first.done()
            assert len(journal.store.pending) == 1
            assert repr(third).endswith("not yet accepted>")
            await system.clock.advance(1.5)
            assert first.done()
            assert ((await third).reply, third.durable) == (2, False)
            assert await second == 3  # its task began later
            assert box.snapshot().data["texts"] == ("1", "3", "2")
        assert not journal.store.pending

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
def test_a_class_may_have_all_that_it_is_told_stored_and_a_call_may_do_without(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        journal = SlowToSay()
        async with SimulatedSystem(Box, Order, journal=journal) as system:
            await system.spawn(Box, "b")
            await system.spawn(Order, "o")
            journal.takes_s = 1
            for name, event, durable in (
                ("b", Post(text="1"), None),
                ("b", Post(text="2"), False),
                ("o", Note(text="1"), True),
                ("o", Note(text="2"), None),
            ):
                receipt = system.tell(name, event, durable=durable)
                assert len(journal.store.pending) == (durable is True or (name, durable) == ("b", None))
                assert (await receipt).success

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C11")
def test_a_full_mailbox_refuses_before_anything_is_stored(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        journal = SlowToSay()
        async with SimulatedSystem(Box, journal=journal) as system:
            box = await system.spawn(Box, "b")
            system.suspend("b")
            await box.tell(Post(text="1")).accepted()
            journal.takes_s = 1
            receipts = [box.tell(Post(text=str(n))) for n in range(2, 5)]
            assert len(journal.store.pending) == 3
            with pytest.raises(MailboxFull):
                await receipts[-1].accepted()
            await receipts[0].accepted()
            await receipts[1].accepted()
            with pytest.raises(MailboxFull):
                await box.tell(Post(text="5")).accepted()
            system.resume("b")
            assert [(await receipt).kind for receipt in receipts[:-1]] == ["committed", "committed"]

    sim(scenario, seeds=SEEDS)


class Patient(
    Box,
    initial=S.OPEN,
    final=(S.CLOSED,),
    mailbox=MailboxPolicy(capacity=1, overflow=Overflow.WAIT, wait_timeout_s=5),
):
    pass


@pytest.mark.rule("C11")
def test_one_that_found_no_room_in_time_is_refused_and_is_not_stored_any_more(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        journal = SlowToSay()
        async with SimulatedSystem(Patient, journal=journal) as system:
            box = await system.spawn(Patient, "b")
            system.suspend("b")
            await box.tell(Post(text="1")).accepted()
            outside = box.tell(Post(text="2"))
            await system.clock.advance(1)
            assert len(journal.store.pending) == 2
            with pytest.raises(MailboxFull):
                await outside.accepted()
            await system.clock.advance(1)
            assert len(journal.store.pending) == 1
            [letter] = await journal.dead_letters()
            assert letter.machine_id == "b"
            system.resume("b")

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C11")
@pytest.mark.parametrize(
    ("machine_id", "event", "error"),
    [
        ("held", Post(text="x"), Exception),
        ("new", Open(text=object()), InvalidData),
    ],
)
def test_what_cannot_be_taken_in_is_refused_and_nothing_is_stored(
    sim: Callable[..., None], machine_id: str, event: Any, error: Any
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        async with SimulatedSystem(Box, journal=MemoryJournal(store)) as system:
            held = await system.spawn(Box, "held")
            stored: list[int] = []
            store.fate = lambda: stored.append(1) or "stored"  # type: ignore[func-returns-value]
            if machine_id == "held":
                await system.stop("held")
                stored.clear()
                with pytest.raises((NoSuchMachine, MachineStopped)):
                    await held.tell(event).accepted()
            else:
                with pytest.raises(error):
                    await system.tell(machine_id, event, durable=True).accepted()
            assert not store.pending
            assert stored == []

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C11")
def test_without_a_journal_it_is_an_error_that_says_so(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with SimulatedSystem(Box) as system:
            box = await system.spawn(Box, "b")
            with pytest.raises(Unsupported, match="durable=True needs a journal"):
                box.tell(Post(text="x"), durable=True)
            receipt = box.tell(Post(text="x"))
            assert not receipt.durable
            assert (await receipt).success

    sim(scenario, seeds=SEEDS)


def test_the_option_is_true_or_false() -> None:
    with pytest.raises(DefinitionError, match="durable_inbox='yes'"):

        class _Wrong(Machine[S, Any], initial=S.OPEN, final=(S.CLOSED,), durable_inbox="yes"):  # type: ignore[arg-type]
            @transition(S.OPEN, to=S.CLOSED)
            async def close(self, event: Close) -> None: ...


@pytest.mark.rule("C25")
@pytest.mark.parametrize("fate", ["full", "unknown, not stored"])
def test_what_is_not_stored_is_not_accepted(sim: Callable[..., None], fate: Any) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        async with SimulatedSystem(Box, journal=MemoryJournal(store)) as system:
            box = await system.spawn(Box, "b")
            _fates(store, fate)
            receipts = [box.tell(Post(text="1")), box.tell(Post(text="2"))]
            with pytest.raises(JournalFull if fate == "full" else Exception):
                await receipts[0].accepted()
            assert (await receipts[1]).success
            assert box.snapshot().data["texts"] == ("2",)
        assert not store.pending

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C25")
def test_while_nobody_knows_whether_it_is_stored_it_is_not_accepted_and_what_follows_waits(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        journal = SlowToSay()
        async with SimulatedSystem(Box, journal=journal) as system:
            box = await system.spawn(Box, "b")
            journal.knows = False
            _fates(journal.store, "unknown, stored")
            receipt = box.tell(Post(text="1"))
            asking = asyncio.ensure_future(box.ask(Post(text="2"), timeout=3))
            late = asyncio.ensure_future(box.ask(Post(text="3"), timeout=100))
            with pytest.raises(Expired):
                await asking
            assert repr(receipt).endswith("not yet accepted>")
            journal.knows = True
            assert await late == 2
            assert (await receipt).reply == 1

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C24")
def test_the_same_event_id_is_handled_once_however_it_is_sent(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin() as system:
            order = await system.spawn(Order, "o")
            hold(system, "o")
            receipts = [order.tell(Pay(amount=5), event_id="pay", durable=way) for way in (True, True, False)]
            for receipt in receipts:
                await receipt.accepted()
            with pytest.raises(EventIdConflict):
                await order.tell(Pay(amount=6), event_id="pay", durable=True).accepted()
            await system.shutdown(queues="abandon")
        async with lives.begin() as system:
            outcome = await system.tell("o", Pay(amount=5), event_id="pay", durable=True)
            assert (outcome.reply, outcome.duplicate) == (5, True)
            again = await system.tell("o", Pay(amount=5), event_id="pay", durable=True)
            assert (again.reply, again.duplicate) == (5, True)
        async with lives.begin() as system:
            outcome = await system.tell("o", Pay(amount=5), event_id="pay", durable=True)
            assert (outcome.reply, outcome.duplicate) == (5, True)
            assert system.snapshot("o").data["paid"] == 5
            assert await system._journal.pending() == []

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C24")
def test_one_that_joins_an_event_which_is_only_in_memory_is_stored_itself(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lives = in_memory()
        assert lives.store is not None
        async with lives.begin() as system:
            order = await system.spawn(Order, "o")
            hold(system, "o")
            order.tell(Pay(amount=5), event_id="pay")
            await order.tell(Pay(amount=5), event_id="pay", durable=True).accepted()
            await system.shutdown(queues="abandon")
        async with lives.begin() as system:
            assert await system.ask("o", Pay(amount=2)) == 7
        assert not lives.store.pending

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
def test_an_event_that_gives_birth_may_be_durable_and_what_follows_waits_for_the_birth(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        journal = SlowToSay()
        async with SimulatedSystem(Box, journal=journal) as system:
            journal.takes_s = 1
            receipts = [
                system.tell("new", Open(text="x")),
                system.tell("new", Post(text="1")),
                system.tell("new", Post(text="2"), durable=False),
            ]
            assert [(await receipt).kind for receipt in receipts] == ["committed"] * 3
            assert system.snapshot("new").data["texts"] == ("1", "2")
        async with SimulatedSystem(Box, journal=MemoryJournal(journal.store), check=False) as system:
            assert await system.ask("new", Post(text="3")) == 3

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C19")
@pytest.mark.parametrize("queues", ["finish", "abandon"])
def test_what_is_being_stored_when_the_system_stops_is_done_or_left_to_the_next_one(
    sim: Callable[..., None], queues: Any
) -> None:
    async def scenario() -> None:
        journal = SlowToSay()
        async with SimulatedSystem(Box, journal=journal, check=False) as system:
            box = await system.spawn(Box, "b")
            journal.takes_s = 2
            receipt = box.tell(Post(text="1"))
            behind = box.tell(Post(text="2"), durable=False)
            await system.shutdown(queues=queues)
            outcome = await receipt
            if queues == "finish":
                assert (outcome.kind, (await behind).kind) == ("committed", "committed")
            else:
                assert (outcome.kind, outcome.error and outcome.error.type) == (
                    *("dead_lettered", "SystemStopping"),
                )
                with pytest.raises(SystemStopping):
                    await behind.accepted()
            assert system.stats().balance == 0
        async with SimulatedSystem(Box, journal=MemoryJournal(journal.store), check=False) as system:
            assert await system.ask("b", Post(text="3")) == (3 if queues == "finish" else 2)
        assert not journal.store.pending

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
def test_a_receipt_of_an_event_for_a_machine_that_is_loaded_knows_when_it_is_accepted(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        lives = in_memory()
        async with lives.begin(Box) as system:
            await system.spawn(Box, "b")
        async with lives.begin(Box) as system:
            receipts = [system.tell("b", Post(text="1")), system.tell("b", Post(text="2"), durable=False)]
            for receipt in receipts:
                await receipt.accepted()
            assert (await receipts[1]).reply == 2

    sim(scenario, seeds=SEEDS)


def test_a_real_system_with_a_file_says_that_it_is_durable(tmp_path: Any) -> None:
    async def main() -> None:
        async with ActorSystem(Box, journal=tmp_path / "box.db", trace=None) as system:
            box = await system.spawn(Box, "b")
            receipts = [box.tell(Post(text=str(n))) for n in range(3)]
            assert [(await receipt.accepted()).durable for receipt in receipts] == [True] * 3
            assert [(await receipt).reply for receipt in receipts] == [1, 2, 3]

    asyncio.run(main())


@pytest.mark.rule("C23")
def test_what_is_told_durably_behind_the_event_that_gives_birth_is_stored_too(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        async with SimulatedSystem(Box, journal=MemoryJournal(store)) as system:
            first = system.tell("box", Open(text="x"), durable=True)
            second = system.tell("box", Post(text="y"), event_id="post-1", durable=True)
            third = system.tell("box", Open(text="again"), event_id="open-2", durable=True)
            assert [(await receipt.outcome()).kind for receipt in (first, second, third)] == [
                "committed",
                "committed",
                "unhandled",
            ]
            entries = await _reader(store).entries("box")
            assert [entry.kind for entry in entries] == ["committed", "committed", "unhandled"]
            assert [bool(entry.settles) for entry in entries] == [True, True, True]

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C7", "C23")
@pytest.mark.parametrize("pause_s", [0.0, 0.5, 1.0, 1.5])
def test_what_is_sent_while_the_event_that_gives_birth_is_looked_up_and_stored_waits_behind_it(
    pause_s: float, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        journal = SlowToLoad()
        async with SimulatedSystem(Box, journal=journal) as system:
            receipts = [system.tell("new", Open(text="x"))]
            for text in "12":
                await asyncio.sleep(pause_s)
                receipts.append(system.tell("new", Post(text=text), durable=text != "2"))
            assert [(await receipt).kind for receipt in receipts] == ["committed"] * 3
            assert system.snapshot("new").data["texts"] == ("1", "2")
            assert not journal.store.dead

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C7")
def test_what_is_told_durably_to_nobody_is_a_dead_letter_that_outlives_the_system(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        async with SimulatedSystem(Box, journal=MemoryJournal(store)) as system:
            lost = system.tell("nobody", Post(text="x"), event_id="post-1", durable=True)
            with pytest.raises(NoSuchMachine):
                await lost.accepted()
            system.tell("nobody", Post(text="y"))
        [letter] = await _reader(store).dead_letters()
        assert (letter.machine_id, letter.message.event_id) == ("nobody", "post-1")

    sim(scenario, seeds=SEEDS)


def _reader(store: MemoryStore) -> MemoryJournal:
    journal = MemoryJournal(store)
    journal._closed = False  # it looks, and takes nothing over
    return journal
