"""What the tests of spans share: machines that do a little of everything, and a recorder of spans."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import StrEnum, auto
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from actorfsm import (
    STAY,
    Event,
    Machine,
    Redelivery,
    StateTimeout,
    Veto,
    after_transition,
    blocking,
    on_enter,
    on_timeout,
    postpone,
    transition,
)


class Recorder:
    """A real SDK whose spans stay in memory."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.inside = self.provider.get_tracer("test").start_as_current_span
        self.tries = 0

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def named(self, name: str, event: str | None = None) -> list[ReadableSpan]:
        return [
            span
            for span in self.spans
            if span.name == name and (event is None or attribute(span, "actorfsm.event.type") == event)
        ]

    def one(self, name: str, event: str | None = None) -> ReadableSpan:
        (span,) = self.named(name, event)
        return span

    def handled(self, event: str) -> ReadableSpan:
        (span,) = [
            s
            for s in self.spans
            if s.kind is SpanKind.CONSUMER and attribute(s, "actorfsm.event.type") == event
        ]
        return span

    def sent(self, event: str) -> ReadableSpan:
        (span,) = [
            s
            for s in self.spans
            if s.kind is SpanKind.PRODUCER and attribute(s, "actorfsm.event.type") == event
        ]
        return span


def attribute(span: ReadableSpan, name: str) -> Any:
    return (span.attributes or {}).get(name)


def is_child(span: ReadableSpan, parent: ReadableSpan) -> bool:
    return (
        span.parent is not None
        and span.parent.span_id == parent.context.span_id
        and span.context.trace_id == parent.context.trace_id
    )


def is_linked(span: ReadableSpan, sender: ReadableSpan) -> bool:
    """Whether a span has a trace of its own, with one link to another span."""
    return span.parent is None and [link.context.span_id for link in span.links] == [sender.context.span_id]


class Light(StrEnum):
    RED = auto()
    GREEN = auto()
    OFF = auto()


class Go(Event[str]): ...


class Refuse(Event): ...


class Break(Event):
    card: str = ""


class Wait(Event): ...


class Hang(Event): ...


class Relay(Event[str]): ...


class Later(Event): ...


class Worked(Event): ...


class Boom(Exception):
    """What a hook of the tests raises."""


async def work(recorder: Recorder) -> None:
    with recorder.inside("in the job"):
        pass


class Signal(Machine[Light], initial=Light.RED, final=(Light.OFF,)):
    """Knows most of what a machine can do. Its services are a recorder."""

    other: str = ""

    @transition(Light.RED, to=Light.GREEN)
    async def go(self, event: Go) -> str:
        with self.services.inside("in the body"):
            if self.other:
                self.tell(self.other, Go())
        self.start_timer(Later(), after=5)
        self.start_job(work, self.services, done=Worked)
        return "green"

    @on_enter(Light.GREEN)
    @blocking
    def entered(self, old: Light, new: Light) -> None:
        with self.services.inside("in the thread of a hook"):
            pass

    @after_transition(Light.GREEN, detached=True)
    async def afterwards(self, old: Light, new: Light) -> None:
        await asyncio.sleep(1)
        with self.services.inside("beside the turn"):
            pass

    @on_timeout(Light.GREEN, after=60, to=Light.OFF)
    def end(self, event: StateTimeout) -> None: ...

    @transition(Light.GREEN, to=STAY)
    def later(self, event: Later) -> None: ...

    @transition(Light.GREEN, to=STAY)
    def worked(self, event: Worked) -> None: ...

    @transition(Light.RED, to=STAY)
    async def refuse(self, event: Refuse) -> None:
        self.tell(self.other, Go())
        raise Veto("not today")

    @transition(Light.RED, to=STAY)
    async def fail(self, event: Break) -> None:
        raise Boom(f"card {event.card}")

    @postpone(Light.RED)
    @transition(Light.GREEN, to=STAY)
    async def wait(self, event: Wait) -> None: ...

    @transition(Light.RED, to=STAY)
    async def hang(self, event: Hang) -> None:
        for _ in range(2):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1_000)

    @transition(Light.RED, to=STAY)
    async def relay(self, event: Relay) -> str:
        return await self.ask(self.other, Go())


class Will(StrEnum):
    NO = auto()
    YES = auto()


class Stubborn(
    Machine[Will],
    initial=Will.NO,
    final=(Will.YES,),
    redelivery=Redelivery(attempts=1, first_delay_s=1.0),
):
    """Fails the first time."""

    @transition(Will.NO, to=Will.YES)
    async def go(self, event: Go) -> str:
        self.services.tries += 1
        if self.services.tries == 1:
            raise Boom
        return "at last"
