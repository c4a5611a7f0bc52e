"""Trees for the tests of supervision: a machine, services and a trace in whose order the tests read what happened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum, auto
from typing import Any

import pytest

from actorfsm import STAY, Event, Machine, Record, RestartPolicy, on_enter, postpone, transition
from actorfsm.journal.memory import MemoryJournal
from tests.contract.paths import Path, Script, Style

PROMPT = RestartPolicy(first_delay_s=0, max_delay_s=0, jitter=0, max_restarts=100)
"""Restarts at once, so that the trace has no pauses."""


class State(StrEnum):
    OPEN = auto()
    FULL = auto()
    DONE = auto()


class Work(Event[int]):
    """Counted; scripted as `work <id>`."""

    n: int = 0


class Fill(Event): ...


class Later(Event):
    """Postponed until it is full."""

    n: int = 0


class Finish(Event): ...


class Leave(Event):
    """The machine stops itself."""


def worker_of(style: Style, **choices: Any) -> type[Machine[State, Script]]:
    class Worker(Machine[State, Script], **({"initial": State.OPEN, "final": (State.DONE,)} | choices)):
        count: int = 0
        seen: tuple[int, ...] = ()

        @on_enter(State.OPEN)
        @style
        def born(self, old: State, new: State) -> Any:
            return self.services.play(f"born {self.id}", self)

        @transition(State.OPEN, State.FULL, to=STAY)
        @style
        def work(self, event: Work) -> int:
            self.count += 1
            self.seen = (*self.seen, event.n)
            return self.services.play(f"work {self.id}", self, self.count)

        @transition(State.OPEN, to=State.FULL)
        @style
        def fill(self, event: Fill) -> None: ...

        @postpone(State.OPEN)
        @transition(State.FULL, to=STAY)
        @style
        def later(self, event: Later) -> None:
            self.seen = (*self.seen, event.n)

        @transition(State.OPEN, State.FULL, to=State.DONE)
        @style
        def finish(self, event: Finish) -> None: ...

        @transition(State.OPEN, State.FULL, to=STAY)
        @style
        def leave(self, event: Leave) -> None:
            self.stop()

    return Worker


class Steps(list[str]):
    """A sink that keeps the records of the tree as words: `started a`, `failed b`."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Record] = []
        self.times: list[float] = []

    def __call__(self, record: Record) -> None:
        self.records.append(record)
        self.times.append(asyncio.get_running_loop().time())
        if not record.event_type:
            self.append(f"{record.name} {record.machine_id}")

    def drain(self) -> list[str]:
        """Return the steps since the last call."""
        steps = list(self)
        self.clear()
        return steps

    def at(self, step: str) -> list[float]:
        """Return when such a step happened."""
        return [
            time
            for record, time in zip(self.records, self.times, strict=True)
            if f"{record.name} {record.machine_id}" == step
        ]


class Services:
    """Services by name, which a test lets fail, return or hang.

    Attributes:
        runs: By name, how often it was begun.
        running: By name, how many run now.
    """

    def __init__(self) -> None:
        self.runs: dict[str, int] = {}
        self.running: dict[str, int] = {}
        self.does: dict[str, Callable[[], Any]] = {}
        """What it does before it says that it has started; may return something to await."""
        self._ends: dict[str, asyncio.Future[None]] = {}

    def __call__(self, name: str) -> Any:
        """Return the service of this name."""

        async def service(system: Any, started: Callable[[], None]) -> None:
            self.runs[name] = self.runs.get(name, 0) + 1
            self.running[name] = self.running.get(name, 0) + 1
            try:
                result = self.does[name]() if name in self.does else None
                if result is not None:
                    await result
                self._ends[name] = asyncio.get_running_loop().create_future()
                started()
                await self._ends[name]
            finally:
                self.running[name] -= 1

        service.__name__ = name
        return service

    def fail(self, name: str, error: BaseException | None = None) -> None:
        """Let the running service raise."""
        self._ends[name].set_exception(error or ValueError(name))

    def end(self, name: str) -> None:
        """Let the running service return."""
        self._ends[name].set_result(None)


@pytest.fixture(name="over_a_journal", params=[False, True], ids=["memory", "journal"])
def trees_over_a_journal_too(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Let the laws of the trees hold over a journal too; return whether there is one."""
    if request.param:
        monkeypatch.setattr(Path, "journal", staticmethod(MemoryJournal))
    return bool(request.param)


async def settle(seconds: float = 0.001) -> None:
    """Let everything happen that is due."""
    await asyncio.sleep(seconds)
