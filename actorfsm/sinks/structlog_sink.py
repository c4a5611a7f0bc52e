"""The structlog sink: one canonical line for each handled event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import structlog

from actorfsm.errors import HookFailed
from actorfsm.sinks.fields import LEVELS
from actorfsm.sinks.payload import payload_of
from actorfsm.sinks.text import one_line, render_exception

if TYPE_CHECKING:
    from actorfsm.trace import Record

__all__ = ["StructlogSink"]

_TEXTS: Final = (
    *("event_type", "event_id", "causation_id", "correlation_id"),
    *("source", "target", "hook", "reason"),
)
_WITH_TRACEBACK: Final = frozenset(
    {"failed", "after_hook_failed", "callback_failed", "job_failed", "quarantined"}
)


class StructlogSink:
    """Writes each record as a structlog line whose event is the record's name.

    The fields come in a stable order: machine, machine_id, incarnation, seq, event_type, event_id, causation_id,
    correlation_id, source, target, hook, reason, queue_s, run_s, traceparent, duplicate, payload, exception; what a
    record does not have is left out. Levels: info for committed, vetoed, stopped, released, suspended, resumed;
    warning for unhandled, expired, dead_lettered, restarted; error for failed, after_hook_failed, callback_failed,
    quarantined.

    A logger is bound once per machine class, and anew when structlog is configured anew. Text that came from outside is
    escaped, so that it cannot begin a line of its own or talk to a terminal. An exception is one text, without local
    variables and without what pydantic was given.

    Args:
        payload: Whether the event's fields are shown, as `payload`; fields with `repr=False` stay out, `SecretStr` is
            masked.
        logger: Where lines go; the structlog logger named `actorfsm` by default.
    """

    def __init__(self, *, payload: bool = False, logger: Any = None) -> None:
        self._payload = payload
        self._logger: Any = structlog.get_logger("actorfsm") if logger is None else logger
        self._bound: dict[str, Any] = {}
        self._bound_for: Any = None

    def __call__(self, record: Record) -> None:
        """Write one line."""
        logger = self._logger_of(record.machine)
        getattr(logger, LEVELS.get(record.name, "info"))(record.name, **self._fields(record))

    def _logger_of(self, machine: str) -> Any:
        processors = structlog.get_config()["processors"]
        if processors is not self._bound_for:
            self._bound.clear()
            self._bound_for = processors
        logger = self._bound.get(machine)
        if logger is None:
            logger = self._bound[machine] = self._logger.bind(machine=machine)
        return logger

    def _fields(self, record: Record) -> dict[str, Any]:
        """Return the fields in their order; machine is bound already."""
        fields: dict[str, Any] = {
            "machine_id": one_line(record.machine_id),
            "incarnation": record.incarnation,
            "seq": record.seq,
        }
        for name in _TEXTS:
            text: str | None = getattr(record, name)
            if text:
                fields[name] = one_line(text)
        if record.event_type:
            fields["queue_s"] = round(record.queue_s, 6)
            fields["run_s"] = round(record.run_s, 6)
        if record.traceparent:
            fields["traceparent"] = one_line(record.traceparent)
        if record.duplicate:
            fields["duplicate"] = True
        if self._payload and record.event is not None:
            fields["payload"] = payload_of(record.event)
        error = record.error
        if error is not None and (record.name in _WITH_TRACEBACK or isinstance(error, HookFailed)):
            fields["exception"] = render_exception(error)
        return fields
