"""psycopg, which comes with an extra, and what its errors mean for what was under way."""

from __future__ import annotations

from actorfsm.errors import Unsupported

try:
    import psycopg
    from psycopg import sql
    from psycopg.conninfo import conninfo_to_dict
except ImportError as missing:
    raise Unsupported(
        "a journal at postgresql:// needs psycopg, which is not installed: pip install 'actorfsm[postgresql]'"
    ) from missing

__all__ = ["conninfo_to_dict", "is_lost", "psycopg", "said_by", "sql"]


def is_lost(error: psycopg.Error, connection: psycopg.Connection) -> bool:
    """Return whether an error has taken the connection with it, and with that the answer to what was asked.

    An error of a statement comes from a server that has rolled it back. When the connection ends, by the server or on
    the way, nobody has said so: it may have been committed before.
    """
    state = error.sqlstate or ""
    return (
        connection.closed
        or connection.broken
        or state == "40003"  # statement completion unknown
        or state.startswith(("08", "57P0"))  # connection exceptions; the server ends it
        or (isinstance(error, psycopg.OperationalError) and not state)
    )


def said_by(error: BaseException) -> str:
    """Return what an error says, in one line."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return primary or " ".join(str(error).split()) or type(error).__name__
