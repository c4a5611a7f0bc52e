"""What a machine does behind a web framework: the same on each, through real HTTP."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from actorfsm.integrations.live import Streams
from tests.integrations.web.served import SERVERS, Served, until
from tests.integrations.web.shop import Order, OrderState

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine
    from pathlib import Path

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


def test_a_machine_is_created_shown_and_moved_by_its_events(serve: Serve, kept: dict[str, Any]) -> None:
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

    run(scenario, serve, **kept)


def test_an_event_that_gives_birth_needs_no_creation(serve: Serve, kept: dict[str, Any]) -> None:
    async def scenario(served: Served) -> None:
        placed = await served.client.post("/orders/o-2/events/Place", json={"customer": "Bo"})
        assert placed.status_code == 204
        assert served.system.snapshot("o-2").data["customer"] == "Bo"

    run(scenario, serve, **kept)


@pytest.mark.rule("C24")
def test_a_retried_idempotency_key_gets_the_same_answer_and_is_applied_once(
    serve: Serve, kept: dict[str, Any]
) -> None:
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

    run(scenario, serve, **kept)


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_an_unknown_id_is_404_whatever_is_asked_of_it(serve: Serve, kept: dict[str, Any]) -> None:
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

    run(scenario, serve, **kept)


def test_what_is_refused_says_why_and_what_is_allowed_now(serve: Serve, kept: dict[str, Any]) -> None:
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

    run(scenario, serve, **kept)


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


def test_headers_that_are_not_valid_are_422_and_nothing_is_sent(serve: Serve) -> None:
    async def scenario(served: Served) -> None:
        await served.client.put("/orders/o-1")
        for name, value in [
            ("Idempotency-Key", ""),
            ("Idempotency-Key", "k" * 201),
            ("Idempotency-Key", "\x80"),
            ("X-Request-ID", "x" * 201),
            ("X-Correlation-ID", "x" * 201),
            ("traceparent", "00-abc"),
            ("traceparent", f"00-{'0' * 32}-{'1' * 16}-01"),
        ]:
            answer = await served.client.post(
                "/orders/o-1/events/Pay",
                json={"amount": 1},
                headers=[(name.encode(), value.encode("latin-1"))],
            )
            is_problem(answer, 422, "InvalidEvent")
        assert served.system.snapshot("o-1").seq == 1

    run(scenario, serve)


def test_the_event_carries_the_trace_and_the_ids_of_its_request(serve: Serve) -> None:
    async def scenario(served: Served) -> None:
        await served.client.put("/orders/o-1")
        records: list[Any] = []
        end = served.system.listen(records.append)
        trace = f"00-{'a' * 32}-{'b' * 16}-01"
        await paid(
            served.client,
            "o-1",
            **{"traceparent": trace, "tracestate": "x=1", "X-Request-ID": "req-1", "Idempotency-Key": "k-1"},
        )
        end()
        end()
        await served.client.post("/orders/o-1/events/Ship", json={"carrier": "x"})
        assert [(r.event_id, r.traceparent, r.correlation_id) for r in records] == [("k-1", trace, "req-1")]

    run(scenario, serve)


def test_a_full_mailbox_is_429_and_a_deadline_504_which_say_whether_it_may_still_be_done(
    serve: Serve,
) -> None:
    async def scenario(served: Served) -> None:
        client, gate = served.client, asyncio.Event()
        served.shop.gate = gate
        await client.put("/orders/o-1")
        asks = [asyncio.ensure_future(paid(client, "o-1"))]
        await until(lambda: served.shop.entered)
        asks += [asyncio.ensure_future(paid(client, "o-1", "6")) for _ in range(3)]
        await until(lambda: served.system.stats().queued == 3)
        full = await paid(client, "o-1", "7")
        assert full.headers["retry-after"] == "1"
        assert is_problem(full, 429, "MailboxFull")["outcome"] == "not-applied"
        begun, *waiting = await asyncio.gather(*asks)
        assert is_problem(begun, 504, "AskTimeout")["outcome"] == "unknown"
        for answer in waiting:
            assert is_problem(answer, 504, "Expired")["outcome"] == "not-applied"
        gate.set()

    run(scenario, serve, ask_timeout_s=0.5)


def test_a_fault_of_user_code_is_500_and_its_words_go_to_the_log_alone(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(served: Served) -> None:
        await served.client.put("/orders/o-1")
        answer = await served.client.post("/orders/o-1/events/Explode", json={})
        is_problem(answer, 500, "HookFailed")
        assert "hunter2" not in answer.text
        assert served.system.snapshot("o-1").state is OrderState.CREATED

    run(scenario, serve)
    (record,) = [record for record in caplog.records if record.name == "actorfsm.http"]
    assert record.exc_info is not None
    assert "hunter2" in str(record.exc_info[1])


def test_a_system_that_has_stopped_is_503(serve: Serve) -> None:
    async def scenario(served: Served) -> None:
        await served.client.put("/orders/o-1")
        await served.system.shutdown()
        answer = await paid(served.client, "o-1")
        assert answer.headers["retry-after"] == "1"
        is_problem(answer, 503, "SystemStopping")

    run(scenario, serve)


@pytest.mark.rule("C8")
def test_a_client_that_goes_away_gives_up_the_reply_and_not_the_event(serve: Serve) -> None:
    async def scenario(served: Served) -> None:
        served.shop.gate = asyncio.Event()
        await served.client.put("/orders/o-1")
        with pytest.raises(httpx2.ReadTimeout):
            await served.client.post(
                "/orders/o-1/events/Pay", json={"amount": 1}, headers={"Idempotency-Key": "k-1"}, timeout=0.2
            )
        assert (served.shop.entered, served.shop.charged) == (1, [])
        served.shop.gate.set()
        answer = await paid(served.client, "o-1", "1", **{"Idempotency-Key": "k-1"})
        assert (answer.status_code, len(served.shop.charged), served.shop.entered) == (200, 1, 1)

    run(scenario, serve)


# -- history ----------------------------------------------------------------------------------------------------------


def test_without_a_journal_the_history_is_what_the_system_remembers(serve: Serve) -> None:
    async def scenario(served: Served) -> None:
        client = served.client
        await client.put("/orders/o-1")
        await paid(client, "o-1", "500")
        await paid(client, "o-1", **{"Idempotency-Key": "k-1"})
        seen = (await client.get("/orders/o-1/history")).json()
        assert seen["next"] is None
        assert [(e["seq"], e["kind"], e["event"], e["source"], e["target"]) for e in seen["entries"]] == [
            (1, "committed", "Spawn", None, "CREATED"),
            (1, "vetoed", "Pay", "CREATED", "PAID"),
            (2, "committed", "Pay", "CREATED", "PAID"),
        ]
        assert seen["entries"][2]["event_id"] == "k-1"
        newer = (await client.get("/orders/o-1/history?after=1")).json()
        assert [entry["seq"] for entry in newer["entries"]] == [2]

    run(scenario, serve)


@pytest.mark.rule("C23")
def test_with_a_journal_the_history_comes_in_pages_and_survives_the_machine_and_the_process(
    serve: Serve, journal: str
) -> None:
    async def first(served: Served) -> None:
        await served.client.put("/orders/o-1")
        await paid(served.client, "o-1")
        await served.client.post("/orders/o-1/events/Ship", json={"carrier": "x"})
        await served.system.stop("o-1")

    async def second(served: Served) -> None:
        client, seen, after = served.client, [], 0
        while after is not None:
            page = (await client.get(f"/orders/o-1/history?after={after}&limit=2")).json()
            seen += page["entries"]
            after = page["next"]
        assert [(e["seq"], e["kind"], e["target"]) for e in seen] == [
            (1, "committed", "CREATED"),
            (2, "committed", "PAID"),
            (3, "committed", "SHIPPED"),
            (4, "stopped", "SHIPPED"),
        ]
        is_problem(await client.get("/orders/o-1"), 404, "NoSuchMachine")
        is_problem(await client.get("/devices/o-1/history"), 404, "NoSuchMachine")

    run(first, serve, journal=journal)
    run(second, serve, journal=journal)


# -- live -------------------------------------------------------------------------------------------------------------


class Reader:
    """Reads server-sent events."""

    def __init__(self, response: httpx2.Response) -> None:
        self._lines = response.aiter_lines()
        self.heartbeats = 0

    async def next(self) -> dict[str, Any] | None:
        """Return the next event; None at the end."""
        found: dict[str, Any] = {}
        async for line in self._lines:
            if line.startswith(":"):
                self.heartbeats += 1
            elif line:
                name, _, value = line.partition(": ")
                found[name] = value
            elif found:
                return {**found, "data": json.loads(found["data"])}
        return None


@asynccontextmanager
async def reading(served: Served, path: str, **headers: str) -> AsyncGenerator[Reader, None]:
    async with served.client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        yield Reader(response)


@pytest.mark.parametrize("durable", [False, True])
def test_a_live_stream_begins_with_a_snapshot_and_tells_what_happens(
    serve: Serve, tmp_path: Path, durable: bool
) -> None:
    async def scenario(served: Served) -> None:
        await served.client.put("/orders/o-1")
        await served.client.put("/orders/o-2")
        async with reading(served, "/orders/o-1/live") as reader:
            begin = await reader.next()
            assert begin is not None
            assert (begin["event"], begin["data"]["state"]) == ("snapshot", "CREATED")
            await paid(served.client, "o-2")
            await paid(served.client, "o-1")
            told = await reader.next()
            assert told is not None
            assert (told["event"], told["data"]["target"], told["data"]["seq"]) == ("happened", "PAID", 2)
            await asyncio.sleep(0.2)
            await served.system.stop("o-1")
            last = await reader.next()
            assert last is not None
            assert last["data"]["kind"] == "stopped"
            assert reader.heartbeats >= 1
            assert await reader.next() is None

    run(scenario, serve, **({"journal": str(tmp_path / "orders.db")} if durable else {}))


def test_who_comes_back_to_a_journal_with_the_last_id_misses_nothing(serve: Serve, journal: str) -> None:
    async def scenario(served: Served) -> None:
        await served.client.put("/orders/o-1")
        async with reading(served, "/orders/o-1/live") as reader:
            begin = await reader.next()
        assert begin is not None
        await paid(served.client, "o-1")
        await served.client.post("/orders/o-1/events/Ship", json={"carrier": "x"})
        async with reading(served, "/orders/o-1/live", **{"Last-Event-ID": begin["id"]}) as reader:
            missed = [await reader.next(), await reader.next()]
            assert [(seen["event"], seen["id"]) for seen in missed if seen] == [
                ("happened", "2"),
                ("happened", "3"),
            ]
        async with reading(served, "/orders/o-1/live", **{"Last-Event-ID": "99"}) as reader:
            anew = await reader.next()
            assert anew is not None
            assert (anew["event"], anew["id"]) == ("snapshot", "3")
        answer = await served.client.get("/orders/o-1/live", headers={"Last-Event-ID": "x"})
        is_problem(answer, 422, "InvalidEvent")

    run(scenario, serve, journal=journal)


@pytest.mark.parametrize("durable", [False, True])
def test_a_server_that_stops_ends_its_live_streams_and_then_stops(
    serve: Serve, tmp_path: Path, durable: bool
) -> None:
    async def scenario(served: Served) -> None:
        await served.client.put("/orders/o-1")
        async with reading(served, "/orders/o-1/live") as reader:
            await reader.next()
            served.stop()
            assert await reader.next() is None
        async with asyncio.timeout(5):
            await served.stopped.wait()
        assert served.system.report is not None

    run(scenario, serve, **({"journal": str(tmp_path / "orders.db")} if durable else {}))


def test_a_reader_that_goes_away_leaves_nothing_behind(serve: Serve) -> None:
    async def scenario(served: Served) -> None:
        await served.client.put("/orders/o-1")
        streams = Streams.of(served.system)
        async with reading(served, "/orders/o-1/live") as reader, reading(served, "/orders/o-1/live"):
            await reader.next()
            assert streams.readers == 2
        async with asyncio.timeout(5):
            await until(lambda: not streams.readers)
        assert served.system._parts.sinks == ()

    run(scenario, serve)
