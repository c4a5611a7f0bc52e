"""The receipt of a `tell`: whether the event was accepted, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actorfsm.errors import AskCycle
from actorfsm.runtime.envelope import Envelope
from actorfsm.runtime.reply import outcome_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator

    from actorfsm.event import Outcome
    from actorfsm.runtime.parts import Parts

__all__ = ["Receipt"]


class Receipt:
    """What `tell` returns at once. Await it, or `outcome()`, for the `Outcome`; nobody has to."""

    __slots__ = ("_current_turn", "_envelope", "_parts")

    def __init__(self, envelope: Envelope, parts: Parts, current_turn: Callable[[], Any]) -> None:
        self._envelope = envelope
        self._parts = parts
        self._current_turn = current_turn

    @property
    def event_id(self) -> str:
        """The event's id."""
        return self._parts.event_id(self._envelope)

    @property
    def machine_id(self) -> str:
        """The machine that the event is for."""
        return self._envelope.machine_id

    @property
    def durable(self) -> bool:
        """Whether accepted means on disk: told with `durable=True` or by a machine in its turn, with a journal."""
        journal = self._parts.journal
        return journal is not None and journal.durable and bool(self._envelope.durable)

    async def accepted(self) -> Receipt:
        """Wait until the event is in the mailbox; one that is durable is on disk then.

        Returns:
            The receipt itself.

        Raises:
            WrongThread: Awaited in another thread than the event loop's.
            ActorFSMError: It was refused: `NoSuchMachine`, `MailboxFull`, `Quarantined`, `MachineStopped`,
                `SystemStopping`, `EventIdConflict`, or `Discarded` when the sending turn was rolled back.
        """
        envelope = self._envelope
        while not envelope.accepted and envelope.refusal is None:
            self._check_thread()
            if envelope.accept_waiters is None:
                envelope.accept_waiters = []
            await self._wait_among(envelope.accept_waiters)
        self._raise_refusal()
        return self

    async def outcome(self) -> Outcome:
        """Wait for the event's end.

        Raises:
            WrongThread: Awaited in another thread than the event loop's.
            ActorFSMError: It was never accepted, see `accepted`.
        """
        envelope = self._envelope
        while envelope.settlement is None and envelope.refusal is None:
            self._check_thread()
            if envelope.outcome_waiters is None:
                envelope.outcome_waiters = []
            await self._wait_among(envelope.outcome_waiters)
        if envelope.settlement is None:
            self._raise_refusal()
        assert envelope.settlement is not None  # noqa: S101 -- the loop above ended
        return outcome_of(envelope, self.event_id, envelope.settlement)

    def __await__(self) -> Generator[Any, None, Outcome]:
        return self.outcome().__await__()

    def __repr__(self) -> str:
        envelope = self._envelope
        if envelope.refusal is not None:
            how = f"refused: {type(envelope.refusal).__name__}"
        elif envelope.settlement is not None:
            how = envelope.settlement.kind
        else:
            how = "accepted" if envelope.accepted else "not yet accepted"
        return f"<Receipt of {type(envelope.event).__name__} for {envelope.machine_id}: {how}>"

    def _check_thread(self) -> None:
        """Only the event loop can be woken."""
        self._parts.admission.check_thread(f"a receipt of {type(self._envelope.event).__name__} was awaited")

    async def _wait_among(self, waiters: list[asyncio.Future[None]]) -> None:
        """Wait with others; a machine that does so in its turn waits like one that asks.

        A hook that waits for what its own commit lets out, or for its machine's next turn, would wait for ever.
        """
        envelope = self._envelope
        turn = self._current_turn()
        if turn is not None and (turn.closed or not turn.holds_machine):
            turn = None
        if turn is not None and (envelope.sender is turn or envelope.machine_id == turn.machine_id):
            raise AskCycle(
                f"{turn.machine_id} would wait in its own turn for {type(envelope.event).__name__}, which is "
                "handled after it; do not await the receipt in a hook",
                path=(turn.machine_id, envelope.machine_id),
                machine_id=envelope.machine_id,
                event=envelope.event,
            )
        waiter: asyncio.Future[None] = self._parts.loop.create_future()
        waiters.append(waiter)
        if turn is None:
            await waiter
            return
        mark = Envelope(envelope.event, envelope.machine_id, envelope.number, envelope.accepted_at)
        mark.waiter = waiter
        await self._parts.waits.hold(turn, mark)

    def _raise_refusal(self) -> None:
        if self._envelope.refusal is not None:
            raise self._envelope.refusal
