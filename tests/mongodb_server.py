"""A server for the tests that speaks MongoDB's wire protocol, so that the real driver has somebody to talk to.

It keeps documents in memory and knows what the integration and its tests need of the protocol, and refuses the rest by
name. It takes the part of a replica set of one: the driver repeats a write whose connection was lost, with the same
number, and is answered from what is remembered. It can cut a connection before or after it has done a command.

It is not MongoDB. Where `ACTORFSM_TEST_MONGODB_URL` names a server (a replica set, for transactions), the tests that
cut no connection run there instead.
"""

from __future__ import annotations

import os
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any
from uuid import uuid4

import bson
import pytest
from bson.codec_options import CodecOptions, DatetimeConversion

__all__ = ["FakeMongo", "Refused", "mongodb_fake", "mongodb_url", "new_database", "started_mongodb"]

_HEADER = struct.Struct("<iiii")
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_AUTO)
_SESSION_FIELDS = ("lsid", "txnNumber", "startTransaction", "autocommit")

Document = dict[str, Any]


class Refused(Exception):
    """The answer to a command is an error."""

    def __init__(self, code: int, name: str, said: str = "", *, labels: tuple[str, ...] = ()) -> None:
        super().__init__(said or name)
        self.reply = {"ok": 0.0, "errmsg": said or name, "code": code, "codeName": name}
        if labels:
            self.reply["errorLabels"] = list(labels)


class Cut(Exception):
    """The connection ends here."""


class Transaction:
    """What a transaction has seen and wants to write: documents by collection and key."""

    def __init__(self, number: int, seen: dict[str, dict[bytes, Document]]) -> None:
        self.number = number
        self.seen = seen
        self.written: dict[tuple[str, bytes], Document | None] = {}


