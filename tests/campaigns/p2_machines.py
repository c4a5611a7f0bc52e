"""The machines of P2: eleven classes whose hooks do what the event's script says.

An event carries its own script, so that what must happen to it is known before it is sent, whatever order the seed
chooses. `moves` names the hooks that an event passes; the world checks each outcome against it.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from functools import partial
from typing import Any, ClassVar

from actorfsm import (
    STAY,
    Directive,
    Event,
    Machine,
    MailboxPolicy,
    Outcome,
    Overflow,
    Redelivery,
    RestartPolicy,
    Spawn,
    StateTimeout,
    Terminated,
    TimerScope,
    Veto,
    after_transition,
    before_transition,
    blocking,
    on_enter,
    on_exit,
    on_timeout,
    postpone,
    transition,
)
from actorfsm.errors import ActorFSMError, JobGivenUp

HOOK_TIMEOUT_S = 1.0
GRACE_S = 1.0
KEPT = 4
"""How many of the newest numbers a machine's log keeps."""
ASK_S = 0.4
OVERDUE_S = 1.5
"""How long a machine may be BUSY."""
BIRTH_S = 0.5
"""How long the birth of a machine of the tree may take."""

SCOPES = (TimerScope.NAMED, TimerScope.STATE, TimerScope.EVENT)
WORKS = ("quick", "slow", "late", "fails", "slow")
BIRTHS = {"": None, "late": None, "veto": False, "odd": 3}
"""What the enter hook says at a birth, by how that shall go."""

VETOES = frozenset({"veto", "false", "vetoed"})
FAILS = frozenset({"value", "key", "os", "cancel", "odd", "late", "hang", "data", "self", "exit"})
MAY_FAIL = frozenset({"ask!", "chain"})


class State(Enum):
    IDLE = auto()
    BUSY = auto()
    DONE = auto()


class Scripted(Event[int]):
    """An event that says what the hooks on its way shall do; replies its number."""

    n: int
    guard: str = ""
    before: str = ""
    exit: str = ""
    body: str = ""
    enter: str = ""
    after: str = ""
    beside: str = ""
    peer: str = ""
    hop: int = 0

    leaves: ClassVar[bool] = False
    """Whether its transition leaves the state, and with it passes all hooks."""


class Job(Scripted):
    """Moves between IDLE and BUSY."""

    leaves = True


class Later(Scripted):
    """Stays in IDLE, is postponed in BUSY."""


class Own(Scripted):
    """Stays, wherever; raised by the machine itself."""


class Finish(Scripted):
    """Moves from IDLE to DONE, which is final."""

    leaves = True


class Heavy(Scripted):
    """Stays; its body blocks a thread."""


class Tick(Scripted):
    """Stays; sent by a timer of the machine itself."""


class Answer(Scripted):
    """Stays; sent by a job of the machine itself."""

    job: int


class Begin(Scripted):
    """Gives birth to a `Born`."""


SCRIPTED = frozenset({Job, Later, Own, Finish, Heavy, Tick, Answer, Begin})
"""To be asked instead of `isinstance`, which is slow for classes of pydantic."""


def guard_allows(machine: Any, event: Scripted) -> bool:
    match event.guard:
        case "no":
            return False
        case "boom":
            raise ValueError("the guard was told to")
        case "odd":
            return 3  # type: ignore[return-value]
        case _:
            return True


