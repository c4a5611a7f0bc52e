"""The live tree in moments that no everyday scenario turns: ends that meet, faults of ours, deadlines in a row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import field_validator

from actorfsm import (
    Child,
    Directive,
    HookFailed,
    Limits,
    Machine,
    Restart,
    RestartPolicy,
    Strategy,
    Supervisor,
    SystemFailed,
    after_transition,
    transition,
)
from actorfsm.runtime.supervisor import LiveSupervisor
from actorfsm.runtime.tasks import start_task
from actorfsm.testing.loop import SimLoop
from tests.contract.lamp import Stubborn, hang, raising, times
from tests.contract.paths import Path, Script, Style
from tests.contract.tree import PROMPT, Fill, Finish, Services, State, Steps, Work, settle, worker_of

ASYNC = Path(Style.ASYNC, inline=True)
WORKER = worker_of(Style.ASYNC, hook_timeout=100)
ALL = Strategy.ONE_FOR_ALL


def test_children_that_fail_at_the_same_moment_are_restarted_once(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        services, steps = Services(), Steps()
        group = Supervisor("group", strategy=ALL, children=[services("one"), services("two")], policy=PROMPT)
        async with ASYNC.system(children=[group], trace=steps) as system:
            services.fail("one")
            services.fail("two")
            await settle()
            assert services.runs == {"one": 2, "two": 2}
            assert system.tree().children[0].restarts == 1
            assert str(system.tree()).splitlines()[1:3] == [
                "  group: supervisor, one_for_all, permanent, running, 1 restarts count",
                "    one: service, permanent, running, incarnation 1",
            ]

    sim(scenario)


def test_the_death_of_a_supervisors_task_ends_the_system(
    monkeypatch: pytest.MonkeyPatch, sim: Callable[..., None]
) -> None:
    async def dying(self: Any, child: Any, error: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(LiveSupervisor, "_see_to", dying)

    async def scenario() -> None:
        services = Services()
        with pytest.raises(SystemFailed, match="died with ZeroDivisionError"):  # noqa: PT012 -- the system is the block
            async with ASYNC.system(children=[services("one"), services("two")]):
                services.fail("one")
                await asyncio.sleep(1e9)
        assert services.running == {"one": 0, "two": 0}

    sim(scenario)


def test_a_system_that_fails_while_it_stops_hurries_and_says_so(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        with pytest.raises(SystemFailed, match="planted"):  # noqa: PT012 -- the system is the block
            async with ASYNC.system(WORKER, services=Script(**{"work x": hang})) as system:
                await system.spawn(WORKER, "x")
                system.tell("x", Work())
                asyncio.get_running_loop().call_later(1, system._parts.fail, ValueError("v"), "planted")
        assert asyncio.get_running_loop().time() < 2
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    sim(scenario)


def test_a_service_that_is_cancelled_before_it_began_did_not_start(
    monkeypatch: pytest.MonkeyPatch, sim: Callable[..., None]
) -> None:
    def cancelled_at_once(*arguments: Any) -> Any:
        task = start_task(*arguments)
        task.cancel()
        return task

    monkeypatch.setattr("actorfsm.runtime.supervised.start_task", cancelled_at_once)

    async def scenario() -> None:
        with pytest.raises(SystemFailed, match="one ended before it had started") as caught:
            async with ASYNC.system(children=[Services()("one")]):
                pass
        assert "cancelled before it began" in str(caught.value.__cause__.__cause__)

    sim(scenario)


def test_an_interrupt_in_a_service_is_passed_on() -> None:
    async def interrupt() -> None:
        await asyncio.sleep(1)
        raise KeyboardInterrupt

    async def scenario() -> None:
        async with ASYNC.system(children=[interrupt]):
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


@pytest.mark.rule("C13")
def test_a_service_whose_loop_is_gone_ends_in_silence() -> None:
    steps, services = Steps(), Services()

    async def scenario() -> Any:
        return await ASYNC.system(children=[services("one")], trace=steps).__aenter__()

    loop = SimLoop(0)
    system = loop.run_until_complete(scenario())
    (task,) = system._parts.services_running
    task.get_coro().close()  # as the garbage collector does
    assert services.running == {"one": 0}
    assert steps == ["started one"]
    (child,) = system._root.children
    assert child._run.error is None
    loop.abandon()


def test_a_class_that_is_not_placed_is_restarted_with_the_roots_children(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        services, steps = Services(), Steps()
        async with ASYNC.system(
            WORKER, children=[services("one")], services=Script(), trace=steps, strategy=ALL, root=PROMPT
        ) as system:
            await system.spawn(WORKER, "x")
            services.fail("one")
            await settle()
            assert system.snapshot("x").incarnation == 1
            assert steps == ["started one", "child_failed one", "restarted one", "started one", "restarted x"]

    sim(scenario)


def test_a_hook_of_a_machine_of_the_tree_that_is_left_behind_fails_the_machine(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        stubborn, steps = Stubborn(), Steps()
        worker = worker_of(Style.ASYNC, hook_timeout=1, on_failure={Exception: Directive.RESUME})
        script = Script(**{"work a": times(1, stubborn)})
        async with ASYNC.system(
            children=[Child(worker, "a")],
            services=script,
            trace=steps,
            root=PROMPT,
            limits=Limits(grace_s=0.5),
        ) as system:
            with pytest.raises(HookFailed):
                await system.ask("a", Work())
            assert await system.ask("a", Work()) == 1
            assert steps == ["started a", "child_failed a", "restarted a", "started a"]
            await stubborn.let_go()

    sim(scenario)


@pytest.mark.parametrize("is_static", [True, False])
def test_a_turn_with_several_hooks_that_hang_is_ended_hook_by_hook(
    is_static: bool, sim: Callable[..., None]
) -> None:
    class Slow(Machine[State], initial=State.OPEN, final=(State.DONE,), hook_timeout=1_000):
        @transition(State.OPEN, to=State.FULL)
        async def fill(self, event: Fill) -> None: ...

        @after_transition(State.FULL)
        async def first(self, old: State, new: State) -> None:
            await asyncio.sleep(1e9)

        @after_transition(State.FULL)
        async def second(self, old: State, new: State) -> None:
            await asyncio.sleep(1e9)

        @transition(State.FULL, to=State.DONE)
        async def finish(self, event: Finish) -> None: ...

    async def scenario() -> None:
        services = Services()
        child: Any = Child(Slow, "a", shutdown=1) if is_static else Slow
        group = Supervisor("group", strategy=ALL, children=[child, services("one")], policy=PROMPT)
        for grace_s in (0.5, 0.0):
            at = asyncio.get_running_loop().time()
            async with ASYNC.system(children=[group], limits=Limits(grace_s=grace_s)) as system:
                if not is_static:
                    await system.spawn(Slow, "a")
                await system.ask("a", Fill())
                services.fail("one")
                await asyncio.sleep(10)
                assert system.snapshot("a").incarnation == 1
                assert (await system.tell("a", Finish()).outcome()).success
                assert system.stats().after_hooks_failed == 2 or grace_s == 0
            assert system.report.unstopped == ()
            assert asyncio.get_running_loop().time() - at == 10

    sim(scenario)


def test_what_is_gone_already_is_not_given_up_again(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        services = Services()
        script = Script(**{"work a": raising(ValueError)})
        low = Supervisor(
            "low",
            restart=Restart.TEMPORARY,
            children=[Child(WORKER, "a", restart=Restart.TEMPORARY), Child(WORKER, "b"), services("one")],
            policy=RestartPolicy(0),
        )
        async with ASYNC.system(children=[low], services=script) as system:
            with pytest.raises(HookFailed):
                await system.ask("a", Work())
            services.fail("one")
            await settle()
            assert system.ids() == []

    sim(scenario)


def test_a_machine_that_finishes_while_its_supervisor_stops_it_is_born_anew(sim: Callable[..., None]) -> None:
    class Slow(Machine[State], initial=State.OPEN, final=(State.FULL, State.DONE)):
        @transition(State.OPEN, to=State.FULL)
        async def fill(self, event: Fill) -> None: ...

        @transition(State.OPEN, to=State.DONE)
        async def finish(self, event: Finish) -> None:
            await asyncio.sleep(1)

    async def scenario() -> None:
        for restart in (Restart.PERMANENT, Restart.TRANSIENT):
            services = Services()
            child = Child(Slow, "a", restart=restart)
            group = Supervisor("group", strategy=ALL, children=[child, services("one")], policy=PROMPT)
            async with ASYNC.system(children=[group]) as system:
                system.tell("a", Finish())
                await settle()
                services.fail("one")
                await asyncio.sleep(2)
                assert (system.snapshot("a").state, system.snapshot("a").incarnation) == (State.OPEN, 1)

    sim(scenario)


def test_data_that_does_not_validate_when_the_machine_is_to_be_born_fails_the_start(
    sim: Callable[..., None],
) -> None:
    is_valid = [True]

    class Checked(Machine[State], initial=State.OPEN, final=(State.FULL, State.DONE)):
        amount: int = 0

        @field_validator("amount")
        @classmethod
        def sound(cls, value: int) -> int:
            if not is_valid[0]:
                raise ValueError("unsound")
            return value

        @transition(State.OPEN, to=State.FULL)
        async def fill(self, event: Fill) -> None: ...

        @transition(State.OPEN, to=State.DONE)
        async def finish(self, event: Finish) -> None: ...

    async def scenario() -> None:
        steps = Steps()
        is_valid[0] = True
        system = ASYNC.system(children=[Child(Checked, "a", data={"amount": 1})], trace=steps)
        is_valid[0] = False
        with pytest.raises(SystemFailed, match="a did not start: InvalidData"):
            async with system:
                pass
        assert steps == ["child_failed a"]

    sim(scenario)


def test_machines_of_a_class_that_wait_or_are_stopped_while_the_class_is_held(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        services = Services()
        slow = RestartPolicy(first_delay_s=100, max_delay_s=100, jitter=0)
        worker = worker_of(Style.ASYNC, on_failure={ValueError: Directive.RESTART}, restart=slow)
        pauses = RestartPolicy(first_delay_s=1, jitter=0)
        group = Supervisor("group", strategy=ALL, children=[services("one"), worker], policy=pauses)
        script = Script(**{"work x": times(1, raising(ValueError))})
        async with ASYNC.system(children=[group], services=script) as system:
            await system.spawn(worker, "x")
            await system.spawn(worker, "y")
            with pytest.raises(HookFailed):
                await system.ask("x", Work())
            services.fail("one")
            await settle()
            await system.stop("y")
            assert await system.ask("x", Work()) == 1
            assert asyncio.get_running_loop().time() < 2
            assert system.snapshot("x").incarnation == 2
            assert system.ids() == ["x"]

    sim(scenario)
