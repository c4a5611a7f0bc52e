"""The structlog sink: one canonical line for each handled event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from actorfsm.trace import Record

__all__ = ["StructlogSink"]


class StructlogSink:
    """Writes each record as a structlog line whose event is the record's name.

    A logger is bound once per machine class; ids are passed with each line.
    """

    def __init__(self) -> None:
        self._loggers: dict[str, Any] = {}

    def __call__(self, record: Record) -> None:
        """Write one line."""
        logger = self._loggers.get(record.machine)
        if logger is None:
            logger = self._loggers[record.machine] = structlog.get_logger("actorfsm").bind(machine=record.machine)
        fields = {name: value for name, value in record._asdict().items() if name not in {"name", "machine", "error", "event"}}
        logger.info(record.name, **fields)
