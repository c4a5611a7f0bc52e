"""The machine that the tests of stored states share; what its hooks do is told to `Notes`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum, auto
from typing import Any

from pydantic import BaseModel

from actorfsm import (
    STAY,
    Event,
    Machine,
    Veto,
    after_transition,
    before_transition,
    on_enter,
    on_exit,
    transition,
)


class OrderState(StrEnum):
    CREATED = auto()
    PAYING = auto()
    SHIPPED = auto()
    CANCELLED = auto()


class Receipt(BaseModel, frozen=True):
    number: str


class Pay(Event[Receipt]):
    amount: Decimal


class Ship(Event):
    carrier: str = "DHL"


class Cancel(Event): ...


class Note(Event):
    text: str


class Stranger(Event): ...


@dataclass
class Notes:
    """What hooks have done, and what they shall do."""

    done: list[Any] = field(default_factory=list)
    card_is_good: bool = True
    fails_in: str = ""
    hangs_in: str = ""
    began: asyncio.Event = field(default_factory=asyncio.Event)
    turns: dict[str, asyncio.Event] = field(default_factory=dict)

    async def at(self, place: str, *details: Any) -> None:
        self.began.set()
        self.done.append((place, *details))
        if place in self.turns:
            await self.turns[place].wait()
        if self.fails_in == place:
            raise LookupError(place)
        if self.hangs_in == place:
            await asyncio.Event().wait()


class Order(
    Machine[OrderState, Notes],
    initial=OrderState.CREATED,
    final=(OrderState.SHIPPED, OrderState.CANCELLED),
):
    paid: Decimal = Decimal(0)
    note: str = ""

    @before_transition
    async def risk_control(self, old: OrderState, new: OrderState) -> None:
        await self.services.at("before", old, new)

    @on_exit(OrderState.CREATED)
    async def leave(self, old: OrderState, new: OrderState) -> None:
        await self.services.at("exit", old, new)

    @transition(OrderState.CREATED, to=OrderState.PAYING)
    async def pay(self, event: Pay) -> Receipt:
        await self.services.at("body", self.state)
        self.paid += event.amount
        return Receipt(number=f"R-{event.amount}")

    def has_paid(self, event: Ship) -> bool:
        return self.paid > 0

    @transition(OrderState.PAYING, to=OrderState.SHIPPED, when=has_paid)
    def ship(self, event: Ship) -> None: ...

    @transition(OrderState.CREATED, OrderState.PAYING, to=OrderState.CANCELLED)
    def cancel(self, event: Cancel) -> None: ...

    @transition(OrderState.CREATED, to=STAY)
    def write(self, event: Note) -> None:
        self.note = event.text

    @on_enter(OrderState.PAYING, timeout=0.05)
    async def charge(self, old: OrderState, new: OrderState, event: Pay) -> None:
        await self.services.at("enter", self.idempotency_key)
        if not self.services.card_is_good:
            raise Veto("card declined")

    @after_transition(OrderState.PAYING)
    async def audit(self, old: OrderState, new: OrderState) -> None:
        await self.services.at("after", self.state, self.paid)


class PlainOrder(
    Machine[OrderState, Notes],
    initial=OrderState.CREATED,
    final=(OrderState.SHIPPED, OrderState.CANCELLED),
):
    """The same, as far as it goes, with plain functions."""

    paid: Decimal = Decimal(0)
    note: str = ""

    @before_transition
    def risk_control(self, old: OrderState, new: OrderState) -> None:
        self._at("before", old, new)

    @on_exit(OrderState.CREATED)
    def leave(self, old: OrderState, new: OrderState) -> None:
        self._at("exit", old, new)

    @transition(OrderState.CREATED, to=OrderState.PAYING)
    def pay(self, event: Pay) -> Receipt:
        self._at("body", self.state)
        self.paid += event.amount
        return Receipt(number=f"R-{event.amount}")

    def has_paid(self, event: Ship) -> bool:
        return self.paid > 0

    @transition(OrderState.PAYING, to=OrderState.SHIPPED, when=has_paid)
    def ship(self, event: Ship) -> None: ...

    @transition(OrderState.CREATED, OrderState.PAYING, to=OrderState.CANCELLED)
    def cancel(self, event: Cancel) -> None: ...

    @transition(OrderState.CREATED, to=STAY)
    def write(self, event: Note) -> None:
        self.note = event.text

    @on_enter(OrderState.PAYING)
    def charge(self, old: OrderState, new: OrderState, event: Pay) -> None:
        self._at("enter", self.idempotency_key)
        if not self.services.card_is_good:
            raise Veto("card declined")

    @after_transition(OrderState.PAYING)
    def audit(self, old: OrderState, new: OrderState) -> None:
        self._at("after", self.state, self.paid)

    def _at(self, place: str, *details: Any) -> None:
        self.services.done.append((place, *details))
        if self.services.fails_in == place:
            raise LookupError(place)


__all__ = [
    "Cancel",
    "Note",
    "Notes",
    "Order",
    "OrderState",
    "Pay",
    "PlainOrder",
    "Receipt",
    "Ship",
    "Stranger",
]
