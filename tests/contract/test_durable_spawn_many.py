"""C10, C11, C23 with a journal: many machines in one call, each stored before it counts as created."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

import pytest

from actorfsm import Event, InvalidEvent, Machine, MachineExists, Vetoed, on_enter, transition
from tests.contract.durable import Lives, Note, Order, Pay, in_memory, lives_on_every_journal

__all__ = ["lives_on_every_journal"]
SEEDS = range(2)


class Step(Enum):
    HERE = auto()
    GONE = auto()


class Go(Event[None]):
    pass


class Slow(Machine[Step, Any], initial=Step.HERE, final=(Step.GONE,)):
    """Has a hook at birth that waits, and refuses some."""

    odd: bool = False

    @on_enter(Step.HERE)
    async def prepare(self, old: Step, new: Step) -> bool:
        await asyncio.sleep(1)
        return not self.odd

    @transition(Step.HERE, to=Step.GONE)
    async def go(self, event: Go) -> None: ...


@pytest.mark.rule("C23")
def test_machines_of_one_call_are_there_in_the_next_life(
    sim: Callable[..., None], lives_of: Callable[[], Lives]
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin() as system:
            report = await system.spawn_many(Order, {f"o-{n}": {"paid": n} for n in range(150)})
            assert (report.spawned, report.refused) == (150, {})
            assert await system.ask("o-7", Pay(amount=1)) == 8
        async with lives.begin() as system:
            report = await system.spawn_many(Order, ["o-7", "new", "no id!", "o-149"])
            assert report.spawned == 1
            assert {name: type(error) for name, error in report.refused.items()} == {
                "o-7": MachineExists,
                "o-149": MachineExists,
                "no id!": InvalidEvent,
            }
            assert await system.ask("o-149", Pay(amount=1)) == 150
            assert await system.ask("new", Pay(amount=1)) == 1

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
def test_what_was_created_stays_when_the_system_dies_in_the_middle_of_the_call(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        lives = in_memory()
        async with lives.begin() as system:
            call = asyncio.create_task(system.spawn_many(Order, [f"o-{n}" for n in range(200)]))
            while len(system.ids(Order)) < 70:  # noqa: ASYNC110 -- as soon as some are there
                await asyncio.sleep(0)
            call.cancel()
            await system.shutdown(queues="abandon")
            created = set(system.ids(Order))
        async with lives.begin() as system:
            report = await system.spawn_many(Order, [f"o-{n}" for n in range(200)])
            assert 70 <= len(created) <= len(report.refused)
            assert created <= report.refused.keys()  # and those whose commits were on their way
            assert report.spawned == 200 - len(report.refused)
            await system.ask("o-0", Note(text="."))

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C11")
def test_births_whose_hooks_wait_go_on_beside_each_other_and_each_is_refused_alone(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        lives = in_memory()
        async with lives.begin(Slow) as system:
            started_at = system.clock.now()
            report = await system.spawn_many(Slow, {f"s-{n}": {"odd": n % 2 == 1} for n in range(64)})
            assert (system.clock.now() - started_at).total_seconds() < 3
            assert report.spawned == 32
            assert {type(error) for error in report.refused.values()} == {Vetoed}
        async with lives.begin(Slow) as system:
            assert (await system.spawn_many(Slow, ["s-1", "s-2"])).refused.keys() == {"s-2"}

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C24")
def test_an_id_of_a_machine_that_stopped_is_born_anew_by_the_call(
    sim: Callable[..., None], lives_of: Callable[[], Lives]
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin() as system:
            await system.spawn_many(Order, ["a", "b"])
            await system.ask("a", Pay(amount=5))
            await system.stop("a")
        async with lives.begin() as system:
            report = await system.spawn_many(Order, ["a", "b"])
            assert (report.spawned, list(report.refused)) == (1, ["b"])
            assert await system.ask("a", Pay(amount=1)) == 1

    sim(scenario, seeds=SEEDS)
