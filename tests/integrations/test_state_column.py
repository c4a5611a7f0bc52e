"""Machines in rows: the laws of stored states on SQLite and PostgreSQL, and what belongs to sessions alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum, auto
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import String, TypeDecorator, create_engine, event, func, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncAttrs, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from actorfsm import (
    ConcurrentTransition,
    DefinitionError,
    Discarded,
    Event,
    HookFailed,
    Machine,
    Record,
    StaleTurn,
    StateTimeout,
    Unsupported,
    after_transition,
    blocking,
    on_enter,
    on_timeout,
    postpone,
    transition,
)
from actorfsm.integrations.sqlalchemy import Rows, Versioned, state_column
from tests.integrations.order import Cancel, Note, Notes, Order, OrderState, Pay, PlainOrder, Receipt
from tests.integrations.stored_state_laws import LAWS, Law
from tests.postgresql_server import Server

PAY = Pay(amount=Decimal("9.90"))


class Money(TypeDecorator[Decimal]):
    """SQLite has no numbers with decimals."""

    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Any) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Any) -> Decimal | None:
        return None if value is None else Decimal(value)


class Base(AsyncAttrs, DeclarativeBase):
    pass


class OrderRow(Versioned, Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[OrderState] = state_column(Order)
    paid: Mapped[Decimal] = mapped_column(Money, default=Decimal(0))
    note: Mapped[str | None] = mapped_column(default="")
    customer: Mapped[str] = mapped_column(default="")


class PlainRow(Versioned, Base):
    __tablename__ = "plain_orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[OrderState] = state_column(PlainOrder, name="status")
    paid: Mapped[Decimal] = mapped_column(Money, default=Decimal(0))
    note: Mapped[str | None] = mapped_column(default="")


class Home:
    """Rows of an async session."""

    waits = True

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self.sessions = sessions
        self.notes = Notes()
        self.records: list[Record] = []
        self.rows = Rows(services=self.notes, trace=[self.records.append])

    async def new(self, **fields: Any) -> int:
        async with self.sessions.begin() as session:
            row = OrderRow(**fields)
            session.add(row)
            await session.flush()
            return row.id

    async def ask(self, key: int, event: Any, *, event_id: str | None = None) -> Any:
        async with self.sessions.begin() as session:
            row = await session.get_one(OrderRow, key)
            return await self.rows.ask(session, row, event, event_id=event_id)

    async def read(self, key: int) -> tuple[OrderState, Decimal, str | None]:
        async with self.sessions() as session:
            row = await session.get_one(OrderRow, key)
            return row.state, row.paid, row.note

    async def write_behind_its_back(self, key: int, **fields: Any) -> None:
        async with self.sessions.begin() as session:
            await session.execute(update(OrderRow).where(OrderRow.id == key).values(**fields))

    async def ask_after_another(self, key: int, event: Any, other: Any) -> Any:
        async with self.sessions() as session:
            row = await session.get_one(OrderRow, key)
            await (
                session.commit()
            )  # the row stays as it was read; a transaction of SQLite would block the other
            await self.ask(key, other)
            async with session.begin():
                return await self.rows.ask(session, row, event)


class SyncHome(Home):
    """Rows of a session that is not async."""

    waits = False

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self.sync_sessions = sessions
        self.notes = Notes()
        self.records = []
        self.rows = Rows(services=self.notes, trace=[self.records.append])

    async def new(self, **fields: Any) -> int:
        with self.sync_sessions.begin() as session:
            row = PlainRow(**fields)
            session.add(row)
            session.flush()
            return row.id

    async def ask(self, key: int, event: Any, *, event_id: str | None = None) -> Any:
        with self.sync_sessions.begin() as session:
            return self.rows.ask_sync(session, session.get_one(PlainRow, key), event, event_id=event_id)

    async def read(self, key: int) -> tuple[OrderState, Decimal, str | None]:
        with self.sync_sessions() as session:
            row = session.get_one(PlainRow, key)
            return row.state, row.paid, row.note

    async def write_behind_its_back(self, key: int, **fields: Any) -> None:
        with self.sync_sessions.begin() as session:
            session.execute(update(PlainRow).where(PlainRow.id == key).values(**fields))

    async def ask_after_another(self, key: int, event: Any, other: Any) -> Any:
        with self.sync_sessions() as session:
            row = session.get_one(PlainRow, key)
            session.commit()
            await self.ask(key, other)
            with session.begin():
                return self.rows.ask_sync(session, row, event)


@asynccontextmanager
async def rows_of(url: str) -> AsyncIterator[Home]:
    """Make the tables, and rows in async sessions."""
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield Home(async_sessionmaker(engine, expire_on_commit=False))
    finally:
        await engine.dispose()


@asynccontextmanager
async def sync_rows_of(url: str) -> AsyncIterator[Home]:
    engine = create_engine(url)
    try:
        Base.metadata.create_all(engine)
        yield SyncHome(sessionmaker(engine, expire_on_commit=False))
    finally:
        engine.dispose()


Opening = Callable[[], Any]


def on_sqlite(tmp_path: Path) -> Opening:
    return lambda: rows_of(f"sqlite+aiosqlite:///{tmp_path / 'rows.db'}")


@pytest.fixture(params=["sqlite", "sqlite sync", "postgresql", "postgresql sync", "asyncpg"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Opening:
    if request.param == "sqlite":
        return on_sqlite(tmp_path)
    if request.param == "sqlite sync":
        return lambda: sync_rows_of(f"sqlite:///{tmp_path / 'rows.db'}")
    server: Server = request.getfixturevalue("postgresql_server")
    if request.param == "asyncpg":
        return lambda: rows_of(server.url().replace("postgresql:", "postgresql+asyncpg:"))
    url = server.url().replace("postgresql:", "postgresql+psycopg:")
    return lambda: rows_of(url) if request.param == "postgresql" else sync_rows_of(url)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law: Law, opening: Opening) -> None:
    async def scenario() -> None:
        async with opening() as home:
            await law(home)

    asyncio.run(scenario())


# -- what belongs to sessions ----------------------------------------------------------------------------------------


def on_rows(tmp_path: Path, scenario: Callable[[Home], Any]) -> None:
    async def run() -> None:
        async with on_sqlite(tmp_path)() as home:
            await scenario(home)

    asyncio.run(run())


def test_after_hooks_and_the_record_wait_for_the_commit_of_the_caller(tmp_path: Path) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        async with home.sessions() as session:
            row = await session.get_one(OrderRow, key)
            await home.rows.ask(session, row, PAY)
            assert (row.state, row.paid) == (OrderState.PAYING, Decimal("9.90"))
            assert (home.notes.done[-1][0], home.records) == ("enter", [])
            await session.commit()
            assert (home.notes.done[-1][0], home.records[-1].name) == ("after", "committed")

    on_rows(tmp_path, scenario)


def test_a_transaction_that_is_rolled_back_undoes_the_transition_and_runs_no_after_hook(
    tmp_path: Path,
) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        async with home.sessions() as session:
            row = await session.get_one(OrderRow, key)
            await home.rows.ask(session, row, PAY)
            await session.rollback()
            await session.refresh(row)
            assert (row.state, row.paid, row.version) == (OrderState.CREATED, Decimal(0), 1)
            await home.rows.ask(session, row, Cancel())
            await session.commit()
        assert [place for place, *_ in home.notes.done if place == "after"] == []
        assert [(record.name, record.event_type) for record in home.records] == [
            ("failed", "Pay"),
            ("committed", "Cancel"),
        ]

    on_rows(tmp_path, scenario)


def test_a_session_that_is_closed_without_a_commit_runs_no_after_hook(tmp_path: Path) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        async with home.sessions() as session:
            await home.rows.ask(session, await session.get_one(OrderRow, key), PAY)
        assert home.notes.done[-1][0] == "enter"
        assert [record.name for record in home.records] == ["failed"]
        assert await home.read(key) == (OrderState.CREATED, Decimal(0), "")

    on_rows(tmp_path, scenario)


@pytest.mark.parametrize("ends", ["released", "undone"])
def test_after_hooks_of_a_savepoint_wait_for_the_commit_or_end_with_it(
    ends: str, postgresql_server: Server
) -> None:
    async def scenario() -> None:
        async with rows_of(postgresql_server.url().replace("postgresql:", "postgresql+psycopg:")) as home:
            keys = await home.new(), await home.new()
            async with home.sessions.begin() as session:
                first, second = [await session.get_one(OrderRow, key) for key in keys]
                await home.rows.ask(session, first, Note(text="outside"))
                savepoint = await session.begin_nested()
                await home.rows.ask(session, second, PAY)
                await (savepoint.commit() if ends == "released" else savepoint.rollback())
                assert home.notes.done[-1][0] == "enter"
                await session.refresh(first)
                assert await session.scalar(select(OrderRow.state).where(OrderRow.id == keys[1])) is (
                    await second.awaitable_attrs.state
                )
            names = [(record.name, record.event_type) for record in home.records]
            if ends == "released":
                assert home.notes.done[-1][0] == "after"
                assert names == [("committed", "Note"), ("committed", "Pay")]
            else:
                assert home.notes.done[-1][0] == "enter"
                assert names == [("failed", "Pay"), ("committed", "Note")]

    asyncio.run(scenario())


def test_what_the_caller_changed_in_the_row_is_stored_with_the_transition(tmp_path: Path) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        async with home.sessions.begin() as session:
            row = await session.get_one(OrderRow, key)
            row.customer = "Ada"
            await home.rows.ask(session, row, PAY)
            row.customer = "Grace"
        async with home.sessions() as session:
            row = await session.get_one(OrderRow, key)
            assert (row.customer, row.state, row.version) == ("Grace", OrderState.PAYING, 4)

    on_rows(tmp_path, scenario)


def test_a_row_that_is_new_or_expired_may_be_asked(tmp_path: Path) -> None:
    async def scenario(home: Home) -> None:
        home.sessions.configure(expire_on_commit=True)
        async with home.sessions() as session:
            row = OrderRow()
            session.add(row)
            assert await home.rows.ask(session, row, PAY) == Receipt(number="R-9.90")
            await session.commit()
            await home.rows.ask(session, row, Cancel())
            await session.commit()
            await session.refresh(row)
            assert row.state is OrderState.CANCELLED

    on_rows(tmp_path, scenario)


def test_a_row_that_is_not_in_the_session_is_refused_before_any_hook(tmp_path: Path) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        async with home.sessions() as other, home.sessions.begin() as session:
            of_another, deleted = await other.get_one(OrderRow, key), await session.get_one(OrderRow, key)
            await session.delete(deleted)
            for row in (OrderRow(id=9), of_another, deleted):
                with pytest.raises(Unsupported, match=r"OrderRow is not in the session.*session\.add\(row\)"):
                    await home.rows.ask(session, row, PAY)
        assert home.notes.done == []

    on_rows(tmp_path, scenario)


def test_what_the_database_refuses_at_the_writing_is_recorded_without_values(tmp_path: Path) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        async with home.sessions.begin() as session:
            await session.execute(
                text("CREATE TRIGGER no BEFORE UPDATE ON orders BEGIN SELECT RAISE(ABORT, 'not so'); END")
            )
        async with home.sessions() as session:
            row = await session.get_one(OrderRow, key)
            with pytest.raises(IntegrityError, match="not so"):
                await home.rows.ask(session, row, PAY)
            assert (row.state, row.version) == (OrderState.CREATED, 1)
        (record,) = home.records
        assert (record.name, record.hook, record.reason) == ("failed", "commit", "IntegrityError")
        assert str(record.error) == f"orders-{key} was not stored: IntegrityError"
        assert record.error is not None
        # The database's own words hold what was to be written.
        assert record.error.__cause__ is record.error.__context__ is None

    on_rows(tmp_path, scenario)


def test_a_writing_that_is_interrupted_is_recorded(tmp_path: Path) -> None:
    def interrupt(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE"):
            raise asyncio.CancelledError

    async def scenario(home: Home) -> None:
        key = await home.new()
        event.listen(home.sessions.kw["bind"].sync_engine, "before_cursor_execute", interrupt)
        with pytest.raises(asyncio.CancelledError):
            await home.ask(key, PAY)
        (record,) = home.records
        assert (record.name, record.hook, type(record.error)) == ("failed", "commit", Discarded)
        assert await home.read(key) == (OrderState.CREATED, Decimal(0), "")

    on_rows(tmp_path, scenario)


def test_a_commit_that_is_cancelled_in_an_after_hook_is_recorded_of_all_its_machines(tmp_path: Path) -> None:
    async def scenario(home: Home) -> None:
        keys = await home.new(), await home.new()
        async with home.sessions() as session:
            for key in keys:
                await home.rows.ask(session, await session.get_one(OrderRow, key), PAY)
            home.notes.turns["after"] = asyncio.Event()
            home.notes.began.clear()
            committing = asyncio.create_task(session.commit())
            await home.notes.began.wait()
            committing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await committing
        assert [(record.name, record.machine_id) for record in home.records] == [
            ("committed", f"orders-{key}") for key in keys
        ]
        assert [(await home.read(key))[0] for key in keys] == [OrderState.PAYING, OrderState.PAYING]

    on_rows(tmp_path, scenario)


def test_a_state_that_is_set_by_hand_during_an_event_is_a_lost_race(tmp_path: Path) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        async with home.sessions() as session:
            row = await session.get_one(OrderRow, key)
            await session.commit()
            await home.write_behind_its_back(key, state=OrderState.CANCELLED)  # and the version is as it was
            with pytest.raises(ConcurrentTransition):
                await home.rows.ask(session, row, PAY)
        assert await home.read(key) == (OrderState.CANCELLED, Decimal(0), "")

    on_rows(tmp_path, scenario)


def test_a_column_that_each_update_sets_is_shown_in_the_row(tmp_path: Path) -> None:
    async def scenario(home: Home) -> None:
        async with home.sessions() as session:
            row = ShownRow()
            session.add(row)
            await home.rows.ask(session, row, Finish())
            assert (row.by_program, row.by_database) == ("changed", "CHANGED")
            await session.commit()
            assert row.version == 2

    on_rows(tmp_path, scenario)


def test_two_events_at_once_in_one_session_are_a_lost_race_too(tmp_path: Path) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        async with home.sessions.begin() as session:
            row = await session.get_one(OrderRow, key)
            home.notes.turns["before"] = asyncio.Event()
            paying = asyncio.create_task(home.rows.ask(session, row, PAY))
            await home.notes.began.wait()
            home.notes.turns.pop("before")
            await home.rows.ask(session, row, Cancel())
            paying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await paying
        assert (await home.read(key))[0] is OrderState.CANCELLED

    on_rows(tmp_path, scenario)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_postgresql_that_gives_up_one_of_two_transactions_is_a_lost_race(
    driver: str, postgresql_server: Server
) -> None:
    async def scenario() -> None:
        async with rows_of(postgresql_server.url().replace("postgresql:", f"postgresql+{driver}:")) as home:
            key = await home.new()
            async with home.sessions() as session:
                await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
                row = await session.get_one(OrderRow, key)
                await home.ask(key, Note(text="first"))
                with pytest.raises(ConcurrentTransition) as lost:
                    await home.rows.ask(session, row, PAY)
                assert "could not serialize" in str(lost.value.__cause__)

    asyncio.run(scenario())


def test_sqlite_that_gives_up_one_of_two_transactions_is_a_lost_race(tmp_path: Path) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        async with home.sessions() as session, home.sessions() as other:
            row = await session.get_one(OrderRow, key)
            await session.execute(text("PRAGMA busy_timeout = 10"))
            await other.execute(text("BEGIN IMMEDIATE"))
            with pytest.raises(ConcurrentTransition) as lost:
                await home.rows.ask(session, row, PAY)
            assert "locked" in str(lost.value.__cause__)

    on_rows(tmp_path, scenario)


def test_an_async_hook_in_a_session_that_is_not_is_refused_before_any_hook_has_run(tmp_path: Path) -> None:
    async def scenario(home: Home) -> None:
        key = await home.new()
        async with home.sessions.begin() as session:
            row = await session.get_one(OrderRow, key)
            with pytest.raises(Unsupported, match=r"Order\.risk_control is `async def`"):
                await session.run_sync(lambda sync: home.rows.ask_sync(sync, row, PAY))
        assert home.notes.done == []

    on_rows(tmp_path, scenario)


class Press(Event): ...


class Release(Event): ...


class Light(StrEnum):
    OFF = auto()
    ON = auto()


class Lamp(Machine[Light, Any], initial=Light.OFF, final=(Light.ON,)):
    @transition(Light.OFF, to=Light.ON)
    def switch(self, event: Press) -> None:
        self.services.append(self)

    @blocking
    @on_enter(Light.ON)
    def warm_up(self, old: Light, new: Light) -> None:
        self.services.append("warm")

    @after_transition(Light.ON)
    def change(self, old: Light, new: Light) -> None:
        self.tell("somebody", Press())


class LampRow(Versioned, Base):
    __tablename__ = "lamps"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[Light] = state_column(Lamp)


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_a_hook_that_blocks_runs_and_what_needs_a_system_is_refused_and_self_is_stale_afterwards(
    is_async: bool, tmp_path: Path
) -> None:
    async def scenario(home: Home) -> None:
        seen: list[Any] = []
        rows = Rows(services=seen, trace=[home.records.append])
        async with home.sessions.begin() as session:
            row = LampRow()
            session.add(row)
            if is_async:
                await rows.ask(session, row, Press())
            else:
                await session.run_sync(lambda sync: rows.ask_sync(sync, row, Press()))
        machine, warm = seen
        assert warm == "warm"
        with pytest.raises(StaleTurn):
            machine.now()
        assert [(record.name, type(record.error)) for record in home.records] == [
            ("committed", type(None)),
            ("after_hook_failed", Unsupported),
        ]

    on_rows(tmp_path, scenario)


def test_a_machine_that_needs_a_mailbox_or_a_clock_has_no_state_column() -> None:
    class Sleepy(Machine[Light], initial=Light.OFF, final=(Light.ON,)):
        @on_timeout(Light.OFF, after=timedelta(seconds=1), to=Light.ON)
        def wake(self, event: StateTimeout) -> None: ...

    class Patient(Machine[Light], initial=Light.OFF):
        @transition(Light.OFF, to=Light.ON)
        def switch(self, event: Press) -> None: ...

        @postpone(Light.OFF)
        @transition(Light.ON, to=Light.OFF)
        def wait(self, event: Release) -> None: ...

    class Sure(Machine[Light], initial=Light.OFF, final=(Light.ON,)):
        @transition(Light.OFF, to=Light.ON)
        def switch(self, event: Press) -> None: ...

        @after_transition(Light.ON, durable=True)
        def tell_all(self, old: Light, new: Light) -> None: ...

    for machine, said in ((Sleepy, "timeout of OFF"), (Patient, "OFF postpones"), (Sure, "hook tell_all")):
        with pytest.raises(DefinitionError, match=said):
            state_column(machine)


def test_a_row_without_version_state_column_or_a_field_of_the_machine_is_refused(tmp_path: Path) -> None:
    class Unversioned(Base):
        __tablename__ = "unversioned"
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[Light] = state_column(Lamp)

    class Stateless(Versioned, Base):
        __tablename__ = "stateless"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Fieldless(Versioned, Base):
        __tablename__ = "fieldless"
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[OrderState] = state_column(Order)

    async def scenario(home: Home) -> None:
        refusals = (
            (Unversioned, "inherit from Versioned"),
            (Stateless, "0 state columns"),
            (Fieldless, "no column for paid, note"),
        )
        for cls, said in refusals:
            async with home.sessions() as session:
                row = cls()
                session.add(row)
                with pytest.raises(DefinitionError, match=said):
                    await home.rows.ask(session, row, Press())

    on_rows(tmp_path, scenario)


def test_without_sqlalchemy_the_error_names_the_extra() -> None:
    code = "import sys; sys.modules['sqlalchemy'] = None\nimport actorfsm.integrations.sqlalchemy"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "Unsupported: this needs SQLAlchemy" in ended.stderr
    assert "pip install 'actorfsm[sqlalchemy]'" in ended.stderr


class Shift(StrEnum):
    OPEN = auto()
    DONE = auto()


class Finish(Event): ...


class Worked(Machine[Shift, Any], initial=Shift.OPEN, final=(Shift.DONE,)):
    @transition(Shift.OPEN, to=Shift.DONE)
    async def finish(self, event: Finish, *, session: AsyncSession) -> None:
        session.add(PlainRow(note="by a hook"))


class WorkedPlainly(Machine[Shift, Any], initial=Shift.OPEN, final=(Shift.DONE,)):
    @transition(Shift.OPEN, to=Shift.DONE)
    def finish(self, event: Finish, *, session: Session) -> None:
        session.add(PlainRow(note="by a hook"))


class WorkedRow(Versioned, Base):
    __tablename__ = "worked"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[Shift] = state_column(Worked)


class ShownRow(Versioned, Base):
    __tablename__ = "shown"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[Shift] = state_column(Worked)
    by_program: Mapped[str] = mapped_column(default="new", onupdate=lambda: "changed")
    by_database: Mapped[str] = mapped_column(default="new", onupdate=func.upper("changed"))


class WorkedPlainlyRow(Versioned, Base):
    __tablename__ = "worked_plainly"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[Shift] = state_column(WorkedPlainly)


def test_a_hook_that_takes_a_session_gets_the_one_that_the_row_belongs_to(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'rows.db'}")
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        rows = Rows(trace=())
        async with AsyncSession(engine) as session:
            for commits in (False, True):
                row = WorkedRow()
                session.add(row)
                await rows.ask(session, row, Finish())
                await (session.commit() if commits else session.rollback())
                assert len((await session.scalars(select(PlainRow))).all()) == commits
            plain = WorkedPlainlyRow()
            session.add(plain)
            with pytest.raises(HookFailed, match="takes a Session, and the event is handled in AsyncSession"):
                await rows.ask(session, plain, Finish())
        await engine.dispose()

    asyncio.run(scenario())
    engine = create_engine(f"sqlite:///{tmp_path / 'rows.db'}")
    with Session(engine) as session:
        row = WorkedPlainlyRow()
        session.add(row)
        Rows(trace=()).ask_sync(session, row, Finish())
        session.commit()
        assert len(session.scalars(select(PlainRow)).all()) == 2
    engine.dispose()
