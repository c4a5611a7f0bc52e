"""Scenarios about events: what is asked and told, hooks that refuse and fail, full mailboxes, the end of a system."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.campaigns.p1.machines import (
    AnyToAny,
    Begin,
    Born,
    Choose,
    Detaching,
    DroppingNewest,
    DroppingOldest,
    Finish,
    Fragile,
    Go,
    Hurried,
    Late,
    Mortal,
    Note,
    Ping,
    Plain,
    Probe,
    Redelivering,
    Refusing,
    Restarting,
    S,
    Waiting,
)
from tests.campaigns.p1.scenario import (
    discard,
    fail_async,
    hang,
    hang_on,
    refuse_async,
    scenario,
    veto,
    veto_async,
)
from tests.campaigns.p1.world import World

# -- asks, tells, and their answers -----------------------------------------------------------------------------------


@scenario(Probe)
async def an_ask_is_answered(w: World) -> None:
    await w.spawn(Probe, "a")
    await w.ask("a", Go(tag="1"))
    await w.ask("a", Ping(tag="2"))


@scenario(Probe)
async def a_tell_has_a_receipt(w: World) -> None:
    await w.spawn(Probe, "a")
    first, second = w.tell("a", Go(tag="1")), w.tell("a", Go(tag="2"))
    await w.wait_for(second)
    await w.wait_for(first)


@scenario(Probe)
async def callbacks_are_called_in_order(w: World) -> None:
    await w.spawn(Probe, "a")
    w.tell("a", Go(tag="1"), callback=True)
    await w.wait_for(w.tell("a", Ping(tag="2"), callback=True))


@scenario(Probe)
async def an_outcome_goes_to_another_machine(w: World) -> None:
    await w.spawn(Probe, "a")
    await w.spawn(Probe, "b")
    w.at("2:body", veto_async)
    w.tell("a", Go(tag="1"), reply_to="b")
    await w.wait_for(w.tell("a", Ping(tag="2"), reply_to="b"))


@scenario(Probe)
async def many_callers_at_once(w: World) -> None:
    await w.spawn(Probe, "a")
    async with asyncio.TaskGroup() as group:
        for n in range(3):
            group.create_task(w.ask("a", Ping(tag=f"{n}")))


@scenario(Probe)
async def a_caller_gives_up_another_does_not(w: World) -> None:
    await w.spawn(Probe, "a")
    impatient = asyncio.ensure_future(w.ask("a", Go(tag="impatient")))
    patient = asyncio.ensure_future(w.ask("a", Go(tag="patient")))
    await asyncio.sleep(0)
    impatient.cancel()
    try:
        await patient
    finally:
        patient.cancel()
        await asyncio.gather(impatient, patient, return_exceptions=True)


@scenario(Probe)
async def unhandled_events_are_answered(w: World) -> None:
    await w.spawn(Probe, "a")
    await w.ask("a", Finish(tag="1"))
    await w.ask("a", Go(tag="2"))
    await w.wait_for(w.tell("a", Ping(tag="3"), callback=True))


@scenario(AnyToAny)
async def transitions_are_requested(w: World) -> None:
    await w.spawn(AnyToAny, "a")
    heard: list[Any] = []
    ref = w.system.ref(AnyToAny, "a")
    ref.request_transition(S.B, lambda *what: heard.append(what))
    await w.wait_for(ref.request_transition(S.C, lambda *what: heard.append(what)))


# -- ids --------------------------------------------------------------------------------------------------------------


@scenario(Probe)
async def duplicates_join(w: World) -> None:
    await w.spawn(Probe, "a")
    receipts = [w.tell("a", Go(tag="1"), event_id="e", callback=True) for _ in range(2)]
    await w.ask("a", Go(tag="1"), event_id="e")
    for receipt in receipts:
        await w.wait_for(receipt)


@scenario(Probe)
async def an_event_id_is_tried_again(w: World) -> None:
    await w.spawn(Probe, "a")
    tries = iter([fail_async, veto_async])

    async def twice_not(machine: Any) -> None:
        act = next(tries, None)
        if act is not None:
            await act(machine)

    w.at("1:enter", twice_not)
    for _ in range(4):
        await w.ask("a", Go(tag="1"), event_id="e")


@scenario(Probe)
async def a_retry_after_a_timeout_joins(w: World) -> None:
    await w.spawn(Probe, "a")

    async def slowly(machine: Any) -> None:
        await asyncio.sleep(3)

    w.at("1:body", slowly)
    await w.ask("a", Go(tag="1"), event_id="e", timeout=1)
    await w.ask("a", Go(tag="1"), event_id="e", timeout=1)
    await w.ask("a", Go(tag="1"), event_id="e")


# -- stopping ---------------------------------------------------------------------------------------------------------


@scenario(Probe)
async def a_machine_is_stopped_while_it_works(w: World) -> None:
    await w.spawn(Probe, "a")
    first, second = w.tell("a", Go(tag="1")), w.tell("a", Go(tag="2"), callback=True)
    await asyncio.sleep(0)
    await w.stop("a")
    await w.wait_for(first)
    await w.wait_for(second)
    await w.spawn(Probe, "a")


@scenario(Probe)
async def a_machine_stops_itself(w: World) -> None:
    await w.spawn(Probe, "a")

    async def stop_itself(machine: Any) -> None:
        machine.stop()

    w.at("1:body", stop_itself)
    first, second = w.tell("a", Go(tag="1")), w.tell("a", Go(tag="2"), callback=True)
    await w.wait_for(first)
    await w.wait_for(second)


async def shut_down(w: World, queues: str) -> None:
    await w.spawn(Detaching, "a")
    await w.spawn(Detaching, "b")
    w.at("1:body", lambda m: discard(w.nested(m, "b", Go(tag="nested"))))

    async def tell(machine: Any) -> None:
        w.message(machine, "b", Note(tag="m"))

    w.at("1:enter", tell)
    for n in range(1, 4):
        w.tell("a", Go(tag=f"{n}"), callback=True)
    caller = asyncio.ensure_future(w.ask("a", Ping(tag="4")))
    await asyncio.sleep(0)
    w.rest_cut_short = True
    try:
        await w.system.shutdown(queues=queues)
        w.rest_cut_short = False
        await w.ask("a", Ping(tag="5"))
        w.tell("a", Ping(tag="6"))
    finally:
        await caller


@scenario(Detaching)
async def queues_are_finished_at_the_end(w: World) -> None:
    await shut_down(w, "finish")


@scenario(Detaching)
async def queues_are_abandoned_at_the_end(w: World) -> None:
    await shut_down(w, "abandon")


@scenario(Hurried)
async def the_end_comes_while_a_hook_hangs(w: World) -> None:
    await w.spawn(Hurried, "a")
    w.at("1:body", hang_on)
    w.tell("a", Go(tag="1"))
    waiting = w.tell("a", Go(tag="2"))
    await asyncio.sleep(0.5)
    w.rest_cut_short = True
    try:
        report = await w.system.shutdown(timeout=0.2)
        w.rest_cut_short = False
        if report.unstopped not in {("a.go",), ()} or (report.unstopped and report.seconds > 20):
            w.wrong(f"{report}")
    finally:
        await asyncio.sleep(100)  # the hook gives in at last
    await w.wait_for(waiting)


@scenario(Detaching)
async def it_is_shut_down_twice_at_once(w: World) -> None:
    await w.spawn(Detaching, "a")
    w.tell("a", Go(tag="1"), callback=True)
    w.rest_cut_short = True
    async with asyncio.TaskGroup() as group:
        group.create_task(w.system.shutdown())
        group.create_task(w.system.shutdown())
    w.rest_cut_short = False


# -- what hooks send --------------------------------------------------------------------------------------------------


@scenario(Probe)
async def a_hook_asks_another_machine(w: World) -> None:
    await w.spawn(Probe, "a")
    await w.spawn(Probe, "b")
    w.at("1:enter", lambda m: discard(w.nested(m, "b", Ping(tag="nested too"))))
    w.at("1:body", lambda m: discard(w.nested(m, "b", Go(tag="nested"))))
    await w.ask("a", Go(tag="1"))


@scenario(Probe)
async def a_hook_gathers_asks(w: World) -> None:
    for machine_id in "abc":
        await w.spawn(Probe, machine_id)

    async def gather(machine: Any) -> None:
        await asyncio.gather(*(w.nested(machine, to, Ping(tag=f"for {to}")) for to in "bc"))

    w.at("1:body", gather)
    await w.ask("a", Go(tag="1"))


@scenario(Probe)
async def a_hook_has_a_task_group(w: World) -> None:
    await w.spawn(Probe, "a")
    await w.spawn(Probe, "b")

    async def group(machine: Any) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(w.point("child"))
            tasks.create_task(w.nested(machine, "b", Ping(tag="from the group")))

    w.at("1:enter", group)
    await w.ask("a", Go(tag="1"))


@scenario(Probe)
async def a_hook_leaves_a_task_behind(w: World) -> None:
    await w.spawn(Probe, "a")
    await w.spawn(Probe, "b")

    async def leave(machine: Any) -> None:
        left = asyncio.ensure_future(w.nested(machine, "b", Ping(tag="from behind")))
        left.add_done_callback(lambda task: task.cancelled() or task.exception())
        await w.point("started it")

    w.at("1:body", leave)
    w.at("from behind:body", hang)
    await w.ask("a", Go(tag="1"))


@scenario(Probe)
async def a_hook_tells_another_machine(w: World) -> None:
    await w.spawn(Probe, "a")
    await w.spawn(Probe, "b")

    async def tell(machine: Any) -> None:
        w.message(machine, "b", Note(tag="m1"))
        await w.point("between")
        w.message(machine, "b", Note(tag="m2"))

    w.at("1:body", tell)
    await w.ask("a", Go(tag="1"))


@scenario(Probe)
async def a_machine_tells_itself(w: World) -> None:
    await w.spawn(Probe, "a")

    async def tell(machine: Any) -> None:
        w.message(machine, "a", Note(tag="to itself"))
        w.message(machine, "nobody", Note(tag="to nobody"))

    w.at("1:exit", tell)
    w.tell("a", Go(tag="1"))
    await w.ask("a", Ping(tag="2"))


@scenario(Probe)
async def a_machine_raises_events_of_its_own(w: World) -> None:
    await w.spawn(Probe, "a")

    async def own(machine: Any) -> None:
        w.raise_own(machine, Go(tag="own 1"))
        w.raise_own(machine, Ping(tag="own 2"))

    w.at("1:body", own)
    w.tell("a", Go(tag="1"))
    await w.ask("a", Ping(tag="2"))


@scenario(Probe)
async def an_ask_would_close_a_cycle(w: World) -> None:
    await w.spawn(Probe, "a")
    await w.spawn(Probe, "b")
    w.at("1:body", lambda m: discard(w.nested(m, "b", Go(tag="2"))))
    w.at("2:body", lambda m: discard(w.nested(m, "a", Ping(tag="3"))))
    await w.ask("a", Go(tag="1"))


@scenario(Probe)
async def two_asks_meet(w: World) -> None:
    await w.spawn(Probe, "a")
    await w.spawn(Probe, "b")
    w.at("1:body", lambda m: discard(w.nested(m, "b", Go(tag="a to b"))))
    w.at("2:body", lambda m: discard(w.nested(m, "a", Go(tag="b to a"))))
    async with asyncio.TaskGroup() as group:
        group.create_task(w.ask("a", Go(tag="1")))
        group.create_task(w.ask("b", Go(tag="2")))


# -- postponed events, births -----------------------------------------------------------------------------------------


@scenario(Probe)
async def postponed_events_are_tried_again(w: World) -> None:
    await w.spawn(Probe, "a")
    first, second = w.tell("a", Late(tag="1")), w.tell("a", Late(tag="2"), callback=True)
    await w.ask("a", Go(tag="3"))
    await w.wait_for(first)
    await w.wait_for(second)


@scenario(Probe)
async def the_end_answers_postponed_events(w: World) -> None:
    await w.spawn(Probe, "a")
    late = w.tell("a", Late(tag="1"))
    await w.ask("a", Finish(tag="2"))
    await w.wait_for(late)


@scenario(Born)
async def an_event_gives_birth(w: World) -> None:
    await w.ask("a", Begin(tag="1"))
    await w.ask("a", Go(tag="2"))


@scenario(Born)
async def a_birth_is_refused_while_events_wait(w: World) -> None:
    w.at("1:enter", veto_async)
    birth = w.tell("a", Begin(tag="1"))
    early = w.tell("a", Go(tag="2"))
    again = w.tell("a", Begin(tag="3"))
    for receipt in (birth, early, again):
        await w.wait_for(receipt)


@scenario(Probe)
async def machines_are_spawned(w: World) -> None:
    await w.spawn(Probe, "a", data={"log": [], "count": 0})
    await w.spawn(Probe, "a")
    await w.spawn(Probe, "b", event_id="birth of b")
    await w.spawn(Probe, "b", event_id="birth of b")


@scenario(Probe)
async def two_get_or_spawn_at_once(w: World) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(w.get_or_spawn(Probe, "a"))
        group.create_task(w.get_or_spawn(Probe, "a"))
        group.create_task(w.ask("a", Ping(tag="early")))


@scenario(Probe)
async def a_hook_spawns_a_machine(w: World) -> None:
    await w.spawn(Probe, "a")

    async def spawn(machine: Any) -> None:
        await w.system.get_or_spawn(Probe, "b")

    w.at("1:body", spawn)
    await w.ask("a", Go(tag="1"))


# -- refusals and failures --------------------------------------------------------------------------------------------


def _veto_at(step: str, act: Any, machines: tuple[type[Any], ...] = (Probe,)) -> None:
    async def play(w: World) -> None:
        await w.spawn(machines[0], "a")

        async def send_and_refuse(machine: Any) -> Any:
            w.message(machine, "a", Note(tag="never sent"))
            w.raise_own(machine, Ping(tag="never raised"))
            return await act(machine)

        w.at(f"1:{step}", send_and_refuse)
        await w.ask("a", Go(tag="1"))
        await w.wait_for(w.tell("a", Ping(tag="2"), callback=True))

    play.__name__ = f"{act.__name__.removesuffix('_async')}_at_{step}"
    scenario(*machines)(play)


for _step in ("before", "exit", "body", "enter"):
    _veto_at(_step, veto_async)
_veto_at("enter", refuse_async)
_veto_at("exit", fail_async)
_veto_at("enter", fail_async)


@scenario(Probe)
async def deep_changes_are_rolled_back(w: World) -> None:
    await w.spawn(Probe, "a")
    await w.ask("a", Go(tag="1"))

    async def spoil(machine: Any) -> None:
        machine.nested["1"].append("spoiled")
        machine.nested["more"] = ["spoiled"]
        machine.log.clear()
        await w.point("spoiled")
        raise LookupError

    w.at("2:body", spoil)
    await w.ask("a", Go(tag="2"))
    await w.ask("a", Go(tag="3"))


@scenario(Probe)
async def data_that_does_not_validate_fails_the_event(w: World) -> None:
    await w.spawn(Probe, "a")

    async def spoil(machine: Any) -> None:
        machine.count = "many"

    w.at("1:enter", spoil)
    await w.ask("a", Go(tag="1"))
    await w.ask("a", Ping(tag="2"))


@scenario(Probe)
async def guards_choose(w: World) -> None:
    await w.spawn(Probe, "a")
    await w.ask("a", Choose(tag="no"))
    await w.ask("a", Choose(tag="no, the other"))
    await w.ask("a", Choose(tag="yes"))


@scenario(Redelivering)
async def a_failed_event_is_delivered_again(w: World) -> None:
    await w.spawn(Redelivering, "a")
    await w.spawn(Redelivering, "b")
    tries = iter([fail_async])

    async def fail_once(machine: Any) -> None:
        w.message(machine, "b", Note(tag="sent once"))
        await w.nested(machine, "b", Ping(tag="asked again"))
        act = next(tries, None)
        if act is not None:
            await act(machine)

    w.at("1:body", fail_once)
    first = w.tell("a", Go(tag="1"), callback=True)
    await w.ask("a", Ping(tag="2"))
    await w.wait_for(first)


@scenario(Redelivering)
async def a_poisonous_event_is_buried(w: World) -> None:
    await w.spawn(Redelivering, "a")
    w.at("1:body", fail_async)
    poison = w.tell("a", Go(tag="1"), callback=True)
    await w.ask("a", Ping(tag="2"))
    await w.wait_for(poison)


@scenario(Restarting)
async def a_failed_machine_is_restarted(w: World) -> None:
    await w.spawn(Restarting, "a")
    w.at("1:body", fail_async)
    failing, late = w.tell("a", Go(tag="1")), w.tell("a", Late(tag="2"))
    await w.ask("a", Go(tag="3"))
    await w.wait_for(failing)
    await w.wait_for(late)


@scenario(Fragile, quarantine=True)
async def a_machine_is_quarantined_and_released(w: World) -> None:
    await w.spawn(Fragile, "a")
    w.at("1:body", fail_async)
    failing, held = w.tell("a", Go(tag="1")), w.tell("a", Ping(tag="held"), callback=True)
    await w.ask("a", Ping(tag="2"))
    await w.wait_for(failing)
    await w.ask("a", Ping(tag="3"))
    release(w, discard=False)
    await w.wait_for(held)
    await w.ask("a", Go(tag="4"))


@scenario(Fragile, quarantine=True)
async def a_quarantined_machine_is_released_without_its_mail(w: World) -> None:
    await w.spawn(Fragile, "a")
    w.at("1:body", fail_async)
    failing, held = w.tell("a", Go(tag="1")), w.tell("a", Ping(tag="held"), callback=True)
    await w.wait_for(failing)
    release(w, discard=True)
    await w.wait_for(held)


def release(w: World, *, discard: bool) -> None:
    if "a" in w.system.ids():
        w.system.release("a", discard=discard)


@scenario(Mortal)
async def a_machine_is_stopped_by_its_failure(w: World) -> None:
    await w.spawn(Mortal, "a")
    w.at("1:body", fail_async)
    first, waiting = w.tell("a", Go(tag="1")), w.tell("a", Ping(tag="2"), callback=True)
    await w.ask("a", Ping(tag="3"))
    await w.wait_for(first)
    await w.wait_for(waiting)


# -- after-hooks, deadlines -------------------------------------------------------------------------------------------


@scenario(Probe)
async def an_after_hook_asks(w: World) -> None:
    await w.spawn(Probe, "a")
    await w.spawn(Probe, "b")
    w.at("1:after", lambda m: discard(w.nested(m, "b", Ping(tag="from after"))))
    await w.ask("a", Go(tag="1"))
    await w.ask("a", Go(tag="2"))


@scenario(Detaching)
async def a_detached_hook_holds_nobody(w: World) -> None:
    await w.spawn(Detaching, "a")
    await w.ask("a", Go(tag="1"))
    await w.ask("a", Go(tag="2"))


@scenario(Hurried)
async def a_hook_exceeds_its_deadline(w: World) -> None:
    await w.spawn(Hurried, "a")
    w.at("1:enter", hang)
    slow = w.tell("a", Go(tag="1"), callback=True)
    await w.ask("a", Ping(tag="2"))
    await w.wait_for(slow)


@scenario(Hurried)
async def a_hook_refuses_to_end(w: World) -> None:
    await w.spawn(Hurried, "a")
    w.at("1:body", hang_on)
    slow = w.tell("a", Go(tag="1"), callback=True)
    await w.ask("a", Ping(tag="2"))
    await w.wait_for(slow)


@scenario(Hurried)
async def an_after_hook_refuses_to_end(w: World) -> None:
    await w.spawn(Hurried, "a")
    w.at("1:after", hang_on)
    await w.ask("a", Go(tag="1"))
    await w.ask("a", Ping(tag="2"))


@scenario(Probe)
async def asks_exceed_their_deadlines(w: World) -> None:
    await w.spawn(Probe, "a")

    async def slowly(machine: Any) -> None:
        await asyncio.sleep(3)

    w.at("1:body", slowly)
    async with asyncio.TaskGroup() as group:
        group.create_task(w.ask("a", Go(tag="1"), timeout=1))
        group.create_task(w.ask("a", Go(tag="2"), timeout=2))
        group.create_task(w.ask("a", Go(tag="3")))


@scenario(Probe)
async def a_nested_ask_has_what_remains(w: World) -> None:
    await w.spawn(Probe, "a")
    await w.spawn(Probe, "b")

    async def slowly(machine: Any) -> None:
        await asyncio.sleep(3)

    w.at("1:body", lambda m: discard(w.nested(m, "b", Go(tag="2"))))
    w.at("2:body", slowly)
    await w.ask("a", Go(tag="1"), timeout=1)


@scenario(Probe)
async def postponed_asks_expire(w: World) -> None:
    await w.spawn(Probe, "a")
    await w.ask("a", Late(tag="1"), timeout=1)
    await w.ask("a", Go(tag="2"))


# -- full mailboxes ---------------------------------------------------------------------------------------------------


async def fill(w: World, machine_class: type[Any]) -> None:
    await w.spawn(machine_class, "a")
    receipts = [w.tell("a", Ping(tag=f"{n}"), callback=n % 2 == 0) for n in range(6)]
    await w.ask("a", Go(tag="ask"), timeout=4)
    for receipt in receipts:
        await w.wait_for(receipt)


@scenario(Waiting)
async def a_full_mailbox_lets_wait(w: World) -> None:
    await fill(w, Waiting)


@scenario(Waiting)
async def there_is_no_room_in_time(w: World) -> None:
    async def slowly(machine: Any) -> None:
        await asyncio.sleep(7)

    w.at("0:body", slowly)
    await fill(w, Waiting)


@scenario(Refusing)
async def a_full_mailbox_refuses(w: World) -> None:
    await fill(w, Refusing)


@scenario(DroppingOldest)
async def a_full_mailbox_drops_the_oldest(w: World) -> None:
    await fill(w, DroppingOldest)


@scenario(DroppingNewest)
async def a_full_mailbox_drops_the_newest(w: World) -> None:
    await fill(w, DroppingNewest)


@scenario(Probe, Refusing)
async def a_message_waits_for_room(w: World) -> None:
    await w.spawn(Probe, "b")
    await w.spawn(Refusing, "a")

    async def tell(machine: Any) -> None:
        for n in range(6):
            w.message(machine, "a", Note(tag=f"m{n}"))

    w.at("1:body", tell)
    await w.ask("b", Go(tag="1"))
    await w.ask("a", Ping(tag="2"))


# -- plain machines, sinks, several systems ---------------------------------------------------------------------------


@scenario(Plain)
async def a_plain_machine_answers(w: World) -> None:
    await w.spawn(Plain, "a")
    await w.ask("a", Go(tag="1"))
    w.at("2:enter", veto)
    await w.ask("a", Go(tag="2"))
    late = w.tell("a", Ping(tag="3"), callback=True)
    await w.ask("a", Go(tag="4"))
    await w.wait_for(late)


@scenario(Plain)
async def a_plain_machine_postpones_and_raises(w: World) -> None:
    await w.spawn(Plain, "a")
    late = w.tell("a", Late(tag="late"))
    w.at("1:body", lambda m: w.raise_own(m, Ping(tag="own")))
    w.at("1:enter", lambda m: w.message(m, "a", Note(tag="to itself")))
    await w.ask("a", Go(tag="1"))
    await w.wait_for(late)
    await w.ask("a", Ping(tag="2"))


@scenario(Probe, sink=True)
async def a_sink_raises(w: World) -> None:
    await w.spawn(Probe, "a")
    w.at("1:body", veto_async)
    await w.ask("a", Go(tag="1"))
    await w.wait_for(w.tell("nobody", Go(tag="2"), callback=True))
    await w.ask("a", Go(tag="3"))


@scenario(Probe)
async def two_systems_share_a_loop(w: World) -> None:
    other = World(w.faults, Probe, inline=w.inline)
    other.violations = w.violations
    other.rest_cut_short = True

    async def side_by_side(other: World) -> None:
        await w.spawn(Probe, "a")
        await other.spawn(Probe, "a")
        w.at("1:body", lambda m: discard(other.ask("a", Go(tag="across"))))
        async with asyncio.TaskGroup() as group:
            group.create_task(w.ask("a", Go(tag="1")))
            group.create_task(other.ask("a", Go(tag="1")))

    await other.live(side_by_side, inner=True)
