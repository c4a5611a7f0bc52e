"""Recording: what a turn comes to, and what else befalls a machine, as entries of the journal.

A commit waits here until its entry is stored. What else is recorded waits in the machine's line: it is stored in order,
with the next commit at the latest, and until it is the journal says what was true before, so that after a crash it is
done again.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from actorfsm.errors import (
    ActorFSMError,
    EventIdConflict,
    InvalidData,
    JournalError,
    NoSuchMachine,
    SystemFailed,
    SystemStopping,
)
from actorfsm.journal.entry import Batch
from actorfsm.runtime import perform, settling, timers
from actorfsm.runtime.actor import RUNNING, Actor
from actorfsm.runtime.deliveries import Deliveries
from actorfsm.runtime.entries import Entries, is_notice, keeps_mail, settles
from actorfsm.runtime.envelope import Settlement
from actorfsm.runtime.journal_writer import JournalWriter
from actorfsm.runtime.reply import refused_with
from actorfsm.runtime.snapshots import SnapshotPolicy, Snapshots
from actorfsm.runtime.tasks import Verdict, start_task, to_the_end
from actorfsm.runtime.track import Line, Telling, Track

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from actorfsm.event import OutcomeKind
    from actorfsm.journal.entry import DeadMessage, EntryKind, Pending, Recorded, Status
    from actorfsm.journal.protocol import Journal
    from actorfsm.machine.definition import Transition
    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.kind import Kind
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.timers import Timer
    from actorfsm.runtime.turn import Turn

__all__ = ["Recording"]


class _Ends(NamedTuple):
    """What ends with a commit: the postponed events, each with its promise, and what is told when it is stored."""

    envelopes: list[tuple[Envelope, str | None]]
    telling: Telling


class Recording:
    """Writes what happens in one system into its journal.

    Attributes:
        entries: Makes the entries.
        writer: Hands them in.
        deliveries: Counts what earlier lives have left.
    """

    def __init__(
        self, parts: Parts, journal: Journal, kinds: Iterable[Kind], policy: SnapshotPolicy | None = None
    ) -> None:
        self._parts = parts
        self._journal = journal
        self.entries: Final = Entries(parts, kinds)
        self._snapshots: Final = Snapshots(parts, journal, policy or SnapshotPolicy())
        self.writer: Final = JournalWriter(parts, journal, self._snapshots)
        self.deliveries: Final = Deliveries(parts, self.entries, self.writer)

    # -- in a turn ------------------------------------------------------------------------------------------------

    async def is_done(self, turn: Turn) -> bool:
        """Return whether an event was applied in an earlier life, or has ended too many; then it has its outcome.

        Raises:
            NotWritten: What is recorded cannot be read, or is another event.
        """
        actor, envelope = turn.actor, turn.envelope
        track, rare, passivation = actor.track, actor.rare, self._parts.passivation
        if passivation is not None:
            passivation.touch(actor.id)
        if envelope.has_own_id and track is not None and rare is not None:
            if len(rare.ids) >= actor.kind.options.remembered_ids:
                track.knows_all_ids = False
            if not track.knows_all_ids and await self._is_recorded(turn):
                return True
        count = envelope.deliveries
        return count is not None and await self.deliveries.is_poison(turn, count)

    async def _is_recorded(self, turn: Turn) -> bool:
        actor, envelope = turn.actor, turn.envelope
        turn.is_committing = True
        try:
            recorded = await to_the_end(
                start_task(self._journal.lookup(actor.id, envelope.event_id), self._parts.loop)
            )
            if recorded is None:
                return False
            settlement = self.settlement_of(actor, envelope, recorded)
        except ActorFSMError as error:
            raise perform.NotWritten(error) from None
        finally:
            turn.is_committing = False
        turn.close()
        settling.settle_duplicate(actor, envelope, settlement)
        if actor.node.parent is None:
            actor.kind.supervisor.birth_failed(actor)
        return True

    def settlement_of(self, actor: Actor, envelope: Envelope, recorded: Recorded) -> Settlement:
        """Return how an event ended that was applied before.

        Raises:
            EventIdConflict: It was another event.
            SchemaMismatch: What is recorded does not fit what the code has now.
        """
        values, answer = self.entries.values(actor.kind), recorded.answer
        where = f"entry {recorded.seq} of {actor.id}"
        if not values.is_recorded(envelope.event, recorded, where):
            raise EventIdConflict(
                f"{actor.id} knows the event id {envelope.event_id!r} as another {recorded.event_type}",
                machine_id=actor.id,
                event=envelope.event,
            )
        return Settlement(
            cast("OutcomeKind", answer.kind),  # only outcomes have answers
            values.node(answer.old, where).member if answer.old else None,
            values.node(answer.new, where).member if answer.new else None,
            values.replies.reply(type(envelope.event), answer.reply, where),
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
        track = self._track(actor)
        turn.timers = timers.left_by(turn, choice)
        restates = self._snapshots.is_due(actor, track)
        entry = self.entries.of_commit(turn, choice, data, reply, track, restates=restates)
        image = self._snapshots.image_after(entry, track) if restates else None
        table = {} if entry.status == "stopped" else turn.timers
        answer = Verdict()
        line = Line(entry, answer=answer, envelope=turn.envelope, image=image)
        track.lines.append(line)
        transaction = turn.transaction
        if transaction is not None:
            if transaction.is_used:
                track.transaction = transaction
            else:
                transaction.is_over = True
        status_before, track.status = track.status, entry.status
        was_outdated, track.is_outdated = track.is_outdated, False
        ends = (
            None if entry.status == "alive" or actor.mailbox is None else self._end_with(turn, choice, line)
        )
        line.refused = partial(
            self._not_committed, actor, line, status_before, ends, was_outdated=was_outdated
        )
        turn.is_committing, track.committing = True, line
        try:
            self.writer.write(actor.id, track)
            await answer.heard(self._parts.loop)
        except JournalError as error:
            if transaction is not None and transaction.failure is not None:
                # The rows are to blame: a failure as that of a hook.
                raise transaction.failure from transaction.failure.__cause__
            raise perform.NotWritten(error) from None
        finally:
            turn.is_committing, track.committing = False, None
            line.refused = None  # it refers to the line
        if table or track.timers:
            track.timers = {name: (timer, timer.failures) for name, timer in table.items()}
        track.follow(entry)
        if track.wake and (actor.mailbox is None or actor.mailbox.is_empty):
            # What it is to be woken for has expired meanwhile.
            key, track.wake = track.wake, ""
            self.writer.hand_in(Batch(settled=(key,)))

    def _end_with(self, turn: Turn, choice: Transition, commit: Line) -> _Ends | None:
        """Let what a machine has postponed end with the commit that ends the machine: both are stored, or neither."""
        actor, track = turn.actor, self._track(turn.actor)
        ended = [
            (envelope, envelope.promise, settlement)
            for envelope, settlement in _endings(turn, choice)
            if envelope.is_put_aside
        ]
        if not ended:
            return None
        telling = Telling(track, lambda _: None)  # what expires meanwhile is told after it
        for envelope, _, settlement in ended:
            dead: tuple[DeadMessage, ...] = ()
            if settlement.kind == "dead_lettered":
                dead = (self.entries.dead(envelope, settlement.reason),)
            told = self._told(actor, envelope, settlement)
            entry = self.entries.of_what_befell(actor, track, settlement.kind, envelope, None, told)
            track.lines.append(Line(entry, dead, follows=commit, is_of_commit=True))
            envelope.promise, envelope.is_put_aside, envelope.ends_with_commit = None, False, True
        track.lines[-1].telling = telling
        return _Ends([(envelope, promise) for envelope, promise, _ in ended], telling)

    def _not_committed(
        self,
        actor: Actor,
        commit: Line,
        status: Status,
        ends: _Ends | None,
        *,
        was_outdated: bool,
    ) -> None:
        """Follow a commit that is not stored: what befell the machine meanwhile says what is true without it."""
        track = self._track(actor)
        track.committing, track.is_outdated = None, was_outdated
        for line in track.lines:
            if line.follows is not commit:
                continue
            if line.has_status:
                status = line.entry.status
            else:
                line.entry.status = status
            if track.is_outdated:
                line.entry.data = self.entries.values(actor.kind).data_payload(actor.data)
                track.is_outdated = False
        track.status = status
        if ends is not None:
            self._not_ended(actor, track, ends)

    def _not_ended(self, actor: Actor, track: Track, ends: _Ends) -> None:
        """Let what was to end with a commit be postponed as before, but for what has expired meanwhile."""
        expired: list[Envelope] = []
        for envelope, promise in ends.envelopes:
            envelope.promise, envelope.is_put_aside, envelope.ends_with_commit = promise, True, False
            envelope.answer = None
            if envelope.settled:
                expired.append(envelope)
        # An Outcome for another machine is promised with the entry, and leaves when that is stored.
        waits = any(envelope.reply_to is not None for envelope in expired)
        for envelope in expired:
            error = envelope.error
            reason = "" if error is None else str(error)
            settlement = Settlement("expired", actor.node.member, None, None, error, reason, actor.seq)
            told = self._told(actor, envelope, settlement)
            telling = Telling(track, ends.telling) if waits and envelope is expired[-1] else None
            self._add(actor, "expired", envelope, telling=telling, told=told)
            envelope.promise, envelope.is_put_aside = None, False
        if not waits:
            ends.telling(None)

    @contextmanager
    def as_a_whole(self, actor: Actor) -> Generator[None]:
        """Let all that befalls a machine meanwhile be stored as a whole or not at all."""
        track = actor.track
        if track is None or track.is_writing:
            yield  # what is on its way comes first, and all that waits for it goes as one batch
            return
        track.is_writing = True
        try:
            yield
        finally:
            track.is_writing = False
            self.writer.write(actor.id, track)

    # -- what is recorded without a commit ------------------------------------------------------------------------

    def postponed(self, actor: Actor, envelope: Envelope) -> None:
        """Record that an event waits for a change of state; if it came by a promise, that is kept now."""
        if self._parts.dispatcher.is_closed:
            return
        track = actor.track
        is_woken = track is not None and bool(track.wake) and self._is_awake(actor)
        if envelope.is_put_aside and not is_woken and not settles(envelope):
            return
        self._add(actor, "postponed", envelope, ends_turn=True)
        envelope.deliveries = None
        envelope.is_put_aside, envelope.keeps_settlement = True, True
        envelope.promise = None

    def tried(self, actor: Actor, envelope: Envelope) -> None:
        """Record how often an event has failed that is tried again, so that its attempts are bounded over all lives.

        The machine has it from now on, ahead of newer events, as if it were postponed; its promise stays, so that the
        next system loads the machine for it. Not so what the journal does not know, an own event, whose place is before
        all of those, the answer of a job, which is begun again, and what gives birth: there is no machine yet.
        """
        promise = envelope.promise
        if (promise is None and not envelope.is_put_aside) or envelope.own_depth or envelope.job is not None:
            return
        if actor.node.parent is not None and not self._parts.dispatcher.is_closed:
            envelope.promise, envelope.is_put_aside = None, True
            self._add(actor, "postponed", envelope, ends_turn=True)
            envelope.promise, envelope.deliveries = promise, None

    def tells_later(self, actor: Actor, envelope: Envelope) -> bool:
        """Return whether an outcome other than a commit's own waits for the journal before it is told."""
        if _is_recorded(envelope):
            return True
        return actor.track is not None and actor.track.telling is not None  # so that all are told in order

    def ended(
        self,
        actor: Actor,
        envelope: Envelope,
        settlement: Settlement,
        tell: Callable[[JournalError | None], None],
    ) -> None:
        """Record an outcome that is no commit, if the journal is to have it; it is told when that is stored."""
        if envelope.ends_with_commit:
            self.tell_in_order(actor, tell)
            return
        if (
            isinstance(settlement.error, SystemStopping | SystemFailed | JournalError)
            or settlement.reason == "interrupted"
            or self._parts.dispatcher.is_closed
        ):
            self._ended_without_entry(actor, envelope, settlement, tell)
            return
        if not _is_recorded(envelope):
            self.tell_in_order(actor, tell)
            return
        dead: tuple[DeadMessage, ...] = ()
        told = self._told(actor, envelope, settlement)
        track = self._track(actor)
        telling = Telling(track, tell)
        try:
            if settlement.kind == "dead_lettered" and not settlement.duplicate:
                dead = (self.entries.dead(envelope, settlement.reason),)
            if settlement.duplicate or actor.node.parent is None or track.status == "stopped":
                self.writer.hand_in(Batch(settled=settles(envelope), dead=dead, accepted=told), telling)
            else:
                # Its event id may try again, as without a journal: the entry has no answer.
                self._add(
                    actor,
                    settlement.kind,
                    envelope,
                    dead=dead,
                    telling=telling,
                    told=told,
                    ends_turn=envelope.begun,
                )
        except InvalidData:  # the event would not come back as it was; it is here for its `reply_to` alone
            self.writer.hand_in(Batch(accepted=told), telling)
        envelope.promise, envelope.is_put_aside = None, False
        if envelope.deliveries is not None:
            envelope.deliveries.keys = ()  # a timer that comes again has the same

    def _ended_without_entry(
        self,
        actor: Actor,
        envelope: Envelope,
        settlement: Settlement,
        tell: Callable[[JournalError | None], None],
    ) -> None:
        """Tell an outcome that says nothing of the machine: the journal, or the whole system, could not go on."""
        self.deliveries.interrupted(envelope)
        if envelope.promise or envelope.is_put_aside or self.writer.is_closing:
            envelope.reply_to = None  # the next system handles the event, if the journal has it
        if envelope.reply_to is None:
            self.tell_in_order(actor, tell)
            return
        batch = Batch(accepted=self._told(actor, envelope, settlement))
        self.writer.hand_in(batch, Telling(self._track(actor), tell))

    def _told(self, actor: Actor, envelope: Envelope, settlement: Settlement) -> tuple[Pending, ...]:
        """Return the Outcome for the machine named in `reply_to`, which is stored with what it tells of."""
        if envelope.reply_to is None:
            return ()
        return (self.entries.promised_outcome(envelope, settlement, actor),)

    def tell_in_order(self, actor: Actor, tell: Callable[[JournalError | None], None]) -> None:
        """Tell something of a machine now, or after what has to be stored before it is told."""
        if actor.track is None or actor.track.telling is None:
            tell(None)
        else:
            actor.track.telling.add(tell)

    def undelivered(
        self, envelope: Envelope, error: ActorFSMError, tell: Callable[[JournalError | None], None]
    ) -> None:
        """Record that a message reaches nobody, if it was promised or told durably; that is told when it is stored.

        What was told durably and found no room is not recorded: who sends too much shall not fill the journal too.
        """
        is_lost = envelope.promise or (envelope.durable and isinstance(error, NoSuchMachine))
        is_kept = self._parts.dispatcher.is_closed or isinstance(
            error, SystemStopping | SystemFailed | JournalError
        )
        if not is_lost or is_kept:
            if envelope.promise:
                envelope.reply_to = None  # the next system delivers it
            tell(None)
            return
        try:
            dead = self.entries.dead(envelope, str(error))
        except InvalidData:  # it would not come back as it was, and was not promised
            tell(None)
            return
        told: tuple[Pending, ...] = ()
        if envelope.reply_to is not None:
            told = (self.entries.promised_outcome(envelope, refused_with(error)),)
        batch = Batch(settled=settles(envelope), dead=(dead,), accepted=told)
        envelope.promise = None
        self.writer.hand_in(batch, Telling(None, tell))

    def befell(self, actor: Actor, kind: EntryKind, status: Status | None = None) -> None:
        """Record what befell a machine: a restart, quarantine, release or stop."""
        track = actor.track
        if track is None or actor.node.parent is None or (status == "stopped" and track.is_over):
            return
        self._add(actor, kind, None, status=status)

    def job_is_over(self, actor: Actor, key: str) -> None:
        """Record that nothing comes of a job any more."""
        if actor.track is not None and actor.track.jobs.pop(key, self) is None:
            self.writer.hand_in(Batch(settled=(key,)))

    def withdrawn(self, actor: Actor, envelope: Envelope) -> None:
        """Record that a postponed event is taken back: the answer of a job whose state was left."""
        if envelope.is_put_aside:
            self._add(actor, "unhandled", envelope)
            envelope.is_put_aside = False

    def woken(self, actor: Actor | None, keys: Iterable[str]) -> None:
        """Follow the loading of a machine that was to be woken; if it has nothing to try again, that is settled.

        Args:
            actor: The machine; None if it has stopped.
            keys: Under which it was promised.
        """
        track = None if actor is None or actor.mailbox is None else actor.track
        for key in keys:
            if track is not None and not track.wake and not self._is_awake(actor):
                track.wake = key
            else:
                self.settled((key,))

    def settled(self, keys: tuple[str, ...]) -> None:
        """Record that something pending is done, or that there is nothing to do any more."""
        self.writer.hand_in(Batch(settled=keys))

    @staticmethod
    def _is_awake(actor: Actor | None) -> bool:
        """Return whether a machine has come to all postponed events that were released, but for the one at hand."""
        return actor is None or actor.mailbox is None or not actor.mailbox.tries_again

    def leave(self, actor: Actor) -> None:
        """Leave what is stored of a machine as it is: it is given up, and may be started in the next life."""
        self._track(actor).is_left = True

    def timers_ended(self, actor: Actor) -> None:
        """Record timers that died with an event of which there is no entry."""
        if actor.track is not None and actor.track.timers.keys() != (actor.timers or {}).keys():
            self._add(actor, "unhandled", None)

    def _add(
        self,
        actor: Actor,
        kind: EntryKind,
        envelope: Envelope | None,
        *,
        status: Status | None = None,
        dead: tuple[DeadMessage, ...] = (),
        telling: Telling | None = None,
        told: tuple[Pending, ...] = (),
        ends_turn: bool = False,
    ) -> None:
        if self._parts.dispatcher.is_closed:
            return  # the system goes down, and what ends with it goes on in the next
        track = self._track(actor)
        if status is not None:
            track.status = status
        table: dict[str, Timer] | None = actor.timers or {}
        if track.is_left:
            table = {name: timer for name, (timer, _) in track.timers.items()}
        elif track.committing is not None:
            table = None  # the commit that is on its way says it
        elif track.status == "stopped":
            table = {}
        is_busy = track.committing is not None or (actor.status == RUNNING and not ends_turn)
        settled: tuple[str, ...] = ()
        if track.wake and (kind == "stopped" or (not is_busy and self._is_awake(actor))):
            settled = (track.wake,)
        entry = self.entries.of_what_befell(actor, track, kind, envelope, table, told, settled)
        track.is_outdated = False
        if table is not None:
            track.timers = {name: (timer, timer.failures) for name, timer in table.items()}
        track.follow(entry)
        track.lines.append(
            Line(entry, dead, telling=telling, follows=track.committing, has_status=status is not None)
        )
        self.writer.write(actor.id, track)

    def _track(self, actor: Actor) -> Track:
        track = actor.track
        if track is None:
            track = actor.track = Track(knows_all_ids=True)
        return track


