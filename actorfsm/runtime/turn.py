"""The turn: what one event's handling knows, from dequeue to the end of its after-hooks.

The machine instance that hooks see asks the turn for everything that is not data. When the turn is closed, so is the
instance, and the tasks that hooks left behind are cancelled.
"""

from __future__ import annotations

from contextvars import ContextVar
from math import inf
from typing import TYPE_CHECKING, Any, Final

from actorfsm.errors import Discarded, InvalidEvent, MailboxFull, ReadOnly, StaleTurn
from actorfsm.event import Terminated
from actorfsm.ids import check_machine_id, derive_id
from actorfsm.runtime import jobs, timers
from actorfsm.runtime.ref import Ref
from actorfsm.runtime.reply import refuse
from actorfsm.runtime.tasks import start_task

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from datetime import datetime

    from actorfsm.clock import Duration
    from actorfsm.event import Event, Outcome
    from actorfsm.machine.definition import Step, Transition
    from actorfsm.machine.machine import Machine
    from actorfsm.machine.timers import TimerScope
    from actorfsm.runtime.actor import Actor
    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.jobs import Job
    from actorfsm.runtime.receipt import Receipt
    from actorfsm.runtime.timers import Timer
    from actorfsm.runtime.transaction import Transaction

__all__ = ["CURRENT", "Turn", "adopt", "current_turn", "enter_turn"]

CURRENT: Final[ContextVar[Turn | None]] = ContextVar("actorfsm_turn", default=None)
"""The turn in whose context code runs; None outside. Tasks and threads that a hook starts inherit it."""
current_turn: Final = CURRENT.get
enter_turn: Final = CURRENT.set


def adopt(task: asyncio.Future[Any]) -> None:
    """Tell the turn in which a task was started, so that the task does not outlive it."""
    turn = CURRENT.get()
    if turn is not None and not turn.closed and not task.done():
        if turn.tasks is None:
            turn.tasks = []
        turn.tasks.append(task)


