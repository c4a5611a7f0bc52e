"""python-statemachine: its async engine, one machine object per id, as its documentation advises.

The before-hook that may refuse is a condition (`cond`), the body is the `on` action, the after-hook the
`after` action. The engine queues the event and answers the caller by a future of its own. There is no tell:
an event is always awaited.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from ..work import ASKS, AsyncContender, End, Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


@cache
def light_class() -> Any:
    from statemachine import State, StateMachine

    class Light(StateMachine):
        a = State(value="A", initial=True)
        b = State(value="B")
        go = a.to(b, cond="allow") | b.to(a, cond="allow")

        def __init__(self) -> None:
            self.customer = "c-1"
            self.total = 0
            self.weight = 1.5
            self.urgent = False
            self.seq = 0
            super().__init__()

        async def allow(self) -> bool:
            return True

        async def on_go(self, amount: int) -> int:
            self.total += amount
            self.seq += 1
            return self.total

        async def after_go(self) -> None:
            return None

    return Light


@asynccontextmanager
async def open_machines(ids: Sequence[str]) -> AsyncIterator[Session]:
    machines = {machine_id: light_class()() for machine_id in ids}
    for machine in machines.values():
        await machine.activate_initial_state()

    async def ask(machine_id: str, amount: int) -> Any:
        return await machines[machine_id].go(amount=amount)

    def end(machine_id: str) -> End:
        machine = machines[machine_id]
        state = machine.current_state_value
        return End(state, machine.customer, machine.total, machine.weight, machine.urgent, machine.seq)

    yield Session(make_event=lambda amount: amount, ask=ask, end=end)


def contenders() -> list[AsyncContender]:
    return [
        AsyncContender(
            name="python-statemachine async",
            open=open_machines,
            workloads=ASKS,
            share=0.1,
            requires=("statemachine",),
        )
    ]
