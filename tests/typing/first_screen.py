"""The README's first screen as type checkers see it. Nothing here runs: mypy and pyright read it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum, auto
from typing import Any, assert_type

from pydantic import BaseModel

from actorfsm import (
    STAY,
    ActorSystem,
    Directive,
    Event,
    Machine,
    MailboxPolicy,
    Outcome,
    Receipt as SendReceipt,
    Ref,
    Snapshot,
    Spawn,
    TransitionRequested,
    Veto,
    after_transition,
    before_transition,
    on_enter,
    on_exit,
    postpone,
    transition,
)


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


class Refund(Event[Receipt, "Order"]):
    """Only orders take it."""


class Post(Event[None, "Ledger"]):
    """Only ledgers take it."""


@dataclass
class Services:
    """What hooks find on `self.services`."""

    charge: Callable[[str, Decimal, str], bool]


def can_refund(order: "Order", event: Refund) -> bool:
    """Return whether there is anything to give back."""
    return order.paid > 0


class Order(
    Machine[OrderState, Services],
    initial=OrderState.CREATED,
    final=(OrderState.SHIPPED, OrderState.CANCELLED),
    on_failure={LookupError: Directive.RESTART},
    mailbox=MailboxPolicy(capacity=10),
    hook_timeout=timedelta(seconds=5),
):
    """An order, with a hook of each kind."""

    paid: Decimal = Decimal(0)

    @before_transition
    async def risk_control(self, old: OrderState, new: OrderState) -> bool:
        """Refuse what is odd."""
        return not (new is OrderState.PAYING and old is not OrderState.CREATED)

    @postpone(OrderState.CREATED, Ship)
    @transition(OrderState.CREATED, to=OrderState.PAYING)
    async def pay(self, event: Pay) -> Receipt:
        """Pay."""
        assert_type(event.amount, Decimal)
        assert_type(self.paid, Decimal)
        self.paid += event.amount
        return Receipt(number=f"R-{self.id}")

    @transition(OrderState.PAYING, to=OrderState.SHIPPED)
    async def ship(self, event: Ship) -> None: ...

    @transition(OrderState.CREATED, OrderState.PAYING, to=OrderState.CANCELLED, timeout=3)
    async def cancel(self, event: Cancel) -> None: ...

    @transition(OrderState.PAYING, to=STAY, when=can_refund)
    def refund(self, event: Refund) -> Receipt:
        """Give back."""
        return Receipt(number="0")

    @on_exit(OrderState.CREATED)
    def leave(self, old: OrderState, new: OrderState) -> Veto | bool | None:
        """Answer in every way that a hook may."""
        return Veto("closed") if new is OrderState.CREATED else None

    @on_enter(OrderState.PAYING, timeout=timedelta(seconds=1))
    async def charge(self, old: OrderState, new: OrderState, event: Pay) -> None:
        """Charge the card."""
        assert_type(self.state, OrderState)
        assert_type(self.services, Services)
        assert_type(self.id, str)
        if not self.services.charge(self.id, event.amount, self.idempotency_key):
            raise Veto("card declined")
        assert_type(await self.ask("order-2", Pay(amount=Decimal(1)), timeout=1), Receipt)
        self.tell("order-2", Cancel(reason="twin"), headers={"a": "b"})
        self.next_event(Cancel(reason="own"))
        self.stop()

    @after_transition(OrderState.PAYING, detached=True)
    async def audit(self, old: OrderState, new: OrderState) -> None: ...

    @after_transition
    def look(self, old: OrderState, new: OrderState, event: Event[Any, Any]) -> None: ...


class Ledger(Machine[OrderState], initial=OrderState.CREATED):
    """Another machine, without services."""

    @on_enter()
    def enter(self, old: OrderState, new: OrderState, event: Spawn | TransitionRequested) -> None:
        """See what comes."""
        assert_type(self.services, Any)


class Special(Order):
    """A subclass takes what its base takes."""


def look_up(order: str, amount: Decimal, key: str) -> bool:
    """Charge nothing."""
    return bool(order and amount and key)


def done(success: bool, old: OrderState, new: OrderState) -> None:
    """Hear how a request ended."""


async def first_screen() -> None:
    """The screen itself, and what comes back at each step."""
    async with ActorSystem(Order, services=Services(charge=look_up), journal="orders.db") as system:
        assert_type(system, ActorSystem[Services])
        order = await system.get_or_spawn(Order, "order-42")
        assert_type(order, Ref[Order])
        receipt = await order.ask(Pay(amount=Decimal("9.90")), event_id="payment-1")
        assert_type(receipt, Receipt)
        told = order.tell(Ship(carrier="DHL"), callback=print)
        assert_type(told, SendReceipt)
        late = await system.tell("order-42", Cancel(reason="late")).outcome()
        assert_type(late, Outcome)
        assert_type(await told, Outcome)
        assert_type(await told.accepted(), SendReceipt)


async def everything_else(system: ActorSystem[Services], order: Ref[Order], ledger: Ref[Ledger]) -> None:
    """What the other calls give."""
    assert_type(await system.spawn(Order, "order-1", data={"paid": 1}), Ref[Order])
    assert_type(system.ref(Order, "order-1"), Ref[Order])
    assert_type(await system.ask("order-1", Pay(amount=Decimal(1))), Receipt)
    assert_type(await order.ask(Ship(carrier="DHL"), timeout=timedelta(seconds=1)), None)
    assert_type(await order.ask(Refund()), Receipt)
    assert_type(order.snapshot(), Snapshot[Any])
    await ledger.ask(Post())
    await order.request_transition(OrderState.PAYING, done)
    order.request_transition(OrderState.PAYING, print)


async def concurrently(system: ActorSystem[Services], order: Ref[Order]) -> None:
    """`ask` and `spawn` are coroutine functions: they work wherever a coroutine does."""
    task = asyncio.create_task(order.ask(Pay(amount=Decimal(1))))
    assert_type(await task, Receipt)
    async with asyncio.TaskGroup() as group:
        paying = group.create_task(order.ask(Pay(amount=Decimal(1))))
        spawning = group.create_task(system.spawn(Order, "order-7"))
        asking = group.create_task(system.ask("order-7", Ship(carrier="DHL")))
    assert_type(paying.result(), Receipt)
    assert_type(spawning.result(), Ref[Order])
    assert_type(asking.result(), None)
    both = await asyncio.gather(order.ask(Pay(amount=Decimal(1))), system.spawn(Ledger, "ledger"))
    assert_type(both, tuple[Receipt, Ref[Ledger]])


async def a_subclass(special: Ref[Special]) -> None:
    """An event for orders is one for special orders."""
    assert_type(await special.ask(Refund()), Receipt)
    order: Ref[Order] = special
    await order.ask(Pay(amount=Decimal(1)))


async def refused(system: ActorSystem[Services], order: Ref[Order], ledger: Ref[Ledger]) -> None:
    """What type checkers must refuse."""
    await ledger.ask(Refund())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ledger.tell(Refund())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await order.ask(Post())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await order.ask(Pay())  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await order.ask(Pay(amount=Decimal(1), tip=2))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await order.ask("pay")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    number: int = await order.ask(Pay(amount=Decimal(1)))  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType, reportUnusedVariable]
    await system.spawn(Services, "order-1")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    order.request_transition("paying")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    order.tell(Ship(carrier="DHL"), timeout="soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Wrong(Machine[OrderState, Services], initial=OrderState.CREATED):
    """What type checkers must refuse in a definition."""

    paid: Decimal = Decimal(0)

    @transition(OrderState.CREATED)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue, reportUntypedFunctionDecorator]
    def no_target(self, event: Pay) -> None: ...

    @transition("created", to=OrderState.PAYING)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    def text_source(self, event: Pay) -> None: ...

    @on_enter  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    def no_parentheses(self, old: OrderState, new: OrderState) -> None: ...  # type: ignore[misc]

    @on_enter(OrderState.PAYING)
    def body(self, old: OrderState, new: OrderState, event: Pay) -> None:
        """Use what is not there."""
        self.services.refund()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        self.paid = "much"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
        self.id = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def meddle(order: Order) -> None:
    """From outside, too, a machine has the fields that it declares and no others."""
    order.unknown = 1  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
