"""A thousand children fail at once: under one supervisor, and under a hundred in three levels.

What must hold: who has nothing to do with it is served meanwhile, each restart comes after its pause, as many restarts
as are allowed are allowed and not one more, and every event is accounted for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, Final

from actorfsm import Child, Limits, Receipt, Strategy, Supervisor, SystemFailed
from actorfsm.testing.loop import simulate
from actorfsm.testing.simulation import SimulatedSystem
from tests.campaigns.p9.world import (
    Add,
    Bystander,
    Fail,
    Findings,
    Moods,
    Steps,
    WaitingWorker,
    Witness,
    Worker,
    policy,
)

CHILDREN: Final = 1_000
BEFORE: Final = 4
AFTER: Final = 4
"""How many events each of them gets before the one that fails, and after it."""
EACH: Final = BEFORE + 2 * AFTER
"""What they add up to."""
IN_A_ROW: Final = 2
PER_STEP: Final = 64
LIMITS: Final = Limits(turns_per_step=PER_STEP, events_in_a_row=IN_A_ROW)
MOST_BETWEEN: Final = IN_A_ROW * CHILDREN + 8 * PER_STEP
"""How many events of others may end before an answer: each has its turn once, and some are ahead on a shuffled loop."""
MOST_IN_A_STEP: Final = 3 * PER_STEP
"""A child that is seen to leaves up to three records: it failed, begins anew, has started."""
JITTER: Final = 0.2
FIRST_PAUSE_S: Final = 0.1


def bystanders() -> Supervisor:
    return Supervisor("elsewhere", children=[Child(Bystander, f"b{n}") for n in range(5)])


async def fail_all(system: SimulatedSystem[Any], ids: list[str]) -> list[Receipt]:
    """Send each some events, one that fails, and some more that wait meanwhile."""
    events = [*(Add() for _ in range(BEFORE)), Fail(), *(Add(n=2) for _ in range(AFTER))]
    return [system.tell(each, event) for each in ids for event in events]


async def until_quiet(system: SimulatedSystem[Any], receipts: list[Receipt]) -> None:
    """Wait until each event has its outcome."""
    for receipt in receipts:
        await receipt.outcome()


def judge_totals(findings: Findings, system: SimulatedSystem[Any], ids: list[str], each: int) -> None:
    """Every event was applied once, and of those that failed nothing is left."""
    wrong = {one: total for one in ids if (total := system.snapshot(one).data["total"]) != each}
    findings.expect_equal("machines with another total", wrong, {})


def judge_witness(findings: Findings, witness: Witness, steps: Steps, least: int) -> None:
    findings.expect(witness.asks >= least, f"others were answered {witness.asks} times meanwhile")
    findings.expect(
        witness.most_between <= MOST_BETWEEN,
        f"{witness.most_between} events of others ended before an answer",
    )
    findings.expect(
        steps.most_in_a_step <= MOST_IN_A_STEP,
        f"{steps.most_in_a_step} things happened in one step of the loop",
    )
    findings.expect(witness.longest_s == 0.0, f"another machine was answered after {witness.longest_s:.3f} s")
    findings.figures |= {"asks": witness.asks, "between": witness.most_between, "step": steps.most_in_a_step}


def all_fail_at_once(seed: int) -> Findings:
    """Under one supervisor that allows exactly so many restarts, twice; the second pause is twice as long."""
    findings = Findings()
    worker = (Worker, WaitingWorker)[seed % 2]
    ids = [f"w{n}" for n in range(CHILDREN)]

    async def scenario() -> None:
        steps = Steps()
        shop = Supervisor(
            "shop",
            policy=policy(2 * CHILDREN, first_delay_s=FIRST_PAUSE_S, jitter=JITTER),
            children=[Child(worker, one) for one in ids] + [Child(Bystander, "inside")],
        )
        async with SimulatedSystem(
            children=[bystanders(), shop],
            services=Moods(),
            trace=[steps],
            limits=LIMITS,
            inline=bool(seed % 3),
        ) as system:
            witness = Witness(system, ["b0", "inside", "b1"], lambda: steps.events)
            for wave in (1, 2):
                began = len(steps.rows)
                await until_quiet(system, await fail_all(system, ids))
                await asyncio.sleep(1)
                judge_totals(findings, system, ids, EACH * wave)
                for said in ("child_failed", "restarted", "started"):
                    findings.expect_equal(
                        f"{said} in wave {wave}", sorted(steps.of(said, began)), sorted(ids)
                    )
                pause_s = FIRST_PAUSE_S * wave  # doubled each time
                pauses = steps.pauses(began)
                findings.expect(
                    pause_s * (1 - JITTER) - 1e-9 <= min(pauses)
                    and max(pauses) <= pause_s * (1 + JITTER) + 1e-9,
                    f"pauses of {min(pauses):.3f} to {max(pauses):.3f} s in wave {wave}",
                )
                findings.expect(
                    max(pauses) - min(pauses) > pause_s * JITTER, f"pauses without jitter in wave {wave}"
                )
            findings.expect_equal("restarts that count", system.tree().children[1].restarts, 2 * CHILDREN)
            findings.expect_equal("who gave up", steps.of("escalated"), [])
            await witness.stop()
            judge_witness(findings, witness, steps, 40)

    simulate(scenario, seed=seed)
    return findings


def one_failure_too_many(seed: int) -> Findings:
    """The supervisor allows one restart less than there are failures: it gives up once, and is restarted with all."""
    findings = Findings()
    worker = (Worker, WaitingWorker)[seed % 2]
    ids = [f"w{n}" for n in range(CHILDREN)]

    async def scenario() -> None:
        steps = Steps()
        shop = Supervisor("shop", policy=policy(CHILDREN - 1), children=[Child(worker, one) for one in ids])
        async with SimulatedSystem(
            children=[bystanders(), shop],
            services=Moods(),
            trace=[steps],
            root=policy(1),
            limits=LIMITS,
            inline=bool(seed % 3),
        ) as system:
            witness = Witness(system, ["b0", "b1"], lambda: steps.events)
            await until_quiet(system, await fail_all(system, ids))
            await asyncio.sleep(1)
            await witness.stop()
            judge_totals(findings, system, ids, EACH)
            findings.expect_equal("who gave up", steps.of("escalated"), ["shop"])
            findings.expect_equal("restarts of the root's children", system.tree().restarts, 1)
            findings.expect_equal("restarts that count now", system.tree().children[1].restarts, 0)
            findings.expect_equal(
                "restarts of bystanders", [who for who in steps.of("restarted") if who.startswith("b")], []
            )
            again = [*steps.of("restarted"), "shop"]
            last = again[again.index("shop") : -1]
            findings.expect_equal("the order of the last start", last, ["shop", *ids])
            judge_witness(findings, witness, steps, 3)

    simulate(scenario, seed=seed)
    return findings


REGIONS, GROUPS, MEMBERS = 5, 10, 20
FEW: Final = 3


def nested(strategy: Callable[[], Strategy], regions_allow: int, worker: Any) -> tuple[Supervisor, list[str]]:
    ids: list[str] = []
    regions: list[Any] = []
    for r in range(REGIONS):
        groups: list[Any] = []
        for g in range(GROUPS):
            mine = [f"w{r}-{g}-{m}" for m in range(MEMBERS)]
            ids += mine
            groups.append(
                Supervisor(
                    f"group{r}-{g}",
                    strategy=strategy(),
                    policy=policy(FEW),
                    children=[Child(worker, one) for one in mine],
                )
            )
        regions.append(Supervisor(f"region{r}", policy=policy(regions_allow), children=groups))
    return Supervisor("world", policy=policy(0), children=regions), ids


def all_fail_in_a_deep_tree(seed: int) -> Findings:
    """Groups allow few restarts and give up, regions restart them; it goes no higher."""
    findings, random = Findings(), Random(seed)
    worker = (Worker, WaitingWorker)[seed % 2]
    world, ids = nested(lambda: random.choice(list(Strategy)), GROUPS * MEMBERS, worker)

    async def scenario() -> None:
        steps = Steps()
        async with SimulatedSystem(
            children=[bystanders(), world],
            services=Moods(),
            trace=[steps],
            root=policy(0),
            limits=LIMITS,
            inline=bool(seed % 3),
        ) as system:
            witness = Witness(system, ["b0", "b1"], lambda: steps.events)
            await until_quiet(system, await fail_all(system, ids))
            await witness.stop()
            await asyncio.sleep(100)
            judge_totals(findings, system, ids, EACH)
            who = set(steps.of("escalated"))
            findings.expect(all(name.startswith("group") for name in who), f"who gave up: {shown(who)}")
            findings.expect(bool(who), "no group gave up: that is no storm")
            for group in (group for region in world.children for group in region.children):
                if group.strategy is Strategy.ONE_FOR_ONE:
                    times = steps.of("escalated").count(group.name)
                    findings.expect(
                        times >= 1, f"{group.name} gave up {times} times, with {MEMBERS} failures"
                    )
            judge_intensity(findings, steps, world)
            judge_witness(findings, witness, steps, 10)
            findings.figures["escalations"] = len(steps.of("escalated"))
            states = {
                child.status for region in system.tree().children[1].children for child in region.children
            }
            findings.expect_equal("the groups at the end", states, {"running"})

    simulate(scenario, seed=seed)
    return findings


def judge_intensity(findings: Findings, steps: Steps, world: Supervisor) -> None:
    """Between two starts of a group there are as many restarts as it allows, and one more makes it give up."""
    group_of = {
        child.name: group.name
        for region in world.children
        for group in region.children
        for child in group.children
    }
    counts: dict[str, int] = dict.fromkeys(group_of.values(), 0)
    for said, who, _ in steps.rows:
        if said == "child_failed" and who in group_of:
            counts[group_of[who]] += 1
            findings.expect(
                counts[group_of[who]] <= FEW + 1, f"{group_of[who]} restarts more than {FEW} times"
            )
        elif said == "escalated" and who in counts:
            findings.expect_equal(f"failures before {who} gave up", counts[who], FEW + 1)
            counts[who] = 0


def all_fail_up_to_the_root(seed: int) -> Findings:
    """Nobody allows a restart: the failure goes up to the root, the system ends, and everybody is answered."""
    findings = Findings()
    worker = (Worker, WaitingWorker)[seed % 2]
    world, ids = nested(lambda: Strategy.ONE_FOR_ONE, 0, worker)
    steps = Steps()

    async def scenario() -> None:
        receipts: list[Receipt] = []
        system = SimulatedSystem(
            children=[bystanders(), world],
            services=Moods(),
            trace=[steps],
            root=policy(0),
            limits=LIMITS,
            inline=bool(seed % 3),
        )
        try:
            async with system:
                receipts = await fail_all(system, ids)
                await asyncio.sleep(1_000)
        except SystemFailed as failed:
            findings.expect("its root supervisor gave up: world" in str(failed), f"it failed with {failed}")
        else:
            findings.expect(False, "the system did not fail")
        kinds = [(await receipt.outcome()).kind for receipt in receipts]
        findings.expect_equal("outcomes", len(kinds), (BEFORE + 1 + AFTER) * CHILDREN)
        findings.expect(
            set(kinds) <= {"committed", "failed", "dead_lettered"},
            f"outcomes of the kinds {shown(set(kinds))}",
        )
        findings.figures["dead"] = kinds.count("dead_lettered")
        report = system.report
        findings.expect(report is not None and not report.unstopped, f"what was left: {report}")
        findings.expect_equal("the balance", system.stats().balance, 0)

    simulate(scenario, seed=seed)
    return findings


def shown(names: set[str]) -> str:
    return ", ".join(sorted(names))
