"""The world of one P2 seed: what drives the machines, what watches them, and what may be said of each outcome.

Everything comes from the seed: the system's options, the scripts, the senders' choices, the order in which ready things
run. The world watches while it happens (one turn at a time, data as the fold of what was committed); the checker judges
afterwards.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from actorfsm import ActorSystem, Event, Limits, Outcome, Record, StopReport, Veto
from actorfsm.errors import (
    ActorFSMError,
    AskCycle,
    DefinitionError,
    HookFailed,
    NoSuchMachine,
    StaleTurn,
    SystemFailed,
    Unsupported,
    WrongThread,
)
from actorfsm.testing.checker import OUTCOMES, Violation, check
from actorfsm.testing.loop import SimLoop, observe
from actorfsm.testing.simulation import SimulatedSystem, facts_of
from tests.campaigns.p2_books import HELD, Books
from tests.campaigns.p2_machines import (
    CLASSES,
    FAILS,
    GRACE_S,
    MAY_FAIL,
    SCRIPTED,
    VETOES,
    WAITING,
    Answer,
    Begin,
    Born,
    Finish,
    Fragile,
    Heavy,
    Job,
    Later,
    Plain,
    Scripted,
    Tick,
    Worker,
)
from tests.campaigns.p2_tree import ROOT, Planned, cannot_start, nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS = 200
"""At least so many events end in each seed."""

LAST_WAVE = 5
"""How many events there are at least in the wave that is sent before a system is stopped or fails."""

SENDERS = 4
KINDS = {cls.__name__: cls for cls in CLASSES}
REFUSING = (*VETOES, *FAILS)
GUARDS = ("no", "no", "boom", "odd")
HOOKS = ("before", "exit", "body", "enter")
ACTS = (
    *("veto", "false", "vetoed", "veto", "false"),
    *("value", "value", "key", "key", "os", "cancel", "odd", "data", "exit"),
    *("yield", "yield", "yield", "slow", "slow", "slow", "slow", "late", "hang"),
    *("ask", "ask", "ask", "ask", "ask!", "ask!", "gather", "self"),
    *("tell", "tell", "tell", "tell", "tell me", "own", "own", "chain", "stop", "leak"),
    *("timer", "timer", "timer", "timer", "timer", "timer", "untimer", "job", "job", "job", "job", "unjob"),
    *("watch", "watch", "watch", "watch", "unwatch"),
)
AFTERS = ("write", "tell", "value", "late", "hang", "ask", "slow", "slow", "yield", "cancel")
SPAWNED = ({}, {}, {}, {}, {"birth": "veto"}, {"birth": "odd"}, {"count": "many"})


class World:
    """Services of the machines, a sink of the trace, and the memory of the senders of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(f"p2 {seed}")
        self.reached: Counter[str] = Counter()
        self.violations: list[Violation] = []
        self.books = Books(self.say, self.reached)
        self.tree = Planned(self, self.random)
        self.calm = False
        """Whether nobody fails any more, nor begins anything."""
        self.doom = asyncio.Event()
        """Whether the root supervisor is to give up."""
        self.failures: Counter[int] = Counter()
        self.mended: set[int] = set()
        self.suspended: dict[str, bool] = {}
        """By id, whether the machine may still finish the event that it was handling."""
        self.working: dict[str, int] = {}
        self.in_after: dict[str, int] = {}
        self.begun: set[int] = set()
        self.ended: set[int] = set()
        self.numbers = 0
        self.records = 0
        self.outcomes = 0
        self.spawned: list[str] = []
        self.ids: list[str] = []
        self.births = 0
        self.over = False

    def say(self, rule: str, text: str) -> None:
        self.violations.append(Violation(rule, self.records, text))

    # -- services of the machines

    def next_n(self) -> int:
        self.numbers += 1
        return self.numbers

    def some_machine(self) -> str:
        return self.ids[int(self.random.random() * len(self.ids))]

    def job(self) -> Job:
        return Job(n=self.next_n())

    def child(self, parent: Scripted, cls: type[Scripted] = Job) -> Scripted:
        """Make an event that one event causes; the third generation does nothing more."""
        pick, n = self.random.random(), self.next_n()
        if parent.hop >= 2 or pick < 0.4 or self.calm:
            return cls(n=n, hop=parent.hop + 1)
        peer = self.some_machine()
        if pick < 0.75:
            return cls(n=n, hop=parent.hop + 1, body="ask", peer=peer)
        act = ACTS[int(self.random.random() * len(ACTS))]
        return cls(n=n, hop=parent.hop + 1, body=act, peer=peer)

    def check_in(self, machine_id: str, event: Any) -> None:
        """A hook of a machine runs: no other event of it may be at work."""
        n = number_of(event)
        if machine_id not in self.working and not self.suspended.get(machine_id, True):
            self.say("C31", f"{machine_id} begins {n} while it is suspended")
        if self.working.setdefault(machine_id, n) != n:
            self.say("C1", f"{machine_id} begins {n} while it handles {self.working[machine_id]}")
        if self.in_after.get(machine_id, n) != n:
            self.say("C1", f"{machine_id} begins {n} during the after-hook of {self.in_after[machine_id]}")
        self.begun.add(n)

    @contextmanager
    def after(self, machine_id: str, n: int) -> Iterator[None]:
        if n not in self.ended:
            self.say("C3", f"{machine_id}: an after-hook of {n} runs before its outcome")
        self.in_after[machine_id] = n
        try:
            yield
        finally:
            if self.in_after.get(machine_id) == n:
                del self.in_after[machine_id]

    def leak(self, machine: Any) -> None:
        """Leave a task behind that outlives the turn, and uses the machine afterwards."""
        asyncio.get_running_loop().create_task(self._outlive(machine), name="leak")

    async def _outlive(self, machine: Any) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            try:
                machine.count = -1
            except StaleTurn:
                self.reached["error StaleTurn"] += 1
            else:
                self.say("C13", "a task that a hook left behind changed the machine")

    def birth_of(self, machine_id: str) -> str:
        """Say how a birth shall go; those of the tree are many, for they are born anew."""
        if self.calm or machine_id not in self.tree.places:
            return ""
        return {0: "late", 1: "odd", 2: "veto"}.get(int(self.random.random() * 24), "")

    def overdue(self, machine_id: str, event: Any) -> None:
        """A machine was BUSY for too long."""
        self.check_in(machine_id, event)
        if self.calm:
            return
        match int(self.random.random() * 12):
            case 0 | 1:
                raise ValueError("the timeout was told to fail")
            case 2:
                raise Veto("not yet")
            case _:
                return

    def job_begins(self, machine_id: str, job: int) -> None:
        self.books.job_begins(machine_id, job)

    def answer(self, job: int) -> Answer:
        return Answer(n=self.next_n(), job=job, hop=1)

    def told(self, outcome: Outcome) -> None:
        self.reached["outcome sent to a machine"] += 1

    # -- a sink of the trace

    def __call__(self, record: Record) -> None:
        self.records += 1
        if record.name not in OUTCOMES:
            self._befell(record)
            return
        self.outcomes += 1
        if record.duplicate:
            return
        name, machine_id, event, ends_turn = record.name, record.machine_id, record.event, False
        if event.__class__ in SCRIPTED:
            if not self.calm and event.n not in self.mended:  # then its script was not followed
                explain(self, record, event)
            if name == "failed" and event.__class__ is Tick:
                self._mend(event.n)
            if record.source is not None or name == "committed":
                self.ended.add(event.n)
        if self.working.get(machine_id) == number_of(event):
            del self.working[machine_id]
            ends_turn = True
            if machine_id in self.suspended:
                self.suspended[machine_id] = False
        self.books.outcome(record, asyncio.get_running_loop().time(), ends_turn=ends_turn)

    def _befell(self, record: Record) -> None:
        """Follow what befell a machine, beside the outcomes of events."""
        machine_id = record.machine_id
        match record.name:
            case "stopped":
                self.books.stopped(machine_id, record.reason, is_declared=machine_id in self.tree.places)
                self.suspended.pop(machine_id, None)
                self.working.pop(machine_id, None)
            case "restarted":
                self.books.restarted(record)
            case "suspended":
                self.suspended[machine_id] = bool(record.reason)
            case "resumed":
                self.suspended.pop(machine_id, None)
            case "job_failed":
                self.reached["job failed and nobody told"] += 1
                self.books.job_failed(record)
            case "after_hook_failed":
                self.in_after.pop(machine_id, None)
            case _:
                pass

    def _mend(self, n: int) -> None:
        """Let what fails again and again succeed some day: the event of a timer comes again until then."""
        self.failures[n] += 1
        if self.failures[n] > (1 if n % 2 else 6):
            self.mended.add(n)

    def look(self, system: SimulatedSystem[Any], machine_id: str) -> None:
        """A snapshot shows what was committed, no less and no more (C2)."""
        try:
            seen = system.snapshot(machine_id)
        except NoSuchMachine:
            if machine_id in self.books.models:
                self.say("C2", f"{machine_id} is gone")
            return
        model = self.books.of(machine_id)
        if model is None:
            self.say("C2", f"{machine_id} is there, and was never born")
            return
        shown = (seen.state.name, seen.seq, seen.data["count"], seen.data["log"])
        if shown != (model.state, model.seq, model.count, model.log):
            self.say("C2", f"{machine_id} shows {shown}, committed is {model}")


