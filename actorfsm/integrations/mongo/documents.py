"""Machines in documents of MongoDB, one each: the document is the truth, and its version decides a race.

An event is handled in three steps: the document is read, the machine decides, and the document is written if it is
still of the version that was read. Whoever finds another version is told so. Only the machine's own fields, its state
and the version are written: whatever else the document holds stays as it is.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, cast

from typing_extensions import TypeVar

from actorfsm.clock import SystemClock
from actorfsm.errors import (
    ActorFSMError,
    ConcurrentTransition,
    DefinitionError,
    InvalidData,
    NoSuchMachine,
    NotStored,
    OutcomeUnknown,
    SchemaMismatch,
)
from actorfsm.integrations.mongo.driver import (
    AsyncCollection,
    Collection,
    DatetimeConversion,
    ReadPreference,
    UuidRepresentation,
    errors,
    is_lost_race,
    is_never_sent,
    is_unknown,
)
from actorfsm.integrations.mongo.layout import Document, Layout, StateBy
from actorfsm.integrations.mongo.transactions import following
from actorfsm.integrations.row_turn import RowKind, RowTurn, at_once
from actorfsm.sinks.structlog_sink import StructlogSink

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from pymongo.asynchronous.client_session import AsyncClientSession
    from pymongo.client_session import ClientSession

    from actorfsm.clock import Clock
    from actorfsm.event import Event
    from actorfsm.machine.machine import Machine
    from actorfsm.trace import Sink

__all__ = ["Documents", "SyncDocuments"]

ReplyT = TypeVar("ReplyT")
MachineT = TypeVar("MachineT", bound="Machine[Any, Any]", default=Any)
CollectionT = TypeVar("CollectionT", bound="AsyncCollection[Any] | Collection[Any]", default=Any)

_AGAIN: Final = "ask again, and it is decided by what is there then"


class _Documents(Generic[MachineT, CollectionT]):
    """What does not wait for a server."""

    _other: ClassVar[tuple[type[Any], str]]
    """The collection that a class does not take, and the class that does."""

    def __init__(
        self,
        machine_class: type[MachineT],
        collection: CollectionT,
        *,
        state: str = "state",
        version: str = "version",
        keys: Mapping[str, str] | None = None,
        state_by: StateBy = "name",
        services: Any = None,
        clock: Clock | None = None,
        trace: Iterable[Sink] | None = None,
    ) -> None:
        self._kind: Final = RowKind(machine_class)
        stranger, of_it = self._other
        if isinstance(collection, stranger):
            raise DefinitionError(
                f"{type(self).__name__} does not take {stranger.__name__}s of PyMongo: use {of_it}"
            )
        self._name: Final = collection.name
        if not collection.write_concern.acknowledged:
            raise DefinitionError(
                f"the collection {self._name} does not wait for its writes (w=0), so that a lost race would not be "
                "found"
            )
        options = _options_of(collection)
        # A secondary may be behind, and an event would be refused, or decided, by a state that is over.
        self._collection: Final = cast(
            "CollectionT",
            collection.with_options(codec_options=options, read_preference=ReadPreference.PRIMARY),
        )
        self._layout: Final = Layout(
            self._kind, options, state=state, version=version, keys=keys or {}, state_by=state_by
        )
        self._services = services
        self._clock = clock or SystemClock()
        self._sinks: tuple[Sink, ...] = (StructlogSink(),) if trace is None else tuple(trace)

    def new(self, state: Any = None, /, **fields: Any) -> Document:
        """Return a machine's part of a new document: state, version 1, fields. Add what is yours, and insert it.

        Args:
            state: Where it begins; the machine's initial state by default. No hook runs.
            fields: Data fields of the machine; the others have their defaults.

        Raises:
            InvalidData: The fields do not validate, or cannot be stored.
            DefinitionError: The machine has no initial state, and none is given.
        """
        return self._layout.new(state, fields)

    def _begin(
        self,
        key: Any,
        found: Document | None,
        event: Event[Any, Any],
        *,
        version: int | None,
        event_id: str | None,
        in_loop: bool,
    ) -> tuple[RowTurn, Document]:
        """Return the turn, and what it has to find when it writes."""
        where = self._id_of(key)
        if found is None:
            raise NoSuchMachine(
                f"the collection {self._name} has no document with the _id {key!r}",
                machine_id=where,
                event=event,
            )
        layout = self._layout
        state, seen = layout.state_of(found, where), layout.version_of(found, where)
        try:
            turn = RowTurn(
                self._kind,
                where,
                state,
                layout.fields_of(found),
                event,
                seq=seen + 1,
                services=self._services,
                clock=self._clock,
                sinks=self._sinks,
                event_id=event_id,
                in_loop=in_loop,
            )
        except InvalidData as error:
            raise SchemaMismatch(
                f"{where}: {error}; nothing was changed",
                stored=self._kind.name,
                machine_id=where,
                event=event,
            ) from error.__cause__
        if version is not None and version != seen:
            raise turn.lost(f"it has version {seen}, and you said {version}; read it again, and decide anew")
        # A document without a version is found by None. The state is there for who counts no version up.
        as_read = {name: found.get(name) for name in (layout.version, layout.state)}
        return turn, {"_id": {"$eq": key}, **as_read}

    def _change(self, turn: RowTurn) -> Document:
        """Return what a turn sets.

        Raises:
            HookFailed: It cannot be stored.
        """
        try:
            return self._layout.change(turn)
        except InvalidData as error:
            raise turn.not_storable(error) from error

    def _id_of(self, key: Any) -> str:
        return f"{self._name}-{key}"

    @contextmanager
    def _reading(self, key: Any) -> Generator[None]:
        try:
            yield
        except errors.PyMongoError as error:
            meaning = _meaning_of_read(error, self._id_of(key))
            if meaning is None:
                raise
            raise meaning from error


class Documents(_Documents[MachineT, "AsyncCollection[Any]"]):
    """Handles events of machines that live in the documents of an async collection.

    One object serves the whole program.

    Args:
        machine_class: The class of the machines.
        collection: The collection.
        state: Key of the state.
        version: Key of the version, a number that counts up with each event. A document without one is at 0.
        keys: Keys of data fields that have another name in the document.
        state_by: Whether the name of the state's member is stored, or its value.
        services: What hooks find as `self.services`.
        clock: What `self.now()` says.
        trace: Where the records go: a line of structured log for each event, by default.

    Raises:
        DefinitionError: The machine cannot live in a document: it has timeouts, postpones, or has durable hooks. Or the
            keys do not go together, or the collection's writes are not acknowledged, or it is one of a MongoClient.
    """

    _other = (Collection, "SyncDocuments, or an AsyncMongoClient")

    async def ask(
        self,
        key: Any,
        event: Event[ReplyT, MachineT],
        *,
        version: int | None = None,
        session: AsyncClientSession | None = None,
        event_id: str | None = None,
    ) -> ReplyT:
        """Let a document's machine handle an event.

        The document is read, and written if it is still as it was read. After-hooks run then, before this returns; in a
        `transaction` they run after its commit.

        Args:
            key: The document's `_id`.
            event: The event.
            version: The version on which the caller has decided; another one is a lost race, before any hook.
            session: The caller's session. A transaction in it was begun by `transaction(session)`.
            event_id: The caller's own id, of which `self.idempotency_key` is made. Give the same when you try again.

        Returns:
            What the transition's body returned.

        Raises:
            ConcurrentTransition: Somebody else has written the document since it was read. Surely not stored.
            Unhandled, Vetoed, HookFailed, InvalidEvent: As an actor's ask. The document is as it was.
            NoSuchMachine: There is no such document.
            SchemaMismatch: State, version or fields of the document are not what the machine's must be.
            NotStored: The server did not answer, and surely nothing is stored.
            OutcomeUnknown: The connection was lost after the write was sent, or the write was stored and may be undone.
                Read the document; or ask again with the `version` that you know, which is refused if it was stored.
        """
        turns = following(session)
        with self._reading(key):
            found = await self._collection.find_one(
                {"_id": {"$eq": key}}, self._layout.projection, session=session
            )
        turn, as_read = self._begin(key, found, event, version=version, event_id=event_id, in_loop=True)
        reply: ReplyT = await turn.decide()
        change = self._change(turn)
        with _writing(turn, in_transaction=turns is not None):
            done = await self._collection.update_one(as_read, {"$set": change}, session=session)
        _check(turn, done.matched_count)
        if turns is None:
            turn.committed()
            await turn.follow()
        else:
            turns.append(turn)
        return reply


class SyncDocuments(_Documents[MachineT, "Collection[Any]"]):
    """Does the same as `Documents` in a collection that is not async; hooks are plain functions then.

    Threads may share it, as they share the collection.

    Args:
        machine_class: The class of the machines.
        collection: The collection.
        options: As for `Documents`.

    Raises:
        DefinitionError: As `Documents`.
    """

    _other = (AsyncCollection, "Documents, or a MongoClient")

    def ask(
        self,
        key: Any,
        event: Event[ReplyT, MachineT],
        *,
        version: int | None = None,
        session: ClientSession | None = None,
        event_id: str | None = None,
    ) -> ReplyT:
        """Let a document's machine handle an event, as `Documents.ask` does.

        Raises:
            Unsupported: A hook that would run is `async def`; none has run.
        """
        reply, _ = self._asked(key, event, version=version, session=session, event_id=event_id)
        return reply

    def _asked(
        self,
        key: Any,
        event: Event[ReplyT, MachineT],
        *,
        version: int | None,
        session: ClientSession | None,
        event_id: str | None,
    ) -> tuple[ReplyT, Document]:
        """Return the reply, and what was written."""
        turns = following(session)
        with self._reading(key):
            found = self._collection.find_one({"_id": {"$eq": key}}, self._layout.projection, session=session)
        turn, as_read = self._begin(key, found, event, version=version, event_id=event_id, in_loop=False)
        reply: ReplyT = at_once(turn.decide())
        change = self._change(turn)
        with _writing(turn, in_transaction=turns is not None):
            done = self._collection.update_one(as_read, {"$set": change}, session=session)
        _check(turn, done.matched_count)
        if turns is None:
            turn.committed()
            at_once(turn.follow())
        else:
            turns.append(turn)
        return reply, change


def _options_of(collection: AsyncCollection[Any] | Collection[Any]) -> Any:
    """Return how BSON is written and read: as the user has it, but for what would make values other ones."""
    options = collection.codec_options
    uuids = options.uuid_representation
    return options.with_options(
        document_class=dict,
        tz_aware=True,
        tzinfo=None,
        # Years that Python does not have are data that does not validate, and no failure of the reading.
        datetime_conversion=DatetimeConversion.DATETIME_AUTO,
        uuid_representation=(
            UuidRepresentation.STANDARD if uuids == UuidRepresentation.UNSPECIFIED else uuids
        ),
    )


def _meaning_of_read(error: errors.PyMongoError, where: str) -> ActorFSMError | None:
    if is_lost_race(error):
        return ConcurrentTransition(
            f"the server gave up the transaction when {where} was read: begin it again", machine_id=where
        )
    if isinstance(error, errors.ConnectionFailure):
        return NotStored(
            f"{where} could not be read ({type(error).__name__}): nothing has run", machine_id=where
        )
    return None


@contextmanager
def _writing(turn: RowTurn, *, in_transaction: bool) -> Generator[None]:
    """Say what becomes of a turn that is being stored, unless all is well."""
    where = turn.machine_id
    try:
        yield
    except Exception as error:
        if not isinstance(error, errors.PyMongoError):
            turn.undone(error, type(error).__name__)
            raise
        name = type(error).__name__
        if is_lost_race(error):
            raise turn.lost("the server gave up the transaction; begin it again") from error
        # What is in a transaction is never stored without its commit.
        lost = isinstance(error, errors.ConnectionFailure)
        if is_never_sent(error) or (lost and in_transaction):
            meaning: ActorFSMError = NotStored(f"{where} could not be written: {name}", machine_id=where)
        elif is_unknown(error):
            meaning = OutcomeUnknown(
                f"{where} was being written when {name} came: whether it is stored, and stays, is not known; read it",
                machine_id=where,
            )
        else:
            turn.undone(error, name)  # its own words may hold values
            raise
        turn.undone(meaning)
        raise meaning from error
    except BaseException:
        turn.undone(
            OutcomeUnknown("it was interrupted while it was written: read the document", machine_id=where)
        )
        raise


def _check(turn: RowTurn, found: int) -> None:
    """Check that the document was still as it was read.

    Raises:
        ConcurrentTransition: It was not.
    """
    if found != 1:
        raise turn.lost(_AGAIN)
