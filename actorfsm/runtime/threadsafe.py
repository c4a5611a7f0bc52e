"""The way in from other threads: a system's calls, each with a `concurrent.futures.Future` for its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from actorfsm.runtime.turn import CURRENT
from actorfsm.values import copy_value, is_immutable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from actorfsm.clock import Duration
    from actorfsm.event import Event, Outcome
    from actorfsm.machine.machine import Machine
    from actorfsm.machine.snapshot import Snapshot
    from actorfsm.runtime.calls import Calls
    from actorfsm.runtime.system import ActorSystem

__all__ = ["Threadsafe", "ThreadsafeRef"]

T = TypeVar("T")
ReplyT = TypeVar("ReplyT")
MachineT = TypeVar("MachineT", bound="Machine[Any, Any]")
RefT = TypeVar("RefT", default=Any, covariant=True)


class Threadsafe:
    """A system's calls for other threads: `system.threadsafe.ask("order-42", Pay(...)).result()`.

    All that goes wrong is in the future. Callbacks of a future run on the event loop's thread.
    """

    def __init__(self, system: ActorSystem[Any], calls: Calls) -> None:
        self._system = system
        self._calls = calls

    def ask(
        self,
        machine_id: str,
        event: Event[ReplyT, Any],
        *,
        timeout: Duration | None = None,
        event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Future[ReplyT]:
        """Send an event; the future has its reply, or the error that `ActorSystem.ask` would raise."""
        event, headers = _own(event), self._calls.carried(headers)
        return self._calls.submit(
            lambda: self._system.ask(machine_id, event, timeout=timeout, event_id=event_id, headers=headers)
        )

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
    ) -> Future[Outcome]:
        """Send an event; the future has its outcome, or why it was refused. See `Ref.tell`; nobody has to wait.

        The callback runs on the event loop, as it does for `ActorSystem.tell`.
        """
        event, headers = _own(event), self._calls.carried(headers)

        async def told() -> Outcome:
            receipt = self._system.tell(
                machine_id,
                event,
                event_id=event_id,
                headers=headers,
                callback=callback,
                reply_to=reply_to,
                timeout=timeout,
                durable=durable,
            )
            CURRENT.set(
                None
            )  # a message of a turn leaves after it: this task waits beside the turn, not in it
            return await receipt.outcome()

        return self._calls.submit(told)

    def spawn(
        self,
        machine_class: type[MachineT],
        machine_id: str,
        *,
        data: Mapping[str, Any] | None = None,
        event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Future[ThreadsafeRef[MachineT]]:
        """Create a machine, as `ActorSystem.spawn`; the future has a ref for threads."""
        data, headers = copy_value(dict(data or {})), self._calls.carried(headers)

        async def born() -> ThreadsafeRef[MachineT]:
            await self._system.spawn(machine_class, machine_id, data=data, event_id=event_id, headers=headers)
            return ThreadsafeRef(self, machine_id, machine_class)

        return self._calls.submit(born)

    def get_or_spawn(
        self, machine_class: type[MachineT], machine_id: str, *, data: Mapping[str, Any] | None = None
    ) -> Future[ThreadsafeRef[MachineT]]:
        """Find a machine or create it, as `ActorSystem.get_or_spawn`; the future has a ref for threads."""
        data = copy_value(dict(data or {}))

        async def there() -> ThreadsafeRef[MachineT]:
            await self._system.get_or_spawn(machine_class, machine_id, data=data)
            return ThreadsafeRef(self, machine_id, machine_class)

        return self._calls.submit(there)

    def stop(self, machine_id: str) -> Future[None]:
        """Stop a machine, as `ActorSystem.stop`."""
        return self._calls.submit(lambda: self._system.stop(machine_id))

    def snapshot(self, machine_id: str) -> Future[Snapshot[Any]]:
        """Look at a machine's last committed state, as `ActorSystem.snapshot`."""
        return self.call(self._system.snapshot, machine_id)

    def call(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Call a plain function on the event loop's thread, for what has no method here.

        Example:
            `system.threadsafe.call(system.stats).result()`
        """

        async def called() -> T:
            return function(*arguments)

        return self._calls.submit(called)

    def ref(self, machine_class: type[MachineT], machine_id: str) -> ThreadsafeRef[MachineT]:
        """Return a ref to an id, alive or not, for threads."""
        ref = self._system.ref(machine_class, machine_id)
        return ThreadsafeRef(self, ref.id, ref.machine_class)


class ThreadsafeRef(Generic[RefT]):
    """A handle on one machine for threads: its id and its class, and what `system.threadsafe` does with them.

    Attributes:
        id: The machine's id.
        machine_class: Its class.
    """

    __slots__ = ("_post", "id", "machine_class")

    def __init__(self, post: Threadsafe, machine_id: str, machine_class: type[RefT]) -> None:
        self._post = post
        self.id = machine_id
        self.machine_class = machine_class

    def ask(
        self,
        event: Event[ReplyT, RefT],
        *,
        timeout: Duration | None = None,
        event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Future[ReplyT]:
        """Send an event; see `Threadsafe.ask`."""
        return self._post.ask(self.id, event, timeout=timeout, event_id=event_id, headers=headers)

    def tell(
        self,
        event: Event[Any, RefT],
        *,
        event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        callback: Callable[[Outcome], Any] | None = None,
        reply_to: str | None = None,
        timeout: Duration | None = None,
        durable: bool | None = None,
    ) -> Future[Outcome]:
        """Send an event; see `Threadsafe.tell`."""
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

    def snapshot(self) -> Future[Snapshot[Any]]:
        """Look at the machine's last committed state."""
        return self._post.snapshot(self.id)

    def stop(self) -> Future[None]:
        """Stop the machine."""
        return self._post.stop(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ThreadsafeRef) and (self.id, self._post) == (other.id, other._post)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"ThreadsafeRef({self.machine_class.__name__}, {self.id!r})"


def _own(event: T) -> T:
    """Return what the caller's thread cannot change any more (C10)."""
    return event if is_immutable(type(event)) else copy_value(event)
