"""A shop as the first version of its code has it; `shop_v2` reads what this one has stored.

It does not change: the golden journals are of this shop.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from pydantic import BaseModel, ConfigDict

from actorfsm import STAY, Event, Machine, StateTimeout, on_timeout, postpone, transition

__all__ = ["Note", "Order", "Parcel", "Pay", "Receipt", "Remind", "S", "Send", "Ship"]


class S(Enum):
    OPEN = auto()
    PAYING = auto()
    DONE = auto()


class Receipt(BaseModel):
    model_config = ConfigDict(frozen=True)

    number: str


class Pay(Event[Receipt]):
    amount: int


class Note(Event[None]):
    text: str


class Ship(Event[None]):
    pass


class Send(Event[None]):
    to: str


class Remind(Event[None]):
    after: float


class Order(Machine[S, Any], initial=S.OPEN, final=(S.DONE,)):
    paid: int = 0
    notes: tuple[str, ...] = ()

    @transition(S.OPEN, to=S.PAYING)
    async def pay(self, event: Pay) -> Receipt:
        self.paid += event.amount
        return Receipt(number=f"R-{self.id}")

    @postpone(S.OPEN, Note)
    @transition(S.PAYING, to=STAY)
    async def note(self, event: Note) -> None:
        self.notes = (*self.notes, event.text)

    @transition(S.OPEN, to=STAY)
    async def send(self, event: Send) -> None:
        self.tell(event.to, Note(text=f"from {self.id}"))

    @transition(S.OPEN, S.PAYING, to=STAY)
    async def remind(self, event: Remind) -> None:
        self.start_timer(Note(text="a reminder"), after=event.after)

    @on_timeout(S.PAYING, after=3600, to=S.OPEN)
    def late(self, event: StateTimeout) -> None:
        self.notes = (*self.notes, "late")

    @transition(S.PAYING, to=S.DONE)
    async def ship(self, event: Ship) -> None: ...


class P(Enum):
    PACKED = auto()
    SENT = auto()


class Parcel(Machine[P, Any], initial=P.PACKED, final=(P.SENT,)):
    """Declares no transitions: it is asked for its states."""
