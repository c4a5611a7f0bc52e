"""The whole sweep in one process, and its line in the ledger: `python -m tests.campaigns.p1`."""

from __future__ import annotations

import gc
import sys

from actorfsm.testing.faults import ACTIONS, CANCEL_TWICE
from tests.campaigns.ledger import enter
from tests.campaigns.p1.scenarios import SCENARIOS
from tests.campaigns.p1.test_p1_sweep import THOROUGH, swept


def main() -> int:
    """Sweep every scenario on both paths; return how many of them broke the contract."""
    gc.freeze()  # what was imported needs no look each time
    actions = (*ACTIONS, CANCEL_TWICE) if THOROUGH else ACTIONS
    points = runs = violations = 0
    for scenario in SCENARIOS:
        for inline in (True, False):
            try:
                result = swept(scenario, inline=inline, actions=actions)
            except AssertionError as error:
                violations += 1
                print(f"{scenario.name} inline={inline}: {error}")
                continue
            points += len(result.baseline.faults.points)
            runs += len(result.runs)
    figures = {"scenarios": len(SCENARIOS), "points": points, "runs": runs, "twice": THOROUGH}
    enter("P1", seeds=1, violations=violations, **figures)
    return violations


if __name__ == "__main__":
    sys.exit(min(main(), 1))
