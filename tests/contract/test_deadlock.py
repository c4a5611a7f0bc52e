"""C9: an ask that would wait for itself fails at once and says its path; what cannot deadlock is let through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum, auto
from typing import Any

import pytest

from actorfsm import (
    AskCycle,
    AskTimeout,
    Expired,
    HookFailed,
    Machine,
    Outcome,
    Vetoed,
    after_transition,
    on_enter,
    transition,
)
from tests.contract.puppet import Do, Eager, Hold, LetGo, Suspending, took_path


class Lamp(StrEnum):
    OFF = auto()
    ON = auto()


pytestmark = pytest.mark.rule("C9")


@pytest.fixture(params=[Eager, Suspending], ids=["eager", "suspending"])
def puppet(request: pytest.FixtureRequest) -> type[Any]:
    return request.param


@pytest.fixture
def run(
    puppet: type[Any], inline: bool, system_of: Callable[..., Any], sim: Callable[..., None]
) -> Callable[..., None]:
    """Run a scenario `(system, scripts, loop)` with the machines a to f; at its end no wait edge may be left."""

    def do(scenario: Callable[..., Any], **options: Any) -> None:
        async def main() -> None:
            scripts: dict[Any, Any] = {}
            async with system_of(puppet, services=scripts, **options) as system:
                for machine_id in "abcdef":
                    await system.spawn(puppet, machine_id)
                await scenario(system, scripts, asyncio.get_running_loop())
                await asyncio.sleep(0.1)
                assert len(system._parts.waits) == 0
                assert system.stats().balance == 0
                assert took_path(system.stats(), puppet, inline=inline)

        sim(main)

    return do


def asks(*targets: str, script: str = "") -> Callable[[Any], Any]:
    """Return a script that asks the first target to ask the next, and so on; the last runs `script`."""

    async def ask_on(machine: Any) -> Any:
        return await machine.ask(targets[0], Do(script=script))

    return ask_on


async def caught_cycle(coroutine: Any) -> AskCycle:
    """Return the cycle at the bottom of a failed ask."""
    with pytest.raises((HookFailed, AskCycle)) as caught:
        await coroutine
    error: Any = caught.value
    while not isinstance(error, AskCycle):
        error = error.__cause__
    return error


def test_a_machine_that_asks_itself_is_told_so_at_once(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        scripts["self"] = asks("a")
        cycle = await caught_cycle(system.ask("a", Do(script="self")))
        assert cycle.path == ("a", "a")
        assert (cycle.machine_id, type(cycle.event)) == ("a", Do)
        assert "a -> a" in str(cycle)
        assert loop.time() == 0
        assert system.snapshot("a").seq == 1

    run(scenario)


@pytest.mark.parametrize("place", ["before", "exit", "body", "enter"])
def test_a_to_b_to_a_fails_at_once_from_every_hook(place: str, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        scripts["start", place] = asks("b", script="back")
        scripts["back", place] = asks("a")
        cycle = await caught_cycle(system.ask("a", Do(script="start")))
        assert cycle.path == ("b", "a", "b")
        assert loop.time() == 0

    run(scenario)


def test_the_refused_asker_may_go_on(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        async def back(machine: Any) -> str:
            with pytest.raises(AskCycle):
                await machine.ask("a", Do())
            return "done nevertheless"

        scripts["start"], scripts["back"] = asks("b", script="back"), back
        assert await system.ask("a", Do(script="start")) == "done nevertheless"

    run(scenario)


def test_two_independent_asks_that_meet_do_not_wait_for_each_other(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        async def meet(machine: Any) -> str:
            await asyncio.sleep(1)
            other = "b" if machine.id == "a" else "a"
            try:
                await machine.ask(other, Do())
            except AskCycle as cycle:
                return f"refused along {' '.join(cycle.path)}"
            return "served"

        scripts["meet"] = meet
        ends = await asyncio.gather(*(system.ask(machine_id, Do(script="meet")) for machine_id in "ab"))
        assert sorted(ends) in (["refused along a b a", "served"], ["refused along b a b", "served"])
        assert loop.time() == 1

    run(scenario)


def test_a_chain_of_five_that_comes_back_names_its_whole_path(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        for here, there in zip("abcde", "bcdea", strict=True):
            scripts[here] = asks(there, script=there)
        cycle = await caught_cycle(system.ask("a", Do(script="a")))
        assert cycle.path == ("e", "a", "b", "c", "d", "e")
        assert loop.time() == 0

    run(scenario)


def test_a_chain_of_five_that_ends_is_answered(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        for here, there in zip("abcd", "bcde", strict=True):
            scripts[here] = asks(there, script=there)
        scripts["e"] = lambda machine: "bottom"
        assert await system.ask("a", Do(script="a")) == "bottom"

    run(scenario)


def test_a_diamond_is_no_cycle(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        async def split(machine: Any) -> list[Any]:
            return await asyncio.gather(machine.ask("b", Do(script="on")), machine.ask("c", Do(script="on")))

        async def leaf(machine: Any) -> int:
            await asyncio.sleep(1)
            return 7

        scripts["split"], scripts["on"], scripts["leaf"] = split, asks("d", script="leaf"), leaf
        assert await system.ask("a", Do(script="split")) == [7, 7]
        assert loop.time() == 2  # one after the other at d

    run(scenario)


def test_a_cycle_through_gather_is_found(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        async def split(machine: Any) -> list[Any]:
            return await asyncio.gather(
                machine.ask("b", Do()), machine.ask("c", Do(script="back")), return_exceptions=True
            )

        async def back(machine: Any) -> str:
            with pytest.raises(AskCycle) as caught:
                await machine.ask("a", Do())
            assert caught.value.path == ("c", "a", "c")
            return "refused"

        scripts["split"], scripts["back"] = split, back
        assert await system.ask("a", Do(script="split")) == [None, "refused"]

    run(scenario)


def test_two_asks_to_one_machine_are_two_edges(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        async def twice(machine: Any) -> Any:
            first, second = await asyncio.gather(
                machine.ask("b", Do()), machine.ask("b", Do(script="back")), return_exceptions=True
            )
            return [first, second]

        async def back(machine: Any) -> str:
            await asyncio.sleep(1)  # the first of the two has long been answered
            with pytest.raises(AskCycle):
                await machine.ask("a", Do())
            return "refused"

        scripts["twice"], scripts["back"] = twice, back
        assert await system.ask("a", Do(script="twice")) == [None, "refused"]

    run(scenario)


def test_an_ask_through_a_ref_or_the_system_in_a_hook_is_an_ask_of_the_machine(
    run: Callable[..., None],
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        async def through_ref(machine: Any) -> Any:
            return await system.ref(type(machine), "b").ask(Do(script="system"))

        async def through_system(machine: Any) -> Any:
            return await system.ask("a", Do())

        scripts["ref"], scripts["system"] = through_ref, through_system
        assert (await caught_cycle(system.ask("a", Do(script="ref")))).path == ("b", "a", "b")

    run(scenario)


def test_a_task_started_in_a_hook_asks_for_the_machine(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        async def start(machine: Any) -> Any:
            return await asyncio.create_task(machine.ask("a", Do()))

        scripts["start"] = start
        assert (await caught_cycle(system.ask("a", Do(script="start")))).path == ("a", "a")

    run(scenario)


def test_an_after_hook_that_asks_its_own_machine_is_refused_and_the_event_stays_committed(
    run: Callable[..., None],
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        seen: list[Any] = []

        async def after(machine: Any) -> None:
            with pytest.raises(AskCycle) as caught:
                await machine.ask(machine.id, Do())
            seen.append(caught.value.path)

        scripts["go", "after"] = after
        await system.ask("a", Do(script="go", n=1))
        assert seen == [("a", "a")]
        assert system.snapshot("a").data == {"done": (1,)}

    run(scenario)


def test_an_after_hook_may_ask_the_machine_that_it_has_just_answered(run: Callable[..., None]) -> None:
    """The asker has its reply and goes on: there is nothing to wait for in a circle."""

    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        seen: list[Any] = []

        async def after(machine: Any) -> None:
            seen.append(await machine.ask("a", Do(n=2)))

        scripts["start"], scripts["serve", "after"] = asks("b", script="serve"), after
        await system.ask("a", Do(script="start", n=1))
        await asyncio.sleep(0.1)
        assert seen == [None]
        assert system.snapshot("a").data == {"done": (1, 2)}
        assert system.stats().after_hooks_failed == 0

    run(scenario)


def test_after_a_failure_the_edge_is_gone(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        def fail(machine: Any) -> None:
            raise ValueError("broken")

        async def try_it(machine: Any) -> str:
            with pytest.raises(HookFailed):
                await machine.ask("b", Do(script="fail"))
            with pytest.raises(Vetoed):
                await machine.ask("b", Do(script="no"))
            return "tried"

        scripts["fail"], scripts["try"] = fail, try_it
        scripts["no", "before"] = lambda machine: False
        assert await system.ask("a", Do(script="try")) == "tried"
        scripts["ask a"] = asks("a")
        await system.ask("b", Do(script="ask a"))
        assert len(system._parts.waits) == 0

    run(scenario)


def test_after_a_deadline_the_edge_is_gone(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        async def slow(machine: Any) -> str:
            await asyncio.sleep(5)
            return await machine.ask("a", Do(n=9)) or "served"

        async def impatient(machine: Any) -> str:
            with pytest.raises(AskTimeout):
                await machine.ask("b", Do(script="slow"), timeout=1)
            with pytest.raises(Expired):
                await machine.ask("b", Do(), timeout=timedelta(seconds=1))
            return "gave up"

        scripts["slow"], scripts["impatient"] = slow, impatient
        assert await system.ask("a", Do(script="impatient")) == "gave up"
        assert len(system._parts.waits) == 0
        await asyncio.sleep(10)
        assert system.snapshot("a").data["done"][-1] == 9

    run(scenario)


def test_after_a_cancelled_ask_the_edge_is_gone(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        async def slow(machine: Any) -> Any:
            await asyncio.sleep(5)
            return await machine.ask("a", Do(n=9))

        async def gives_up(machine: Any) -> str:
            task = asyncio.create_task(machine.ask("b", Do(script="slow"), timeout=60))
            await asyncio.sleep(1)
            task.cancel()
            await asyncio.wait([task])
            await asyncio.sleep(10)  # b asks meanwhile: a is busy, but does not wait for b
            return "gave up"

        scripts["slow"], scripts["gives up"] = slow, gives_up
        assert await system.ask("a", Do(script="gives up"), timeout=60) == "gave up"
        await asyncio.sleep(1)
        assert system.snapshot("a").data["done"] == (0, 9)

    run(scenario)


def test_what_a_hook_left_behind_does_not_count_as_waiting(run: Callable[..., None]) -> None:
    """The turn is over: the machine waits for nobody, even while its orphan has not yet noticed."""

    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        orphans: list[Any] = []

        async def stubborn(machine: Any) -> None:
            ask = asyncio.ensure_future(machine.ask("b", Do(script="back")))
            while not ask.done():
                try:
                    await asyncio.shield(ask)
                except asyncio.CancelledError:
                    await asyncio.sleep(0.1)

        async def leaves(machine: Any) -> str:
            orphans.append(asyncio.create_task(stubborn(machine)))
            await asyncio.sleep(1)
            return "left"

        async def back(machine: Any) -> Any:
            await asyncio.sleep(2)
            return await machine.ask("a", Do(n=9))

        scripts["leaves"], scripts["back"] = leaves, back
        assert await system.ask("a", Do(script="leaves")) == "left"
        await asyncio.sleep(5)
        assert system.snapshot("a").data["done"] == (0, 9)

    run(scenario)


def test_in_the_step_in_which_a_turn_ends_its_orphans_hold_no_edge(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        orphans: list[Any] = []

        async def leaves(machine: Any) -> str:
            orphans.append(asyncio.create_task(machine.ask("b", Do(script="wait"))))
            await asyncio.sleep(0.5)
            return "left"

        async def wait(machine: Any) -> None:
            await gate
            await machine.ask("a", Do(n=9))

        gate = loop.create_future()
        scripts["leaves"], scripts["wait"] = leaves, wait
        system.tell("a", Do(script="leaves"), callback=None)
        scripts["open", "after"] = lambda machine: gate.set_result(None)
        await asyncio.sleep(0.1)
        system.tell("a", Do(script="open", n=1))
        await asyncio.sleep(5)
        assert system.snapshot("a").data["done"] == (0, 1, 9)

    run(scenario)


@pytest.mark.parametrize("what", ["accepted", "outcome"])
def test_awaiting_the_receipt_of_an_own_message_in_the_own_turn_is_refused(
    what: str, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        async def waits(machine: Any) -> None:
            receipt = machine.tell("b", Do(n=5))
            with pytest.raises(AskCycle) as caught:
                await getattr(receipt, what)()
            assert caught.value.path == ("a", "b")

        scripts["waits"] = waits
        await system.ask("a", Do(script="waits"))
        await asyncio.sleep(0.1)
        assert system.snapshot("b").data["done"] == (5,)  # the message itself was sent
        assert loop.time() < 1

    run(scenario)


def test_awaiting_a_receipt_for_the_own_machine_in_the_own_turn_is_refused(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        receipts: list[Any] = []

        async def waits(machine: Any) -> None:
            with pytest.raises(AskCycle) as caught:
                await receipts[0]
            assert caught.value.path == ("a", "a")

        async def holds(machine: Any) -> None:
            await asyncio.sleep(1)
            await waits(machine)

        scripts["holds"] = holds
        task = asyncio.create_task(system.ask("a", Do(script="holds")))
        await asyncio.sleep(0.5)
        receipts.append(system.tell("a", Do(n=3)))
        await task
        outcome: Outcome = await receipts[0]
        assert outcome.success

    run(scenario)


def test_a_receipt_that_is_settled_may_be_awaited_anywhere(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        receipt = system.tell("a", Do(n=3))
        await receipt

        async def looks(machine: Any) -> str:
            return (await receipt).kind

        scripts["looks"] = looks
        assert await system.ask("a", Do(script="looks")) == "committed"

    run(scenario)


def test_a_machine_may_wait_for_a_receipt_of_another(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        receipt = system.tell("b", Do(script="slow"))

        async def slow(machine: Any) -> int:
            await asyncio.sleep(1)
            return 3

        async def waits(machine: Any) -> Any:
            return (await receipt).reply

        scripts["slow"], scripts["waits"] = slow, waits
        assert await system.ask("a", Do(script="waits")) == 3

    run(scenario)


def test_an_ask_to_a_machine_that_postpones_it_while_it_asks_back_is_a_cycle(
    run: Callable[..., None],
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        async def busy(machine: Any) -> None:
            await asyncio.sleep(1)
            await machine.ask("a", Do())

        scripts["start"], scripts["busy", "enter"] = asks("b"), busy
        await system.ask("b", Hold())
        waiting = asyncio.create_task(system.ask("a", Do(script="start", n=1)))
        await asyncio.sleep(0.5)
        assert system.stats().postponed == 1
        await system.ask("b", LetGo())
        await waiting
        assert loop.time() == 0.5

    run(scenario)


def test_a_birth_that_asks_the_machine_that_waits_for_it_is_a_cycle(
    inline: bool, system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    class Child(Machine[Lamp], initial=Lamp.OFF):
        @on_enter(Lamp.OFF)
        async def born(self, old: Lamp, new: Lamp) -> None:
            await self.services["born"](self)

    async def scenario() -> None:
        scripts: dict[Any, Any] = {}
        async with system_of(Eager, Child, services=scripts) as system:
            await system.spawn(Eager, "a")

            async def births(machine: Any) -> None:
                await system.spawn(Child, "child")

            async def born(machine: Any) -> None:
                await machine.ask("a", Do())

            scripts["births"], scripts["born"] = births, born
            cycle = await caught_cycle(system.ask("a", Do(script="births")))
            assert cycle.path == ("child", "a", "child")
            assert asyncio.get_running_loop().time() == 0
            assert system.ids() == ["a"]
            assert len(system._parts.waits) == 0

    sim(scenario)


@pytest.mark.parametrize("who", ["itself", "the other"])
def test_a_machine_that_waits_in_its_turn_for_a_birth_that_waits_for_it_is_told_so_at_once(
    who: str, system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    class Child(Machine[Lamp], initial=Lamp.OFF):
        @on_enter(Lamp.OFF)
        async def born(self, old: Lamp, new: Lamp) -> None:
            await asyncio.sleep(1)
            if who == "itself":
                await system_.get_or_spawn(Child, self.id)
            else:
                await self.ask("a", Do())

    system_: Any = None

    async def scenario() -> None:
        nonlocal system_
        scripts: dict[Any, Any] = {}
        async with system_of(Eager, Child, services=scripts) as system:
            system_ = system
            await system.spawn(Eager, "a")

            async def waits(machine: Any) -> None:
                await asyncio.sleep(0.5)
                await system.get_or_spawn(Child, "child")

            scripts["waits"] = waits
            birth = asyncio.create_task(system.spawn(Child, "child"))
            asking = system.ask("a", Do(script="waits")) if who == "the other" else asyncio.sleep(0)
            ends = await asyncio.gather(birth, asking, return_exceptions=True)
            path = ("child", "child") if who == "itself" else ("child", "a", "child")
            assert isinstance(ends[0].__cause__, AskCycle)
            assert ends[0].__cause__.path == path
            assert asyncio.get_running_loop().time() <= 2
            assert len(system._parts.waits) == 0

    sim(scenario)


def test_a_detached_after_hook_holds_nothing_and_may_ask_its_own_machine(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    class Detaching(Machine[Lamp], initial=Lamp.OFF):
        seen: int = 0

        @transition(Lamp.OFF, to=Lamp.ON)
        async def go(self, event: Hold) -> None: ...

        @transition(Lamp.ON, to=Lamp.OFF)
        async def count(self, event: Do) -> Any:
            self.seen += 1

        @after_transition(Lamp.ON, detached=True)
        async def later(self, old: Lamp, new: Lamp) -> None:
            await self.ask(self.id, Do())

    async def scenario() -> None:
        async with system_of(Detaching) as system:
            ref = await system.spawn(Detaching, "a")
            await ref.ask(Hold())
            await asyncio.sleep(0.1)
            assert ref.snapshot().data == {"seen": 1}
            assert system.stats().after_hooks_failed == 0

    sim(scenario)
