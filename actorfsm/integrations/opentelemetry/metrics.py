"""The figures of systems as instruments of OpenTelemetry, and the histogram of how long events are handled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

from actorfsm.integrations.figures import (
    FIGURES,
    HANDLED,
    PROCESS_DURATION,
    PROCESS_SECONDS,
    SYSTEM,
    Figure,
    Watched,
    error_type,
)
from actorfsm.integrations.opentelemetry import conventions as names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from actorfsm.runtime.stats import Stats
    from actorfsm.runtime.system import ActorSystem
    from actorfsm.trace import Record

__all__ = ["Metrics", "ProcessDuration"]


class Metrics:
    """Shows the figures of systems as observable instruments: `Metrics().add(system)`. One is enough for a process.

    Nothing is done on the way of an event: the instruments read what `system.stats()` counts, once for each collection.

    Args:
        meter_provider: Where metrics go; the global one by default.
        timeout_s: How long a collection on another thread waits for the event loop of a system; without an answer its
            figures are missing from this collection.
    """

    def __init__(self, meter_provider: MeterProvider | None = None, *, timeout_s: float = 1.0) -> None:
        self._watched = Watched(timeout_s)
        self._accounts: list[tuple[str, Stats]] = []
        self._served: set[str] = {figure.name for figure in FIGURES}
        """The figures that were read from these accounts: one that is read again begins a new collection."""
        meter = _meter(meter_provider)
        for figure in FIGURES:
            make: Any = (
                meter.create_observable_counter
                if figure.kind == "counter"
                else meter.create_observable_up_down_counter
            )
            make(figure.name, [self._observer(figure)], unit=figure.unit, description=figure.description)

    def add(self, system: ActorSystem[Any], name: str = "") -> None:
        """Show the figures of a system, from now on until it has ended.

        Args:
            system: The system.
            name: Its name, as the attribute `actorfsm.system`; needed where there are several.

        Raises:
            ActorFSMError: Another system has this name.
        """
        self._watched.add(system, name)

    def _observer(self, figure: Figure) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            if figure.name in self._served:
                self._served = set()
                self._accounts = self._watched.accounts()
            self._served.add(figure.name)
            for system, stats in self._accounts:
                for values, number in figure.read(stats).items():
                    pairs = zip((*figure.attributes, SYSTEM), (*values, system), strict=True)
                    yield Observation(number, {name: value for name, value in pairs if value})

        return observe


class ProcessDuration:
    """A sink that records how long events are handled, as a histogram: `trace=[StructlogSink(), ProcessDuration()]`.

    Args:
        meter_provider: Where it goes; the global one by default.
        bounds: Of its buckets, in seconds.
    """

    def __init__(
        self, meter_provider: MeterProvider | None = None, *, bounds: Sequence[float] = PROCESS_SECONDS
    ) -> None:
        self._histogram = _meter(meter_provider).create_histogram(
            PROCESS_DURATION,
            unit="s",
            description="How long an event was handled, up to its outcome.",
            explicit_bucket_boundaries_advisory=bounds,
        )
        self._attributes: dict[tuple[str, str, str, str], dict[str, str]] = {}

    def __call__(self, record: Record) -> None:
        """Record one event, if it had its turn."""
        if record.name not in HANDLED or record.duplicate:
            return
        key = (record.machine, record.event_type, record.name, error_type(record))
        attributes = self._attributes.get(key)
        if attributes is None:
            self._attributes[key] = attributes = {
                names.SYSTEM: names.SYSTEM_NAME,
                names.OPERATION_NAME: "process",
                names.DESTINATION_TEMPLATE: record.machine,
                names.EVENT_TYPE: record.event_type,
                names.OUTCOME: record.name,
            }
            if key[-1]:
                attributes[names.ERROR_TYPE] = key[-1]
        self._histogram.record(record.run_s, attributes)


def _meter(provider: MeterProvider | None) -> Meter:
    return metrics.get_meter("actorfsm", meter_provider=provider, schema_url=names.SCHEMA_URL)
