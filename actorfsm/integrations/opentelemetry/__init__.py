"""OpenTelemetry: spans of events, and the figures of systems as metrics.

The extra `otel` brings `opentelemetry-api`, which is all that is needed here; what becomes of spans and metrics is for
the SDK, which the program configures.
"""

from importlib import import_module

from actorfsm.errors import Unsupported

try:
    import_module("opentelemetry.trace")
except ImportError as missing:
    raise Unsupported(
        "spans and metrics need opentelemetry-api, which is not installed: pip install 'actorfsm[otel]'"
    ) from missing

from actorfsm.integrations.opentelemetry.metrics import Metrics, ProcessDuration
from actorfsm.integrations.opentelemetry.tracing import Tracing

__all__ = ["Metrics", "ProcessDuration", "Tracing"]
