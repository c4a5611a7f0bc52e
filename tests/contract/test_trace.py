"""C30: one record per event when its outcome is known, in order per machine, with all that is needed to follow it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from enum import StrEnum, auto
from typing import Any

import pytest
from pydantic import TypeAdapter

from actorfsm import (
    Event,
    Expired,
    HookFailed,
    Limits,
    Machine,
    MailboxFull,
    MailboxPolicy,
    NoSuchMachine,
    Outcome,
    Record,
    Unhandled,
    Veto,
    Vetoed,
    after_transition,
    transition,
)
from actorfsm.sinks import JSONLines
from tests.contract.lamp import (
    Birth,
    Count,
    Later,
    Reset,
    State,
    Stubborn,
    Switch,
    Trace,
    lamp_of,
    raising,
    times,
)
from tests.contract.paths import Path, Script, Style, at_rest, on_every_async_path, on_every_path

pytestmark = pytest.mark.rule("C30")
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
HEADERS = {"correlation_id": "order-1", "traceparent": TRACEPARENT, "tenant": "acme"}


class Off(Event):
    """Taken by no lamp that is off."""


def dim(style: Style, **choices: Any) -> Any:
    """Make a lamp class that takes `Off` only when it is on."""

    class Dim(lamp_of(style, **choices)):  # type: ignore[misc]
        @transition(State.ON, to=State.OFF)
        @style
        def off(self, event: Off) -> None: ...

    return Dim


@on_every_path
def test_a_committed_event_has_one_record_with_all_fields(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        trace = Trace()
        lamp_class = dim(path.style)
        async with path.system(lamp_class, services=Script(), trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp", event_id="birth-1")
            event = Switch(n=7)
            await lamp.ask(event, event_id="switch-1", headers=HEADERS)
        birth, switched = trace
        assert birth == Record(
            name="committed",
            machine="Dim",
            machine_id="lamp",
            seq=1,
            event_type="Spawn",
            event_id="birth-1",
            correlation_id="birth-1",
            source=None,
            target="OFF",
            event=birth.event,
        )
        assert switched == Record(
            name="committed",
            machine="Dim",
            machine_id="lamp",
            incarnation=0,
            seq=2,
            event_type="Switch",
            event_id="switch-1",
            causation_id=None,
            correlation_id="order-1",
            source="OFF",
            target="ON",
            traceparent=TRACEPARENT,
            event=event,
        )

    sim(scenario)


@on_every_path
def test_refused_and_failed_events_say_where_and_why_and_keep_the_number_of_the_last_commit(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        trace = Trace()
        script = Script(enter=raising(lambda: Veto("card declined")))
        lamp_class = dim(path.style)
        async with path.system(lamp_class, services=script, trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            with pytest.raises(Vetoed):
                await lamp.ask(Switch())
            script.does = {"exit": raising(lambda: ValueError("boom"))}
            with pytest.raises(HookFailed):
                await lamp.ask(Switch())
            with pytest.raises(Unhandled):
                await lamp.ask(Off())
            script.does = {"guard": lambda machine: False}
            with pytest.raises(Unhandled):
                await lamp.ask(Switch())
        vetoed, failed, unhandled, guarded = trace[1:]
        for record in trace[1:]:
            assert (record.seq, record.source, record.machine_id) == (1, "OFF", "lamp")
        assert (vetoed.name, vetoed.hook, vetoed.reason, vetoed.target) == (
            "vetoed",
            "enter",
            "card declined",
            "ON",
        )
        assert (failed.name, failed.hook, failed.target) == ("failed", "exit", "ON")
        assert failed.reason == "lamp: Switch failed in exit: ValueError: boom"
        assert type(failed.error.__cause__) is ValueError
        assert (unhandled.name, unhandled.hook, unhandled.target) == ("unhandled", None, None)
        assert unhandled.reason.startswith("lamp has no transition for Off in OFF; it takes ")
        assert guarded.reason.startswith("lamp has no transition for Switch in OFF; the guard guard said no")
        assert len({record.event_id for record in trace}) == 5

    sim(scenario)


@on_every_async_path
def test_queue_and_run_time_are_told_apart(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        trace = Trace()
        lamp_class = lamp_of(path.style, hook_timeout=100)
        script = Script(count=lambda machine: asyncio.sleep(2))
        async with path.system(lamp_class, services=script, trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            first, second = lamp.tell(Count()), lamp.tell(Count())
            expired = lamp.tell(Count(), timeout=1)
            for receipt in (first, second, expired):
                await receipt.outcome()
        times = {record.event_id: (record.name, record.queue_s, record.run_s) for record in trace}
        assert times[first.event_id] == ("committed", 0, 2)
        assert times[second.event_id] == ("committed", 2, 2)
        assert times[expired.event_id] == ("expired", pytest.approx(1, abs=0.051), 0)

    sim(scenario)


@on_every_path
def test_events_that_were_never_handled_have_a_record_too(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        trace = Trace()
        lamp_class = lamp_of(path.style, mailbox=MailboxPolicy(capacity=1))
        async with path.system(lamp_class, services=Script(), trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            unknown = system.tell("nobody", Count(), headers=HEADERS)
            with pytest.raises(NoSuchMachine):
                await unknown.accepted()
            taken, refused = lamp.tell(Count()), lamp.tell(Count())
            with pytest.raises(MailboxFull):
                await refused.accepted()
            await taken.outcome()
            with pytest.raises(Expired):
                await lamp.ask(Later(), timeout=0.1)
            left = lamp.tell(Later())
            await asyncio.sleep(0.1)
        by_id = {record.event_id: record for record in trace}
        record = by_id[unknown.event_id]
        assert (record.name, record.machine, record.machine_id) == ("dead_lettered", "", "nobody")
        assert (record.correlation_id, record.event_type) == ("order-1", "Count")
        assert record.reason.startswith("no machine nobody")
        assert (by_id[refused.event_id].name, by_id[refused.event_id].machine) == ("dead_lettered", "Lamp")
        assert [record.name for record in trace if record.event_type == "Later"] == [
            "expired",
            "dead_lettered",
        ]
        assert by_id[left.event_id].reason == "the system stopped before it came to this event"

    sim(scenario)


@on_every_path
def test_the_records_of_a_machine_come_in_the_order_of_its_turns(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        trace = Trace()
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script(), trace=trace) as system:
            lamps = [await system.spawn(lamp_class, name) for name in ("one", "two", "three")]
            told = {lamp.id: [lamp.tell(Count(n=n)).event_id for n in range(50)] for lamp in lamps}
        for lamp in lamps:
            records = [record for record in trace if record.machine_id == lamp.id]
            assert [record.seq for record in records] == list(range(1, 52))
            assert [record.event_id for record in records[1:]] == told[lamp.id]

    sim(scenario)


@on_every_path
def test_a_failed_after_hook_is_a_second_record_of_the_same_event(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        trace = Trace()
        lamp_class = lamp_of(path.style)
        script = Script(after=raising(lambda: ValueError("boom")))
        async with path.system(lamp_class, services=script, trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await lamp.ask(Switch(), event_id="switch-1", headers=HEADERS)
        committed, failed = trace[1:]
        assert (committed.name, failed.name) == ("committed", "after_hook_failed")
        assert (failed.hook, failed.reason) == ("after", "ValueError: boom")
        same = (
            "event_id",
            "seq",
            "source",
            "target",
            "correlation_id",
            "traceparent",
            "event_type",
            "incarnation",
        )
        assert [getattr(failed, name) for name in same] == [getattr(committed, name) for name in same]

    sim(scenario)


def test_a_detached_hook_that_fails_is_a_second_record_too(sim: Callable[..., None]) -> None:
    class Lamp(Machine[State], initial=State.OFF, final=(State.ON,)):
        @transition(State.OFF, to=State.ON)
        async def switch(self, event: Switch) -> str:
            return "on"

        @after_transition(State.ON, detached=True)
        async def failing(self, old: State, new: State) -> None:
            raise ValueError("boom")

        @after_transition(State.ON, detached=True, timeout=1)
        async def hanging(self, old: State, new: State) -> None:
            await asyncio.sleep(1e9)

    async def scenario() -> None:
        trace = Trace()
        async with Path(Style.ASYNC, inline=True).system(Lamp, trace=trace) as system:
            lamp = await system.spawn(Lamp, "lamp")
            await lamp.ask(Switch(), event_id="switch-1")
        assert [(record.name, record.hook) for record in trace[1:]] == [
            *(("committed", None), ("after_hook_failed", "failing"), ("after_hook_failed", "hanging")),
        ]
        assert {record.event_id for record in trace[1:]} == {"switch-1"}
        assert trace[-1].reason.startswith("TimeoutError")

    sim(scenario)


@on_every_path
def test_a_duplicate_has_a_record_of_its_own_that_says_so(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        trace = Trace()
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script(), trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            for _ in range(2):
                assert await lamp.ask(Count(), event_id="once") == 1
        assert [(record.name, record.event_id, record.duplicate) for record in trace[1:]] == [
            ("committed", "once", False),
            ("committed", "once", True),
        ]

    sim(scenario)


@on_every_async_path
def test_an_event_whose_hook_was_left_behind_has_one_record(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        trace, stubborn = Trace(), Stubborn()
        lamp_class = lamp_of(path.style)
        script = Script(body=stubborn)
        async with path.system(
            lamp_class, services=script, trace=trace, limits=Limits(grace_s=0.5)
        ) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            receipt = lamp.tell(Switch())
            await receipt.outcome()
            await stubborn.let_go()
        records = [record for record in trace if record.event_id == receipt.event_id]
        assert [(record.name, record.hook, record.source, record.target) for record in records] == [
            ("failed", "body", "OFF", "ON")
        ]
        assert (records[0].queue_s, records[0].run_s) == (0, 1.5)

    sim(scenario)


@on_every_path
def test_what_did_not_validate_in_a_hook_is_named_without_its_value(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        def parse(machine: Any) -> None:
            TypeAdapter(int).validate_python("hunter2")

        lamp_class = lamp_of(path.style)
        trace, log = Trace(), io.StringIO()
        script = Script(body=times(1, parse), after=parse)
        async with path.system(lamp_class, services=script, trace=[trace, JSONLines(log)]) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            with pytest.raises(HookFailed) as caught:
                await lamp.ask(Switch())
            outcome = await lamp.tell(Switch(), callback=parse).outcome()
        said = [str(caught.value), str(outcome), log.getvalue(), *(record.reason for record in trace)]
        assert trace.names() == ["committed", "failed", "committed", "after_hook_failed", "callback_failed"]
        assert "hunter2" not in "".join(said)
        assert all("valid integer" in record.reason for record in trace if record.name.endswith("failed"))

    sim(scenario)


# -- who caused whom -----------------------------------------------------------------------------------------------


class Stage(StrEnum):
    OPEN = auto()
    DONE = auto()


class Only(StrEnum):
    OPEN = auto()


class Start(Event): ...


class Step(Event[int]): ...


class Note(Event): ...


class Own(Event): ...


def relay_of(style: Style) -> Any:
    """A machine that sends in every way: tell, ask, next_event, a tell with a header more."""

    class Relay(Machine[Stage, Any], initial=Stage.OPEN, final=(Stage.DONE,)):
        @transition(Stage.OPEN, to=Stage.OPEN)
        @style
        def start(self, event: Start) -> Any:
            self.tell("end", Note())
            self.tell("end", Note(), headers={"tenant": "other"})
            self.next_event(Own())
            return self.send() if style is not Style.PLAIN else None

        async def send(self) -> None:
            await self.ask("end", Step())

        @transition(Stage.OPEN, to=Stage.OPEN)
        @style
        def own(self, event: Own) -> None:
            self.tell("end", Note())

        @transition(Stage.OPEN, to=Stage.DONE)
        @style
        def done(self, event: Outcome) -> None: ...

    return Relay


def end_of(style: Style) -> Any:
    class End(Machine[Only, Any], initial=Only.OPEN):
        @transition(Only.OPEN, to=Only.OPEN)
        @style
        def note(self, event: Note) -> None: ...

        @transition(Only.OPEN, to=Only.OPEN)
        @style
        def step(self, event: Step) -> int:
            return 1

    return End


@on_every_path
@pytest.mark.parametrize("with_headers", [True, False])
def test_whatever_an_event_causes_names_its_cause_and_keeps_its_correlation_and_trace(
    path: Path, with_headers: bool, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        trace = Trace()
        relay_class, end_class = relay_of(path.style), end_of(path.style)
        async with path.system(relay_class, end_class, trace=trace) as system:
            await system.spawn(relay_class, "relay")
            await system.spawn(end_class, "end")
            headers = HEADERS if with_headers else None
            await system.ask("relay", Start(), event_id="start-1", headers=headers)
            await at_rest(system)
        caused = [record for record in trace if record.event_type in {"Note", "Step", "Own"}]
        assert len(caused) == (4 if path.style is Style.PLAIN else 5)
        assert len({record.event_id for record in trace}) == len(trace)
        own = next(record for record in caused if record.event_type == "Own")
        for record in caused:
            by_own = record.event_type == "Note" and record.causation_id == own.event_id
            assert record.causation_id == "start-1" or by_own
            assert record.correlation_id == ("order-1" if with_headers else "start-1")
            assert record.traceparent == (TRACEPARENT if with_headers else None)
        assert sum(record.causation_id == own.event_id for record in caused) == 1

    sim(scenario)


@on_every_path
def test_an_outcome_sent_by_reply_to_is_caused_by_the_event_that_it_tells_of(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        trace = Trace()
        relay_class, end_class = relay_of(path.style), end_of(path.style)
        async with path.system(relay_class, end_class, trace=trace) as system:
            await system.spawn(relay_class, "relay")
            await system.spawn(end_class, "end")
            system.tell("end", Note(), event_id="note-1", headers=HEADERS, reply_to="relay")
        [record] = [record for record in trace if record.event_type == "Outcome"]
        assert (record.machine_id, record.causation_id, record.correlation_id) == (
            "relay",
            "note-1",
            "order-1",
        )
        assert record.traceparent == TRACEPARENT

    sim(scenario)


@on_every_path
def test_a_failed_callback_has_a_record_that_belongs_to_its_event(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        trace = Trace()
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script(), trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            lamp.tell(
                Count(), event_id="count-1", headers=HEADERS, callback=raising(lambda: ValueError("boom"))
            )
        assert [(record.name, record.event_id, record.correlation_id) for record in trace[1:]] == [
            ("committed", "count-1", "order-1"),
            ("callback_failed", "count-1", "order-1"),
        ]
        assert trace[-1].reason == "a callback raised ValueError: boom"

    sim(scenario)


@on_every_path
def test_births_by_event_and_stops_are_in_the_trace(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        trace = Trace()
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script(), trace=trace) as system:
            await system.ask("lamp", Birth())
            await system.ask("lamp", Reset())
            await system.stop("lamp")
        assert [(record.name, record.source, record.target, record.seq) for record in trace] == [
            ("committed", None, "ON", 1),
            ("committed", "ON", "OFF", 2),
            ("stopped", "OFF", "OFF", 2),
        ]

    sim(scenario)


@on_every_path
def test_without_a_sink_no_record_is_made(
    path: Path, monkeypatch: pytest.MonkeyPatch, sim: Callable[..., None]
) -> None:
    def never(*arguments: Any, **named: Any) -> None:
        raise AssertionError("a record was made")

    for module in ("settling", "admission", "callbacks", "dynamic_supervisor"):
        monkeypatch.setattr(f"actorfsm.runtime.{module}.Record", never)

    async def scenario() -> None:
        lamp_class = lamp_of(path.style)
        script = Script(after=raising(ValueError), count=raising(ValueError))
        async with path.system(lamp_class, services=script, trace=None) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await lamp.ask(Switch())
            with pytest.raises(HookFailed):
                await lamp.ask(Count())
            lamp.tell(Reset(), callback=raising(ValueError))
            system.tell("nobody", Count())
            await system.stop("lamp")
        assert system.stats().sinks_failed == 0

    sim(scenario)
