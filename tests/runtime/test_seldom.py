"""What happens seldom, and has to be right all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actorfsm import ActorSystem, Limits, SystemFailed
from tests.contract.lamp import Count, Reset, Switch, lamp_of
from tests.contract.paths import Path, Script, Style, until
from tests.contract.puppet import Do, Eager


@pytest.mark.rule("C17")
@pytest.mark.parametrize("inline", [True, False])
def test_a_fault_that_strikes_while_a_guard_looks_ends_its_turn_too(
    inline: bool, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        path = Path(Style.SUSPENDING, inline)
        systems: list[Any] = []
        lamp_class = lamp_of(path.style)

        async def main(system: Any) -> None:
            systems.append(system)
            async with system:
                lamp = await system.spawn(lamp_class, "lamp")
                before, behind = lamp.tell(Count()), asyncio.ensure_future(lamp.ask(Switch()))
                with pytest.raises(SystemFailed):
                    await behind
                assert (await before).success

        def fault(machine: Any) -> bool:
            systems[0]._parts.on_failure(ZeroDivisionError("a fault of the runtime"))
            return True

        with pytest.raises(SystemFailed):
            await main(path.system(lamp_class, services=Script(guard=fault)))
        assert systems[0].stats().balance == 0

    sim(scenario)


@pytest.mark.rule("C20")
def test_what_waits_nowhere_is_not_taken_back_twice(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(Style.PLAIN)
        async with ActorSystem(lamp_class, services=Script(), trace=None) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            system.suspend("lamp")
            parts = system._parts
            sent = parts.admission.send("lamp", Reset(), None)
            other = lamp.tell(Count())
            actor = parts.registry.actors["lamp"]
            for _ in range(2):
                parts.dispatcher.withdraw(actor, sent)
                assert (system.stats().withdrawn, system.stats().queued, system.stats().balance) == (1, 1, 0)
            system.resume("lamp")
            assert (await other).success

    sim(scenario)


@pytest.mark.rule("C31")
def test_who_sent_an_event_is_named_as_long_as_the_ring_remembers_it(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        gate = asyncio.get_running_loop().create_future()

        async def wait(machine: Any) -> None:
            await gate

        scripts = {"wait": wait, "send": lambda machine: machine.tell("b", Do(script="wait")) and None}
        async with ActorSystem(Eager, services=scripts, trace=None, limits=Limits(transitions=2)) as system:
            for name in "abc":
                await system.spawn(Eager, name)
            await system.ask("a", Do(script="send"))
            await until(lambda: system.inspect("b").running is not None)
            await system.ask("c", Do())  # the newest, which is looked at first
            named = system.inspect("b").running
            await system.ask("c", Do())
            forgotten = system.inspect("b").running
            assert (named.sent_by, forgotten.sent_by) == ("a", None)
            gate.set_result(None)

    sim(scenario)


@pytest.mark.rule("C19")
def test_a_cancellation_of_somebody_else_outlives_that_of_a_system_that_failed() -> None:
    async def body() -> None:
        async with ActorSystem(Eager, trace=None) as system:
            system._parts.on_failure(ZeroDivisionError("a fault of the runtime"))
            asyncio.current_task().cancel("somebody else")  # before the body was woken

    async def main() -> asyncio.Task[None]:
        task = asyncio.ensure_future(body())
        await asyncio.wait([task])
        return task

    assert asyncio.run(main()).cancelled()
