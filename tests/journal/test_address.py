"""What may be given as a journal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from actorfsm import ActorFSMError, JournalUnusable, Unsupported
from actorfsm.journal.address import journal_at
from actorfsm.journal.memory import MemoryJournal


@pytest.mark.parametrize("kind", [str, Path])
def test_a_name_is_that_of_a_sqlite_file_which_is_not_yet_made(kind: Any, tmp_path: Path) -> None:
    journal = journal_at(kind(tmp_path / "orders.db"), durability="process")
    assert repr(journal) == f"<SQLiteJournal {tmp_path / 'orders.db'} epoch=0 closed>"
    assert journal.durable
    assert not list(tmp_path.iterdir())


def test_a_journal_is_taken_as_it_is() -> None:
    journal = MemoryJournal()
    assert journal_at(journal) is journal
    assert not journal.durable


@pytest.mark.parametrize("name", ["", " ", ":memory:", "a\0b"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(JournalUnusable, match="give the name of a file"):
        journal_at(name)


def test_a_back_end_that_there_is_not_is_refused_without_its_password() -> None:
    with pytest.raises(Unsupported, match="no journal at mysql://;") as refused:
        journal_at("mysql://me:secret@localhost/orders")
    assert "secret" not in str(refused.value)


def test_a_url_of_postgresql_is_a_journal_on_a_server_and_its_password_is_never_shown() -> None:
    journal = journal_at("postgresql://me:secret@localhost:5433/orders?sslmode=require&schema=shop")
    assert (
        repr(journal)
        == "<PostgreSQLJournal postgresql://me@localhost:5433/orders?schema=shop epoch=0 closed>"
    )
    assert journal.durable


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://localhost/orders?schema=Shop", "lower-case letters"),
        ("postgresql://localhost/orders?wrong=1", "wrong"),
        ("postgresql://me:secret@[::1/orders", "no URL of PostgreSQL"),
        ("postgresql://me:my@secret@localhost/orders", "write @ as %40"),
        ("postgresql://me:my/secret@localhost/orders", "/ as %2F"),
        ("postgresql://me:secret/my@localhost/orders", "/ as %2F"),
        ("postgresql://me:my?secret@localhost/orders", r"\? as %3F"),
        ("postgresql:/me:secret@localhost/orders", "nor a URL of PostgreSQL"),
        ("postgres:me:secret@localhost", "nor a URL of PostgreSQL"),
        ("host=localhost user=me password=secret", "nor a URL of PostgreSQL"),
    ],
)
def test_a_url_that_is_none_is_refused_without_its_password(url: str, said: str) -> None:
    with pytest.raises(JournalUnusable, match=said) as refused:
        journal_at(url)
    assert "secret" not in str(refused.value)


def test_without_psycopg_the_extra_is_named() -> None:
    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from actorfsm.journal.address import journal_at\n"
        "journal_at('postgresql://localhost/orders')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Unsupported: " in done.stderr
    assert "pip install 'actorfsm[postgresql]'" in done.stderr


def test_a_durability_that_there_is_not_is_refused() -> None:
    with pytest.raises(ActorFSMError, match="give 'full' or 'process'"):
        journal_at("orders.db", durability="often")
