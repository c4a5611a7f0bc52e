"""What HTTP says of answers, without any framework."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actorfsm import ActorSystem, DefinitionError, Event, Machine, TransitionRequested, errors
from actorfsm.integrations.http import RULES, address_of, plain_problem, problem_of
from actorfsm.integrations.live import Streams, live
from actorfsm.integrations.resource import Resource
from actorfsm.journal.memory import MemoryJournal
from tests.integrations.web.shop import Device, Order, OrderState, Pay, Ship, Switch
from tests.test_reference_pages import rows_of

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "http.md"
ERRORS = [getattr(errors, name) for name in errors.__all__ if name != "Veto"]


def test_every_error_has_a_status_of_its_own_row() -> None:
    assert set(RULES) == set(ERRORS)


def test_the_page_of_problems_lists_every_error_with_its_status_and_outcome() -> None:
    rows = rows_of(PAGE.read_text(encoding="utf-8").partition("## Problems")[2])
    assert {name: tuple(cells[:3]) for name, cells in rows} == {
        error.__name__: (str(int(rule.status)), "yes" if rule.retry else "", rule.outcome)
        for error, rule in RULES.items()
    }
    assert [name for name, _ in rows] == sorted(error.__name__ for error in RULES)


def test_an_error_of_the_users_own_is_answered_as_the_one_it_comes_from() -> None:
    class NoSuchOrder(errors.NoSuchMachine):
        pass

    problem = problem_of(NoSuchOrder("no order o-1", machine_id="o-1"))
    assert (problem.status, problem.title, problem.machine_id) == (404, "NoSuchMachine", "o-1")


def test_a_problem_leaves_away_what_is_not_known() -> None:
    assert plain_problem(422, "bad").body == (
        b'{"type":"about:blank","title":"Unprocessable Content","status":422,"detail":"bad",'
        b'"outcome":"not-applied"}'
    )
    assert plain_problem(413).detail == "Content Too Large"


@pytest.mark.parametrize(
    ("given", "event_id", "headers"),
    [
        ({}, None, {}),
        ({"idempotency-key": "a"}, "a", {}),
        ({"idempotency-key": '"a b"'}, "a b", {}),
        ({"idempotency-key": '"'}, '"', {}),
        ({"x-request-id": "r"}, None, {"request_id": "r", "correlation_id": "r"}),
        ({"x-request-id": "r", "x-correlation-id": "c"}, None, {"request_id": "r", "correlation_id": "c"}),
        ({"tracestate": "x=1"}, None, {}),
    ],
)
def test_headers_of_a_request_become_the_address_of_an_event(
    given: dict[str, str], event_id: str | None, headers: dict[str, str]
) -> None:
    assert address_of(given) == (event_id, headers)


@pytest.mark.parametrize(
    "given",
    [
        {"idempotency-key": "k" * 201},
        {"idempotency-key": "a\tb"},
        {"x-request-id": ""},
        {"traceparent": f"ff-{'a' * 32}-{'b' * 16}-01"},
        {"traceparent": f"00-{'A' * 32}-{'b' * 16}-01"},
        {"traceparent": f"01-{'a' * 32}-{'b' * 16}-01-{'x' * 200}"},
        {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "x" * 513},
    ],
)
def test_headers_that_are_not_valid_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(errors.InvalidEvent):
        address_of(given)


# -- resources --------------------------------------------------------------------------------------------------------


def test_a_resource_serves_the_events_that_are_chosen() -> None:
    assert list(Resource(Order).events) == ["Place", "Pay", "Cancel", "Ship", "Explode"]
    assert list(Resource(Order, [Pay]).events) == ["Pay"]
    with pytest.raises(DefinitionError, match="Order takes no Switch"):
        Resource(Order, [Pay, Switch])
    with pytest.raises(DefinitionError, match="Order takes no TransitionRequested"):
        Resource(Order, [TransitionRequested])


def test_events_of_one_name_cannot_be_served_together() -> None:
    class Order(Machine[OrderState], initial=OrderState.CREATED):
        pass

    other = type("Ship", (Event,), {"__module__": __name__})

    class Both(Machine[OrderState], initial=OrderState.CREATED, final=(OrderState.SHIPPED, OrderState.PAID)):
        from actorfsm import transition

        @transition(OrderState.CREATED, to=OrderState.PAID)
        def one(self, event: Ship) -> None: ...

        @transition(OrderState.CREATED, to=OrderState.SHIPPED)
        def two(self, event: other) -> None: ...  # type: ignore[valid-type]

    with pytest.raises(DefinitionError, match="same name"):
        Resource(Both)


def test_the_models_show_what_may_be_shown_and_take_what_may_be_given() -> None:
    resource = Resource(Order)
    assert set(resource.data.model_fields) == {"customer", "paid", "card"}
    schema = resource.snapshot.model_json_schema()
    assert set(schema["$defs"]["OrderShown"]["properties"]) == {"customer", "paid"}
    assert schema["properties"]["state"]["enum"] == ["CREATED", "PAID", "SHIPPED"]
    assert (resource.has_defaults, Resource(Device).has_defaults) == (True, False)


# -- live streams -----------------------------------------------------------------------------------------------------


def test_a_slow_reader_without_a_journal_is_shown_a_snapshot_for_what_it_missed(sim: Any) -> None:
    async def scenario() -> None:
        async with ActorSystem(Device, trace=None) as system:
            device = await system.spawn(Device, "d-1", data={"serial": 1})
            frames = await live(Resource(Device), system, "d-1")
            first = await anext(frames)
            assert first.startswith(b"event: snapshot\n")
            for _ in range(1_001):
                await device.ask(Switch())
            told = [await anext(frames) for _ in range(1_001)]
            assert [frame.partition(b"\n")[0] for frame in told[:2]] == [b"event: happened"] * 2
            assert b'"seq":3,' in told[0]
            assert told[-1].startswith(b"event: snapshot\n")
            await frames.aclose()
            assert Streams.of(system).readers == 0

    sim(scenario, seeds=[0])


def test_a_reader_that_missed_much_gets_all_of_it_at_once(sim: Any) -> None:
    async def scenario() -> None:
        async with ActorSystem(Device, trace=None, journal=MemoryJournal()) as system:
            device = await system.spawn(Device, "d-1", data={"serial": 1})
            for _ in range(1_100):
                await device.ask(Switch())
            frames = await live(Resource(Device), system, "d-1", last_event_id="1")
            told = [await anext(frames) for _ in range(1_100)]
            assert [frame.split(b"\n")[1] for frame in told[::1_099]] == [b"id: 2", b"id: 1101"]
            assert asyncio.get_running_loop().time() < 15
            assert await anext(frames) == b": alive\n\n"
            await frames.aclose()

    sim(scenario, seeds=[0])


def test_a_stream_whose_system_ends_is_over(sim: Any) -> None:
    async def scenario() -> None:
        async with ActorSystem(Device, trace=None) as system:
            await system.spawn(Device, "d-1", data={"serial": 1})
            frames = await live(Resource(Device), system, "d-1", heartbeat_s=3)
            await anext(frames)
            assert await anext(frames) == b": alive\n\n"
            Streams.of(system).close()
            with pytest.raises(StopAsyncIteration):
                await anext(frames)
            again = await live(Resource(Device), system, "d-1", heartbeat_s=3)
        assert [frame.partition(b"\n")[0] async for frame in again] == [b"event: snapshot"]

    sim(scenario, seeds=[0])


def test_the_streams_of_a_system_that_is_gone_are_gone_too() -> None:
    import gc

    async def scenario() -> None:
        async with ActorSystem(Device, trace=None) as system:
            Streams.of(system).close()

    before = len(Streams._of)
    asyncio.run(scenario())
    gc.collect()
    assert len(Streams._of) <= before
