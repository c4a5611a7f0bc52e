"""Figures of systems as metrics, by the real SDK and a real scrape: the same from both, and nothing of one machine."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import urlopen

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest, start_http_server

from actorfsm import ActorFSMError, ActorSystem, HookFailed, Vetoed
from actorfsm.integrations import prometheus
from actorfsm.integrations.figures import FIGURES, Watched
from actorfsm.integrations.opentelemetry import Metrics, ProcessDuration
from actorfsm.runtime.stats import Stats
from actorfsm.testing import SimulatedSystem
from tests.integrations.spans import Break, Go, Later, Recorder, Refuse, Signal, Stubborn, Wait

Readings = dict[str, dict[tuple[tuple[str, str], ...], Any]]


class Collected:
    """What an in-memory reader of the real SDK collects."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)

    def points(self) -> Iterator[tuple[str, dict[str, str], Any]]:
        data = self.reader.get_metrics_data()
        for resource in [] if data is None else data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        yield metric.name, dict(point.attributes or {}), point  # type: ignore[arg-type]

    def values(self) -> Readings:
        found: Readings = {}
        for name, attributes, point in self.points():
            found.setdefault(name.replace(".", "_"), {})[key(attributes)] = point.value
        return found


def key(attributes: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name.replace(".", "_"), value) for name, value in attributes.items() if value))


def scraped(registry: CollectorRegistry) -> Readings:
    found: Readings = {}
    for family in registry.collect():
        for sample in family.samples:
            found.setdefault(family.name, {})[key(sample.labels)] = sample.value
    return found


async def have_a_day(system: ActorSystem[Any]) -> None:
    """Let a bit of everything happen."""
    await system.spawn(Signal, "a", data={"other": "b"})
    await system.spawn(Signal, "b")
    await system.spawn(Stubborn, "mule")
    with pytest.raises(Vetoed):
        await system.ask("a", Refuse())
    with pytest.raises(HookFailed):
        await system.ask("a", Break())
    waiting = system.tell("b", Wait())
    system.tell("nobody", Later())
    await system.ask("mule", Go())
    await system.ask("a", Go())
    await waiting.outcome()
    await asyncio.sleep(2)


