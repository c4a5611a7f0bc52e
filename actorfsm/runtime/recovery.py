"""Recovery: machines come back from the journal, each at its first event; what it brings waits behind it, in order.

Recovery runs no user code: it makes an actor of what is stored. What was promised and not done is delivered at the
start, before anything new; a machine with a timer is loaded when that is due. A machine of which something cannot be
read is held, and the others run (C23, C27).
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

from actorfsm.errors import (
    ActorFSMError,
    EventIdConflict,
    Expired,
    InvalidData,
    JournalCorrupt,
    JournalError,
    MailboxFull,
    Quarantined,
    SystemStopping,
)
from actorfsm.event import Terminated
from actorfsm.journal.entry import Pending
from actorfsm.runtime import jobs
from actorfsm.runtime.actor import PAUSED, QUARANTINED, STOPPED, Actor
from actorfsm.runtime.agenda import Agenda
from actorfsm.runtime.arrivals import Arrivals
from actorfsm.runtime.backlog import Backlog
from actorfsm.runtime.rehydration import Counts, Item, Rehydration, counts_of
from actorfsm.runtime.spawn_data import is_spawned_with
from actorfsm.runtime.tasks import start_task
from actorfsm.runtime.track import Track
from actorfsm.trace import Record

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from actorfsm.journal.entry import Recorded, Status
    from actorfsm.journal.protocol import Journal, Stored
    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.kind import Kind
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.recording import Recording
    from actorfsm.runtime.supervised import MachineChild

__all__ = ["Recovery"]

_MOST_WAITING: Final = 10_000
"""So many events wait for one machine to be loaded."""
_RETRY_S: Final = 1.0
"""After so long a machine is loaded that has to be and could not be read."""


class _Loading:
    """A machine that is being loaded: what waits for it, in order of arrival, and who."""

    __slots__ = ("error", "is_begun", "is_due", "items", "owed", "waiters")

    def __init__(self) -> None:
        self.items: deque[Item] = deque()
        self.owed = 0
        """How many of them, the first, earlier lives have promised."""
        self.waiters: list[Future[bool]] = []
        self.is_begun = False
        """Whether the journal was asked. A machine of the tree waits until its supervisor starts it."""
        self.is_due = False
        """Whether a timer of it is due, so that it has to be loaded, now or later."""
        self.error: ActorFSMError | None = None
        """Why it ended without the machine."""

    def add_owed(self, items: Sequence[Item]) -> None:
        """Add what earlier lives have promised besides."""
        if items:
            arrived = list(self.items)
            self.items = deque([*arrived[: self.owed], *items, *arrived[self.owed :]])
            self.owed += len(items)


class Recovery:
    """Brings the machines of one system back.

    Attributes:
        broken: The machines that cannot be loaded, by id, with the reason.
        agenda: When machines that are not in memory have timers due.
    """

    def __init__(self, parts: Parts, journal: Journal, recording: Recording) -> None:
        self._parts = parts
        self._journal = journal
        self._recording = recording
        self._rehydration: Final = Rehydration(parts, recording)
        self._arrivals: Final = Arrivals(parts, journal, recording, self.watch)
        self._loading: dict[str, _Loading] = {}
        self._backlog: Final = Backlog(journal, self.hold)
        self._ended: dict[str, tuple[int, int]] = {}
        """Last entry and incarnation of machines that have stopped, until they are born anew."""
        self._is_closed = False
        self.broken: dict[str, ActorFSMError] = {}
        self.agenda: Final = Agenda(parts, journal, self)

    # -- the start ------------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Find out what was promised: when a machine is loaded, that comes first."""
        await self._backlog.prepare()

    async def begin(self) -> None:
        """Deliver what was promised, let timers run, and show which machines are held."""
        if not self._backlog.deliver_some(self._deliver, lambda: self.loading):
            delivering = self._backlog.deliver(self._deliver, lambda: self.loading)
            self._parts.keep(start_task(delivering, self._parts.loop), "what earlier lives have promised")
        await self._wake_all("quarantined")
        await self._wake_all("suspended")
        await self.agenda.read()

    def _deliver(self, machine_id: str) -> None:
        """Load a machine for what was promised to it, but for one that is held."""
        if machine_id not in self.broken:
            self._of(machine_id)

    async def _wake_all(self, status: Status) -> None:
        last = ""
        while heads := await self._journal.machines(status=status, after=last):
            for head in heads:
                self.wake(head.machine_id)
            last = heads[-1].machine_id

    def wake(self, machine_id: str) -> None:
        """Load a machine: a timer of it is due. If that fails it is tried again."""
        if self._is_closed or machine_id in self._parts.registry.actors or machine_id in self.broken:
            return
        self._of(machine_id).is_due = True

    @property
    def loading(self) -> int:
        """How many machines are being loaded."""
        return len(self._loading)

    def is_loading(self, machine_id: str) -> bool:
        """Return whether a machine is being loaded."""
        return machine_id in self._loading

    # -- events for machines that are not in memory ---------------------------------------------------------------

    def takes(self, envelope: Envelope) -> bool:
        """Let an event wait for its machine to be loaded; return whether it does.

        Raises:
            Quarantined: The machine cannot be loaded.
            MailboxFull: Too many wait.
            SystemStopping: The system takes no more.
        """
        machine_id, event = envelope.machine_id, envelope.event
        is_exempt = envelope.promise is not None or envelope.of_runtime
        if machine_id == self._arrivals.machine_id or (self._is_awaited(machine_id) and not is_exempt):
            return False
        self.check_can_be_loaded(machine_id, event)
        loading = self._of(machine_id)
        if len(loading.items) >= _MOST_WAITING and not is_exempt:
            raise MailboxFull(
                f"{len(loading.items):,} events wait for {machine_id} to be loaded",
                machine_id=machine_id,
                event=event,
            )
        loading.items.append(envelope)
        return True

    def check_can_be_loaded(self, machine_id: str, event: object = None) -> None:
        """Refuse an id whose machine cannot be loaded.

        Raises:
            Quarantined: It was tried.
            SystemStopping: The system takes no more.
        """
        if machine_id in self.broken:
            raise Quarantined(
                f"{machine_id} is quarantined, because it cannot be loaded: {self.broken[machine_id]}; when that is "
                f"mended, `system.release({machine_id!r})` tries again",
                machine_id=machine_id,
                event=event,
            ) from self.broken[machine_id]
        if self._is_closed:
            raise SystemStopping("the system has stopped", machine_id=machine_id, event=event)

    async def ensure(self, machine_id: str) -> None:
        """Load a machine if it is stored and alive, but for one of the tree that its supervisor is to start.

        It may leave memory again, but for those who are `needing` it.

        Raises:
            Quarantined: It cannot be loaded.
        """
        if not self._is_awaited(machine_id):
            await self._find(machine_id)

    async def load_child(self, child: MachineChild) -> None:
        """Look for the machine of a child that is started: the child takes it, or one that is still to be born.

        Raises:
            Quarantined: It cannot be loaded.
            ActorFSMError: The journal cannot say.
        """
        self.check_can_be_loaded(child.name)
        waiter: Future[bool] = self._parts.loop.create_future()
        loading = self._of(child.name, is_started=True)
        loading.waiters.append(waiter)
        await waiter
        self.check_can_be_loaded(child.name)
        if loading.error is not None:
            raise loading.error

    def _is_awaited(self, machine_id: str) -> bool:
        """Return whether the machine stands in the tree, and its supervisor has not come to its start yet."""
        child = self._parts.registry.reserved.get(machine_id)
        return child is not None and child.is_awaited

    async def _find(self, machine_id: str) -> None:
        while machine_id not in self._parts.registry.actors:
            self.check_can_be_loaded(machine_id)
            is_alive = await self._loaded(machine_id)
            self.check_can_be_loaded(machine_id)
            if not is_alive:
                return

    def needing(self, machine_ids: Iterable[str]) -> AbstractContextManager[None]:
        """Keep machines in memory meanwhile, and those that are not alive as they are."""
        passivation = self._parts.passivation
        return nullcontext() if passivation is None else passivation.needing(machine_ids)

    async def ensure_all(self, machine_ids: Iterable[str]) -> None:
        """Load those that are stored and alive, beside each other; one that cannot be is found in `broken`."""
        known = self._parts.registry.actors.keys() | self.broken.keys()
        if not self._is_closed:
            for loaded in [
                self._loaded(machine_id)
                for machine_id in machine_ids
                if machine_id not in known and not self._is_awaited(machine_id)
            ]:
                await loaded

    def _loaded(self, machine_id: str) -> Future[bool]:
        """Return what is done when the machine has been looked for in the journal, begun now: whether it is alive."""
        waiter: Future[bool] = self._parts.loop.create_future()
        self._of(machine_id).waiters.append(waiter)
        return waiter

    async def was_spawned(
        self, kind: Kind, machine_id: str, event_id: str, data: Mapping[str, Any] | None
    ) -> bool:
        """Return whether the machine was spawned with this event id in an earlier life of the system.

        Raises:
            EventIdConflict: The id belongs to another event, or to a spawn with other data.
        """
        actor = self._parts.registry.actors.get(machine_id)
        if actor is not None and (
            actor.kind is not kind
            or (actor.track is not None and actor.track.knows_all_ids)
            or (actor.rare is not None and event_id in actor.rare.ids)
        ):
            return False
        recorded = await self._journal.lookup(machine_id, event_id)
        version = self._recording.entries.values(kind).lineage.version
        if recorded is not None and not (
            recorded.event_type == "Spawn" and is_spawned_with(kind, version, data or {}, recorded)
        ):
            raise EventIdConflict(
                f"{machine_id} knows the event id {event_id!r} as another {recorded.event_type}",
                machine_id=machine_id,
            )
        return recorded is not None

    def watch(self, actor: Actor, machine_ids: Iterable[str]) -> None:
        """Let a machine watch others, which are loaded first."""
        task = start_task(self._watch(actor, list(machine_ids)), self._parts.loop)
        self._parts.keep(task, f"the watches of {actor.id}")

    async def _watch(self, actor: Actor, machine_ids: list[str]) -> None:
        with self.needing([actor.id, *machine_ids]):
            for machine_id in machine_ids:
                try:
                    await self._find(machine_id)
                except ActorFSMError:
                    continue  # it cannot be loaded now, so nobody knows that it has ended
                track = actor.track
                if (
                    track is not None
                    and machine_id in track.watches
                    and actor.status != STOPPED
                    and not self._is_being_told(actor, machine_id)
                ):
                    self._parts.watches.begin(actor, machine_id)

    def _is_being_told(self, actor: Actor, machine_id: str) -> bool:
        """Return whether a machine handles the notice of an end just now: whoever watched before that is told by it."""
        return any(
            turn.actor is actor
            and isinstance(turn.envelope.event, Terminated)
            and turn.envelope.event.machine_id == machine_id
            for turn in self._parts.dispatcher.running_turns()
        )

    def incarnation_at_the_end(self, machine_id: str) -> int | None:
        """Return in which incarnation a machine has stopped, of which the journal has said so; otherwise None."""
        found = self._ended.get(machine_id)
        return None if found is None else found[1]

    def adopt(self, actor: Actor) -> None:
        """Take a machine that is about to be born; if its id was in use before, its entries go on."""
        seq, _ = self._ended.pop(actor.id, (0, 0))
        actor.track = Track(seq, knows_all_ids=seq == 0)

    def expire(self, envelope: Envelope) -> None:
        """Follow the deadline of an event whose machine is not yet loaded."""
        loading = self._loading.get(envelope.machine_id)
        if loading is None or envelope not in loading.items:
            return
        loading.items.remove(envelope)
        error = Expired(
            f"{envelope.machine_id} was not loaded when the deadline of {type(envelope.event).__name__} passed: it "
            "was removed, it is surely not done",
            machine_id=envelope.machine_id,
            event=envelope.event,
        )
        self._arrivals.turn_away(envelope, error)

    def close(self, error: ActorFSMError) -> None:
        """Load no more: the system is going down."""
        self._is_closed = True
        for machine_id in list(self._loading):
            self._end(machine_id, error)
        for item in self._backlog.close():
            self._arrivals.turn_away(item, error)
        if self._parts.passivation is not None:
            self._parts.passivation.close(error)

    def release(self, machine_id: str) -> bool:
        """Try again to load a machine, at its next event or for what was promised; return whether it could not be."""
        was_broken = self.broken.pop(machine_id, None) is not None
        child = self._parts.registry.reserved.get(machine_id)
        if was_broken and child is not None:
            child.released()
        elif was_broken and machine_id in self._backlog:
            self.wake(machine_id)
        return was_broken

    # -- loading --------------------------------------------------------------------------------------------------

    def _of(self, machine_id: str, *, is_started: bool = False) -> _Loading:
        """Return the loading of a machine, begun now if it was not; a machine of the tree is started first."""
        loading = self._loading.get(machine_id)
        if loading is None:
            loading = self._loading[machine_id] = _Loading()
            loading.items.extend(self._backlog.take(machine_id))
            loading.owed = sum(isinstance(item, Pending) for item in loading.items)
        if not loading.is_begun and (is_started or not self._is_awaited(machine_id)):
            loading.is_begun = True
            task = start_task(self._load(machine_id, loading), self._parts.loop)
            self._parts.keep(task, f"{machine_id}, which is being loaded")
        return loading

    async def _load(self, machine_id: str, loading: _Loading) -> None:
        try:
            await self._recording.writer.until_written(machine_id)
            loading.add_owed(await self._backlog.rest_of(machine_id))
            stored = await self._journal.load(machine_id)
            if machine_id not in self._loading:
                return  # the system is going down
            actor = None if stored is None else self._rehydration.actor_of(stored)
            child = self._parts.registry.reserved.get(machine_id)
            if actor is not None and child is not None and not (child.takes_back or child.is_awaited):
                actor.status = STOPPED  # its supervisor has given it up
            answers = await self._arrivals.answers_of_the_dead(actor, loading.items)
            self._finish(machine_id, loading, stored, actor, answers)
        except asyncio.CancelledError:
            self._end(machine_id, SystemStopping("the system stopped before the machine was loaded"))
            raise
        except (JournalCorrupt, InvalidData) as error:
            self.hold(machine_id, error)
        except ActorFSMError as error:
            self._end(machine_id, error)
        except Exception as error:  # noqa: BLE001 -- whatever it is, asks must not hang (C17)
            self._parts.on_failure(error)

    # -- from here on nothing else happens in between -------------------------------------------------------------

    def _finish(
        self,
        machine_id: str,
        loading: _Loading,
        stored: Stored | None,
        actor: Actor | None,
        answers: dict[str, Recorded],
    ) -> None:
        """Let the machine live, then let in what waits for it.

        Raises:
            InvalidData: Something of what was promised to it no longer validates.
        """
        has_stopped = stored is not None and stored.image.status == "stopped"
        child = self._parts.registry.reserved.get(machine_id)
        if child is not None and child.is_awaited and not child.takes_back:
            loading.is_begun = False  # its start was called off; there will be another
            return
        if child is None and machine_id in self._parts.registry.actors:
            stored = actor = (
                None  # it was born while the journal was asked, and what is stored is of that life
            )
        alive = actor if actor is not None and actor.status != STOPPED else None
        if child is not None and child.takes_back:
            alive = child.take_back(actor)
            alive.track = alive.track or Track(knows_all_ids=True)
        counts = counts_of(loading.items)
        events, own = self._rehydration.events_of(loading.items, alive, counts)
        if alive is not None:
            self._rehydration.revive_jobs(alive, loading.items)
        self._loading.pop(machine_id, None)
        if alive is not None:
            self._arrivals.settle_in(alive, own, events)
        elif stored is not None:
            self._ended[machine_id] = stored.head.seq, stored.image.incarnation
        if alive is None and has_stopped:
            self._arrivals.end_own(own)
        self._settle_rest(alive, loading.items, counts)
        dead = actor if alive is None else None
        self._arrivals.let_in(machine_id, events, dead, answers)
        if alive is not None and alive.status not in {PAUSED, QUARANTINED}:
            jobs.resume(alive)
        self._rehydration.revive_hooks(actor or alive, loading.items)
        _wake(loading.waiters, is_alive=machine_id in self._parts.registry.actors)

    def _settle_rest(self, actor: Actor | None, items: Iterable[Item], counts: Counts) -> None:
        """Settle what is pending for a machine and of no use any more."""
        wakes = [item.key for item in items if isinstance(item, Pending) and item.kind == "wake"]
        if wakes:
            self._recording.woken(actor, wakes)
        if counts:
            self._recording.settled(tuple(key for keys in counts.values() for key in keys))

    def _end(self, machine_id: str, error: ActorFSMError) -> None:
        """End the loading of a machine without it; what is promised waits for a later try, or for the release."""
        loading = self._loading.pop(machine_id, None)
        if loading is not None:
            loading.error = error
            is_tried_again = isinstance(error, JournalError) and not self._is_closed
            is_held = isinstance(error, Quarantined) and not self._is_closed
            for item in loading.items:
                stays = (
                    is_tried_again or is_held
                    if isinstance(item, Pending)
                    else is_tried_again and item.promise
                )
                if stays:
                    self._backlog.put_back(machine_id, item)
                else:
                    self._arrivals.turn_away(item, error)
            if not self._is_closed and (loading.is_due or machine_id in self._backlog):
                self._parts.timers.call_later(_RETRY_S, self.wake, machine_id)
            _wake(loading.waiters, is_alive=False)

    def hold(self, machine_id: str, error: ActorFSMError) -> None:
        """Hold a machine that cannot be loaded; an operator is told, and the others run."""
        parts = self._parts
        if machine_id in parts.registry.reserved:
            parts.registry.reserved[machine_id].is_awaited = False
        self.broken[machine_id] = error
        parts.counters.quarantines += 1
        if parts.sinks:
            parts.emit_outside(
                Record("quarantined", "", machine_id, reason=f"cannot be loaded: {error}", error=error)
            )
        if parts.on_quarantine is not None:
            parts.on_quarantine(machine_id, error)
        refusal = Quarantined(
            f"{machine_id} is quarantined, because it cannot be loaded: {error}", machine_id=machine_id
        )
        refusal.__cause__ = error
        self._end(machine_id, refusal)


def _wake(waiters: list[Future[bool]], *, is_alive: bool) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(is_alive)
