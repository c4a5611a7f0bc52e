"""Systems that `actorfsm run` is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from enum import StrEnum, auto
from typing import Any

from actorfsm import STAY, ActorSystem, Event, Machine, MailboxPolicy, Veto, postpone, transition


class S(StrEnum):
    CREATED = auto()
    PAID = auto()
    SHIPPED = auto()


class Create(Event):
    pass


class Pay(Event):
    amount: Decimal


class Ship(Event):
    carrier: str


class Order(Machine[S, Any], initial=S.CREATED, final=(S.SHIPPED,)):
    paid: Decimal = Decimal(0)

    @transition(to=S.CREATED)
    def create(self, event: Create) -> None: ...

    @transition(S.CREATED, to=S.PAID)
    async def pay(self, event: Pay) -> None:
        if event.amount > 100:
            raise Veto("card declined")
        self.paid += event.amount

    @postpone(S.CREATED)
    @transition(S.PAID, to=S.SHIPPED)
    async def ship(self, event: Ship) -> None: ...


class Hit(Event):
    number: int


class T(StrEnum):
    UP = auto()
    DOWN = auto()


class Slow(Machine[T, Any], initial=T.UP, final=(T.DOWN,), mailbox=MailboxPolicy(capacity=2)):
    """It has little room, and needs a while for each event."""

    seen: tuple[int, ...] = ()

    @transition(to=T.UP)
    def create(self, event: Create) -> None: ...

    @transition(T.UP, to=STAY)
    async def hit(self, event: Hit) -> None:
        await asyncio.sleep(0.001)
        self.seen = (*self.seen, event.number)

    @transition(T.UP, to=T.DOWN)
    def ship(self, event: Ship) -> None: ...


class Seeded(Machine[S, Any], initial=S.CREATED):
    """It takes requests, and has no birth transition."""

    note: str = ""


system = ActorSystem(Order, trace=None)
a_number = 7


def made() -> ActorSystem[Any]:
    return ActorSystem(Order, trace=None)


def made_with(journal: str = "by-itself.db") -> ActorSystem[Any]:
    return ActorSystem(Order, journal=journal, trace=None)


def made_only_with(journal: str) -> ActorSystem[Any]:
    return ActorSystem(Order, journal=journal, trace=None)


async def made_later() -> ActorSystem[Any]:
    await asyncio.sleep(0)
    return made()


@asynccontextmanager
async def opened() -> AsyncGenerator[ActorSystem[Any]]:
    print("opened")
    yield made()
    print("closed")


def makes_nothing() -> int:
    return 7


@asynccontextmanager
async def opens_nothing() -> AsyncGenerator[int]:
    yield 7
