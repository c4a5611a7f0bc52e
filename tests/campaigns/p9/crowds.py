"""Many at once: a hundred thousand timers that are due together, and ten thousand children that start and stop.

What must hold: who asks meanwhile is answered after a bounded number of them, no timer comes early, late or out of
order, and the time for children grows with their number and not with its square.
"""

from __future__ import annotations

import asyncio
import gc
from random import Random
from time import process_time
from typing import Any, Final

from actorfsm import (
    STAY,
    ActorSystem,
    Child,
    Event,
    Limits,
    Machine,
    MailboxPolicy,
    RestartPolicy,
    Strategy,
    Supervisor,
    transition,
)
from actorfsm.testing.loop import SimLoop, observe, simulate
from tests.campaigns.p9.world import (
    Add,
    Bystander,
    Fail,
    Findings,
    Moods,
    State,
    Steps,
    Witness,
    Worker,
)

MACHINES: Final = 1_000
TIMERS_EACH: Final = 100
TIMERS: Final = MACHINES * TIMERS_EACH
WAIT_S: Final = 60.0
LIMITS: Final = Limits()
MOST_BETWEEN: Final = 2 * (LIMITS.events_in_a_row * MACHINES + 8 * LIMITS.turns_per_step)
"""How many timers may fall due and how many of their events may be handled before an answer: each machine has its turn
once, and while one event is handled one timer falls due.
"""


class Arm(Event):
    """Start all timers of the machine; some of them it cancels again."""


class Tick(Event):
    n: int


class Clockwork(Machine[State], initial=State.OPEN, mailbox=MailboxPolicy(capacity=16)):
    """Notes whether its timers come when they shall, in the order in which they were started."""

    ticks: int = 0
    last: int = -1
    wrong: int = 0
    due_at: float = 0.0

    @transition(State.OPEN, to=STAY)
    def arm(self, event: Arm) -> None:
        self.due_at = self.now().timestamp() + WAIT_S
        for n in range(TIMERS_EACH):
            self.start_timer(Tick(n=n), after=WAIT_S, name=f"t{n}")

    @transition(State.OPEN, to=STAY)
    def tick(self, event: Tick) -> None:
        self.ticks += 1
        self.wrong += event.n <= self.last
        self.last = event.n


def all_timers_are_due_at_once(seed: int) -> Findings:
    """All of them within one moment of virtual time."""
    findings, steps = Findings(), Steps()

    async def scenario() -> None:
        loop: Any = asyncio.get_running_loop()
        async with ActorSystem(
            Clockwork, Bystander, trace=steps, random=Random(seed), inline=bool(seed % 3)
        ) as system:
            ids = [f"m{n}" for n in range(MACHINES)]
            await system.spawn_many(Clockwork, ids)
            await system.spawn(Bystander, "b0")
            armed_at = loop.time()
            for one in ids:
                await system.ask(one, Arm())
            findings.expect_equal("timers armed", system.stats().timers, TIMERS)
            findings.expect_equal("seconds so far", loop.time(), armed_at)
            await asyncio.sleep(WAIT_S - 0.001)
            findings.expect_equal("timers that came early", system.stats().timers_fired, 0)
            steps.most_in_a_step = 0
            counters, seen, most_fired = system._parts.counters, 0, 0

            def look(_step: int) -> None:
                nonlocal seen, most_fired
                most_fired, seen = max(most_fired, counters.timers_fired - seen), counters.timers_fired

            loop.on_step = look
            await moment(armed_at + WAIT_S)
            witness = Witness(system, ["b0"], lambda: steps.events + counters.timers_fired)
            await asyncio.sleep(1e-6)  # virtual time goes on when nothing more is ready
            loop.on_step = None
            findings.expect(
                most_fired <= LIMITS.timers_per_step, f"{most_fired} timers fell due in one step of the loop"
            )
            findings.expect_equal("timers that came", system.stats().timers_fired, TIMERS)
            findings.expect_equal("events that wait", system.stats().queued, 0)
            await witness.stop()
            findings.expect_equal("seconds until all were handled", round(loop.time() - armed_at, 3), WAIT_S)
            wrong = [
                one
                for one in ids
                if (data := system.snapshot(one).data)["ticks"] != TIMERS_EACH or data["wrong"]
            ]
            findings.expect_equal("machines whose timers came otherwise", wrong, [])
            findings.expect(witness.asks >= 10, f"others were answered {witness.asks} times meanwhile")
            findings.expect(
                witness.most_between <= MOST_BETWEEN,
                f"{witness.most_between} timers fell due or were handled before an answer",
            )
            findings.expect(
                steps.most_in_a_step <= 2 * LIMITS.turns_per_step,
                f"{steps.most_in_a_step} events were handled in one step of the loop",
            )
            findings.expect_equal("the balance", system.stats().balance, 0)
            findings.figures |= {
                "asks": witness.asks,
                "between": witness.most_between,
                "step": steps.most_in_a_step,
            }

    simulate(scenario, seed=seed)
    return findings


