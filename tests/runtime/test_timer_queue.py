"""The timer queue: delayed calls in order, never early, behind one handle of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from random import Random
from typing import Any

import pytest

from actorfsm.runtime.timer_queue import TimerQueue

pytestmark = pytest.mark.rule("C20")
REQUEST: ContextVar[str] = ContextVar("request", default="")


def queue_of(per_step: int = 256) -> TimerQueue:
    return TimerQueue(asyncio.get_running_loop(), per_step, lambda function: function)


def armed() -> list[Any]:
    return [entry for entry in asyncio.get_running_loop()._timers if not entry[2].cancelled()]  # type: ignore[attr-defined]


def test_a_delayed_call_is_made_once_at_its_time_unless_cancelled(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        calls: list[tuple[str, float]] = []
        queue = queue_of()

        def call(name: str) -> None:
            calls.append((name, loop.time()))

        keys = [queue.call_later(delay, call, name) for name, delay in (("a", 2), ("b", 1), ("c", 3))]
        assert len(set(keys)) == 3
        assert all(keys)  # 0 means: no call
        queue.cancel(keys[0])
        queue.cancel(keys[0])
        await asyncio.sleep(2)
        queue.cancel(keys[1])  # it has been made: harmless
        assert calls == [("b", 1)]
        assert len(queue) == 1
        queue.close()
        await asyncio.sleep(5)
        assert calls == [("b", 1)]

    sim(scenario)


def test_calls_are_made_by_time_then_by_the_order_of_their_making_never_early_with_one_handle(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        random = Random(1)
        queue = queue_of()
        made: list[tuple[float, int]] = []
        due: dict[int, float] = {}

        def call(number: int) -> None:
            assert loop.time() >= due[number]
            made.append((due[number], number))

        for number in range(500):
            due[number] = random.choice([0.0, 1.0, 2.0, 5 * random.random()])
            queue.call_at(due[number], call, number)
            assert len(armed()) == 1
        await asyncio.sleep(6)
        assert made == sorted((when, number) for number, when in due.items())
        assert armed() == []

    sim(scenario)


def test_a_handle_that_comes_early_calls_nothing_and_comes_again() -> None:
    class Loop:
        now = 0.0
        armed: list[tuple[float, Callable[[], None]]] = []

        def time(self) -> float:
            return self.now

        def call_at(self, when: float, function: Callable[[], None], *, context: Any) -> Any:
            self.armed.append((when, function))

    loop: Any = Loop()
    queue = TimerQueue(loop, 256, lambda function: function)
    calls: list[float] = []
    queue.call_at(1.0, lambda: calls.append(loop.now))
    loop.now = 1.0 - 1e-9  # as asyncio does, within the resolution of its clock
    loop.armed.pop()[1]()
    assert calls == []
    loop.now = 1.0
    when, function = loop.armed.pop()
    function()
    assert (when, calls, loop.armed) == (1.0, [1.0], [])


def test_a_step_of_the_loop_makes_only_so_many_calls(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        calls: list[int] = []
        steps: list[int] = []

        def counting(run: Callable[..., None]) -> Callable[..., None]:
            def step() -> None:
                before = len(calls)
                run()
                steps.append(len(calls) - before)

            return step

        queue = TimerQueue(asyncio.get_running_loop(), 10, counting)
        for number in range(95):
            queue.call_at(0.0, calls.append, number)
        await asyncio.sleep(1)
        assert calls == list(range(95))
        assert steps == [*[10] * 9, 5]

    sim(scenario)


def test_a_call_that_makes_and_cancels_others_is_followed(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        queue = queue_of()
        calls: list[str] = []
        keys: dict[str, int] = {}

        def first() -> None:
            calls.append("first")
            queue.cancel(keys["second"])
            queue.call_later(0.5, calls.append, "new")

        queue.call_at(1.0, first)
        keys["second"] = queue.call_at(1.0, calls.append, "second")
        queue.call_at(2.0, calls.append, "third")
        await asyncio.sleep(3)
        assert calls == ["first", "new", "third"]

    sim(scenario)


def test_the_last_one_cancelled_leaves_no_handle_and_many_cancelled_leave_no_memory(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        queue = queue_of()
        kept = [queue.call_later(50 + number, pytest.fail, "came") for number in range(10)]
        for number in range(10_000):
            queue.cancel(queue.call_later(100 + number, pytest.fail, "came"))
            assert len(queue._heap) <= 2 * 10 + 64 + 1
        assert queue.is_next(kept[0])
        queue.cancel(kept[0])
        assert queue.is_next(kept[1])
        assert not queue.is_next(kept[0])
        for key in kept:
            queue.cancel(key)
        assert armed() == []
        assert not queue.is_next(kept[0])

    sim(scenario)


def test_no_call_has_the_context_of_whoever_made_it(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        seen: list[str] = []
        REQUEST.set("somebody's")
        queue_of().call_later(1, lambda: seen.append(REQUEST.get()))
        await asyncio.sleep(2)
        assert seen == [""]

    sim(scenario)