class Turn:
    """The handling of one event. What is rare is a class-level default, as in `Envelope`.

    Attributes:
        data: The committed fields that it shows.
        draft: The copy of them that it may change; None until the first write.
        touched: Names of the fields that were written.
        writable: Whether fields may change now.
        choice: The transition that was chosen.
        step: The hook or body that is running.
        step_deadline: When that is to be done, on the loop's clock.
        committed: Whether its commit is done.
        closed: Whether it is over.
    """

    touched: set[str]
    interruption: str | None = None
    """Why the runtime cancelled the step: `deadline`, `abandoned`, `stopping` or `supervisor`."""
    cancelled_step_began_at = 0.0
    outgoing: list[Envelope] | None = None
    own_events: list[Envelope] | None = None
    timers: dict[str, Timer] | None = None
    """The machine's timers as the commit is to leave them, once the turn started or cancelled one."""
    jobs: dict[str, Job] | None = None
    """The machine's jobs as the commit is to leave them, once the turn started or cancelled one."""
    tasks: list[asyncio.Future[Any]] | None = None
    thread = 0
    """The thread in which its step runs, if that is one that blocks."""
    watching: list[tuple[str, bool]] | None = None
    """Which ids to watch from now on, or no longer."""
    callbacks: list[tuple[Envelope, Outcome]] | None = None
    """Callbacks that wait for the end of the turn."""
    hook_keys: dict[str, str] | None = None
    """Keys in the journal of the durable hooks that follow from it, by name."""
    transaction: Transaction | None = None
    """The user's own transaction, once a hook has taken it."""
    asks: dict[str, int] | None = None
    """How many asks and spawns it has begun, by the machine that they are for."""
    sends = 0
    stops_machine = False
    holds_machine = True
    is_committing = False
    """Whether the journal is at work for it: then it waits for the answer, whatever is cancelled (C2)."""
    started_at = 0.0
    machine: Machine[Any, Any]
    has_more_to_do = False
    """Whether own events, messages, timers, jobs or a stop wait for the commit."""

    def __init__(self, actor: Actor, envelope: Envelope) -> None:
        self.actor = actor
        self.envelope = envelope
        self.data = actor.data
        self.draft: dict[str, Any] | None = None
        self.writable = self.committed = self.closed = False
        self.choice: Transition | None = None
        self.step: Step | None = None
        self.step_deadline = inf

    # -- what a machine instance asks for (TurnView) ------------------------------------------------------------

    @property
    def machine_id(self) -> str:
        """The machine's id."""
        return self.actor.id

    @property
    def state(self) -> Any:
        """The machine's state; at birth, the one it is born in."""
        node = self.actor.node
        if node.parent is None and self.choice is not None:
            return self.choice.new
        return node.member

    @property
    def old(self) -> Any:
        """The state that the event found; None if the machine was not born."""
        return self.actor.node.member if self.choice is None else self.choice.source.member

    @property
    def new(self) -> Any:
        """The state that the chosen transition leads to; None if none was chosen."""
        return None if self.choice is None else self.choice.new

    @property
    def is_birth(self) -> bool:
        """Whether the machine is being born."""
        return self.actor.node.parent is None

    @property
    def services(self) -> Any:
        """The system's services."""
        return self.actor.kind.parts.services

    def now(self) -> datetime:
        """Return the time of day."""
        return self.actor.kind.parts.clock.now()

    def idempotency_key(self) -> str:
        """Return the key for outside effects of the running hook."""
        event_id = self.actor.kind.parts.event_id(self.envelope)
        return derive_id(self.actor.id, event_id, "guard" if self.step is None else self.step.name)

    def read_only_error(self) -> ReadOnly:
        """Return the error for a change where only looking is allowed."""
        where = "a guard" if self.step is None else f"the after-hook {self.step.name}"
        return ReadOnly(
            f"{where} of {self.actor.id} may look but not change or send; do it in the transition's body or in an "
            "enter hook",
            machine_id=self.actor.id,
            event=self.envelope.event,
        )

    def tell(self, target: Any, event: Event[Any, Any], event_id: str | None, headers: Any) -> Receipt:
        """Send after the commit."""
        self._check_writable()
        self.sends += 1
        derived = derive_id(self.actor.kind.parts.event_id(self.envelope), "tell", self.sends)
        receipt, envelope = self.actor.kind.parts.door.prepare(
            target, event, self, event_id or derived, headers, has_own_id=event_id is not None
        )
        if self.outgoing is None:
            self.outgoing = []
        self.outgoing.append(envelope)
        tracing = self.actor.kind.parts.tracing
        if tracing is not None:
            tracing.tell(self, envelope)
        return receipt

    async def ask(
        self,
        target: Any,
        event: Event[Any, Any],
        timeout: Duration | None,  # noqa: ASYNC109 -- as in `Machine.ask`
        headers: Any,
    ) -> Any:
        """Ask another machine, at once."""
        return await self.actor.kind.parts.door.ask_in_turn(self, target, event, timeout, None, headers)

    def next_event(self, event: Event[Any, Any]) -> None:
        """Raise an event before the mailbox, after the commit."""
        self._check_writable()
        limit = self.actor.kind.options.own_event_limit
        depth = self.envelope.own_depth + 1
        if self.own_events is None:
            self.own_events = []
        if depth > limit or len(self.own_events) >= limit:
            raise MailboxFull(
                f"{self.actor.id} raised {limit} events of its own in a row; a chain that never ends is not a state "
                "machine. Raise `own_event_limit` if it is meant",
                machine_id=self.actor.id,
                event=event,
            )
        _, envelope = self.actor.kind.parts.door.prepare(
            self.actor.id,
            event,
            self,
            derive_id(self.actor.kind.parts.event_id(self.envelope), "raise", len(self.own_events) + 1),
            None,
        )
        envelope.own_depth = depth
        self.own_events.append(envelope)

    def watch(self, target: Any) -> None:
        """Watch a machine after the commit."""
        if Terminated not in self.actor.kind.events:
            raise InvalidEvent(
                f"{self.actor.kind.name} has no transition for Terminated, which a watch ends with; write one: "
                "@transition(STATE, to=STAY), with a body that takes `event: Terminated`",
                machine_id=self.actor.id,
            )
        if self._change_watch(target, begins=True) == self.actor.id:
            raise InvalidEvent(
                f"{self.actor.id} would watch itself; what is to happen at its end belongs into the enter hook of its "
                "final state",
                machine_id=self.actor.id,
            )

    def unwatch(self, target: Any) -> None:
        """Watch a machine no longer, after the commit."""
        self._change_watch(target, begins=False)

    def _change_watch(self, target: Any, *, begins: bool) -> str:
        self._check_writable()
        machine_id = check_machine_id(target.id if isinstance(target, Ref) else target)
        if self.watching is None:
            self.watching = []
        self.watching.append((machine_id, begins))
        return machine_id

    def start_timer(
        self,
        event: Event[Any, Any],
        after: Duration | None,
        at: datetime | None,
        name: str | None,
        scope: TimerScope,
    ) -> None:
        """Send the machine an event later, counted from the commit."""
        self._check_writable()
        timers.start(self, event, after, at, name, scope)

    def cancel_timer(self, name: str | type[Event[Any, Any]]) -> bool:
        """Cancel a timer after the commit."""
        self._check_writable()
        return timers.cancel(self, name)

    def start_job(  # noqa: PLR0917 -- as `Machine.start_job`
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        done: Any,
        failed: Any,
        name: str | None,
        timeout: Duration | None,
        *,
        again: bool,
    ) -> str:
        """Begin a job after the commit."""
        self._check_writable()
        return jobs.start(self, function, arguments, done, failed, name, timeout, again=again)

    def cancel_job(self, name: str) -> bool:
        """Cancel a job after the commit."""
        self._check_writable()
        return jobs.cancel(self, name)

    def stop(self) -> None:
        """Stop the machine after the commit."""
        self._check_writable()
        self.stops_machine = True

    async def run_blocking(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a step that blocks in a thread."""
        return await self.actor.kind.parts.threads.run(self, function, arguments)

    def given(self, wanted: type[Any]) -> Any:  # noqa: ARG002 -- the system was checked to give it
        """Return the session of this turn."""
        if self.transaction is None:
            transactions = self.actor.kind.parts.transactions
            assert transactions is not None  # noqa: S101 -- the system was checked to have them
            self.transaction = transactions.begin(self.actor.id)
        return self.transaction.handle

    async def flush_given(self) -> None:
        """Send to the database what the running hook did with the session."""
        assert self.transaction is not None  # noqa: S101 -- it was given
        await self.transaction.flush()

    # -- the life of a turn -------------------------------------------------------------------------------------

    def check_open(self, event: Event[Any, Any]) -> None:
        """Raise `StaleTurn` if the turn is over."""
        if self.closed:
            raise StaleTurn(
                f"{type(event).__name__} was sent by what a hook of {self.actor.id} left behind; send it from a "
                "callback or from code of your own, outside the machine",
                machine_id=self.actor.id,
                event=event,
            )

    def next_ask_id(self, machine_id: str) -> str:
        """Return the id of the next ask of a machine: the same when the event is delivered again.

        Counted by machine, so that asks which begin beside each other may do so in another order the next time.
        """
        if self.asks is None:
            self.asks = {}
        number = self.asks[machine_id] = self.asks.get(machine_id, 0) + 1
        return derive_id(self.idempotency_key(), machine_id, number)

    def close(self) -> None:
        """End the turn: the instance is closed, tasks left behind are cancelled, unsent messages are discarded.

        Callbacks that waited for the end are called from now on.
        """
        self.closed = True
        self.actor.kind.drafts.close(self)
        if self.tasks is not None:
            self._cancel_tasks(self.tasks)
        if self.transaction is not None and not self.transaction.is_over:
            self._cut(self.transaction)
        if self.outgoing is not None and not self.committed:
            self._discard(self.outgoing)
        if self.callbacks is not None:
            waiting, self.callbacks = self.callbacks, None
            for envelope, outcome in waiting:
                self.actor.kind.parts.callbacks.add(envelope, outcome)

    def _check_writable(self) -> None:
        if self.closed:
            raise StaleTurn(
                f"self of {self.actor.id} was used after its turn; send the machine an event instead",
                machine_id=self.actor.id,
            )
        if not self.writable:
            raise self.read_only_error()
        self.has_more_to_do = True

    def _cut(self, transaction: Transaction) -> None:
        """End the transaction of a hook that was left behind and may still use it."""
        parts = self.actor.kind.parts
        transaction.cut()
        parts.keep(start_task(transaction.undo(), parts.loop), f"the end of a transaction of {self.actor.id}")

    def _cancel_tasks(self, tasks: list[asyncio.Future[Any]]) -> None:
        parts = self.actor.kind.parts
        for task in tasks:
            if not task.done():
                parts.keep(task, f"a task that a hook of {self.actor.id} left behind")
                task.cancel()

    def _discard(self, outgoing: list[Envelope]) -> None:
        for envelope in outgoing:
            envelope.refusal = Discarded(
                f"{type(envelope.event).__name__} for {envelope.machine_id} was not sent: the turn of "
                f"{self.actor.id} was rolled back",
                machine_id=envelope.machine_id,
                event=envelope.event,
            )
            refuse(envelope, envelope.refusal)
