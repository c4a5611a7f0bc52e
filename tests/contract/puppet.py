"""Machines on strings: an event names a script of the test, which runs as its body or in one of its hooks.

The three classes are the same machine in the three ways in which users write hooks: async and suspending, async without
suspending, plain functions. A script is `services[name]` or `services[name, place]`, called with the machine.
"""

from __future__ import annotations

import asyncio
import inspect
from enum import StrEnum, auto
from typing import Any

from actorfsm import (
    Event,
    Machine,
    after_transition,
    before_transition,
    on_enter,
    on_exit,
    postpone,
    transition,
)
from actorfsm.runtime.tasks import EAGER


class S(StrEnum):
    RED = auto()
    BLUE = auto()
    HELD = auto()
    END = auto()


class Do(Event[Any]):
    """Run a script; from RED to BLUE and back."""

    script: str = ""
    n: int = 0


class Hold(Event):
    """Go to HELD, where `Do` is postponed."""


class LetGo(Event):
    """Back from HELD."""


class Never(Event):
    """Taken nowhere but in END, which is final: unhandled."""


class Finish(Event):
    """Go to the final state."""


async def play(machine: Any, event: Any, place: str) -> Any:
    """Run the script that the event names for this place."""
    result = play_plain(machine, event, place)
    return await result if inspect.isawaitable(result) else result


def play_plain(machine: Any, event: Any, place: str) -> Any:
    """Run the script, which must not be async, that the event names for this place."""
    name = getattr(event, "script", "")
    scripts = machine.services or {}
    script = scripts.get((name, place)) or (scripts.get(name) if place == "body" else None)
    return None if script is None else script(machine)


class Eager(Machine[S], initial=S.RED, final=(S.END,)):
    """Async hooks that do not suspend by themselves."""

    done: tuple[int, ...] = ()

    @before_transition
    async def before(self, old: S, new: S, event: Event) -> Any:
        return await play(self, event, "before")

    @on_exit()
    async def leave(self, old: S, new: S, event: Event) -> Any:
        return await play(self, event, "exit")

    @on_enter()
    async def enter(self, old: S, new: S, event: Event) -> Any:
        return await play(self, event, "enter")

    @after_transition()
    async def after(self, old: S, new: S, event: Event) -> None:
        await play(self, event, "after")

    @postpone(S.HELD)
    @transition(S.RED, to=S.BLUE)
    async def there(self, event: Do) -> Any:
        self.done = (*self.done, event.n)
        return await play(self, event, "body")

    @transition(S.BLUE, to=S.RED)
    async def back(self, event: Do) -> Any:
        self.done = (*self.done, event.n)
        return await play(self, event, "body")

    @transition(S.RED, S.BLUE, to=S.HELD)
    async def hold(self, event: Hold) -> None: ...

    @transition(S.HELD, to=S.RED)
    async def let_go(self, event: LetGo) -> None: ...

    @transition(S.RED, S.BLUE, S.HELD, to=S.END)
    async def finish(self, event: Finish) -> None: ...

    @transition(S.HELD, to=S.HELD, when=lambda _machine, _event: False)
    async def never(self, event: Never) -> None: ...


class Suspending(Eager):
    """Every body suspends for a step of the loop."""

    @transition(S.RED, to=S.BLUE)
    @postpone(S.HELD)
    async def there(self, event: Do) -> Any:
        await asyncio.sleep(0)
        self.done = (*self.done, event.n)
        return await play(self, event, "body")

    @transition(S.BLUE, to=S.RED)
    async def back(self, event: Do) -> Any:
        await asyncio.sleep(0)
        self.done = (*self.done, event.n)
        return await play(self, event, "body")


class Plain(Machine[S], initial=S.RED, final=(S.END,)):
    """Nothing but plain functions: its asks need no task."""

    done: tuple[int, ...] = ()

    @before_transition
    def before(self, old: S, new: S, event: Event) -> Any:
        return play_plain(self, event, "before")

    @on_exit()
    def leave(self, old: S, new: S, event: Event) -> Any:
        return play_plain(self, event, "exit")

    @on_enter()
    def enter(self, old: S, new: S, event: Event) -> Any:
        return play_plain(self, event, "enter")

    @after_transition()
    def after(self, old: S, new: S, event: Event) -> None:
        play_plain(self, event, "after")

    @postpone(S.HELD)
    @transition(S.RED, to=S.BLUE)
    def there(self, event: Do) -> Any:
        self.done = (*self.done, event.n)
        return play_plain(self, event, "body")

    @transition(S.BLUE, to=S.RED)
    def back(self, event: Do) -> Any:
        self.done = (*self.done, event.n)
        return play_plain(self, event, "body")

    @transition(S.RED, S.BLUE, to=S.HELD)
    def hold(self, event: Hold) -> None: ...

    @transition(S.HELD, to=S.RED)
    def let_go(self, event: LetGo) -> None: ...

    @transition(S.RED, S.BLUE, S.HELD, to=S.END)
    def finish(self, event: Finish) -> None: ...

    @transition(S.HELD, to=S.HELD, when=lambda _machine, _event: False)
    def never(self, event: Never) -> None: ...


STYLES = (Eager, Suspending, Plain)


def took_path(stats: Any, machine: type[Machine[Any, Any]], *, inline: bool) -> bool:
    """Tell whether asks to idle machines took the path that this test is about, and no other fast path."""
    if not inline:
        return stats.turns_queued > 0 and stats.turns_eager == stats.turns_plain == 0
    if machine is Plain:
        return stats.turns_plain > 0 and stats.turns_eager == 0
    return (stats.turns_eager > 0 if EAGER else stats.turns_queued > 0) and stats.turns_plain == 0
