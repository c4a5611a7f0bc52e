"""A transaction of a turn when something breaks: rows and state never differ."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import text

from actorfsm import (
    Fenced,
    SystemFailed,
)
from actorfsm.journal.postgresql.journal import PostgreSQLJournal
from tests.integrations.shop_database import PLACES, Shop, shop
from tests.integrations.shop_rows import (
    MOMENTS,
    Box,
    Counter,
    Look,
    Order,
    Pay,
    Receipt,
)
from tests.journal.proxy import Cut, Proxy
from tests.postgresql_server import Server

__all__ = ["shop"]

LIVES = int(os.environ.get("ACTORFSM_LIVES", "3"))
"""How often the process is killed at a moment of no choice."""


@pytest.fixture
def proxy(postgresql_server: Server) -> Iterator[Proxy]:
    with closing(Proxy(postgresql_server.port)) as proxy:
        yield proxy


# -- one owner, and what nobody knows ---------------------------------------------------------------------------------


@pytest.mark.rule("C26")
def test_who_was_taken_over_during_a_turn_stores_neither_rows_nor_entry(shop: Shop) -> None:
    other = PostgreSQLJournal(shop.server.url(), schema=shop.schema, take_over=True)

    async def lose(_machine: Any, _session: Any) -> None:
        await other.open()

    async def lives() -> None:
        async with shop.system() as system:
            order = await system.spawn(Order, "order-1")
            shop.services.do["enter"] = lose
            with pytest.raises(Fenced):
                await order.ask(Pay())
            await asyncio.Event().wait()

    async def scenario() -> None:
        async with shop.opened():
            with pytest.raises(SystemFailed, match="taken the machines over"):
                await lives()
            assert (shop.rows(), shop.stored_state()) == ([], ["CREATED 1"])
            await other.close()

    asyncio.run(scenario())


@pytest.mark.rule("C25")
@pytest.mark.parametrize("cut", ["before", "after", "late"])
def test_a_connection_that_is_cut_during_the_commit_leaves_rows_and_state_in_step(
    cut: Cut, postgresql_server: Server, proxy: Proxy
) -> None:
    """What gets there late is waited for, or comes to nothing: the next event does not overtake it."""
    shop = Shop(postgresql_server, proxy.port)

    async def scenario() -> None:
        async with shop.opened(), shop.system() as system:
            await system.spawn(Box, "evidence")
            order = await system.spawn(Order, "order-1")
            proxy.cut_at(b"COMMIT", cut)
            telling = order.tell(Pay(), event_id="payment-1")
            asked = asyncio.create_task(order.ask(Look(), timeout=30))
            if cut == "late":
                await asyncio.sleep(0.3)
                assert not asked.done(), "while it is not known the machine takes no event"
                await asyncio.to_thread(proxy.deliver)
            outcome = await telling.outcome()
            paid = 0 if cut == "before" else 1
            assert await asked == Receipt(number=paid)
            assert proxy.cuts == 1
            assert outcome.kind == ("failed" if cut == "before" else "committed")
            assert shop.rows() == (list(PLACES) if paid else [])
            assert await order.ask(Pay(), event_id="payment-1") == Receipt(number=1)
            assert shop.rows() == list(PLACES)

    asyncio.run(scenario())


@pytest.mark.rule("C25")
@pytest.mark.parametrize("moment", ["in a hook", "at the commit"])
def test_a_backend_that_the_server_ends_takes_rows_and_state_with_it(moment: str, shop: Shop) -> None:
    pids: list[int] = []

    async def note_backend(_machine: Any, session: Any) -> None:
        pids.append((await session.execute(text("SELECT pg_backend_pid()"))).scalar_one())
        if moment == "in a hook":
            shop.server.do("SELECT pg_terminate_backend(%s, 5000)", pids[0])

    append_in = PostgreSQLJournal.append_in

    class Ended(PostgreSQLJournal):
        async def append_in(self, connection: Any, batch: Any, /) -> None:
            await append_in(self, connection, batch)
            shop.server.do("SELECT pg_terminate_backend(%s, 5000)", pids[0])

    async def scenario() -> None:
        kind = Ended if moment == "at the commit" else PostgreSQLJournal
        journal = kind(shop.server.url(), schema=shop.schema)
        async with shop.opened(), shop.system(journal=journal) as system:
            await system.spawn(Box, "evidence")
            order = await system.spawn(Order, "order-1")
            shop.services.do["exit"] = note_backend
            told = order.tell(Pay(), event_id="payment-1")
            assert (await told.outcome()).kind == "failed"
            assert (shop.rows(), shop.stored_state()) == ([], ["CREATED 1"])
            journal.append_in = append_in.__get__(journal)  # type: ignore[method-assign]
            shop.services.do.clear()
            assert await order.ask(Pay(), event_id="payment-1") == Receipt(number=1)
            assert shop.rows() == list(PLACES)

    asyncio.run(scenario())


@pytest.mark.rule("C19")
def test_a_system_that_is_stopped_during_a_commit_waits_for_it(shop: Shop) -> None:
    waiting = asyncio.Event()

    class Slow(PostgreSQLJournal):
        async def append_in(self, connection: Any, batch: Any, /) -> None:
            waiting.set()
            await asyncio.sleep(0.2)
            await super().append_in(connection, batch)

    async def scenario() -> None:
        async with shop.opened():
            async with shop.system(journal=Slow(shop.server.url(), schema=shop.schema)) as system:
                await system.spawn(Box, "evidence")
                order = await system.spawn(Order, "order-1")
                asked = asyncio.create_task(order.ask(Pay()))
                await waiting.wait()
                report = await system.shutdown(queues="abandon")
            assert await asked == Receipt(number=1)
            assert report.unstopped == ()
            assert shop.rows() == list(PLACES)
            assert shop.stored_state()[0].startswith("PAID")

    asyncio.run(scenario())


def test_a_caller_that_is_cancelled_during_the_commit_changes_nothing(shop: Shop) -> None:
    waiting = asyncio.Event()

    class Slow(PostgreSQLJournal):
        async def append_in(self, connection: Any, batch: Any, /) -> None:
            waiting.set()
            await asyncio.sleep(0.1)
            await super().append_in(connection, batch)

    async def scenario() -> None:
        async with (
            shop.opened(),
            shop.system(journal=Slow(shop.server.url(), schema=shop.schema)) as system,
        ):
            await system.spawn(Box, "evidence")
            order = await system.spawn(Order, "order-1")
            asked = asyncio.create_task(order.ask(Pay()))
            await waiting.wait()
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            assert await order.ask(Look()) == Receipt(number=1)
            assert shop.rows() == list(PLACES)

    asyncio.run(scenario())


# -- the process is killed --------------------------------------------------------------------------------------------


def lived(shop: Shop, moment: str, waits: float) -> None:
    """Let a process handle events, and kill it."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.integrations.shop_rows", shop.server.url(), shop.schema, moment],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        if moment in MOMENTS:
            assert child.stdout.readline() == "now\n"
        else:
            time.sleep(waits)
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()


