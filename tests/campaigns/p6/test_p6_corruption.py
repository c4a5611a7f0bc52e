"""P6 in the size of a build: 500 damaged journals, none of them believed; and each planted bug is found."""

from __future__ import annotations

import pytest

from tests.campaigns import ledger
from tests.campaigns.p6.__main__ import CI_VARIANTS, main, report, run
from tests.campaigns.p6.damage import KINDS
from tests.campaigns.p6.plants import PLANTS


@pytest.mark.slow
@pytest.mark.timeout(0 if ledger.multiplier() > 1 else 300)
@pytest.mark.rule("C27")
def test_a_damaged_journal_is_never_believed_and_costs_only_the_machines_that_it_belongs_to() -> None:
    seeds = range(CI_VARIANTS * ledger.multiplier())
    result = run(seeds)
    report(result, seeds)
    assert result.violations == {}
    assert set(result.kinds) == set(KINDS)
    assert {"JournalCorrupt", "JournalError", "JournalUnusable", "Quarantined"} <= set(result.refused)
    assert result.forgotten < len(seeds) / 20


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_found(name: str) -> None:
    with PLANTS[name]():
        result = run(range(CI_VARIANTS), stop_at_first=True)
    assert result.violations, "no damaged journal showed it"
    print(f"found after {result.kinds.total()} variants: {result.violations}")


def test_the_campaign_can_be_run_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--variants", "3", "--first", "1"])
    assert "P6 seeds=1..3 variants=3" in capsys.readouterr().out