def number_of(event: Any) -> int:
    """Return the number of an event; those that come of the runtime have none."""
    return event.n if event.__class__ in SCRIPTED else 0


def explain(world: World, record: Record, event: Scripted) -> None:
    """Say so if a script cannot have led to this outcome."""
    name, plain = record.name, record.machine == "Plain" or event.__class__ is Heavy
    if name == "committed" and not (event.body or event.enter or event.before or event.exit or event.guard):
        return
    acts = (
        (event.before, event.exit, event.body, event.enter)
        if event.leaves
        else (event.body, event.enter * (event.__class__ is Begin))
    )
    acts = ["" if plain and act in WAITING else act for act in acts]
    place = 2 if event.leaves else 0
    acts[place] = {"vetoed": "odd", "false": ""}.get(
        acts[place], acts[place]
    )  # what a body returns is its reply
    if acts[place] in {"odd", "data"}:  # both are seen at the commit only
        acts.append(acts[place])
        acts[place] = ""
    first = next((act for act in acts if act in VETOES or act in FAILS), "")
    if name == "committed":
        if first or (event.guard and event.leaves):
            world.say("C2", f"{event!r} was committed")
        return
    if name == "vetoed" and first not in VETOES:
        world.say("C3", f"{event!r} was vetoed by {record.hook}")
    if name == "failed" and first not in FAILS and not (event.leaves and event.guard in {"boom", "odd"}):
        stopped = (world.over and "stopped" in record.reason) or HELD in record.reason
        if not stopped and not any(act in MAY_FAIL for act in acts):
            world.say("C13", f"{event!r} failed: {record.reason}")
    if name == "unhandled" and record.source not in {"DONE", None}:
        unknown = (event.__class__ is Begin) or (event.__class__ is Finish and record.source == "BUSY")
        if not unknown and event.guard != "no":
            world.say("C7", f"{event!r} was unhandled in {record.source}")


