"""The dynamic supervisor: backoff without end, births that follow on failed ones, stops in every state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actorfsm import (
    Directive,
    HookFailed,
    Limits,
    MachineStopped,
    MailboxPolicy,
    NoSuchMachine,
    Overflow,
    Redelivery,
    RestartPolicy,
    SystemStopping,
    Veto,
    Vetoed,
)
from actorfsm.testing.loop import SimLoop
from tests.contract.lamp import Birth, Count, Stubborn, Switch, Trace, lamp_of, raising, times
from tests.contract.paths import Path, Script, Style, on_every_async_path, on_every_path

RESTART = {Exception: Directive.RESTART}
SUSPENDING = Path(Style.SUSPENDING, inline=True)


async def fail(lamp: Any) -> None:
    with pytest.raises(HookFailed):
        await lamp.ask(Count(), timeout=1e6)


def pauses_of(trace: Trace) -> list[str]:
    return [record.reason.split("resumes in ")[1] for record in trace if record.name == "restarted"]


# -- backoff -------------------------------------------------------------------------------------------------------


def test_a_machine_that_never_becomes_stable_keeps_the_longest_pause(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        trace, script = Trace(), Script(count=raising(ValueError))
        policy = RestartPolicy(jitter=0, first_delay_s=1, max_delay_s=30, stable_after_s=60)
        lamp_class = lamp_of(Style.ASYNC, on_failure=RESTART, restart=policy)
        async with SUSPENDING.system(lamp_class, services=script, trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            for _ in range(12):
                await fail(lamp)
                await asyncio.sleep(20)  # never 60 s without a failure
        assert pauses_of(trace) == ["1 s", "2 s", "4 s", "8 s", "16 s", *["30 s"] * 7]

    sim(scenario, seeds=range(1))


def test_a_pause_longer_than_the_stable_time_is_no_stability(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        trace, script = Trace(), Script(count=raising(ValueError))
        policy = RestartPolicy(
            jitter=0, first_delay_s=10, max_delay_s=100, stable_after_s=15, max_restarts=100
        )
        lamp_class = lamp_of(Style.ASYNC, on_failure=RESTART, restart=policy)
        async with SUSPENDING.system(lamp_class, services=script, trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            for _ in range(5):
                await fail(lamp)
        assert pauses_of(trace) == ["10 s", "20 s", "40 s", "80 s", "100 s"]

    sim(scenario, seeds=range(1))


def test_a_stable_time_resets_the_pause_but_not_the_count_within_the_period(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        trace, script = Trace(), Script(count=raising(ValueError))
        policy = RestartPolicy(jitter=0, first_delay_s=1, stable_after_s=60, max_restarts=2, within_s=1_000)
        lamp_class = lamp_of(Style.ASYNC, on_failure=RESTART, restart=policy)
        async with SUSPENDING.system(lamp_class, services=script, trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            for _ in range(3):
                assert system.quarantined() == []
                await fail(lamp)
                await asyncio.sleep(100)
            assert system.quarantined() == ["lamp"]
        assert pauses_of(trace) == ["1 s", "1 s"]

    sim(scenario, seeds=range(1))


def test_after_a_release_the_pause_begins_anew(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        trace, script = Trace(), Script(count=raising(ValueError))
        policy = RestartPolicy(jitter=0, first_delay_s=1, max_restarts=2, within_s=1_000)
        lamp_class = lamp_of(Style.ASYNC, on_failure=RESTART, restart=policy)
        async with SUSPENDING.system(lamp_class, services=script, trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            for _ in range(3):
                await fail(lamp)
            system.release("lamp")
            await fail(lamp)
        assert pauses_of(trace) == ["1 s", "2 s", "1 s"]

    sim(scenario, seeds=range(1))


def test_thousands_of_failures_in_a_row_do_not_overflow(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script(count=times(1_100, raising(ValueError)))
        policy = RestartPolicy(max_restarts=10**9, within_s=1e9, first_delay_s=0.001, max_delay_s=0.001)
        lamp_class = lamp_of(Style.ASYNC, on_failure=RESTART, restart=policy)
        async with SUSPENDING.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            for _ in range(1_100):
                await fail(lamp)
            assert await lamp.ask(Count()) == 1
        script = Script(count=times(1_100, raising(ValueError)))
        redelivery = Redelivery(attempts=1_100, first_delay_s=0.001, max_delay_s=0.001)
        lamp_class = lamp_of(Style.ASYNC, redelivery=redelivery)
        async with SUSPENDING.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            assert await lamp.ask(Count(), timeout=100) == 1

    sim(scenario, seeds=range(1))


# -- births --------------------------------------------------------------------------------------------------------


@on_every_path
@pytest.mark.parametrize("error", [ValueError, lambda: Veto("no")], ids=["fails", "is vetoed"])
def test_the_next_birth_in_the_queue_gets_its_chance_when_the_first_one_fails(
    path: Path, error: Callable[[], BaseException], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script(birth=times(1, raising(error)))
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=script) as system:
            first, between, second, after = (
                system.tell("lamp", event) for event in (Birth(), Count(n=1), Birth(), Count(n=2))
            )
            assert not (await first.outcome()).success
            assert (await between.outcome()).kind == "dead_lettered"
            assert (await second.outcome()).success
            assert (await after.outcome()).reply == 1
            assert system.snapshot("lamp").data["seen"] == (2,)
            assert system.stats().balance == 0

    sim(scenario)


@on_every_async_path
def test_the_next_birth_in_the_queue_gets_its_chance_when_the_first_one_is_left_behind(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        stubborn = Stubborn()
        script = Script(birth=stubborn)
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=script, limits=Limits(grace_s=0.5)) as system:
            first, between = system.tell("lamp", Birth()), system.tell("lamp", Count())
            await asyncio.sleep(0.5)
            script.does = {}
            second, after = system.tell("lamp", Birth()), system.tell("lamp", Count())
            assert (await first.outcome()).kind == "failed"
            assert (await between.outcome()).kind == "dead_lettered"
            assert (await second.outcome()).success
            assert (await after.outcome()).reply == 1
            await stubborn.let_go()

    sim(scenario)


def test_who_waits_for_a_birth_tries_it_again_when_it_fails(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async def slow_veto(machine: Any) -> None:
            await asyncio.sleep(0.5)
            raise Veto("no")

        script = Script(birth=times(1, slow_veto))
        lamp_class = lamp_of(Style.ASYNC)
        async with SUSPENDING.system(lamp_class, services=script) as system:
            born = system.tell("lamp", Birth())
            await asyncio.sleep(0.1)
            waiting = asyncio.ensure_future(system.get_or_spawn(lamp_class, "lamp"))
            hasty = asyncio.ensure_future(system.get_or_spawn(lamp_class, "lamp"))
            await asyncio.sleep(0.1)
            hasty.cancel()
            assert (await born.outcome()).kind == "vetoed"
            assert (await waiting).snapshot().seq == 1

    sim(scenario)


@on_every_path
def test_a_birth_that_expires_while_it_waits_to_be_tried_again_leaves_the_id_unknown(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script(birth=raising(ValueError))
        lamp_class = lamp_of(path.style, redelivery=Redelivery(attempts=5, first_delay_s=5))
        async with path.system(lamp_class, services=script) as system:
            with pytest.raises(Exception, match="deadline"):
                await system.ask("lamp", Birth(), timeout=1)
            await asyncio.sleep(10)
            assert system.ids() == []
            with pytest.raises(NoSuchMachine):
                await system.ask("lamp", Count())
            assert system.stats().balance == 0

    sim(scenario)


# -- stops ---------------------------------------------------------------------------------------------------------


@on_every_async_path
def test_a_machine_that_is_told_to_stop_while_its_hook_hangs_stops_when_the_hook_is_left_behind(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        stubborn, trace = Stubborn(), Trace()
        lamp_class = lamp_of(path.style)
        limits, script = Limits(grace_s=0.5), Script(body=stubborn)
        async with path.system(lamp_class, services=script, trace=trace, limits=limits) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            receipt = lamp.tell(Switch())
            await asyncio.sleep(0.25)
            waiting = asyncio.ensure_future(lamp.ask(Count()))
            await asyncio.sleep(0.25)
            await asyncio.gather(system.stop("lamp"), system.stop("lamp"))
            assert (await receipt.outcome()).kind == "failed"
            with pytest.raises(MachineStopped):
                await waiting
            assert trace.names() == ["committed", "failed", "dead_lettered", "stopped"]
            await stubborn.let_go()

    sim(scenario)


@pytest.mark.parametrize("queues", ["finish", "abandon"])
def test_who_waits_for_a_birth_is_told_when_the_system_stops(queues: str, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script(birth=lambda machine: asyncio.sleep(1e9))
        lamp_class = lamp_of(Style.ASYNC, hook_timeout=1e8)
        async with SUSPENDING.system(lamp_class, services=script) as system:
            system.tell("lamp", Birth())
            await asyncio.sleep(0.1)
            waiting = asyncio.ensure_future(system.get_or_spawn(lamp_class, "lamp"))
            await asyncio.sleep(0.1)
            await system.shutdown(queues=queues, timeout=1)
            with pytest.raises(SystemStopping):
                await waiting
            assert system.ids() == []

    sim(scenario)


@on_every_async_path
def test_a_stop_that_is_given_up_does_not_hurt_the_machine_that_stops(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(path.style, hook_timeout=100)
        script = Script(body=lambda machine: asyncio.sleep(1))
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            switched = lamp.tell(Switch())
            await asyncio.sleep(0.5)
            stopping = asyncio.ensure_future(system.stop("lamp"))
            await asyncio.sleep(0.1)
            stopping.cancel()
            assert (await switched.outcome()).success
            await asyncio.sleep(0.1)
            assert system.ids() == []

    sim(scenario)


@on_every_path
def test_a_stop_after_the_system_has_stopped_does_not_hang(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script()) as system:
            await system.spawn(lamp_class, "lamp")
        await system.stop("lamp")
        assert asyncio.get_running_loop().time() == 0

    sim(scenario)


# -- the operator --------------------------------------------------------------------------------------------------


def test_a_callback_to_the_operator_has_the_deadline_of_all_callbacks(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async def hang(machine_id: str, cause: BaseException) -> None:
            await asyncio.sleep(1e9)

        lamp_class = lamp_of(Style.ASYNC, on_failure=RESTART, restart=RestartPolicy(max_restarts=0))
        script, limits = Script(count=raising(ValueError)), Limits(callback_timeout_s=2)
        async with SUSPENDING.system(
            lamp_class, services=script, limits=limits, on_quarantine=hang
        ) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await fail(lamp)
            await asyncio.sleep(2.1)
            assert system.stats().callbacks_failed == 1
        assert asyncio.get_running_loop().time() == 2.1

    sim(scenario)


def test_an_interrupt_in_a_callback_to_the_operator_is_passed_on() -> None:
    def interrupt(machine_id: str, cause: BaseException) -> None:
        raise KeyboardInterrupt

    async def scenario() -> None:
        lamp_class = lamp_of(Style.ASYNC, on_failure=RESTART, restart=RestartPolicy(max_restarts=0))
        script = Script(count=raising(ValueError))
        async with SUSPENDING.system(lamp_class, services=script, on_quarantine=interrupt) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await fail(lamp)
            await asyncio.sleep(1e9)

    loop = SimLoop()
    main = loop.create_task(scenario())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(main)
    main.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(main)
    assert loop.leftovers() == ()
    loop.close()


@on_every_path
def test_a_veto_at_birth_leaves_the_id_unknown(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script(birth=raising(lambda: Veto("no")))) as system:
            with pytest.raises(Vetoed):
                await system.ask("lamp", Birth())
            assert system.ids() == []

    sim(scenario)


@on_every_path
def test_a_machine_that_stops_itself_answers_what_waits_and_frees_its_id(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        trace, script = Trace(), Script(count=lambda machine: machine.stop())
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=script, trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            stopping, waiting = lamp.tell(Count()), lamp.tell(Count())
            assert (await stopping.outcome()).success
            assert (await waiting.outcome()).reason == "lamp stopped itself before it came to Count"
            assert trace.names() == ["committed", "committed", "dead_lettered", "stopped"]
            assert await (await system.spawn(lamp_class, "lamp")).ask(Switch()) == "on"

    sim(scenario)


@on_every_async_path
def test_who_waits_for_room_at_a_machine_that_is_never_born_is_told(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async def slow_veto(machine: Any) -> None:
            await asyncio.sleep(0.5)
            raise Veto("no")

        policy = MailboxPolicy(capacity=1, overflow=Overflow.WAIT)
        lamp_class = lamp_of(path.style, mailbox=policy)
        async with path.system(lamp_class, services=Script(birth=slow_veto)) as system:
            system.tell("lamp", Birth())
            await asyncio.sleep(0.1)
            waiting = [system.tell("lamp", Count()) for _ in range(3)]
            assert (await waiting[0].outcome()).kind == "dead_lettered"
            for receipt in waiting[1:]:
                with pytest.raises(NoSuchMachine, match="was not born"):
                    await receipt.accepted()
            assert system.ids() == []
            assert system.stats().balance == 0

    sim(scenario)
