"""Machines in documents for the laws of stored states: in an async collection, a sync one, and one of MongoEngine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import mongoengine
from pymongo import AsyncMongoClient, MongoClient

from actorfsm import Record
from actorfsm.integrations.mongo import Documents, EngineDocuments, SyncDocuments
from tests.integrations.order import Notes, Order, OrderState, PlainOrder
from tests.mongodb_server import new_database

__all__ = ["EngineHome", "Home", "SyncHome", "documents_of", "engine_documents_of", "sync_documents_of"]


class Home:
    """Documents of an async client."""

    waits = True

    def __init__(self, client: AsyncMongoClient[Any], database: str, **options: Any) -> None:
        self.client = client
        self.collection = client[database]["orders"]
        self.notes = Notes()
        self.records: list[Record] = []
        self.documents = Documents(
            Order, self.collection, services=self.notes, trace=[self.records.append], **options
        )

    async def new(self, **fields: Any) -> Any:
        state = fields.pop("state", None)
        document = {**self.documents.new(state, **fields), "customer": {"name": "Ada", "since": 1815}}
        return (await self.collection.insert_one(document)).inserted_id

    async def ask(self, key: Any, event: Any, *, event_id: str | None = None, **options: Any) -> Any:
        return await self.documents.ask(key, event, event_id=event_id, **options)

    async def document(self, key: Any) -> Any:
        return await self.collection.find_one({"_id": key})

    async def read(self, key: Any) -> tuple[OrderState, Decimal, str]:
        found = await self.document(key)
        assert found["customer"] == {"name": "Ada", "since": 1815}
        return OrderState[found["state"]], found["paid"].to_decimal(), found["note"]

    async def write_behind_its_back(self, key: Any, **fields: Any) -> None:
        await self.collection.update_one({"_id": key}, {"$set": fields})

    async def ask_after_another(self, key: Any, event: Any, other: Any) -> Any:
        version = (await self.document(key))["version"]
        await self.ask(key, other)
        return await self.ask(key, event, version=version)


class SyncHome(Home):
    """Documents of a client that is not async."""

    waits = False

    def __init__(self, client: MongoClient[Any], database: str) -> None:
        self.sync_collection = client[database]["orders"]
        self.notes = Notes()
        self.records = []
        self.sync_documents = SyncDocuments(
            PlainOrder, self.sync_collection, services=self.notes, trace=[self.records.append]
        )

    async def new(self, **fields: Any) -> Any:
        state = fields.pop("state", None)
        document = {**self.sync_documents.new(state, **fields), "customer": {"name": "Ada", "since": 1815}}
        return self.sync_collection.insert_one(document).inserted_id

    async def ask(self, key: Any, event: Any, *, event_id: str | None = None, **options: Any) -> Any:
        return self.sync_documents.ask(key, event, event_id=event_id, **options)

    async def document(self, key: Any) -> Any:
        return self.sync_collection.find_one({"_id": key})

    async def write_behind_its_back(self, key: Any, **fields: Any) -> None:
        self.sync_collection.update_one({"_id": key}, {"$set": fields})


class OrderDocument(mongoengine.Document):
    """An order of somebody who has used MongoEngine for years: names of its own, and an Enum by value."""

    meta = {"db_alias": "orders of the tests", "collection": "orders"}

    status = mongoengine.EnumField(OrderState, db_field="st", default=OrderState.CREATED)
    version = mongoengine.IntField(db_field="v", default=0)
    paid = mongoengine.Decimal128Field(db_field="p", default=Decimal(0))
    note = mongoengine.StringField(default="")
    customer = mongoengine.StringField(default="Ada")
    lines = mongoengine.ListField(mongoengine.StringField())


class EngineHome(SyncHome):
    """Documents of MongoEngine."""

    def __init__(self) -> None:
        self.notes = Notes()
        self.records = []
        self.sync_documents = self.documents = EngineDocuments(
            PlainOrder, OrderDocument, state="status", services=self.notes, trace=[self.records.append]
        )

    async def new(self, **fields: Any) -> Any:
        fields["status"] = fields.pop("state", OrderState.CREATED)
        return OrderDocument(lines=["a", "b"], **fields).save().pk

    async def document(self, key: Any) -> Any:
        return OrderDocument._get_collection().find_one({"_id": key})

    async def read(self, key: Any) -> tuple[OrderState, Decimal, str]:
        document = OrderDocument.objects.get(pk=key)
        assert (document.customer, document.lines) == ("Ada", ["a", "b"])
        return document.status, document.paid, document.note

    async def write_behind_its_back(self, key: Any, **fields: Any) -> None:
        OrderDocument._get_collection().update_one({"_id": key}, {"$set": fields})

    async def ask_after_another(self, key: Any, event: Any, other: Any) -> Any:
        document = OrderDocument.objects.get(pk=key)
        await self.ask(key, other)
        return self.documents.ask_document(document, event)


@asynccontextmanager
async def documents_of(url: str, **options: Any) -> AsyncIterator[Home]:
    async with AsyncMongoClient(url) as client:
        home = Home(client, new_database(), **options)
        try:
            yield home
        finally:
            await client.drop_database(home.collection.database.name)


@asynccontextmanager
async def sync_documents_of(url: str) -> AsyncIterator[SyncHome]:
    with MongoClient[Any](url) as client:
        home = SyncHome(client, new_database())
        try:
            yield home
        finally:
            client.drop_database(home.sync_collection.database.name)


@asynccontextmanager
async def engine_documents_of(url: str) -> AsyncIterator[EngineHome]:
    database = new_database()
    client = mongoengine.connect(
        database, host=url, alias="orders of the tests", uuidRepresentation="standard"
    )
    OrderDocument._collection = None
    try:
        yield EngineHome()
        client.drop_database(database)
    finally:
        mongoengine.disconnect("orders of the tests")
