"""Scenarios about time and work: timers, jobs, blocking hooks, watches, suspended machines, calls from threads."""

from __future__ import annotations

import asyncio
from typing import Any

from actorfsm import TimerScope
from tests.campaigns.p1.machines import (
    Blocking,
    Busy,
    Finish,
    Go,
    Late,
    Mortal,
    Nervous,
    Note,
    Ping,
    Probe,
    Timed,
    Watching,
    Working,
)
from tests.campaigns.p1.scenario import discard, fail_async, hang, linger, nap, scenario, veto, veto_async
from tests.campaigns.p1.world import World

# -- timers -----------------------------------------------------------------------------------------------------------


def starts_timer(w: World, *arguments: Any) -> Any:
    """Return a step that starts a timer and then stops at a point."""

    async def start(machine: Any) -> None:
        w.timer(machine, *arguments)
        await w.point("started a timer")

    return start


@scenario(Timed)
async def a_state_lasts_too_long(w: World) -> None:
    await w.spawn(Timed, "a")
    await w.ask("a", Go(tag="1"))
    await asyncio.sleep(6)


@scenario(Timed)
async def a_state_is_left_in_time(w: World) -> None:
    await w.spawn(Timed, "a")
    await w.ask("a", Go(tag="1"))
    await asyncio.sleep(4)
    await w.ask("a", Go(tag="2"))
    await asyncio.sleep(6)


@scenario(Timed)
async def a_named_timer_comes_and_is_replaced(w: World) -> None:
    await w.spawn(Timed, "a")
    w.at("1:body", starts_timer(w, Note(tag="first"), 2, "t"))
    w.at("2:enter", starts_timer(w, Note(tag="second"), 3, "t"))
    await w.ask("a", Go(tag="1"))
    await asyncio.sleep(1)
    await w.ask("a", Go(tag="2"))
    await asyncio.sleep(4)


@scenario(Timed)
async def a_timer_is_cancelled_while_its_event_waits(w: World) -> None:
    await w.spawn(Timed, "a")

    async def slowly(machine: Any) -> None:
        await asyncio.sleep(3)
        w.cancel_timer(machine, "t")

    w.at("1:body", starts_timer(w, Note(tag="never"), 1, "t"))
    w.at("2:body", slowly)
    await w.ask("a", Ping(tag="1"))
    await w.ask("a", Ping(tag="2"))


@scenario(Timed)
async def a_timer_dies_with_any_event(w: World) -> None:
    await w.spawn(Timed, "a")
    w.at("1:body", starts_timer(w, Note(tag="dies"), 2, None, TimerScope.EVENT))
    w.at("2:body", starts_timer(w, Go(tag="comes"), 2, None, TimerScope.EVENT))
    await w.ask("a", Ping(tag="1"))
    await w.ask("a", Ping(tag="2"))
    await asyncio.sleep(3)


@scenario(Timed)
async def a_timer_of_no_time_waits_for_its_turn(w: World) -> None:
    await w.spawn(Timed, "a")
    w.at("1:body", starts_timer(w, Note(tag="at once"), 0, None, TimerScope.STATE))
    first, second = w.tell("a", Ping(tag="1")), w.tell("a", Go(tag="2"))
    await w.wait_for(first)
    await w.wait_for(second)


@scenario(Timed)
async def a_timer_dies_with_the_turn_that_fails(w: World) -> None:
    await w.spawn(Timed, "a")

    async def start_and_refuse(machine: Any) -> None:
        w.timer(machine, Note(tag="never"), 1)
        await veto_async(machine)

    w.at("1:body", start_and_refuse)
    await w.ask("a", Go(tag="1"))
    await asyncio.sleep(2)


@scenario(Timed, quarantine=True)
async def a_timers_event_fails_too_often(w: World) -> None:
    await w.spawn(Timed, "a")
    w.at("1:body", starts_timer(w, Note(tag="fails"), 1))
    w.at("fails:body", fail_async)
    await w.ask("a", Ping(tag="1"))
    await asyncio.sleep(20)
    w.at("fails:body", veto_async)
    if "a" in w.system.ids():
        w.system.release("a")
    await asyncio.sleep(1)


@scenario(Nervous, quarantine=True)
async def timers_outlive_a_restart(w: World) -> None:
    await w.spawn(Nervous, "a")
    w.at("1:body", starts_timer(w, Note(tag="comes"), 2))
    w.at("2:body", fail_async)
    await w.ask("a", Go(tag="1"))
    await w.ask("a", Ping(tag="2"))
    await asyncio.sleep(6)


@scenario(Timed)
async def timers_end_with_their_machine(w: World) -> None:
    await w.spawn(Timed, "a")
    w.at("1:body", starts_timer(w, Note(tag="never"), 2))
    await w.ask("a", Go(tag="1"))
    await w.ask("a", Finish(tag="2"))
    await asyncio.sleep(6)


