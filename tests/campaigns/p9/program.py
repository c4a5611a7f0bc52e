"""The program that is told to end while a hundred thousand events wait: `signals` starts it and sends it a SIGTERM.

It says in lines of JSON how many events wait, and at its end what became of them, as its senders and its trace know it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from enum import StrEnum, auto
from time import perf_counter
from typing import Any, Final

import actorfsm
from actorfsm import (
    STAY,
    ActorSystem,
    Child,
    Event,
    Limits,
    Machine,
    MailboxPolicy,
    Receipt,
    Record,
    Supervisor,
    transition,
)
from tests.campaigns.p9.plants import PLANTS

MACHINES: Final = 20


class State(StrEnum):
    OPEN = auto()


class Count(Event[int]): ...


class Tally(Machine[State, float], initial=State.OPEN, mailbox=MailboxPolicy(capacity=100_000)):
    count: int = 0

    @transition(State.OPEN, to=STAY)
    async def add(self, event: Count) -> int:
        if self.services:
            await asyncio.sleep(self.services)
        self.count += 1
        return self.count


class Account:
    """A sink: what became of each event, and in which order the tree was started and stopped."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.gave_up_at = 0.0
        """When the first event was given up."""

    def __call__(self, record: Record) -> None:
        if record.name == "dead_lettered":
            self.gave_up_at = self.gave_up_at or perf_counter()
        if record.event_type == "Count":
            self.outcomes[record.name] += 1
            self.ids[record.event_id] += 1
        elif record.name == "started":
            self.started.append(record.machine_id)
        elif record.name == "stopped":
            self.stopped.append(record.machine_id)


async def service(system: ActorSystem[Any], started: Callable[[], None]) -> None:
    started()
    await asyncio.sleep(3_600)


def named(name: str) -> Child:
    return Child(service, name)


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


async def outcomes_of(receipts: list[Receipt]) -> Counter[str]:
    """Return what the senders know; by now they know everything."""
    told: Counter[str] = Counter()
    for receipt in receipts:
        try:
            async with asyncio.timeout(0.001):
                told[(await receipt.outcome()).kind] += 1
        except TimeoutError:
            told["nothing"] += 1
    return told


async def main(events: int, pause_s: float, timeout_s: float) -> None:
    ids = [f"m{n}" for n in range(MACHINES)]
    account, receipts, told_at = Account(), list[Receipt](), 0.0
    machines = Supervisor("machines", children=[Child(Tally, one) for one in ids])
    system = ActorSystem(
        children=[named("first"), machines, named("last")],
        services=pause_s,
        trace=account,
        limits=Limits(stop_timeout_s=timeout_s, blocked_s=0),
    )
    try:
        async with system:
            receipts += (system.tell(ids[n % MACHINES], Count()) for n in range(events))
            say(queued=system.stats().queued)
            try:
                await asyncio.sleep(3_600)
            finally:
                told_at = perf_counter()
    finally:
        told = await outcomes_of(receipts)
        assert system.report is not None
        say(
            finished=system.report.finished,
            abandoned=system.report.abandoned,
            unstopped=system.report.unstopped,
            seconds=system.report.seconds,
            waited_s=account.gave_up_at and account.gave_up_at - told_at,
            told=told,
            traced=account.outcomes,
            twice=sum(times > 1 for times in account.ids.values()),
            counted=sum(system.snapshot(one).data["count"] for one in ids),
            started=account.started,
            stopped=account.stopped,
            balance=system.stats().balance,
            tasks=len(asyncio.all_tasks()),
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int)
    parser.add_argument("--pause", type=float)
    parser.add_argument("--timeout", type=float)
    parser.add_argument("--plant", default="")
    options = parser.parse_args()
    with PLANTS[options.plant]() if options.plant else nullcontext():
        actorfsm.run(lambda: main(options.events, options.pause, options.timeout))
