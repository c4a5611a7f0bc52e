"""P8: everything at once, for a long time; and nothing that was only needed for a while is left.

Runs on the real loop and the real clock. A round of a second is a mixed load: orders are born, asked, told, have
timers and jobs, fail, are watched, and end; a service fails and is started again; machines are put into quarantine and
released. Then all comes to rest, and what must not grow is measured: tasks, threads, file descriptors, machines,
memory. At rest the account of the senders, the trace, the machines and the runtime must agree.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
import threading
from array import array
from collections import Counter
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from statistics import linear_regression, median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

from actorfsm import Stats
from tests.campaigns import ledger
from tests.campaigns.p7_overload import resident_mib
from tests.campaigns.p8_world import World

CI_SECONDS: Final = 30.0
ROUND_S: Final = 1.0
WARM_UP: Final = 0.25
"""Which share of the rounds fills caches and bounded buffers."""
MOST_SLOPE_MIB_PER_H: Final = 1.0
LONG_S: Final = 1_800.0
"""From this length on the slope of memory is judged alone; the allocator's noise has averaged out."""
NOISE_MIB: Final = 2.0
MOST_BLOCKS: Final = 3_000
"""How many more objects there may be in the last quarter than in the second one."""
MOST_BLOCKS_FILLING: Final = 10_000
"""The same with a journal for less than `LONG_S`: what is kept of each machine is bounded, and fills slowly."""
PATIENCE_S: Final = 30.0

REQUIRED: Final = {
    "orders": 5.0,
    "asks": 20.0,
    "tells": 10.0,
    "failures": 1.0,
    "timers fired": 1.0,
    "timers cancelled": 1.0,
    "jobs ok": 0.5,
    "jobs failed": 0.2,
    "jobs cancelled": 0.2,
    "watches": 5.0,
    "restarts": 1.0,
    "quarantines": 0.5,
    "service restarts": 0.5,
    "suspended": 0.5,
    "answered in a thread": 0.5,
    "postponed and answered": 0.2,
}
"""How often each must happen in a second, or the soak shows nothing."""
REQUIRED_WITH_JOURNAL: Final = {
    **dict.fromkeys(REQUIRED, 0.2),
    "orders": 2.0,
    "asks": 10.0,
    "passivated": 20.0,
}
"""The same with a journal, which writes each commit to a disk that may be slow."""


@dataclass(frozen=True)
class Sample:
    """What there is at rest after a round."""

    at_s: float
    rss_mib: float
    blocks: int
    tasks: int
    threads: int
    fds: int
    machines: int


