"""The ledger: one line for each campaign that was run, with its figures and the commit it was run on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "explanation" / "ledger.md"
ASKED_BY: Final = "ACTORFSM_LEDGER"
"""Set to anything, this variable has the line appended to the page; otherwise it is only printed."""


def enter(programme: str, *, seeds: str | int, violations: int, **figures: object) -> str:
    """Print a campaign's line, and append it to the ledger page if the environment asks for it.

    Args:
        programme: P1, P2, ...
        seeds: How many, or which.
        violations: How many promises were found broken.
        figures: What else was counted.

    Returns:
        The line.
    """
    more = "".join(f" {name}={value}" for name, value in figures.items())
    line = f"{programme} seeds={seeds}{more} violations={violations} commit={commit()}"
    print(line, flush=True)
    if os.environ.get(ASKED_BY):
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        with PAGE.open(
            "a", encoding="utf-8"
        ) as page:  # one write of one line: campaigns may run side by side
            page.write(f"- `{line}`\n")
    return line


def commit() -> str:
    """Return the short name of the commit that is checked out, with a `+` if there are changes beside it."""
    try:
        name = _git("rev-parse", "--short", "HEAD")
        return name + ("+" if _git("status", "--porcelain", "--untracked-files=no", "--", "actorfsm") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # no checkout: a source archive


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def multiplier() -> int:
    """Return what `ACTORFSM_CAMPAIGN` says: how many times the size of a build a campaign shall have."""
    return max(1, int(os.environ.get("ACTORFSM_CAMPAIGN", "1")))
