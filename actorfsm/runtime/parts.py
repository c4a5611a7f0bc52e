"""The parts that one system is made of, handed down to all that lives in it: there is no state at module level."""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING, Any

from actorfsm.ids import EventIds
from actorfsm.runtime.dead_letter import DeadLetter, DeadLetters
from actorfsm.runtime.operator_calls import OperatorCalls
from actorfsm.runtime.stats import Counters
from actorfsm.runtime.transitions import Ring
from actorfsm.runtime.waits import WaitGraph

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from random import Random

    from actorfsm.clock import Clock
    from actorfsm.journal.protocol import Journal
    from actorfsm.runtime.addressing import Addressing
    from actorfsm.runtime.admission import Admission
    from actorfsm.runtime.callbacks import Callbacks
    from actorfsm.runtime.calls import Calls
    from actorfsm.runtime.deadlines import DeadlineWheel, HookSweeper
    from actorfsm.runtime.dispatcher import Dispatcher
    from actorfsm.runtime.door import Door
    from actorfsm.runtime.durable_hooks import DurableHooks
    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.inbox import Inbox
    from actorfsm.runtime.limits import Limits
    from actorfsm.runtime.outbox import Outbox
    from actorfsm.runtime.passivation import Passivation
    from actorfsm.runtime.recording import Recording
    from actorfsm.runtime.recovery import Recovery
    from actorfsm.runtime.registry import Registry
    from actorfsm.runtime.thread_pool import ThreadPool
    from actorfsm.runtime.timer_queue import TimerQueue
    from actorfsm.runtime.tracing import Tracing
    from actorfsm.runtime.transaction import Transactions
    from actorfsm.runtime.turn import Turn
    from actorfsm.runtime.watches import Watches
    from actorfsm.trace import Record, Sink

__all__ = ["Parts"]


