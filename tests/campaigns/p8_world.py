"""What lives and what is done in the soak of P8: orders that come and go, a tree around them, and their customers.

Everybody who sends something keeps account of it, so that at rest the senders, the trace, the machines and the runtime
can be compared.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeout
from datetime import timedelta
from enum import StrEnum, auto
from pathlib import Path
from random import Random
from time import sleep
from typing import Any, Final

from actorfsm import (
    STAY,
    ActorFSMError,
    ActorSystem,
    Child,
    Directive,
    Event,
    HookFailed,
    Limits,
    Machine,
    PassivationPolicy,
    Quarantined,
    Record,
    Ref,
    RestartPolicy,
    SnapshotPolicy,
    StateTimeout,
    Strategy,
    Supervisor,
    Terminated,
    blocking,
    on_timeout,
    postpone,
    transition,
)

CUSTOMERS: Final = 24
LEDGERS: Final = 3
STANDING: Final = LEDGERS + 4
"""Machines that are always there: the ledgers, the desk, the printer, and two that fail too often."""
AGAIN: Final = RestartPolicy(100_000, 1.0, first_delay_s=0.01, max_delay_s=0.05)
"""What fails in a soak is started again, however often."""
PASSIVATION: Final = PassivationPolicy(idle_s=0.05, in_memory=16)
"""With a journal: so short that machines leave amid their lives, and fewer places than customers."""
SNAPSHOTS: Final = SnapshotPolicy(every=10, keep_entries=10, keep_ids=200)
"""With a journal: entries go, too; the file would grow without them as well, by the machines that have ended."""
LIMITS: Final = Limits(dead_letters=50, transitions=100, blocking_threads=2, blocked_s=0)


class State(StrEnum):
    NEW = auto()
    PAYING = auto()
    PAID = auto()
    DONE = auto()
    LOST = auto()


class Add(Event[int]): ...


class Fail(Event): ...


class Remind(Event): ...


class Reminder(Event):
    """Start a timer; a second one replaces the first."""

    after_s: float


class NoReminder(Event): ...


class Pay(Event):
    """Start a job that takes so long, and fails or not."""

    takes_s: float
    fails: bool = False


class Charged(Event):
    amount: int


class NotCharged(Event):
    why: str


class Note(Event):
    """Postponed until the order is paid, or given up with it."""


class Back(Event):
    """Give up paying: the job is cancelled."""


class Close(Event): ...


class Lose(Event): ...


class Leave(Event): ...


class Book(Event):
    amount: int


class Follow(Event):
    order: str


class Print(Event[int]): ...


class Drop(Exception): ...


async def charge(bank: Bank, takes_s: float, fails: bool) -> int:
    """Charge, as a job of an order does."""
    bank.begun += 1
    try:
        await asyncio.sleep(takes_s)
    except asyncio.CancelledError:
        bank.ended["cancelled"] += 1
        raise
    bank.ended["failed" if fails else "ok"] += 1
    if fails:
        raise ConnectionError("no answer")
    return 1


class Bank:
    """What jobs and services use; it keeps account of both.

    Attributes:
        begun: Jobs that were begun.
        ended: How they ended.
        gateways: How often the gateway was started.
        is_calm: Whether the gateway does not fail for now.
    """

    def __init__(self, seed: int) -> None:
        self.begun = 0
        self.ended: Counter[str] = Counter()
        self.gateways = 0
        self.is_calm = False
        self._random = Random(seed)

    async def gateway(self, system: ActorSystem[Any], started: Callable[[], None]) -> None:
        """A service that is not stable."""
        self.gateways += 1
        started()
        await asyncio.sleep(0.05 + self._random.random() / 5)
        while self.is_calm:  # noqa: ASYNC110 -- who begins a round need not know who waits for it
            await asyncio.sleep(0.005)
        raise ConnectionError("the line is down")


class Order(
    Machine[State, Bank],
    initial=State.NEW,
    final=(State.DONE, State.LOST),
    on_failure={Drop: Directive.RESTART},
    restart=AGAIN,
):
    added: int = 0
    reminded: int = 0
    notes: int = 0

    @transition(State.NEW, State.PAYING, State.PAID, to=STAY)
    async def add(self, event: Add) -> int:
        await asyncio.sleep(0)
        self.added += 1
        return self.added

    @transition(State.NEW, State.PAYING, State.PAID, to=STAY)
    def fail(self, event: Fail) -> None:
        self.added += 1_000
        raise Drop(self.id)

    @transition(State.NEW, State.PAYING, State.PAID, to=STAY)
    def start_reminder(self, event: Reminder) -> None:
        self.start_timer(Remind(), after=event.after_s)

    @transition(State.NEW, State.PAYING, State.PAID, to=STAY)
    def stop_reminder(self, event: NoReminder) -> None:
        self.cancel_timer(Remind)

    @transition(State.NEW, State.PAYING, State.PAID, to=STAY)
    def remind(self, event: Remind) -> None:
        self.reminded += 1

    @transition(State.NEW, to=State.PAYING)
    def pay(self, event: Pay) -> None:
        self.start_job(charge, self.services, event.takes_s, event.fails, done=Charged, failed=NotCharged)

    @transition(State.PAYING, to=State.PAID)
    def charged(self, event: Charged) -> None:
        self.tell(f"ledger-{sum(self.id.encode()) % LEDGERS}", Book(amount=event.amount))

    @transition(State.PAYING, to=State.NEW)
    def not_charged(self, event: NotCharged) -> None: ...

    @on_timeout(State.PAYING, after=timedelta(seconds=0.1), to=State.NEW)
    def takes_too_long(self, event: StateTimeout) -> None: ...

    @transition(State.PAYING, to=State.NEW)
    def back(self, event: Back) -> None: ...

    @postpone(State.NEW, State.PAYING)
    @transition(State.PAID, to=STAY)
    def note(self, event: Note) -> None:
        self.notes += 1

    @transition(State.NEW, State.PAYING, State.PAID, to=State.DONE)
    def close(self, event: Close) -> None: ...

    @transition(State.NEW, State.PAYING, State.PAID, to=State.LOST)
    def lose(self, event: Lose) -> None: ...

    @transition(State.NEW, State.PAYING, State.PAID, to=STAY)
    def leave(self, event: Leave) -> None:
        self.stop()


class Open(StrEnum):
    OPEN = auto()


class Ledger(Machine[Open, Bank], initial=Open.OPEN, restart=AGAIN):
    total: int = 0

    @transition(Open.OPEN, to=STAY)
    async def book(self, event: Book) -> None:
        await asyncio.sleep(0)
        self.total += event.amount

    @transition(Open.OPEN, to=STAY)
    def fail(self, event: Fail) -> None:
        self.total += 1_000
        raise Drop(self.id)


class Desk(Machine[Open, Bank], initial=Open.OPEN):
    followed: int = 0
    ended: int = 0

    @transition(Open.OPEN, to=STAY)
    def follow(self, event: Follow) -> None:
        self.followed += 1
        self.watch(event.order)

    @transition(Open.OPEN, to=STAY)
    def over(self, event: Terminated) -> None:
        self.ended += 1


class Printer(Machine[Open, Bank], initial=Open.OPEN):
    pages: int = 0

    @transition(Open.OPEN, to=STAY)
    @blocking
    def print(self, event: Print) -> int:
        sleep(0.002)
        self.pages += 1
        return self.pages


class Fragile(
    Machine[Open, Bank],
    initial=Open.OPEN,
    on_failure={Drop: Directive.RESTART},
    restart=RestartPolicy(2, 60.0, first_delay_s=0.001, max_delay_s=0.005),
):
    """Is put into quarantine after three failures."""

    added: int = 0

    @transition(Open.OPEN, to=STAY)
    def add(self, event: Add) -> int:
        self.added += 1
        return self.added

    @transition(Open.OPEN, to=STAY)
    def fail(self, event: Fail) -> None:
        raise Drop(self.id)


class Account:
    """What the trace and the senders say.

    Attributes:
        traced: Records by event class and outcome, or by name where no event is concerned.
        told: What senders know, in the same way.
        errors: What cannot be.
        reached: What else happened, by name.
    """

    def __init__(self) -> None:
        self.traced: Counter[tuple[str, str]] = Counter()
        self.told: Counter[tuple[str, str]] = Counter()
        self.errors: list[str] = []
        self.reached: Counter[str] = Counter()

    def __call__(self, record: Record) -> None:
        self.traced[record.event_type, record.name] += 1

    def wrong(self, what: str) -> None:
        """Note what cannot be; a few are enough."""
        if len(self.errors) < 20:
            self.errors.append(what)


class World:
    """The system of a soak, and those who use it."""

    def __init__(self, seed: int, patience_s: float, journal: Path | None = None) -> None:
        self.bank = Bank(seed)
        self.account = Account()
        self.is_stored = journal is not None
        self.random = Random(seed)
        self.patience_s = patience_s
        """How long anything may take before it counts as lost."""
        self.reminded = 0
        self.followed = 0
        self.born = 0
        self.system: ActorSystem[Bank] = ActorSystem(
            Fragile,
            services=self.bank,
            trace=self.account,
            limits=LIMITS,
            random=Random(seed),
            journal=journal,
            passivation=PASSIVATION if self.is_stored else None,
            snapshots=SNAPSHOTS if self.is_stored else None,
            children=[
                Supervisor(
                    "books",
                    strategy=Strategy.REST_FOR_ONE,
                    policy=AGAIN,
                    children=[Child(Ledger, f"ledger-{n}") for n in range(LEDGERS)],
                ),
                Supervisor(
                    "shop",
                    policy=AGAIN,
                    children=[
                        Supervisor("lines", policy=AGAIN, children=[Child(self.bank.gateway, "gateway")]),
                        Child(Desk, "desk"),
                        Child(Printer, "printer"),
                        Order,
                    ],
                ),
            ],
        )

    async def settle(self) -> None:
        """Spawn the machines that stay."""
        for name in ("fragile-0", "fragile-1"):
            await self.system.spawn(Fragile, name)

    # -- sending, and keeping account of it -------------------------------------------------------------------------

    async def ask(self, machine_id: str, event: Event[Any, Any]) -> Any:
        """Ask, and note how it ended."""
        try:
            reply = await self.system.ask(machine_id, event, timeout=self.patience_s)
        except HookFailed:
            self.note(event, "failed")
        except ActorFSMError as error:
            self.account.wrong(f"{machine_id} answered {type(event).__name__} by {error!r}")
        else:
            self.note(event, "committed")
            return reply
        return None

    async def tell(self, machine_id: str, event: Event[Any, Any], *kinds: str) -> str:
        """Tell, wait for the outcome, and note it; it must be one of those that can be."""
        receipt = self.system.tell(machine_id, event)
        try:
            async with asyncio.timeout(self.patience_s):
                kind = (await receipt.outcome()).kind
        except TimeoutError:
            self.account.wrong(f"{type(event).__name__} for {machine_id} has no outcome")
            return ""
        except ActorFSMError as error:
            self.account.wrong(f"{machine_id} refused {type(event).__name__} by {error!r}")
            return ""
        self.note(event, kind)
        if kind not in kinds:
            self.account.wrong(f"{type(event).__name__} for {machine_id} was {kind}")
        return kind

    def note(self, event: Event[Any, Any], kind: str) -> None:
        self.account.told[type(event).__name__, kind] += 1

    # -- who uses it ------------------------------------------------------------------------------------------------

    async def round(self, seconds: float) -> None:
        """Let everybody do what they do for a while, and then wait until all has come to rest."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        thread = threading.Thread(target=self.caller, args=(seconds,))
        thread.start()
        self.bank.is_calm = False
        async with asyncio.TaskGroup() as group:
            for number in range(CUSTOMERS):
                group.create_task(self.customer(number, end))
            group.create_task(self.operator(end))
            group.create_task(self.reader(end))
        self.bank.is_calm = True
        until = loop.time() + self.patience_s
        while await self.is_busy() or thread.is_alive():
            if loop.time() > until:
                self.account.wrong(f"it did not come to rest: {self.system.stats()}")
                return
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.005)  # whoever has just done the last thing has an end, too

    async def data_of(self, machine_id: str) -> dict[str, Any]:
        """Return the data of a machine, which may have left memory."""
        await self.system.load(machine_id)
        return self.system.snapshot(machine_id).data

    async def machines(self) -> int:
        """Return how many machines there are, in memory and in the journal."""
        if not self.is_stored:
            return self.system.stats().machines
        return len([machine_id async for machine_id in self.system.stored_ids()])

    async def is_busy(self) -> bool:
        stats = self.system.stats()
        waiting = (
            stats.queued + stats.in_flight + stats.outgoing + stats.jobs + stats.timers + stats.postponed
        )
        is_up = "gateway: service, permanent, running" in str(self.system.tree())
        return bool(waiting) or not is_up or self.followed > (await self.data_of("desk"))["ended"]

    async def customer(self, number: int, end: float) -> None:
        """Have one order after the other, each from its birth to its end."""
        loop, random = asyncio.get_running_loop(), Random(self.random.random())
        while loop.time() < end:
            self.born += 1
            name = f"order-{number}-{self.born}"
            order = await self.system.spawn(Order, name, data={"added": 0})
            self.account.told["Spawn", "committed"] += 1
            self.followed += 1
            await self.ask("desk", Follow(order=name))
            added = 0
            for _ in range(random.randint(4, 10)):
                added += await self.step(order, random)
                await asyncio.sleep(random.random() / 50)
            await self.end(order, added, random)

    async def step(self, order: Ref[Order], random: Random) -> int:
        """Do one thing with an order; return how often something was added."""
        name = order.id
        match random.choice(["ask", "ask", "tell", "burst", "fail", "timer", "timer", "pay", "pay", "note"]):
            case "ask":
                await self.ask(name, Add())
                return 1
            case "tell":
                await self.tell(name, Add(), "committed")
                return 1
            case "burst":
                await asyncio.gather(*(self.tell(name, Add(), "committed") for _ in range(5)))
                return 5
            case "fail":
                await self.tell(name, Fail(), "failed")
            case "timer":
                await self.ask(name, Reminder(after_s=random.random() / 20))
                if random.random() < 0.5:
                    await self.ask(name, NoReminder())
                    self.account.reached["timers cancelled"] += 1
            case "pay" if await self.is_new(name):
                takes_s = random.choice([0.0, 0.01, 5.0])
                await self.ask(name, Pay(takes_s=takes_s, fails=random.random() < 0.3))
                if random.random() < 0.3:
                    await self.tell(name, Back(), "committed", "unhandled")
            case _:
                self.system.tell(name, Note(), callback=lambda outcome: self.note(Note(), outcome.kind))
        return 0

    async def is_new(self, name: str) -> bool:
        await self.system.load(name)
        return self.system.snapshot(name).state is State.NEW

    async def end(self, order: Ref[Order], added: int, random: Random) -> None:
        """Let an order end in one of the ways there are, and compare what it says with what was sent."""
        way = random.choice([Close(), Lose(), Leave(), None])
        if isinstance(way, Close | Lose):
            await self.ask(order.id, way)
        else:
            await self.ask(order.id, NoReminder())
        data = await self.data_of(order.id)  # no timer comes after this
        if isinstance(way, Leave):
            await self.ask(order.id, way)
        else:
            await self.system.stop(order.id)
        self.reminded += data["reminded"]
        if data["added"] != added:
            self.account.wrong(f"{order.id} says {data['added']}, its customer {added}")

    async def operator(self, end: float) -> None:
        """Break the fragile ones, release them with their mail or without; suspend and resume a ledger; break one."""
        loop, random, number = asyncio.get_running_loop(), Random(self.random.random()), 0
        while loop.time() < end:
            number += 1
            name = f"fragile-{number % 2}"
            while name not in self.system.quarantined():
                await self.tell(name, Fail(), "failed")
                await asyncio.sleep(0.01)
            self.account.reached["quarantines"] += 1
            try:
                await self.system.ask(name, Add(), timeout=self.patience_s)
            except Quarantined:
                self.account.reached["refused in quarantine"] += 1
            self.system.release(name, discard=random.random() < 0.5)
            await self.ask(name, Add())
            ledger = f"ledger-{number % LEDGERS}"
            self.system.suspend(ledger)
            await asyncio.sleep(0.01)
            self.system.resume(ledger)
            self.account.reached["suspended"] += 1
            if random.random() < 0.3:
                await self.tell(ledger, Fail(), "failed")
            await asyncio.sleep(0.05)

    async def reader(self, end: float) -> None:
        """Use the printer, whose hook blocks in a thread."""
        loop, pages = asyncio.get_running_loop(), (await self.data_of("printer"))["pages"]
        while loop.time() < end:
            pages += 1
            if await self.ask("printer", Print()) != pages:
                self.account.wrong(f"the printer did not print page {pages}")
            await asyncio.sleep(0.05)

    def caller(self, seconds: float) -> None:
        """Ask from a plain thread."""
        for _ in range(int(seconds / 0.05)):
            try:
                self.system.threadsafe.ask("fragile-0", Add()).result(self.patience_s)
                self.account.reached["answered in a thread"] += 1
                self.account.told["Add", "committed"] += 1
            except Quarantined:
                self.account.reached["refused in a thread"] += 1
            except FutureTimeout:
                self.account.wrong("a thread was not answered")
            sleep(0.05)

    # -- the account ------------------------------------------------------------------------------------------------

    async def judge(self) -> None:
        """Compare, at rest, what the senders, the trace, the machines, the bank and the runtime say."""
        account, stats = self.account, self.system.stats()
        traced, told = account.traced, account.told

        def equal(what: str, **says: int) -> None:
            if len(set(says.values())) > 1:
                account.wrong(f"{what}: " + ", ".join(f"{who} {count}" for who, count in says.items()))

        for event in (Reminder, NoReminder, Pay, Print, Follow, Close, Lose, Leave, Back, Note):
            for kind in ("committed", "failed", "unhandled", "dead_lettered"):
                key = event.__name__, kind
                equal(" ".join(key), senders=told[key], trace=traced[key])
        equal("orders born", customers=self.born, trace=traced["Spawn", "committed"] - STANDING)
        booked = sum([(await self.data_of(f"ledger-{n}"))["total"] for n in range(LEDGERS)])
        equal(
            "booked", orders=traced["Charged", "committed"], ledgers=booked, trace=traced["Book", "committed"]
        )
        equal("reminders", orders=self.reminded, trace=traced["Remind", "committed"])
        desk = await self.data_of("desk")
        equal("ends", asked=self.followed, desk=desk["ended"], trace=traced["Terminated", "committed"])
        equal("jobs", begun=self.bank.begun, ended=self.bank.ended.total())
        equal("machines", at_rest=STANDING, now=await self.machines())
        equal("balance", runtime=stats.balance, none=0)
        equal("asks that wait", now=stats.pending_asks, none=0)
