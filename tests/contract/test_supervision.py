"""C16: a tree of three levels starts in order, stops in reverse and restarts as in OTP, in the order of the trace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actorfsm import (
    ActorSystem,
    Child,
    Directive,
    HookFailed,
    MachineExists,
    MachineStopped,
    NoSuchMachine,
    Restart,
    Strategy,
    Supervisor,
    SystemFailed,
)
from tests.contract.lamp import hang, raising, times
from tests.contract.paths import Path, Script, Style, on_every_async_path, on_every_path
from tests.contract.tree import (
    PROMPT,
    Fill,
    Finish,
    Later,
    Leave,
    Services,
    Steps,
    Work,
    settle,
    trees_over_a_journal_too,
    worker_of,
)

__all__ = ["trees_over_a_journal_too"]
pytestmark = [pytest.mark.rule("C16"), pytest.mark.usefixtures("over_a_journal")]
ASYNC = Path(Style.ASYNC, inline=True)
ONE_FOR_ONE, ONE_FOR_ALL, REST_FOR_ONE = Strategy


def tree_of(
    worker: Any, services: Services, strategy: Strategy = ONE_FOR_ONE, **policy: Any
) -> list[Supervisor]:
    """Three levels: top > (a, middle > (b, low > (c, one), two), three)."""
    low = Supervisor("low", children=[Child(worker, "c"), services("one")], policy=PROMPT)
    middle = Supervisor(
        "middle", strategy=strategy, children=[Child(worker, "b"), low, services("two")], policy=PROMPT
    )
    return [Supervisor("top", children=[Child(worker, "a"), middle, services("three")], policy=PROMPT)]


STARTED = ["a", "b", "c", "one", "low", "two", "middle", "three", "top"]
STOPPED = ["three", "two", "one", "c", "low", "b", "middle", "a", "top"]


@on_every_path
def test_children_start_in_order_and_stop_in_reverse_those_below_before_those_above(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        worker, services, steps = worker_of(path.style), Services(), Steps()
        system = path.system(children=tree_of(worker, services), services=Script(), trace=steps)
        async with system:
            assert steps.drain() == [f"started {name}" for name in STARTED]
            assert services.running == {"one": 1, "two": 1, "three": 1}
            assert system.ids() == ["a", "b", "c"]
        assert steps.drain() == [f"stopped {name}" for name in STOPPED]
        assert services.running == {"one": 0, "two": 0, "three": 0}
        assert (system.report.finished, system.report.unstopped) == (True, ())

    sim(scenario)


def test_a_child_has_started_when_its_birth_is_finished_or_when_the_service_says_so(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        worker, services, steps = worker_of(Style.ASYNC), Services(), Steps()
        services.does["poller"] = lambda: asyncio.sleep(5)
        script = Script(**{"born a": lambda machine: asyncio.sleep(3)})
        children = [Child(worker, "a"), services("poller"), Child(worker, "b")]
        async with ASYNC.system(children=children, services=script, trace=steps):
            assert [steps.at(f"started {name}") for name in ("a", "poller", "b")] == [[3], [8], [8]]
            assert asyncio.get_running_loop().time() == 8

    sim(scenario)


def test_a_service_takes_the_system_and_started_or_the_system_or_nothing(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        given: list[Any] = []

        async def nothing() -> None:
            given.append(())
            await asyncio.sleep(1e9)

        async def one(system: Any) -> None:
            given.append(system)
            assert await system.ask("a", Work()) == 1
            await asyncio.sleep(1e9)

        async def both(system: Any, started: Callable[[], None]) -> None:
            given.append(system)
            started()
            started()
            await asyncio.sleep(1e9)

        worker = worker_of(Style.ASYNC)
        children = [Child(worker, "a"), nothing, one, both]
        async with ASYNC.system(children=children, services=Script()) as system:
            await settle()
            assert given == [(), system, system]

    sim(scenario)


# -- a start that fails --------------------------------------------------------------------------------------------


@on_every_path
@pytest.mark.parametrize("what", ["machine", "service"])
def test_a_child_that_fails_to_start_stops_those_that_had_started_and_fails_the_system(
    path: Path, what: str, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        worker, services, steps = worker_of(path.style), Services(), Steps()

        def fail(*machine: Any) -> None:
            raise ValueError("no")

        script = Script()
        if what == "machine":
            script.does["born c"] = fail
        else:
            services.does["one"] = fail
        entered = False
        with pytest.raises(SystemFailed, match="did not start") as caught:
            async with path.system(children=tree_of(worker, services), services=script, trace=steps):
                entered = True
        assert not entered
        cause = caught.value.__cause__
        assert isinstance(cause.__cause__, ValueError)
        failed = "c" if what == "machine" else "one"
        begun = STARTED[: STARTED.index(failed)]
        assert steps == [
            *(f"started {name}" for name in begun),
            f"child_failed {failed}",
            *(f"stopped {name}" for name in begun[::-1]),
        ]

    sim(scenario)


@on_every_async_path
@pytest.mark.parametrize("what", ["machine", "service"])
def test_a_child_that_hangs_at_its_start_fails_at_its_deadline(
    path: Path, what: str, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        worker, services, steps = worker_of(path.style, hook_timeout=1_000), Services(), Steps()
        services.does["one"] = lambda: asyncio.sleep(1e9)
        hanging = (
            Child(worker, "b", start_timeout=7)
            if what == "machine"
            else Child(services("one"), start_timeout=7)
        )
        script = Script(**{"born b": hang})
        with pytest.raises(SystemFailed, match="after 7 s") as caught:
            async with path.system(
                children=[Child(worker, "a"), hanging, services("two")], services=script, trace=steps
            ):
                pass
        assert isinstance(caught.value.__cause__, TimeoutError)
        assert asyncio.get_running_loop().time() == 7
        name = "b" if what == "machine" else "one"
        assert steps == ["started a", f"child_failed {name}", "stopped a"]
        assert services.runs == ({} if what == "machine" else {"one": 1})

    sim(scenario)


def test_a_service_that_returns_before_it_says_that_it_started_has_not_started(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        async def hasty(system: Any, started: Any) -> None: ...

        with pytest.raises(SystemFailed, match="hasty ended before it had started"):
            async with ASYNC.system(children=[hasty]):
                pass

    sim(scenario)


def test_a_service_that_raises_before_it_says_that_it_started_is_told_with_what_it_raised(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        async def unlucky(system: Any, started: Any) -> None:
            raise ConnectionError("nobody answers")

        with pytest.raises(SystemFailed) as caught:
            async with ASYNC.system(children=[unlucky]):
                pass
        assert str(caught.value).endswith(
            "unlucky ended before it had started, with ConnectionError: nobody answers"
        )
        assert isinstance(caught.value.__cause__.__cause__, ConnectionError)

    sim(scenario)


def test_whoever_gives_up_the_start_leaves_nothing_behind(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        worker, services, steps = worker_of(Style.ASYNC, hook_timeout=1_000), Services(), Steps()
        script = Script(**{"born b": hang})

        async def enter() -> None:
            async with ASYNC.system(
                children=[services("one"), Child(worker, "b")], services=script, trace=steps
            ):
                pass

        task = asyncio.ensure_future(enter())
        await asyncio.sleep(3)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert services.running == {"one": 0}
        assert steps == ["started one", "stopped b", "stopped one"]

    sim(scenario)


# -- strategies ----------------------------------------------------------------------------------------------------


AFFECTED = {
    ONE_FOR_ONE: (["b"], []),
    REST_FOR_ONE: (["b", "low", "c", "one", "two"], ["two", "one", "c", "low"]),
    ONE_FOR_ALL: (["b", "low", "c", "one", "two"], ["two", "one", "c", "low"]),
}


@on_every_path
@pytest.mark.parametrize("strategy", Strategy)
def test_a_machine_that_fails_is_restarted_with_those_that_the_strategy_says(
    path: Path, strategy: Strategy, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        worker, services, steps = worker_of(path.style), Services(), Steps()
        script = Script(**{"work b": times(1, raising(ValueError))})
        children = tree_of(worker, services, strategy)
        async with path.system(children=children, services=script, trace=steps) as system:
            steps.clear()
            with pytest.raises(HookFailed):
                await system.ask("b", Work())
            await settle()
            again, stopped = AFFECTED[strategy]
            started = [step for step in steps if step.startswith("restarted")]
            assert started == [f"restarted {name}" for name in again]
            assert steps[0] == "child_failed b"
            assert [step for step in steps if step.startswith("stopped")] == [
                f"stopped {name}" for name in stopped
            ]
            assert steps.index(f"restarted {again[0]}") > len(stopped)
            assert await system.ask("b", Work()) == 1
            assert services.runs == {"one": 1 + bool(stopped), "two": 1 + bool(stopped), "three": 1}
            incarnations = {name: system.snapshot(name).incarnation for name in "abc"}
            assert incarnations == {"a": 0, "b": 1, "c": int(bool(stopped))}

    sim(scenario)


@pytest.mark.parametrize("strategy", Strategy)
def test_a_service_that_fails_is_restarted_with_those_that_the_strategy_says(
    strategy: Strategy, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        worker, services, steps = worker_of(Style.ASYNC), Services(), Steps()
        children = [
            Supervisor(
                "top",
                strategy=strategy,
                children=[
                    services("one"),
                    Child(worker, "a"),
                    services("two"),
                    Child(worker, "b"),
                    services("three"),
                ],
                policy=PROMPT,
            )
        ]
        async with ASYNC.system(children=children, services=Script(), trace=steps):
            steps.clear()
            services.fail("two")
            await settle()
            expected = {
                ONE_FOR_ONE: ["child_failed two", "restarted two", "started two"],
                REST_FOR_ONE: [
                    *("child_failed two", "stopped three", "stopped b"),
                    *(
                        "restarted two",
                        "started two",
                        "restarted b",
                        "started b",
                        "restarted three",
                        "started three",
                    ),
                ],
                ONE_FOR_ALL: [
                    *("child_failed two", "stopped three", "stopped b", "stopped a", "stopped one"),
                    *("restarted one", "started one", "restarted a", "started a"),
                    *(
                        "restarted two",
                        "started two",
                        "restarted b",
                        "started b",
                        "restarted three",
                        "started three",
                    ),
                ],
            }
            assert steps == expected[strategy]

    sim(scenario)


@on_every_path
def test_machines_that_are_restarted_keep_their_mail_postponed_events_too(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        worker, services = worker_of(path.style), Services()
        group = Supervisor(
            "group", strategy=ONE_FOR_ALL, children=[Child(worker, "a"), services("one"), Child(worker, "b")]
        )
        async with path.system(children=[group], services=Script()) as system:
            receipts = [system.tell("a", Later(n=1)), system.tell("a", Work(n=2))]
            await settle()
            services.fail("one")
            await settle()
            assert str(system.tree()).count("stopped") == 2
            receipts += [
                system.tell("a", Work(n=3)),
                system.tell("a", Later(n=4)),
                system.tell("a", Work(n=5)),
            ]
            await settle()
            assert system.stats().queued == 3
            receipts.append(system.tell("a", Fill()))
            assert all([(await receipt.outcome()).success for receipt in receipts])
            assert system.snapshot("a").data["seen"] == (2, 3, 5, 1, 4)
            assert system.snapshot("a").incarnation == 1
            assert system.stats().balance == 0

    sim(scenario)


@on_every_async_path
def test_a_machine_that_is_stopped_with_its_siblings_finishes_the_event_at_hand(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        worker, services, steps = worker_of(path.style, hook_timeout=100), Services(), Steps()
        script = Script(**{"work a": times(1, lambda machine: asyncio.sleep(3))})
        group = Supervisor(
            "group", strategy=ONE_FOR_ALL, children=[Child(worker, "a"), services("one")], policy=PROMPT
        )
        async with path.system(children=[group], services=script, trace=steps) as system:
            first, second = system.tell("a", Work(n=1)), system.tell("a", Work(n=2))
            await asyncio.sleep(1)
            services.fail("one")
            await asyncio.sleep(1)
            assert not steps.at("stopped a")
            assert (await first.outcome()).success
            assert (await second.outcome()).success
            assert steps.at("stopped a") == [3]
            records = [(r.name, r.incarnation) for r in steps.records if r.machine_id == "a" and r.event_type]
            assert records == [("committed", 0), ("committed", 0), ("committed", 1)]

    sim(scenario)


@on_every_async_path
def test_a_sibling_whose_hook_does_not_end_is_interrupted_at_its_deadline(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        worker, services = worker_of(path.style, hook_timeout=100), Services()
        script = Script(**{"work a": times(1, hang)})
        group = Supervisor(
            "group",
            strategy=ONE_FOR_ALL,
            children=[Child(worker, "a", shutdown=2), services("one")],
            policy=PROMPT,
        )
        async with path.system(children=[group], services=script) as system:
            hanging, next_one = system.tell("a", Work(n=1)), system.tell("a", Work(n=2))
            await asyncio.sleep(1)
            services.fail("one")
            outcome = await hanging.outcome()
            assert (outcome.kind, asyncio.get_running_loop().time()) == ("failed", 3)
            assert "supervisor stopped it" in outcome.reason
            assert (await next_one.outcome()).reply == 1
            assert system.snapshot("a").incarnation == 1

    sim(scenario)


def test_a_service_that_refuses_to_stop_is_left_behind_and_named(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        release = asyncio.get_running_loop().create_future()
        runs = [0]

        async def stubborn() -> None:
            runs[0] += 1
            if runs[0] > 1:
                await asyncio.sleep(1e9)
            while not release.done():
                try:
                    await asyncio.wait([release])
                except asyncio.CancelledError:
                    continue

        services, steps = Services(), Steps()
        group = Supervisor(
            "group",
            strategy=ONE_FOR_ALL,
            children=[Child(stubborn, shutdown=2), services("one")],
            policy=PROMPT,
        )
        async with ASYNC.system(children=[group], trace=steps) as system:
            services.fail("one")
            await asyncio.sleep(3)
            assert runs == [2]
            assert steps.at("stopped stubborn") == [2]
        assert system.report.unstopped == ("stubborn",)
        release.set_result(None)
        await settle()

    sim(scenario)


# -- restart types -------------------------------------------------------------------------------------------------


ENDS = {"fails": Work(), "stops itself": Leave(), "finishes": Finish(), "is stopped": None}


@on_every_path
@pytest.mark.parametrize("restart", Restart)
@pytest.mark.parametrize("end", ENDS)
def test_whether_a_machine_is_started_again_is_said_by_its_restart_type(
    path: Path, restart: Restart, end: str, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        worker, steps = worker_of(path.style), Steps()
        script = Script(**({"work a": times(1, raising(ValueError))} if end == "fails" else {}))
        group = Supervisor(
            "group", children=[Child(worker, "a", restart=restart), Child(worker, "b")], policy=PROMPT
        )
        async with path.system(children=[group], services=script, trace=steps) as system:
            event = ENDS[end]
            if event is None:
                await system.stop("a")
            else:
                await system.tell("a", event).outcome()
            await settle()
            again = restart is Restart.PERMANENT or (restart is Restart.TRANSIENT and end == "fails")
            assert ("restarted a" in steps) is again
            assert "restarted b" not in steps
            if again:
                assert await system.ask("a", Work(n=7)) == 1
                assert system.snapshot("a").incarnation == 1
                # A failed one goes on from its last committed state, one that ended normally is born anew.
                assert system.snapshot("a").seq == {"fails": 2, "is stopped": 3}.get(end, 4)
            elif end == "finishes":
                assert system.snapshot("a").state.name == "DONE"  # it stays addressable
            else:
                with pytest.raises(NoSuchMachine):
                    await system.ask("a", Work())
            assert system.stats().balance == 0

    sim(scenario)


@pytest.mark.parametrize("restart", Restart)
@pytest.mark.parametrize("end", ["fails", "returns", "is cancelled"])
def test_whether_a_service_is_started_again_is_said_by_its_restart_type(
    restart: Restart, end: str, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        services, steps = Services(), Steps()
        children = [Supervisor("group", children=[Child(services("one"), restart=restart)], policy=PROMPT)]
        async with ASYNC.system(children=children, trace=steps) as system:
            steps.clear()
            match end:
                case "fails":
                    services.fail("one")
                case "returns":
                    services.end("one")
                case _:
                    services.fail("one", asyncio.CancelledError())
            await settle()
            again = restart is Restart.PERMANENT or (restart is Restart.TRANSIENT and end != "returns")
            ended = "stopped one" if end == "returns" else "child_failed one"
            assert steps == [ended, *(["restarted one", "started one"] if again else [])]
            assert services.runs == {"one": 1 + again}
            status = system.tree().children[0].children[0].status
            assert status == ("running" if again else "finished" if end == "returns" else "failed")

    sim(scenario)


@on_every_path
def test_mail_of_a_permanent_machine_that_ended_is_handled_by_the_one_that_is_born_anew(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        worker = worker_of(path.style)
        group = Supervisor("group", children=[Child(worker, "a")])
        async with path.system(children=[group], services=Script()) as system:
            for event in (Leave(), Finish()):
                await system.ask("a", Work())
                receipts = [system.tell("a", event), system.tell("a", Work(n=1)), system.tell("a", Work(n=2))]
                assert all([(await receipt.outcome()).success for receipt in receipts])
                assert system.snapshot("a").data["seen"] == (1, 2)
            assert system.snapshot("a").incarnation == 2

    sim(scenario)


@on_every_path
def test_temporary_children_that_are_stopped_as_bystanders_stay_dead(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        worker, services, steps = worker_of(path.style), Services(), Steps()
        group = Supervisor(
            "group",
            strategy=ONE_FOR_ALL,
            children=[
                Child(worker, "a", restart=Restart.TEMPORARY),
                Child(services("one"), restart=Restart.TEMPORARY),
                services("two"),
            ],
            policy=PROMPT,
        )
        async with path.system(children=[group], services=Script(), trace=steps) as system:
            steps.clear()
            waiting = system.tell("a", Later())
            await settle()
            services.fail("two")
            await settle()
            assert steps == ["child_failed two", "stopped one", "stopped a", "restarted two", "started two"]
            assert (await waiting.outcome()).error.type == "MachineStopped"
            with pytest.raises(NoSuchMachine, match="only its supervisor starts it"):
                await system.ask("a", Work())
            with pytest.raises(MachineExists, match="supervision tree"):
                await system.spawn(worker, "a")

    sim(scenario)


@on_every_path
def test_a_transient_machine_that_has_finished_is_started_again_with_its_siblings(
    path: Path, sim: Callable[..., None]
) -> None:
    """As in OTP, where all children that are still specified are started."""

    async def scenario() -> None:
        worker, services = worker_of(path.style), Services()
        group = Supervisor(
            "group",
            strategy=ONE_FOR_ALL,
            children=[Child(worker, "a", restart=Restart.TRANSIENT), services("one")],
            policy=PROMPT,
        )
        async with path.system(children=[group], services=Script()) as system:
            await system.ask("a", Finish())
            await settle()
            assert system.snapshot("a").state.name == "DONE"
            services.fail("one")
            await settle()
            assert (system.snapshot("a").state.name, system.snapshot("a").incarnation) == ("OPEN", 1)

    sim(scenario)


# -- the directive of a static child (C14) -------------------------------------------------------------------------


@pytest.mark.rule("C14")
@on_every_path
@pytest.mark.parametrize("directive", [None, *Directive])
def test_a_machine_of_the_tree_restarts_after_a_failure_unless_its_class_says_otherwise(
    path: Path, directive: Directive | None, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        choices = {} if directive is None else {"on_failure": {ValueError: directive}}
        worker, steps = worker_of(path.style, **choices), Steps()
        script = Script(**{"work a": times(1, raising(ValueError))})
        async with path.system(
            children=[Child(worker, "a")], root=PROMPT, services=script, trace=steps
        ) as system:
            with pytest.raises(HookFailed):
                await system.ask("a", Work())
            await settle()
            assert ("restarted a" in steps) is (directive is not Directive.RESUME)
            assert await system.ask("a", Work()) == 1

    sim(scenario)


def test_what_a_temporary_machine_still_held_is_answered_when_it_fails(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        worker = worker_of(Style.ASYNC)
        script = Script(**{"work a": raising(ValueError)})
        children = [Child(worker, "a", restart=Restart.TEMPORARY)]
        async with ASYNC.system(children=children, services=script) as system:
            failing, waiting = system.tell("a", Work()), system.tell("a", Work())
            assert (await failing.outcome()).kind == "failed"
            answer = await waiting.outcome()
            assert answer.kind == "dead_lettered"
            assert answer.error is not None
            assert answer.error.type == MachineStopped.__name__

    sim(scenario)


def test_the_tree_is_shown_as_an_indented_text(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        worker, services = worker_of(Style.ASYNC), Services()
        async with ASYNC.system(children=[*tree_of(worker, services), worker], services=Script()) as system:
            await system.spawn(worker, "x")
            assert str(system.tree()).splitlines() == [
                "system: supervisor, one_for_one, permanent, running",
                "  top: supervisor, one_for_one, permanent, running",
                "    a: machine, permanent, running",
                "    middle: supervisor, one_for_one, permanent, running",
                "      b: machine, permanent, running",
                "      low: supervisor, one_for_one, permanent, running",
                "        c: machine, permanent, running",
                "        one: service, permanent, running",
                "      two: service, permanent, running",
                "    three: service, permanent, running",
                "  Worker: 1 machines, running",
            ]
            assert isinstance(system, ActorSystem)

    sim(scenario)
