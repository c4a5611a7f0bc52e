"""Journals as the commands open them, and what their arguments are called."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

import typer

from actorfsm.journal.address import journal_at, journal_to_read

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from actorfsm.journal.protocol import Journal

__all__ = ["Address", "AsJson", "opened_to_read", "opened_to_write", "waited_for"]

T = TypeVar("T")

Address: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="JOURNAL", help="name of a SQLite file, or postgresql://…", show_default=False),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="print JSON")]


@asynccontextmanager
async def opened_to_read(address: str) -> AsyncGenerator[Journal]:
    """Open a journal as it is now; a system that uses it goes on.

    Raises:
        JournalError: It cannot be opened.
    """
    journal = journal_to_read(address)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


@asynccontextmanager
async def opened_to_write(address: str) -> AsyncGenerator[Journal]:
    """Open a journal that is there, to change it: no system may use it meanwhile.

    Raises:
        JournalError: It cannot be opened.
    """
    async with opened_to_read(address):
        pass  # where there is none, none is made
    journal = journal_at(address)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


def waited_for(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work to its end."""
    return asyncio.run(work)