class FakeMongo:
    """The documents, and what is to go wrong with the next commands.

    Attributes:
        commands: Names of the commands that came, but for those by which a driver looks after its connections.
        is_replica_set: Whether the driver is told so; of one that is none it repeats no write.
    """

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.is_replica_set = True
        self._documents: dict[str, dict[bytes, Document]] = {}
        self._transactions: dict[bytes, Transaction] = {}
        self._answered: dict[tuple[bytes, int], Document] = {}
        self._faults: list[tuple[str, str, Any]] = []
        self._lock = threading.Condition()
        self._server = _Listener(self)
        self._connections: set[Any] = set()

    # -- for tests ------------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        port: int = self._server.server_address[1]
        return port

    def url(self, *, timeout_ms: int = 5000) -> str:
        return f"mongodb://127.0.0.1:{self.port}/?serverSelectionTimeoutMS={timeout_ms}"

    def cut(self, command: str, when: str, *, times: int = 1) -> None:
        """Cut the connections of the next such commands, "before" or "after" they are done."""
        self._faults += [(command, when, None)] * times

    def refuse(self, command: str, error: Refused) -> None:
        """Answer the next such command with an error, and do nothing."""
        self._faults.append((command, "refuse", error))

    def add_to_reply(self, command: str, more: Document) -> None:
        """Do the next such command, and add something to the answer."""
        self._faults.append((command, "add", more))

    def hold(self, command: str, until: threading.Event) -> threading.Event:
        """Let the next such command wait before it is done; return what tells that it has come."""
        came = threading.Event()
        self._faults.append((command, "hold", (came, until)))
        return came

    # -- life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        for connection in list(self._connections):
            connection.close_now()
        self._server.server_close()

    # -- commands -------------------------------------------------------------------------------------------------

    def handle(self, command: Document) -> Document:
        """Do a command and return the answer.

        Raises:
            Cut: There is none.
        """
        name = next(iter(command))
        if name.lower() in {"hello", "ismaster"}:
            return self._hello()
        self.commands.append(name)
        when, what = self._fault_of(name)
        if when == "before":
            raise Cut
        if when == "hold":
            came, until = what
            came.set()
            assert until.wait(30)
        try:
            if when == "refuse":
                raise what
            reply = self._once(name, command)
        except Refused as refused:
            return refused.reply
        if when == "after":
            raise Cut
        return {**reply, **what} if when == "add" else reply

    def _fault_of(self, name: str) -> tuple[str, Any]:
        for place, (command, when, what) in enumerate(self._faults):
            if command == name:
                del self._faults[place]
                return when, what
        return "", None

    def _hello(self) -> Document:
        own = f"127.0.0.1:{self.port}"
        set_of_one = {"setName": "rs0", "setVersion": 1, "hosts": [own], "me": own, "primary": own}
        return {
            "helloOk": True,
            "ismaster": True,
            "isWritablePrimary": True,
            **(set_of_one if self.is_replica_set else {}),
            "maxBsonObjectSize": 16777216,
            "maxMessageSizeBytes": 48000000,
            "maxWriteBatchSize": 100000,
            "logicalSessionTimeoutMinutes": 30,
            "minWireVersion": 0,
            "maxWireVersion": 21,
            "readOnly": False,
            "ok": 1.0,
        }

    def _once(self, name: str, command: Document) -> Document:
        """Do a command, or answer from memory what the driver has sent again."""
        with self._lock:
            number = command.get("txnNumber")
            if number is None or "autocommit" in command:
                return self._do(name, command)
            key = (bytes(command["lsid"]["id"]), number)
            if key not in self._answered:
                self._answered[key] = self._do(name, command)
            return self._answered[key]

    def _do(self, name: str, command: Document) -> Document:
        function: Callable[[Document], Document | None] | None = getattr(self, f"_{name}", None)
        if function is None:
            raise Refused(59, "CommandNotFound", f"no such command: {name}")
        return {**(function(command) or {}), "ok": 1.0}

    def _ping(self, command: Document) -> None: ...

    def _endSessions(self, command: Document) -> None:  # noqa: N802 -- the name of the command
        ...

    def _createIndexes(self, command: Document) -> None:  # noqa: N802 -- the same
        ...

    def _dropDatabase(self, command: Document) -> None:  # noqa: N802 -- the same
        for name in [name for name in self._documents if name.startswith(f"{command['$db']}.")]:
            del self._documents[name]

    def _find(self, command: Document) -> Document:
        _only(command, "find", "filter", "projection", "limit", "singleBatch", "skip")
        name = f"{command['$db']}.{command['find']}"
        found = [
            document
            for document in self._seen(name, self._transaction_of(command)).values()
            if _matches(document, command.get("filter", {}))
        ][command.get("skip", 0) :]
        wanted = command.get("projection")
        limit = abs(command.get("limit", 0)) or None
        batch = [_projected(document, wanted) for document in found[:limit]]
        return {"cursor": {"firstBatch": batch, "id": bson.Int64(0), "ns": name}}

    def _insert(self, command: Document) -> Document:
        _only(command, "insert", "documents", "ordered", "writeConcern")
        name, errors = f"{command['$db']}.{command['insert']}", []
        transaction = self._transaction_of(command)
        for place, document in enumerate(command["documents"]):
            key = _key(document["_id"])
            if key in self._seen(name, transaction):
                errors.append({"index": place, "code": 11000, "errmsg": "E11000 duplicate key error"})
                break
            self._write(name, key, document, transaction)
        done = len(command["documents"]) - len(errors)
        return {"n": done, **({"writeErrors": errors} if errors else {})}

    def _update(self, command: Document) -> Document:
        _only(command, "update", "updates", "ordered", "writeConcern")
        name, found, upserted = f"{command['$db']}.{command['update']}", 0, []
        transaction = self._transaction_of(command)
        for place, update in enumerate(command["updates"]):
            _only(update, "q", "u", "multi", "upsert")
            keys = self._keys_of(name, update["q"], transaction, all_of_them=update.get("multi", False))
            found += len(keys)
            for key in keys:
                document = self._seen(name, transaction)[key]
                self._write(name, key, _changed(document, update["u"]), transaction)
            if not keys and update.get("upsert"):
                document = _changed({"_id": update["q"]["_id"]}, update["u"])
                self._write(name, _key(document["_id"]), document, transaction)
                upserted.append({"index": place, "_id": document["_id"]})
        return {
            "n": found + len(upserted),
            "nModified": found,
            **({"upserted": upserted} if upserted else {}),
        }

    def _delete(self, command: Document) -> Document:
        _only(command, "delete", "deletes", "ordered", "writeConcern")
        name, found = f"{command['$db']}.{command['delete']}", 0
        transaction = self._transaction_of(command)
        for deletion in command["deletes"]:
            keys = self._keys_of(name, deletion["q"], transaction, all_of_them=deletion["limit"] == 0)
            found += len(keys)
            for key in keys:
                self._write(name, key, None, transaction)
        return {"n": found}

    # -- documents ------------------------------------------------------------------------------------------------

    def _seen(self, name: str, transaction: Transaction | None) -> dict[bytes, Document]:
        """Return the documents of a collection as they are, or as a transaction sees them."""
        if transaction is None:
            return self._documents.get(name, {})
        seen = dict(transaction.seen.get(name, {}))
        for (collection, key), document in transaction.written.items():
            if collection == name and document is not None:
                seen[key] = document
            elif collection == name:
                seen.pop(key, None)
        return seen

    def _keys_of(
        self, name: str, query: Document, transaction: Transaction | None, *, all_of_them: bool
    ) -> list[bytes]:
        def find() -> list[bytes]:
            seen = self._seen(name, transaction)
            return [key for key, document in seen.items() if _matches(document, query)]

        def is_held(key: bytes) -> bool:
            others = [other for other in self._transactions.values() if other is not transaction]
            return any((name, key) in other.written for other in others)

        keys = find()
        while transaction is None and any(map(is_held, keys)):
            assert self._lock.wait(30)  # as the real one does, until the transaction has ended
            keys = find()
        if transaction is not None:
            for key in keys:
                now = self._documents.get(name, {}).get(key)
                if is_held(key) or now != transaction.seen.get(name, {}).get(key):
                    raise self._given_up(transaction, 112, "WriteConflict")
        return keys if all_of_them else keys[:1]

    def _write(
        self, name: str, key: bytes, document: Document | None, transaction: Transaction | None
    ) -> None:
        if transaction is not None:
            transaction.written[name, key] = document
        elif document is None:
            del self._documents[name][key]
        else:
            self._documents.setdefault(name, {})[key] = document

    # -- transactions ---------------------------------------------------------------------------------------------

    def _transaction_of(self, command: Document) -> Transaction | None:
        if "autocommit" not in command:
            return None
        session = bytes(command["lsid"]["id"])
        if command.get("startTransaction"):
            self._transactions[session] = Transaction(command["txnNumber"], deepcopy(self._documents))
        transaction = self._transactions.get(session)
        if transaction is None or transaction.number != command["txnNumber"]:
            raise Refused(251, "NoSuchTransaction", labels=("TransientTransactionError",))
        return transaction

    def _given_up(self, transaction: Transaction, code: int, name: str) -> Refused:
        self._end(transaction)
        return Refused(code, name, labels=("TransientTransactionError",))

    def _end(self, transaction: Transaction) -> None:
        for session, other in list(self._transactions.items()):
            if other is transaction:
                del self._transactions[session]
        self._lock.notify_all()

    def _commitTransaction(self, command: Document) -> Document:  # noqa: N802 -- the name of the command
        key = (bytes(command["lsid"]["id"]), command["txnNumber"])
        if key not in self._answered:  # it may come again
            transaction = self._transaction_of(command)
            assert transaction is not None
            self._end(transaction)
            for (name, place), document in transaction.written.items():
                self._write(name, place, document, None)
            self._answered[key] = {}
        return self._answered[key]

    def _abortTransaction(self, command: Document) -> None:  # noqa: N802 -- the same
        transaction = self._transaction_of(command)
        assert transaction is not None
        self._end(transaction)


