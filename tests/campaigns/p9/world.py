"""What all storms share: machines, services that hang or fail on demand, a trace, and a witness.

The witness is somebody who has nothing to do with the storm and must be served meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any

from actorfsm import STAY, ActorSystem, Event, Machine, Record, RestartPolicy, on_enter, transition


@dataclass
class Findings:
    """What one storm came to."""

    violations: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def expect(self, holds: bool, says: str) -> None:
        """Note a promise that does not hold."""
        if not holds:
            self.violations.append(says)

    def expect_equal(self, what: str, is_now: object, should_be: object) -> None:
        """Note what is not as it should be."""
        if is_now != should_be:
            self.violations.append(f"{what}: {shortened(is_now)} instead of {shortened(should_be)}")


def shortened(value: object) -> str:
    """Return a value as text of a bearable length."""
    text = repr(value)
    return text if len(text) < 200 else f"{text[:100]}...{text[-100:]}"


class State(StrEnum):
    OPEN = auto()


class Add(Event[int]):
    n: int = 1


class Fail(Event): ...


class Ping(Event[int]): ...


class Leave(Event):
    """The machine ends normally; a permanent one is born anew."""


class Broken(Exception): ...


class Worker(Machine[State, "Moods"], initial=State.OPEN):
    """Fails when it is told to. All its hooks are plain functions."""

    total: int = 0

    @transition(State.OPEN, to=STAY)
    def add(self, event: Add) -> int:
        self.total += event.n
        return self.total

    @transition(State.OPEN, to=STAY)
    def fail(self, event: Fail) -> None:
        self.total += 1_000_000  # rolled back
        raise Broken(self.id)


class WaitingWorker(Machine[State, "Moods"], initial=State.OPEN):
    """As `Worker`; each hook waits for a moment, so that a thousand of them are under way together."""

    total: int = 0

    @transition(State.OPEN, to=STAY)
    async def add(self, event: Add) -> int:
        await asyncio.sleep(0)
        self.total += event.n
        return self.total

    @transition(State.OPEN, to=STAY)
    async def fail(self, event: Fail) -> None:
        self.total += 1_000_000  # rolled back
        await asyncio.sleep(0)
        raise Broken(self.id)


class Moody(Machine[State, "Moods"], initial=State.OPEN):
    """Is born as the mood of the hour says."""

    total: int = 0

    @on_enter(State.OPEN)
    async def born(self, old: State, new: State) -> None:
        await self.services.feel(self.id)

    @transition(State.OPEN, to=STAY)
    def add(self, event: Add) -> int:
        self.total += event.n
        return self.total

    @transition(State.OPEN, to=STAY)
    def leave(self, event: Leave) -> None:
        self.stop()


class Bystander(Machine[State], initial=State.OPEN):
    pings: int = 0

    @transition(State.OPEN, to=STAY)
    def ping(self, event: Ping) -> int:
        self.pings += 1
        return self.pings


class Mood(StrEnum):
    GOOD = auto()
    HANGS = auto()
    FAILS = auto()


class Moods:
    """How those start that depend on it: by name, well by default."""

    def __init__(self) -> None:
        self.of: dict[str, Mood] = {}
        self._ends: dict[str, asyncio.Future[None]] = {}

    async def feel(self, name: str) -> None:
        """Go on, hang, or fail."""
        mood = self.of.get(name, Mood.GOOD)
        if mood is Mood.HANGS:
            await asyncio.get_running_loop().create_future()
        if mood is Mood.FAILS:
            raise Broken(name)

    def service(self, name: str) -> Callable[..., Any]:
        """Return a service that starts as its mood says, and runs until `end`."""

        async def service(system: ActorSystem[Any], started: Callable[[], None]) -> None:
            await self.feel(name)
            started()
            self._ends[name] = asyncio.get_running_loop().create_future()
            await self._ends[name]

        service.__name__ = name
        return service

    def end(self, name: str) -> None:
        """Let the running service return."""
        self._ends[name].set_result(None)


class Steps:
    """A sink: what happened, in order, and when.

    Attributes:
        rows: Of the tree only: name of the record, of whom, and when.
        events: How many events have ended.
        most_in_a_step: How many records one step of the event loop had at most.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, float]] = []
        self.events = 0
        self.most_in_a_step = 0
        self._step = 0
        self._in_step = 0

    def __call__(self, record: Record) -> None:
        loop: Any = asyncio.get_running_loop()
        if loop.steps != self._step:
            self._step, self._in_step = loop.steps, 0
        self._in_step += 1
        self.most_in_a_step = max(self.most_in_a_step, self._in_step)
        if record.event_type:
            self.events += 1
        else:
            self.rows.append((record.name, record.machine_id, loop.time()))

    def of(self, name: str, first: int = 0) -> list[str]:
        """Return who did so, in order."""
        return [who for said, who, _ in self.rows[first:] if said == name]

    def pauses(self, first: int = 0) -> list[float]:
        """Return how long it was from each failure to the restart of the same child."""
        failed: dict[str, float] = {}
        found: list[float] = []
        for said, who, at in self.rows[first:]:
            if said == "child_failed":
                failed[who] = at
            elif said == "restarted" and who in failed:
                found.append(at - failed.pop(who))
        return found


class Witness:
    """Asks machines that have nothing to do with the storm, again and again while it lasts.

    Args:
        system: The system.
        ids: The machines to ask.
        happened: Counts what the storm does.
        patience: How often it asks at one moment although nothing happens.
        rest_s: How long it rests then, in virtual seconds.

    Attributes:
        asks: How often it was answered while something happened.
        most_between: How many events of others ended at most between a question and its answer.
        longest_s: How long it took at most, in virtual seconds.
    """

    def __init__(
        self,
        system: ActorSystem[Any],
        ids: list[str],
        happened: Callable[[], int],
        *,
        patience: int = 50,
        rest_s: float = 0.001,
    ) -> None:
        self._system = system
        self._ids = ids
        self._happened = happened
        self._patience = patience
        self._rest_s = rest_s
        self._task = asyncio.create_task(self._ask())
        self.asks = 0
        self.most_between = 0
        self.longest_s = 0.0

    async def _ask(self) -> None:
        loop, number, in_vain, seen = asyncio.get_running_loop(), 0, 0, 0
        while True:
            asked_at, before = loop.time(), self._happened()
            await self._system.ask(self._ids[number % len(self._ids)], Ping())
            number += 1
            self.most_between = max(self.most_between, self._happened() - before - 1)
            self.longest_s = max(self.longest_s, loop.time() - asked_at)
            if self._happened() - seen > 1:
                self.asks, in_vain = self.asks + 1, 0
            else:
                in_vain += 1
            seen = self._happened()
            # Virtual time passes only while nothing is ready: the witness must wait, too.
            await asyncio.sleep(self._rest_s if in_vain > self._patience else 0)

    async def stop(self) -> None:
        """Ask no more.

        Raises:
            ActorFSMError: It was not answered.
        """
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            raise error


def policy(max_restarts: int, **more: Any) -> RestartPolicy:
    """Return a policy with a long period, so that what happens in a storm is counted together."""
    return RestartPolicy(max_restarts, 3_600, **more)
