"""A child that never starts: it hangs, or fails each time; at the first start of the system, or at each restart.

What must hold: its deadline ends it, those before it are stopped in the reverse order of start and those after it never
begin, a restart that fails counts as one, and the failure goes up as far as it must and no further.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, Final

from actorfsm import Child, Strategy, Supervisor, SystemFailed
from actorfsm.testing.loop import simulate
from actorfsm.testing.simulation import SimulatedSystem
from tests.campaigns.p9.world import (
    Add,
    Bystander,
    Findings,
    Leave,
    Mood,
    Moods,
    Moody,
    Steps,
    Witness,
    policy,
)

AROUND: Final = 20
"""How many siblings are started before the one that does not, and after it."""
START_TIMEOUT_S: Final = 5.0
ALLOWED: Final = 2
FIRST_PAUSE_S: Final = 0.1
JITTER: Final = 0.2


def bad_one(moods: Moods, *, is_machine: bool) -> Child:
    what = Moody if is_machine else moods.service("bad")
    return Child(what, "bad", start_timeout=START_TIMEOUT_S)


def siblings(random: Random, moods: Moods, prefix: str) -> list[Child]:
    """Return machines and services, mixed."""
    names = [f"{prefix}{n}" for n in range(AROUND)]
    return [Child(random.choice([Moody, moods.service(name)]), name) for name in names]


def yard_of(random: Random, moods: Moods, strategy: Strategy, *, is_machine: bool) -> Supervisor:
    return Supervisor(
        "yard",
        strategy=strategy,
        policy=policy(ALLOWED, first_delay_s=FIRST_PAUSE_S, jitter=JITTER),
        children=[
            *siblings(random, moods, "a"),
            bad_one(moods, is_machine=is_machine),
            *siblings(random, moods, "z"),
        ],
    )


def never_starts(seed: int) -> Findings:
    """The system does not start, however its child does not."""
    findings = Findings()
    for mood in (Mood.HANGS, Mood.FAILS):
        for is_machine in (True, False):
            never_starts_once(findings, Random(seed), seed, mood, is_machine=is_machine)
    return findings


def never_starts_once(findings: Findings, random: Random, seed: int, mood: Mood, *, is_machine: bool) -> None:
    what = f"a {'machine' if is_machine else 'service'} that {mood} at the first start"

    async def scenario() -> None:
        moods, steps = Moods(), Steps()
        moods.of["bad"] = mood
        yard = yard_of(random, moods, random.choice(list(Strategy)), is_machine=is_machine)
        failed = None
        system = SimulatedSystem(
            children=[Child(Bystander, "b0"), yard, Child(Bystander, "b1")], services=moods, trace=[steps]
        )
        try:
            async with system:
                findings.expect(False, f"{what}: the system started")
        except SystemFailed as error:
            failed = error
        findings.expect("bad did not start" in str(failed), f"{what}: {failed}")
        waited_s = START_TIMEOUT_S if mood is Mood.HANGS else 0.0
        findings.expect_equal(f"{what}: seconds", asyncio.get_running_loop().time(), waited_s)
        before = ["b0", *(f"a{n}" for n in range(AROUND))]
        findings.expect_equal(f"{what}: started", steps.of("started"), before)
        stopped = [who for who in steps.of("stopped") if who != "yard"]
        findings.expect_equal(f"{what}: stopped", stopped, before[::-1])
        findings.expect_equal(f"{what}: restarted", steps.of("restarted"), [])

    simulate(scenario, seed=seed)


def never_starts_again(seed: int) -> Findings:
    """It started once; each restart hangs or fails, is counted, and at last takes its supervisors down one by one."""
    findings = Findings()
    for strategy in Strategy:
        for mood in (Mood.HANGS, Mood.FAILS):
            for is_machine in (True, False):
                never_starts_again_once(findings, Random(seed), seed, strategy, mood, is_machine=is_machine)
    return findings


def never_starts_again_once(
    findings: Findings, random: Random, seed: int, strategy: Strategy, mood: Mood, *, is_machine: bool
) -> None:
    what = f"{strategy}, a {'machine' if is_machine else 'service'} that {mood} at each restart"
    steps = Steps()

    async def scenario() -> None:
        loop, moods = asyncio.get_running_loop(), Moods()
        yard = yard_of(random, moods, strategy, is_machine=is_machine)
        witness = None
        try:
            async with SimulatedSystem(
                children=[Child(Bystander, "b0"), yard, Child(Bystander, "b1")],
                services=moods,
                trace=[steps],
                root=policy(1, first_delay_s=FIRST_PAUSE_S, jitter=JITTER),
            ) as system:
                await asyncio.sleep(1)
                witness = Witness(
                    system, ["b0", "b1"], lambda: round(loop.time() * 1e3), patience=0, rest_s=0.02
                )
                moods.of["bad"] = mood
                await fell(system, moods, is_machine=is_machine)
                await asyncio.sleep(3_600)
        except SystemFailed as error:
            findings.expect("yard was to be restarted, the limit is 1" in str(error), f"{what}: {error}")
        else:
            findings.expect(False, f"{what}: the system goes on")
        assert witness is not None
        try:
            await witness.stop()
        except Exception as error:  # noqa: BLE001 -- it must have been answered, as the system ended
            findings.expect(type(error).__name__ in {"SystemStopping", "SystemFailed"}, f"{what}: {error!r}")
        findings.expect(witness.asks > 10, f"{what}: others were answered {witness.asks} times")
        findings.expect_equal(f"{what}: seconds until others were answered", witness.longest_s, 0.0)
        judge_attempts(findings, what, steps, mood, began=1.0, ended=loop.time())

    simulate(scenario, seed=seed)


async def fell(system: SimulatedSystem[Any], moods: Moods, *, is_machine: bool) -> None:
    """Let the child end: a machine leaves, so that it would be born anew; a service returns."""
    if is_machine:
        await system.tell("bad", Leave()).outcome()
        system.tell("bad", Add())  # it waits for a machine that never comes
    else:
        moods.end("bad")


def judge_attempts(
    findings: Findings, what: str, steps: Steps, mood: Mood, *, began: float, ended: float
) -> None:
    """Its supervisor tries as often as it may, then the one above does, and the pauses are kept."""
    failures = [(who, at) for said, who, at in steps.rows if said == "child_failed" and at > began]
    # So many restarts of the child fail, and the last one that is allowed makes its supervisor give up; then the root
    # restarts this supervisor once, and where the child does not start, it has not started either.
    findings.expect_equal(f"{what}: failures", [who for who, _ in failures].count("bad"), ALLOWED + 1)
    findings.expect_equal(f"{what}: who gave up", steps.of("escalated"), ["yard", "system"])
    hangs_s = START_TIMEOUT_S if mood is Mood.HANGS else 0.0
    pauses = [FIRST_PAUSE_S * 2**n for n in range(ALLOWED)] + [FIRST_PAUSE_S]
    least = sum(pauses) * (1 - JITTER) + (ALLOWED + 1) * hangs_s
    most = sum(pauses) * (1 + JITTER) + (ALLOWED + 1) * hangs_s
    findings.expect(
        least - 1e-9 <= ended - began <= most + 1e-9,
        f"{what}: it took {ended - began:.3f} s instead of {least:.3f} to {most:.3f}",
    )
    for who in ("b0", "b1"):
        findings.expect_equal(f"{what}: starts of {who}", steps.of("started").count(who), 1)
    judge_order(findings, what, steps)


def judge_order(findings: Findings, what: str, steps: Steps) -> None:
    """Whatever starts in a row starts in the order of declaration, whatever stops does so in the reverse order."""
    order = {
        name: place
        for place, name in enumerate(
            ["b0", *(f"a{n}" for n in range(AROUND)), *(f"z{n}" for n in range(AROUND)), "b1"]
        )
    }
    row: list[int] = []
    kind = ""
    for said, who, _ in [*steps.rows, ("end", "yard", 0.0)]:
        if who in order and said == kind:
            row.append(order[who])
        elif (who in order and said in {"started", "stopped"}) or who in {"yard", "system"}:
            backwards = kind == "stopped"
            findings.expect(row == sorted(row, reverse=backwards), f"{what}: {kind} in the order {row}")
            kind, row = said, [order[who]] if who in order else []
