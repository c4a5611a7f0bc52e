"""What checkers know of machines in documents: the reply is the event's, and the collection is of the right client."""

from __future__ import annotations

from enum import StrEnum, auto
from typing import TYPE_CHECKING, Any, assert_type

from pydantic import BaseModel

from actorfsm import Event, Machine, transition
from actorfsm.integrations.mongo import (
    Documents,
    EngineDocuments,
    SyncDocuments,
    sync_transaction,
    transaction,
)

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession
    from pymongo.asynchronous.collection import AsyncCollection
    from pymongo.client_session import ClientSession
    from pymongo.collection import Collection


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


async def the_reply_is_what_the_event_says(
    collection: AsyncCollection[dict[str, Any]],
    plain: Collection[dict[str, Any]],
    session: AsyncClientSession,
) -> None:
    orders = Documents(Order, collection, services={"any": "thing"}, state="st", state_by="value")
    assert_type(orders, Documents[Order])
    async with transaction(session):
        assert_type(await orders.ask("order-1", Pay(amount=1), session=session, version=1), Receipt)
    await orders.ask("order-1", "pay")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await orders.ask("order-1", Of())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Documents(Order, plain)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Documents(Order, collection, state_by="number")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def a_client_that_is_not_async_has_a_class_of_its_own(
    collection: Collection[dict[str, Any]],
    asynchronous: AsyncClientSession,
    session: ClientSession,
    document: Any,
) -> None:
    orders = SyncDocuments(Order, collection)
    with sync_transaction(session):
        assert_type(orders.ask("order-1", Pay(amount=1), session=session), Receipt)
    orders.ask("order-1", Pay(amount=1), session=asynchronous)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(EngineDocuments(Order, document).ask_document(document, Pay(amount=1)), Receipt)
