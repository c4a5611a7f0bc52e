"""A system under simulation: quiet, seeded, with virtual time, a trace that is kept and senders who take notes.

    async def scenario():
        async with SimulatedSystem(Order) as system:
            order = await system.spawn(Order, "order-1")
            await order.ask(Pay(amount=5))

    for seed in range(100):
        simulate(scenario, seed=seed)

At the end of `async with` the checker judges what happened.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any, Final, Generic

from pydantic import BaseModel
from typing_extensions import TypeVar

from actorfsm.event import Spawn
from actorfsm.machine.definition import Postponed
from actorfsm.machine.options import Overflow
from actorfsm.runtime.child import Strategy
from actorfsm.runtime.door import Door
from actorfsm.runtime.supervisor import LiveSupervisor
from actorfsm.runtime.system import ActorSystem
from actorfsm.runtime.turn import CURRENT
from actorfsm.testing.checker import ContractBroken, Facts, Violation, check
from actorfsm.testing.clock import VirtualClock
from actorfsm.testing.loop import SimLoop
from actorfsm.testing.notes import Note
from actorfsm.testing.tree_laws import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
    from os import PathLike
    from types import TracebackType

    from actorfsm.clock import Clock, Duration
    from actorfsm.event import Event, Outcome
    from actorfsm.journal.protocol import Journal
    from actorfsm.machine.machine import Machine
    from actorfsm.machine.options import RestartPolicy
    from actorfsm.runtime.child import Declared
    from actorfsm.runtime.dead_letter import DeadLetter
    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.kind import Kind
    from actorfsm.runtime.limits import Limits
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.passivation import PassivationPolicy
    from actorfsm.runtime.receipt import Receipt
    from actorfsm.runtime.shutdown import Shutdown
    from actorfsm.runtime.snapshots import SnapshotPolicy
    from actorfsm.runtime.tracing import Tracing
    from actorfsm.runtime.turn import Turn
    from actorfsm.trace import Record, Sink

__all__ = ["SimulatedSystem", "Trace", "facts_of"]

ReplyT = TypeVar("ReplyT")
ServicesT = TypeVar("ServicesT", default=Any)

_SHOWN: Final = 20


class Trace:
    """A sink that keeps every record, with the loop's time at which it came.

    Attributes:
        records: The records, in order.
        times: When each came, in seconds of the loop's clock.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.times: list[float] = []

    def __call__(self, record: Record) -> None:
        """Keep a record."""
        self.records.append(record)
        self.times.append(asyncio.get_running_loop().time())

    def of(self, machine_id: str) -> list[Record]:
        """Return the records of one machine, in order."""
        return [record for record in self.records if record.machine_id == machine_id]

    def lines(self, last: int | None = None) -> list[str]:
        """Return the records as text, one line each, numbered from 1; the same seed gives the same text.

        Args:
            last: Only so many, from the end.
        """
        first = 0 if last is None else max(0, len(self.records) - last)
        return [
            f"{number:>4} {at:10.3f} {line_of(record)}"
            for number, (record, at) in enumerate(
                zip(self.records[first:], self.times[first:], strict=False), first + 1
            )
        ]

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        return f"<Trace of {len(self.records)} records>"


def line_of(record: Record) -> str:
    """Return a record as one line: all that is plain data, nothing of the payload."""
    moved = "" if record.source is None and record.target is None else f" {record.source} -> {record.target}"
    facts = [
        f"{record.machine_id}#{record.incarnation} seq={record.seq}",
        f"{record.event_type} {record.event_id}".strip(),
        f"{record.name}{' (duplicate)' if record.duplicate else ''}{moved}",
        f"by {record.hook}" if record.hook else "",
        f"because {record.causation_id}" if record.causation_id else "",
        f"in {record.correlation_id}" if record.correlation_id != record.event_id else "",
        f"queue={record.queue_s:.6g} run={record.run_s:.6g}" if record.event_type else "",
        record.reason,
    ]
    return " | ".join(fact for fact in facts if fact)


