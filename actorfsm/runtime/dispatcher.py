"""The dispatcher: whose turn is it, and on which path.

Ready machines stand in one queue; each handles a few events and goes to its end, so that none starves another. Workers
are tasks that exist only while something is ready: one drains the queue, and when a hook suspends it the next is started.

An ask to an idle machine with an empty mailbox may skip the queue: its turn runs inside the ask, in a task of its own
(from Python 3.12) or, if all hooks of the class are plain functions, without any task. It is the same turn function on every
path, and a budget per step of the event loop bounds them all.
"""

from __future__ import annotations

import asyncio
import decimal
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

from actorfsm.errors import ActorFSMError, MachineStopped, MailboxFull, Quarantined
from actorfsm.machine.options import Overflow
from actorfsm.runtime import perform
from actorfsm.runtime.actor import IDLE, QUARANTINED, READY, RUNNING, STOPPED, Actor
from actorfsm.runtime.mailbox import Mailbox
from actorfsm.runtime.reply import refuse, tell_accepted
from actorfsm.runtime.tasks import EAGER, enter_task, leave_task, start_eagerly

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Coroutine, Iterator

    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.turn import Turn

__all__ = ["Dispatcher", "Worker"]


class Worker:
    """A task that runs turns, one after the other, in a context of its own."""

    __slots__ = ("context", "task", "turn")

    def __init__(self) -> None:
        self.context = Context()
        self.task: asyncio.Task[None] | None = None
        self.turn: Turn | None = None


