"""The world of a sweep: callers that note each answer, and the checker.

The checker knows no scenario. It compares three witnesses that know nothing of each other: what senders were told, what
the trace says, and what the machines' data has become.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from actorfsm import (
    ActorFSMError,
    ActorSystem,
    AskTimeout,
    Child,
    Expired,
    HookFailed,
    Limits,
    Outcome,
    Record,
    RestartPolicy,
    Spawn,
    SystemFailed,
    TimerScope,
    Unhandled,
    Vetoed,
)
from tests.campaigns.p1.books import KINDS, Book, Promises
from tests.campaigns.p1.machines import Done, Ping, Tagged, Undone, tag_of
from tests.campaigns.p1.trees import Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from actorfsm.testing.faults import Faults, Run

LONG_S = 1_000.0
"""Virtual seconds after which every deadline, pause and backoff of these scenarios is over."""


# -- the ledgers ----------------------------------------------------------------------------------------------------


@dataclass
class Call:
    """An ask, and what its caller was told: a reply, a typed error, or nothing if the caller was cancelled."""

    machine_id: str
    tag: str
    replied: bool = False
    cancelled: bool = False
    may_be_refused: bool = False
    """Whether it may have been refused although its caller, who was cancelled, never heard of that."""
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


class World:
    """What one scenario has in hand: a system, and ledgers of all that is sent and answered."""

    def __init__(
        self,
        faults: Faults,
        *machines: type[Any],
        inline: bool,
        quarantine: Any = None,
        sink: Any = None,
        tree: Callable[[World], list[Any]] | None = None,
        root: RestartPolicy | None = None,
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
        self.violations: list[str] = []
        self.promises = Promises(self.wrong)
        self.books = self.promises.books
        self.others: list[World] = []
        self.rest_cut_short = False
        """Whether a shutdown was cancelled: then callbacks need not have been called."""
        sinks = (self.write,) if sink is None else (self.write, sink)
        self.root = root or RestartPolicy(max_restarts=5, within_s=60)
        self.children = [] if tree is None else tree(self)
        self.tree = Tree(self.children, self.root, self.wrong)
        self.system = ActorSystem(
            *machines,
            services=self,
            trace=sinks,
            random=Random(7),
            inline=inline,
            limits=Limits(turns_per_step=4, events_in_a_row=2, ask_timeout_s=20.0),
            on_quarantine=quarantine,
            children=self.children,
            root=self.root,
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

    async def _call(
        self,
        machine_id: str,
        event: Any,
        coroutine: Coroutine[Any, Any, Any],
        *,
        may_be_refused: bool = False,
    ) -> Any:
        call = Call(machine_id, tag_of(event), may_be_refused=may_be_refused)
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

    async def stop(self, machine_id: str) -> None:
        """Stop a machine; typed errors are no surprise."""
        try:
            await self.system.stop(machine_id)
        except ActorFSMError:
            return

    def suspend(self, machine_id: str) -> None:
        """Suspend a machine; that there is none is no surprise."""
        if machine_id not in self.system.ids():
            return
        running = self.system.inspect(machine_id).running
        self.system.suspend(machine_id)
        self.promises.hold(machine_id, turns=int(running is not None and not running.is_committed))

    def resume(self, machine_id: str) -> None:
        """Resume a machine; that there is none is no surprise."""
        if machine_id in self.system.ids():
            self.system.resume(machine_id)

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

    def timer(
        self,
        machine: Any,
        event: Any,
        after_s: float,
        name: str | None = None,
        scope: TimerScope = TimerScope.NAMED,
    ) -> None:
        """Start a timer from a hook."""
        machine.start_timer(event, after=after_s, name=name, scope=scope)
        self.promises.timer(
            machine, name or type(event).__name__, tag_of(event), scope, after_s, self.faults._loop.time
        )

    def cancel_timer(self, machine: Any, name: str) -> None:
        """Cancel a timer from a hook."""
        machine.cancel_timer(name)
        self.promises.plan(machine, lambda book: book.timers.pop(name, None))

    def job(self, machine: Any, tag: str, act: Any = None, *, told: bool = True, **options: Any) -> None:
        """Start a job from a hook: it stops at a point, and does something if it is told to."""
        again = bool(options.get("again"))

        async def work() -> str:
            self.promises.job_begins(tag, again=again)
            await self.point(f"{tag} begins")
            if act is not None:
                await act(machine)
            await self.point(f"{tag} ends")
            if not told:
                self.promises.job_returned(tag)
            return f"{tag} done"

        answers: dict[str, Any] = {}
        if told:
            answers = {"done": Done, "failed": lambda error: Undone(tag=f"{tag} failed")}
        name = machine.start_job(work, **answers, **options)
        self.promises.job(machine, name, tag, (f"{tag} done", f"{tag} failed") if told else ())

    def cancel_job(self, machine: Any, name: str) -> None:
        """Cancel a job from a hook."""
        machine.cancel_job(name)
        self.promises.plan(machine, lambda book: book.jobs.pop(name, None))

    def watch(self, machine: Any, watched: str) -> None:
        """Watch from a hook."""
        machine.watch(watched)
        self.promises.watch(machine, watched)

    def unwatch(self, machine: Any, watched: str) -> None:
        """Take a watch back from a hook."""
        machine.unwatch(watched)
        self.promises.unwatch(machine, watched)

    async def watch_outside(self, machine_id: str) -> None:
        """Wait from outside until a machine has ended."""
        try:
            notice = await self.system.watch(machine_id)
        except ActorFSMError:
            return
        if not self.promises.has_ended(machine_id) and not self.system._parts.stopping:
            self.wrong(f"the trace knows nothing of {notice}")

    async def ask_from_thread(self, machine_id: str, event: Any, **options: Any) -> Any:
        """Ask as a thread does; typed errors are noted and do not get out."""

        async def answer() -> Any:
            return await asyncio.wrap_future(self.system.threadsafe.ask(machine_id, event, **options))

        try:
            return await self._call(machine_id, event, answer(), may_be_refused=True)
        except ActorFSMError:
            return None

    async def tell_from_thread(self, machine_id: str, event: Any) -> None:
        """Tell as a thread does, and wait for the outcome."""
        call = Call(machine_id, tag_of(event))
        self.calls.append(call)
        try:
            outcome = await asyncio.wrap_future(self.system.threadsafe.tell(machine_id, event))
        except ActorFSMError:
            return
        call.replied = outcome.success
        if outcome.kind not in {r.name for r in self.of(*KINDS) if tag_of(r.event) == call.tag}:
            self.wrong(f"a thread was told that {call.tag} was {outcome.kind}")

    def service(self, name: str, act: Any = None, *, before: Any = None, **options: Any) -> Child:
        """Make a service: it stops at a point before it has started and at one after, and does something then."""

        async def serve(system: Any, started: Any) -> None:
            self.tree.service_is(name, over=False)
            try:
                await self.point(f"{name} starts")
                if before is not None:
                    await before(None)
                started()
                await self.point(f"{name} has started")
                if act is None:
                    await asyncio.get_running_loop().create_future()
                else:
                    await act(None)
            finally:
                self.tree.service_is(name, over=True)

        return Child(serve, name, **options)

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
        now = self.faults._loop.time()
        choice = None
        if record.name == "committed" and not record.duplicate:
            choice = self._commit(record)
        self.promises.read(record, choice, now)
        self.tree.read(record, now, finishes=choice is not None and choice.target.final)

    def _commit(self, record: Record) -> Any:
        """Follow a commit, and return the transition that it was."""
        if record.source is None:
            before = self.books.get(record.machine_id)
            born_anew = before is not None and record.machine_id in self.tree.nodes
            self.books[record.machine_id] = Book([], None, before.seq if born_anew and before else 0)
        book = self.books[record.machine_id]
        if record.source != book.state:
            self.wrong(
                f"{record.machine_id}: {tag_of(record.event)} leads from {record.source}, not {book.state}"
            )
        book.state, book.seq = record.target, book.seq + 1
        if record.seq != book.seq:
            self.wrong(f"{record.machine_id}: seq {record.seq} after {book.seq - 1}")
        choice = self._choice(record)
        book.steps += [f"{tag_of(record.event)}:{step.kind}" for step in choice.steps]
        return choice

    def _choice(self, record: Record) -> Any:
        definition = next(m.__definition__ for m in self.machines if m.__name__ == record.machine)
        nodes = {node.name: node for node in definition.states.values()}
        source = definition.root if record.source is None else nodes[record.source]
        for choice in source.choices[type(record.event)]:
            if getattr(choice, "target", None) is nodes[record.target]:
                return choice
        raise AssertionError(f"{record} has no transition")

    def of(self, *names: str) -> list[Record]:
        return [record for record in self.records if record.name in names]

    def check_now(self, where: str) -> None:
        """What holds at any moment: the account, and that what is seen is what was committed, nothing in between.

        Before its fault a run is the undisturbed one, in which all these moments have been looked at.
        """
        if self.faults.repeats:
            return
        if self.system.stats().balance:
            self.wrong(f"at {where}: {self.system.stats()} does not balance")
        for machine_id in self.system.ids():
            seen, book = self.system.snapshot(machine_id), self.books[machine_id]
            if (seen.state.name, seen.seq, seen.data["log"]) != (book.state, book.seq, book.steps):
                self.wrong(f"at {where}: {machine_id} is {seen}, the trace says {book}")
            nested = [f"{tag}:{step}" for tag, steps in seen.data["nested"].items() for step in steps]
            if seen.data["count"] != len(book.steps) or Counter(nested) != Counter(book.steps):
                self.wrong(f"at {where}: {machine_id} has other nested data than its log: {seen.data}")

    async def live(self, play: Callable[[World], Coroutine[Any, Any, None]], *, inner: bool = False) -> None:
        """Start the system and play; then see that every machine still works, stop it, and audit the ledgers.

        An inner world is stopped while faults still strike, and is not looked at before.
        """
        cancelled: BaseException | None = None
        try:
            async with self.system:
                self.tree.root_has_started()
                try:
                    await play(self)
                except asyncio.CancelledError as error:
                    cancelled = error
                if not inner:
                    self._calm()
                    if not self.system._parts.stopping:
                        await self._probe()
        except asyncio.CancelledError as error:
            cancelled = error
        except SystemFailed:
            self.rest_cut_short = True
            if not self.tree.has_failed:
                self.wrong("the system failed, and the trace does not say why")
        else:
            if self.tree.has_failed:
                self.wrong("the root gave up, and the system did not fail")
        if not inner:
            self._calm()
            if self.system.report is not None and self.system.report.unstopped:
                await asyncio.sleep(100)  # those who refuse to be cancelled give in at last
        if len(self.system._parts.waits):
            self.wrong("the wait-for graph remembers an ask that is over")
        await self._audit()
        task = asyncio.current_task()
        if cancelled is not None and not (
            self.tree.has_failed and task is not None and not task.cancelling()
        ):
            raise cancelled

    def _calm(self) -> None:
        """From here on nothing is counted, and no fault strikes."""
        self.faults._loop.on_step = None

    async def _probe(self) -> None:
        """See that each machine answers, whatever befell it."""
        await asyncio.sleep(LONG_S)
        self.acts.clear()  # what is still held, or starts again and again, shall succeed now
        for machine_id in self.system.suspended():
            self.system.resume(machine_id)
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
        if stats.queued or stats.in_flight or stats.outgoing or stats.pending_asks or stats.jobs:
            self.wrong(f"not at rest: {stats}")
        free = [one for one in self.system.ids() if one not in self.system.quarantined()]
        self.promises.check_rest(free, self.faults._loop.time())
        self.tree.check_rest()
        self.check_now("rest")

    async def _audit(self) -> None:
        """Compare what senders know with what the trace says."""
        if self.system.stats().balance:
            self.wrong(f"{self.system.stats()} does not balance at the end")
        self.tree.ends()
        ends: dict[tuple[str, str], list[Record]] = {}
        for record in self.of(*KINDS):
            ends.setdefault((record.machine_id, tag_of(record.event)), []).append(record)
        for key, records in ends.items():
            if sum(
                1 for record in records if record.name == "committed" and not record.duplicate
            ) > 1 and not key[1].startswith(("Spawn", "TransitionRequested", "timeout ", "end of ")):
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
            accepted = call.cancelled and not call.may_be_refused
            least[key] += call.replied or accepted or isinstance(call.error, surely)
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
                and not key[1].startswith(("outcome of", "end of", "timeout "))
                and key[1] not in {"Spawn", "TransitionRequested"} | self.promises.known
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