class SimulatedSystem(ActorSystem[ServicesT], Generic[ServicesT]):
    """An `ActorSystem` for tests. It needs a simulated loop for `clock.advance`, and runs on any.

    Args:
        machines: The machine classes.
        services: What hooks find as `self.services`.
        trace: More sinks, besides the one that keeps everything.
        tracing: As for `ActorSystem`.
        clock: The time of day; virtual by default.
        random: For ids and jitter; by default seeded as the simulated loop is.
        limits: Bounds and deadlines.
        inline: Whether an ask to an idle machine may be handled inside the ask.
        on_quarantine: As for `ActorSystem`.
        on_dead_letter: As for `ActorSystem`.
        children: As for `ActorSystem`.
        strategy: As for `ActorSystem`.
        root: As for `ActorSystem`.
        journal: As for `ActorSystem`.
        durability: As for `ActorSystem`.
        passivation: As for `ActorSystem`.
        snapshots: As for `ActorSystem`.
        check: Whether the end of `async with` judges what happened.

    Attributes:
        trace: The records so far.
        notes: What was sent so far, and how that ended for the senders.
        clock: The virtual clock.
        ends_at: How many records the trace had when the system began to stop; None before.
        shows_last: Whether an exception that leaves `async with` carries the last records as a note.
    """

    def __init__(  # noqa: PLR0913 -- as ActorSystem
        self,
        *machines: type[Machine[Any, Any]],
        services: ServicesT | None = None,
        trace: Iterable[Sink] = (),
        tracing: Tracing | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
        limits: Limits | None = None,
        inline: bool = True,
        on_quarantine: Callable[[str, BaseException], Any] | None = None,
        on_dead_letter: Callable[[DeadLetter], Any] | None = None,
        children: Iterable[Declared] = (),
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        root: RestartPolicy | None = None,
        journal: str | PathLike[str] | Journal | None = None,
        durability: str = "full",
        passivation: PassivationPolicy | None = None,
        snapshots: SnapshotPolicy | None = None,
        check: bool = True,
    ) -> None:
        self.trace: Final = Trace()
        self.notes: Final[list[Note]] = []
        self.clock: Final = clock if isinstance(clock, VirtualClock) else VirtualClock()
        self.shows_last = True
        self.ends_at: int | None = None
        self._checks = check
        super().__init__(
            *machines,
            services=services,
            trace=(self.trace, *trace),
            tracing=tracing,
            clock=clock or self.clock,
            random=random or Random(_seed_of_the_loop()),
            limits=limits,
            inline=inline,
            on_quarantine=on_quarantine,
            on_dead_letter=on_dead_letter,
            children=children,
            strategy=strategy,
            root=root,
            journal=journal,
            durability=durability,
            passivation=passivation,
            snapshots=snapshots,
        )

    async def __aenter__(self) -> SimulatedSystem[ServicesT]:
        """Start the system on the running event loop."""
        await super().__aenter__()
        self._door = self._parts.door = NotingDoor(self._parts, self.notes, self.trace)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the system; then judge, or show what happened last if something went wrong already."""
        try:
            await super().__aexit__(kind, error, traceback)
        except BaseException as failure:
            self._show_last(failure)
            raise
        if error is not None:
            self._show_last(error)
        elif self._checks:
            self.assert_no_loss()

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
        # Past the short cut of the system itself, so that the door sees it.
        door = self._started()
        reply: ReplyT = await door.ask(machine_id, event, timeout=timeout, event_id=event_id, headers=headers)
        return reply

    def _fail(self, error: BaseException) -> None:
        self.ends_at = len(self.trace) if self.ends_at is None else self.ends_at
        super()._fail(error)

    def _end(self, *, finish: bool, timeout_s: float) -> Shutdown:
        self.ends_at = len(self.trace) if self.ends_at is None else self.ends_at
        return super()._end(finish=finish, timeout_s=timeout_s)

    def violations(self) -> list[Violation]:
        """Return the promises of the contract that were broken so far."""
        at_rest = self.report is not None
        trace = self.trace
        return check(
            trace.records,
            self.notes,
            facts=facts_of(self),
            stats=self.stats(),
            times=trace.times,
            at_rest=at_rest,
        )

    def assert_no_loss(self) -> None:
        """Compare what senders noted (replies, errors, receipts, callbacks) with the trace.

        While the system runs, what is still on its way is not held against it.

        Raises:
            ContractBroken: Something was lost, done twice, out of order, or half.
        """
        found = self.violations()
        if found:
            broken = ContractBroken(found)
            self._show_last(broken)
            raise broken

    def _show_last(self, error: BaseException) -> None:
        if self.shows_last and len(self.trace):
            lines = self.trace.lines(_SHOWN)
            error.add_note(
                "\n  ".join([f"the last {len(lines)} of {len(self.trace)} records of the trace:", *lines])
            )


def facts_of(system: ActorSystem[Any]) -> Facts:
    """Return what the checker must know of a system's machine classes."""
    kinds = list(system._parts.registry.kinds.values())  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    root = system._root  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return Facts(
        postponable={kind.name: _postponable(kind) for kind in kinds},
        waiting=frozenset(kind.name for kind in kinds if kind.options.mailbox.overflow is Overflow.WAIT),
        redelivering=frozenset(kind.name for kind in kinds if kind.options.redelivery.attempts),
        remembered={kind.name: kind.options.remembered_ids for kind in kinds},
        timeouts={kind.name: _timeouts(kind) for kind in kinds},
        tree=dict(_places(root)),
        ends_at=system.ends_at if isinstance(system, SimulatedSystem) else None,
    )


