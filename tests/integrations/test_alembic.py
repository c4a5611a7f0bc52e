"""Alembic, the real one, leaves alone what is this package's, and makes it where the user wants that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Connection, Integer, MetaData, Table, create_engine, text

from actorfsm.integrations.sqlalchemy import include_object, metadata
from tests.postgresql_server import Server


@pytest.fixture(params=["sqlite", "postgresql"])
def connection(request: pytest.FixtureRequest) -> Iterator[Connection]:
    url = "sqlite://"
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgresql_server")
        url = server.url().replace("postgresql:", "postgresql+psycopg:")
    engine = create_engine(url)
    try:
        with engine.connect() as made:
            if request.param == "postgresql":  # what other tests have left is none of Alembic's business here
                made.execute(text("CREATE SCHEMA IF NOT EXISTS of_alembic"))
                made.execute(text("SET search_path TO of_alembic"))
                made.dialect.default_schema_name = "of_alembic"
            yield made
            made.rollback()
    finally:
        engine.dispose()


def diff(connection: Connection, target: Any, **options: Any) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"target_metadata": target, **options})
    return list(compare_metadata(context, target))


def users_tables() -> MetaData:
    users = MetaData()
    Table("customers", users, Column("id", Integer, primary_key=True))
    return users


def test_autogenerate_leaves_the_outbox_alone_where_it_is_not_in_the_users_metadata(
    connection: Connection,
) -> None:
    users = users_tables()
    users.create_all(connection)
    metadata.create_all(connection)
    assert [change[0] for change in diff(connection, users)] == ["remove_table"]  # what it does by itself
    assert diff(connection, users, include_object=include_object) == []


def test_autogenerate_makes_the_outbox_where_its_metadata_is_given_and_then_finds_no_difference(
    connection: Connection,
) -> None:
    users = users_tables()
    targets = [users, metadata]
    made = [change[1].name for change in diff(connection, targets, include_object=include_object)]
    assert sorted(made) == ["actorfsm_outbox", "customers"]
    users.create_all(connection)
    metadata.create_all(connection)
    assert diff(connection, targets, include_object=include_object) == []


def test_a_table_of_the_users_that_is_gone_from_their_metadata_is_still_dropped(
    connection: Connection,
) -> None:
    users_tables().create_all(connection)
    changes = diff(connection, MetaData(), include_object=include_object)
    assert [(change[0], change[1].name) for change in changes] == [("remove_table", "customers")]


def test_the_schema_of_a_journal_is_left_alone() -> None:
    stored = Table("entries", MetaData(), Column("id", Integer), schema="actorfsm")
    assert not include_object(stored, "entries", "table", True, None)
    assert not include_object(stored.c.id, "id", "column", True, None)
