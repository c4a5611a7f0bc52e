"""Rules that do the same to the runtime and to the model of the contract, and compare the two."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from random import Random
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from actorfsm import (
    ActorFSMError,
    ActorSystem,
    AskTimeout,
    Child,
    EventIdConflict,
    Expired,
    HookFailed,
    Outcome,
    RestartPolicy,
    Supervisor,
    Unhandled,
    Vetoed,
)
from actorfsm.testing.loop import SimLoop
from tests.campaigns.p5.machines import ALWAYS, CLASSES, IDS, INSTEAD, POLICY, Item, Told, tag_of
from tests.campaigns.p5.model import (
    MAX_RESTARTS,
    PAUSE_OF_CHILD_S,
    PAUSE_OF_SUPERVISOR_S,
    Model,
    One,
    Sent,
)
from tests.campaigns.p5.supervisor import Supervisor as ModelOfSupervisor

FIGURES: Counter[str] = Counter()


def noted(method: Callable[..., None]) -> Callable[..., None]:
    """Note what is done, so that the same can be done again elsewhere; not what that leads to."""

    @wraps(method)
    def does(self: AgainstModel, *given: Any, **drawn: Any) -> None:
        if self.is_doing:
            method(self, *given, **drawn)
            return
        self.done.append((method.__name__, drawn))
        self.is_doing = True
        try:
            method(self, **drawn)
        finally:
            self.is_doing = False

    return does


picks = st.integers(0, 1_000)
"""Which of those there are: modulo their number."""

ids = st.sampled_from(IDS)
receivers = st.sampled_from([*IDS, *IDS, *ALWAYS])
kinds = st.sampled_from(["go"] * 6 + ["stay", "stay", "late", "late", "late", "birth", "end"])
fates = st.sampled_from(
    ["ok"] * 12 + ["veto", "veto", "fail", "bad", "restart", "restart", "restart", "fatal"]
)
steps = st.sampled_from(["before", "exit", "body", "body", "enter"])
slows = st.sampled_from([0, 0, 0, 0, 3])
owns = st.sampled_from([(), (), (), ("note",), ("go",), ("go", "note")])
targets = st.sampled_from([(), (), (), ("a",), ("b", "c"), ("c", "c", "nobody")])
timers = st.sampled_from([""] * 5 + ["named", "named", "state", "event", "failing", "cancel"])
watches = st.sampled_from([""] * 4 + ["a", "b", "c", "nobody", "-a", "-b"])
wishes = st.fixed_dictionaries(
    {"fate": fates, "at": steps, "slow": slows, "own": owns, "to": targets, "timer": timers, "watch": watches}
)
bursts = st.lists(st.tuples(kinds, wishes), min_size=1, max_size=5)


class AgainstModel(RuleBasedStateMachine):
    """Each rule does one thing to both; whenever the loop is at rest they must agree.

    Attributes:
        done: What was done, by the names of the rules.
    """

    keeps_journal = False

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[str, dict[str, Any]]] = []
        self.is_doing = False

    @initialize(
        seed=st.integers(0, 999),
        inline=st.booleans(),
        spawned=st.sampled_from([0, 1, 3, 3, 3]),
    )
    @noted
    def start(self, seed: int, inline: bool, spawned: int) -> None:
        self.seed, self.inline = seed, inline
        self.records: list[tuple[Any, float, str]] = []
        self.begin()
        self.records.clear()
        self.model = Model(keeps_journal=self.keeps_journal)
        self.model.accepted = self.model.outcomes["committed"] = len(ALWAYS)
        self.model.machines = {machine_id: One(self.model, machine_id) for machine_id in ALWAYS}
        for one in self.model.machines.values():
            one.state, one.seq, one.log = "A", 1, ["spawn:enter"]
        children = list(self.model.machines.values())
        self.model.supervisor = ModelOfSupervisor(self.model, children)
        self.tags = 0
        self.tells: list[tuple[Sent, Any, list[str] | None]] = []
        self.asks: list[tuple[Sent, asyncio.Task[Any]]] = []
        self.stops: list[tuple[One, asyncio.Task[Any]]] = []
        self.explicit: list[tuple[str, Sent]] = []
        self.events = 0
        self.agrees = True
        for machine_id in IDS[:spawned]:
            self.spawn(machine_id)

    def begin(self) -> None:
        """Start a system on a loop of its own."""
        self.loop = SimLoop(self.seed)
        self.system = self.new_system()
        self.loop.run_until_complete(self.system.__aenter__())

    def new_system(self) -> ActorSystem[Any]:
        loop, records = self.loop, self.records
        return ActorSystem(
            Item,
            trace=lambda record: records.append((record, loop.time(), tag_of(record.event))),
            random=Random(self.seed),
            inline=self.inline,
            children=[
                Supervisor(
                    "supervisor",
                    policy=RestartPolicy(max_restarts=MAX_RESTARTS, first_delay_s=PAUSE_OF_CHILD_S, **POLICY),
                    children=[Child(Item, machine_id) for machine_id in ALWAYS],
                )
            ],
            root=RestartPolicy(max_restarts=1_000, first_delay_s=PAUSE_OF_SUPERVISOR_S, **POLICY),
            **self.options(),
        )

    @contextmanager
    def on_loop(self) -> Iterator[None]:
        """Call something as from a callback of the loop, though it does not run."""
        asyncio._set_running_loop(self.loop)
        try:
            yield
        finally:
            asyncio._set_running_loop(None)

    def options(self) -> dict[str, Any]:
        """Return what more a system is given."""
        return {}

    # -- what is done -------------------------------------------------------------------------------------------

    def make(self, receiver: str, kind: str, **wishes: Any) -> Sent:
        self.tags += 1
        if receiver in ALWAYS:
            kind = INSTEAD.get(kind, kind)
        return Sent(kind, f"{self.tags}", **wishes)

    def event_of(self, sent: Sent) -> Told:
        names = ("fate", "at", "slow", "own", "to", "timer", "watch")
        fields = {name: getattr(sent, name) for name in names}
        return CLASSES[sent.kind](tag=sent.tag, **fields)

    @rule(to=receivers, events=bursts, own_id=st.booleans(), callback=st.booleans(), then=st.booleans())
    @noted
    def tell(self, to: str, events: list[Any], own_id: bool, callback: bool, then: bool) -> None:
        for kind, wishes in events:
            sent = self.make(to, kind, **wishes)
            sent.event_id = f"id-{sent.tag}" if own_id else ""
            self.send(to, sent, callback=callback, then=then)

    def send(self, to: str, sent: Sent, *, callback: bool, then: bool) -> None:
        called: list[str] | None = [] if callback else None

        def on_outcome(outcome: Outcome) -> None:
            assert called is not None
            called.append(outcome.kind)

        if sent.event_id:
            self.explicit.append((to, sent))
        self.model.send(to, sent)
        with self.on_loop():
            receipt = self.system.tell(
                to,
                self.event_of(sent),
                event_id=sent.event_id or None,
                callback=on_outcome if callback else None,
            )
        self.tells.append((sent, receipt, called))
        if then:
            self.run()

    @rule(
        to=receivers,
        kind=kinds,
        wishes=wishes,
        timeout=st.sampled_from([1.3, 4.3, 1000.3]),
        own_id=st.booleans(),
    )
    @noted
    def ask(self, to: str, kind: str, wishes: dict[str, Any], timeout: float, own_id: bool) -> None:
        self.run()
        sent = self.make(to, kind, **wishes)
        sent.is_ask, sent.deadline = True, self.loop.time() + timeout
        if own_id:
            sent.event_id = f"id-{sent.tag}"
            self.explicit.append((to, sent))
        self.put(to, sent, timeout)

    def put(self, to: str, sent: Sent, timeout: float) -> None:
        self.model.send(to, sent)
        options: dict[str, Any] = {"timeout": timeout, "event_id": sent.event_id or None}
        by_ref = len(self.explicit) % 2  # there are two ways in: by id, and by ref
        event = self.event_of(sent)
        asking = (
            self.system.ref(Item, to).ask(event, **options)
            if by_ref
            else self.system.ask(to, event, **options)
        )
        self.asks.append((sent, self.loop.create_task(asking)))
        self.run()

    @precondition(lambda self: self.explicit)
    @rule(pick=picks, same=st.sampled_from([True, True, False]), timeout=st.sampled_from([0, 1.3, 1000.3]))
    @noted
    def repeat(self, pick: int, same: bool, timeout: float) -> None:
        to, first = self.explicit[-6:][pick % len(self.explicit[-6:])]
        sent = Sent(*first.content, event_id=first.event_id)
        if not same:
            sent.slow += 1
        if not timeout:
            self.send(to, sent, callback=True, then=False)
            return
        self.run()
        sent.is_ask, sent.deadline = True, self.loop.time() + timeout
        self.put(to, sent, timeout)

    @rule(to=ids)
    @noted
    def spawn(self, to: str) -> None:
        self.run()
        known = to in self.model.machines
        if not known:
            self.model.send(to, Sent("spawn", "spawn", is_ask=True, deadline=self.loop.time() + 10))
        spawning = self.loop.create_task(self.system.spawn(Item, to))
        self.run()
        assert spawning.done()
        assert (spawning.exception() is not None) == known

    @rule()
    @noted
    def run(self) -> None:
        self.loop.run_until_idle()
        self.compare()

    @rule(seconds=st.integers(1, 6))
    @noted
    def advance(self, seconds: int) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self.run()

    @precondition(lambda self: any(one.state for one in self.model.machines.values()))
    @rule(pick=picks)
    @noted
    def stop(self, pick: int) -> None:
        self.run()
        born = [one for one in self.model.machines.values() if one.state and one.id not in ALWAYS]
        if born:
            one = born[pick % len(born)]
            one.request_stop()
            self.stops.append((one, self.loop.create_task(self.system.stop(one.id))))
            self.run()

    @precondition(lambda self: any(one.quarantined for one in self.model.machines.values()))
    @rule(pick=picks, discard=st.booleans())
    @noted
    def release(self, pick: int, discard: bool) -> None:
        self.run()
        held = [one for one in self.model.machines.values() if one.quarantined]
        one = held[pick % len(held)]
        one.release(discard=discard)
        with self.on_loop():
            self.system.release(one.id, discard=discard)
        self.run()

    @precondition(lambda self: any(one.state for one in self.model.machines.values()))
    @rule(pick=picks, held=st.booleans())
    @noted
    def suspend(self, pick: int, held: bool) -> None:
        self.run()
        born = [one for one in self.model.machines.values() if one.state]
        if born:
            one = born[pick % len(born)]
            (one.suspend if held else one.resume)()
            with self.on_loop():
                (self.system.suspend if held else self.system.resume)(one.id)
            self.run()

    # -- what must agree ----------------------------------------------------------------------------------------

    def compare(self) -> None:
        self.agrees = False
        now = self.loop.time()
        records, self.records[:] = deque(self.records), []
        while records:
            if self.keeps_journal:
                self.bring_cause_forward(records)
            self.events += 1
            self.model.records = records
            self.model.read(*records.popleft())
        self.model.at_rest(now)
        self.compare_machines()
        self.compare_account()
        self.compare_answers(now)
        self.agrees = True

    def bring_cause_forward(self, records: deque[tuple[Any, float, str]]) -> None:
        """Put first what led to the first record: an outcome that the journal has to know of is told when it does."""
        (record, when, _) = records[0]
        if record.event is not None or self.model.awaits(record, when):
            return
        for later in records:
            other = later[0]
            if other.event is None or later[1] != when or other.duplicate:
                continue
            is_own = other.machine_id == record.machine_id
            if is_own or (record.machine_id == "supervisor" and other.machine_id in ALWAYS):
                if other.name == "failed":
                    records.remove(later)
                    records.appendleft(later)
                    return
                if is_own:
                    return

    def compare_machines(self) -> None:
        born = {one.id: one for one in self.model.machines.values() if one.state is not None}
        assert set(self.system.ids()) == set(born)
        for one in born.values():
            seen = self.system.snapshot(one.id)
            assert (seen.state.name, seen.seq, seen.incarnation) == (one.state, one.seq, one.incarnation)
            assert (seen.data["log"], seen.data["count"]) == (one.log, len(one.log))
            nested: dict[str, list[str]] = {}
            for tag, step in (key.rsplit(":", 1) for key in one.log):
                nested.setdefault(tag, []).append(step)
            assert seen.data["nested"] == nested

    def compare_account(self) -> None:
        stats, model = self.system.stats(), self.model
        ones = model.machines.values()
        assert stats.balance == 0
        assert {kind: n for kind, n in stats.outcomes.items() if n} == {
            k: n for k, n in model.outcomes.items() if n
        }
        waiting = [
            *(one.current for one in ones if one.current),
            *(sent for one in ones for sent in one.waiting()),
        ]
        expected = {
            "accepted": model.accepted,
            "duplicates": model.duplicates,
            "restarts": model.restarts,
            "postponed": sum(len(one.postponed) for one in ones),
            "in_flight": sum(one.current is not None for one in ones),
            "queued": sum(len(one.waiting()) - len(one.postponed) for one in ones)
            + sum(len(sent.twins) for sent in waiting),
            "outgoing": 0,
            "quarantined": sum(one.quarantined for one in ones),
            "suspended": sum(one.suspended for one in ones),
            "dead_letters": sum(model.dead.values()),
        }
        seen = {name: getattr(stats, name) for name in expected}
        assert seen == expected, f"the account says {seen}, the model {expected}"
        assert (
            Counter((letter.machine_id, tag_of(letter.event)) for letter in self.system.dead_letters)
            == model.dead
        )

    def compare_answers(self, now: float) -> None:
        for sent, receipt, called in self.tells:
            settlement, refusal = receipt._envelope.settlement, receipt._envelope.refusal
            seen = settlement.kind if settlement is not None else None if refusal is None else "refused"
            assert seen == sent.outcome, f"{sent}: its receipt says {seen}"
            told = {"refused": "dead_lettered"}.get(sent.outcome or "", sent.outcome)
            assert called is None or called == ([told] if told else [])
        self.tells = [entry for entry in self.tells if entry[0].outcome is None]
        for sent, task in list(self.asks):
            assert sent.deadline is not None
            over = sent.outcome is not None or sent.deadline + 0.1 <= now
            assert task.done() == over, f"{sent}: {task}"
            if over:
                self.asks.remove((sent, task))
                self.compare_answer(sent, task)
        for one, task in list(self.stops):
            assert task.done() == (self.model.machines.get(one.id) is not one), f"{one.id} is not stopped"
            if task.done():
                assert task.exception() is None
                self.stops.remove((one, task))

    def compare_answer(self, sent: Sent, task: asyncio.Task[Any]) -> None:
        assert sent.deadline is not None
        error = task.exception()
        late = sent.outcome != "expired" and sent.ended_at > sent.deadline
        if sent.outcome is None or sent.gave_up or late:
            assert isinstance(error, AskTimeout), f"{sent}: {error!r}"
            return
        expected: dict[str, Any] = {
            "committed": None,
            "vetoed": Vetoed,
            "failed": EventIdConflict if sent.is_conflict else HookFailed,
            "unhandled": Unhandled,
            "expired": Expired,
        }
        if sent.outcome == "committed":
            assert error is None
            assert task.result() == sent.tag
        else:
            assert isinstance(error, expected.get(sent.outcome, ActorFSMError)), f"{sent}: {error!r}"

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        self.is_doing = True
        try:
            if not self.agrees:
                return
            for _ in range(30):
                self.advance(40)
            self.loop.run_until_complete(self.system.__aexit__(None, None, None))
            self.loop.run_until_idle()
            assert self.system.stats().balance == 0
            left = [(sent, task) for sent, task in self.asks if not task.done()]
            assert not left, f"never answered: {left}"
            for _, task in [*self.asks, *self.stops]:
                task.exception()
            assert self.loop.leftovers() == ()
        finally:
            for _, task in [*self.asks, *self.stops]:
                if task.done() and not task.cancelled():
                    task.exception()
            self.loop.abandon()
            FIGURES["events"] += self.events
            FIGURES["examples"] += 1
