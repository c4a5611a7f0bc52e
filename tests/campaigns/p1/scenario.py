"""What a scenario is, and the list of them; what hooks do in several scenarios."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actorfsm import RestartPolicy, Veto
from tests.campaigns.p1.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from actorfsm.testing.faults import Faults


@dataclass(frozen=True)
class Scenario:
    """A scenario: its name, its machine classes, what happens, and what else the world has."""

    name: str
    machines: tuple[type[Any], ...]
    play: Callable[[World], Coroutine[Any, Any, None]]
    quarantine: bool = False
    sink: bool = False
    tree: Callable[[World], list[Any]] | None = None
    """Makes the children of the root; machines that stand there are among `machines`, too."""
    root: RestartPolicy | None = None

    def world(self, faults: Faults, *, inline: bool) -> World:
        """Make the world of one run."""
        world: World

        async def on_quarantine(machine_id: str, error: BaseException) -> None:
            await world.point(f"operator hears of {machine_id}")

        def sink(record: Any) -> None:
            faults.hit(f"sink of {record.name}")

        world = World(
            faults,
            *self.machines,
            inline=inline,
            quarantine=on_quarantine if self.quarantine else None,
            sink=sink if self.sink else None,
            tree=self.tree,
            root=self.root,
        )
        return world


SCENARIOS: list[Scenario] = []


def scenario(*machines: type[Any], **options: Any) -> Callable[[Any], Any]:
    """Enter a function into the list."""

    def enter(play: Any) -> Any:
        SCENARIOS.append(Scenario(play.__name__, machines, play, **options))
        return play

    return enter


def veto(machine: Any) -> Any:
    raise Veto("no")


async def veto_async(machine: Any) -> Any:
    raise Veto("no")


async def refuse_async(machine: Any) -> bool:
    return False


async def fail_async(machine: Any) -> Any:
    raise LookupError("as the scenario has it")


async def hang(machine: Any) -> Any:
    await asyncio.sleep(100_000)


async def nap(machine: Any) -> Any:
    await asyncio.sleep(2)


async def linger(machine: Any) -> Any:
    await asyncio.sleep(500)


async def hang_on(machine: Any) -> Any:
    """Refuse to be cancelled, for a while."""
    for _ in range(3):
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            continue


async def discard(coroutine: Any) -> None:
    """Await, and let the step have no result."""
    await coroutine
