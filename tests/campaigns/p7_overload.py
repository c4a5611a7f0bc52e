"""P7: ten times more than the machines can do, and one sender who is greedy.

Runs on the real loop and the real clock, because it is about what a computer does. Each machine's hook waits for a
gateway that takes its time, so that capacity is a matter of the machines and not of the processor. Capacity, measured
by askers that wait for their answers, and overload take turns: a computer that is slow for a minute is slow for both.
Under overload ten times as many events are offered, evenly, and one more sender floods one of the machines. What must
hold: the machines do their work as before (goodput), no machine starves another (Jain's index), whoever is refused
learns so at once and by a typed error, memory stays bounded, and in the end the account is exact.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum, auto
from itertools import pairwise
from pathlib import Path
from random import Random
from time import perf_counter, thread_time
from typing import Final

from actorfsm import (
    STAY,
    ActorFSMError,
    ActorSystem,
    Event,
    Limits,
    Machine,
    MailboxFull,
    MailboxPolicy,
    Ref,
    transition,
)
from tests.campaigns import ledger

MACHINES: Final = 24
SERVICE_S: Final = 0.1
"""How long the gateway takes, in seconds: so long that ten times as many events are no hard work for the processor.
Otherwise it would be measured how much of it the senders leave, and not how the machines fare.
"""
MAILBOX: Final = 32
SENT_IN_A_ROW: Final = 64
"""After so many events a sender that has fallen behind lets others have the loop, too."""
OVERLOAD: Final = 10
GREED: Final = 10
"""How much more the greedy sender offers than the others, to one machine."""
TICK_S: Final = 0.005
RAMP_S: Final = 0.2
"""How long a load runs before what it does is counted."""
CYCLE_S: Final = 30.0
"""The longest time from one measurement of the capacity to the next."""
CI_SECONDS: Final = 20.0

LEAST_GOODPUT: Final = 0.9
LEAST_JAIN: Final = 0.95
MOST_REFUSAL_S: Final = 0.01
"""How long a refusal may take: 999 of 1,000 of the processor's time, 95 of 100 of the clock's, which others share."""
MOST_GROWTH_MIB: Final = 32.0


class Counting(StrEnum):
    COUNTING = auto()


class Count(Event[int]):
    pass


class Meter(Machine[Counting], initial=Counting.COUNTING, mailbox=MailboxPolicy(capacity=MAILBOX)):
    done: int = 0

    @transition(Counting.COUNTING, to=STAY)
    async def count(self, event: Count) -> int:
        await asyncio.sleep(SERVICE_S)
        self.done += 1
        return self.done


class Spread:
    """How long many things took, in tenths of milliseconds: a list of them all would be the growth of memory."""

    def __init__(self, tenths: dict[int, int] | None = None) -> None:
        self._tenths: Counter[int] = Counter(tenths)
        self.longest_s = max(self._tenths, default=0) / 10_000

    def add(self, took_s: float) -> None:
        """Count one."""
        self._tenths[int(took_s * 10_000)] += 1
        self.longest_s = max(self.longest_s, took_s)

    def least_of_the_longest(self, share: float) -> float:
        """Return how long all but the longest ones took at most, in seconds; such a share are the longest ones."""
        left = self._tenths.total() * share
        for tenths in sorted(self._tenths, reverse=True):
            left -= self._tenths[tenths]
            if left < 0:
                return (tenths + 1) / 10_000
        return 0.0


@dataclass
class Result:
    """What was measured."""

    seconds: float
    """Of overload, without the measurements of the capacity."""
    capacity: float
    """Events per second, of askers that wait for their answers: the mean of before and after each overload."""
    offered: int
    goodput: float
    """Events per second under overload."""
    worst: float
    """The least share of the capacity that was reached in any one overload."""
    jain: float
    refusals: Counter[str]
    refusal_s: Spread
    """How long a refusal took."""
    refusal_processor_s: Spread
    """How much of the processor's time it took."""
    growth_mib: float
    unexplained: int
    """Accepted events without an outcome, and machines whose count differs from what was told."""

    @property
    def violations(self) -> list[str]:
        """What was promised and does not hold."""
        found: list[str] = []
        if self.goodput < LEAST_GOODPUT * self.capacity:
            found.append(f"goodput {self.goodput:.0f}/s of a capacity of {self.capacity:.0f}/s")
        if self.offered < 0.9 * OVERLOAD * self.capacity * self.seconds:
            found.append(f"only {self.offered} events were offered: that is no overload")
        if self.jain < LEAST_JAIN:
            found.append(f"Jain's index {self.jain:.3f}")
        if set(self.refusals) - {MailboxFull.__name__}:
            found.append(f"refusals other than MailboxFull: {dict(self.refusals)}")
        if not self.refusals:
            found.append("nobody was refused: that is no overload")
        if (took_s := self.refusal_processor_s.least_of_the_longest(0.001)) > MOST_REFUSAL_S:
            found.append(f"one refusal of a thousand took {took_s * 1e3:.1f} ms of the processor, or more")
        if (took_s := self.refusal_s.least_of_the_longest(0.05)) > MOST_REFUSAL_S:
            found.append(f"one refusal of twenty took {took_s * 1e3:.1f} ms or more")
        if self.growth_mib > MOST_GROWTH_MIB:
            found.append(f"memory grew by {self.growth_mib:.1f} MiB")
        if self.unexplained:
            found.append(f"{self.unexplained} events are unexplained")
        return found


