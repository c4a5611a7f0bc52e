"""What senders noted: each event that was sent, and how that ended for the one who sent it.

The other half of the proof that nothing is lost. The trace is what the runtime says; the notes are what its users saw.
Neither is ever made from the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from actorfsm.errors import ActorFSMError

if TYPE_CHECKING:
    from actorfsm.event import Outcome
    from actorfsm.runtime.receipt import Receipt

__all__ = ["Note", "Resolution", "resolve"]


@dataclass(slots=True, eq=False)
class Note:
    """One event, as its sender knows it.

    Attributes:
        how: `ask`, `tell`, `spawn`, or `message` for what a machine sends in its turn with `self.tell`.
        sender: Who: a task's name, or the id of the machine in whose turn it was sent.
        machine_id: For whom.
        event: The very object that was sent.
        line: How many records the trace had when it was sent.
        event_id: Its id, where the sender knows it.
        cause: Id of the event in whose turn it was sent, or None.
        receipt: What `tell` returned.
        ended: For an ask: "" while it waits, then `reply`, `error` or `cancelled`.
        reply: The reply.
        error: The error.
        ended_line: How many records the trace had when the ask ended.
        ended_at: When it ended, on the loop's clock.
        calls: The outcomes that its callback was called with; None if it has no callback.
        known: How it ended for whoever holds the receipt, once `resolved` was asked after the end.
    """

    how: Literal["ask", "tell", "spawn", "message"]
    sender: str
    machine_id: str
    event: Any
    line: int
    event_id: str = ""
    cause: str | None = None
    receipt: Receipt | None = None
    ended: Literal["", "reply", "error", "cancelled"] = ""
    reply: Any = None
    error: BaseException | None = None
    ended_line: int = 0
    ended_at: float = 0.0
    calls: list[Outcome] | None = None
    known: Resolution | None = None

    @property
    def event_type(self) -> str:
        """Name of the event's class."""
        return type(self.event).__name__

    def resolved(self) -> Resolution:
        """Return what awaiting the receipt would give now, without waiting."""
        if self.known is not None or self.receipt is None:
            return self.known or Resolution()
        how = resolve(self.receipt)
        if how.outcome is not None or how.refusal is not None:
            self.known = how
        return how

    def __str__(self) -> str:
        event_id = f" {self.event_id}" if self.event_id else ""
        return f"{self.how} of {self.event_type}{event_id} from {self.sender} to {self.machine_id}"


@dataclass(frozen=True, slots=True)
class Resolution:
    """How a told event ended for whoever holds its receipt: one of the two is set, or neither yet."""

    outcome: Outcome | None = None
    refusal: ActorFSMError | None = None


def resolve(receipt: Receipt) -> Resolution:
    """Return what awaiting the receipt would give now, without waiting."""
    waiting: Any = receipt.outcome()
    try:
        waiter = waiting.send(None)
    except StopIteration as done:
        outcome: Outcome = done.value
        return Resolution(outcome=outcome)
    except ActorFSMError as error:
        return Resolution(refusal=error)
    waiting.close()
    waiter.cancel()
    return Resolution()
