"""The life of a machine as server-sent events, without any framework: a snapshot, then what happens.

With a journal the stream is the machine's entries: their numbers are the ids of the events, and who comes back with
the last one misses nothing. Without one it is what the system tells while somebody listens, and it begins anew with a
snapshot each time.

Nothing waits here for a slow reader: entries are read when it is ready for them, and of what a system without a journal
tells a bounded number is kept, behind which a new snapshot says what was missed. What goes wrong once a stream has
begun ends it: its reader comes back and is told what it is.
"""

from __future__ import annotations

import asyncio
import signal
from collections import deque
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, get_args
from weakref import WeakKeyDictionary

from actorfsm.errors import ActorFSMError, InvalidEvent
from actorfsm.integrations.resource import Happened, happened
from actorfsm.journal.entry import EntryKind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from pydantic import BaseModel

    from actorfsm.integrations.resource import Resource
    from actorfsm.runtime.system import ActorSystem
    from actorfsm.trace import Record

__all__ = ["EVENT_STREAM_HEADERS", "HEARTBEAT_S", "Streams", "live"]

EVENT_STREAM_HEADERS: Final = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx hands it on at once
}
HEARTBEAT_S: Final = 15.0
"""Shorter than the patience of the proxies in between, in seconds."""
_KEPT: Final = 1_000
"""Records that are kept for a reader of a system without a journal."""
_DIGITS: Final = 16
_LOOK_S: Final = 0.25
"""How often is looked whether the server stops, in seconds."""
_ALIVE: Final = b": alive\n\n"
_KINDS: Final = frozenset(get_args(EntryKind))
_ENDS: Final = frozenset({"stopped"})


