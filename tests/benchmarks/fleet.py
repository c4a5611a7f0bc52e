"""W3 and W8: how long many machines take to spawn, what they weigh, and what an event costs among them.

Each figure comes from a process of its own, so that the memory of one fleet is not found again in the next:
`python -m tests.benchmarks.fleet "actorfsm" 100000` prints it as one line of JSON. Resident bytes are what the
operating system says after a collection, less what was there before the first machine, divided by the number of
machines: ids, registry and data are in it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

from .work import AMOUNT, End, WrongResult, not_installed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Iterator, Sequence

SENDERS = 100
STATM = Path("/proc/self/statm")
BIRTHS, EVENTS = 100_000, 200_000
"""What a small fleet does at least, in several systems, so that it takes long enough to be seen."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """A contender with no machines yet."""

    spawn: Callable[[Iterable[tuple[str, dict[str, Any]]]], Awaitable[object]]
    end: Callable[[str], End]
    ask: Callable[[str, Any], Awaitable[object]] | None = None
    make_event: Callable[[int], Any] = int


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetContender:
    """One row of the tables of W3 and W8."""

    name: str
    open: Callable[[], AbstractAsyncContextManager[Fleet]]
    grows: bool = True
    """Whether it is in W8."""
    without_collector: bool = False
    """Whether the cyclic collector rests during the births, and what was born is frozen."""
    requires: tuple[str, ...] = ()

    def missing(self) -> str | None:
        """Why it cannot run here, or None."""
        return not_installed(*self.requires)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What one process found."""

    spawn_us: float
    """Microseconds for the birth of one machine, what the caller needs to name it and its data included."""
    spawn_cpu_us: float
    idle_bytes: float
    """Resident bytes of each machine before its first event; right for a large fleet, the first one in its process."""
    resident_mb: float
    """Of the whole process then."""
    event_us: float | None = None
    """Microseconds for an ask."""
    event_cpu_us: float | None = None
    used_bytes: float | None = None
    """Resident bytes of each machine after its events."""


def newborn(machines: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The ids and the data, each machine's own."""
    for number in range(machines):
        yield f"order-{number}", {"customer": f"c-{number}", "total": number, "weight": number / 2}


def wanted_end(number: int, events: int) -> End:
    """The machine with this number after so many events."""
    state = "B" if events % 2 else "A"
    return End(state, f"c-{number}", number + events * AMOUNT, number / 2, False, events)


async def measure_fleet(contender: FleetContender, machines: int, report: Callable[[Sample], object]) -> None:
    """Spawn the machines, weigh them, send each the same number of events, look at every one, and report.

    Raises:
        WrongResult: A machine is not where its events led.
    """
    async with contender.open() as fleet:
        await fleet.spawn(newborn(1000))
        await _ask_each(fleet, 1000, 3)
    births = [await _births_only(contender, machines) for _ in range(BIRTHS // machines - 1)]
    async with contender.open() as fleet:
        before = _resident()
        births.append(await _spawn(contender, fleet, machines))
        gc.collect()
        resident = _resident()
        spawn_s, spawn_cpu_s = (median(column) for column in zip(*births, strict=True))
        _check(contender, fleet, machines, 0)
        found = Sample(
            spawn_us=spawn_s / machines * 1e6,
            spawn_cpu_us=spawn_cpu_s / machines * 1e6,
            idle_bytes=(resident - before) / machines,
            resident_mb=resident / 1e6,
        )
        if fleet.ask is not None:
            events = max(1, EVENTS // machines) | 1
            started, cpu = perf_counter(), process_time()
            await _ask_each(fleet, machines, events)
            seconds, cpu = perf_counter() - started, process_time() - cpu
            gc.collect()
            used = _resident()
            _check(contender, fleet, machines, events)
            each = events * machines / 1e6
            found = replace(
                found, event_us=seconds / each, event_cpu_us=cpu / each, used_bytes=(used - before) / machines
            )
        report(found)


async def _births_only(contender: FleetContender, machines: int) -> tuple[float, float]:
    async with contender.open() as fleet:
        return await _spawn(contender, fleet, machines)


async def _spawn(contender: FleetContender, fleet: Fleet, machines: int) -> tuple[float, float]:
    gc.collect()
    started, cpu = perf_counter(), process_time()
    if contender.without_collector:
        gc.disable()
        try:
            await fleet.spawn(newborn(machines))
        finally:
            gc.enable()
        gc.freeze()
    else:
        await fleet.spawn(newborn(machines))
    return perf_counter() - started, process_time() - cpu


async def _ask_each(fleet: Fleet, machines: int, events: int) -> None:
    ask = fleet.ask
    if ask is None:
        return
    event = fleet.make_event(AMOUNT)

    async def sender(first: int) -> None:
        for _ in range(events):
            for number in range(first, machines, SENDERS):
                await ask(f"order-{number}", event)

    await asyncio.gather(*(sender(first) for first in range(SENDERS)))


def _check(contender: FleetContender, fleet: Fleet, machines: int, events: int) -> None:
    for number in range(machines):
        end, wanted = fleet.end(f"order-{number}"), wanted_end(number, events)
        if end != wanted:
            msg = f"{contender.name}: machine {number} is {end}, not {wanted}"
            raise WrongResult(msg)


def _resident() -> float:
    """Bytes of this process in memory."""
    if STATM.exists():
        return int(STATM.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Samples:
    """What was found of each contender at each size, by several processes each."""

    def __init__(self, contenders: Sequence[FleetContender], rounds: int) -> None:
        self.contenders = contenders
        self.troubles: dict[str, str] = {}
        self._rounds = rounds
        self._found: dict[tuple[str, int], list[Sample]] = {}

    def measure(self, sizes: Sequence[int], *, growth: bool = False) -> None:
        """Measure what has not been measured yet: one process after the other, A B A B."""
        for machines in sizes:
            due = [each for each in self.contenders if each.grows or not growth]
            due = [each for each in due if (each.name, machines) not in self._found]
            for number in range(self._rounds):
                print(
                    f"{machines:,} machines: round {number + 1} of {self._rounds}",
                    file=sys.stderr,
                    flush=True,
                )
                for contender in due:
                    self._sample(contender, machines)

    def _sample(self, contender: FleetContender, machines: int) -> None:
        name = contender.name
        if name in self.troubles:
            return
        missing = contender.missing()
        if missing is not None:
            self.troubles[name] = f"skipped: {missing}"
            return
        command = [sys.executable, "-m", __spec__.name, name, str(machines)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            self.troubles[name] = f"FAILED: {' '.join(done.stderr.split()[-40:])}"
        else:
            self.add(name, machines, Sample(**json.loads(done.stdout)))

    def add(self, name: str, machines: int, sample: Sample) -> None:
        """Keep what was found."""
        self._found.setdefault((name, machines), []).append(sample)

    def middle(self, name: str, machines: int, figure: str) -> float | None:
        """The median of a figure; None if there is none."""
        found = [getattr(sample, figure) for sample in self._found.get((name, machines), ())]
        return None if not found or None in found else median(found)


def main(arguments: Sequence[str]) -> None:
    """Be the fresh process."""
    from .contenders.fleets import fleets

    name, machines = arguments
    contender = next(each for each in fleets() if each.name == name)
    asyncio.run(measure_fleet(contender, int(machines), _print_and_leave))


def _print_and_leave(sample: Sample) -> None:
    """End the process here: to end a million machines one by one first takes longer than to measure them."""
    print(json.dumps(asdict(sample)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
