"""The words of the journal: what is stored, as plain values.

JSON is carried as text, exactly as it was made, and never read here. Times are microseconds since 1970, in UTC. A
state is a configuration: the names of the states that are active at once, one for a flat machine.

Nothing here is changed once it was made. What each commit needs is not frozen all the same: a frozen dataclass of 20
fields takes 7 µs to make, this one 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from actorfsm.journal.image import Image

__all__ = [
    "Answer",
    "Batch",
    "DeadMessage",
    "Entry",
    "EntryKind",
    "Failure",
    "Head",
    "Message",
    "Payload",
    "Pending",
    "PendingKind",
    "Recorded",
    "State",
    "Status",
    "StoredTimer",
    "inbox_key",
    "promise_key",
]

State: TypeAlias = tuple[str, ...]
"""A configuration: the names of the active states; empty before birth."""

Status: TypeAlias = Literal["alive", "finished", "quarantined", "suspended", "stopped"]

EntryKind: TypeAlias = Literal[
    "committed",
    "vetoed",
    "unhandled",
    "failed",
    "expired",
    "dead_lettered",
    "postponed",
    "restarted",
    "quarantined",
    "released",
    "suspended",
    "resumed",
    "stopped",
]
"""The outcomes of an event, and what else befalls a machine. Only `committed` changes state and data."""


class Payload(NamedTuple):
    """An event, a reply or the data of a machine.

    Attributes:
        type: Name of the class.
        version: Schema version of the class, from 1.
        json: The fields, as JSON text.
    """

    type: str
    version: int
    json: str


class Failure(NamedTuple):
    """What went wrong, as plain data: see `actorfsm.ErrorInfo`."""

    type: str
    text: str
    hook: str | None = None


@dataclass(slots=True, kw_only=True)
class Answer:
    """The recorded outcome of an event, for whoever sends it again. It outlives its entry when that is trimmed.

    Attributes:
        kind: How the event ended.
        old: The state that it found.
        new: The state that the transition leads to; empty where none was chosen.
        reply: What the body returned, or None.
        reason: Why not, in words.
        error: The error, if there was one.
        commits: How many transitions the machine had committed then.
    """

    kind: EntryKind
    old: State = ()
    new: State = ()
    reply: Payload | None = None
    reason: str = ""
    error: Failure | None = None
    commits: int = 0


@dataclass(slots=True, kw_only=True)
class Message:
    """An event on its way, with all that must travel with it: the half of an envelope that crosses a process.

    Attributes:
        event: The event.
        event_id: Its id.
        causation_id: Id of the event in whose turn it was sent.
        correlation_id: Id of the conversation, if that is not the event's own.
        headers: Strings that are inherited by what the event causes.
        sender: Id of the machine that sent it.
        reply_to: Id of the machine that gets the outcome.
        attempt: How often it was delivered before.
        has_own_id: Whether the sender chose the id, so that it is applied once.
    """

    event: Payload
    event_id: str
    causation_id: str | None = None
    correlation_id: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    sender: str | None = None
    reply_to: str | None = None
    attempt: int = 0
    has_own_id: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTimer:
    """A timer as a commit leaves it.

    Attributes:
        machine_id: Its machine.
        name: Its name, one of a kind at its machine.
        due_us: When it falls due.
        scope: When it dies of itself, by name.
        message: What it sends.
        failures: How often that failed.
    """

    machine_id: str
    name: str
    due_us: int
    scope: str
    message: Message
    failures: int = 0


PendingKind: TypeAlias = Literal["event", "own", "hook", "job", "wake", "delivery"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """What was promised and is still to be done, at least once: a row of the outbox or of the durable inbox.

    Attributes:
        key: Its own id, by which it is settled; see `promise_key` and `inbox_key`.
        kind: An event to deliver, an event that the machine raised itself, an after-hook to run, a job to begin, a
            machine to wake, because it has postponed events to try again, or the delivery of what an earlier life has
            left: that it was begun, and has no outcome.
        machine_id: Who has to do it: the receiver of an event, else the machine itself.
        message: The event; of a hook, a job or a machine to wake the one that caused it.
        note: What more a hook, a job or a delivery needs, as JSON text; of an own event, how many led to it in a row.
    """

    key: str
    kind: PendingKind
    machine_id: str
    message: Message
    note: str = ""


@dataclass(slots=True, kw_only=True)
class Entry:
    """What one commit, or one recorded outcome, leaves of a machine.

    Attributes:
        machine_id: The machine.
        machine: Name of its class.
        seq: The entry's number at this machine, from 1, without gaps.
        kind: What happened.
        at_us: When.
        incarnation: How often the machine was restarted.
        commits: How many transitions it has committed, this one included: `seq` of an outcome or a trace record.
        status: What it is from now on.
        definition: Identity of the class's definition.
        message: The event, if one was handled.
        source: The state before; empty before birth.
        target: The state from now on.
        data: The machine's data from now on; None if that is as before.
        answer: The outcome, if with it the event id is used up: it is recorded and applied to this machine once.
        timers_set: Timers that were started, or armed again.
        timers_ended: Names of timers that were consumed or cancelled.
        promises: Messages, own events, after-hooks and jobs that follow from it.
        settles: Keys of what is done with it.
        watches: Ids that the machine watches from now on.
        unwatches: Ids that it watches no longer.
    """

    machine_id: str
    machine: str
    seq: int
    kind: EntryKind
    at_us: int
    incarnation: int = 0
    commits: int = 0
    status: Status = "alive"
    definition: str = ""
    message: Message | None = None
    source: State = ()
    target: State = ()
    data: Payload | None = None
    answer: Answer | None = None
    timers_set: tuple[StoredTimer, ...] = ()
    timers_ended: tuple[str, ...] = ()
    promises: tuple[Pending, ...] = ()
    settles: tuple[str, ...] = ()
    watches: tuple[str, ...] = ()
    unwatches: tuple[str, ...] = ()

    @property
    def concluded_id(self) -> str | None:
        """The event id that is used up with this entry."""
        return None if self.answer is None or self.message is None else self.message.event_id


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadMessage:
    """A message that nobody will handle.

    Attributes:
        machine_id: Whom it was for.
        message: The event.
        reason: Why nobody will.
        at_us: When that was known.
        place: Its number in the journal; 0 until it is stored.
    """

    machine_id: str
    message: Message
    reason: str
    at_us: int
    place: int = 0


@dataclass(slots=True, kw_only=True)
class Batch:
    """What is stored as a whole or not at all.

    Attributes:
        entries: Entries, those of one machine in order.
        accepted: Messages of the durable inbox: accepted with this.
        settled: Keys of what is done without an entry: a durable hook that ran, a message that is a dead letter.
        dead: Dead letters.
        images: Machines as the last of these entries leave them, from where they are to be loaded. When that is
            worth while is up to whoever writes; it has at hand what the journal would have to read.
    """

    entries: tuple[Entry, ...] = ()
    accepted: tuple[Pending, ...] = ()
    settled: tuple[str, ...] = ()
    dead: tuple[DeadMessage, ...] = ()
    images: tuple[Image, ...] = ()


class Head(NamedTuple):
    """Where a machine is: a line of a list of machines.

    Attributes:
        machine_id: The machine.
        machine: Name of its class.
        status: Whether it is alive.
        state: Its state.
        seq: Number of its last entry.
        checksum: That of its last entry.
    """

    machine_id: str
    machine: str
    status: Status
    state: State
    seq: int
    checksum: bytes


class Recorded(NamedTuple):
    """What is known of an event id that was applied to a machine.

    Attributes:
        seq: Number of the entry.
        event_type: Name of the event's class.
        event: The event; None if the entry was trimmed.
        fingerprint: A hash of the event, to tell another one by after that.
        answer: How it ended.
        event_version: Schema version of the event's class.
    """

    seq: int
    event_type: str
    event: Payload | None
    fingerprint: bytes
    answer: Answer
    event_version: int = 1


def promise_key(entry_machine_id: str, seq: int, place: int) -> str:
    """Return the key of the n-th promise of an entry."""
    return f"{entry_machine_id}/{seq}/{place}"


def inbox_key(machine_id: str, event_id: str) -> str:
    """Return the key of a message of the durable inbox: the same event id is accepted once."""
    return f"{machine_id}//{event_id}"
