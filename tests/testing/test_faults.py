"""The sweep: every place is struck once by every fault, and nothing else is changed."""

from __future__ import annotations

import asyncio
import gc
import itertools
import weakref
from collections import Counter

import pytest

from actorfsm.testing.faults import (
    ACTIONS,
    CANCEL,
    CANCEL_TWICE,
    EVIL,
    Action,
    Faults,
    NeedsArguments,
    Place,
    Run,
    Sweep,
    Unprintable,
    raising,
    sweep,
)
from actorfsm.testing.loop import SimLoop, observe


async def three_points(faults: Faults) -> str:
    for name in ("one", "two", "three"):
        await faults.point(name)
    return "done"


def places(result: Sweep, action: Action, kind: str) -> list[int]:
    return [run.place.n for run in result.runs if run.action is action and run.place.kind == kind]


def test_the_undisturbed_run_counts_points_and_steps():
    result = sweep(three_points)
    assert result.baseline.outcome.value == "done"
    assert result.baseline.faults.points == ["one", "two", "three"]
    assert result.baseline.faults.steps == 4
    assert (result.baseline.place, result.baseline.action, result.baseline.faults.fired) == (
        None,
        None,
        False,
    )
    assert str(result) == f"points=3 steps=4 runs={3 * 13 + 4}"
    assert str(result.baseline) == "no fault: returned"


def test_every_action_strikes_at_every_point_and_cancellation_also_before_every_step():
    result = sweep(three_points)
    for action in ACTIONS:
        assert places(result, action, "point") == [1, 2, 3]
        assert places(result, action, "step") == ([1, 2, 3, 4] if action is CANCEL else [])
    assert all(run.faults.fired for run in result.runs)


def test_steps_can_be_left_out():
    assert {run.place.kind for run in sweep(three_points, steps=False).runs} == {"point"}


def test_an_exception_is_raised_at_its_point_after_the_yield():
    seen: list[tuple[str, ...]] = []

    async def scenario(faults: Faults) -> None:
        yielded: list[str] = []
        asyncio.get_running_loop().call_soon(yielded.append, "yielded")
        try:
            await faults.point("here")
        except ValueError as error:
            seen.append((*yielded, str(error)))

    sweep(scenario, actions=raising({"ValueError": EVIL["ValueError"]}), shuffle=False)
    assert seen == [("yielded", "injected")]


@pytest.mark.parametrize("name", EVIL)
def test_each_evil_exception_arrives_as_it_is_or_as_python_changes_it(name):
    changed = {"StopIteration": RuntimeError}
    expected = changed.get(name, type(EVIL[name]()))
    (run,) = sweep(one_point, actions=raising({name: EVIL[name]}), steps=False).runs
    assert type(run.outcome.error) is expected
    assert type(run.faults.injected) is type(EVIL[name]())
    assert run.outcome.kind == ("cancelled" if name == "CancelledError" else "raised")
    assert run.outcome.leftovers == ()


async def one_point(faults: Faults) -> None:
    await faults.point()


def test_there_are_twelve_evil_exceptions_and_the_interrupt_is_not_among_them():
    assert len(EVIL) == 12
    assert "KeyboardInterrupt" not in EVIL
    with pytest.raises(ValueError, match="no text"):
        str(Unprintable())
    with pytest.raises(TypeError):
        type(NeedsArguments(code=1))(*NeedsArguments(code=1).args)


def test_a_plain_function_delivers_stop_iteration_as_it_is():
    seen: list[type] = []

    async def scenario(faults: Faults) -> None:
        try:
            faults.hit("plain")
        except StopIteration as error:
            seen.append(type(error))

    sweep(scenario, actions=raising({"StopIteration": StopIteration}))
    assert seen == [StopIteration]


def test_an_interrupt_can_be_injected_and_a_real_one_ends_the_sweep():
    (run,) = sweep(one_point, actions=raising({"KeyboardInterrupt": KeyboardInterrupt}), steps=False).runs
    assert isinstance(run.outcome.error, KeyboardInterrupt)

    async def pressed(faults: Faults) -> None:
        try:
            await faults.point()
        except ValueError:
            raise KeyboardInterrupt from None

    with pytest.raises(KeyboardInterrupt):
        sweep(pressed)


