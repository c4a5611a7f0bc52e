"""Machines beside the user's own rows, on the user's own session and transaction. Needs the extra `sqlalchemy`."""

from __future__ import annotations

from actorfsm.integrations.sqlalchemy.state_column import Rows, Versioned, state_column

__all__ = ["Rows", "Versioned", "state_column"]
