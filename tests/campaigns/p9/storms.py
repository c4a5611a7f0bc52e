"""All storms by name, each a function of a seed that says what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from tests.campaigns import ledger
from tests.campaigns.p9 import crowds, failures, signals, starts
from tests.campaigns.p9.world import Findings

STORMS: Final[dict[str, Callable[[int], Findings]]] = {
    storm.__name__: storm
    for storm in (
        failures.all_fail_at_once,
        failures.one_failure_too_many,
        failures.all_fail_in_a_deep_tree,
        failures.all_fail_up_to_the_root,
        starts.never_starts,
        starts.never_starts_again,
        crowds.all_timers_are_due_at_once,
        crowds.children_start_restart_and_stop,
        signals.sigterm_finishes_the_queues,
        signals.sigterm_with_too_little_time,
    )
}


def run_storm(name: str, seed: int) -> Findings:
    """Run one storm; what it raises is a violation, too."""
    try:
        return STORMS[name](seed)
    except Exception as error:  # noqa: BLE001 -- a deadlock, an overrun, a broken contract: all are findings
        return Findings([f"{type(error).__name__}: {error}"])


def run(seeds: Iterable[int], names: Iterable[str] = tuple(STORMS)) -> dict[str, list[str]]:
    """Run storms under seeds, print what they found, and enter them into the ledger.

    Returns:
        The violations, by storm and seed.
    """
    seeds, names = list(seeds), list(names)
    broken: dict[str, list[str]] = {}
    figures: dict[str, float] = {}
    for name in names:
        for seed in seeds:
            found = run_storm(name, seed)
            print(
                f"{name} seed={seed}", *(f"{key}={value}" for key, value in found.figures.items()), flush=True
            )
            if found.violations:
                broken[f"{name} seed={seed}"] = found.violations
                print(*found.violations, sep="\n  ", flush=True)
            for key in ("between", "step", "start_ratio", "restart_ratio", "stop_ratio"):
                if key in found.figures:
                    figures[f"most_{key}"] = max(figures.get(f"most_{key}", 0), found.figures[key])
    ledger.enter(
        "P9", seeds=len(seeds), storms=len(names), violations=sum(map(len, broken.values())), **figures
    )
    return broken
