"""A shop whose classes have changed without a word: no versions, no upcasts."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from pydantic import BaseModel

from actorfsm import Event, Machine, transition

__all__ = ["Order"]


class S(Enum):
    OPEN = auto()
    DONE = auto()


class Receipt(BaseModel):
    number: str


class Pay(Event[Receipt]):
    cents: int = 0


class Order(Machine[S, Any], initial=S.OPEN, final=(S.DONE,)):
    paid: int = 0
    notes: tuple[str, ...] = ()

    @transition(S.OPEN, to=S.DONE)
    async def pay(self, event: Pay) -> Receipt: ...
