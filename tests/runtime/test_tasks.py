"""Where tasks are made: a clean context, an eager start where Python has one, and the watch over tasks of hooks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any

import pytest

from actorfsm.runtime.tasks import EAGER, TaskWatch, Verdict, start_eagerly, start_task

pytestmark = pytest.mark.rule("C13")
REQUEST: ContextVar[str] = ContextVar("request", default="")


def test_a_task_of_the_runtime_has_a_clean_context_and_begins_in_the_next_step(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        seen: list[str] = []

        async def body() -> None:
            seen.append(REQUEST.get())

        REQUEST.set("somebody's")
        task = start_task(body(), asyncio.get_running_loop())
        assert (seen, task.get_name()) == ([], "actorfsm")
        await task
        assert seen == [""]

    sim(scenario)


def test_a_task_may_be_given_its_context(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async def body() -> None:
            REQUEST.set("the task's")

        context = Context()
        await start_task(body(), asyncio.get_running_loop(), context)
        assert (context[REQUEST], REQUEST.get()) == ("the task's", "")

    sim(scenario)


def test_an_eager_task_runs_at_once_up_to_its_first_suspension_where_python_can(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        seen: list[str] = []

        async def body() -> None:
            seen.append("begun" + REQUEST.get())
            await asyncio.sleep(0)
            seen.append("done")

        REQUEST.set("somebody's")
        task = start_eagerly(body(), asyncio.get_running_loop(), Context())
        assert seen == (["begun"] if EAGER else [])
        await task
        assert seen == ["begun", "done"]
        assert task.get_name() == "actorfsm"

    sim(scenario)


def test_the_watch_tells_of_each_task_and_is_gone_when_its_last_user_is(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        adopted: list[Any] = []
        one = TaskWatch.install(loop, adopted.append)
        two = TaskWatch.install(loop, adopted.append)
        assert one is two
        task = loop.create_task(asyncio.sleep(0), name="mine")
        assert adopted == [task]
        assert task.get_name() == "mine"
        await task
        one.uninstall(loop)
        assert loop.get_task_factory() is two
        two.uninstall(loop)
        assert loop.get_task_factory() is before

    sim(scenario)


def test_the_factory_that_was_there_goes_on_making_the_tasks(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        made: list[Any] = []
        adopted: list[Any] = []

        def factory(loop: Any, coroutine: Any, **options: Any) -> Any:
            made.append(asyncio.Task(coroutine, loop=loop, **options))
            return made[-1]

        loop.set_task_factory(factory)
        watch = TaskWatch.install(loop, adopted.append)
        task = loop.create_task(asyncio.sleep(0))
        assert made == adopted == [task]
        await task
        watch.uninstall(loop)
        assert loop.get_task_factory() is factory
        loop.set_task_factory(before)

    sim(scenario)


def test_a_factory_that_somebody_set_meanwhile_is_left_alone(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()

        def factory(loop: Any, coroutine: Any, **options: Any) -> Any:
            return asyncio.Task(coroutine, loop=loop, **options)

        watch = TaskWatch.install(loop, lambda task: None)
        loop.set_task_factory(factory)
        watch.uninstall(loop)
        assert loop.get_task_factory() is factory
        loop.set_task_factory(before)

    sim(scenario)


@pytest.mark.rule("C2")
@pytest.mark.parametrize("is_said", ["before", "at once", "later"])
def test_a_verdict_is_waited_for_to_the_end_and_a_cancellation_is_met_after_it(
    sim: Callable[..., None], is_said: str
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        verdict = Verdict()
        seen: list[str] = []

        async def body() -> None:
            await verdict.heard(loop)
            seen.append("heard")
            await asyncio.sleep(0)
            seen.append("went on")

        task = start_task(body(), loop)
        await asyncio.sleep(1)
        if is_said == "before":
            verdict.say(None)
        task.cancel()
        if is_said == "at once":
            verdict.say(None)  # its waiter is cancelled already, and the task not yet awake
        if is_said == "later":
            await asyncio.sleep(1)
            task.cancel()
        await asyncio.sleep(1)
        assert seen == ([] if is_said == "later" else ["heard"])
        verdict.say(None)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == ["heard"]

    sim(scenario)


def test_a_verdict_that_was_said_before_is_heard_at_once_and_the_first_one_counts(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        good, bad = Verdict(), Verdict()
        good.say(None)
        bad.say(KeyError("first"))
        good.say(KeyError("second"))
        bad.say(None)
        await good.heard(loop)
        with pytest.raises(KeyError, match="first"):
            await bad.heard(loop)

    sim(scenario)