# -- the senders ----------------------------------------------------------------------------------------------------


class Sender:
    """One of those who use the system: sends what its own random numbers say until enough has happened."""

    def __init__(self, world: World, system: SimulatedSystem[Any], number: int) -> None:
        self.world = world
        self.system = system
        self.random = Random(f"p2 {world.seed} sender {number}")
        self.number = number
        self.known: list[tuple[str, str, Scripted]] = []
        self.operations = [
            *([self.tell] * 24 + [self.burst] * 8 + [self.ask] * 20 + [self.ask_in_a_hurry] * 8),
            *(
                [self.give_up] * 9
                + [self.repeat] * 8
                + [self.contradict] * 2
                + [self.look] * 4
                + [self.rest] * 9
            ),
            *(
                [self.misdirect] * 3
                + [self.spawn] * 14
                + [self.bear] * 4
                + [self.stop] * 2
                + [self.release] * 5
            ),
            *([self.suspend] * 3 + [self.resume] * 7),
        ]

    async def run(self, until: int) -> None:
        for _ in range(400):
            if self.world.outcomes >= until:
                return
            pick = self.random.random()
            if pick < 0.001:
                await self.other_thread()
            operation = self.operations[int(pick * len(self.operations))]
            await operation()

    def event(self) -> Scripted:
        rng, n = self.random, self.world.next_n()
        pick = rng.random()
        cls: Any = Job if pick < 0.74 else Later if pick < 0.92 else Heavy if pick < 0.97 else Finish
        fields: dict[str, Any] = {}
        pick = rng.random()
        if pick > 0.45:
            fields["peer"] = self.world.some_machine()
            fields[HOOKS[int(rng.random() * 4)]] = ACTS[int(rng.random() * len(ACTS))]
            if pick > 0.7:
                fields[HOOKS[int(rng.random() * 4)]] = ACTS[int(rng.random() * len(ACTS))]
            if pick > 0.85:
                fields["after"] = AFTERS[int(rng.random() * len(AFTERS))]
            if pick > 0.92:
                fields["beside"] = AFTERS[int(rng.random() * len(AFTERS))]
            if pick > 0.96:
                fields["guard"] = GUARDS[int(rng.random() * len(GUARDS))]
        event: Scripted = cls(n=n, **fields)
        return event

    def callback(self) -> Any:
        match int(self.random.random() * 12):
            case 0:
                return self._raise
            case 1:
                return self._linger
            case 2 | 3:
                return self._be_told
            case _:
                return None

    def _be_told(self, outcome: Outcome) -> None:
        self.world.reached["callback called"] += 1

    def _raise(self, outcome: Outcome) -> None:
        self.world.reached["callback that raises"] += 1
        raise ValueError("a callback that raises")

    async def _linger(self, outcome: Outcome) -> None:
        await asyncio.sleep(0.2)

    # -- operations

    async def tell(self) -> None:
        rng, options = self.random, {}
        pick = rng.random()
        if pick < 0.1:
            options["timeout"] = rng.random() / 2
        elif pick < 0.2:
            options["reply_to"] = self.world.some_machine()
        self.system.tell(self.world.some_machine(), self.event(), callback=self.callback(), **options)

    async def burst(self) -> None:
        machine_id = self.world.some_machine()
        for _ in range(3 + int(self.random.random() * 6)):
            self.system.tell(machine_id, self.event())

    async def ask(self) -> None:
        await self._ask(self.world.some_machine(), self.event(), timeout=3.0)

    async def ask_in_a_hurry(self) -> None:
        await self._ask(self.world.some_machine(), self.event(), timeout=self.random.random() / 3)

    async def _ask(self, machine_id: str, event: Scripted, **options: Any) -> None:
        try:
            reply = await self.system.ask(machine_id, event, **options)
        except ActorFSMError:
            return
        if reply != event.n:
            self.world.say("C8", f"{event!r} was answered with {reply!r}")

    async def give_up(self) -> None:
        """Ask in a task of one's own, and cancel it at some moment."""
        world, event = self.world, self.event()
        task = asyncio.get_running_loop().create_task(
            self._ask(world.some_machine(), event), name=f"hasty {event.n}"
        )
        pick = self.random.random()
        if pick < 0.5:
            for _ in range(int(pick * 12)):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(pick / 2)
        if task.cancel():
            begun, ended = event.n in world.begun, event.n in world.ended
            where = "after its outcome" if ended else "during its turn" if begun else "before its turn"
            world.reached[f"caller cancelled {where}"] += 1
        try:
            await task
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if me is not None and me.cancelling():
                raise

    async def repeat(self) -> None:
        """Send an event under an id of one's own, more than once, now and later."""
        rng = self.random
        if self.known and rng.random() < 0.6:
            machine_id, event_id, event = self.known[int(rng.random() * len(self.known))]
        else:
            event = self.event()
            machine_id, event_id = self.world.some_machine(), f"mine-{event.n}"
            self.known.append((machine_id, event_id, event))
        if rng.random() < 0.5:
            self.system.tell(machine_id, event, event_id=event_id)
        await self._ask(machine_id, event, event_id=event_id, timeout=1.0)

    async def contradict(self) -> None:
        if self.known:
            machine_id, event_id, _ = self.known[-1]
            await self._ask(machine_id, self.event(), event_id=event_id, timeout=1.0)

    async def misdirect(self) -> None:
        world, machine_id = self.world, self.world.some_machine()
        match int(self.random.random() * 6):
            case 0:
                await self._ask("nobody", self.event())
            case 1:
                self.system.tell("nobody", self.event())
            case 2:
                await self._ask(machine_id, Stranger(n=world.next_n()))
            case 3:
                await self._ask("two words", self.event())
            case 4:
                try:
                    ActorSystem(Worker, journal="redis://orders")
                except Unsupported:
                    world.reached["error Unsupported"] += 1
            case _:
                try:
                    await self.system.spawn(Unknown, "unknown")  # type: ignore[type-var]
                except DefinitionError:
                    world.reached["error DefinitionError"] += 1

    async def spawn(self) -> None:
        """Bring a stopped machine back, or try one that is alive, or one whose birth fails."""
        world, rng = self.world, self.random
        data = SPAWNED[int(rng.random() * len(SPAWNED))]
        dead = [machine_id for machine_id in world.spawned if machine_id not in world.books.models]
        machine_id = dead[0] if dead else world.some_machine()
        cls = KINDS[machine_id.rpartition("-")[0]]
        known = machine_id in world.books.models
        try:
            if rng.random() < 0.3:
                await self.system.get_or_spawn(cls, machine_id, data=data)
            else:
                await self.system.spawn(cls, machine_id, data=data)
                world.reached["respawned" if not known else "spawned over a birth"] += 1
        except ActorFSMError as error:
            world.reached[f"birth: {type(error).__name__}"] += 1

    async def bear(self) -> None:
        """Send a birth event, perhaps one that is refused or fails, and mail right behind it."""
        world, rng = self.world, self.random
        world.births += 1
        machine_id = f"Born-{100 + world.births}"
        acts = ("", "", "", "veto", "value", "slow", "slow", "late", "hang")
        for _ in range(1 + int(rng.random() * 2)):
            event = Begin(
                n=world.next_n(), **{("body", "enter")[int(rng.random() * 2)]: acts[int(rng.random() * 9)]}
            )
            self.system.tell(machine_id, event)
        for _ in range(int(rng.random() * 3)):
            self.system.tell(machine_id, self.event())
        if rng.random() < 0.5:
            await self._ask(machine_id, self.event(), timeout=1.5)

    async def stop(self) -> None:
        machine_id = self.world.some_machine()
        try:
            await self.system.stop(machine_id)
        except NoSuchMachine:
            return
        self.world.reached["stopped from outside"] += 1

    async def release(self) -> None:
        for machine_id in self.system.quarantined():
            discard = self.random.random() < 0.4
            self.system.release(machine_id, discard=discard)
            self.world.reached["released without its mail" if discard else "released"] += 1

    async def suspend(self) -> None:
        """Hold a machine; but only some at a time, or nothing would happen any more."""
        if len(self.system.suspended()) < 2:
            try:
                self.system.suspend(self.world.some_machine())
            except NoSuchMachine:
                return

    async def resume(self) -> None:
        for machine_id in self.system.suspended():
            waits = self.system.inspect(machine_id).queued
            self.system.resume(machine_id)
            self.world.reached["suspended mail kept" if waits else "resumed"] += 1

    async def rest(self) -> None:
        await asyncio.sleep(self.random.random() ** 3 * 2)

    async def look(self) -> None:
        world = self.world
        for machine_id in world.ids:
            world.look(self.system, machine_id)
        balance = self.system.stats().balance
        if balance:
            world.say("C7", f"the account is out of balance by {balance}")

    async def other_thread(self) -> None:
        event = self.event()
        thread = threading.Thread(target=self._from_thread, args=(self.world.some_machine(), event))
        thread.start()
        thread.join()

    def _from_thread(self, machine_id: str, event: Scripted) -> None:
        try:
            self.system.tell(machine_id, event)
        except WrongThread:
            self.world.reached["error WrongThread"] += 1
        else:
            self.world.say("C10", "an event from another thread got in")


