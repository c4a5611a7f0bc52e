"""What cannot be a journal on a server is refused with what to do, and nothing is changed there."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from actorfsm import JournalError, JournalLocked, JournalUnusable
from actorfsm.journal.postgresql import migration
from actorfsm.journal.postgresql.journal import PostgreSQLJournal
from actorfsm.journal.postgresql.migration import FORMAT, sql
from actorfsm.journal.postgresql.schema import upgrade
from tests.journal.stages import PostgreSQLStage
from tests.journal.test_postgresql_in_trouble import backend_of, batch
from tests.postgresql_server import Server, free_port


def open_and_close(journal: PostgreSQLJournal) -> None:
    async def scenario() -> None:
        await journal.open()
        await journal.close()

    asyncio.run(scenario())


def tables_of(server: Server, schema: str) -> list[Any]:
    return server.do("SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s)::oid", schema)


def test_a_server_that_does_not_answer_is_said() -> None:
    journal = PostgreSQLJournal(f"postgresql://me:secret@127.0.0.1:{free_port()}/orders")
    with pytest.raises(JournalUnusable, match="does not answer; is the server there") as refused:
        open_and_close(journal)
    assert "secret" not in str(refused.value)


def test_a_wrong_password_is_said_and_not_repeated(postgresql_server: Server) -> None:
    postgresql_server.do("CREATE ROLE locked LOGIN PASSWORD 'right'")
    try:
        with pytest.raises(JournalUnusable, match="check user, password and database") as refused:
            open_and_close(PostgreSQLJournal(postgresql_server.url(user="locked", password="wrong-one")))
        assert "wrong-one" not in str(refused.value)
        with pytest.raises(JournalUnusable, match="asks for a password"):
            open_and_close(PostgreSQLJournal(postgresql_server.url(user="locked", more="?passfile=/nowhere")))
        # Who may connect and not make a schema is told who else may.
        schema = postgresql_server.new_schema()
        with pytest.raises(JournalUnusable, match="actorfsm journal upgrade") as refused:
            open_and_close(
                PostgreSQLJournal(postgresql_server.url(user="locked", password="right"), schema=schema)
            )
        assert tables_of(postgresql_server, schema) == []
        upgrade(postgresql_server.url(), schema=schema)
        with pytest.raises(JournalUnusable, match="grant it the schema"):
            open_and_close(
                PostgreSQLJournal(postgresql_server.url(user="locked", password="right"), schema=schema)
            )
    finally:
        postgresql_server.do("DROP ROLE locked")


def test_a_database_that_there_is_not_is_said(postgresql_server: Server) -> None:
    url = postgresql_server.url().replace("/postgres", "/nowhere")
    with pytest.raises(JournalUnusable, match='"nowhere" does not exist'):
        open_and_close(PostgreSQLJournal(url))


def test_a_database_of_another_encoding_is_refused(postgresql_server: Server) -> None:
    postgresql_server.do("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    url = postgresql_server.url().replace("/postgres", "/latin")
    with pytest.raises(JournalUnusable, match="encoded as LATIN1: make one with ENCODING 'UTF8'"):
        open_and_close(PostgreSQLJournal(url))


def test_a_schema_of_another_application_is_left_as_it_is(postgresql_server: Server) -> None:
    schema = postgresql_server.new_schema()
    postgresql_server.do(f"CREATE SCHEMA {schema}")
    postgresql_server.do(f"CREATE TABLE {schema}.owners (name text)")
    for refused in (
        lambda: open_and_close(PostgreSQLJournal(postgresql_server.url(), schema=schema)),
        lambda: upgrade(postgresql_server.url(), schema=schema),
    ):
        with pytest.raises(JournalUnusable, match="another application: give another one, as \\?schema=name"):
            refused()
    assert tables_of(postgresql_server, schema) == [("owners",)]


def test_a_schema_that_is_empty_becomes_a_journal(postgresql_server: Server) -> None:
    schema = postgresql_server.new_schema()
    postgresql_server.do(f"CREATE SCHEMA {schema}")
    open_and_close(PostgreSQLJournal(postgresql_server.url(more=f"?schema={schema}")))
    assert ("entries",) in tables_of(postgresql_server, schema)


def test_a_journal_of_a_newer_version_is_left_as_it_is(postgresql_server: Server) -> None:
    schema = postgresql_server.new_schema()
    upgrade(postgresql_server.url(), schema=schema)
    postgresql_server.do(f"INSERT INTO {schema}.actorfsm_schema VALUES ({FORMAT + 1})")
    for refused in (
        lambda: open_and_close(PostgreSQLJournal(postgresql_server.url(), schema=schema)),
        lambda: upgrade(postgresql_server.url(), schema=schema),
    ):
        with pytest.raises(JournalUnusable, match=f"newer version of actorfsm \\(format {FORMAT + 1}"):
            refused()
    assert postgresql_server.do(f"SELECT epoch FROM {schema}.owners") == [(0,)]


def test_an_upgrade_is_made_once_and_the_next_one_has_nothing_to_do(postgresql_server: Server) -> None:
    schema = postgresql_server.new_schema()
    assert upgrade(postgresql_server.url(), schema=schema) == (0, FORMAT)
    assert upgrade(postgresql_server.url(), schema=schema) == (FORMAT, FORMAT)


@pytest.fixture
def one_more_step(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Add a migration after the last one."""

    def add(text: str) -> None:
        steps = {**migration.steps(), FORMAT + 1: text}
        monkeypatch.setattr(migration, "steps", lambda: steps)
        for module in ("migration", "schema"):
            monkeypatch.setattr(f"actorfsm.journal.postgresql.{module}.FORMAT", FORMAT + 1)

    return add