def _places(supervisor: LiveSupervisor) -> Iterator[tuple[str, Place]]:
    """Yield where the children stand that have records, at every depth."""
    for number, child in enumerate(supervisor.children):
        if child.is_shown:
            place = Place(supervisor.name, number, child.restart, supervisor.strategy, supervisor.policy)
            yield child.name, place
        if isinstance(child, LiveSupervisor):
            yield from _places(child)


def _timeouts(kind: Kind) -> dict[str, frozenset[str]]:
    states = kind.definition.states.values()
    return {node.name: frozenset(timer.name for timer in node.timers) for node in states}


def _postponable(kind: Kind) -> frozenset[str]:
    return frozenset(
        event_class.__name__
        for node in kind.definition.states.values()
        for event_class, choices in node.choices.items()
        if any(isinstance(choice, Postponed) for choice in choices)
    )


def _seed_of_the_loop() -> int:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return 0
    return loop.seed if isinstance(loop, SimLoop) else 0


class NotingDoor(Door):
    """A door at which senders leave notes. What is sent again is a copy: the trace tells one send from another."""

    def __init__(self, parts: Parts, notes: list[Note], trace: Trace) -> None:
        super().__init__(parts)
        self._notes = notes
        self._trace = trace
        self._sent: set[int] = set()
        self._asked: dict[int, Note] = {}
        """The notes of asks that are on their way in, by their events."""

    async def ask(
        self,
        machine_id: str,
        event: Event[Any, Any],
        *,
        timeout: Duration | None = None,  # noqa: ASYNC109 -- as in Door
        event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Note an ask from outside."""
        if CURRENT.get() is not None:  # noted by `ask_in_turn`
            return await super().ask(machine_id, event, timeout=timeout, event_id=event_id, headers=headers)
        note = self._note(
            Note(
                "ask", _task_name(), machine_id, self._one_of_its_own(event), len(self._trace), event_id or ""
            )
        )
        asking = super().ask(machine_id, note.event, timeout=timeout, event_id=event_id, headers=headers)
        return await self._follow(note, asking)

    async def ask_in_turn(  # noqa: PLR0917 -- as in Door
        self,
        turn: Turn,
        target: Any,
        event: Event[Any, Any],
        timeout: Duration | None,  # noqa: ASYNC109 -- as in Door
        event_id: str | None,
        headers: Mapping[str, str] | None,
    ) -> Any:
        """Note an ask of a machine."""
        note = self._note(self._of_turn("ask", turn, target, event, event_id or ""))
        return await self._follow(
            note, super().ask_in_turn(turn, target, note.event, timeout, event_id, headers)
        )

    async def spawn(
        self,
        kind: Kind,
        machine_id: str,
        data: Mapping[str, Any] | None,
        event_id: str | None,
        headers: Mapping[str, str] | None,
    ) -> None:
        """Note a spawn."""
        note = self._note(Note("spawn", _task_name(), machine_id, Spawn(), len(self._trace), event_id or ""))
        await self._follow(note, super().spawn(kind, machine_id, data, event_id, headers))

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
        """Note a tell, and the calls of its callback."""
        calls, noted = _noted(callback)
        line, sent = len(self._trace), event
        if CURRENT.get() is None:
            sent = self._one_of_its_own(event)
        receipt = super().tell(
            machine_id,
            sent,
            event_id=event_id,
            headers=headers,
            callback=noted,
            reply_to=reply_to,
            timeout=timeout,
            durable=durable,
        )
        if CURRENT.get() is None:
            note = self._note(
                Note("tell", _task_name(), machine_id, sent, line, receipt.event_id, receipt=receipt)
            )
        else:
            note = self._notes[-1]  # made by `prepare` just now
        note.calls = calls
        return receipt

    def prepare(
        self,
        target: Any,
        event: Event[Any, Any],
        turn: Turn,
        event_id: str,
        headers: Mapping[str, str] | None,
        *,
        has_own_id: bool = False,
    ) -> tuple[Receipt, Envelope]:
        """Note a message of a machine, which leaves after the commit."""
        note = self._of_turn("message", turn, target, event, event_id)
        receipt, envelope = super().prepare(
            target, note.event, turn, event_id, headers, has_own_id=has_own_id
        )
        note.receipt = receipt
        self._note(note)
        return receipt, envelope

    def _accept_ask(self, envelope: Envelope) -> None:
        """Note the event that the machine gets: a copy of the one sent, where a hook could change that."""
        note = self._asked.pop(id(envelope.event), None)
        try:
            super()._accept_ask(envelope)
        finally:
            if note is not None:
                note.event = envelope.event

    def _of_turn(self, how: Any, turn: Turn, target: Any, event: Event[Any, Any], event_id: str) -> Note:
        machine_id = target if isinstance(target, str) else target.id
        cause = self._parts.event_id(turn.envelope)
        return Note(
            how, turn.machine_id, machine_id, self._one_of_its_own(event), len(self._trace), event_id, cause
        )

    def _one_of_its_own(self, event: Any) -> Any:
        """Return the event, or a copy if the object was sent before; what is no event is refused by the door."""
        if id(event) in self._sent and isinstance(event, BaseModel):
            event = event.model_copy()
        self._sent.add(id(event))
        return event

    def _note(self, note: Note) -> Note:
        self._notes.append(note)
        if note.how == "ask":
            self._asked[id(note.event)] = note
        return note

    async def _follow(self, note: Note, asking: Coroutine[Any, Any, Any]) -> Any:
        try:
            note.reply = await asking
        except (asyncio.CancelledError, GeneratorExit):
            note.ended = "cancelled"
            raise
        except BaseException as error:
            note.ended, note.error = "error", error
            raise
        else:
            note.ended = "reply"
            return note.reply
        finally:
            note.ended_line, note.ended_at = len(self._trace), self._parts.loop.time()


def _task_name() -> str:
    task = asyncio.current_task()
    return "no task" if task is None else task.get_name()


def _noted(
    callback: Callable[[Outcome], Any] | None,
) -> tuple[list[Outcome] | None, Callable[[Outcome], Any] | None]:
    if callback is None:
        return None, None
    calls: list[Outcome] = []

    def call(outcome: Outcome) -> Any:
        calls.append(outcome)
        return callback(outcome)

    return calls, call
