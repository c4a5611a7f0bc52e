"""C19: a system stops as it was told, within its deadlines, answers everybody and leaves nothing running."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actorfsm import (
    ActorFSMError,
    Directive,
    HookFailed,
    Limits,
    Machine,
    Outcome,
    Redelivery,
    RestartPolicy,
    SystemFailed,
    SystemStopping,
    after_transition,
    transition,
)
from actorfsm.runtime.dispatcher import Dispatcher
from actorfsm.testing.loop import SimLoop, observe
from tests.contract.lamp import (
    Birth,
    Count,
    Later,
    State,
    Stubborn,
    Switch,
    Trace,
    hang,
    lamp_of,
)
from tests.contract.paths import Path, Script, Style, on_every_async_path, on_every_path

pytestmark = pytest.mark.rule("C19")
QUICK = Limits(grace_s=0.5)


async def slowly(machine: Any) -> None:
    await asyncio.sleep(1)


@on_every_path
def test_queues_are_finished_by_default(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(path.style)
        called: list[Outcome] = []
        async with path.system(lamp_class, services=Script()) as system:
            receipts = []
            for name in ("one", "two", "three"):
                lamp = await system.spawn(lamp_class, name)
                receipts += [lamp.tell(Count(), callback=called.append) for _ in range(100)]
        assert all([(await receipt.outcome()).success for receipt in receipts])
        assert len(called) == 300
        report = system.report
        assert (report.finished, report.abandoned, report.unstopped) == (True, 0, ())
        assert report.outcomes["committed"] == 303

    sim(scenario)


@on_every_async_path
def test_while_it_stops_nothing_is_admitted_from_outside_and_nothing_hangs(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(path.style, hook_timeout=100)
        system = path.system(lamp_class, services=Script(count=slowly))
        with pytest.raises(SystemStopping, match="was not started"):
            system.tell("lamp", Count())
        async with system:
            lamp = await system.spawn(lamp_class, "lamp")
            queued = asyncio.ensure_future(lamp.ask(Count()))
            await asyncio.sleep(0.5)
            stopping = asyncio.ensure_future(system.shutdown())
            await asyncio.sleep(0.1)
            with pytest.raises(SystemStopping):
                await lamp.ask(Count())
            with pytest.raises(SystemStopping):
                await system.ask("other", Birth())
            with pytest.raises(SystemStopping):
                await system.spawn(lamp_class, "other")
            with pytest.raises(SystemStopping):
                await lamp.tell(Count()).accepted()
            assert await queued == 1
            assert (await stopping).finished
        with pytest.raises(SystemStopping):
            await lamp.ask(Count())
        with pytest.raises(SystemStopping):
            async with system:
                pass
        assert asyncio.get_running_loop().time() == 1

    sim(scenario)


@on_every_async_path
def test_messages_of_machines_are_still_delivered_while_queues_are_finished(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(path.style)

        def pass_on(machine: Any) -> None:
            if machine.id == "one":
                machine.tell("two", Count())

        script = Script(count=pass_on)
        async with path.system(lamp_class, services=script) as system:
            one = await system.spawn(lamp_class, "one")
            await system.spawn(lamp_class, "two")
            for _ in range(10):
                one.tell(Count())
        assert system.report.outcomes["committed"] == 22

    sim(scenario)


@on_every_async_path
def test_abandoned_queues_are_answered_and_reported(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script(count=slowly)) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            postponed = lamp.tell(Later())
            running = lamp.tell(Count())
            queued = [lamp.tell(Count(n=n)) for n in range(3)]
            asked = asyncio.ensure_future(lamp.ask(Count()))
            await asyncio.sleep(0.5)
            report = await system.shutdown(queues="abandon")
            assert (report.finished, report.abandoned, report.unstopped) == (False, 5, ())
            with pytest.raises(SystemStopping, match="stopped before it came to this event"):
                await asked
            for receipt in (postponed, *queued):
                assert (await receipt.outcome()).kind == "dead_lettered"
            outcome = await running.outcome()
            assert (outcome.kind, outcome.error.type) == ("failed", "TimeoutError")
            assert "the system was stopped" in outcome.reason
            assert [letter.event for letter in system.dead_letters] == [
                Later(),
                *(Count(n=n) for n in range(3)),
            ]
        assert asyncio.get_running_loop().time() == 0.5
        assert system.stats().balance == 0

    sim(scenario)


@on_every_async_path
def test_finishing_takes_no_longer_than_its_deadline(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(path.style, hook_timeout=100)
        async with path.system(lamp_class, services=Script(count=slowly)) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            receipts = [lamp.tell(Count()) for _ in range(10)]
            await asyncio.sleep(0)
            report = await system.shutdown(timeout=3.5)
            assert (report.finished, report.abandoned) == (False, 6)
            assert report.seconds == 3.5
            kinds = [(await receipt.outcome()).kind for receipt in receipts]
            assert kinds == ["committed"] * 3 + ["failed"] + ["dead_lettered"] * 6

    sim(scenario)


@on_every_path
def test_a_policy_that_does_not_exist_is_refused(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with path.system(lamp_of(path.style)) as system:
            with pytest.raises(ActorFSMError, match="'finish' or 'abandon'"):
                await system.shutdown(queues="keep")

    sim(scenario, seeds=range(1))


@on_every_async_path
def test_callbacks_are_waited_for(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(path.style)
        ended: list[str] = []

        async def callback(outcome: Outcome) -> None:
            await asyncio.sleep(5)
            ended.append(outcome.kind)

        async with path.system(lamp_class, services=Script()) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            lamp.tell(Count(), callback=callback)
        assert ended == ["committed"]
        assert system.report.finished

    sim(scenario)


def test_detached_hooks_are_waited_for_and_those_that_hang_are_cancelled(sim: Callable[..., None]) -> None:
    ended: list[str] = []

    class Lamp(Machine[State], initial=State.OFF, final=(State.ON,), hook_timeout=100):
        @transition(State.OFF, to=State.ON)
        async def switch(self, event: Switch) -> str:
            return "on"

        @after_transition(State.ON, detached=True)
        async def slow(self, old: State, new: State) -> None:
            await asyncio.sleep(5)
            ended.append(self.id)

        @after_transition(State.ON, detached=True, timeout=1_000)
        async def hanging(self, old: State, new: State) -> None:
            await asyncio.sleep(1e9)

    async def scenario() -> None:
        ended.clear()
        async with Path(Style.ASYNC, inline=True).system(Lamp, limits=Limits(stop_timeout_s=10)) as system:
            lamp = await system.spawn(Lamp, "lamp")
            assert await lamp.ask(Switch()) == "on"
        assert ended == ["lamp"]
        assert (system.report.finished, system.report.unstopped) == (False, ())
        assert asyncio.get_running_loop().time() < 20

    sim(scenario)


@on_every_async_path
@pytest.mark.parametrize("place", ["before", "body", "enter", "after"])
def test_a_hook_that_refuses_cancellation_is_named_and_its_event_gets_an_outcome(
    path: Path, place: str, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        stubborn = Stubborn()
        lamp_class = lamp_of(path.style, hook_timeout=100)
        async with path.system(lamp_class, services=Script(**{place: stubborn}), limits=QUICK) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            receipt, queued = lamp.tell(Switch()), lamp.tell(Count())
            await asyncio.sleep(0.5)
            report = await system.shutdown(timeout=1)
            assert (report.finished, report.unstopped) == (False, (f"lamp.{place}",))
            assert (await receipt.outcome()).kind == ("committed" if place == "after" else "failed")
            assert (await queued.outcome()).kind == "dead_lettered"
            assert system.stats().balance == 0
        await stubborn.let_go()
        assert asyncio.get_running_loop().time() < 4

    sim(scenario)


@on_every_async_path
def test_a_callback_that_refuses_cancellation_is_named(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        release = asyncio.get_running_loop().create_future()

        async def stubborn(outcome: Outcome) -> None:
            while not release.done():
                try:
                    await asyncio.wait([release])
                except asyncio.CancelledError:
                    continue

        lamp_class = lamp_of(path.style)
        limits = Limits(grace_s=0.5, stop_timeout_s=1)
        async with path.system(lamp_class, services=Script(), limits=limits) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            lamp.tell(Count(), callback=stubborn)
        assert system.report.unstopped == ("callbacks of lamp",)
        release.set_result(None)
        await asyncio.sleep(0.001)

    sim(scenario)


@on_every_path
def test_machines_that_wait_for_a_restart_or_a_redelivery_are_waited_for(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        failures = iter([True, False, True, False])

        def fail_once(machine: Any) -> None:
            if next(failures):
                raise ValueError

        restarting = lamp_of(
            path.style,
            on_failure={ValueError: Directive.RESTART},
            restart=RestartPolicy(first_delay_s=2, jitter=0),
        )
        redelivering = lamp_of(path.style, redelivery=Redelivery(attempts=1, first_delay_s=5))
        for lamp_class, kinds in ((restarting, ["failed", "committed"]), (redelivering, ["committed"])):
            async with path.system(lamp_class, services=Script(count=fail_once)) as system:
                lamp = await system.spawn(lamp_class, "lamp")
                receipts = [lamp.tell(Count()) for _ in kinds]
            assert [(await receipt.outcome()).kind for receipt in receipts] == kinds
            assert system.report.finished
        assert asyncio.get_running_loop().time() == 7

    sim(scenario)


@on_every_path
def test_an_exception_of_the_body_comes_out_as_it_is_when_everything_has_stopped(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(path.style)
        error = ValueError("mine")
        with pytest.raises(ValueError) as caught:  # noqa: PT012 -- the system is the block
            async with path.system(lamp_class, services=Script()) as system:
                lamp = await system.spawn(lamp_class, "lamp")
                receipt = lamp.tell(Count())
                raise error
        assert caught.value is error
        assert (await receipt.outcome()).success
        assert system.report.finished

    sim(scenario)


@on_every_async_path
@pytest.mark.parametrize("when", ["body", "finish", "grace", "twice", "often"])
def test_a_cancellation_from_outside_is_passed_on_and_everything_stops_all_the_same(
    path: Path, when: str
) -> None:
    systems: list[Any] = []

    async def in_a_system() -> None:
        lamp_class = lamp_of(path.style, hook_timeout=1_000)

        async def tidying(machine: Any) -> None:
            try:
                await hang(machine)
            finally:
                await asyncio.sleep(0.3)

        async with path.system(lamp_class, services=Script(count=tidying), limits=QUICK) as system:
            systems.append(system)
            lamp = await system.spawn(lamp_class, "lamp")
            for _ in range(3):
                lamp.tell(Count())
            if when == "body":
                await asyncio.sleep(1e9)
            else:
                await asyncio.sleep(1)

    at = {
        "body": [0.5],
        "finish": [5],
        "grace": [31.1],
        "twice": [5, 5.1],
        "often": [0.5, 0.6, 0.7, 0.8, 0.9],
    }[when]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(in_a_system())
        for time in at:
            loop.call_at(time, task.cancel)
        await asyncio.wait([task])
        assert task.cancelled()
        await asyncio.sleep(1)

    for seed in range(3):
        outcome = observe(main, loop=SimLoop(seed))
        assert outcome.error is None
        assert outcome.leftovers == ()
        assert systems[-1].stats().balance == 0
        assert systems[-1].stats().in_flight == 0


@on_every_path
def test_a_system_can_be_shut_down_twice_and_by_two_at_once(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script()) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            receipt = lamp.tell(Count())
            first, second = await asyncio.gather(system.shutdown(), system.shutdown())
            assert first.finished
            assert second.finished
            assert (await system.shutdown()).finished
        assert (await receipt.outcome()).success

    sim(scenario)


@on_every_path
def test_systems_nest_and_run_side_by_side_and_give_the_task_factory_back(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        made: list[str] = []

        def factory(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
            made.append("task")
            return asyncio.Task(coroutine, loop=loop, **options)

        loop.set_task_factory(factory)
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script()) as outer:
            await outer.spawn(lamp_class, "lamp")
            async with path.system(lamp_class, services=Script()) as inner:
                await inner.spawn(lamp_class, "lamp")
                assert await inner.ask("lamp", Count()) == 1
                await asyncio.create_task(asyncio.sleep(0))
                assert made == ["task"]
            assert await outer.ask("lamp", Count()) == 1
            assert loop.get_task_factory() is not factory
        assert loop.get_task_factory() is factory

        async def one() -> int:
            async with path.system(lamp_class, services=Script()) as system:
                await system.spawn(lamp_class, "lamp")
                return await system.ask("lamp", Count())

        assert await asyncio.gather(*(one() for _ in range(5))) == [1] * 5
        assert loop.get_task_factory() is factory

    sim(scenario)


@on_every_path
def test_a_task_factory_that_somebody_sets_meanwhile_is_left_alone(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()

        def factory(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
            return asyncio.Task(coroutine, loop=loop, **options)

        async with path.system(lamp_of(path.style)):
            loop.set_task_factory(factory)
        assert loop.get_task_factory() is factory

    sim(scenario, seeds=range(1))


@on_every_path
def test_a_sink_that_cannot_be_flushed_does_not_hold_up_the_end(path: Path, sim: Callable[..., None]) -> None:
    class Full(Trace):
        flushed = 0

        def flush(self) -> None:
            self.flushed += 1
            raise OSError(28, "No space left on device")

    async def scenario() -> None:
        lamp_class = lamp_of(path.style)
        full, other = Full(), Full()
        async with path.system(lamp_class, services=Script(), trace=[full, other]) as system:
            await system.spawn(lamp_class, "lamp")
        assert system.report.finished
        assert (full.flushed, other.flushed) == (1, 1)
        assert system.stats().sinks_failed == 2

    sim(scenario, seeds=range(1))


# -- the death of a runtime task of our own (C17) ------------------------------------------------------------------


class Planted(Exception):
    pass


def plant(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Let a worker die once the switch is on: a fault of the runtime that no user code can cause."""
    switch = [False]
    original = Dispatcher._after_turn

    def dying(self: Dispatcher, actor: Any) -> None:
        if switch[0]:
            switch[0] = False
            raise Planted("a bug of ours")
        original(self, actor)

    monkeypatch.setattr(Dispatcher, "_after_turn", dying)
    return switch


