"""The dispatcher: whose turn is it, and on which path.

Ready machines stand in one queue; each handles a few events and goes to its end, so that none starves another. Workers
are tasks that exist only while something is ready: one drains the queue, and when a hook suspends it the next is
started.

An ask to an idle machine with an empty mailbox may skip the queue: its turn runs inside the ask, in a task of its own
(from Python 3.12) or, if all hooks of the class are plain functions, without any task. It is the same turn function
on every path, and a budget per step of the event loop bounds them all.
"""

from __future__ import annotations

import asyncio
import decimal
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

from actorfsm.errors import MachineStopped, MailboxFull, Quarantined, SystemFailed
from actorfsm.machine.options import Overflow
from actorfsm.runtime import settling
from actorfsm.runtime.actor import IDLE, QUARANTINED, READY, RUNNING, SUSPENDED, Actor
from actorfsm.runtime.mailbox import Mailbox
from actorfsm.runtime.reply import tell_accepted
from actorfsm.runtime.tasks import EAGER, enter_task, leave_task, start_eagerly
from actorfsm.runtime.turn import CURRENT

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterator

    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.turn import Turn

__all__ = ["Dispatcher"]


_SPARE_MAILBOXES: Final = 1024
"""A mailbox is made at a machine's first waiting event and passed on when it is empty: 0.06 µs instead of 0.3."""