def test_a_journal_of_an_older_version_is_opened_after_an_upgrade(
    postgresql_server: Server, one_more_step: Any
) -> None:
    schema = postgresql_server.new_schema()
    upgrade(postgresql_server.url(), schema=schema)
    one_more_step(
        f"ALTER TABLE machines ADD more text; INSERT INTO actorfsm_schema (version) VALUES ({FORMAT + 1});"
    )
    journal = PostgreSQLJournal(postgresql_server.url(), schema=schema)
    with pytest.raises(JournalUnusable, match="stop what uses it, then run 'actorfsm journal upgrade'"):
        open_and_close(journal)
    assert upgrade(postgresql_server.url(), schema=schema) == (FORMAT, FORMAT + 1)
    postgresql_server.do(f"SELECT more FROM {schema}.machines")


def test_a_migration_that_fails_changes_nothing(postgresql_server: Server, one_more_step: Any) -> None:
    schema = postgresql_server.new_schema()
    upgrade(postgresql_server.url(), schema=schema)
    before = tables_of(postgresql_server, schema)
    one_more_step("CREATE TABLE more (name text); SELECT 1 / 0;")
    with pytest.raises(JournalUnusable, match="nothing was changed: division by zero"):
        upgrade(postgresql_server.url(), schema=schema)
    assert tables_of(postgresql_server, schema) == before


def test_what_is_printed_makes_the_same_journal(postgresql_server: Server) -> None:
    schema = postgresql_server.new_schema()
    postgresql_server.do(sql(schema))
    assert upgrade(postgresql_server.url(), schema=schema) == (FORMAT, FORMAT)
    open_and_close(PostgreSQLJournal(postgresql_server.url(), schema=schema))
    assert sql(schema, after=FORMAT) == ""


