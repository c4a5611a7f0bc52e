"""Spans where a system meets what is outside it: a journal, threads, a real event loop, a missing extra."""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from actorfsm import ActorFSMError, ActorSystem, Unsupported
from actorfsm.integrations.opentelemetry import Tracing, conventions as names
from actorfsm.journal.memory import MemoryJournal
from actorfsm.sinks import JSONLines
from actorfsm.testing import SimulatedSystem
from tests.integrations.spans import (
    Break,
    Go,
    Later,
    Recorder,
    Refuse,
    Signal,
    Stubborn,
    attribute,
    is_child,
    is_linked,
)


@pytest.mark.rule("C23")
def test_recovery_makes_no_spans_and_a_timer_is_linked_to_the_turn_of_an_earlier_life(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        journal, before, after = MemoryJournal(), Recorder(), Recorder()

        def system(recorder: Recorder) -> SimulatedSystem[Any]:
            return SimulatedSystem(
                Stubborn,
                Signal,
                services=recorder,
                tracing=Tracing(recorder.provider),
                journal=journal,
                check=False,
            )

        async with system(before) as first:
            await first.spawn(Signal, "one")
            await first.ask("one", Go(), event_id="e")
        async with system(after) as second:
            await second.load("one")
            assert after.spans == []
            assert await second.ask("one", Go(), event_id="e") == "green"
            assert [span.name for span in after.spans] == ["send Signal"]
            await second.clock.advance(6)
        assert is_linked(after.handled("Later"), before.handled("Go"))

    sim(scenario)


def test_outcomes_that_are_stored_first_are_told_by_their_spans_too(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        recorder = Recorder()
        async with SimulatedSystem(
            Signal, services=recorder, tracing=Tracing(recorder.provider), journal=MemoryJournal()
        ) as system:
            await system.spawn(Signal, "one", data={"other": "one"})
            for event in (Refuse(), Break(), Go()):
                await system.tell("one", event, durable=True).outcome()
        for event, outcome in (("Refuse", "vetoed"), ("Break", "failed")):
            assert attribute(recorder.handled(event), names.OUTCOME) == outcome
            assert is_linked(recorder.handled(event), recorder.sent(event))
        context = recorder.handled("Break").context
        (record,) = [record for record in system.trace.records if record.event_type == "Break"]
        assert record.traceparent is not None
        assert record.traceparent.split("-")[1:3] == [f"{context.trace_id:032x}", f"{context.span_id:016x}"]

    sim(scenario)


def test_a_thread_passes_its_span_on() -> None:
    recorder = Recorder()

    def in_a_thread(system: ActorSystem[Any]) -> None:
        with recorder.inside("in the thread"):
            assert system.threadsafe.ask("one", Go()).result(10) == "green"
            assert not system.threadsafe.tell("one", Refuse()).result(10).success
            system.threadsafe.spawn(Signal, "two").result(10)

    async def main() -> None:
        async with ActorSystem(
            Signal, services=recorder, tracing=Tracing(recorder.provider), trace=None
        ) as system:
            await system.spawn(Signal, "one")
            recorder.exporter.clear()
            await asyncio.to_thread(in_a_thread, system)

    asyncio.run(main())
    thread = recorder.one("in the thread")
    assert is_child(recorder.sent("Go"), thread)
    assert is_child(recorder.sent("Refuse"), thread)
    assert is_child(recorder.sent("Spawn"), thread)
    assert is_child(recorder.handled("Go"), recorder.sent("Go"))


def test_on_a_real_loop_spans_have_the_time_of_the_computer_and_many_turns_keep_theirs(inline: bool) -> None:
    recorder = Recorder()

    async def main() -> None:
        async with ActorSystem(
            Signal, services=recorder, tracing=Tracing(recorder.provider), trace=None, inline=inline
        ) as system:
            for number in range(10):
                await system.spawn(Signal, f"s-{number}")

            async def request(number: int) -> None:
                with recorder.inside("request"):
                    await system.ask(f"s-{number}", Go())

            await asyncio.gather(*(request(number) for number in range(10)))

    asyncio.run(main())
    requests = {span.context.span_id: span for span in recorder.named("request")}
    asked = {span.context.span_id: span for span in recorder.named("send Signal", "Go")}
    handled = recorder.named("process Signal", "Go")
    assert len(requests) == len(asked) == len(handled) == 10
    for span in handled:
        assert span.parent is not None
        parent = asked[span.parent.span_id]
        assert parent.parent is not None
        assert span.context.trace_id == requests[parent.parent.span_id].context.trace_id
        assert requests[parent.parent.span_id].start_time <= span.start_time  # type: ignore[operator]
    in_hooks = recorder.named("in the body")
    assert {span.parent.span_id for span in in_hooks if span.parent} == {
        span.context.span_id for span in handled
    }


def test_an_asker_that_is_cancelled_ends_its_span(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        recorder = Recorder()
        async with SimulatedSystem(
            Signal, services=recorder, tracing=Tracing(recorder.provider), check=False
        ) as system:
            await system.spawn(Signal, "one")
            system.suspend("one")
            asking = asyncio.create_task(system.ask("one", Go()))
            await asyncio.sleep(1)
            asking.cancel()
            await asyncio.wait([asking])
            assert attribute(recorder.sent("Go"), names.ERROR_TYPE) == "CancelledError"
            system.resume("one")
            await asyncio.sleep(1)
        assert is_child(recorder.handled("Go"), recorder.sent("Go"))

    sim(scenario, seeds=[0])


def test_json_lines_have_the_ids_of_the_span_if_that_is_wanted(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        recorder, text = Recorder(), io.StringIO()
        async with SimulatedSystem(
            Signal,
            services=recorder,
            tracing=Tracing(recorder.provider),
            trace=[JSONLines(text, clock=None, trace_ids=True)],
        ) as system:
            await system.spawn(Signal, "one")
            with pytest.raises(ActorFSMError):
                await system.ask("one", Later())
            system.tell("nobody", Later(), headers={"traceparent": "no context"})
        lines = [json.loads(line) for line in text.getvalue().splitlines()]
        context = recorder.named("process Signal", "Later")[0].context
        (line,) = [line for line in lines if line["event"] == "unhandled"]
        assert (line["trace_id"], line["span_id"]) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
        assert all("trace_id" not in line for line in lines if "traceparent" not in line)

    sim(scenario, seeds=[0])


def test_how_what_is_told_is_followed_is_one_of_two_words() -> None:
    wrong: Any = "chlid"
    with pytest.raises(ActorFSMError, match="'link' or 'child'"):
        Tracing(told=wrong)


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [
        ("actorfsm.integrations.opentelemetry", "opentelemetry.trace", "otel"),
        ("actorfsm.integrations.prometheus", "prometheus_client", "prometheus"),
    ],
)
def test_a_missing_extra_is_named(
    module: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name == module or name.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(Unsupported, match=rf"pip install 'actorfsm\[{extra}\]'"):
        importlib.import_module(module)


def test_the_package_itself_needs_neither(tmp_path: Any) -> None:
    import subprocess

    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['opentelemetry', 'prometheus_client']))\n"
        "import actorfsm, actorfsm.testing, actorfsm.sinks, actorfsm.integrations.figures\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
