"""A database with rows and a journal, and systems on both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from actorfsm import (
    ActorSystem,
)
from actorfsm.integrations.sqlalchemy import Transactions
from actorfsm.journal.postgresql.journal import PostgreSQLJournal
from actorfsm.machine.machine import Machine
from tests.integrations.shop_rows import (
    Base,
    Box,
    Order,
    Services,
)
from tests.postgresql_server import Server

__all__ = ["PLACES", "Shop", "shop"]

PLACES = ("before", "exit", "body", "enter")


class Shop:
    """A database with rows and a journal, and a system on both."""

    def __init__(self, server: Server, port: int | None = None) -> None:
        self.server = server
        self.schema = server.new_schema()
        self.services = Services()
        self.url = server.url().replace("postgresql:", "postgresql+psycopg:")
        own = server.url(port=port).replace("postgresql:", "postgresql+psycopg:")
        self.engine = create_async_engine(own, pool_size=20)
        self.sessions = async_sessionmaker(self.engine)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Shop]:
        base = create_async_engine(self.url)
        async with base.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Base.metadata.create_all)
        await base.dispose()
        try:
            yield self
            assert self.engine.pool.checkedout() == 0, "a connection was not given back"  # type: ignore[attr-defined]
        finally:
            await self.engine.dispose()

    def system(self, *machines: type[Machine[Any, Any]], **options: Any) -> ActorSystem[Any]:
        options = {
            "services": self.services,
            "journal": PostgreSQLJournal(self.server.url(), schema=self.schema, take_over=True),
            "transactions": Transactions(self.sessions),
            "trace": None,
            **options,
        }
        return ActorSystem(*(machines or (Order, Box)), **options)

    def rows(self, machine_id: str = "order-1") -> list[str]:
        found = self.server.do("SELECT place FROM shop_rows WHERE machine_id = %s ORDER BY id", machine_id)
        return [str(place) for (place,) in found]

    def stored_state(self, machine_id: str = "order-1") -> list[str]:
        machines = f"{self.schema}.machines"
        found = self.server.do(
            f"SELECT trim(state, chr(31)), seq FROM {machines} WHERE machine_id = %s",  # noqa: S608 -- ours
            machine_id,
        )
        return [f"{state} {seq}" for state, seq in found]


@pytest.fixture
def shop(postgresql_server: Server) -> Shop:
    return Shop(postgresql_server)