class Overload:
    """One run: measures the capacity, and offers far more, in turn."""

    def __init__(self, system: ActorSystem, refs: list[Ref[Meter]], random: Random) -> None:
        self.system = system
        self.refs = refs
        self.random = random
        self.offered = 0
        self.accepted: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.refusal_s = Spread()
        self.refusal_processor_s = Spread()

    async def capacity(self, seconds: float) -> float:
        """Return how many events per second are done when each sender waits for its answer."""
        end = perf_counter() + RAMP_S + seconds

        async def ask(ref: Ref[Meter]) -> None:
            while perf_counter() < end:
                await ref.ask(Count(), timeout=60)
                self.accepted[ref.id] += 1

        async with asyncio.TaskGroup() as group:
            # Two senders for each machine, so that none waits for its next event.
            for ref in (*self.refs, *self.refs):
                group.create_task(ask(ref))
            done, took_s = await self.done_in(seconds)
        return sum(done) / took_s

    async def overload(self, seconds: float, rate: float) -> tuple[list[int], float]:
        """Offer events at a rate per second; return how many each machine has done, and in how many seconds."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.offer(self.refs, rate, RAMP_S + seconds))
            group.create_task(self.offer(self.refs[:1], GREED * rate / MACHINES, RAMP_S + seconds))
            for ref in self.refs:
                group.create_task(self.ask_politely(ref, RAMP_S + seconds))
            return await self.done_in(seconds)

    async def done_in(self, seconds: float) -> tuple[list[int], float]:
        """Count what the machines do, once the load runs; return it with the seconds that this was."""
        await asyncio.sleep(RAMP_S)
        before, began = self.done(), perf_counter()
        await asyncio.sleep(seconds)
        took_s = perf_counter() - began
        return [now - was for now, was in zip(self.done(), before, strict=True)], took_s

    def done(self) -> list[int]:
        """Return how many events each machine has done so far."""
        return [ref.snapshot().data["done"] for ref in self.refs]

    async def rest(self) -> None:
        """Wait until everything that was accepted is done."""
        while self.system.stats().queued or self.system.stats().in_flight:  # noqa: ASYNC110 -- nothing tells that all is done
            await asyncio.sleep(SERVICE_S)

    async def offer(self, refs: list[Ref[Meter]], rate: float, seconds: float) -> None:
        """Offer events to these machines in turn, at a rate per second, whether they are taken or not."""
        began, sent = perf_counter(), 0
        while (since := perf_counter() - began) < seconds:
            due = int(since * rate)
            while sent < due:
                await self._tell(refs[sent % len(refs)])
                sent += 1
                if sent % SENT_IN_A_ROW == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(TICK_S)

    async def _tell(self, ref: Ref[Meter]) -> None:
        began = perf_counter(), thread_time()
        self.offered += 1
        receipt = ref.tell(Count())
        try:
            await receipt.accepted()  # known at once: a full mailbox refuses and does not let wait
            self.accepted[ref.id] += 1
        except ActorFSMError as error:
            self._refused(began, error)

    async def ask_politely(self, ref: Ref[Meter], seconds: float) -> None:
        """Ask, wait for the answer, ask again; a little later if there is no room."""
        end = perf_counter() + seconds
        while perf_counter() < end:
            began = perf_counter(), thread_time()
            self.offered += 1
            try:
                await ref.ask(Count(), timeout=60)
                self.accepted[ref.id] += 1
            except ActorFSMError as error:
                self._refused(began, error)
                await asyncio.sleep(TICK_S * self.random.random())

    def _refused(self, began: tuple[float, float], error: ActorFSMError) -> None:
        self.refusals[type(error).__name__] += 1
        self.refusal_s.add(perf_counter() - began[0])
        self.refusal_processor_s.add(thread_time() - began[1])


async def run(seconds: float, *, seed: int = 0) -> Result:
    """Run the programme: capacity and overload take turns, and each begins with empty mailboxes."""
    cycle_s = min(seconds / 2, CYCLE_S)
    cycles, capacity_s = max(1, round(seconds / cycle_s)), cycle_s / 5
    overload_s = max(
        cycle_s - capacity_s - MAILBOX * SERVICE_S, cycle_s / 3
    )  # then full mailboxes are worked off
    capacities: list[float] = []
    parts: list[tuple[list[int], float]] = []
    system = ActorSystem(Meter, trace=None, limits=Limits(stop_timeout_s=60.0))
    async with system:
        refs = [await system.spawn(Meter, f"counter-{number}") for number in range(MACHINES)]
        load = Overload(system, refs, Random(seed))
        capacities.append(await load.capacity(capacity_s))
        gc.collect()
        before_mib = resident_mib()
        for _ in range(cycles):
            parts.append(await load.overload(overload_s, OVERLOAD * capacities[-1]))
            growth_mib = resident_mib() - before_mib
            await load.rest()
            capacities.append(await load.capacity(capacity_s))
            await load.rest()
        stats = system.stats()
        unexplained = abs(stats.balance) + abs(stats.accepted - sum(stats.outcomes.values()))
        unexplained += sum(ref.snapshot().data["done"] != load.accepted[ref.id] for ref in refs)
    span = sum(took_s for _, took_s in parts)
    around = [(before + after) / 2 for before, after in pairwise(capacities)]
    could = [capacity * took_s for capacity, (_, took_s) in zip(around, parts, strict=True)]
    did = [sum(done) for done, _ in parts]
    return Result(
        seconds=span,
        capacity=sum(could) / span,
        offered=load.offered,
        goodput=sum(did) / span,
        worst=min(done / possible for done, possible in zip(did, could, strict=True)),
        jain=jain([sum(done) for done in zip(*(done for done, _ in parts), strict=True)]),
        refusals=load.refusals,
        refusal_s=load.refusal_s,
        refusal_processor_s=load.refusal_processor_s,
        growth_mib=growth_mib,
        unexplained=unexplained,
    )


def jain(shares: list[int]) -> float:
    """Return Jain's index of fairness: 1 where all have the same."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0


