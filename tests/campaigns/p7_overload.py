"""P7: ten times more than the machines can do, and one sender who is greedy.

Runs on the real loop and the real clock, because it is about what a computer does. Each machine's hook waits for a
gateway that takes its time, so that capacity is a matter of the machines and not of the processor. First the capacity
is measured by askers that wait for their answers; then ten times as many events are offered, evenly, and one more
sender floods one of the machines. What must hold: the machines do their work as before (goodput), no machine starves
another (Jain's index), whoever is refused learns so at once and by a typed error, memory stays bounded, and in the end
the account is exact.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum, auto
from pathlib import Path
from random import Random
from time import perf_counter
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
SERVICE_S: Final = 0.05
"""How long the gateway takes, in seconds."""
MAILBOX: Final = 64
OVERLOAD: Final = 10
GREED: Final = 10
"""How much more the greedy sender offers than the others, to one machine."""
TICK_S: Final = 0.005
CI_SECONDS: Final = 20.0

LEAST_GOODPUT: Final = 0.9
LEAST_JAIN: Final = 0.95
MOST_REFUSAL_S: Final = 0.01
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


@dataclass
class Result:
    """What was measured."""

    seconds: float
    capacity: float
    """Events per second, of askers that wait for their answers."""
    offered: int
    goodput: float
    """Events per second under overload."""
    jain: float
    refusals: Counter[str]
    slowest_refusal_s: float
    refusal_p999_s: float
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
        if self.refusal_p999_s > MOST_REFUSAL_S:
            found.append(f"one refusal of a thousand took {self.refusal_p999_s * 1e3:.1f} ms or more")
        if self.growth_mib > MOST_GROWTH_MIB:
            found.append(f"memory grew by {self.growth_mib:.1f} MiB")
        if self.unexplained:
            found.append(f"{self.unexplained} events are unexplained")
        return found


class Overload:
    """One run: measures the capacity, then offers far more."""

    def __init__(self, system: ActorSystem, refs: list[Ref[Meter]], random: Random) -> None:
        self.system = system
        self.refs = refs
        self.random = random
        self.offered = 0
        self.accepted: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.tenths_of_ms: Counter[int] = Counter()
        """How many refusals took so many tenths of a millisecond: a list of them all would be the growth of memory."""
        self.slowest_refusal_s = 0.0

    async def capacity(self, seconds: float) -> float:
        """Return how many events per second are done when each sender waits for its answer."""
        end, done = perf_counter() + seconds, 0

        async def ask(ref: Ref[Meter]) -> int:
            answered = 0
            while perf_counter() < end:
                await ref.ask(Count())
                self.accepted[ref.id] += 1
                answered += 1
            return answered

        # Two senders for each machine, so that none waits for its next event.
        done = sum(await asyncio.gather(*(ask(ref) for ref in (*self.refs, *self.refs))))
        return done / seconds

    async def offer(self, refs: list[Ref[Meter]], rate: float, seconds: float) -> None:
        """Offer events to these machines in turn, at a rate per second, whether they are taken or not."""
        began, sent = perf_counter(), 0
        while (since := perf_counter() - began) < seconds:
            due = int(since * rate)
            while sent < due:
                await self._tell(refs[sent % len(refs)])
                sent += 1
                if sent % 512 == 0:  # a sender that has fallen behind lets others have the loop, too
                    await asyncio.sleep(0)
            await asyncio.sleep(TICK_S)

    async def _tell(self, ref: Ref[Meter]) -> None:
        began = perf_counter()
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
            began = perf_counter()
            self.offered += 1
            try:
                await ref.ask(Count(), timeout=60)
                self.accepted[ref.id] += 1
            except ActorFSMError as error:
                self._refused(began, error)
                await asyncio.sleep(TICK_S * self.random.random())

    def _refused(self, began: float, error: ActorFSMError) -> None:
        took_s = perf_counter() - began
        self.refusals[type(error).__name__] += 1
        self.tenths_of_ms[int(took_s * 10_000)] += 1
        self.slowest_refusal_s = max(self.slowest_refusal_s, took_s)

    def refusal_p999_s(self) -> float:
        """Return how long 999 of 1,000 refusals took at most, in seconds."""
        left = sum(self.tenths_of_ms.values()) / 1000
        for tenths in sorted(self.tenths_of_ms, reverse=True):
            left -= self.tenths_of_ms[tenths]
            if left < 0:
                return (tenths + 1) / 10_000
        return 0.0


async def run(seconds: float, *, seed: int = 0) -> Result:
    """Run the programme: a fifth of the time measures the capacity, the rest is overload."""
    system = ActorSystem(Meter, trace=None, limits=Limits(stop_timeout_s=60.0))
    async with system:
        refs = [await system.spawn(Meter, f"counter-{number}") for number in range(MACHINES)]
        load = Overload(system, refs, Random(seed))
        capacity = await load.capacity(min(seconds / 5, 30.0))
        gc.collect()
        before_mib, done_before = resident_mib(), [ref.snapshot().data["done"] for ref in refs]
        rate, span = OVERLOAD * capacity, seconds * 4 / 5
        async with asyncio.TaskGroup() as group:
            group.create_task(load.offer(refs, rate, span))
            group.create_task(load.offer(refs[:1], GREED * rate / MACHINES, span))
            for ref in refs:
                group.create_task(load.ask_politely(ref, span))
            await asyncio.sleep(span)
            done = [
                ref.snapshot().data["done"] - before for ref, before in zip(refs, done_before, strict=True)
            ]
        growth_mib = resident_mib() - before_mib
        while system.stats().queued or system.stats().in_flight:  # noqa: ASYNC110 -- nothing tells a sender that all is done
            await asyncio.sleep(SERVICE_S)
        stats = system.stats()
        unexplained = abs(stats.balance) + abs(stats.accepted - sum(stats.outcomes.values()))
        unexplained += sum(ref.snapshot().data["done"] != load.accepted[ref.id] for ref in refs)
    return Result(
        seconds=span,
        capacity=capacity,
        offered=load.offered,
        goodput=sum(done) / span,
        jain=jain(done),
        refusals=load.refusals,
        slowest_refusal_s=load.slowest_refusal_s,
        refusal_p999_s=load.refusal_p999_s(),
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
        jain=f"{result.jain:.4f}",
        refused=sum(result.refusals.values()),
        refusal_p999_ms=f"{result.refusal_p999_s * 1e3:.2f}",
        refusal_max_ms=f"{result.slowest_refusal_s * 1e3:.2f}",
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
