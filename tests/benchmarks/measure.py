"""How the numbers are made: `a` before every contender, round after round, and ratios of neighbours.

A machine that is shared with others is faster in one second and slower in the next. So each sample of a
contender is divided by the sample of `a` taken just before it in the same process, and the median of these
ratios is what counts; rates are for orientation.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING

from .work import Load, Workload, verify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .work import Contender, LoopFactory

ANCHOR = "a"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How often and how much."""

    rounds: int = 5
    scale: float = 1.0
    loop_factory: LoopFactory | None = None

    def load(self, workload: Workload, share: float) -> Load:
        machines, senders, events = (1, 1, 20_000) if workload is Workload.HOT else (1_000, 100, 40)
        return Load(
            machines=machines,
            senders=senders,
            events=math.ceil(events * share * self.scale / 2) * 2 + 1,
            loop_factory=self.loop_factory,
        )

    def warm_up(self, workload: Workload) -> Load:
        return replace(self.load(workload, 0.0), events=3)


@dataclass(slots=True)
class Row:
    """What was measured of one contender in one workload."""

    contender: Contender
    workload: Workload
    rates: list[float] = field(default_factory=list)
    to_anchor: list[float] = field(default_factory=list)
    to_baseline: list[float] = field(default_factory=list)
    trouble: str | None = None

    @property
    def rate(self) -> float:
        return median(self.rates)

    @property
    def ratio(self) -> float:
        return median(self.to_anchor)

    @property
    def own_ratio(self) -> float:
        return median(self.to_baseline)

    @property
    def goal(self) -> float | None:
        return self.contender.goals.get(self.workload)


def measure(
    contenders: Sequence[Contender], wanted: Sequence[str], workload: Workload, plan: Plan
) -> list[Row]:
    """Run the contenders whose names begin with one of `wanted` (all, if empty), and what they are compared with.

    A contender that fails or ends elsewhere than it must is named with its trouble, and the others go on.
    """
    rows = {each.name: Row(each, workload) for each in contenders if workload in each.workloads}
    chosen = [row for row in rows.values() if not wanted or any(_named(row, start) for start in wanted)]
    needed = {ANCHOR} | {name for row in chosen for name in (row.contender.name, row.contender.baseline)}
    for row in (rows[name] for name in rows if name in needed):
        row.trouble = _skipped(row) or _try(row, plan.warm_up(workload))
    for number in range(plan.rounds):
        print(f"{workload}: round {number + 1} of {plan.rounds}", file=sys.stderr, flush=True)
        for row in chosen:
            if row.trouble is None:
                _sample(row, rows, plan)
    return chosen


def _named(row: Row, start: str) -> bool:
    return row.contender.name == start or (
        len(start) > 1 and row.contender.name.lower().startswith(start.lower())
    )


def _skipped(row: Row) -> str | None:
    reason = row.contender.missing()
    return None if reason is None else f"skipped: {reason}"


def _sample(row: Row, rows: dict[str, Row], plan: Plan) -> None:
    """The references first, then the contender: A B A B."""
    anchor = _rate(rows[ANCHOR], plan)
    if row is rows[ANCHOR]:
        row.rates.append(anchor)
        row.to_anchor.append(1.0)
        row.to_baseline.append(1.0)
        return
    baseline = anchor if row.contender.baseline == ANCHOR else _rate(rows[row.contender.baseline], plan)
    try:
        rate = _rate(row, plan)
    except Exception as error:  # noqa: BLE001 one broken contender must not end the measurement
        row.trouble = _sentence(error)
        return
    row.rates.append(rate)
    row.to_anchor.append(rate / anchor)
    row.to_baseline.append(rate / baseline)


def _rate(row: Row, plan: Plan) -> float:
    """Events per second of one run, verified."""
    load = plan.load(row.workload, row.contender.share)
    run = row.contender.run(row.workload, load)
    verify(row.contender.name, run, load)
    return load.total_events / run.seconds


def _try(row: Row, load: Load) -> str | None:
    try:
        verify(row.contender.name, row.contender.run(row.workload, load), load)
    except Exception as error:  # noqa: BLE001 as above
        return _sentence(error)
    return None


def _sentence(error: Exception) -> str:
    return f"FAILED: {type(error).__name__}: {error}"
