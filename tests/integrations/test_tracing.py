"""Spans of events, by the real SDK, on the simulated loop: who is whose child, what they say, and that none leaks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode, TraceFlags

from actorfsm import AskTimeout, Expired, HookFailed, MachineStopped, NoSuchMachine, Unhandled, Vetoed
from actorfsm.integrations.opentelemetry import Tracing, conventions as names
from actorfsm.testing import SimulatedSystem
from tests.integrations.spans import (
    Break,
    Go,
    Hang,
    Later,
    Recorder,
    Refuse,
    Relay,
    Signal,
    Stubborn,
    Wait,
    attribute,
    is_child,
    is_linked,
)

Scenario = Callable[[SimulatedSystem[Any], Recorder], Coroutine[Any, Any, None]]


@pytest.fixture
def traced(inline: bool, sim: Callable[..., None]) -> Callable[..., Recorder]:
    """Run a scenario in a system that is traced, with two machines; return what was recorded."""

    def run(scenario: Scenario, **options: Any) -> Recorder:
        recorders: list[Recorder] = []

        async def body() -> None:
            recorder = Recorder()
            recorders.append(recorder)
            tracing = Tracing(recorder.provider, **options)
            system = SimulatedSystem(Signal, Stubborn, services=recorder, tracing=tracing, inline=inline)
            async with system:
                await system.spawn(Signal, "other")
                await system.spawn(Signal, "one", data={"other": "other"})
                recorder.exporter.clear()
                await scenario(system, recorder)
            assert not trace.get_current_span().get_span_context().is_valid

        sim(body)
        return recorders[-1]

    return run


def test_an_ask_is_a_child_of_the_askers_span_and_its_handling_a_child_of_the_ask(
    traced: Callable[..., Recorder],
) -> None:
    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        with recorder.inside("request"):
            assert await system.ask("other", Go(), event_id="e-1", headers={"correlation_id": "c"}) == "green"

    recorder = traced(scenario)
    asked, handled = recorder.sent("Go"), recorder.handled("Go")
    assert is_child(asked, recorder.one("request"))
    assert is_child(handled, asked)
    assert not handled.links
    assert (asked.name, asked.kind) == ("send Signal", SpanKind.PRODUCER)
    assert (handled.name, handled.kind) == ("process Signal", SpanKind.CONSUMER)
    assert asked.start_time <= handled.start_time <= handled.end_time <= asked.end_time  # type: ignore[operator]


def test_spans_say_what_the_conventions_want_and_how_the_event_ended(traced: Callable[..., Recorder]) -> None:
    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        await system.ask("other", Go(), event_id="e-1", headers={"correlation_id": "c"})

    recorder = traced(scenario)
    common = {
        "messaging.system": "actorfsm",
        "messaging.destination.template": "Signal",
        "messaging.destination.name": "other",
        "messaging.message.id": "e-1",
        "messaging.message.conversation_id": "c",
        "actorfsm.event.type": "Go",
        "actorfsm.outcome": "committed",
    }
    assert dict(recorder.sent("Go").attributes or {}) == {
        **common,
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
    }
    assert dict(recorder.handled("Go").attributes or {}) == {
        **common,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "actorfsm.event.queue_time": 0.0,
        "actorfsm.transition.source": "RED",
        "actorfsm.transition.target": "GREEN",
        "actorfsm.seq": 2,
    }
    scope = recorder.handled("Go").instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.schema_url) == ("actorfsm", names.SCHEMA_URL)


def test_what_is_told_is_handled_in_a_trace_of_its_own_with_a_link(traced: Callable[..., Recorder]) -> None:
    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        with recorder.inside("request"):
            receipt = system.tell("other", Go())
        await receipt.outcome()

    recorder = traced(scenario)
    told, handled = recorder.sent("Go"), recorder.handled("Go")
    assert is_child(told, recorder.one("request"))
    assert is_linked(handled, told)
    assert handled.context.trace_id != told.context.trace_id


def test_what_is_told_is_handled_as_a_child_if_that_is_wanted(traced: Callable[..., Recorder]) -> None:
    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        await system.tell("other", Go()).outcome()

    recorder = traced(scenario, told="child")
    assert is_child(recorder.handled("Go"), recorder.sent("Go"))


def test_spans_of_user_code_are_children_of_the_span_in_which_the_event_is_handled(
    traced: Callable[..., Recorder],
) -> None:
    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        await system.ask("other", Go())
        await system.clock.advance(2)

    recorder = traced(scenario)
    handled = recorder.handled("Go")
    for name in ("in the body", "in the thread of a hook", "beside the turn", "in the job"):
        assert is_child(recorder.one(name), handled), name


def test_what_a_machine_tells_and_asks_goes_on_from_its_hook(traced: Callable[..., Recorder]) -> None:
    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        await system.ask("one", Go())
        await system.clock.advance(1)

    recorder = traced(scenario)
    first, second = recorder.named("process Signal", "Go")
    (told,) = [span for span in recorder.named("send Signal", "Go") if attribute(span, names.OUTCOME) is None]
    (body, _) = recorder.named("in the body")
    assert is_child(body, first)
    assert is_child(told, body)
    assert is_linked(second, told)


def test_an_ask_of_a_machine_is_in_the_trace_of_the_event_that_it_handles(
    traced: Callable[..., Recorder],
) -> None:
    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        assert await system.ask("one", Relay()) == "green"

    recorder = traced(scenario)
    assert is_child(recorder.sent("Go"), recorder.handled("Relay"))
    assert is_child(recorder.handled("Go"), recorder.sent("Go"))
    sent = recorder.sent("Relay").context.trace_id
    assert recorder.handled("Go").context.trace_id == sent
    assert recorder.one("in the body").context.trace_id == sent


@pytest.mark.parametrize("told", ["link", "child"])
def test_what_timers_and_jobs_send_is_linked_to_the_turn_that_started_them(
    traced: Callable[..., Recorder], told: str
) -> None:
    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        await system.ask("other", Go())
        await system.clock.advance(100)

    recorder = traced(scenario, told=told)
    handled = recorder.handled("Go")
    assert is_linked(recorder.handled("Later"), handled)
    assert is_linked(recorder.handled("StateTimeout"), handled)
    answer = recorder.handled("Worked")
    assert is_child(answer, handled) if told == "child" else is_linked(answer, handled)
    assert attribute(recorder.handled("StateTimeout"), names.TARGET) == "OFF"


def test_spans_of_a_simulated_system_have_its_times(traced: Callable[..., Recorder]) -> None:
    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        await system.ask("other", Go())
        await system.clock.advance(100)

    recorder = traced(scenario)
    began, fired = recorder.handled("Go").start_time, recorder.handled("Later").start_time
    assert began is not None
    assert fired is not None
    assert fired - began == 5_000_000_000


def test_a_veto_is_told_and_is_no_error(traced: Callable[..., Recorder]) -> None:
    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        with pytest.raises(Vetoed):
            await system.ask("one", Refuse())

    recorder = traced(scenario)
    for span in (recorder.sent("Refuse"), recorder.handled("Refuse")):
        assert attribute(span, names.OUTCOME) == "vetoed"
        assert attribute(span, names.HOOK) == "refuse"
        assert attribute(span, names.REASON) == "not today"
        assert attribute(span, names.ERROR_TYPE) is None
        assert span.status.status_code is StatusCode.UNSET
    assert attribute(recorder.sent("Go"), names.OUTCOME) == "discarded"
    assert attribute(recorder.handled("Refuse"), names.SOURCE) == "RED"
    assert attribute(recorder.handled("Refuse"), names.TARGET) is None


def test_an_event_that_nothing_takes_is_an_error(traced: Callable[..., Recorder]) -> None:
    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        with pytest.raises(Unhandled):
            await system.ask("other", Later())

    recorder = traced(scenario)
    for span in (recorder.sent("Later"), recorder.handled("Later")):
        assert attribute(span, names.OUTCOME) == "unhandled"
        assert attribute(span, names.ERROR_TYPE) == "Unhandled"
        assert span.status.status_code is StatusCode.ERROR


def test_a_failure_is_shown_with_its_place_and_without_what_it_was_given(
    traced: Callable[..., Recorder],
) -> None:
    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        with pytest.raises(HookFailed):
            await system.ask("other", Break())

    recorder = traced(scenario)
    handled = recorder.handled("Break")
    assert attribute(handled, names.OUTCOME) == "failed"
    assert attribute(handled, names.ERROR_TYPE) == "Boom"
    assert attribute(handled, names.HOOK) == "fail"
    assert handled.status.status_code is StatusCode.ERROR
    (event,) = handled.events
    assert event.name == "exception"
    stack = str((event.attributes or {})["exception.stacktrace"])
    assert "spans.py" in stack
    assert "Boom" in stack
    assert not recorder.sent("Break").events


def test_machine_ids_stay_out_of_spans_if_that_is_wanted(traced: Callable[..., Recorder]) -> None:
    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        await system.spawn(Signal, "secret-id")
        with pytest.raises(HookFailed):
            await system.ask("secret-id", Break(), event_id="e")
        with pytest.raises(Unhandled):
            await system.ask("secret-id", Later(), event_id="f")
        with pytest.raises(NoSuchMachine):
            await system.ask("secret-id-2", Later(), event_id="g")

    recorder = traced(scenario, machine_ids=False)
    assert len(recorder.spans) == 7
    assert not [span.to_json() for span in recorder.spans if "secret-id" in span.to_json()]


def test_a_postponed_event_has_a_span_for_each_time_that_it_is_looked_at(
    traced: Callable[..., Recorder],
) -> None:
    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        receipt = system.tell("other", Wait())
        await system.clock.advance(3)
        await system.ask("other", Go())
        await receipt.outcome()

    recorder = traced(scenario)
    first, second = recorder.named("process Signal", "Wait")
    assert attribute(first, names.OUTCOME) == "postponed"
    assert attribute(second, names.OUTCOME) == "committed"
    assert attribute(second, names.QUEUE_TIME) == pytest.approx(3.0)
    assert is_linked(first, recorder.sent("Wait"))
    assert is_linked(second, recorder.sent("Wait"))


@pytest.mark.parametrize("how", ["ask", "tell"])
def test_an_event_that_is_delivered_again_is_no_new_work(traced: Callable[..., Recorder], how: str) -> None:
    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        recorder.tries = 0
        await system.spawn(Stubborn, "mule")
        if how == "ask":
            assert await system.ask("mule", Go()) == "at last"
        else:
            await system.tell("mule", Go()).outcome()

    recorder = traced(scenario, told="child")
    first, second = recorder.named("process Stubborn", "Go")
    sent = recorder.sent("Go")
    assert (attribute(first, names.OUTCOME), attribute(second, names.OUTCOME)) == ("retried", "committed")
    assert (attribute(first, names.ERROR_TYPE), first.status.status_code) == ("Boom", StatusCode.ERROR)
    assert (attribute(first, names.ATTEMPT), attribute(second, names.ATTEMPT)) == (None, 1)
    assert is_child(first, sent)
    assert is_child(second, sent) if how == "ask" else is_linked(second, sent)


def test_a_repetition_of_an_event_id_is_sent_and_not_handled(traced: Callable[..., Recorder]) -> None:
    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        for _ in range(2):
            assert await system.ask("other", Go(), event_id="e") == "green"

    recorder = traced(scenario)
    assert len(recorder.named("send Signal", "Go")) == 2
    assert len(recorder.named("process Signal", "Go")) == 1


def test_an_event_that_is_refused_at_the_door_is_an_error_of_the_sender(
    traced: Callable[..., Recorder],
) -> None:
    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        with pytest.raises(NoSuchMachine):
            await system.ask("nobody", Go())
        await system.stop("other")
        receipt = system.tell("other", Go())
        with pytest.raises((MachineStopped, NoSuchMachine)):
            await receipt.accepted()

    recorder = traced(scenario)
    asked, told = recorder.spans
    assert (asked.name, attribute(asked, names.ERROR_TYPE)) == ("send", "NoSuchMachine")
    assert told.status.status_code is StatusCode.ERROR


def test_an_ask_that_nobody_waits_for_any_more_ends_its_span_and_the_hook_left_behind_too(
    traced: Callable[..., Recorder],
) -> None:
    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        with pytest.raises(AskTimeout):
            await system.ask("other", Hang(), timeout=1)
        with pytest.raises(Expired):
            await system.ask("other", Go(), timeout=1)
        await system.clock.advance(60)

    recorder = traced(scenario)
    assert attribute(recorder.sent("Hang"), names.ERROR_TYPE) == "AskTimeout"
    assert attribute(recorder.sent("Go"), names.OUTCOME) == "expired"
    handled = recorder.handled("Hang")
    assert (attribute(handled, names.OUTCOME), attribute(handled, names.ERROR_TYPE)) == (
        "failed",
        "TimeoutError",
    )
    assert not recorder.named("process Signal", "Go")


def test_turns_of_one_worker_do_not_see_each_others_spans(traced: Callable[..., Recorder]) -> None:
    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        for number in range(20):
            await system.spawn(Signal, f"s-{number}")
        recorder.exporter.clear()
        receipts = [system.tell(f"s-{number}", Go()) for number in range(20)]
        for receipt in receipts:
            await receipt.outcome()
        await system.clock.advance(2)

    recorder = traced(scenario)
    handled = recorder.named("process Signal", "Go")
    assert len({span.context.trace_id for span in handled}) == 20
    for name in ("in the body", "in the thread of a hook", "beside the turn", "in the job"):
        inner = recorder.named(name)
        assert {span.parent.span_id for span in inner if span.parent} == {
            s.context.span_id for s in handled
        }, name


def test_the_senders_own_traceparent_is_the_parent_where_no_span_is_current(
    traced: Callable[..., Recorder],
) -> None:
    headers = {"traceparent": f"00-{7:032x}-{9:016x}-01", "tracestate": "vendor=1"}

    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        await system.ask("other", Go(), headers=headers)

    recorder = traced(scenario)
    asked = recorder.sent("Go")
    assert asked.parent is not None
    assert (asked.parent.trace_id, asked.parent.span_id) == (7, 9)
    assert asked.context.trace_state.get("vendor") == "1"
    assert recorder.handled("Go").context.trace_state.get("vendor") == "1"


def test_records_have_the_context_of_the_span_in_which_the_event_was_handled(
    traced: Callable[..., Recorder],
) -> None:
    seen: list[str | None] = []

    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        await system.ask("other", Go())
        seen[:] = [record.traceparent for record in system.trace.records if record.event_type == "Go"]

    context = traced(scenario).handled("Go").context
    assert seen == [f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"]


def test_baggage_travels_only_if_that_is_wanted(traced: Callable[..., Recorder]) -> None:
    from opentelemetry import baggage
    from opentelemetry.context import attach, detach

    headers: list[dict[str, str] | None] = []

    async def scenario(system: SimulatedSystem[Any], recorder: Recorder) -> None:
        token = attach(baggage.set_baggage("tenant", "acme"))
        try:
            with pytest.raises(HookFailed):
                await system.ask("other", Break())
        finally:
            detach(token)
        crash = system.last_crash("other")
        assert crash is not None
        headers.append(dict(crash.headers or {}))

    traced(scenario)
    assert "baggage" not in (headers[-1] or {})
    traced(scenario, baggage=True)
    assert (headers[-1] or {})["baggage"] == "tenant=acme"


def test_what_is_not_sampled_is_passed_on_as_such(inline: bool, sim: Callable[..., None]) -> None:
    recorder = Recorder(sampler=ALWAYS_OFF)

    async def scenario() -> None:
        async with SimulatedSystem(
            Signal, services=recorder, tracing=Tracing(recorder.provider), inline=inline
        ) as system:
            await system.spawn(Signal, "one")
            await system.ask("one", Go())
            flags = [
                int(record.traceparent[-2:], 16) for record in system.trace.records if record.traceparent
            ]
            assert len(flags) == 2
            assert not any(flag & TraceFlags.SAMPLED for flag in flags)

    sim(scenario, seeds=[0])
    assert recorder.spans == []


def test_without_an_sdk_nothing_is_recorded_and_headers_stay_as_they_are(
    inline: bool, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with SimulatedSystem(
            Signal, services=Recorder(), tracing=Tracing(trace.NoOpTracerProvider()), inline=inline
        ) as system:
            await system.spawn(Signal, "one")
            await system.ask("one", Go(), headers={"traceparent": f"00-{7:032x}-{9:016x}-01"})
            parents = {record.traceparent for record in system.trace.records if record.event_type == "Go"}
            assert parents == {f"00-{7:032x}-{9:016x}-01"}

    sim(scenario, seeds=[0])


@pytest.mark.rule("C13")
def test_a_sampler_that_raises_does_not_hurt_a_machine(inline: bool, sim: Callable[..., None]) -> None:
    class Evil:
        def should_sample(self, *arguments: Any, **options: Any) -> Any:
            raise RuntimeError("never mind")

        def get_description(self) -> str:
            return "evil"

    async def scenario() -> None:
        recorder = Recorder(sampler=Evil())
        async with SimulatedSystem(
            Signal, services=Recorder(), tracing=Tracing(recorder.provider), inline=inline
        ) as system:
            await system.spawn(Signal, "one", data={"other": "one"})
            assert await system.ask("one", Go()) == "green"
            await system.clock.advance(100)
            assert system.stats().sinks_failed >= 4
            assert system.snapshot("one").state.name == "OFF"

    sim(scenario)
