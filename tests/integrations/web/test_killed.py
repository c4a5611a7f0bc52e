"""A server under load is stopped or killed: what its clients were told is there when it comes back."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest

from tests.integrations.web.served import SERVERS, until

if TYPE_CHECKING:
    from asyncio.subprocess import Process

ROOT: Final = Path(__file__).parents[3]
CLIENTS: Final = 8
pytestmark = [
    pytest.mark.timeout(120),  # seconds of a busy computer
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="SIGKILL is of POSIX"),
]


@dataclass
class Told:
    """What the clients know.

    Attributes:
        created: Orders of which the creation was acknowledged.
        paid: Replies to payments, by order.
        unknown: Orders of which a request was not answered.
        refused: How many requests were answered by a refusal, which counts as not done.
    """

    created: set[str] = field(default_factory=set)
    paid: dict[str, Any] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    refused: int = 0


async def pay(client: httpx2.AsyncClient, order: str) -> httpx2.Response:
    return await client.post(
        f"/orders/{order}/events/Pay", json={"amount": "5"}, headers={"Idempotency-Key": f"pay-{order}"}
    )


async def create(client: httpx2.AsyncClient, order: str) -> httpx2.Response:
    return await client.put(f"/orders/{order}", headers={"Idempotency-Key": f"create-{order}"})


async def buy(client: httpx2.AsyncClient, name: int, told: Told) -> None:
    """Create and pay orders until the server is gone."""
    number = 0
    while True:
        order = f"o-{name}-{number}"
        number += 1
        try:
            answer = await create(client, order)
            if answer.status_code != 201:
                told.refused += 1
                continue
            told.created.add(order)
            answer = await pay(client, order)
            if answer.status_code == 200:
                told.paid[order] = answer.json()
            else:
                told.refused += 1
        except httpx2.TransportError:
            told.unknown.add(order)
            return


def a_free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


async def started(framework: str, port: int, journal: str) -> Process:
    module = "tests.integrations.web.killed"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, framework, str(port), journal, cwd=ROOT
    )
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                assert process.returncode is None
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return process


async def under_load(framework: str, journal: str, number: int, seed: int) -> tuple[Told, int]:
    """Send a signal to a server that is at work; return what its clients were told, and its exit status."""
    told, port = Told(), a_free_port()
    process = await started(framework, port, journal)
    try:
        url = f"http://127.0.0.1:{port}"
        async with httpx2.AsyncClient(base_url=url, timeout=60, verify=False, trust_env=False) as client:
            buying = [asyncio.ensure_future(buy(client, name, told)) for name in range(CLIENTS)]
            enough = Random(seed).randrange(30, 60)
            await until(lambda: len(told.paid) >= enough)
            process.send_signal(number)
            await asyncio.gather(*buying)
        async with asyncio.timeout(60):
            return told, await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def all_is_there(framework: str, journal: str, told: Told) -> None:
    """Start again, and compare with what the clients know; then they try once more, with the same keys."""
    async with SERVERS[framework](journal=journal) as served:
        client = served.client
        for order in told.created:
            assert (await client.get(f"/orders/{order}")).status_code == 200
        for order, reply in told.paid.items():
            answer = await pay(client, order)
            assert (answer.status_code, answer.json()) == (200, reply)
        assert served.shop.charged == []  # all of them were answered from the record
        for order in told.unknown:
            assert (await create(client, order)).status_code == 201
            assert (await pay(client, order)).status_code == 200
        for order in [*told.paid, *told.unknown]:
            shown = (await client.get(f"/orders/{order}")).json()
            assert (shown["state"], shown["data"]["paid"], shown["seq"]) == ("PAID", "5", 2)
            history = (await client.get(f"/orders/{order}/history")).json()["entries"]
            assert [entry["event_id"] for entry in history] == [f"create-{order}", f"pay-{order}"]


@pytest.mark.rule("C19", "C23", "C24")
@pytest.mark.parametrize("framework", sorted(SERVERS))
def test_what_was_acknowledged_by_a_server_that_is_stopped_is_there_afterwards(
    framework: str, journal: str
) -> None:
    async def scenario() -> None:
        told, status = await under_load(framework, journal, signal.SIGTERM, seed=1)
        assert status in {0, -signal.SIGTERM}
        await all_is_there(framework, journal, told)

    asyncio.run(scenario())


@pytest.mark.rule("C23", "C24")
@pytest.mark.parametrize("framework", sorted(SERVERS))
def test_what_was_acknowledged_by_a_server_that_is_killed_is_there_afterwards(
    framework: str, journal: str
) -> None:
    async def scenario() -> None:
        told, status = await under_load(framework, journal, signal.SIGKILL, seed=2)
        assert status == -signal.SIGKILL
        assert told.unknown
        await all_is_there(framework, journal, told)

    asyncio.run(scenario())
