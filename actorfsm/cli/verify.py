"""`actorfsm verify JOURNAL`."""

from __future__ import annotations

import sys
from dataclasses import asdict

import typer

from actorfsm.cli.journals import Address, AsJson, opened_to_read, waited_for
from actorfsm.cli.output import Progress, print_json
from actorfsm.journal.verify import Verdict, verify_journal
from actorfsm.shown import counted, shown

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
        sys.stdout.write(f"… and {counted(verdict.faulty - len(verdict.faults), 'machine')} more\n")
    how = "as it was written"
    if not verdict.holds:
        as_they = "is not as it was" if verdict.faulty == 1 else "are not as they were"
        how = f"{counted(verdict.faulty, 'machine')} {as_they} written"
    sys.stdout.write(
        f"{how}: {counted(verdict.entries, 'entry', 'entries')} of {counted(verdict.machines, 'machine')} "
        f"({verdict.trimmed:,} trimmed), {counted(verdict.timers, 'timer')}, {verdict.pending:,} pending, "
        f"{counted(verdict.dead_letters, 'dead letter')}\n"
    )