class Parts:
    """What the actors of one system share.

    Attributes:
        stopping: Whether events from outside are refused.
        has_ended: Whether the system has stopped and no longer changes: any thread may look at it.
        failed_with: What killed a task of the runtime itself, if anything did.
    """

    loop: asyncio.AbstractEventLoop
    time: Callable[[], float]
    """The loop's clock."""
    registry: Registry
    callbacks: Callbacks
    calls: Calls
    addressing: Addressing
    admission: Admission
    door: Door
    dispatcher: Dispatcher
    deadlines: DeadlineWheel
    sweeper: HookSweeper
    timers: TimerQueue
    watches: Watches
    threads: ThreadPool
    journal: Journal | None = None
    """Where commits go; None if everything is in memory only."""
    recording: Recording | None = None
    """What writes into the journal; None where there is none."""
    tracing: Tracing | None = None
    """What follows events with spans, if anything does."""
    hooks: DurableHooks
    inbox: Inbox | None = None
    """What stores events before they are accepted, likewise."""
    recovery: Recovery | None = None
    """What brings machines back from the journal, likewise."""
    outbox: Outbox | None = None
    """Where events are stored beside the user's rows; None where there is no such place."""
    transactions: Transactions | None = None
    """What begins the transactions of turns that take one; None where no hook does."""
    passivation: Passivation | None = None
    """What lets machines leave memory; None where they stay."""

    def __init__(  # noqa: PLR0917 -- the composition root names every part once
        self,
        clock: Clock,
        random: Random,
        ids: EventIds,
        services: Any,
        limits: Limits,
        sinks: tuple[Sink, ...],
        on_quarantine: Callable[[str, BaseException], Any] | None,
        on_dead_letter: Callable[[DeadLetter], Any] | None,
        on_blocked: Callable[..., Any] | None,
    ) -> None:
        self.clock = clock
        self.random = random
        self.ids = ids
        self.services = services
        self.limits = limits
        self.sinks = sinks
        self.on_quarantine = _calls(self, on_quarantine, "the callback for quarantines")
        self.on_dead_letter = _calls(self, on_dead_letter, "the callback for dead letters")
        self.on_blocked = _calls(self, on_blocked, "the callback for a blocked loop")
        self.counters = Counters()
        self.dead_letters = DeadLetters(limits.dead_letters)
        self.ring = Ring(limits.transitions)
        self.transitions = self.ring.rows if limits.transitions else None
        """Where the ends of events are noted; None if nobody wants to see them."""
        self.waits = WaitGraph()
        self.background: dict[asyncio.Future[Any], str] = {}
        """Tasks beside the turns: callbacks, detached hooks, what hooks left behind; with what to call them."""
        self.detached: dict[Turn, asyncio.TimerHandle] = {}
        """The turns of the detached hooks that run, each with the time when it is left behind."""
        self.services_running: dict[asyncio.Future[Any], str] = {}
        """The tasks of the services of the supervision tree."""
        self.stopping = False
        self.has_ended = False
        self.failed_with: BaseException | None = None
        self.changed: list[asyncio.Future[None]] = []
        """Who waits for the system to come to rest."""
        self.failure = ""
        """Why the system failed, in words."""
        self.on_failure: Callable[[BaseException], None] = lambda _error: None

    @property
    def has_journal(self) -> bool:
        """Whether commits go into a journal."""
        return self.journal is not None

    @property
    def in_memory(self) -> str:
        """What to add where only memory was looked at: a machine may be in the journal."""
        return (
            " in memory; `await system.load(...)` brings back one that is stored" if self.has_journal else ""
        )

    def fail(self, cause: BaseException, why: str) -> None:
        """End the system.

        Args:
            cause: What is at the bottom of it.
            why: In words.
        """
        self.failure = self.failure or why
        self.on_failure(cause)

    def guarded(self, function: Callable[..., None]) -> Callable[..., None]:
        """Return the function as a callback of the event loop: what it raises ends the system, not just a log."""

        def call(*arguments: Any) -> None:
            try:
                function(*arguments)
            except Exception as error:  # noqa: BLE001 -- whatever it is, asks must not hang (C17)
                self.on_failure(error)

        return call

    def forked(self) -> None:
        """Follow a fork, in the child: a system that runs is the parent's, one not yet started gets ids of its own."""
        if hasattr(self, "admission"):
            self.admission.forked()
            self.calls.forked()
        else:
            self.ids = EventIds(self.random)

    def event_id(self, envelope: Envelope) -> str:
        """Return the event's id, made on demand."""
        if not envelope.event_id:
            envelope.event_id = self.ids.text(envelope.number)
        return envelope.event_id

    def emit(self, record: Record) -> None:
        """Give a record to every sink, from a turn."""
        for sink in self.sinks:
            try:
                sink(record)
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 -- a sink cannot hurt the runtime (C13)
                self.counters.sinks_failed += 1

    def flush_sinks(self) -> None:
        """Let the sinks that hold records back write them."""
        for sink in self.sinks:
            flush = getattr(sink, "flush", None)
            if flush is not None:
                try:
                    flush()
                except KeyboardInterrupt:
                    raise
                except BaseException:  # noqa: BLE001 -- a sink cannot hurt the runtime (C13)
                    self.counters.sinks_failed += 1

    def emit_outside(self, record: Record) -> None:
        """Give a record to every sink, from a caller's context, whose variables do not belong to the machine."""
        Context().run(self.emit, record)

    def bury(self, envelope: Envelope, reason: str) -> None:
        """Keep an event as a dead letter."""
        letter = DeadLetter(
            envelope.machine_id,
            envelope.event,
            self.event_id(envelope),
            reason,
            self.clock.now(),
            envelope.attempt,
            envelope.has_own_id,
            None if envelope.headers is None else dict(envelope.headers),
        )
        self.dead_letters.add(letter)
        if self.on_dead_letter is not None:
            self.on_dead_letter(letter)

    def close_callbacks(self) -> None:
        """Call no more callbacks, of senders and of the operator."""
        self.callbacks.close()
        for calls in (self.on_quarantine, self.on_dead_letter, self.on_blocked):
            if calls is not None:
                calls.close()

    def owns(self, task: asyncio.Future[Any] | None) -> bool:
        """Return whether the task is one of the system's, which its stop cancels."""
        return task in self.background or task in self.services_running or task in self.dispatcher.workers

    def keep(self, task: asyncio.Future[Any], name: str) -> None:
        """Hold a task beside the turns until it ends."""
        self.background[task] = name
        task.add_done_callback(self._drop)

    def _drop(self, task: asyncio.Future[Any]) -> None:
        self.background.pop(task, None)
        if not task.cancelled():
            task.exception()  # retrieved: its owner reported it
        self.note_change()

    def note_change(self) -> None:
        """Wake whoever waits for the system to come to rest."""
        for waiter in self.changed:
            if not waiter.done():
                waiter.set_result(None)

    async def next_change(self, deadline: float) -> None:
        """Wait until something changes, or until the deadline on the loop's clock."""
        waiter: asyncio.Future[None] = self.loop.create_future()
        handle = self.loop.call_at(deadline, self.note_change, context=Context())
        self.changed.append(waiter)
        try:
            await waiter
        finally:
            handle.cancel()
            self.changed.remove(waiter)

    async def until(self, is_over: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until it is over; return whether it is, or the time has passed."""
        deadline = self.loop.time() + timeout_s
        while not is_over():
            if self.loop.time() >= deadline:
                return False
            await self.next_change(deadline)
        return True


def _calls(parts: Parts, callback: Callable[..., Any] | None, name: str) -> OperatorCalls | None:
    return None if callback is None else OperatorCalls(parts, callback, name)
