"""The simulated loop: what a seed fixes, what time does, what is reported and never passed over."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from math import inf, nan
from pathlib import Path
from textwrap import dedent

import pytest

from actorfsm.testing.loop import (
    Outcome,
    SimDeadlock,
    SimLeftovers,
    SimLoop,
    SimOverrun,
    every_error,
    observe,
    simulate,
)

ROOT = Path(__file__).parents[2]
EAGER = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")


async def toy() -> list[str]:
    """Five tasks of about forty steps each: sleeps, yields, a lock, a timeout."""
    loop = asyncio.get_running_loop()
    trace: list[str] = []
    lock = asyncio.Lock()

    async def worker(name: int) -> None:
        for turn in range(12):
            async with lock:
                trace.append(f"{loop.time():.3f} {name} {turn}")
                await asyncio.sleep(0)
            await asyncio.sleep(0.01 * ((name + turn) % 3))
        try:
            async with asyncio.timeout(0.5):
                await asyncio.sleep(1)
        except TimeoutError:
            trace.append(f"{loop.time():.3f} {name} gave up")

    async with asyncio.TaskGroup() as group:
        for name in range(5):
            group.create_task(worker(name))
    return trace


async def three_tasks() -> tuple[int, ...]:
    order: list[int] = []

    async def step(n: int) -> None:
        order.append(n)

    await asyncio.gather(*(step(n) for n in range(3)))
    return tuple(order)


def left_by(main) -> tuple[str, ...]:
    with pytest.raises(SimLeftovers) as caught:
        simulate(main, seed=5)
    assert "seed 5" in str(caught.value)
    assert caught.value.seed == 5
    return caught.value.found


# The order comes from the seed.


def test_the_same_seed_gives_the_same_trace():
    assert simulate(toy, seed=7) == simulate(toy, seed=7)


def test_different_seeds_give_different_orders():
    assert len({tuple(simulate(toy, seed=seed)) for seed in range(20)}) > 15


def test_the_trace_is_the_same_bytes_in_two_processes_with_different_hash_seeds():
    program = dedent("""
        import asyncio
        from actorfsm.testing.loop import SimDeadlock, SimLoop, observe, simulate
        from tests.testing.test_loop import toy

        for seed in range(20):
            print(*simulate(toy, seed=seed), sep="\\n")

        async def stuck():
            names = {f"sleeper {n}" for n in range(30)}
            kept = [asyncio.create_task(asyncio.Event().wait(), name=name) for name in sorted(names)]
            kept += [asyncio.create_task(asyncio.Event().wait()) for _ in range(30)]
            kept += [asyncio.Task(asyncio.Event().wait(), name=f"stranger {n}") for n in range(30)]
            async def gen():
                try:
                    yield
                finally:
                    print("closed")
            kept.append(gen())
            await anext(kept[-1])
            await asyncio.Event().wait()

        outcome = observe(stuck, loop=SimLoop(3))
        print(outcome.error, *outcome.leftovers, sep="\\n")
    """)

    def run(hash_seed: str) -> bytes:
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        child = subprocess.run(
            [sys.executable, "-c", program], env=env, cwd=ROOT, capture_output=True, check=True
        )
        return child.stdout

    first, second = run("1"), run("4242")
    assert first == second
    assert b"stranger 29" in first
    assert b" 0x" not in first


def test_every_order_of_three_tasks_is_reached_and_about_as_often():
    orders = Counter(simulate(three_tasks, seed=seed) for seed in range(600))
    assert len(orders) == 6
    assert min(orders.values()) > 50


def test_without_shuffle_the_order_is_the_one_of_asyncio():
    for seed in range(10):
        assert simulate(three_tasks, seed=seed, shuffle=False) == (0, 1, 2)
    real = asyncio.run(three_tasks())
    assert simulate(three_tasks, shuffle=False) == real


def test_a_task_without_a_name_is_counted_per_loop():
    async def main() -> str:
        task = asyncio.create_task(asyncio.sleep(0))
        await task
        return task.get_name()

    assert [simulate(main), simulate(main)] == ["task-1", "task-1"]


# Time is virtual.


def test_time_starts_at_zero_and_jumps_to_the_next_timer_at_no_cost():
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        times = [loop.time()]
        for seconds in (1, 86_400, 0.25):
            await asyncio.sleep(seconds)
            times.append(loop.time())
        return times

    assert simulate(main) == [0.0, 1.0, 86_401.0, 86_401.25]


@pytest.mark.parametrize("seed", range(5))
def test_sleepers_wake_in_the_order_of_their_deadlines_and_never_early(seed):
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        woken: list[float] = []

        async def sleeper(seconds: float) -> None:
            start = loop.time()
            await asyncio.sleep(seconds)
            assert loop.time() == start + seconds
            woken.append(seconds)

        await asyncio.gather(*(sleeper(n / 10) for n in (5, 3, 9, 1, 7, 2, 8)))
        return woken

    woken = simulate(main, seed=seed)
    assert woken == sorted(woken)


def test_time_stands_still_while_anything_is_ready():
    async def main() -> float:
        loop = asyncio.get_running_loop()
        loop.call_later(1, int).cancel()
        timer = loop.call_later(0.001, int)
        for _ in range(1000):
            await asyncio.sleep(0)
        timer.cancel()
        return loop.time()

    assert simulate(main) == 0.0


def test_timers_of_one_moment_run_in_the_order_in_which_they_were_made_without_shuffle():
    async def main() -> str:
        loop = asyncio.get_running_loop()
        seen: list[str] = []
        for letter in "abcde":
            loop.call_at(1.0, seen.append, letter)
        loop.call_at(0.5, seen.append, "first")
        loop.call_at(-1.0, seen.append, "overdue")
        await asyncio.sleep(1.5)
        return " ".join(seen)

    assert simulate(main, shuffle=False) == "overdue first a b c d e"
    assert len({simulate(main, seed=seed) for seed in range(10)}) > 5


def test_a_cancelled_timer_does_not_run_and_does_not_move_the_clock():
    async def main() -> float:
        loop = asyncio.get_running_loop()
        loop.call_later(5, pytest.fail, "the timer ran").cancel()
        await asyncio.sleep(1)
        return loop.time()

    assert simulate(main) == 1.0


def test_a_timer_at_infinity_never_runs_and_does_not_hide_a_deadlock():
    with pytest.raises(SimDeadlock):
        simulate(lambda: asyncio.sleep(inf))


def test_a_deadline_that_is_not_a_number_is_refused():
    loop = SimLoop()
    with pytest.raises(ValueError, match="NaN"):
        loop.call_later(nan, int)
    loop.close()


def test_a_timeout_fires_at_its_time_and_cancels_what_it_guards():
    async def main() -> tuple[float, bool]:
        cancelled = False
        try:
            async with asyncio.timeout(2):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    cancelled = True
                    raise
        except TimeoutError:
            return asyncio.get_running_loop().time(), cancelled
        raise AssertionError("no timeout")

    assert simulate(main) == (2.0, True)


# What asyncio offers works.


def test_a_task_group_cancels_the_others_when_one_fails():
    async def main() -> list[str]:
        ended: list[str] = []

        async def hold(name: str) -> None:
            try:
                await asyncio.sleep(100)
            finally:
                ended.append(name)

        async def fail() -> None:
            await asyncio.sleep(1)
            raise ValueError("one")

        try:
            async with asyncio.TaskGroup() as group:
                for name in "ab":
                    group.create_task(hold(name))
                group.create_task(fail())
        except* ValueError:
            ended.append("failed")
        return ended

    assert sorted(simulate(main)[:2]) == ["a", "b"]
    assert simulate(main)[2] == "failed"


def test_a_cancelled_task_runs_its_finally_and_ends_cancelled():
    async def main() -> tuple[bool, list[str]]:
        ended: list[str] = []

        async def work() -> None:
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(1)
                ended.append("cleaned")

        task = asyncio.create_task(work())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled(), ended

    assert simulate(main) == (True, ["cleaned"])


def test_a_cancelled_main_coroutine_raises_cancelled_error():
    async def main() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        simulate(main)


def test_context_variables_follow_tasks_and_callbacks():
    variable = contextvars.ContextVar("variable", default="outer")

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        seen: list[str] = []

        async def child() -> None:
            variable.set("child")
            await asyncio.sleep(0)
            seen.append(variable.get())

        own = contextvars.copy_context()
        own.run(variable.set, "given")
        await loop.create_task(child())
        for call in (loop.call_soon, loop.call_soon_threadsafe):
            call(lambda: seen.append(variable.get()), context=own)
            await asyncio.sleep(0.1)
        loop.call_later(0.1, lambda: seen.append(variable.get()), context=own)
        await asyncio.sleep(0.2)
        await loop.create_task(asyncio.sleep(0), context=own)
        seen.append(variable.get())
        return seen

    assert simulate(main) == ["child", "given", "given", "given", "outer"]


def test_a_task_factory_makes_the_tasks_and_they_are_known():
    class Marked(asyncio.Task):
        pass

    async def main() -> bool:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **options: Marked(coro, loop=loop, **options))
        task = loop.create_task(asyncio.sleep(0), name="marked")
        assert loop.pending_tasks()[-1] is task
        await task
        return isinstance(task, Marked)

    assert simulate(main)


@EAGER
def test_an_eager_task_starts_at_once_and_needs_no_step_when_it_does_not_wait():
    async def main() -> tuple[bool, int]:
        loop = asyncio.get_running_loop()

        async def quick() -> int:
            return 1

        before = loop.steps
        task = asyncio.Task(quick(), loop=loop, eager_start=True)
        return task.done(), loop.steps - before

    assert simulate(main) == (True, 0)


@EAGER
def test_an_eager_task_that_waits_goes_on_as_any_other_and_is_named_in_reports():
    async def main() -> tuple[str, str]:
        loop = asyncio.get_running_loop()
        seen: list[str] = []

        async def slow() -> None:
            seen.append("started")
            await asyncio.sleep(1)
            seen.append("ended")

        task = asyncio.Task(slow(), loop=loop, eager_start=True, name="stranger")
        assert seen == ["started"]
        assert loop.leftovers()[0].startswith("pending task 'stranger' in ")
        await task
        return tuple(seen)

    assert simulate(main) == ("started", "ended")


@EAGER
def test_the_eager_task_factory_works():
    async def main() -> list[int]:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        return await asyncio.gather(*(asyncio.sleep(n, n) for n in range(3)))

    assert simulate(main) == [0, 1, 2]


def test_the_runner_of_asyncio_drives_the_loop():
    with asyncio.Runner(loop_factory=lambda: SimLoop(3)) as runner:
        assert runner.run(toy()) == simulate(toy, seed=3)
        assert runner.run(asyncio.sleep(10, "again")) == "again"


def test_a_function_for_the_executor_runs_on_the_same_thread_as_a_step_of_its_own():
    variable = contextvars.ContextVar("variable", default="empty")

    async def main() -> list[object]:
        loop = asyncio.get_running_loop()
        variable.set("full")
        seen: list[object] = []
        future = loop.run_in_executor(None, lambda: seen.append(variable.get()))
        seen.append(future.done())
        await future
        seen.append(await asyncio.to_thread(variable.get))
        seen.append(await loop.run_in_executor(None, threading.get_ident) == threading.get_ident())
        return seen

    assert simulate(main) == [False, "empty", "full", True]


@pytest.mark.parametrize(
    ("raised", "received"),
    [
        (ValueError, ValueError),
        (StopIteration, RuntimeError),
        (SystemExit, SystemExit),
        (GeneratorExit, GeneratorExit),
    ],
)
def test_what_a_function_for_the_executor_raises_reaches_the_one_who_waits(raised, received):
    def fail() -> None:
        raise raised("x")

    async def main() -> bool:
        try:
            await asyncio.get_running_loop().run_in_executor(None, fail)
        except received as error:
            return type(error) is received
        return False

    assert simulate(main)


def test_a_keyboard_interrupt_in_a_function_for_the_executor_ends_the_run():
    def fail() -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        await asyncio.get_running_loop().run_in_executor(None, fail)

    with pytest.raises(KeyboardInterrupt):
        simulate(main)


def test_a_function_for_the_executor_does_not_run_when_nobody_waits_any_more():
    async def main() -> None:
        asyncio.get_running_loop().run_in_executor(None, pytest.fail, "the function ran").cancel()
        await asyncio.sleep(1)

    simulate(main)


def test_a_call_from_another_thread_is_refused():
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        said: list[str] = []

        def call() -> None:
            try:
                loop.call_soon_threadsafe(int)
            except RuntimeError as error:
                said.append(str(error))

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        return said

    assert "one thread" in simulate(main)[0]


def test_a_dropped_asynchronous_generator_is_closed_by_the_loop():
    async def main() -> list[str]:
        closed: list[str] = []

        async def numbers():
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(0)
                closed.append("closed")

        async for _ in numbers():
            break
        await asyncio.sleep(1)
        return closed

    assert simulate(main) == ["closed"]


def test_living_generators_are_closed_in_the_order_of_their_start_and_one_failure_does_not_stop_the_rest():
    async def main() -> list[object]:
        loop = asyncio.get_running_loop()
        closed: list[object] = []

        async def numbers(n: int):
            try:
                yield n
            finally:
                closed.append(n)
                if n == 2:
                    raise ValueError(n)

        alive = [numbers(n) for n in range(5)]
        for generator in alive:
            await anext(generator)
        await loop.shutdown_asyncgens()
        closed.append(type(loop.unhandled.pop()["exception"]))
        return closed

    assert simulate(main) == [0, 1, 2, 3, 4, ValueError]


def test_generators_that_outlive_the_run_are_closed_at_its_end():
    kept, closed = [], []

    async def numbers():
        try:
            yield 1
        finally:
            closed.append("closed")

    async def main() -> None:
        kept.append(numbers())
        await anext(kept[0])

    simulate(main)
    assert closed == ["closed"]


def test_a_generator_that_dies_after_its_loop_makes_no_noise():
    async def numbers():
        yield 1

    async def main(generator) -> None:
        await anext(generator)

    loop = SimLoop()
    generator = numbers()
    loop.run_until_complete(main(generator))
    loop.close()
    del generator
    gc.collect()


# The loop as an object.


def test_a_loop_runs_what_is_ready_without_moving_the_clock():
    loop = SimLoop()
    seen: list[str] = []
    loop.call_soon(lambda: loop.call_soon(seen.append, "ready"))
    loop.call_later(1, seen.append, "timer")
    loop.run_until_idle()
    assert (seen, loop.time()) == (["ready"], 0.0)
    with pytest.raises(SimDeadlock, match="nobody"):
        loop.run_forever()
    assert (seen, loop.time()) == (["ready", "timer"], 1.0)
    assert repr(loop) == "<SimLoop seed=0 steps=3 time=1>"
    loop.close()


def test_stop_ends_the_run_after_the_current_step():
    loop = SimLoop()
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.stop()
    loop.run_forever()
    assert loop.steps == 1
    loop.close()


def test_a_loop_cannot_run_inside_a_loop_nor_twice_nor_when_it_is_closed():
    async def main() -> None:
        running = asyncio.get_running_loop()
        other = SimLoop()
        with pytest.raises(RuntimeError, match="another loop"):
            other.run_forever()
        with pytest.raises(RuntimeError, match="already running"):
            running.run_forever()
        with pytest.raises(RuntimeError, match="running"):
            running.close()
        other.close()
        with pytest.raises(RuntimeError, match="closed"):
            other.call_soon(int)
        with pytest.raises(RuntimeError, match="closed"):
            other.run_forever()

    simulate(main)


def test_a_task_that_nobody_holds_can_die_as_in_asyncio():
    loop = SimLoop()

    def drop() -> weakref.ref:
        async def wait() -> None:
            await asyncio.Future(loop=loop)

        return weakref.ref(loop.create_task(wait()))

    task = drop()
    loop.run_until_idle()
    gc.collect()
    assert task() is None
    assert "destroyed" in loop.unhandled[0]["message"]
    loop.close()


def test_the_hook_sees_each_step_before_it_runs_and_the_task_it_resumes():
    loop = SimLoop(shuffle=False)
    seen: list[tuple[int, str | None]] = []

    async def main() -> None:
        loop.call_soon(int)
        await asyncio.sleep(5)

    loop.on_step = lambda n: seen.append((n, loop.upcoming and loop.upcoming.get_name()))
    outcome = observe(main, loop=loop)
    # The start of main, the callback, the timer of the sleep, main again, the callback that ends the run.
    assert seen == [(1, "main"), (2, None), (3, None), (4, "main"), (5, None)]
    assert outcome.steps == 5


def test_the_hook_can_cancel_a_task_at_any_step():
    for step in (1, 2, 3):
        loop = SimLoop()
        tasks: list[asyncio.Task] = []

        def on_step(
            n: int, loop: SimLoop = loop, tasks: list[asyncio.Task] = tasks, step: int = step
        ) -> None:
            tasks += [loop.upcoming] if n == 1 else []
            if n == step:
                tasks[0].cancel()

        loop.on_step = on_step
        assert observe(lambda: asyncio.sleep(5), loop=loop).kind == "cancelled"


def test_a_callback_that_the_hook_cancels_does_not_run():
    loop = SimLoop()
    handle = loop.call_soon(pytest.fail, "the callback ran")
    loop.on_step = lambda _: handle.cancel()
    loop.run_until_idle()
    loop.close()


def test_a_scheduled_cancel_is_not_taken_for_a_step_of_the_task():
    loop = SimLoop(shuffle=False)
    seen: list[bool] = []

    async def main() -> None:
        task = asyncio.create_task(asyncio.sleep(10))
        loop.call_later(1, task.cancel)
        await asyncio.wait([task])

    loop.on_step = lambda _: seen.append(loop.time() == 1.0 and loop.upcoming is None)
    assert observe(main, loop=loop).kind == "returned"
    assert any(seen)


# What goes wrong is reported.


def test_a_deadlock_names_the_tasks_and_where_each_waits():
    async def inner(event: asyncio.Event) -> None:
        await event.wait()

    async def main() -> None:
        event = asyncio.Event()
        other = asyncio.create_task(inner(event), name="other")
        await asyncio.sleep(2)
        await other

    with pytest.raises(SimDeadlock) as caught:
        simulate(main, seed=9)
    said = str(caught.value)
    assert "seed 9" in said
    assert "time 2" in said
    assert "'main' in " in said
    assert "waiting for 'other'" in said
    assert "inner (test_loop.py:" in said
    assert "> Event.wait (locks.py:" in said
    assert "simulated with seed 9" in caught.value.__notes__


def test_a_livelock_ends_at_the_bound_and_names_the_seed():
    async def main() -> None:
        while True:  # noqa: ASYNC110 - the livelock
            await asyncio.sleep(0)

    with pytest.raises(SimOverrun, match=r"more than 500 steps \(seed 11"):
        simulate(main, seed=11, max_steps=500)


def test_exceptions_in_callbacks_are_collected_and_fail_the_run():
    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)
        assert isinstance(asyncio.get_running_loop().unhandled[0]["exception"], ZeroDivisionError)

    (found,) = left_by(main)
    assert found.endswith("division by zero")
    assert "unhandled: exception in callback " in found
    assert simulate(main, leftovers="ignore") is None


def test_the_collected_exception_may_be_unprintable():
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise ValueError

    async def fail() -> None:
        raise Unprintable

    async def main() -> None:
        asyncio.get_running_loop().call_exception_handler({"message": "odd", "exception": Unprintable()})
        asyncio.get_running_loop().call_exception_handler({"message": "empty"})

    assert "Unprintable" in left_by(main)[0]
    assert left_by(main)[1] == "unhandled: empty: no exception"


def test_a_handler_of_the_programs_own_keeps_its_exceptions():
    async def main() -> list[str]:
        loop, seen = asyncio.get_running_loop(), []
        loop.set_exception_handler(lambda _, context: seen.append(context["message"]))
        loop.call_exception_handler({"message": "mine"})
        return seen

    assert simulate(main) == ["mine"]


def test_a_pending_task_is_left_over_and_is_cancelled_after_the_report():
    ended: list[str] = []

    async def stay() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            ended.append("cancelled")

    async def main() -> None:
        main.kept = asyncio.create_task(stay(), name="stays")
        await asyncio.sleep(1)

    task, timer, future = left_by(main)
    assert task.startswith("pending task 'stays' in ")
    assert timer.startswith("timer at 100: ")
    assert future.startswith("pending future, made in sleep (tasks.py:")
    assert ended == ["cancelled"]


def test_a_task_that_refuses_to_be_cancelled_does_not_keep_the_simulator():
    async def refuse() -> None:
        while not refuse.enough:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                continue

    async def main() -> None:
        refuse.enough = False
        main.kept = asyncio.create_task(refuse())
        await asyncio.sleep(1)

    assert "refuse" in left_by(main)[0]
    main.kept.get_coro().close()
    refuse.enough = True


def test_a_timer_is_left_over_and_a_cancelled_one_is_not():
    async def main() -> None:
        asyncio.get_running_loop().call_later(3, print)
        asyncio.get_running_loop().call_later(4, print).cancel()

    assert left_by(main) == ("timer at 3: print",)


def test_a_future_that_somebody_holds_is_left_over_and_garbage_is_not():
    held: list[asyncio.Future] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        cycle = [loop.create_future()]
        cycle.append(cycle)
        if held is not None:
            held.append(loop.create_future())

    (found,) = left_by(main)
    assert "main (test_loop.py:" in found
    held = None
    simulate(main)


def test_an_exception_that_nobody_retrieved_is_left_over_also_when_it_is_still_held():
    async def fail() -> None:
        raise ValueError("unseen")

    async def main() -> None:
        main.kept = asyncio.create_task(fail(), name="fails")
        main.future = asyncio.get_running_loop().create_future()
        main.future.set_exception(KeyError("also"))
        await asyncio.sleep(1)

    assert left_by(main) == (
        "exception never retrieved: task 'fails', ValueError: unseen",
        "exception never retrieved: future, KeyError: 'also'",
    )


def test_an_exception_of_a_task_that_nobody_holds_is_left_over():
    async def fail() -> None:
        raise ValueError("unseen")

    async def main() -> None:
        asyncio.create_task(fail(), name="fails")  # noqa: RUF006 - nobody holds it
        await asyncio.sleep(1)

    assert left_by(main) == (
        "unhandled: Task exception was never retrieved (task 'fails'): ValueError: unseen",
    )


def test_callbacks_that_are_ready_at_the_end_run_before_the_judgement():
    seen: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().call_soon(
            lambda: asyncio.get_running_loop().call_soon(seen.append, "late")
        )

    simulate(main)
    assert seen == ["late"]


def test_callbacks_that_are_ready_when_the_main_coroutine_fails_run_before_the_judgement():
    async def main() -> None:
        asyncio.get_running_loop().call_soon(int)
        raise ValueError

    outcome = observe(main, loop=SimLoop(shuffle=False))
    assert (outcome.kind, outcome.leftovers) == ("raised", ())


def test_what_ends_the_run_after_the_main_coroutine_is_an_error_of_the_run():
    async def main() -> int:
        def spin() -> None:
            loop.call_soon(spin)

        loop = asyncio.get_running_loop()
        loop.call_soon(spin)
        return 1

    outcome = observe(main, loop=SimLoop(max_steps=50))
    assert (outcome.value, outcome.kind) == (1, "overrun")


def test_the_futures_that_a_traceback_keeps_alive_are_not_left_over():
    async def main() -> None:
        waiter = asyncio.get_running_loop().create_future()
        raise ValueError(waiter.done())

    outcome = observe(main, loop=SimLoop())
    assert (outcome.kind, outcome.leftovers) == ("raised", ())


def test_what_a_failing_run_leaves_behind_is_noted_at_its_exception():
    async def main() -> None:
        asyncio.get_running_loop().call_later(3, print)
        raise ValueError("main")

    with pytest.raises(ValueError, match="main") as caught:
        simulate(main, seed=2)
    assert caught.value.__notes__ == ["simulated with seed 2", "left behind: timer at 3: print"]


def test_a_program_can_ask_at_rest_what_is_alive():
    async def main() -> tuple[tuple[str, ...], tuple[str, ...]]:
        loop = asyncio.get_running_loop()
        before = loop.leftovers()
        handle = loop.call_soon(print)
        during = loop.leftovers()
        handle.cancel()
        return before, during

    assert simulate(main) == ((), ("ready callback print",))


def test_a_system_exit_in_a_task_ends_the_run_as_it_ends_a_process():
    async def leave() -> None:
        raise SystemExit(3)

    async def main() -> None:
        task = asyncio.create_task(leave())
        await asyncio.sleep(1)
        await task

    outcome = observe(main, loop=SimLoop())
    assert outcome.kind == "raised"
    assert isinstance(outcome.error, SystemExit)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (None, "returned"),
        (ValueError(), "raised"),
        (asyncio.CancelledError(), "cancelled"),
        (SimDeadlock(), "deadlock"),
        (SimOverrun(), "overrun"),
    ],
)
def test_an_outcome_is_told_in_one_word(error, kind):
    assert Outcome(None, error, (), 0, 0.0).kind == kind


def test_every_error_of_a_chain_and_of_a_group_is_walked_once():
    first, second, third = ValueError(), KeyError(), TypeError()
    group = ExceptionGroup("group", [first, second])
    group.__cause__ = third
    third.__context__ = first
    first.__context__ = group
    assert sorted(type(error).__name__ for error in every_error(group)) == [
        "ExceptionGroup",
        "KeyError",
        "TypeError",
        "ValueError",
    ]


def test_the_garbage_collector_is_off_during_a_run_and_as_before_after_it():
    async def main() -> bool:
        return gc.isenabled()

    assert gc.isenabled()
    assert simulate(main) is False
    assert gc.isenabled()
    gc.disable()
    try:
        simulate(main)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_speed_is_printed():
    seeds = 200
    begin = time.perf_counter()
    steps = sum(observe(toy, loop=SimLoop(seed)).steps for seed in range(seeds))
    seconds = time.perf_counter() - begin
    print(f"sim seeds={seeds} steps_per_seed={steps // seeds} seeds_per_s={seeds / seconds:.0f}")
    assert steps // seeds > 200
