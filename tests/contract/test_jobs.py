"""C22: a job begins after the commit, runs beside the machine, is cancelled with its state, and answers by an event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from enum import StrEnum, auto
from functools import partial
from typing import Any, Self

import pytest

from actorfsm import (
    STAY,
    Directive,
    Event,
    HookFailed,
    InvalidEvent,
    JobGivenUp,
    Limits,
    Machine,
    MailboxFull,
    MailboxPolicy,
    ReadOnly,
    Record,
    RestartPolicy,
    SystemFailed,
    Terminated,
    Veto,
    Vetoed,
    after_transition,
    blocking,
    postpone,
    transition,
)
from actorfsm.runtime.turn import CURRENT
from actorfsm.testing.faults import EVIL
from actorfsm.testing.loop import SimLoop
from tests.contract.paths import Path, Style, at_rest, on_every_path, until

pytestmark = pytest.mark.rule("C22")


class S(StrEnum):
    IDLE = auto()
    BUSY = auto()
    HELD = auto()
    OVER = auto()


class Act(Event[Any]):
    """Run a script of the test; stay."""

    script: str = ""


class Go(Event[None]):
    """To BUSY, with a script; also from BUSY to itself."""

    script: str = ""


class Leave(Event[None]):
    script: str = ""


class Hold(Event[None]):
    """Answers are postponed in HELD; it stays in the state's own way: by a transition."""


class Finish(Event[None]):
    script: str = ""


class Done(Event[None]):
    result: int


class Pair(Event[None]):
    a: int
    b: str = "b"


class Ended(Event[None]):
    pass


class Failed(Event[None]):
    text: str


def worker_of(style: Any, **choices: Any) -> Any:
    class Worker(Machine[S, Any], **({"initial": S.IDLE, "final": (S.OVER,)} | choices)):
        seen: tuple[str, ...] = ()
        items: list[int] = [1]

        def play(self, name: str) -> Any:
            return self.services[name](self) if name else None

        @transition(S.IDLE, S.BUSY, S.HELD, to=STAY)
        @style
        def act(self, event: Act) -> Any:
            return self.play(event.script)

        @transition(S.IDLE, S.BUSY, to=S.BUSY)
        @style
        def go(self, event: Go) -> None:
            self.play(event.script)

        @transition(S.BUSY, S.HELD, to=S.IDLE)
        @style
        def leave(self, event: Leave) -> None:
            self.play(event.script)

        @transition(S.IDLE, to=S.HELD)
        @style
        def hold(self, event: Hold) -> None: ...

        @transition(S.IDLE, S.BUSY, to=S.OVER)
        @style
        def finish(self, event: Finish) -> None:
            self.play(event.script)

        @postpone(S.HELD)
        @transition(S.IDLE, S.BUSY, to=STAY)
        @style
        def answered(self, event: Done | Pair | Ended | Failed) -> None:
            self.seen = (*self.seen, f"{type(event).__name__} {event.model_dump()}")
            if "answered" in self.services:
                self.services["answered"](self)

        @after_transition(S.IDLE)
        @style
        def after(self, old: S, new: S) -> None:
            if "after" in self.services:
                self.services["after"](self)

    return Worker


def done(result: int) -> str:
    return f"Done {{'result': {result}}}"


def failed(text: str) -> str:
    return f"Failed {{'text': {text!r}}}"


class Work:
    """What jobs do, and what became of them."""

    def __init__(self) -> None:
        self.began: list[Any] = []
        self.cancelled = 0
        self.release: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __call__(self, *arguments: Any) -> int:
        self.began.append(arguments)
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return len(arguments)

    async def stubborn(self) -> int:
        self.began.append(())
        while not self.release.done():
            try:
                await asyncio.wait([self.release])
            except asyncio.CancelledError:
                self.cancelled += 1
        return 99