# -- jobs -------------------------------------------------------------------------------------------------------------


def starts_job(w: World, tag: str, act: Any = None, **options: Any) -> Any:
    """Return a step that starts a job and then stops at a point."""

    async def start(machine: Any) -> None:
        w.job(machine, tag, act, **options)
        await w.point("started a job")

    return start


@scenario(Working)
async def a_job_is_done(w: World) -> None:
    await w.spawn(Working, "a")
    w.at("1:body", starts_job(w, "job"))
    await w.ask("a", Go(tag="1"))
    await w.ask("a", Ping(tag="2"))


@scenario(Working)
async def a_job_fails(w: World) -> None:
    await w.spawn(Working, "a")
    w.at("1:enter", starts_job(w, "job", fail_async))
    await w.ask("a", Go(tag="1"))


@scenario(Working)
async def a_job_takes_too_long(w: World) -> None:
    await w.spawn(Working, "a")
    w.at("1:body", starts_job(w, "job", hang, timeout=2))
    await w.ask("a", Go(tag="1"))
    await asyncio.sleep(3)


@scenario(Working)
async def a_job_is_cancelled_with_its_state(w: World) -> None:
    await w.spawn(Working, "a")
    w.at("1:body", starts_job(w, "job", linger))
    await w.ask("a", Go(tag="1"))
    await asyncio.sleep(1)
    await w.ask("a", Go(tag="2"))


@scenario(Working)
async def a_job_is_cancelled_by_name(w: World) -> None:
    await w.spawn(Working, "a")

    async def cancel(machine: Any) -> None:
        w.cancel_job(machine, "j")
        w.job(machine, "another", told=False)

    w.at("1:body", starts_job(w, "job", linger, name="j"))
    w.at("2:body", cancel)
    await w.ask("a", Ping(tag="1"))
    await w.ask("a", Ping(tag="2"))


@scenario(Working)
async def a_job_dies_with_the_turn_that_fails(w: World) -> None:
    await w.spawn(Working, "a")

    async def start_and_refuse(machine: Any) -> None:
        w.job(machine, "never")
        await veto_async(machine)

    w.at("1:body", start_and_refuse)
    await w.ask("a", Go(tag="1"))


@scenario(Busy)
async def a_job_is_given_up_and_another_begun_again(w: World) -> None:
    await w.spawn(Busy, "a")

    async def start(machine: Any) -> None:
        w.job(machine, "given up", nap)
        w.job(machine, "begun again", nap, again=True)

    w.at("1:body", start)
    w.at("2:body", fail_async)
    await w.ask("a", Ping(tag="1"))
    await w.ask("a", Ping(tag="2"))
    await asyncio.sleep(4)


@scenario(Working)
async def jobs_end_with_the_system(w: World) -> None:
    await w.spawn(Working, "a")
    await w.spawn(Working, "b")

    async def asks_its_own(machine: Any) -> None:
        await w.ask("a", Ping(tag="of the job"))

    w.at("1:body", starts_job(w, "hangs", linger))
    w.at("2:body", starts_job(w, "asks", asks_its_own))
    await w.ask("b", Go(tag="1"))
    w.tell("a", Go(tag="2"))
    w.rest_cut_short = True
    await w.system.shutdown(timeout=3)
    w.rest_cut_short = False


@scenario(Working)
async def a_machine_is_stopped_while_its_job_runs(w: World) -> None:
    await w.spawn(Working, "a")
    w.at("1:body", starts_job(w, "job", linger))
    await w.ask("a", Go(tag="1"))
    await asyncio.sleep(1)
    await w.stop("a")
    await w.spawn(Working, "a")


# -- blocking hooks ---------------------------------------------------------------------------------------------------


@scenario(Blocking)
async def hooks_block(w: World) -> None:
    await w.spawn(Blocking, "a")
    await w.ask("a", Go(tag="1"))
    w.at("2:enter", veto)
    w.at("3:body", lambda m: w.message(m, "a", Note(tag="from a thread")))
    await w.ask("a", Go(tag="2"))
    await w.wait_for(w.tell("a", Go(tag="3"), callback=True))


@scenario(Blocking)
async def the_end_comes_while_a_hook_blocks(w: World) -> None:
    await w.spawn(Blocking, "a")
    first, second = w.tell("a", Go(tag="1")), w.tell("a", Go(tag="2"))
    await asyncio.sleep(0)
    w.rest_cut_short = True
    await w.system.shutdown(queues="abandon")
    w.rest_cut_short = False
    await w.wait_for(first)
    await w.wait_for(second)


# -- watches ----------------------------------------------------------------------------------------------------------


def watches(w: World, *machine_ids: str) -> Any:
    """Return a step that watches machines and then stops at a point."""

    async def watch(machine: Any) -> None:
        for machine_id in machine_ids:
            w.watch(machine, machine_id)
        await w.point("watches")

    return watch


