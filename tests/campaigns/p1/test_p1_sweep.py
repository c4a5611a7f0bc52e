"""P1: each scenario, on both paths, with a cancellation and each evil exception at each of its awaits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from actorfsm.testing.faults import ACTIONS, CANCEL_TWICE, Sweep, sweep
from tests.campaigns.p1.scenarios import SCENARIOS, Scenario
from tests.campaigns.p1.world import World, judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actorfsm.testing.faults import Action, Faults, Run

THOROUGH = int(os.environ.get("ACTORFSM_CAMPAIGN", "1")) > 1


def swept(
    scenario: Scenario, *, inline: bool, seed: int = 0, actions: Sequence[Action] = ACTIONS
) -> Sweep[Any]:
    """Sweep one scenario on one path; the first violation raises."""
    worlds: list[World] = []

    async def play(faults: Faults) -> None:
        worlds[:] = [world] = [scenario.world(faults, inline=inline)]
        await world.live(scenario.play)

    def check(run: Run[Any]) -> None:
        if worlds:  # else the main task was cancelled before its first step: there was no world
            judge(run, worlds.pop())

    return sweep(play, actions=actions, check=check, seed=seed)


@pytest.mark.slow
@pytest.mark.rule("C2")
@pytest.mark.rule("C7")
@pytest.mark.rule("C8")
@pytest.mark.rule("C13")
@pytest.mark.rule("C15")
@pytest.mark.rule("C16")
@pytest.mark.rule("C17")
@pytest.mark.rule("C18")
@pytest.mark.rule("C19")
@pytest.mark.rule("C20")
@pytest.mark.rule("C22")
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_no_fault_at_any_await_breaks_the_contract(scenario: Scenario, inline: bool) -> None:
    actions = (*ACTIONS, CANCEL_TWICE) if THOROUGH else ACTIONS
    result = swept(scenario, inline=inline, actions=actions)
    path = "inline" if inline else "queued"
    print(f"P1 {scenario.name} path={path} {result} violations=0")


def test_there_are_at_least_a_hundred_scenarios() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS) >= 100
