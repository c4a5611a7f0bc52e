"""The history of one machine: its entries one after the other, and the machine as one of them left it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actorfsm.errors import ActorFSMError, NoSuchMachine
from actorfsm.journal.image import Image

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from actorfsm.journal.entry import Entry
    from actorfsm.journal.protocol import Journal

__all__ = ["entries_of", "image_at"]


async def entries_of(journal: Journal, machine_id: str) -> AsyncIterator[Entry]:
    """Yield the entries of a machine in order, those that were trimmed left out.

    Raises:
        JournalCorrupt: One of them is not what was written.
    """
    last = 0
    while page := await journal.entries(machine_id, last):
        for entry in page:
            yield entry
        last = page[-1].seq


async def image_at(journal: Journal, machine_id: str, seq: int) -> Image:
    """Return a machine as an entry left it.

    Raises:
        NoSuchMachine: Nothing is stored of it.
        JournalCorrupt: What is stored of it is not what was written.
        ActorFSMError: There is no such entry, or it can no longer be said because entries were trimmed.
    """
    stored = await journal.load(machine_id)
    if stored is None:
        raise NoSuchMachine(
            f"the journal has no machine {machine_id!r}: `actorfsm ls --ids` lists them",
            machine_id=machine_id,
        )
    if not 1 <= seq <= stored.head.seq:
        raise ActorFSMError(
            f"{machine_id} has no entry {seq:,}: give one from 1 to {stored.head.seq:,}",
            machine_id=machine_id,
        )
    if seq == stored.head.seq:
        return stored.image
    image = Image(machine_id=machine_id)
    async for entry in entries_of(journal, machine_id):
        if entry.seq != image.seq + 1:
            raise ActorFSMError(
                f"entries of {machine_id} before {entry.seq:,} were trimmed: of what it was only its last entry, "
                f"{stored.head.seq:,}, can be shown",
                machine_id=machine_id,
            )
        image.apply(entry)
        if entry.seq == seq:
            break
    return image
