"""The example of the README's first screen, and the request that the project began with."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum, auto
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from actorfsm import Event, Machine, Veto, Vetoed, after_transition, before_transition, on_enter, transition

if TYPE_CHECKING:
    from collections.abc import Callable


class OrderState(StrEnum):
    CREATED = auto()
    PAYING = auto()
    SHIPPED = auto()
    CANCELLED = auto()


class Receipt(BaseModel):
    number: str


class Pay(Event[Receipt]):
    amount: Decimal


class Ship(Event):
    carrier: str


class Cancel(Event):
    reason: str


class Order(Machine[OrderState], initial=OrderState.CREATED, final=(OrderState.SHIPPED, OrderState.CANCELLED)):
    paid: Decimal = Decimal(0)

    @before_transition
    async def risk_control(self, old: OrderState, new: OrderState) -> bool:
        return not (new is OrderState.PAYING and old is not OrderState.CREATED)

    @transition(OrderState.CREATED, to=OrderState.PAYING)
    async def pay(self, event: Pay) -> Receipt:
        self.paid += event.amount
        return Receipt(number=f"R-{self.id}")

    @transition(OrderState.PAYING, to=OrderState.SHIPPED)
    async def ship(self, event: Ship) -> None: ...

    @transition(OrderState.CREATED, OrderState.PAYING, to=OrderState.CANCELLED)
    async def cancel(self, event: Cancel) -> None: ...

    @on_enter(OrderState.PAYING)
    async def charge(self, old: OrderState, new: OrderState, event: Pay) -> None:
        if event.amount > 100:
            raise Veto("card declined")

    @after_transition(OrderState.PAYING)
    async def audit(self, old: OrderState, new: OrderState) -> None: ...


@pytest.mark.rule("C2")
def test_a_declined_card_leaves_the_order_exactly_as_it_was(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with system_of(Order) as system:
            order = await system.spawn(Order, "order-1")
            with pytest.raises(Vetoed) as caught:
                await order.ask(Pay(amount=Decimal(101)))
            assert (caught.value.by, caught.value.reason) == ("charge", "card declined")
            snapshot = order.snapshot()
            assert (snapshot.state, snapshot.data, snapshot.seq) == (OrderState.CREATED, {"paid": Decimal(0)}, 1)
            assert (await order.ask(Pay(amount=Decimal(9)))).number == "R-order-1"

    sim(scenario)
