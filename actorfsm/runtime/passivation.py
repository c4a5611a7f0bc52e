"""Passivation: machines that nobody needs now leave memory, and come back from the journal at their next event (C29).

Nobody can tell but by the time it takes: no hook runs, no watch ends, an incarnation goes on. The machines in memory
stand in a line, the one that was used longest ago in front, and one timer of the system looks at the front of the line;
what is busy there goes to its end.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from math import isnan
from typing import TYPE_CHECKING, Any, Final

from actorfsm.errors import DefinitionError
from actorfsm.runtime import settling
from actorfsm.runtime.actor import IDLE, STOPPED
from actorfsm.runtime.dynamic_supervisor import is_spawned

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from actorfsm.errors import ActorFSMError
    from actorfsm.runtime.actor import Actor, Rare
    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.parts import Parts

__all__ = ["Passivation", "PassivationPolicy"]

_ALL_ARE_BUSY_S: Final = 0.05
"""How long to wait if there are too many machines and none of them can leave."""


@dataclass(frozen=True, slots=True)
class PassivationPolicy:
    """When machines of a system with a journal leave memory.

    Attributes:
        idle_s: After so many seconds without an event; infinity for never.
        in_memory: How many may be there; if there are more, those leave whose last event is longest ago. What is busy
            stays, so that there can be more for a while.

    Raises:
        DefinitionError: A value cannot be meant.
    """

    idle_s: float = 600.0
    in_memory: int = 100_000

    def __post_init__(self) -> None:
        idle_s: Any = self.idle_s
        if not isinstance(idle_s, int | float) or isinstance(idle_s, bool) or isnan(idle_s) or idle_s <= 0:
            raise DefinitionError(f"PassivationPolicy: idle_s={idle_s!r}; give seconds, above 0")
        most: Any = self.in_memory
        if not isinstance(most, int) or isinstance(most, bool) or most < 1:
            raise DefinitionError(f"PassivationPolicy: in_memory={most!r}; give a whole number above 0")


class Passivation:
    """Lets the machines of one system leave memory.

    Attributes:
        put_aside: By machine, what waits for a change of its state while it is not in memory. The journal has it too;
            these are the envelopes that receipts look at.
        left: How many machines have left so far.
    """

    def __init__(self, parts: Parts, policy: PassivationPolicy) -> None:
        self._parts = parts
        self._time = parts.time
        self._policy = policy
        self._used: OrderedDict[str, float] = OrderedDict()
        """When each machine in memory was used last; the one that was used longest ago comes first."""
        self._needed: Counter[str] = Counter()
        self._key = 0
        self._looks_at = 0.0
        self.put_aside: dict[str, list[Envelope]] = {}
        self.left = 0

    def touch(self, machine_id: str) -> None:
        """Note that a machine is used now."""
        used, now = self._used, self._time()
        used[machine_id] = now
        used.move_to_end(machine_id)
        if not self._key:
            self._look_at(now if len(used) > self._policy.in_memory else now + self._policy.idle_s)
        elif len(used) > self._policy.in_memory and self._looks_at > now + _ALL_ARE_BUSY_S:
            self._look_at(now)

    @contextmanager
    def needing(self, machine_ids: Iterable[str]) -> Generator[None]:
        """Keep machines in memory meanwhile: somebody has looked whether they are there, and will act on that."""
        needed = list(machine_ids)
        self._needed.update(needed)
        try:
            yield
        finally:
            self._needed.subtract(needed)
            for machine_id in needed:
                if self._needed[machine_id] == 0:
                    del self._needed[machine_id]

    def _look_at(self, when: float) -> None:
        """Look at the front of the line at a time of the loop's clock."""
        timers = self._parts.timers
        if self._key:
            timers.cancel(self._key)
            self._key = 0
        if when < float("inf"):
            self._looks_at = when
            self._key = timers.call_at(when, self._look)

    def _look(self) -> None:
        """Let those in front leave whose time has come; only so many before others have their turn."""
        self._key = 0
        used, policy, now = self._used, self._policy, self._time()
        before = self.left
        for machine_id, used_at in list(islice(used.items(), self._parts.limits.timers_per_step)):
            if len(used) <= policy.in_memory and used_at + policy.idle_s > now:
                break
            actor = self._parts.registry.actors.get(machine_id)
            if actor is None:
                del used[machine_id]
            elif self.may_leave(actor):
                self._leave(actor)
            else:
                used[machine_id] = now
                used.move_to_end(machine_id)
        if len(used) > policy.in_memory:
            self._look_at(now if self.left > before else now + _ALL_ARE_BUSY_S)
        elif used:
            self._look_at(max(now, next(iter(used.values())) + policy.idle_s))

    def may_leave(self, actor: Actor) -> bool:
        """Return whether nothing of a machine is going on, and all of it is stored."""
        track = actor.track
        if (
            actor.status != IDLE
            or actor.jobs
            or actor.node.parent is None
            or track is None
            or track.lines
            or track.is_writing
            or actor.id in self._needed
            or not is_spawned(actor)
            or actor.kind.supervisor.is_holding
        ):
            return False
        mailbox = actor.mailbox
        if mailbox is not None and (mailbox.waiting or mailbox.outside):
            return False
        if any(map(_is_waited_for, () if mailbox is None else mailbox.postponed or ())):
            return False
        if actor.rare is not None and not self._is_quiet(actor, actor.rare):
            return False
        return not any(turn.actor is actor for turn in self._parts.detached)

    def _is_quiet(self, actor: Actor, rare: Rare) -> bool:
        """Return whether nobody waits for what befalls a machine, and its restarts no longer count."""
        if rare.is_called_off or rare.stop_waiters or rare.birth_waiters:
            return False
        policy, now = actor.kind.options.restart, self._time()
        if rare.intensity is not None and rare.intensity.count(policy, now):
            return False
        return rare.backoff is None or now - rare.backoff.resumes_at >= policy.stable_after_s

    def _leave(self, actor: Actor) -> None:
        """Drop a machine from memory; what it has in the journal is all of it."""
        parts = self._parts
        for timer in [timer for timer in (actor.timers or {}).values() if timer.key]:
            parts.timers.cancel(timer.key)
            timer.key = 0
            parts.counters.timers -= 1
            if parts.recovery is not None:
                parts.recovery.agenda.left(timer, actor.id)
        if actor.mailbox is not None:
            self.put_aside[actor.id] = actor.mailbox.postponed or []
        actor.mailbox = actor.timers = None
        actor.status = STOPPED  # should anything still hold it: it takes no event any more
        del parts.registry.actors[actor.id]
        del self._used[actor.id]
        self.left += 1

    def waiting_for(self, machine_id: str) -> dict[str, Envelope]:
        """Return what waits for a change of state of a machine that is not in memory, by event id."""
        event_id = self._parts.event_id
        return {event_id(envelope): envelope for envelope in self.put_aside.get(machine_id, ())}

    def came_back(self, machine_id: str) -> None:
        """Follow the return of a machine, with what waits for it."""
        self.put_aside.pop(machine_id, None)
        self.touch(machine_id)

    @property
    def postponed(self) -> int:
        """How many events wait for a change of state of machines that are not in memory."""
        return sum(map(len, self.put_aside.values()))

    def close(self, error: ActorFSMError) -> None:
        """Answer what waits for machines that are not in memory: the system is going down."""
        waiting, self.put_aside = self.put_aside, {}
        for envelopes in waiting.values():
            for envelope in envelopes:
                settling.end_undelivered(envelope.actor, envelope, error)


def _is_waited_for(envelope: Envelope) -> bool:
    """Return whether a postponed event can end without its machine: somebody waits for it, or it has a deadline."""
    return envelope.is_ask or envelope.deadline is not None or bool(envelope.joined)