class Stranger(Event[int]):
    n: int


class Unknown:
    pass


# -- one seed -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Result:
    """What one seed came to."""

    seed: int
    events: int
    violations: list[Violation]
    reached: Counter[str]
    lines: list[str]
    system: SimulatedSystem[Any] | None

    def let_go(self) -> None:
        """Break the cycles of a system that nobody will look at again, so that it needs no garbage collector."""
        system = self.system
        if system is None:
            return
        for thing in (*system.notes, *system.trace.records):
            error = thing.error
            while error is not None:
                error.__traceback__ = None
                error = error.__cause__ or error.__context__
        vars(system._parts).clear()
        system.notes.clear()
        system.trace.records.clear()
        system._root.children.clear()
        self.system = None


def run_seed(seed: int) -> Result:
    """Run one seed on a loop of its own; whatever goes wrong is among the violations."""
    outcome = observe(lambda: scenario(seed), loop=SimLoop(seed))
    result = outcome.value
    if result is None:
        text = f"the scenario {outcome.kind}: {type(outcome.error).__name__}: {outcome.error}"
        return Result(seed, 0, [Violation("P2", None, text)], Counter(), [], None)
    if not result.violations:
        result.violations += [Violation("C19", None, f"left behind: {thing}") for thing in outcome.leftovers]
    return result


