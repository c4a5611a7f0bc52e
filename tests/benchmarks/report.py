"""The table on the terminal, and the page with a table and a plot for the documentation."""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from .work import Workload

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .measure import Row

HEAD = ("contender", "events/s", "× a", "from", "to", "× baseline", "goal", "actorfsm is")
OURS = "actorfsm: inline"
PACKAGES = ("actorfsm", "pydantic", "structlog", "transitions", "python-statemachine", "pykka", "uvloop")
TITLES = {
    Workload.ASK: "W1 ask: 1,000 machines, 100 senders, one outstanding ask each",
    Workload.ROUND: "W2 tell, round: one event per machine, then one turn of the loop",
    Workload.BURST: "W2 tell, burst: all events at once, then drain",
    Workload.HOT: "W4 hot: one machine, one caller, one ask after the other",
}

ABOUT = """\
Made by `python -m tests.benchmarks --write docs`. `a` is raw asyncio: a task and a queue for each machine, a
future for each ask. A ratio is the median over the rounds, each sample divided by the sample of `a` taken
just before it in the same run; *from* and *to* are the lowest and the highest. *× baseline* compares with the
variant of `a` that does the same. Rates are for orientation only. `tests/benchmarks/README.md` says what each
contender does."""


@dataclass(frozen=True, slots=True)
class Section:
    """A table that is not one of rates: its columns are its own, the first is text and the rest are figures."""

    title: str
    about: str
    head: tuple[str, ...]
    lines: Sequence[tuple[str, ...]]

    def text(self) -> str:
        """For the terminal."""
        every = [self.head, *self.lines]
        widths = [max(len(line[column]) for line in every) for column in range(len(self.head))]
        return "\n".join([self.title, *(_aligned(line, widths) for line in every)])

    def markdown(self, where: str) -> str:
        """For the page, with where it was measured."""
        rule = ("---", *["---:"] * (len(self.head) - 1))
        table_lines = "\n".join(f"| {' | '.join(line)} |" for line in (self.head, rule, *self.lines))
        return f"{self.about}\n\nMeasured with {where}.\n\n{table_lines}"


SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
    ' font-family="sans-serif" font-size="12">'
)


def cells(row: Row, ours: float | None) -> tuple[str, ...]:
    """One line of the table as text."""
    if row.trouble is not None:
        return (row.contender.name, row.trouble, *[""] * (len(HEAD) - 2))
    goal = "" if row.goal is None else f"≥ {row.goal:g} {'yes' if row.own_ratio >= row.goal else 'no'}"
    baseline = "" if row.contender.baseline == "a" else f"{row.own_ratio:.2f}"
    lead = "" if ours is None or "actorfsm" in row.contender.name else f"{ours / row.ratio:.1f} ×"
    low, high = min(row.to_anchor), max(row.to_anchor)
    return (
        row.contender.name,
        f"{row.rate:,.0f}",
        f"{row.ratio:.2f}",
        f"{low:.2f}",
        f"{high:.2f}",
        baseline,
        goal,
        lead,
    )


def our_ratio(rows: Sequence[Row]) -> float | None:
    """The ratio to `a` of actorfsm as it comes."""
    found = [row.ratio for row in rows if row.contender.name == OURS and row.trouble is None]
    return found[0] if found else None


