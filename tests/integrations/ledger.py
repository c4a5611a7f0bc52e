"""The machine of the outbox's tests, and a process that is to be killed at a certain moment."""

from __future__ import annotations

import asyncio
import sys
import threading
from enum import StrEnum, auto
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from actorfsm import STAY, ActorSystem, Event, Machine, transition
from actorfsm.integrations.sqlalchemy import Outbox, metadata, outbox

__all__ = ["Book", "Booked", "Entries", "Ledger", "Other"]


class State(StrEnum):
    OPEN = auto()


class Entries(BaseModel, frozen=True):
    entries: tuple[str, ...]


class Book(Event):
    entry: str


class Booked(Event[Entries]): ...


class Other(Event): ...


class Ledger(Machine[State], initial=State.OPEN):
    entries: tuple[str, ...] = ()

    @transition(State.OPEN, to=STAY)
    def book(self, event: Book) -> None:
        self.entries += (event.entry,)

    @transition(State.OPEN, to=STAY)
    def booked(self, event: Booked) -> Entries:
        return Entries(entries=self.entries)


async def main(folder: Path, dies: str) -> None:
    """Store an event and say when to kill."""

    async def stand_still(*_: Any) -> Any:
        await asyncio.Event().wait()

    def stop_here(*_: Any) -> None:
        print("now", flush=True)
        threading.Event().wait()

    if dies == "after the commit":
        Outbox._deliver_some = stand_still
    else:
        outbox._settle = stop_here
    engine = create_async_engine(f"sqlite+aiosqlite:///{folder / 'rows.db'}")
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    async with (
        ActorSystem(Ledger, journal=folder / "journal.db", durability="process", trace=None) as system,
        Outbox(engine, poll_s=60).relay(system),
    ):
        ledger = await system.get_or_spawn(Ledger, "ledger-1")
        async with AsyncSession(engine) as session, session.begin():
            await ledger.on(session).tell(Book(entry="paid"), event_id="payment-1")
        if dies == "after the commit":
            print("now", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    from tests.integrations.ledger import main as as_a_module

    asyncio.run(as_a_module(Path(sys.argv[1]), sys.argv[2]))
