"""P2 is no toy: it finds each planted bug within its budget, and the same seeds are green without it."""

from __future__ import annotations

from functools import cache

import pytest

from tests.campaigns.p2_plants import PLANTS
from tests.campaigns.p2_world import run_seed

BUDGET = 200
"""Of the 4,000 seeds of a build."""


@cache
def is_green(seed: int) -> bool:
    """Return whether the contract is kept without a plant; asked once, for all are looked for in the same seeds."""
    return run_seed(seed).violations == []


@pytest.mark.many
@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_found(name: str) -> None:
    planted, rules = PLANTS[name]
    tried = []
    for seed in range(BUDGET):
        tried.append(seed)
        with planted():
            found = run_seed(seed).violations
        if rules & {violation.rule for violation in found}:
            break
    else:
        pytest.fail(f"{BUDGET} seeds did not find {name}")
    print(f"found after {len(tried)} seeds: {name}: {found[0]}")
    assert all(is_green(seed) for seed in tried)
