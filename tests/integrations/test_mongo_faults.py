"""What an asker sees when the connection to MongoDB is lost, or the server refuses: the real driver, over a socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any

import pytest
from pymongo import AsyncMongoClient, errors

from actorfsm import ConcurrentTransition, Discarded, NotStored, OutcomeUnknown
from actorfsm.sinks.text import render_exception
from tests.integrations.mongo_homes import Home, SyncHome, documents_of, sync_documents_of
from tests.integrations.order import OrderState, Pay, Receipt
from tests.mongodb_server import FakeMongo, Refused

PAY = Pay(amount=Decimal("9.90"))
CREATED, PAYING = OrderState.CREATED, OrderState.PAYING


@pytest.fixture(params=[documents_of, sync_documents_of], ids=["async", "sync"])
def on_documents(request: pytest.FixtureRequest, mongodb_fake: FakeMongo) -> Callable[..., None]:
    def run(scenario: Callable[[Home | SyncHome], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with request.param(mongodb_fake.url()) as home:
                await scenario(home)

        asyncio.run(main())

    return run


def names_of(home: Home) -> list[tuple[str, type]]:
    return [(record.name, type(record.error)) for record in home.records]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_that_is_lost_once_is_nothing_the_asker_sees_and_the_event_is_applied_once(
    when: str, mongodb_fake: FakeMongo, on_documents: Any
) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        mongodb_fake.commands.clear()
        mongodb_fake.cut("update", when)
        assert await home.ask(key, PAY) == Receipt(number="R-9.90")
        assert mongodb_fake.commands == ["find", "update", "update"]  # the driver's second try
        assert await home.read(key) == (PAYING, Decimal("9.90"), "")
        assert (await home.document(key))["version"] == 2
        assert names_of(home) == [("committed", type(None))]

    on_documents(scenario)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_that_is_lost_again_leaves_the_outcome_unknown_and_asking_with_the_version_is_safe(
    when: str, mongodb_fake: FakeMongo, on_documents: Any
) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        mongodb_fake.cut("update", when, times=2)
        with pytest.raises(OutcomeUnknown, match="AutoReconnect") as unknown:
            await home.ask(key, PAY, version=1)
        assert isinstance(unknown.value.__cause__, errors.AutoReconnect)
        assert names_of(home) == [("failed", OutcomeUnknown)]
        assert [place for place, *_ in home.notes.done if place == "after"] == []
        if when == "before":
            assert await home.read(key) == (CREATED, Decimal(0), "")
            await home.ask(key, PAY, version=1)
        else:
            with pytest.raises(ConcurrentTransition):
                await home.ask(key, PAY, version=1)
        assert await home.read(key) == (PAYING, Decimal("9.90"), "")

    on_documents(scenario)


@pytest.mark.parametrize(("when", "state"), [("before", CREATED), ("after", PAYING)])
def test_a_server_that_is_no_replica_set_is_not_asked_twice(
    when: str, state: OrderState, mongodb_fake: FakeMongo, on_documents: Any
) -> None:
    mongodb_fake.is_replica_set = False

    async def scenario(home: Home) -> None:
        key = await home.new()
        mongodb_fake.cut("update", when)
        with pytest.raises(OutcomeUnknown):
            await home.ask(key, PAY)
        assert (await home.read(key))[0] is state

    on_documents(scenario)


def test_a_document_that_could_not_be_read_is_surely_not_changed_and_no_hook_has_run(
    mongodb_fake: FakeMongo, on_documents: Any
) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        mongodb_fake.cut("find", "before", times=2)
        with pytest.raises(NotStored, match="could not be read") as refused:
            await home.ask(key, PAY)
        assert isinstance(refused.value.__cause__, errors.ConnectionFailure)
        assert (home.notes.done, home.records) == ([], [])
        await home.ask(key, PAY)

    on_documents(scenario)


def test_a_write_for_which_no_server_is_found_is_surely_not_stored(mongodb_fake: FakeMongo) -> None:
    async def main() -> None:
        async with AsyncMongoClient[Any](mongodb_fake.url(timeout_ms=100)) as client:
            home = Home(client, "shop")
            key = await home.new()
            home.notes.turns["before"] = asyncio.Event()
            paying = asyncio.create_task(home.ask(key, PAY))
            await home.notes.began.wait()
            await asyncio.to_thread(mongodb_fake.stop)
            with pytest.raises(errors.ConnectionFailure):
                await client.admin.command("ping")  # the driver learns of it
            home.notes.turns["before"].set()
            with pytest.raises(NotStored, match="ServerSelectionTimeoutError"):
                await paying
            assert names_of(home) == [("failed", NotStored)]

    asyncio.run(main())


def test_a_write_that_too_few_members_have_confirmed_may_be_undone_and_is_unknown(
    mongodb_fake: FakeMongo, on_documents: Any
) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        mongodb_fake.add_to_reply(
            "update",
            {"writeConcernError": {"code": 64, "codeName": "WriteConcernTimeout", "errmsg": "waiting"}},
        )
        with pytest.raises(OutcomeUnknown) as unknown:
            await home.ask(key, PAY)
        assert isinstance(unknown.value.__cause__, errors.WriteConcernError)
        assert (await home.read(key))[0] is PAYING

    on_documents(scenario)


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (Refused(13, "Unauthorized"), errors.OperationFailure),
        (Refused(50, "MaxTimeMSExpired"), errors.ExecutionTimeout),
    ],
    ids=["unauthorized", "too long"],
)
@pytest.mark.parametrize("command", ["find", "update"])
def test_what_the_server_refuses_is_the_drivers_own_error(
    command: str, refusal: Refused, error: type[Exception], mongodb_fake: FakeMongo, on_documents: Any
) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        mongodb_fake.refuse(command, refusal)
        with pytest.raises(error):
            await home.ask(key, PAY)
        assert await home.read(key) == (CREATED, Decimal(0), "")
        assert names_of(home) == ([("failed", Discarded)] if command == "update" else [])
        assert all(record.reason == error.__name__ for record in home.records)
        await home.ask(key, PAY)

    on_documents(scenario)


def test_what_the_schema_of_the_collection_refuses_is_not_stored_and_its_values_are_not_recorded(
    mongodb_fake: FakeMongo, on_documents: Any
) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        refused = {"index": 0, "code": 121, "errmsg": "Document failed validation", "errInfo": {"paid": 9.9}}
        mongodb_fake.add_to_reply("update", {"n": 0, "writeErrors": [refused]})
        with pytest.raises(errors.WriteError):
            await home.ask(key, PAY)
        (record,) = home.records
        assert (record.name, record.reason, record.hook) == ("failed", "WriteError", "commit")
        assert record.error is not None
        assert "9.9" not in render_exception(record.error)  # which a line of log has

    on_documents(scenario)


def test_a_caller_that_is_cancelled_while_it_writes_gets_no_answer_and_the_turn_has_ended(
    mongodb_fake: FakeMongo,
) -> None:
    async def main() -> None:
        async with documents_of(mongodb_fake.url()) as home:
            key = await home.new()
            until = threading.Event()
            came = mongodb_fake.hold("update", until)
            paying = asyncio.create_task(home.ask(key, PAY))
            await asyncio.to_thread(came.wait, 30)
            paying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await paying
            until.set()
            assert names_of(home) == [("failed", OutcomeUnknown)]
            assert home.notes.done[-1][0] == "enter"  # no after-hook, whether it is stored or not

    asyncio.run(main())


def test_an_error_that_is_no_servers_ends_the_turn_too(
    on_documents: Any,
) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        await home.write_behind_its_back(key, version=2**63 - 1)
        with pytest.raises(OverflowError):
            await home.ask(key, PAY)
        assert names_of(home) == [("failed", Discarded)]
        assert home.records[0].reason == "OverflowError"

    on_documents(scenario)
