"""C23: to load a machine takes few entries, and old ones are trimmed as the policy says; what they have left stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from actorfsm import ActorSystem, DefinitionError, Quarantined, SnapshotPolicy
from actorfsm.journal.image import Image
from actorfsm.journal.memory import MemoryJournal, MemoryStore
from tests.contract.durable import (
    End,
    Forget,
    Lives,
    Note,
    Order,
    Pay,
    Raise,
    Remind,
    S,
    Send,
    Ship,
    Watch,
    in_memory,
    lives_on_every_journal,
)

__all__ = ["lives_on_every_journal"]
SEEDS = range(2)
LivesOf = Callable[[], Lives]


def _store(lives: Lives) -> MemoryStore:
    assert lives.store is not None
    return lives.store


async def _folded(store: MemoryStore, machine_id: str, through: int) -> Image:
    """Return the image that the entries of a machine have left after one of them."""
    image = Image(machine_id=machine_id)
    for entry in await MemoryJournal(store).entries(machine_id, 0, 10_000):
        if entry.seq <= through:
            image.apply(entry)
    return image


async def _shown(store: MemoryStore, machine_id: str) -> Image:
    """Return the image that is stored of a machine, alone."""
    bare = MemoryStore()
    seq, _, _ = store.snapshots[machine_id]
    row = store.rows[machine_id][seq - 1]
    bare.rows[machine_id], bare.ids = [row], [machine_id]
    bare.snapshots[machine_id] = store.snapshots[machine_id]
    image = await _folded(store, machine_id, seq)
    bare.heads[machine_id] = store.heads[machine_id]._replace(
        machine=image.machine, status=image.status, state=image.state, seq=seq, checksum=row.checksum
    )
    stored = await MemoryJournal(bare).load(machine_id)
    assert stored is not None
    return stored.image


@pytest.mark.rule("C23")
def test_after_so_many_entries_a_commit_carries_the_image(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lives = in_memory()
        store = _store(lives)
        async with lives.begin(snapshots=SnapshotPolicy(every=10)) as system:
            await system.spawn(Order, "o")
            for number in range(2, 31):
                await system.ask("o", Note(text=str(number)))
                assert store.heads["o"].seq == number
                assert store.snapshots.get("o", (0,))[0] == number // 10 * 10
        async with lives.begin() as system:
            await system.ask("o", Note(text="."))
            assert system.snapshot("o").data["notes"][-2:] == ("30", ".")

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
def test_an_image_shows_what_the_entries_before_it_have_left(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        loop: Any = asyncio.get_running_loop()
        random = Random(loop.seed)
        lives = in_memory()
        store = _store(lives)
        names = ("a", "b", "c")
        seen: set[tuple[str, int]] = set()
        async with lives.begin(snapshots=SnapshotPolicy(every=random.choice([1, 2, 5]))) as system:
            for name in names:
                await system.spawn(Order, name)
            for number in range(60):
                name, other = random.sample(names, 2)
                event: Any = random.choice(
                    [
                        Note(text=str(number)),
                        Send(to=other, text=f"{name}{number}"),
                        Raise(texts=(f"r{number}", f"s{number}")),
                        Remind(after=random.choice([1.0, 5.0, 40.0]), name=f"t{random.randrange(3)}"),
                        Forget(name="t1"),
                        Watch(who=other),
                        *([Pay(amount=number), Ship(), End()] if random.random() < 0.15 else []),
                    ]
                )
                system.tell(name, event)
                await system.clock.advance(random.choice([0.0, 0.3, 7.0]))
                for shown in store.snapshots:
                    seq = store.snapshots[shown][0]
                    if (shown, seq) not in seen:
                        seen.add((shown, seq))
                        assert await _shown(store, shown) == await _folded(store, shown, seq)
        assert len(seen) > 5

    sim(scenario, seeds=range(8))


@pytest.mark.rule("C23")
def test_where_something_is_postponed_the_journal_makes_the_image(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin(snapshots=SnapshotPolicy(every=5)) as system:
            await system.spawn(Order, "o")
            system.tell("o", Ship())
            for number in range(30):
                await system.ask("o", Note(text=str(number)))
            await system.clock.advance(1)
        if lives.store is not None:
            assert lives.store.snapshots["o"][0] >= lives.store.heads["o"].seq - 10
        async with lives.begin() as system:
            await system.ask("o", Pay(amount=1))
            await system.clock.advance(1)
            assert system.snapshot("o").state is S.SHIPPED

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
def test_entries_and_ids_go_as_the_policy_says_and_the_machine_stays(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        policy = SnapshotPolicy(every=10, keep_entries=5, keep_ids=20)
        async with lives.begin(snapshots=policy) as system:
            await system.spawn(Order, "o")
            await system.ask("o", Remind(after=1e6))
            await system.ask("o", Pay(amount=1))
            for number in range(4, 51):
                assert await system.ask("o", Pay(amount=1), event_id=f"pay-{number}") == number - 2
            await system.clock.advance(1)
        if lives.store is not None:
            rows = lives.store.rows["o"]
            assert [row.seq for row in rows if row.body is not None] == list(range(46, 51))
            assert [row.seq for row in rows if row.concluded_id is not None] == list(range(31, 51))
        async with lives.begin() as system:
            assert await system.ask("o", Pay(amount=1), event_id="pay-40") == 38  # its answer is there
            assert await system.ask("o", Pay(amount=1), event_id="pay-10") == 49  # and that one was forgotten
            assert system.stats().timers == 2

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
def test_an_image_that_cannot_be_stored_is_tried_again_with_the_next_commit(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lives = in_memory()
        store = _store(lives)
        async with lives.begin(snapshots=SnapshotPolicy(every=5)) as system:
            await system.spawn(Order, "o")
            for number in range(3):
                await system.ask("o", Note(text=str(number)))
            store.fate = lambda: "not stored"
            with pytest.raises(Exception, match="did not store"):
                await system.ask("o", Note(text="lost"))
            assert not store.snapshots
            store.fate = lambda: "stored"
            await system.ask("o", Note(text="."))
            assert store.snapshots["o"][0] == 5

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C27")
def test_an_image_that_was_changed_is_not_believed(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lives = in_memory()
        store = _store(lives)
        policy = SnapshotPolicy(every=5, keep_entries=1)
        async with lives.begin(snapshots=policy) as system:
            for name in ("a", "b"):
                await system.spawn(Order, name)
                for number in range(6):
                    await system.ask(name, Note(text=str(number)))
            await system.clock.advance(1)
        seq, text, checksum = store.snapshots["a"]
        store.snapshots["a"] = (seq, text.replace("OPEN", "PAID"), checksum)
        async with lives.begin() as system:
            await system.ask("b", Note(text="."))
            with pytest.raises(Quarantined, match="entry"):
                await system.ask("a", Note(text="."))

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
@pytest.mark.parametrize(
    "values",
    [
        {"every": 0},
        {"every": None},
        {"keep_entries": -1},
        {"keep_entries": True},
        {"keep_ids": 1.5},
        {"keep_ids": 5},
        {"keep_entries": 6, "keep_ids": 5},
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=list(values)[-1]):
        SnapshotPolicy(**values)


@pytest.mark.rule("C23")
def test_without_a_journal_there_are_no_snapshots() -> None:
    with pytest.raises(DefinitionError, match="snapshots= needs a journal"):
        ActorSystem(Order, snapshots=SnapshotPolicy())
