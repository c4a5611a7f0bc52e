"""The figures of systems for Prometheus: a collector, and the histogram of how long events are handled.

The extra `prometheus` brings `prometheus-client`. The names are those of OpenTelemetry's metrics, translated as its
exporters do, so that a dashboard does not care which of the two it reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actorfsm.errors import Unsupported
from actorfsm.integrations.figures import (
    FIGURES,
    HANDLED,
    PROCESS_DURATION,
    PROCESS_SECONDS,
    SYSTEM,
    Watched,
    error_type,
)

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Histogram
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError as missing:
    raise Unsupported(
        "actorfsm.integrations.prometheus needs prometheus-client, which is not installed: "
        "pip install 'actorfsm[prometheus]'"
    ) from missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client.metrics_core import Metric

    from actorfsm.runtime.system import ActorSystem
    from actorfsm.trace import Record

__all__ = ["ProcessDuration", "SystemCollector"]


class SystemCollector(Collector):
    """Shows the figures of systems: `SystemCollector().add(system)`. One is enough for a process.

    Nothing is done on the way of an event: each scrape reads what `system.stats()` counts.

    Args:
        registry: Where it is registered; the global one by default, None for nowhere.
        timeout_s: How long a scrape on another thread waits for the event loop of a system; without an answer its
            figures are missing from this scrape.
    """

    def __init__(self, registry: CollectorRegistry | None = REGISTRY, *, timeout_s: float = 1.0) -> None:
        self._watched = Watched(timeout_s)
        if registry is not None:
            registry.register(self)

    def add(self, system: ActorSystem[Any], name: str = "") -> None:
        """Show the figures of a system, from now on until it has ended.

        Args:
            system: The system.
            name: Its name, as the label `actorfsm_system`; needed where there are several.

        Raises:
            ActorFSMError: Another system has this name.
        """
        self._watched.add(system, name)

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without figures: to register it reads nothing."""
        return [family for family, _ in _families()]

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all systems, each read once."""
        accounts = self._watched.accounts()
        for family, figure in _families():
            for system, stats in accounts:
                for values, number in figure.read(stats).items():
                    family.add_metric([*values, system], number)
            yield family


class ProcessDuration:
    """A sink that records how long events are handled, as a histogram: `trace=[StructlogSink(), ProcessDuration()]`.

    Args:
        registry: Where it is registered; the global one by default.
        bounds: Of its buckets, in seconds.
    """

    def __init__(
        self, registry: CollectorRegistry = REGISTRY, *, bounds: Sequence[float] = PROCESS_SECONDS
    ) -> None:
        self._histogram = Histogram(
            f"{_translated(PROCESS_DURATION)}_seconds",
            "How long an event was handled, up to its outcome.",
            labelnames=(
                "messaging_system",
                "messaging_operation_name",
                "messaging_destination_template",
                "actorfsm_event_type",
                "actorfsm_outcome",
                "error_type",
            ),
            buckets=bounds,
            registry=registry,
        )
        self._series: dict[tuple[str, str, str, str], Histogram] = {}

    def __call__(self, record: Record) -> None:
        """Record one event, if it had its turn."""
        if record.name not in HANDLED or record.duplicate:
            return
        key = (record.machine, record.event_type, record.name, error_type(record))
        series = self._series.get(key)
        if series is None:
            self._series[key] = series = self._histogram.labels("actorfsm", "process", *key)
        series.observe(record.run_s)


def _families() -> list[tuple[Any, Any]]:
    """Return an empty metric for each figure."""
    return [
        (
            (CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily)(
                _translated(figure.name),
                figure.description,
                labels=[_translated(name) for name in (*figure.attributes, SYSTEM)],
            ),
            figure,
        )
        for figure in FIGURES
    ]


def _translated(name: str) -> str:
    return name.replace(".", "_")
