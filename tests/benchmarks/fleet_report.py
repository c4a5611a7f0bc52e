"""The tables of W3 and W8."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .contenders.fleets import FIELDS
from .report import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .fleet import FleetContender, Samples

OURS = "actorfsm"
SIZES = (100_000, 1_000_000)
GROWTH = (1_000, 10_000, 100_000, 1_000_000)
MAY_GROW = 1.3
MAX_OVERHEAD, MAX_SECONDS, MAX_MB = 250, 5, 650

ABOUT_W3 = """\
Each line is a fleet in a process of its own, with data of its own for each machine. Seconds are of the clock, CPU
seconds of this process; *× a* says how many times less CPU time than `a` a birth takes. Bytes are resident: what the
process has grown by, divided by the number of machines, so that ids, registry and data are in it. *Beyond data* leaves
out what the four fields take by themselves, *B used* is after the machine's first event."""
ABOUT_W8 = """\
Microseconds of CPU time for one birth and for one ask (as in W1) in a fleet of that size. *Growth* is the last figure
divided by the first."""


def w3_section(samples: Samples, sizes: Sequence[int] = SIZES) -> Section:
    """Seconds and bytes."""
    head = (
        "contender",
        "machines",
        "seconds",
        "CPU s",
        "× a",
        "B idle",
        "beyond data",
        "B used",
        "MB",
        "goal",
    )
    lines = [_fleet(samples, each, machines) for machines in sizes for each in samples.contenders]
    return Section("W3 fleet: many machines at once", ABOUT_W3, head, [line for line in lines if line])


def _fleet(samples: Samples, contender: FleetContender, machines: int) -> tuple[str, ...] | None:
    def of(name: str, figure: str) -> float | None:
        return samples.middle(name, machines, figure)

    name = contender.name
    spawn_us, cpu_us, idle = of(name, "spawn_us"), of(name, "spawn_cpu_us"), of(name, "idle_bytes")
    resident = of(name, "resident_mb")
    if spawn_us is None or cpu_us is None or idle is None or resident is None:
        return None
    seconds = spawn_us * machines / 1e6
    anchor, fields, used = of("a", "spawn_cpu_us"), of(FIELDS, "idle_bytes"), of(name, "used_bytes")
    goal, beyond = "", ""
    if fields is not None and name != FIELDS:
        beyond = f"{idle - fields:,.0f}"
        if name == OURS:
            met = idle - fields <= MAX_OVERHEAD
            goal = f"≤ {MAX_OVERHEAD} B {_said(met)}"
            if machines >= SIZES[-1]:
                goal += f", ≤ {MAX_SECONDS} s {_said(seconds <= MAX_SECONDS)}"
                goal += f", ≤ {MAX_MB} MB {_said(resident <= MAX_MB)}"
    return (
        name,
        f"{machines:,}",
        f"{seconds:.2f}",
        f"{cpu_us * machines / 1e6:.2f}",
        "" if anchor is None else f"{anchor / cpu_us:.1f}",
        f"{idle:,.0f}",
        beyond,
        "" if used is None else f"{used:,.0f}",
        f"{resident:,.0f}",
        goal,
    )


def w8_section(samples: Samples, sizes: Sequence[int] = GROWTH) -> Section:
    """Growth of the cost with the size of the fleet."""
    head = ("contender", "µs for", *(f"{machines:,}" for machines in sizes), "growth", "goal")
    lines: list[tuple[str, ...]] = []
    for contender in samples.contenders:
        for what, figure in (("a birth", "spawn_cpu_us"), ("an ask", "event_cpu_us")):
            found = [samples.middle(contender.name, machines, figure) for machines in sizes]
            costs = [cost for cost in found if cost is not None]
            if len(costs) < len(sizes) or not contender.grows:
                continue
            growth = costs[-1] / costs[0]
            goal = f"≤ {MAY_GROW} {_said(growth <= MAY_GROW)}" if contender.name.startswith(OURS) else ""
            lines.append((contender.name, what, *(f"{cost:.2f}" for cost in costs), f"{growth:.2f}", goal))
    return Section(
        "W8 growth: the same with ten, a hundred and a thousand times as many", ABOUT_W8, head, lines
    )


def _said(met: bool) -> str:
    return "yes" if met else "no"
