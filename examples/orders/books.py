"""The books: what the journal tells of a log that was read into it, however often the shop was killed meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from actorfsm import StateTimeout
from actorfsm.feed.position import Position
from actorfsm.journal.entry import Entry, Message
from actorfsm.journal.protocol import Journal
from examples.orders.notice import Notice
from examples.orders.order import EVENTS, DeliveryOverdue, Order, OrderState, ShippingLimitPassed

__all__ = ["NOTHING", "OUTCOMES", "Books", "LastLine", "event_id_of", "read_books"]

OUTCOMES: Final = ("committed", "vetoed", "unhandled", "failed", "expired", "dead_lettered")
_LINE: Final = "line-"


def event_id_of(line: int) -> str:
    """Return the event id of a line: whoever reads the log again sends the same event with the same id."""
    return f"{_LINE}{line}"


class LastLine(NamedTuple):
    """The last line that is in the journal.

    Attributes:
        number: Its number in the log, from 1; 0 if there is none yet.
        event_type: What it was.
        machine_id: Whose.
    """

    number: int = 0
    event_type: str = ""
    machine_id: str = ""


NOTHING: Final = LastLine()


@dataclass(slots=True)
class Books:
    """What became of the log.

    Attributes:
        last: The last line that is in the journal.
        position: Which lines are there: all but, perhaps, some of the last ones, which were on their way together.
        orders: How many orders are in each state.
        outcomes: How the events of the log ended.
        waiting: How many of them still wait for their time.
        committed: How many transitions there were, by the class of their event.
        befell: What befell machines, by kind: quarantines, releases.
    """

    last: LastLine = NOTHING
    position: Position = field(default_factory=Position)
    orders: Counter[str] = field(default_factory=Counter[str])
    outcomes: Counter[str] = field(default_factory=Counter[str])
    waiting: int = 0
    committed: Counter[str] = field(default_factory=Counter[str])
    befell: Counter[str] = field(default_factory=Counter[str])

    def add_machine(self, entries: Sequence[Entry]) -> None:
        """Enter all that happened at one machine."""
        waiting = set[str]()
        for entry in entries:
            message = entry.message
            if message is None:
                self.befell[entry.kind] += 1
                continue
            if entry.kind == "committed":
                self.committed[message.event.type] += 1
            if entry.kind == "postponed":
                waiting.add(message.event_id)
            else:
                waiting.discard(message.event_id)
            if message.event.type in EVENTS:
                self.seen(entry.machine_id, message)
                if entry.kind in OUTCOMES and entry.kind != "dead_lettered":  # those have a list of their own
                    self.outcomes[entry.kind] += 1
        self.waiting += len(waiting)

    def add_dead(self, machine_id: str, message: Message) -> None:
        """Enter an event that nobody handled."""
        if message.event.type in EVENTS:
            self.seen(machine_id, message)
            self.outcomes["dead_lettered"] += 1

    def seen(self, machine_id: str, message: Message) -> None:
        """Note that the journal knows a line."""
        number = int(message.event_id.removeprefix(_LINE))
        self.position.see(number, machine_id)
        if number > self.last.number:
            self.last = LastLine(number, message.event.type, machine_id)

    @property
    def late(self) -> dict[str, int]:
        """Promises that were not kept, by what was promised."""
        return {
            "not handed over in time": self.committed[ShippingLimitPassed.__name__],
            "not delivered in time": self.committed[DeliveryOverdue.__name__],
        }

    @property
    def notices(self) -> dict[str, int]:
        """What became of the notices to customers."""
        return {
            "customers told": self.committed[StateTimeout.__name__],
            "notices put into quarantine": self.befell["quarantined"],
            "of them released": self.befell["released"],
        }


async def read_books(journal: Journal) -> Books:
    """Read the books from a journal that is open: page by page, so that they may be long.

    Raises:
        JournalError: It cannot be read.
    """
    books = Books(orders=Counter({state.name: 0 for state in OrderState}))
    for machine in (Order.__name__, Notice.__name__):
        after = ""
        while heads := await journal.machines(machine=machine, after=after):
            after = heads[-1].machine_id
            for head in heads:
                books.add_machine([entry async for entry in _entries(journal, head.machine_id)])
                if machine == Order.__name__:
                    books.orders[head.state[0]] += 1
    place = 0
    while pending := await journal.pending(after=place):
        place = pending[-1].place
        for _, promised in pending:
            if promised.message.event.type in EVENTS:
                books.seen(promised.machine_id, promised.message)
    place = 0
    while letters := await journal.dead_letters(after=place):
        place = letters[-1].place
        for letter in letters:
            books.add_dead(letter.machine_id, letter.message)
    return books


async def _entries(journal: Journal, machine_id: str) -> AsyncIterator[Entry]:
    after = 0
    while entries := await journal.entries(machine_id, after):
        after = entries[-1].seq
        for entry in entries:
            yield entry