def test_a_server_that_does_not_keep_its_word_is_refused(
    postgresql_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fsync = off would lose nobody could answer for."""
    asked = "actorfsm.journal.postgresql.store._DURABILITY"
    monkeypatch.setattr(asked, "SELECT 'off', %s")
    schema = postgresql_server.new_schema()
    with pytest.raises(JournalUnusable, match="fsync = off"):
        open_and_close(PostgreSQLJournal(postgresql_server.url(), schema=schema))
    open_and_close(PostgreSQLJournal(postgresql_server.url(), schema=schema, durability="process"))


def test_commits_wait_for_the_disk_unless_that_is_not_asked_for(postgresql_server: Server) -> None:
    async def scenario(durability: Any, role: str, expected: str) -> None:
        journal = PostgreSQLJournal(postgresql_server.url(user=role), schema=schema, durability=durability)
        await journal.open()
        assert await journal._read(
            lambda connection: connection.execute("SHOW synchronous_commit").fetchall()
        ) == [(expected,)]
        await journal.close()

    schema = postgresql_server.new_schema()
    postgresql_server.do("CREATE ROLE hasty LOGIN SUPERUSER")
    postgresql_server.do("ALTER ROLE hasty SET synchronous_commit = off")
    asyncio.run(scenario("full", "hasty", "on"))
    asyncio.run(scenario("full", "tester", "on"))
    asyncio.run(scenario("process", "tester", "off"))


def test_a_journal_that_another_system_uses_is_refused_with_its_process(postgresql_server: Server) -> None:
    import os

    async def scenario() -> None:
        stage = PostgreSQLStage(postgresql_server)
        journal = await stage.open()
        with pytest.raises(JournalLocked, match=f"in use by process {os.getpid()} on ") as refused:
            await stage.open()
        assert refused.value.pid == os.getpid()
        assert journal.epoch == 1
        with pytest.raises(JournalLocked, match="is open already"):
            await journal.open()
        await journal.close()
        again = await stage.open()
        assert again.epoch == 2
        await again.close()

    asyncio.run(scenario())


def test_a_transaction_that_holds_the_owner_keeps_the_next_one_waiting_and_is_said(
    postgresql_server: Server,
) -> None:
    async def scenario() -> None:
        stage = PostgreSQLStage(postgresql_server)
        await (await stage.open()).close()
        with psycopg.connect(postgresql_server.url()) as other:
            other.execute(f"SELECT FROM {stage.schema}.owners FOR SHARE".encode())
            stage.trouble.settings = {"lock_timeout": "100ms"}
            with pytest.raises(JournalLocked, match="a transaction that is open holds the machines"):
                await stage.open()
        stage.trouble.settings = {}
        await (await stage.open()).close()

    asyncio.run(scenario())


def test_only_to_read_takes_nothing_over(postgresql_server: Server) -> None:
    async def scenario() -> None:
        stage = PostgreSQLStage(postgresql_server)
        with pytest.raises(JournalUnusable, match="there is no journal at"):
            await stage.journal(read_only=True).open()
        assert tables_of(postgresql_server, stage.schema) == []
        owner = await stage.open()
        reader = stage.journal(read_only=True)
        await reader.open()
        assert reader.epoch == owner.epoch == 1
        assert await reader.machines() == []
        await reader.close()
        await owner.close()

    asyncio.run(scenario())


def test_a_journal_that_is_shown_still_is_one_transaction_which_is_begun_once(
    postgresql_server: Server,
) -> None:
    said: list[str | None] = []

    def connect(*arguments: Any, **options: Any) -> Any:
        connection = psycopg.Connection.connect(*arguments, **options)
        connection.add_notice_handler(lambda notice: said.append(notice.message_primary))
        return connection

    async def scenario() -> None:
        stage = PostgreSQLStage(postgresql_server)
        owner = await stage.open()
        still = stage.journal(read_only=True, still=True, connect=connect)
        await still.open()
        await still.rows()
        await still.close()
        await owner.close()

    asyncio.run(scenario())
    assert said == []


def test_what_is_shown_still_is_what_was_there_when_it_was_opened(postgresql_server: Server) -> None:
    async def scenario() -> None:
        stage = PostgreSQLStage(postgresql_server)
        owner = await stage.open()
        await owner.append(batch(1))
        await owner.snapshot("a")
        still = stage.journal(read_only=True, still=True)
        reader = stage.journal(read_only=True)
        await still.open()
        await reader.open()
        await owner.append(batch(2))
        await owner.append(batch(1, "b"))
        await owner.snapshot("b")
        assert [(row.machine_id, row.seq) for row in await still.rows()] == [("a", 1)]
        assert [(row.machine_id, row.seq) for row in await reader.rows(("a", 1))] == [("a", 2), ("b", 1)]
        assert [shot.machine_id for shot in await still.snapshots()] == ["a"]
        assert [shot.machine_id for shot in await reader.snapshots("a")] == ["b"]
        for journal in (still, reader):
            postgresql_server.do("SELECT pg_terminate_backend(%s)", backend_of(journal))
        assert len(await reader.rows()) == 3
        with pytest.raises(JournalError, match="what it showed: open it again"):
            await still.rows()
        for journal in (still, reader, owner):
            await journal.close()

    asyncio.run(scenario())