async def moment(when: float) -> None:
    """Wait for exactly this time; a sum of pauses may miss it by a rounding."""
    loop = asyncio.get_running_loop()
    comes = loop.create_future()
    loop.call_at(when, comes.set_result, None)
    await comes


FEW: Final = 1_000
MANY: Final = 10_000
MOST_TIMES_AS_LONG: Final = 25.0
"""Ten times as many children take ten times as long; were it a square, it would be a hundred."""


def children_start_restart_and_stop(seed: int) -> Findings:
    """The time of the processor for many children, compared with that for few."""
    findings = Findings()
    strategy = list(Strategy)[seed % 3]
    seconds = {count: time_of(count, strategy, seed, findings) for count in (FEW, MANY)}
    for part in ("start", "restart", "stop"):
        ratio = seconds[MANY][part] / max(seconds[FEW][part], 1e-4)
        findings.figures[f"{part}_s"] = round(seconds[MANY][part], 2)
        findings.figures[f"{part}_ratio"] = round(ratio, 1)
        findings.expect(
            ratio <= MOST_TIMES_AS_LONG, f"{MANY} children take {ratio:.0f} times as long to {part} as {FEW}"
        )
    return findings


def time_of(count: int, strategy: Strategy, seed: int, findings: Findings) -> dict[str, float]:
    """Return the seconds of the processor for the start, the restart and the stop of so many children."""
    took: dict[str, float] = {}
    began = process_time()

    def lap(part: str) -> None:
        nonlocal began
        took[part] = process_time() - began
        began = process_time()

    async def scenario() -> None:
        ids = [f"m{n}" for n in range(count)]
        policy = RestartPolicy(count, 3_600, first_delay_s=0.1)
        group = Supervisor(
            "group", strategy=strategy, policy=policy, children=[Child(Worker, one) for one in ids]
        )
        lap("declare")
        async with ActorSystem(children=[group], services=Moods(), trace=None, random=Random(seed)) as system:
            lap("start")
            findings.expect_equal("machines", system.stats().machines, count)
            if strategy is Strategy.ONE_FOR_ONE:
                for one in ids:
                    system.tell(one, Fail())
            else:
                system.tell("m0", Fail())
            await asyncio.sleep(1)
            lap("restart")
            findings.expect_equal("restarts", system.stats().restarts, count)
            findings.expect_equal("the last one", await system.ask(ids[-1], Add()), 1)
            lap("ask")
        lap("stop")
        report = system.report
        findings.expect(report is not None and report.finished and not report.unstopped, f"{report}")

    gc.collect()
    outcome = observe(scenario, loop=SimLoop(seed, max_steps=10_000_000))
    if outcome.error is not None:
        raise outcome.error
    findings.expect_equal("what is left", outcome.leftovers, ())
    return took
