"""Replies as the journal keeps them, for whoever asks again with the same event id."""

from __future__ import annotations

from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Union, get_args, get_origin

from pydantic import TypeAdapter

from actorfsm.errors import SchemaMismatch
from actorfsm.journal.entry import Payload
from actorfsm.machine.upcasts import Lineage, schema_version_of
from actorfsm.runtime.round_trips import is_sure, sure_of
from actorfsm.runtime.stored_json import check_comes_back, dumped, read, upcasted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from actorfsm.event import Event
    from actorfsm.machine.definition import Definition

__all__ = ["StoredReplies"]


class StoredReplies:
    """How the replies of one machine class are stored."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._readers: dict[type[Any], _Reader] = {}
        for spec in definition.events.values():
            for kind in _kinds(spec.reply.annotation):
                if isinstance(kind, type):
                    Lineage(kind)  # what is wrong with its upcasts is said at the start

    def payload(self, event_class: type[Event[Any, Any]], reply: Any) -> Payload | None:
        """Return a reply as it is stored; None for none.

        Raises:
            InvalidData: It would not come back as it was.
        """
        if reply is None:
            return None
        reader = self._reader(event_class)
        adapter, what = reader.adapter, f"the reply to {event_class.__name__}"
        text = dumped(what, lambda: adapter.dump_json(reply, by_alias=True))
        if not is_sure(reader.sure, reply):
            check_comes_back(what, reply, lambda: adapter.validate_json(text))
        return Payload(type(reply).__name__, schema_version_of(type(reply)), text)

    def reply(self, event_class: type[Event[Any, Any]], payload: Payload | None, where: str) -> Any:
        """Return a stored reply.

        Raises:
            SchemaMismatch: It does not fit what the code has now.
        """
        if payload is None:
            return None
        return self._reader(event_class).read(payload, f"{where}, the reply to {event_class.__name__}")

    def _reader(self, event_class: type[Any]) -> _Reader:
        reader = self._readers.get(event_class)
        if reader is None:
            annotation = self._definition.events[event_class].reply.annotation
            reader = self._readers[event_class] = _Reader(annotation)
        return reader


class _Reader:
    """Reads the replies to one event class."""

    def __init__(self, annotation: Any) -> None:
        self.adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        self.sure: Final = sure_of(annotation)
        kinds = list(_kinds(annotation))
        self._lineages = [Lineage(cls) for cls in kinds if isinstance(cls, type)]
        self._has_others = not all(isinstance(kind, type) for kind in kinds)
        """Whether a reply may be something without a version beside: a list, say."""

    def read(self, payload: Payload, where: str) -> Any:
        stored = (payload.type, payload.version)
        lineage = next((lineage for lineage in self._lineages if stored in lineage.known), None)
        if lineage is None:
            self._check_unversioned(payload, where)
        elif payload.version != lineage.version:
            # By the class itself: another one of a union might take what the upcasts return.
            adapter: TypeAdapter[Any] = TypeAdapter(lineage.cls)
            text = upcasted(payload, lineage.steps_from(payload.version), where)
            return read(where, adapter, payload, lambda: adapter.validate_json(text))
        return read(where, self.adapter, payload, lambda: self.adapter.validate_json(payload.json))

    def _check_unversioned(self, payload: Payload, where: str) -> None:
        """Check that nothing here has versions: then whether it validates is all there is to say.

        Raises:
            SchemaMismatch: Something has, and this is none that is known.
        """
        named = next((lineage for lineage in self._lineages if payload.type in lineage.names), None)
        others = [lineage for lineage in self._lineages if lineage.version > 1]
        if payload.version == 1 and named is None and (self._has_others or not others):
            return
        lineage = named or (others[0] if others else None)
        why = (
            "no class here has versions; put it back"
            if lineage is None
            else lineage.why_not(payload.type, payload.version)
        )
        raise SchemaMismatch(
            f"{where}: {payload.type} version {payload.version} cannot be read: {why}",
            stored=payload.type,
            version=payload.version,
        )


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield what a reply may be: classes, and others; what is inside a container has no version of its own."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif origin is Union or origin is UnionType:
        for argument in get_args(annotation):
            yield from _kinds(argument)
    elif annotation is not None and annotation is not type(None):
        yield annotation if origin is None else str(annotation)
