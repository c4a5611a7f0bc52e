"""Machines in documents of MongoEngine: the real MongoEngine over the real driver. The laws are in `test_mongo.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import mongoengine
import pytest

from actorfsm import STAY, ConcurrentTransition, DefinitionError, Machine, NoSuchMachine, transition
from actorfsm.integrations.mongo import Documents, EngineDocuments, sync_transaction
from tests.integrations.mongo_homes import EngineHome, OrderDocument, documents_of, engine_documents_of
from tests.integrations.order import Cancel, Note, Notes, Order, OrderState, Pay, PlainOrder, Receipt
from tests.integrations.test_mongo_values import Line, Set, State

PAY = Pay(amount=Decimal("9.90"))
NUMBER = UUID("12345678-1234-5678-1234-567812345678")


def on_documents(url: str, scenario: Callable[[EngineHome], None]) -> None:
    async def main() -> None:
        async with engine_documents_of(url) as home:
            scenario(home)

    asyncio.run(main())


def test_the_document_shows_what_was_stored_and_save_does_not_write_it_again(mongodb_url: str) -> None:
    def scenario(home: EngineHome) -> None:
        document = OrderDocument(customer="Ada", lines=["a"]).save()
        document.customer = "Grace"
        assert home.documents.ask_document(document, PAY) == Receipt(number="R-9.90")
        assert (document.status, document.paid, document.version) == (OrderState.PAYING, Decimal("9.90"), 1)
        assert document._get_changed_fields() == ["customer"]
        home.documents.ask(document.pk, Cancel())
        document.save()  # of the state before
        stored = OrderDocument.objects.get(pk=document.pk)
        assert (stored.status, stored.version, stored.customer) == (OrderState.CANCELLED, 2, "Grace")

    on_documents(mongodb_url, scenario)


def test_what_the_caller_has_changed_and_not_saved_plays_no_part(mongodb_url: str) -> None:
    def scenario(home: EngineHome) -> None:
        document = OrderDocument().save()
        document.paid = Decimal(100)
        document.note = "not saved"
        home.documents.ask_document(document, PAY)
        stored = OrderDocument.objects.get(pk=document.pk)
        assert (stored.paid, stored.note) == (Decimal("9.90"), "")
        assert (document.paid, document.note) == (Decimal("9.90"), "not saved")

    on_documents(mongodb_url, scenario)


def test_two_that_have_read_one_document_and_the_second_is_told(mongodb_url: str) -> None:
    def scenario(home: EngineHome) -> None:
        key = OrderDocument().save().pk
        first, second = (OrderDocument.objects.get(pk=key) for _ in range(2))
        home.documents.ask_document(first, PAY)
        for _ in range(2):
            with pytest.raises(ConcurrentTransition):
                home.documents.ask_document(second, Cancel())
        assert second.status is OrderState.CREATED
        second.reload()
        home.documents.ask_document(second, Cancel())
        assert OrderDocument.objects.get(pk=key).status is OrderState.CANCELLED

    on_documents(mongodb_url, scenario)


def test_a_document_that_was_never_saved_is_no_such_machine(mongodb_url: str) -> None:
    def scenario(home: EngineHome) -> None:
        with pytest.raises(NoSuchMachine):
            home.documents.ask_document(OrderDocument(), PAY)

    on_documents(mongodb_url, scenario)


def test_documents_that_were_there_before_the_version_field_go_on(mongodb_url: str) -> None:
    def scenario(home: EngineHome) -> None:
        key = OrderDocument._get_collection().insert_one({"st": "created"}).inserted_id
        document = OrderDocument.objects.get(pk=key)
        home.documents.ask_document(document, PAY)
        home.documents.ask_document(document, Cancel())
        stored = OrderDocument.objects.get(pk=key)
        assert (stored.status, stored.version) == (OrderState.CANCELLED, 2)

    on_documents(mongodb_url, scenario)


def test_a_transaction_that_is_aborted_leaves_a_document_that_has_to_be_read_again(mongodb_url: str) -> None:
    def scenario(home: EngineHome) -> None:
        document = OrderDocument().save()

        def pay_and_fail() -> None:
            client = OrderDocument._get_collection().database.client
            with client.start_session() as session, sync_transaction(session):
                home.documents.ask_document(document, PAY, session=session)
                raise LookupError

        with pytest.raises(LookupError):
            pay_and_fail()
        with pytest.raises(ConcurrentTransition):
            home.documents.ask_document(document, Cancel())
        document.reload()
        assert document.status is OrderState.CREATED
        home.documents.ask_document(document, PAY)

    on_documents(mongodb_url, scenario)


def test_an_async_client_serves_the_same_documents(mongodb_url: str) -> None:
    async def main() -> None:
        async with engine_documents_of(mongodb_url), documents_of(mongodb_url) as asynchronous:
            document = OrderDocument().save()
            database = OrderDocument._get_collection().database.name
            orders = Documents(
                Order,
                asynchronous.client[database][OrderDocument._get_collection_name()],
                state="st",
                version="v",
                keys={"paid": "p"},
                state_by="value",
                services=Notes(),
                trace=(),
            )
            await orders.ask(document.pk, PAY)
            document.reload()
            assert (document.status, document.paid, document.version) == (
                OrderState.PAYING,
                Decimal("9.90"),
                1,
            )

    asyncio.run(main())


class LineDocument(mongoengine.EmbeddedDocument):
    price = mongoengine.Decimal128Field()
    sku = mongoengine.StringField()
    at = mongoengine.DateTimeField()


class BoxDocument(mongoengine.Document):
    meta = {"db_alias": "orders of the tests", "collection": "boxes"}

    state = mongoengine.StringField(default="OPEN")
    version = mongoengine.IntField(default=0)
    amount = mongoengine.DecimalField()
    number = mongoengine.UUIDField()
    line = mongoengine.EmbeddedDocumentField(LineDocument)
    tags = mongoengine.ListField(mongoengine.StringField())
    at = mongoengine.DateTimeField()


class Box(Machine[State, Any], initial=State.OPEN):
    amount: Decimal = Decimal(0)
    number: UUID | None = None
    line: Line | None = None
    tags: frozenset[str] = frozenset()
    at: datetime | None = None

    @transition(State.OPEN, to=STAY)
    def set(self, event: Set) -> None:
        self.services.append(self.amount)
        setattr(self, event.name, event.value)


def test_values_of_a_machine_are_values_of_the_fields_of_mongoengine(mongodb_url: str) -> None:
    def scenario(home: EngineHome) -> None:
        BoxDocument._collection = None
        boxes = EngineDocuments(Box, BoxDocument, services=[], trace=())
        document = BoxDocument().save()
        line = Line(price=Decimal("1.5"), sku="s")
        for name, value in (
            ("amount", Decimal("9.90")),
            ("number", NUMBER),
            ("line", line),
            ("tags", frozenset({"a"})),
            ("at", datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)),
        ):
            boxes.ask_document(document, Set(name=name, value=value))
        for shown in (document, BoxDocument.objects.get(pk=document.pk)):
            assert (shown.amount, shown.number, shown.tags) == (Decimal("9.90"), NUMBER, ["a"])
            assert (shown.line.price, shown.line.sku, shown.line.at) == (Decimal("1.5"), "s", None)
            assert shown.at.replace(tzinfo=UTC) == datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=UTC)
            assert shown.version == 5
        document.amount = Decimal("1.25")  # saved by MongoEngine, as a float, and read by the machine
        document.save()
        boxes.ask_document(document, Set(name="amount", value=Decimal(2)))
        assert boxes._services[-1] == Decimal("1.25")

    on_documents(mongodb_url, scenario)


def test_a_class_that_lacks_a_field_is_refused_by_name() -> None:
    class Bare(mongoengine.Document):
        state = mongoengine.StringField()
        paid = mongoengine.DecimalField()

    with pytest.raises(DefinitionError, match="Bare has no field version, note"):
        EngineDocuments(PlainOrder, Bare)


def test_a_state_in_a_text_field_is_stored_by_name(mongodb_url: str) -> None:
    def scenario(home: EngineHome) -> None:
        class Plain(mongoengine.Document):
            meta = {"db_alias": "orders of the tests"}
            state = mongoengine.StringField(default="CREATED")
            version = mongoengine.IntField(default=0)
            paid = mongoengine.Decimal128Field(default=Decimal(0))
            note = mongoengine.StringField(default="")

        orders = EngineDocuments(PlainOrder, Plain, services=Notes(), trace=())
        document = Plain().save()
        orders.ask_document(document, Note(text="n"))
        orders.ask_document(document, PAY)
        assert (document.state, document.note) == ("PAYING", "n")

    on_documents(mongodb_url, scenario)