class Dispatcher:
    """Gives turns to machines.

    Attributes:
        inline: Whether an ask to an idle machine may be handled inside the ask.
        workers: The tasks that run turns now.
    """

    def __init__(self, parts: Parts, ready: deque[Actor], *, inline: bool) -> None:
        self._parts = parts
        self._loop = parts.loop
        self._ready = ready
        self._context = Context()
        self._turns_per_step = parts.limits.turns_per_step
        self._budget = self._turns_per_step
        self._pump_is_due = False
        self._starting = False
        self._depth = 0
        self._max_depth = parts.limits.inline_depth
        self._spare: Worker | None = Worker()
        self._closed = False
        self.inline = inline
        self.workers: dict[Worker, None] = {}

    # -- into the mailbox ---------------------------------------------------------------------------------------

    def admit(self, actor: Actor, envelope: Envelope) -> None:
        """Take an event into the machine's mailbox, or handle it at once.

        Raises:
            ActorFSMError: It was not accepted: `MailboxFull`, `Quarantined` or `MachineStopped`.
        """
        envelope.actor = actor
        envelope.machine_name = actor.kind.name
        status = actor.status
        if status == IDLE and envelope.is_ask and self._budget > 0 and self._depth < self._max_depth and self.inline:
            if actor.kind.is_plain:
                self._run_plain(actor, envelope)
                return
            if EAGER:
                self._run_eagerly(actor, envelope)
                return
        if status >= QUARANTINED:
            self._refuse(actor, envelope)
        mailbox = actor.mailbox
        if mailbox is None:
            actor.mailbox = mailbox = Mailbox()
        if len(mailbox.queue) >= actor.kind.capacity or mailbox.outside:
            self._overflow(actor, mailbox, envelope)
            return
        self._take_in(mailbox, envelope)
        if status == IDLE:
            self.make_ready(actor)

    def _take_in(self, mailbox: Mailbox, envelope: Envelope) -> None:
        if envelope.outgoing:
            self._parts.counters.outgoing -= 1
            envelope.outgoing = False
        else:
            self._parts.counters.accepted += 1
        envelope.accepted = True
        mailbox.queue.append(envelope)
        if envelope.deadline is not None and not envelope.tick:
            self._parts.deadlines.add(envelope, envelope.deadline)

    def _refuse(self, actor: Actor, envelope: Envelope) -> None:
        if actor.status == QUARANTINED:
            raise Quarantined(
                f"{actor.id} is quarantined: it failed too often; `system.release({actor.id!r})` lets it go on",
                machine_id=actor.id,
                event=envelope.event,
            )
        raise MachineStopped(f"{actor.id} is stopped", machine_id=actor.id, event=envelope.event)

    def _overflow(self, actor: Actor, mailbox: Mailbox, envelope: Envelope) -> None:
        policy = actor.kind.options.mailbox
        full = MailboxFull(
            f"{actor.id} has {len(mailbox.queue)} events waiting, as many as it may",
            machine_id=actor.id,
            event=envelope.event,
        )
        if envelope.outgoing or policy.overflow is Overflow.WAIT:
            if len(mailbox.outside or ()) >= policy.waiting:
                raise full
            envelope.outside = True
            mailbox.wait_outside(envelope)
            if envelope.deadline is None:
                envelope.deadline = self._loop.time() + policy.wait_timeout_s
                envelope.room_only = True
            self._parts.deadlines.add(envelope, envelope.deadline)
        elif policy.overflow is Overflow.REFUSE or envelope.is_ask:
            raise full
        elif policy.overflow is Overflow.DROP_NEWEST:
            self._parts.counters.accepted += 1
            envelope.accepted = True
            perform.end_undelivered(actor, envelope, full)
        else:
            oldest = mailbox.queue.popleft()
            self._take_in(mailbox, envelope)
            perform.end_undelivered(actor, oldest, full)

    def made_room(self, actor: Actor) -> None:
        """Follow the removal of an event from a mailbox: let others in, drop an idle machine's empty mailbox."""
        mailbox = actor.mailbox
        if mailbox is None:
            return
        if mailbox.outside:
            self._let_in(mailbox, actor.kind.capacity)
        if actor.status == IDLE:
            if mailbox.waiting:
                self.make_ready(actor)
            elif mailbox.is_empty:
                actor.mailbox = None

    def _let_in(self, mailbox: Mailbox, capacity: int) -> None:
        """Let those in who wait for room, in order."""
        while mailbox.outside and len(mailbox.queue) < capacity:
            envelope = mailbox.outside.popleft()
            envelope.outside = False
            if envelope.room_only:
                self._parts.deadlines.remove(envelope)
                envelope.deadline, envelope.room_only = None, False
            self._take_in(mailbox, envelope)
            tell_accepted(envelope)

    # -- turns --------------------------------------------------------------------------------------------------

    def make_ready(self, actor: Actor) -> None:
        """Let a machine have its turn."""
        actor.status = READY
        self._ready.append(actor)
        if not self._pump_is_due:
            self._schedule_pump()

    def _schedule_pump(self) -> None:
        self._pump_is_due = True
        self._loop.call_soon(self._pump, context=self._context)

    def _pump(self) -> None:
        """Once in a step of the loop: renew the budget, and start workers until the queue is empty."""
        self._pump_is_due = False
        self._budget = self._turns_per_step
        if self._closed:
            return
        while self._ready and self._budget > 0 and not self._starting:
            worker = Worker()
            self.workers[worker] = None
            self._starting = True
            self._watch(worker, start_eagerly(self._work(worker), self._loop, worker.context))
        if self._ready and not self._pump_is_due:
            self._schedule_pump()

    async def _work(self, worker: Worker) -> None:
        """Give turns to the machines in the queue until it is empty or the budget is used up."""
        self._starting = False
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 -- a coroutine of a task
        ready, parts = self._ready, self._parts
        while ready and self._budget > 0:
            actor = ready.popleft()
            if actor.status != READY:
                continue  # stopped or quarantined meanwhile
            actor.status = RUNNING
            for _ in range(parts.limits.events_in_a_row):
                mailbox = actor.mailbox
                envelope = None if mailbox is None else mailbox.take()
                if envelope is None:
                    break
                if mailbox is not None and mailbox.outside:
                    self._let_in(mailbox, actor.kind.capacity)
                self._budget -= 1
                parts.counters.turns_queued += 1
                try:
                    goes_on = await actor.turn(envelope, worker)
                except BaseException:
                    self._after_turn(actor)
                    raise
                if not goes_on:
                    return
                if self._must_retire(worker, task) or actor.status != RUNNING or self._budget <= 0:
                    break
                if actor.rare is not None and actor.rare.stop_reason is not None:
                    break
            self._after_turn(actor)
            if self._must_retire(worker, task):
                return

    def _must_retire(self, worker: Worker, task: asyncio.Task[Any]) -> bool:
        # A hook that set a context variable, or cancelled the task it ran in, shall not be felt by the next machine.
        return not _is_clean(worker.context) or task.cancelling() > 0

    def _after_turn(self, actor: Actor) -> None:
        if actor.status != RUNNING:
            return
        rare = actor.rare
        if rare is not None and rare.stop_reason is not None:
            actor.kind.supervisor.stop_now(actor)
            return
        mailbox = actor.mailbox
        if mailbox is None:
            actor.status = IDLE
        elif mailbox.queue or mailbox.own or mailbox.released:
            self.make_ready(actor)
        else:
            actor.status = IDLE
            if mailbox.is_empty:
                actor.mailbox = None

    def _watch(self, worker: Worker, task: asyncio.Task[None]) -> None:
        worker.task = task
        if task.done():
            self._ended(worker, task)
        else:
            self.workers[worker] = None
            task.add_done_callback(lambda ended: self._ended(worker, ended), context=self._context)

    def _ended(self, worker: Worker, task: asyncio.Task[None]) -> None:
        self.workers.pop(worker, None)
        self._starting = False
        if not task.cancelled():
            error = task.exception()
            if error is not None:
                self._parts.on_failure(error)
        if self._ready and not self._pump_is_due:
            self._schedule_pump()
        self._parts.note_change()

    # -- turns inside an ask ------------------------------------------------------------------------------------

    def _begin_inline(self, actor: Actor) -> None:
        self._budget -= 1
        if not self._pump_is_due:
            self._schedule_pump()
        actor.status = RUNNING
        self._parts.counters.accepted += 1

    def _run_plain(self, actor: Actor, envelope: Envelope) -> None:
        """Run the turn here and now: no hook of the class can suspend, so no task is needed."""
        self._begin_inline(actor)
        self._parts.counters.turns_plain += 1
        envelope.accepted = True
        worker = self._spare or Worker()
        self._spare = None
        self._depth += 1
        asker = asyncio.current_task(self._loop)
        if asker is not None:
            leave_task(self._loop, asker)
        try:
            worker.context.run(_drive, actor.turn(envelope, worker))
        finally:
            if asker is not None:
                enter_task(self._loop, asker)
            self._depth -= 1
            self._after_turn(actor)
        if _is_clean(worker.context):
            self._spare = worker

    def _run_eagerly(self, actor: Actor, envelope: Envelope) -> None:
        """Run the turn up to its first suspension here and now, in a task that the asker's cancellation does not reach."""
        self._begin_inline(actor)
        self._parts.counters.turns_eager += 1
        envelope.accepted = True
        worker = Worker()
        self._depth += 1
        try:
            task = start_eagerly(self._serve(actor, envelope, worker), self._loop, worker.context)
        finally:
            self._depth -= 1
        self._watch(worker, task)

    async def _serve(self, actor: Actor, envelope: Envelope, worker: Worker) -> None:
        goes_on = True
        try:
            goes_on = await actor.turn(envelope, worker)
        finally:
            if goes_on:
                self._after_turn(actor)

    # -- the watch over hooks -----------------------------------------------------------------------------------

    def running_turns(self) -> Iterator[Turn]:
        """Yield the turns that are running in a task."""
        for worker in self.workers:
            if worker.turn is not None and not worker.turn.closed:
                yield worker.turn

    def overdue(self, turn: Turn) -> None:
        """Cancel a hook that exceeded its deadline; leave it behind if it refuses to end within the grace."""
        if turn.interruption is None:
            self.interrupt(turn, "deadline")
        else:
            self.leave_behind(turn)

    def interrupt(self, turn: Turn, why: str) -> None:
        """Cancel the running hook of a turn."""
        worker = self._worker_of(turn)
        if worker is None or worker.task is None:
            return
        turn.interruption = why
        turn.step_deadline = self._loop.time() + self._parts.limits.grace_s
        self._parts.sweeper.arm(turn.step_deadline)
        worker.task.cancel()

    def leave_behind(self, turn: Turn) -> None:
        """Give up a hook that does not end: the machine goes on without it."""
        worker = self._worker_of(turn)
        if worker is not None and worker.task is not None:
            self.workers.pop(worker, None)
            self._parts.keep(worker.task, f"{turn.machine_id}.{'' if turn.step is None else turn.step.name}")
        turn.actor.kind.supervisor.hook_left_behind(turn)

    def _worker_of(self, turn: Turn) -> Worker | None:
        return next((worker for worker in self.workers if worker.turn is turn), None)

    @property
    def is_at_rest(self) -> bool:
        """Whether no machine has or wants a turn."""
        return not self._ready and not self.workers

    def close(self) -> None:
        """Give no more turns."""
        self._closed = True
        self._ready.clear()


def _is_clean(context: Context) -> bool:
    """Return whether a turn has left nothing in its context that the next machine could feel.

    Arithmetic with Decimal leaves its context there, which is as good as none if nobody has changed it.
    """
    if len(context) == 1:  # the current turn
        return True
    if len(context) == 2:  # noqa: PLR2004 -- the current turn and one more
        for value in context.values():
            if isinstance(value, decimal.Context) and _settings(value) == _DECIMAL:
                value.clear_flags()
                return True
    return False


def _settings(context: decimal.Context) -> tuple[Any, ...]:
    limits = (context.Emin, context.Emax, context.capitals, context.clamp)
    return (context.prec, context.rounding, *limits, context.traps)


_UNTOUCHED: Final = decimal.Context()  # its traps live as long as it does
_DECIMAL: Final = _settings(_UNTOUCHED)


def _drive(coroutine: Coroutine[Any, Any, bool]) -> None:
    """Run a coroutine that cannot suspend."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise ActorFSMError("a plain hook suspended the turn")
