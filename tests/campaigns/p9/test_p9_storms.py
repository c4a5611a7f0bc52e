"""P9 in the size of a build: each storm once, and each of them finds what is planted for it."""

from __future__ import annotations

import sys

import pytest

from tests.campaigns import ledger
from tests.campaigns.p9 import signals
from tests.campaigns.p9.__main__ import main
from tests.campaigns.p9.plants import FOUND_BY, PLANTS
from tests.campaigns.p9.storms import STORMS, run_storm

SEEDS = range(ledger.multiplier())
IN_A_PROCESS = {"sigterm_finishes_the_queues", "sigterm_with_too_little_time"}

pytestmark = pytest.mark.slow


def marks(name: str) -> list[pytest.MarkDecorator]:
    rules = {
        "all": ["C16", "C17", "C12", "C7"],
        "one": ["C16", "C17"],
        "never": ["C16", "C17"],
        "children": ["C16"],
        "sigterm": ["C19", "C7"],
    }
    found = [pytest.mark.rule(rule) for rule in rules[name.split("_", maxsplit=1)[0]]]
    if name in IN_A_PROCESS:
        found.append(pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"))
    return found


@pytest.mark.timeout(0 if ledger.multiplier() > 1 else 180)
@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in STORMS])
def test_a_storm_breaks_no_promise(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in SEEDS:
        found = run_storm(name, seed)
        assert found.violations == [], f"seed {seed}"
        with capsys.disabled():
            print(
                f"\nP9 {name} seed={seed}",
                *(f"{key}={value}" for key, value in found.figures.items()),
                end="",
            )


@pytest.mark.timeout(180)
@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_bug_is_found_by_its_storm(plant: str) -> None:
    storm, says = FOUND_BY[plant]
    if storm in IN_A_PROCESS:
        found = getattr(signals, storm)(0, events=20_000, plant=plant)
    else:
        with PLANTS[plant]():
            found = run_storm(storm, 0)
    assert any(says in violation for violation in found.violations), found.violations


def test_the_storms_can_be_run_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "2", "--storm", "never_starts"]) == 0
    assert "P9 seeds=2 storms=1 violations=0 commit=" in capsys.readouterr().out
