"""Recording: what a turn comes to, and what else befalls a machine, as entries of the journal.

A commit waits here until its entry is stored. What else is recorded waits in the machine's line: it is stored in order,
with the next commit at the latest, and until it is the journal says what was true before, so that after a crash it is
done again. The journal refuses an entry that is not the next of its machine; so each machine has one batch on its way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from actorfsm.errors import (
    ActorFSMError,
    EventIdConflict,
    Fenced,
    JournalError,
    NotStored,
    OutcomeUnknown,
    SystemFailed,
    SystemStopping,
)
from actorfsm.event import Terminated
from actorfsm.journal.codec import fingerprint_of
from actorfsm.journal.entry import (
    Answer,
    Batch,
    DeadMessage,
    Entry,
    Message,
    Pending,
    StoredTimer,
)
from actorfsm.runtime import perform, timers
from actorfsm.runtime.envelope import Settlement
from actorfsm.runtime.stored_values import StoredValues, event_payload
from actorfsm.runtime.tasks import start_task

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Iterable

    from actorfsm.event import OutcomeKind
    from actorfsm.journal.entry import EntryKind, Recorded, State, Status
    from actorfsm.journal.protocol import Journal
    from actorfsm.machine.definition import Transition
    from actorfsm.runtime.actor import Actor
    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.kind import Kind
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.timers import Timer
    from actorfsm.runtime.turn import Turn

__all__ = ["Recording", "Track", "microseconds", "time_of_day"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_RETRY_S: Final = 1.0
"""How long what could not be stored waits before it is tried again."""
_ASK_AGAIN_S: Final = 0.1
"""How long it takes to ask the journal again whether something is stored."""


def microseconds(when: datetime) -> int:
    """Return a time as the journal has it."""
    return (when - _EPOCH) // _MICROSECOND


def time_of_day(at_us: int) -> datetime:
    """Return a time of the journal."""
    return _EPOCH + at_us * _MICROSECOND


class _Line:
    """An entry on its way; a commit has an answer that its turn waits for."""

    __slots__ = ("answer", "dead", "entry", "envelope")

    def __init__(
        self,
        entry: Entry,
        dead: tuple[DeadMessage, ...] = (),
        answer: Future[None] | None = None,
        envelope: Envelope | None = None,
    ) -> None:
        self.entry = entry
        self.dead = dead
        self.answer = answer
        self.envelope = envelope


class Track:
    """Where a machine stands in the journal.

    Attributes:
        seq: Number of its last entry that is stored.
        status: As its last entry in the line has it.
        timers: Its timers as that entry leaves them: each with how often it had failed.
        lines: Entries that wait to be stored.
        watches: The ids that it watches, likewise.
        is_writing: Whether a batch of it is on its way.
        knows_all_ids: Whether all event ids that were applied to it are in memory.
    """

    __slots__ = ("is_writing", "knows_all_ids", "lines", "seq", "status", "timers", "watches")

    def __init__(self, seq: int = 0, status: Status = "alive", *, knows_all_ids: bool = False) -> None:
        self.seq = seq
        self.status: Status = status
        self.timers: dict[str, tuple[Timer, int]] = {}
        self.watches: dict[str, None] = {}
        self.lines: deque[_Line] = deque()
        self.is_writing = False
        self.knows_all_ids = knows_all_ids


class Recording:
    """Writes what happens in one system into its journal."""

    def __init__(self, parts: Parts, journal: Journal, kinds: Iterable[Kind]) -> None:
        self._parts = parts
        self._journal = journal
        self._values: Final = {kind: StoredValues(kind) for kind in kinds}
        self._unfinished: dict[str, Track] = {}
        """The machines of which something is not stored yet, by id."""
        self._waiters: list[Future[None]] = []
        self.is_closing = False

    def values(self, kind: Kind) -> StoredValues:
        """Return how the values of a class are stored."""
        return self._values[kind]

    # -- in a turn ------------------------------------------------------------------------------------------------

    async def is_done(self, turn: Turn) -> bool:
        """Return whether the event was applied to the machine in an earlier life of the system; then it is answered.

        Raises:
            NotWritten: What is recorded cannot be read, or is another event.
        """
        actor, envelope = turn.actor, turn.envelope
        track, rare = actor.track, actor.rare
        if not envelope.has_own_id or track is None or rare is None:
            return False
        if len(rare.ids) >= actor.kind.options.remembered_ids:
            track.knows_all_ids = False
        if track.knows_all_ids:
            return False
        turn.is_committing = True
        try:
            recorded = await _to_the_end(self._journal.lookup(actor.id, envelope.event_id), self._parts)
            if recorded is None:
                return False
            settlement = self.settlement_of(actor, envelope, recorded)
        except ActorFSMError as error:
            raise perform.NotWritten(error) from None
        finally:
            turn.is_committing = False
        turn.close()
        perform.settle_duplicate(actor, envelope, settlement)
        if actor.node.parent is None:
            actor.kind.supervisor.birth_failed(actor)
        return True

    def settlement_of(self, actor: Actor, envelope: Envelope, recorded: Recorded) -> Settlement:
        """Return how an event ended that was applied before.

        Raises:
            EventIdConflict: It was another event.
            InvalidData: Its reply no longer validates.
        """
        values, answer = self._values[actor.kind], recorded.answer
        given = event_payload(envelope.event)
        is_same = (
            fingerprint_of(given) == recorded.fingerprint
            if recorded.event is None
            else (given.type, given.json) == (recorded.event.type, recorded.event.json)
        )
        if not is_same:
            raise EventIdConflict(
                f"{actor.id} knows the event id {envelope.event_id!r} as another {recorded.event_type}",
                machine_id=actor.id,
                event=envelope.event,
            )
        return Settlement(
            cast("OutcomeKind", answer.kind),  # only outcomes have answers
            values.node(answer.old).member if answer.old else None,
            values.node(answer.new).member if answer.new else None,
            values.reply(envelope.event, answer.reply),
            None,
            answer.reason,
            answer.commits,
            duplicate=True,
        )

    async def commit(self, turn: Turn, choice: Transition, data: dict[str, Any], reply: Any) -> None:
        """Store the commit of a turn, and return when it is stored: a cancel meanwhile waits for that (C2).

        Raises:
            NotWritten: It is not stored, or nobody can say.
            InvalidData: Data, event or reply would not come back as they were.
        """
        actor = turn.actor
        if self._parts.dispatcher.is_closed:
            # Its timers are cancelled here already, and in the journal they shall not be.
            raise perform.NotWritten(
                SystemStopping("the system stopped before the commit", machine_id=actor.id)
            )
        turn.timers = table = timers.left_by(turn, choice)
        entry = self._commit_entry(turn, choice, data, reply, table)
        track = self._track(actor)
        answer: Future[None] = self._parts.loop.create_future()
        track.lines.append(_Line(entry, answer=answer, envelope=turn.envelope))
        status_before, track.status = track.status, entry.status
        turn.is_committing = True
        try:
            self._write(actor.id, track)
            await _settled(answer)
        except JournalError as error:
            track.status = status_before
            raise perform.NotWritten(error) from None
        finally:
            turn.is_committing = False
        track.timers = {name: (timer, timer.failures) for name, timer in table.items()}
        _follow_watches(track, entry)

    def _commit_entry(
        self, turn: Turn, choice: Transition, data: dict[str, Any], reply: Any, table: dict[str, Timer]
    ) -> Entry:
        actor, envelope = turn.actor, turn.envelope
        values, track = self._values[actor.kind], self._track(actor)
        old = (choice.source.name,) if choice.source.parent is not None else ()
        target = (choice.target.name,)
        promises = [self._promise(own, "own") for own in turn.own_events or ()]
        promises += [self._promise(sent, "event") for sent in turn.outgoing or ()]
        answer = None
        if envelope.has_own_id:
            answer = Answer(
                kind="committed",
                old=old,
                new=target,
                reply=values.reply_payload(envelope.event, reply),
                commits=actor.seq + 1,
            )
        status: Status = "finished" if choice.target.final else "alive"
        if turn.stops_machine and (actor.mailbox is None or not actor.mailbox.postponed):
            status = "stopped"  # otherwise what is postponed has its end first
        watching = self._watching(turn)
        timers_set, timers_ended = self._timers(actor, track, table)
        return Entry(
            machine_id=actor.id,
            machine=actor.kind.name,
            seq=0,
            kind="committed",
            at_us=self._now_us(),
            incarnation=actor.incarnation,
            commits=actor.seq + 1,
            status=status,
            definition=values.definition,
            message=self.message(envelope),
            source=old,
            target=target,
            data=None if data is actor.data and not choice.is_birth else values.data_payload(data),
            answer=answer,
            timers_set=timers_set,
            timers_ended=timers_ended,
            promises=tuple(promises),
            settles=_settles(envelope),
            watches=tuple(watched for watched, begins in watching.items() if begins),
            unwatches=tuple(watched for watched, begins in watching.items() if not begins),
        )

    def _promise(self, envelope: Envelope, kind: Any) -> Pending:
        # The number is unique for every owner of the journal.
        key = envelope.promise = f"{envelope.machine_id}/{self._parts.ids.text(envelope.number)}"
        return Pending(
            key=key,
            kind=kind,
            machine_id=envelope.machine_id,
            message=self.message(envelope),
            note=str(envelope.own_depth) if envelope.own_depth else "",
        )

    def _watching(self, turn: Turn) -> dict[str, bool]:
        event = turn.envelope.event
        watching: dict[str, bool] = {}
        if isinstance(event, Terminated):
            watching[event.machine_id] = False
        watching.update(turn.watching or ())
        return watching

    def message(self, envelope: Envelope) -> Message:
        """Return an event on its way, as it is stored.

        Raises:
            InvalidData: It would not come back as it was.
        """
        return Message(
            event=event_payload(envelope.event if envelope.as_sent is None else envelope.as_sent),
            event_id=self._parts.event_id(envelope),
            causation_id=envelope.causation_id,
            correlation_id=envelope.correlation_id,
            headers=tuple((envelope.headers or {}).items()),
            reply_to=envelope.reply_to,
            attempt=envelope.attempt,
            has_own_id=envelope.has_own_id,
        )

    # -- what is recorded without a commit ------------------------------------------------------------------------

    def postponed(self, actor: Actor, envelope: Envelope) -> None:
        """Record that an event waits for a change of state; if it came by a promise, that is kept now."""
        if not envelope.is_put_aside and not self._parts.dispatcher.is_closed:
            self._add(actor, "postponed", envelope)
            envelope.is_put_aside, envelope.keeps_settlement = True, True
            envelope.promise = None

    def ended(self, actor: Actor, envelope: Envelope, settlement: Settlement) -> None:
        """Record the outcome of an event that was promised, if no commit has done so."""
        if settlement.kind == "committed" and not settlement.duplicate:
            return
        if not (envelope.promise or envelope.is_put_aside or envelope.timer or _is_notice(envelope)):
            return
        is_kept = isinstance(settlement.error, SystemStopping | SystemFailed | JournalError)
        if is_kept or settlement.reason == "interrupted" or self._parts.dispatcher.is_closed:
            return  # the journal keeps it for the next system
        dead: tuple[DeadMessage, ...] = ()
        if settlement.kind == "dead_lettered" and not settlement.duplicate:
            dead = (self._dead(envelope, settlement.reason),)
        if settlement.duplicate or actor.node.parent is None or self._track(actor).status == "stopped":
            self._settle(envelope, dead)
        else:
            # Its event id may try again, as without a journal: the entry has no answer.
            self._add(actor, settlement.kind, envelope, dead=dead)
        envelope.promise, envelope.is_put_aside = None, False

    def undelivered(self, envelope: Envelope, error: ActorFSMError) -> None:
        """Record that a promised message reaches nobody."""
        if envelope.promise and not isinstance(error, SystemStopping | SystemFailed | JournalError):
            self._settle(envelope, (self._dead(envelope, str(error)),))
            envelope.promise = None

    def befell(self, actor: Actor, kind: EntryKind, status: Status | None = None) -> None:
        """Record what befell a machine: a restart, quarantine, release or stop."""
        track = actor.track
        if track is None or actor.node.parent is None or (status == "stopped" == track.status):
            return
        self._add(actor, kind, None, status=status)

    def timers_ended(self, actor: Actor) -> None:
        """Record timers that died with an event of which there is no entry."""
        if actor.track is not None and actor.track.timers.keys() != (actor.timers or {}).keys():
            self._add(actor, "unhandled", None)

    def _dead(self, envelope: Envelope, reason: str) -> DeadMessage:
        return DeadMessage(
            machine_id=envelope.machine_id,
            message=self.message(envelope),
            reason=reason,
            at_us=self._now_us(),
        )

    def _add(
        self,
        actor: Actor,
        kind: EntryKind,
        envelope: Envelope | None,
        *,
        status: Status | None = None,
        dead: tuple[DeadMessage, ...] = (),
    ) -> None:
        if self._parts.dispatcher.is_closed:
            return  # the system goes down, and what ends with it goes on in the next
        track, values = self._track(actor), self._values[actor.kind]
        if status is not None:
            track.status = status
        table = {} if track.status == "stopped" else actor.timers or {}
        timers_set, timers_ended = self._timers(actor, track, table)
        track.timers = {name: (timer, timer.failures) for name, timer in table.items()}
        state: State = (actor.node.name,)
        entry = Entry(
            machine_id=actor.id,
            machine=actor.kind.name,
            seq=0,
            kind=kind,
            at_us=self._now_us(),
            incarnation=actor.incarnation,
            commits=actor.seq,
            status=track.status,
            definition=values.definition,
            message=None if envelope is None else self.message(envelope),
            source=state,
            target=state,
            timers_set=timers_set,
            timers_ended=timers_ended,
            settles=() if envelope is None else _settles(envelope),
            unwatches=tuple(track.watches) if kind == "stopped" else _notice_of(envelope),
        )
        _follow_watches(track, entry)
        track.lines.append(_Line(entry, dead))
        self._write(actor.id, track)

    def _settle(self, envelope: Envelope, dead: tuple[DeadMessage, ...]) -> None:
        """Say that something promised is done, without an entry."""
        self._hand_in(Batch(settled=_settles(envelope), dead=dead))

    def _hand_in(self, batch: Batch) -> None:
        if not self.is_closing:
            future = self._journal.append(batch)
            future.add_done_callback(partial(self._handed_in, batch), context=Context())

    def _handed_in(self, batch: Batch, future: Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        if isinstance(error, Fenced):
            self._parts.on_failure(error)
        elif isinstance(error, NotStored) and not self.is_closing:
            self._parts.timers.call_later(_RETRY_S, self._hand_in, batch)

    # -- timers ---------------------------------------------------------------------------------------------------

    def _timers(
        self, actor: Actor, track: Track, table: dict[str, Timer]
    ) -> tuple[tuple[StoredTimer, ...], tuple[str, ...]]:
        """Return what an entry has to say of the timers: those that are new or armed again, and those that ended."""
        if not table and not track.timers:
            return (), ()
        known = track.timers
        started = tuple(
            self._stored_timer(actor, timer)
            for name, timer in table.items()
            if known.get(name) != (timer, timer.failures)
        )
        return started, tuple(name for name in known if name not in table)

    def _stored_timer(self, actor: Actor, timer: Timer) -> StoredTimer:
        now, loop = self._parts.clock.now(), self._parts.loop
        if timer.key:
            due = now + timedelta(seconds=max(0.0, timer.due - loop.time()))
        elif timer.envelope is not None:
            due = now
        elif timer.after_s is not None:
            due = now + timedelta(seconds=timer.after_s)
        else:
            assert timer.at is not None  # noqa: S101 -- one of the two is given
            due = timer.at
        return StoredTimer(
            machine_id=actor.id,
            name=timer.name,
            due_us=microseconds(due),
            scope=timer.scope.name,
            message=self.message(timer.origin),
            failures=timer.failures,
        )

    # -- one batch of each machine on its way ---------------------------------------------------------------------

    def _track(self, actor: Actor) -> Track:
        track = actor.track
        if track is None:
            track = actor.track = Track(knows_all_ids=True)
        return track

    def _write(self, machine_id: str, track: Track) -> None:
        if track.is_writing or not track.lines or self.is_closing:
            return
        track.is_writing = True
        self._unfinished[machine_id] = track
        lines = list(track.lines)
        track.lines.clear()
        for seq, line in enumerate(lines, track.seq + 1):
            line.entry.seq = seq
        batch = Batch(
            entries=tuple(line.entry for line in lines),
            dead=tuple(letter for line in lines for letter in line.dead),
        )
        future = self._journal.append(batch)
        future.add_done_callback(partial(self._written, machine_id, track, lines, batch), context=Context())

    def _written(
        self, machine_id: str, track: Track, lines: list[_Line], batch: Batch, future: Future[None]
    ) -> None:
        error: Any = None if future.cancelled() else future.exception()
        if isinstance(error, OutcomeUnknown):
            task = start_task(self._find_out(machine_id, track, lines, batch, error), self._parts.loop)
            self._parts.keep(task, f"the commit of {machine_id}, of which nobody knows")
            return
        self._answer(machine_id, track, lines, error)

    async def _find_out(
        self, machine_id: str, track: Track, lines: list[_Line], batch: Batch, error: OutcomeUnknown
    ) -> None:
        """Ask the journal until it knows; until then the machine takes no event (C25)."""
        for line in lines:
            if line.envelope is not None:
                _tell_unknown(line.envelope, error)
        outcome: JournalError | None = error
        try:
            while not self.is_closing:
                try:
                    is_stored = await self._journal.settle(batch)
                except OutcomeUnknown:
                    await self._parts.next_change(self._parts.loop.time() + _ASK_AGAIN_S)
                    continue
                outcome = None if is_stored else NotStored("the journal found out that it is not stored")
                break
        except JournalError:
            pass  # it was closed meanwhile, and so nobody knows
        finally:
            self._answer(machine_id, track, lines, outcome)

    def _answer(self, machine_id: str, track: Track, lines: list[_Line], error: JournalError | None) -> None:
        track.is_writing = False
        if error is None:
            track.seq = lines[-1].entry.seq
        else:
            # What is no commit has happened all the same: it is tried again, before whatever comes next.
            track.lines.extendleft(reversed([line for line in lines if line.answer is None]))
        if isinstance(error, Fenced):
            self._parts.fail(error, "another system has taken the machines over")
        for line in lines:
            if line.answer is not None and not line.answer.done():
                if error is None:
                    line.answer.set_result(None)
                else:
                    line.answer.set_exception(error)
        if not track.lines:
            self._unfinished.pop(machine_id, None)
            self._parts.note_change()
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
        elif error is None or any(line.answer is not None for line in track.lines):
            self._write(machine_id, track)
        else:
            self._parts.timers.call_later(_RETRY_S, self._write, machine_id, track)

    @property
    def is_written(self) -> bool:
        """Whether everything is stored."""
        return not self._unfinished

    async def close(self) -> None:
        """Write no more; what was handed in is stored."""
        self.is_closing = True
        await self._journal.close()

    async def until_written(self, machine_id: str) -> None:
        """Wait until everything of a machine is stored."""
        while machine_id in self._unfinished:
            waiter: Future[None] = self._parts.loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)

    def _now_us(self) -> int:
        return microseconds(self._parts.clock.now())


async def _settled(answer: Future[None]) -> None:
    """Wait for an answer whatever is cancelled meanwhile: the commit has its settlement (C2)."""
    while not answer.done():
        try:
            await asyncio.shield(answer)
        except asyncio.CancelledError:
            continue
        except JournalError:
            break
    answer.result()


async def _to_the_end(asking: Any, parts: Parts) -> Any:
    """Return what the journal says, whatever is cancelled meanwhile."""
    task = start_task(asking, parts.loop)
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            continue
    return task.result()


def _follow_watches(track: Track, entry: Entry) -> None:
    for machine_id in (*entry.unwatches, *entry.watches):
        track.watches.pop(machine_id, None)
    track.watches.update(dict.fromkeys(entry.watches))


def _settles(envelope: Envelope) -> tuple[str, ...]:
    return () if envelope.promise is None else (envelope.promise,)


def _is_notice(envelope: Envelope) -> bool:
    return envelope.of_runtime and isinstance(envelope.event, Terminated)


def _notice_of(envelope: Envelope | None) -> tuple[str, ...]:
    """Return the id that is watched no longer, because its end was told."""
    if envelope is None or not _is_notice(envelope):
        return ()
    event: Any = envelope.event
    return (event.machine_id,)


def _tell_unknown(envelope: Envelope, error: OutcomeUnknown) -> None:
    """Let the asker know that nobody knows; the event goes on."""
    waiter = envelope.waiter
    if waiter is not None and not waiter.done():
        envelope.error = error
        waiter.set_result(None)
