"""C12, C31: an operator holds a machine and lets it go on; that overtakes its mail and loses none of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from actorfsm import (
    Directive,
    Expired,
    HookFailed,
    Limits,
    MachineStopped,
    MailboxFull,
    MailboxPolicy,
    NoSuchMachine,
    Overflow,
    Redelivery,
    RestartPolicy,
    SystemStopping,
    WrongThread,
)
from tests.contract.lamp import Count, Later, Switch, Trace, lamp_of, raising, times
from tests.contract.paths import Path, Script, Style, at_rest, on_every_async_path, on_every_path

pytestmark = [pytest.mark.rule("C31"), pytest.mark.rule("C12")]


@on_every_path
def test_a_suspended_machine_keeps_its_mail_in_order_and_handles_it_when_it_is_resumed(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        lamp_class, trace = lamp_of(path.style), Trace()
        async with path.system(lamp_class, services=Script(), trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await lamp.ask(Count(n=0))
            await at_rest(system)
            system.suspend("lamp")
            told = [lamp.tell(Count(n=n)) for n in (1, 2)]
            asked = asyncio.ensure_future(lamp.ask(Count(n=3)))
            await asyncio.sleep(5)
            assert (system.inspect("lamp").status, system.inspect("lamp").queued) == ("suspended", 3)
            assert lamp.snapshot().data["seen"] == (0,)
            assert (system.suspended(), system.stats().suspended) == (["lamp"], 1)
            system.resume("lamp")
            assert await asked == 4
            assert [(await receipt.outcome()).kind for receipt in told] == ["committed"] * 2
            assert lamp.snapshot().data["seen"] == (0, 1, 2, 3)
            assert (system.suspended(), system.stats().suspended) == ([], 0)
            assert trace.names() == ["committed"] * 2 + ["suspended", "resumed"] + ["committed"] * 3

    sim(scenario)


@on_every_path
def test_suspending_overtakes_the_mailbox_of_a_machine_that_is_ready(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script()) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await at_rest(system)
            for n in range(20):
                lamp.tell(Count(n=n))
            assert system.inspect("lamp").status == "ready"
            system.suspend("lamp")
            await asyncio.sleep(1)
            assert lamp.snapshot().data["seen"] == ()
            for _ in range(
                3
            ):  # again and again: it stands in the queue once, and the machine has one turn at a time
                system.resume("lamp")
                system.suspend("lamp")
            system.resume("lamp")
            await asyncio.sleep(1)
            assert lamp.snapshot().data["seen"] == tuple(range(20))

    sim(scenario)


@on_every_async_path
def test_it_takes_effect_after_the_event_that_is_being_handled(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async def slow(machine: Any) -> None:
            await asyncio.sleep(0.5)

        lamp_class, trace = lamp_of(path.style), Trace()
        async with path.system(lamp_class, services=Script(count=slow), trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            for n in range(5):
                lamp.tell(Count(n=n))
            await asyncio.sleep(0.1)
            system.suspend("lamp")
            seen = system.inspect("lamp")
            assert (seen.status, seen.is_suspended, seen.queued) == ("running", True, 4)
            assert "running, to be suspended" in str(seen)
            assert trace[-1].reason == "after the event that is being handled"
            await asyncio.sleep(10)
            assert lamp.snapshot().data["seen"] == (0,)
            assert system.inspect("lamp").status == "suspended"
            assert "to be suspended" not in str(system.inspect("lamp"))
            system.resume("lamp")
            await asyncio.sleep(10)
            assert lamp.snapshot().data["seen"] == tuple(range(5))

    sim(scenario)


@on_every_async_path
def test_one_that_is_resumed_before_it_took_effect_goes_on_as_if_nothing_had_been(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async def slow(machine: Any) -> None:
            await asyncio.sleep(0.5)

        lamp_class, trace = lamp_of(path.style), Trace()
        async with path.system(lamp_class, services=Script(count=slow), trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            first, second = lamp.tell(Count(n=0)), lamp.tell(Count(n=1))
            await asyncio.sleep(0.1)
            system.suspend("lamp")
            system.resume("lamp")
            assert (await first, await second) != (None, None)
            assert trace.names() == ["committed", "suspended", "resumed", "committed", "committed"]

    sim(scenario)


@on_every_path
def test_own_events_wait_too(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        def raise_more(machine: Any) -> None:
            if machine.count < 3:
                machine.next_event(Count(n=machine.count))
                asked_to_suspend()

        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script(count=raise_more)) as system:
            lamp = await system.spawn(lamp_class, "lamp")

            def asked_to_suspend() -> None:
                if machine_count() == 0:
                    system.suspend("lamp")

            def machine_count() -> int:
                count: int = lamp.snapshot().data["count"]
                return count

            await lamp.ask(Count(n=9))
            await asyncio.sleep(1)
            assert (lamp.snapshot().data["count"], system.inspect("lamp").queued) == (1, 1)
            system.resume("lamp")
            await asyncio.sleep(1)
            assert lamp.snapshot().data["seen"] == (9, 1, 2)

    sim(scenario)


@on_every_path
def test_asks_expire_at_their_deadlines_and_the_mailbox_stays_bounded(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        lamp_class = lamp_of(path.style, mailbox=MailboxPolicy(capacity=2))
        async with path.system(lamp_class, services=Script()) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await at_rest(system)
            system.suspend("lamp")
            kept = lamp.tell(Count(n=1))
            asked = asyncio.ensure_future(lamp.ask(Count(n=2), timeout=3))
            await asyncio.sleep(0.1)
            with pytest.raises(MailboxFull):
                await lamp.ask(Count(n=3))
            with pytest.raises(Expired):
                await asked
            assert loop.time() == pytest.approx(3, abs=0.06)
            assert system.inspect("lamp").queued == 1
            system.resume("lamp")
            assert (await kept.outcome()).success
            assert lamp.snapshot().data["seen"] == (1,)

    sim(scenario)


@on_every_path
def test_those_who_wait_for_room_come_in_when_an_ask_expires(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        policy = MailboxPolicy(capacity=1, overflow=Overflow.WAIT, wait_timeout_s=60)
        lamp_class = lamp_of(path.style, mailbox=policy)
        async with path.system(lamp_class, services=Script()) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await at_rest(system)
            system.suspend("lamp")
            asked = asyncio.ensure_future(lamp.ask(Count(n=1), timeout=1))
            await asyncio.sleep(0.1)
            outside = lamp.tell(Count(n=2))
            assert system.inspect("lamp").outside == 1
            with pytest.raises(Expired):
                await asked
            await outside.accepted()
            assert (system.inspect("lamp").outside, system.inspect("lamp").queued) == (0, 1)
            system.resume("lamp")
            assert (await outside.outcome()).success

    sim(scenario, seeds=range(2))


@on_every_path
def test_to_suspend_or_resume_twice_is_to_do_it_once(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class, trace = lamp_of(path.style), Trace()
        async with path.system(lamp_class, services=Script(), trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await at_rest(system)
            system.resume("lamp")
            for _ in range(2):
                system.suspend("lamp")
            waiting = lamp.tell(Count())
            for _ in range(2):
                system.resume("lamp")
            assert (await waiting.outcome()).success
            assert trace.names() == ["committed", "suspended", "resumed", "committed"]
            assert (trace[1].source, trace[1].seq, trace[1].event_type) == ("OFF", 1, "")

    sim(scenario, seeds=range(2))


def test_unknown_ids_and_other_threads_are_typed_errors(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(Style.ASYNC)
        async with Path(Style.ASYNC, inline=True).system(lamp_class, services=Script()) as system:
            await system.spawn(lamp_class, "lamp")
            for call in (system.suspend, system.resume, system.inspect):
                with pytest.raises(NoSuchMachine, match="nobody"):
                    call("nobody")
                with pytest.raises(NoSuchMachine):
                    call(None)  # type: ignore[arg-type]
            caught: list[type[BaseException]] = []

            def elsewhere() -> None:
                calls: list[Callable[[], Any]] = [
                    lambda: system.suspend("lamp"),
                    lambda: system.resume("lamp"),
                    lambda: system.inspect("lamp"),
                    system.transitions,
                ]
                for call in calls:
                    try:
                        call()
                    except WrongThread as error:
                        caught.append(type(error))

            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            assert caught == [WrongThread] * 4
            assert system.suspended() == []
        with pytest.raises(NoSuchMachine, match="stopped with the system"):
            system.suspend("lamp")
        with pytest.raises(SystemStopping):
            Path(Style.ASYNC, inline=True).system(lamp_class).suspend("lamp")

    sim(scenario, seeds=range(1))


@on_every_path
def test_a_pause_before_a_restart_ends_in_suspension_and_a_resume_does_not_shorten_it(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        lamp_class = lamp_of(
            path.style,
            on_failure={Exception: Directive.RESTART},
            restart=RestartPolicy(jitter=0, first_delay_s=10),
        )
        script = Script(body=times(2, raising(ValueError)))
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            with pytest.raises(HookFailed):
                await lamp.ask(Switch())
            waiting = lamp.tell(Count())
            system.suspend("lamp")
            assert (system.inspect("lamp").status, system.inspect("lamp").is_suspended) == ("paused", True)
            await asyncio.sleep(100)
            assert (system.inspect("lamp").status, lamp.snapshot().seq) == ("suspended", 1)
            system.resume("lamp")
            assert (await waiting.outcome()).success
            with pytest.raises(HookFailed):
                await lamp.ask(Switch())
            system.suspend("lamp")
            system.resume("lamp")  # the pause itself goes on
            before = loop.time()
            await lamp.ask(Count(), timeout=1_000)
            assert loop.time() >= before + 10

    sim(scenario, seeds=range(2))


@on_every_path
def test_an_event_that_is_to_be_delivered_again_waits_and_is_first(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(path.style, redelivery=Redelivery(attempts=3, first_delay_s=1))
        script = Script(body=times(1, raising(ValueError)))
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            again = lamp.tell(Switch())
            await at_rest(system)
            after = lamp.tell(Count(n=7))
            system.suspend("lamp")
            await asyncio.sleep(60)
            assert (system.inspect("lamp").status, system.inspect("lamp").queued) == ("suspended", 2)
            assert script.calls.count("body") == 1
            system.resume("lamp")
            assert (await again.outcome()).seq == 2
            assert (await after.outcome()).seq == 3

    sim(scenario, seeds=range(2))


@on_every_path
def test_quarantine_goes_before_suspension_and_leads_back_to_it(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(
            path.style, on_failure={Exception: Directive.RESTART}, restart=RestartPolicy(max_restarts=0)
        )
        script = Script(body=times(1, raising(ValueError)))
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            failing, held = lamp.tell(Switch()), lamp.tell(Count())
            await failing.outcome()
            system.suspend("lamp")
            assert (system.inspect("lamp").status, system.suspended()) == ("quarantined", ["lamp"])
            assert system.quarantined() == ["lamp"]
            system.release("lamp")
            await asyncio.sleep(1)
            assert (system.inspect("lamp").status, lamp.snapshot().seq) == ("suspended", 1)
            system.resume("lamp")
            assert (await held.outcome()).success

    sim(scenario, seeds=range(2))


@on_every_path
def test_a_suspended_machine_can_be_seen_and_stopped_and_its_mail_is_answered(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script()) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await at_rest(system)
            system.suspend("lamp")
            told = lamp.tell(Count())
            asked = asyncio.ensure_future(lamp.ask(Count()))
            await asyncio.sleep(0.1)
            assert lamp.snapshot().seq == 1
            await system.stop("lamp")
            with pytest.raises(MachineStopped):
                await asked
            assert (await told.outcome()).kind == "dead_lettered"
            assert system.suspended() == []
            again = await system.spawn(lamp_class, "lamp")
            assert await again.ask(Count()) == 1

    sim(scenario)


@on_every_path
def test_postponed_events_stay_postponed(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script()) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            later = lamp.tell(Later(n=1))
            await at_rest(system)
            system.suspend("lamp")
            switch = lamp.tell(Switch())
            assert (system.inspect("lamp").postponed, system.inspect("lamp").queued) == (1, 1)
            system.resume("lamp")
            assert (await switch.outcome()).success
            assert (await later.outcome()).success
            assert lamp.snapshot().data["seen"] == (1,)

    sim(scenario)


@on_every_path
@pytest.mark.rule("C19")
def test_at_the_end_what_a_suspended_machine_holds_is_answered_and_counted_and_nobody_waits_for_it(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script()) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            other = await system.spawn(lamp_class, "other")
            await at_rest(system)
            system.suspend("lamp")
            told, fine = lamp.tell(Count()), other.tell(Count())
            asked = asyncio.ensure_future(lamp.ask(Count()))
            await asyncio.sleep(0.1)
        with pytest.raises(SystemStopping):
            await asked
        assert (await told.outcome()).error.type == "SystemStopping"
        assert (await fine.outcome()).success
        report = system.report
        assert report is not None
        assert (report.finished, report.abandoned, report.unstopped) == (True, 2, ())
        assert loop.time() < 1
        assert system.stats().balance == 0

    sim(scenario)


@on_every_path
@pytest.mark.rule("C19")
def test_messages_of_machines_that_wait_for_room_at_a_suspended_one_do_not_hold_up_the_end(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        lamp_class = lamp_of(path.style, mailbox=MailboxPolicy(capacity=1, wait_timeout_s=60))

        def pass_on(machine: Any) -> None:
            if machine.id == "sender":
                machine.tell("lamp", Count())

        async with path.system(
            lamp_class, services=Script(count=pass_on), limits=Limits(stop_timeout_s=50)
        ) as system:
            await system.spawn(lamp_class, "lamp")
            sender = await system.spawn(lamp_class, "sender")
            await at_rest(system)
            system.suspend("lamp")
            for _ in range(3):
                await sender.ask(Count())
            await at_rest(system)
            assert (system.inspect("lamp").queued, system.inspect("lamp").outside) == (1, 2)
            assert system.stats().outgoing == 2
        assert loop.time() < 1
        assert system.report is not None
        assert system.report.abandoned == 3
        assert system.stats().balance == 0

    sim(scenario, seeds=range(2))
