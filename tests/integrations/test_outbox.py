"""The outbox: events stored with the user's rows are told after the commit, once, and never without one."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from actorfsm import ActorSystem, InvalidData, InvalidEvent, Machine, MailboxPolicy, Unsupported
from actorfsm.integrations.sqlalchemy import Outbox, metadata
from actorfsm.integrations.sqlalchemy.tables import StoredEvent
from tests.integrations.ledger import Book, Booked, Ledger, Other
from tests.postgresql_server import Server

CHILD = Path(__file__).with_name("ledger.py")


class Place:
    """A database with an outbox, and sessions of the user's on it."""

    def __init__(self, engine: Any, *, is_async: bool) -> None:
        self.engine = engine
        self.is_async = is_async

    async def do(self, work: Callable[[Any], Any], *, commits: bool = True) -> None:
        """Do something in a session, and commit it or not."""
        if self.is_async:
            async with AsyncSession(self.engine) as session:
                work(session)
                await session.flush()
                await (session.commit() if commits else session.rollback())
        else:
            await asyncio.to_thread(self._do, work, commits=commits)

    def _do(self, work: Callable[[Any], Any], *, commits: bool) -> None:
        with Session(self.engine) as session:
            work(session)
            session.flush()
            if commits:
                session.commit()

    async def left(self) -> list[tuple[str, str | None]]:
        found: list[tuple[str, str | None]] = []

        def look(session: Any) -> None:
            rows = session.execute(select(StoredEvent.event_id, StoredEvent.error).order_by(StoredEvent.id))
            found.extend((event_id, error) for event_id, error in rows)

        if self.is_async:
            async with AsyncSession(self.engine) as session:
                await session.run_sync(look)
        else:
            with Session(self.engine) as session:
                look(session)
        return found

    async def until(self, is_so: Callable[[list[tuple[str, str | None]]], bool]) -> None:
        """Wait until the table is as it should be: only the database can say."""
        async with asyncio.timeout(10):
            while not is_so(await self.left()):  # noqa: ASYNC110 -- the same
                await asyncio.sleep(0.005)

    async def until_empty(self) -> None:
        await self.until(lambda left: not left)


@asynccontextmanager
async def place_at(url: str, *, is_async: bool) -> AsyncIterator[Place]:
    engine: Any = create_async_engine(url) if is_async else create_engine(url)
    try:
        if is_async:
            async with engine.begin() as connection:
                await connection.run_sync(metadata.create_all)
                await connection.execute(text("DELETE FROM actorfsm_outbox"))
        else:
            metadata.create_all(engine)
            with engine.begin() as connection:
                connection.execute(text("DELETE FROM actorfsm_outbox"))
        yield Place(engine, is_async=is_async)
    finally:
        closed = engine.dispose()
        if is_async:
            await closed


Opening = Callable[[], Any]


