"""What a machine does behind a web framework: the same on each, through real HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.integrations.web.served import SERVERS, Served
from tests.integrations.web.shop import Order

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    import httpx2

Serve = Any


@pytest.fixture(params=sorted(SERVERS))
def serve(request: pytest.FixtureRequest) -> Serve:
    return SERVERS[request.param]


def run(scenario: Callable[[Served], Coroutine[Any, Any, Any]], serve: Serve, **options: Any) -> None:
    """Run a scenario against a server; afterwards the server stops and nothing is left."""

    async def main() -> None:
        async with asyncio.timeout(40), serve(**options) as served:
            await scenario(served)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def is_problem(response: httpx2.Response, status: int, title: str) -> dict[str, Any]:
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    problem: dict[str, Any] = response.json()
    assert (problem["status"], problem["title"]) == (status, title)
    expected = "about:blank" if " " in title else f"urn:actorfsm:problem:{title}"
    assert problem["type"] == expected
    return problem


async def paid(
    client: httpx2.AsyncClient, machine_id: str, amount: str = "5.00", **headers: str
) -> httpx2.Response:
    return await client.post(f"/orders/{machine_id}/events/Pay", json={"amount": amount}, headers=headers)


# -- create, send, show -----------------------------------------------------------------------------------------------


def test_a_machine_is_created_shown_and_moved_by_its_events(serve: Serve) -> None:
    async def scenario(served: Served) -> None:
        client = served.client
        created = await client.put("/orders/o-1", json={"customer": "Ada", "card": "4242"})
        assert (created.status_code, created.headers["location"]) == (201, "/orders/o-1")
        assert created.json() == {
            "id": "o-1",
            "state": "CREATED",
            "data": {"customer": "Ada", "paid": "0"},
            "seq": 1,
            "incarnation": 0,
            "allowed": ["Pay", "Cancel", "Explode"],
        }
        reply = await paid(client, "o-1")
        assert (reply.status_code, reply.json()) == (200, {"number": "R-o-1", "amount": "5.00"})
        assert reply.headers["content-type"] == "application/json"
        shipped = await client.post("/orders/o-1/events/Ship", json={"carrier": "DHL"})
        assert (shipped.status_code, shipped.content) == (204, b"")
        shown = (await client.get("/orders/o-1")).json()
        assert (shown["state"], shown["allowed"], shown["data"]["paid"]) == ("SHIPPED", [], "5.00")
        assert served.system.snapshot("o-1").data["card"] == "4242"

    run(scenario, serve)


def test_an_event_that_gives_birth_needs_no_creation(serve: Serve) -> None:
    async def scenario(served: Served) -> None:
        placed = await served.client.post("/orders/o-2/events/Place", json={"customer": "Bo"})
        assert placed.status_code == 204
        assert served.system.snapshot("o-2").data["customer"] == "Bo"

    run(scenario, serve)


@pytest.mark.rule("C24")
def test_a_retried_idempotency_key_gets_the_same_answer_and_is_applied_once(serve: Serve) -> None:
    async def scenario(served: Served) -> None:
        client = served.client
        for _ in range(2):
            created = await client.put("/orders/o-1", headers={"Idempotency-Key": "c-1"})
            assert created.status_code == 201
        answers = [await paid(client, "o-1", **{"Idempotency-Key": key}) for key in ("k-1", "k-1", '"k-1"')]
        assert [answer.json()["number"] for answer in answers] == ["R-o-1"] * 3
        assert len(served.shop.charged) == 1
        problem = is_problem(
            await paid(client, "o-1", "6.00", **{"Idempotency-Key": "k-1"}), 422, "EventIdConflict"
        )
        assert "k-1" in problem["detail"]

    run(scenario, serve)


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_an_unknown_id_is_404_whatever_is_asked_of_it(serve: Serve) -> None:
    async def scenario(served: Served) -> None:
        client = served.client
        await client.put("/devices/d-1", json={"serial": 1})
        for machine_id in ("nobody", "d-1"):
            for answer in (
                await paid(client, machine_id),
                await client.get(f"/orders/{machine_id}"),
                await client.get(f"/orders/{machine_id}/history"),
                await client.get(f"/orders/{machine_id}/live"),
            ):
                assert is_problem(answer, 404, "NoSuchMachine")["machine_id"] == machine_id
        assert served.system.ids(Order) == []

    run(scenario, serve)


def test_what_is_refused_says_why_and_what_is_allowed_now(serve: Serve) -> None:
    async def scenario(served: Served) -> None:
        client = served.client
        await client.put("/orders/o-1")
        vetoed = is_problem(await paid(client, "o-1", "500"), 409, "Vetoed")
        assert (vetoed["by"], vetoed["reason"], vetoed["state"]) == ("charge", "card declined", "CREATED")
        assert (vetoed["allowed"], vetoed["outcome"]) == (["Pay", "Cancel", "Explode"], "not-applied")
        unhandled = is_problem(
            await client.post("/orders/o-1/events/Ship", json={"carrier": "x"}), 409, "Unhandled"
        )
        assert (unhandled["state"], unhandled["event"]) == ("CREATED", "Ship")
        guarded = is_problem(await client.post("/orders/o-1/events/Cancel", json={}), 409, "Unhandled")
        assert guarded["guards"] == ["is_paid"]
        is_problem(await client.put("/orders/o-1"), 409, "MachineExists")

    run(scenario, serve)


NOT_VALID = [
    ("PUT", "/orders/o-2", b'{"no": 1}'),
    ("PUT", "/orders/o-2", b'{"paid": "much"}'),
    ("PUT", "/orders/o-2", b"{"),
    ("PUT", "/devices/d-2", b""),
    ("PUT", "/devices/d-2", b"null"),
    ("PUT", "/orders/o%20x", b"{}"),
    ("PUT", "/orders/" + "x" * 201, b"{}"),
    ("POST", "/orders/o-1/events/Pay", b""),
    ("POST", "/orders/o-1/events/Pay", b"[]"),
    ("POST", "/orders/o-1/events/Pay", b"[" * 100_000),
    ("POST", "/orders/o-1/events/Pay", b"\xff"),
    ("POST", "/orders/o-1/events/Pay", b'{"amount": -1}'),
    ("POST", "/orders/o-1/events/Pay", b'{"amount": NaN}'),
    ("POST", "/orders/o-1/events/Pay", b'{"amount": "NaN"}'),
    ("POST", "/orders/o-1/events/Pay", b'{"amount": 1, "secret": 2}'),
    ("POST", "/orders/o-1/events/Ship", b'{"carrier": "\\ud800"}'),
    ("POST", "/orders/" + "x" * 201 + "/events/Pay", b'{"amount": 1}'),
    ("GET", "/orders/o%0Ax", b""),
    ("GET", "/orders/o-1/history?after=-1", b""),
    ("GET", "/orders/o-1/history?after=99999999999999999999", b""),
    ("GET", "/orders/o-1/history?limit=0", b""),
    ("GET", "/orders/o-1/history?limit=1001", b""),
    ("GET", "/orders/o-1/history?limit=x", b""),
]


def test_what_is_not_valid_is_422_and_repeats_no_value(serve: Serve) -> None:
    async def scenario(served: Served) -> None:
        await served.client.put("/orders/o-1")
        for method, path, body in NOT_VALID:
            answer = await served.client.request(
                method, path, content=body, headers={"content-type": "application/json"}
            )
            seen = (answer.status_code, answer.headers["content-type"])
            assert seen == (422, "application/problem+json"), (path, body[:40], answer.text)
            assert not any(word in answer.text for word in ("much", "secret"))
        assert served.system.ids() == ["o-1"]
        assert served.system.snapshot("o-1").seq == 1

    run(scenario, serve)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_long_is_413(serve: Serve, chunked: bool) -> None:
    async def parts() -> AsyncGenerator[bytes, None]:
        for _ in range(20):
            yield b" " * 20_000

    async def scenario(served: Served) -> None:
        await served.client.put("/orders/o-1")
        answer = await served.client.post(
            "/orders/o-1/events/Pay",
            content=parts() if chunked else b" " * 400_000,
            headers={"content-type": "application/json"},
        )
        is_problem(answer, 413, "Content Too Large")

    run(scenario, serve)