@scenario(Watching)
async def the_end_of_a_machine_is_told(w: World) -> None:
    for machine_id in "abc":
        await w.spawn(Watching, machine_id)
    w.at("1:body", watches(w, "b", "c", "nobody"))
    await w.ask("a", Go(tag="1"))
    outside = asyncio.ensure_future(w.watch_outside("b"))
    try:
        await w.ask("b", Finish(tag="2"))
        await w.stop("c")
        await w.watch_outside("c")
    finally:
        await asyncio.wait([outside], timeout=50)
        outside.cancel()


@scenario(Watching, Mortal)
async def a_failure_that_stops_is_told(w: World) -> None:
    await w.spawn(Watching, "a")
    await w.spawn(Mortal, "b")
    w.at("1:body", watches(w, "b"))
    w.at("2:body", fail_async)
    await w.ask("a", Go(tag="1"))
    await w.ask("b", Go(tag="2"))


@scenario(Watching)
async def a_watch_is_taken_back(w: World) -> None:
    await w.spawn(Watching, "a")
    await w.spawn(Watching, "b")

    async def unwatch(machine: Any) -> None:
        await asyncio.sleep(1)
        w.unwatch(machine, "b")

    w.at("1:body", watches(w, "b"))
    w.at("2:body", unwatch)
    await w.ask("a", Ping(tag="1"))
    last = w.tell("a", Ping(tag="2"))
    await w.ask("b", Finish(tag="3"))
    await w.wait_for(last)


@scenario(Watching)
async def a_watcher_ends_first(w: World) -> None:
    await w.spawn(Watching, "a")
    await w.spawn(Watching, "b")
    w.at("1:body", watches(w, "b"))
    await w.ask("a", Go(tag="1"))
    await w.stop("a")
    await w.stop("b")
    await w.spawn(Watching, "a")


@scenario(Watching)
async def a_watch_dies_with_the_turn_that_fails(w: World) -> None:
    await w.spawn(Watching, "a")
    await w.spawn(Watching, "b")

    async def watch_and_refuse(machine: Any) -> None:
        w.watch(machine, "b")
        await veto_async(machine)

    w.at("1:body", watch_and_refuse)
    await w.ask("a", Go(tag="1"))
    await w.stop("b")


# -- suspended machines -----------------------------------------------------------------------------------------------


@scenario(Probe)
async def a_machine_is_suspended_and_resumed(w: World) -> None:
    await w.spawn(Probe, "a")
    first, second = w.tell("a", Go(tag="1")), w.tell("a", Go(tag="2"), callback=True)
    await asyncio.sleep(0)
    w.suspend("a")
    await w.ask("a", Ping(tag="3"), timeout=2)
    w.resume("a")
    await w.wait_for(first)
    await w.wait_for(second)


@scenario(Timed)
async def a_suspended_machine_keeps_its_timers(w: World) -> None:
    await w.spawn(Timed, "a")
    w.at("1:body", starts_timer(w, Note(tag="held"), 2))
    await w.ask("a", Go(tag="1"))
    await asyncio.sleep(1)
    w.suspend("a")
    late = w.tell("a", Late(tag="2"))
    await asyncio.sleep(7)
    w.resume("a")
    await w.wait_for(late)


@scenario(Probe)
async def a_suspended_machine_is_stopped(w: World) -> None:
    await w.spawn(Probe, "a")
    w.suspend("a")
    held = w.tell("a", Go(tag="1"), callback=True)
    await w.stop("a")
    await w.wait_for(held)


# -- threads ----------------------------------------------------------------------------------------------------------


@scenario(Probe)
async def threads_ask_and_tell(w: World) -> None:
    await w.spawn(Probe, "a")
    await w.ask_from_thread("a", Go(tag="1"))
    w.at("2:body", veto_async)
    async with asyncio.TaskGroup() as group:
        group.create_task(w.ask_from_thread("a", Go(tag="2")))
        group.create_task(w.tell_from_thread("a", Ping(tag="3")))
    await w.ask_from_thread("nobody", Ping(tag="4"))


@scenario(Probe)
async def threads_are_answered_at_the_end(w: World) -> None:
    await w.spawn(Probe, "a")
    w.at("1:body", lambda m: discard(asyncio.sleep(3)))
    asking = asyncio.ensure_future(w.ask_from_thread("a", Go(tag="1")))
    waiting = asyncio.ensure_future(w.ask_from_thread("a", Ping(tag="2")))
    await asyncio.sleep(1)
    w.rest_cut_short = True
    try:
        await w.system.shutdown(queues="abandon")
        w.rest_cut_short = False
        await w.ask_from_thread("a", Ping(tag="3"))
    finally:
        await asyncio.gather(asking, waiting, return_exceptions=True)