def _only(command: Document, *known: str) -> None:
    """Refuse what is not understood here, so that no test rests on what nobody has done."""
    common = (*_SESSION_FIELDS, "$db", "$clusterTime", "$readPreference", "readConcern", "comment")
    for name, value in command.items():
        if name not in (*known, *common) and value not in (None, {}):
            raise Refused(9, "FailedToParse", f"the server of the tests does not know {name}")


def _key(value: Any) -> bytes:
    return bytes(bson.encode({"": value}))


def _same(value: Any, other: Any) -> bool:
    return isinstance(value, bool) == isinstance(other, bool) and value == other


def _matches(document: Document, query: Document) -> bool:
    for name, wanted in query.items():
        if name.startswith("$") or "." in name:
            raise Refused(2, "BadValue", f"the server of the tests does not know {name}")
        value = document.get(name)
        tests = wanted if isinstance(wanted, dict) and any(key.startswith("$") for key in wanted) else None
        for operator, operand in (tests or {"$eq": wanted}).items():
            if operator == "$in":
                if not any(_same(value, one) for one in operand):
                    return False
            elif operator == "$eq":
                if not _same(value, operand):
                    return False
            else:
                raise Refused(2, "BadValue", f"the server of the tests does not know {operator}")
    return True


def _changed(document: Document, update: Document) -> Document:
    changed = deepcopy(document)
    if not any(name.startswith("$") for name in update):
        return {"_id": document["_id"], **update}
    for operator, fields in update.items():
        for name, value in fields.items():
            if "." in name or (name == "_id" and value != document["_id"]):
                raise Refused(66, "ImmutableField", f"the server of the tests does not set {name}")
            if operator == "$set":
                changed[name] = value
            elif operator == "$inc":
                changed[name] = changed.get(name, 0) + value
            elif operator == "$unset":
                changed.pop(name, None)
            elif operator != "$setOnInsert":
                raise Refused(9, "FailedToParse", f"the server of the tests does not know {operator}")
    return changed


