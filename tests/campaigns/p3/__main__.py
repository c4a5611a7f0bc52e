"""P3 by hand: `python -m tests.campaigns.p3 --kills 20000`."""

from __future__ import annotations

import argparse
import sys

from tests.campaigns import ledger
from tests.campaigns.p3.campaign import Campaign, Result


def report(result: Result, seed: int) -> str:
    """Enter the figures of a run into the ledger."""
    return ledger.enter(
        "P3",
        seeds=seed,
        violations=len(result.violations),
        kills=result.kills.total(),
        random=result.kills["random"],
        in_flight=f"{result.share_in_flight:.0%}",
        named=result.kills["named"],
        calls=result.kills["call"],
        answers=result.answers,
        power_losses=result.losses,
    )


def main(arguments: list[str] | None = None) -> Result:
    """Run the programme and return what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=2_000)
    parser.add_argument("--losses", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=1e9, help="no more kills after that")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    with Campaign(given.seed) as campaign:
        campaign.run(given.kills, given.seconds)
        campaign.lose_power(given.losses)
        for violation in campaign.result.violations:
            print(violation)
        report(campaign.result, given.seed)
    return campaign.result


if __name__ == "__main__":
    sys.exit(1 if main().violations else 0)
