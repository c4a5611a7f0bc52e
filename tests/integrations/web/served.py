"""The same machines behind both frameworks, on real sockets: what the tests of behaviour are parametrised by."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import httpx2
import uvicorn
from aiohttp import web
from fastapi import FastAPI

from actorfsm.integrations import aiohttp as on_aiohttp, fastapi as on_fastapi
from tests.integrations.web.shop import Device, Order, Shop, system_for

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from actorfsm import ActorSystem

__all__ = ["SERVERS", "Served", "fastapi_app", "listening_socket", "until", "with_aiohttp", "with_fastapi"]

HEARTBEAT_S = 0.05


class Served:
    """A running server.

    Attributes:
        client: Speaks to it.
        system: The system behind it.
        shop: Its services.
        stop: Ask the server to stop, as a signal would.
    """

    def __init__(
        self, client: httpx2.AsyncClient, system: ActorSystem[Any], shop: Shop, stop: Callable[[], None]
    ) -> None:
        self.client = client
        self.system = system
        self.shop = shop
        self.stop = stop
        self.stopped = asyncio.Event()


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so; a server in the same process has its turn meanwhile."""
    while not condition():  # noqa: ASYNC110 -- what others do is told in no other way
        await asyncio.sleep(0.001)


def fastapi_app(make: Callable[[], ActorSystem[Any]]) -> FastAPI:
    app = FastAPI(lifespan=on_fastapi.lifespan(make), exception_handlers=on_fastapi.PROBLEMS)
    app.include_router(_router(Order), prefix="/orders")
    app.include_router(_router(Device), prefix="/devices")
    return app


@cache
def _router(machine_class: Any) -> Any:
    """A router is made once: it is what takes FastAPI long."""
    return on_fastapi.router(machine_class, heartbeat_s=HEARTBEAT_S)


def aiohttp_app(make: Callable[[], ActorSystem[Any]]) -> web.Application:
    app = web.Application()
    on_aiohttp.setup(app, make)
    app.add_routes(on_aiohttp.routes(Order, "/orders", heartbeat_s=HEARTBEAT_S))
    app.add_routes(on_aiohttp.routes(Device, "/devices", heartbeat_s=HEARTBEAT_S))
    return app


def listening_socket() -> socket.socket:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    return listening


@asynccontextmanager
async def with_fastapi(
    journal: str | None = None, shop: Shop | None = None, **limits: Any
) -> AsyncGenerator[Served, None]:
    shop = shop or Shop()
    made: list[ActorSystem[Any]] = []

    def make() -> ActorSystem[Any]:
        made.append(system_for(shop, journal, **limits))
        return made[0]

    server = uvicorn.Server(uvicorn.Config(fastapi_app(make), log_level="error", lifespan="on"))
    with listening_socket() as listening:
        running = asyncio.ensure_future(server.serve([listening]))
        await until(lambda: server.started)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"

        def stop() -> None:
            server.should_exit = True

        async with httpx2.AsyncClient(base_url=url, timeout=30, verify=False, trust_env=False) as client:
            served = Served(client, made[0], shop, stop)
            running.add_done_callback(lambda _: served.stopped.set())
            try:
                yield served
            finally:
                stop()
        await running


@asynccontextmanager
async def with_aiohttp(
    journal: str | None = None, shop: Shop | None = None, **limits: Any
) -> AsyncGenerator[Served, None]:
    shop = shop or Shop()
    app = aiohttp_app(lambda: system_for(shop, journal, **limits))
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=20)
    await runner.setup()
    ending: list[asyncio.Future[Any]] = []
    with listening_socket() as listening:
        await web.SockSite(runner, listening).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"

        def stop() -> None:
            if not ending:
                ending.append(asyncio.ensure_future(runner.cleanup()))
                ending[0].add_done_callback(lambda _: served.stopped.set())

        async with httpx2.AsyncClient(base_url=url, timeout=30, verify=False, trust_env=False) as client:
            served = Served(client, app[on_aiohttp.SYSTEM], shop, stop)
            try:
                yield served
            finally:
                stop()
        await ending[0]


SERVERS = {"fastapi": with_fastapi, "aiohttp": with_aiohttp}
