"""Watches: who wants to know when a machine is gone (C18; Erlang's monitors, Pekko's death watch).

A watch ends with exactly one `Terminated`, or without one when it is taken back. It is about an id: a restart is no
end, and a machine that has ended already, or never lived, is reported at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from actorfsm.errors import Unsupported
from actorfsm.event import Terminated
from actorfsm.runtime.turn import CURRENT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from actorfsm.event import EndReason
    from actorfsm.runtime.actor import Actor
    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.parts import Parts

__all__ = ["Watches"]


class Watches:
    """The watches of one system: those of its machines, and those of code outside, which waits for a future."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._watchers: dict[str, dict[str | asyncio.Future[Terminated], None]] = {}
        """By the id that is watched. Who watches is an id too, or the future of a caller: machines leave memory."""
        self._watched: dict[str, dict[str, None]] = {}
        """By the machine that watches."""

    def apply(self, watcher: Actor, changes: Iterable[tuple[str, bool]]) -> None:
        """Begin and take back watches, as a committed turn has said, in that order."""
        recovery = self._parts.recovery
        for machine_id, begins in changes:
            if begins and recovery is not None and machine_id not in self._parts.registry.actors:
                recovery.watch(watcher, [machine_id])
            elif begins:
                self.begin(watcher, machine_id)
            else:
                self._take_back(watcher, machine_id)

    def begin(self, watcher: Actor, machine_id: str) -> None:
        """Begin a watch; if the machine has ended already, that is reported at once."""
        notice = self._known_end(machine_id)
        if notice is None:
            self._watchers.setdefault(machine_id, {})[watcher.id] = None
            self._watched.setdefault(watcher.id, {})[machine_id] = None
        elif not self._waiting(watcher, machine_id):  # what waits already says so
            self._parts.admission.send(watcher.id, notice, None)

    def _take_back(self, watcher: Actor, machine_id: str) -> None:
        if machine_id in self._watched.get(watcher.id, ()):
            self._forget(watcher.id, machine_id)
        for envelope in self._waiting(watcher, machine_id):
            self._parts.dispatcher.withdraw(watcher, envelope)

    def _known_end(self, machine_id: str) -> Terminated | None:
        """Return what is to say of an id that has ended already; None while it lives, or is being born."""
        actor = self._parts.registry.actors.get(machine_id)
        if actor is None:
            recovery = self._parts.recovery
            incarnation = None if recovery is None else recovery.incarnation_at_the_end(machine_id)
            reason: EndReason = "unknown" if incarnation is None else "stopped"
            return Terminated(machine_id=machine_id, incarnation=incarnation or 0, reason=reason)
        if actor.node.final:
            return _end_of(actor, "finished")
        child = None if actor.rare is None else actor.rare.child
        has_stopped = child is not None and child.has_exited  # and waits in its place for its next birth
        return _end_of(actor, "stopped") if has_stopped else None

    def _waiting(self, watcher: Actor, machine_id: str) -> list[Envelope]:
        """Return the notices about an id that the watcher has not come to."""
        return [
            envelope
            for envelope in watcher.mailbox or ()
            if isinstance(envelope.event, Terminated) and envelope.event.machine_id == machine_id
        ]

    def of(self, machine_id: str) -> list[str | None]:
        """Return who watches an id: the ids of machines, and None for each caller outside."""
        watchers = self._watchers.get(machine_id, {})
        return [None if isinstance(watcher, asyncio.Future) else watcher for watcher in watchers]

    def by(self, machine_id: str) -> Iterable[str]:
        """Return the ids that a machine watches."""
        return self._watched.get(machine_id, ())

    async def wait(self, machine_id: str) -> Terminated:
        """Watch from outside; see `ActorSystem.watch`."""
        turn = CURRENT.get()
        if turn is not None and turn.holds_machine and not turn.closed:
            raise Unsupported(
                f"{turn.machine_id} would wait in its turn for the end of {machine_id}; use self.watch, which brings "
                "it a Terminated",
                machine_id=machine_id,
            )
        notice = self._known_end(machine_id)
        if notice is not None:
            return notice
        waiter: asyncio.Future[Terminated] = self._parts.loop.create_future()
        watchers = self._watchers.setdefault(machine_id, {})
        watchers[waiter] = None
        try:
            return await waiter
        finally:
            if watchers.pop(waiter, self) is not self and not watchers:
                del self._watchers[machine_id]

    # -- what befalls machines ----------------------------------------------------------------------------------

    def ended(self, actor: Actor, reason: EndReason, cause: Envelope | None = None) -> None:
        """Tell who watches that a machine has ended; each watch is over with that.

        Args:
            actor: The machine.
            reason: How it ended.
            cause: The event whose turn ended it, if one did.
        """
        watchers = self._watchers.pop(actor.id, None)
        if watchers is None:
            return
        self._tell(watchers, _end_of(actor, reason), cause)

    def _tell(
        self,
        watchers: dict[str | asyncio.Future[Terminated], None],
        notice: Terminated,
        cause: Envelope | None,
    ) -> None:
        for watcher in list(watchers):
            del watchers[watcher]
            if isinstance(watcher, asyncio.Future):
                _wake(watcher, notice)
            else:
                self._forget_watched(watcher, notice.machine_id)
                self._parts.admission.send(watcher, notice, cause)

    def drop(self, watcher: Actor) -> None:
        """Forget the watches of a machine that stops."""
        self._drop(watcher.id)

    def _drop(self, watcher: str) -> None:
        for machine_id in list(self._watched.get(watcher, ())):
            self._forget(watcher, machine_id)

    def close(self) -> None:
        """End all watches with the system: code outside learns it, machines are about to end themselves."""
        for watcher in list(self._watched):
            self._drop(watcher)
        for machine_id in list(self._watchers):
            actor = self._parts.registry.actors.get(machine_id)
            if actor is not None:
                self.ended(actor, "stopped")
            else:  # it is not in memory
                notice = Terminated(machine_id=machine_id, incarnation=0, reason="stopped")
                self._tell(self._watchers.pop(machine_id), notice, None)

    def _forget(self, watcher: str, machine_id: str) -> None:
        watchers = self._watchers[machine_id]
        del watchers[watcher]
        if not watchers:
            del self._watchers[machine_id]
        self._forget_watched(watcher, machine_id)

    def _forget_watched(self, watcher: str, machine_id: str) -> None:
        watched = self._watched[watcher]
        del watched[machine_id]
        if not watched:
            del self._watched[watcher]


def _end_of(actor: Actor, reason: EndReason) -> Terminated:
    if actor.node.parent is None:
        reason = "unknown"  # its birth was refused or failed: it never lived
    return Terminated(machine_id=actor.id, incarnation=actor.incarnation, reason=reason)


def _wake(waiter: asyncio.Future[Terminated], notice: Terminated) -> None:
    if not waiter.done():
        waiter.set_result(notice)