def test_a_cancellation_at_a_point_meets_the_task_that_is_there_and_no_other():
    async def scenario(faults: Faults) -> list[str]:
        ended: list[str] = []

        async def worker(name: str) -> None:
            try:
                await faults.point(name)
                await asyncio.sleep(1)
                ended.append(name)
            except asyncio.CancelledError:
                ended.append(f"{name} cancelled")

        await asyncio.gather(*(worker(name) for name in "abc"))
        return sorted(ended)

    def check(run: Run) -> None:
        expected = ["a", "b", "c"]
        if run.place is not None:
            expected[expected.index(run.place.name)] += " cancelled"
        assert run.outcome.value == expected
        assert run.outcome.leftovers == ()

    for seed in range(5):
        assert len(sweep(scenario, actions=[CANCEL], check=check, steps=False, seed=seed).runs) == 3


def test_a_cancellation_before_a_step_meets_each_await_of_the_main_task_in_each_of_its_moments():
    met: Counter[str] = Counter()

    async def scenario(faults: Faults) -> None:
        where = "first"
        try:
            waiter = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(1, waiter.set_result, None)
            await waiter
            where = "second"
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            met[where + (" done" if waiter.done() and not waiter.cancelled() else " pending")] += 1
            raise

    result = sweep(scenario, actions=[CANCEL])
    assert result.baseline.faults.steps == 4
    # Before its start the task never runs; then it waits; its result is there and lost; then it waits again.
    assert met == {"first pending": 1, "first done": 1, "second done": 1}
    assert result.tally() == {"cancel: cancelled": 4}


def test_the_second_cancellation_meets_the_task_at_the_next_await_of_its_cleaning():
    async def scenario(faults: Faults) -> list[str]:
        log: list[str] = []
        try:
            await faults.point("work")
        except asyncio.CancelledError:
            log.append("cancelled")
            try:
                await asyncio.sleep(1)
                log.append("cleaned")
            except asyncio.CancelledError:
                log.append("cancelled again")
        return log

    once, twice = sweep(scenario, actions=[CANCEL, CANCEL_TWICE], steps=False).runs
    assert once.outcome.value == ["cancelled", "cleaned"]
    assert twice.outcome.value == ["cancelled", "cancelled again"]
    assert twice.faults.victim.get_name() == "main"


def test_the_second_cancellation_before_a_step_comes_after_the_first_has_arrived():
    arrived: list[int] = []

    async def scenario(faults: Faults) -> None:
        count = 0
        for _ in range(3):
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                count += 1
        arrived.append(count)

    sweep(scenario, actions=[CANCEL_TWICE])
    # Undisturbed; struck before its start it never runs; two steps for each of three awaits, and after the last one
    # there is no await left for the second cancellation to meet.
    assert arrived == [0, 2, 2, 2, 2, 1, 1]


def test_a_cancellation_at_a_plain_callback_finds_nobody_and_harms_nobody():
    async def scenario(faults: Faults) -> str:
        asyncio.get_running_loop().call_soon(faults.hit)
        await asyncio.sleep(1)
        return "done"

    (run,) = sweep(scenario, actions=[CANCEL], steps=False).runs
    assert (run.outcome.value, run.faults.fired, run.faults.victim) == ("done", True, None)


def test_the_checker_sees_every_run_and_its_refusal_names_the_run():
    seen: list[str] = []

    def check(run: Run) -> None:
        seen.append(str(run))
        assert run.place is None or run.place.n < 2

    with pytest.raises(AssertionError) as caught:
        sweep(three_points, actions=[CANCEL], check=check)
    assert seen == [
        "no fault: returned",
        "cancel at point 1 (one): cancelled",
        "cancel at point 2 (two): cancelled",
    ]
    assert caught.value.__notes__ == ["sweep: cancel at point 2 (two): cancelled"]


