"""Dead letters in a journal: found, and put back to be delivered."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from actorfsm.errors import NoSuchLetter
from actorfsm.journal.entry import Batch, Pending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from actorfsm.journal.entry import DeadMessage
    from actorfsm.journal.protocol import Journal

__all__ = ["all_letters", "letter_at", "replay_letter"]


async def all_letters(journal: Journal) -> AsyncIterator[DeadMessage]:
    """Yield the dead letters of a journal, the oldest first."""
    last = 0
    while page := await journal.dead_letters(last):
        for letter in page:
            yield letter
        last = page[-1].place


async def letter_at(journal: Journal, place: int) -> DeadMessage:
    """Return a dead letter by its number.

    Raises:
        NoSuchLetter: There is none.
    """
    for letter in await journal.dead_letters(place - 1, limit=1):
        if letter.place == place:
            return letter
    raise NoSuchLetter(f"there is no dead letter {place}: `actorfsm dead list` lists them")


async def replay_letter(journal: Journal, letter: DeadMessage) -> None:
    """Put a dead letter back among what is pending; the next system that opens the journal delivers it.

    It is promised first and taken off the list after that: should the process end between the two, to replay it again
    is refused, and it is delivered once.

    Raises:
        EventIdUsed: Its event was applied since, or waits already.
        NotStored: Nothing was changed.
        OutcomeUnknown: That could not be settled.
    """
    pending = Pending(
        key=f"{letter.machine_id}/letter/{letter.place}",
        kind="event",
        machine_id=letter.machine_id,
        message=replace(letter.message, attempt=0),
    )
    await journal.append(Batch(accepted=(pending,)))
    await journal.drop_dead_letters([letter.place])
