"""Machines in documents of MongoDB, one document each, also those of MongoEngine. Needs the extra `mongo`."""

from __future__ import annotations

from actorfsm.integrations.mongo.documents import Documents, SyncDocuments
from actorfsm.integrations.mongo.engine import EngineDocuments
from actorfsm.integrations.mongo.transactions import sync_transaction, transaction

__all__ = ["Documents", "EngineDocuments", "SyncDocuments", "sync_transaction", "transaction"]
