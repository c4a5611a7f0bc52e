"""C15: a restart keeps the id, every ref and the mail in order, and starts from the last committed state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actorfsm import Directive, Expired, HookFailed, Limits, RestartPolicy
from tests.contract.lamp import (
    ALL_USES,
    Count,
    Later,
    State,
    Stubborn,
    Switch,
    Trace,
    lamp_of,
    raising,
    times,
)
from tests.contract.paths import Path, Script, on_every_async_path, on_every_path

pytestmark = pytest.mark.rule("C15")
RESTART = {Exception: Directive.RESTART}


@on_every_path
def test_a_restart_keeps_the_id_refs_and_queued_and_postponed_events_in_order(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script(body=times(1, raising(ValueError)))
        lamp_class = lamp_of(path.style, on_failure=RESTART)
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            receipts = [lamp.tell(Later(n=1)), lamp.tell(Count(n=2)), lamp.tell(Later(n=3))]
            failed = lamp.tell(Switch())
            receipts += [lamp.tell(Later(n=4)), lamp.tell(Count(n=5))]
            assert (await failed.outcome()).kind == "failed"
            receipts += [lamp.tell(Later(n=6)), lamp.tell(Count(n=7))]  # during the backoff
            assert system.stats().balance == 0
            switched = lamp.tell(Switch())
            for receipt in [*receipts, switched]:
                assert (await receipt.outcome()).success
            assert lamp.snapshot().data["seen"] == (2, 5, 7, 1, 3, 4, 6)
            assert lamp.snapshot().incarnation == 1
            assert system.ref(lamp_class, "lamp") == lamp
            assert system.ids() == ["lamp"]

    sim(scenario)


@on_every_path
def test_a_restart_starts_from_the_last_committed_state(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script()
        lamp_class = lamp_of(path.style, on_failure=RESTART)
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await lamp.ask(Switch())
            assert await lamp.ask(Count(n=1)) == 2
            before = lamp.snapshot()
            script.does = {"count": times(1, raising(ValueError))}
            with pytest.raises(HookFailed):
                await lamp.ask(Count(n=2))
            after = lamp.snapshot()
            assert (after.state, after.data, after.seq) == (State.ON, before.data, before.seq)
            assert await lamp.ask(Count(n=3)) == 3
            assert script.calls.count("enter") == 1  # no hook runs at a restart

    sim(scenario)


@on_every_path
def test_incarnations_are_counted_per_machine_and_shown_in_the_trace(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script, trace = Script(count=times(2, raising(ValueError))), Trace()
        lamp_class = lamp_of(path.style, on_failure=RESTART)
        async with path.system(lamp_class, services=script, trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            other = await system.spawn(lamp_class, "other")
            for _ in range(2):
                with pytest.raises(HookFailed):
                    await lamp.ask(Count())
            await lamp.ask(Count())
            assert (lamp.snapshot().incarnation, other.snapshot().incarnation) == (2, 0)
            assert [(record.name, record.incarnation) for record in trace if record.machine_id == "lamp"] == [
                *(("committed", 0), ("failed", 0), ("restarted", 1), ("failed", 1), ("restarted", 2)),
                ("committed", 2),
            ]

    sim(scenario)


@on_every_path
def test_a_remembered_event_id_survives_a_restart(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script()
        lamp_class = lamp_of(path.style, on_failure=RESTART)
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            assert await lamp.ask(Count(), event_id="once") == 1
            script.does = {"count": times(1, raising(ValueError))}
            with pytest.raises(HookFailed):
                await lamp.ask(Count())
            assert await lamp.ask(Count(), event_id="once") == 1
            assert await lamp.ask(Count()) == 2

    sim(scenario)


@on_every_async_path
def test_what_the_old_incarnation_left_behind_is_fenced_off(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        stubborn = Stubborn()
        told: list[Any] = []

        async def tell_and_hang(machine: Any) -> None:
            machine.count = 50
            told.append(machine.tell("lamp", Count(n=50)))
            machine.next_event(Count(n=51))
            await stubborn(machine)

        script = Script(body=tell_and_hang)
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=script, limits=Limits(grace_s=0.5)) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            with pytest.raises(HookFailed):
                await lamp.ask(Switch())
            assert await lamp.ask(Count(n=1)) == 1
            await stubborn.let_go()
            assert stubborn.stale == ALL_USES
            assert await lamp.ask(Count(n=2)) == 2
            assert lamp.snapshot().data["seen"] == (1, 2)
            assert "refused: Discarded" in repr(told[0])

    sim(scenario)


@on_every_path
def test_an_ask_that_waits_during_a_restart_is_answered_and_its_deadline_keeps_running(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script(body=times(1, raising(ValueError)))
        lamp_class = lamp_of(path.style, on_failure=RESTART, restart=RestartPolicy(first_delay_s=5))
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            failed = lamp.tell(Switch())
            assert (await failed.outcome()).kind == "failed"
            patient = asyncio.ensure_future(lamp.ask(Count(n=1)))
            hasty = asyncio.ensure_future(lamp.ask(Count(n=2), timeout=1))
            with pytest.raises(Expired, match="had not begun Count"):
                await hasty
            assert await patient == 1
            assert lamp.snapshot().data["seen"] == (1,)

    sim(scenario)


@on_every_path
def test_a_machine_that_waits_for_its_restart_can_be_stopped(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script(body=raising(ValueError))
        lamp_class = lamp_of(path.style, on_failure=RESTART)
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            with pytest.raises(HookFailed):
                await lamp.ask(Switch())
            waiting = lamp.tell(Count())
            await system.stop("lamp")
            assert (await waiting.outcome()).kind == "dead_lettered"
            again = await system.spawn(lamp_class, "lamp")
            assert again.snapshot().incarnation == 0
            assert await again.ask(Count()) == 1

    sim(scenario)
