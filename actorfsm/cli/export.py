"""`actorfsm export JOURNAL` and `actorfsm import JOURNAL`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, TextIO

import typer

from actorfsm.cli.journals import Address, AsJson, opened_to_read, waited_for
from actorfsm.cli.output import Progress, json_line, print_json
from actorfsm.errors import ActorFSMError
from actorfsm.journal.address import journal_at
from actorfsm.journal.transfer import exported, imported

__all__ = ["export", "import_"]


def export(
    journal: Address,
    *,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="a new file; - is the standard output")
    ] = "-",
) -> None:
    """Write a journal as JSON lines, with nothing left out. A journal in use is written as it is now."""
    if output == "-":
        waited_for(_export(journal, sys.stdout))
        return
    waited_for(_export_to(journal, output))


async def _export_to(address: str, name: str) -> None:
    async with opened_to_read(address):
        pass  # where there is no journal, no file is begun
    try:
        file = Path(name).open("x", encoding="utf-8", newline="\n")  # noqa: ASYNC230, SIM115 -- nothing else runs here
    except FileExistsError:
        raise ActorFSMError(f"{name} is there already: give the name of a new file") from None
    with file:
        await _export(address, file)


async def _export(address: str, file: TextIO) -> None:
    progress, count = Progress("lines"), 0
    async with opened_to_read(address) as journal:
        async for line in exported(journal):
            file.write(json_line(line) + "\n")
            count += 1
            progress(count)
    progress.end()


def import_(
    journal: Address,
    *,
    file: Annotated[
        str, typer.Option("--input", "-i", metavar="FILE", help="an export; - is the standard input")
    ] = "-",
    as_json: AsJson = False,
) -> None:
    """Make a journal from an export. It must be a new one; it is there once all of it is in it and verified."""
    counts = waited_for(_import(journal, file))
    if as_json:
        print_json(counts)
    else:
        sys.stdout.write(
            "imported: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()) + "\n"
        )


async def _import(address: str, name: str) -> dict[str, int]:
    is_file = "://" not in address
    part = f"{address}.importing" if is_file else address
    if is_file and Path(address).exists():  # noqa: ASYNC240 -- nothing else runs here
        raise ActorFSMError(f"{address} is there already: give the name of a new journal")
    progress = Progress("lines")
    lines = sys.stdin if name == "-" else Path(name).open(encoding="utf-8")  # noqa: ASYNC230, SIM115 -- closed below
    try:
        journal = journal_at(part)
        await journal.open()
        try:
            counts = await imported(journal, lines, progress)
        finally:
            progress.end()
            await journal.close()
        if is_file:
            os.replace(part, address)  # noqa: PTH105
    finally:
        if lines is not sys.stdin:
            lines.close()
        if is_file:
            for end in ("", "-wal", "-shm", "-lock", "-lock-journal"):
                Path(f"{part}{end}").unlink(missing_ok=True)  # noqa: ASYNC240 -- nothing else runs here
    return counts