class Base(
    Machine[State, Any],
    on_failure={KeyError: Directive.RESTART, OSError: Directive.STOP},
    hook_timeout=HOOK_TIMEOUT_S,
    own_event_limit=10,
):
    log: list[int] = []
    count: int = 0
    birth: str = ""

    # -- hooks

    @before_transition
    async def check(self, old: State, new: State, event: Event) -> Any:
        self.services.check_in(self.id, event)
        self.services.books.attempt_begins(self.id)
        if event.__class__ in SCRIPTED and event.before:
            return await act(self, event, event.before)
        return None

    @on_exit()
    async def leave(self, old: State, new: State, event: Event) -> Any:
        self.services.check_in(self.id, event)
        if event.__class__ not in SCRIPTED:
            return None
        self.log.append(-event.n)
        self.count += 1000
        if event.exit:
            return await act(self, event, event.exit)
        return None

    @on_enter()
    async def arrive(self, old: State, new: State, event: Event) -> Any:
        if event.__class__ is Spawn:
            how = self.birth or self.services.birth_of(self.id)
            if how == "late":
                await asyncio.sleep(2 * BIRTH_S)
            return BIRTHS[how]
        self.services.check_in(self.id, event)
        if event.__class__ in SCRIPTED and event.enter:
            return await act(self, event, event.enter)
        return None

    @after_transition
    async def follow(self, old: State, new: State, event: Event) -> None:
        if event.__class__ not in SCRIPTED or not event.after:
            return
        with self.services.after(self.id, event.n):
            if event.after == "write":
                self.count = 0
            else:
                await act(self, event, event.after)

    @after_transition(State.BUSY, detached=True)
    async def beside(self, old: State, new: State, event: Event) -> None:
        if event.__class__ in SCRIPTED and event.beside:
            await act(self, event, event.beside)

    # -- transitions

    @transition(State.IDLE, to=State.BUSY, when=guard_allows)
    async def job(self, event: Job) -> int:
        return await body(self, event)

    @transition(State.BUSY, to=State.IDLE, when=guard_allows)
    async def job_back(self, event: Job) -> int:
        return await body(self, event)

    @postpone(State.BUSY)
    @transition(State.IDLE, to=STAY)
    async def later(self, event: Later) -> int:
        return await body(self, event)

    @transition(State.IDLE, State.BUSY, to=STAY)
    async def own(self, event: Own) -> int:
        return await body(self, event)

    @transition(State.IDLE, to=State.DONE, when=guard_allows)
    async def finish(self, event: Finish) -> int:
        return await body(self, event)

    @transition(State.IDLE, State.BUSY, to=STAY)
    async def told(self, event: Outcome) -> None:
        self.services.told(event)

    @transition(State.IDLE, State.BUSY, to=STAY)
    async def tick(self, event: Tick) -> int:
        return await body(self, event)

    @transition(State.IDLE, State.BUSY, to=STAY)
    async def answered(self, event: Answer) -> int:
        return await body(self, event)

    @transition(State.IDLE, State.BUSY, to=STAY)
    def heavy(self, event: Heavy) -> int:
        return plain_body(self, event)

    @transition(State.IDLE, State.BUSY, to=STAY)
    async def heard(self, event: Terminated) -> None:
        self.services.check_in(self.id, event)

    @on_timeout(State.BUSY, after=OVERDUE_S, to=State.IDLE)
    async def overdue(self, event: StateTimeout) -> None:
        self.services.overdue(self.id, event)


def write(machine: Any, event: Scripted) -> None:
    """The body's own work: what every commit must show, and no rollback."""
    machine.services.check_in(machine.id, event)
    if not event.leaves:  # then this is the first hook of the turn
        machine.services.books.attempt_begins(machine.id)
    log = machine.log
    log.append(event.n)
    del log[:-KEPT]
    machine.count += 1


async def body(machine: Any, event: Scripted) -> int:
    write(machine, event)
    if event.leaves:
        machine.count -= 1000
    if event.body:
        result = await act(machine, event, event.body)
        if result is not None and result is not False:
            return result
    return event.n


def plain_body(machine: Any, event: Scripted) -> int:
    write(machine, event)
    if event.leaves:
        machine.count -= 1000
    if event.body:
        result = plain_act(machine, event, event.body)
        if result is not None and result is not False:
            return result
    return event.n


def plain_act(machine: Any, event: Scripted, what: str) -> Any:  # noqa: PLR0912 -- a table
    """Do what a script says without waiting; what needs to wait is left out."""
    world = machine.services
    if world.calm or event.n in world.mended:
        return None
    match what:
        case "veto":
            raise Veto("told to")
        case "vetoed":
            return Veto("told to")
        case "false":
            return False
        case "value":
            raise ValueError("told to")
        case "key":
            raise KeyError("told to")
        case "os":
            raise OSError("told to")
        case "exit":
            raise SystemExit(3)
        case "cancel":
            raise asyncio.CancelledError
        case "odd":
            return 3.5
        case "data":
            machine.count = "many"
        case "tell":
            machine.tell(event.peer, world.child(event))
            machine.tell(event.peer, world.child(event))
        case "tell me":
            machine.tell(machine.id, world.child(event))
        case "own":
            machine.next_event(world.child(event, Own))
            machine.next_event(world.child(event, Own))
        case "chain":
            machine.next_event(Own(n=world.next_n(), body="chain"))
        case "stop":
            machine.stop()
        case "timer" | "untimer" | "job" | "unjob" | "watch" | "unwatch":
            begin_or_end(machine, event, what)
        case _:
            return None
    return None


