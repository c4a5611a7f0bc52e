"""The ref: how a machine is reached. It holds an id, not a machine, so it stays good across restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol

from typing_extensions import TypeVar

from actorfsm.runtime.outbox import OnSession

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from enum import Enum

    from actorfsm.clock import Duration
    from actorfsm.event import Event, Outcome
    from actorfsm.machine.snapshot import Snapshot
    from actorfsm.runtime.outbox import Outbox
    from actorfsm.runtime.receipt import Receipt

__all__ = ["Post", "Ref"]

ReplyT = TypeVar("ReplyT")
# Covariant: what takes the events of orders may be a special order.
MachineT = TypeVar("MachineT", default=Any, covariant=True)


class Post(Protocol):
    """What carries a ref's events: the seam behind which the owner of a machine may be elsewhere."""

    async def ask(
        self,
        machine_id: str,
        event: Event[Any, Any],
        *,
        timeout: Duration | None,  # noqa: ASYNC109 -- a deadline of the event, not of this call alone
        event_id: str | None,
        headers: Mapping[str, str] | None,
    ) -> Any:
        """Send an event and wait for its reply."""
        ...

    def tell(
        self,
        machine_id: str,
        event: Event[Any, Any],
        *,
        event_id: str | None,
        headers: Mapping[str, str] | None,
        callback: Callable[[Outcome], Any] | None,
        reply_to: str | None,
        timeout: Duration | None,
        durable: bool | None,
    ) -> Receipt:
        """Send an event and go on."""
        ...

    def request_transition(
        self, machine_id: str, new_state: Enum, callback: Callable[[bool, Any, Any], Any] | None
    ) -> Receipt:
        """Ask a machine to go to a state."""
        ...

    def snapshot(self, machine_id: str) -> Snapshot[Any]:
        """Return a machine's last committed state."""
        ...

    def outbox(self) -> Outbox:
        """Return where events are stored beside the user's rows."""
        ...


class Ref(Generic[MachineT]):
    """A handle on one machine: its id and its class.

    Attributes:
        id: The machine's id.
        machine_class: Its class.
    """

    __slots__ = ("_post", "id", "machine_class")

    def __init__(self, post: Post, machine_id: str, machine_class: type[MachineT]) -> None:
        self._post = post
        self.id = machine_id
        self.machine_class = machine_class

    async def ask(
        self,
        event: Event[ReplyT, MachineT],
        *,
        timeout: Duration | None = None,  # noqa: ASYNC109 -- a deadline of the event, not of this call alone
        event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ReplyT:
        """Send an event and wait for its reply.

        Args:
            event: The event.
            timeout: Deadline, seconds or timedelta; 10 seconds by default.
            event_id: The caller's own id: the event is applied once, a repetition gets the recorded reply.
            headers: Strings that are inherited by what the event causes; `correlation_id` and `traceparent` are known.

        Returns:
            What the transition's body returned.

        Raises:
            Vetoed: A hook refused.
            Unhandled: There is no transition for it in this state.
            HookFailed: User code of the machine failed.
            Expired: The deadline passed before it was begun: surely not done.
            AskTimeout: The deadline passed while it was handled: outcome unknown.
            AskCycle: The machine asked waits, directly or not, for the one that asks.
            MailboxFull, NoSuchMachine, MachineStopped, Quarantined, SystemStopping, InvalidEvent, EventIdConflict,
                WrongThread: It was not accepted.
        """
        reply: ReplyT = await self._post.ask(
            self.id, event, timeout=timeout, event_id=event_id, headers=headers
        )
        return reply

    def tell(
        self,
        event: Event[Any, MachineT],
        *,
        event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        callback: Callable[[Outcome], Any] | None = None,
        reply_to: str | None = None,
        timeout: Duration | None = None,
        durable: bool | None = None,
    ) -> Receipt:
        """Send an event and go on: never blocks.

        Args:
            event: The event.
            event_id: The caller's own id: the event is applied once.
            headers: As for `ask`.
            callback: Called with the `Outcome` after the turn, in order per machine; plain or async.
            reply_to: Id of a machine that gets the `Outcome` as an event. With a journal that is stored with what it
                tells of, and is handled once; so that the event outlives the process too, add `durable=True`.
            timeout: Deadline, seconds or timedelta, after which an event not yet begun expires; none by default.
            durable: Whether the event is on disk before it is accepted, so that it outlives the process and is handled
                once; by default as the machine's class has it (`durable_inbox=`). What a machine sends in its turn is
                stored with its commit in any case.

        Returns:
            A receipt, which knows whether the event was accepted and how it ended.

        Raises:
            InvalidEvent: The machine does not take this event class, or an id or header is malformed.
            WrongThread: Called from another thread than the event loop's.
            Unsupported: `durable=True` without a journal.
        """
        return self._post.tell(
            self.id,
            event,
            event_id=event_id,
            headers=headers,
            callback=callback,
            reply_to=reply_to,
            timeout=timeout,
            durable=durable,
        )

    def request_transition(
        self, new_state: Enum, callback: Callable[[bool, Any, Any], Any] | None = None
    ) -> Receipt:
        """Ask the machine to go to a state: the request is queued at once.

        Args:
            new_state: A member of the machine's Enum.
            callback: Called after the turn with `(success, old, new)`: `old` is the state it was in, `new` the one
            asked
                for.

        Returns:
            A receipt; await it for the `Outcome`.
        """
        return self._post.request_transition(self.id, new_state, callback)

    def on(self, session: Any) -> OnSession[MachineT]:
        """Return the ref for use in a transaction of the user's own: `ref.on(session).tell(Paid(...))`.

        Args:
            session: What the system's outbox takes, such as a session of SQLAlchemy.

        Raises:
            Unsupported: The system has no outbox.
        """
        return OnSession(self._post.outbox(), session, self.id, self.machine_class)

    def snapshot(self) -> Snapshot[Any]:
        """Return the machine's last committed state, without a turn.

        Raises:
            NoSuchMachine: Nothing with this id is alive.
        """
        return self._post.snapshot(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and (self.id, self._post) == (other.id, other._post)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"Ref({self.machine_class.__name__}, {self.id!r})"
