"""Timers, jobs, watches, supervision trees and looking as type checkers see them. Nothing here runs."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum, auto
from typing import Any, assert_type

from actorfsm import (
    STAY,
    ActorSystem,
    Child,
    Crash,
    DeadLetter,
    Directive,
    Event,
    FailureSeen,
    Inspection,
    LoopBlocked,
    Machine,
    Ref,
    Restart,
    RestartPolicy,
    RunningSeen,
    SpawnReport,
    StateTimeout,
    StopReport,
    Strategy,
    Supervisor,
    Terminated,
    TimerScope,
    TimerSeen,
    TransitionEntry,
    TreeNode,
    WaitingSeen,
    blocking,
    on_enter,
    on_timeout,
    transition,
)


class State(StrEnum):
    OPEN = auto()
    CLOSED = auto()


class Tick(Event):
    """A timer's event."""


class Begin(Event):
    """Begins the work."""


class Done(Event):
    """How the job ended well."""

    pages: int


class Failed(Event):
    """How it did not."""

    why: str


async def count_pages(path: str, times: int) -> int:
    """Be a job."""
    return len(path) * times


class Book(Machine[State], initial=State.OPEN, final=(State.CLOSED,)):
    """Uses time, jobs and watches in every way that it may."""

    pages: int = 0

    @on_timeout(State.OPEN, after=timedelta(days=1), to=State.CLOSED)
    def overdue(self, event: StateTimeout) -> None:
        """Close."""
        assert_type(event.name, str)

    @on_timeout(State.OPEN, after=0.5, to=STAY, timeout=1)
    async def soon(self, event: StateTimeout) -> None: ...

    @transition(State.OPEN, to=STAY)
    async def begin(self, event: Begin) -> None:
        """Start everything."""
        assert_type(
            self.start_job(count_pages, "path", 2, done=Done, failed=Failed, timeout=timedelta(seconds=1)),
            str,
        )
        self.start_job(count_pages, "path", 2, done=lambda pages: Done(pages=pages), name="count", again=True)
        self.start_job(count_pages, "path", 2, failed=lambda error: Failed(why=str(error)))
        assert_type(self.cancel_job("count"), bool)
        self.start_timer(Tick(), after=3)
        self.start_timer(Tick(), after=timedelta(hours=1), name="tick", scope=TimerScope.STATE)
        self.start_timer(Tick(), at=datetime(2026, 1, 1, tzinfo=UTC), scope=TimerScope.EVENT)
        assert_type(self.cancel_timer("tick"), bool)
        assert_type(self.cancel_timer(Tick), bool)
        assert_type(self.now(), datetime)
        self.watch("other")
        self.unwatch("other")

    @transition(State.OPEN, to=STAY)
    @blocking
    def done(self, event: Done) -> None:
        """Be in a thread."""
        self.pages = event.pages

    @on_enter(State.OPEN)
    @blocking
    def enter(self, old: State, new: State) -> None: ...

    @transition(State.OPEN, to=STAY)
    def over(self, event: Terminated) -> None:
        """Hear of an end."""
        assert_type(event.machine_id, str)
        assert_type(event.incarnation, int)

    @transition(State.OPEN, to=STAY)
    def tick(self, event: Tick | Failed) -> None: ...


async def poller(system: ActorSystem[None]) -> None:
    """Be a service."""


async def consumer(system: ActorSystem[None], started: Callable[[], None]) -> None:
    """Be a service that says when it has started."""
    started()


async def plain() -> int:
    """Be a service that needs nothing."""
    return 1


def a_tree() -> ActorSystem[None]:
    """Declare all that may stand in a tree."""
    policy = RestartPolicy(max_restarts=3, within_s=60)
    payments = Supervisor(
        "payments",
        strategy=Strategy.REST_FOR_ONE,
        restart=Restart.TRANSIENT,
        policy=policy,
        children=[
            poller,
            plain,
            Child(consumer, "consumer", start_timeout=timedelta(seconds=3), shutdown=5),
            Child(Book, "book-1", data={"pages": 1}, restart=Restart.TEMPORARY),
            Book,
            Supervisor("inner"),
        ],
    )
    return ActorSystem(children=[payments], root=policy, strategy=Strategy.ONE_FOR_ALL)


