"""Journals agree: what is handed in, in memory, in a file and on a server, has the same answers and leaves the same."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import pytest

from actorfsm import JournalError
from actorfsm.journal.entry import (
    Answer,
    Batch,
    DeadMessage,
    Entry,
    Message,
    Payload,
    Pending,
    StoredTimer,
    inbox_key,
    promise_key,
)
from actorfsm.journal.image import Image
from actorfsm.journal.memory import MemoryJournal, MemoryStore
from actorfsm.journal.postgresql.journal import PostgreSQLJournal
from actorfsm.journal.protocol import Journal
from actorfsm.journal.sqlite.journal import SQLiteJournal
from actorfsm.testing.loop import simulate
from tests.postgresql_server import Server

MACHINES = ("a", "b", "c")


class History:
    """Draws batches; most of them may be stored, some may not."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.seqs = dict.fromkeys(MACHINES, 0)
        self.images = {machine_id: Image(machine_id=machine_id) for machine_id in MACHINES}
        self.keys: list[str] = []

    def chance(self, percent: int) -> bool:
        return self.random.randrange(100) < percent

    def message(self) -> Message:
        return Message(event=Payload("Pay", 1, "{}"), event_id=f"e-{self.random.randrange(200)}")

    def entry(self, machine_id: str, seq: int) -> Entry:
        kind = self.random.choice(("committed", "committed", "postponed", "vetoed", "failed"))
        is_final = kind == "committed" or (kind == "vetoed" and self.chance(50))
        timer = StoredTimer(
            machine_id=machine_id,
            name=f"t{self.random.randrange(3)}",
            due_us=self.random.randrange(50),
            scope="NAMED",
            message=self.message(),
        )
        promise = Pending(
            key=promise_key(machine_id, seq, 0),
            kind="event",
            machine_id=self.random.choice(MACHINES),
            message=self.message(),
        )
        if self.chance(30):
            self.keys.append(promise.key)
        return Entry(
            machine_id=machine_id,
            machine="Order" if machine_id == "a" else "Payment",
            seq=seq,
            kind=kind,
            at_us=seq,
            status=self.random.choice(("alive", "alive", "finished")),
            message=self.message(),
            target=(f"S{self.random.randrange(3)}",),
            data=Payload("Order", 1, f"[{seq}]") if kind == "committed" else None,
            answer=Answer(kind=kind) if is_final else None,
            timers_set=(timer,) if self.chance(40) else (),
            timers_ended=(f"t{self.random.randrange(3)}",) if self.chance(40) else (),
            promises=(promise,) if promise.key in self.keys else (),
            settles=(self.random.choice(self.keys),) if self.keys and self.chance(40) else (),
            watches=(f"w{self.random.randrange(3)}",) if self.chance(20) else (),
            unwatches=(f"w{self.random.randrange(3)}",) if self.chance(20) else (),
        )

    def batch(self) -> Batch:
        entries: list[Entry] = []
        seqs = dict(self.seqs)
        for _ in range(self.random.randrange(4)):
            machine_id = self.random.choice(MACHINES)
            seqs[machine_id] += 1
            entries.append(self.entry(machine_id, seqs[machine_id] + (1 if self.chance(5) else 0)))
        machine_id, message = self.random.choice(MACHINES), self.message()
        letter = Pending(
            key=inbox_key(machine_id, message.event_id), kind="event", machine_id=machine_id, message=message
        )
        dead = DeadMessage(machine_id="x", message=message, reason="gone", at_us=1)
        shown = [machine_id for machine_id in MACHINES if self.chance(10)]
        return Batch(
            entries=tuple(entries),
            images=tuple(self.image(machine_id, entries) for machine_id in shown),
            accepted=(letter,) if self.chance(20) else (),
            settled=(self.random.choice(self.keys),) if self.keys and self.chance(10) else (),
            dead=(dead,) if self.chance(10) else (),
        )

    def image(self, machine_id: str, entries: list[Entry]) -> Image:
        """Return the machine as these entries leave it; it may be that none of them is its own."""
        image = deepcopy(self.images[machine_id])
        for entry in entries:
            if entry.machine_id == machine_id:
                image.apply(entry)
        return image

    def was_stored(self, batch: Batch) -> None:
        for entry in batch.entries:
            self.seqs[entry.machine_id] = entry.seq
            self.images[entry.machine_id].apply(entry)


async def answer(journal: Journal, batch: Batch) -> Any:
    try:
        await journal.append(batch)
    except JournalError as error:
        return type(error), error.machine_id
    return "stored"


async def all_of(journal: Journal) -> list[Any]:
    """Return all that can be asked. Places are compared by their order: each journal counts them in its own way."""
    dead = await journal.dead_letters()
    return [
        list(await journal.machines()),
        [await journal.load(machine_id) for machine_id in MACHINES],
        [list(await journal.entries(machine_id)) for machine_id in MACHINES],
        [await journal.lookup(machine_id, f"e-{n}") for machine_id in MACHINES for n in range(200)],
        list(await journal.timers(1_000)),
        [placed.pending for placed in await journal.pending()],
        [(letter.machine_id, letter.message, letter.reason) for letter in dead],
        [
            [head.machine_id for head in await journal.machines(state=f"S{n}", status="alive")]
            for n in range(3)
        ],
    ]


async def live(seed: int, another: Callable[[], Journal]) -> tuple[int, int]:
    """Hand one history in to two journals: that in memory, and another one."""
    history = History(seed)
    store = MemoryStore()
    refused = stored = 0

    async def both() -> tuple[Journal, Journal]:
        memory, other = MemoryJournal(store), another()
        await memory.open()
        await other.open()
        return memory, other

    memory, other = await both()
    for _ in range(60):
        batch = history.batch()
        first, second = await answer(memory, batch), await answer(other, batch)
        assert first == second
        if first == "stored":
            history.was_stored(batch)
            stored += 1
        else:
            refused += 1
        if history.chance(5):
            machine_id, keep = history.random.choice(MACHINES), history.random.randrange(5)
            through = history.random.randrange(20)
            for journal in (memory, other):
                await journal.snapshot(machine_id, keep=keep)
            assert await memory.forget(machine_id, through) == await other.forget(machine_id, through)
        if history.chance(5):
            await memory.close()
            await other.close()
            memory, other = await both()
    assert await all_of(memory) == await all_of(other)
    for machine_id in MACHINES:
        loaded = await other.load(machine_id)
        assert (Image(machine_id=machine_id) if loaded is None else loaded.image) == history.images[
            machine_id
        ]
    await memory.close()
    await other.close()
    return stored, refused


@pytest.mark.parametrize("block", range(4))
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_journals_have_the_same_answers_and_leave_the_same_things(
    kind: str, block: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    totals = [0, 0]

    def in_a_file() -> Callable[[], Journal]:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.db"
        return lambda: SQLiteJournal(path, durability="process")

    def on_a_server() -> Callable[[], Journal]:
        server: Server = request.getfixturevalue("postgresql_server")
        schema = server.new_schema()
        return lambda: PostgreSQLJournal(server.url(), schema=schema, durability="process")

    for seed in range(block * 5, block * 5 + (5 if kind == "sqlite" else 2)):
        another = in_a_file() if kind == "sqlite" else on_a_server()

        def scenario(seed: int = seed, another: Callable[[], Journal] = another) -> Any:
            async def run() -> None:
                for place, count in enumerate(await live(seed, another)):
                    totals[place] += count

            return run()

        simulate(scenario, seed=seed)
    assert min(totals) > 10, totals