class World:
    """A worker in a system, with scripts that start jobs."""

    def __init__(
        self, path: Path, scripts: Any = None, *, limits: Limits | None = None, **choices: Any
    ) -> None:
        self.work = Work()
        self.cls = worker_of(path.style, **choices)
        self.records: list[Record] = []
        self.scripts: dict[str, Callable[[Any], Any]] = {
            "start": self.start(self.work),
            "fail": self.fail,
            "veto": self.veto,
            **(scripts or {}),
        }
        self.system = path.system(
            self.cls, services=self.scripts, trace=self.records.append, limits=limits or Limits()
        )

    @staticmethod
    def start(function: Any, *arguments: Any, **options: Any) -> Callable[[Any], Any]:
        options = {"done": Done, "failed": Failed} | options
        return lambda machine: machine.start_job(function, *arguments, **options) and None

    @staticmethod
    def fail(machine: Any) -> None:
        raise ValueError

    @staticmethod
    def veto(machine: Any) -> None:
        raise Veto("no")

    async def __aenter__(self) -> Self:
        await self.system.__aenter__()
        self.ref = await self.system.spawn(self.cls, "worker")
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.system.__aexit__(*error)
        assert self.system.stats().balance == 0
        assert self.system.stats().jobs == 0

    @property
    def seen(self) -> tuple[str, ...]:
        assert self.system.stats().balance == 0
        return self.ref.snapshot().data["seen"]

    async def later(self, seconds: float = 2) -> tuple[str, ...]:
        """Return what the machine was told, after some time."""
        await asyncio.sleep(seconds)
        await at_rest(self.system)
        return self.seen


# -- begin -----------------------------------------------------------------------------------------------------------


