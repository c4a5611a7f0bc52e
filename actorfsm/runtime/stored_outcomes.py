"""Outcomes as the journal keeps them: for the machine named in `reply_to`, until it has handled them.

An Outcome holds what belongs to another machine: its states and its reply. Both are stored under the names that that
machine's class gives them, and are read by way of its upcasts, whatever class the receiver has (C28).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict

from actorfsm.errors import InvalidData, SchemaMismatch
from actorfsm.event import ErrorInfo, Outcome, OutcomeKind
from actorfsm.journal.entry import Payload
from actorfsm.runtime.stored_json import check_comes_back, dumped, read

if TYPE_CHECKING:
    from collections.abc import Mapping
    from enum import Enum

    from actorfsm.runtime.stored_values import StoredValues

__all__ = ["StoredOutcomes"]


class _Stored(BaseModel):
    """The fields of an Outcome, with names instead of states, and the reply as it is stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    machine: str
    kind: OutcomeKind
    success: bool
    machine_id: str
    event_type: str
    event_id: str
    old: str | None
    new: str | None
    reply: Payload | None
    reason: str
    error: ErrorInfo | None
    seq: int
    duplicate: bool


class StoredOutcomes:
    """How the Outcomes of the machines of one system are stored."""

    def __init__(self) -> None:
        self._readers: Mapping[str, StoredValues] = {}

    def know(self, readers: Mapping[str, StoredValues]) -> None:
        """Take the machine classes whose Outcomes there may be, by each name that they have or had."""
        self._readers = readers

    def payload(self, outcome: Outcome) -> Payload:
        """Return an Outcome as it is stored.

        Raises:
            InvalidData: It would not come back as it was.
        """
        what = f"the Outcome of {outcome.event_type} at {outcome.machine_id}"
        stored = _Stored(
            machine=outcome.machine,
            kind=outcome.kind,
            success=outcome.success,
            machine_id=outcome.machine_id,
            event_type=outcome.event_type,
            event_id=outcome.event_id,
            old=None if outcome.old is None else outcome.old.name,
            new=None if outcome.new is None else outcome.new.name,
            reply=self._reply_payload(outcome, what),
            reason=outcome.reason,
            error=outcome.error,
            seq=outcome.seq,
            duplicate=outcome.duplicate,
        )
        text = dumped(what, lambda: stored.model_dump_json().encode())
        payload = Payload(Outcome.__name__, Outcome.schema_version, text)
        try:
            check_comes_back(what, outcome, lambda: self.outcome(payload, what))
        except SchemaMismatch as error:
            raise InvalidData(
                f"{what} cannot be stored, because it could not be read again: {error}"
            ) from None
        return payload

    def _reply_payload(self, outcome: Outcome, what: str) -> Payload | None:
        if outcome.reply is None:
            return None
        values = self._readers.get(outcome.machine)
        event_class = None if values is None else values.event_classes().get(outcome.event_type)
        if values is None or event_class is None:
            raise InvalidData(
                f"{what} cannot be stored: it has a reply, and no class {outcome.machine or '(none)'} of this system "
                f"takes {outcome.event_type}"
            )
        return values.replies.payload(event_class, outcome.reply)

    def outcome(self, payload: Payload, where: str) -> Outcome:
        """Return a stored Outcome.

        Raises:
            SchemaMismatch: It does not fit what the code has now.
        """
        if payload[:2] != (Outcome.__name__, Outcome.schema_version):
            raise SchemaMismatch(
                f"{where}: {payload.type} version {payload.version} was stored by newer code: run that",
                stored=payload.type,
                version=payload.version,
            )
        stored = read(where, _Stored, payload, lambda: _Stored.model_validate_json(payload.json))
        values = _Of(stored, self._readers.get(stored.machine), where)
        return Outcome(
            machine=stored.machine if values.of_class is None else values.of_class.lineage.name,
            kind=stored.kind,
            success=stored.success,
            machine_id=stored.machine_id,
            event_type=stored.event_type,
            event_id=stored.event_id,
            old=values.state(stored.old),
            new=values.state(stored.new),
            reply=values.reply(),
            reason=stored.reason,
            error=stored.error,
            seq=stored.seq,
            duplicate=stored.duplicate,
        )


class _Of:
    """What an Outcome has of the machine that it tells of."""

    def __init__(self, stored: _Stored, of_class: StoredValues | None, where: str) -> None:
        self.of_class: Final = of_class
        self._stored = stored
        self._where = f"{where}, which tells of {stored.machine_id}"

    def state(self, name: str | None) -> Enum | None:
        if name is None:
            return None
        member: Enum | None = self._class().node((name,), self._where).member
        return member

    def reply(self) -> Any:
        stored = self._stored
        if stored.reply is None:
            return None
        values = self._class()
        event_class = values.event_classes().get(stored.event_type)
        if event_class is None:
            raise self._mismatch(f"{values.lineage.name} does not take {stored.event_type}")
        return values.replies.reply(event_class, stored.reply, self._where)

    def _class(self) -> StoredValues:
        if self.of_class is None:
            raise self._mismatch(
                f"it is a {self._stored.machine or 'machine of no class'}, and the system has no such class: give it "
                f"to ActorSystem; if another class is what it was, write @upcast(..., from_version=1, "
                f"named={self._stored.machine!r}) for that one"
            )
        return self.of_class

    def _mismatch(self, why: str) -> SchemaMismatch:
        return SchemaMismatch(
            f"{self._where}: {why}", stored=Outcome.__name__, version=Outcome.schema_version
        )
