"""The wait-for graph: who waits for whom. An ask that would close a cycle fails at once (C9).

Exact within one process: it sees a machine that asks itself, A → B → A, and two independent asks that meet. An edge
counts only while it holds its machine: not once the answer is there or the deadline has passed, even if the asker has
not woken yet, and not for what a hook left behind. Across processes the deadline decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from actorfsm.errors import AskCycle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from actorfsm.runtime.envelope import Envelope

__all__ = ["Asker", "WaitGraph"]


class Asker(Protocol):
    """The turn that asks."""

    closed: bool

    @property
    def machine_id(self) -> str:
        """The machine whose turn it is."""
        ...


class WaitGraph:
    """Which machines wait, by id, and for what."""

    __slots__ = ("_waits",)

    def __init__(self) -> None:
        self._waits: dict[str, dict[Envelope, Asker]] = {}

    def begin(self, turn: Asker, envelope: Envelope) -> None:
        """Note that a machine waits, in its turn, for what it has asked.

        Raises:
            AskCycle: The machine asked waits for it already; nothing was noted.
        """
        asker, asked = turn.machine_id, envelope.machine_id
        if asker == asked or asked in self._waits:
            path = self._path(asked, asker)
            if path is not None:
                cycle = (asker, *path)
                raise AskCycle(
                    f"{type(envelope.event).__name__}: {' -> '.join(cycle)} would wait for itself; use `tell`, or "
                    "answer with an event of its own",
                    path=cycle,
                    machine_id=asked,
                    event=envelope.event,
                )
        self._waits.setdefault(asker, {})[envelope] = turn

    async def hold(self, turn: Asker, mark: Envelope) -> None:
        """Wait in a turn for what befalls another machine, like one that asks.

        Args:
            turn: The turn that waits.
            mark: What stands for the ask: it names the machine, and its waiter is what is waited for.

        Raises:
            AskCycle: The machine waits for this one.
        """
        assert mark.waiter is not None  # noqa: S101 -- set by the caller
        try:
            self.begin(turn, mark)
        except AskCycle:
            mark.waiter.cancel()
            raise
        try:
            await mark.waiter
        finally:
            self.end(turn, mark)

    def end(self, turn: Asker, envelope: Envelope) -> None:
        """Note that the ask ended."""
        waits = self._waits[turn.machine_id]
        del waits[envelope]
        if not waits:
            del self._waits[turn.machine_id]

    def waits_for(self, asker: str) -> Iterator[str]:
        """Yield the ids of the machines that a machine waits for."""
        for envelope, turn in self._waits.get(asker, {}).items():
            waiter = envelope.waiter
            if not (envelope.settled or turn.closed or (waiter is not None and waiter.done())):
                yield envelope.machine_id

    def waiting_for(self, asked: str) -> Iterator[str]:
        """Yield the ids of the machines that wait for a machine; looks at all that wait."""
        for asker in self._waits:
            if asked in self.waits_for(asker):
                yield asker

    def asker_of(self, envelope: Envelope) -> str | None:
        """Return the machine that waits for this event in its turn, if one does; looks at all that wait."""
        return next((asker for asker, asked in self._waits.items() if envelope in asked), None)

    def turns_of(self, asker: str) -> Iterator[Asker]:
        """Yield the turns in which a machine waits."""
        yield from self._waits.get(asker, {}).values()

    def _path(self, start: str, goal: str) -> tuple[str, ...] | None:
        if start == goal:
            return (goal,)
        previous: dict[str, str] = {}
        frontier = [start]
        while frontier:
            here = frontier.pop()
            for there in self.waits_for(here):
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
