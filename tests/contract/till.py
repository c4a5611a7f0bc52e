"""A program with a journal, to be killed: `python -m tests.contract.till JOURNAL FIRST [tell]`.

It prints what it is answered, or with `tell` what was accepted durably; then the reply is 0, and the ledger gets each
Outcome.
"""

from __future__ import annotations

import asyncio
import sys
from enum import Enum, auto
from typing import Any

from actorfsm import STAY, ActorSystem, Event, Machine, MailboxFull, Outcome, transition

__all__ = ["Book", "Close", "Ledger", "Pay", "Till", "main"]

TILLS = 8


class S(Enum):
    OPEN = auto()
    CLOSED = auto()


class Pay(Event[int]):
    number: int


class Book(Event[None]):
    till: str
    number: int


class Counted(Event[None]):
    number: int


class Close(Event[None]):
    pass


class Till(Machine[S, Any], initial=S.OPEN, final=(S.CLOSED,)):
    paid: tuple[int, ...] = ()
    counted: tuple[int, ...] = ()

    @transition(S.OPEN, to=STAY)
    async def pay(self, event: Pay) -> int:
        await asyncio.sleep(0)
        self.paid = (*self.paid, event.number)
        self.tell("ledger", Book(till=self.id, number=event.number))
        self.next_event(Counted(number=event.number))
        return len(self.paid)

    @transition(S.OPEN, to=STAY)
    async def count(self, event: Counted) -> None:
        self.counted = (*self.counted, event.number)

    @transition(S.OPEN, to=S.CLOSED)
    async def close(self, event: Close) -> None: ...


class Ledger(Machine[S, Any], initial=S.OPEN, final=(S.CLOSED,)):
    lines: tuple[tuple[str, int], ...] = ()
    outcomes: tuple[tuple[str, int], ...] = ()

    @transition(S.OPEN, to=STAY)
    async def book(self, event: Book) -> None:
        self.lines = (*self.lines, (event.till, event.number))

    @transition(S.OPEN, to=STAY)
    async def hear(self, event: Outcome) -> None:
        assert event.success
        self.outcomes = (*self.outcomes, (event.machine_id, event.reply))

    @transition(S.OPEN, to=S.CLOSED)
    async def close(self, event: Close) -> None: ...


async def main(journal: str, first: int, *, tells: bool = False) -> None:
    """Pay at all tills for ever, each payment with an event id, and print each answer."""
    async with ActorSystem(Till, Ledger, journal=journal, trace=None) as system:
        await system.get_or_spawn(Ledger, "ledger")

        async def pay(till: str) -> None:
            await system.get_or_spawn(Till, till)
            number = first
            while True:
                number += 1
                if tells:
                    try:
                        told = system.tell(till, Pay(number=number), durable=True, reply_to="ledger")
                        await told.accepted()
                    except MailboxFull:
                        await asyncio.sleep(0.01)
                        number -= 1
                        continue
                    reply = 0
                else:
                    reply = await system.ask(till, Pay(number=number), event_id=f"pay-{number}")
                sys.stdout.write(f"{till} {number} {reply}\n")
                sys.stdout.flush()

        await asyncio.gather(*(pay(f"till-{n}") for n in range(TILLS)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), tells="tell" in sys.argv[3:]))