def test_the_checker_sees_what_is_left_behind():
    async def scenario(faults: Faults) -> None:
        async def hold() -> None:
            await asyncio.sleep(10)

        scenario.task = asyncio.create_task(hold())
        await faults.point()
        scenario.task.cancel()
        await asyncio.wait([scenario.task])

    (run,) = sweep(scenario, actions=raising({"ValueError": ValueError}), steps=False).runs
    assert run.outcome.leftovers[0].startswith("pending task 'task-1' in ")


def test_points_that_are_reached_only_while_leftovers_clean_up_do_not_count():
    async def scenario(faults: Faults) -> None:
        async def hold() -> None:
            try:
                await asyncio.sleep(10)
            finally:
                await faults.point("too late")

        scenario.task = asyncio.create_task(hold())
        await faults.point("in time")

    assert sweep(scenario, actions=[CANCEL], steps=False).baseline.faults.points == ["in time"]


def test_a_scenario_that_fails_undisturbed_is_not_swept():
    async def scenario(faults: Faults) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        sweep(scenario)


def test_a_scenario_that_is_not_the_same_each_time_is_refused():
    calls = itertools.count()

    async def scenario(faults: Faults) -> None:
        if next(calls) == 0:
            await faults.point("once")

    with pytest.raises(RuntimeError, match=r"point 1 \(once\) was not reached again"):
        sweep(scenario)


def test_a_run_that_does_not_end_is_an_outcome():
    async def scenario(faults: Faults) -> None:
        try:
            await faults.point()
        except ValueError:
            while True:  # noqa: ASYNC110 - the livelock
                await asyncio.sleep(0)
        except KeyError:
            await asyncio.get_running_loop().create_future()

    result = sweep(scenario, actions=raising({"V": ValueError, "K": KeyError}), max_steps=100, steps=False)
    assert result.tally() == {"raise V: overrun": 1, "raise K: deadlock": 1}


def test_the_sweep_of_a_seed_is_the_same_each_time():
    async def scenario(faults: Faults) -> list[str]:
        order: list[str] = []

        async def worker(name: str) -> None:
            await faults.point(name)
            order.append(name)

        await asyncio.gather(*(worker(name) for name in "abcdef"), return_exceptions=True)
        return order

    def trace(seed: int) -> list[tuple[str, object]]:
        return [(str(run), run.outcome.value) for run in sweep(scenario, seed=seed).runs]

    assert trace(3) == trace(3)
    assert trace(3) != trace(4)


def test_the_world_of_a_run_dies_after_its_check():
    class World:
        pass

    worlds: list[weakref.ref[World]] = []

    async def scenario(faults: Faults) -> None:
        world = World()
        worlds.append(weakref.ref(world))
        asyncio.get_running_loop().call_soon(lambda: world.missing)
        await faults.point()

    result = sweep(scenario)
    gc.collect()
    assert len(worlds) > 13
    assert [world() for world in worlds if world() is not None] == []
    assert len(result.runs) > 13


@pytest.mark.parametrize("given", [{}, {"error": ValueError, "cancels": 1}, {"cancels": 0}])
def test_an_action_does_one_thing(given):
    with pytest.raises(ValueError, match="either"):
        Action(name="odd", **given)


def test_a_place_is_told_in_words():
    assert str(Place("point", 3, "save")) == "point 3 (save)"
    assert str(Place("step", 7)) == "step 7"


def test_faults_without_a_plan_only_count():
    loop = SimLoop()
    faults = Faults(loop)
    assert observe(lambda: three_points(faults), loop=loop).value == "done"
    assert (faults.points, faults.fired) == (["one", "two", "three"], False)


def test_a_run_repeats_the_undisturbed_one_until_its_fault_strikes():
    seen: list[tuple[bool, bool]] = []

    async def scenario(faults: Faults) -> None:
        await faults.point("one")
        seen.append((faults.repeats, faults.fired))
        try:
            await faults.point("two")
        finally:
            seen.append((faults.repeats, faults.fired))

    sweep(scenario, actions=[Action(name="fail", error=ValueError)], steps=False)
    undisturbed, after_one_at_two, after_two = seen[:2], seen[2], seen[3]
    assert undisturbed == [(False, False)] * 2
    assert (after_one_at_two, after_two) == ((True, False), (False, True))