@pytest.mark.rule("C17")
@pytest.mark.parametrize("style", [Style.ASYNC, Style.SUSPENDING])
@pytest.mark.parametrize("by", ["ask", "tell"])
def test_the_death_of_a_task_of_the_runtime_ends_the_system_and_answers_everybody(
    style: Style, by: str, monkeypatch: pytest.MonkeyPatch, sim: Callable[..., None]
) -> None:
    switch = plant(monkeypatch)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        lamp_class = lamp_of(style)
        asked: list[asyncio.Future[Any]] = []
        told: list[Any] = []
        with pytest.raises(SystemFailed, match="died with Planted") as caught:  # noqa: PT012 -- as above
            async with Path(style, inline=by == "ask").system(
                lamp_class, services=Script(count=slowly)
            ) as system:
                one = await system.spawn(lamp_class, "one")
                two = await system.spawn(lamp_class, "two")
                asked += [asyncio.ensure_future(two.ask(Count())) for _ in range(3)]
                await asyncio.sleep(0.5)
                told += [two.tell(Count())]
                switch[0] = True
                await (one.ask(Switch()) if by == "ask" else one.tell(Switch()).outcome())
                await asyncio.sleep(1e9)
        assert type(caught.value.__cause__) is Planted
        assert loop.time() < 1
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(result) for result in results} <= {SystemFailed, HookFailed}
        assert sum(type(result) is SystemFailed for result in results) == 2
        assert (await told[0].outcome()).error.type == "Planted"
        with pytest.raises(SystemFailed):
            await one.ask(Count())
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        assert system.stats().balance == 0

    sim(scenario)


@pytest.mark.rule("C17")
def test_an_exception_of_the_body_does_not_hide_that_the_system_failed(
    monkeypatch: pytest.MonkeyPatch, sim: Callable[..., None]
) -> None:
    switch = plant(monkeypatch)

    async def scenario() -> None:
        lamp_class = lamp_of(Style.ASYNC)
        with pytest.raises(SystemFailed) as caught:  # noqa: PT012 -- as above
            async with Path(Style.ASYNC, inline=False).system(lamp_class, services=Script()) as system:
                lamp = await system.spawn(lamp_class, "lamp")
                switch[0] = True
                try:
                    await lamp.tell(Switch()).outcome()
                    await asyncio.sleep(1e9)
                finally:
                    raise ValueError("mine")
        assert type(caught.value.__cause__) is Planted
        assert str(caught.value.__context__) == "mine"

    sim(scenario)
