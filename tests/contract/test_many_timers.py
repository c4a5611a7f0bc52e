"""C20, C11, C12: however many timers there are, one handle of the loop serves them, bounded, and nobody starves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from actorfsm import ActorSystem, HookFailed, Limits, MailboxFull, Ref
from actorfsm.testing.simulation import SimulatedSystem
from tests.contract.paths import Path, Style, on_every_path, until
from tests.contract.porter import Diary, Do, Go, Ping, Tick, porter_of
from tests.contract.test_timers import assert_balanced, do, names

pytestmark = pytest.mark.rule("C20")
PORTER = {style: porter_of(style) for style in Style}


def handles() -> int:
    """Return how many timers of the loop itself are armed."""
    loop: Any = asyncio.get_running_loop()
    return sum(not entry[2].cancelled() for entry in loop._timers)


@on_every_path
def test_all_timers_of_all_machines_share_one_handle_of_the_loop(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary = Diary()
        async with path.system(PORTER[path.style], services=diary) as system:
            await system.spawn_many(PORTER[path.style], [f"w{n}" for n in range(100)])
            await asyncio.sleep(60)  # the deadlines of the spawns are over
            before = handles()

            def start(machine: Any) -> None:
                number = int(machine.id[1:])
                for other in range(3):
                    machine.start_timer(Tick(n=number), after=1000 - number + other, name=f"t{other}")

            diary.does["do"] = start
            for number in range(100):
                system.tell(f"w{number}", Do())
                system.tell(f"w{number}", Go())
            await until(lambda: system._parts.counters.timers == 500)
            await asyncio.sleep(40)  # no hook has run for long
            assert system.stats().timers == 300  # those of the states are over
            assert handles() == before + 1
            await asyncio.sleep(1000)
            assert handles() == before
            assert system.stats().timers_fired == 500
            assert_balanced(system)

    sim(scenario, seeds=range(1))


@pytest.mark.rule("C11")
@on_every_path
def test_a_machine_has_only_so_many_timers_and_a_replacement_is_none_more(
    path: Path, sim: Callable[..., None]
) -> None:
    cls = porter_of(path.style, timer_limit=3)

    async def scenario() -> None:
        diary = Diary()
        async with path.system(cls, services=diary) as system:
            ref: Ref[Any] = await system.spawn(cls, "w")

            def start(machine: Any) -> None:
                for number in range(3):
                    machine.start_timer(Tick(n=number), after=5, name=f"t{number}")
                machine.start_timer(Tick(n=7), after=5, name="t1")

            await do(ref, diary, start)
            with pytest.raises(HookFailed, match="has 3 timers, as many as it may") as caught:
                await do(ref, diary, lambda machine: machine.start_timer(Ping(), after=5))
            assert isinstance(caught.value.__cause__, MailboxFull)
            assert names(system) == ["t0", "t2", "t1"]

            def swap(machine: Any) -> None:
                machine.cancel_timer("t0")
                machine.start_timer(Ping(), after=5)

            await do(ref, diary, swap)
            assert names(system) == ["t2", "t1", "Ping"]
            assert_balanced(system)

    sim(scenario)


@pytest.mark.timeout(240)  # seconds of a busy computer
@pytest.mark.rule("C12")
def test_timers_that_are_due_all_at_once_do_not_keep_an_ask_from_its_turn() -> None:
    """A step of the loop fires 256 of them; an ask among thousands waits for a few hundred turns, not for all."""
    timers, cls = 5_000, PORTER[Style.PLAIN]

    async def scenario() -> None:
        diary = Diary()
        async with ActorSystem(cls, services=diary, trace=None) as system:
            await system.spawn_many(cls, [f"w{n}" for n in range(timers)])
            await system.spawn(cls, "asked")
            diary.does["do"] = lambda machine: machine.start_timer(Tick(), after=8)
            for number in range(timers):
                system.tell(f"w{number}", Do())
            counters = system._parts.counters
            await until(lambda: counters.timers == timers)
            time.sleep(3.1)  # noqa: ASYNC251 -- the loop is blocked until all are due: now they are, all at once
            asks = 0
            while counters.timers_fired < timers:
                fired, handled = counters.timers_fired, counters.outcomes["committed"]
                await system.ask("asked", Ping())
                asks += 1
                # What was done between the question and its answer: a few steps of the loop, never all there is.
                assert counters.outcomes["committed"] - handled < 2_000
                assert counters.timers_fired - fired <= 2_048
                await asyncio.sleep(0)
            assert asks > 3

    asyncio.run(scenario())


def test_the_limit_of_timers_per_step_is_a_choice(sim: Callable[..., None]) -> None:
    cls = PORTER[Style.PLAIN]

    async def scenario() -> None:
        diary = Diary()
        async with ActorSystem(cls, services=diary, trace=None, limits=Limits(timers_per_step=1)) as system:
            await system.spawn_many(cls, [f"w{n}" for n in range(10)])
            diary.does["do"] = lambda machine: machine.start_timer(Tick(n=int(machine.id[1:])), after=5)
            for number in range(10):
                await system.ask(f"w{number}", Do())
            await asyncio.sleep(6)
            assert [name for at, name in diary.lines if name.startswith("tick")] == [
                f"tick {n}" for n in range(10)
            ]

    sim(scenario)


@pytest.mark.rule("C32")
def test_the_same_seed_gives_the_same_trace_of_timers_byte_for_byte() -> None:
    from actorfsm.testing.loop import simulate

    def trace_of(seed: int) -> list[str]:
        lines: list[str] = []

        async def scenario() -> None:
            diary = Diary()
            cls = PORTER[Style.SUSPENDING]
            async with SimulatedSystem(cls, services=diary) as system:
                await system.spawn_many(cls, [f"w{n}" for n in range(5)])

                def start(machine: Any) -> None:
                    for number in range(4):
                        machine.start_timer(Tick(n=number), after=number % 2, name=f"t{number}")

                diary.does["do"] = start
                for number in range(5):
                    system.tell(f"w{number}", Do())
                    system.tell(f"w{number}", Go())
                await asyncio.sleep(30)
                lines.extend(system.trace.lines())

        simulate(scenario, seed=seed)
        return lines

    assert trace_of(3) == trace_of(3)
    assert trace_of(3) != trace_of(4)
    assert sum("Tick" in line for line in trace_of(3)) == 20
