"""Addresses: what a user calls a journal. The runtime knows this module and no back end."""

from __future__ import annotations

import re
from importlib import import_module
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Final, cast

from actorfsm.errors import JournalUnusable, Unsupported

if TYPE_CHECKING:
    from actorfsm.journal.protocol import Journal

__all__ = ["journal_at", "journal_to_read"]

_LIKE_POSTGRESQL: Final = re.compile(r"postgres(ql)?:|(.*\s)?password\s*=", re.DOTALL)
"""A URL without its //, or words and values as libpq takes them too."""


def journal_to_read(address: str | PathLike[str]) -> Journal:
    """Return the journal at an address as it is when it is opened, to look at beside the system that uses it.

    Raises:
        JournalUnusable: It is no address.
        Unsupported: This version has no such back end, or what it needs is not installed.
    """
    return _journal(address, read_only=True, still=True)


def journal_at(
    address: str | PathLike[str] | Journal, *, durability: str = "full", read_only: bool = False
) -> Journal:
    """Return the journal at an address; it is not yet open.

    Args:
        address: Name of a SQLite file, `postgresql://…`, or a journal, which is returned as it is.
        durability: `full`, or `process` for what need not survive a loss of power.
        read_only: To look at it, also while another process uses it.

    Raises:
        JournalUnusable: It is no address.
        Unsupported: This version has no such back end, or what it needs is not installed.
    """
    if not isinstance(address, str | PathLike):
        return address
    return _journal(address, durability=durability, read_only=read_only)


def _journal(address: str | PathLike[str], **options: Any) -> Journal:
    name = fspath(cast("str", address))
    scheme, separator, _ = name.partition("://")
    if separator and scheme in {"postgresql", "postgres"}:
        postgresql: Any = import_module("actorfsm.journal.postgresql.journal")
        on_a_server: Journal = postgresql.PostgreSQLJournal(name, **options)
        return on_a_server
    if separator:
        raise Unsupported(
            f"this version has no journal at {scheme}://; give the name of a file, or postgresql://"
        )
    if _LIKE_POSTGRESQL.match(name):
        raise JournalUnusable(  # and not shown: a password may stand there
            "journal= is neither the name of a file nor a URL of PostgreSQL, which is postgresql://user@host:5432/database"
        )
    if not name.strip() or name.startswith(":") or "\0" in name:
        raise JournalUnusable(f"journal={name!r}: give the name of a file, such as 'orders.db'")
    sqlite: Any = import_module("actorfsm.journal.sqlite.journal")
    journal: Journal = sqlite.SQLiteJournal(name, **options)
    return journal
