"""The machines of the sweep: they note each step that they take, and change all that can be changed."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum, auto
from typing import Any

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
    StateTimeout,
    Terminated,
    after_transition,
    before_transition,
    blocking,
    on_enter,
    on_exit,
    on_timeout,
    postpone,
    transition,
)


class S(StrEnum):
    A = auto()
    B = auto()
    C = auto()
    END = auto()


class Tagged(Event[str]):
    tag: str


class Go(Tagged):
    """A → B → C → A."""


class Ping(Tagged):
    """Stays."""


class Late(Tagged):
    """Postponed in A."""


class Note(Tagged):
    """A message of one machine to another, or to itself."""


class Finish(Tagged):
    """To the final state."""


class Choose(Tagged):
    """Guarded."""


class Begin(Tagged):
    """Gives birth to a `Born`."""


class Done(Tagged):
    """A job has ended well."""


class Undone(Tagged):
    """A job has failed."""


def tag_of(event: Any) -> str:
    """Return what the event is known by in the ledgers of the world."""
    if isinstance(event, Outcome):
        return f"outcome of {event.event_id}"
    if isinstance(event, Terminated):
        return f"end of {event.machine_id}"
    if isinstance(event, StateTimeout):
        return f"timeout {event.name}"
    return str(getattr(event, "tag", type(event).__name__))


def guard(machine: Any, event: Choose) -> bool:
    machine.services.hit(f"{machine.id}.{event.tag}:guard")
    return not event.tag.startswith("no")


def another_guard(machine: Any, event: Choose) -> bool:
    machine.services.hit(f"{machine.id}.{event.tag}:another guard")
    return event.tag == "no, the other"


class Base(Machine[S, Any]):
    log: list[str] = []
    nested: dict[str, list[str]] = {}
    count: int = 0

    def note(self, step: str, event: Any) -> str:
        """Change all that can be changed, so that a rollback has something to forget."""
        key = f"{tag_of(event)}:{step}"
        self.log.append(key)
        self.nested.setdefault(tag_of(event), []).append(step)
        self.count += 1
        return key


class Probe(Base, initial=S.A, final=(S.END,)):
    async def visit(self, step: str, event: Any) -> Any:
        key = self.note(step, event)
        await self.services.point(f"{self.id}.{key}")
        act = self.services.acts.get(key)
        return None if act is None else await act(self)

    @before_transition
    async def before(self, old: S, new: S, event: Event) -> Any:
        return await self.visit("before", event)

    @on_exit()
    async def leave(self, old: S, new: S, event: Event) -> Any:
        return await self.visit("exit", event)

    @on_enter()
    async def enter(self, old: S, new: S, event: Event) -> Any:
        return await self.visit("enter", event)

    @after_transition
    async def after(self, old: S, new: S, event: Event) -> None:
        key = f"{tag_of(event)}:after"
        await self.services.point(f"{self.id}.{key}")
        if key in self.services.acts:
            await self.services.acts[key](self)

    @transition(S.A, to=S.B)
    @transition(S.B, to=S.C)
    @transition(S.C, to=S.A)
    async def go(self, event: Go) -> str:
        return await self.answer(event)

    @transition(S.A, S.B, S.C, to=STAY)
    async def ping(self, event: Ping) -> str:
        return await self.answer(event)

    @transition(S.A, S.B, S.C, to=STAY)
    async def get(self, event: Note) -> str:
        return await self.answer(event)

    @postpone(S.A)
    @transition(S.B, to=S.C)
    @transition(S.C, to=STAY)
    async def late(self, event: Late) -> str:
        return await self.answer(event)

    @transition(S.A, S.B, S.C, to=S.END)
    async def finish(self, event: Finish) -> str:
        return await self.answer(event)

    @transition(S.A, to=S.B, when=guard)
    @transition(S.A, to=S.C, when=another_guard)
    async def choose(self, event: Choose) -> str:
        return await self.answer(event)

    @transition(S.A, S.B, S.C, to=STAY)
    async def told(self, event: Outcome) -> None:
        await self.visit("body", event)

    async def answer(self, event: Tagged) -> str:
        result = await self.visit("body", event)
        return f"{event.tag}@{self.id}" if result is None else result


class Born(Probe, initial=S.B):
    @transition(to=S.A)
    async def born(self, event: Begin) -> str:
        return await self.answer(event)


class Detaching(Probe):
    @after_transition(S.B, detached=True)
    async def beside(self, old: S, new: S, event: Event) -> None:
        await self.services.point(f"{self.id}.{tag_of(event)}:beside")


class Hurried(Probe, hook_timeout=1):
    """Its hooks may take a second."""


class Redelivering(Probe, redelivery=Redelivery(attempts=2, first_delay_s=0.5)):
    """A failed event is tried again, twice."""


class Restarting(
    Probe, on_failure={BaseException: Directive.RESTART}, restart=RestartPolicy(max_restarts=2, within_s=60)
):
    """Restarted after each failure; quarantined after the third."""


class Fragile(Probe, on_failure={BaseException: Directive.RESTART}, restart=RestartPolicy(max_restarts=0)):
    """Quarantined after the first failure."""


class Mortal(Probe, on_failure={BaseException: Directive.STOP}):
    """Stopped after a failure."""


class Waiting(Probe, mailbox=MailboxPolicy(capacity=2, overflow=Overflow.WAIT, waiting=3, wait_timeout_s=5)):
    """Two wait inside, three outside."""


class Refusing(Probe, mailbox=MailboxPolicy(capacity=2, waiting=2)):
    """Two wait, the next is refused."""


class DroppingOldest(Probe, mailbox=MailboxPolicy(capacity=2, overflow=Overflow.DROP_OLDEST)):
    """Two wait, the oldest makes room."""


class DroppingNewest(Probe, mailbox=MailboxPolicy(capacity=2, overflow=Overflow.DROP_NEWEST)):
    """Two wait, the newest goes."""


class Plain(Base, initial=S.A, final=(S.END,)):
    """All its hooks are plain functions: with `inline` its turns run inside the ask, without a task."""

    def visit(self, step: str, event: Any) -> Any:
        key = self.note(step, event)
        self.services.hit(f"{self.id}.{key}")
        act = self.services.acts.get(key)
        return None if act is None else act(self)

    @before_transition
    def before(self, old: S, new: S, event: Event) -> Any:
        return self.visit("before", event)

    @on_exit()
    def leave(self, old: S, new: S, event: Event) -> Any:
        return self.visit("exit", event)

    @on_enter()
    def enter(self, old: S, new: S, event: Event) -> Any:
        return self.visit("enter", event)

    @after_transition
    def after(self, old: S, new: S, event: Event) -> None:
        self.services.hit(f"{self.id}.{tag_of(event)}:after")

    @transition(S.A, to=S.B)
    @transition(S.B, to=S.C)
    @transition(S.C, to=S.A)
    def go(self, event: Go) -> str:
        return self.answer(event)

    @transition(S.A, S.B, S.C, to=STAY)
    def ping(self, event: Ping | Note) -> str:
        return self.answer(event)

    @postpone(S.A)
    @transition(S.B, S.C, to=STAY)
    def late(self, event: Late) -> str:
        return self.answer(event)

    @transition(S.A, S.B, S.C, to=S.END)
    def finish(self, event: Finish) -> str:
        return self.answer(event)

    def answer(self, event: Tagged) -> str:
        result = self.visit("body", event)
        return f"{event.tag}@{self.id}" if result is None else result


class AnyToAny(Base, initial=S.A):
    """Declares no transitions: it goes where it is asked to."""

    @before_transition
    async def before(self, old: S, new: S, event: Event) -> Any:
        await self.services.point(f"{self.id}.{self.note('before', event)}")

    @on_enter()
    async def enter(self, old: S, new: S, event: Event) -> Any:
        await self.services.point(f"{self.id}.{self.note('enter', event)}")


class Timed(Probe, timer_attempts=2):
    """B lasts five seconds."""

    @on_timeout(S.B, after=timedelta(seconds=5), to=S.C)
    async def overdue(self, event: StateTimeout) -> None:
        await self.visit("body", event)


class Nervous(Timed, timer_attempts=1, on_failure={BaseException: Directive.RESTART}):
    """The same, restarted after each failure."""


class Working(Probe):
    """Hears how its jobs ended."""

    @transition(S.A, S.B, S.C, to=STAY)
    async def done(self, event: Done) -> str:
        return await self.answer(event)

    @transition(S.A, S.B, S.C, to=STAY)
    async def undone(self, event: Undone) -> str:
        return await self.answer(event)


class Busy(Working, on_failure={BaseException: Directive.RESTART}):
    """The same, restarted after each failure."""


class Watching(Probe):
    """Hears that others have ended."""

    @transition(S.A, S.B, S.C, to=STAY)
    async def over(self, event: Terminated) -> None:
        await self.visit("body", event)


class Blocking(Plain, hook_timeout=1):
    """Two of its hooks are for threads."""

    @on_enter()
    @blocking
    def enter(self, old: S, new: S, event: Event) -> Any:
        return self.visit("enter", event)

    @transition(S.A, to=S.B)
    @transition(S.B, to=S.C)
    @transition(S.C, to=S.A)
    @blocking
    def go(self, event: Go) -> str:
        return self.answer(event)


class Steady(Probe, on_failure={BaseException: Directive.RESUME}):
    """Stands in a tree, and is not restarted when an event fails."""
