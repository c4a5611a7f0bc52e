"""The example of the README's first screen: it does what its comments say."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum, auto
from typing import Any

import pytest
from pydantic import BaseModel

from actorfsm import (
    ActorSystem,
    Event,
    EventIdConflict,
    Machine,
    Outcome,
    Unhandled,
    Unsupported,
    Veto,
    Vetoed,
    after_transition,
    before_transition,
    on_enter,
    transition,
)
from tests.contract.paths import Path, Style, at_rest


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


class Gateway:
    """Declines what costs more than a hundred."""

    def __init__(self) -> None:
        self.charged: list[tuple[str, Decimal]] = []
        self.keys: list[str] = []

    async def charge(self, order_id: str, amount: Decimal, *, key: str) -> bool:
        self.keys.append(key)
        if amount > 100:
            return False
        self.charged.append((order_id, amount))
        return True


class AuditLog:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []

    async def write(self, order_id: str, old: str, new: str) -> None:
        self.lines.append((order_id, old, new))


gateway = Gateway()
audit_log = AuditLog()


class Order(
    Machine[OrderState], initial=OrderState.CREATED, final=(OrderState.SHIPPED, OrderState.CANCELLED)
):
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
        if not await gateway.charge(self.id, event.amount, key=self.idempotency_key):
            raise Veto("card declined")

    @after_transition(OrderState.PAYING)
    async def audit(self, old: OrderState, new: OrderState) -> None:
        await audit_log.write(self.id, old, new)


def fresh_services() -> None:
    gateway.charged.clear()
    gateway.keys.clear()
    audit_log.lines.clear()


def test_the_program_runs_as_printed(
    inline: bool, system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        fresh_services()
        heard: list[Outcome] = []
        async with system_of(Order) as system:
            order = await system.get_or_spawn(Order, "order-42")
            await at_rest(system)
            receipt = await order.ask(Pay(amount=Decimal("9.90")), event_id="payment-1")
            assert receipt == Receipt(number="R-order-42")
            await at_rest(system)
            Path(Style.ASYNC, inline).assert_taken(system, 2)
            order.tell(Ship(carrier="DHL"), callback=heard.append)
            late = await system.tell("order-42", Cancel(reason="late")).outcome()
            assert (late.kind, late.success, late.old) == ("unhandled", False, OrderState.SHIPPED)
            assert order.snapshot().state is OrderState.SHIPPED
        assert [(outcome.kind, outcome.old, outcome.new) for outcome in heard] == [
            ("committed", OrderState.PAYING, OrderState.SHIPPED)
        ]

    sim(scenario)


def test_the_same_payment_again_gets_the_same_receipt_and_pays_once(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        fresh_services()
        async with system_of(Order) as system:
            order = await system.get_or_spawn(Order, "order-42")
            for _ in range(3):
                receipt = await order.ask(Pay(amount=Decimal("9.90")), event_id="payment-1")
                assert receipt == Receipt(number="R-order-42")
                assert (await system.get_or_spawn(Order, "order-42")).snapshot().data == {
                    "paid": Decimal("9.90")
                }
            with pytest.raises(EventIdConflict):
                await order.ask(Pay(amount=Decimal(8)), event_id="payment-1")
            # with another id it is another payment, and that is refused
            with pytest.raises(Unhandled):
                await order.ask(Pay(amount=Decimal("9.90")), event_id="payment-2")
            assert gateway.charged == [("order-42", Decimal("9.90"))]
        assert audit_log.lines == [("order-42", OrderState.CREATED, OrderState.PAYING)]

    sim(scenario)


@pytest.mark.rule("C2")
def test_a_declined_card_leaves_the_order_exactly_as_it_was(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        fresh_services()
        async with system_of(Order) as system:
            order = await system.spawn(Order, "order-1")
            for _ in range(2):
                with pytest.raises(Vetoed) as caught:
                    await order.ask(Pay(amount=Decimal(101)), event_id="payment-1")
                assert (caught.value.by, caught.value.reason) == ("charge", "card declined")
                snapshot = order.snapshot()
                assert (snapshot.state, snapshot.data, snapshot.seq) == (
                    OrderState.CREATED,
                    {"paid": Decimal(0)},
                    1,
                )
            # a repetition is recognised by the gateway, another payment is not taken for one
            assert gateway.keys[0] == gateway.keys[1]
            assert (await order.ask(Pay(amount=Decimal(9)))).number == "R-order-1"
            assert gateway.keys[2] != gateway.keys[0]
        assert audit_log.lines == [("order-1", OrderState.CREATED, OrderState.PAYING)]

    sim(scenario)


def test_a_journal_that_there_is_not_is_refused_with_a_clear_error() -> None:
    with pytest.raises(Unsupported, match=r"no journal at redis://; give the name of a file"):
        ActorSystem(Order, journal="redis://orders")


@pytest.mark.rule("C7")
def test_an_order_that_is_not_paid_is_not_shipped(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with system_of(Order) as system:
            order = await system.get_or_spawn(Order, "order-42")
            with pytest.raises(Unhandled) as caught:
                await order.ask(Ship(carrier="DHL"))
            assert (caught.value.state, caught.value.allowed) == (OrderState.CREATED, ("Pay", "Cancel"))
            assert order.snapshot().seq == 1

    sim(scenario)
