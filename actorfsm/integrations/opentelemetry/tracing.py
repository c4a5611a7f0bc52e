"""Spans of events: one where an event is sent, one where it is handled, by the conventions for messaging.

An ask is one trace: the span of its sending lasts until the reply and is a child of the asker's, the span of its
handling a child of that. What is told, and what a timer sends, is handled in a trace of its own, with a link to
where it came from. Recovery makes no spans: what is handled then has them as what is handled at any other time.

While an event is handled its span is the current one, so that the spans of an HTTP client or a database in a hook are
its children. It is taken off again before the worker turns to the next machine.
"""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, Final, Literal, ParamSpec, TypeVar

from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach, detach
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from actorfsm.clock import SystemClock
from actorfsm.errors import ActorFSMError, AskTimeout, Expired, HookFailed, Unhandled, Vetoed
from actorfsm.integrations.opentelemetry import conventions as names
from actorfsm.runtime.track import microseconds
from actorfsm.sinks.text import render_exception

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextvars import Token

    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Span, TracerProvider
    from opentelemetry.util.types import AttributeValue

    from actorfsm.runtime.actor import Actor
    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.turn import Turn

__all__ = ["Tracing"]

T = TypeVar("T")
P = ParamSpec("P")

_NOWHERE: Final = Context()
"""The context of what has no parent, whatever is current."""
_W3C: Final = ("traceparent", "tracestate")
_MAX_TEXT: Final = 500
"""Characters of a reason; those of a stack trace are bounded where it is rendered."""


class _Handling:
    """One turn, as its spans see it."""

    __slots__ = ("attempt", "context", "messages", "seq", "source", "span", "token")

    def __init__(self, span: Span, context: Context, actor: Actor, attempt: int) -> None:
        self.span = span
        self.context = context
        self.attempt = attempt
        self.source = _state(actor)
        self.seq = actor.seq
        self.messages: list[Span] = []
        """The spans of what the machine tells others, which leaves with the commit."""
        self.token: Token[Context] | None = None