async def steps_agree(shop: Shop) -> int:
    """Check that each machine has as many steps as rows, without a gap; return how many all have."""
    steps = 0
    async with shop.system(Counter) as system:
        for number in range(4):
            name = f"counter-{number}"
            await system.load(name)
            rows = shop.server.do("SELECT number FROM shop_rows WHERE machine_id = %s ORDER BY id", name)
            counted = system.snapshot(name).data["steps"]
            assert [row[0] for row in rows] == list(range(1, counted + 1)), name
            steps += counted
    return steps


@pytest.mark.rule("C23")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_process_that_is_killed_at_any_moment_of_the_commit_leaves_rows_and_state_in_step(
    moment: str, shop: Shop
) -> None:
    async def scenario() -> None:
        async with shop.opened():
            await asyncio.to_thread(lived, shop, moment, 0)
            steps = await steps_agree(shop)
            assert steps >= (3 if moment == "after COMMIT" else 0)

    asyncio.run(scenario())


@pytest.mark.slow
@pytest.mark.many
@pytest.mark.rule("C23")
def test_a_process_that_is_killed_again_and_again_leaves_rows_and_state_in_step(shop: Shop) -> None:
    moments = Random(7)

    async def scenario() -> None:
        async with shop.opened():
            before = 0
            for _ in range(LIVES):
                await asyncio.to_thread(lived, shop, "", moments.uniform(0.0, 0.4))
                steps = await steps_agree(shop)
                assert steps >= before
                before = steps
            assert before > LIVES

    asyncio.run(scenario())
