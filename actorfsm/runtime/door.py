"""The door: what users and machines call, and how an answer gets out again.

Outside a turn an event goes straight on to admission, which decides whether it gets in. Inside a turn a message waits
for the commit, and an ask is checked against the wait-for graph.
"""

from __future__ import annotations

from math import nan
from threading import get_ident
from typing import TYPE_CHECKING, Any

from actorfsm.clock import Duration, seconds
from actorfsm.errors import (
    ActorFSMError,
    AskTimeout,
    InvalidEvent,
    NoSuchMachine,
    Unsupported,
    WrongThread,
)
from actorfsm.event import Event, Outcome, Spawn, TransitionRequested
from actorfsm.ids import check_machine_id
from actorfsm.machine.snapshot import Snapshot
from actorfsm.runtime.admission import check_is_event
from actorfsm.runtime.dynamic_supervisor import rare_of
from actorfsm.runtime.envelope import Envelope
from actorfsm.runtime.limits import MAX_TIMEOUT_S
from actorfsm.runtime.receipt import Receipt
from actorfsm.runtime.ref import Ref
from actorfsm.runtime.spawning import Spawning
from actorfsm.runtime.turn import Turn, current_turn

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping
    from enum import Enum

    from actorfsm.runtime.actor import Actor
    from actorfsm.runtime.kind import Kind
    from actorfsm.runtime.outbox import Outbox
    from actorfsm.runtime.parts import Parts

__all__ = ["Door"]


