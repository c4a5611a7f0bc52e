"""What cannot be given to a hook is refused where it is asked for, with what to do instead."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from actorfsm import (
    DefinitionError,
    HookFailed,
    NotStored,
    Unsupported,
)
from actorfsm.integrations.sqlalchemy import Transactions
from actorfsm.machine.decorators import after_transition, blocking, on_enter, transition
from actorfsm.machine.machine import Machine
from tests.integrations.shop_database import Shop, shop
from tests.integrations.shop_rows import (
    Base,
    Note,
    Order,
    OrderState,
    Pay,
    Receipt,
    Row,
)

__all__ = ["shop"]


# -- what cannot be had is said where it is asked for ------------------------------------------------------------------


def test_a_journal_that_is_not_in_the_sessions_database_is_refused_with_what_to_do(
    shop: Shop, tmp_path: Path
) -> None:
    for journal in (None, tmp_path / "journal.db"):
        with pytest.raises(Unsupported, match=r"journal='postgresql://.*ref\.on\(session\)\.tell"):
            shop.system(journal=journal)


def test_a_hook_that_takes_a_session_needs_somebody_to_give_it(shop: Shop) -> None:
    with pytest.raises(DefinitionError, match=r"Order\.check takes a AsyncSession, .*transactions="):
        shop.system(transactions=None)

    class Plain(
        Machine[OrderState, Any], initial=OrderState.CREATED, final=(OrderState.PAID, OrderState.LATE)
    ):
        @transition(OrderState.CREATED, to=OrderState.PAID)
        async def pay(self, event: Pay, *, session: Session) -> Receipt:
            return Receipt(number=1)

        @transition(OrderState.CREATED, to=OrderState.LATE)
        async def note(self, event: Note) -> None: ...

    with pytest.raises(DefinitionError, match=r"Plain\.pay takes a Session, .*AsyncSession"):
        shop.system(Plain)


def test_sessions_that_cannot_carry_the_entry_are_refused(shop: Shop) -> None:
    engine = create_engine(shop.url)
    with pytest.raises(Unsupported, match="async_sessionmaker, not sessionmaker"):
        Transactions(sessionmaker(engine))  # type: ignore[arg-type]
    with pytest.raises(Unsupported, match=r"not postgresql\+asyncpg://.*ref\.on\(session\)\.tell"):
        Transactions(async_sessionmaker(create_async_engine(shop.url.replace("+psycopg", "+asyncpg"))))
    with pytest.raises(Unsupported, match=r"not sqlite\+aiosqlite"):
        Transactions(async_sessionmaker(create_async_engine("sqlite+aiosqlite://")))

    async def scenario() -> None:
        async with shop.opened():
            async with shop.engine.connect() as connection:
                with pytest.raises(Unsupported, match="would be no commit yet"):
                    Transactions(async_sessionmaker(connection))
            shop.sessions.configure(bind=shop.engine.execution_options(isolation_level="AUTOCOMMIT"))
            async with shop.system() as system:
                order = await system.spawn(Order, "order-1")
                with pytest.raises(HookFailed, match="AUTOCOMMIT"):
                    await order.ask(Pay())
                assert shop.rows() == []

    asyncio.run(scenario())


def test_rows_in_another_database_than_the_journals_are_refused_before_they_are_stored(shop: Shop) -> None:
    async def scenario() -> None:
        shop.server.do("DROP DATABASE IF EXISTS other_rows")
        shop.server.do("CREATE DATABASE other_rows")
        engine = create_async_engine(shop.url.replace("/postgres", "/other_rows"))
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with (
            shop.opened(),
            shop.system(transactions=Transactions(async_sessionmaker(engine))) as system,
        ):
            order = await system.spawn(Order, "order-1")
            with pytest.raises(NotStored, match="does not exist"):
                await order.ask(Pay())
            assert order.snapshot().state is OrderState.CREATED
        async with engine.begin() as connection:
            assert (await connection.execute(select(Row))).all() == []
        await engine.dispose()

    asyncio.run(scenario())


@pytest.mark.rule("C33")
def test_where_no_session_can_be_given_the_class_is_refused() -> None:
    with pytest.raises(DefinitionError, match="an after-hook runs when the transaction is committed"):

        class _After(Machine[OrderState, Any], initial=OrderState.CREATED):
            @after_transition
            async def audit(self, old: OrderState, new: OrderState, *, session: AsyncSession) -> None: ...

    with pytest.raises(DefinitionError, match="@blocking runs it in a thread"):

        class _Blocking(Machine[OrderState, Any], initial=OrderState.CREATED):
            @on_enter(OrderState.PAID)
            @blocking
            def write(self, old: OrderState, new: OrderState, *, session: AsyncSession) -> None: ...

    with pytest.raises(DefinitionError, match="a turn has one session"):

        class _Two(Machine[OrderState, Any], initial=OrderState.CREATED):
            @on_enter(OrderState.PAID)
            async def write(
                self, old: OrderState, new: OrderState, *, session: AsyncSession, other: AsyncSession
            ) -> None: ...

    with pytest.raises(DefinitionError, match="annotate 'session' with the class of a session"):

        class _Bare(Machine[OrderState, Any], initial=OrderState.CREATED):
            @on_enter(OrderState.PAID)
            async def write(self, old: OrderState, new: OrderState, *, session) -> None: ...  # type: ignore[no-untyped-def]

    with pytest.raises(DefinitionError, match="import its class at run time"):

        class _Unknown(Machine[OrderState, Any], initial=OrderState.CREATED):
            @on_enter(OrderState.PAID)
            async def write(self, old: OrderState, new: OrderState, *, session: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
