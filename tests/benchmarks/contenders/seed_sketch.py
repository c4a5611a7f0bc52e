"""The sketch that actorfsm grew from, mended just enough to finish.

A queue of requested states, a worker that takes them one by one under a lock, hooks by state that may veto, a
callback with `(success, old, new)`. Mended: the queue belongs to the instance and not to the class, and a
hook or a callback that raises does not end the worker. There is no event, so the amount is a constant, and
the entry hook is the body.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from ..work import AMOUNT, AsyncContender, End, Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    Hook = Callable[[str, str], Awaitable[bool | None]]
    Callback = Callable[[bool, str, str], None]


class Sketch:
    """Asynchronous state machine with a queue of requests."""

    def __init__(self, initial: str) -> None:
        self.current = initial
        self.transitions = 0
        self.before: list[Hook] = []
        self.on_exit: dict[str, list[Hook]] = defaultdict(list)
        self.on_enter: dict[str, list[Hook]] = defaultdict(list)
        self.after: dict[str, list[Hook]] = defaultdict(list)
        self.lock = asyncio.Lock()
        self.requests: asyncio.Queue[tuple[str, Callback | None]] = asyncio.Queue()
        self.worker = asyncio.get_running_loop().create_task(self.work())

    def request_transition(self, new: str, callback: Callback | None = None) -> None:
        self.requests.put_nowait((new, callback))

    async def work(self) -> None:
        while True:
            new, callback = await self.requests.get()
            old = self.current
            try:
                success = await self.perform(old, new)
            except Exception:  # noqa: BLE001 mended: a raising hook is a refusal
                success = False
            if callback is not None:
                with suppress(Exception):
                    callback(success, old, new)
            self.requests.task_done()

    async def perform(self, old: str, new: str) -> bool:
        async with self.lock:
            for hooks in (self.before, self.on_exit[old], self.on_enter[new]):
                for hook in hooks:
                    if not await hook(old, new):
                        return False
            self.current = new
            self.transitions += 1
            for hook in self.after[new]:
                await hook(old, new)
            return True


class Light(Sketch):
    """The workload's machine."""

    def __init__(self) -> None:
        super().__init__("A")
        self.customer = "c-1"
        self.total = 0
        self.weight = 1.5
        self.urgent = False
        self.before.append(self.allow)
        for state in ("A", "B"):
            self.on_enter[state].append(self.enter)
            self.after[state].append(self.done)

    async def allow(self, _old: str, _new: str) -> bool:
        return True

    async def enter(self, _old: str, _new: str) -> bool:
        self.total += AMOUNT
        return True

    async def done(self, _old: str, _new: str) -> None:
        return None

    def next_state(self) -> str:
        """The other state, after all that is queued."""
        pending = self.requests.qsize() + self.transitions
        return "A" if pending % 2 else "B"


class Fleet:
    """The registry: id to machine; a state is requested in place of an event."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.machines = {machine_id: Light() for machine_id in ids}
        self.loop = asyncio.get_running_loop()

    def tell_last(self, machine_id: str, _event: int) -> asyncio.Future[bool]:
        machine = self.machines[machine_id]
        reply: asyncio.Future[bool] = self.loop.create_future()
        machine.request_transition(
            machine.next_state(), lambda success, _old, _new: reply.set_result(success)
        )
        return reply

    async def ask(self, machine_id: str, event: int) -> bool:
        return await self.tell_last(machine_id, event)

    def tell(self, machine_id: str, _event: int) -> None:
        machine = self.machines[machine_id]
        machine.request_transition(machine.next_state())

    def end(self, machine_id: str) -> End:
        machine = self.machines[machine_id]
        data = (machine.customer, machine.total, machine.weight, machine.urgent)
        return End(machine.current, *data, machine.transitions)

    async def stop(self) -> None:
        workers = [machine.worker for machine in self.machines.values()]
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


@asynccontextmanager
async def open_fleet(ids: Sequence[str]) -> AsyncIterator[Session]:
    fleet = Fleet(ids)
    yield Session(
        make_event=lambda amount: amount,
        ask=fleet.ask,
        tell=fleet.tell,
        tell_last=fleet.tell_last,
        end=fleet.end,
    )
    await fleet.stop()


def contenders() -> list[AsyncContender]:
    return [AsyncContender(name="seed's sketch mended", open=open_fleet)]
