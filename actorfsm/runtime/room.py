"""Room: whether one more event finds a place, for whoever sends faster than machines handle (C11).

Nothing is reserved: this looks, and the mailbox decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from actorfsm.runtime.actor import QUARANTINED

if TYPE_CHECKING:
    from actorfsm.runtime.parts import Parts

__all__ = ["wait_for_room"]

_MOST_AT_WORK: Final = 1_024
"""If so many machines have events to handle, others get none."""
_LOOKS_AGAIN_AFTER_S: Final = 0.02
"""Not each event that is taken from a mailbox wakes whoever waits here: that would cost all others."""


async def wait_for_room(parts: Parts, machine_id: str) -> None:
    """Wait until a machine has room for one more event, and the system has time for it. See `ActorSystem`."""
    while not parts.stopping and not (_keeps_up(parts) and _has_room(parts, machine_id)):
        await parts.next_change(parts.time() + _LOOKS_AGAIN_AFTER_S)


def _keeps_up(parts: Parts) -> bool:
    return parts.dispatcher.at_work < _MOST_AT_WORK


def _has_room(parts: Parts, machine_id: str) -> bool:
    waiting = 0 if parts.inbox is None else parts.inbox.waiting(machine_id)
    actor = parts.registry.actors.get(machine_id)
    if actor is None:
        if parts.recovery is not None and parts.recovery.is_loading(machine_id):
            return False  # then it is known what it has
        return waiting < min(kind.capacity for kind in parts.registry.kinds.values())
    if actor.status >= QUARANTINED:
        return True  # to be refused needs none
    mailbox = actor.mailbox
    if mailbox is None:
        return waiting < actor.kind.capacity
    return not mailbox.outside and waiting + len(mailbox.queue) < actor.kind.capacity
