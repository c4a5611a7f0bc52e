"""C24: a machine is spawned once with an event id, over all lives, and other data with the same id is found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any

import pytest
from pydantic import BaseModel, Field

from actorfsm import STAY, Event, EventIdConflict, Machine, MachineExists, SnapshotPolicy, transition
from actorfsm.journal.entry import Payload
from actorfsm.journal.memory import MemoryJournal, MemoryStore
from tests.contract.durable import End, Lives, Order, lives_on_every_journal

__all__ = ["lives_on_every_journal"]
SEEDS = range(2)
LivesOf = Callable[[], Lives]


class S(Enum):
    ON = auto()


class Touch(Event[int]):
    pass


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    name: str
    tags: set[str] = Field(default_factory=set[str])


class Thing(Machine[S, Any], initial=S.ON, final=(S.ON,)):
    count: int = 0
    names: frozenset[str] = frozenset()
    parts: list[Part] = Field(default_factory=list[Part])
    by: dict[str, Colour] = Field(default_factory=dict[str, Colour])
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))

    @transition(S.ON, to=STAY)
    async def touch(self, event: Touch) -> int:
        self.count += 1
        return self.count


def _data(**changes: Any) -> dict[str, Any]:
    given = {
        "count": 3,
        "names": {"alpha", "beta", "gamma", "delta"},
        "parts": [Part(name="a", tags={"x", "y", "z"}), Part(name="b")],
        "by": {"one": Colour.RED, "two": Colour.BLUE},
    }
    return {**given, **changes}


@pytest.mark.rule("C24")
@pytest.mark.parametrize(
    "other",
    [
        {"count": 4},
        {"names": {"alpha"}},
        {"parts": [Part(name="b"), Part(name="a", tags={"x", "y", "z"})]},
        {"parts": [Part(name="a", tags={"x", "y"}), Part(name="b")]},
        {"by": {"one": Colour.RED, "two": Colour.RED}},
        {"at": datetime(2026, 1, 1, tzinfo=UTC)},
        {"count": "no number"},
        None,
    ],
)
def test_the_same_event_id_with_other_data_is_a_conflict_after_a_restart(
    sim: Callable[..., None], other: dict[str, Any] | None
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        lives = Lives(lambda: MemoryJournal(store), store)
        async with lives.begin(Thing) as system:
            thing = await system.spawn(Thing, "t", event_id="x", data=_data())
            await thing.ask(Touch())
        async with lives.begin(Thing) as system:
            given = None if other is None else _data(**other)
            with pytest.raises(EventIdConflict, match="knows the event id 'x' as another Spawn"):
                await system.spawn(Thing, "t", event_id="x", data=given)
            await system.spawn(Thing, "t", event_id="x", data=_data())
            assert system.snapshot("t").data["count"] == 4

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C24")
@pytest.mark.parametrize("data", [None, {}, _data()])
@pytest.mark.parametrize("keep", [None, 0])
def test_the_same_event_id_with_the_same_data_is_done_once_over_all_lives(
    sim: Callable[..., None], lives_of: LivesOf, data: dict[str, Any] | None, keep: int | None
) -> None:
    """In the second case the entry of the birth is trimmed: a hash of the event is left of it."""

    async def scenario() -> None:
        lives = lives_of()
        snapshots = SnapshotPolicy(every=2, keep_entries=keep)
        async with lives.begin(Thing, snapshots=snapshots) as system:
            thing = await system.spawn(Thing, "t", event_id="x", data=data)
            for _ in range(4):
                await thing.ask(Touch())
        for _ in range(2):
            async with lives.begin(Thing) as system:
                given = data and {name: data[name] for name in reversed(data)}
                assert (await system.spawn(Thing, "t", event_id="x", data=given)).snapshot().seq == 5
                with pytest.raises(EventIdConflict):
                    await system.spawn(Thing, "t", event_id="x", data={"count": 9})
                with pytest.raises(MachineExists):
                    await system.spawn(Thing, "t", event_id="y", data=given)

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C24")
def test_the_same_event_id_with_another_class_is_refused_after_a_restart(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        lives = Lives(lambda: MemoryJournal(store), store)
        async with lives.begin(Thing, Order) as system:
            await system.spawn(Thing, "t", event_id="x")
        async with lives.begin(Thing, Order) as system:
            with pytest.raises(MachineExists):
                await system.spawn(Order, "t", event_id="x")

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C24", "C28")
def test_a_spawn_that_an_earlier_version_has_stored_does_not_tell_its_data_and_is_accepted(
    sim: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        lives = Lives(lambda: MemoryJournal(store), store)
        with monkeypatch.context() as earlier:
            earlier.setattr("actorfsm.runtime.entries.spawn_payload", lambda *_: Payload("Spawn", 1, "{}"))
            async with lives.begin(Thing) as system:
                await system.spawn(Thing, "t", event_id="x", data=_data())
        async with lives.begin(Thing) as system:
            for data in (_data(), _data(count=9), None):
                await system.spawn(Thing, "t", event_id="x", data=data)
            assert system.snapshot("t").data["count"] == 3

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C24")
def test_data_that_no_hash_can_be_made_of_is_accepted(sim: Callable[..., None]) -> None:
    class Odd(Machine[S, Any], initial=S.ON, final=(S.ON,)):
        held: Any = None

        @transition(S.ON, to=STAY)
        async def touch(self, event: Touch) -> int:
            return 0

    async def scenario() -> None:
        store = MemoryStore()
        lives = Lives(lambda: MemoryJournal(store), store)
        async with lives.begin(Odd) as system:
            await system.spawn(Odd, "t", event_id="x", data={"held": 1})
        async with lives.begin(Odd) as system:
            await system.spawn(Odd, "t", event_id="x", data={"held": object()})
            with pytest.raises(EventIdConflict):
                await system.spawn(Odd, "t", event_id="x", data={"held": 2})

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C24")
def test_a_machine_that_has_stopped_still_knows_what_it_was_spawned_with(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        lives = Lives(lambda: MemoryJournal(store), store)
        async with lives.begin() as system:
            order = await system.spawn(Order, "o", event_id="x", data={"paid": 1})
            await order.ask(End())
        async with lives.begin() as system:
            await system.spawn(Order, "o", event_id="x", data={"paid": 1})
            with pytest.raises(EventIdConflict):
                await system.spawn(Order, "o", event_id="x", data={"paid": 2})

    sim(scenario, seeds=SEEDS)
