"""Calls from threads and the watchdog in their corners: what the scenarios of the contract meet by chance at most."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any

import pytest

from actorfsm import ActorSystem, Limits, SystemStopping
from actorfsm.runtime.watchdog import _turn_of
from tests.contract.lamp import Count, Later, Trace, lamp_of
from tests.contract.paths import Script, Style, until

LAMP = lamp_of(Style.ASYNC)
T = 20.0


def system_with(**options: Any) -> ActorSystem[Any]:
    options = {"services": Script(), "trace": None, "limits": Limits(blocked_s=0)} | options
    return ActorSystem(LAMP, **options)


def test_a_call_that_still_waits_when_the_calls_are_closed_is_answered_and_its_task_cancelled() -> None:
    async def main() -> None:
        async with system_with() as system:
            await system.spawn(LAMP, "lamp")
            future = system.threadsafe.ask("lamp", Later())
            await until(lambda: system._parts.calls.waiting)
            (task,) = system._parts.calls.waiting
            system._parts.calls.close()
            assert isinstance(future.exception(0), SystemStopping)
            await asyncio.wait([task])
            assert task.cancelled()
            await system.shutdown(queues="abandon")

    asyncio.run(main())


def test_the_failure_of_a_task_whose_caller_was_answered_is_retrieved() -> None:
    failures: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        async with system_with() as system:
            task = asyncio.get_running_loop().create_future()
            task.set_exception(ValueError())
            system._parts.calls._ended(task)
            del task

    asyncio.run(main())
    assert failures == []


def test_a_call_that_is_cancelled_far_back_in_the_line_is_made_even_so() -> None:
    async def main() -> None:
        async with system_with(limits=Limits(blocked_s=0, turns_per_step=1)) as system:
            await system.spawn(LAMP, "lamp")
            futures = [system.threadsafe.ask("lamp", Count()) for _ in range(5)]
            assert futures[-1].cancel()
            await until(lambda: system.snapshot("lamp").data["count"] == 5)
            await until(lambda: all(future.done() for future in futures))
            await until(lambda: not system._parts.calls.waiting)

    asyncio.run(main())


def test_an_interrupt_in_a_callback_of_a_future_is_an_interrupt() -> None:
    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        async with system_with() as system:
            await system.spawn(LAMP, "lamp")
            system.threadsafe.ask("lamp", Count()).add_done_callback(interrupted)
            await asyncio.sleep(T)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())


def test_the_watchdog_is_started_and_stopped_once() -> None:
    async def main() -> None:
        async with system_with() as system:
            watchdog = system._watchdog
            assert watchdog is not None
            thread = watchdog._thread
            watchdog.start()
            assert watchdog._thread is thread
            watchdog.stop()
            watchdog.stop()
            watchdog.start()
            assert watchdog._thread is None

    asyncio.run(main())


def test_a_loop_that_waits_for_the_world_is_in_no_code_of_its_own() -> None:
    """Another thread may have kept the interpreter: the loop is late, and no line of it is to blame."""

    async def main() -> None:
        async with system_with(limits=Limits(blocked_s=0.05), trace=Trace()) as system:
            watchdog = system._watchdog
            assert watchdog is not None
            await until(lambda: watchdog._depth)
            seen: list[Any] = []

            def look() -> None:
                for _ in range(20):  # it wakes now and then to answer the watchdog itself
                    time.sleep(0.01)
                    seen.append(watchdog._blocked_at(1.0))

            thread = threading.Thread(target=look)
            thread.start()
            await asyncio.sleep(0.3)
            thread.join()
            assert seen.count(None) > 10

    asyncio.run(main())


def test_a_frame_of_the_actor_without_a_turn_tells_of_no_machine() -> None:
    source = compile(
        "import sys\ndef f():\n    turn = None\n    return sys._getframe()\n", _actor_file(), "exec"
    )
    names: dict[str, Any] = {}
    exec(source, names)  # noqa: S102 -- a frame that says it is in that file
    assert _turn_of([names["f"](), sys._getframe()]) is None


def _actor_file() -> str:
    from actorfsm.runtime.actor import Actor

    return Actor.turn.__code__.co_filename
