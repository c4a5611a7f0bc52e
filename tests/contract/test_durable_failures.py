"""C2, C25, C26, C27 with a journal: what a turn answers when the journal does not do its part."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

import pytest

from actorfsm import (
    STAY,
    Child,
    Event,
    Fenced,
    HookFailed,
    JournalFull,
    Machine,
    NotStored,
    OutcomeUnknown,
    Quarantined,
    SystemFailed,
    SystemStopping,
    transition,
)
from actorfsm.journal.memory import MemoryJournal, MemoryStore
from actorfsm.testing import SimulatedSystem
from tests.contract.durable import Note, Order, Pay, Remind, S, Send, Ship, in_memory
from tests.contract.slow_journals import Slow, Unsure

SEEDS = range(2)


def _fate_once(store: MemoryStore, fate: Any) -> None:
    fates = iter([fate])
    store.fate = lambda: next(fates, "stored")


@pytest.mark.rule("C23")
def test_the_reply_leaves_when_the_commit_is_stored_and_memory_changes_then(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        journal = Slow()
        journal.takes_s = 0
        async with SimulatedSystem(Order, journal=journal) as system:
            order = await system.spawn(Order, "o")
            journal.takes_s = 2.0
            asking = asyncio.ensure_future(order.ask(Pay(amount=5)))
            await system.clock.advance(1.5)
            assert not asking.done()
            assert order.snapshot().state is S.OPEN
            await system.clock.advance(1)
            assert await asking == 5
            assert order.snapshot().state is S.PAID

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C2")
def test_neither_a_deadline_nor_a_cancel_nor_a_stop_ends_a_commit_before_its_settlement(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        journal = Slow()
        journal.takes_s = 0
        async with SimulatedSystem(Order, journal=journal) as system:
            order = await system.spawn(Order, "o")
            journal.takes_s = 100.0  # longer than any deadline
            asking = asyncio.ensure_future(order.ask(Pay(amount=5)))
            await system.clock.advance(1)
            receipt = order.tell(Pay(amount=5))
            asking.cancel()
            journal.takes_s = 0
            await system.stop("o")
            assert asking.cancelled()
            assert (await receipt).kind == "dead_lettered"
            assert [record.name for record in system.trace.of("o")] == [
                *("committed", "committed", "dead_lettered", "stopped")
            ]

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C25")
@pytest.mark.parametrize("fate", ["not stored", "full"])
def test_what_is_not_stored_is_answered_so_and_the_machine_is_as_it_was(
    sim: Callable[..., None], fate: Any
) -> None:
    async def scenario() -> None:
        lives = in_memory()
        async with lives.begin(check=True) as system:
            order = await system.spawn(Order, "o")
            before = order.snapshot()
            _fate_once(lives.store, fate)
            with pytest.raises(JournalFull if fate == "full" else NotStored):
                await order.ask(Pay(amount=5), event_id="pay")
            assert order.snapshot() == before
            assert system.stats().restarts == 0
            assert await order.ask(Pay(amount=5), event_id="pay") == 5
        async with lives.begin() as system:
            assert await system.ask("o", Pay(amount=1)) == 6

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C25")
def test_a_promised_message_that_could_not_be_committed_is_tried_again(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lives = in_memory()
        async with lives.begin(check=True) as system:
            sender, _ = await system.spawn(Order, "a"), await system.spawn(Order, "b")
            system.suspend("b")
            await sender.ask(Send(to="b", text="x"))
            await sender.ask(Remind(after=5))
            _fate_once(lives.store, "full")
            system.resume("b")
            await system.clock.advance(3)
            assert system.snapshot("b").data["notes"] == ("x",)
            _fate_once(lives.store, "full")
            await system.clock.advance(6)
            assert system.snapshot("a").data["notes"] == ("reminder",)
        assert lives.store.pending == {}
        assert lives.store.timers == {}

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C25")
@pytest.mark.parametrize("stored", [True, False])
def test_while_a_commit_is_unknown_the_asker_knows_that_and_the_machine_takes_no_event(
    sim: Callable[..., None], stored: bool
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        journal = Unsure(store)
        async with SimulatedSystem(Order, journal=journal, check=False) as system:
            order = await system.spawn(Order, "o")
            _fate_once(store, "unknown, stored" if stored else "unknown, not stored")
            with pytest.raises(OutcomeUnknown):
                await order.ask(Pay(amount=5), event_id="pay")
            receipt = order.tell(Note(text="x"))
            await system.clock.advance(5)
            assert order.snapshot().state is S.OPEN
            assert journal.asked > 2
            assert system.stats().queued == 1
            journal.knows = True
            await system.clock.advance(5)
            assert (await receipt).kind == "committed"
            assert order.snapshot().state is (S.PAID if stored else S.OPEN)
            assert await order.ask(Pay(amount=5), event_id="pay") == 5

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C26")
def test_who_was_taken_over_is_fenced_and_answers_nobody_as_if_it_were_not(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lives = in_memory()
        with pytest.raises(SystemFailed) as caught:  # noqa: PT012 -- at the end of the old system
            async with lives.begin() as old:
                await old.spawn(Order, "o")
                async with lives.begin() as new:
                    assert await new.ask("o", Pay(amount=1)) == 1
                    with pytest.raises((Fenced, SystemFailed)):
                        await old.ask("o", Pay(amount=100))
                await asyncio.sleep(10)
        assert isinstance(caught.value.__cause__, Fenced)
        async with lives.begin() as system:
            assert await system.ask("o", Pay(amount=1)) == 2

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C27")
def test_a_machine_with_a_changed_entry_is_held_and_the_others_run(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lives, told = in_memory(), []
        async with lives.begin() as system:
            for name in ("a", "b"):
                await (await system.spawn(Order, name)).ask(Pay(amount=1))
        rows = lives.store.rows["a"]
        sound = rows[1]
        rows[1] = sound._replace(body=sound.body.replace('"paid\\":1', '"paid\\":9'))
        assert rows[1] != sound
        async with lives.begin(on_quarantine=lambda who, error: told.append((who, type(error)))) as system:
            with pytest.raises(Quarantined, match="entry 2 of a is not what was written"):
                await system.ask("a", Pay(amount=1))
            assert await system.ask("b", Pay(amount=1)) == 2
            assert system.quarantined() == ["a"]
            await system.clock.advance(1)
            assert [who for who, _ in told] == ["a"]
            with pytest.raises(Quarantined):
                await system.tell("a", Pay(amount=1)).accepted()
            rows[1] = sound
            system.release("a")
            assert await system.ask("a", Pay(amount=1)) == 2

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C28")
def test_a_machine_whose_class_or_state_is_not_there_is_held(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lives = in_memory()
        async with lives.begin(Order, Keeper) as system:
            await system.spawn(Order, "o")
            await (await system.spawn(Keeper, "k")).ask(Keep(value=1))
        async with lives.begin(_new_keeper()) as system:
            with pytest.raises(Quarantined, match="o is a Order, and the system has no such class"):
                await system.ask("o", Keep(value=1))
            with pytest.raises(Quarantined, match="Keeper has no state A, which is stored"):
                await system.ask("k", Keep(value=1))

    sim(scenario, seeds=SEEDS)


class T(Enum):
    A = auto()
    B = auto()


class Keep(Event[Any]):
    value: Any


class Stop(Event[None]):
    pass


class Keeper(Machine[T, Any], initial=T.A, final=(T.B,)):
    value: Any = None
    jobs: int = 0

    @transition(T.A, to=STAY)
    async def keep(self, event: Keep) -> Any:
        if event.value == "job":
            self.start_job(asyncio.sleep, 1)
        self.value = object() if event.value == "object" else event.value
        return None

    @transition(T.A, to=T.B)
    async def stop_it(self, event: Stop) -> None: ...


class U(Enum):
    C = auto()
    D = auto()


def _new_keeper() -> Any:
    """Return the class as another version has it, under the same name."""

    class Keeper(Machine[U, Any], initial=U.C, final=(U.D,)):
        value: Any = None

        @transition(U.C, to=U.D)
        async def keep(self, event: Keep) -> Any: ...

    return Keeper


@pytest.mark.rule("C28")
def test_what_would_not_come_back_as_it_was_is_refused_before_it_is_stored(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with in_memory().begin(Keeper) as system:
            keeper = await system.spawn(Keeper, "k")
            for value in ("object", {1, 2}, (1, 2)):
                with pytest.raises(HookFailed, match="cannot be stored"):
                    await keeper.ask(Keep(value=value))
            assert keeper.snapshot().seq == 1
            await keeper.ask(Keep(value={"a": [1, None]}))

    sim(scenario, seeds=SEEDS)


class LooksUpSlowly(MemoryJournal):
    """Needs a while to say what became of an event id."""

    async def lookup(self, machine_id: str, event_id: str) -> Any:
        await asyncio.sleep(10)
        return await super().lookup(machine_id, event_id)


@pytest.mark.rule("C21")
@pytest.mark.parametrize("event", [Note(text="x"), Ship()], ids=["committed", "postponed"])
def test_a_turn_that_ends_while_the_system_goes_down_does_not_end_the_timers_of_the_next_life(
    sim: Callable[..., None], event: Any
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        async with SimulatedSystem(Order, journal=MemoryJournal(store)) as system:
            await (await system.spawn(Order, "o")).ask(Remind(after=100))
        async with SimulatedSystem(Order, journal=LooksUpSlowly(store), check=False) as system:
            asking = asyncio.ensure_future(system.ask("o", event, event_id="x"))
            await system.clock.advance(5)
            await system.shutdown(queues="abandon")
            with pytest.raises(SystemStopping):
                await asking
        async with SimulatedSystem(Order, journal=MemoryJournal(store), check=False) as system:
            await system.clock.advance(101)
            assert system.snapshot("o").data["notes"] == ("reminder",)

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C19", "C25")
@pytest.mark.parametrize("queues", ["finish", "abandon"])
@pytest.mark.parametrize("place", ["spawned", "of the tree"])
def test_a_system_stops_although_nobody_can_say_what_became_of_a_commit(
    sim: Callable[..., None], queues: Any, place: str
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        children = [Child(Keeper, "k")] if place == "of the tree" else []
        async with SimulatedSystem(Keeper, children=children, journal=Unsure(store), check=False) as system:
            keeper = await system.get_or_spawn(Keeper, "k")
            store.fate = lambda: "unknown, not stored"
            asking = asyncio.ensure_future(keeper.ask(Keep(value=1)))
            await asyncio.sleep(0.01)
            report = await system.shutdown(queues=queues)
            with pytest.raises(OutcomeUnknown):
                await asking
            assert report.unstopped == ()

    sim(scenario, seeds=SEEDS)
