"""Sinks: what turns trace records into log lines."""

from actorfsm.sinks.json_lines import JSONLines
from actorfsm.sinks.structlog_sink import StructlogSink

__all__ = ["JSONLines", "StructlogSink"]
