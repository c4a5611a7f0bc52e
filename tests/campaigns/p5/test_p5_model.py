"""P5: the runtime against a model of the contract, driven by Hypothesis."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.campaigns.ledger import enter
from tests.campaigns.p5.against import FIGURES, AgainstModel

CAMPAIGN = max(1, int(os.environ.get("ACTORFSM_CAMPAIGN", "1")))
EXAMPLES, STEPS = 300 * CAMPAIGN, 50


def campaign(examples: int = EXAMPLES, over: type[RuleBasedStateMachine] = AgainstModel) -> None:
    """Run the campaign; the first disagreement raises. The same examples each time, unless ACTORFSM_CAMPAIGN is set."""
    run_state_machine_as_test(
        over,
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