async def scenario(seed: int) -> Result:
    """Run one seed to its end and judge it."""
    world = World(seed)
    rng = world.random
    if rng.random() < 0.03:
        await _fail_to_start(world)
    system: SimulatedSystem[Any] = SimulatedSystem(
        *CLASSES,
        services=world,
        trace=(world,),
        inline=rng.random() < 0.5,
        check=False,
        limits=Limits(
            grace_s=GRACE_S,
            callback_timeout_s=1.0,
            turns_per_step=rng.choice((1, 3, 128)),
            events_in_a_row=rng.choice((1, 8)),
            inline_depth=rng.choice((1, 2, 16)),
            blocking_threads=rng.choice((1, 16)),
            timers_per_step=rng.choice((1, 256)),
        ),
        on_quarantine=lambda machine_id, error: None,
        children=world.tree.children,
        root=ROOT,
    )
    ending = rng.choice(("finish", "finish", "rest", "rest", "rest", "abandon", "abandon", "fail", "give up"))
    world.calm = True  # until all have started
    try:
        async with system:
            await _live(world, system, EVENTS if ending in {"finish", "rest"} else EVENTS - LAST_WAVE)
            await _end(world, system, ending)
    except SystemFailed:
        world.reached["error SystemFailed"] += 1
    if ending in {"finish", "rest"} and (system.report is None or not system.report.finished):
        world.say("C19", f"the queues were not finished: {system.report}")
    await asyncio.sleep(60)  # hooks that refused to be cancelled end meanwhile
    _judge(world, system)
    lines = system.trace.lines() if world.violations else []
    return Result(seed, world.outcomes, world.violations, world.reached, lines, system)


