"""Machines with one mistake each, which only show when all of a class, or of a system, is looked at."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum, auto
from typing import Any

from actorfsm import (
    STAY,
    Event,
    Machine,
    StateTimeout,
    Terminated,
    on_enter,
    on_timeout,
    postpone,
    refuse,
    transition,
)


class S(StrEnum):
    A = auto()
    B = auto()
    END = auto()


class Go(Event): ...


class Note(Event): ...


class Late(Event): ...


class Done(Event): ...


class Elsewhere(Event): ...


class Question(Event[int]): ...


class Answer(Event[int]): ...


async def work() -> None: ...


class Base(Machine[S, Any], initial=S.A, final=(S.END,)):
    @refuse(S.B)
    @transition(S.A, to=S.B)
    def go(self, event: Go) -> None: ...

    @refuse(S.A)
    @transition(S.B, to=S.END)
    def end(self, event: Done) -> None: ...


class Sound(Base):
    """All that the others get wrong, done right."""

    @postpone(S.A)
    @transition(S.B, to=STAY)
    def note(self, event: Note) -> None: ...

    @transition(S.A, S.B, to=STAY)
    def late(self, event: Late) -> None:
        self.start_timer(Late(), after=60)
        self.start_job(work, done=Late, failed=Late)
        self.next_event(Note())

    @refuse(S.A)
    @transition(S.B, to=STAY)
    def over(self, event: Terminated) -> None: ...

    @on_enter(S.B)
    def look(self, old: S, new: S) -> None:
        self._watch()

    def _watch(self) -> None:
        self.watch("other")

    @on_timeout(S.B, after=timedelta(minutes=1), to=S.END, when=lambda machine, event: True)
    def soon(self, event: StateTimeout) -> None: ...

    @on_timeout(S.B, after=timedelta(minutes=2), to=S.END)
    def later(self, event: StateTimeout) -> None: ...


class Silent(Base):
    @transition(S.A, to=STAY)
    def note(self, event: Note) -> None: ...


class Forgetful(Base):
    """Postpones in B what only A handles, and nothing leads back."""

    @postpone(S.B)
    @transition(S.A, to=STAY)
    def note(self, event: Note) -> None: ...


class Overtaken(Base):
    @on_timeout(S.A, after=timedelta(minutes=1), to=S.B)
    def soon(self, event: StateTimeout) -> None: ...

    @on_timeout(S.A, after=timedelta(minutes=2), to=S.END)
    def later(self, event: StateTimeout) -> None: ...


class Timed(Base):
    """Starts a timer on the way to B, from where nothing handles it."""

    @refuse(S.B)
    @transition(S.A, to=STAY)
    def late(self, event: Late) -> None: ...

    @on_enter(S.B)
    def remind(self, old: S, new: S) -> None:
        reminder = Late()
        self.start_timer(reminder, after=60)


class Working(Base):
    @refuse(S.B)
    @transition(S.A, to=STAY)
    def late(self, event: Late) -> None: ...

    @on_enter(S.B)
    def begin(self, old: S, new: S) -> None:
        self.start_job(work, done=Late, failed=Elsewhere)


class Raising(Base):
    @refuse(S.B)
    @transition(S.A, to=STAY)
    def late(self, event: Late) -> None: ...

    @on_enter(S.B)
    def raise_it(self, old: S, new: S) -> None:
        self.next_event(Late())


class Watching(Base):
    @on_enter(S.B)
    def look(self, old: S, new: S) -> None:
        self.watch("other")


class Expecting(Base):
    @transition(S.A, S.B, to=STAY)
    def over(self, event: Terminated) -> None: ...


class Telling(Base):
    @on_enter(S.B)
    def talk(self, old: S, new: S) -> None:
        self._talk()

    def _talk(self) -> None:
        self.tell("other", Elsewhere())


class Asking(Base):
    @transition(S.A, S.B, to=STAY)
    async def asked(self, event: Question) -> int:
        return await self.ask("answering-1", Answer())


class Answering(Base):
    @transition(S.A, S.B, to=STAY)
    async def asked(self, event: Answer) -> int:
        answer: int = await self.ask("asking-1", Question())
        return answer


class AskingItsLike(Base):
    @transition(S.A, S.B, to=STAY)
    async def asked(self, event: Question) -> int:
        return await self.ask("another", event=Question())


class Mailing(Base):
    @transition(S.END, S.A, S.B, to=STAY)
    def note(self, event: Note) -> None: ...
