"""The outbox in a database: events are stored by the user's session, and told by a relay after its commit.

The relay looks when a session of this process has committed, and once in a while besides: for what another process or
an earlier life of this one has stored. An event goes from the table when its machine has it; after a crash in between
it is told again, with the same id, and a journal knows that.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from actorfsm.errors import (
    ActorFSMError,
    EventIdConflict,
    InvalidEvent,
    NoSuchMachine,
    SchemaMismatch,
)
from actorfsm.integrations.sqlalchemy.driver import (
    event as session_events,
    orm,
    sqlalchemy,
    sqlalchemy_asyncio,
)
from actorfsm.integrations.sqlalchemy.tables import StoredEvent
from actorfsm.journal.entry import Message, Payload
from actorfsm.runtime.tasks import start_task

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Sequence

    from sqlalchemy import Connection, Engine, Row
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
    from sqlalchemy.orm import Session

    from actorfsm.runtime.outbox import Delivery
    from actorfsm.runtime.system import ActorSystem

__all__ = ["Outbox"]

_BATCH: Final = 100
_PATIENCE_S: Final = 5.0
"""How long the relay waits for the machines of one batch; what is not in by then is told again."""
_HOPELESS: Final = (NoSuchMachine, InvalidEvent, EventIdConflict, SchemaMismatch)
_TABLE: Final[Any] = StoredEvent.__table__


class Outbox:
    """Events in the table `actorfsm_outbox`, on the way to their machines.

    Args:
        engine: The database of the user's sessions, an `AsyncEngine` or an `Engine`.
        poll_s: How often the relay looks without having been told to, in seconds.
        on_error: Called with what the database said when it could not be reached; it is tried again. By default the
            event loop's exception handler is told.
    """

    def __init__(
        self,
        engine: AsyncEngine | Engine,
        *,
        poll_s: float = 1.0,
        on_error: Callable[[Exception], Any] | None = None,
    ) -> None:
        self._engine: Any = engine
        self._is_async = isinstance(engine, sqlalchemy_asyncio.AsyncEngine)
        self._poll_s = poll_s
        self._on_error = on_error
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._is_stopping = False
        self._held: dict[str, float] = {}
        """Machines that could not take an event, and until when nothing is told to them, on the loop's clock."""

    @asynccontextmanager
    async def relay(self, system: ActorSystem[Any]) -> AsyncGenerator[Outbox, None]:
        """Deliver what is stored to a system, and let its refs store: `async with system, outbox.relay(system):`."""
        delivery = system.attach_outbox(self)
        self._loop = asyncio.get_running_loop()
        self._woken, self._is_stopping = asyncio.Event(), False
        running = start_task(self._run(delivery), self._loop)
        try:
            yield self
        finally:
            self._is_stopping = True
            self._woken.set()
            system.attach_outbox(None)
            await running
            self._loop = None

    # -- in the user's transaction --------------------------------------------------------------------------------

    def put(self, session: Session | AsyncSession, machine_id: str, machine: str, message: Message) -> None:
        """Store an event with what else the session stores; `ref.on(session).tell(...)` calls it."""
        session.add(
            StoredEvent(
                machine_id=machine_id,
                machine=machine,
                event_id=message.event_id,
                event_type=message.event.type,
                version=message.event.version,
                event=message.event.json,
                headers=json.dumps(dict(message.headers)),
            )
        )
        if session.info.get("actorfsm_outbox") is not self:
            session.info["actorfsm_outbox"] = self
            plain: Session = session if isinstance(session, orm.Session) else session.sync_session
            session_events.listen(plain, "after_commit", self.wake)

    def wake(self, _session: object = None) -> None:
        """Let the relay look now; from any thread."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it was closed at this moment
                loop.call_soon_threadsafe(self._woken.set)

    # -- the relay ------------------------------------------------------------------------------------------------

    async def _run(self, delivery: Delivery) -> None:
        loop = asyncio.get_running_loop()
        while not self._is_stopping:
            self._woken.clear()
            is_more = False
            try:
                is_more = await self._deliver_some(delivery)
            except Exception as error:  # noqa: BLE001 -- a driver's own too: of asyncpg some come as they are
                self._report(error)
            if not is_more:
                pauses = [until - loop.time() for until in self._held.values()]
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.01, min([self._poll_s, *pauses]))):
                        await self._woken.wait()

    async def _deliver_some(self, delivery: Delivery) -> bool:
        """Tell the oldest events, in order, and take those off the table that are in; return whether more may wait."""
        now = asyncio.get_running_loop().time()
        self._held = {machine_id: until for machine_id, until in self._held.items() if until > now}
        connection: Any = (
            await self._engine.connect() if self._is_async else await asyncio.to_thread(self._engine.connect)
        )
        try:
            rows = await self._on(connection, _oldest, tuple(self._held))
            if not rows:
                return False
            done, hopeless = await self._tell(delivery, rows)
            await self._on(connection, _settle, done, hopeless)
        finally:
            closed = connection.close()
            if self._is_async:
                await closed
        return bool(done or hopeless)

    async def _tell(
        self, delivery: Delivery, rows: Sequence[Row[Any]]
    ) -> tuple[list[int], list[tuple[int, str]]]:
        done: list[int] = []
        hopeless: list[tuple[int, str]] = []
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE_S
        for row in rows:
            if row.machine_id in self._held or self._is_stopping:
                continue  # what comes after the one that waits, waits too
            payload = Payload(row.event_type, row.version, row.event)
            headers = tuple(json.loads(row.headers).items())
            message = Message(event=payload, event_id=row.event_id, headers=headers, has_own_id=True)
            try:
                async with asyncio.timeout_at(deadline):
                    await delivery.deliver(row.machine_id, row.machine, message)
            except _HOPELESS as error:
                hopeless.append((row.id, f"{type(error).__name__}: {error}"))
            except (ActorFSMError, TimeoutError):
                self._held[row.machine_id] = loop.time() + self._poll_s
            else:
                done.append(row.id)
        return done, hopeless

    async def _on(self, connection: Any, work: Callable[..., Any], *arguments: Any) -> Any:
        if self._is_async:
            return await connection.run_sync(work, *arguments)
        return await asyncio.to_thread(work, connection, *arguments)

    def _report(self, error: Exception) -> None:
        if self._on_error is not None:
            self._on_error(error)
            return
        said = {"message": "the outbox cannot reach its database; it tries again", "exception": error}
        asyncio.get_running_loop().call_exception_handler(said)


def _oldest(connection: Connection, held: Collection[str]) -> Sequence[Row[Any]]:
    """Return the events that wait longest; where the database can, they are locked, and what others locked is left."""
    table = _TABLE
    select = sqlalchemy.select(table).where(table.c.error.is_(None)).order_by(table.c.id).limit(_BATCH)
    if held:
        select = select.where(table.c.machine_id.not_in(held))
    has_locks = connection.dialect.name != "sqlite"
    rows = connection.execute(select.with_for_update(skip_locked=True) if has_locks else select).all()
    if not (has_locks and rows):
        connection.rollback()  # a transaction that has read keeps SQLite's writers from each other
    return rows


def _settle(connection: Connection, done: list[int], hopeless: list[tuple[int, str]]) -> None:
    """Take off the table what is in, and note what never will be."""
    if done:
        connection.execute(sqlalchemy.delete(_TABLE).where(_TABLE.c.id.in_(done)))
    for number, error in hopeless:
        connection.execute(sqlalchemy.update(_TABLE).where(_TABLE.c.id == number).values(error=error))
    connection.commit()
