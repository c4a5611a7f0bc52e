"""The mailbox: what waits for one machine, in lanes, each bounded.

Made at the machine's first waiting event and dropped when nothing waits. The order in which events are taken: those the
machine raised itself, then postponed ones that a change of state has released, then the queue. System messages are not
events and do not wait here: they take effect between two turns.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from actorfsm.runtime.envelope import Envelope

__all__ = ["Mailbox"]


class Mailbox:
    """What waits for one machine.

    Attributes:
        queue: Accepted events, in order of acceptance.
        own: Events that the machine raised itself.
        released: Postponed events to be tried again, in order of arrival.
        postponed: Events that wait for a change of state, in order of arrival.
        outside: Events that wait for room in the queue.
    """

    __slots__ = ("outside", "own", "postponed", "queue", "released")

    def __init__(self) -> None:
        self.queue: deque[Envelope] = deque()
        self.own: deque[Envelope] | None = None
        self.released: deque[Envelope] | None = None
        self.postponed: list[Envelope] | None = None
        self.outside: deque[Envelope] | None = None

    def take(self) -> Envelope | None:
        """Remove and return the next event, or None."""
        if self.own:
            return self.own.popleft()
        if self.released:
            return self.released.popleft()
        return self.queue.popleft() if self.queue else None

    def raise_own(self, envelopes: list[Envelope]) -> None:
        """Put the machine's own events before everything else, in the order in which they were raised."""
        if self.own is None:
            self.own = deque()
        self.own.extendleft(reversed(envelopes))

    def postpone(self, envelope: Envelope) -> None:
        """Put an event aside until the state changes."""
        if self.postponed is None:
            self.postponed = []
        self.postponed.append(envelope)

    def release_postponed(self) -> None:
        """Let the postponed events be tried again, before newer ones."""
        if self.postponed:
            # What is still in `released` arrived later: it was not tried since the last release.
            self.released = deque([*self.postponed, *(self.released or ())])
            self.postponed = None

    def wait_outside(self, envelope: Envelope) -> None:
        """Let an event wait for room."""
        if self.outside is None:
            self.outside = deque()
        self.outside.append(envelope)

    def put_back(self, envelope: Envelope) -> None:
        """Put an event that is to be tried again before all others."""
        self.raise_own([envelope])

    def remove(self, envelope: Envelope) -> bool:
        """Remove an event wherever it waits; return whether it did."""
        for lane in (self.queue, self.postponed, self.outside, self.released, self.own):
            if lane and envelope in lane:
                lane.remove(envelope)
                return True
        return False

    @property
    def waiting(self) -> int:
        """How many accepted events wait to be tried."""
        return len(self.queue) + len(self.own or ()) + len(self.released or ())

    @property
    def tries_again(self) -> bool:
        """Whether an event waits to be tried again that the journal has among the postponed ones."""
        return bool(self.released) or any(envelope.is_put_aside for envelope in self.own or ())

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits in any lane."""
        return not (self.queue or self.own or self.released or self.postponed or self.outside)

    def __iter__(self) -> Iterator[Envelope]:
        """Yield everything that waits, in whatever lane."""
        for lane in (self.own, self.released, self.postponed, self.queue, self.outside):
            yield from lane or ()

    def drain(self) -> Iterator[Envelope]:
        """Remove and yield everything, postponed events first, in order of arrival."""
        self.release_postponed()
        while (envelope := self.take()) is not None:
            yield envelope
        while self.outside:
            yield self.outside.popleft()
