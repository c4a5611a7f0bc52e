"""C16, C17, C19: declarations that cannot be meant, ends in awkward moments, the stop of a tree, and many children."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from pydantic import field_validator

from actorfsm import (
    STAY,
    AskCycle,
    Child,
    DefinitionError,
    Directive,
    Event,
    HookFailed,
    Limits,
    Machine,
    Redelivery,
    Restart,
    RestartPolicy,
    Strategy,
    Supervisor,
    SystemFailed,
    SystemStopping,
    transition,
)
from actorfsm.testing import SimulatedSystem
from tests.contract.lamp import Stubborn, hang, lamp_of, raising, times
from tests.contract.paths import Path, Script, Style, on_every_async_path, on_every_path
from tests.contract.tree import (
    PROMPT,
    Fill,
    Finish,
    Later,
    Leave,
    Services,
    State,
    Steps,
    Work,
    settle,
    trees_over_a_journal_too,
    worker_of,
)

__all__ = ["trees_over_a_journal_too"]
pytestmark = [
    pytest.mark.rule("C16"),
    pytest.mark.rule("C17"),
    pytest.mark.rule("C19"),
    pytest.mark.usefixtures("over_a_journal"),
]
ASYNC = Path(Style.ASYNC, inline=True)
WORKER = worker_of(Style.ASYNC)


async def poller(system: Any) -> None:
    await asyncio.sleep(1e9)


async def too_many(system: Any, started: Any, more: Any) -> None: ...


async def keyword(*, token: str) -> None: ...


class NotBorn(Machine[State]):
    """Given birth by an event only."""

    @transition(to=State.OPEN)
    async def birth(self, event: Fill) -> None: ...

    @transition(State.OPEN, to=State.FULL)
    async def on(self, event: Work) -> int:
        return 1

    @transition(State.FULL, to=State.DONE)
    async def done(self, event: Finish) -> None: ...

    @transition(State.DONE, to=State.OPEN)
    async def again(self, event: Later) -> None: ...


class Needy(Machine[State], initial=State.OPEN, final=(State.FULL, State.DONE)):
    amount: int

    @transition(State.OPEN, to=State.FULL)
    async def on(self, event: Fill) -> None: ...

    @transition(State.OPEN, to=State.DONE)
    async def done(self, event: Finish) -> None: ...


class Callee:
    async def __call__(self, system: Any) -> None:
        await asyncio.sleep(1e9)


# -- declarations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declare", "match"),
    [
        (lambda: Child(WORKER), "give the machine's id"),
        (lambda: Child(NotBorn, "a"), "has no initial state"),
        (lambda: Child(Machine, "a"), "not a machine that can live"),
        (lambda: Child(print), "coroutine function"),
        (lambda: Child(poller, data={}), "has no data"),
        (lambda: Child(too_many), "bind more with"),
        (lambda: Child(keyword), "bind token with"),
        (lambda: Child(partial(poller, 1)), "give name="),
        (lambda: Child(WORKER, "no blanks"), "name 'no blanks' of a child"),
        (lambda: Child(WORKER, "a", restart="permanent"), "is not a Restart"),
        (lambda: Child(WORKER, "a", shutdown=-1), "shutdown=-1"),
        (lambda: Child(WORKER, "a", start_timeout=float("inf")), "start_timeout=inf"),
        (lambda: Child(WORKER, "a", start_timeout="1"), "start_timeout='1'"),
        (lambda: Supervisor("s", strategy="one_for_one"), "is not a Strategy"),
        (lambda: Supervisor("s", restart="permanent"), "is not a Restart"),
        (lambda: Supervisor("s", policy=3), "is not a RestartPolicy"),
        (lambda: Supervisor("s", children=[print]), "is no child"),
        (lambda: Supervisor("s", children=[Machine]), "not a machine that can live"),
        (ASYNC.system, "at least one machine class"),
        (
            lambda: ASYNC.system(children=[poller, Supervisor("s", children=[poller])]),
            "'poller' stands in the tree",
        ),
        (
            lambda: ASYNC.system(children=[WORKER, Supervisor("s", children=[WORKER])]),
            "Worker stands in the tree",
        ),
        (lambda: ASYNC.system(children=[Child(Needy, "a")]), "a: the data of Needy"),
    ],
)
def test_a_declaration_that_cannot_be_meant_is_refused_when_it_is_made(
    declare: Callable[[], Any], match: str
) -> None:
    with pytest.raises(DefinitionError, match=match):
        declare()


def test_a_service_may_be_a_partial_a_method_or_an_object_and_may_have_defaults(
    sim: Callable[..., None],
) -> None:
    given: list[Any] = []

    async def with_token(token: str, system: Any, retries: int = 3, *more: Any) -> None:
        given.append((token, retries))
        await asyncio.sleep(1e9)

    async def scenario() -> None:
        children = [
            Child(partial(with_token, "t"), "partial"),
            Child(Callee(), "object"),
            Child(Callee().__call__, "method"),
        ]
        async with ASYNC.system(children=children) as system:
            await settle()
            assert {child.status for child in system.tree().children} == {"running"}
        assert given == [("t", 3)]
        given.clear()

    sim(scenario)


def test_data_of_a_machine_of_the_tree_is_given_at_each_birth(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with ASYNC.system(children=[Child(Needy, "a", data={"amount": 5})], root=PROMPT) as system:
            await system.stop("a")
            await settle()
            assert (system.snapshot("a").data, system.snapshot("a").incarnation) == ({"amount": 5}, 1)

    sim(scenario)


def test_the_checker_understands_trees(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        services = Services()
        group = Supervisor(
            "group",
            strategy=Strategy.ONE_FOR_ALL,
            children=[Child(WORKER, "a"), services("one"), WORKER],
            policy=PROMPT,
        )
        script = Script(**{"work a": times(1, raising(ValueError))})
        async with SimulatedSystem(children=[group], services=script) as system:
            await system.spawn(WORKER, "x")
            with pytest.raises(HookFailed):
                await system.ask("a", Work())
            await settle()
            for event in (Work(), Leave()):
                await system.ask("a", event)
            await settle()
            services.fail("one")
            await settle()
            assert await system.ask("a", Work()) == 1
            assert await system.ask("x", Work()) == 1

    sim(scenario)


# -- the own stop --------------------------------------------------------------------------------------------------


@on_every_async_path
def test_a_machine_that_waits_in_its_own_turn_for_its_own_stop_is_told_at_once(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        systems: list[Any] = []
        script = Script(**{"work x": lambda machine: systems[0].stop("x")})
        worker = worker_of(path.style)
        async with path.system(worker, services=script) as system:
            systems.append(system)
            await system.spawn(worker, "x")
            with pytest.raises(HookFailed, match=r"self\.stop\(\)") as caught:
                await system.ask("x", Work())
            assert isinstance(caught.value.__cause__, AskCycle)
            assert caught.value.__cause__.path == ("x", "x")
            assert system.ids() == ["x"]
            assert asyncio.get_running_loop().time() == 0

    sim(scenario)


@on_every_async_path
def test_two_machines_that_wait_for_each_others_stop_are_told(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        systems: list[Any] = []
        script = Script(
            **{
                "work x": lambda machine: machine.ask("y", Work()),
                "work y": lambda machine: systems[0].stop("x"),
            }
        )
        worker = worker_of(path.style)
        async with path.system(worker, services=script) as system:
            systems.append(system)
            await system.spawn(worker, "x")
            await system.spawn(worker, "y")
            with pytest.raises(HookFailed):
                await system.ask("x", Work())
            assert asyncio.get_running_loop().time() == 0

    sim(scenario)


# -- data that no longer validates (C14) ---------------------------------------------------------------------------


@pytest.mark.rule("C14")
def test_a_restart_is_forced_where_committed_data_no_longer_validates(sim: Callable[..., None]) -> None:
    is_valid = [True]

    class Add(Event):
        n: int = 1

    class Account(Machine[State], initial=State.OPEN, final=(State.DONE,), restart=PROMPT):
        amount: int = 0

        @field_validator("amount")
        @classmethod
        def sound(cls, value: int) -> int:
            if not is_valid[0] or value < 0:
                raise ValueError("unsound")
            return value

        @transition(State.OPEN, to=STAY)
        async def add(self, event: Add) -> None:
            self.amount += event.n

        @transition(State.OPEN, to=State.FULL)
        async def fill(self, event: Fill) -> None: ...

        @transition(State.FULL, to=State.DONE)
        async def finish(self, event: Finish) -> None: ...

    async def scenario() -> None:
        is_valid[0] = True
        async with ASYNC.system(Account) as system:
            account = await system.spawn(Account, "a")
            with pytest.raises(HookFailed, match="commit"):
                await account.ask(Add(n=-1))
            assert account.snapshot().incarnation == 0  # what the body wrote was wrong, not what is committed
            is_valid[0] = False
            with pytest.raises(HookFailed, match="commit"):
                await account.ask(Add())
            assert account.snapshot().incarnation == 1
            is_valid[0] = True
            await account.ask(Add())
            assert account.snapshot().data == {"amount": 1}

    sim(scenario)


# -- ends in awkward moments ---------------------------------------------------------------------------------------


def test_a_machine_that_waits_for_its_restart_and_is_stopped_is_born_anew_once(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        steps = Steps()
        script = Script(**{"work a": times(1, raising(ValueError))})
        root = RestartPolicy(first_delay_s=5, jitter=0)
        async with ASYNC.system(
            children=[Child(WORKER, "a")], services=script, trace=steps, root=root
        ) as system:
            await system.ask("a", Fill())
            with pytest.raises(HookFailed):
                await system.ask("a", Work())
            await asyncio.sleep(1)
            await system.stop("a")
            waiting = system.tell("a", Work())
            assert (await waiting.outcome()).success
            assert system.snapshot("a").state is State.OPEN
            assert steps.count("restarted a") == 1
            assert steps.at("restarted a") == [5]

    sim(scenario)


def test_a_transient_machine_that_waits_for_its_restart_and_is_stopped_stays_dead(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        script = Script(**{"work a": times(1, raising(ValueError))})
        root = RestartPolicy(first_delay_s=5, jitter=0)
        children = [Child(WORKER, "a", restart=Restart.TRANSIENT)]
        async with ASYNC.system(children=children, services=script, root=root) as system:
            with pytest.raises(HookFailed):
                await system.ask("a", Work())
            await asyncio.sleep(1)
            await system.stop("a")
            await asyncio.sleep(10)
            assert system.ids() == []
            assert system.tree().children[0].status == "finished"

    sim(scenario)


def test_a_machine_that_ends_before_its_supervisor_has_seen_its_birth_is_restarted(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        steps = Steps()

        def leave_at_once(machine: Any) -> None:
            machine.next_event(Leave())

        script = Script(**{"born a": times(2, leave_at_once)})
        async with ASYNC.system(
            children=[Child(WORKER, "a")], services=script, trace=steps, root=PROMPT
        ) as system:
            await settle()
            assert system.snapshot("a").incarnation == 2
            assert system.tree().children[0].status == "running"

    sim(scenario)


@on_every_async_path
def test_a_birth_that_refuses_to_end_is_left_behind_and_counts(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        stubborn = Stubborn()
        worker, steps = worker_of(path.style, hook_timeout=1_000), Steps()
        script = Script()
        child = Child(worker, "a", start_timeout=2, shutdown=1)
        async with path.system(
            children=[child], services=script, trace=steps, root=PROMPT, limits=Limits(grace_s=0.5)
        ) as system:
            script.does["born a"] = times(1, stubborn)
            await system.ask("a", Leave())
            waiting = system.tell("a", Work())
            assert (await waiting.outcome()).success
            assert steps.count("restarted a") == 2
            await stubborn.let_go()

    sim(scenario)


def test_a_birth_that_waits_to_be_tried_again_is_given_up_at_the_deadline_of_the_start(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        worker = worker_of(Style.ASYNC, redelivery=Redelivery(attempts=100, first_delay_s=5, max_delay_s=5))
        script = Script(**{"born a": raising(ValueError)})
        with pytest.raises(SystemFailed, match="not born after 2 s"):
            async with ASYNC.system(children=[Child(worker, "a", start_timeout=2)], services=script):
                pass
        assert asyncio.get_running_loop().time() == 2

    sim(scenario)


def test_a_service_that_is_cancelled_by_others_or_raises_what_it_likes_is_only_restarted(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        steps, tasks = Steps(), list[Any]()

        async def odd() -> None:
            tasks.append(asyncio.current_task())
            if len(tasks) == 2:
                raise SystemExit(3)
            await asyncio.sleep(1e9)

        async with ASYNC.system(children=[odd], trace=steps, root=PROMPT) as system:
            await settle()
            tasks[0].cancel()
            await settle()
            assert len(tasks) == 3
            assert [type(r.error).__name__ for r in steps.records if r.name == "child_failed"] == [
                *("ActorFSMError", "SystemExit")
            ]
            assert system.tree().children[0].incarnation == 2

    sim(scenario)


def test_a_transient_service_that_raises_a_generator_exit_has_failed_and_is_started_again(
    sim: Callable[..., None],
) -> None:
    """Only what a closed loop throws into a coroutine is no failure of it. Found by the sweep."""

    async def scenario() -> None:
        steps, starts = Steps(), list[int]()

        async def odd() -> None:
            starts.append(1)
            if len(starts) == 1:
                raise GeneratorExit("of my own")
            await asyncio.sleep(1e9)

        children = [Child(odd, restart=Restart.TRANSIENT)]
        async with ASYNC.system(children=children, trace=steps, root=PROMPT) as system:
            await settle()
            assert len(starts) == 2
            assert [type(r.error).__name__ for r in steps.records if r.name == "child_failed"] == [
                "GeneratorExit"
            ]
            assert system.tree().children[0].status == "running"

    sim(scenario)


# -- stop ----------------------------------------------------------------------------------------------------------


@on_every_async_path
def test_services_run_while_queues_are_finished_and_are_not_restarted(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        worker, services, steps = worker_of(path.style, hook_timeout=100), Services(), Steps()
        refused: list[BaseException] = []

        async def sender(system: Any) -> None:
            await asyncio.sleep(2)
            try:
                await system.ask("a", Work())
            except SystemStopping as error:
                refused.append(error)
                raise

        script = Script(**{"work a": lambda machine: asyncio.sleep(1)})
        children = [services("one"), services("two"), sender, Child(worker, "a")]
        async with path.system(children=children, services=script, trace=steps) as system:
            receipts = [system.tell("a", Work()) for _ in range(5)]
            await settle()
            stopping = asyncio.ensure_future(system.shutdown())
            await asyncio.sleep(3)
            services.fail("two")
            await settle()
            assert services.running == {"one": 1, "two": 0}
            await stopping
        assert all([(await receipt.outcome()).success for receipt in receipts])
        assert len(refused) == 1
        assert [step for step in steps if not step.startswith("started")] == [
            *("child_failed two", "stopped a", "stopped one")
        ]
        assert system.report.finished

    sim(scenario)


@on_every_path
def test_a_machine_that_fails_while_queues_are_finished_is_restarted_for_its_mail_and_never_escalates(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        worker, steps = worker_of(path.style), Steps()
        for failures, kinds in ((1, ["failed", "committed"]), (5, ["failed", "failed", "dead_lettered"])):
            script = Script(**{"work a": times(failures, raising(ValueError))})
            root = RestartPolicy(1, 100, first_delay_s=1, jitter=0)
            async with path.system(
                children=[Child(worker, "a")], services=script, trace=steps, root=root
            ) as system:
                receipts = [system.tell("a", Work()) for _ in kinds]
            assert [(await receipt.outcome()).kind for receipt in receipts] == kinds
        assert "escalated system" not in steps

    sim(scenario)


@on_every_async_path
def test_an_abandoned_machine_of_the_tree_may_finish_its_event_within_its_deadline(
    path: Path, sim: Callable[..., None], over_a_journal: bool
) -> None:
    # Where there is a journal it is closed by then, so that the event is not done.
    finished = "failed" if over_a_journal else "committed"

    async def scenario() -> None:
        for hook, kind, took_s in ((lambda machine: asyncio.sleep(1), finished, 1), (hang, "failed", 3)):
            worker = worker_of(path.style, hook_timeout=100)
            at = asyncio.get_running_loop().time()
            async with path.system(
                children=[Child(worker, "a", shutdown=3)], services=Script(**{"work a": hook})
            ) as system:
                running, queued = system.tell("a", Work()), system.tell("a", Work())
                await settle(0.25)
                report = await system.shutdown(queues="abandon")
            assert (await running.outcome()).kind == kind
            assert (await queued.outcome()).kind == "dead_lettered"
            assert asyncio.get_running_loop().time() - at == pytest.approx(took_s + 0.25 * (hook is hang))
            assert report.unstopped == ()

    sim(scenario)


@on_every_async_path
def test_a_hook_of_the_tree_that_refuses_to_end_is_named(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        for is_static in (True, False):
            stubborn = Stubborn()
            worker = worker_of(path.style, hook_timeout=100)
            children = [Child(worker, "a", shutdown=1)] if is_static else [worker]
            async with path.system(
                children=children, services=Script(**{"work a": stubborn}), limits=Limits(grace_s=0.5)
            ) as system:
                if not is_static:
                    await system.spawn(worker, "a")
                system.tell("a", Work())
                await settle()
                report = await system.shutdown(queues="abandon")
            assert report.unstopped == ("a.work",)
            await stubborn.let_go()

    sim(scenario)


def test_a_service_may_stop_the_system_and_a_second_stop_joins_the_first(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async def ender(system: Any) -> None:
            await asyncio.sleep(3)
            await system.shutdown()

        services = Services()
        async with ASYNC.system(children=[services("one"), ender]) as system:
            await asyncio.sleep(3.5)
            first, second = await asyncio.gather(system.shutdown(), system.shutdown(queues="abandon"))
            assert first is second is system.report
        assert (system.report.finished, system.report.unstopped) == (True, ())
        assert services.running == {"one": 0}

    sim(scenario)


def test_who_stops_with_abandon_hastens_a_stop_that_finishes_queues(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        worker = worker_of(Style.ASYNC, hook_timeout=100)
        async with ASYNC.system(worker, services=Script(**{"work x": hang})) as system:
            await system.spawn(worker, "x")
            receipt = system.tell("x", Work())
            await settle()
            first = asyncio.ensure_future(system.shutdown())
            await asyncio.sleep(2)
            await system.shutdown(queues="abandon")
            assert not (await first).finished
            assert asyncio.get_running_loop().time() < 3
            assert (await receipt.outcome()).kind == "failed"

    sim(scenario)


def test_a_stop_whose_own_task_is_cancelled_goes_on(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async def slow() -> None:
            try:
                await asyncio.sleep(1e9)
            finally:
                await asyncio.sleep(2)

        worker = worker_of(Style.ASYNC, hook_timeout=100)
        script = Script(**{"work a": lambda machine: asyncio.sleep(5)})
        async with ASYNC.system(children=[Child(worker, "a"), slow], services=script) as system:
            system.tell("a", Work())
            await settle()
            stopping = asyncio.ensure_future(system.shutdown())
            await asyncio.sleep(1)
            system._ending.task.cancel()
            await asyncio.sleep(1)
            system._ending.task.cancel()
            report = await stopping
            assert report.unstopped == ()

    sim(scenario)


def test_a_supervisor_is_stopped_in_the_middle_of_its_restarts(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        services, steps = Services(), Steps()
        low = Supervisor("low", children=[services("one"), services("two")], policy=PROMPT)
        top = Supervisor(
            "top", strategy=Strategy.ONE_FOR_ALL, children=[services("three"), low], policy=PROMPT
        )
        async with ASYNC.system(children=[top], trace=steps):
            services.does["one"] = lambda: asyncio.sleep(10)
            services.fail("one")
            await asyncio.sleep(1)
            services.does.clear()
            services.fail("three")
            await settle()
            assert services.running == {"one": 1, "two": 1, "three": 1}
            assert services.runs == {"one": 3, "two": 2, "three": 2}

    sim(scenario)


def test_a_class_whose_supervisor_is_not_restarted_gives_up_its_machines(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        worker = worker_of(Style.ASYNC, hook_timeout=100)
        services = Services()
        low = Supervisor(
            "low", restart=Restart.TEMPORARY, children=[worker, services("one")], policy=RestartPolicy(0)
        )
        script = Script(**{"work x": lambda machine: asyncio.sleep(2), "work y": hang})
        async with ASYNC.system(children=[low], services=script, limits=Limits(grace_s=0.5)) as system:
            for name in "xyz":
                await system.spawn(worker, name)
            finishing, hanging = system.tell("x", Work()), system.tell("y", Work())
            waiting = system.tell("x", Work())
            await settle()
            services.fail("one")
            assert (await finishing.outcome()).success
            assert (await hanging.outcome()).kind == "failed"
            assert (await waiting.outcome()).error.type == "MachineStopped"
            assert system.ids() == []
            assert asyncio.get_running_loop().time() < 6

    sim(scenario)


def test_a_hook_left_behind_and_a_quarantine_while_the_class_is_held(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        stubborn, services = Stubborn(), Services()
        worker = worker_of(
            Style.ASYNC, hook_timeout=100, on_failure={KeyError: Directive.RESTART}, restart=RestartPolicy(0)
        )
        group = Supervisor(
            "group", strategy=Strategy.ONE_FOR_ALL, children=[worker, services("one")], policy=PROMPT
        )
        script = Script(**{"work x": times(1, stubborn), "work y": raising(KeyError), "born z": hang})
        async with ASYNC.system(children=[group], services=script, limits=Limits(grace_s=0.5)) as system:
            for name in "xy":
                await system.spawn(worker, name)
            born = asyncio.ensure_future(system.spawn(worker, "z"))
            with pytest.raises(HookFailed):
                await system.ask("y", Work())
            left = system.tell("x", Work())
            await settle()
            services.fail("one")
            assert (await left.outcome()).kind == "failed"
            with pytest.raises(HookFailed):
                await born
            await settle()
            assert system.quarantined() == ["y"]
            assert await system.ask("x", Work()) == 1
            assert system.snapshot("x").incarnation == 1
            await stubborn.let_go()

    sim(scenario)


# -- many ----------------------------------------------------------------------------------------------------------


@pytest.mark.many
def test_ten_thousand_children_start_restart_and_stop_in_linear_time() -> None:
    """What grows with the square of their number would take minutes."""
    from actorfsm.testing import simulate

    async def scenario() -> None:
        services = Services()
        children = [Child(WORKER, f"m{n}") for n in range(10_000)]
        group = Supervisor(
            "group", strategy=Strategy.ONE_FOR_ALL, children=[*children, services("one")], policy=PROMPT
        )
        async with ASYNC.system(children=[group], services=Script()) as system:
            services.fail("one")
            await settle()
            assert system.snapshot("m9999").incarnation == 1
            assert len(system.ids()) == 10_000
        assert system.report.finished

    simulate(scenario, seed=1)


@pytest.mark.rule("C12")
@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_supervisor_sees_to_a_bounded_number_of_children_in_one_step_of_the_loop(
    strategy: Strategy, sim: Callable[..., None]
) -> None:
    """Whatever befalls a thousand children at once, a step is over after a few of them, and others have their turn."""
    per_step, names = 16, [f"m{n}" for n in range(1_000)]

    async def scenario() -> None:
        loop: Any = asyncio.get_running_loop()
        in_step: dict[int, int] = {}

        def count(record: Any) -> None:
            if not record.event_type:
                in_step[loop.steps] = in_step.get(loop.steps, 0) + 1

        policy = RestartPolicy(1_000, 3_600, first_delay_s=0.1, jitter=0)
        group = Supervisor(
            "group", strategy=strategy, policy=policy, children=[Child(WORKER, name) for name in names]
        )
        script = Script(**{f"work {name}": times(2, raising(ValueError)) for name in names})
        async with ASYNC.system(
            children=[group], services=script, trace=count, limits=Limits(turns_per_step=per_step)
        ) as system:
            for _ in range(
                2
            ):  # the second time there are too many restarts, unless siblings took them down before
                for name in names:
                    system.tell(name, Work())
                await asyncio.sleep(10)
            assert {child.status for child in system.tree().children[0].children} == {"running"}
        assert sum(in_step.values()) > 5_000
        # Each child seen to leaves at most three records: it failed, begins anew, has started.
        assert max(in_step.values()) <= 3 * per_step

    sim(scenario, seeds=range(1))


def test_classes_that_are_not_placed_stand_at_the_end_under_the_root(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(Style.ASYNC)
        async with ASYNC.system(lamp_class, children=[Child(WORKER, "a")], services=Script()) as system:
            await system.spawn(lamp_class, "lamp")
            await system.spawn(WORKER, "b")
            shown = [(child.name, child.kind, child.machines) for child in system.tree().children]
            assert shown == [("a", "machine", 0), ("Lamp", "machines", 1), ("Worker", "machines", 1)]

    sim(scenario)
