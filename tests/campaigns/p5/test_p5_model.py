"""P5: the runtime against a model of the contract, driven by Hypothesis."""

from __future__ import annotations

import asyncio
import os
from collections import Counter, deque
from enum import StrEnum, auto
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from actorfsm import (
    STAY,
    ActorFSMError,
    ActorSystem,
    AskTimeout,
    Child,
    Directive,
    Event,
    Expired,
    HookFailed,
    Machine,
    Outcome,
    RestartPolicy,
    Spawn,
    StateTimeout,
    Supervisor,
    Terminated,
    TimerScope,
    Unhandled,
    Veto,
    Vetoed,
    before_transition,
    on_enter,
    on_exit,
    on_timeout,
    postpone,
    transition,
)
from actorfsm.testing.loop import SimLoop
from tests.campaigns.ledger import enter
from tests.campaigns.p5.model import (
    ATTEMPTS,
    LIMIT_OF_C_S,
    LONGEST_PAUSE_S,
    MAX_RESTARTS,
    PAUSE_OF_CHILD_S,
    PAUSE_OF_SUPERVISOR_S,
    REMEMBERED,
    STABLE_S,
    WITHIN_S,
    Model,
    One,
    Sent,
    Supervisor as ModelOfSupervisor,
    delay_of,
)

CAMPAIGN = max(1, int(os.environ.get("ACTORFSM_CAMPAIGN", "1")))
EXAMPLES, STEPS = 300 * CAMPAIGN, 50
IDS = ("a", "b", "c")
ALWAYS = ("s", "t", "u")
"""The machines of the tree: they do not end, but are restarted when one of their events fails."""
INSTEAD = {"end": "go", "late": "stay"}
"""What they are sent instead: no record says whether one was postponed before its supervisor stopped the machine."""
POLICY = {"within_s": WITHIN_S, "max_delay_s": LONGEST_PAUSE_S, "jitter": 0.0, "stable_after_s": STABLE_S}


class S(StrEnum):
    A = auto()
    B = auto()
    C = auto()
    END = auto()


class Told(Event[str]):
    """What the sender wants to happen, so that model and machine can be told the same."""

    tag: str
    fate: str = "ok"
    at: str = "body"
    slow: int = 0
    own: tuple[str, ...] = ()
    to: tuple[str, ...] = ()
    timer: str = ""
    watch: str = ""


class Go(Told): ...


class Stay(Told): ...


class Late(Told): ...


class End(Told): ...


class Note(Told): ...


class Birth(Told): ...


CLASSES: dict[str, type[Told]] = {
    "go": Go,
    "stay": Stay,
    "late": Late,
    "end": End,
    "note": Note,
    "birth": Birth,
}


SCOPES = {"state": TimerScope.STATE, "event": TimerScope.EVENT}


def tag_of(event: Any) -> str:
    """Return what the model knows an event by."""
    match event:
        case None:
            return ""
        case Spawn():
            return "spawn"
        case StateTimeout():
            return event.name
        case Terminated():
            return f"end {event.machine_id}"
        case _:
            return str(event.tag)


