"""P4 by hand, at every call: `python -m tests.campaigns.p4`."""

from __future__ import annotations

import sys

from tests.campaigns import ledger
from tests.campaigns.p4.campaign import Result, run
from tests.campaigns.p4.faults import FAULTS, SCENARIOS


def report(result: Result, seeds: str) -> str:
    """Enter the figures of a run into the ledger."""
    return ledger.enter(
        "P4",
        seeds=seeds,
        violations=len(result.violations),
        scenarios=len(SCENARIOS),
        faults=len(FAULTS),
        runs=result.runs,
        answers=result.answers,
    )


def main() -> Result:
    """Let every call of every scenario fail in every way."""
    result = run(every_call=True)
    for violation in result.violations:
        print(violation)
    report(result, "all")
    return result


if __name__ == "__main__":
    sys.exit(1 if main().violations else 0)
