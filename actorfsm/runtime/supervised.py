"""Live children of a supervisor: a machine, a service, the machines of a class.

Each knows how to start and how to stop, and tells its supervisor when it ended by itself; what follows from that is the
supervisor's to decide. Children are started and stopped one at a time, by their supervisor's task, which may be
cancelled at any await: stopping again goes on where it was.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from actorfsm.clock import seconds
from actorfsm.errors import ActorFSMError, MachineStopped, Quarantined
from actorfsm.event import Spawn
from actorfsm.runtime import jobs, settling, timers
from actorfsm.runtime.actor import IDLE, PAUSED, QUARANTINED, RUNNING, STOPPED, Actor
from actorfsm.runtime.child import Child, Restart, count_arguments
from actorfsm.runtime.dynamic_supervisor import is_spawned, rare_of
from actorfsm.runtime.envelope import Envelope
from actorfsm.runtime.intensity import Backoff
from actorfsm.runtime.mailbox import Mailbox
from actorfsm.runtime.reply import described
from actorfsm.runtime.tasks import start_task
from actorfsm.runtime.tree import TreeNode
from actorfsm.trace import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from actorfsm.runtime.kind import Kind
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.recovery import Recovery
    from actorfsm.runtime.supervisor import LiveSupervisor
    from actorfsm.runtime.turn import Turn

__all__ = ["ClassChild", "LiveChild", "MachineChild", "ServiceChild", "Status"]

Status: TypeAlias = Literal[
    "new", "starting", "running", "waiting", "stopping", "stopped", "finished", "failed"
]

CLASS_SHUTDOWN_S: Final = 5.0
"""How long the machines of a class may take to finish their events at hand, in seconds."""

_LOOK_AGAIN_S: Final = 0.05
"""How long to wait at least before the next look at hooks that were interrupted, in seconds."""


class LiveChild(ABC):
    """What all children have in common.

    Attributes:
        name: Its name in the tree.
        what: machine, service, supervisor, or machines.
        restart: Its restart type.
        parent: Its supervisor; None for the root.
        status: What it is doing.
        incarnation: How often it was started again.
        has_ended: Whether it ended by itself, and its supervisor has not seen to it yet.
        error: With what, then; None was a normal exit.
        backoff: The pauses before it is started again.
        pause_key: The timer of the pause that it is in, or 0.
        down_with_it: While it waits for its restart: those that are started again then, itself among them, in order.
        is_shown: Whether the trace has records of its starts and stops: it was declared.
    """

    what = "machine"
    is_shown = True

    def __init__(self, parts: Parts, name: str, restart: Restart, parent: LiveSupervisor | None) -> None:
        self.parts = parts
        self.name = name
        self.restart = restart
        self.parent = parent
        self.status: Status = "new"
        self.incarnation = 0
        self.has_ended = False
        self.error: BaseException | None = None
        self.backoff = Backoff()
        self.pause_key = 0
        self.down_with_it: list[LiveChild] = []

    @abstractmethod
    async def start(self) -> None:
        """Start it, and return when it has started.

        Raises:
            Exception: It did not start; nothing of it runs.
        """

    @abstractmethod
    async def stop(self) -> None:
        """Stop it within its deadline. What has mail keeps it for the next start."""

    def give_up(self) -> None:  # noqa: B027 -- services have nothing to give up
        """Follow the decision that it is not started again: what waits for it is answered."""

    def view(self) -> TreeNode:
        """Return what to show of it."""
        return TreeNode(self.name, self.what, self.status, str(self.restart), self.incarnation)

    # -- for those who implement it -----------------------------------------------------------------------------

    def begin(self) -> None:
        """Note the beginning of a start: the first, or that of a new incarnation."""
        self.has_ended = False
        if self.status != "new":
            self.incarnation += 1
            self.renewed()
            if self.is_shown:
                self.record("restarted")
        self.status = "starting"

    def renewed(self) -> None:  # noqa: B027 -- only an actor knows its incarnation, too
        """Follow the beginning of a new incarnation."""

    def has_started(self) -> None:
        """Note the end of a start."""
        if not self.has_ended:  # otherwise it ended while nobody looked, and its supervisor will hear of it
            self.status = "running"
        if self.is_shown:
            self.record("started")

    def is_stopping(self) -> None:
        """Note the beginning of a stop."""
        if self.status in {"starting", "running"}:
            self.status = "stopping"

    def has_stopped(self, reason: str = "its supervisor stopped it") -> None:
        """Note the end of a stop."""
        self.has_ended = False
        if self.is_shown and self.status in {"starting", "running", "stopping"}:
            self.record("stopped", reason)
        self.status = "stopped"

    def exited(self, error: BaseException | None) -> None:
        """Tell the supervisor that it ended by itself."""
        self.status = "finished" if error is None else "failed"
        self.has_ended, self.error = True, error
        assert self.parent is not None  # noqa: S101 -- the root tells the system
        self.parent.child_exited(self)

    def record(self, name: str, reason: str = "", error: BaseException | None = None) -> None:
        """Let the trace have a record of it."""
        if self.parts.sinks:
            self.parts.emit_outside(
                Record(name, self.what, self.name, self.incarnation, reason=reason, error=error)
            )


class ServiceChild(LiveChild):
    """A coroutine that runs beside the machines, in a task of its own with a clean context."""

    what = "service"

    def __init__(self, parts: Parts, spec: Child, parent: LiveSupervisor, system: Any) -> None:
        super().__init__(parts, spec.name, spec.restart, parent)
        service: Any = spec.what
        self._service: Final = service
        self._system: Final = system
        self._arguments: Final = count_arguments(spec.name, service)
        self._start_timeout_s: Final = seconds(spec.start_timeout)
        self._shutdown_s: Final = seconds(spec.shutdown)
        self._run: _Run | None = None

    async def start(self) -> None:
        """Start the service; it has started when it says so, or else as soon as it runs."""
        self.begin()
        run = self._run = _Run(self.parts.loop)
        run.task = start_task(self._call(run), self.parts.loop)
        self.parts.services_running[run.task] = self.name
        run.task.add_done_callback(self.parts.guarded(partial(self._ended, run)))
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await run.ready
        except TimeoutError:
            self.status = "failed"
            await self.stop()
            raise TimeoutError(
                f"{self.name} had not said that it started after {self._start_timeout_s:g} s"
            ) from None
        if run.has_failed_to_start:
            self._run = None
            why = "" if run.error is None else f", with {described(run.error)}"
            raise ActorFSMError(f"{self.name} ended before it had started{why}") from run.error
        self.has_started()
        run.counts = True
        if run.task.done():
            self._ended(run)

    async def stop(self) -> None:
        """Cancel the service; one that does not end within its deadline is left behind, and named in the report."""
        run = self._run
        if run is not None:
            self.is_stopping()
            run.is_stopping = True
            run.task.cancel()
            await asyncio.wait([run.task], timeout=self._shutdown_s)
            if not run.task.done():
                self.parts.keep(run.task, self.name)
            self._run = None
        self.has_stopped()

    async def _call(self, run: _Run) -> None:
        """Run the service. Whatever it raises is its supervisor's business, not the event loop's."""
        if self._arguments < 2:  # noqa: PLR2004 -- (system, started)
            run.started()
        try:
            await self._service(*(self._system, run.started)[: self._arguments])
        except KeyboardInterrupt:
            raise
        except asyncio.CancelledError as error:
            if not run.is_stopping:
                run.error = ActorFSMError(f"{self.name} was cancelled, but not by its supervisor")
                run.error.__cause__ = error
        except BaseException as error:  # a service cannot hurt the runtime
            if isinstance(error, GeneratorExit) and asyncio._get_running_loop() is None:  # noqa: SLF001 -- the loop is gone
                raise
            run.error = error

    def _ended(self, run: _Run, _task: object = None) -> None:
        self.parts.services_running.pop(run.task, None)
        if run.task.cancelled() and run.error is None and not run.is_stopping:
            run.error = ActorFSMError(f"{self.name} was cancelled before it began")
        if not run.ready.done():
            run.has_failed_to_start = True
            run.ready.set_result(None)
        elif run.counts and not run.is_stopping and self._run is run:
            self._run = None
            if run.error is None:
                self.record("stopped", "returned")
            self.exited(run.error)


class _Run:
    """One incarnation of a service."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ready: Final[asyncio.Future[None]] = loop.create_future()
        self.task: asyncio.Task[None]
        self.error: BaseException | None = None
        self.has_failed_to_start = False
        self.is_stopping = False
        self.counts = False
        """Whether its end is told to the supervisor: from the moment on when it has started."""

    def started(self) -> None:
        """Say that the service has started."""
        if not self.ready.done():
            self.ready.set_result(None)


