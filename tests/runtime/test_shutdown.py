"""Shutdown in its parts: what a report says, who is waited for, and how a cancellation comes out again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actorfsm import Limits, StopReport, SystemStopping
from actorfsm.testing.loop import SimLoop, observe
from tests.contract.lamp import Birth, Count, Stubborn, Switch, Trace, lamp_of
from tests.contract.paths import Path, Script, Style

PATH = Path(Style.SUSPENDING, inline=True)


def test_a_report_counts_the_outcomes_of_all_events_and_the_seconds(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(Style.ASYNC, hook_timeout=100)
        script = Script(count=lambda machine: asyncio.sleep(2))
        async with PATH.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            lamp.tell(Count())
            lamp.tell(Count())
        outcomes = dict.fromkeys(("vetoed", "unhandled", "failed", "expired", "dead_lettered"), 0)
        assert system.report == StopReport(
            finished=True, abandoned=0, unstopped=(), seconds=4.0, outcomes={"committed": 3, **outcomes}
        )

    sim(scenario)


def test_callbacks_of_abandoned_events_are_called_too(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        told: list[str] = []
        lamp_class = lamp_of(Style.ASYNC, hook_timeout=100)
        script = Script(count=lambda machine: asyncio.sleep(1))
        async with PATH.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            for _ in range(3):
                lamp.tell(Count(), callback=lambda outcome: told.append(outcome.kind))
            await asyncio.sleep(0.5)
            await system.shutdown(queues="abandon")
        assert sorted(told) == ["dead_lettered", "dead_lettered", "failed"]

    sim(scenario)


def test_a_hook_that_needs_its_grace_to_tidy_up_gets_it(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        tidied: list[float] = []

        async def tidying(machine: Any) -> None:
            try:
                await asyncio.sleep(1e9)
            finally:
                await asyncio.sleep(0.4)
                tidied.append(asyncio.get_running_loop().time())

        lamp_class = lamp_of(Style.ASYNC, hook_timeout=100)
        async with PATH.system(
            lamp_class, services=Script(body=tidying), limits=Limits(grace_s=0.5)
        ) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            lamp.tell(Switch())
            await asyncio.sleep(0.1)
            report = await system.shutdown(queues="abandon")
        assert tidied == [0.5]
        assert report.unstopped == ()

    sim(scenario)


def test_a_birth_in_progress_is_abandoned_and_its_id_forgotten(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(Style.ASYNC, hook_timeout=100)
        script = Script(birth=lambda machine: asyncio.sleep(1e9))
        async with PATH.system(lamp_class, services=script) as system:
            born = system.tell("lamp", Birth())
            queued = system.tell("lamp", Count())
            await asyncio.sleep(0.1)
            await system.shutdown(queues="abandon")
            assert (await born.outcome()).kind == "failed"
            assert (await queued.outcome()).kind == "dead_lettered"
            assert system.ids() == []
            assert system.stats().balance == 0

    sim(scenario)


def test_a_cancellation_while_it_waits_for_callbacks_comes_out_and_they_are_cancelled() -> None:
    ended: list[str] = []

    async def slow(outcome: Any) -> None:
        try:
            await asyncio.sleep(1e9)
        finally:
            ended.append("cancelled")

    async def in_a_system() -> None:
        lamp_class = lamp_of(Style.ASYNC)
        async with PATH.system(lamp_class, services=Script(), limits=Limits(grace_s=0.5)) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            lamp.tell(Count(), callback=slow)

    async def main() -> None:
        task = asyncio.ensure_future(in_a_system())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert asyncio.get_running_loop().time() == 1

    for seed in range(5):
        ended.clear()
        outcome = observe(main, loop=SimLoop(seed))
        assert (outcome.error, outcome.leftovers, ended) == (None, (), ["cancelled"])


@pytest.mark.parametrize("cancels", [1, 2, 3, 4])
def test_a_hook_that_refuses_is_left_behind_however_often_the_stop_is_cancelled(cancels: int) -> None:
    async def main() -> None:
        stubborn, trace = Stubborn(), Trace()
        lamp_class = lamp_of(Style.ASYNC, hook_timeout=100)

        async def in_a_system() -> None:
            script = Script(body=stubborn)
            async with PATH.system(
                lamp_class, services=script, trace=trace, limits=Limits(grace_s=5)
            ) as system:
                lamp = await system.spawn(lamp_class, "lamp")
                lamp.tell(Switch())
                lamp.tell(Count())

        task = asyncio.ensure_future(in_a_system())
        for _ in range(cancels):
            await asyncio.sleep(1)
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await stubborn.let_go()
        await asyncio.sleep(0)
        assert trace.names() == ["committed", "dead_lettered", "failed"]

    for seed in range(3):
        outcome = observe(main, loop=SimLoop(seed))
        assert (outcome.error, outcome.leftovers) == (None, ())


def test_a_system_that_was_never_started_cannot_be_shut_down(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        with pytest.raises(SystemStopping, match="was not started"):
            await PATH.system(lamp_of(Style.ASYNC)).shutdown()

    sim(scenario, seeds=range(1))


@pytest.mark.parametrize("where", ["record", "flush"])
def test_an_interrupt_in_a_sink_is_passed_on(where: str) -> None:
    class Pressed(Trace):
        def __call__(self, record: Any) -> None:
            if where == "record":
                raise KeyboardInterrupt

        def flush(self) -> None:
            if where == "flush":
                raise KeyboardInterrupt

    async def scenario() -> None:
        lamp_class = lamp_of(Style.PLAIN)
        async with Path(Style.PLAIN, inline=True).system(
            lamp_class, services=Script(), trace=Pressed()
        ) as system:
            await system.spawn(lamp_class, "lamp")

    loop = SimLoop()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(loop.create_task(scenario()))
    loop.abandon()
