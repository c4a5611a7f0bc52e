"""`actorfsm ls JOURNAL`."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from actorfsm.cli.journals import Address, AsJson, opened_to_read, waited_for
from actorfsm.cli.output import Progress, json_line, print_json, table
from actorfsm.shown import shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from actorfsm.journal.entry import Head
    from actorfsm.journal.protocol import Journal

__all__ = ["Counts", "counted", "ls", "rows_of", "tell"]

Counts: TypeAlias = "Counter[tuple[str, str, str]]"
"""Numbers of machines by class, status and state."""

_COLUMNS: Final = ("class", "status", "state", "machines")


def ls(
    journal: Address,
    *,
    machine: Annotated[str | None, typer.Option("--class", help="only machines of this class")] = None,
    state: Annotated[str | None, typer.Option(help="only those in this state")] = None,
    status: Annotated[
        str | None, typer.Option(help="only those that are alive, finished, quarantined or stopped")
    ] = None,
    ids: Annotated[bool, typer.Option("--ids", help="list each machine")] = False,
    as_json: AsJson = False,
) -> None:
    """Count the machines of a journal by class and state, or list them with --ids."""
    chosen = {"machine": machine, "state": state, "status": status}
    if ids:
        waited_for(_list(journal, chosen, as_json=as_json))
        return
    counts = waited_for(_count(journal, chosen))
    if as_json:
        print_json(rows_of(counts))
    else:
        tell(counts)


def rows_of(counts: Counts) -> list[dict[str, Any]]:
    """Return counts of machines as values that JSON can say."""
    return [dict(zip(_COLUMNS, (*key, count), strict=True)) for key, count in sorted(counts.items())]


def tell(counts: Counts) -> None:
    """Print counts of machines as a table."""
    table(_COLUMNS, [(*key, f"{count:,}") for key, count in sorted(counts.items())])


async def _count(address: str, chosen: dict[str, Any]) -> Counts:
    progress = Progress("machines")
    async with opened_to_read(address) as journal:
        counts = await counted(journal, chosen, progress)
    progress.end()
    return counts


async def counted(
    journal: Journal, chosen: dict[str, Any], progress: Callable[[int], None] = lambda _count: None
) -> Counts:
    """Count the machines of a journal by class, status and state."""
    counts: Counts = Counter()
    number = 0
    async for head in _heads(journal, chosen):
        counts[head.machine, head.status, ", ".join(head.state)] += 1
        number += 1
        progress(number)
    return counts


async def _list(address: str, chosen: dict[str, Any], *, as_json: bool) -> None:
    async with opened_to_read(address) as journal:
        async for head in _heads(journal, chosen):
            if as_json:
                line = json_line(
                    {
                        "id": head.machine_id,
                        "class": head.machine,
                        "status": head.status,
                        "state": head.state,
                        "seq": head.seq,
                    }
                )
            else:
                words = (head.machine_id, head.machine, head.status, ", ".join(head.state), f"{head.seq:,}")
                line = "  ".join(shown(word) for word in words)
            sys.stdout.write(line + "\n")


async def _heads(journal: Journal, chosen: dict[str, Any]) -> AsyncIterator[Head]:
    last = ""
    while page := await journal.machines(**chosen, after=last):
        for head in page:
            yield head
        last = page[-1].machine_id
