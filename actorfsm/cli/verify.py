"""`actorfsm verify JOURNAL`."""

from __future__ import annotations

import sys
from dataclasses import asdict

import typer

from actorfsm.cli.journals import Address, AsJson, opened_to_read, waited_for
from actorfsm.cli.output import Progress, print_json
from actorfsm.journal.verify import Verdict, verify_journal
from actorfsm.shown import shown

__all__ = ["verify"]


def verify(journal: Address, *, as_json: AsJson = False) -> None:
    """Prove that a journal is as it was written, or name the first entry that is not for each machine.

    Exit status: 0 it is, 1 it is not, 2 nothing could be said. A journal in use is looked at as it is now.
    """
    verdict = waited_for(_verdict_of(journal))
    if as_json:
        faults = [fault._asdict() for fault in verdict.faults]
        print_json({**asdict(verdict), "holds": verdict.holds, "faults": faults})
    else:
        _tell(verdict)
    if not verdict.holds:
        raise typer.Exit(1)


async def _verdict_of(address: str) -> Verdict:
    progress = Progress("entries")
    async with opened_to_read(address) as journal:
        try:
            return await verify_journal(journal, progress=progress)
        finally:
            progress.end()


def _tell(verdict: Verdict) -> None:
    for fault in verdict.faults:
        sys.stdout.write(f"{shown(str(fault), 400)}\n")
    if verdict.faulty > len(verdict.faults):
        sys.stdout.write(f"… and {verdict.faulty - len(verdict.faults):,} machines more\n")
    how = (
        "as it was written" if verdict.holds else f"{verdict.faulty:,} machines are not as they were written"
    )
    sys.stdout.write(
        f"{how}: {verdict.entries:,} entries of {verdict.machines:,} machines ({verdict.trimmed:,} trimmed), "
        f"{verdict.timers:,} timers, {verdict.pending:,} pending, {verdict.dead_letters:,} dead letters\n"
    )
