"""What can be seen of a system: its machines, its tree, its account and its dead letters.

Nothing here changes anything, but that `load` brings a machine into memory, and `listen` has its records told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actorfsm.errors import DefinitionError, NoSuchMachine, SystemStopping, Unsupported
from actorfsm.ids import check_machine_id
from actorfsm.runtime.actor import QUARANTINED
from actorfsm.runtime.inspection import inspect_actor
from actorfsm.runtime.stats import Stats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from enum import Enum

    from actorfsm.journal.protocol import Journal
    from actorfsm.machine.machine import Machine
    from actorfsm.machine.snapshot import Snapshot
    from actorfsm.runtime.actor import Actor
    from actorfsm.runtime.crash import Crash
    from actorfsm.runtime.dead_letter import DeadLetter
    from actorfsm.runtime.door import Door
    from actorfsm.runtime.inspection import Inspection
    from actorfsm.runtime.kind import Kind
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.shutdown import StopReport
    from actorfsm.runtime.supervisor import LiveSupervisor
    from actorfsm.runtime.transitions import TransitionEntry
    from actorfsm.runtime.tree import TreeNode
    from actorfsm.trace import Record, Sink

__all__ = ["SystemViews"]


class SystemViews:
    """What `ActorSystem` shows of itself."""

    _parts: Parts
    _door: Door | None
    _journal: Journal | None
    _root: LiveSupervisor
    report: StopReport | None

    @property
    def is_started(self) -> bool:
        """Whether it was started, even if it has ended: a system is started once."""
        return self._door is not None or self.report is not None

    @property
    def journal(self) -> Journal | None:
        """Where commits go, to be read from; None if everything is kept in memory."""
        return self._journal

    @property
    def machine_classes(self) -> tuple[type[Machine[Any, Any]], ...]:
        """The classes of the machines that live here."""
        return tuple(self._parts.registry.kinds)

    def class_of(self, machine_id: str) -> type[Machine[Any, Any]]:
        """Return the class of a machine in memory; see also `load`.

        Raises:
            NoSuchMachine: Nothing with this id is alive.
        """
        self._check_may_look("class_of")
        return self._alive(machine_id).kind.machine_class

    def listen(self, sink: Sink) -> Callable[[], None]:
        """Give records to one more sink from now on, whatever `trace=` says.

        Args:
            sink: Called in the turn, so it must not block.

        Returns:
            What ends it; twice is once.
        """
        self._started().check_thread("listen was called")
        parts = self._parts

        def once(record: Record) -> None:  # one of its own for each call, to be found again
            sink(record)

        def end() -> None:
            parts.sinks = tuple(known for known in parts.sinks if known is not once)

        parts.sinks = (*parts.sinks, once)
        return end

    async def load(self, machine_id: str) -> None:
        """Bring a machine into memory, where `snapshot`, `inspect`, `suspend` and the like look for it.

        No hook runs. It leaves again as the policy of passivation says, but not before what comes next is called.

        Raises:
            NoSuchMachine: Nothing with this id is alive, nor stored as alive.
            Quarantined: It cannot be loaded.
        """
        self._started().check_thread(f"load of {machine_id} was called")
        if self._parts.recovery is not None:
            await self._parts.recovery.ensure(check_machine_id(machine_id))
        self._alive(machine_id)

    async def stored_ids(
        self, machine_class: type[Machine[Any, Any]] | None = None, *, state: Enum | None = None
    ) -> AsyncIterator[str]:
        """Yield the ids of the machines that the journal has as alive, of one class, in one state, in their order.

        Those in memory are among them as their last stored entry has them. Nothing is loaded.

        Raises:
            Unsupported: The system has no journal: `ids` knows all.
        """
        self._started().check_thread("stored_ids was called")
        if self._journal is None:
            raise Unsupported("stored_ids needs a journal; without one `ids` knows all machines")
        name = None if machine_class is None else self._kind(machine_class).name
        last = ""
        while heads := await self._journal.machines(
            machine=name, state=None if state is None else state.name, after=last
        ):
            for head in heads:
                if head.status != "stopped":
                    yield head.machine_id
            last = heads[-1].machine_id

    def snapshot(self, machine_id: str) -> Snapshot[Any]:
        """Return a machine's last committed state, without a turn.

        Raises:
            NoSuchMachine: Nothing with this id is alive.
        """
        return self._started().snapshot(machine_id)

    def inspect(self, machine_id: str) -> Inspection:
        """Return all that can be seen of a machine now, without a turn; it works while a hook hangs.

        Values that the class keeps out of its repr, and secrets, are masked. Print it: it is written for people.

        Args:
            machine_id: Its id; a machine that is being born can be inspected too.

        Raises:
            NoSuchMachine: Nothing has this id.
            WrongThread: Called from another thread than the event loop's.
        """
        self._started().check_thread(f"inspect of {machine_id} was called")
        actor = self._parts.registry.actors.get(machine_id)
        return inspect_actor(self._alive(machine_id) if actor is None else actor)

    def transitions(
        self, machine_id: str | None = None, limit: int | None = None
    ) -> tuple[TransitionEntry, ...]:
        """Return how the last events ended, of all machines together or of one, the newest last.

        Those that were refused or failed are among them; duplicates are not. The newest `Limits.transitions` of the
        whole system are kept.

        Args:
            machine_id: Only those of this machine, which need not be alive.
            limit: At most so many, the newest.
        """
        door, parts = self._started(), self._parts
        door.check_thread("transitions was called")
        return parts.ring.entries(parts.ids, parts.time(), parts.clock.now(), machine_id, limit)

    def last_crash(self, machine_id: str) -> Crash | None:
        """Return the last failure of a machine's user code, to be made a test of; None if there was none.

        Raises:
            NoSuchMachine: Nothing with this id is alive.
        """
        self._check_may_look("last_crash")
        rare = self._alive(machine_id).rare
        return None if rare is None else rare.crash

    def ids(
        self, machine_class: type[Machine[Any, Any]] | None = None, *, state: Enum | None = None
    ) -> list[str]:
        """Return the ids of the machines in memory, of one class, in one state; see also `stored_ids`."""
        self._check_may_look("ids")
        kind = None if machine_class is None else self._kind(machine_class)
        return [
            actor.id
            for actor in self._parts.registry.of_kind(kind)
            if state is None or actor.node.member is state
        ]

    def tree(self) -> TreeNode:
        """Return the supervision tree as it stands; `str()` of it is an indented text."""
        return self._root.view()

    def stats(self) -> Stats:
        """Return the account of the system as it stands."""
        self._check_may_look("stats")
        counters = self._parts.counters
        actors = list(self._parts.registry.actors.values())
        machines = {kind.name: 0 for kind in self._parts.registry.kinds.values()}
        for actor in self._parts.registry.of_kind(None):
            machines[actor.kind.name] += 1
        mailboxes = [actor.mailbox for actor in actors if actor.mailbox is not None]
        return Stats(
            accepted=counters.accepted,
            outcomes={str(kind): count for kind, count in counters.outcomes.items()},
            queued=sum(mailbox.waiting for mailbox in mailboxes) + counters.joined,
            postponed=sum(len(mailbox.postponed or ()) for mailbox in mailboxes)
            + (0 if self._parts.passivation is None else self._parts.passivation.postponed),
            in_flight=counters.in_flight,
            outgoing=counters.outgoing,
            machines=sum(machines.values()),
            machines_by_class=machines,
            refused=counters.refused,
            duplicates=counters.duplicates,
            late_replies=counters.late_replies,
            restarts=counters.restarts,
            quarantined=len(self.quarantined()),
            suspended=len(self.suspended()),
            dead_letters=self._parts.dead_letters.total,
            after_hooks_failed=counters.after_hooks_failed,
            callbacks_failed=counters.callbacks_failed,
            sinks_failed=counters.sinks_failed,
            loop_blocked=counters.loop_blocked,
            turns_queued=counters.turns_queued,
            turns_eager=counters.turns_eager,
            turns_plain=counters.turns_plain,
            pending_asks=counters.pending_asks,
            withdrawn=counters.withdrawn,
            jobs=sum(job.is_running for actor in actors for job in (actor.jobs or {}).values()),
            jobs_failed=counters.jobs_failed,
            timers=counters.timers,
            timers_fired=counters.timers_fired,
            timers_withdrawn=counters.timers_withdrawn,
            unwritten=0 if self._parts.recording is None else self._parts.recording.writer.waiting,
            passivated=0 if self._parts.passivation is None else self._parts.passivation.left,
        )

    def quarantined(self) -> list[str]:
        """Return the ids of the machines in quarantine."""
        self._check_may_look("quarantined")
        held = [actor.id for actor in self._parts.registry.of_kind(None) if actor.status == QUARANTINED]
        return held if self._parts.recovery is None else [*held, *self._parts.recovery.broken]

    def suspended(self) -> list[str]:
        """Return the ids of the machines that an operator holds."""
        self._check_may_look("suspended")
        actors = self._parts.registry.of_kind(None)
        return [actor.id for actor in actors if actor.rare is not None and actor.rare.suspended]

    @property
    def dead_letters(self) -> tuple[DeadLetter, ...]:
        """The newest events that could not be delivered, the oldest first."""
        self._check_may_look("dead_letters")
        return tuple(self._parts.dead_letters)

    def dead_letters_for(self, machine_id: str) -> tuple[DeadLetter, ...]:
        """Return the dead letters that were for one machine, the oldest first."""
        self._check_may_look("dead_letters_for")
        return tuple(letter for letter in self._parts.dead_letters if letter.machine_id == machine_id)

    def _started(self) -> Door:
        if self._door is None:
            raise SystemStopping("the system was not started: use `async with ActorSystem(...) as system`")
        return self._door

    def _kind(self, machine_class: type[Any]) -> Kind:
        kind = self._parts.registry.kinds.get(machine_class)
        if kind is None:
            names = ", ".join(known.name for known in self._parts.registry.kinds.values())
            raise DefinitionError(f"{machine_class!r} is not a class of this system, which has {names}")
        return kind

    def _check_may_look(self, what: str) -> None:
        """Refuse to look at what changes at this moment in another thread."""
        if self._door is not None and not self._parts.has_ended:
            self._door.check_thread(f"{what} was called")

    def _alive(self, machine_id: str) -> Actor:
        actor = self._parts.registry.alive(machine_id)
        if actor is None:
            raise NoSuchMachine(
                f"no machine {machine_id!r} is alive{self._parts.in_memory}", machine_id=str(machine_id)
            )
        return actor
