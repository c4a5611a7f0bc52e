"""SQLAlchemy, which comes with an extra."""

from __future__ import annotations

from actorfsm.errors import Unsupported

try:
    import sqlalchemy
    from sqlalchemy import event, exc, orm
    from sqlalchemy.ext import asyncio as sqlalchemy_asyncio
    from sqlalchemy.orm import Mapped
    from sqlalchemy.util import await_only
except ImportError as missing:
    raise Unsupported(
        "this needs SQLAlchemy, which is not installed: pip install 'actorfsm[sqlalchemy]'"
    ) from missing

__all__ = ["Mapped", "await_only", "event", "exc", "is_lost_race", "orm", "sqlalchemy", "sqlalchemy_asyncio"]

_LOST = frozenset({"40001", "40P01"})
"""PostgreSQL could not order two transactions one after the other, or they waited for each other."""


def is_lost_race(error: exc.DBAPIError) -> bool:
    """Return whether the database gave up one of two transactions, so that the whole of it may be tried again."""
    cause = error.orig
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return state in _LOST or str(getattr(cause, "sqlite_errorname", "")).startswith("SQLITE_BUSY")
