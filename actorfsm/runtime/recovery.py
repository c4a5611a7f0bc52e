"""Recovery: machines come back from the journal, each at its first event; what it brings waits behind it, in order.

Recovery runs no user code: it makes an actor of what is stored. What was promised and not done is delivered at the
start, before anything new; a machine with a timer is loaded when that is due. A machine of which something cannot be
read is held, and the others run (C23, C27).
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import nullcontext
from itertools import groupby
from typing import TYPE_CHECKING, Final, TypeAlias

from actorfsm.errors import (
    ActorFSMError,
    EventIdConflict,
    Expired,
    InvalidData,
    JournalCorrupt,
    JournalError,
    MachineStopped,
    MailboxFull,
    Quarantined,
    SystemStopping,
)
from actorfsm.event import Terminated
from actorfsm.journal.entry import Pending
from actorfsm.machine.timers import TimerScope
from actorfsm.runtime import jobs, perform
from actorfsm.runtime.actor import IDLE, PAUSED, QUARANTINED, STOPPED, SUSPENDED, Actor
from actorfsm.runtime.agenda import Agenda
from actorfsm.runtime.dynamic_supervisor import is_spawned, rare_of
from actorfsm.runtime.envelope import Envelope
from actorfsm.runtime.mailbox import Mailbox
from actorfsm.runtime.reply import refuse, tell_accepted
from actorfsm.runtime.stored_jobs import read_note
from actorfsm.runtime.tasks import start_task
from actorfsm.runtime.timers import Timer
from actorfsm.runtime.track import NOT_STORED, Track, time_of_day
from actorfsm.trace import Record

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from actorfsm.journal.entry import Message, Recorded, Status
    from actorfsm.journal.protocol import Journal, Stored
    from actorfsm.runtime.kind import Kind
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.recording import Recording
    from actorfsm.runtime.supervised import MachineChild

__all__ = ["Recovery"]

_MOST_WAITING: Final = 10_000
"""So many events wait for one machine to be loaded."""
_RETRY_S: Final = 1.0
"""After so long a machine is loaded that has to be and could not be read."""

Item: TypeAlias = Envelope | Pending
_NO_EVENTS: Final = frozenset({"hook", "job", "wake"})
"""What is pending and no event to deliver."""


class _Loading:
    """A machine that is being loaded: what waits for it, in order of arrival, and who."""

    __slots__ = ("error", "is_begun", "is_due", "items", "waiters")

    def __init__(self) -> None:
        self.items: deque[Item] = deque()
        self.waiters: list[Future[bool]] = []
        self.is_begun = False
        """Whether the journal was asked. A machine of the tree waits until its supervisor starts it."""
        self.is_due = False
        """Whether a timer of it is due, so that it has to be loaded, now or later."""
        self.error: ActorFSMError | None = None
        """Why it ended without the machine."""


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
        self._kinds = list(parts.registry.kinds.values())
        self._loading: dict[str, _Loading] = {}
        self._owed: dict[str, list[Item]] = {}
        """What earlier lives of the system have promised, for machines that are not loaded yet."""
        self._arriving: str | None = None
        """The id whose events come in now: if it is not alive, there is nothing to load."""
        self._ended: dict[str, tuple[int, int]] = {}
        """Last entry and incarnation of machines that have stopped, until they are born anew."""
        self._is_closed = False
        self.broken: dict[str, ActorFSMError] = {}
        self.agenda: Final = Agenda(parts, journal, self)

    # -- the start ------------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Find out what was promised: when a machine is loaded, that comes first."""
        place = 0
        while True:
            try:
                page = await self._journal.pending(after=place)
            except JournalCorrupt as error:
                if error.machine_id is None or error.place is None:
                    raise
                place = error.place
                self.hold(error.machine_id, error)
                continue
            if not page:
                return
            for _, pending in page:
                self._owed.setdefault(pending.machine_id, []).append(pending)
            place = page[-1].place

    async def begin(self) -> None:
        """Deliver what was promised, let timers run, and show which machines are held."""
        for machine_id in [owed for owed in self._owed if owed not in self.broken]:
            self._of(machine_id)
        await self._wake_all("quarantined")
        await self._wake_all("suspended")
        await self.agenda.read()

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
        if machine_id == self._arriving or (self._is_awaited(machine_id) and not is_exempt):
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

    async def was_spawned(self, machine_id: str, event_id: str) -> bool:
        """Return whether the machine was spawned with this event id in an earlier life of the system.

        Raises:
            EventIdConflict: The id belongs to another event.
        """
        actor = self._parts.registry.actors.get(machine_id)
        if actor is not None and (
            (actor.track is not None and actor.track.knows_all_ids)
            or (actor.rare is not None and event_id in actor.rare.ids)
        ):
            return False
        recorded = await self._journal.lookup(machine_id, event_id)
        if recorded is not None and recorded.event_type != "Spawn":
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
        self._turn_away(envelope, error)

    def close(self, error: ActorFSMError) -> None:
        """Load no more: the system is going down."""
        self._is_closed = True
        for machine_id in list(self._loading):
            self._end(machine_id, error)
        for item in [item for owed in self._owed.values() for item in owed]:
            self._turn_away(item, error)
        if self._parts.passivation is not None:
            self._parts.passivation.close(error)

    def release(self, machine_id: str) -> bool:
        """Try again to load a machine at its next event; return whether it could not be."""
        was_broken = self.broken.pop(machine_id, None) is not None
        child = self._parts.registry.reserved.get(machine_id)
        if was_broken and child is not None:
            child.released()
        return was_broken

    # -- loading --------------------------------------------------------------------------------------------------

    def _of(self, machine_id: str, *, is_started: bool = False) -> _Loading:
        """Return the loading of a machine, begun now if it was not; a machine of the tree is started first."""
        loading = self._loading.get(machine_id)
        if loading is None:
            loading = self._loading[machine_id] = _Loading()
            loading.items.extend(self._owed.pop(machine_id, ()))
        if not loading.is_begun and (is_started or not self._is_awaited(machine_id)):
            loading.is_begun = True
            task = start_task(self._load(machine_id, loading), self._parts.loop)
            self._parts.keep(task, f"{machine_id}, which is being loaded")
        return loading

    async def _load(self, machine_id: str, loading: _Loading) -> None:
        try:
            await self._recording.writer.until_written(machine_id)
            stored = await self._journal.load(machine_id)
            if machine_id not in self._loading:
                return  # the system is going down
            actor = None if stored is None else self._revived(stored)
            child = self._parts.registry.reserved.get(machine_id)
            if actor is not None and child is not None and not (child.takes_back or child.is_awaited):
                actor.status = STOPPED  # its supervisor has given it up
            answers = await self._answers_of_the_dead(actor, loading)
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

    def _revived(self, stored: Stored) -> Actor:
        """Return the actor that a machine's entries have left; it is not alive if they have ended.

        Raises:
            SchemaMismatch: Its class is not there, or something of it does not fit what the code has now.
        """
        image = stored.image
        kind, values = self._recording.entries.reader_of(image)
        child = self._parts.registry.reserved.get(image.machine_id)
        if child is not None and child.kind is not kind:
            raise InvalidData(
                f"{image.machine_id} is stored as a {kind.name}, and the tree has it as a {child.kind.name}: give "
                "one of them another id",
                machine_id=image.machine_id,
            )
        actor = Actor(kind, image.machine_id, *values.machine(image))
        actor.seq, actor.incarnation = image.commits, image.incarnation
        actor.track = track = Track(image.seq, image.status)
        track.snapshot_seq = stored.snapshot_seq
        track.is_outdated = values.is_outdated(image)
        track.watches = dict.fromkeys(image.watches)
        if image.status == "quarantined":
            actor.status = QUARANTINED
            rare_of(actor)
        elif image.status == "suspended":
            actor.status, rare_of(actor).suspended = SUSPENDED, True
        elif image.status == "stopped":
            actor.status = STOPPED
        for name, stored_timer in image.timers.items():
            timer = values.timer(stored_timer, actor.node)
            if timer is None or timer.name != name:
                track.timers_given_up += (name,)
            if timer is not None:
                origin = self._envelope(kind, actor.id, timer.message)
                revived = Timer(
                    actor, timer.name, TimerScope[timer.scope], origin, None, time_of_day(timer.due_us)
                )
                revived.failures, revived.due_us = timer.failures, timer.due_us
                track.timers[timer.name] = (revived, timer.failures if timer.name == name else NOT_STORED)
        if image.postponed:
            self._put_aside(actor, image.postponed)
        return actor

    def _put_aside(self, actor: Actor, postponed: Iterable[Message]) -> None:
        """Let what was postponed wait again; what waits already in this life of the system goes on waiting."""
        passivation = self._parts.passivation
        waiting = {} if passivation is None else passivation.waiting_for(actor.id)
        actor.mailbox = mailbox = Mailbox()
        for message in postponed:
            envelope = waiting.pop(message.event_id, None)
            if envelope is not None:
                envelope.actor = actor
                mailbox.postpone(envelope)
                continue
            envelope = self._envelope(actor.kind, actor.id, message)
            envelope.actor, envelope.accepted, envelope.is_put_aside = actor, True, True
            # The definition may have changed since: it is tried again, and waits again if it has to.
            mailbox.released = mailbox.released or deque()
            mailbox.released.append(envelope)

    def _envelope(
        self, kind: Kind, machine_id: str, message: Message, *, is_arriving: bool = False
    ) -> Envelope:
        where = f"event {message.event_id} for {machine_id}"
        values = self._recording.entries.values(kind)
        event = (values.arriving if is_arriving else values.event)(message.event, where)
        envelope = Envelope(event, machine_id, self._parts.ids.next_number(), self._parts.time())
        envelope.event_id, envelope.has_own_id = message.event_id, message.has_own_id
        envelope.causation_id, envelope.correlation_id = message.causation_id, message.correlation_id
        envelope.headers = dict(message.headers) or None
        envelope.reply_to, envelope.attempt = message.reply_to, message.attempt
        envelope.machine_name = kind.name
        envelope.keeps_settlement = True
        return envelope

    async def _answers_of_the_dead(self, actor: Actor | None, loading: _Loading) -> dict[str, Recorded]:
        """Return what a machine that has stopped answered to the event ids that are asked for again."""
        known: dict[str, Recorded] = {}
        if actor is None or actor.status != STOPPED:
            return known
        asked: set[str] = set()
        while (
            left := {
                item.event_id for item in loading.items if isinstance(item, Envelope) and item.has_own_id
            }
            - asked
        ):
            event_id = left.pop()
            asked.add(event_id)
            recorded = await self._journal.lookup(actor.id, event_id)
            if recorded is not None:
                known[event_id] = recorded
        return known

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
        arrivals = [
            (self._promised(item, alive), item.kind == "own") if isinstance(item, Pending) else (item, False)
            for item in loading.items
            if not (isinstance(item, Pending) and item.kind in _NO_EVENTS)
            and not self._is_put_aside(item, alive)
        ]
        if alive is not None:
            self._revive_jobs(alive, loading.items)
        self._loading.pop(machine_id, None)
        events = [envelope for envelope, is_own in arrivals if not is_own]
        own = [envelope for envelope, is_own in arrivals if is_own]
        if alive is not None:
            self._settle_in(alive, own, events)
        elif stored is not None:
            self._ended[machine_id] = stored.head.seq, stored.image.incarnation
        if alive is None and has_stopped:
            self._end_own(own)
        if wakes := [item.key for item in loading.items if isinstance(item, Pending) and item.kind == "wake"]:
            self._recording.woken(alive, wakes)
        self._arriving = machine_id
        try:
            for envelope in events:
                if alive is None and actor is not None and envelope.event_id in answers:
                    self._answer_for_the_dead(actor, envelope, answers[envelope.event_id])
                else:
                    self._arrive(envelope)
        finally:
            self._arriving = None
        if alive is not None and alive.status not in {PAUSED, QUARANTINED}:
            jobs.resume(alive)
        self._revive_hooks(actor or alive, loading.items)
        _wake(loading.waiters, is_alive=machine_id in self._parts.registry.actors)

    def _revive_jobs(self, actor: Actor, items: Iterable[Item]) -> None:
        """Give a machine the jobs that were promised.

        Raises:
            InvalidData: Something that one needs is not there.
        """
        kind, track = actor.kind, actor.track
        assert track is not None  # noqa: S101 -- it was revived
        events = self._recording.entries.values(kind).event_classes()
        for item in items:
            if isinstance(item, Pending) and _is_job(item):
                stored = read_note(item.note, self._parts.services, events)
                jobs.revive(actor, self._envelope(kind, actor.id, item.message), item.key, stored)
                track.jobs[item.key] = None

    def _revive_hooks(self, actor: Actor | None, items: Iterable[Item]) -> None:
        """Run the after-hooks that were promised, also those of a machine that has stopped."""
        for item in items:
            if actor is not None and isinstance(item, Pending) and _is_hook(item):
                self._parts.hooks.revive(actor, item, self._envelope)

    def _promised(self, pending: Pending, actor: Actor | None) -> Envelope:
        """Return a promised message as an envelope.

        Raises:
            InvalidData: Nobody takes it.
        """
        kinds = self._kinds if actor is None else [actor.kind]
        takers = [kind for kind in kinds if self._recording.entries.values(kind).takes(pending.message.event)]
        kind = (takers or kinds)[0]
        envelope = self._envelope(kind, pending.machine_id, pending.message, is_arriving=True)
        envelope.machine_name = "" if actor is None else kind.name
        envelope.promise = pending.key
        envelope.own_depth = int(pending.note or 0)
        return envelope

    def _is_put_aside(self, item: Item, actor: Actor | None) -> bool:
        """Return whether the machine has a promised event already, since it failed there: its outcome settles that."""
        if actor is None or actor.mailbox is None or not isinstance(item, Pending):
            return False
        for envelope in actor.mailbox.released or ():
            if (
                envelope.event_id == item.message.event_id
                and self._promised(item, actor).event == envelope.event
            ):
                envelope.promise = item.key
                return True
        return False

    def _end_own(self, own: Iterable[Envelope]) -> None:
        """End what a machine has raised itself and did not come to before it stopped."""
        for envelope in own:
            what = type(envelope.event).__name__
            error = MachineStopped(
                f"{envelope.machine_id} stopped before it came to {what}",
                machine_id=envelope.machine_id,
                event=envelope.event,
            )
            self._parts.counters.accepted += 1
            self._parts.counters.outgoing += 1
            envelope.outgoing = True
            self._parts.admission.return_to_sender(envelope, error)

    def _settle_in(self, actor: Actor, own: list[Envelope], arriving: list[Envelope]) -> None:
        parts, track = self._parts, actor.track
        assert track is not None  # noqa: S101 -- it was revived
        parts.registry.actors[actor.id] = actor
        if is_spawned(actor):
            actor.kind.supervisor.take_back(actor)
        if own:
            actor.mailbox = actor.mailbox or Mailbox()
            actor.mailbox.own = deque(_as_raised(own))
            for envelope in own:
                envelope.actor, envelope.accepted = actor, True
        mailbox = actor.mailbox
        if mailbox is not None:
            parts.counters.accepted += mailbox.waiting
            for envelope in (*(mailbox.released or ()), *(mailbox.postponed or ())):
                if envelope.has_own_id:
                    rare_of(actor).remember(envelope, actor.kind.options.remembered_ids)
            if actor.status == IDLE and mailbox.waiting:
                parts.dispatcher.make_ready(actor)
        timers = [timer for timer, _ in track.timers.values()]
        actor.timers = {timer.name: timer for timer in timers} or None
        for timer in sorted(timers, key=_due_at):
            timer.arm()
        self._go_on_watching(actor, track, arriving)
        if parts.passivation is not None:
            parts.passivation.came_back(actor.id)

    def _go_on_watching(self, actor: Actor, track: Track, arriving: list[Envelope]) -> None:
        """Let a machine watch what it watched. While it was away its watches went on: what has ended arrives."""
        told = [envelope.event.machine_id for envelope in arriving if isinstance(envelope.event, Terminated)]
        goes_on = {*self._parts.watches.by(actor.id), *told}
        unknown = [machine_id for machine_id in track.watches if machine_id not in goes_on]
        if unknown:
            self.watch(actor, unknown)

    def _arrive(self, envelope: Envelope) -> None:
        """Let in what has waited."""
        parts = self._parts
        if (
            envelope.promise is not None and not envelope.outgoing
        ):  # it comes from an earlier life of the system
            parts.admission.deliver(envelope)
            return
        try:
            parts.admission.accept(envelope)
        except ActorFSMError as error:
            self._turn_away(envelope, error)
        else:
            if envelope.accepted:
                tell_accepted(envelope)

    def _answer_for_the_dead(self, actor: Actor, envelope: Envelope, recorded: Recorded) -> None:
        counters = self._parts.counters
        try:
            settlement = self._recording.settlement_of(actor, envelope, recorded)
        except ActorFSMError as error:
            self._turn_away(envelope, error)
            return
        if envelope.promise is None:
            counters.accepted += 1
        envelope.actor, envelope.accepted = actor, True
        perform.settle_duplicate(actor, envelope, settlement)

    def _turn_away(self, item: Item, error: ActorFSMError) -> None:
        if isinstance(item, Pending):
            return  # the journal keeps it
        admission, counters = self._parts.admission, self._parts.counters
        if isinstance(error, Quarantined | InvalidData):
            item.promise = None  # the journal keeps it until the machine can be loaded
        if item.outgoing:
            admission.return_to_sender(item, error)
        elif item.is_ask:
            counters.refused += 1
            refuse(item, error)
        else:
            admission.refuse(item, error)

    def _end(self, machine_id: str, error: ActorFSMError) -> None:
        """End the loading of a machine without it; if it cannot be read now, what is promised waits for a later try."""
        loading = self._loading.pop(machine_id, None)
        if loading is not None:
            loading.error = error
            is_tried_again = isinstance(error, JournalError) and not self._is_closed
            for item in loading.items:
                if is_tried_again and (isinstance(item, Pending) or item.promise is not None):
                    self._owed.setdefault(machine_id, []).append(item)
                else:
                    self._turn_away(item, error)
            if not self._is_closed and (loading.is_due or machine_id in self._owed):
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


def _is_hook(item: Item) -> bool:
    return isinstance(item, Pending) and item.kind == "hook"


def _is_job(item: Item) -> bool:
    return isinstance(item, Pending) and item.kind == "job"


def _as_raised(own: Sequence[Envelope]) -> Iterable[Envelope]:
    """Yield own events in the order in which they were to be handled: the newest turn's first, each in its order."""
    turns = [list(group) for _, group in groupby(own, key=lambda envelope: envelope.causation_id)]
    for group in reversed(turns):
        yield from group


def _due_at(timer: Timer) -> datetime:
    assert timer.at is not None  # noqa: S101 -- it was revived
    return timer.at


def _wake(waiters: list[Future[bool]], *, is_alive: bool) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(is_alive)
