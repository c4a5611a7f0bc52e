"""A machine with every kind of timer, each of whose methods a test scripts."""

from __future__ import annotations

import asyncio
from enum import StrEnum, auto
from typing import Any

from actorfsm import (
    STAY,
    Event,
    Machine,
    StateTimeout,
    after_transition,
    before_transition,
    on_enter,
    on_exit,
    on_timeout,
    postpone,
    transition,
)
from tests.contract.paths import Script, Style

__all__ = ["Again", "Diary", "Do", "Finish", "Go", "Ping", "State", "Tick", "Unknown", "Wait", "porter_of"]


class State(StrEnum):
    DAY = auto()
    NIGHT = auto()
    OVER = auto()


class Do(Event[Any]):
    """Stays; scripted as `do`."""


class Go(Event):
    """From day to night and back; scripted as `go`."""


class Again(Event):
    """From a state to the same state."""


class Tick(Event):
    """What timers send; stays; scripted as `tick N`."""

    n: int = 0


class Ping(Event):
    """What other timers send; stays."""


class Wait(Event):
    """Postponed by day."""

    n: int = 0


class Finish(Event):
    """Into the final state."""


class Unknown(Event):
    """By night only."""


class Diary(Script):
    """A script that notes when each of its methods was called."""

    def __init__(self, **does: Any) -> None:
        super().__init__(**does)
        self.lines: list[tuple[float, str]] = []

    def play(self, name: str, machine: Any, otherwise: Any = None) -> Any:
        self.lines.append((round(asyncio.get_running_loop().time(), 9), name))
        return super().play(name, machine, otherwise)

    def when(self, name: str) -> list[float]:
        """Return the times at which a method was called."""
        return [at for at, called in self.lines if called == name]


def porter_of(style: Style, **choices: Any) -> Any:
    class Porter(Machine[State, Diary], **({"initial": State.DAY, "final": (State.OVER,)} | choices)):
        seen: tuple[int, ...] = ()

        @before_transition
        @style
        def before(self, old: State, new: State) -> Any:
            return self.services.play("before", self)

        @on_exit(State.DAY)
        @style
        def leave(self, old: State, new: State) -> Any:
            return self.services.play("exit", self)

        @on_enter(State.DAY, State.NIGHT)
        @style
        def enter(self, old: State, new: State) -> Any:
            return self.services.play("enter", self)

        @after_transition(State.NIGHT)
        @style
        def after(self, old: State, new: State) -> Any:
            return self.services.play("after", self)

        @transition(State.DAY, State.NIGHT, State.OVER, to=STAY)
        @style
        def do(self, event: Do) -> Any:
            return self.services.play("do", self)

        @transition(State.DAY, to=State.NIGHT)
        @style
        def go(self, event: Go) -> Any:
            return self.services.play("go", self)

        @transition(State.NIGHT, to=State.DAY)
        @style
        def back(self, event: Go) -> Any:
            return self.services.play("back", self)

        @transition(State.DAY, to=State.DAY)
        @transition(State.NIGHT, to=State.NIGHT)
        @style
        def again(self, event: Again) -> Any:
            return self.services.play("again", self)

        @transition(State.DAY, State.NIGHT, to=STAY)
        @style
        def tick(self, event: Tick) -> Any:
            self.seen = (*self.seen, event.n)
            return self.services.play(f"tick {event.n}", self)

        @transition(State.DAY, State.NIGHT, to=STAY)
        @style
        def ping(self, event: Ping) -> Any:
            return self.services.play("ping", self)

        @postpone(State.DAY)
        @transition(State.NIGHT, to=STAY)
        @style
        def wait(self, event: Wait) -> Any:
            return self.services.play(f"wait {event.n}", self)

        @transition(State.NIGHT, to=STAY)
        @style
        def unknown(self, event: Unknown) -> Any:
            return self.services.play("unknown", self)

        @transition(State.DAY, State.NIGHT, to=State.OVER)
        @style
        def finish(self, event: Finish) -> Any:
            return self.services.play("finish", self)

        @on_timeout(State.NIGHT, after=10, to=State.DAY)
        @style
        def dawn(self, event: StateTimeout) -> Any:
            return self.services.play("dawn", self)

        @on_timeout(State.NIGHT, after=4, to=STAY)
        @style
        def midnight(self, event: StateTimeout) -> Any:
            return self.services.play("midnight", self)

    return Porter