@dataclass
class Result:
    """What was measured."""

    seconds: float
    samples: list[Sample]
    reached: Counter[str]
    errors: list[str] = field(default_factory=list)
    """Where the accounts differ."""
    left: list[str] = field(default_factory=list)
    """What was there after the end of the system and not before its start."""
    required: dict[str, float] = field(default_factory=REQUIRED.copy)
    journal_mib: float = 0.0

    @property
    def judged(self) -> list[Sample]:
        """The samples after the warm-up."""
        return self.samples[int(len(self.samples) * WARM_UP) :]

    @property
    def slope_mib_per_h(self) -> float:
        """How fast memory grows."""
        if len(self.judged) < 2:
            return 0.0
        at, rss = [sample.at_s for sample in self.judged], [sample.rss_mib for sample in self.judged]
        return linear_regression(at, rss).slope * 3_600

    @property
    def growth_mib(self) -> float:
        """How much memory grew, along that slope."""
        return self.slope_mib_per_h * (self.judged[-1].at_s - self.judged[0].at_s) / 3_600

    @property
    def growth_blocks(self) -> int:
        """How many more objects there are at the end than after the warm-up."""
        blocks = [sample.blocks for sample in self.judged]
        third = max(1, len(blocks) // 3)
        return round(median(blocks[-third:]) - median(blocks[:third]))

    def drift(self, what: str) -> int:
        """Return by how much a count changed after the warm-up."""
        counts = [getattr(sample, what) for sample in self.judged]
        return max(counts) - min(counts)

    @property
    def violations(self) -> list[str]:
        """What was promised and does not hold."""
        found = [*self.errors, *(f"left at the end: {thing}" for thing in self.left)]
        found += [
            f"{what} changed by {self.drift(what)}"
            for what in ("tasks", "threads", "fds", "machines")
            if self.drift(what)
        ]
        noise_mib = 0.0 if self.seconds >= LONG_S else NOISE_MIB
        hours = (self.judged[-1].at_s - self.judged[0].at_s) / 3_600
        if self.growth_mib > MOST_SLOPE_MIB_PER_H * hours + noise_mib:
            found.append(f"memory grew by {self.growth_mib:.1f} MiB, {self.slope_mib_per_h:.1f} MiB an hour")
        is_filling = self.journal_mib > 0 and self.seconds < LONG_S
        if self.growth_blocks > (MOST_BLOCKS_FILLING if is_filling else MOST_BLOCKS):
            found.append(f"there are {self.growth_blocks} objects more than after the warm-up")
        for what, each_second in self.required.items():
            if self.reached[what] < each_second * self.seconds:
                found.append(f"only {self.reached[what]} {what}: that is no soak")
        return found


def descriptors() -> int:
    """Return how many file descriptors are open; 0 where the system does not tell."""
    folder = Path("/proc/self/fd")
    return len(os.listdir(folder)) if folder.exists() else 0  # noqa: PTH208 -- counted, not walked


async def sample(world: World, began: float) -> Sample:
    gc.collect()
    return Sample(
        at_s=perf_counter() - began,
        rss_mib=resident_mib(),
        blocks=sys.getallocatedblocks(),
        tasks=len(asyncio.all_tasks()),
        threads=threading.active_count(),
        fds=descriptors(),
        machines=await world.machines(),
    )


async def run(
    seconds: float,
    *,
    seed: int = 0,
    round_s: float = ROUND_S,
    patience_s: float = PATIENCE_S,
    journal: Path | None = None,
) -> Result:
    """Run the programme: round after round, each followed by rest and a sample."""
    # Figures without objects: a list of samples would itself be what grows in a run of an hour and a half.
    world, figures = World(seed, patience_s, journal), array("d")
    before = threading.active_count(), descriptors(), len(asyncio.all_tasks())
    began = perf_counter()
    async with world.system:
        await world.settle()
        while perf_counter() - began < seconds and not world.account.errors:
            await world.round(round_s)
            await world.judge()
            figures.extend(astuple(await sample(world, began)))
        stats = world.system.stats()
    took_s = perf_counter() - began
    after = await left_of(before)
    left = [f"{now - was} {what}" for what, was, now in zip(KINDS, before, after, strict=True) if now != was]
    report = world.system.report
    assert report is not None
    left += [f"hook or service {name}" for name in report.unstopped]
    width = len(fields(Sample))
    rows = (figures[at : at + width].tolist() for at in range(0, len(figures), width))
    return Result(
        took_s,
        [Sample(at_s, rss_mib, *map(int, counts)) for at_s, rss_mib, *counts in rows],
        reached(world, stats),
        world.account.errors,
        left,
        required=REQUIRED if journal is None else REQUIRED_WITH_JOURNAL,
        journal_mib=0.0 if journal is None else mib_of(journal),
    )


def mib_of(file: Path) -> float:
    return file.stat().st_size / 2**20


KINDS: Final = ("threads", "file descriptors", "tasks")


async def left_of(before: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return what there is now; threads that are told to end have a moment for it."""
    for _ in range(100):
        now = threading.active_count(), descriptors(), len(asyncio.all_tasks())
        if now == before:
            break
        await asyncio.sleep(0.01)
    return now


def reached(world: World, stats: Stats) -> Counter[str]:
    """Return how often what happened."""
    traced, told, bank = world.account.traced, world.account.told, world.bank
    return Counter(
        {
            **world.account.reached,
            "orders": world.born,
            "asks": sum(
                told[name, "committed"] for name in ("Reminder", "NoReminder", "Pay", "Print", "Follow")
            ),
            "tells": traced["Add", "committed"],
            "failures": traced["Fail", "failed"],
            "timers fired": traced["Remind", "committed"],
            "jobs ok": bank.ended["ok"],
            "jobs failed": bank.ended["failed"],
            "jobs cancelled": bank.ended["cancelled"],
            "watches": world.followed,
            "restarts": traced["", "restarted"],
            "service restarts": bank.gateways - 1,
            "passivated": stats.passivated,
            "postponed and answered": told["Note", "committed"],
            "events": sum(count for (event, _), count in traced.items() if event),
        }
    )


def report(result: Result) -> str:
    """Print what happened, enter the run into the ledger, and return its line."""
    print(*(f"{count:>12,} {what}" for what, count in sorted(result.reached.items())), sep="\n")
    return ledger.enter(
        "P8",
        seeds=1,
        violations=len(result.violations),
        seconds=round(result.seconds),
        rounds=len(result.samples),
        events=result.reached["events"],
        orders=result.reached["orders"],
        restarts=result.reached["restarts"],
        quarantines=result.reached["quarantines"],
        passivated=result.reached["passivated"],
        journal_mib=f"{result.journal_mib:.0f}",
        rss_mib=f"{result.samples[-1].rss_mib:.1f}",
        growth_mib=f"{result.growth_mib:.2f}",
        slope_mib_per_h=f"{result.slope_mib_per_h:.1f}",
        growth_blocks=result.growth_blocks,
        **{what: result.samples[-1].__dict__[what] for what in ("tasks", "threads", "fds")},
    )


def main(arguments: list[str] | None = None) -> list[str]:
    """Run it by hand: `python -m tests.campaigns.p8_soak --seconds 5400 --journal`; return what was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.p8_soak")
    parser.add_argument("--seconds", type=float, default=5_400.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--journal", action="store_true", help="keep all in a file, and let machines leave memory"
    )
    options = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="actorfsm-p8-") as folder:
        journal = Path(folder, "soak.db") if options.journal else None
        result = asyncio.run(run(options.seconds, seed=options.seed, journal=journal))
    report(result)
    return result.violations


if __name__ == "__main__":
    sys.exit("\n".join(main()) or None)