def _is_recorded(envelope: Envelope) -> bool:
    """Return whether each outcome of an event is an entry.

    It came by a promise or a timer, is postponed, is a notice, or a machine is to hear of it; and that is not stored
    with the commit that ended its machine.
    """
    return not envelope.ends_with_commit and bool(
        envelope.promise
        or envelope.is_put_aside
        or envelope.reply_to
        or envelope.timer is not None
        or is_notice(envelope)
    )


def _endings(turn: Turn, choice: Transition) -> Iterator[tuple[Envelope, Settlement]]:
    """Yield what waits at a machine that ends with a commit and was postponed, with what becomes of it."""
    actor = turn.actor
    mailbox, seq, state = actor.mailbox, actor.seq + 1, choice.new
    waiting: list[Envelope] = [] if mailbox is None else [*(mailbox.postponed or ())]
    if choice.target.final and choice.changes_state:
        for envelope in waiting:
            error: ActorFSMError = settling.unhandled_in(choice.target, actor, envelope)
            yield envelope, Settlement("unhandled", state, None, None, error, str(error), seq)
        waiting = []
    if turn.stops_machine and not keeps_mail(actor):
        released: Iterable[Envelope] = () if mailbox is None else mailbox.released or ()
        for envelope in (*waiting, *released):
            error = settling.stopped_before(actor, envelope, settling.STOPPED_ITSELF)
            yield envelope, Settlement("dead_lettered", state, None, None, error, str(error), seq)
