"""P4 in the size of a build: each fault at some of the calls of each scenario; and each planted bug is found."""

from __future__ import annotations

import pytest

from tests.campaigns import ledger
from tests.campaigns.disk import shim
from tests.campaigns.p4.__main__ import report
from tests.campaigns.p4.campaign import run
from tests.campaigns.p4.faults import FAULTS, SCENARIOS
from tests.campaigns.p4.plants import PLANTS

pytestmark = pytest.mark.slow


@pytest.mark.timeout(0 if ledger.multiplier() > 1 else 300)
@pytest.mark.rule("C23")
@pytest.mark.rule("C25")
def test_whatever_call_of_the_disk_fails_each_ask_is_told_the_truth_and_all_goes_on_when_it_is_mended() -> (
    None
):
    shim.needed()
    result = run(every_call=ledger.multiplier() > 1)
    report(result, "all" if ledger.multiplier() > 1 else "some")
    assert result.violations == []
    assert result.runs >= 3 * len(FAULTS) * len(SCENARIOS)
    assert result.answers > 5 * result.runs


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_found(name: str) -> None:
    shim.needed()
    result = run(every_call=False, plant=name)
    assert result.violations, f"{result.runs} runs did not find it"
    assert not any("hung" in violation for violation in result.violations)
    print(f"found after {result.runs} runs: {result.violations[0]}")