def resident_mib() -> float:
    """Return how much memory of this process is resident, in MiB; 0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text("ascii").split()[1]) * 4096 / 2**20 if statm.exists() else 0.0


def report(result: Result) -> str:
    """Enter the run into the ledger and return its line."""
    return ledger.enter(
        "P7",
        seeds=1,
        violations=len(result.violations),
        seconds=round(result.seconds),
        capacity=round(result.capacity),
        offered=result.offered,
        goodput=f"{result.goodput / result.capacity:.3f}",
        worst=f"{result.worst:.3f}",
        jain=f"{result.jain:.4f}",
        refused=sum(result.refusals.values()),
        refusal_p95_ms=f"{result.refusal_s.least_of_the_longest(0.05) * 1e3:.2f}",
        refusal_p999_ms=f"{result.refusal_s.least_of_the_longest(0.001) * 1e3:.2f}",
        refusal_max_ms=f"{result.refusal_s.longest_s * 1e3:.2f}",
        refusal_processor_p999_ms=f"{result.refusal_processor_s.least_of_the_longest(0.001) * 1e3:.2f}",
        growth_mib=f"{result.growth_mib:.1f}",
    )


def main(arguments: list[str] | None = None) -> list[str]:
    """Run it by hand: `python -m tests.campaigns.p7_overload --seconds 900`; return what was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.p7_overload")
    parser.add_argument("--seconds", type=float, default=900.0)
    options = parser.parse_args(arguments)
    result = asyncio.run(run(options.seconds))
    report(result)
    return result.violations


if __name__ == "__main__":
    sys.exit("\n".join(main()) or None)
