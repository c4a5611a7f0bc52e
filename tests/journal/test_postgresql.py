"""The journal on a PostgreSQL server keeps the laws of every journal, on its thread and on the simulated loop."""

from __future__ import annotations

import asyncio

import pytest

from actorfsm.testing.journal_laws import FAULT_LAWS, LAWS, Law
from actorfsm.testing.loop import simulate
from tests.journal.stages import PostgreSQLStage
from tests.postgresql_server import Server

by_name = {"ids": lambda law: law.__name__}


@pytest.mark.parametrize("law", LAWS, **by_name)
def test_the_journal_on_a_server_keeps_the_law_on_its_thread(law: Law, postgresql_server: Server) -> None:
    asyncio.run(law(PostgreSQLStage(postgresql_server)))


@pytest.mark.parametrize("law", LAWS, **by_name)
def test_the_journal_on_a_server_keeps_the_law_on_the_simulated_loop(
    law: Law, postgresql_server: Server
) -> None:
    simulate(lambda: law(PostgreSQLStage(postgresql_server, durability="process")))


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("law", FAULT_LAWS, **by_name)
def test_the_journal_on_a_server_keeps_the_law_when_it_fails(
    law: Law, late: bool, postgresql_server: Server
) -> None:
    simulate(lambda: law(PostgreSQLStage(postgresql_server, late=late)))
