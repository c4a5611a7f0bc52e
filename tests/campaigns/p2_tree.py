"""The supervision tree of a P2 seed: three levels and more, of every strategy and restart type, with services.

What stands where comes from the seed; so does what a service does in each of its lives. While the world is calm nobody
fails: then the tree must come to rest with all that it has to hold up running.
"""

from __future__ import annotations

import asyncio
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from actorfsm import Child, Restart, RestartPolicy, Strategy, Supervisor
from tests.campaigns.p2_machines import (
    BIRTH_S,
    DropsOldest,
    Escalating,
    Fragile,
    Patient,
    Plain,
    Retrying,
    Tight,
    Worker,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from actorfsm import TreeNode

ROOT = RestartPolicy(max_restarts=25, within_s=5.0, first_delay_s=0.0, max_delay_s=0.0)
STRATEGIES = (*Strategy, Strategy.ONE_FOR_ONE, Strategy.ONE_FOR_ONE)
RESTARTS = (Restart.PERMANENT, Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY)
DECLARED = (Worker, Worker, Fragile, Plain, Patient, Tight, Retrying, DropsOldest)
START_S = 0.3
"""How long the start of a service may take."""


class Planned:
    """The tree of one seed, as declared.

    Attributes:
        children: What the system is given.
        machines: The ids of the machines declared in it.
        places: By name, the supervisor above and the restart type.
        strategies: By name, the strategies of the supervisors.
    """

    def __init__(self, world: Any, random: Random) -> None:
        self._world = world
        self._random = random
        self.machines: list[str] = []
        self.places: dict[str, tuple[str, Restart]] = {}
        self.strategies: dict[str, Strategy] = {}
        low = self._supervisor("low", [self._machine(), self._machine(), self._service("feed"), Escalating])
        mid = self._supervisor("mid", [self._machine(), low, self._service("poll")])
        top = self._supervisor("top", [mid, self._machine()], Restart.PERMANENT)
        doomed = Child(partial(_doomed, world), "doomed")
        self._place([top, doomed], "system")
        self.children = (top, doomed)

    def _supervisor(self, name: str, children: list[Any], restart: Restart | None = None) -> Supervisor:
        random = self._random
        if random.random() < 0.5:
            children.reverse()
        self._place(children, name)
        self.strategies[name] = strategy = random.choice(STRATEGIES)
        return Supervisor(
            name,
            strategy=strategy,
            children=children,
            restart=restart or random.choice(RESTARTS[:3]),
            policy=RestartPolicy(
                max_restarts=random.choice((1, 2, 4)), within_s=2.0, first_delay_s=0.2, max_delay_s=0.5
            ),
        )

    def _place(self, children: Iterable[Any], parent: str) -> None:
        for child in children:
            if not isinstance(child, type):
                self.places[child.name] = (parent, child.restart)

    def _machine(self) -> Child:
        random = self._random
        cls: Any = random.choice(DECLARED)
        name = f"{cls.__name__}-s{len(self.machines)}"
        self.machines.append(name)
        return Child(
            cls,
            name,
            restart=random.choice(RESTARTS),
            start_timeout=BIRTH_S,
            shutdown=random.choice((0, 0.2, 1.0)),
        )

    def _service(self, name: str) -> Child:
        return Child(
            partial(_serve, self._world),
            name,
            restart=self._random.choice(RESTARTS),
            start_timeout=START_S,
            shutdown=0.2,
        )


async def _serve(world: Any, system: Any, started: Any) -> None:
    """Be a service: what it does in this life comes from the seed."""
    random = world.random
    if not world.calm:
        match int(random.random() * 24):
            case 0:
                raise OSError("a service that does not start")
            case 1:
                await asyncio.sleep(2 * START_S)
            case 2 | 3 | 4:
                await asyncio.sleep(START_S / 3)
            case _:
                pass
    started()
    try:
        while True:
            await asyncio.sleep(1000 if world.calm else 1 + random.random() * 4)
            if world.calm:
                continue
            match int(random.random() * 5):
                case 0:
                    return
                case 1:
                    raise OSError("a service that fails")
                case _:
                    system.tell(world.some_machine(), world.job())
    except asyncio.CancelledError:
        if random.random() < 0.1:
            world.reached["service that refuses to be cancelled"] += 1
            await asyncio.sleep(0.5)
        raise


async def _doomed(world: Any) -> None:
    """Fail again and again as soon as the world says so, until the root gives up."""
    await world.doom.wait()
    raise OSError("doomed")


def cannot_start(world: Any, random: Random) -> list[Any]:
    """Return the children of a system that does not start: one of them fails to, or takes too long."""

    async def fails(_system: Any, _started: Any) -> None:
        raise OSError("a service that does not start")

    async def hangs(_system: Any, _started: Any) -> None:
        await asyncio.sleep(60)

    refused = Child(Worker, "refused", data={"birth": "veto"})
    last = random.choice((Child(hangs, start_timeout=START_S), Child(fails), refused))
    low = Supervisor("low", children=[Child(Worker, "first"), last])
    return [Supervisor("top", children=[Child(partial(_serve, world), "poll"), low])]


def nodes(tree: TreeNode) -> Iterator[TreeNode]:
    """Yield what stands in a tree, with all below it."""
    yield tree
    for child in tree.children:
        yield from nodes(child)
