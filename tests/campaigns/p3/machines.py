"""The machines of P3. What they keep is a fold of all that they did, which the oracle computes for itself."""

from __future__ import annotations

from enum import Enum, auto
from hashlib import blake2b
from typing import Any

from actorfsm import STAY, Event, Machine, postpone, transition

__all__ = ["Desk", "Ledger", "Till", "linked"]


def linked(chain: str, *parts: object) -> str:
    """Return the next link of a chain: two that are equal were made of the same parts in the same order."""
    return blake2b("/".join(map(str, (chain, *parts))).encode(), digest_size=8).hexdigest()


class S(Enum):
    OPEN = auto()
    HELD = auto()


class Pay(Event[int]):
    number: int


class Hold(Event[int]):
    number: int


class Free(Event[int]):
    number: int


class Counted(Event[None]):
    number: int


class Ring(Event[None]):
    number: int


class Thanks(Event[None]):
    number: int


class Book(Event[None]):
    till: str
    number: int


class Till(Machine[S, Any], initial=S.OPEN):
    """Each payment is counted, booked elsewhere, rung for by a timer, and thanked for."""

    paid: int = 0
    counted: int = 0
    rung: int = 0
    thanked: int = 0
    chain: str = ""

    @postpone(S.HELD)
    @transition(S.OPEN, to=STAY)
    async def pay(self, event: Pay) -> int:
        self.paid += 1
        self._link("pay", event.number)
        self.tell("ledger", Book(till=self.id, number=event.number))
        self.next_event(Counted(number=event.number))
        self.start_timer(Ring(number=event.number), after=0.004, name=f"ring-{event.number}")
        return self.paid

    @transition(S.OPEN, to=STAY)
    @transition(S.HELD, to=STAY)
    async def count(self, event: Counted) -> None:
        self.counted += 1
        self._link("counted", event.number)

    @transition(S.OPEN, to=STAY)
    @transition(S.HELD, to=STAY)
    async def ring(self, event: Ring) -> None:
        self.rung += 1
        self._link("ring", event.number)

    @transition(S.OPEN, to=STAY)
    @transition(S.HELD, to=STAY)
    async def thank(self, event: Thanks) -> None:
        self.thanked += 1
        self._link("thanks", event.number)

    @transition(S.OPEN, to=S.HELD)
    async def hold(self, event: Hold) -> int:
        self._link("hold", event.number)
        return event.number

    @transition(S.HELD, to=S.OPEN)
    async def free(self, event: Free) -> int:
        self._link("free", event.number)
        return event.number

    def _link(self, *parts: object) -> None:
        self.chain = linked(self.chain, *parts)


class D(Enum):
    READY = auto()


class Desk(Machine[D, Any], initial=D.READY):
    """Only there so that a machine is of another class, and has nothing to do with the others."""

    paid: int = 0

    @transition(D.READY, to=STAY)
    async def pay(self, event: Pay) -> int:
        self.paid += event.number
        return self.paid


class Ledger(Machine[D, Any], initial=D.READY):
    """Books what the tills send, and thanks for it."""

    booked: int = 0
    chain: str = ""

    @transition(D.READY, to=STAY)
    async def book(self, event: Book) -> None:
        self.booked += 1
        self.chain = linked(self.chain, event.till, event.number)
        self.tell(event.till, Thanks(number=event.number))