class Tracing:
    """Follows the events of a system with spans: `ActorSystem(Order, tracing=Tracing())`; one may follow several.

    Args:
        tracer_provider: Where spans go; the global one by default, as it is configured when this is made or later.
        told: What the handling of a told event is to the span of its sender: `link`, in a trace of its own, or `child`,
            in the same trace. What comes from a timer or is delivered again is always a link.
        machine_ids: Whether spans say which machine it was.
        baggage: Whether OpenTelemetry's baggage travels with the events, as a header of its own.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        *,
        told: Literal["link", "child"] = "link",
        machine_ids: bool = True,
        baggage: bool = False,
    ) -> None:
        if told not in {"link", "child"}:
            raise ActorFSMError(f"told={told!r}: 'link' or 'child'")
        self._tracer = trace.get_tracer(
            "actorfsm", tracer_provider=tracer_provider, schema_url=names.SCHEMA_URL
        )
        self._told_is_child = told == "child"
        self._machine_ids = machine_ids
        w3c = TraceContextTextMapPropagator()
        self._propagator: TextMapPropagator = (
            CompositePropagator([w3c, W3CBaggagePropagator()]) if baggage else w3c
        )

    # -- an event is sent -----------------------------------------------------------------------------------------

    def send(self, parts: Parts, envelope: Envelope, accept: Callable[[Envelope], None]) -> None:
        """Bring an event to its machine, in a span that lasts until it is accepted or, for an ask, answered.

        Raises:
            ActorFSMError: What `accept` raises.
        """
        envelope.span = _safely(parts, self._start_send, parts, envelope)
        try:
            accept(envelope)
        except ActorFSMError as error:
            self._end_send(parts, envelope, error)
            raise
        if envelope.settled or not envelope.is_ask:
            self._end_send(parts, envelope, envelope.error)

    def answered(self, parts: Parts, envelope: Envelope) -> None:
        """End the span of an ask."""
        error: BaseException | None = envelope.error
        if not envelope.settled:
            gave_up = envelope.waiter is not None and envelope.waiter.cancelled()
            error = asyncio.CancelledError() if gave_up else AskTimeout("")
        self._end_send(parts, envelope, error)

    def tell(self, turn: Turn, envelope: Envelope) -> None:
        """Begin the span of a machine's message; it ends with the turn."""
        parts = turn.actor.kind.parts
        span = _safely(parts, self._start_send, parts, envelope)
        handling: _Handling | None = turn.envelope.handling
        if span is None:
            return
        if handling is None:
            span.end(_now(parts))
        else:
            handling.messages.append(span)

    def _start_send(self, parts: Parts, envelope: Envelope) -> Span:
        event_type = type(envelope.event)
        actor = parts.registry.actors.get(envelope.machine_id)
        kind = parts.registry.births.get(event_type) if actor is None else actor.kind
        machine = "" if kind is None else kind.name
        context = None
        if not trace.get_current_span().get_span_context().is_valid and envelope.headers:
            context = self._propagator.extract(envelope.headers)
        span = self._tracer.start_span(
            f"send {machine}" if machine else "send",
            context=context,
            kind=SpanKind.PRODUCER,
            attributes=self._attributes(parts, envelope, "send", machine),
            start_time=_now(parts),
        )
        envelope.headers = self._headers(envelope, trace.set_span_in_context(span, context))
        return span

    def _end_send(self, parts: Parts, envelope: Envelope, error: BaseException | None) -> None:
        if envelope.span is not None:
            span, envelope.span = envelope.span, None
            _safely(parts, self._finish_send, parts, envelope, span, error)

    def _finish_send(self, parts: Parts, envelope: Envelope, span: Span, error: BaseException | None) -> None:
        if envelope.is_ask and envelope.settled:
            span.set_attribute(names.OUTCOME, _outcome_by(error))
        if error is not None:
            self._blame(span, error)
        span.end(_now(parts))

    # -- an event is handled --------------------------------------------------------------------------------------

    async def turn(self, actor: Actor, envelope: Envelope) -> bool:
        """Handle an event in its span."""
        parts = actor.kind.parts
        handling = _safely(parts, self._begin, parts, actor, envelope)
        if handling is None:
            return await actor.turn(envelope)
        is_over = True
        try:
            return await actor.turn(envelope)
        except GeneratorExit:
            is_over = False  # the loop is gone, and with it the context
            raise
        finally:
            if is_over and handling.token is not None:
                detach(handling.token)
            _safely(parts, self._end, parts, actor, envelope, handling)

    def leave_behind(self, envelope: Envelope) -> None:
        """End the span of a turn that has no end itself."""
        if envelope.handling is not None:
            parts = envelope.actor.kind.parts
            _safely(parts, self._end, parts, envelope.actor, envelope, envelope.handling)

    def _begin(self, parts: Parts, actor: Actor, envelope: Envelope) -> _Handling:
        sent = self._propagator.extract(envelope.headers or {}, _NOWHERE)
        is_child = envelope.is_ask or (
            self._told_is_child and envelope.timer is None and not envelope.attempt
        )
        links: list[Link] = []
        if not is_child:
            sender = trace.get_current_span(sent).get_span_context()
            if sender.is_valid:
                links.append(Link(sender))
            sent = trace.set_span_in_context(trace.INVALID_SPAN, sent)
        attributes = self._attributes(parts, envelope, "process", actor.kind.name)
        attributes[names.QUEUE_TIME] = max(0.0, parts.time() - envelope.accepted_at)
        if envelope.attempt:
            attributes[names.ATTEMPT] = envelope.attempt
        if actor.incarnation:
            attributes[names.INCARNATION] = actor.incarnation
        span = self._tracer.start_span(
            f"process {actor.kind.name}",
            context=sent,
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=links,
            start_time=_now(parts),
        )
        context = trace.set_span_in_context(span, sent)
        handling = _Handling(span, context, actor, envelope.attempt)
        if envelope.headers is None:
            envelope.headers = {}  # where there are none, nobody looks for what is passed on
        envelope.passed_on = self._headers(envelope, context)
        envelope.handling = handling
        handling.token = attach(context)
        return handling

    def _end(self, parts: Parts, actor: Actor, envelope: Envelope, handling: _Handling) -> None:
        if envelope.handling is not handling:
            return  # left behind before
        envelope.handling = None
        settlement = envelope.settlement
        if settlement is not None and settlement.duplicate:
            return  # answered from the record: nothing was handled, so there is no span of it
        span, now = handling.span, _now(parts)
        outcome = _outcome(actor, envelope, handling)
        for message in handling.messages:
            if outcome != "committed":
                message.set_attribute(names.OUTCOME, "discarded")
            message.end(now)
        span.set_attribute(names.OUTCOME, outcome)
        if handling.source is not None:
            span.set_attribute(names.SOURCE, handling.source)
        if outcome == "committed":
            span.set_attributes({names.TARGET: _state(actor) or "", names.SEQ: handling.seq + 1})
        elif envelope.error is not None:
            self._blame(span, envelope.error)
            self._tell_why(span, envelope.error)
        elif outcome == "retried" and actor.rare is not None and actor.rare.crash is not None:
            span.set_attribute(names.ERROR_TYPE, actor.rare.crash.error_class.__name__)
            span.set_status(Status(StatusCode.ERROR, f"failed in {actor.rare.crash.hook}"))
        span.end(now)

    # -- what runs beside the turn --------------------------------------------------------------------------------

    def enter(self, envelope: Envelope) -> None:
        """Let a job, a detached hook or the thread of a hook that blocks belong to the span of the turn."""
        handling: _Handling | None = envelope.handling
        headers = envelope.passed_on or envelope.headers or {}
        attach(self._propagator.extract(headers, _NOWHERE) if handling is None else handling.context)

    def carry(self, headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
        """Return headers with the context that is current where this is called."""
        carried = self._written(None)
        return {**(headers or {}), **carried} if carried else headers

    # -- what all spans have --------------------------------------------------------------------------------------

    def _headers(self, envelope: Envelope, context: Context) -> dict[str, str] | None:
        """Return the event's headers with this context; without an SDK it has none, and they stay as they are."""
        written = self._written(context)
        if "traceparent" not in written:
            return envelope.headers
        kept = {name: value for name, value in (envelope.headers or {}).items() if name not in _W3C}
        return {**kept, **written}

    def _written(self, context: Context | None) -> dict[str, str]:
        """Return a context, or the current one, as headers."""
        carrier: dict[str, str] = {}
        inject: Callable[..., None] = self._propagator.inject
        inject(carrier, context)
        return carrier

    def _attributes(
        self, parts: Parts, envelope: Envelope, operation: str, machine: str
    ) -> dict[str, AttributeValue]:
        event_id = parts.event_id(envelope)
        attributes: dict[str, AttributeValue] = {
            names.SYSTEM: names.SYSTEM_NAME,
            names.OPERATION_NAME: operation,
            names.OPERATION_TYPE: operation,
            names.MESSAGE_ID: event_id,
            names.CONVERSATION_ID: envelope.correlation_id or event_id,
            names.EVENT_TYPE: type(envelope.event).__name__,
        }
        if machine:
            attributes[names.DESTINATION_TEMPLATE] = machine
        if self._machine_ids:
            attributes[names.DESTINATION_NAME] = envelope.machine_id
        return attributes

    def _blame(self, span: Span, error: BaseException) -> None:
        """Say why an event was not committed. To refuse is what a machine is for, so a veto is no error."""
        if isinstance(error, Vetoed):
            span.set_attribute(names.HOOK, error.by)
            if error.reason:
                span.set_attribute(names.REASON, error.reason[:_MAX_TEXT])
            return
        cause = _cause(error)
        if isinstance(error, HookFailed):
            span.set_attribute(names.HOOK, error.hook)
        span.set_attribute(names.ERROR_TYPE, type(cause).__name__)
        # The texts of our errors name the machine.
        text = str(error)[:_MAX_TEXT] if self._machine_ids else type(error).__name__
        span.set_status(Status(StatusCode.ERROR, text))

    def _tell_why(self, span: Span, error: ActorFSMError) -> None:
        """Show what user code raised, without variables and without what pydantic was given."""
        if isinstance(error, HookFailed):
            cause = _cause(error)
            shown = (
                render_exception(cause)
                if self._machine_ids
                else "".join(traceback.format_tb(cause.__traceback__))
            )
            span.add_event(
                "exception", {"exception.type": type(cause).__name__, "exception.stacktrace": shown}
            )


def _safely(parts: Parts, function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T | None:
    """Call a function; a sampler or a processor of spans that raises cannot hurt the runtime (C13)."""
    try:
        return function(*arguments, **options)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 -- as for sinks
        parts.counters.sinks_failed += 1
        return None


def _now(parts: Parts) -> int | None:
    """Return the time of a system whose clock is not the computer's, as under simulation; otherwise the SDK knows."""
    clock = parts.clock
    return None if type(clock) is SystemClock else microseconds(clock.now()) * 1000


def _state(actor: Actor) -> str | None:
    """Return the name of a machine's state; None if it is not yet born."""
    return None if actor.node.parent is None else actor.node.name


def _cause(error: BaseException) -> BaseException:
    """Return what user code raised."""
    return error.__cause__ or error if isinstance(error, HookFailed) else error


def _outcome(actor: Actor, envelope: Envelope, handling: _Handling) -> str:
    """Return how a turn ended."""
    if not envelope.settled:
        waiting = () if actor.mailbox is None else actor.mailbox.postponed or ()
        return "postponed" if any(other is envelope for other in waiting) else "retried"
    if envelope.error is None and actor.seq == handling.seq:
        return "dead_lettered"  # interrupted
    return _outcome_by(envelope.error) if envelope.settlement is None else envelope.settlement.kind


def _outcome_by(error: BaseException | None) -> str:
    """Return the outcome that an error tells."""
    if error is None:
        return "committed"
    if isinstance(error, Vetoed):
        return "vetoed"
    if isinstance(error, Unhandled):
        return "unhandled"
    if isinstance(error, Expired):
        return "expired"
    return "failed" if isinstance(error, HookFailed) else "dead_lettered"
