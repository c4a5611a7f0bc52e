"""What P2 found, each as the smallest scenario that shows it, named after what must be true."""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import pytest

from actorfsm import STAY, Event, Limits, Machine, NoSuchMachine, on_enter, postpone, transition
from actorfsm.testing.simulation import SimulatedSystem
from tests.campaigns.p2_machines import Job, Retrying
from tests.campaigns.p2_world import World, run_seed

if TYPE_CHECKING:
    from collections.abc import Callable


class S(Enum):
    A = auto()
    B = auto()
    END = auto()


class Begin(Event[int]):
    hang: bool = False


class Go(Event[int]):
    pass


class Wait(Event[int]):
    pass


async def refuse_to_end(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        try:
            await asyncio.sleep(end - loop.time())
        except asyncio.CancelledError:
            continue


class Found(Machine[S], initial=S.A, final=(S.END,), hook_timeout=1.0):
    @transition(to=S.A)
    async def begin(self, event: Begin) -> int:
        if event.hang:
            await refuse_to_end(5.0)
        return 1

    @transition(S.A, to=S.B)
    async def go(self, event: Go) -> int:
        await asyncio.sleep(0.1)
        return 2

    @transition(S.B, to=S.END)
    async def end(self, event: Go) -> int:
        return 3

    @postpone(S.B, Wait)
    @transition(S.A, to=STAY)
    async def wait(self, event: Wait) -> int:
        return 4

    @on_enter(S.B)
    async def enter(self, old: S, new: S) -> None:
        await asyncio.sleep(0)


@pytest.mark.rule("C13")
def test_a_birth_that_hangs_does_not_strand_the_birth_behind_it(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    """Seed 988: the worker stayed behind with the hook, and nobody gave the machine another turn."""

    async def scenario() -> None:
        async with system_of(Found, limits=Limits(grace_s=1.0)) as system:
            first = system.tell("m", Begin(hang=True))
            second = system.tell("m", Begin())
            assert (await first).kind == "failed"
            assert (await second).kind == "committed"
            assert asyncio.get_running_loop().time() < 2.5
            await asyncio.sleep(5)
        assert system.report.finished

    sim(scenario)


@pytest.mark.rule("C13")
def test_a_birth_that_hangs_ends_what_waits_behind_it(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with system_of(Found, limits=Limits(grace_s=1.0)) as system:
            system.tell("m", Begin(hang=True))
            with pytest.raises(NoSuchMachine):
                await system.ask("m", Go())
            await asyncio.sleep(5)

    sim(scenario)


@pytest.mark.rule("C30")
def test_a_duplicates_record_comes_after_the_record_of_the_event_that_it_joined(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    """Seed 2: the one who waited for the outcome had his record before the outcome had its own."""

    async def scenario() -> None:
        records: list[Any] = []
        async with system_of(Found, trace=records.append) as system:
            await system.spawn(Found, "m")
            await asyncio.gather(*(system.ask("m", Go(), event_id="mine") for _ in range(3)))
        seen = [(record.seq, record.duplicate) for record in records if record.event_id == "mine"]
        assert seen == [(2, False), (2, True), (2, True)]

    sim(scenario)


@pytest.mark.rule("C30")
def test_the_record_of_a_transition_into_a_final_state_comes_before_those_of_the_postponed_events_that_it_ends(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        records: list[Any] = []
        async with system_of(Found, trace=records.append) as system:
            await system.spawn(Found, "m")
            await system.ask("m", Go())
            waits = system.tell("m", Wait())
            await asyncio.sleep(0.1)
            await system.ask("m", Go())
            assert (await waits).kind == "unhandled"
        assert [(record.name, record.event_type, record.seq) for record in records] == [
            ("committed", "Spawn", 1),
            ("committed", "Go", 2),
            ("committed", "Go", 3),
            ("unhandled", "Wait", 3),
        ]

    sim(scenario)


@pytest.mark.rule("C20")
def test_what_a_hook_began_in_an_attempt_that_failed_does_not_count_in_the_next_one(
    sim: Callable[..., None],
) -> None:
    """Seed 10955: the first attempt cancelled a timer, the second did not; the books took it for cancelled."""

    async def scenario() -> None:
        world = World(0)
        world.ids = ["m"]
        system: SimulatedSystem[Any] = SimulatedSystem(Retrying, services=world, trace=(world,))
        async with system:
            await system.spawn(Retrying, "m")
            await system.ask("m", Job(n=33, body="timer"))
            again = system.tell("m", Job(n=35, exit="untimer", body="value"))
            await asyncio.sleep(0.01)
            world.calm = True
            assert (await again).kind == "committed"
            await asyncio.sleep(5)
            world.books.all_came(asyncio.get_running_loop().time())
        assert world.reached["timer of scope named fired"] == 1
        assert world.violations == []

    sim(scenario)


@pytest.mark.parametrize("seed", [2, 4, 535, 548, 636, 988, 991, 994, 10955, 17938, 18194])
def test_a_seed_that_once_failed_is_green(seed: int) -> None:
    assert run_seed(seed).violations == []
