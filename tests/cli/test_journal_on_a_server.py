"""The commands for a journal on a server: upgrade and sql."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actorfsm.journal.postgresql.migration import FORMAT
from tests.postgresql_server import Server, free_port

Call = Callable[..., Any]


def test_upgrade_makes_a_journal_once_and_then_has_nothing_to_do(
    postgresql_server: Server, call: Call
) -> None:
    schema = postgresql_server.new_schema()
    url = postgresql_server.url(more=f"?schema={schema}")
    assert call("journal", "upgrade", url).out == f"from nothing to format {FORMAT}\n"
    assert call("journal", "upgrade", url).out == f"format {FORMAT} already\n"
    assert call("journal", "upgrade", postgresql_server.url(), "--schema", schema, "--json").json() == {
        "before": FORMAT,
        "after": FORMAT,
    }
    assert call("verify", url).status == 0


def test_the_statements_that_sql_prints_make_a_journal_too(postgresql_server: Server, call: Call) -> None:
    schema = postgresql_server.new_schema()
    ended = call("journal", "sql", "--schema", schema)
    assert ended.status == 0
    postgresql_server.do(ended.out)
    url = postgresql_server.url(more=f"?schema={schema}")
    assert call("journal", "upgrade", url).out == f"format {FORMAT} already\n"
    assert call("journal", "sql", "--after", FORMAT).out == ""


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("orders.db", "orders.db is not on a PostgreSQL server"),
        ("postgresql://me:secret@127.0.0.1:{port}/orders", "does not answer"),
    ],
)
def test_what_cannot_be_upgraded_is_one_line_and_status_2(
    url: str, why: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = call("journal", "upgrade", url.format(port=free_port()))
    assert (ended.status, ended.out) == (2, "")
    assert why in ended.err
    assert ended.err.count("\n") == 1
    assert "secret" not in ended.err
    assert not list(tmp_path.iterdir())
