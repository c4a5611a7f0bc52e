"""After a fork: a child process has a copy of every system and can use none of them.

`os.register_at_fork` cannot be taken back, so there is one entry for the whole process, and it holds nothing alive.
Nothing is asked when an event is sent: the child finds a thread number that is nobody's.
"""

from __future__ import annotations

import os
from typing import Final, Protocol
from weakref import WeakSet

__all__ = ["Forkable", "watch"]


class Forkable(Protocol):
    """What wants to know that it is in a child process."""

    def forked(self) -> None:
        """Follow a fork, in the child."""
        ...


_WATCHED: Final[WeakSet[Forkable]] = WeakSet()
"""The one state at module level: the process's own list of callbacks is one, too."""


def watch(thing: Forkable) -> None:
    """Tell the thing when it finds itself in a forked child, if it is still there."""
    _WATCHED.add(thing)


def _in_child() -> None:
    for thing in _WATCHED:
        thing.forked()


if hasattr(os, "register_at_fork"):  # pragma: no branch -- there is no fork on Windows
    os.register_at_fork(after_in_child=_in_child)