def begin_or_end(machine: Any, event: Scripted, what: str) -> None:
    """Start or cancel what outlives the turn. Each has one of few names, the same when the event is tried again."""
    world, n = machine.services, event.n
    match what:
        case "timer":
            tick, name, scope = world.child(event, Tick), f"t{n % 2}", SCOPES[n % 3]
            after = (0, 0.1, 0.5, 1.0, 2.0)[n % 5]
            machine.start_timer(tick, after=after, name=name, scope=scope)
            world.books.will_start_timer(machine.id, name, tick.n, after, scope)
        case "untimer":
            machine.cancel_timer(f"t{n % 2}")
            world.books.will_cancel_timer(machine.id, f"t{n % 2}")
        case "job":
            job, name = world.next_n(), f"j{n % 2}"
            machine.start_job(
                work,
                world,
                machine.id,
                job,
                WORKS[n % len(WORKS)],
                done=world.answer,
                failed=None if n % 4 == 0 else partial(sorry, world, job),
                name=name,
                again=n % 3 == 0,
                timeout=1.0,
            )
            world.books.will_start_job(machine.id, name, job)
        case "unjob":
            machine.cancel_job(f"j{n % 2}")
            world.books.will_cancel_job(machine.id, f"j{n % 2}")
        case _:
            if event.peer != machine.id:
                (machine.watch if what == "watch" else machine.unwatch)(event.peer)
                world.books.will_watch(machine.id, event.peer, begins=what == "watch")


async def work(world: Any, machine_id: str, job: int, what: str) -> int:
    """Be a job."""
    world.job_begins(machine_id, job)
    try:
        match what:
            case "quick":
                await asyncio.sleep(0)
            case "slow":
                await asyncio.sleep(0.1 + job % 3 / 5)
            case "late":
                await asyncio.sleep(30)
            case _:
                await asyncio.sleep(0.1)
                raise ValueError("a job that fails")
    except asyncio.CancelledError:
        world.reached["job cancelled"] += 1
        raise
    world.reached["job finished"] += 1
    return job


def sorry(world: Any, job: int, error: BaseException) -> Answer:
    """Make an answer of what a job raised."""
    what = {JobGivenUp: "given up", TimeoutError: "too slow"}.get(type(error), "failed")
    world.reached[f"job {what}"] += 1
    return Answer(n=world.next_n(), job=job, hop=1)


async def act(machine: Any, event: Scripted, what: str) -> Any:  # noqa: PLR0912 -- a table
    """Do what a script says."""
    world = machine.services
    if world.calm or event.n in world.mended:
        return None
    match what:
        case "yield":
            for _ in range(1 + event.n % 3):
                await asyncio.sleep(0)
        case "slow":
            await asyncio.sleep(0.1 + event.n % 3 / 10)
        case "late":
            await asyncio.sleep(30)
        case "hang":
            await hang(world)
        case "ask" | "ask!":
            try:
                await machine.ask(event.peer, world.child(event), timeout=ASK_S)
            except ActorFSMError:
                if what == "ask!":
                    raise
        case "gather":
            other = world.some_machine()
            await asyncio.gather(
                machine.ask(event.peer, world.child(event), timeout=ASK_S),
                machine.ask(other, world.child(event), timeout=ASK_S),
                return_exceptions=True,
            )
        case "self":
            await machine.ask(machine.id, world.child(event), timeout=ASK_S)
        case "leak":
            world.leak(machine)
            await asyncio.sleep(0)
        case _:
            return plain_act(machine, event, what)
    return None


async def hang(world: Any) -> None:
    """Refuse to be cancelled for longer than the grace."""
    loop = asyncio.get_running_loop()
    end = loop.time() + HOOK_TIMEOUT_S + GRACE_S + 1.5
    while loop.time() < end:
        try:
            await asyncio.sleep(end - loop.time())
        except asyncio.CancelledError:
            world.reached["hook that refuses to be cancelled"] += 1


class Strong(Base):
    """What machines with threads have, besides."""

    @blocking
    @transition(State.IDLE, State.BUSY, to=STAY)
    def heavy(self, event: Heavy) -> int:
        self.services.reached["blocking hook"] += 1
        return plain_body(self, event)


class Worker(Strong, initial=State.IDLE, final=(State.DONE,)):
    """All defaults."""


class Fragile(
    Strong,
    initial=State.IDLE,
    final=(State.DONE,),
    on_failure={ValueError: Directive.RESTART, KeyError: Directive.RESTART, TypeError: Directive.RESTART},
    restart=RestartPolicy(max_restarts=1, within_s=20.0, first_delay_s=0.05, max_delay_s=0.5),
):
    """Restarts after most failures; soon quarantined."""


