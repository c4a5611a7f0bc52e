"""The paths on which an event can be handled, and machines whose hooks a test scripts: a rule holds on every path."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from enum import Enum
from random import Random
from typing import Any, NamedTuple, get_type_hints

import pytest

from actorfsm import ActorSystem
from actorfsm.runtime.tasks import EAGER

__all__ = [
    "ASYNC_PATHS",
    "PATHS",
    "Path",
    "Script",
    "Style",
    "at_rest",
    "on_every_async_path",
    "on_every_path",
    "until",
]


class Style(Enum):
    """How the hooks of a machine are written."""

    PLAIN = "plain"
    ASYNC = "async"
    SUSPENDING = "suspending"

    def __call__(self, function: Callable[..., Any]) -> Any:
        """Write a plain method in this style. It may return something to await where the style allows it."""
        if self is Style.PLAIN:
            return function

        async def hook(machine: Any, *arguments: Any) -> Any:
            if self is Style.SUSPENDING:
                await asyncio.sleep(0)
            result = function(machine, *arguments)
            if inspect.isawaitable(result):
                result = await result
            if self is Style.SUSPENDING:
                await asyncio.sleep(0)
            return result

        hook = functools.wraps(function)(hook)
        hook.__annotations__ = get_type_hints(function)
        return hook


class Path(NamedTuple):
    """A style of hooks, and whether an ask to an idle machine may skip the queue."""

    style: Style
    inline: bool

    def __str__(self) -> str:
        return f"{'inline' if self.inline else 'queued'}-{self.style.value}"

    @property
    def counter(self) -> str:
        """The counter of `Stats` that an ask to an idle machine moves on this path."""
        if self.inline and self.style is Style.PLAIN:
            return "turns_plain"
        return "turns_eager" if self.inline and EAGER else "turns_queued"

    @property
    def is_async(self) -> bool:
        return self.style is not Style.PLAIN

    def system(self, *machines: Any, **options: Any) -> ActorSystem[Any]:
        """Make a system on this path, quiet and seeded."""
        options.setdefault("trace", None)
        options.setdefault("random", Random(7))
        options.setdefault("journal", self.journal())
        return ActorSystem(*machines, inline=self.inline, **options)

    @staticmethod
    def journal() -> Any:
        """Return the journal of a system: none, unless a test lets its rules hold over one too."""
        return None

    def assert_taken(self, system: ActorSystem[Any], turns: int) -> None:
        """Check that this many turns ran, all of them on this path."""
        stats = system.stats()
        taken = {name: getattr(stats, name) for name in ("turns_plain", "turns_eager", "turns_queued")}
        assert taken == {**dict.fromkeys(taken, 0), self.counter: turns}


PATHS = [Path(style, inline) for style in Style for inline in (True, False)]
ASYNC_PATHS = [path for path in PATHS if path.is_async]
on_every_path = pytest.mark.parametrize("path", PATHS, ids=str)
on_every_async_path = pytest.mark.parametrize("path", ASYNC_PATHS, ids=str)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until the condition holds."""
    while not condition():  # noqa: ASYNC110 -- a condition of the runtime has no event to wait for
        await asyncio.sleep(0)


async def at_rest(system: ActorSystem[Any]) -> None:
    """Let the loop run until no machine has or wants a turn: a reply comes before the after-hooks end."""
    await until(lambda: system._parts.dispatcher.is_at_rest)


class Script:
    """What hooks do, by name, and what they did: given to a system as its services."""

    def __init__(self, **does: Callable[[Any], Any]) -> None:
        self.does = does
        self.calls: list[str] = []

    def play(self, name: str, machine: Any, otherwise: Any = None) -> Any:
        """Note the call and do what the test says; return `otherwise` where that returns None."""
        self.calls.append(name)
        action = self.does.get(name)
        result = None if action is None else action(machine)
        if inspect.isawaitable(result):
            return self._later(result, otherwise)
        return otherwise if result is None else result

    @staticmethod
    async def _later(awaitable: Any, otherwise: Any) -> Any:
        result = await awaitable
        return otherwise if result is None else result