async def _fail_to_start(world: World) -> None:
    """Let a system of its own fail at its start."""
    system: SimulatedSystem[Any] = SimulatedSystem(
        Worker, services=world, children=cannot_start(world, world.random), check=False
    )
    try:
        async with system:
            world.say("C16", "a system has started, though one of its children has not")
    except SystemFailed:
        world.reached["system that did not start"] += 1
    records = system.trace.records
    world.violations += check(records, system.notes, facts=facts_of(system), stats=system.stats())


async def _live(world: World, system: SimulatedSystem[Any], until: int) -> None:
    rng = world.random
    classes = [Worker, Fragile, Plain, Born, *rng.sample(CLASSES, int(rng.random() * 3))]
    world.spawned = [f"{cls.__name__}-{number}" for number, cls in enumerate(classes)]
    world.ids = [*world.spawned, *world.tree.machines]
    for machine_id, cls in zip(world.spawned, classes, strict=True):
        await system.spawn(cls, machine_id)
    world.calm = False
    loop = asyncio.get_running_loop()
    tasks = [
        loop.create_task(Sender(world, system, number).run(EVENTS - 30), name=f"sender {number}")
        for number in range(SENDERS)
    ]
    for task in tasks:
        await task
    await Sender(world, system, SENDERS).run(
        until
    )  # alone, so that not many more events come than are wanted


async def _end(world: World, system: SimulatedSystem[Any], ending: str) -> None:
    """Come to rest; or send a last wave and stop while it is under way."""
    sender = Sender(world, system, SENDERS + 1)
    if ending in {"finish", "rest"}:
        await _let_go_on(world, system, rests=ending == "rest")
        return
    world.over = True
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(sender.ask(), name=f"last {number}") for number in range(3)]
    for _ in range(2):
        await sender.burst()
    await asyncio.sleep(0)
    if ending == "abandon":
        report: StopReport = await system.shutdown(queues="abandon")
        world.reached["events abandoned"] += report.abandoned
    else:
        await _fail(world, system, gives_up=ending == "give up")
    await sender.ask()
    for task in tasks:
        try:
            await task
        except asyncio.CancelledError:
            world.say("C19", "an asker was cancelled by the shutdown")


