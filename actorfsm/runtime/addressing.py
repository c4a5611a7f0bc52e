"""The address on an envelope: the event's ids and headers, and what it inherits from the event that it follows from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actorfsm.errors import InvalidEvent
from actorfsm.ids import check_event_id, check_machine_id
from actorfsm.runtime.envelope import Envelope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from actorfsm.event import Event
    from actorfsm.runtime.parts import Parts

__all__ = ["Addressing"]


class Addressing:
    """Makes the envelopes of one system."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._next_number = parts.ids.next_number
        self._time = parts.time

    def from_outside(
        self,
        event: Event[Any, Any],
        machine_id: str,
        event_id: str | None,
        headers: Mapping[str, str] | None,
    ) -> Envelope:
        """Return the envelope of an event that no machine sends.

        Raises:
            InvalidEvent: The id of the event or its headers are malformed.
        """
        envelope = Envelope(event, machine_id, self._next_number(), self._time())
        if event_id is not None or headers is not None:
            self.address(envelope, event_id, headers)
        return envelope

    def address(self, envelope: Envelope, event_id: str | None, headers: Mapping[str, str] | None) -> None:
        """Write the sender's own event id and headers on an envelope.

        Raises:
            InvalidEvent: They are malformed.
        """
        if event_id is not None:
            envelope.event_id = check_event_id(event_id)
            envelope.has_own_id = envelope.keeps_settlement = True
        if headers is not None:
            envelope.headers = self._headers(headers)
            envelope.correlation_id = envelope.headers.get("correlation_id")

    def from_machine(
        self,
        parent: Envelope,
        event: Event[Any, Any],
        machine_id: Any,
        event_id: str | None,
        headers: Mapping[str, str] | None,
    ) -> Envelope:
        """Return the envelope of what a machine sends in the turn of another event.

        Raises:
            InvalidEvent: The id of the machine or of the event or the headers are malformed.
        """
        envelope = Envelope(event, check_machine_id(machine_id), self._next_number(), self._time())
        if event_id is not None:
            envelope.event_id = check_event_id(event_id)
        envelope.causation_id = self._parts.event_id(parent)
        envelope.headers = inherited = parent.passed_on or parent.headers
        if headers is not None:
            envelope.headers = self._headers({**(inherited or {}), **self._headers(headers)})
        envelope.correlation_id = (envelope.headers or {}).get("correlation_id") or (
            parent.correlation_id or envelope.causation_id
        )
        return envelope

    def from_runtime(self, event: Event[Any, Any], machine_id: str, cause: Envelope | None) -> Envelope:
        """Return the envelope of an event that the runtime sends; it inherits from its cause, if it has one."""
        envelope = Envelope(event, machine_id, self._next_number(), self._time())
        if cause is not None:
            event_id = self._parts.event_id(cause)
            envelope.causation_id, envelope.headers = event_id, cause.passed_on or cause.headers
            envelope.correlation_id = cause.correlation_id or event_id
        return envelope

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        return _checked_headers(headers, self._parts.limits.header_count, self._parts.limits.header_bytes)


def _checked_headers(headers: Mapping[str, str], count: int, size: int) -> dict[str, str]:
    """Return a copy of the headers.

    Raises:
        InvalidEvent: Not strings, or more than the limits allow.
    """
    try:
        copied: dict[Any, Any] = dict(headers)
    except (TypeError, ValueError):
        raise InvalidEvent("headers are a mapping of strings") from None
    if len(copied) > count:
        raise InvalidEvent(f"{len(copied)} headers: the limit is {count}")
    if not all(isinstance(name, str) and isinstance(value, str) for name, value in copied.items()):
        raise InvalidEvent("headers are strings")
    if sum(len(name) + len(value) for name, value in copied.items()) > size:
        raise InvalidEvent(f"headers are longer than {size:,} characters")
    return copied
