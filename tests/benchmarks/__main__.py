"""`python -m tests.benchmarks`: measure all installed contenders and print one table for each workload.

Exit code 1 if a contender lost, repeated or garbled an event; never because something was slow.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .contenders import everyone
from .contenders.fleets import fleets
from .durable import OUTSTANDING, Durable, durable_places, w5_section
from .fleet import Samples
from .fleet_report import GROWTH, SIZES, w3_section, w8_section
from .measure import Plan, measure
from .recovery import GOAL_MACHINES, measure_all, w6_section
from .report import conditions, table, write
from .work import Workload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .measure import Row
    from .report import Section
    from .work import LoopFactory

OF_THEIR_OWN = ("w3", "w5", "w6", "w8")
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
    names = [name.strip() for name in options.workload.split(",")]
    results: list[list[Row]] = []
    for workload in _workloads(names):
        rows = measure(contenders, wanted, workload, plan)
        if rows:
            print(table(rows), end="\n\n", flush=True)
            results.append(rows)
    sections, troubles = _fleets(names, wanted, rounds, quick=options.quick)
    if "w5" in names:
        section = _durable(wanted, rounds, quick=options.quick)
        print(section.text(), end="\n\n", flush=True)
        sections.append(section)
    if "w6" in names:
        section = _recovery(quick=options.quick)
        print(section.text(), end="\n\n", flush=True)
        sections.append(section)
    if options.write is not None and (results or sections):
        print(f"wrote {write(results, where, options.write, sections)}")
    troubles += [row.trouble for rows in results for row in rows if row.trouble]
    return int(any(trouble.startswith("FAILED") for trouble in troubles))


def _fleets(
    names: Sequence[str], wanted: Sequence[str], rounds: int, *, quick: bool
) -> tuple[list[Section], list[str]]:
    """Measure W3 and W8 if they are among the names; a process that served both is run once."""
    chosen = [each for each in fleets() if not wanted or any(each.name.startswith(start) for start in wanted)]
    samples = Samples(chosen, rounds)
    last = -1 if quick else None
    sections: list[Section] = []
    if "w3" in names:
        samples.measure(SIZES[:last])
        sections.append(w3_section(samples, SIZES[:last]))
    if "w8" in names:
        samples.measure(GROWTH[:last], growth=True)
        sections.append(w8_section(samples, GROWTH[:last]))
    for section in sections:
        print(section.text(), end="\n\n", flush=True)
    for name, trouble in samples.troubles.items():
        print(f"{name}  {trouble}")
    return sections, list(samples.troubles.values())


def _durable(wanted: Sequence[str], rounds: int, *, quick: bool) -> Section:
    """Measure W5, round after round."""
    with ExitStack() as stack, _all_cores():
        places = [
            place
            for place in durable_places(stack)
            if not wanted or any(place.name.startswith(start) for start in wanted)
        ]
        found = {
            (place.name, outstanding): Durable(place.name, outstanding)
            for place in places
            for outstanding in OUTSTANDING
        }
        for number in range(rounds):
            print(f"w5: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for place in places:
                for outstanding in OUTSTANDING:
                    found[place.name, outstanding].measure(place, events=1 if quick else None)
    return w5_section(list(found.values()))


@contextmanager
def _all_cores() -> Iterator[None]:
    """Run on any core meanwhile: a store has a thread of its own."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _recovery(*, quick: bool) -> Section:
    """Measure W6, once, a journal of its own for each line. Not pinned to one core: a store has a thread of its own."""
    with _all_cores():
        return w6_section(measure_all(GOAL_MACHINES // 10 if quick else GOAL_MACHINES))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, help="samples of each contender (5, or 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="a quarter of the events: a look, not a figure")
    parser.add_argument(
        "--only", default="", metavar="NAMES", help="comma-separated beginnings of contenders' names"
    )
    parser.add_argument(
        "--workload", default="w1,w2,w4", help="comma-separated: w1, w2, w4 (these three), w3, w5, w6, w8"
    )
    parser.add_argument("--uvloop", action="store_true", help="run the asyncio contenders on uvloop")
    parser.add_argument("--no-pin", action="store_true", help="do not pin this process to one core")
    parser.add_argument(
        "--write", type=Path, metavar="DOCS", help="write DOCS/reference/benchmarks.md and its plot"
    )
    return parser


def _workloads(names: Sequence[str]) -> list[Workload]:
    try:
        return [workload for name in names if name not in OF_THEIR_OWN for workload in WORKLOADS[name]]
    except KeyError as error:
        sys.exit(f"no workload {error}: there are {', '.join([*WORKLOADS, *OF_THEIR_OWN])}")


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
