"""The command `check-upgrade`: reads a journal with the classes of today and says whether all of it lands.

Exit status 0: it does. 1: it does not, and what does not is named. 2: nothing could be said.
"""

from __future__ import annotations

import asyncio
import json
from typing import IO, TYPE_CHECKING, Any, Final

from actorfsm.check_upgrade.check import check_upgrade
from actorfsm.errors import ActorFSMError
from actorfsm.journal.address import journal_at
from actorfsm.verify_log.command import definition_at

if TYPE_CHECKING:
    import argparse

    from actorfsm.check_upgrade.report import Report

__all__ = ["DOES_NOT_LAND", "LANDS", "NO_ANSWER", "add_arguments", "run"]

LANDS: Final = 0
DOES_NOT_LAND: Final = 1
NO_ANSWER: Final = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "classes",
        nargs="+",
        metavar="module:Class",
        help="all machine classes of the system, as they are today",
    )
    parser.add_argument("journal", metavar="JOURNAL", help="the journal, which is only read")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace, out: IO[str], err: IO[str]) -> int:
    """Check a journal.

    Args:
        options: What `add_arguments` declares.
        out: Where the report goes.
        err: Where progress goes, if it is a terminal, and what is wrong with the arguments.

    Returns:
        The exit status.
    """
    try:
        machines = [definition_at(path).machine_class for path in options.classes]
        report = asyncio.run(_check(machines, options.journal, err))
    except ActorFSMError as error:
        err.write(f"check-upgrade: {error}\n")
        return NO_ANSWER
    if options.json:
        out.write(json.dumps(report.as_json(), ensure_ascii=False, indent=2) + "\n")
    else:
        _tell(report, out)
    return LANDS if report.lands else DOES_NOT_LAND


def _tell(report: Report, out: IO[str]) -> None:
    for line in report.lines():
        out.write(f"{line}\n")
    if report.lands:
        out.write(f"lands: all that {report.machines:,} machines have stored\n")
    else:
        count = sum(misfit.count for misfit in report.misfits.values())
        out.write(f"does not land: {count:,} of what {report.machines:,} machines have stored\n")


async def _check(machines: list[Any], address: str, err: IO[str]) -> Report:
    def progress(count: int) -> None:
        if err.isatty():
            err.write(f"\r{count:,} machines")
            err.flush()

    journal = journal_at(address, read_only=True)
    await journal.open()
    try:
        return await check_upgrade(machines, journal, progress=progress)
    finally:
        if err.isatty():
            err.write("\r\x1b[K")
        await journal.close()
