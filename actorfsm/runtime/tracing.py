"""Tracing: what a system tells whoever follows its events with spans, and nothing of how that is done.

A tracer is told of three things: an event that is sent, the turn in which it is handled, and what runs beside that
turn. It writes the trace context into the headers of what is sent, and into `Envelope.passed_on` for what follows from
a turn. A system without one is not slower: it calls the same functions as if there were none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from actorfsm.runtime.actor import Actor
    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.turn import Turn

__all__ = ["Tracing"]


class Tracing(Protocol):
    """Follows the events of systems. No method may raise; what they do is done on the event loop, so it must be quick.

    One object may follow several systems.
    """

    def send(self, parts: Parts, envelope: Envelope, accept: Callable[[Envelope], None]) -> None:
        """Bring an event from outside all turns, or an ask, to its machine by `accept`, which may refuse it.

        An ask that is not settled afterwards is followed by `answered`.

        Raises:
            ActorFSMError: What `accept` raises.
        """
        ...

    def answered(self, parts: Parts, envelope: Envelope) -> None:
        """Follow the end of an ask: it is settled, or its asker has given up."""
        ...

    def tell(self, turn: Turn, envelope: Envelope) -> None:
        """Follow a message of a machine, which is sent if its turn is committed."""
        ...

    async def turn(self, actor: Actor, envelope: Envelope) -> bool:
        """Handle an event by `actor.turn`, and return what that returns."""
        ...

    def leave_behind(self, envelope: Envelope) -> None:
        """Follow the end of an event whose hook does not end: the turn has no end either."""
        ...

    def enter(self, envelope: Envelope) -> None:
        """Let the running context, in which nothing else happens, belong to the turn of an event that may be over."""
        ...

    def carry(self, headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
        """Return headers with the trace context of a thread that calls a system from beside its event loop."""
        ...