class Dispatcher:
    """Gives turns to machines.

    Attributes:
        inline: Whether an ask to an idle machine may be handled inside the ask.
        workers: The tasks that run turns now, with their contexts: the turn is in there.
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
        self._spare: Context | None = Context()
        self._empty_mailboxes: list[Mailbox] = []
        self._in_a_row = parts.limits.events_in_a_row
        self._guarded_pump = parts.guarded(self._pump)
        self._closed = False
        self._turn = Actor.turn if parts.tracing is None else parts.tracing.turn
        self.inline = inline
        self.workers: dict[asyncio.Task[Any], Context] = {}

    # -- into the mailbox ---------------------------------------------------------------------------------------

    def admit(self, actor: Actor, envelope: Envelope) -> None:
        """Take an event into the machine's mailbox, or handle it at once.

        Raises:
            ActorFSMError: It was not accepted: `MailboxFull`, `Quarantined` or `MachineStopped`.
        """
        envelope.actor = actor
        envelope.machine_name = actor.kind.name
        status = actor.status
        if (
            status == IDLE
            and envelope.is_ask
            and self._budget > 0
            and self._depth < self._max_depth
            and self.inline
        ):
            if actor.kind.is_plain:
                self._run_plain(actor, envelope)
                return
            if EAGER:  # pragma: no branch -- always so from Python 3.12 on
                self._run_eagerly(actor, envelope)
                return
        if status >= QUARANTINED and not (envelope.of_runtime and status == QUARANTINED):
            self._refuse(actor, envelope)
        mailbox = actor.mailbox
        if mailbox is None:
            actor.mailbox = mailbox = self._empty_mailboxes.pop() if self._empty_mailboxes else Mailbox()
        is_full = len(mailbox.queue) >= actor.kind.capacity or mailbox.outside
        if is_full and not envelope.of_runtime:
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
            settling.end_undelivered(actor, envelope, full)
        else:
            oldest = next((waiting for waiting in mailbox.queue if not waiting.of_runtime), None)
            self._take_in(mailbox, envelope)
            if oldest is not None:  # what the runtime sent is exempt from the bound
                mailbox.queue.remove(oldest)
                settling.end_undelivered(actor, oldest, full)

    def withdraw(self, actor: Actor, envelope: Envelope) -> None:
        """Take an event of the runtime's own back that waits in the mailbox: as if it had never been sent."""
        assert actor.mailbox is not None  # noqa: S101 -- where it waits
        if actor.mailbox.remove(envelope):
            self._parts.counters.accepted -= 1
            self._parts.counters.withdrawn += 1
            if self._parts.recording is not None:
                self._parts.recording.withdrawn(actor, envelope)
            self.made_room(actor)

    def made_room(self, actor: Actor) -> None:
        """Follow the removal of an event from a mailbox: let others in, drop an idle machine's empty mailbox."""
        mailbox = actor.mailbox
        if mailbox is None or actor.is_stopped:
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

    @property
    def at_work(self) -> int:
        """How many machines have something to handle now."""
        return len(self._ready) + len(self.workers)

    def make_ready(self, actor: Actor) -> None:
        """Let a machine have its turn."""
        actor.status = READY
        self._ready.append(actor)
        if not self._pump_is_due:
            self._schedule_pump()

    def hold_back(self, actor: Actor) -> None:
        """Let a ready machine have no turn for now."""
        self._ready.remove(actor)

    def _schedule_pump(self) -> None:
        self._pump_is_due = True
        self._loop.call_soon(self._guarded_pump, context=self._context)

    def _pump(self) -> None:
        """Once in a step of the loop: renew the budget, and start workers until the queue is empty."""
        self._pump_is_due = False
        self._budget = self._turns_per_step
        if self._closed:
            return
        while self._ready and self._budget > 0 and not self._starting:
            context = Context()
            self._starting = True
            task = start_eagerly(self._work(context), self._loop, context)
            if task.done():
                self._ended(task)
            else:
                self.workers[task] = context
                task.add_done_callback(self._ended, context=self._context)
        if self._ready and not self._pump_is_due:
            self._schedule_pump()

    async def _work(self, context: Context) -> None:
        """Give turns to the machines in the queue until it is empty or the budget is used up."""
        self._starting = False
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 -- a coroutine of a task
        ready, counters, in_a_row = self._ready, self._parts.counters, self._in_a_row
        # One turn at least: up to Python 3.11 a worker begins a step later, and asks that are handled inside the ask
        # could use up the budget of every step before it.
        is_first = True
        while ready and (self._budget > 0 or is_first):
            is_first = False
            actor = ready.popleft()
            if actor.status != READY:
                continue  # stopped or quarantined meanwhile
            actor.status = RUNNING
            mailbox = actor.mailbox
            is_fresh, handled = True, 0
            while (
                is_fresh and mailbox is not None and handled < in_a_row and (self._budget > 0 or not handled)
            ):
                envelope = mailbox.take()
                if envelope is None:
                    break
                if mailbox.outside:
                    self._let_in(mailbox, actor.kind.capacity)
                handled += 1
                self._budget -= 1
                counters.turns_queued += 1
                try:
                    if not await self._turn(actor, envelope):
                        return
                except BaseException as error:
                    self._turn_died(actor, envelope, error)
                    raise
                # A hook that set a context variable, or cancelled the task it ran in, is not felt by the next machine:
                # then this worker retires.
                is_fresh = (len(context) == 1 or _is_clean(context)) and not task.cancelling()
                if actor.status != RUNNING or (actor.rare is not None and actor.rare.is_called_off):
                    break
                mailbox = actor.mailbox
            self._after_turn(actor)
            if not is_fresh:
                return

    def _after_turn(self, actor: Actor) -> None:
        if actor.status != RUNNING:
            return
        rare = actor.rare
        if rare is not None and rare.is_called_off:
            if rare.stop_reason is not None:
                actor.kind.supervisor.stop_now(actor)
            else:
                actor.status = SUSPENDED
            return
        mailbox = actor.mailbox
        if mailbox is None:
            actor.status = IDLE
        elif mailbox.queue or mailbox.own or mailbox.released:
            self.make_ready(actor)
        else:
            actor.status = IDLE
            if not mailbox.postponed and not mailbox.outside:
                actor.mailbox = None
                if len(self._empty_mailboxes) < _SPARE_MAILBOXES:
                    self._empty_mailboxes.append(mailbox)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.workers.pop(task, None)
        self._starting = False
        if not task.cancelled():
            error = task.exception()
            if error is not None:
                self._parts.on_failure(error)
        if self._ready and not self._pump_is_due:
            self._schedule_pump()
        self._parts.note_change()

    # -- turns inside an ask ------------------------------------------------------------------------------------

    def _begin_inline(self, actor: Actor, envelope: Envelope) -> None:
        self._budget -= 1
        if not self._pump_is_due:
            self._schedule_pump()
        self._parts.counters.accepted += 1
        actor.status, envelope.accepted = RUNNING, True

    def _run_plain(self, actor: Actor, envelope: Envelope) -> None:
        """Run the turn here and now: no hook of the class can suspend, so no task is needed."""
        self._begin_inline(actor, envelope)
        self._parts.counters.turns_plain += 1
        context = self._spare or Context()
        self._spare = None
        self._depth += 1
        turn = self._turn(actor, envelope)
        asker = asyncio.current_task(self._loop)
        if asker is not None:
            leave_task(self._loop, asker)
        try:
            context.run(turn.send, None)
        except StopIteration:
            if len(context) == 1 or _is_clean(context):
                self._spare = context
        except BaseException as error:
            self._turn_died(actor, envelope, error)
            if isinstance(error, Exception):
                self._parts.on_failure(error)
            else:
                raise
        finally:
            if asker is not None:
                enter_task(self._loop, asker)
            self._depth -= 1
        self._after_turn(actor)

    def _run_eagerly(self, actor: Actor, envelope: Envelope) -> None:
        """Run the turn up to its first suspension here and now, in a task that the asker's cancellation spares."""
        self._begin_inline(actor, envelope)
        self._parts.counters.turns_eager += 1
        context = Context()
        self._depth += 1
        try:
            task = start_eagerly(self._serve(actor, envelope), self._loop, context)
        finally:
            self._depth -= 1
        if not task.done():
            self.workers[task] = context
            task.add_done_callback(self._ended, context=self._context)
        elif task.cancelled() or task.exception() is not None:
            self._ended(task)

    async def _serve(self, actor: Actor, envelope: Envelope) -> None:
        try:
            goes_on = await self._turn(actor, envelope)
        except BaseException as error:
            self._turn_died(actor, envelope, error)
            raise
        if goes_on:
            self._after_turn(actor)

    def _turn_died(self, actor: Actor, envelope: Envelope, error: BaseException) -> None:
        """Answer an event whose turn let an exception out: an interrupt, or a fault of the runtime itself."""
        if isinstance(error, GeneratorExit):
            return  # the loop is gone: there is nobody to answer
        if not envelope.settled:
            failure = SystemFailed(
                f"the runtime failed with {type(error).__name__}", machine_id=actor.id, event=envelope.event
            )
            failure.__cause__ = error
            settling.end_undelivered(actor, envelope, failure)
        self._after_turn(actor)

    # -- the watch over hooks -----------------------------------------------------------------------------------

    def running_turns(self) -> Iterator[Turn]:
        """Yield the turns that are running in a task."""
        for context in list(self.workers.values()):
            turn = context.get(CURRENT)
            if turn is not None and not turn.closed:
                yield turn

    def overdue(self, turn: Turn) -> None:
        """Cancel a hook that exceeded its deadline; leave it behind if it refuses to end within the grace."""
        if turn.interruption is None:
            self.interrupt(turn, "deadline")
        else:
            self.leave_behind(turn)

    def interrupt(self, turn: Turn, why: str) -> None:
        """Cancel the running hook of a turn."""
        if turn.is_committing:
            return  # it has its settlement first (C2)
        task = self._task_of(turn)
        turn.interruption = why
        if turn.step is not None:
            turn.cancelled_step_began_at = turn.step_deadline - turn.step.timeout_s
        turn.step_deadline = self._loop.time() + self._parts.limits.grace_s
        self._parts.sweeper.arm(turn.step_deadline)
        task.cancel()

    def leave_behind(self, turn: Turn) -> None:
        """Give up a hook that does not end: the machine goes on without it."""
        task = self._task_of(turn)
        del self.workers[task]
        self._parts.keep(task, f"{turn.machine_id}.{'' if turn.step is None else turn.step.name}")
        turn.actor.kind.supervisor.hook_left_behind(turn)
        if self._parts.tracing is not None:
            self._parts.tracing.leave_behind(turn.envelope)
        self._parts.threads.leave(turn)
        self._parts.note_change()

    def _task_of(self, turn: Turn) -> asyncio.Task[Any]:
        return next(task for task, context in self.workers.items() if context.get(CURRENT) is turn)

    @property
    def is_at_rest(self) -> bool:
        """Whether no machine has or wants a turn."""
        return not self._ready and not self.workers

    @property
    def is_closed(self) -> bool:
        """Whether it gives no more turns."""
        return self._closed

    def close(self) -> None:
        """Give no more turns."""
        self._closed = True
        self._ready.clear()


def _is_clean(context: Context) -> bool:
    """Return whether a turn has left nothing in its context that the next machine could feel.

    Arithmetic with Decimal leaves its context there, which is as good as none if nobody has changed it.
    """
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
