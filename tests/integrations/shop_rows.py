"""A machine whose hooks write rows in the turn's session, and a process that is to be killed at a certain moment."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any

from pydantic import BaseModel
from sqlalchemy import ForeignKey, event as session_events
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from actorfsm import (
    STAY,
    ActorSystem,
    Event,
    Machine,
    Redelivery,
    after_transition,
    before_transition,
    on_enter,
    on_exit,
    transition,
)
from actorfsm.integrations.sqlalchemy import Transactions
from actorfsm.journal.postgresql.journal import PostgreSQLJournal

__all__ = [
    "MOMENTS",
    "Account",
    "Base",
    "Box",
    "Counter",
    "Deposit",
    "Evidence",
    "Expire",
    "Line",
    "Look",
    "Note",
    "Order",
    "OrderState",
    "Pay",
    "Receipt",
    "Row",
    "Services",
    "Step",
]


class Base(DeclarativeBase):
    pass


class Row(Base):
    """What a hook has written."""

    __tablename__ = "shop_rows"
    id: Mapped[int] = mapped_column(primary_key=True)
    machine_id: Mapped[str]
    place: Mapped[str]
    number: Mapped[int] = mapped_column(default=0)


class Account(Base):
    __tablename__ = "shop_accounts"
    name: Mapped[str] = mapped_column(primary_key=True)
    balance: Mapped[int]


class Line(Base):
    """A row whose reference is looked at when it is committed, and not before."""

    __tablename__ = "shop_lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(
        ForeignKey("shop_accounts.name", deferrable=True, initially="DEFERRED")
    )


class OrderState(StrEnum):
    CREATED = auto()
    PAID = auto()
    LATE = auto()


class Receipt(BaseModel, frozen=True):
    number: int


class Pay(Event[Receipt]):
    amount: int = 1


class Note(Event):
    """Handled without a session being used."""


class Expire(Event): ...


class Look(Event[Receipt]):
    """How many were paid."""


class Evidence(Event):
    place: str


Doing = Callable[[Any, AsyncSession | None], Awaitable[Any]]


@dataclass
class Services:
    """What hooks do, by place, besides writing a row; and what they were seen to do."""

    do: dict[str, Doing] = field(default_factory=dict[str, Doing])
    seen: list[str] = field(default_factory=list[str])

    async def at(self, place: str, machine: Any, session: AsyncSession | None) -> Any:
        self.seen.append(place)
        doing = self.do.get(place)
        return None if doing is None else await doing(machine, session)


class Order(Machine[OrderState, Services], initial=OrderState.CREATED, final=(OrderState.LATE,)):
    paid: int = 0

    async def _write(self, place: str, session: AsyncSession) -> Any:
        session.add(Row(machine_id=self.id, place=place, number=self.paid))
        return await self.services.at(place, self, session)

    @before_transition(timeout=0.15)
    async def check(self, old: OrderState, new: OrderState, *, session: AsyncSession) -> Any:
        return await self._write("before", session)

    @on_exit(OrderState.CREATED, timeout=0.15)
    async def leave(self, old: OrderState, new: OrderState, event: Event, *, session: AsyncSession) -> Any:
        return await self._write("exit", session)

    @transition(OrderState.CREATED, to=OrderState.PAID, timeout=0.15)
    async def pay(self, event: Pay, *, session: AsyncSession) -> Receipt:
        self.paid += event.amount
        self.tell("evidence", Evidence(place=self.id))
        await self._write("body", session)
        return Receipt(number=self.paid)

    @on_enter(OrderState.PAID, timeout=0.15)
    async def charge(self, old: OrderState, new: OrderState, *, session: AsyncSession) -> Any:
        return await self._write("enter", session)

    @transition(OrderState.PAID, to=OrderState.LATE)
    async def expire(self, event: Expire) -> None: ...

    @transition(OrderState.CREATED, OrderState.PAID, to=STAY)
    async def note(self, event: Note, *, session: AsyncSession) -> None:
        await self.services.at("note", self, session)

    @transition(OrderState.CREATED, OrderState.PAID, to=STAY)
    async def look(self, event: Look) -> Receipt:
        return Receipt(number=self.paid)

    @after_transition(OrderState.PAID)
    async def tell_others(self, old: OrderState, new: OrderState) -> None:
        await self.services.at("after", self, None)


class Step(Event[Receipt]):
    pass


class CounterState(StrEnum):
    COUNTING = auto()


class Counter(
    Machine[CounterState, Services], initial=CounterState.COUNTING, redelivery=Redelivery(attempts=5)
):
    """One row for each step: their number is the machine's."""

    steps: int = 0

    @transition(CounterState.COUNTING, to=STAY)
    async def step(self, event: Step, *, session: AsyncSession) -> Receipt:
        self.steps += 1
        session.add(Row(machine_id=self.id, place="step", number=self.steps))
        await self.services.at("step", self, session)
        return Receipt(number=self.steps)


class Deposit(Event[Receipt]):
    """Evidence is told to this machine, which writes no rows."""


class Box(Machine[CounterState, Any], initial=CounterState.COUNTING):
    found: tuple[str, ...] = ()

    @transition(CounterState.COUNTING, to=STAY)
    async def put(self, event: Evidence) -> None:
        self.found += (event.place,)

    @transition(CounterState.COUNTING, to=STAY)
    async def count(self, event: Deposit) -> Receipt:
        return Receipt(number=len(self.found))


MOMENTS = ("in the hook", "with the entry in the transaction", "before COMMIT", "after COMMIT")


async def main(url: str, schema: str, moment: str) -> None:
    """Handle events for ever; say when to kill."""

    def stop_here(*_: Any) -> None:
        print("now", flush=True)
        threading.Event().wait()

    async def in_hook(_machine: Any, session: AsyncSession | None) -> None:
        assert session is not None
        await session.flush()
        stop_here()

    append_in = PostgreSQLJournal.append_in
    calls = 0

    async def append_and_stop(self: PostgreSQLJournal, connection: Any, batch: Any) -> None:
        nonlocal calls
        await append_in(self, connection, batch)
        calls += 1
        if calls > 3:
            stop_here()

    def count_to(_session: Session) -> None:
        nonlocal calls
        calls += 1
        if calls > 3:
            stop_here()

    services = Services()
    sessions = async_sessionmaker(create_async_engine(url.replace("postgresql:", "postgresql+psycopg:")))
    if moment == "with the entry in the transaction":
        PostgreSQLJournal.append_in = append_and_stop  # type: ignore[method-assign]
    elif moment == "before COMMIT":
        session_events.listen(Session, "before_commit", count_to)
    elif moment == "after COMMIT":
        session_events.listen(Session, "after_commit", count_to)
    async with ActorSystem(
        Counter,
        services=services,
        journal=PostgreSQLJournal(url, schema=schema),
        transactions=Transactions(sessions),
        trace=None,
    ) as system:
        counters = [await system.get_or_spawn(Counter, f"counter-{number}") for number in range(4)]
        print("ready", flush=True)
        if moment == "in the hook":
            for counter in counters:
                await counter.ask(Step())
            services.do["step"] = in_hook
        while True:
            await asyncio.gather(*(counter.ask(Step()) for counter in counters))


if __name__ == "__main__":
    from tests.integrations.shop_rows import main as as_a_module

    asyncio.run(as_a_module(*sys.argv[1:]))
