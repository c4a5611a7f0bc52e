"""What the tests of the web frameworks serve: orders that can refuse, hang, fail and be born of an event."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum, auto
from typing import Annotated

from pydantic import BaseModel, Field

from actorfsm import (
    ActorSystem,
    Event,
    Limits,
    Machine,
    MailboxPolicy,
    Veto,
    on_enter,
    transition,
)

__all__ = ["Cancel", "Device", "Explode", "Order", "OrderState", "Pay", "Place", "Receipt", "Ship", "Shop"]


class OrderState(StrEnum):
    CREATED = auto()
    PAID = auto()
    SHIPPED = auto()


class Receipt(BaseModel):
    number: str
    amount: Decimal


class Place(Event):
    """Gives birth."""

    customer: Annotated[str, Field(max_length=40)]


class Pay(Event[Receipt]):
    """Pay for the order."""

    amount: Annotated[Decimal, Field(ge=0, max_digits=8, decimal_places=2)]


class Ship(Event):
    carrier: str


class Cancel(Event):
    pass


class Explode(Event):
    pass


@dataclass
class Shop:
    """The services of an order.

    Attributes:
        gate: What a payment waits for, if anything.
        charged: The keys of the payments that were made.
        entered: How many payments have begun.
    """

    gate: asyncio.Event | None = None
    charged: list[str] = field(default_factory=list)
    entered: int = 0


def is_paid(order: Order, event: Cancel) -> bool:
    return order.paid > 10**9


class Order(
    Machine[OrderState, Shop],
    initial=OrderState.CREATED,
    final=(OrderState.SHIPPED,),
    mailbox=MailboxPolicy(capacity=3),
):
    customer: str = ""
    paid: Decimal = Decimal(0)
    card: str = Field(default="none", repr=False)

    @transition(to=OrderState.CREATED)
    def place(self, event: Place) -> None:
        self.customer = event.customer

    @transition(OrderState.CREATED, to=OrderState.PAID)
    async def pay(self, event: Pay) -> Receipt:
        self.paid += event.amount
        return Receipt(number=f"R-{self.id}", amount=event.amount)

    @on_enter(OrderState.PAID)
    async def charge(self, old: OrderState, new: OrderState, event: Pay) -> None:
        self.services.entered += 1
        if self.services.gate is not None:
            await self.services.gate.wait()
        if event.amount > 100:
            raise Veto("card declined")
        self.services.charged.append(self.idempotency_key)

    @transition(OrderState.CREATED, to=OrderState.SHIPPED, when=is_paid)
    def cancel(self, event: Cancel) -> None: ...

    @transition(OrderState.PAID, to=OrderState.SHIPPED)
    def ship(self, event: Ship) -> None: ...

    @transition(OrderState.CREATED, to=OrderState.SHIPPED)
    def explode(self, event: Explode) -> None:
        raise RuntimeError("the password is hunter2")


class DeviceState(StrEnum):
    OFF = auto()
    ON = auto()


class Switch(Event):
    pass


class Device(Machine[DeviceState], initial=DeviceState.OFF):
    serial: int

    @transition(DeviceState.OFF, to=DeviceState.ON)
    @transition(DeviceState.ON, to=DeviceState.OFF)
    def switch(self, event: Switch) -> None: ...


def system_for(shop: Shop, journal: str | None = None, **limits: float) -> ActorSystem[Shop]:
    return ActorSystem(Order, Device, services=shop, journal=journal, trace=None, limits=Limits(**limits))
