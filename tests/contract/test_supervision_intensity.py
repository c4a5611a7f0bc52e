"""C17: restarts are counted per supervisor; too many stop its children and fail it to the one above, up to the root.

The figures are those of OTP's supervisor_SUITE.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actorfsm import (
    Child,
    HookFailed,
    Restart,
    RestartPolicy,
    Strategy,
    Supervisor,
    SystemFailed,
)
from tests.contract.lamp import raising, times
from tests.contract.paths import Path, Script, Style, on_every_path
from tests.contract.tree import PROMPT, Services, Steps, Work, settle, trees_over_a_journal_too, worker_of

__all__ = ["trees_over_a_journal_too"]
pytestmark = [pytest.mark.rule("C17"), pytest.mark.usefixtures("over_a_journal")]
ASYNC = Path(Style.ASYNC, inline=True)
ONE_FOR_ONE, ONE_FOR_ALL, REST_FOR_ONE = Strategy


def policy(max_restarts: int, within_s: float = 3_600, **more: Any) -> RestartPolicy:
    return RestartPolicy(
        max_restarts, within_s, **({"first_delay_s": 0, "max_delay_s": 0, "jitter": 0} | more)
    )


@on_every_path
def test_the_third_death_takes_a_supervisor_of_intensity_2_down_and_the_one_above_restarts_it(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        worker, services, steps = worker_of(path.style), Services(), Steps()
        low = Supervisor("low", children=[Child(worker, "a"), services("one")], policy=policy(2))
        top = Supervisor("top", children=[Child(worker, "b"), low, services("two")], policy=PROMPT)
        script = Script(**{"work a": times(3, raising(ValueError))})
        async with path.system(children=[top], services=script, trace=steps) as system:
            for deaths in (1, 2):
                steps.clear()
                with pytest.raises(HookFailed):
                    await system.ask("a", Work())
                await settle()
                assert steps == ["child_failed a", "restarted a", "started a"], deaths
            steps.clear()
            last, kept = system.tell("a", Work()), system.tell("a", Work(n=7))
            assert (await last.outcome()).kind == "failed"
            assert (await kept.outcome()).success
            await settle()
            assert steps == [
                *("child_failed a", "escalated low", "stopped one", "child_failed low"),
                *("restarted low", "restarted a", "started a", "restarted one", "started one", "started low"),
            ]
            assert system.snapshot("a").data["seen"] == (7,)  # its mail has survived that, too
            assert system.snapshot("a").incarnation == 3
            assert services.runs == {"one": 2, "two": 1}
            assert system.tree().children[0].restarts == 1

    sim(scenario)


def test_deaths_that_lie_further_apart_than_the_period_do_not_add_up(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        services, steps = Services(), Steps()
        low = Supervisor("low", children=[services("one")], policy=policy(1, within_s=1))
        async with ASYNC.system(children=[low], trace=steps) as system:
            for _ in range(5):
                services.fail("one")
                await asyncio.sleep(2.1)
            assert "escalated low" not in steps
            assert services.runs == {"one": 6}
            assert system.tree().children[0].restarts == 0

    sim(scenario)


@pytest.mark.parametrize("strategy", Strategy)
def test_a_child_that_fails_in_its_restart_counts_each_time_and_escalates(
    strategy: Strategy, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        services, steps = Services(), Steps()
        low = Supervisor(
            "low", strategy=strategy, children=[services("one"), services("two")], policy=policy(4)
        )
        with pytest.raises(SystemFailed, match="root supervisor gave up: low") as caught:  # noqa: PT012 -- the system is the block
            async with ASYNC.system(children=[low], trace=steps, root=policy(0)):
                services.does["two"] = raising_service
                services.fail("two")
                await asyncio.sleep(1e9)
        assert "no restart" in str(caught.value.__cause__.__cause__)
        # one death and four starts that fail; the fifth would be one too many
        assert steps.count("child_failed two") == 5
        assert steps.count("restarted two") == 4
        assert services.runs["one"] == (5 if strategy is ONE_FOR_ALL else 1)
        assert steps.count("escalated low") == steps.count("escalated system") == 1
        assert services.running == {"one": 0, "two": 0}
        assert asyncio.get_running_loop().time() < 1

    def raising_service() -> None:
        raise ValueError("no restart")

    sim(scenario)


def test_a_restart_that_hangs_counts_at_its_deadline_and_holds_up_no_sibling_and_no_stop(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        worker, services, steps = worker_of(Style.ASYNC), Services(), Steps()
        low = Supervisor(
            "low", children=[Child(worker, "a"), Child(services("one"), start_timeout=10)], policy=policy(3)
        )
        async with ASYNC.system(children=[low], services=Script(), trace=steps) as system:
            services.does["one"] = lambda: asyncio.sleep(1e9)
            services.fail("one")
            for count in range(1, 4):
                await asyncio.sleep(5)
                assert await system.ask("a", Work()) == count  # it is served meanwhile
                await asyncio.sleep(5)
            await asyncio.sleep(1)
            assert steps.at("escalated low") == [30]
            at = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() == at
        assert services.running == {"one": 0}

    sim(scenario)


@on_every_path
def test_the_roots_failure_ends_the_system_and_answers_every_ask(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        worker, services, steps = worker_of(path.style), Services(), Steps()
        low = Supervisor("low", children=[services("one"), Child(worker, "a")], policy=policy(0))
        script = Script(**{"work a": raising(ValueError)})
        asked: list[asyncio.Future[Any]] = []
        with pytest.raises(SystemFailed, match=r"root supervisor gave up: low .* limit is 0") as caught:  # noqa: PT012 -- as above
            async with path.system(
                children=[services("two"), low], services=script, trace=steps, root=policy(0)
            ) as system:
                asked += [asyncio.ensure_future(system.ask("a", Work(), timeout=1e6)) for _ in range(5)]
                await asyncio.sleep(1e9)
        assert isinstance(caught.value.__cause__, ValueError)
        errors = await asyncio.gather(*asked, return_exceptions=True)
        assert sorted(type(error).__name__ for error in errors) == ["HookFailed", *["SystemFailed"] * 4]
        ended = steps[steps.index("child_failed a") :]
        assert ended == [
            *("child_failed a", "escalated low", "stopped one", "child_failed low", "escalated system"),
            "stopped two",
        ]
        assert asyncio.get_running_loop().time() < 1
        assert system.stats().balance == 0

    sim(scenario)


@pytest.mark.parametrize("restart", [Restart.TRANSIENT, Restart.TEMPORARY])
def test_a_supervisor_that_gave_up_is_restarted_as_its_type_says(
    restart: Restart, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        worker, services, steps = worker_of(Style.ASYNC), Services(), Steps()
        low = Supervisor(
            "low", restart=restart, children=[Child(worker, "a"), services("one")], policy=policy(0)
        )
        async with ASYNC.system(children=[low], services=Script(), trace=steps, root=PROMPT) as system:
            services.fail("one")
            await settle()
            again = restart is Restart.TRANSIENT
            assert ("restarted low" in steps) is again
            assert system.ids() == (["a"] if again else [])
            assert system.tree().children[0].status == ("running" if again else "failed")

    sim(scenario)


@on_every_path
def test_pauses_double_and_begin_anew_after_a_stable_time_while_siblings_are_served(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        worker, services, steps = worker_of(path.style), Services(), Steps()
        pauses = policy(100, first_delay_s=1, max_delay_s=4, stable_after_s=60)
        low = Supervisor(
            "low", children=[Child(worker, "a"), Child(worker, "b"), services("one")], policy=pauses
        )
        script = Script(**{"work a": times(5, raising(ValueError))})
        async with path.system(children=[low], services=script, trace=steps) as system:
            for _ in range(4):
                with pytest.raises(HookFailed):
                    await system.ask("a", Work(), timeout=100)
                assert system.tree().children[0].children[0].status in {"failed", "waiting"}
                assert await system.ask("b", Work())
            await asyncio.sleep(100)
            assert steps.at("restarted a") == [1, 3, 7, 11]
            at = asyncio.get_running_loop().time()
            with pytest.raises(HookFailed):
                await system.ask("a", Work())
            assert await system.ask("a", Work()) == 1
            assert asyncio.get_running_loop().time() == at + 1

    sim(scenario)


@on_every_path
def test_only_restarts_count(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        services, steps = Services(), Steps()
        names = [f"s{n}" for n in range(5)]
        low = Supervisor(
            "low",
            children=[Child(services(name), restart=Restart.TEMPORARY) for name in names],
            policy=policy(0),
        )
        async with path.system(children=[low], trace=steps):
            for name in names:
                services.fail(name)
            await settle()
            assert "escalated low" not in steps

    sim(scenario)


# -- machines that are spawned by id -------------------------------------------------------------------------------


@pytest.mark.rule("C16")
@on_every_path
def test_the_machines_of_a_class_take_part_in_the_strategy_of_the_supervisor_above(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        worker, services, steps = worker_of(path.style), Services(), Steps()
        group = Supervisor(
            "group",
            strategy=ONE_FOR_ALL,
            children=[services("one"), worker],
            policy=policy(5, first_delay_s=1, max_delay_s=1),
        )
        async with path.system(children=[group], services=Script(), trace=steps) as system:
            for name in "xy":
                await system.spawn(worker, name)
            steps.clear()
            services.fail("one")
            await settle()
            receipts = [system.tell("x", Work(n=1)), system.tell("x", Work(n=2))]
            born = asyncio.ensure_future(system.spawn(worker, "z"))  # it waits, too
            await settle()
            assert system.ids() == ["x", "y"]
            await asyncio.sleep(1)
            assert all([(await receipt.outcome()).success for receipt in receipts])
            await born
            assert steps == [
                *("child_failed one", "stopped Worker", "restarted one", "started one"),
                *("restarted Worker", "restarted x", "restarted y", "started Worker"),
            ]
            assert [system.snapshot(name).incarnation for name in "xyz"] == [1, 1, 0]
            assert system.tree().children[0].children[1].machines == 3

    sim(scenario)


@on_every_path
def test_a_class_may_escalate_instead_of_putting_a_machine_into_quarantine(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        from actorfsm import Directive

        worker = worker_of(
            path.style,
            on_failure={ValueError: Directive.RESTART},
            restart=policy(1, escalate=True),
        )
        services, steps = Services(), Steps()
        group = Supervisor(
            "group", strategy=REST_FOR_ONE, children=[worker, services("one")], policy=policy(5)
        )
        script = Script(**{"work x": times(2, raising(ValueError))})
        async with path.system(children=[group], services=script, trace=steps) as system:
            await system.spawn(worker, "x")
            await system.spawn(worker, "y")
            steps.clear()
            for _ in range(2):
                with pytest.raises(HookFailed):
                    await system.ask("x", Work())
            assert await system.ask("x", Work()) == 1
            await settle()
            assert system.quarantined() == []
            assert steps == [
                *("restarted x", "child_failed Worker", "stopped one"),
                *(
                    "restarted Worker",
                    "restarted x",
                    "restarted y",
                    "started Worker",
                    "restarted one",
                    "started one",
                ),
            ]

    sim(scenario)
