"""transitions: `AsyncMachine`, one shared machine for many models, as its documentation advises.

`queued="model"` gives each model its own queue, so that models do not wait for each other. The before-hook
that may refuse is a condition, the body is a `before` callback, the after-hook an `after` callback. It has no
mailbox and no reply: the trigger runs in the caller, and a trigger that finds the queue busy returns at once,
which is why there is no tell here, and why W1 gives each sender machines of its own.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ..work import ASKS, AsyncContender, End, Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence


class Light:
    """A model; the machine adds `state` and the trigger `go`."""

    state: str
    go: Callable[[int], Awaitable[bool]]

    def __init__(self) -> None:
        self.customer = "c-1"
        self.total = 0
        self.weight = 1.5
        self.urgent = False
        self.seq = 0

    async def allow(self, _amount: int) -> bool:
        return True

    async def add(self, amount: int) -> None:
        self.total += amount
        self.seq += 1

    async def done(self, _amount: int) -> None:
        return None


@asynccontextmanager
async def open_models(ids: Sequence[str]) -> AsyncIterator[Session]:
    from transitions.extensions.asyncio import AsyncMachine

    models = {machine_id: Light() for machine_id in ids}
    hooks = {"trigger": "go", "conditions": "allow", "before": "add", "after": "done"}
    machine = AsyncMachine(
        list(models.values()),
        states=["A", "B"],
        transitions=[{"source": "A", "dest": "B", **hooks}, {"source": "B", "dest": "A", **hooks}],
        initial="A",
        queued="model",
        auto_transitions=False,
    )

    async def ask(machine_id: str, amount: int) -> bool:
        return await models[machine_id].go(amount)

    def end(machine_id: str) -> End:
        model = models[machine_id]
        return End(model.state, model.customer, model.total, model.weight, model.urgent, model.seq)

    yield Session(make_event=lambda amount: amount, ask=ask, end=end)
    machine.models.clear()


def contenders() -> list[AsyncContender]:
    return [
        AsyncContender(
            name="transitions AsyncMachine",
            open=open_models,
            workloads=ASKS,
            share=0.25,
            requires=("transitions",),
        )
    ]