def _projected(document: Document, wanted: Any) -> Document:
    if not wanted:
        return document
    assert all(wanted.values()), "the server of the tests only knows what is to be in"
    return {name: value for name, value in document.items() if name == "_id" or name in wanted}


class _Listener(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, mongo: FakeMongo) -> None:
        self.mongo = mongo
        super().__init__(("127.0.0.1", 0), _Connection)


class _Connection(socketserver.StreamRequestHandler):
    """Reads messages and answers them, one after the other."""

    server: _Listener

    def setup(self) -> None:
        super().setup()
        self.server.mongo._connections.add(self)

    def handle(self) -> None:
        try:
            while header := self.rfile.read(_HEADER.size):
                length, number, _, kind = _HEADER.unpack(header)
                body = self.rfile.read(length - _HEADER.size)
                reply = self._answer(kind, body)
                self._send(number, *reply)
        except (Cut, OSError, struct.error):
            pass

    def finish(self) -> None:
        self.server.mongo._connections.discard(self)
        super().finish()

    def close_now(self) -> None:
        self.connection.shutdown(2)

    def _answer(self, kind: int, body: bytes) -> tuple[int, bytes]:
        mongo = self.server.mongo
        if kind == _OP_QUERY:  # how a driver says hello for the first time
            name = body.index(b"\0", 4)
            (command, *_) = bson.decode_all(body[name + 9 :])
            return _OP_REPLY, struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(mongo.handle(command))
        assert kind == _OP_MSG
        return _OP_MSG, struct.pack("<IB", 0, 0) + bson.encode(mongo.handle(_command_of(body)))

    def _send(self, number: int, kind: int, body: bytes) -> None:
        self.wfile.write(_HEADER.pack(_HEADER.size + len(body), 0, number, kind) + body)


def _command_of(body: bytes) -> Document:
    """Return the command of a message, with the documents that came in sections of their own."""
    command: Document = {}
    place = 4  # behind the flags; none that a driver of these tests sets concerns us
    while place < len(body):
        (length,) = struct.unpack_from("<i", body, place + 1)
        section = body[place + 1 : place + 1 + length]
        if body[place] == 0:
            command = {**bson.decode(section, _OPTIONS), **command}
        else:
            end = section.index(b"\0", 4)
            command[section[4:end].decode()] = bson.decode_all(section[end + 1 :], _OPTIONS)
        place += 1 + length
    return command


@contextmanager
def started_mongodb() -> Iterator[FakeMongo]:
    server = FakeMongo()
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def mongodb_fake() -> Iterator[FakeMongo]:
    with started_mongodb() as server:
        yield server


@pytest.fixture
def mongodb_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of a real server where there is one, otherwise of the one here."""
    real = os.environ.get("ACTORFSM_TEST_MONGODB_URL")
    if real:
        return real
    fake: FakeMongo = request.getfixturevalue("mongodb_fake")
    return fake.url()


def new_database() -> str:
    """Return a name that no other test has."""
    return f"actorfsm_test_{uuid4().hex}"
