"""A lamp with a hook in every place, each of which a test scripts, and ways to hurt a runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum, auto
from typing import Any

from actorfsm import (
    STAY,
    Event,
    Machine,
    Record,
    StaleTurn,
    after_transition,
    before_transition,
    on_enter,
    on_exit,
    postpone,
    transition,
)
from tests.contract.paths import Script, Style

PLACES = ("guard", "before", "exit", "body", "enter", "after")
HOOKS = PLACES[1:]


class State(StrEnum):
    OFF = auto()
    ON = auto()


class Switch(Event[str]):
    """Switch it on: passes every place."""

    n: int = 0


class Reset(Event):
    """Switch it off: no script runs."""


class Count(Event[int]):
    """Count one up, in any state; scripted as `count`."""

    n: int = 0


class Later(Event):
    """Postponed while it is off."""

    n: int = 0


class Birth(Event):
    """Brings a lamp to life, switched on; scripted as `birth`."""


def lamp_of(style: Style, **choices: Any) -> type[Machine[State, Script]]:
    class Lamp(Machine[State, Script], **({"initial": State.OFF, "hook_timeout": 1} | choices)):
        count: int = 0
        seen: tuple[int, ...] = ()

        def guard(self, event: Switch) -> bool:
            return self.services.play("guard", self, True)

        @before_transition
        @style
        def before(self, old: State, new: State, event: Event) -> Any:
            return self.services.play("before", self) if isinstance(event, Switch) else None

        @on_exit(State.OFF)
        @style
        def exit(self, old: State, new: State, event: Event) -> Any:
            return self.services.play("exit", self) if isinstance(event, Switch) else None

        @transition(State.OFF, to=State.ON, when=guard)
        @style
        def body(self, event: Switch) -> str:
            self.count += 1
            return self.services.play("body", self, "on")

        @on_enter(State.ON)
        @style
        def enter(self, old: State, new: State, event: Event) -> Any:
            return self.services.play("enter", self) if isinstance(event, Switch) else None

        @after_transition(State.ON)
        @style
        def after(self, old: State, new: State, event: Event) -> Any:
            return self.services.play("after", self) if isinstance(event, Switch) else None

        @transition(State.OFF, State.ON, to=State.OFF)
        @style
        def reset(self, event: Reset) -> None: ...

        @transition(State.OFF, State.ON, to=STAY)
        @style
        def counted(self, event: Count) -> int:
            self.count += 1
            self.seen = (*self.seen, event.n)
            return self.services.play("count", self, self.count)

        @postpone(State.OFF)
        @transition(State.ON, to=STAY)
        @style
        def later(self, event: Later) -> None:
            self.seen = (*self.seen, event.n)

        @transition(to=State.ON)
        @style
        def birth(self, event: Birth) -> None:
            return self.services.play("birth", self)

    return Lamp


class Trace(list[Record]):
    """A sink that keeps the records."""

    def __call__(self, record: Record) -> None:
        self.append(record)

    def names(self, machine_id: str = "lamp") -> list[str]:
        return [record.name for record in self if record.machine_id == machine_id]


def raising(error: Callable[[], BaseException]) -> Callable[[Any], Any]:
    def action(machine: Any) -> Any:
        raise error()

    return action


def times(count: int, action: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Do it the first few times, then nothing."""
    left = [count]

    def limited(machine: Any) -> Any:
        left[0] -= 1
        return action(machine) if left[0] >= 0 else None

    return limited


async def hang(machine: Any) -> None:
    await asyncio.sleep(1e9)


class Stubborn:
    """Something that does not end when it is cancelled, until the test lets it go; then it uses what it still holds.

    Attributes:
        cancels: How often it was cancelled.
        stale: Which uses of `self` were `StaleTurn`s.
    """

    def __init__(self) -> None:
        self.cancels = 0
        self.began = False
        self.stale: list[str] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._release: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __call__(self, machine: Any = None) -> None:
        self.began = True
        while not self._release.done():
            try:
                await asyncio.wait([self._release])
            except asyncio.CancelledError:
                self.cancels += 1
        for name, use in USES.items():
            try:
                use(machine)
            except StaleTurn:
                self.stale.append(name)
        try:
            await machine.ask("lamp", Count())
        except StaleTurn:
            self.stale.append("ask")
        self.ended.set_result(None)

    async def let_go(self) -> None:
        self._release.set_result(None)
        await self.ended
        await asyncio.sleep(0)


USES: dict[str, Callable[[Any], Any]] = {
    "read": lambda machine: machine.count,
    "state": lambda machine: machine.state,
    "id": lambda machine: machine.id,
    "services": lambda machine: machine.services,
    "now": lambda machine: machine.now(),
    "key": lambda machine: machine.idempotency_key,
    "write": lambda machine: setattr(machine, "count", 99),
    "tell": lambda machine: machine.tell("lamp", Count()),
    "next_event": lambda machine: machine.next_event(Count()),
    "stop": lambda machine: machine.stop(),
}
ALL_USES = [*USES, "ask"]
