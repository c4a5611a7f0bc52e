"""aiohttp: cleanup contexts, keys, sub-applications."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from actorfsm import ActorSystem, DefinitionError, JournalUnusable
from actorfsm.integrations.aiohttp import SYSTEM, ref_of, routes, setup, system_of
from tests.integrations.web.shop import Device, Order, Pay, Shop, Switch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

DEVICES: web.AppKey[ActorSystem[Any]] = web.AppKey("devices", ActorSystem)


def orders() -> ActorSystem[Shop]:
    return ActorSystem(Order, services=Shop(), trace=None)


def devices() -> ActorSystem[Any]:
    return ActorSystem(Device, trace=None)


def run(app: web.Application, scenario: Callable[[ClientSession], Coroutine[Any, Any, Any]]) -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(20),
            TestServer(app) as server,
            ClientSession(server.make_url("")) as client,
        ):
            await scenario(client)

    asyncio.run(main())


async def pay(request: web.Request) -> web.Response:
    event = Pay.from_json(await request.read())
    receipt = await ref_of(request, Order, "order_id").ask(event)
    return web.json_response(text=receipt.model_dump_json())


def test_a_handler_of_ones_own_takes_a_ref_from_its_path_and_may_raise_what_the_package_raises() -> None:
    app = web.Application()
    setup(app, orders)
    app.router.add_post("/orders/{order_id}/pay", pay)

    async def scenario(client: ClientSession) -> None:
        await app[SYSTEM].spawn(Order, "o-1")
        async with client.post("/orders/o-1/pay", json={"amount": 5}) as answer:
            assert (await answer.json())["number"] == "R-o-1"
        for path, body, status in [
            ("/orders/o-1/pay", {"amount": 5}, 409),
            ("/orders/o-9/pay", {"amount": 5}, 404),
            ("/orders/o%20/pay", {"amount": 5}, 422),
            ("/orders/o-1/pay", {"amount": -5}, 422),
        ]:
            async with client.post(path, json=body) as answer:
                assert (answer.status, answer.content_type) == (status, "application/problem+json")
        async with client.post("/nowhere") as answer:
            assert answer.status == 404

    run(app, scenario)


def test_the_system_begins_after_what_stands_before_it_and_ends_before_that_does() -> None:
    steps: list[str] = []
    app = web.Application()

    async def mine(app: web.Application) -> AsyncGenerator[None, None]:
        steps.append("mine begins")
        yield
        steps.append(f"mine ends, the system has {'stopped' if app[SYSTEM].report else 'not stopped'}")

    def make() -> ActorSystem[Any]:
        steps.append("the system begins")
        return devices()

    app.cleanup_ctx.append(mine)
    setup(app, make)

    async def scenario(client: ClientSession) -> None:
        steps.append("served")

    run(app, scenario)
    assert steps == ["mine begins", "the system begins", "served", "mine ends, the system has stopped"]


def test_several_systems_have_keys_of_their_own_and_are_told_apart_by_their_machine_classes() -> None:
    app = web.Application()
    setup(app, orders)
    setup(app, devices, key=DEVICES)
    with pytest.raises(DefinitionError, match="key="):
        setup(app, devices, key=DEVICES)
    app.add_routes([*routes(Order, "/orders"), *routes(Device, "/devices", events=[Switch], timeout=5)])

    async def which(request: web.Request) -> web.Response:
        return web.Response(text=repr(system_of(request)))

    app.router.add_get("/which", which)

    async def scenario(client: ClientSession) -> None:
        async with client.put("/orders/o-1") as answer:
            assert answer.status == 201
        async with client.put("/devices/d-1", json={"serial": 1}) as answer:
            assert answer.status == 201
        assert (app[SYSTEM].ids(), app[DEVICES].ids()) == (["o-1"], ["d-1"])
        async with client.get("/which") as answer:
            assert (await answer.json(content_type=None))["title"] == "DefinitionError"
        assert len(app.middlewares) == 1

    run(app, scenario)


def test_a_part_of_an_application_finds_the_system_of_the_whole() -> None:
    app, part = web.Application(), web.Application()
    setup(app, orders)
    part.add_routes(routes(Order, "/orders"))
    app.add_subapp("/api", part)

    async def scenario(client: ClientSession) -> None:
        async with client.put("/api/orders/o-1") as answer:
            assert (answer.status, answer.headers["location"]) == (201, "/api/orders/o-1")
        async with client.put("/api/orders/o-1") as answer:
            assert (answer.status, answer.content_type) == (409, "application/problem+json")

    run(app, scenario)


def test_a_system_that_does_not_start_ends_the_start_of_the_application(tmp_path: Any) -> None:
    app = web.Application()
    setup(app, lambda: ActorSystem(Device, journal=tmp_path, trace=None))

    async def scenario(client: ClientSession) -> None:
        raise AssertionError

    with pytest.raises(JournalUnusable):
        run(app, scenario)


def test_an_application_without_a_system_says_so(caplog: pytest.LogCaptureFixture) -> None:
    app = web.Application()
    app.add_routes(routes(Device, "/devices"))

    async def scenario(client: ClientSession) -> None:
        async with client.get("/devices/d-1") as answer:
            assert answer.status == 500

    run(app, scenario)
    assert "call setup(app, ...)" in caplog.text
