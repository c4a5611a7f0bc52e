"""FastAPI and Starlette: lifespans, dependencies, OpenAPI."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from actorfsm import ActorSystem, DefinitionError, JournalUnusable, Ref
from actorfsm.integrations.fastapi import (
    PROBLEMS,
    ProblemRoute,
    SystemDep,
    lifespan,
    ref,
    router,
    system_with,
)
from actorfsm.integrations.starlette import system_of
from tests.integrations.web.shop import Device, Order, Pay, Receipt, Shop, Switch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

OrderRef = Annotated[Ref[Order], Depends(ref(Order, "order_id"))]


def orders() -> ActorSystem[Shop]:
    return ActorSystem(Order, services=Shop(), trace=None)


def devices() -> ActorSystem[Any]:
    return ActorSystem(Device, trace=None)


def app_of_ones_own() -> FastAPI:
    app = FastAPI(lifespan=lifespan(orders), exception_handlers=PROBLEMS)

    @app.post("/orders/{order_id}/pay")  # noqa: FAST003 -- the dependency takes it
    async def pay(event: Pay, order: OrderRef) -> Receipt:
        return await order.ask(event)

    @app.post("/orders/{order_id}")
    async def create(order_id: str, system: SystemDep) -> str:
        return (await system.spawn(Order, order_id)).id

    return app


def test_an_endpoint_of_ones_own_takes_a_ref_from_its_path_and_the_event_as_its_body() -> None:
    with TestClient(app_of_ones_own()) as client:
        assert client.post("/orders/o-1").json() == "o-1"
        assert client.post("/orders/o-1/pay", json={"amount": 5}).json() == {"number": "R-o-1", "amount": "5"}
        refused = client.post("/orders/o-1/pay", json={"amount": 5})
        assert (refused.status_code, refused.headers["content-type"]) == (409, "application/problem+json")
        assert client.post("/orders/o-9/pay", json={"amount": 5}).status_code == 404
        assert client.post("/orders/o%20/pay", json={"amount": 5}).status_code == 422
        operation = client.get("/openapi.json").json()["paths"]["/orders/{order_id}/pay"]["post"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["order_id"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    reply = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert (body["$ref"], reply["$ref"]) == ("#/components/schemas/Pay", "#/components/schemas/Receipt")


def test_an_application_starts_again_with_a_new_system() -> None:
    app = app_of_ones_own()
    for _ in range(2):
        with TestClient(app) as client:
            assert client.post("/orders/o-1").status_code == 200


def test_the_applications_own_lifespan_begins_before_the_system_and_ends_after_it() -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def mine(app: FastAPI) -> AsyncGenerator[dict[str, Any], None]:
        steps.append("mine begins")
        yield {"pool": "a pool"}
        steps.append(f"mine ends, the system has {'stopped' if made[0].report else 'not stopped'}")

    made: list[ActorSystem[Any]] = []

    def make() -> ActorSystem[Any]:
        steps.append("the system begins")
        made.append(orders())
        return made[0]

    app = FastAPI(lifespan=lifespan(make, inner=mine))

    @app.get("/state")
    async def state(request: Request) -> list[str]:
        return [request.state.pool, type(request.state.actorfsm).__name__]

    with TestClient(app) as client:
        assert client.get("/state").json() == ["a pool", "ActorSystem"]
    assert steps == ["mine begins", "the system begins", "mine ends, the system has stopped"]


def test_several_systems_are_told_apart_by_their_machine_classes() -> None:
    app = FastAPI(
        lifespan=lifespan(orders, inner=lifespan(devices, name="devices")), exception_handlers=PROBLEMS
    )
    app.include_router(router(Order), prefix="/orders")
    app.include_router(router(Device), prefix="/devices")

    @app.get("/ids")
    async def ids(system: Annotated[ActorSystem[Any], Depends(system_with(Device))]) -> list[str]:
        return system.ids()

    @app.get("/which")
    async def which(system: SystemDep) -> None: ...

    with TestClient(app) as client:
        assert client.put("/orders/o-1").status_code == 201
        assert client.put("/devices/d-1", json={"serial": 1}).status_code == 201
        assert client.get("/ids").json() == ["d-1"]
        assert client.get("/which").json()["title"] == "DefinitionError"


def test_two_systems_of_one_name_do_not_start() -> None:
    app = FastAPI(lifespan=lifespan(orders, inner=lifespan(devices)))
    with pytest.raises(DefinitionError, match="name="), TestClient(app):
        pass


def test_a_system_that_does_not_start_ends_the_start_of_the_application(tmp_path: Any) -> None:
    app = FastAPI(lifespan=lifespan(lambda: ActorSystem(Device, journal=tmp_path, trace=None)))
    with pytest.raises(JournalUnusable), TestClient(app):
        pass


def test_an_application_whose_lifespan_does_not_run_says_so() -> None:
    with pytest.raises(DefinitionError, match="let it run"):
        TestClient(FastAPI(routes=app_of_ones_own().routes)).post("/orders/o-1")


def test_an_application_of_starlette_finds_its_system() -> None:
    async def switch(request: Any) -> JSONResponse:
        system = system_of(request, Device)
        device = await system.get_or_spawn(Device, request.path_params["id"], data={"serial": 1})
        await device.ask(Switch())
        return JSONResponse(device.snapshot().state.name)

    async def wrong(request: Any) -> JSONResponse:
        await system_of(request).ask("nobody", Switch())
        raise AssertionError

    app = Starlette(
        routes=[Route("/{id}", switch), Route("/wrong/x", wrong)],
        lifespan=lifespan(devices),
        exception_handlers=PROBLEMS,
    )
    with TestClient(app) as client:
        assert client.get("/d-1").json() == "ON"
        assert client.get("/wrong/x").json()["title"] == "NoSuchMachine"


def test_a_router_takes_options_and_leaves_the_applications_own_refusals_alone() -> None:
    def who(request: Request) -> None:
        if "authorization" not in request.headers:
            raise HTTPException(401, "who are you", {"www-authenticate": "Basic"})

    app = FastAPI(lifespan=lifespan(orders))
    app.include_router(
        router(Order, events=[Pay], prefix="/shop", tags=["shop"], dependencies=[Depends(who)], timeout=5)
    )
    with TestClient(app) as client:
        refused = client.put("/shop/o-1")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Basic")
        assert client.put("/shop/o-1", headers={"authorization": "x"}).json()["allowed"] == ["Pay"]
        assert client.post("/shop/o-1/events/Ship", json={"carrier": "x"}).status_code == 404
        paths = client.get("/openapi.json").json()["paths"]
    assert sorted(paths) == ["/shop/{id}", "/shop/{id}/events/Pay", "/shop/{id}/history", "/shop/{id}/live"]
    assert paths["/shop/{id}"]["get"]["tags"] == ["shop"]


def test_a_route_of_ones_own_may_refuse_as_the_router_does() -> None:
    mine = APIRouter(route_class=ProblemRoute)

    @mine.get("/count")
    async def count(number: int) -> int:
        return number

    app = FastAPI()
    app.include_router(mine)
    answer = TestClient(app).get("/count?number=secret")
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert "secret" not in answer.text


def test_openapi_has_the_events_as_bodies_and_the_replies_as_responses() -> None:
    app = FastAPI()
    app.include_router(router(Order), prefix="/orders")
    document = app.openapi()
    pay = document["paths"]["/orders/{id}/events/Pay"]["post"]
    assert pay["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/Pay")
    assert pay["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/Receipt")
    assert pay["description"] == "Pay for the order."
    assert "content" not in document["paths"]["/orders/{id}/events/Ship"]["post"]["responses"]["204"]
    for operations in document["paths"].values():
        for operation in operations.values():
            problems = {status for status in operation["responses"] if int(status) >= 400}
            assert problems == {"400", "404", "409", "413", "422", "429", "500", "503", "504", "507"}
            for status in problems:
                assert list(operation["responses"][status]["content"]) == ["application/problem+json"]
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_a_system_that_fails_is_503_from_then_on() -> None:
    made: list[ActorSystem[Any]] = []

    def make() -> ActorSystem[Any]:
        made.append(devices())
        return made[0]

    app = FastAPI(lifespan=lifespan(make), exception_handlers=PROBLEMS)
    app.include_router(router(Device), prefix="/devices")

    async def fail() -> None:
        made[0]._parts.fail(RuntimeError("gone"), "the root gave up")

    with pytest.raises(BaseException, match="the root gave up"), TestClient(app) as client:  # noqa: PT012
        assert client.put("/devices/d-1", json={"serial": 1}).status_code == 201
        assert client.portal is not None
        client.portal.call(fail)
        answer = client.post("/devices/d-1/events/Switch", json={})
        assert (answer.status_code, answer.json()["title"]) == (503, "SystemFailed")


def test_no_thread_is_needed_for_a_request() -> None:
    app = app_of_ones_own()
    app.include_router(router(Order), prefix="/orders")

    @app.get("/threads")
    async def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if "AnyIO worker" in thread.name]

    with TestClient(app) as client:
        assert client.put("/orders/o-1").status_code == 201
        assert client.post("/orders/o-1/pay", json={"amount": 5}).status_code == 200
        assert client.get("/threads").json() == []


def test_nothing_is_left_of_a_stopped_application() -> None:
    assert asyncio.run(_tasks_after()) == 1


async def _tasks_after() -> int:
    app = app_of_ones_own()
    async with app.router.lifespan_context(app):
        pass
    return len(asyncio.all_tasks())
