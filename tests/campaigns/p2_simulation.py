"""P2: machines of several classes under simulation, seed after seed, each judged by the checker.

    python -m tests.campaigns.p2_simulation --seeds 2000000 --workers 2

runs any number of seeds; the tests run those of a build. Each seed has at least 200 events of at least five machines.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from actorfsm import Restart, Strategy, TimerScope
from actorfsm.runtime.tasks import EAGER
from tests.campaigns import ledger
from tests.campaigns.p2_world import EVENTS, run_seed

if TYPE_CHECKING:
    from collections.abc import Iterable

USUAL_SEEDS: Final = 20_000
REQUIRED_TIMES: Final = 100
"""How often each thing of `REQUIRED` must have been reached in `USUAL_SEEDS` seeds."""

COLLECT_EVERY: Final = 50
"""Seeds between two collections of garbage: one after each would take a fifth of the time."""

REQUIRED: Final = (
    *(
        f"outcome {name}"
        for name in ("committed", "vetoed", "unhandled", "failed", "expired", "dead_lettered")
    ),
    *(
        "outcome quarantined",
        "outcome released",
        "outcome restarted",
        "outcome stopped",
        "outcome callback_failed",
    ),
    *(f"directive {name}" for name in ("resume", "restart", "stop")),
    *(
        "error AskCycle",
        "error AskTimeout",
        "error DefinitionError",
        "error EventIdConflict",
        "error Expired",
    ),
    *(
        "error HookFailed",
        "error InvalidData",
        "error InvalidEvent",
        "error MachineExists",
        "error MachineStopped",
    ),
    *(
        "error MailboxFull",
        "error NoSuchMachine",
        "error Quarantined",
        "error StaleTurn",
        "error SystemFailed",
    ),
    *("error SystemStopping", "error Unhandled", "error Unsupported", "error Vetoed", "error WrongThread"),
    *(
        "refused Discarded",
        "refused MailboxFull",
        "refused Quarantined",
        "cause InvalidData",
        "after-hook: ReadOnly",
    ),
    *("ask cycle of 1", "ask cycle of 2", "duplicate", "late replies", "hook that refuses to be cancelled"),
    *(f"caller cancelled {when}" for when in ("before its turn", "during its turn", "after its outcome")),
    *("birth: Vetoed", "birth: HookFailed", "birth: InvalidData", "respawned", "events abandoned"),
    *("released", "released without its mail", "outcome sent to a machine", "callback called"),
    *("turns from the mailbox", "turns inside a plain ask", *(["turns inside an ask"] if EAGER else [])),
    # the tree
    *(f"{strategy} x {restart}" for strategy in Strategy for restart in Restart),
    *("escalation to a parent", "escalation to the root", "escalation of the root"),
    *("failed start", "failed restart", "hanging start", "system that did not start", "came to rest"),
    "service that refuses to be cancelled",
    # time and work
    *("timer of the state fired", "timer of the state cancelled", "timer that comes again"),
    *(f"timer of scope {scope} {end}" for scope in TimerScope for end in ("fired", "cancelled")),
    *(f"job {end}" for end in ("finished", "failed", "too slow", "cancelled", "given up")),
    *("job begun again", "job failed and nobody told", "blocking hook"),
    # watch, suspend
    *("Terminated delivered", "Terminated of one that was not there"),
    *("outcome suspended", "outcome resumed", "suspended mail kept", "outcome job_failed"),
)
"""What a campaign must reach, or it shows nothing: see `World.reached`."""


@dataclass(slots=True)
class Tally:
    """What a run of seeds came to."""

    seeds: int = 0
    events: int = 0
    violations: int = 0
    reached: Counter[str] = field(default_factory=Counter)
    broken: dict[int, list[str]] = field(default_factory=dict)
    """By seed, its violations as text, and the end of its trace."""

    def add(self, other: Tally) -> None:
        self.seeds += other.seeds
        self.events += other.events
        self.violations += other.violations
        self.reached += other.reached
        self.broken |= other.broken

    def missing(self) -> list[str]:
        """Return what was not reached as often as this many seeds must reach it."""
        wanted = REQUIRED_TIMES * self.seeds / USUAL_SEEDS
        return [
            f"{name}: {self.reached[name]} of {wanted:g}" for name in REQUIRED if self.reached[name] < wanted
        ]


def run(seeds: Iterable[int]) -> Tally:
    """Run seeds one after the other."""
    tally = Tally()
    was_on = gc.isenabled()
    is_frozen = gc.get_freeze_count() > 0
    gc.collect()
    gc.freeze()  # so that what was there before is not looked at again
    gc.disable()
    try:
        for seed in seeds:
            result = run_seed(seed)
            if tally.seeds % COLLECT_EVERY == 0:
                gc.collect()
            tally.seeds += 1
            tally.events += result.events
            tally.reached += result.reached
            tally.violations += len(result.violations)
            if result.violations:
                tally.broken[seed] = [*map(str, result.violations), *result.lines[-20:]]
            result.let_go()
    finally:
        if not is_frozen:
            gc.unfreeze()
        if was_on:
            gc.enable()
    return tally


def run_chunk(size: int, first: int) -> Tally:
    """Run `size` seeds from `first` on."""
    return run(range(first, first + size))


def report(tally: Tally) -> str:
    """Return what was reached, as text."""
    return "\n".join(f"{tally.reached[name]:>12,} {name}" for name in sorted(tally.reached))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=USUAL_SEEDS)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args(arguments)
    size = max(1, min(500, options.seeds // options.workers))
    starts = range(options.first, options.first + options.seeds, size)
    tally = Tally()
    with ProcessPoolExecutor(options.workers) as pool:
        for part in pool.map(partial(run_chunk, size), starts):
            tally.add(part)
            for seed, found in part.broken.items():
                print(f"seed {seed}:", *found, sep="\n  ", flush=True)
    print(report(tally))
    missing = tally.missing()
    if missing:
        print("not reached often enough:", *missing, sep="\n  ")
    ledger.enter("P2", seeds=tally.seeds, events=tally.events, violations=tally.violations)
    assert tally.events >= EVENTS * tally.seeds
    return 1 if tally.broken or missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