def table(rows: Sequence[Row]) -> str:
    """For the terminal: aligned columns; troubles run to the end of the line."""
    body = [cells(row, our_ratio(rows)) for row in rows]
    measured = [HEAD, *(line for row, line in zip(rows, body, strict=True) if row.trouble is None)]
    widths = [max(len(line[column]) for line in measured) for column in range(len(HEAD))]
    widths[0] = max(len(line[0]) for line in [HEAD, *body])
    lines = [TITLES[rows[0].workload], _aligned(HEAD, widths)]
    for row, line in zip(rows, body, strict=True):
        lines.append(_aligned(line, widths) if row.trouble is None else f"{line[0]:<{widths[0]}}  {line[1]}")
    return "\n".join(lines)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = line
    tail = "  ".join(f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
    return f"{first:<{widths[0]}}  {tail}".rstrip()


def conditions(rounds: int, loop: str) -> str:
    """Where the numbers come from, in one line."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"{python}, {loop}, {system}, {rounds} rounds; {', '.join(found)}"


def write(results: Sequence[Sequence[Row]], where: str, docs: Path, sections: Sequence[Section] = ()) -> Path:
    """Write what was measured to `reference/benchmarks.md` below `docs`; what the page has besides stays.

    Returns:
        The page's path.
    """
    page = docs / "reference" / "benchmarks.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    head, found = _read(page)
    if results:
        head = "\n\n".join(
            [
                "# Benchmarks",
                ABOUT,
                f"Measured with {where}.",
                "![Ratio to raw asyncio, logarithmic scale](benchmarks.svg)",
            ]
        )
        page.with_suffix(".svg").write_text(plot(results[0]), encoding="utf-8")
    found |= {TITLES[rows[0].workload]: _markdown(rows) for rows in results}
    found |= {section.title: section.markdown(where) for section in sections}
    parts = [head, *(f"## {title}\n\n{found[title]}" for title in sorted(found, key=_place))]
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return page


def _read(page: Path) -> tuple[str, dict[str, str]]:
    """Return what a page says before its first heading, and its sections by title."""
    if not page.exists():
        return "# Benchmarks", {}
    head, *sections = page.read_text(encoding="utf-8").strip().split("\n\n## ")
    return head, {title: text for title, _, text in (section.partition("\n\n") for section in sections)}


def _place(title: str) -> tuple[str, int]:
    """W1 before W2, and round before burst."""
    known = list(TITLES.values())
    return title.partition(" ")[0], known.index(title) if title in known else 0


def _markdown(rows: Sequence[Row]) -> str:
    measured = [row for row in rows if row.trouble is None]
    lines = [HEAD, ("---", *["---:"] * (len(HEAD) - 1)), *(cells(row, our_ratio(rows)) for row in measured)]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    troubles = [f"{row.contender.name} ({row.trouble})" for row in rows if row.trouble is not None]
    return f"{text}\n\nNot measured: {'; '.join(troubles)}." if troubles else text


def plot(rows: Sequence[Row]) -> str:
    """Bars of the ratio to `a` on a logarithmic scale; `a` is the line at 1."""
    bars = [row for row in rows if row.trouble is None]
    left, width, step = 230, 460, 24
    height = 60 + step * len(bars)
    low, high = math.log10(0.02), math.log10(20)

    def across(ratio: float) -> float:
        return left + width * (min(max(math.log10(ratio), low), high) - low) / (high - low)

    parts = [
        SVG.format(width=left + width + 70, height=height),
        f"<title>{escape(TITLES[rows[0].workload])}: ratio to raw asyncio</title>",
        f'<rect width="{left + width + 70}" height="{height}" fill="#ffffff"/>',
    ]
    for mark in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20):
        x, colour = across(mark), "#444444" if mark == 1 else "#dddddd"
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="20" y2="{height - 30}" stroke="{colour}"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{height - 14}" text-anchor="middle" fill="#444444">{mark:g}</text>'
        )
    for number, row in enumerate(bars):
        parts += _bar(row, across(1), across(row.ratio), left, 26 + step * number)
    return "\n".join([*parts, "</svg>", ""])


def _bar(row: Row, one: float, end: float, left: int, top: int) -> list[str]:
    colour = "#2f6f9f" if row.contender.name.startswith("actorfsm") else "#a8a8a8"
    return [
        f'<text x="{left - 8}" y="{top + 12}" text-anchor="end" fill="#222222">{escape(row.contender.name)}</text>',
        f'<rect x="{min(one, end):.1f}" y="{top}" width="{max(abs(end - one), 1):.1f}" height="16" fill="{colour}"/>',
        f'<text x="{max(one, end) + 5:.1f}" y="{top + 12}" fill="#222222">{row.ratio:.2f}</text>',
    ]
