"""Machines beside the user's own rows, on the user's own session and transaction. Needs the extra `sqlalchemy`."""

from __future__ import annotations

from actorfsm.integrations.sqlalchemy.outbox import Outbox
from actorfsm.integrations.sqlalchemy.state_column import Rows, Versioned, state_column
from actorfsm.integrations.sqlalchemy.tables import include_object, metadata
from actorfsm.integrations.sqlalchemy.transactions import Transactions

__all__ = ["Outbox", "Rows", "Transactions", "Versioned", "include_object", "metadata", "state_column"]
