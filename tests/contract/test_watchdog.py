"""The watchdog: a line that blocks the event loop is named, once; real loops and real time, for that is the point."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from actorfsm import ActorSystem, Limits, LoopBlocked
from tests.contract.lamp import Count, Switch, Trace, lamp_of
from tests.contract.paths import Script, Style, until

pytestmark = pytest.mark.rule("C12")
LIMIT = Limits(blocked_s=0.05)
LONG = 0.15


def first_site(machine: Any = None) -> None:
    time.sleep(LONG)


def second_site(machine: Any = None) -> None:
    time.sleep(LONG)


LINES = {function.__name__: function.__code__.co_firstlineno + 1 for function in (first_site, second_site)}


def watching(trace: Trace, script: Script | None = None, **options: Any) -> ActorSystem[Any]:
    options = {"trace": trace, "limits": LIMIT, "services": script or Script()} | options
    return ActorSystem(LAMP, **options)


LAMP = lamp_of(Style.ASYNC)


def blocked(trace: Trace) -> list[Any]:
    return [record for record in trace if record.name == "loop_blocked"]


async def answered(system: ActorSystem[Any], count: int) -> None:
    """Wait until so many blocks have been noticed and reported."""
    async with asyncio.timeout(20):
        while system.stats().loop_blocked < count:  # noqa: ASYNC110 -- a counter has no event to wait for
            await asyncio.sleep(0.005)


async def pong(system: ActorSystem[Any]) -> None:
    """Wait until the loop has answered the watchdog at least once."""
    await until(lambda: system._watchdog is None or system._watchdog._depth)


def test_a_hook_that_blocks_is_named_with_its_line_its_machine_and_how_long() -> None:
    trace = Trace()
    told: list[LoopBlocked] = []

    async def main() -> None:
        async with watching(trace, Script(enter=first_site), on_blocked=told.append) as system:
            await system.spawn(LAMP, "lamp")
            await pong(system)
            await system.ask("lamp", Switch())
            await answered(system, 1)
            assert system.stats().loop_blocked == 1
            await until(lambda: told)

    asyncio.run(main())
    (record,) = blocked(trace)
    assert (record.machine, record.machine_id, record.hook) == ("Lamp", "lamp", "enter")
    assert (record.incarnation, record.seq, record.event_type) == (0, 2, "")
    assert f"{__file__}:{LINES['first_site']} in first_site blocked the event loop" in record.reason
    assert 0.05 <= record.run_s < 20
    (seen,) = told
    assert (seen.file, seen.line, seen.function) == (__file__, LINES["first_site"], "first_site")
    assert (seen.machine_id, seen.hook, seen.seconds) == ("lamp", "enter", record.run_s)
    assert seen.stack.rstrip().endswith("time.sleep(LONG)")
    assert "run_until_complete" not in seen.stack


def test_a_site_is_reported_once_and_another_again() -> None:
    trace = Trace()

    async def main() -> None:
        script = Script(count=first_site)
        async with watching(trace, script) as system:
            await system.spawn(LAMP, "lamp")
            await pong(system)
            for blocks, site in enumerate((first_site, first_site, second_site, first_site), 1):
                script.does["count"] = site
                await system.ask("lamp", Count())
                await answered(system, blocks)
            assert system.stats().loop_blocked == 4

    asyncio.run(main())
    assert [record.reason.split(" ")[2] for record in blocked(trace)] == ["first_site", "second_site"]


def test_code_outside_of_all_turns_is_named_too_without_a_machine() -> None:
    trace = Trace()

    async def main() -> None:
        async with watching(trace) as system:
            first_site()  # before the loop has answered for the first time, or it may have: both are found
            await answered(system, 1)
            asyncio.get_running_loop().call_soon(second_site)
            await answered(system, 2)

    asyncio.run(main())
    assert [(record.machine, record.machine_id, record.hook) for record in blocked(trace)] == [
        ("", "", None)
    ] * 2
    assert "in first_site" in blocked(trace)[0].reason
    assert "in second_site" in blocked(trace)[1].reason


def test_the_users_line_is_named_and_not_that_of_the_library_in_which_it_waits() -> None:
    trace = Trace()

    def waits(machine: Any) -> None:
        threading.Event().wait(LONG)  # innermost is a frame of the standard library

    async def main() -> None:
        async with watching(trace, Script(guard=waits)) as system:
            await system.spawn(LAMP, "lamp")
            await pong(system)
            await system.ask("lamp", Switch())
            await answered(system, 1)

    asyncio.run(main())
    (record,) = blocked(trace)
    assert f":{waits.__code__.co_firstlineno + 1} in " in record.reason
    assert record.machine_id == "lamp"


def test_a_loop_that_is_only_asleep_or_busy_in_short_steps_is_not_blocked() -> None:
    trace = Trace()

    async def main() -> None:
        async with watching(trace, Script(count=lambda machine: asyncio.sleep(0.15))) as system:
            await system.spawn(LAMP, "lamp")
            await system.ask("lamp", Count())
            ends = time.monotonic() + 0.2
            while time.monotonic() < ends:  # noqa: ASYNC110 -- steps of the loop are the point
                await asyncio.sleep(0)
            await asyncio.sleep(0.2)
            assert system.stats().loop_blocked == 0

    asyncio.run(main())
    assert blocked(trace) == []


def test_the_thread_ends_with_the_system_and_each_system_has_its_own() -> None:
    def watchdogs() -> int:
        return sum(thread.name == "actorfsm-watchdog" for thread in threading.enumerate())

    before = watchdogs()

    async def main() -> None:
        async with watching(Trace()) as system:
            assert watchdogs() == before + 1
            thread = system._watchdog._thread
            assert thread.daemon
            async with watching(Trace()):
                assert watchdogs() == before + 2
            assert watchdogs() == before + 1
        assert not thread.is_alive()
        assert watchdogs() == before

    asyncio.run(main())


def test_on_the_simulated_loop_there_is_no_thread(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        threads = threading.active_count()
        async with watching(Trace()) as system:
            assert system._watchdog is None
            assert threading.active_count() == threads

    sim(scenario)


def test_zero_looks_at_nothing() -> None:
    trace = Trace()

    async def main() -> None:
        async with watching(trace, limits=Limits(blocked_s=0)) as system:
            first_site()
            await asyncio.sleep(0.05)
            assert system.stats().loop_blocked == 0

    asyncio.run(main())
    assert blocked(trace) == []


@pytest.mark.rule("C13")
def test_a_callback_of_the_operator_that_raises_is_counted() -> None:
    async def main() -> None:
        def bad(seen: LoopBlocked) -> None:
            raise ValueError

        async with watching(Trace(), on_blocked=bad) as system:
            first_site()
            await answered(system, 1)
            await until(lambda: system.stats().callbacks_failed)
            assert system.stats().callbacks_failed == 1

    asyncio.run(main())


@pytest.mark.rule("C13")
def test_a_coroutine_of_the_operator_that_is_cancelled_at_the_end_is_counted() -> None:
    async def main() -> None:
        async def hangs(seen: LoopBlocked) -> None:
            await asyncio.sleep(3600)

        async with watching(
            Trace(), on_blocked=hangs, limits=Limits(blocked_s=0.05, grace_s=0.1, stop_timeout_s=0.1)
        ) as system:
            first_site()
            await answered(system, 1)
            await asyncio.sleep(0.01)
        assert system.stats().callbacks_failed == 1

    asyncio.run(main())


STUCK = """
    import asyncio, sys, time
    from enum import Enum
    from actorfsm import ActorSystem, Limits, Event, Machine, transition

    class S(Enum):
        A = 1

    class Go(Event): ...

    class M(Machine[S], initial=S.A):
        @transition(S.A, to=S.A)
        async def go(self, event: Go) -> None:
            time.sleep(1.0)  # stuck here

    async def main():
        async with ActorSystem(M, trace=None, limits=Limits(blocked_s=0.02)) as system:
            await system.spawn(M, "m")
            await asyncio.sleep(0.1)
            await system.ask("m", Go())
            if "closed" in sys.argv:
                return
    if "closed" in sys.argv:
        sys.stderr = None
    asyncio.run(main())
"""


def test_a_loop_that_does_not_come_back_is_shown_on_stderr_once() -> None:
    source = textwrap.dedent(STUCK)
    run = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=50
    )
    assert run.stderr.count("actorfsm: the event loop has not answered for 0.") == 1
    assert "in go" in run.stderr
    assert "run_until_complete" not in run.stderr


def test_without_a_stderr_nothing_happens() -> None:
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STUCK), "closed"],
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    assert run.stderr == ""


def test_a_loop_that_stands_still_between_two_runs_is_not_blocked() -> None:
    trace = Trace()
    with asyncio.Runner() as runner:
        system = watching(trace)
        runner.run(system.__aenter__())
        first_site()  # not on the loop
        runner.run(asyncio.sleep(0.05))
        assert runner.run(stats_of(system)).loop_blocked == 0
        runner.run(system.shutdown())
    assert blocked(trace) == []


async def stats_of(system: ActorSystem[Any]) -> Any:
    return system.stats()
