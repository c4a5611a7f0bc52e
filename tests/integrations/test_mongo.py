"""Machines in documents: the laws of stored states, and what belongs to documents alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from datetime import timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum, auto
from typing import Any, cast

import pytest
from bson import Int64, ObjectId
from pymongo import AsyncMongoClient, MongoClient, WriteConcern
from pymongo.monitoring import CommandListener, CommandStartedEvent

from actorfsm import (
    STAY,
    ActorFSMError,
    ActorSystem,
    ConcurrentTransition,
    DefinitionError,
    Event,
    InvalidData,
    Machine,
    NoSuchMachine,
    SchemaMismatch,
    StateTimeout,
    Unsupported,
    after_transition,
    on_timeout,
    transition,
)
from actorfsm.integrations.mongo import Documents, SyncDocuments, transaction
from tests.integrations.mongo_homes import (
    Home,
    SyncHome,
    documents_of,
    engine_documents_of,
    sync_documents_of,
)
from tests.integrations.order import Cancel, Note, Notes, Order, OrderState, Pay, PlainOrder, Receipt, Ship
from tests.integrations.stored_state_laws import LAWS, Law
from tests.mongodb_server import new_database

Opening = Callable[[], Any]
S = OrderState
PAY = Pay(amount=Decimal("9.90"))


@pytest.fixture(
    params=[documents_of, sync_documents_of, engine_documents_of], ids=["async", "sync", "mongoengine"]
)
def opening(request: pytest.FixtureRequest, mongodb_url: str) -> Opening:
    return lambda: request.param(mongodb_url)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law: Law, opening: Opening) -> None:
    async def scenario() -> None:
        async with opening() as home:
            await law(home)

    asyncio.run(scenario())


def on_documents(url: str, scenario: Callable[[Home], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def main() -> None:
        async with documents_of(url, **options) as home:
            await scenario(home)

    asyncio.run(main())


WAYS = {S.CREATED: (), S.PAYING: (PAY,), S.SHIPPED: (PAY, Ship()), S.CANCELLED: (Cancel(),)}


@pytest.mark.parametrize(
    "event", [PAY, Ship(), Cancel(), Note(text="n")], ids=lambda event: type(event).__name__
)
@pytest.mark.parametrize("state", WAYS)
def test_in_each_state_each_event_does_what_it_does_to_an_actor(
    state: OrderState, event: Event[Any], mongodb_url: str
) -> None:
    async def outcome_of(asked: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await asked
        except ActorFSMError as error:
            return type(error), getattr(error, "allowed", None)

    async def scenario(home: Home) -> None:
        async with ActorSystem(Order, services=Notes(), trace=None) as system:
            order = await system.spawn(Order, "order-1")
            key = await home.new()
            for step in WAYS[state]:
                assert await order.ask(step) == await home.ask(key, step)
            assert await outcome_of(order.ask(event)) == await outcome_of(home.ask(key, event))
            seen = order.snapshot()
            assert await home.read(key) == (seen.state, seen.data["paid"], seen.data["note"])

    on_documents(mongodb_url, scenario)


# -- races ------------------------------------------------------------------------------------------------------------


def test_of_fifty_that_have_read_one_version_one_wins_and_the_others_are_told(mongodb_url: str) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        home.notes.turns["exit"] = asyncio.Event()
        asked = [asyncio.create_task(home.ask(key, Pay(amount=Decimal(n)))) for n in range(1, 51)]
        while sum(place == "exit" for place, *_ in home.notes.done) < 50:  # noqa: ASYNC110 -- fifty go on meanwhile
            await asyncio.sleep(0)
        home.notes.turns["exit"].set()
        ended = await asyncio.gather(*asked, return_exceptions=True)
        (won,) = [reply for reply in ended if isinstance(reply, Receipt)]
        lost = [error for error in ended if isinstance(error, ConcurrentTransition)]
        assert len(lost) == 49
        assert {error.machine_id for error in lost} == {f"orders-{key}"}
        _, paid, _ = await home.read(key)
        assert (f"R-{paid}", (await home.document(key))["version"]) == (won.number, 2)
        assert sum(place == "after" for place, *_ in home.notes.done) == 1
        assert sorted(record.name for record in home.records) == ["committed", *["failed"] * 49]

    on_documents(mongodb_url, scenario)


class Tally(StrEnum):
    OPEN = auto()


class Add(Event[int]): ...


class Counter(Machine[Tally], initial=Tally.OPEN):
    count: int = 0

    @transition(Tally.OPEN, to=STAY)
    def add(self, event: Add) -> int:
        self.count += 1
        return self.count


def test_fifty_writers_that_try_again_until_they_win_have_each_version_once(mongodb_url: str) -> None:
    async def scenario(home: Home) -> None:
        collection = home.collection.database["counters"]
        counters = Documents(Counter, collection, trace=())
        await collection.insert_one({"_id": "c", **counters.new()})
        lost = 0

        async def until_won() -> int:
            nonlocal lost
            while True:
                try:
                    return await counters.ask("c", Add())
                except ConcurrentTransition:
                    lost += 1

        assert sorted(await asyncio.gather(*(until_won() for _ in range(50)))) == list(range(1, 51))
        assert await collection.find_one() == {"_id": "c", "state": "OPEN", "version": 51, "count": 50}
        assert lost > 0

    on_documents(mongodb_url, scenario)


def test_threads_that_try_again_until_they_win_have_each_version_once(mongodb_url: str) -> None:
    async def scenario(home: SyncHome) -> None:
        collection = home.sync_collection.database["counters"]
        counters = SyncDocuments(Counter, collection, trace=())
        collection.insert_one({"_id": "c", **counters.new()})
        won: list[int] = []

        def work() -> None:
            done = 0
            while done < 10:
                try:
                    won.append(counters.ask("c", Add()))
                except ConcurrentTransition:
                    continue
                done += 1

        threads = [threading.Thread(target=work) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(won) == list(range(1, 51))
        assert collection.find_one() == {"_id": "c", "state": "OPEN", "version": 51, "count": 50}

    async def main() -> None:
        async with sync_documents_of(mongodb_url) as home:
            await scenario(home)

    asyncio.run(main())


def test_a_version_that_is_no_more_is_a_lost_race_before_any_hook(mongodb_url: str) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        await home.ask(key, Note(text="first"), version=1)
        home.notes.done.clear()
        with pytest.raises(ConcurrentTransition, match="it has version 2, and you said 1"):
            await home.ask(key, PAY, version=1)
        assert home.notes.done == []
        await home.ask(key, PAY, version=2)

    on_documents(mongodb_url, scenario)


def test_who_writes_behind_the_back_and_counts_wins_and_who_does_not_count_is_overwritten(
    mongodb_url: str,
) -> None:
    async def scenario(home: Home) -> None:
        for change, is_lost in (
            ({"$set": {"paid": 1}, "$inc": {"version": 1}}, True),
            ({"$set": {"paid": 1}}, False),
        ):
            key = await home.new()
            home.notes.began.clear()
            home.notes.turns["enter"] = asyncio.Event()
            paying = asyncio.create_task(home.ask(key, PAY))
            await home.notes.began.wait()
            await home.collection.update_one({"_id": key}, change)
            home.notes.turns.pop("enter").set()
            if is_lost:
                with pytest.raises(ConcurrentTransition):
                    await paying
                assert (await home.document(key))["paid"] == 1
            else:
                await paying
                assert (await home.read(key))[1] == Decimal("9.90")

    on_documents(mongodb_url, scenario)


def test_a_document_that_is_removed_meanwhile_is_a_lost_race(mongodb_url: str) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        home.notes.turns["before"] = asyncio.Event()
        paying = asyncio.create_task(home.ask(key, PAY))
        await home.notes.began.wait()
        await home.collection.delete_one({"_id": key})
        home.notes.turns["before"].set()
        with pytest.raises(ConcurrentTransition):
            await paying
        assert await home.document(key) is None

    on_documents(mongodb_url, scenario)


# -- documents that are there -----------------------------------------------------------------------------------------


def test_what_the_machine_does_not_know_is_left_as_it_is(mongodb_url: str) -> None:
    async def scenario(home: Home) -> None:
        key = ObjectId()
        others = {"customer": "Ada", "lines": [{"sku": 1}, None], "nested": {"state": "x"}, "big": Int64(1)}
        await home.collection.insert_one({"_id": key, **others, **home.documents.new(note="n")})
        await home.ask(key, PAY)
        document = await home.document(key)
        assert {name: document[name] for name in others} == others
        assert (document["state"], document["version"], document["note"]) == ("PAYING", 2, "n")

    on_documents(mongodb_url, scenario)


def test_documents_of_before_need_no_version_and_no_fields_with_a_default(mongodb_url: str) -> None:
    async def scenario(home: Home) -> None:
        await home.collection.insert_many(
            [{"_id": 1, "state": "CREATED"}, {"_id": 2, "state": "CREATED", "version": None}]
        )
        for key in (1, 2):
            await home.ask(key, PAY, version=0)
            document = await home.document(key)
            assert (document["state"], document["version"], str(document["paid"])) == ("PAYING", 1, "9.90")
            assert "note" not in document

    on_documents(mongodb_url, scenario)


def test_one_of_two_wins_a_document_without_a_version(mongodb_url: str) -> None:
    async def scenario(home: Home) -> None:
        await home.collection.insert_one({"_id": 1, "state": "CREATED"})
        home.notes.turns["before"] = asyncio.Event()
        paying = asyncio.create_task(home.ask(1, PAY))
        await home.notes.began.wait()
        await home.ask(1, Note(text="first"))
        home.notes.turns["before"].set()
        with pytest.raises(ConcurrentTransition):
            await paying

    on_documents(mongodb_url, scenario)


def test_a_version_that_a_shell_has_written_as_a_float_counts_on(mongodb_url: str) -> None:
    async def scenario(home: Home) -> None:
        await home.collection.insert_one({"_id": 1, "state": "CREATED", "version": 3.0})
        await home.ask(1, PAY)
        assert (await home.document(1))["version"] == 4

    on_documents(mongodb_url, scenario)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "no state under 'state'; there are 'CREATED', 'PAYING'"),
        ({"state": "LOST"}, "a state that Order does not have under 'state'"),
        ({"state": ["CREATED"]}, "a state that Order does not have"),
        ({"state": "created"}, "a state that Order does not have"),
        ({"state": "CREATED", "version": "1"}, "a version under 'version' that is no whole number"),
        ({"state": "CREATED", "version": 1.5}, "no whole number"),
        ({"state": "CREATED", "version": float("inf")}, "no whole number"),
        ({"state": "CREATED", "version": True}, "no whole number"),
        ({"state": "CREATED", "paid": "much"}, "paid: Input should be a valid decimal"),
        ({"state": "CREATED", "note": {"a": 1}}, "note: Input should be a valid string"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_document_that_is_not_the_machines_is_refused_by_name_and_left_as_it_is(
    document: dict[str, Any], said: str, mongodb_url: str
) -> None:
    async def scenario(home: Home) -> None:
        await home.collection.insert_one({"_id": 1, **document})
        with pytest.raises(SchemaMismatch, match=said) as refused:
            await home.ask(1, PAY)
        assert "much" not in str(refused.value)
        assert (refused.value.stored, home.notes.done) == ("Order", [])
        assert await home.document(1) == {"_id": 1, **document}

    on_documents(mongodb_url, scenario)


def test_a_document_that_is_not_there_is_no_such_machine_and_is_not_made(mongodb_url: str) -> None:
    async def scenario(home: Home) -> None:
        await home.new()
        for key in ("nobody", None, {"$gt": ""}, {"$ne": None}):
            with pytest.raises(NoSuchMachine, match="has no document"):
                await home.ask(key, PAY)
        assert len(await home.collection.find().to_list()) == 1
        stored = ObjectId()
        await home.collection.insert_one({"_id": stored, **home.documents.new()})
        with pytest.raises(NoSuchMachine, match=f"with the _id '{stored}'"):  # a text is no ObjectId
            await home.ask(str(stored), PAY)

    on_documents(mongodb_url, scenario)


def test_a_state_that_is_set_by_hand_during_an_event_is_a_lost_race(mongodb_url: str) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        home.notes.turns["body"] = asyncio.Event()
        paying = asyncio.create_task(home.ask(key, PAY))
        while not home.notes.done or home.notes.done[-1][0] != "body":
            await home.notes.began.wait()
            await asyncio.sleep(0)
        await home.write_behind_its_back(key, state="CANCELLED")  # and the version is as it was
        home.notes.turns["body"].set()
        with pytest.raises(ConcurrentTransition):
            await paying
        assert (await home.read(key))[0] is S.CANCELLED

    on_documents(mongodb_url, scenario)


def test_parts_may_have_other_keys_and_states_may_be_stored_by_value(mongodb_url: str) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        document = await home.document(key)
        assert document["st"] == "created"
        assert {"v", "amount_paid", "note"} <= document.keys()
        await home.ask(key, PAY)
        document = await home.document(key)
        assert (document["st"], document["v"], str(document["amount_paid"])) == ("paying", 2, "9.90")
        assert "paid" not in document

    on_documents(
        mongodb_url, scenario, state="st", version="v", keys={"paid": "amount_paid"}, state_by="value"
    )


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Rise(Event): ...


class Tank(Machine[Level], initial=Level.LOW, final=(Level.HIGH,)):
    @transition(Level.LOW, to=Level.HIGH)
    def rise(self, event: Rise) -> None: ...


def test_states_of_an_int_enum_by_value_are_numbers(mongodb_url: str) -> None:
    async def scenario(home: Home) -> None:
        tanks = Documents(Tank, home.collection, state_by="value", trace=())
        await home.collection.insert_one({"_id": 1, **tanks.new()})
        await tanks.ask(1, Rise())
        assert await home.document(1) == {"_id": 1, "state": 2, "version": 2}

    on_documents(mongodb_url, scenario)


# -- what is refused when it is made ----------------------------------------------------------------------------------


@pytest.fixture
def nowhere() -> Any:
    with MongoClient[Any]("mongodb://127.0.0.1:1", connect=False) as client:
        yield client["db"]["orders"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"state": "version"}, "two parts of PlainOrder have the key 'version'"),
        ({"keys": {"paid": "note"}}, "two parts of PlainOrder have the key 'note'"),
        ({"keys": {"payed": "p"}}, "PlainOrder has no field payed"),
        ({"version": "_id"}, "'_id' cannot be the key"),
        ({"state": "a.b"}, "'a.b' cannot be the key"),
        ({"state": "$a"}, "cannot be the key"),
        ({"state": ""}, "cannot be the key"),
    ],
    ids=str,
)
def test_keys_that_do_not_go_together_are_refused(options: dict[str, Any], said: str, nowhere: Any) -> None:
    with pytest.raises(DefinitionError) as refused:
        SyncDocuments(PlainOrder, nowhere, **options)
    assert said in str(refused.value)


def test_a_collection_that_does_not_wait_for_its_writes_is_refused(nowhere: Any) -> None:
    with pytest.raises(DefinitionError, match="w=0"):
        SyncDocuments(PlainOrder, nowhere.with_options(write_concern=WriteConcern(w=0)))


def test_a_collection_of_the_other_client_is_refused(nowhere: Any) -> None:
    with pytest.raises(DefinitionError, match="Documents does not take Collections of PyMongo: use SyncDoc"):
        Documents(PlainOrder, nowhere)
    client: AsyncMongoClient[Any] = AsyncMongoClient("mongodb://nowhere", connect=False)
    with pytest.raises(DefinitionError, match="SyncDocuments does not take AsyncCollections of PyMongo"):
        SyncDocuments(PlainOrder, cast("Any", client["db"]["orders"]))


def test_a_document_is_read_at_the_primary_whatever_the_client_prefers(mongodb_url: str) -> None:
    class Asked(CommandListener):
        def __init__(self) -> None:
            self.preferences: list[Any] = []

        def started(self, event: CommandStartedEvent) -> None:
            if event.command_name == "find":
                self.preferences.append(event.command.get("$readPreference"))

        def succeeded(self, event: Any) -> None: ...

        def failed(self, event: Any) -> None: ...

    asked = Asked()

    async def scenario() -> None:
        name = new_database()
        async with AsyncMongoClient[Any](
            mongodb_url, readPreference="secondaryPreferred", event_listeners=[asked]
        ) as client:
            collection = client[name]["orders"]
            documents = Documents(Order, collection, services=Notes(), trace=())
            await collection.insert_one({"_id": 1, **documents.new()})
            await documents.ask(1, Note(text="alone"))
            async with client.start_session() as session, transaction(session):
                await documents.ask(1, PAY, session=session)
            await client.drop_database(name)

    asyncio.run(scenario())
    assert [preference in (None, {"mode": "primary"}) for preference in asked.preferences] == [True, True]


def test_a_machine_that_needs_a_mailbox_or_a_clock_lives_in_no_document(nowhere: Any) -> None:
    class Sleepy(Machine[Level], initial=Level.LOW, final=(Level.HIGH,)):
        @on_timeout(Level.LOW, after=timedelta(seconds=1), to=Level.HIGH)
        def wake(self, event: StateTimeout) -> None: ...

    with pytest.raises(
        DefinitionError, match="Sleepy cannot live in a row or document with the timeout of LOW"
    ):
        SyncDocuments(Sleepy, nowhere)


def test_a_new_document_is_refused_like_a_birth(nowhere: Any) -> None:
    orders = SyncDocuments(PlainOrder, nowhere)
    with pytest.raises(InvalidData, match="paid"):
        orders.new(paid="much")
    with pytest.raises(InvalidData):
        orders.new(customer="Ada")
    assert orders.new(S.PAYING, note="n")["state"] == "PAYING"


def test_an_async_hook_in_a_client_that_is_not_is_refused_before_any_hook_has_run(mongodb_url: str) -> None:
    async def main() -> None:
        async with sync_documents_of(mongodb_url) as home:
            orders = SyncDocuments(Order, home.sync_collection, services=home.notes, trace=())
            key = await home.new()
            with pytest.raises(Unsupported, match=r"Order\.risk_control is `async def`"):
                orders.ask(key, PAY)
            assert home.notes.done == []

    asyncio.run(main())


class Chatty(Machine[Level, list[Any]], initial=Level.LOW, final=(Level.HIGH,)):
    @transition(Level.LOW, to=Level.HIGH)
    def rise(self, event: Rise) -> None:
        self.services.append(self)

    @after_transition(Level.HIGH)
    def tell_somebody(self, old: Level, new: Level) -> None:
        self.tell("somebody", Rise())


def test_what_needs_a_system_is_refused_and_self_is_stale_afterwards(mongodb_url: str) -> None:
    async def scenario(home: Home) -> None:
        seen: list[Any] = []
        tanks = Documents(Chatty, home.collection, services=seen, trace=[home.records.append])
        await home.collection.insert_one({"_id": 1, **tanks.new()})
        await tanks.ask(1, Rise())
        with pytest.raises(ActorFSMError, match="after its turn"):
            seen[0].now()
        assert [(record.name, type(record.error)) for record in home.records] == [
            ("committed", type(None)),
            ("after_hook_failed", Unsupported),
        ]

    on_documents(mongodb_url, scenario)


def test_without_pymongo_the_error_names_the_extra() -> None:
    code = "import sys; sys.modules['pymongo'] = None\nimport actorfsm.integrations.mongo"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "Unsupported: this needs PyMongo 4.13.2 or newer" in ended.stderr
    assert "pip install 'actorfsm[mongo]'" in ended.stderr


def test_neither_the_package_nor_the_integration_imports_mongoengine() -> None:
    code = (
        "import sys, actorfsm; assert not {'pymongo', 'bson'} & sys.modules.keys()\n"
        "import actorfsm.integrations.mongo; assert 'mongoengine' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_client_is_left_as_it_was(mongodb_url: str) -> None:
    async def scenario(home: Home) -> None:
        await home.ask(await home.new(), PAY)
        assert not home.collection.codec_options.tz_aware

    on_documents(mongodb_url, scenario)
