"""A batch inside a transaction of the caller's: it is stored with what else the caller writes, or not at all."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from actorfsm import EventIdUsed, Fenced, JournalClosed, NotStored, OutcomeUnknown, Unsupported
from actorfsm.journal.entry import Batch
from tests.journal.stages import PostgreSQLStage
from tests.journal.test_postgresql_in_trouble import backend_of, batch, entry, seq_of
from tests.postgresql_server import Server


@pytest.fixture
def stage(postgresql_server: Server) -> PostgreSQLStage:
    return PostgreSQLStage(postgresql_server)


async def connect(stage: PostgreSQLStage, **options: Any) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(stage.server.url(), **options)


def test_it_is_stored_when_the_caller_commits_and_not_before(stage: PostgreSQLStage) -> None:
    async def scenario() -> None:
        journal = await stage.open()
        await journal.append(batch(1))
        async with await connect(stage) as mine:
            await journal.append_in(mine, batch(2))
            await journal.append_in(mine, Batch(entries=(entry(3), entry(1, "b"))))
            assert await seq_of(journal) == 1
            assert await journal.load("b") is None
            await journal.append(batch(1, "c"))  # other machines go on meanwhile
            await mine.commit()
            assert await seq_of(journal) == 3
            await journal.append_in(mine, batch(4))
            await mine.rollback()
            assert await seq_of(journal) == 3
        await journal.append(batch(4))
        assert [found.seq for found in await journal.entries("a")] == [1, 2, 3, 4]
        await journal.close()

    asyncio.run(scenario())


def test_what_is_refused_leaves_the_callers_transaction_as_it_was(stage: PostgreSQLStage) -> None:
    async def scenario() -> None:
        journal = await stage.open()
        await journal.append(batch(1))
        async with await connect(stage, autocommit=True) as mine:
            async with mine.transaction():
                await mine.execute("CREATE TEMP TABLE invoices (number int)")
                with pytest.raises(Fenced):
                    await journal.append_in(mine, batch(7))
                with pytest.raises(EventIdUsed):
                    await journal.append_in(mine, Batch(entries=(entry(2, event_id="e-1"),)))
                await mine.execute("INSERT INTO invoices VALUES (1)")
                await journal.append_in(mine, batch(2))
            found = await (await mine.execute("SELECT * FROM invoices")).fetchall()
        assert found == [(1,)]
        assert await seq_of(journal) == 2
        await journal.close()

    asyncio.run(scenario())


def test_a_connection_that_cannot_carry_it_is_refused(stage: PostgreSQLStage) -> None:
    async def scenario() -> None:
        journal = await stage.open()
        with pytest.raises(Unsupported, match=r"takes a psycopg\.AsyncConnection, not object"):
            await journal.append_in(object(), batch(1))
        async with await connect(stage, autocommit=True) as mine:
            with pytest.raises(NotStored, match="in no transaction"):
                await journal.append_in(mine, batch(1))
            other = await PostgreSQLStage(stage.server).open()
            async with mine.transaction():
                other._target = journal._target  # as one that is in another database under the same name
                with pytest.raises(NotStored, match="another database than its own"):
                    await other.append_in(mine, batch(1))
            await other.close()
            await journal.close()
            async with mine.transaction():
                with pytest.raises(JournalClosed):
                    await journal.append_in(mine, batch(1))
        again = await stage.open()
        assert await again.load("a") is None
        await again.close()

    asyncio.run(scenario())


@pytest.mark.rule("C26")
def test_who_was_taken_over_stores_nothing_in_a_transaction_either(stage: PostgreSQLStage) -> None:
    async def scenario() -> None:
        journal = await stage.open()
        await journal.append(batch(1))
        await stage.usurp()
        async with await connect(stage) as mine:
            with pytest.raises(Fenced, match="taken the machines over"):
                await journal.append_in(mine, batch(2))
        await journal.close()

    asyncio.run(scenario())


@pytest.mark.rule("C26")
def test_nobody_takes_over_before_the_callers_transaction_has_ended(stage: PostgreSQLStage) -> None:
    async def scenario() -> None:
        journal = await stage.open()
        async with await connect(stage) as mine:
            await journal.append_in(mine, batch(1))
            usurper = stage.journal(take_over=True)
            opening = asyncio.create_task(usurper.open())
            await asyncio.sleep(0.2)
            assert not opening.done()
            await mine.commit()
            await opening
        assert await seq_of(usurper) == 1
        await usurper.close()
        await journal.close()

    asyncio.run(scenario())


def test_a_transaction_from_before_a_new_connection_goes_on_and_the_new_one_waits(
    stage: PostgreSQLStage,
) -> None:
    async def scenario() -> None:
        journal = await stage.open()
        async with await connect(stage) as mine:
            await journal.append_in(mine, batch(1))
            stage.server.do("SELECT pg_terminate_backend(%s)", backend_of(journal))
            stored = journal.append(batch(1, "b"))
            await asyncio.sleep(0.1)
            assert not stored.done()
            await mine.commit()
            await stored
            await journal.append_in(mine, batch(2))
            await mine.commit()
        assert await seq_of(journal) == 2
        await journal.close()

    asyncio.run(scenario())


def test_a_transaction_that_looks_at_the_past_is_refused_and_nobody_is_fenced(stage: PostgreSQLStage) -> None:
    async def scenario() -> None:
        journal = await stage.open()
        await journal.append(batch(1))
        async with await connect(stage) as mine:
            await mine.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            await mine.execute("SELECT 1")
            await journal.append(batch(2))
            with pytest.raises(NotStored, match="is repeatable read, and since it began") as refused:
                await journal.append_in(mine, batch(3))
            assert type(refused.value) is NotStored
            await mine.rollback()
            await journal.append_in(mine, batch(3))
            await mine.commit()
        assert await seq_of(journal) == 3
        await journal.close()

    asyncio.run(scenario())


@pytest.mark.rule("C25")
@pytest.mark.parametrize("is_birth", [True, False])
@pytest.mark.parametrize("commits", [True, False])
def test_while_the_callers_transaction_is_open_nobody_says_whether_the_batch_is_stored(
    is_birth: bool, commits: bool, stage: PostgreSQLStage
) -> None:
    async def scenario() -> None:
        journal = await stage.open()
        stored = batch(1) if is_birth else batch(2)
        if not is_birth:
            await journal.append(batch(1))
        async with await connect(stage) as mine:
            await journal.append_in(mine, stored)
            for _ in range(2):
                with pytest.raises(OutcomeUnknown):
                    await journal.settle(stored)
            await journal.append(batch(1, "b"))  # other machines go on meanwhile
            await (mine.commit() if commits else mine.rollback())
            assert await journal.settle(stored) is commits
        assert await seq_of(journal) == (not is_birth) + commits
        if not commits:
            await journal.append(stored)
        await journal.close()

    asyncio.run(scenario())
