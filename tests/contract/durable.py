"""Machines for the tests of systems with a journal, and the lives of such a system, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from actorfsm import (
    STAY,
    Event,
    Machine,
    StateTimeout,
    Terminated,
    on_enter,
    on_timeout,
    postpone,
    transition,
)
from actorfsm.journal.memory import MemoryJournal, MemoryStore
from actorfsm.journal.postgresql.journal import PostgreSQLJournal
from actorfsm.runtime.actor import IDLE, SUSPENDED
from actorfsm.runtime.dynamic_supervisor import rare_of
from actorfsm.testing import SimulatedSystem
from tests.postgresql_server import Server

__all__ = ["Lives", "Order", "S", "hold", "in_memory", "let_go", "lives_on_every_journal"]


class S(Enum):
    OPEN = auto()
    PAID = auto()
    LATE = auto()
    SHIPPED = auto()


class Pay(Event[int]):
    amount: int


class Ship(Event[str]):
    pass


class Note(Event[None]):
    text: str


class Send(Event[None]):
    to: str
    text: str


class Raise(Event[None]):
    texts: tuple[str, ...]


class Remind(Event[None]):
    after: float
    name: str = "reminder"


class Forget(Event[None]):
    name: str = "reminder"


class Watch(Event[None]):
    who: str


class Fail(Event[None]):
    pass


class End(Event[None]):
    pass


class Order(Machine[S, Any], initial=S.OPEN, final=(S.SHIPPED,)):
    paid: int = 0
    notes: tuple[str, ...] = ()

    @on_enter(S.PAID)
    def count(self, old: S, new: S) -> None:
        if self.services is not None:
            self.services.append(f"{self.id} {new.name}")

    @transition(S.OPEN, to=S.PAID)
    @transition(S.LATE, to=S.PAID)
    async def pay(self, event: Pay) -> int:
        self.paid += event.amount
        return self.paid

    @transition(S.PAID, to=STAY)
    async def pay_more(self, event: Pay) -> int:
        self.paid += event.amount
        return self.paid

    @postpone(S.OPEN)
    @transition(S.PAID, to=S.SHIPPED)
    async def ship(self, event: Ship) -> str:
        return f"parcel of {self.id}"

    @on_timeout(S.PAID, after=3600, to=S.LATE)
    def too_late(self, event: StateTimeout) -> None:
        self.notes = (*self.notes, "late")

    @transition(S.OPEN, to=STAY)
    @transition(S.PAID, to=STAY)
    @transition(S.LATE, to=STAY)
    async def note(self, event: Note) -> None:
        self.notes = (*self.notes, event.text)

    @transition(S.OPEN, to=STAY)
    async def send(self, event: Send) -> None:
        self.tell(event.to, Note(text=event.text))

    @transition(S.OPEN, to=STAY)
    async def raise_own(self, event: Raise) -> None:
        for text in event.texts:
            self.next_event(Note(text=text))

    @transition(S.OPEN, to=STAY)
    async def remind(self, event: Remind) -> None:
        self.start_timer(Note(text=event.name), after=event.after, name=event.name)

    @transition(S.OPEN, to=STAY)
    async def forget(self, event: Forget) -> None:
        self.cancel_timer(event.name)

    @transition(S.OPEN, to=STAY)
    async def watch_it(self, event: Watch) -> None:
        self.watch(event.who)

    @transition(S.OPEN, to=STAY)
    async def told(self, event: Terminated) -> None:
        self.notes = (*self.notes, f"{event.machine_id} {event.reason}")

    @transition(S.OPEN, to=STAY)
    async def fail(self, event: Fail) -> None:
        raise ValueError("it fails")

    @transition(S.OPEN, to=STAY)
    async def end(self, event: End) -> None:
        self.stop()


class Lives(NamedTuple):
    """One journal, and systems that use it one after the other.

    Attributes:
        journal: Returns what to give a system as `journal=`.
        store: What is stored, of the journal in memory.
    """

    journal: Callable[[], Any]
    store: MemoryStore | None

    def begin(self, *machines: Any, **options: Any) -> SimulatedSystem[Any]:
        """Return the system of the next life. What it is told of earlier ones nobody sent in this one."""
        options.setdefault("check", False)
        return SimulatedSystem(*(machines or (Order,)), journal=self.journal(), **options)


def in_memory() -> Lives:
    """Return lives on a new journal in memory."""
    store = MemoryStore()
    return Lives(lambda: MemoryJournal(store), store)


@pytest.fixture(name="lives_of", params=["memory", "sqlite", "postgresql"])
def lives_on_every_journal(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Lives]:
    """Make lives on a new journal, on each kind of journal."""
    numbers = count()

    def in_a_file() -> Lives:
        name = tmp_path / f"orders-{next(numbers)}.db"
        return Lives(lambda: name, None)

    def on_a_server() -> Lives:
        server: Server = request.getfixturevalue("postgresql_server")
        url = server.url(more=f"?schema={server.new_schema()}")
        # What is tested here is not the server's disk: it need not be waited for.
        return Lives(lambda: PostgreSQLJournal(url, durability="process"), None)

    return {"memory": in_memory, "sqlite": in_a_file, "postgresql": on_a_server}[request.param]


def hold(system: Any, machine_id: str) -> None:
    """Hold a machine in this life alone: what is sent to it is still on its way at the end."""
    actor = system._parts.registry.actors[machine_id]
    assert actor.status == IDLE
    rare_of(actor).suspended, actor.status = True, SUSPENDED


def let_go(system: Any, machine_id: str) -> None:
    """Hold it no longer."""
    actor = system._parts.registry.actors[machine_id]
    rare_of(actor).suspended = False
    actor.kind.supervisor.go_on(actor)
