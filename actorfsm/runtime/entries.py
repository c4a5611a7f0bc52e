"""Entries: what happened at a machine, in the words of the journal."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from actorfsm.event import Terminated
from actorfsm.journal.entry import Answer, DeadMessage, Entry, Message, Pending, StoredTimer
from actorfsm.runtime import jobs
from actorfsm.runtime.envelope import Settlement
from actorfsm.runtime.spawn_data import spawn_payload
from actorfsm.runtime.stored_values import StoredValues, event_payload, no_such_class, values_of
from actorfsm.runtime.track import microseconds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from actorfsm.journal.entry import EntryKind, State, Status
    from actorfsm.journal.image import Image
    from actorfsm.machine.definition import Step, Transition
    from actorfsm.runtime.actor import Actor
    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.kind import Kind
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.timers import Timer
    from actorfsm.runtime.track import Track
    from actorfsm.runtime.turn import Turn

__all__ = ["Entries", "is_notice", "keeps_mail", "settles"]


class Entries:
    """Makes the entries of one system."""

    def __init__(self, parts: Parts, kinds: Iterable[Kind]) -> None:
        self._parts = parts
        self._values, self._readers, self._outcomes = values_of({kind: kind.machine_class for kind in kinds})

    def values(self, kind: Kind) -> StoredValues:
        """Return how the values of a class are stored."""
        return self._values[kind]

    def reader_of(self, image: Image) -> tuple[Kind, StoredValues]:
        """Return the class of a stored machine, which may have had another name, and how its values are stored.

        Raises:
            SchemaMismatch: There is none.
        """
        kind = self._readers.get(image.machine)
        if kind is None:
            raise no_such_class(image.machine_id, image.machine)
        return kind, self._values[kind]

    def of_commit(
        self,
        turn: Turn,
        choice: Transition,
        data: dict[str, Any],
        reply: Any,
        track: Track,
        *,
        restates: bool = False,
    ) -> Entry:
        """Return the entry of a turn that is about to commit, with `turn.timers` as what it leaves.

        Args:
            turn: The turn.
            choice: Its transition.
            data: The data from now on.
            reply: What the body returned.
            track: Where the machine stands in the journal.
            restates: Whether the entry has all data and timers, also those that are as before.

        Raises:
            InvalidData: Data, event or reply would not come back as they were.
        """
        actor, envelope = turn.actor, turn.envelope
        values = self._values[actor.kind]
        old = (choice.source.name,) if choice.source.parent is not None else ()
        target = (choice.target.name,)
        promises, settled = self._promises(turn, choice, track, reply)
        mailbox = actor.mailbox
        if track.wake or (mailbox is not None and (mailbox.postponed or mailbox.released)):
            promised, done = self._wake(turn, choice, track)
            promises, settled = promises + promised, settled + done
        answer = None
        if envelope.has_own_id:
            answer = Answer(
                kind="committed",
                old=old,
                new=target,
                reply=values.replies.payload(type(envelope.event), reply),
                commits=actor.seq + 1,
            )
        status: Status = "finished" if choice.target.final else "alive"
        if turn.stops_machine:
            status = "stopped"
        elif actor.rare is not None and actor.rare.suspended:
            status = "suspended"  # while it handled the event
        watching: dict[str, bool] = {}
        if turn.watching or isinstance(envelope.event, Terminated):
            watching = self._watching(turn)
        if status == "stopped" or choice.is_birth:
            watching = {**dict.fromkeys(track.watches, False), **({} if status == "stopped" else watching)}
        message = self.message(envelope)
        if choice.is_birth and envelope.birth_data is not None and envelope.has_own_id:
            message.event = spawn_payload(actor.kind, values.lineage.version, envelope.birth_data)
        timers_set, timers_ended = self._timers(
            actor, track, {} if status == "stopped" else turn.timers or {}, restates=restates
        )
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
            message=message,
            source=old,
            target=target,
            data=values.data_payload(data)
            if data is not actor.data or choice.is_birth or track.is_outdated or restates
            else None,
            answer=answer,
            timers_set=timers_set,
            timers_ended=timers_ended,
            promises=promises,
            settles=settled,
            watches=tuple([watched for watched, begins in watching.items() if begins]),
            unwatches=tuple([watched for watched, begins in watching.items() if not begins]),
        )

    def _promises(
        self, turn: Turn, choice: Transition, track: Track, reply: Any
    ) -> tuple[tuple[Pending, ...], tuple[str, ...]]:
        """Return what a commit promises, and the keys of what it settles."""
        actor, envelope = turn.actor, turn.envelope
        begun, settled = self._jobs(turn, choice, track, is_over=turn.stops_machine)
        if not (begun or choice.detached or turn.own_events or turn.outgoing or envelope.reply_to):
            return (), settled
        promises = [self._promise(own, "own") for own in turn.own_events or ()]
        if envelope.reply_to is not None:
            ended = Settlement("committed", choice.source.member, choice.new, reply, None, "", actor.seq + 1)
            promises.append(self.promised_outcome(envelope, ended, actor))
        promises += [self._promise(sent, "event") for sent in turn.outgoing or ()]
        promises += begun
        promises += [self._hook(turn, choice, step) for step in choice.detached if step.durable]
        return tuple(promises), settled

    def _jobs(
        self, turn: Turn, choice: Transition, track: Track, *, is_over: bool
    ) -> tuple[list[Pending], tuple[str, ...]]:
        """Return the jobs that a commit begins, and the keys of what it settles: its event, and jobs that it ends."""
        actor, envelope = turn.actor, turn.envelope
        settled = settles(envelope)
        if turn.jobs is None and not track.jobs:
            return [], settled
        left = {} if is_over else jobs.left_by(turn, choice)
        begun: list[Pending] = []
        for job in left.values():
            if not job.key and not job.is_over:
                job.key = f"{actor.id}/{self._parts.ids.text(self._parts.ids.next_number())}"
                message = self.message(envelope)
                begun.append(
                    Pending(key=job.key, kind="job", machine_id=actor.id, message=message, note=job.note)
                )
        kept = {job.key for job in left.values()}
        return begun, tuple(dict.fromkeys([*settled, *(key for key in track.jobs if key not in kept)]))

    def _wake(
        self, turn: Turn, choice: Transition, track: Track
    ) -> tuple[tuple[Pending, ...], tuple[str, ...]]:
        """Promise to wake a machine that has postponed events to try again after a commit, or settle that it is.

        Without it the next system would not load the machine for them: the journal has them with the machine.
        """
        actor = turn.actor
        mailbox = actor.mailbox
        tries_again = not turn.stops_machine and (
            mailbox is not None
            and (
                mailbox.tries_again
                or (bool(mailbox.postponed) and choice.changes_state and not choice.target.final)
            )
        )
        if tries_again == bool(track.wake):
            return (), ()
        if not tries_again:
            return (), (track.wake,)
        key = f"{actor.id}/{self._parts.ids.text(self._parts.ids.next_number())}"
        return (Pending(key=key, kind="wake", machine_id=actor.id, message=self.message(turn.envelope)),), ()

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

    def promised_outcome(
        self, envelope: Envelope, settlement: Settlement, actor: Actor | None = None
    ) -> Pending:
        """Promise the machine named in `reply_to` how an event ended: `envelope.answer` is to be delivered then.

        Args:
            envelope: The event.
            settlement: How it ended.
            actor: The machine that it was for, if there is one.

        Raises:
            InvalidData: The reply would not come back as it was.
        """
        if actor is not None:
            envelope.machine_name = actor.kind.name
        envelope.answer = self._parts.admission.outcome_for_reply_to(envelope, settlement)
        return self._promise(envelope.answer, "event")

    def _hook(self, turn: Turn, choice: Transition, step: Step) -> Pending:
        if turn.hook_keys is None:
            turn.hook_keys = {}
        number = self._parts.ids.next_number()
        key = turn.hook_keys[step.name] = f"{turn.machine_id}/{self._parts.ids.text(number)}"
        note = {"hook": step.name, "old": choice.old.name, "new": choice.new.name}
        return Pending(
            key=key,
            kind="hook",
            machine_id=turn.machine_id,
            message=self.message(turn.envelope),
            note=json.dumps(note),
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
            event=event_payload(
                envelope.event if envelope.as_sent is None else envelope.as_sent, self._outcomes
            ),
            event_id=self._parts.event_id(envelope),
            causation_id=envelope.causation_id,
            correlation_id=envelope.correlation_id,
            headers=tuple(envelope.headers.items()) if envelope.headers else (),
            reply_to=envelope.reply_to,
            attempt=envelope.attempt,
            has_own_id=envelope.has_own_id,
        )

    def of_what_befell(  # noqa: PLR0917 -- what an entry is made of
        self,
        actor: Actor,
        track: Track,
        kind: EntryKind,
        envelope: Envelope | None,
        table: dict[str, Timer] | None,
        promises: tuple[Pending, ...] = (),
        settled: tuple[str, ...] = (),
    ) -> Entry:
        """Return the entry of what is no commit: an outcome, or what befell the machine.

        Args:
            actor: The machine.
            track: Where it stands in the journal.
            kind: What happened.
            envelope: The event, if it is an outcome.
            table: The machine's timers from now on; None if a commit just before has said so.
            promises: What follows from it.
            settled: Keys of what is done with it, beside those that the event and the end of a machine bring.
        """
        if kind == "stopped":
            settled += tuple(track.jobs)
        elif envelope is not None:
            settled += settles(envelope)
        timers_set, timers_ended = ((), ()) if table is None else self._timers(actor, track, table)
        state: State = (actor.node.name,)
        values = self._values[actor.kind]
        return Entry(
            machine_id=actor.id,
            machine=actor.kind.name,
            seq=0,
            kind=kind,
            at_us=self._now_us(),
            incarnation=actor.incarnation,
            commits=actor.seq,
            status=track.status,
            definition=values.definition,
            data=values.data_payload(actor.data) if track.is_outdated else None,
            message=None if envelope is None else self.message(envelope),
            source=state,
            target=state,
            timers_set=timers_set,
            timers_ended=timers_ended,
            promises=promises,
            settles=settled,
            unwatches=tuple(track.watches) if kind == "stopped" else _notice_of(envelope),
        )

    def dead(self, envelope: Envelope, reason: str) -> DeadMessage:
        """Return a message that nobody will handle."""
        return DeadMessage(
            machine_id=envelope.machine_id,
            message=self.message(envelope),
            reason=reason,
            at_us=self._now_us(),
        )

    # -- timers ---------------------------------------------------------------------------------------------------

    def _timers(
        self, actor: Actor, track: Track, table: dict[str, Timer], *, restates: bool = False
    ) -> tuple[tuple[StoredTimer, ...], tuple[str, ...]]:
        """Return what an entry has to say of the timers: those that are new or armed again, and those that ended."""
        if not table and not track.timers:
            return (), track.timers_given_up
        known = track.timers
        started = tuple(
            self._stored_timer(actor, timer)
            for name, timer in table.items()
            if restates or known.get(name) != (timer, timer.failures)
        )
        return started, (*(name for name in known if name not in table), *track.timers_given_up)

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
        timer.due_us = microseconds(due)
        return StoredTimer(
            machine_id=actor.id,
            name=timer.name,
            due_us=timer.due_us,
            scope=timer.scope.name,
            message=self.message(timer.origin),
            failures=timer.failures,
        )

    def _now_us(self) -> int:
        return microseconds(self._parts.clock.now())


def keeps_mail(actor: Actor) -> bool:
    """Return whether what waits at a machine that stops is for its next birth."""
    child = None if actor.rare is None else actor.rare.child
    return child is not None and child.is_born_anew


def settles(envelope: Envelope) -> tuple[str, ...]:
    """Return the keys of what is done when this event has its outcome: a promise, and that it was begun before."""
    keys = () if envelope.promise is None else (envelope.promise,)
    return keys if envelope.deliveries is None else (*keys, *envelope.deliveries.keys)


def is_notice(envelope: Envelope) -> bool:
    """Return whether this tells a machine of the end of another."""
    return envelope.of_runtime and isinstance(envelope.event, Terminated)


def _notice_of(envelope: Envelope | None) -> tuple[str, ...]:
    """Return the id that is watched no longer, because its end was told."""
    if envelope is None or not is_notice(envelope):
        return ()
    event: Any = envelope.event
    return (event.machine_id,)