def test_both_show_what_the_system_counts(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        collected, registry = Collected(), CollectorRegistry()
        async with SimulatedSystem(Signal, Stubborn, services=Recorder()) as system:
            Metrics(collected.provider).add(system)
            prometheus.SystemCollector(registry).add(system)
            await have_a_day(system)
            shown, stats = collected.values(), system.stats()
            assert shown == scraped(registry)
        assert len(shown) == len(FIGURES)
        assert shown["actorfsm_machines"] == {
            key({"actorfsm.machine": "Signal"}): 2,
            key({"actorfsm.machine": "Stubborn"}): 1,
        }
        outcomes = {
            dict(labels)["actorfsm_outcome"]: n for labels, n in shown["actorfsm_events_outcomes"].items()
        }
        assert outcomes == stats.outcomes
        assert outcomes["vetoed"] == outcomes["failed"] == 1
        sent = {
            dict(labels).get("error_type", ""): n
            for labels, n in shown["messaging_client_sent_messages"].items()
        }
        assert sent == {"": stats.accepted + stats.withdrawn, "_OTHER": 1}

    sim(scenario)


def test_every_figure_of_a_system_is_shown() -> None:
    fields = dataclasses.fields(Stats)
    empty: dict[str, Any] = {field.name: {} if field.type.startswith("dict") else 0 for field in fields}
    for field in fields:
        if field.name == "machines":
            continue  # by class
        changed = Stats(**{**empty, field.name: {"x": 1} if isinstance(empty[field.name], dict) else 1})
        assert any(figure.read(changed) != figure.read(Stats(**empty)) for figure in FIGURES), field.name


def test_figures_are_those_of_now_at_each_collection(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        collected = Collected()
        async with SimulatedSystem(Signal, services=Recorder()) as system:
            Metrics(collected.provider).add(system)
            for number in range(1, 4):
                await system.spawn(Signal, f"s-{number}")
                assert list(collected.values()["actorfsm_machines"].values()) == [number]

    sim(scenario, seeds=[0])


def test_systems_are_told_apart_by_name_and_one_that_has_ended_is_not_read(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        collected, registry = Collected(), CollectorRegistry()
        metrics, collector = Metrics(collected.provider), prometheus.SystemCollector(registry)
        assert collected.values() == {}
        async with SimulatedSystem(Signal, services=Recorder()) as first:
            metrics.add(first, "first")
            collector.add(first, "first")
            async with SimulatedSystem(Stubborn) as second:
                with pytest.raises(ActorFSMError, match="another system is called 'first'"):
                    metrics.add(second, "first")
                metrics.add(second, "second")
                collector.add(second, "second")
                await second.spawn(Stubborn, "mule")
                both = collected.values()
                assert both == scraped(registry)
                assert both["actorfsm_machines"] == {
                    key({"actorfsm.machine": "Signal", "actorfsm.system": "first"}): 0,
                    key({"actorfsm.machine": "Stubborn", "actorfsm.system": "second"}): 1,
                }
            assert set(collected.values()["actorfsm_machines"]) == {
                key({"actorfsm.machine": "Signal", "actorfsm.system": "first"})
            }
        assert collected.values() == {}
        assert not any(family.samples for family in registry.collect())
        async with SimulatedSystem(Signal, services=Recorder()) as third:
            metrics.add(third, "first")

    sim(scenario, seeds=[0])


def test_two_systems_without_a_name_are_refused(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        collector = prometheus.SystemCollector(None)
        async with SimulatedSystem(Signal) as first, SimulatedSystem(Signal) as second:
            collector.add(first)
            collector.add(first)
            with pytest.raises(ActorFSMError, match="two systems need names"):
                collector.add(second)

    sim(scenario, seeds=[0])


def test_a_system_is_not_kept_alive_by_whoever_reads_it() -> None:
    watched = Watched(1.0)
    watched.add(ActorSystem(Signal), "gone")
    gc.collect()
    assert watched.accounts() == []


def test_no_attribute_says_which_machine_it_was(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        collected, registry = Collected(), CollectorRegistry()
        sinks = [ProcessDuration(collected.provider), prometheus.ProcessDuration(registry)]
        async with SimulatedSystem(Signal, services=Recorder(), trace=sinks) as system:
            Metrics(collected.provider).add(system)
            prometheus.SystemCollector(registry).add(system)
            await system.spawn(Signal, "secret-id")
            await system.ask("secret-id", Go())
            values = [value for _, attributes, _ in collected.points() for value in attributes.values()]
            assert "Signal" in values
            assert "secret-id" not in values
            assert b"secret-id" not in generate_latest(registry)

    sim(scenario, seeds=[0])


def test_how_long_events_are_handled_is_a_histogram_of_those_that_had_their_turn(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        collected, registry = Collected(), CollectorRegistry()
        sinks = [ProcessDuration(collected.provider), prometheus.ProcessDuration(registry)]
        async with SimulatedSystem(Signal, services=Recorder(), trace=sinks) as system:
            await system.spawn(Signal, "one")
            with pytest.raises(HookFailed):
                await system.ask("one", Break())
            for _ in range(2):
                await system.ask("one", Go(), event_id="once")
            system.tell("nobody", Later())
        expected = {
            "messaging_system": "actorfsm",
            "messaging_operation_name": "process",
            "messaging_destination_template": "Signal",
        }
        kinds = [("Spawn", "committed", ""), ("Break", "failed", "Boom"), ("Go", "committed", "")]
        wanted = {
            key({**expected, "actorfsm_event_type": event, "actorfsm_outcome": outcome, "error_type": error})
            for event, outcome, error in kinds
        }
        points = {key(attributes): point for name, attributes, point in collected.points()}
        assert {labels for labels, point in points.items() if point.count == 1} >= wanted
        counts = {
            key(sample.labels): sample.value
            for family in registry.collect()
            for sample in family.samples
            if family.name == "messaging_process_duration_seconds" and sample.name.endswith("_count")
        }
        assert counts == {labels: point.count for labels, point in points.items()}
        assert not [labels for labels in counts if ("actorfsm_event_type", "Later") in labels]

    sim(scenario, seeds=[0])


def test_prometheus_scrapes_a_running_system_over_http() -> None:
    registry = CollectorRegistry()
    server, thread = start_http_server(0, "127.0.0.1", registry)

    def scrape() -> str:
        with urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10) as answer:
            return answer.read().decode()

    async def main() -> list[str]:
        texts: list[str] = []
        async with ActorSystem(Signal, services=Recorder(), trace=None) as system:
            prometheus.SystemCollector(registry).add(system, "orders")
            await system.spawn(Signal, "one")
            texts.append(await asyncio.to_thread(scrape))
            await system.ask("one", Go())
            texts.append(await asyncio.to_thread(scrape))
        texts.append(await asyncio.to_thread(scrape))
        return texts

    try:
        first, second, last = asyncio.run(main())
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    line = 'actorfsm_events_outcomes_total{actorfsm_outcome="committed",actorfsm_system="orders"} '
    assert f"{line}1.0" in first
    assert f"{line}2.0" in second or f"{line}3.0" in second  # the job of the machine may have answered
    assert 'actorfsm_machines{actorfsm_machine="Signal",actorfsm_system="orders"} 1.0' in second
    assert "# TYPE actorfsm_events_held gauge" in last
    assert line not in last


def test_a_scrape_does_not_wait_for_a_loop_that_is_blocked() -> None:
    collector = prometheus.SystemCollector(None, timeout_s=0.05)
    found: list[int] = []
    release = threading.Event()

    def scrape() -> None:
        found.append(sum(len(family.samples) for family in collector.collect()))
        release.set()

    async def main() -> None:
        async with ActorSystem(Signal, trace=None) as system:
            collector.add(system)
            thread = threading.Thread(target=scrape)
            thread.start()
            assert release.wait(10)  # blocks the loop, which is what the test is about
            thread.join()

    began = time.monotonic()
    asyncio.run(main())
    assert found == [0]
    assert time.monotonic() - began < 5
