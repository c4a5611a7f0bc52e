"""A journal with a little of everything, and a way to call a command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import structlog

from actorfsm.cli import main
from actorfsm.journal.entry import Answer, Batch, DeadMessage, Entry, Message, Payload, Pending, StoredTimer
from actorfsm.journal.sqlite.journal import SQLiteJournal


def message(event_id: str, text: str = '{"amount":"9.90"}') -> Message:
    return Message(event=Payload("Pay", 1, text), event_id=event_id, has_own_id=True)


def entry(machine_id: str, seq: int, **more: Any) -> Entry:
    usual: dict[str, Any] = {
        "machine_id": machine_id,
        "machine": "Order",
        "seq": seq,
        "kind": "committed",
        "at_us": 1_700_000_000_000_000 + seq * 90_000_000,
        "commits": seq,
        "message": message(f"e-{seq}"),
        "source": (f"S{seq - 1}",) if seq > 1 else (),
        "target": (f"S{seq}",),
        "data": Payload("Order", 1, f'{{"paid":{seq}}}'),
        "answer": Answer(kind="committed", commits=seq),
    }
    return Entry(**usual | more)


async def fill(path: Path) -> None:
    journal = SQLiteJournal(path)
    await journal.open()
    for machine_id, entries in (("a", 5), ("b", 3), ("ü", 2)):
        for seq in range(1, entries + 1):
            await journal.append(Batch(entries=(entry(machine_id, seq),)))
    await journal.snapshot("b", keep=1)
    timer = StoredTimer(machine_id="a", name="t", due_us=5, scope="NAMED", message=message("t"))
    promise = Pending(key="a/6/0", kind="event", machine_id="b", message=message("p"))
    last = entry("a", 6, timers_set=(timer,), promises=(promise,), status="finished")
    letters = [
        DeadMessage(machine_id="x", message=message(f"d-{n}"), reason=f"no {n}", at_us=n) for n in (1, 2, 3)
    ]
    await journal.append(Batch(entries=(last,), dead=tuple(letters)))
    await journal.close()


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command configures logging, as a program does: for the whole process."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    path = tmp_path / "orders.db"
    asyncio.run(fill(path))
    return path


class Ended(NamedTuple):
    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    def call(*arguments: object) -> Ended:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return Ended(status, *capsys.readouterr())

    return call
