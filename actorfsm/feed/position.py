"""The position: how far an earlier run has come with a log, as the journal tells.

The event ids of a log are its name and the number of the line. A run sends lines in their order, and none before all
that stand a window or more above it are on the disk: so all lines but those of the last window are there, in whatever
order they were stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from actorfsm.journal.codec import event_id_of
from actorfsm.journal.dead_letters import all_letters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from actorfsm.journal.protocol import Journal

__all__ = ["WINDOW", "Position", "event_id_at", "read_position"]

WINDOW: Final = 512
"""Among so many lines events may be on their way to the disk at a time."""


def event_id_at(source: str, number: int) -> str:
    """Return the event id of a line: whoever reads the log again sends the same event with the same id."""
    return f"{source}:{number}"


@dataclass(slots=True)
class Position:
    """What a journal knows of a log.

    Attributes:
        last: Number of the last line that it knows; 0 if none.
        machine_id: Whose that line is.
        recent: The lines that it knows among the last ones.
    """

    last: int = 0
    machine_id: str = ""
    recent: set[int] = field(default_factory=set[int])

    def knows(self, number: int) -> bool:
        """Return whether an earlier run has sent a line, so that it is not sent again."""
        return number <= self.last - WINDOW or number in self.recent

    def see(self, number: int, machine_id: str) -> None:
        """Note that the journal knows a line."""
        if number > self.last:
            self.last, self.machine_id = number, machine_id
        if number > self.last - WINDOW:
            self.recent.add(number)
        if len(self.recent) > 4 * WINDOW:
            self.recent = {line for line in self.recent if line > self.last - WINDOW}


async def read_position(
    journal: Journal, source: str, progress: Callable[[int], None] = lambda _count: None
) -> Position:
    """Look through a journal for the lines of a log, page by page.

    What is pending becomes an entry or a dead letter, also while this looks: so it comes first.

    Args:
        journal: The journal, open.
        source: What the log is called in event ids.
        progress: Is told how many entries were looked at.

    Raises:
        JournalError: It cannot be read.
    """
    position, begin = Position(), f"{source}:"
    async for machine_id, event_id in _event_ids(journal, begin, progress):
        number = event_id.removeprefix(begin)
        if event_id.startswith(begin) and number.isascii() and number.isdecimal():
            position.see(int(number), machine_id)
    return position


async def _event_ids(
    journal: Journal, begin: str, progress: Callable[[int], None]
) -> AsyncIterator[tuple[str, str]]:
    place = 0
    while pending := await journal.pending(after=place):
        place = pending[-1].place
        for _, promised in pending:
            yield promised.machine_id, promised.message.event_id
    last, count = ("", 0), 0
    while rows := await journal.rows(last):
        last = (rows[-1].machine_id, rows[-1].seq)
        for row in rows:
            event_id = event_id_of(row, begin)
            if event_id is not None:
                yield row.machine_id, event_id
        count += len(rows)
        progress(count)
    async for letter in all_letters(journal):
        yield letter.machine_id, letter.message.event_id
