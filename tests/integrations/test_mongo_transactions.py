"""Machines in documents inside the caller's session: what follows waits for the commit, or ends with it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any

import pytest
from pymongo import errors

from actorfsm import ConcurrentTransition, Discarded, NotStored, OutcomeUnknown, Unsupported, Vetoed
from actorfsm.integrations.mongo import sync_transaction, transaction
from tests.integrations.mongo_homes import Home, SyncHome, documents_of, sync_documents_of
from tests.integrations.order import Cancel, Note, OrderState, Pay, Receipt
from tests.mongodb_server import FakeMongo, Refused

PAY = Pay(amount=Decimal("9.90"))
CREATED, PAYING = OrderState.CREATED, OrderState.PAYING


def on_documents(url: str, scenario: Callable[[Home], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with documents_of(url) as home:
            await scenario(home)

    asyncio.run(main())


def names_of(home: Home) -> list[tuple[str, type]]:
    return [(record.name, type(record.error)) for record in home.records]


def places_of(home: Home) -> list[str]:
    return [place for place, *_ in home.notes.done]


def test_document_and_what_else_is_written_are_stored_together_and_after_hooks_come_then(
    mongodb_url: str,
) -> None:
    async def scenario(home: Home) -> None:
        payments = home.collection.database["payments"]
        key = await home.new()
        async with home.client.start_session() as session:
            async with transaction(session):
                assert await home.ask(key, PAY, session=session) == Receipt(number="R-9.90")
                await payments.insert_one({"of": key}, session=session)
                assert places_of(home)[-1] == "enter"
                assert home.records == []
                assert (await home.read(key))[0] is CREATED  # for others
                assert await payments.find_one({}) is None
            assert home.notes.done[-1] == ("after", PAYING, Decimal("9.90"))
            assert names_of(home) == [("committed", type(None))]
        assert (await home.read(key))[0] is PAYING
        assert (await payments.find_one({}))["of"] == key

    on_documents(mongodb_url, scenario)


def test_a_transaction_that_raises_leaves_nothing_and_no_after_hook_runs(mongodb_url: str) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        async with home.client.start_session() as session:

            async def pay_and_fail() -> None:
                async with transaction(session):
                    await home.ask(key, PAY, session=session)
                    raise LookupError

            with pytest.raises(LookupError):
                await pay_and_fail()
            assert not session.in_transaction
            assert await home.read(key) == (CREATED, Decimal(0), "")
            assert "after" not in places_of(home)
            assert names_of(home) == [("failed", Discarded)]
            async with transaction(session):
                await home.ask(key, PAY, session=session)
        assert (await home.read(key))[0] is PAYING

    on_documents(mongodb_url, scenario)


def test_several_events_of_one_transaction_see_each_other_and_their_after_hooks_come_in_order(
    mongodb_url: str,
) -> None:
    async def scenario(home: Home) -> None:
        first, second = await home.new(), await home.new()
        async with home.client.start_session() as session, transaction(session):
            await home.ask(first, Note(text="n"), session=session)
            await home.ask(first, PAY, session=session)
            home.notes.card_is_good = False
            with pytest.raises(Vetoed):
                await home.ask(second, PAY, session=session)
            await home.ask(second, Cancel(), session=session)
        assert [(record.name, record.event_type) for record in home.records] == [
            ("vetoed", "Pay"),
            ("committed", "Note"),
            ("committed", "Pay"),
            ("committed", "Cancel"),
        ]
        assert await home.read(first) == (PAYING, Decimal("9.90"), "n")
        assert (await home.document(first))["version"] == 3
        assert (await home.read(second))[0] is OrderState.CANCELLED

    on_documents(mongodb_url, scenario)


def test_a_transaction_that_is_cancelled_in_an_after_hook_is_recorded_of_all_its_machines(
    mongodb_url: str,
) -> None:
    async def scenario(home: Home) -> None:
        keys = await home.new(), await home.new()

        async def pay_both() -> None:
            async with home.client.start_session() as session, transaction(session):
                for key in keys:
                    await home.ask(key, PAY, session=session)
                home.notes.turns["after"] = asyncio.Event()
                home.notes.began.clear()

        paying = asyncio.create_task(pay_both())
        while "after" not in places_of(home):
            await home.notes.began.wait()
            await asyncio.sleep(0)
        paying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await paying
        assert names_of(home) == [("committed", type(None))] * 2
        assert [(await home.read(key))[0] for key in keys] == [PAYING, PAYING]

    on_documents(mongodb_url, scenario)


def test_a_document_that_another_has_written_since_the_transaction_began_is_a_lost_race(
    mongodb_url: str,
) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        async with home.client.start_session() as session:

            async def pay_too_late() -> None:
                async with transaction(session):
                    await home.collection.find_one({}, session=session)  # here it begins for the server
                    await home.ask(key, Note(text="first"))
                    await home.ask(key, PAY, session=session)

            with pytest.raises(ConcurrentTransition, match="gave up the transaction") as lost:
                await pay_too_late()
            assert isinstance(lost.value.__cause__, errors.OperationFailure)
        assert await home.read(key) == (CREATED, Decimal(0), "first")
        assert names_of(home) == [("committed", type(None)), ("failed", ConcurrentTransition)]

    on_documents(mongodb_url, scenario)


def test_of_two_transactions_on_one_document_one_is_told_that_it_lost(mongodb_url: str) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        async with home.client.start_session() as one, home.client.start_session() as other, transaction(one):
            await home.ask(key, PAY, session=one)
            with pytest.raises(ConcurrentTransition):
                async with transaction(other):
                    await home.ask(key, Cancel(), session=other)
        assert (await home.read(key))[0] is PAYING

    on_documents(mongodb_url, scenario)


def test_a_session_without_a_transaction_is_passed_on(mongodb_url: str) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        async with home.client.start_session() as session:
            await home.ask(key, PAY, session=session)
            assert places_of(home)[-1] == "after"
            assert session.operation_time is None or session.operation_time  # it was used

    on_documents(mongodb_url, scenario)


def test_a_transaction_that_was_begun_elsewhere_is_refused_before_anything_is_read(mongodb_url: str) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        async with home.client.start_session() as session, await session.start_transaction():
            with pytest.raises(Unsupported, match=r"async with transaction\(session\)"):
                await home.ask(key, PAY, session=session)
        assert home.notes.done == []

    on_documents(mongodb_url, scenario)


def test_a_transaction_of_a_client_that_is_not_async_does_the_same(mongodb_url: str) -> None:
    async def main() -> None:
        async with sync_documents_of(mongodb_url) as home:
            key = await home.new()
            orders = home.sync_documents
            with home.sync_collection.database.client.start_session() as session:

                def pay_and_fail() -> None:
                    with sync_transaction(session):
                        orders.ask(key, PAY, session=session)
                        raise LookupError

                with pytest.raises(LookupError):
                    pay_and_fail()
                assert "after" not in places_of(home)
                with sync_transaction(session):
                    orders.ask(key, PAY, session=session)
                    assert "after" not in places_of(home)
            assert places_of(home)[-1] == "after"
            assert (await home.read(key))[0] is PAYING
            assert names_of(home) == [("failed", Discarded), ("committed", type(None))]

    asyncio.run(main())


# -- what goes wrong at the commit; by the server of the tests, which can be told --------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_that_is_lost_once_at_the_commit_is_nothing_the_caller_sees(
    when: str, mongodb_fake: FakeMongo
) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        mongodb_fake.cut("commitTransaction", when)
        async with home.client.start_session() as session, transaction(session):
            await home.ask(key, PAY, session=session)
        assert (await home.read(key))[0] is PAYING
        assert places_of(home)[-1] == "after"

    on_documents(mongodb_fake.url(), scenario)


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize(("when", "state"), [("before", CREATED), ("after", PAYING)])
def test_a_connection_that_is_lost_again_at_the_commit_leaves_the_outcome_unknown(
    when: str, state: OrderState, is_async: bool, mongodb_fake: FakeMongo
) -> None:
    async def main() -> None:
        opened: Any = documents_of if is_async else sync_documents_of
        async with opened(mongodb_fake.url()) as home:
            key = await home.new()
            mongodb_fake.cut("commitTransaction", when, times=2)
            with pytest.raises(OutcomeUnknown) as unknown:
                await _pay_in_a_transaction(home, key)
            assert isinstance(unknown.value.__cause__, errors.ConnectionFailure)
            assert "after" not in places_of(home)
            assert names_of(home) == [("failed", OutcomeUnknown)]
            assert (await home.read(key))[0] is state

    asyncio.run(main())


async def _pay_in_a_transaction(home: Home | SyncHome, key: Any) -> None:
    if isinstance(home, SyncHome):
        with home.sync_collection.database.client.start_session() as session, sync_transaction(session):
            home.sync_documents.ask(key, PAY, session=session)
        return
    async with home.client.start_session() as session, transaction(session):
        await home.ask(key, PAY, session=session)


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (Refused(251, "NoSuchTransaction", labels=("TransientTransactionError",)), ConcurrentTransition),
        (Refused(13, "Unauthorized"), errors.OperationFailure),
    ],
    ids=["given up", "unauthorized"],
)
def test_a_commit_that_the_server_refuses_has_stored_nothing(
    refusal: Refused, error: type[Exception], mongodb_fake: FakeMongo
) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        mongodb_fake.refuse("commitTransaction", refusal)
        with pytest.raises(error):
            await _pay_in_a_transaction(home, key)
        # Of an error of the driver's its own words are not recorded.
        recorded = error if issubclass(error, ConcurrentTransition) else Discarded
        assert names_of(home) == [("failed", recorded)]
        assert "after" not in places_of(home)

    on_documents(mongodb_fake.url(), scenario)


@pytest.mark.parametrize("command", ["find", "update"])
def test_a_connection_that_is_lost_inside_a_transaction_has_surely_stored_nothing(
    command: str, mongodb_fake: FakeMongo
) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        mongodb_fake.cut(command, "after", times=2)
        with pytest.raises(NotStored):
            await _pay_in_a_transaction(home, key)
        assert await home.read(key) == (CREATED, Decimal(0), "")

    on_documents(mongodb_fake.url(), scenario)


def test_a_caller_that_is_cancelled_at_the_commit_gets_no_answer_and_no_after_hook_runs(
    mongodb_fake: FakeMongo,
) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        until = threading.Event()
        came = mongodb_fake.hold("commitTransaction", until)
        paying = asyncio.create_task(_pay_in_a_transaction(home, key))
        await asyncio.to_thread(came.wait, 30)
        paying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await paying
        until.set()
        assert names_of(home) == [("failed", OutcomeUnknown)]
        assert "after" not in places_of(home)

    on_documents(mongodb_fake.url(), scenario)