@pytest.fixture(params=["sqlite", "sqlite sync", "postgresql", "postgresql sync", "asyncpg"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Opening:
    is_async = not request.param.endswith("sync")
    if request.param.startswith("sqlite"):
        driver = "sqlite+aiosqlite" if is_async else "sqlite"
        return lambda: place_at(f"{driver}:///{tmp_path / 'rows.db'}", is_async=is_async)
    server: Server = request.getfixturevalue("postgresql_server")
    driver = "asyncpg" if request.param == "asyncpg" else "psycopg"
    url = server.url().replace("postgresql:", f"postgresql+{driver}:")
    return lambda: place_at(url, is_async=is_async)


def system_at(tmp_path: Path, *machines: type[Machine[Any, Any]]) -> ActorSystem[Any]:
    return ActorSystem(
        *(machines or (Ledger,)), journal=tmp_path / "journal.db", durability="process", trace=None
    )


def test_an_event_is_told_after_the_commit_and_only_then(opening: Opening, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            opening() as place,
            system_at(tmp_path) as system,
            Outbox(place.engine, poll_s=60).relay(system),
        ):
            ledger = await system.spawn(Ledger, "ledger-1")
            await place.do(lambda session: ledger.on(session).tell(Book(entry="never")), commits=False)
            assert await place.left() == []
            await place.do(lambda session: [ledger.on(session).tell(Book(entry=name)) for name in "abc"])
            await place.until_empty()  # it polls once in a minute: the commit has woken it
            assert (await ledger.ask(Booked())).entries == ("a", "b", "c")

    asyncio.run(scenario())


def test_what_was_stored_while_nothing_ran_is_told_at_the_next_start(
    opening: Opening, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with opening() as place:
            async with system_at(tmp_path) as system, Outbox(place.engine).relay(system):
                ledger = await system.spawn(Ledger, "ledger-1")
                system.suspend("ledger-1")
                await place.do(lambda session: ledger.on(session).tell(Book(entry="early"), event_id="e-1"))
                await place.until_empty()  # the journal has it, although the machine has not
            async with system_at(tmp_path) as system:
                with pytest.raises(Unsupported, match="no outbox"):
                    ledger.on(None)
                async with Outbox(place.engine).relay(system):
                    await system.load("ledger-1")
                    late = system.ref(Ledger, "ledger-1")
                    system.resume("ledger-1")
                    await place.do(lambda session: late.on(session).tell(Book(entry="late")))
                    await place.until_empty()
                    assert (await late.ask(Booked())).entries == ("early", "late")

    asyncio.run(scenario())


def test_an_event_that_is_told_again_is_applied_once(opening: Opening, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opening() as place, system_at(tmp_path) as system, Outbox(place.engine).relay(system):
            ledger = await system.spawn(Ledger, "ledger-1")
            for _ in range(3):
                await place.do(
                    lambda session: ledger.on(session).tell(Book(entry="once"), event_id="payment-1")
                )
                await place.until_empty()
            assert (await ledger.ask(Booked())).entries == ("once",)

    asyncio.run(scenario())


def test_two_relays_on_one_table_lose_nothing_and_nothing_is_applied_twice(
    opening: Opening, tmp_path: Path
) -> None:
    numbers = [f"{number}" for number in range(120)]

    async def scenario() -> None:
        said: list[Exception] = []
        async with opening() as place, opening() as other, system_at(tmp_path) as system:
            relays = [Outbox(each.engine, poll_s=0.01, on_error=said.append) for each in (place, other)]
            ledgers = [await system.spawn(Ledger, f"ledger-{number}") for number in range(4)]
            async with relays[0].relay(system), relays[1].relay(system):
                for number in numbers:
                    await place.do(
                        lambda session, number=number: [  # type: ignore[misc]
                            ledger.on(session).tell(Book(entry=number), event_id=f"e-{number}")
                            for ledger in ledgers
                        ]
                    )
                await place.until_empty()
            for ledger in ledgers:
                entries = (await ledger.ask(Booked())).entries
                assert sorted(entries) == sorted(numbers)
            assert all("locked" in str(error) for error in said), "SQLite lets one wait for the other"

    asyncio.run(scenario())


def test_what_can_never_be_told_stays_with_its_reason_and_holds_nothing_up(
    opening: Opening, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with opening() as place, system_at(tmp_path) as system, Outbox(place.engine).relay(system):
            ledger = await system.spawn(Ledger, "ledger-1")
            nobody = system.ref(Ledger, "nobody")
            await place.do(lambda session: nobody.on(session).tell(Book(entry="lost"), event_id="lost"))
            await place.do(lambda session: ledger.on(session).tell(Book(entry="kept"), event_id="kept"))
            await place.until(lambda left: len(left) == 1 and left[0][1] is not None)
            assert (await ledger.ask(Booked())).entries == ("kept",)
            [(event_id, error)] = await place.left()
            assert event_id == "lost"
            assert error is not None
            assert error.startswith("NoSuchMachine")

    asyncio.run(scenario())


def test_a_machine_that_has_no_room_gets_its_events_later_in_order(opening: Opening, tmp_path: Path) -> None:
    class Narrow(Ledger, mailbox=MailboxPolicy(capacity=2)):
        pass

    async def scenario() -> None:
        outbox: Outbox
        async with (
            opening() as place,
            system_at(tmp_path, Narrow) as system,
            Outbox(place.engine, poll_s=0.02).relay(system) as outbox,
        ):
            ledger = await system.spawn(Narrow, "ledger-1")
            system.suspend("ledger-1")
            await place.do(lambda session: [ledger.on(session).tell(Book(entry=name)) for name in "abcde"])
            await place.until(lambda left: len(left) == 3)
            system.resume("ledger-1")
            outbox.wake()
            await place.until_empty()
            assert (await ledger.ask(Booked())).entries == tuple("abcde")

    asyncio.run(scenario())


def test_without_a_journal_an_event_is_off_the_table_once_it_has_its_outcome(opening: Opening) -> None:
    async def scenario() -> None:
        async with (
            opening() as place,
            ActorSystem(Ledger, trace=None) as system,
            Outbox(place.engine).relay(system),
        ):
            ledger = await system.spawn(Ledger, "ledger-1")
            await place.do(lambda session: ledger.on(session).tell(Book(entry="a")))
            await place.until_empty()
            assert system.ref(Ledger, "ledger-1").snapshot().data["entries"] == ("a",)

    asyncio.run(scenario())


def test_what_a_machine_does_not_take_is_refused_where_it_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            place_at(f"sqlite+aiosqlite:///{tmp_path / 'rows.db'}", is_async=True) as place,
            system_at(tmp_path) as system,
            Outbox(place.engine).relay(system),
        ):
            ledger: Any = await system.spawn(Ledger, "ledger-1")
            async with AsyncSession(place.engine) as session:
                on = ledger.on(session)
                for wrong in (
                    lambda: on.tell(Other()),
                    lambda: on.tell(Book(entry="x"), event_id="a\nb"),
                    lambda: on.tell(Book(entry="x"), headers={"depth": 1}),
                ):
                    with pytest.raises(InvalidEvent):
                        wrong()
                with pytest.raises(InvalidData):
                    on.tell(Book(entry="\ud800"))
                told = await on.tell(Book(entry="x"), event_id="e-1", headers={"correlation_id": "c"})
                assert repr(told) == "<Told e-1>"
                await session.rollback()

    asyncio.run(scenario())


def test_a_database_that_is_away_is_reported_and_tried_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        said: list[Exception] = []
        reported = asyncio.Event()

        def report(error: Exception) -> None:
            said.append(error)
            reported.set()

        path = tmp_path / "rows.db"
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
        async with (
            system_at(tmp_path) as system,
            Outbox(engine, poll_s=0.01, on_error=report).relay(system),
        ):
            await reported.wait()  # there is no table
            async with engine.begin() as connection:
                await connection.run_sync(metadata.create_all)
            ledger = await system.spawn(Ledger, "ledger-1")
            async with AsyncSession(engine) as session:
                await ledger.on(session).tell(Book(entry="a"))
                await session.commit()
            await Place(engine, is_async=True).until_empty()
        await engine.dispose()
        assert "no such table" in str(said[0])

    asyncio.run(scenario())


def test_a_driver_whose_errors_are_not_sqlalchemys_does_not_end_the_relay(tmp_path: Path) -> None:
    class TooManyConnections(Exception):
        """As asyncpg says it when it connects: SQLAlchemy 2.0 lets it through as it is."""

    async def scenario() -> None:
        said: list[Exception] = []
        async with place_at(f"sqlite+aiosqlite:///{tmp_path / 'rows.db'}", is_async=True) as place:
            refused = iter([True, True])

            def connecting(*_: Any) -> None:
                if next(refused, False):
                    raise TooManyConnections

            event.listen(place.engine.sync_engine, "do_connect", connecting)
            await place.engine.dispose()  # so that the relay has to connect
            outbox = Outbox(place.engine, poll_s=0.01, on_error=said.append)
            async with system_at(tmp_path) as system, outbox.relay(system):
                ledger = await system.spawn(Ledger, "ledger-1")
                async with asyncio.timeout(10):
                    while len(said) < 2:  # noqa: ASYNC110 -- `on_error` is all that tells
                        await asyncio.sleep(0.005)
                async with AsyncSession(place.engine) as session:
                    await ledger.on(session).tell(Book(entry="a"))
                    await session.commit()
                await place.until_empty()
        assert [type(error) for error in said] == [TooManyConnections, TooManyConnections]

    asyncio.run(scenario())


@pytest.mark.parametrize("dies", ["after the commit", "before the row is taken off"])
def test_a_process_that_is_killed_leaves_no_committed_event_untold_and_none_told_twice(
    dies: str, tmp_path: Path
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.integrations.ledger", str(tmp_path), dies],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "now\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()

    async def scenario() -> None:
        async with place_at_as_it_is(f"sqlite+aiosqlite:///{tmp_path / 'rows.db'}") as place:
            assert [event_id for event_id, _ in await place.left()] == ["payment-1"]
            async with system_at(tmp_path) as system, Outbox(place.engine).relay(system):
                await place.until_empty()
                ledger = system.ref(Ledger, "ledger-1")
                assert (await ledger.ask(Booked())).entries == ("paid",)

    asyncio.run(scenario())


@asynccontextmanager
async def place_at_as_it_is(url: str) -> AsyncIterator[Place]:
    engine = create_async_engine(url)
    try:
        yield Place(engine, is_async=True)
    finally:
        await engine.dispose()
