"""C16, C17, C23 with a journal: machines of the supervision tree come back when their supervisor starts them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import pytest

from actorfsm import (
    STAY,
    Child,
    HookFailed,
    NoSuchMachine,
    Quarantined,
    Restart,
    RestartPolicy,
    Strategy,
    Supervisor,
    on_enter,
    transition,
)
from actorfsm.journal.memory import MemoryJournal, MemoryStore
from actorfsm.testing import SimulatedSystem, simulate
from tests.contract.durable import (
    End,
    Fail,
    Lives,
    Note,
    Order,
    Pay,
    Remind,
    S,
    Send,
    Ship,
    Watch,
    hold,
    in_memory,
    lives_on_every_journal,
)
from tests.contract.tree import PROMPT, Services, Steps

__all__ = ["lives_on_every_journal"]
SEEDS = range(2)
LivesOf = Callable[[], Lives]


class Asker(Order, initial=S.OPEN, final=(S.SHIPPED,)):
    """Asks its sibling while it is born."""

    @on_enter(S.OPEN)
    async def look(self, old: S, new: S) -> None:
        try:
            await self.ask("b", Note(text="asked"))
        except NoSuchMachine:
            self.notes = (*self.notes, "nobody")

    @transition(S.OPEN, to=STAY)
    async def note(self, event: Note) -> None:
        self.notes = (*self.notes, event.text)


def _tree(**restarts: Restart) -> list[Any]:
    """Two machines and a place for others."""
    children = [Child(Order, name, restart=restarts.get(name, Restart.PERMANENT)) for name in ("a", "b")]
    return [Supervisor("top", children=children, policy=PROMPT), Order]


async def _notes(system: Any, machine_id: str) -> tuple[str, ...]:
    await system.ask(machine_id, Note(text="."))
    notes: tuple[str, ...] = system.snapshot(machine_id).data["notes"]
    return notes


@pytest.mark.rule("C16")
@pytest.mark.rule("C23")
def test_machines_of_the_tree_come_back_in_the_order_of_start_and_are_not_born_again(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives, ran, services = lives_of(), [], Services()
        children = [Child(Order, "a"), services("poller"), Supervisor("low", children=[Child(Order, "b")])]
        async with lives.begin(children=children, services=ran) as system:
            await system.ask("a", Pay(amount=5))
            await system.ask("b", Pay(amount=7))
        steps = Steps()
        async with lives.begin(children=children, services=ran, trace=[steps]) as system:
            assert steps == ["started a", "started poller", "started b", "started low"]
            assert not any(record.event_type == "Spawn" for record in steps.records)
            assert [system.snapshot(name).data["paid"] for name in ("a", "b")] == [5, 7]
            assert await system.ask("a", Pay(amount=1)) == 6
            assert services.runs == {"poller": 2}
        assert ran == ["a PAID", "b PAID"]

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C15")
def test_a_restart_is_stored_and_begins_from_the_last_commit(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin(children=_tree()) as system:
            await system.ask("a", Note(text="x"))
            with pytest.raises(HookFailed):
                await system.ask("a", Fail())
            assert await _notes(system, "a") == ("x", ".")
            assert system.snapshot("a").incarnation == 1
        async with lives.begin(children=_tree()) as system:
            assert await _notes(system, "a") == ("x", ".", ".")
            assert system.snapshot("a").incarnation == 1
            with pytest.raises(HookFailed):
                await system.ask("a", Fail())
            await _notes(system, "a")
            assert system.snapshot("a").incarnation == 2

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C16")
@pytest.mark.parametrize("restart", Restart)
def test_what_ended_normally_is_born_anew_in_the_next_life_unless_it_is_finished_for_good(
    sim: Callable[..., None], lives_of: LivesOf, restart: Restart
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin(children=_tree(a=restart, b=restart)) as system:
            await system.ask("a", Note(text="old"))
            await system.ask("b", Pay(amount=1))
            await system.ask("a", End())
            await system.ask("b", Ship())
            await system.clock.advance(1)
        async with lives.begin(children=_tree(a=restart, b=restart)) as system:
            assert await _notes(system, "a") == (".",)
            state = system.snapshot("b").state
            assert state is (S.OPEN if restart is Restart.PERMANENT else S.SHIPPED)

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
def test_what_was_promised_to_a_machine_of_the_tree_waits_for_its_start_and_keeps_its_order(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin(children=_tree()) as system:
            hold(system, "b")
            for n in range(3):
                await system.ask("a", Send(to="b", text=str(n)))
            system.tell("a", Send(to="b", text="lost with its sender"))
            await system.ask("a", Remind(after=0.5, name="due"))
            await system.shutdown(queues="abandon")
        await asyncio.sleep(1)
        async with lives.begin(children=_tree()) as system:
            assert (await _notes(system, "b"))[:3] == ("0", "1", "2")
            assert (await _notes(system, "a"))[0] == "due"
            await system.clock.advance(1)
            assert system.dead_letters == ()

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C16")
def test_a_birth_that_asks_a_sibling_that_is_not_started_is_answered_at_once(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        lives = in_memory()
        children = [Child(Asker, "a"), Child(Order, "b")]
        async with lives.begin(children=children) as system:
            assert system.snapshot("a").data["notes"] == ("nobody",)
            await system.ask("a", End())
            await system.clock.advance(1)
            assert await _notes(system, "b") == ("asked", ".")

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C27")
def test_a_machine_of_the_tree_that_cannot_be_loaded_is_held_and_the_others_run(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        lives = in_memory()
        assert lives.store is not None
        async with lives.begin(children=_tree()) as system:
            await system.ask("a", Pay(amount=5))
            await system.ask("b", Send(to="a", text="kept"))
        rows = lives.store.rows["a"]
        lives.store.rows["a"] = [rows[0], rows[1]._replace(body=rows[0].body), *rows[2:]]
        async with lives.begin(children=_tree()) as system:
            assert system.quarantined() == ["a"]
            with pytest.raises(Quarantined):
                await system.ask("a", Pay(amount=1))
            await system.ask("b", Pay(amount=1))
            assert "a: machine, permanent, failed" in str(system.tree())
            system.release("a")
            await system.clock.advance(1)
            assert system.quarantined() == ["a"]  # it was tried, and is as it was
            lives.store.rows["a"] = rows
            system.release("a")
            await system.clock.advance(1)
            assert system.quarantined() == []
            assert await system.ask("a", Pay(amount=1)) == 6

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C28")
def test_an_id_that_is_stored_as_a_machine_of_another_class_is_held(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lives = in_memory()
        async with lives.begin(Order) as system:
            await system.spawn(Order, "a")
        async with lives.begin(Order, children=[Child(Asker, "a"), Child(Order, "c")]) as system:
            with pytest.raises(Quarantined, match="stored as a Order, and the tree has it as a Asker"):
                await system.ask("a", Note(text="x"))
            await system.ask("c", Note(text="x"))
        async with lives.begin(
            children=[Child(Order, "a")]
        ) as system:  # one that was spawned may stand in the tree
            assert await _notes(system, "a") == (".",)
        async with lives.begin(Order) as system:  # and the other way round
            assert await _notes(system, "a") == (".", ".")

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C17")
def test_a_machine_that_is_not_started_again_keeps_its_state_for_the_next_life(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives, children = lives_of(), _tree(a=Restart.TEMPORARY)
        async with lives.begin(children=children) as system:
            await system.ask("a", Note(text="x"))
            await system.ask("a", Remind(after=3600, name="later"))
            system.tell("a", Ship())
            with pytest.raises(HookFailed):
                await system.ask("a", Fail())
            await system.clock.advance(1)
            with pytest.raises(NoSuchMachine):
                await system.ask("a", Note(text="y"))
            await system.ask("b", Send(to="a", text="z"))
            await system.clock.advance(1)
            assert [letter.event for letter in system.dead_letters] == [Ship(), Note(text="z")]
        async with lives.begin(children=children) as system:
            assert await _notes(system, "a") == ("x", ".")
            await system.clock.advance(3600)
            assert await _notes(system, "a") == ("x", ".", "later", ".")

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C16")
def test_machines_of_a_class_that_are_loaded_while_the_tree_holds_them_wait_too(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        lives, services = in_memory(), Services()
        policy = RestartPolicy(first_delay_s=10, max_delay_s=10, jitter=0)
        group = Supervisor(
            "group", strategy=Strategy.ONE_FOR_ALL, children=[Order, services("poller")], policy=policy
        )
        async with lives.begin(children=[group]) as system:
            await system.spawn_many(Order, ["x", "y"])
        async with lives.begin(children=[group]) as system:
            await system.ask("x", Note(text="before"))
            services.fail("poller")
            await system.clock.advance(1)
            told = system.tell("y", Note(text="held"))
            await system.clock.advance(1)
            assert system.snapshot("y").data["notes"] == ()
            await system.clock.advance(10)
            assert (await told).success
            assert [system.snapshot(name).incarnation for name in ("x", "y")] == [1, 1]
        async with lives.begin(children=[group]) as system:
            assert await _notes(system, "x") == ("before", ".")
            assert system.snapshot("x").incarnation == 1

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C18")
def test_a_watch_of_a_machine_of_the_tree_survives(sim: Callable[..., None], lives_of: LivesOf) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin(children=_tree()) as system:
            await system.ask("a", Watch(who="b"))
        async with lives.begin(children=_tree()) as system:
            await system.clock.advance(1)
            assert await _notes(system, "a") == (".",)
            await system.stop("b")
            await system.clock.advance(1)
            assert await _notes(system, "a") == (".", "b stopped", ".")
        async with lives.begin(children=_tree()) as system:
            await system.clock.advance(1)
            assert (await _notes(system, "a")).count("b stopped") == 1

    sim(scenario, seeds=SEEDS)


# -- a crash at every commit ---------------------------------------------------------------------------------------


def _copied(store: MemoryStore) -> MemoryStore:
    """Return what a process that dies now has left on its disk."""
    left = copy(store)
    for name, value in vars(store).items():
        if isinstance(value, dict | list):
            setattr(left, name, copy(value))
    left.rows = {machine_id: list(rows) for machine_id, rows in store.rows.items()}
    left.fate = lambda: "stored"
    return left


@contextmanager
def _crashes(store: MemoryStore) -> Iterator[list[MemoryStore]]:
    """Collect what a crash before each commit leaves, and at the end."""
    left: list[MemoryStore] = []

    def fate() -> Any:
        left.append(_copied(store))
        return "stored"

    store.fate = fate
    yield left
    left.append(_copied(store))


@pytest.mark.rule("C16")
@pytest.mark.rule("C23")
@pytest.mark.rule("C24")
def test_a_crash_before_any_commit_of_a_tree_loses_nothing_and_does_nothing_twice() -> None:
    children = _tree()

    async def work(system: Any) -> None:
        for n in range(3):
            await system.ask("a", Send(to="b", text=f"a{n}"), event_id=f"send-{n}")
        with pytest.raises(HookFailed):
            await system.ask("a", Fail())
        await system.ask("a", Note(text="restarted"), event_id="restarted")
        system.tell("b", Ship(), event_id="ship")  # waits for the payment
        await system.ask("b", Send(to="a", text="b0"), event_id="send-back")
        await system.ask("a", End(), event_id="end")  # and is born anew
        await system.ask("a", Note(text="reborn"), event_id="reborn")
        await system.clock.advance(1)

    async def judge(left: MemoryStore) -> None:
        """Do the whole work again: what is stored is done, and all the rest is done once."""
        async with SimulatedSystem(journal=MemoryJournal(left), children=children, check=False) as system:
            await work(system)
            a, b = system.snapshot("a").data["notes"], system.snapshot("b").data["notes"]
            assert b == ("a0", "a1", "a2")
            assert a[-1] == "reborn"
            assert a.count("b0") <= 1
            assert system.snapshot("b").state is S.OPEN
            await system.ask("b", Pay(amount=1))
            await system.clock.advance(1)
            assert system.snapshot("b").state is S.OPEN  # shipped, and born anew
            assert system.dead_letters == ()
        assert left.pending == {}

    async def scenario() -> None:
        store = MemoryStore()
        with _crashes(store) as left:
            async with SimulatedSystem(
                journal=MemoryJournal(store), children=children, check=False
            ) as system:
                await work(system)
        assert len(left) > 12
        for crash in left:
            await judge(crash)

    for seed in SEEDS:
        simulate(scenario, seed=seed)
