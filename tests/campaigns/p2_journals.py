"""P2 over journals: the same seed in memory, in a file and on a server, with crashes, takeovers and commits that fail.

    python -m tests.campaigns.p2_journals --seeds 2000

Clients ask life after life and note what they are answered. Then all that was answered is asked for again, and what is
stored is judged by `verify` and by the oracle of P3, which shares nothing with the runtime.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

from actorfsm import (
    AskTimeout,
    Expired,
    Fenced,
    JournalClosed,
    JournalError,
    NotStored,
    OutcomeUnknown,
    SystemFailed,
    SystemStopping,
    Unhandled,
)
from actorfsm.testing import SimulatedSystem
from actorfsm.testing.loop import SimLoop
from tests.campaigns import ledger
from tests.campaigns.journals import InAFile, InMemory, history, throw_away, verified
from tests.campaigns.p3.machines import Desk, Free, Hold, Ledger, Pay, Till
from tests.campaigns.p3.oracle import Notes, judge

if TYPE_CHECKING:
    from collections.abc import Callable

    from actorfsm.journal.entry import Batch
    from tests.campaigns.journals import Place

LIVES: Final = 4
TILLS: Final = ("till-0", "till-1", "desk-0")
EVENTS: Final[dict[str, Any]] = {"pay": Pay, "hold": Hold, "free": Free}
FATES: Final = ("not stored", "unknown, not stored", "unknown, stored", "slow")
ENDS: Final = ("crash", "crash", "taken over", "abandoned", "stopped")
FULL_SIZE: Final = 1_000
REQUIRED: Final = (
    *FATES,
    *dict.fromkeys(ENDS),
    "cancelled during a commit",
    "settled later",
    "asked again",
    "fenced",
)
"""Each of them a campaign of `FULL_SIZE` seeds must reach 100 times, or it shows nothing."""


class Troubled:
    """A journal that does what the seed wants: it stores surely not, or does not know, or takes its time."""

    def __init__(self, place: Place, random: Random, reached: Counter[str], *, calm: bool) -> None:
        self._inner = place.journal()
        self._place = place
        self._random = random
        self._reached = reached
        self._fates = () if calm else (*[""] * random.choice([4, 20, 60]), *FATES)
        self.in_flight: Counter[str] = Counter()
        self._unanswered: dict[asyncio.Future[None], None] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def append(self, batch: Batch) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        if self._place.is_dead:
            return self._inner.append(batch)
        fate = self._random.choice(self._fates) if self._fates else ""
        answer: asyncio.Future[None] = loop.create_future()
        self._unanswered[answer] = None
        answer.add_done_callback(self._unanswered.pop)
        machines = [entry.machine_id for entry in batch.entries]
        self.in_flight.update(machines)
        answer.add_done_callback(lambda _: self.in_flight.subtract(machines))
        self._reached[fate] += 1
        if fate in {"not stored", "unknown, not stored"}:
            error = NotStored if fate == "not stored" else OutcomeUnknown
            loop.call_soon(_tell, answer, error("as the seed wants it"))
            return answer
        after_s = self._random.random() * 3 if fate == "slow" else 0.0
        unknown = OutcomeUnknown("as the seed wants it") if fate == "unknown, stored" else None

        def told(done: asyncio.Future[None]) -> None:
            loop.call_later(after_s, _tell, answer, done.exception() or unknown)

        self._inner.append(batch).add_done_callback(told)
        return answer

    def die(self) -> None:
        """Refuse whoever waits: nobody of the dead process shall wait for ever."""
        for answer in list(self._unanswered):
            _tell(answer, JournalClosed("the process has died"))

    async def settle(self, batch: Batch) -> bool:
        if self._fates and not self._place.is_dead and self._random.random() < 0.3:
            self._reached["settled later"] += 1
            raise OutcomeUnknown("still unknown")
        return bool(await self._inner.settle(batch))


def _tell(answer: asyncio.Future[None], error: BaseException | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(None)
    else:
        answer.set_exception(error)


@dataclass(slots=True)
class World:
    """One seed over one place."""

    seed: int
    place: Place
    random: Random = field(init=False)
    notes: Notes = field(default_factory=Notes)
    open: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    """What nobody knows of, by event id."""
    numbers: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    reached: Counter[str] = field(default_factory=Counter)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    # -- lives ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        for life in range(LIVES):
            self.live(life, self.random.choice(ENDS))
        self.live(LIVES, "judged")
        self.broken += [f"verify: {fault}" for fault in verified(self.place)]

    def live(self, life: int, end: str) -> None:
        """Let a system live on a loop of its own, until its end comes or its process dies."""
        loop = SimLoop(self.seed * 10 + life)
        loop._now = self.now
        journal = Troubled(self.place, self.random, self.reached, calm=end == "judged")
        main = loop.create_task(self.main(journal, end, loop))
        main.add_done_callback(lambda _: loop.stop())
        try:
            loop.run_forever()
            self.now = loop.time()
            self.reached[end] += 1
            if main.done():
                self.finished(main)
        finally:
            self.place.crash()
            journal.die()
            throw_away(loop)

    def finished(self, main: asyncio.Task[None]) -> None:
        error = main.exception()
        if isinstance(error, SystemFailed) and isinstance(error.__cause__, Fenced):
            self.reached["fenced"] += 1
        elif error is not None:
            self.broken.append(f"out of the system comes {error!r} because of {error.__cause__!r}")

    async def main(self, journal: Troubled, end: str, loop: SimLoop) -> None:
        system: Any = SimulatedSystem(
            Till, Desk, Ledger, journal=journal, random=Random(self.seed), check=False
        )
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(system)
            if end == "judged":
                await self.judged(system)
                return
            await self.spawned(system, Ledger, "ledger")
            clients = [loop.create_task(self.client(system, journal, till), name=till) for till in TILLS]
            try:
                for _ in range(self.random.randrange(5, 200)):
                    await asyncio.sleep(0 if self.random.random() < 0.8 else self.random.random())
                await self.ends(system, end)
            finally:
                if end == "crash":
                    stack.pop_all()  # nobody stops it
                else:
                    for client in clients:
                        client.cancel()
                    await asyncio.gather(*clients, return_exceptions=True)

    async def ends(self, system: Any, end: str) -> None:
        if end == "crash":
            self.place.crash()
        elif end == "taken over":
            self.place.take_over()
            await asyncio.sleep(5)
        elif end == "abandoned":
            await system.shutdown(queues="abandon")

    async def spawned(self, system: Any, kind: Any, machine_id: str) -> Any:
        while True:
            with suppress(NotStored, OutcomeUnknown):
                return await system.get_or_spawn(kind, machine_id)
            await asyncio.sleep(0.1)

    # -- clients --------------------------------------------------------------------------------------------------

    async def client(self, system: Any, journal: Troubled, machine: str) -> None:
        await self.spawned(system, Desk if machine.startswith("desk") else Till, machine)
        while True:
            mine = [one for one in self.open.values() if one[0] == machine]
            if mine and self.random.random() < 0.5:
                self.reached["asked again"] += 1
                _, what, number = self.random.choice(mine)
            else:
                self.numbers[machine] += 1
                whats = (
                    ("pay",) if machine.startswith("desk") else ("pay", "pay", "pay", "hold", "free", "free")
                )
                what, number = self.random.choice(whats), self.numbers[machine]
            timeout = self.random.choice([0.5, 2, 10])
            asking = asyncio.ensure_future(self.ask(system, machine, what, number, timeout))
            if self.random.random() < 0.3:
                for _ in range(self.random.randrange(1, 25)):
                    await asyncio.sleep(0)
                if not asking.done() and journal.in_flight[machine] > 0:
                    self.reached["cancelled during a commit"] += 1
                asking.cancel()
            try:
                await asyncio.gather(asking, return_exceptions=True)
            except asyncio.CancelledError:
                asking.cancel()
                raise
            await asyncio.sleep(self.random.choice([0, 0, 0.003, 0.3]))

    async def ask(self, system: Any, machine: str, what: str, number: int, timeout: float) -> None:
        event_id = f"{machine}/{what}-{number}"
        self.notes.sent.add(event_id)
        self.open[event_id] = machine, what, number
        try:
            reply = await system.ask(machine, EVENTS[what](number=number), event_id=event_id, timeout=timeout)
        except (OutcomeUnknown, AskTimeout, NotStored, Expired, Unhandled, SystemStopping, SystemFailed):
            return  # it may be asked again
        except JournalError as error:
            if not self.place.is_dead:
                self.broken.append(f"C25: {event_id} was answered {error!r}")
            return
        self.open.pop(event_id, None)
        self.answered(event_id, machine, reply)

    def answered(self, event_id: str, machine: str, reply: Any) -> None:
        before = self.notes.answers.setdefault(event_id, (machine, reply, 0))
        if before[1] != reply:
            self.broken.append(f"C24: {event_id} was answered {before[1]}, and now {reply}")

    # -- the last life --------------------------------------------------------------------------------------------

    async def judged(self, system: Any) -> None:
        """Ask again for everything that was answered, then let all come to rest."""
        for machine in (*TILLS, "ledger"):
            kind = {"t": Till, "d": Desk, "l": Ledger}[machine[0]]
            await system.get_or_spawn(kind, machine)
        for event_id, (machine, _, _) in list(self.notes.answers.items()):
            what, _, number = event_id.partition("/")[2].partition("-")
            try:
                reply = await system.ask(
                    machine, EVENTS[what](number=int(number)), event_id=event_id, timeout=9
                )
            except Exception as error:  # noqa: BLE001 -- whatever it is, there was a reply
                self.broken.append(f"C24: {event_id} was answered before, and now {error!r}")
            else:
                self.answered(event_id, machine, reply)
        for machine in ("till-0", "till-1"):
            if system.snapshot(machine).state.name == "HELD":
                self.notes.sent.add(f"{machine}/free-0")
                await system.ask(machine, Free(number=0), event_id=f"{machine}/free-0")
        await system.clock.advance(60)
        for machine in ("till-0", "till-1"):
            data = system.snapshot(machine).data
            if len({data[name] for name in ("paid", "counted", "rung", "thanked")}) > 1:
                self.broken.append(f"I7: something of what {machine} had begun never came: {data}")
        for name in ("pending", "timers"):
            left = await (system._journal.pending() if name == "pending" else system._journal.timers(2**62))
            if left:
                self.broken.append(f"I7: {name} are left at rest: {left}")


@dataclass(slots=True)
class Tally:
    """What seeds came to."""

    seeds: int = 0
    answers: int = 0
    entries: int = 0
    reached: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def missing(self) -> list[str]:
        """Return what was not reached as often as this many seeds must reach it."""
        wanted = 100 * self.seeds / FULL_SIZE
        return [
            f"{name}: {self.reached[name]} of {wanted:g}" for name in REQUIRED if self.reached[name] < wanted
        ]


def run_seed(seed: int, tally: Tally, *others: Callable[[], Place]) -> None:
    """Run a seed in memory and in a file, and elsewhere; each has the same history."""
    with tempfile.TemporaryDirectory(prefix="p2-") as folder:
        file = Path(folder) / "journal.db"
        first = World(seed, InMemory())
        first.run()
        worlds = [World(seed, make()) for make in (partial(InAFile, file), *others)]
        stored = history(first.place)
        for world in worlds:
            world.run()
            if world.notes.answers != first.notes.answers:
                first.broken.append(f"{world.place} has answered otherwise")
            its = history(world.place)
            first.broken += [
                f"{world.place} has other {name}" for name in stored if stored[name] != its[name]
            ]
        try:
            found = judge(file, first.notes)
        except Exception as error:  # noqa: BLE001 -- what it cannot read nobody has written in good order
            found = [f"the oracle cannot read it: {error!r}"]
        # The oracle knows of no deadlines, and here what was postponed may expire.
        first.broken += [one for one in found if "is expired: nobody gave" not in one]
    tally.seeds += 1
    tally.answers += len(first.notes.answers)
    tally.entries += len(stored["entries"])
    tally.reached += first.reached
    tally.broken += [f"seed {seed}: {one}" for one in first.broken]


def run(seeds: range, *others: Callable[[], Place]) -> Tally:
    tally = Tally()
    for seed in seeds:
        run_seed(seed, tally, *others)
    return tally


def report(tally: Tally, over: str) -> None:
    figures = {"answers": tally.answers, "entries": tally.entries}
    cancelled = tally.reached["cancelled during a commit"]
    ledger.enter(
        "P2",
        seeds=tally.seeds,
        over=over,
        **figures,
        cancelled_in_commit=cancelled,
        violations=len(tally.broken),
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=FULL_SIZE)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args(arguments)
    tally = run(range(options.first, options.first + options.seeds))
    print(*(f"{tally.reached[name]:>12,} {name}" for name in REQUIRED), sep="\n")
    print(*tally.broken, *tally.missing(), sep="\n")
    report(tally, "memory,sqlite")
    return 1 if tally.broken or tally.missing() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