class Retrying(
    Strong, initial=State.IDLE, final=(State.DONE,), redelivery=Redelivery(attempts=2, first_delay_s=0.05)
):
    """A failed event is tried again, then poison."""


class Escalating(
    Strong,
    initial=State.IDLE,
    final=(State.DONE,),
    on_failure={ValueError: Directive.RESTART, KeyError: Directive.RESTART, OSError: Directive.STOP},
    restart=RestartPolicy(max_restarts=1, within_s=20.0, first_delay_s=0.05, max_delay_s=0.5, escalate=True),
):
    """Fails its class's place in the tree when it was restarted too often."""


class Tight(Strong, initial=State.IDLE, final=(State.DONE,), mailbox=MailboxPolicy(capacity=2)):
    """Refuses when full."""


class Patient(
    Strong,
    initial=State.IDLE,
    final=(State.DONE,),
    mailbox=MailboxPolicy(capacity=2, overflow=Overflow.WAIT, waiting=3, wait_timeout_s=0.5),
):
    """Lets senders wait when full."""


class DropsOldest(
    Strong,
    initial=State.IDLE,
    final=(State.DONE,),
    mailbox=MailboxPolicy(capacity=2, overflow=Overflow.DROP_OLDEST),
    postpone_limit=2,
):
    """Drops the oldest when full."""


class DropsNewest(
    Strong,
    initial=State.IDLE,
    final=(State.DONE,),
    mailbox=MailboxPolicy(capacity=2, overflow=Overflow.DROP_NEWEST),
    own_event_limit=4,
):
    """Drops the newest when full."""


class Born(Strong, initial=State.IDLE, final=(State.DONE,)):
    """Born by an event, too."""

    @transition(to=State.IDLE)
    async def begin(self, event: Begin) -> int:
        return await body(self, event)


class Plain(Base, initial=State.IDLE, final=(State.DONE,)):
    """The same without a single coroutine: its asks run inside the ask."""

    def check(self, old: State, new: State, event: Event) -> Any:  # type: ignore[override]
        self.services.check_in(self.id, event)
        self.services.books.attempt_begins(self.id)
        return plain_act(self, event, event.before) if event.__class__ in SCRIPTED and event.before else None

    def leave(self, old: State, new: State, event: Event) -> Any:  # type: ignore[override]
        self.services.check_in(self.id, event)
        if event.__class__ not in SCRIPTED:
            return None
        self.log.append(-event.n)
        self.count += 1000
        return plain_act(self, event, event.exit) if event.exit else None

    def arrive(self, old: State, new: State, event: Event) -> Any:  # type: ignore[override]
        if event.__class__ is Spawn:
            return BIRTHS[self.birth or self.services.birth_of(self.id)]
        self.services.check_in(self.id, event)
        return plain_act(self, event, event.enter) if event.__class__ in SCRIPTED and event.enter else None

    def follow(self, old: State, new: State, event: Event) -> None:  # type: ignore[override]
        if event.__class__ in SCRIPTED and event.after:
            with self.services.after(self.id, event.n):
                if event.after == "write":
                    self.count = 0
                plain_act(self, event, event.after)

    def beside(self, old: State, new: State, event: Event) -> None:  # type: ignore[override]
        if event.__class__ in SCRIPTED and event.beside:
            plain_act(self, event, event.beside)

    def job(self, event: Job) -> int:  # type: ignore[override]
        return plain_body(self, event)

    def job_back(self, event: Job) -> int:  # type: ignore[override]
        return plain_body(self, event)

    def later(self, event: Later) -> int:  # type: ignore[override]
        return plain_body(self, event)

    def own(self, event: Own) -> int:  # type: ignore[override]
        return plain_body(self, event)

    def finish(self, event: Finish) -> int:  # type: ignore[override]
        return plain_body(self, event)

    def told(self, event: Outcome) -> None:  # type: ignore[override]
        self.services.told(event)

    def tick(self, event: Tick) -> int:  # type: ignore[override]
        return plain_body(self, event)

    def answered(self, event: Answer) -> int:  # type: ignore[override]
        return plain_body(self, event)

    def heard(self, event: Terminated) -> None:  # type: ignore[override]
        self.services.check_in(self.id, event)

    def overdue(self, event: StateTimeout) -> None:  # type: ignore[override]
        self.services.overdue(self.id, event)


WAITING = frozenset({"yield", "slow", "late", "hang", "ask", "ask!", "gather", "self", "leak"})
"""What a script says that plain hooks leave out."""

CLASSES = (Worker, Fragile, Escalating, Retrying, Tight, Patient, DropsOldest, DropsNewest, Born, Plain)
