"""Bugs planted into the runtime are found by P1 and P5 as they are, within what they do in CI.

That the same scenarios of P1 and the same examples of P5 find nothing where nothing is planted are the tests in
`test_p1_sweep` and `test_p5_model`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from actorfsm.testing.faults import ACTIONS
from actorfsm.testing.loop import SimDeadlock
from tests.campaigns import planted_time_and_trees  # noqa: F401 -- enters its plants into the list
from tests.campaigns.p1.scenarios import SCENARIOS, Scenario
from tests.campaigns.p1.test_p1_sweep import swept
from tests.campaigns.p5.test_p5_model import campaign
from tests.campaigns.planted_p1_p5 import CRASHES, PLANTS, Plant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from actorfsm.testing.faults import Action


def planted(programme: str) -> Callable[..., None]:
    return pytest.mark.parametrize(
        "plant", [plant for plant in PLANTS if programme in plant.found_by], ids=lambda plant: plant.name
    )


def first_violation() -> tuple[Scenario, bool, AssertionError] | None:
    """Run the sweep, scenario after scenario on both paths, until something is found; those without a fault first."""
    without_faults: Sequence[Action] = ()
    for actions in (without_faults, ACTIONS):
        for scenario in SCENARIOS:
            for inline in (True, False):
                try:
                    swept(scenario, inline=inline, actions=actions)
                except AssertionError as error:
                    return scenario, inline, error
    return None


@pytest.mark.slow
@pytest.mark.timeout(300)
@planted("P1")
def test_the_sweep_finds_a_planted_bug(plant: Plant) -> None:
    with pytest.MonkeyPatch.context() as patch:
        CRASHES.clear()
        plant.plant(patch)
        found = first_violation()
    assert found is not None, f"{plant.name} was not found"
    assert not CRASHES, f"{plant.name} is broken itself: {CRASHES[0]!r}"
    scenario, inline, error = found
    print(f"P1 planted={plant.name} found_by={scenario.name} inline={inline}: {str(error).splitlines()[1]}")


@pytest.mark.slow
@pytest.mark.timeout(300)
@planted("P5")
def test_the_model_finds_a_planted_bug(plant: Plant) -> None:
    with pytest.MonkeyPatch.context() as patch:
        CRASHES.clear()
        plant.plant(patch)
        with pytest.raises((AssertionError, SimDeadlock)) as found:
            campaign()
    assert not CRASHES, f"{plant.name} is broken itself: {CRASHES[0]!r}"
    print(f"P5 planted={plant.name} found: {str(found.value).splitlines()[0][:150]}")