@on_every_path
def test_a_job_begins_after_the_commit_and_its_result_comes_as_a_typed_event(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        def start(machine: Any) -> None:
            assert machine.start_job(world.work, 1, 2, done=Done) == "Work"
            assert world.work.began == []

        async with World(path, {"go": start}) as world:
            await world.ref.ask(Go(script="go"), event_id="go-1")
            assert world.seen == ()
            await until(lambda: world.work.began)
            assert world.system.stats().jobs == 1
            await world.ref.ask(Act())  # nobody is held up
            assert await world.later() == (done(2),)
            assert world.work.began == [(1, 2)]
            (answer,) = [record for record in world.records if record.event_type == "Done"]
            assert (answer.name, answer.causation_id) == ("committed", "go-1")
            assert world.system._parts.registry.actors["worker"].jobs is None

    sim(scenario)


@on_every_path
@pytest.mark.parametrize("how", ["veto", "fail"])
def test_a_rollback_starts_and_cancels_nothing(path: Path, how: str, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        def start(machine: Any) -> None:
            machine.start_job(world.work, done=Done, name="other")
            machine.cancel_job("first")
            world.scripts[how](machine)

        async with World(path, {"start and": start}) as world:
            await world.ref.ask(Go())
            world.scripts["first"] = world.start(world.work, name="first")
            await world.ref.ask(Act(script="first"))
            for event in (Act(script="start and"), Go(script="start and")):
                with pytest.raises((HookFailed, Vetoed)):
                    await world.ref.ask(event)
            assert await world.later() == (done(0),)
            assert (len(world.work.began), world.work.cancelled) == (1, 0)

    sim(scenario)


@on_every_path
def test_a_job_runs_in_a_clean_context_outside_of_the_turn(path: Path, sim: Callable[..., None]) -> None:
    request: ContextVar[str] = ContextVar("request", default="none")

    async def scenario() -> None:
        seen: list[Any] = []

        async def look() -> None:
            seen.append((request.get(), CURRENT.get()))
            # a call from outside, to its own machine too
            assert await world.system.ask("worker", Act()) is None
            receipt = world.system.tell("worker", Act())
            assert (await receipt).success
            seen.append("asked")

        async with World(path) as world:
            request.set("of the request")
            world.scripts["look"] = world.start(look, done=Ended)
            await world.ref.ask(Go(script="look"))
            assert await world.later() == ("Ended {}",)
            assert seen == [("none", None), "asked"]

    sim(scenario)


@on_every_path
def test_arguments_share_nothing_with_the_machines_data(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        client, given = object(), []

        async def spoil(items: list[int], service: Any) -> int:
            given.append(service)
            items.append(99)
            return len(items)

        def start(machine: Any) -> None:
            machine.start_job(spoil, machine.items, client, done=Done, again=True)
            machine.items.append(2)

        async with World(path, {"start": start}) as world:
            await world.ref.ask(Go(script="start"))
            assert await world.later() == (done(2),)
            assert world.ref.snapshot().data["items"] == [1, 2]
            assert given == [client]

    sim(scenario)


@on_every_path
def test_birth_and_blocking_hooks_may_start_jobs_and_after_hooks_may_not(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with World(path) as world:
            world.scripts["after"] = world.start(world.work)
            await world.system.spawn(world.cls, "other")
            await at_rest(world.system)
            assert isinstance(world.records[-1].error, ReadOnly)
            world.scripts["after"] = lambda machine: machine.cancel_job("x")
            await world.system.spawn(world.cls, "third")
            await at_rest(world.system)
            assert isinstance(world.records[-1].error, ReadOnly)
            assert world.work.began == []

    sim(scenario)


def test_a_blocking_hook_may_start_a_job(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with World(Path(blocking, inline=True)) as world:  # type: ignore[arg-type]
            await world.ref.ask(Go(script="start"))
            assert await world.later() == (done(0),)

    sim(scenario)


# -- answer ----------------------------------------------------------------------------------------------------------


@on_every_path
def test_every_way_to_make_an_event_of_a_result(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async def value(result: Any) -> Any:
            return result

        cases: list[tuple[Any, Any, str]] = [
            (1, Done, done(1)),
            ("whatever", Ended, "Ended {}"),
            ({"a": 1}, Pair, "Pair {'a': 1, 'b': 'b'}"),
            (3, lambda result: Pair(a=result, b="made"), "Pair {'a': 3, 'b': 'made'}"),
            ("no int", Done, "Failed {'text': 'InvalidEvent: not a Done: "),
            (
                7,
                Pair,
                "Failed {'text': 'InvalidEvent: the job value returned a int, where Pair takes a mapping of a, b",
            ),
            (7, lambda _: 7, "Failed {'text': 'TypeError: what the job value returned was made into int"),
            (
                7,
                lambda _: Terminated(machine_id="x", incarnation=0, reason="failed"),
                "Failed {'text': 'InvalidEvent: ",
            ),
            (7, World.fail, failed("ValueError")),
        ]
        async with World(path) as world:
            for result, made, expected in cases:
                world.scripts["value"] = world.start(partial(value, result), done=made)
                await world.ref.ask(Act(script="value"))
                assert (await world.later(0.1))[-1].startswith(expected)
            world.scripts["value"] = world.start(value, 1, done=None)
            await world.ref.ask(Act(script="value"))
            assert len(await world.later(0.1)) == len(cases)  # nobody is told
            assert world.system.stats().jobs_failed == 0

    sim(scenario)


@on_every_path
def test_answers_come_in_the_order_in_which_jobs_end(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async def after(seconds: int) -> int:
            await asyncio.sleep(seconds)
            return seconds

        def start(machine: Any) -> None:
            names = [machine.start_job(after, seconds, done=Done) for seconds in (3, 1, 2)]
            assert names == ["after", "after-2", "after-3"]

        async with World(path, {"go": start}) as world:
            await world.ref.ask(Go(script="go"))
            assert await world.later(5) == (done(1), done(2), done(3))

    sim(scenario)


@on_every_path
def test_an_answer_finds_room_in_a_full_mailbox(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        policy = MailboxPolicy(capacity=1, waiting=0)
        async with World(path, mailbox=policy) as world:
            await world.ref.ask(Go(script="start"))
            world.system.suspend("worker")
            waits = world.ref.tell(Act())
            await asyncio.sleep(2)
            world.system.resume("worker")
            await waits
            assert await world.later() == (done(0),)
            assert world.system.stats().dead_letters == 0

    sim(scenario)


# -- the end of a job ------------------------------------------------------------------------------------------------


@on_every_path
@pytest.mark.parametrize("how", ["leave", "reenter", "finish", "stop", "stop itself", "cancel", "replace"])
def test_a_job_is_cancelled_when_its_state_is_left_or_its_machine_ends(
    path: Path, how: str, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        scripts = {
            "stop": lambda machine: machine.stop(),
            "cancel": lambda machine: machine.cancel_job("Work"),
            "replace": lambda machine: machine.start_job(asyncio.sleep, 0, name="Work") and None,
        }
        async with World(path, scripts) as world:
            await world.ref.ask(Go(script="start"))
            await until(lambda: world.work.began)
            if how == "stop":
                await world.system.stop("worker")
            elif how in {"leave", "reenter", "finish"}:
                event = {"leave": Leave(), "reenter": Go(), "finish": Finish()}[how]
                await world.ref.ask(event)
            elif how == "cancel":
                assert await world.ref.ask(Act(script=how)) is True
            else:
                await world.ref.ask(Act(script=how.split(maxsplit=1)[0]))
            await until(lambda: world.work.cancelled)
            await asyncio.sleep(2)
            if "stop" not in how:
                assert world.seen == ()
            assert world.system.stats().jobs == 0
            assert world.system.stats().dead_letters == 0
            assert "job_failed" not in {record.name for record in world.records}

    sim(scenario)


@on_every_path
def test_a_stay_keeps_a_job_and_a_later_one_joins_it(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with World(path) as world:
            await world.ref.ask(Go(script="start"))
            await world.ref.ask(Act(script="start"))
            await world.ref.ask(Act())
            assert await world.later() == (done(0), done(0))

    sim(scenario)


@on_every_path
def test_the_answer_of_a_cancelled_job_never_comes_even_if_it_waits(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        scripts = {"cancel": lambda machine: machine.cancel_job("Work")}
        async with World(path, scripts) as world:
            for leave in (Leave(), Act(script="cancel")):
                await world.ref.ask(Go(script="start"))
                world.system.suspend("worker")
                receipt = world.ref.tell(leave)
                await asyncio.sleep(2)  # the answer waits behind what cancels the job
                before = world.system.stats()
                world.system.resume("worker")
                await receipt
                assert await world.later() == ()
                after = world.system.stats()
                assert (after.accepted, after.withdrawn) == (before.accepted - 1, before.withdrawn + 1)
            # and so does one that was postponed
            await world.ref.ask(Leave())
            await world.ref.ask(Hold())
            await world.ref.ask(Act(script="start"))
            await asyncio.sleep(2)
            assert world.system.stats().postponed == 1
            await world.ref.ask(Leave())
            assert await world.later() == ()
            assert world.system.stats().dead_letters == 0

    sim(scenario)


@on_every_path
def test_a_machine_that_stops_takes_answers_that_wait_away(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with World(path) as world:
            await world.ref.ask(Go(script="start"))
            world.system.suspend("worker")
            await asyncio.sleep(2)
            assert world.system.stats().queued == 1
            await world.system.stop("worker")
            assert (world.system.stats().withdrawn, world.system.stats().dead_letters) == (1, 0)

    sim(scenario)


@on_every_path
def test_a_job_of_a_machine_that_finishes_or_stops_with_it_is_never_begun(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        def start_and_stop(machine: Any) -> None:
            machine.start_job(world.work)
            machine.stop()

        async with World(path, {"both": start_and_stop}) as world:
            await world.ref.ask(Finish(script="start"))
            await world.system.spawn(world.cls, "other")
            await world.system.ask("other", Act(script="both"))
            await asyncio.sleep(2)
            assert world.work.began == []

    sim(scenario)


@on_every_path
def test_a_job_that_ended_while_the_turn_still_runs_is_kept_or_fenced_by_its_commit(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async def quick() -> int:
            return 5

        def start(machine: Any) -> Any:
            assert machine.cancel_job("nothing") is False
            return asyncio.sleep(1) if path.is_async else None

        async with World(path, {"slow": start}) as world:
            world.scripts["quick"] = world.start(quick, done=None)
            await world.ref.ask(Act(script="quick"))
            await world.ref.ask(Act(script="slow"))
            assert await world.later() == ()
            assert world.system._parts.registry.actors["worker"].jobs is None

    sim(scenario)


@on_every_path
def test_a_job_may_answer_and_its_answer_may_start_the_next(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        def again(machine: Any) -> None:
            if len(machine.seen) < 3:
                machine.start_job(world.work, done=Done, name="work")

        async with World(path, {"answered": again}, job_limit=1) as world:
            world.scripts["start"] = world.start(world.work, name="work")
            await world.ref.ask(Go(script="start"))
            assert await world.later(5) == (done(0),) * 3

    sim(scenario)


# -- failure ---------------------------------------------------------------------------------------------------------


@on_every_path
@pytest.mark.parametrize("told", [True, False])
def test_whatever_a_job_raises_the_machine_is_told_or_a_record_says_so(
    path: Path, told: bool, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async def evil(name: str) -> int:
            await asyncio.sleep(0)
            raise EVIL[name]()  # noqa: RSE102 -- a factory

        async with World(path) as world:
            for name in EVIL:
                world.scripts["evil"] = world.start(evil, name, failed=Failed if told else None)
                await world.ref.ask(Act(script="evil"), event_id=f"evil-{name}")
                await world.later(0.1)
                kind = "RuntimeError" if name == "StopIteration" else type(EVIL[name]()).__name__
                if told:
                    assert world.seen[-1].startswith(
                        (f"Failed {{'text': '{kind}", f"Failed {{'text': \"{kind}")
                    )
                else:
                    record = world.records[-1]
                    assert (record.name, record.hook, record.event_id) == (
                        "job_failed",
                        "evil",
                        f"evil-{name}",
                    )
                    assert record.reason.startswith(kind)
                    assert type(record.error).__name__ == kind
            assert len(world.seen) == (len(EVIL) if told else 0)
            assert world.system.stats().jobs_failed == (0 if told else len(EVIL))
            assert world.ref.snapshot().incarnation == 0
            await world.ref.ask(Act())

    sim(scenario)


@on_every_path
def test_a_function_of_the_exception_makes_the_answer_and_may_fail_itself(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async def work() -> int:
            raise KeyError("lost")

        def answer(error: BaseException) -> Event:
            assert isinstance(error, KeyError)
            return Failed(text=f"could not: {error.args[0]}")

        async with World(path) as world:
            world.scripts["one"] = world.start(work, failed=answer)
            await world.ref.ask(Act(script="one"))
            assert await world.later() == (failed("could not: lost"),)
            for name, error in EVIL.items():

                def evil(_: Any, error: Any = error) -> Any:
                    raise error()

                world.scripts["two"] = world.start(work, failed=evil)
                await world.ref.ask(Act(script="two"))
                await world.later(0.1)
                assert world.records[-1].name == "job_failed"
                assert type(world.records[-1].error) is type(error()), name
            world.scripts["three"] = world.start(work, failed=Ended)
            await world.ref.ask(Act(script="three"))
            assert (await world.later())[-1] == "Ended {}"

    sim(scenario)


@on_every_path
def test_a_job_has_its_deadline(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with World(path) as world:
            world.scripts["short"] = world.start(world.work, timeout=0.5)
            await world.ref.ask(Act(script="short"))
            assert await world.later(0.4) == ()
            assert await world.later(0.2) == (failed("TimeoutError: took longer than 0.5 s"),)
            assert world.work.cancelled == 1

    sim(scenario)


@on_every_path
def test_a_job_that_cancels_its_own_task_has_failed(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async def cancel_own_task() -> int:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(1)
            return 1

        async with World(path) as world:
            world.scripts["own"] = world.start(cancel_own_task)
            await world.ref.ask(Act(script="own"))
            assert await world.later() == (failed("CancelledError"),)

    sim(scenario)


@on_every_path
def test_an_answer_that_fails_has_its_outcome_and_is_not_sent_again(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with World(path, {"answered": World.fail}) as world:
            await world.ref.ask(Act(script="start"))
            assert await world.later() == ()
            (record,) = [record for record in world.records if record.event_type == "Done"]
            assert record.name == "failed"
            assert world.system._parts.registry.actors["worker"].jobs is None

    sim(scenario)


# -- restart ---------------------------------------------------------------------------------------------------------


@on_every_path
@pytest.mark.rule("C15")
@pytest.mark.parametrize("again", [True, False])
def test_after_a_restart_a_running_job_is_begun_again_or_given_up(
    path: Path, again: bool, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        policy = RestartPolicy(first_delay_s=3, jitter=0)
        async with World(path, on_failure={ValueError: Directive.RESTART}, restart=policy) as world:
            items = [1]
            world.scripts["start"] = world.start(world.work, items, again=again)
            await world.ref.ask(Go(script="start"))
            await until(lambda: world.work.began)
            world.work.began[0][0].append(2)
            with pytest.raises(HookFailed):
                await world.ref.ask(Act(script="fail"))
            assert await world.later(2.5) == ()  # the old incarnation's is fenced off, and the pause goes on
            assert (len(world.work.began), world.work.cancelled) == (1, 1)
            seen = await world.later(3)
            if again:
                assert seen == (done(1),)
                assert world.work.began[1] == ([1],)
            else:
                assert seen[0].startswith(
                    "Failed {'text': 'JobGivenUp: worker was restarted while the job Work ran"
                )
                assert len(world.work.began) == 1
            assert len(seen) == 1

    sim(scenario)


@on_every_path
def test_a_job_that_is_given_up_without_failed_is_recorded(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with World(path, on_failure={ValueError: Directive.RESTART}) as world:
            world.scripts["start"] = world.start(world.work, failed=None)
            await world.ref.ask(Go(script="start"))
            with pytest.raises(HookFailed):
                await world.ref.ask(Act(script="fail"))
            assert await world.later() == ()
            (record,) = [record for record in world.records if record.name == "job_failed"]
            assert isinstance(record.error, JobGivenUp)
            assert record.incarnation == 1

    sim(scenario)


@on_every_path
@pytest.mark.rule("C15")
def test_an_answer_that_waits_is_mail_and_survives_a_restart_once(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with World(path, on_failure={ValueError: Directive.RESTART}) as world:
            world.scripts["start"] = world.start(world.work, again=True)
            await world.ref.ask(Go(script="start"))
            world.system.suspend("worker")
            receipt = world.ref.tell(Act(script="fail"))
            await asyncio.sleep(2)
            world.system.resume("worker")
            assert (await receipt).kind == "failed"
            assert await world.later() == (done(0),)
            assert len(world.work.began) == 1

    sim(scenario)


@on_every_path
@pytest.mark.parametrize("again", [True, False])
def test_a_quarantine_stops_a_job_until_the_release(
    path: Path, again: bool, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        policy = RestartPolicy(max_restarts=0)
        async with World(path, on_failure={ValueError: Directive.RESTART}, restart=policy) as world:
            world.scripts["start"] = world.start(world.work, again=again)
            await world.ref.ask(Go(script="start"))
            with pytest.raises(HookFailed):
                await world.ref.ask(Act(script="fail"))
            assert await world.later(10) == ()
            assert world.system.stats().jobs == 0
            world.system.release("worker")
            (answer,) = await world.later()
            assert answer.startswith("Done" if again else "Failed {'text': 'JobGivenUp")

    sim(scenario)


@on_every_path
def test_a_machine_that_is_stopped_in_its_pause_takes_its_jobs_along(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        policy = RestartPolicy(first_delay_s=3)
        async with World(path, on_failure={ValueError: Directive.RESTART}, restart=policy) as world:
            world.scripts["start"] = world.start(world.work, again=True)
            await world.ref.ask(Go(script="start"))
            with pytest.raises(HookFailed):
                await world.ref.ask(Act(script="fail"))
            await world.system.stop("worker")
            await asyncio.sleep(10)
            assert len(world.work.began) <= 1

    sim(scenario)


# -- shutdown --------------------------------------------------------------------------------------------------------


@on_every_path
@pytest.mark.rule("C19")
def test_shutdown_waits_for_jobs_and_their_answers(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with World(path) as world:
            await world.ref.ask(Go(script="start"))
        assert world.seen == (done(0),)
        assert (world.system.report.finished, world.system.report.unstopped) == (True, ())

    sim(scenario)


@on_every_path
@pytest.mark.rule("C19")
@pytest.mark.parametrize("queues", ["finish", "abandon"])
def test_shutdown_cancels_jobs_at_its_deadline(path: Path, queues: str, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with World(path) as world:
            world.scripts["start"] = world.start(asyncio.sleep, 1e6, done=Ended)
            await world.ref.ask(Go(script="start"))
            report = await world.system.shutdown(queues=queues, timeout=3)
            assert (report.finished, report.abandoned, report.unstopped) == (False, 0, ())
            assert report.seconds == (3 if queues == "finish" else 0)
            assert world.seen == ()

    sim(scenario)


@on_every_path
@pytest.mark.rule("C19")
def test_a_job_that_refuses_to_be_cancelled_is_named_and_its_answer_never_comes(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        limits = Limits(grace_s=0.5, stop_timeout_s=1)
        async with World(path, limits=limits) as world:
            world.scripts["start"] = world.start(world.work.stubborn)
            await world.ref.ask(Go(script="start"))
            await until(lambda: world.work.began)
            await world.ref.ask(Leave())
            await world.ref.ask(Go())
        assert world.system.report.unstopped == ("the job stubborn of worker",)
        assert world.work.cancelled >= 1
        world.work.release.set_result(None)
        assert await world.later() == ()

    sim(scenario)


# -- what is refused -------------------------------------------------------------------------------------------------


@on_every_path
def test_jobs_are_bounded(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with World(path, job_limit=2) as world:
            world.scripts["three"] = lambda m: [m.start_job(world.work, done=Done) for _ in range(3)] and None
            world.scripts["two"] = lambda m: [m.start_job(world.work, done=Done) for _ in range(2)] and None
            with pytest.raises(HookFailed, match="worker has 2 jobs, as many as it may") as caught:
                await world.ref.ask(Act(script="three"))
            assert isinstance(caught.value.__cause__, MailboxFull)
            await world.ref.ask(Go(script="two"))
            with pytest.raises(HookFailed):
                await world.ref.ask(Act(script="start"))
            await world.ref.ask(Go(script="two"))  # those of the state that is left do not count
            assert await world.later() == (done(0), done(0))
            await world.ref.ask(Act(script="two"))  # nor those that have answered
            assert len(await world.later()) == 4

    sim(scenario)


async def noop(*_: Any) -> int:
    return 1


def plain() -> int:
    return 1


async def async_answer(result: Any) -> Any:
    return Done(result=result)


REFUSED: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "a plain function": (lambda m: m.start_job(plain), TypeError, "plain is not an `async def`.*to_thread"),
    "no function": (lambda m: m.start_job(7), TypeError, "int is not an `async def`"),
    "a method of the machine": (
        lambda m: m.start_job(m.use),
        TypeError,
        "would use the machine after its turn",
    ),
    "a partial of one": (lambda m: m.start_job(partial(m.use)), TypeError, "outside of the class"),
    "the machine as argument": (lambda m: m.start_job(noop, m), TypeError, "outside of the class"),
    "the machine in a partial": (lambda m: m.start_job(partial(noop, m)), TypeError, "outside of the class"),
    "done of another machine": (
        lambda m: m.start_job(noop, done=Strange),
        InvalidEvent,
        "done=Strange: give an event class that User takes",
    ),
    "done that is nothing": (lambda m: m.start_job(noop, done=7), InvalidEvent, "done=7"),
    "done that is async": (lambda m: m.start_job(noop, done=async_answer), InvalidEvent, "async_answer"),
    "failed of several fields": (
        lambda m: m.start_job(noop, failed=Pair),
        InvalidEvent,
        "it has several fields",
    ),
    "an empty name": (lambda m: m.start_job(noop, name=""), InvalidEvent, "the name of a job"),
    "no time": (lambda m: m.start_job(noop, timeout=0), InvalidEvent, "timeout=0"),
}


class Strange(Event[None]):
    pass


class User(Machine[S, Any], initial=S.IDLE, final=(S.OVER,)):
    async def use(self) -> int:
        return 1

    @transition(S.IDLE, to=STAY)
    def act(self, event: Act) -> None:
        REFUSED[event.script][0](self)

    @transition(S.IDLE, to=S.BUSY)
    def go(self, event: Go | Pair) -> None: ...

    @transition(S.BUSY, to=S.HELD)
    def hold(self, event: Hold) -> None: ...

    @transition(S.HELD, to=S.OVER)
    def finish(self, event: Finish) -> None: ...


@pytest.mark.parametrize("case", REFUSED)
def test_a_job_that_cannot_be_meant_is_refused_with_a_remedy(case: str, sim: Callable[..., None]) -> None:
    _, error, text = REFUSED[case]

    async def scenario() -> None:
        async with Path(Style.PLAIN, inline=True).system(User) as system:
            user = await system.spawn(User, "user")
            with pytest.raises(HookFailed, match=f"(?s){text}") as caught:
                await user.ask(Act(script=case))
            assert isinstance(caught.value.__cause__, error)
            assert system.stats().jobs == 0

    sim(scenario, seeds=range(1))


def test_callable_objects_and_partials_may_be_jobs(sim: Callable[..., None]) -> None:
    class Client:
        async def fetch(self, n: int) -> int:
            return n

        async def __call__(self) -> int:
            return 2

    async def scenario() -> None:
        async with World(Path(Style.ASYNC, inline=True)) as world:
            client = Client()
            for script in (client, client.fetch, partial(client.fetch, 3), partial(client)):
                arguments = (1,) if script == client.fetch else ()
                world.scripts["one"] = world.start(script, *arguments)
                await world.ref.ask(Act(script="one"))
                await world.later(0.1)
            assert world.seen == (done(2), done(1), done(3), done(2))

    sim(scenario)


def test_the_account_balances_at_each_step_of_the_loop(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        balances: set[int] = set()
        async with World(Path(Style.SUSPENDING, inline=True)) as world:
            loop: Any = asyncio.get_running_loop()
            loop.on_step = lambda _: balances.add(world.system.stats().balance)
            for event in (Go(script="start"), Act(script="start"), Leave(), Go(script="start")):
                await world.ref.ask(event)
            await world.later()
            loop.on_step = None
            assert world.seen == (done(0),)
        assert balances == {0}

    sim(scenario)


# -- signals, and a loop that is gone --------------------------------------------------------------------------------


def interrupting(_: Any) -> Any:
    raise KeyboardInterrupt


async def interrupted() -> int:
    raise KeyboardInterrupt


async def broken() -> int:
    raise ValueError


@pytest.mark.rule("C13")
@pytest.mark.parametrize(
    "options",
    [
        {"function": interrupted},
        {"function": noop, "done": interrupting},
        {"function": broken, "failed": interrupting},
    ],
    ids=["job", "done", "failed"],
)
def test_keyboard_interrupt_in_a_job_is_a_signal_to_shut_down(options: Any) -> None:
    async def scenario() -> None:
        async with World(Path(Style.ASYNC, inline=True)) as world:
            given = dict(options)
            world.scripts["start"] = world.start(given.pop("function"), **given)
            await world.ref.ask(Go(script="start"))
            await asyncio.sleep(1e9)

    for seed in range(3):
        loop = SimLoop(seed)
        main = loop.create_task(scenario())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(main)
        main.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(main)
        loop.close()


def test_a_job_whose_loop_is_gone_ends_in_silence() -> None:
    async def scenario() -> Any:
        world = World(Path(Style.ASYNC, inline=True))
        await world.__aenter__()
        await world.ref.ask(Go(script="start"))
        await until(lambda: world.work.began)
        return world

    loop = SimLoop(1)
    world = loop.run_until_complete(scenario())
    (job,) = world.system._parts.registry.actors["worker"].jobs.values()
    coroutine = job._task.get_coro()
    coroutine.close()  # as the garbage collector does
    assert world.system.stats().jobs_failed == 0
    assert "job_failed" not in {record.name for record in world.records}
    loop.abandon()


@on_every_path
def test_a_failed_job_is_counted_without_a_sink(path: Path, sim: Callable[..., None]) -> None:
    class Quiet(Machine[S, Any], initial=S.IDLE, final=(S.BUSY, S.HELD, S.OVER)):
        @transition(S.IDLE, to=STAY)
        @path.style
        def act(self, event: Act) -> None:
            self.start_job(broken)

        @transition(S.IDLE, to=S.BUSY)
        @path.style
        def go(self, event: Go) -> None: ...

        @transition(S.IDLE, to=S.HELD)
        @path.style
        def hold(self, event: Hold) -> None: ...

        @transition(S.IDLE, to=S.OVER)
        @path.style
        def finish(self, event: Finish) -> None: ...

    async def scenario() -> None:
        async with path.system(Quiet) as system:
            quiet = await system.spawn(Quiet, "quiet")
            await quiet.ask(Act())
        assert system.stats().jobs_failed == 1

    sim(scenario)


def test_a_turn_that_commits_after_its_machine_was_ended_starts_no_job(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        def start(machine: Any) -> None:
            machine.start_job(world.work)
            world.system._fail(ValueError("the runtime is at fault"))

        world = World(Path(Style.PLAIN, inline=True))
        world.scripts["start"] = start
        with pytest.raises(SystemFailed):  # noqa: PT012 -- the system is the block
            async with world:
                await world.ref.ask(Go(script="start"))
                await asyncio.sleep(1e9)
        assert world.work.began == []
        assert world.system.stats().jobs == 0

    sim(scenario)


def test_an_answer_that_is_being_handled_when_its_machine_ends_has_its_outcome(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        world = World(Path(Style.PLAIN, inline=True))
        world.scripts["answered"] = lambda _: world.system._fail(ValueError("the runtime is at fault"))
        with pytest.raises(SystemFailed):  # noqa: PT012 -- the system is the block
            async with world:
                await world.ref.ask(Go(script="start"))
                await asyncio.sleep(1e9)
        assert world.records[-1].event_type == "Done"
        assert world.system.stats().balance == 0

    sim(scenario)
