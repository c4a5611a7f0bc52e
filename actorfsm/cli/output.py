"""What the commands print: tables for people, JSON for programs, progress for whoever waits."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from actorfsm.shown import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Progress", "json_line", "lasted", "print_json", "table", "time_of"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def time_of(at_us: int) -> str:
    """Return a time of the journal for people."""
    try:
        return (_EPOCH + timedelta(microseconds=at_us)).isoformat(sep=" ", timespec="milliseconds")[:23]
    except OverflowError:
        return f"{at_us} µs"


def lasted(us: int) -> str:
    """Return a duration for people."""
    return str(timedelta(microseconds=us))[:-3] if us % 1_000_000 else str(timedelta(microseconds=us))


def json_line(value: Any) -> str:
    """Return a value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def print_json(value: Any) -> None:
    """Print a value as JSON, for people to read too."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table."""
    printed = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        printed.add_row(*(escape(shown(str(cell))) for cell in row))
    is_terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, width=None if is_terminal else 10_000, highlight=False)
    with console.capture() as captured:
        console.print(printed)
    # Cells are filled up to the width of their column, the last of a line too: nobody needs that.
    sys.stdout.write("".join(f"{line.rstrip(' ')}\n" for line in captured.get().splitlines()))


class Progress:
    """How far long work has come, on the standard error, if that is a terminal."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._shown = False

    def __call__(self, count: int) -> None:
        """Show how far it has come, now and then."""
        if count % 10_000 == 0 and sys.stderr.isatty():
            self._shown = True
            sys.stderr.write(f"\r{count:,} {self._what}")
            sys.stderr.flush()

    def end(self) -> None:
        """Leave an empty line behind."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
