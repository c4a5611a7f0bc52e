"""P6: `python -m tests.campaigns.p6 --variants 20000`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.campaigns import ledger
from tests.campaigns.disk import IN_MEMORY
from tests.campaigns.p6.world import World

__all__ = ["CI_VARIANTS", "Result", "main", "report", "run"]

CI_VARIANTS = 500


@dataclass
class Result:
    """What was done and found.

    Attributes:
        kinds: How often a file was damaged in each way.
        refused: What was answered instead of a machine or a reply, by error.
        forgotten: Event ids that were applied again, because of what only a look at the whole journal finds.
        violations: By seed.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    refused: dict[str, int] = field(default_factory=dict)
    forgotten: int = 0
    violations: dict[int, list[str]] = field(default_factory=dict)


def run(seeds: range, *, stop_at_first: bool = False) -> Result:
    """Damage a journal in as many ways as there are seeds."""
    result = Result()
    with tempfile.TemporaryDirectory(prefix="p6-", dir=IN_MEMORY) as folder:
        world = World(Path(folder))
        for seed in seeds:
            done, broken = world.run(seed)
            result.kinds[done.what.partition(":")[0]] += 1
            if broken:
                result.violations[seed] = [f"{done.what}: {one}" for one in broken]
                if stop_at_first:
                    break
        result.refused, result.forgotten = world.refused, world.forgotten
    return result


def report(result: Result, seeds: range) -> str:
    """Enter the figures of a run into the ledger."""
    return ledger.enter(
        "P6",
        seeds=f"{seeds[0]}..{seeds[-1]}",
        violations=sum(map(len, result.violations.values())),
        variants=result.kinds.total(),
        refused=sum(result.refused.values()),
        forgotten_ids=result.forgotten,
    )


def main(arguments: list[str] | None = None) -> Result:
    """Run the programme and return what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", type=int, default=CI_VARIANTS)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args(arguments)
    seeds = range(given.first, given.first + given.variants)
    result = run(seeds)
    for seed, broken in result.violations.items():
        print(f"seed {seed}:", *broken, sep="\n  ")
    report(result, seeds)
    return result


if __name__ == "__main__":
    sys.exit(1 if main().violations else 0)
