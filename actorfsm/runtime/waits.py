"""The wait-for graph: who waits for whom. An ask that would close a cycle fails at once (C9).

Exact within one process: it sees a machine that asks itself, A → B → A, and two independent asks that meet. Across
processes the deadline decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actorfsm.errors import AskCycle

if TYPE_CHECKING:
    from actorfsm.event import Event

__all__ = ["WaitGraph"]


class WaitGraph:
    """Which machines wait for which, by id, with how many asks."""

    __slots__ = ("_waits",)

    def __init__(self) -> None:
        self._waits: dict[str, dict[str, int]] = {}

    def begin(self, asker: str, asked: str, event: Event[object, object]) -> None:
        """Note that one machine waits for another.

        Raises:
            AskCycle: The other one waits for it already; nothing was noted.
        """
        if asker == asked or asked in self._waits:
            path = self._path(asked, asker)
            if path is not None:
                cycle = (asker, *path)
                raise AskCycle(
                    f"{type(event).__name__}: {' -> '.join(cycle)} would wait for itself; use `tell`, or answer with "
                    "an event of its own",
                    path=cycle,
                    machine_id=asked,
                    event=event,
                )
        waits = self._waits.setdefault(asker, {})
        waits[asked] = waits.get(asked, 0) + 1

    def end(self, asker: str, asked: str) -> None:
        """Note that one of its asks ended."""
        waits = self._waits[asker]
        if waits[asked] > 1:
            waits[asked] -= 1
            return
        del waits[asked]
        if not waits:
            del self._waits[asker]

    def _path(self, start: str, goal: str) -> tuple[str, ...] | None:
        if start == goal:
            return (goal,)
        previous: dict[str, str] = {}
        frontier = [start]
        while frontier:
            here = frontier.pop()
            for there in self._waits.get(here, ()):
                if there in previous:
                    continue
                previous[there] = here
                if there == goal:
                    return self._back(previous, start, goal)
                frontier.append(there)
        return None

    @staticmethod
    def _back(previous: dict[str, str], start: str, goal: str) -> tuple[str, ...]:
        path = [goal]
        while path[-1] != start:
            path.append(previous[path[-1]])
        return tuple(reversed(path))

    def __len__(self) -> int:
        return sum(len(waits) for waits in self._waits.values())
