"""The system: the composition root, and what its users call.

It makes the parts, starts and stops them, and passes every call on to the part that knows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from contextvars import Context
from functools import partial
from random import SystemRandom
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, cast

from typing_extensions import TypeVar

from actorfsm.clock import Clock, Duration, SystemClock, seconds
from actorfsm.errors import (
    ActorFSMError,
    AskCycle,
    DefinitionError,
    MachineExists,
    NoSuchLetter,
    NoSuchMachine,
    SystemFailed,
    SystemStopping,
)
from actorfsm.ids import EventIds, check_machine_id
from actorfsm.journal.address import journal_at
from actorfsm.machine.checks import check_system
from actorfsm.machine.options import RestartPolicy
from actorfsm.runtime import fork
from actorfsm.runtime.actor import RUNNING, STOPPED
from actorfsm.runtime.addressing import Addressing
from actorfsm.runtime.admission import Admission
from actorfsm.runtime.births import Births
from actorfsm.runtime.callbacks import Callbacks
from actorfsm.runtime.calls import Calls
from actorfsm.runtime.child import Declared, Strategy, Supervisor, all_declared
from actorfsm.runtime.deadlines import DeadlineWheel, HookSweeper
from actorfsm.runtime.dispatcher import Dispatcher
from actorfsm.runtime.door import Door
from actorfsm.runtime.durable_hooks import DurableHooks
from actorfsm.runtime.dynamic_supervisor import DynamicSupervisor
from actorfsm.runtime.inbox import Inbox
from actorfsm.runtime.kind import Kind
from actorfsm.runtime.limits import Limits
from actorfsm.runtime.outbox import Delivery
from actorfsm.runtime.parts import Parts
from actorfsm.runtime.passivation import Passivation, PassivationPolicy
from actorfsm.runtime.planting import check_static, class_of, plant
from actorfsm.runtime.recording import Recording
from actorfsm.runtime.recovery import Recovery
from actorfsm.runtime.ref import Ref
from actorfsm.runtime.registry import Registry
from actorfsm.runtime.room import wait_for_room
from actorfsm.runtime.shutdown import Shutdown, StopReport
from actorfsm.runtime.snapshots import SnapshotPolicy
from actorfsm.runtime.supervisor import DidNotStart
from actorfsm.runtime.tasks import TaskWatch, start_task
from actorfsm.runtime.thread_pool import ThreadPool
from actorfsm.runtime.threadsafe import Threadsafe
from actorfsm.runtime.timer_queue import TimerQueue
from actorfsm.runtime.transaction import check_transactions
from actorfsm.runtime.turn import adopt, current_turn
from actorfsm.runtime.views import SystemViews
from actorfsm.runtime.watchdog import LoopBlocked, Watchdog
from actorfsm.runtime.watches import Watches
from actorfsm.sinks.structlog_sink import StructlogSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from os import PathLike
    from random import Random
    from types import TracebackType

    from actorfsm.event import Event, Outcome, Terminated
    from actorfsm.journal.protocol import Journal
    from actorfsm.machine.machine import Machine
    from actorfsm.runtime.actor import Actor
    from actorfsm.runtime.births import Newborn, SpawnReport
    from actorfsm.runtime.dead_letter import DeadLetter
    from actorfsm.runtime.outbox import Outbox
    from actorfsm.runtime.receipt import Receipt
    from actorfsm.runtime.tracing import Tracing
    from actorfsm.runtime.transaction import Transactions
    from actorfsm.trace import Sink

__all__ = ["ActorSystem"]

MachineT = TypeVar("MachineT", bound="Machine[Any, Any]")
PolicyT = TypeVar("PolicyT")
ReplyT = TypeVar("ReplyT")
ServicesT = TypeVar("ServicesT", default=Any)

DEFAULT_TRACE: Final = "structlog"


class ActorSystem(SystemViews, Generic[ServicesT]):
    """Many machines in one process: `async with ActorSystem(Order, Ledger) as system`.

    Args:
        machines: The machine classes.
        services: What hooks find as `self.services`; never stored.
        journal: Where commits go: the name of a SQLite file, or a journal. Without one the system keeps everything in
            memory and forgets it at the end.
        durability: Of a file: `full`, or `process` for what need not survive a loss of power.
        passivation: When machines leave memory, until their next event; without it they stay. Needs a journal.
        snapshots: When the image of a machine is stored, and how long entries stay; `SnapshotPolicy()` by default.
            Needs a journal.
        trace: Where records of events go: a sink, several, or None. By default a structlog sink.
        tracing: What follows events with spans: `actorfsm.integrations.opentelemetry.Tracing()`. None does by default.
        transactions: Where hooks get the session that they take after the `*`: their rows, the new state and the
            journal's entry are stored together. `actorfsm.integrations.sqlalchemy.Transactions(sessionmaker)`; needs
            a journal at `postgresql://`.
        clock: The time of day; the computer's by default.
        random: For ids and jitter; a seeded `random.Random` makes runs repeatable.
        limits: Bounds and deadlines.
        inline: Whether an ask to an idle machine may be handled inside the ask, without a hop through the queue.
        on_quarantine: Called with `(machine_id, error)` when a machine is put into quarantine; plain or async.
        on_dead_letter: Called with each `DeadLetter`; plain or async.
        on_blocked: Called with a `LoopBlocked` when code blocked the event loop, once for each line; plain or async.
            None of these callbacks can hurt the runtime.
        children: The supervision tree below its root, in the order of start: supervisors, machines and services, and
            machine classes alone, as places for those that are spawned by id. Classes that stand there need not be
            given as `machines`; classes that do not are supervised by the root and started last.
        strategy: The root supervisor's strategy.
        root: How many restarts of the root's children are too many: then the system ends.

    Raises:
        DefinitionError: A class is no machine that can live, or two of them contradict each other.
        Unsupported: There is no such journal, or it is to be used with what is not stored yet.
    """

    def __init__(  # noqa: PLR0913 -- the composition root names every choice once
        self,
        *machines: type[Machine[Any, Any]],
        services: ServicesT | None = None,
        journal: str | PathLike[str] | Journal | None = None,
        durability: str = "full",
        passivation: PassivationPolicy | None = None,
        snapshots: SnapshotPolicy | None = None,
        trace: Sink | Iterable[Sink] | str | None = DEFAULT_TRACE,
        tracing: Tracing | None = None,
        transactions: Transactions | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
        limits: Limits | None = None,
        inline: bool = True,
        on_quarantine: Callable[[str, BaseException], Any] | None = None,
        on_dead_letter: Callable[[DeadLetter], Any] | None = None,
        on_blocked: Callable[[LoopBlocked], Any] | None = None,
        children: Iterable[Declared] = (),
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        root: RestartPolicy | None = None,
    ) -> None:
        children, sinks = tuple(children), _sinks(trace)
        self._made_with: dict[str, Any] = {
            "services": services,
            "durability": durability,
            "passivation": passivation,
            "snapshots": snapshots,
            "trace": sinks,
            "transactions": transactions,
            "clock": clock,
            "random": random,
            "limits": limits,
            "inline": inline,
            "on_quarantine": on_quarantine,
            "on_dead_letter": on_dead_letter,
            "on_blocked": on_blocked,
            "children": children,
            "strategy": strategy,
            "root": root,
        }
        self._given = machines
        self._journal = None if journal is None else journal_at(journal, durability=durability)
        self._passivation = _checked("passivation", PassivationPolicy, passivation, self._journal)
        self._snapshots = _checked("snapshots", SnapshotPolicy, snapshots, self._journal)
        self._declared = Supervisor(
            "system", strategy=strategy, children=children, policy=root or RestartPolicy()
        )
        declared = list(all_declared(self._declared.children))
        classes = dict.fromkeys([*machines, *filter(None, map(class_of, declared))])
        if not classes and not declared:
            raise DefinitionError("a system needs at least one machine class: ActorSystem(Order)")
        random = random or SystemRandom()
        self._parts = Parts(
            clock or SystemClock(),
            random,
            EventIds(random),
            services,
            limits or Limits(),
            sinks,
            on_quarantine,
            on_dead_letter,
            on_blocked,
        )
        self._parts.journal = self._journal
        self._parts.tracing = tracing
        self._parts.registry = Registry(Kind(machine, self._parts) for machine in classes)
        definitions = [kind.definition for kind in self._parts.registry.kinds.values()]
        check_system(definitions)
        check_transactions(transactions, self._journal, definitions)
        self._parts.transactions = transactions
        for kind in self._parts.registry.kinds.values():
            kind.supervisor = DynamicSupervisor(kind)
        check_static(declared, self._parts.registry)
        self._root = plant(self._declared, self._parts, self, declared)
        self._ending: Shutdown | None = None
        self._inline = inline
        self._parts.calls = Calls(self._parts)
        self._watchdog: Watchdog | None = None
        fork.watch(self._parts)
        self.threadsafe = Threadsafe(self, self._parts.calls)
        """The way in from other threads; its calls return a `concurrent.futures.Future`."""
        self._watch: TaskWatch | None = None
        self._door: Door | None = None
        self._body: asyncio.Task[Any] | None = None
        self._cancelled_body = False
        self.report: StopReport | None = None
        """How the system stopped, once it has."""

    def with_journal(self, journal: str | PathLike[str] | Journal | None) -> ActorSystem[ServicesT]:
        """Return a system that is made like this one and was not started, with another journal, or none.

        For programs that get a system from elsewhere and say where it is kept, as `actorfsm run --journal` does.

        Raises:
            DefinitionError, Unsupported: As for `ActorSystem`.
        """
        return ActorSystem(*self._given, journal=journal, **self._made_with)

    # -- life ---------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> ActorSystem[ServicesT]:
        """Start the system on the running event loop."""
        if self.is_started:
            raise SystemStopping("a system is started once; make a new one")
        parts = self._parts
        if self._journal is not None:
            await self._journal.open()
            parts.ids.belong_to(self._journal.epoch)
        parts.loop = loop = asyncio.get_running_loop()
        # asyncio's own loops only wrap the monotonic clock: calling it directly saves 0.05 µs, up to four times an ask.
        is_plain = getattr(type(loop), "time", None) is asyncio.BaseEventLoop.time
        parts.time = monotonic if is_plain else loop.time
        parts.addressing = Addressing(parts)
        parts.admission = Admission(parts)
        self._door = parts.door = Door(parts)
        parts.callbacks = Callbacks(parts)
        parts.timers = TimerQueue(loop, parts.limits.timers_per_step, parts.guarded)
        parts.watches = Watches(parts)
        parts.threads = ThreadPool(parts)
        parts.hooks = DurableHooks(parts)
        parts.deadlines = DeadlineWheel(loop, parts.guarded(parts.admission.expire))
        ready: deque[Actor] = deque()
        parts.dispatcher = Dispatcher(parts, ready, inline=self._inline)
        parts.sweeper = HookSweeper(
            loop, parts.dispatcher.running_turns, parts.guarded(parts.dispatcher.overdue)
        )
        if self._journal is not None:
            kinds = parts.registry.kinds.values()
            parts.recording = Recording(parts, self._journal, kinds, self._snapshots)
            parts.inbox = Inbox(parts, parts.recording)
            parts.recovery = Recovery(parts, self._journal, parts.recording)
        if self._passivation is not None:
            parts.passivation = Passivation(parts, self._passivation)
        parts.on_failure = self._fail
        self._watch = TaskWatch.install(loop, adopt)
        self._body = asyncio.current_task()
        if not getattr(loop, "simulated", False):  # there the clock and the only thread are the test's
            self._watchdog = Watchdog(parts, parts.calls.close)
            self._watchdog.start()
        parts.calls.open(loop)
        await self._start_tree()
        return self

    async def _start_tree(self) -> None:
        """Start the supervision tree; stop it again if it does not start, or if the caller is cancelled meanwhile.

        Raises:
            SystemFailed: A child failed to start, or took too long.
        """
        starting = start_task(self._begin(), self._parts.loop)
        try:
            await starting
        except DidNotStart as failure:
            await self.shutdown(queues="abandon")
            raise SystemFailed(f"the system did not start: {failure}") from failure.cause
        except BaseException:
            await self.shutdown(queues="abandon")
            raise

    async def _begin(self) -> None:
        recovery = self._parts.recovery
        if recovery is not None:
            await recovery.prepare()
        await self._root.start()
        if recovery is not None:
            await recovery.begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the system: queues are finished, within `Limits.stop_timeout_s`."""
        parts = self._parts
        if self._cancelled_body and self._body is not None:
            left = self._body.uncancel()
            if not isinstance(error, asyncio.CancelledError):
                # The body ended before it was woken. Up to Python 3.12 `uncancel` leaves that to the next await; what
                # is left is somebody else's.
                ours = () if left else (asyncio.CancelledError,)
                with suppress(*ours):
                    await asyncio.sleep(0)
        if self.report is None:
            await self.shutdown(queues="finish" if parts.failed_with is None else "abandon")
        failed_with = parts.failed_with
        if failed_with is not None:
            why = parts.failure or f"a task of the runtime died with {type(failed_with).__name__}"
            raise SystemFailed(f"{why}; everything was ended") from failed_with

    async def shutdown(self, *, queues: str = "finish", timeout: Duration | None = None) -> StopReport:  # noqa: ASYNC109
        """Stop the system. Afterwards nothing of it runs, but for hooks and services that refuse to be cancelled.

        Who calls it while the system stops joins those who wait for it; `queues="abandon"` hastens it.

        Args:
            queues: "finish" handles what is queued, "abandon" answers it with `SystemStopping`.
            timeout: How long finishing may take, seconds or timedelta; `Limits.stop_timeout_s` by default.

        Returns:
            A report.
        """
        if queues not in {"finish", "abandon"}:
            raise ActorFSMError(f"queues={queues!r}: 'finish' or 'abandon'")
        self._started().check_thread("shutdown was called")
        if self._ending is None:
            self._ending = self._end(
                finish=queues == "finish",
                timeout_s=self._parts.limits.stop_timeout_s if timeout is None else seconds(timeout),
            )
        elif queues == "abandon":
            self._ending.hurry()
        return await self._ending.wait()

    def _end(self, *, finish: bool, timeout_s: float) -> Shutdown:
        parts = self._parts
        error = None
        if parts.failed_with is not None:
            error = SystemFailed("the system has failed")
            error.__cause__ = parts.failed_with
        return Shutdown(
            parts, self._root, finish=finish, timeout_s=timeout_s, error=error, ended=self._has_ended
        )

    def _has_ended(self, report: StopReport | None) -> None:
        self.report = report
        self._parts.calls.close()
        self._parts.has_ended = True
        if self._watchdog is not None:
            self._watchdog.stop()
        assert self._watch is not None  # noqa: S101 -- a system is ended once
        self._watch.uninstall(self._parts.loop)

    def _fail(self, error: BaseException) -> None:
        """A task of the runtime itself died: answer everybody, and wake the body of `async with`."""
        parts = self._parts
        if parts.failed_with is not None or isinstance(error, KeyboardInterrupt):
            return
        parts.failed_with = error
        parts.stopping = True
        parts.dispatcher.close()
        failure = SystemFailed("the system has failed")
        failure.__cause__ = error
        if parts.recovery is not None:
            parts.recovery.close(failure)
        if parts.inbox is not None:
            parts.inbox.close(failure)
        for actor in list(parts.registry.actors.values()):
            actor.kind.supervisor.end_with(actor, failure)
        for turn in list(parts.dispatcher.running_turns()):
            parts.dispatcher.interrupt(turn, "stopping")
        if self._ending is not None:
            self._ending.hurry()
        elif self._body is not None and not self._body.done():
            self._cancelled_body = True
            self._body.cancel()

    # -- machines -----------------------------------------------------------------------------------------------

    async def spawn(
        self,
        machine_class: type[MachineT],
        machine_id: str,
        *,
        data: Mapping[str, Any] | None = None,
        event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Ref[MachineT]:
        """Create a machine; return once its enter hooks have run and it is alive.

        Args:
            machine_class: Its class, one of the system's.
            machine_id: Its id, unique over all classes of the system.
            data: Values for data fields.
            event_id: The caller's own id: the creation is done once.
            headers: As for `Ref.ask`.

        Raises:
            MachineExists: The id is taken.
            InvalidData: The data does not validate.
            Vetoed, HookFailed: A hook refused or failed; the id stays unknown.
        """
        door = self._started()
        await door.spawn(self._kind(machine_class), machine_id, data, event_id, headers)
        return Ref(door, machine_id, machine_class)

    async def spawn_many(
        self,
        machine_class: type[Machine[Any, Any]],
        machines: Iterable[Newborn] | Mapping[str, Mapping[str, Any] | None],
        *,
        at_once: int = 64,
    ) -> SpawnReport:
        """Create many machines of one class, quickly; return once all of them are alive or refused.

        Each is created by the rules of `spawn`, has its own event and record, and is refused alone. The event loop has
        its turn after every few (`Limits.turns_per_step`), so that asks go on meanwhile. What was created stays if the
        call is cancelled or `machines` raises.

        Args:
            machine_class: Their class, one of the system's.
            machines: Ids, or pairs of id and data, in any iterable; or a mapping of ids to data.
            at_once: How many births may wait for their hooks beside each other. In a hook it is one after the other.

        Returns:
            How many were created, and the refused ones by id with their errors.

        Raises:
            InvalidEvent: The class has no initial state, or a single id was given.
            SystemStopping, SystemFailed, StaleTurn, WrongThread: As any call; what was created before stays.
        """
        births = Births(self._started(), self._kind(machine_class), at_once)
        return await births.run(machines, self._parts.limits.turns_per_step)

    async def get_or_spawn(
        self, machine_class: type[MachineT], machine_id: str, *, data: Mapping[str, Any] | None = None
    ) -> Ref[MachineT]:
        """Return a ref to the machine, created now if the id is unknown.

        Raises:
            MachineExists: The id belongs to a machine of another class.
            InvalidData, Vetoed, HookFailed: As `spawn`.
        """
        door = self._started()
        door.check_thread(f"get_or_spawn of {machine_id} was called")
        kind = self._kind(machine_class)
        check_machine_id(machine_id)
        while True:
            if self._parts.recovery is not None:
                await self._parts.recovery.ensure(machine_id)
            actor = self._parts.registry.actors.get(machine_id)
            if actor is None:
                try:
                    await door.spawn(kind, machine_id, data, None, None)
                except MachineExists:
                    if machine_id not in self._parts.registry.actors:
                        raise
                    continue  # somebody else has spawned it while it was looked for in the journal
                break
            if actor.kind is not kind:
                raise MachineExists(f"{machine_id} is a {actor.kind.name}", machine_id=machine_id)
            if actor.node.parent is not None:
                break
            await door.wait_for_birth(actor)
        return Ref(door, machine_id, machine_class)

    def ref(self, machine_class: type[MachineT], machine_id: str) -> Ref[MachineT]:
        """Return a ref to an id, alive or not.

        Raises:
            InvalidEvent: The id is malformed.
        """
        self._kind(machine_class)
        return Ref(self._started(), check_machine_id(machine_id), machine_class)

    async def stop(self, machine_id: str) -> None:
        """Stop a machine, at most after the event it is handling; what waits is answered `MachineStopped`.

        A permanent machine of the supervision tree is born anew then.

        Raises:
            AskCycle: It is called in the machine's own turn, or in the turn of one that the machine waits for.
            NoSuchMachine: Nothing with this id is alive.
        """
        door = self._started()
        door.check_thread(f"stop of {machine_id} was called")
        if self._parts.recovery is not None:
            await self._parts.recovery.ensure(check_machine_id(machine_id))
        actor = self._alive(machine_id)
        turn = current_turn()
        if turn is not None and turn.actor is actor and turn.holds_machine and not turn.closed:
            raise AskCycle(
                f"{machine_id} would wait in its own turn for its own stop; say `self.stop()`",
                path=(machine_id, machine_id),
                machine_id=machine_id,
            )
        incarnation = actor.incarnation
        actor.kind.supervisor.stop(actor, "was stopped")
        if actor.status == RUNNING and actor.incarnation == incarnation:
            await door.wait_for_stop(actor)

    async def watch(self, machine_id: str) -> Terminated:
        """Wait until a machine has ended: at once if it has, or if there is none with this id.

        The system's own end is one too. In a hook use `self.watch`.

        Raises:
            SystemStopping: The system is stopping, or has stopped.
        """
        self._started().check_thread(f"watch of {machine_id} was called")
        if self._parts.stopping:
            raise SystemStopping("the system is stopping, or has stopped", machine_id=machine_id)
        if self._parts.recovery is not None:
            await self._parts.recovery.ensure(check_machine_id(machine_id))
        return await self._parts.watches.wait(check_machine_id(machine_id))

    def release(self, machine_id: str, *, discard: bool = False) -> None:
        """Let a quarantined machine go on.

        Args:
            machine_id: Its id.
            discard: Whether the events that were held become dead letters.

        Raises:
            NoSuchMachine: Nothing with this id is alive.
        """
        self._started().check_thread(f"release of {machine_id} was called")
        if self._parts.recovery is not None and self._parts.recovery.release(machine_id):
            return
        actor = self._alive(machine_id)
        actor.kind.supervisor.release(actor, discard=discard)

    def suspend(self, machine_id: str) -> None:
        """Hold a machine, at most after the event it is handling: its mail is kept in order, within its bounds.

        Asks that wait for it expire at their deadlines. A pause before a restart and a quarantine go on meanwhile. When
        the system stops, what is held is answered `SystemStopping`. To suspend it twice is to suspend it once.

        Args:
            machine_id: Its id.

        Raises:
            NoSuchMachine: Nothing with this id is alive.
            WrongThread: Called from another thread than the event loop's.
        """
        actor = self._under_orders(machine_id, "suspend")
        actor.kind.supervisor.suspend(actor)

    def resume(self, machine_id: str) -> None:
        """Let a suspended machine go on with what has waited, in order; nothing happens if it is not suspended.

        Raises:
            NoSuchMachine: Nothing with this id is alive.
            WrongThread: Called from another thread than the event loop's.
        """
        actor = self._under_orders(machine_id, "resume")
        actor.kind.supervisor.resume(actor)

    def _under_orders(self, machine_id: str, order: str) -> Actor:
        self._started().check_thread(f"{order} of {machine_id} was called")
        actor = self._alive(machine_id)
        if actor.status == STOPPED:
            raise NoSuchMachine(f"{machine_id} has stopped with the system", machine_id=machine_id)
        return actor

    # -- events -------------------------------------------------------------------------------------------------

    async def ask(
        self,
        machine_id: str,
        event: Event[ReplyT, Any],
        *,
        timeout: Duration | None = None,  # noqa: ASYNC109 -- a deadline of the event, not of this call alone
        event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ReplyT:
        """Send an event to a machine by id and wait for its reply; see `Ref.ask`."""
        # As `Door.ask`, which says it in words; one coroutine less on the way is 0.15 µs.
        door = self._door or self._started()
        turn = current_turn()
        if turn is not None:
            answer: ReplyT = await door.ask_in_turn(turn, machine_id, event, timeout, event_id, headers)
            return answer
        envelope = door.begin_ask(machine_id, event, timeout, event_id, headers)
        if not envelope.settled:
            await door.wait(envelope)
        if envelope.error is not None:
            raise envelope.error
        reply: ReplyT = envelope.reply
        return reply

    def tell(
        self,
        machine_id: str,
        event: Event[Any, Any],
        *,
        event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        callback: Callable[[Outcome], Any] | None = None,
        reply_to: str | None = None,
        timeout: Duration | None = None,
        durable: bool | None = None,
    ) -> Receipt:
        """Send an event to a machine by id and go on; see `Ref.tell`."""
        return self._started().tell(
            machine_id,
            event,
            event_id=event_id,
            headers=headers,
            callback=callback,
            reply_to=reply_to,
            timeout=timeout,
            durable=durable,
        )

    async def wait_for_room(self, machine_id: str) -> None:
        """Wait until a machine has room for one more event, and not too many others are at work.

        For programs that read events from somewhere, faster than machines handle them: they `tell` after that and are
        not refused with `MailboxFull`, unless others send too. A machine that is being loaded is waited for. Not for
        hooks. It returns at once when the system stops.

        Raises:
            WrongThread: Called from another thread than the event loop's.
        """
        self._started().check_thread("wait_for_room was called")
        await wait_for_room(self._parts, machine_id)

    def attach_outbox(self, outbox: Outbox | None) -> Delivery:
        """Let `ref.on(session)` store events there, or no longer if it is None; return what brings them in.

        For integrations: `actorfsm.integrations.sqlalchemy.Outbox` calls it.
        """
        self._started().check_thread("attach_outbox was called")
        self._parts.outbox = outbox
        return Delivery(self._parts)

    def replay(self, letter: DeadLetter) -> Receipt:
        """Send a dead letter once more, and take it off the list; if it is refused again, it comes back as a new one.

        It is sent from outside, at once, also where a hook calls this. Where its sender had chosen the event id, the id
        is the same.

        Args:
            letter: One of `dead_letters`.

        Raises:
            NoSuchLetter: It is no longer on the list.
            InvalidEvent: The machine that has this id now does not take the event. The letter stays.
            WrongThread: Called from another thread than the event loop's.
        """
        door, letters = self._started(), self._parts.dead_letters
        door.check_thread("replay was called")
        place = letters.take(letter)
        if place < 0:
            raise NoSuchLetter(
                f"the letter for {letter.machine_id} is no longer on the list: it was sent again, or newer ones took "
                "its place",
                machine_id=letter.machine_id,
                event=letter.event,
            )
        event_id = letter.event_id if letter.has_own_id else None
        send = partial(door.tell, letter.machine_id, letter.event, event_id=event_id, headers=letter.headers)
        try:
            return Context().run(send)
        except ActorFSMError:
            letters.put_back(place, letter)
            raise


def _checked(name: str, expected: type[PolicyT], policy: Any, journal: Journal | None) -> PolicyT | None:
    """Return a policy of what is done with a journal; None if none was given.

    Raises:
        DefinitionError: It is none, or there is no journal.
    """
    if policy is None:
        return None
    if not isinstance(policy, expected):
        raise DefinitionError(f"{name}={policy!r}: give a {expected.__name__}")
    if journal is None:
        raise DefinitionError(f"{name}= needs a journal, from which machines come back: give journal= too")
    return policy


def _sinks(trace: Any) -> tuple[Sink, ...]:
    if trace is None:
        return ()
    if trace == DEFAULT_TRACE:
        return (StructlogSink(),)
    if callable(trace):
        return (cast("Sink", trace),)
    with suppress(TypeError):
        sinks: list[Any] = list(trace)
        if all(map(callable, sinks)):
            return tuple(sinks)
    raise DefinitionError(f"trace={trace!r}: give a sink (a callable that takes a Record), several, or None")
