"""The contenders of W3 and W8: machines with four fields of data, each its own, reached by string id."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from ..fleet import Fleet, FleetContender
from ..work import End
from . import raw_asyncio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable


FIELDS = "dict of four fields alone"
"""What a machine's data cannot be smaller than."""


class Model(BaseModel):
    """The data alone, as strict as a machine's."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)

    customer: str = "c-1"
    total: int = 0
    weight: float = 1.5
    urgent: bool = False


@asynccontextmanager
async def open_models(*, fields_only: bool) -> AsyncIterator[Fleet]:
    """One validated model for each machine in a list, or only the dict with its fields: data that does nothing."""
    models: list[Any] = []

    async def spawn(machines: Iterable[tuple[str, dict[str, Any]]]) -> None:
        for _, data in machines:
            models.append(Model(**data).__dict__ if fields_only else Model(**data))

    def end(machine_id: str) -> End:
        model = models[int(machine_id.removeprefix("order-"))]
        fields = model if fields_only else model.__dict__
        return End("A", fields["customer"], fields["total"], fields["weight"], fields["urgent"], 0)

    yield Fleet(spawn=spawn, end=end)


@asynccontextmanager
async def open_tasks() -> AsyncIterator[Fleet]:
    """`a`: one task and one queue for each machine."""
    fleet = raw_asyncio.Fleet(raw_asyncio.Light, [])

    async def spawn(machines: Iterable[tuple[str, dict[str, Any]]]) -> None:
        for number, (machine_id, data) in enumerate(machines):
            fleet.machines[machine_id] = machine = raw_asyncio.Light(machine_id)
            machine.customer, machine.total, machine.weight = data["customer"], data["total"], data["weight"]
            if number % 256 == 0:
                await asyncio.sleep(0)
        await asyncio.sleep(0)

    yield Fleet(
        spawn=spawn,
        ask=fleet.ask,
        end=lambda machine_id: fleet.machines[machine_id].end(),
        make_event=lambda amount: raw_asyncio.Go(amount=amount),
    )
    await fleet.stop()


@asynccontextmanager
async def open_system(name: str, *, one_by_one: bool = False) -> AsyncIterator[Fleet]:
    """actorfsm, with machines made by `spawn_many`, or by `spawn` one after the other."""
    from actorfsm import ActorSystem

    from . import actorfsm_machines

    machine_class: Any = getattr(actorfsm_machines, name)
    async with ActorSystem(machine_class, trace=None) as system:

        async def spawn(machines: Iterable[tuple[str, dict[str, Any]]]) -> None:
            if one_by_one:
                for machine_id, data in machines:
                    await system.spawn(machine_class, machine_id, data=data)
                return
            report = await system.spawn_many(machine_class, machines)
            assert not report.refused

        def end(machine_id: str) -> End:
            snapshot = system.snapshot(machine_id)
            data = snapshot.data
            seq = snapshot.seq - 1  # the birth is a transition too
            return End(
                str(snapshot.state), data["customer"], data["total"], data["weight"], data["urgent"], seq
            )

        yield Fleet(
            spawn=spawn,
            ask=system.ask,
            end=end,
            make_event=lambda amount: actorfsm_machines.Go(amount=amount),
        )


def fleets() -> list[FleetContender]:
    """All of them; the first is `a`."""
    return [
        FleetContender(name="a", open=open_tasks),
        FleetContender(name=FIELDS, open=partial(open_models, fields_only=True), grows=False),
        FleetContender(
            name="pydantic model alone", open=partial(open_models, fields_only=False), grows=False
        ),
        FleetContender(name="actorfsm", open=partial(open_system, "FleetLight")),
        FleetContender(
            name="actorfsm: collector off", open=partial(open_system, "FleetLight"), without_collector=True
        ),
        FleetContender(name="actorfsm: after-hook at birth", open=partial(open_system, "Light")),
        FleetContender(
            name="actorfsm: one by one",
            open=partial(open_system, "FleetLight", one_by_one=True),
            grows=False,
        ),
    ]
