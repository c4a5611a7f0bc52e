"""The world of a sweep: machines that note each step they take, callers that note each answer, and the checker.

The checker knows no scenario. It compares three witnesses that know nothing of each other: what senders were told, what
the trace says, and what the machines' data has become.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum, auto
from random import Random
from typing import TYPE_CHECKING, Any

from actorfsm import (
    STAY,
    ActorFSMError,
    ActorSystem,
    AskTimeout,
    Directive,
    Event,
    Expired,
    HookFailed,
    Limits,
    Machine,
    MailboxPolicy,
    Outcome,
    Overflow,
    Record,
    Redelivery,
    RestartPolicy,
    Spawn,
    Unhandled,
    Vetoed,
    after_transition,
    before_transition,
    on_enter,
    on_exit,
    postpone,
    transition,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from actorfsm.testing.faults import Faults, Run

KINDS = frozenset({"committed", "vetoed", "unhandled", "failed", "expired", "dead_lettered"})
LONG_S = 1_000.0
"""Virtual seconds after which every deadline, pause and backoff of these scenarios is over."""


# -- the machines ---------------------------------------------------------------------------------------------------


class S(StrEnum):
    A = auto()
    B = auto()
    C = auto()
    END = auto()


class Tagged(Event[str]):
    tag: str


class Go(Tagged):
    """A → B → C → A."""


class Ping(Tagged):
    """Stays."""


class Late(Tagged):
    """Postponed in A."""


class Note(Tagged):
    """A message of one machine to another, or to itself."""


class Finish(Tagged):
    """To the final state."""


class Choose(Tagged):
    """Guarded."""


class Begin(Tagged):
    """Gives birth to a `Born`."""


def tag_of(event: Any) -> str:
    """Return what the event is known by in the ledgers of the world."""
    if isinstance(event, Outcome):
        return f"outcome of {event.event_id}"
    return str(getattr(event, "tag", type(event).__name__))


def guard(machine: Any, event: Choose) -> bool:
    machine.services.hit(f"{machine.id}.{event.tag}:guard")
    return not event.tag.startswith("no")


def another_guard(machine: Any, event: Choose) -> bool:
    machine.services.hit(f"{machine.id}.{event.tag}:another guard")
    return event.tag == "no, the other"


class Base(Machine[S, Any]):
    log: list[str] = []
    nested: dict[str, list[str]] = {}
    count: int = 0

    def note(self, step: str, event: Any) -> str:
        """Change all that can be changed, so that a rollback has something to forget."""
        key = f"{tag_of(event)}:{step}"
        self.log.append(key)
        self.nested.setdefault(tag_of(event), []).append(step)
        self.count += 1
        return key


class Probe(Base, initial=S.A, final=(S.END,)):
    async def visit(self, step: str, event: Any) -> Any:
        key = self.note(step, event)
        await self.services.point(f"{self.id}.{key}")
        act = self.services.acts.get(key)
        return None if act is None else await act(self)

    @before_transition
    async def before(self, old: S, new: S, event: Event) -> Any:
        return await self.visit("before", event)

    @on_exit()
    async def leave(self, old: S, new: S, event: Event) -> Any:
        return await self.visit("exit", event)

    @on_enter()
    async def enter(self, old: S, new: S, event: Event) -> Any:
        return await self.visit("enter", event)

    @after_transition
    async def after(self, old: S, new: S, event: Event) -> None:
        key = f"{tag_of(event)}:after"
        await self.services.point(f"{self.id}.{key}")
        if key in self.services.acts:
            await self.services.acts[key](self)

    @transition(S.A, to=S.B)
    @transition(S.B, to=S.C)
    @transition(S.C, to=S.A)
    async def go(self, event: Go) -> str:
        return await self.answer(event)

    @transition(S.A, S.B, S.C, to=STAY)
    async def ping(self, event: Ping) -> str:
        return await self.answer(event)

    @transition(S.A, S.B, S.C, to=STAY)
    async def get(self, event: Note) -> str:
        return await self.answer(event)

    @postpone(S.A)
    @transition(S.B, to=S.C)
    @transition(S.C, to=STAY)
    async def late(self, event: Late) -> str:
        return await self.answer(event)

    @transition(S.A, S.B, S.C, to=S.END)
    async def finish(self, event: Finish) -> str:
        return await self.answer(event)

    @transition(S.A, to=S.B, when=guard)
    @transition(S.A, to=S.C, when=another_guard)
    async def choose(self, event: Choose) -> str:
        return await self.answer(event)

    @transition(S.A, S.B, S.C, to=STAY)
    async def told(self, event: Outcome) -> None:
        await self.visit("body", event)

    async def answer(self, event: Tagged) -> str:
        result = await self.visit("body", event)
        return f"{event.tag}@{self.id}" if result is None else result


class Born(Probe, initial=S.B):
    @transition(to=S.A)
    async def born(self, event: Begin) -> str:
        return await self.answer(event)


class Detaching(Probe):
    @after_transition(S.B, detached=True)
    async def beside(self, old: S, new: S, event: Event) -> None:
        await self.services.point(f"{self.id}.{tag_of(event)}:beside")


class Hurried(Probe, hook_timeout=1):
    """Its hooks may take a second."""


class Redelivering(Probe, redelivery=Redelivery(attempts=2, first_delay_s=0.5)):
    """A failed event is tried again, twice."""


class Restarting(
    Probe, on_failure={BaseException: Directive.RESTART}, restart=RestartPolicy(max_restarts=2, within_s=60)
):
    """Restarted after each failure; quarantined after the third."""


class Fragile(Probe, on_failure={BaseException: Directive.RESTART}, restart=RestartPolicy(max_restarts=0)):
    """Quarantined after the first failure."""


class Mortal(Probe, on_failure={BaseException: Directive.STOP}):
    """Stopped after a failure."""


class Waiting(Probe, mailbox=MailboxPolicy(capacity=2, overflow=Overflow.WAIT, waiting=3, wait_timeout_s=5)):
    """Two wait inside, three outside."""


class Refusing(Probe, mailbox=MailboxPolicy(capacity=2, waiting=2)):
    """Two wait, the next is refused."""


class DroppingOldest(Probe, mailbox=MailboxPolicy(capacity=2, overflow=Overflow.DROP_OLDEST)):
    """Two wait, the oldest makes room."""


class DroppingNewest(Probe, mailbox=MailboxPolicy(capacity=2, overflow=Overflow.DROP_NEWEST)):
    """Two wait, the newest goes."""


class Plain(Base, initial=S.A, final=(S.END,)):
    """All its hooks are plain functions: with `inline` its turns run inside the ask, without a task."""

    def visit(self, step: str, event: Any) -> Any:
        key = self.note(step, event)
        self.services.hit(f"{self.id}.{key}")
        act = self.services.acts.get(key)
        return None if act is None else act(self)

    @before_transition
    def before(self, old: S, new: S, event: Event) -> Any:
        return self.visit("before", event)

    @on_exit()
    def leave(self, old: S, new: S, event: Event) -> Any:
        return self.visit("exit", event)

    @on_enter()
    def enter(self, old: S, new: S, event: Event) -> Any:
        return self.visit("enter", event)

    @after_transition
    def after(self, old: S, new: S, event: Event) -> None:
        self.services.hit(f"{self.id}.{tag_of(event)}:after")

    @transition(S.A, to=S.B)
    @transition(S.B, to=S.C)
    @transition(S.C, to=S.A)
    def go(self, event: Go) -> str:
        return self.answer(event)

    @transition(S.A, S.B, S.C, to=STAY)
    def ping(self, event: Ping | Note) -> str:
        return self.answer(event)

    @postpone(S.A)
    @transition(S.B, S.C, to=STAY)
    def late(self, event: Late) -> str:
        return self.answer(event)

    @transition(S.A, S.B, S.C, to=S.END)
    def finish(self, event: Finish) -> str:
        return self.answer(event)

    def answer(self, event: Tagged) -> str:
        result = self.visit("body", event)
        return f"{event.tag}@{self.id}" if result is None else result


class AnyToAny(Base, initial=S.A):
    """Declares no transitions: it goes where it is asked to."""

    @before_transition
    async def before(self, old: S, new: S, event: Event) -> Any:
        await self.services.point(f"{self.id}.{self.note('before', event)}")

    @on_enter()
    async def enter(self, old: S, new: S, event: Event) -> Any:
        await self.services.point(f"{self.id}.{self.note('enter', event)}")


# -- the ledgers ----------------------------------------------------------------------------------------------------


@dataclass
class Call:
    """An ask, and what its caller was told: a reply, a typed error, or nothing if the caller was cancelled."""

    machine_id: str
    tag: str
    replied: bool = False
    cancelled: bool = False
    error: ActorFSMError | None = None


@dataclass
class Told:
    """A tell, and what its sender was told."""

    receipt: Any
    machine_id: str
    tag: str
    event_id: str
    reply_to: str | None
    callback: bool
    called: list[Outcome]


@dataclass
class Book:
    """What the trace says a machine must be: steps of committed turns, state, seq."""

    steps: list[str]
    state: str | None
    seq: int


class World:
    """What one scenario has in hand: a system, and ledgers of all that is sent and answered."""

    def __init__(
        self, faults: Faults, *machines: type[Any], inline: bool, quarantine: Any = None, sink: Any = None
    ) -> None:
        self.faults = faults
        self.machines = machines
        self.inline = inline
        self.acts: dict[str, Callable[[Any], Any]] = {}
        """What a step does besides noting itself, by "tag:step"."""
        self.calls: list[Call] = []
        self.tells: list[Told] = []
        self.messages: set[tuple[str, str, str, str]] = set()
        """(sender, its event, receiver, message), for each `self.tell` and `next_event` that a hook has made."""
        self.records: list[Record] = []
        self.books: dict[str, Book] = {}
        self.violations: list[str] = []
        self.others: list[World] = []
        self.rest_cut_short = False
        """Whether a shutdown was cancelled: then callbacks need not have been called."""
        sinks = (self.write,) if sink is None else (self.write, sink)
        self.system = ActorSystem(
            *machines,
            services=self,
            trace=sinks,
            random=Random(7),
            inline=inline,
            limits=Limits(turns_per_step=4, events_in_a_row=2, ask_timeout_s=20.0),
            on_quarantine=quarantine,
        )

    def wrong(self, what: str) -> None:
        self.violations.append(what)

    # -- places where faults strike ---------------------------------------------------------------------------

    async def point(self, name: str) -> None:
        self.check_now(name)
        await self.faults.point(name)
        self.check_now(name)

    def hit(self, name: str) -> None:
        self.check_now(name)
        self.faults.hit(name)

    def at(self, key: str, act: Callable[[Any], Any]) -> None:
        """Let a step, "tag:step", do something."""
        self.acts[key] = act

    # -- what is sent -----------------------------------------------------------------------------------------

    async def ask(self, machine_id: str, event: Any, **options: Any) -> Any:
        """Ask from outside; typed errors are noted and do not get out."""
        try:
            by_ref = len(self.calls) % 2  # there are two ways in: by id, and by ref
            door = self.system.ref(self.machines[0], machine_id).ask if by_ref else None
            asking = self.system.ask(machine_id, event, **options) if door is None else door(event, **options)
            return await self._call(machine_id, event, asking)
        except ActorFSMError:
            return None

    async def nested(self, machine: Any, machine_id: str, event: Any, **options: Any) -> Any:
        """Ask from a hook."""
        return await self._call(machine_id, event, machine.ask(machine_id, event, **options))

    async def _call(self, machine_id: str, event: Any, coroutine: Coroutine[Any, Any, Any]) -> Any:
        call = Call(machine_id, tag_of(event))
        self.calls.append(call)
        try:
            reply = await coroutine
        except ActorFSMError as error:
            call.error = error
            raise
        except asyncio.CancelledError:
            call.cancelled = True
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                self.wrong(f"the caller of {call.tag} got a CancelledError that is not its own")
            raise
        except GeneratorExit:
            call.cancelled = True
            raise
        except BaseException as error:
            self.wrong(f"the caller of {call.tag} got {type(error).__name__}, not a typed error")
            raise
        call.replied = True
        if (machine_id, call.tag) not in {(r.machine_id, tag_of(r.event)) for r in self.of("committed")}:
            self.wrong(f"{call.tag} was answered before its commit")
        if isinstance(event, Tagged) and reply != f"{call.tag}@{machine_id}":
            self.wrong(f"{call.tag} got the reply {reply!r}")
        return reply

    async def spawn(self, machine_class: type[Any], machine_id: str, **options: Any) -> Any:
        """Spawn; typed errors are noted and do not get out."""
        try:
            return await self._call(
                machine_id, Spawn(), self.system.spawn(machine_class, machine_id, **options)
            )
        except ActorFSMError:
            return None

    async def get_or_spawn(self, machine_class: type[Any], machine_id: str) -> Any:
        try:
            return await self.system.get_or_spawn(machine_class, machine_id)
        except ActorFSMError:
            return None

    def tell(self, machine_id: str, event: Any, *, callback: bool = False, **options: Any) -> Any:
        """Tell from outside, with or without a callback."""
        called: list[Outcome] = []
        tag = tag_of(event)

        async def on_outcome(outcome: Outcome) -> None:
            called.append(outcome)
            await self.point(f"callback of {tag}")

        receipt = self.system.tell(machine_id, event, callback=on_outcome if callback else None, **options)
        told = Told(receipt, machine_id, tag, receipt.event_id, options.get("reply_to"), callback, called)
        self.tells.append(told)
        return receipt

    def message(self, machine: Any, machine_id: str, event: Any) -> None:
        """Tell from a hook."""
        sender, cause = machine.id, machine._turn.envelope.event
        machine.tell(machine_id, event)
        self.messages.add((sender, tag_of(cause), machine_id, tag_of(event)))

    def raise_own(self, machine: Any, event: Any) -> None:
        """`next_event` from a hook."""
        sender, cause = machine.id, machine._turn.envelope.event
        machine.next_event(event)
        self.messages.add((sender, tag_of(cause), sender, tag_of(event)))

    async def wait_for(self, receipt: Any) -> Any:
        """Wait for a receipt: a refusal is no surprise, nor is an event that stays postponed."""
        try:
            async with asyncio.timeout(100):
                return await receipt
        except ActorFSMError:
            return None
        except TimeoutError:
            if receipt._envelope.settlement is not None or receipt._envelope.refusal is not None:
                self.wrong(f"nobody woke the one who waits for {receipt}")
            return None

    # -- the checker ------------------------------------------------------------------------------------------

    def write(self, record: Record) -> None:
        """The trace: keep the record, and what it says about the machine."""
        self.records.append(record)
        if record.name != "committed" or record.duplicate:
            return
        if record.source is None:
            self.books[record.machine_id] = Book([], None, 0)
        book = self.books[record.machine_id]
        if record.source != book.state:
            self.wrong(
                f"{record.machine_id}: {tag_of(record.event)} leads from {record.source}, not {book.state}"
            )
        book.state, book.seq = record.target, book.seq + 1
        if record.seq != book.seq:
            self.wrong(f"{record.machine_id}: seq {record.seq} after {book.seq - 1}")
        book.steps += [f"{tag_of(record.event)}:{kind}" for kind in self._steps(record)]

    def _steps(self, record: Record) -> list[str]:
        definition = next(m.__definition__ for m in self.machines if m.__name__ == record.machine)
        nodes = {node.name: node for node in definition.states.values()}
        source = definition.root if record.source is None else nodes[record.source]
        for choice in source.choices[type(record.event)]:
            if getattr(choice, "target", None) is nodes[record.target]:
                return [step.kind for step in choice.steps]
        raise AssertionError(f"{record} has no transition")

    def of(self, *names: str) -> list[Record]:
        return [record for record in self.records if record.name in names]

    def check_now(self, where: str) -> None:
        """What holds at any moment: the account, and that what is seen is what was committed, nothing in between."""
        if self.system.stats().balance:
            self.wrong(f"at {where}: {self.system.stats()} does not balance")
        for machine_id in self.system.ids():
            seen, book = self.system.snapshot(machine_id), self.books[machine_id]
            if (seen.state.name, seen.seq, seen.data["log"]) != (book.state, book.seq, book.steps):
                self.wrong(f"at {where}: {machine_id} is {seen}, the trace says {book}")
            nested = [f"{tag}:{step}" for tag, steps in seen.data["nested"].items() for step in steps]
            if seen.data["count"] != len(book.steps) or Counter(nested) != Counter(book.steps):
                self.wrong(f"at {where}: {machine_id} has other nested data than its log: {seen.data}")

    @asynccontextmanager
    async def living(self, *, inner: bool = False) -> AsyncIterator[World]:
        """Start the system; at the end see that every machine still works, stop it, and audit the ledgers.

        An inner world is stopped while faults still strike, and is not looked at before.
        """
        cancelled: BaseException | None = None
        async with self.system:
            try:
                yield self
            except asyncio.CancelledError as error:
                cancelled = error
            if not inner:
                self._calm()
                if not self.system._parts.stopping:
                    await self._probe()
        if len(self.system._parts.waits):
            self.wrong("the wait-for graph remembers an ask that is over")
        await self._audit()
        if cancelled is not None:
            raise cancelled

    def _calm(self) -> None:
        """From here on nothing is counted, and no fault strikes."""
        self.faults._loop.on_step = None

    async def _probe(self) -> None:
        """See that each machine answers, whatever befell it."""
        await asyncio.sleep(LONG_S)
        for machine_id in self.system.quarantined():
            self.system.release(machine_id)
        await asyncio.sleep(LONG_S)
        for machine_id in self.system.ids():
            event: Any = Ping(tag=f"probe of {machine_id}")
            if "Ping" not in self.system.snapshot(machine_id).allowed:
                event = None
            if event is not None:
                await self._call(machine_id, event, self.system.ask(machine_id, event))
        stats = self.system.stats()
        if stats.queued or stats.in_flight or stats.outgoing or stats.pending_asks:
            self.wrong(f"not at rest: {stats}")
        self.check_now("rest")

    async def _audit(self) -> None:
        """Compare what senders know with what the trace says."""
        if self.system.stats().balance:
            self.wrong(f"{self.system.stats()} does not balance at the end")
        ends: dict[tuple[str, str], list[Record]] = {}
        for record in self.of(*KINDS):
            ends.setdefault((record.machine_id, tag_of(record.event)), []).append(record)
        for key, records in ends.items():
            if sum(
                1 for record in records if record.name == "committed" and not record.duplicate
            ) > 1 and key[1] not in {"Spawn", "TransitionRequested"}:
                self.wrong(f"{key} was committed twice")
        await self._audit_receipts(ends)
        self._audit_counts(ends)
        self._audit_answers(ends)
        self._audit_messages(ends)

    def _audit_counts(self, ends: dict[tuple[str, str], list[Record]]) -> None:
        least: Counter[tuple[str, str]] = Counter()
        most: Counter[tuple[str, str]] = Counter()
        for call in self.calls:
            key = (call.machine_id, call.tag)
            most[key] += 1
            surely = Vetoed, Unhandled, HookFailed, Expired, AskTimeout
            least[key] += call.replied or call.cancelled or isinstance(call.error, surely)
        for told in self.tells:
            most[told.machine_id, told.tag] += 1
            least[told.machine_id, told.tag] += 1
        for key, n in most.items():
            if not least[key] <= len(ends.get(key, ())) <= n:
                self.wrong(
                    f"{key} was sent {least[key]} to {n} times and ended {len(ends.get(key, ()))} times"
                )

    def _audit_answers(self, ends: dict[tuple[str, str], list[Record]]) -> None:
        told_by = {Vetoed: "vetoed", Unhandled: "unhandled", Expired: "expired"}
        for call in self.calls:
            names = {record.name for record in ends.get((call.machine_id, call.tag), ())}
            expected = told_by.get(type(call.error)) if call.error is not None else None
            if call.replied and "committed" not in names:
                self.wrong(f"{call} but the trace says {names}")
            if expected is not None and expected not in names:
                self.wrong(f"{call} but the trace says {names}")
            if isinstance(call.error, HookFailed) and not names & {"failed", "dead_lettered"}:
                self.wrong(f"{call} but the trace says {names}")
        asked = Counter((call.machine_id, call.tag) for call in self.calls)
        for call in self.calls:
            names = {record.name for record in ends.get((call.machine_id, call.tag), ())}
            surely_not = call.error is not None and not isinstance(call.error, AskTimeout)
            if (
                surely_not
                and asked[call.machine_id, call.tag] == 1
                and "committed" in names
                and call.tag != "Spawn"
            ):
                self.wrong(f"{call} but it was committed")

    async def _audit_receipts(self, ends: dict[tuple[str, str], list[Record]]) -> None:
        for told in self.tells:
            names = [record.name for record in ends.get((told.machine_id, told.tag), ())]
            try:
                async with asyncio.timeout(1):
                    kind = (await told.receipt.outcome()).kind
            except TimeoutError:
                self.wrong(f"the receipt of {told.tag} waits for ever")
                continue
            except ActorFSMError:
                kind = "dead_lettered"
            if kind not in names:
                self.wrong(f"the receipt of {told.tag} says {kind}, the trace {names}")
            if len(told.called) > 1 or any(outcome.kind != kind for outcome in told.called):
                self.wrong(f"the callback of {told.tag} got {told.called}, the receipt says {kind}")
            if told.callback and not told.called and not self.rest_cut_short:
                self.wrong(f"the callback of {told.tag} was never called")
            if told.reply_to is not None:
                answers = ends.get((told.reply_to, f"outcome of {told.event_id}"), ())
                if len(answers) != 1 or answers[0].event.kind != kind:
                    self.wrong(f"{told.reply_to} got {len(answers)} outcomes of {told.tag}, which was {kind}")

    def _audit_messages(self, ends: dict[tuple[str, str], list[Record]]) -> None:
        committed = {
            (r.machine_id, tag_of(r.event)): n for n, r in enumerate(self.records) if r.name == "committed"
        }
        sent = {(receiver, message) for *_, receiver, message in self.messages}
        for sender, cause, receiver, message in self.messages:
            n = len(ends.get((receiver, message), ()))
            if n != ((sender, cause) in committed):
                self.wrong(f"{message} ended {n} times, {cause} committed: {(sender, cause) in committed}")
        known = {(call.machine_id, call.tag) for call in self.calls} | {
            (t.machine_id, t.tag) for t in self.tells
        }
        for key in ends:
            if (
                key not in known | sent
                and not key[1].startswith("outcome of")
                and key[1] not in {"Spawn", "TransitionRequested"}
            ):
                self.wrong(f"{key} ended and nobody sent it")


# -- one scenario under faults ----------------------------------------------------------------------------------------


def judge(run: Run[Any], world: World) -> None:
    """Hold what became of a run against the contract.

    Raises:
        AssertionError: It was broken.
    """
    outcome, faults = run.outcome, run.faults
    if isinstance(outcome.error, SystemExit) and "child" in run.faults.points[-1] + str(run.place):
        return  # raised in a task of the user's own: asyncio itself ends the loop
    main_was_cancelled = (
        run.action is not None
        and run.action.cancels > faults._cancels_left
        and faults.victim is faults._main
        and faults.victim is not None
    )
    allowed = {"cancelled"} if main_was_cancelled else {"returned"}
    found = list(world.violations)
    if outcome.kind not in allowed:
        found.append(f"the scenario {outcome.kind}: {outcome.error!r}, expected {allowed}")
    found += [f"left behind: {thing}" for thing in outcome.leftovers]
    if main_was_cancelled:
        found += [
            f"{tag_of(record.event)} was cancelled with its caller"
            for record in world.of("failed")
            if record.error is not None and isinstance(record.error.__cause__, asyncio.CancelledError)
        ]
    assert not found, "\n".join([str(run), *dict.fromkeys(found)])