async def _fail(world: World, system: SimulatedSystem[Any], *, gives_up: bool) -> None:
    """Let the system fail, and be woken by that."""
    if gives_up:
        world.doom.set()
    else:
        system._fail(RuntimeError("a task of the runtime died"))
    try:
        await asyncio.sleep(60 if gives_up else 0)
    except asyncio.CancelledError:
        pass  # as `async with` would see it; it is the system's own, and ends there
    else:
        world.say("C17", "the body of `async with` was not woken by the failure")


async def _let_go_on(world: World, system: SimulatedSystem[Any], *, rests: bool) -> None:
    """Let all go on that are held; then, perhaps, wait until everything has come that had to."""
    world.calm = True
    for machine_id in system.suspended():
        system.resume(machine_id)
    for machine_id in system.quarantined():
        system.release(machine_id)
    if not rests:
        return
    await asyncio.sleep(60)
    for machine_id in system.quarantined():  # by what had begun before
        system.release(machine_id)
    await asyncio.sleep(60)
    world.reached["came to rest"] += 1
    world.books.all_came(asyncio.get_running_loop().time())
    for node in nodes(system.tree()):
        if node.restart == "permanent" and node.status not in {"running", "finished"}:
            world.say("C16", f"{node.name} is {node.status}, and all is calm")


def _judge(world: World, system: SimulatedSystem[Any]) -> None:
    records, stats = system.trace.records, system.stats()
    world.violations += check(
        records, system.notes, facts=facts_of(system), stats=stats, times=system.trace.times
    )
    for machine_id in world.spawned:
        world.look(system, machine_id)
    if world.outcomes < EVENTS:
        world.say("P2", f"only {world.outcomes} events: the seed is too short")
    _count(world, system)


def _count(world: World, system: SimulatedSystem[Any]) -> None:
    """Note what was reached, so that a campaign which reaches little fails."""
    records, stats, reached = system.trace.records, system.stats(), world.reached
    for record in records:
        reached[f"outcome {record.name}"] += 1
        if record.name == "restarted":
            reached["directive restart"] += 1
        elif record.name == "stopped" and "after" in record.reason:
            reached["directive stop"] += 1
        elif record.name == "failed":
            reached["directive resume"] += 1
        elif record.name == "after_hook_failed":
            reached[f"after-hook: {type(record.error).__name__}"] += 1
        if record.duplicate:
            reached["duplicate"] += 1
        if record.machine_id in world.tree.places or record.name == "escalated":
            _count_of_the_tree(world, record)
    for note in system.notes:
        if note.error is not None:
            reached[f"error {type(note.error).__name__}"] += 1
            if isinstance(note.error, AskCycle):
                reached[f"ask cycle of {len(note.error.path) - 1}"] += 1
            if isinstance(note.error, HookFailed):
                reached[f"cause {type(note.error.__cause__).__name__}"] += 1
        elif note.known is not None and note.known.refusal is not None:
            reached[f"refused {type(note.known.refusal).__name__}"] += 1
    reached["turns inside a plain ask"] += stats.turns_plain
    reached["turns inside an ask"] += stats.turns_eager
    reached["turns from the mailbox"] += stats.turns_queued
    reached["late replies"] += stats.late_replies


def _count_of_the_tree(world: World, record: Record) -> None:
    """Note what befell a child of the supervision tree."""
    reached = world.reached
    if record.name == "escalated":
        above = world.tree.places.get(record.machine_id, ("",))[0]
        ends_where = {"": "of the root", "system": "to the root"}.get(above, "to a parent")
        reached[f"escalation {ends_where}"] += 1
    if record.name != "child_failed":
        return
    parent, restart = world.tree.places[record.machine_id]
    reached[f"{world.tree.strategies.get(parent, 'root')} x {restart}"] += 1
    if "did not start" in record.reason:
        reached["failed restart" if record.reason.startswith("did not start") else "failed start"] += 1
        if "was not born after" in record.reason or "had not said" in record.reason:
            reached["hanging start"] += 1
