"""The trace: one frozen record for each event, when its outcome is known, and for each thing that befalls a machine.

Sinks turn records into log lines, spans or metrics; off costs one `if`. A sink that raises is counted, nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

__all__ = ["Record", "Sink"]


class Record(NamedTuple):
    """What happened.

    Attributes:
        name: The outcome (committed, vetoed, unhandled, failed, expired, dead_lettered), or after_hook_failed,
            callback_failed, job_failed, restarted, quarantined, released, suspended, resumed,
            stopped, loop_blocked; of the supervision tree also started, child_failed, escalated.
        machine: Name of the machine class; of other children of the supervision tree what they are: supervisor, service
            or machines, for the place of a class.
        machine_id: The machine's id, or the child's name.
        incarnation: How often it had been restarted.
        seq: Number of its last committed transition.
        event_type: Name of the event's class; empty where no event is concerned.
        event_id: The event's id.
        causation_id: Id of the event in whose turn it was sent, or None.
        correlation_id: Id of the whole conversation: the sender's header, or the first event's id.
        source: State before, by name; None if the machine was not yet born.
        target: State that the transition leads to, by name; None where no transition was chosen.
        reason: Why not, in words.
        hook: The guard, hook or body concerned, or None.
        queue_s: Seconds between acceptance and the start of the turn.
        run_s: Seconds from the start of the turn to its outcome.
        traceparent: The W3C trace context of the span in which the event was handled, if the system is traced;
            otherwise the one that came with the event, or None.
        error: The exception, for sinks that render it.
        event: The event itself, for sinks that are told to show payloads.
        duplicate: Whether the event was answered from the record.
    """

    name: str
    machine: str
    machine_id: str
    incarnation: int = 0
    seq: int = 0
    event_type: str = ""
    event_id: str = ""
    causation_id: str | None = None
    correlation_id: str = ""
    source: str | None = None
    target: str | None = None
    reason: str = ""
    hook: str | None = None
    queue_s: float = 0.0
    run_s: float = 0.0
    traceparent: str | None = None
    error: BaseException | None = None
    event: Any = None
    duplicate: bool = False


Sink: TypeAlias = Callable[[Record], None]
"""Where records go: called in the turn, so it must not block."""