class Door:
    """Takes events in, for the machines of one system."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._loop = parts.loop
        self._time = parts.time
        self._actors = parts.registry.actors
        self._next_number = parts.ids.next_number
        self._ask_timeout_s = parts.limits.ask_timeout_s
        self._pending_asks = parts.limits.pending_asks
        self._addressing = parts.addressing
        self._admission = parts.admission
        self._accept = parts.admission.accept if parts.tracing is None else self._accept_traced
        self._tracing = parts.tracing
        self.check_thread = parts.admission.check_thread
        self.spawning = Spawning(parts)

    # -- ask ----------------------------------------------------------------------------------------------------

    async def ask(
        self,
        machine_id: str,
        event: Event[Any, Any],
        *,
        timeout: Duration | None = None,  # noqa: ASYNC109 -- a deadline of the event, not of this call alone
        event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send an event and wait for its reply; see `Ref.ask`."""
        turn = current_turn()
        if turn is not None:
            return await self.ask_in_turn(turn, machine_id, event, timeout, event_id, headers)
        envelope = self.begin_ask(machine_id, event, timeout, event_id, headers)
        if not envelope.settled:
            await self.wait(envelope)
        if envelope.error is not None:
            raise envelope.error
        return envelope.reply

    def begin_ask(
        self,
        machine_id: str,
        event: Event[Any, Any],
        timeout: Duration | None,
        event_id: str | None,
        headers: Mapping[str, str] | None,
    ) -> Envelope:
        """Send an event whose sender waits, from outside all turns; it may be settled already on return."""
        if self._parts.stopping or get_ident() != self._admission.thread:
            self._admission.check_open(machine_id, event)
        now = self._time()
        envelope = Envelope(event, machine_id, self._next_number(), now)
        envelope.is_ask = True
        envelope.deadline = now + (self._ask_timeout_s if timeout is None else _within(timeout))
        if event_id is not None or headers is not None:
            self._addressing.address(envelope, event_id, headers)
        self._accept_ask(envelope)
        return envelope

    async def ask_in_turn(  # noqa: PLR0917 -- as `ask`, with the turn
        self,
        turn: Turn,
        target: Any,
        event: Event[Any, Any],
        timeout: Duration | None,  # noqa: ASYNC109 -- as in `ask`
        event_id: str | None,
        headers: Mapping[str, str] | None,
    ) -> Any:
        """Ask on behalf of a machine: at once, within what remains of its deadline, refused if it closes a cycle."""
        turn.check_open(event)
        self._admission.check_sender(event)
        machine_id = target.id if isinstance(target, Ref) else target
        timeout_s = self._ask_timeout_s if timeout is None else _within(timeout)
        envelope = self._addressing.from_machine(turn.envelope, event, machine_id, event_id, headers)
        if event_id is None:
            envelope.event_id = turn.next_ask_id(envelope.machine_id)
        envelope.has_own_id = True
        envelope.keeps_settlement = True
        return await self._answer_machine(turn, envelope, timeout_s)

    async def _answer_machine(self, turn: Turn, envelope: Envelope, limit_s: float) -> Any:
        """Answer a machine that waits in its turn, within what remains of its own deadline, if that closes no cycle."""
        if turn.envelope.deadline is not None and not turn.committed:
            limit_s = max(0.0, min(limit_s, turn.envelope.deadline - envelope.accepted_at))
        if not turn.holds_machine:
            return await self._answer(envelope, limit_s)
        self._parts.waits.begin(turn, envelope)
        try:
            return await self._answer(envelope, limit_s)
        finally:
            self._parts.waits.end(turn, envelope)

    async def _answer(self, envelope: Envelope, timeout_s: float) -> Any:
        self._begin_answer(envelope, timeout_s)
        return await self.wait_for_end(envelope)

    def _begin_answer(self, envelope: Envelope, timeout_s: float) -> None:
        envelope.is_ask = True
        envelope.deadline = envelope.accepted_at + timeout_s
        self._accept_ask(envelope)

    def _accept_ask(self, envelope: Envelope) -> None:
        counters = self._parts.counters
        if counters.pending_asks >= self._pending_asks:
            self._admission.check_room_for_asks(envelope)
        try:
            self._accept(envelope)
        except ActorFSMError:
            counters.refused += 1
            raise

    def _accept_traced(self, envelope: Envelope) -> None:
        assert self._tracing is not None  # noqa: S101 -- this is for systems that have a tracer
        self._tracing.send(self._parts, envelope, self._admission.accept)

    async def wait_for_end(self, envelope: Envelope) -> Any:
        """Return the reply to an ask that was begun, or raise its error."""
        if not envelope.settled:
            await self.wait(envelope)
        if envelope.error is not None:
            raise envelope.error
        return envelope.reply

    async def wait(self, envelope: Envelope) -> None:
        """Wait until an ask is settled.

        Raises:
            AskTimeout: Its deadline passed while the event was being handled.
        """
        counters = self._parts.counters
        envelope.waiter = waiter = self._loop.create_future()
        if not envelope.tick and envelope.deadline is not None:
            self._parts.deadlines.add(envelope, envelope.deadline)
        counters.pending_asks += 1
        try:
            gave_up = await waiter
        finally:
            # An asker that is cancelled gives up the reply; the event keeps its deadline.
            counters.pending_asks -= 1
            if self._tracing is not None:
                self._tracing.answered(self._parts, envelope)
        if gave_up:
            waited_s = (envelope.deadline or 0.0) - envelope.accepted_at
            raise AskTimeout(
                f"{envelope.machine_id} was still handling {type(envelope.event).__name__} after {waited_s:g} s: "
                "whether it will be done is unknown; ask again with the same event_id",
                machine_id=envelope.machine_id,
                event=envelope.event,
            )

    # -- tell ---------------------------------------------------------------------------------------------------

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
        """Send an event and go on; see `Ref.tell`."""
        turn = current_turn()
        timeout_s = None if timeout is None else _within(timeout)
        if reply_to is not None:
            check_machine_id(reply_to)
            if isinstance(event, Outcome):
                raise InvalidEvent(
                    "an Outcome never causes another Outcome: leave reply_to= away", event=event
                )
        if durable and not self._parts.has_journal:
            raise Unsupported(
                "durable=True needs a journal: give the system one, ActorSystem(..., journal='orders.db')",
                event=event,
            )
        if turn is not None:
            turn.check_open(event)
            self._admission.check_sender(event, turn)
            receipt = turn.tell(machine_id, event, event_id, headers)
            assert turn.outgoing is not None  # noqa: S101 -- it was put there just now
            envelope = turn.outgoing[-1]
        else:
            self._admission.check_sender(event)
            envelope = self._addressing.from_outside(event, machine_id, event_id, headers)
            envelope.keeps_settlement = True
            envelope.durable = durable
            receipt = Receipt(envelope, self._parts, current_turn)
        envelope.callback = callback
        envelope.reply_to = reply_to
        if timeout_s is not None:
            envelope.deadline = envelope.accepted_at + timeout_s
        if turn is None:
            self._accept_or_bury(envelope)
        return receipt

    def _accept_or_bury(self, envelope: Envelope) -> None:
        """Nobody need look at a receipt, so what was refused is a dead letter too."""
        try:
            self._admission.check_open(envelope.machine_id, envelope.event)
            self._accept(envelope)
        except (InvalidEvent, WrongThread):
            raise
        except ActorFSMError as error:
            self._admission.refuse(envelope, error)

    def request_transition(
        self, machine_id: str, new_state: Enum, callback: Callable[[bool, Any, Any], Any] | None
    ) -> Receipt:
        """Queue a request to go to a state; see `Ref.request_transition`."""
        event = TransitionRequested(to=new_state)
        if callback is None:
            return self.tell(machine_id, event)

        def told(outcome: Outcome) -> Any:
            return callback(outcome.success, outcome.old, new_state)

        return self.tell(machine_id, event, callback=told)

    # -- messages, timers and jobs of machines ------------------------------------------------------------------

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
        """Make the envelope of a message that waits for the commit of the turn that sends it."""
        self._admission.check_sender(event, turn)
        machine_id = target.id if isinstance(target, Ref) else target
        envelope = self._addressing.from_machine(turn.envelope, event, machine_id, event_id, headers)
        envelope.has_own_id = has_own_id
        envelope.keeps_settlement = True
        envelope.durable = self._parts.has_journal
        envelope.sender = turn
        actor = self._actors.get(machine_id)
        if actor is not None:
            self._admission.check_event(actor.kind, envelope)
        else:
            check_is_event(event, machine_id)
        return Receipt(envelope, self._parts, current_turn), envelope

    def prepare_timer(
        self, turn: Turn, event: Event[Any, Any], event_id: str, *, is_from_state: bool = False
    ) -> Envelope:
        """Make the envelope of an event that a machine's timer will send it.

        Raises:
            InvalidEvent: The machine does not take it.
        """
        envelope = self._addressing.from_machine(turn.envelope, event, turn.actor.id, event_id, None)
        if not is_from_state:
            self._admission.check_sender(event, turn)
            self._admission.check_event(turn.actor.kind, envelope)
        return envelope

    def prepare_answer(self, actor: Actor, event: Event[Any, Any], cause: Envelope) -> Envelope:
        """Make the envelope of an event that a machine's job answers with.

        Raises:
            InvalidEvent: The machine does not take it.
        """
        envelope = self._addressing.from_runtime(event, actor.id, cause)
        self._admission.check_event(actor.kind, envelope)
        return envelope

    # -- a machine from birth to end ----------------------------------------------------------------------------

    async def spawn(
        self,
        kind: Kind,
        machine_id: str,
        data: Mapping[str, Any] | None,
        event_id: str | None,
        headers: Mapping[str, str] | None,
    ) -> None:
        """Create a machine and wait until its birth is finished; see `ActorSystem.spawn`."""
        turn = current_turn()
        recovery = self._parts.recovery
        if recovery is None:
            await self._spawn(turn, kind, machine_id, data, event_id, headers)
            return
        with recovery.needing([check_machine_id(machine_id)]):
            await recovery.ensure(machine_id)
            if event_id is None or not await recovery.was_spawned(kind, machine_id, event_id, data):
                await self._spawn(turn, kind, machine_id, data, event_id, headers)

    async def _spawn(  # noqa: PLR0917 -- as `spawn`, with the turn
        self,
        turn: Turn | None,
        kind: Kind,
        machine_id: str,
        data: Mapping[str, Any] | None,
        event_id: str | None,
        headers: Mapping[str, str] | None,
    ) -> None:
        envelope = self.spawning.prepare(turn, kind, machine_id, data, event_id, headers)
        if turn is None:
            await self._answer(envelope, self._ask_timeout_s)
        else:
            await self._answer_machine(turn, envelope, self._ask_timeout_s)

    def begin_birth(self, kind: Kind, machine_id: str, data: Mapping[str, Any] | None) -> Envelope:
        """Begin to create a machine, from outside all turns; its birth may be over already on return."""
        envelope = self.spawning.prepare(None, kind, machine_id, data, None, None)
        self._begin_answer(envelope, self._ask_timeout_s)
        return envelope

    def outbox(self) -> Outbox:
        """Return where events are stored beside the user's rows.

        Raises:
            Unsupported: There is no such place.
        """
        outbox = self._parts.outbox
        if outbox is None:
            raise Unsupported(
                "the system has no outbox: `async with ActorSystem(...) as system, Outbox(engine).relay(system):`, of "
                "actorfsm.integrations.sqlalchemy"
            )
        return outbox

    def snapshot(self, machine_id: str) -> Snapshot[Any]:
        """Return a machine's last committed state; see `Ref.snapshot`."""
        if not self._parts.has_ended:
            self.check_thread(f"snapshot of {machine_id} was called")
        actor = self._parts.registry.alive(machine_id)
        if actor is None:
            raise NoSuchMachine(
                f"no machine {machine_id!r} is alive{self._parts.in_memory}", machine_id=machine_id
            )
        return Snapshot(
            machine=actor.kind.name,
            machine_id=actor.id,
            state=actor.node.member,
            data=actor.kind.rules.copy(actor.data),
            seq=actor.seq,
            incarnation=actor.incarnation,
            allowed=actor.node.allowed,
            definition=actor.kind.definition,
        )

    async def wait_for_birth(self, actor: Actor) -> None:
        """Wait until a birth that is going on has ended.

        Raises:
            AskCycle: The machine that is being born waits for this one.
        """
        waiter: asyncio.Future[None] = self._loop.create_future()
        rare_of(actor).birth_waiters.append(waiter)
        await self._wait_in_turn(actor, waiter)

    async def wait_for_stop(self, actor: Actor) -> None:
        """Wait until a machine that was told to stop has stopped.

        Raises:
            AskCycle: The machine waits for this one.
        """
        waiter: asyncio.Future[None] = self._loop.create_future()
        rare_of(actor).stop_waiters.append(waiter)
        await self._wait_in_turn(actor, waiter)

    async def _wait_in_turn(self, actor: Actor, waiter: asyncio.Future[None]) -> None:
        """Wait for what befalls another machine; a machine that does so in its turn waits like one that asks."""
        turn = current_turn()
        if turn is None or turn.closed or not turn.holds_machine:
            await waiter
            return
        mark = Envelope(Spawn(), actor.id, 0, 0.0)
        mark.waiter = waiter
        await self._parts.waits.hold(turn, mark)


def _within(timeout: Duration) -> float:
    """Return a deadline in seconds.

    Raises:
        InvalidEvent: It is none.
    """
    try:
        timeout_s = seconds(timeout)
    except (TypeError, ValueError, OverflowError):
        timeout_s = nan
    if not 0 <= timeout_s <= MAX_TIMEOUT_S:
        raise InvalidEvent(
            f"timeout={timeout!r}: give seconds or a timedelta, from 0 to {MAX_TIMEOUT_S:,.0f} s"
        )
    return timeout_s
