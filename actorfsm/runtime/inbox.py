"""The durable inbox: an event that is told durably is stored first, and gets into the mailbox then (C23).

What is sent to the same machine meanwhile waits behind it, so that events get in in the order in which they were sent.
The event is promised in the journal like a message of a machine: its outcome settles that, and until then a next system
delivers it again.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from actorfsm.errors import (
    ActorFSMError,
    EventIdUsed,
    Expired,
    JournalError,
    MailboxFull,
)
from actorfsm.journal.entry import Batch, Pending, inbox_key
from actorfsm.machine.options import Overflow
from actorfsm.runtime import settling
from actorfsm.runtime.actor import QUARANTINED
from actorfsm.runtime.reply import refuse, tell_accepted

if TYPE_CHECKING:
    from actorfsm.runtime.actor import Actor
    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.kind import Kind
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.recording import Recording

__all__ = ["Inbox"]

_MOST_WAITING: Final = 10_000
"""So many events wait for one machine that is to be born of a durable event."""


class _Item:
    """An event in a lane: it may go on once it is stored, if that is wanted."""

    __slots__ = ("envelope", "error", "is_ready")

    def __init__(self, envelope: Envelope, *, is_ready: bool) -> None:
        self.envelope = envelope
        self.is_ready = is_ready
        self.error: JournalError | None = None


class Inbox:
    """Stores events before they are accepted, in a lane for each machine that has such events on their way."""

    def __init__(self, parts: Parts, recording: Recording) -> None:
        self._parts = parts
        self._recording = recording
        self._lanes: dict[str, deque[_Item]] = {}
        self._closed_with: ActorFSMError | None = None

    def follows(self, envelope: Envelope) -> bool:
        """Let an event wait behind one that is being stored and may give birth to its machine; return whether it does.

        Raises:
            MailboxFull: Too many wait.
            InvalidData: It is to be durable, and would not come back as it was.
        """
        lane = self._lanes.get(envelope.machine_id)
        if lane is None or envelope.left_inbox:
            return False
        if len(lane) >= _MOST_WAITING:
            raise self._full(envelope, len(lane))
        self._line_up(envelope)
        return True

    def takes(self, kind: Kind, actor: Actor | None, envelope: Envelope) -> bool:
        """Store an event that is to be durable, or let one wait behind such; return whether it does either.

        Args:
            kind: The class of its machine.
            actor: The machine; None if the event is to give birth to it.
            envelope: The event.

        Raises:
            MailboxFull: The mailbox is full, or would be with what waits here; nothing was stored.
            InvalidData: The event would not come back as it was.
        """
        if envelope.left_inbox or envelope.of_runtime:
            return False
        if envelope.durable is None:
            envelope.durable = kind.options.durable_inbox
        lane = self._lanes.get(envelope.machine_id)
        if lane is None and not _is_stored_first(envelope):
            return False
        if actor is not None and _is_answered_at_once(actor, envelope):
            return False
        self._check_room(kind, actor, envelope, 0 if lane is None else len(lane))
        self._line_up(envelope)
        return True

    def _line_up(self, envelope: Envelope) -> None:
        """Let an event wait for its turn to get in, and until it is stored if it is to be durable."""
        pending = self._pending(envelope) if _is_stored_first(envelope) else None
        item = _Item(envelope, is_ready=pending is None)
        self._lanes.setdefault(envelope.machine_id, deque()).append(item)
        if pending is not None:
            self._recording.writer.store(Batch(accepted=(pending,)), partial(self._answered, item, pending))

    def _check_room(self, kind: Kind, actor: Actor | None, envelope: Envelope, waiting: int) -> None:
        policy = kind.options.mailbox
        if actor is not None and actor.mailbox is not None:
            waiting += len(actor.mailbox.queue)
        room = kind.capacity + (
            policy.waiting if policy.overflow is Overflow.WAIT or envelope.outgoing else 0
        )
        if waiting >= room:
            raise self._full(envelope, waiting)

    def _full(self, envelope: Envelope, waiting: int) -> MailboxFull:
        return MailboxFull(
            f"{envelope.machine_id} has {waiting:,} events waiting, as many as it may",
            machine_id=envelope.machine_id,
            event=envelope.event,
        )

    def _pending(self, envelope: Envelope) -> Pending:
        return Pending(
            key=inbox_key(envelope.machine_id, self._parts.event_id(envelope)),
            kind="event",
            machine_id=envelope.machine_id,
            message=self._recording.entries.message(envelope),
        )

    def _answered(self, item: _Item, pending: Pending, error: JournalError | None) -> None:
        item.is_ready = True
        if error is None:
            item.envelope.promise = pending.key
        elif not isinstance(
            error, EventIdUsed
        ):  # that one is stored: it joins the event, or is answered as that was
            item.error = error
        self._advance(pending.machine_id)

    def _advance(self, machine_id: str) -> None:
        """Let in what has come to the head of a lane and is stored."""
        lane = self._lanes.get(machine_id)
        while lane and lane[0].is_ready:
            item = lane.popleft()
            if not lane:
                del self._lanes[machine_id]
            self._let_in(item)
        self._parts.note_change()

    def _let_in(self, item: _Item) -> None:
        envelope, admission = item.envelope, self._parts.admission
        envelope.left_inbox = True
        if item.error is not None:
            self._turn_away(envelope, item.error)
        elif self._closed_with is not None:
            admission.keep(envelope, self._closed_with)
        else:
            try:
                admission.accept(envelope)
            except ActorFSMError as error:
                self._turn_away(envelope, error)
            else:
                if envelope.accepted:
                    tell_accepted(envelope)

    def _turn_away(self, envelope: Envelope, error: ActorFSMError) -> None:
        """Refuse an event; if it is stored, that is undone."""
        if envelope.outgoing:
            self._parts.admission.return_to_sender(envelope, error)
        elif envelope.is_ask:
            self._parts.counters.refused += 1
            refuse(envelope, error)
        else:
            self._parts.admission.refuse(envelope, error)

    def expire(self, envelope: Envelope) -> bool:
        """Follow the deadline of an ask that waits behind events which are being stored; return whether it does."""
        lane = self._lanes.get(envelope.machine_id, ())
        item = next((item for item in lane if item.envelope is envelope), None)
        if item is None:
            return False
        self._lanes[envelope.machine_id].remove(item)
        error = Expired(
            f"the deadline of {type(envelope.event).__name__} passed while events that were sent before it were being "
            f"stored for {envelope.machine_id}: it was removed, it is surely not done",
            machine_id=envelope.machine_id,
            event=envelope.event,
        )
        actor = self._parts.registry.actors.get(envelope.machine_id)
        if actor is None:
            self._turn_away(envelope, error)
        else:
            self._parts.counters.accepted += 1
            settling.settle(actor, envelope, "expired", actor.node.member, None, error=error)
        return True

    def waiting(self, machine_id: str) -> int:
        """How many events for a machine are on their way."""
        return len(self._lanes.get(machine_id, ()))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is on its way."""
        return not self._lanes

    def close(self, error: ActorFSMError) -> None:
        """Let nothing in any more: the system is going down. What is stored by then is for the next one."""
        self._closed_with = error
        for machine_id, lane in list(self._lanes.items()):
            ready = [item for item in lane if item.is_ready]
            left = [item for item in lane if not item.is_ready]
            if left:
                self._lanes[machine_id] = deque(left)
            else:
                del self._lanes[machine_id]
            for item in ready:
                self._turn_away(item.envelope, error)


def _is_stored_first(envelope: Envelope) -> bool:
    return bool(envelope.durable) and envelope.promise is None and not envelope.is_ask


def _is_answered_at_once(actor: Actor, envelope: Envelope) -> bool:
    """Return whether there is nothing to store: it is refused, or the answer to its event id is known."""
    if actor.status >= QUARANTINED:
        return True
    known = None if actor.rare is None or not envelope.has_own_id else actor.rare.ids.get(envelope.event_id)
    return known is not None and (known.settlement is not None or not known.is_same(envelope))