class _Ear:
    """What one reader has not yet read."""

    __slots__ = ("lost", "records", "waiter")

    def __init__(self) -> None:
        self.records: deque[Record] = deque(maxlen=_KEPT)
        self.lost = False
        self.waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class Streams:
    """Who listens to the machines of one system. It costs nothing while nobody does."""

    _of: Final[WeakKeyDictionary[ActorSystem[Any], Streams]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._ears: dict[str, set[_Ear]] = {}
        self._looking: asyncio.TimerHandle | None = None
        self._end: Any = None
        self.closed = False

    @classmethod
    def of(cls, system: ActorSystem[Any]) -> Streams:
        """Return those of a system."""
        found = cls._of.get(system)
        if found is None:
            found = cls._of[system] = cls()
        return found

    @property
    def readers(self) -> int:
        """How many streams there are."""
        return sum(map(len, self._ears.values()))

    def close(self) -> None:
        """End all streams; there will be no others."""
        self.closed = True
        for ears in self._ears.values():
            for ear in ears:
                ear.wake()

    @contextmanager
    def listening(self, system: ActorSystem[Any], machine_id: str) -> Generator[_Ear]:
        """Hear what is told of a machine."""
        ear = _Ear()
        if not self._ears:
            self._end = system.listen(self._hear)
            self._look()
        self._ears.setdefault(machine_id, set()).add(ear)
        try:
            yield ear
        finally:
            self._ears[machine_id].discard(ear)
            if not self._ears[machine_id]:
                del self._ears[machine_id]
            if not self._ears:
                self._end()
                if self._looking is not None:
                    self._looking.cancel()

    def _hear(self, record: Record) -> None:
        for ear in self._ears.get(record.machine_id, ()):
            if record.name in _KINDS and not record.duplicate:
                ear.lost = ear.lost or len(ear.records) == _KEPT
                ear.records.append(record)
                ear.wake()

    def _look(self) -> None:
        """Look whether the server is stopping: some wait for all responses before they tell the application."""
        if _server_is_stopping():
            self.close()
        else:
            self._looking = asyncio.get_running_loop().call_later(_LOOK_S, self._look)


def _server_is_stopping() -> bool:
    """Return whether this is a uvicorn that was told to stop: only the owner of its signal handlers knows."""
    servers = (
        getattr(signal.getsignal(number), "__self__", None) for number in (signal.SIGINT, signal.SIGTERM)
    )
    return any(getattr(server, "should_exit", False) is True for server in servers)


async def live(
    resource: Resource,
    system: ActorSystem[Any],
    machine_id: str,
    *,
    last_event_id: str | None = None,
    heartbeat_s: float = HEARTBEAT_S,
) -> AsyncGenerator[bytes, None]:
    """Return the stream of a machine; what is wrong is raised now, before anything was sent.

    Args:
        resource: The machine's class.
        system: Where it lives.
        machine_id: Its id.
        last_event_id: From the header `Last-Event-ID` of who comes back.
        heartbeat_s: How long nothing may be sent, in seconds.

    Raises:
        NoSuchMachine: There is none, or it is one of another class.
        InvalidEvent: The id of the last event is none of ours.
    """
    after = _number(last_event_id)
    await resource.find(system, machine_id)
    if system.journal is None:
        return _told(resource, system, machine_id, heartbeat_s)
    stored = await system.journal.load(machine_id)
    newest = 0 if stored is None else stored.head.seq
    resumes = after is not None and after <= newest
    return _stored(
        resource, system, machine_id, heartbeat_s, after if resumes else newest, with_snapshot=not resumes
    )


async def _stored(
    resource: Resource,
    system: ActorSystem[Any],
    machine_id: str,
    heartbeat_s: float,
    after: int | None,
    *,
    with_snapshot: bool,
) -> AsyncGenerator[bytes, None]:
    """Yield the entries of a machine behind one of them, and those to come."""
    last = after or 0
    streams, journal = Streams.of(system), system.journal
    assert journal is not None  # noqa: S101 -- `live` has looked
    with suppress(ActorFSMError), streams.listening(system, machine_id) as ear:
        if with_snapshot:
            yield _frame("snapshot", await resource.show(system, machine_id), last)
        while not (streams.closed or system.report):
            ear.records.clear()
            while page := await journal.entries(machine_id, last):
                for entry in page:
                    last = entry.seq
                    yield _frame("happened", happened(entry), last)
                    if entry.status in _ENDS:
                        return
            if not ear.records and not await _woken(ear, heartbeat_s):
                yield _ALIVE


async def _told(
    resource: Resource, system: ActorSystem[Any], machine_id: str, heartbeat_s: float
) -> AsyncGenerator[bytes, None]:
    """Yield what a system without a journal tells of a machine."""
    streams = Streams.of(system)
    with suppress(ActorFSMError), streams.listening(system, machine_id) as ear:
        yield _frame("snapshot", await resource.show(system, machine_id))
        while not (streams.closed or system.report):
            while ear.records:
                record = ear.records.popleft()
                yield _frame("happened", _as_told(record))
                if record.name in _ENDS:
                    return
            if ear.lost:
                ear.lost = False
                yield _frame("snapshot", await resource.show(system, machine_id))
            elif not await _woken(ear, heartbeat_s):
                yield _ALIVE


async def _woken(ear: _Ear, within_s: float) -> bool:
    ear.waiter = asyncio.get_running_loop().create_future()
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await ear.waiter
            return True
    return False


def _as_told(record: Record) -> Happened:
    return Happened(
        seq=record.seq,
        at=datetime.now(UTC),
        kind=record.name,
        event=record.event_type or None,
        event_id=record.event_id or None,
        source=record.source,
        target=record.target,
        reason=record.reason,
    )


def _number(last_event_id: str | None) -> int | None:
    if last_event_id is None or last_event_id == "":
        return None
    if last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < _DIGITS:
        return int(last_event_id)
    raise InvalidEvent("Last-Event-ID is the number that stood at the last event")


def _frame(name: str, what: BaseModel, number: int | None = None) -> bytes:
    place = "" if number is None else f"id: {number}\n"
    return f"event: {name}\n{place}data: {what.model_dump_json(by_alias=True)}\n\n".encode()
