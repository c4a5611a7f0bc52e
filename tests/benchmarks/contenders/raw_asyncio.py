"""`a`, the anchor: what an engineer writes with nothing but asyncio.

One Task and one asyncio.Queue per machine, one Future per ask, a dict from id to machine. It has the hooks,
the transition table and the data of the workload, and nothing more: no veto with roll-back, no bound, no
deadline, no trace.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from ..work import ASKS, LINES, AsyncContender, End, Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


class Go(BaseModel):
    """The one event, as strict as an event of actorfsm."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    amount: int


class Light:
    """A machine with its own queue and its own task."""

    def __init__(self, machine_id: str) -> None:
        self.id = machine_id
        self.state = "A"
        self.seq = 0
        self.customer = "c-1"
        self.total = 0
        self.weight = 1.5
        self.urgent = False
        self.table = {("A", Go): ("B", self.switch_on), ("B", Go): ("A", self.switch_off)}
        self.mailbox: asyncio.Queue[tuple[Go, asyncio.Future[int] | None]] = asyncio.Queue()
        self.task = asyncio.get_running_loop().create_task(self.live())

    async def before(self, _old: str, _new: str) -> bool:
        return True

    async def switch_on(self, event: Go) -> int:
        self.total += event.amount
        return self.total

    async def switch_off(self, event: Go) -> int:
        self.total += event.amount
        return self.total

    async def after(self, _old: str, _new: str) -> None:
        return None

    async def live(self) -> None:
        while True:
            event, reply = await self.mailbox.get()
            try:
                await self.handle(event, reply)
            except Exception as error:  # noqa: BLE001 a failing hook must not end the machine
                if reply is not None and not reply.done():
                    reply.set_exception(error)

    async def handle(self, event: Go, reply: asyncio.Future[int] | None) -> None:
        old = self.state
        new, body = self.table[old, type(event)]
        if not await self.before(old, new):
            msg = "vetoed"
            raise PermissionError(msg)
        result = await body(event)
        self.state = new
        self.seq += 1
        if reply is not None and not reply.done():
            reply.set_result(result)
        await self.after(old, new)

    def end(self) -> End:
        return End(self.state, self.customer, self.total, self.weight, self.urgent, self.seq)


class SuspendingLight(Light):
    """Its hooks really wait: one turn of the loop each."""

    async def before(self, _old: str, _new: str) -> bool:
        await asyncio.sleep(0)
        return True

    async def after(self, _old: str, _new: str) -> None:
        await asyncio.sleep(0)


class Line(BaseModel):
    """One of the sub-models in the nested list."""

    article: str
    quantity: int = 0


class NestedLight(Light):
    """Its body changes one of twenty sub-models in a list; nothing could roll that back here."""

    def __init__(self, machine_id: str) -> None:
        super().__init__(machine_id)
        self.lines = [Line(article=f"article-{number}") for number in range(LINES)]

    async def switch_on(self, event: Go) -> int:
        return self.add(event)

    async def switch_off(self, event: Go) -> int:
        return self.add(event)

    def add(self, event: Go) -> int:
        line = self.lines[self.seq % LINES]
        line.quantity += event.amount
        return line.quantity

    def end(self) -> End:
        total = sum(line.quantity for line in self.lines)
        return End(self.state, self.customer, total, self.weight, self.urgent, self.seq)


class Fleet:
    """The registry: id to machine."""

    def __init__(self, machine_class: type[Light], ids: Sequence[str]) -> None:
        self.machines = {machine_id: machine_class(machine_id) for machine_id in ids}
        self.loop = asyncio.get_running_loop()

    async def ask(self, machine_id: str, event: Go) -> int:
        reply: asyncio.Future[int] = self.loop.create_future()
        self.machines[machine_id].mailbox.put_nowait((event, reply))
        return await reply

    def tell(self, machine_id: str, event: Go) -> None:
        self.machines[machine_id].mailbox.put_nowait((event, None))

    async def stop(self) -> None:
        tasks = [machine.task for machine in self.machines.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def open_fleet(machine_class: type[Light], ids: Sequence[str]) -> AsyncIterator[Session]:
    fleet = Fleet(machine_class, ids)

    def tell_last(machine_id: str, event: Go) -> asyncio.Future[int]:
        handled: asyncio.Future[int] = fleet.loop.create_future()
        fleet.machines[machine_id].mailbox.put_nowait((event, handled))
        return handled

    yield Session(
        make_event=lambda amount: Go(amount=amount),
        ask=fleet.ask,
        tell=fleet.tell,
        tell_last=tell_last,
        end=lambda machine_id: fleet.machines[machine_id].end(),
    )
    await fleet.stop()


def contenders() -> list[AsyncContender]:
    return [
        AsyncContender(name="a", open=partial(open_fleet, Light)),
        AsyncContender(
            name="a: event per send", open=partial(open_fleet, Light), workloads=ASKS, build_per_send=True
        ),
        AsyncContender(name="a: hooks suspend", open=partial(open_fleet, SuspendingLight), workloads=ASKS),
        AsyncContender(name="a: nested list", open=partial(open_fleet, NestedLight), workloads=ASKS),
    ]
