"""What checkers know of machines in rows: the column's type is the machine's Enum, the reply is the event's."""

from __future__ import annotations

from enum import StrEnum, auto
from typing import TYPE_CHECKING, assert_type

from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from actorfsm import Event, Machine, transition
from actorfsm.integrations.sqlalchemy import Rows, Versioned, state_column

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from actorfsm import Ref
    from actorfsm.runtime.outbox import Told


class OrderState(StrEnum):
    CREATED = auto()
    PAID = auto()


class Colour(StrEnum):
    RED = auto()


class Receipt(BaseModel):
    number: str


class Pay(Event[Receipt]):
    amount: int


class Other(Machine[Colour], initial=Colour.RED): ...


class Of(Event[None, Other]): ...


class Order(Machine[OrderState], initial=OrderState.CREATED, final=(OrderState.PAID,)):
    @transition(OrderState.CREATED, to=OrderState.PAID)
    def pay(self, event: Pay) -> Receipt:
        return Receipt(number="R-1")


class Base(DeclarativeBase):
    pass


class OrderRow(Versioned, Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[OrderState] = state_column(Order, index=True)
    other: Mapped[Colour] = state_column(Order)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]


rows = Rows(services={"any": "thing"})


async def the_reply_is_what_the_event_says(session: AsyncSession, row: OrderRow) -> None:
    assert_type(await rows.ask(session, row, Pay(amount=1), event_id="payment-1"), Receipt)
    assert_type(row.state, OrderState)
    assert_type(row.version, int)
    await rows.ask(session, row, "pay")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await rows.ask(row, session, Pay(amount=1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def a_session_that_is_not_async_has_a_call_of_its_own(
    session: Session, asynchronous: AsyncSession, row: OrderRow
) -> None:
    assert_type(rows.ask_sync(session, row, Pay(amount=1)), Receipt)
    rows.ask_sync(asynchronous, row, Pay(amount=1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def a_ref_in_a_transaction_takes_the_events_that_its_machine_may(
    ref: Ref[Order], session: AsyncSession, plain: Session
) -> None:
    assert_type(await ref.on(session).tell(Pay(amount=1), event_id="payment-1"), Told)
    assert_type(ref.on(plain).tell(Pay(amount=1)).event_id, str)
    ref.on(session).tell(Of())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
