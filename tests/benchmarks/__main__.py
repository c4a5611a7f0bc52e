"""`python -m tests.benchmarks`: measure all installed contenders and print one table for each workload.

Exit code 1 if a contender lost, repeated or garbled an event; never because something was slow.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .contenders import everyone
from .measure import Plan, measure
from .report import conditions, table, write
from .work import Workload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .work import LoopFactory

WORKLOADS = {"w1": [Workload.ASK], "w2": [Workload.ROUND, Workload.BURST], "w4": [Workload.HOT]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the command line says."""
    options = _parser().parse_args(arguments)
    if not options.no_pin:
        _pin()
    scale, rounds = (0.25, options.rounds or 3) if options.quick else (1.0, options.rounds or 5)
    plan = Plan(rounds=rounds, scale=scale, loop_factory=_uvloop() if options.uvloop else None)
    where = conditions(rounds, "uvloop" if options.uvloop else "asyncio")
    print(where, end="\n\n")
    contenders = everyone()
    wanted = [name.strip() for name in options.only.split(",") if name.strip()]
    results = []
    for workload in _workloads(options.workload):
        rows = measure(contenders, wanted, workload, plan)
        if rows:
            print(table(rows), end="\n\n", flush=True)
            results.append(rows)
    if options.write is not None and results:
        print(f"wrote {write(results, where, options.write)}")
    return int(any((row.trouble or "").startswith("FAILED") for rows in results for row in rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, help="samples of each contender (5, or 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="a quarter of the events: a look, not a figure")
    parser.add_argument(
        "--only", default="", metavar="NAMES", help="comma-separated beginnings of contenders' names"
    )
    parser.add_argument("--workload", default="w1,w2,w4", help="comma-separated: w1, w2, w4 (all)")
    parser.add_argument("--uvloop", action="store_true", help="run the asyncio contenders on uvloop")
    parser.add_argument("--no-pin", action="store_true", help="do not pin this process to one core")
    parser.add_argument(
        "--write", type=Path, metavar="DOCS", help="write DOCS/reference/benchmarks.md and its plot"
    )
    return parser


def _workloads(names: str) -> list[Workload]:
    try:
        return [workload for name in names.split(",") for workload in WORKLOADS[name.strip()]]
    except KeyError as error:
        sys.exit(f"no workload {error}: there are {', '.join(WORKLOADS)}")


def _pin() -> None:
    """Stay on one core where the system can do that: no migration in the middle of a sample."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _uvloop() -> LoopFactory:
    try:
        import uvloop
    except ImportError:
        sys.exit("uvloop is not installed")
    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main())