class Item(
    Machine[S],
    initial=S.A,
    final=(S.END,),
    remembered_ids=REMEMBERED,
    timer_attempts=ATTEMPTS,
    on_failure={LookupError: Directive.RESTART, ArithmeticError: Directive.STOP},
    restart=RestartPolicy(
        max_restarts=MAX_RESTARTS,
        first_delay_s=1.0,
        **POLICY,
    ),
):
    log: list[str] = []
    nested: dict[str, list[str]] = {}
    count: int = 0

    async def visit(self, step: str, event: Any) -> None:
        tag = tag_of(event)
        self.log.append(f"{tag}:{step}")
        self.nested.setdefault(tag, []).append(step)
        self.count += 1
        await asyncio.sleep(0)
        if isinstance(event, Told):
            if step == "body":
                for n, kind in enumerate(event.own):
                    self.next_event(CLASSES[kind](tag=f"{tag}^{n}"))
                for to in event.to:
                    self.tell(to, Note(tag=f"{tag}>{to}"))
                self.use_time(event)
            if step == event.at:
                await self.meet(event)

    def use_time(self, event: Told) -> None:
        if event.timer == "cancel":
            self.cancel_timer("named")
        elif event.timer:
            failing = event.timer == "failing"
            self.start_timer(
                Note(tag=f"{event.tag}~", fate="fail" if failing else "ok"),
                after=delay_of(event.tag),
                name="named" if failing else event.timer,
                scope=SCOPES.get(event.timer, TimerScope.NAMED),
            )
        watched = event.watch.removeprefix("-")
        if watched and watched != self.id:
            (self.watch if watched == event.watch else self.unwatch)(watched)

    async def meet(self, event: Told) -> None:
        if event.slow:
            await asyncio.sleep(event.slow)
        match event.fate:
            case "veto":
                raise Veto("as told")
            case "fail":
                raise ValueError("as told")
            case "restart":
                raise LookupError("as told")
            case "fatal":
                raise ArithmeticError("as told")
            case "bad":
                self.nested["bad"] = "no list"

    @before_transition
    async def before(self, old: S, new: S, event: Event) -> None:
        await self.visit("before", event)

    @on_exit()
    async def leave(self, old: S, new: S, event: Event) -> None:
        await self.visit("exit", event)

    @on_enter()
    async def enter(self, old: S, new: S, event: Event) -> None:
        await self.visit("enter", event)

    @transition(S.A, to=S.B)
    @transition(S.B, to=S.C)
    @transition(S.C, to=S.A)
    async def go(self, event: Go) -> str:
        return await self.answer(event)

    @transition(S.A, S.B, S.C, to=STAY)
    async def stay(self, event: Stay | Note) -> str:
        return await self.answer(event)

    @postpone(S.A)
    @transition(S.B, to=S.C)
    @transition(S.C, to=STAY)
    async def late(self, event: Late) -> str:
        return await self.answer(event)

    @transition(S.A, S.C, to=S.END)
    async def end(self, event: End) -> str:
        return await self.answer(event)

    @on_timeout(S.C, after=LIMIT_OF_C_S, to=S.A)
    async def overdue(self, event: StateTimeout) -> None:
        await self.visit("body", event)

    @transition(S.A, S.B, S.C, to=STAY)
    async def ended(self, event: Terminated) -> None:
        await self.visit("body", event)

    @transition(to=S.A)
    async def birth(self, event: Birth) -> str:
        return await self.answer(event)

    async def answer(self, event: Told) -> str:
        await self.visit("body", event)
        return event.tag


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
    """Each rule does one thing to both; whenever the loop is at rest they must agree."""

    @initialize(
        seed=st.integers(0, 999),
        inline=st.booleans(),
        spawned=st.sampled_from([0, 1, 3, 3, 3]),
    )
    def start(self, seed: int, inline: bool, spawned: int) -> None:
        self.loop = SimLoop(seed)
        self.records: list[tuple[Any, float]] = []
        self.system = ActorSystem(
            Item,
            trace=lambda record: self.records.append((record, self.loop.time())),
            random=Random(seed),
            inline=inline,
            children=[
                Supervisor(
                    "supervisor",
                    policy=RestartPolicy(max_restarts=MAX_RESTARTS, first_delay_s=PAUSE_OF_CHILD_S, **POLICY),
                    children=[Child(Item, machine_id) for machine_id in ALWAYS],
                )
            ],
            root=RestartPolicy(max_restarts=1_000, first_delay_s=PAUSE_OF_SUPERVISOR_S, **POLICY),
        )
        self.loop.run_until_complete(self.system.__aenter__())
        self.records.clear()
        self.model = Model()
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
        receipt = self.system.tell(
            to, self.event_of(sent), event_id=sent.event_id or None, callback=on_outcome if callback else None
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
    @rule(
        data=st.data(), same=st.sampled_from([True, True, False]), timeout=st.sampled_from([0, 1.3, 1000.3])
    )
    def repeat(self, data: Any, same: bool, timeout: float) -> None:
        to, first = data.draw(st.sampled_from(self.explicit[-6:]))
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
    def run(self) -> None:
        self.loop.run_until_idle()
        self.compare()

    @rule(seconds=st.integers(1, 6))
    def advance(self, seconds: int) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self.run()

    @precondition(lambda self: any(one.state for one in self.model.machines.values()))
    @rule(data=st.data())
    def stop(self, data: Any) -> None:
        self.run()
        born = [one for one in self.model.machines.values() if one.state and one.id not in ALWAYS]
        if born:
            one = data.draw(st.sampled_from(born))
            one.request_stop()
            self.stops.append((one, self.loop.create_task(self.system.stop(one.id))))
            self.run()

    @precondition(lambda self: any(one.quarantined for one in self.model.machines.values()))
    @rule(data=st.data(), discard=st.booleans())
    def release(self, data: Any, discard: bool) -> None:
        self.run()
        one = data.draw(st.sampled_from([one for one in self.model.machines.values() if one.quarantined]))
        one.release(discard=discard)
        self.system.release(one.id, discard=discard)
        self.run()

    @precondition(lambda self: any(one.state for one in self.model.machines.values()))
    @rule(data=st.data(), held=st.booleans())
    def suspend(self, data: Any, held: bool) -> None:
        self.run()
        born = [one for one in self.model.machines.values() if one.state]
        if born:
            one = data.draw(st.sampled_from(born))
            (one.suspend if held else one.resume)()
            (self.system.suspend if held else self.system.resume)(one.id)
            self.run()

    # -- what must agree ----------------------------------------------------------------------------------------

    def compare(self) -> None:
        self.agrees = False
        now = self.loop.time()
        records, self.records[:] = list(self.records), []
        self.model.records = deque(
            (record.machine_id, "" if record.duplicate else record.name) for record, _ in records
        )
        for record, when in records:
            self.events += 1
            self.model.records.popleft()
            self.model.read(record, tag_of(record.event), when)
        self.model.at_rest(now)
        self.compare_machines()
        self.compare_account()
        self.compare_answers(now)
        self.agrees = True

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
            "failed": HookFailed,
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


FIGURES: Counter[str] = Counter()


def campaign(examples: int = EXAMPLES) -> None:
    """Run the campaign; the first disagreement raises. The same examples each time, unless ACTORFSM_CAMPAIGN is set."""
    run_state_machine_as_test(
        AgainstModel,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=CAMPAIGN == 1,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink) if CAMPAIGN > 1 else (Phase.generate,),
            print_blob=False,
            report_multiple_bugs=False,
        ),
    )


@pytest.mark.slow
@pytest.mark.timeout(120 * CAMPAIGN)
@pytest.mark.rule("C2")
@pytest.mark.rule("C4")
@pytest.mark.rule("C5")
@pytest.mark.rule("C6")
@pytest.mark.rule("C7")
@pytest.mark.rule("C8")
@pytest.mark.rule("C14")
@pytest.mark.rule("C15")
@pytest.mark.rule("C16")
@pytest.mark.rule("C17")
@pytest.mark.rule("C18")
@pytest.mark.rule("C20")
def test_the_runtime_does_what_the_model_says() -> None:
    FIGURES.clear()
    campaign()
    enter("P5", seeds=FIGURES["examples"], steps=STEPS, events=FIGURES["events"], violations=0)
    assert FIGURES["events"] > 10 * EXAMPLES