class MachineChild(LiveChild):
    """A machine that stands in the tree: born when its supervisor starts it, restarted with its mail.

    Attributes:
        kind: Its class in this system.
        has_exited: Whether it ended normally, so that the next incarnation is born anew.
        is_awaited: Whether its supervisor has not come to its first start yet: with a journal, what is promised to it
            waits until then.
        takes_back: Whether it starts now, and takes what the journal has of it.
    """

    def __init__(self, parts: Parts, spec: Child, parent: LiveSupervisor, kind: Kind) -> None:
        super().__init__(parts, spec.name, spec.restart, parent)
        self.kind: Final = kind
        self._data: Final = spec.data
        self._start_timeout_s: Final = seconds(spec.start_timeout)
        self._shutdown_s: Final = seconds(spec.shutdown)
        self._actor: Actor | None = None
        self.has_exited = False
        self.is_awaited = True
        self.takes_back = False
        parts.registry.reserved[spec.name] = self
        self._is_leaving = False
        """Whether the supervisor waits until the event at hand is done."""
        self._end_is_shown = False
        """Whether the trace has a record of the end of this incarnation."""

    # -- what its supervisor asks for ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Give birth to the machine, or let it go on from its last committed state with its mail."""
        if self._actor is None and self.parts.recovery is not None:
            try:
                await self._load(self.parts.recovery)
            except Quarantined:
                self.status = "failed"  # it is held until its release, and the others run (C27)
                return
        actor = self._actor
        if actor is None or self.has_exited or actor.node.parent is None:
            await self._give_birth()
        else:
            if self.status != "new":
                timers.forgive(actor)  # first, so that the entry of the restart says so
            self.begin()
            self.kind.supervisor.go_on(actor)
        self.has_started()

    async def stop(self) -> None:
        """Let the event at hand be finished, within the deadline; then hold the machine, its mail is kept."""
        actor = self._actor
        if actor is not None:
            self.is_stopping()
            self._hold(actor)
            await self._until_held(actor)
        self.has_stopped()

    def give_up(self) -> None:
        """Answer what the machine held for a next incarnation that will not come; what is stored of it stays."""
        actor, self._actor = self._actor, None
        if actor is not None:
            if self.parts.recording is not None:
                self.parts.recording.leave(actor)
            rare = rare_of(actor)
            rare.child = None
            rare.stop_reason = rare.stop_reason or "is not started again"
            self.kind.supervisor.stop_now(actor, is_shown=not self._end_is_shown)

    # -- what the journal has of it -----------------------------------------------------------------------------

    async def _load(self, recovery: Recovery) -> None:
        self.takes_back = True
        try:
            async with asyncio.timeout(self._start_timeout_s):
                while self._actor is None:  # a load that was begun for an event may have ended without it
                    await recovery.load_child(self)
        except TimeoutError:
            raise TimeoutError(f"{self.name} was not loaded after {self._start_timeout_s:g} s") from None
        finally:
            self.takes_back = False

    def take_back(self, stored: Actor | None) -> Actor:
        """Take the machine that is stored, or one that is still to be born, before anything reaches it; it is held."""
        kind = self.kind
        actor = self._actor = stored or Actor(kind, self.name, kind.root, kind.rules.at_birth(self._data))
        rare_of(actor).child = self
        self.is_awaited = False
        self.incarnation = actor.incarnation
        self.has_exited = actor.status == STOPPED or (self.is_born_anew and actor.node.final)
        if actor.status == QUARANTINED:
            kind.supervisor.write(actor, "released", "finished" if actor.node.final else "alive")
        actor.status = PAUSED
        return actor

    def released(self) -> None:
        """Follow the release of the machine, which could not be loaded: its supervisor starts it."""
        assert self.parent is not None  # noqa: S101 -- only the root has none
        self.status, self.down_with_it = "waiting", [self]
        self.parent.child_exited(self)

    @property
    def is_born_anew(self) -> bool:
        """Whether it is started again when it has ended normally."""
        return self.restart is Restart.PERMANENT

    # -- birth --------------------------------------------------------------------------------------------------

    async def _give_birth(self) -> None:
        parts, kind, actor = self.parts, self.kind, self._actor
        data = kind.rules.at_birth(self._data)
        if actor is None:
            actor = self._actor = Actor(kind, self.name, kind.root, data)
            parts.registry.actors[self.name] = actor
            rare_of(actor).child = self
        else:
            timers.cancel_all(actor)
            jobs.cancel_all(actor)
            parts.watches.drop(actor)
            actor.node, actor.data = kind.root, data
        self.has_exited = False
        self.begin()
        envelope = Envelope(Spawn(), self.name, parts.ids.next_number(), parts.time())
        envelope.actor, envelope.machine_name = actor, kind.name
        envelope.is_ask = envelope.accepted = True
        envelope.waiter = parts.loop.create_future()
        parts.counters.accepted += 1
        actor.mailbox = actor.mailbox or Mailbox()
        actor.mailbox.put_back(envelope)
        actor.status = IDLE
        parts.dispatcher.made_room(actor)
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await envelope.waiter
        except TimeoutError:
            await self._give_up_birth(actor)
            raise TimeoutError(f"{self.name} was not born after {self._start_timeout_s:g} s") from None
        finally:
            self._withdraw(actor, envelope)
        if envelope.error is not None:
            raise envelope.error

    def _withdraw(self, actor: Actor, envelope: Envelope) -> None:
        """End a birth that was not begun; nothing of it remains in the mailbox."""
        if not envelope.begun and actor.mailbox is not None and actor.mailbox.remove(envelope):
            error = MachineStopped(f"{self.name} was stopped before it was born", machine_id=self.name)
            settling.end_undelivered(actor, envelope, error)

    async def _give_up_birth(self, actor: Actor) -> None:
        self._hold(actor)
        turn = self._turn_of(actor)
        if turn is not None:
            self.parts.dispatcher.interrupt(turn, "supervisor")
            await self._until_held(actor)

    def renewed(self) -> None:
        """Give the actor its new incarnation."""
        assert self._actor is not None  # noqa: S101 -- made before
        self._actor.incarnation = self.incarnation
        self.parts.counters.restarts += 1
        self.kind.supervisor.write(self._actor, "restarted")

    # -- holding ------------------------------------------------------------------------------------------------

    def _hold(self, actor: Actor) -> None:
        """Let the machine handle nothing more after the event at hand."""
        if actor.status == RUNNING:
            self._is_leaving = True
            rare_of(actor).stop_reason = "was stopped by its supervisor"
        elif actor.status != STOPPED:
            self._keep(actor)

    def _keep(self, actor: Actor) -> None:
        rare = rare_of(actor)
        actor.status = PAUSED
        jobs.interrupt(actor)
        self._is_leaving, rare.stop_reason = False, None
        if rare.pause_key:
            self.parts.timers.cancel(rare.pause_key)
            rare.pause_key = 0
        self.parts.note_change()

    async def _until_held(self, actor: Actor) -> None:
        """Wait until no turn of the machine runs: to the end of the deadline, then of the grace, then without it."""
        parts = self.parts
        if actor.status not in {RUNNING, STOPPED}:
            return

        def is_over() -> bool:
            if actor.status == STOPPED:
                return self._turn_of(actor) is None  # the system stops: its turn may still run
            return actor.status != RUNNING

        def turns() -> list[Turn]:
            turn = self._turn_of(actor)
            return [] if turn is None else [turn]

        await _until_quiet(parts, is_over, turns, self._shutdown_s)

    def _turn_of(self, actor: Actor) -> Turn | None:
        return next((turn for turn in self.parts.dispatcher.running_turns() if turn.actor is actor), None)

    # -- what the dynamic supervisor of its class tells ------------------------------------------------------------

    def failed(self, cause: BaseException) -> None:
        """Follow a failure after which the machine does not simply go on: its supervisor decides, mail is kept."""
        assert self._actor is not None  # noqa: S101 -- it has failed just now
        self._keep(self._actor)
        self.exited(cause)

    def birth_failed(self) -> None:
        """Follow a birth that was refused or failed: what waits is kept for the next attempt."""
        assert self._actor is not None  # noqa: S101 -- it was about to be born
        self._keep(self._actor)

    def finished(self) -> None:
        """Follow the entry into a final state: a normal exit. A machine that is not born anew stays addressable."""
        self.has_exited = True
        if self.is_born_anew and self._actor is not None and not self.parts.stopping:
            rare_of(self._actor).stop_reason = "finished"
        elif self.status in {"starting", "running"}:
            self.exited(None)

    def keeps(self, actor: Actor) -> bool:
        """Return whether the machine that stops now is kept, with its mail, for its next incarnation."""
        rare = rare_of(actor)
        if self._is_leaving:
            self._keep(actor)
            return True
        if not self.is_born_anew or self.parts.stopping:
            return False
        if self.has_exited and self._end_is_shown:
            rare.stop_reason = None  # it has stopped already, and waits for its next birth
            return True
        self.has_exited = True
        self.kind.supervisor.write(actor, "stopped", "stopped")
        self.record("stopped", rare.stop_reason or "")
        if not actor.node.final:  # otherwise they were told when it finished
            self.parts.watches.ended(actor, "stopped")
        self._keep(actor)
        if self.status in {"starting", "running"}:
            self.exited(None)
        return True

    def is_gone(self) -> None:
        """Follow the end of the machine, which is not kept."""
        self._actor = None
        self.exited(None)

    def record(self, name: str, reason: str = "", error: BaseException | None = None) -> None:
        """Let the trace have a record of the machine."""
        self._end_is_shown = name == "stopped"
        if self._actor is None:
            super().record(name, reason, error)
        else:
            self.kind.supervisor.record(self._actor, name, reason, error)


