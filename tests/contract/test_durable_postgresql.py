"""C23 to C26 over PostgreSQL, in processes of their own: killed, and stopped while another one takes over."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from actorfsm.journal.postgresql.journal import PostgreSQLJournal
from tests.contract.test_durable_kill import check, run_until_killed
from tests.postgresql_server import Server

ROOT = Path(__file__).parents[2]


@pytest.mark.many
@pytest.mark.rule("C23")
@pytest.mark.rule("C24")
def test_a_killed_process_has_lost_nothing_that_it_answered_and_does_nothing_twice(
    postgresql_server: Server,
) -> None:
    url = postgresql_server.url(more=f"?schema={postgresql_server.new_schema()}")
    answered: list[tuple[str, int, int]] = []
    for life in range(2):
        answered += run_until_killed(url, 1_000 * life, 40 + 17 * life)
    asyncio.run(check(url, answered))


@pytest.mark.rule("C26")
@pytest.mark.timeout(120)
def test_an_owner_that_was_stopped_while_another_one_took_over_wakes_up_fenced(
    postgresql_server: Server,
) -> None:
    """It is in the middle of its work when it is stopped, and goes on with it when it wakes."""
    schema = postgresql_server.new_schema()
    url = postgresql_server.url(more=f"?schema={schema}")
    old = subprocess.Popen(
        [sys.executable, "-m", "tests.contract.till", url, "0"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert old.stdout is not None
    answered = [old.stdout.readline().split() for _ in range(60)]
    old.send_signal(signal.SIGSTOP)

    async def take_over() -> None:
        journal = PostgreSQLJournal(url, take_over=True)
        await journal.open()
        before = await journal.machines()
        old.send_signal(signal.SIGCONT)
        said, complaint = await asyncio.to_thread(old.communicate, timeout=30)
        assert old.returncode == 1
        assert "taken the machines over" in complaint
        assert await journal.machines() == before, "not one entry after that"
        answered.extend(line.split() for line in said.splitlines())
        await journal.close()

    try:
        asyncio.run(take_over())
    finally:
        old.kill()
        old.communicate()
    assert postgresql_server.do(f"SELECT epoch FROM {schema}.owners") == [(2,)]  # noqa: S608 -- ours
    # Each payment is there once, at its place; what the old owner was answered, too.
    asyncio.run(check(url, [(till, int(number), int(reply)) for till, number, reply in answered]))
