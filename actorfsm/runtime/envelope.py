"""The envelope: an event on its way, with all that must travel with it.

The first group of attributes is what would cross a process border: plain data. The second is the sender's local
half: how the answer gets back within this process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from actorfsm.errors import ActorFSMError
    from actorfsm.event import Event, Outcome, OutcomeKind
    from actorfsm.runtime.deliveries import Count
    from actorfsm.runtime.jobs import Job
    from actorfsm.runtime.timers import Timer

__all__ = ["Envelope", "Settlement"]


class Settlement:
    """How an event ended, before anybody asked for it as an `Outcome`."""

    __slots__ = ("duplicate", "error", "kind", "new", "old", "reason", "reply", "seq")

    def __init__(  # noqa: PLR0917 -- a row of eight columns
        self,
        kind: OutcomeKind,
        old: Any,
        new: Any,
        reply: Any,
        error: ActorFSMError | None,
        reason: str,
        seq: int,
        *,
        duplicate: bool = False,
    ) -> None:
        self.kind: OutcomeKind = kind
        self.old = old
        self.new = new
        self.reply = reply
        self.error = error
        self.reason = reason
        self.seq = seq
        self.duplicate = duplicate


class Envelope:
    """An event on its way.

    A plain class. What every event needs is set when it is made; what is rare is a class-level default, which costs
    nothing until it is needed, but the interpreter has no short way to an attribute that is both in the class and in
    the instance.

    Attributes:
        event: The event.
        machine_id: For whom.
        event_id: Its id as text; empty until somebody needs it, see `Parts.event_id`.
        has_own_id: Whether the sender chose the id, so that it is applied once.
        number: The counter that the id is made from.
        headers: Strings that are inherited by what the event causes.
        causation_id: Id of the event in whose turn this one was sent.
        correlation_id: Id of the conversation, if it is not this event's own.
        deadline: When the sender gives up, on the loop's clock.
        reply_to: Id of the machine that gets the `Outcome`.
        accepted_at: When it was accepted, on the loop's clock.
        attempt: How often it was delivered before.
        actor: The actor in whose mailbox it is.
        machine_name: Name of the receiver's class, once that is known.
        tick: Its place in the wheel of deadlines; 0 if it has none.
        begun: Whether its turn has begun, so that its deadline no longer removes it.
        is_ask: Whether its sender waits for the reply.
        waiter: The asker's future, if the answer was not there at once.
        accepted: Whether it got in.
        settled: Whether it has ended.
        reply: What the asker gets.
        error: The typed error for the asker.
        keeps_settlement: Whether somebody may ask for the outcome later: a receipt, a callback, a record of ids.
    """

    has_own_id: bool = False
    headers: dict[str, str] | None = None
    causation_id: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    attempt: int = 0

    # The sender's local half.
    settlement: Settlement | None = None
    callback: Callable[[Outcome], Any] | None = None
    refusal: ActorFSMError | None = None
    """Why it was never accepted."""
    outside: bool = False
    """Whether it waits for room in the receiver's mailbox."""
    room_only: bool = False
    """Whether its deadline is only for the wait outside."""
    outgoing: bool = False
    """Whether a machine sent it: accepted with the sender's commit."""
    of_runtime: bool = False
    """Whether the runtime itself sent it: it always finds room, so that it cannot be lost."""
    accept_waiters: list[asyncio.Future[None]] | None = None
    outcome_waiters: list[asyncio.Future[None]] | None = None
    joined: Any = None
    """Duplicates that wait for the same outcome: a list of envelopes."""
    joins: Envelope | None = None
    """The event in flight whose outcome this duplicate waits for."""
    birth_data: Any = None
    """The data that a machine is spawned with, so that the same id with other data is found."""
    as_sent: Event[Any, Any] | None = None
    """The event as it was sent, where a hook could change it and it may be delivered again."""
    sender: Any = None
    """The turn that sent it, until that turn is over."""
    durable: bool | None = False
    """Whether it is stored before it is accepted; None if its machine's class says."""
    left_inbox: bool = False
    """Whether it has been through the durable inbox."""
    answer: Envelope | None = None
    """With a journal: its Outcome for the machine named in `reply_to`, as it was promised."""
    promise: str | None = None
    """Its key in the journal, if it was promised there: its outcome settles that."""
    deliveries: Count | None = None
    """In how many lives it was begun, if an earlier one has left it."""
    is_put_aside: bool = False
    """Whether the journal has it among the postponed events of its machine."""
    ends_with_commit: bool = False
    """Whether its outcome is stored with the commit that ends its machine, so that it only has to be told."""
    timer: Timer | None = None
    """The timer that sent it, if one did."""
    job: Job | None = None
    """The job whose answer it is, if it is one."""
    span: Any = None
    """What the tracer keeps of its sending, while somebody waits for the answer."""
    handling: Any = None
    """What the tracer keeps of the turn in which it is handled."""
    passed_on: dict[str, str] | None = None
    """The headers that what it causes inherits, if a tracer follows it: its own, with the context of its turn."""
    own_depth: int = 0
    """How many events that the machine raised itself led to this one, in a row."""

    def __init__(self, event: Event[Any, Any], machine_id: str, number: int, accepted_at: float) -> None:
        self.event = event
        self.machine_id = machine_id
        self.number = number
        self.accepted_at = accepted_at
        self.event_id = ""
        self.deadline: float | None = None
        self.actor: Any = None
        self.machine_name = ""
        self.tick = 0
        self.begun = self.is_ask = self.accepted = self.settled = self.keeps_settlement = False
        self.waiter: asyncio.Future[Any] | None = None
        self.reply: Any = None
        self.error: ActorFSMError | None = None

    def __repr__(self) -> str:
        return f"<{type(self.event).__name__} #{self.event_id or self.number} for {self.machine_id}>"