class ClassChild(LiveChild):
    """The place of a class: its machines that are spawned by id, under their dynamic supervisor."""

    what = "machines"

    def __init__(self, parts: Parts, parent: LiveSupervisor, kind: Kind, *, is_shown: bool) -> None:
        super().__init__(parts, kind.name, Restart.PERMANENT, parent)
        self._kind: Final = kind
        self.is_shown = is_shown
        kind.supervisor.node = self

    async def start(self) -> None:
        """Let machines be spawned; those that were held go on, each in a new incarnation."""
        self.begin()
        self._kind.supervisor.resume_all()
        self.has_started()

    async def stop(self) -> None:
        """Let the events at hand be finished, within a deadline; then hold all machines, their mail is kept."""
        parts = self.parts
        self.is_stopping()
        if not parts.stopping:
            self._kind.supervisor.hold_all()
        await _until_quiet(parts, self._is_quiet, self._turns, 0.0 if parts.stopping else CLASS_SHUTDOWN_S)
        self.has_stopped()

    def give_up(self) -> None:
        """Answer what the machines held."""
        self._kind.supervisor.give_up()

    def view(self) -> TreeNode:
        """Return what to show of it."""
        count = sum(1 for actor in self.parts.registry.of_kind(self._kind) if is_spawned(actor))
        return TreeNode(
            self.name, self.what, self.status, str(self.restart), self.incarnation, machines=count
        )

    def _turns(self) -> list[Turn]:
        return [
            turn
            for turn in self.parts.dispatcher.running_turns()
            if turn.actor.kind is self._kind and is_spawned(turn.actor)
        ]

    def _is_quiet(self) -> bool:
        return not self._turns()


async def _until_quiet(
    parts: Parts, is_over: Callable[[], bool], turns: Callable[[], list[Turn]], timeout_s: float
) -> None:
    """Wait until the turns are over. After the time given each hook is interrupted, and then has only the grace.

    A turn has an end, for it has only so many hooks; one that does not end when it is cancelled is left behind by the
    sweeper. One whose commit nobody knows about has none before the journal is closed (C25): while the system stops,
    it is not waited for longer than the grace.
    """
    was_told = False
    while not await parts.until(is_over, timeout_s):
        if was_told and parts.stopping and all(_is_unknown(turn) for turn in turns()):
            return
        was_told = True
        for turn in turns():
            if turn.interruption is None:
                parts.dispatcher.interrupt(turn, "stopping" if parts.stopping else "supervisor")
        timeout_s = max(parts.limits.grace_s, _LOOK_AGAIN_S)


def _is_unknown(turn: Turn) -> bool:
    """Return whether nobody knows what became of a turn's commit."""
    recording = turn.actor.kind.parts.recording
    return recording is not None and turn.machine_id in recording.writer.unsure
