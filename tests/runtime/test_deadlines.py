"""Deadlines and the sweeper of hooks, on the simulated clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from math import inf
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from actorfsm import Spawn
from actorfsm.runtime.deadlines import TICKS_PER_S, DeadlineWheel, HookSweeper
from actorfsm.runtime.envelope import Envelope

pytestmark = pytest.mark.rule("C8")
REQUEST: ContextVar[str] = ContextVar("request", default="")


def ask(number: int = 0) -> Envelope:
    return Envelope(Spawn(), "a", number, 0.0)


# -- the wheel -------------------------------------------------------------------------------------------------------


def test_a_deadline_is_never_early_and_at_most_a_tick_late(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        random = Random(1)
        due: dict[Envelope, float] = {}
        seen: list[Envelope] = []

        def expire(envelope: Envelope) -> None:
            assert due[envelope] <= loop.time() <= due[envelope] + 1 / TICKS_PER_S + 1e-9
            assert envelope.tick == 0
            seen.append(envelope)

        wheel = DeadlineWheel(loop, expire)
        for number in range(300):
            envelope = ask(number)
            due[envelope] = loop.time() + random.choice([0, 0.05, 0.15, 0.3, 1, 7 * random.random()])
            wheel.add(envelope, due[envelope])
            assert envelope.tick
            if random.random() < 0.2:
                await asyncio.sleep(random.random() / 10)
        await asyncio.sleep(10)
        assert sorted(envelope.number for envelope in seen) == list(range(300))
        assert loop._timers == []  # type: ignore[attr-defined]  # nothing is armed once nothing waits
        wheel.close()

    sim(scenario)


def test_a_deadline_that_was_removed_is_not_told(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        seen: list[int] = []
        wheel = DeadlineWheel(asyncio.get_running_loop(), lambda envelope: seen.append(envelope.number))
        one, two, three = ask(1), ask(2), ask(3)
        for envelope in (one, two):
            wheel.add(envelope, 1)
        wheel.add(three, 2)
        wheel.remove(one)
        wheel.remove(three)
        wheel.remove(three)  # twice is harmless
        assert (one.tick, three.tick) == (0, 0)
        await asyncio.sleep(5)
        assert seen == [2]
        wheel.remove(two)  # too late is harmless

    sim(scenario)


def test_an_earlier_deadline_is_told_first_whenever_it_was_added(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        seen: list[tuple[int, float]] = []
        wheel = DeadlineWheel(loop, lambda envelope: seen.append((envelope.number, round(loop.time(), 6))))
        for number, deadline in ((1, 9), (2, 3), (3, 5), (4, 3)):
            wheel.add(ask(number), deadline)
        await asyncio.sleep(20)
        assert seen == [(2, 3.05), (4, 3.05), (3, 5.05), (1, 9.05)]

    sim(scenario)


@pytest.mark.parametrize("added", [[30], [30, 0], [0, 30], [0]])
def test_a_deadline_added_while_others_are_told_delays_none_of_them(
    added: list[float], sim: Callable[..., None]
) -> None:
    """What follows from one deadline may set a late one: the next but one must not wait for that."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        seen: list[tuple[int, float]] = []

        def expire(envelope: Envelope) -> None:
            seen.append((envelope.number, round(loop.time(), 6)))
            if envelope.number == 1:
                for deadline in added:
                    wheel.add(ask(9 if deadline else 8), deadline)

        wheel = DeadlineWheel(loop, expire)
        wheel.add(ask(1), 1)
        wheel.add(ask(2), 2)
        await asyncio.sleep(40)
        told = {8: (8, 1.05), 9: (9, 30.05)}
        late = [told[9 if deadline else 8] for deadline in added]
        assert seen == sorted([(1, 1.05), (2, 2.05), *late], key=lambda entry: entry[1])

    sim(scenario)


def test_a_closed_wheel_forgets_everything(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        seen: list[Any] = []
        wheel = DeadlineWheel(asyncio.get_running_loop(), seen.append)
        wheel.close()
        wheel.add(ask(), 1)
        wheel.close()
        await asyncio.sleep(5)
        assert seen == []

    sim(scenario)


def test_no_handle_keeps_the_context_of_whoever_set_it(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        seen: list[str] = []
        REQUEST.set("somebody's")
        wheel = DeadlineWheel(loop, lambda envelope: seen.append(REQUEST.get()))
        wheel.add(ask(), 1)
        turn = SimpleNamespace(step_deadline=1)
        sweeper = HookSweeper(loop, lambda: [turn], lambda turn: seen.append(REQUEST.get()))
        sweeper.arm(1)
        await asyncio.sleep(2)
        assert seen == ["", ""]

    sim(scenario)


# -- the sweeper -----------------------------------------------------------------------------------------------------


@pytest.mark.rule("C13")
def test_the_sweeper_looks_when_the_earliest_deadline_is_due_and_never_before(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        overdue: list[tuple[str, float]] = []
        running = [
            SimpleNamespace(name=name, step_deadline=due) for name, due in (("a", 3), ("b", 1), ("c", inf))
        ]

        def tell(turn: Any) -> None:
            overdue.append((turn.name, loop.time()))
            turn.step_deadline = inf if turn.name == "a" or len(overdue) > 1 else loop.time() + 0.5

        sweeper = HookSweeper(loop, lambda: running, tell)
        assert sweeper.next_check == inf
        for due in (3, 5, 1):
            sweeper.arm(due)
        assert sweeper.next_check == 1
        await asyncio.sleep(10)
        assert overdue == [("b", 1), ("b", 1.5), ("a", 3)]
        assert sweeper.next_check == inf
        assert loop._timers == []  # type: ignore[attr-defined]

    sim(scenario)


def test_a_sweep_that_finds_nothing_overdue_arms_itself_for_the_next(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        turn = SimpleNamespace(step_deadline=4)
        overdue: list[float] = []
        sweeper = HookSweeper(loop, lambda: [turn], lambda turn: overdue.append(loop.time()))
        sweeper.arm(1)
        await asyncio.sleep(2)
        assert (overdue, sweeper.next_check) == ([], 4)
        await asyncio.sleep(3)
        assert overdue == [4]

    sim(scenario)


def test_a_closed_sweeper_looks_no_more(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        sweeper = HookSweeper(asyncio.get_running_loop(), lambda: pytest.fail("looked"), pytest.fail)
        sweeper.close()
        sweeper.arm(1)
        sweeper.close()
        assert sweeper.next_check == inf
        await asyncio.sleep(2)

    sim(scenario)
