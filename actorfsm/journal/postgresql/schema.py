"""The schema: whether it is a journal that may be opened, and how it becomes one. What is refused is not changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from actorfsm.errors import JournalUnusable
from actorfsm.journal.postgresql import migration
from actorfsm.journal.postgresql.connecting import connect
from actorfsm.journal.postgresql.driver import psycopg, said_by, sql
from actorfsm.journal.postgresql.migration import FORMAT
from actorfsm.journal.postgresql.target import target_of

if TYPE_CHECKING:
    from psycopg import Connection

    from actorfsm.journal.postgresql.target import Target

__all__ = ["Upgraded", "check", "create", "upgrade", "version_of"]

_UPGRADE_LOCK: Final = 0x41464A31
"""The advisory lock of who upgrades: one at a time in a database."""


class Upgraded(NamedTuple):
    """What an upgrade has done.

    Attributes:
        before: The format that was there; 0 if there was no journal.
        after: The format that is there now.
    """

    before: int
    after: int


def upgrade(url: str, *, schema: str | None = None) -> Upgraded:
    """Bring a journal to the format of this version, or make a new one; all of it or nothing. It blocks.

    Args:
        url: See `target_of`.
        schema: The schema; by default what the URL names, or `actorfsm`.

    Raises:
        JournalUnusable: It does not answer, is of another application or of a newer version, or may not be changed.
    """
    target = target_of(url, schema)
    with connect(target) as connection:
        return create(connection, target)


def create(connection: Connection, target: Target) -> Upgraded:
    """Make what is missing, in one transaction; see `upgrade`."""
    try:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_UPGRADE_LOCK,))
            before = version_of(connection, target)
            if before > FORMAT:
                raise _newer(target, before)
            if before < FORMAT:
                _migrate(connection, target, before)
    except psycopg.errors.InsufficientPrivilege as error:
        raise JournalUnusable(
            f"this user may not make the journal at {target.shown} ({said_by(error)}): run 'actorfsm journal upgrade' "
            "as one who may, or give 'actorfsm journal sql' to who does that for you"
        ) from error
    except psycopg.Error as error:
        raise JournalUnusable(
            f"the journal at {target.shown} could not be upgraded, nothing was changed: {said_by(error)}"
        ) from error
    return Upgraded(before, FORMAT)


def _migrate(connection: Connection, target: Target, before: int) -> None:
    known = connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", (target.schema,)).fetchone()
    prologue = migration.prologue(target.schema)
    if known is not None:  # whoever may write in a schema need not be allowed to make one
        prologue = prologue.partition("\n")[2]
    for number, text in migration.steps().items():
        if number > before:
            connection.execute((prologue + text).encode())


def version_of(connection: Connection, target: Target) -> int:
    """Return the format of what is in the schema; 0 if that is nothing.

    Raises:
        JournalUnusable: It is of another application.
    """
    found = connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE relname = 'actorfsm_schema') FROM pg_class JOIN pg_namespace "
        "ON pg_namespace.oid = relnamespace WHERE nspname = %s",
        (target.schema,),
    ).fetchone()
    relations, marks = found or (0, 0)
    if not relations:
        return 0
    if not marks:
        raise JournalUnusable(
            f"the schema {target.schema} at {target.shown} holds tables of another application: give another one, as "
            "?schema=name; nothing was changed in this one"
        )
    # The search path cannot be trusted here: it may be another connection's.
    name = sql.Identifier(target.schema, "actorfsm_schema")
    row = connection.execute(sql.SQL("SELECT max(version) FROM {}").format(name)).fetchone()
    return int(row[0] or 0) if row else 0


def check(connection: Connection, target: Target) -> bool:
    """Return whether there is a journal of this format; False if there is none yet.

    Raises:
        JournalUnusable: What is there cannot be used, nor the server.
    """
    row = connection.execute(
        "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), pg_is_in_recovery()"
    ).fetchone()
    number, encoding, is_replica = row or (0, "", False)
    if number < _OLDEST:
        raise JournalUnusable(
            f"{target.shown} is PostgreSQL {number // 10_000}: a journal needs {_OLDEST // 10_000} or newer"
        )
    if encoding != "UTF8":
        raise JournalUnusable(
            f"the database at {target.shown} is encoded as {encoding}: make one with ENCODING 'UTF8'"
        )
    if is_replica:
        raise JournalUnusable(
            f"{target.shown} is a replica, which takes no writes: give the primary's address"
        )
    try:
        version = version_of(connection, target)
    except psycopg.errors.InsufficientPrivilege as error:
        raise JournalUnusable(
            f"this user may not use the journal at {target.shown} ({said_by(error)}): grant it the "
            "schema and its tables"
        ) from error
    if version > FORMAT:
        raise _newer(target, version)
    if 0 < version < FORMAT:
        raise JournalUnusable(
            f"the journal at {target.shown} has format {version}, this version writes {FORMAT}: stop what uses it, "
            "then run 'actorfsm journal upgrade'"
        )
    return version == FORMAT


_OLDEST: Final = 130_000


def _newer(target: Target, version: int) -> JournalUnusable:
    return JournalUnusable(
        f"the journal at {target.shown} was written by a newer version of actorfsm (format {version}, this one reads "
        f"up to {FORMAT}): use that version"
    )
