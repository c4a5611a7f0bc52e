"""Documents of MongoEngine, by way of their collection: the schema is theirs, and only PyMongo is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from typing_extensions import TypeVar

from actorfsm.errors import DefinitionError
from actorfsm.integrations.mongo.documents import SyncDocuments
from actorfsm.integrations.mongo.driver import BSON
from actorfsm.integrations.row_turn import RowKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo.client_session import ClientSession
    from pymongo.collection import Collection

    from actorfsm.event import Event
    from actorfsm.machine.machine import Machine

__all__ = ["EngineDocuments"]

ReplyT = TypeVar("ReplyT")
MachineT = TypeVar("MachineT", bound="Machine[Any, Any]", default=Any)


class EngineDocuments(SyncDocuments[MachineT]):
    """Handles events of machines that live in documents of a class of MongoEngine.

    The class has a field for the state (an `EnumField` of the machine's states, or a `StringField`), one for the
    version (`IntField(default=0)`), and one for each data field of the machine, of the same name.

    Args:
        machine_class: The class of the machines.
        document_class: The class of the documents.
        state: Name of the document's field for the state.
        version: Name of that for the version.
        options: `services`, `clock` and `trace`, as for `Documents`.

    Raises:
        DefinitionError: As `Documents`; or the class of the documents lacks a field.
    """

    def __init__(
        self,
        machine_class: type[MachineT],
        document_class: Any,
        *,
        state: str = "state",
        version: str = "version",
        **options: Any,
    ) -> None:
        kind = RowKind(machine_class)
        fields: dict[str, Any] = document_class._fields
        missing = [name for name in (state, version, *kind.fields) if name not in fields]
        if missing:
            raise DefinitionError(
                f"{document_class.__name__} has no field {', '.join(missing)}: a document needs one for the state, one "
                f"for the version (IntField(default=0)), and one for each data field of {kind.name}"
            )
        keys: dict[str, str] = {name: field.db_field for name, field in fields.items()}
        self._version_name: Final = version
        self._names: Final = {key: name for name, key in keys.items()}
        collection: Collection[Any] = document_class._get_collection()  # noqa: SLF001 -- it has no other name
        self._as_engine_reads: Final = collection.codec_options
        super().__init__(
            machine_class,
            collection,
            state=keys[state],
            version=keys[version],
            keys={name: keys[name] for name in kind.fields},
            # An EnumField stores the value of a member.
            state_by="value" if getattr(fields[state], "_enum_cls", None) is not None else "name",
            **options,
        )

    def ask_document(
        self,
        document: Any,
        event: Event[ReplyT, MachineT],
        *,
        session: ClientSession | None = None,
        event_id: str | None = None,
    ) -> ReplyT:
        """Let the machine of a document that was read handle an event; the document shows then what was stored.

        What the caller has changed in the document and not saved stays so, and plays no part. After a transaction that
        is aborted the document shows what is not stored: `reload()` it.

        Args:
            document: The document, of the version that is stored.
            event: The event.
            session: As for `Documents.ask`. MongoEngine's own calls are not part of it.
            event_id: As for `Documents.ask`.

        Returns:
            What the transition's body returned.

        Raises:
            ConcurrentTransition: Somebody else has written the document since it was read: `reload()` it.
            NoSuchMachine: It was not saved, or is there no more.
            Unhandled, Vetoed, HookFailed, InvalidEvent, SchemaMismatch, NotStored, OutcomeUnknown: As `ask`.
        """
        reply, written = self._asked(
            document.pk,
            event,
            version=getattr(document, self._version_name) or 0,
            session=session,
            event_id=event_id,
        )
        self._show(document, BSON.encode(written).decode(self._as_engine_reads))
        return reply

    def _show(self, document: Any, written: Mapping[str, Any]) -> None:
        """Let a document show what was written, as read and not as changed: a later `save()` shall not write it."""
        before = list[str](document._changed_fields)  # noqa: SLF001 -- reload() would read it, in no transaction
        for key, value in written.items():
            name = self._names[key]
            setattr(document, name, document._fields[name].to_python(value))
        document._changed_fields = [  # noqa: SLF001 -- the same
            key for key in before if key.partition(".")[0] not in written
        ]
