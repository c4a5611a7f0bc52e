"""Connecting: one connection to the server, or an error that says what to do."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from actorfsm.errors import JournalUnusable
from actorfsm.journal.postgresql.driver import psycopg, said_by

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from psycopg import Connection

    from actorfsm.journal.postgresql.target import Target

__all__ = ["Connect", "connect", "connected"]

Connect: TypeAlias = "Callable[..., Connection]"


def connected(target: Target, make: Connect = psycopg.Connection.connect) -> Connection:
    """Return a new connection, on which each statement is a transaction.

    Raises:
        JournalUnusable: There is none to be had.
    """
    try:
        return make(**{**target.options, "client_encoding": "utf8"}, autocommit=True)
    except psycopg.OperationalError as error:
        raise JournalUnusable(_why_not(target, error)) from error
    except psycopg.Error as error:
        raise JournalUnusable(f"{target.shown} cannot be connected to: {said_by(error)}") from error


@contextmanager
def connect(target: Target) -> Generator[Connection]:
    """Return a new connection for a while; see `connected`."""
    connection = connected(target)
    try:
        yield connection
    finally:
        connection.close()


def _why_not(target: Target, error: psycopg.OperationalError) -> str:
    # libpq gives no code for what a server says before the connection stands, and says it in the server's language.
    server = error.pgconn
    if server is not None and server.needs_password:
        return f"{target.shown} asks for a password: put one into the URL, ~/.pgpass or PGPASSWORD"
    if server is not None and server.used_password:
        return (
            f"{target.shown} does not let this user in; check user, password and database: {said_by(error)}"
        )
    return f"{target.shown} does not answer; is the server there, and the address right? {said_by(error)}"