async def looking(system: ActorSystem[None], book: Ref[Book]) -> None:
    """See what the operator's calls give."""
    assert_type(system.tree(), TreeNode)
    assert_type(system.tree().children, tuple[TreeNode, ...])
    seen = system.inspect("book-1")
    assert_type(seen, Inspection)
    assert_type(seen.running, RunningSeen | None)
    assert_type(seen.oldest, WaitingSeen | None)
    assert_type(seen.timers, tuple[TimerSeen, ...])
    assert_type(seen.failure, FailureSeen | None)
    assert_type(seen.timers[0].scope, TimerScope)
    assert_type(system.transitions("book-1", limit=3), tuple[TransitionEntry, ...])
    assert_type(system.last_crash("book-1"), Crash | None)
    assert_type(system.dead_letters, tuple[DeadLetter, ...])
    assert_type(await system.watch("book-1"), Terminated)
    assert_type(await system.spawn_many(Book, ["a", "b"]), SpawnReport)
    assert_type(await system.shutdown(queues="abandon", timeout=1), StopReport)
    assert_type(system.suspended(), list[str])
    system.suspend(book.id)
    system.resume(book.id)


def heard(blocked: LoopBlocked) -> None:
    """Be told of a blocked loop."""
    assert_type(blocked.machine_id, str | None)


def told(machine_id: str, error: BaseException) -> None:
    """Be told of a quarantine."""


quiet: ActorSystem[None] = ActorSystem(Book, on_blocked=heard, on_quarantine=told)


class Wrong(Machine[State], initial=State.OPEN, final=(State.CLOSED,)):
    """What type checkers must refuse in a definition and in its hooks."""

    @on_timeout(State.OPEN, to=State.CLOSED)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue, reportUntypedFunctionDecorator]
    def no_time(self, event: StateTimeout) -> None: ...

    @on_timeout(State.OPEN, after="a day", to=State.CLOSED)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    def no_duration(self, event: StateTimeout) -> None: ...

    @transition(State.OPEN, to=STAY)
    def begin(self, event: Begin) -> None:
        """Get everything wrong."""
        self.start_timer("tick", after=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        self.start_timer(Tick(), after="1 s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        self.start_timer(Tick(), at=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        self.start_timer(Tick(), after=1, scope="state")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        self.cancel_timer(Tick())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        self.start_job(count_pages, "path")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        self.start_job(count_pages, 1, 2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        self.start_job(len, "path")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        self.start_job(count_pages, "path", 2, done=lambda text: Failed(why=text))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        self.start_job(count_pages, "path", 2, done="done")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        self.cancel_job(count_pages)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def no_trees() -> None:
    """Declare what cannot be meant."""
    Supervisor("s", strategy="one_for_all")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Supervisor("s", restart=Strategy.ONE_FOR_ONE)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Supervisor("s", children=["book"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    Supervisor("s", children=[print])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    Supervisor()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Child(print)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Child(Book, "book-1", restart="permanent")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Child(Book, "book-1", shutdown="5 s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Child(Book, "book-1", {"pages": 1})  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ActorSystem(Book, root=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ActorSystem(Book, on_blocked=told)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RestartPolicy(Directive.STOP)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def no_looking(system: ActorSystem[None]) -> None:
    """Look in ways that there are not."""
    system.inspect(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    system.inspect("a").data = {}  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    number: int = system.threadsafe.ask("a", Begin()).result()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType, reportUnusedVariable]
    system.threadsafe.tell("a", "begin")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    system.threadsafe.spawn(Begin, "a")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    await system.threadsafe.stop("a")  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    asyncio.run(system.shutdown())


def anything(system: ActorSystem[Any]) -> None:
    """See that a system of any services does as well."""
    assert_type(system.tree(), TreeNode)
