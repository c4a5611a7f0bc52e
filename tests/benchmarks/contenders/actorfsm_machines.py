"""The workload's machine for actorfsm, in the variants that the table compares.

Imported only when actorfsm is there, by `actorfsm_contender.py`.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum

from pydantic import BaseModel, Field

from actorfsm import Event, Machine, after_transition, before_transition, transition

from ..work import LINES


class Switch(StrEnum):
    A = "A"
    B = "B"


class Go(Event[int]):
    """The one event; it is answered with the new total."""

    amount: int


class Light(Machine[Switch], initial=Switch.A):
    """Async hooks that do not suspend."""

    customer: str = "c-1"
    total: int = 0
    weight: float = 1.5
    urgent: bool = False

    @before_transition
    async def allow(self, old: Switch, new: Switch) -> bool:
        return True

    @transition(Switch.A, to=Switch.B)
    async def switch_on(self, event: Go) -> int:
        self.total += event.amount
        return self.total

    @transition(Switch.B, to=Switch.A)
    async def switch_off(self, event: Go) -> int:
        self.total += event.amount
        return self.total

    @after_transition
    async def done(self, old: Switch, new: Switch) -> None:
        return None


class FleetLight(Machine[Switch], initial=Switch.A):
    """The same, but its after-hook does not run at birth: no hook does."""

    customer: str = "c-1"
    total: int = 0
    weight: float = 1.5
    urgent: bool = False

    @before_transition
    async def allow(self, old: Switch, new: Switch) -> bool:
        return True

    @transition(Switch.A, to=Switch.B)
    async def switch_on(self, event: Go) -> int:
        self.total += event.amount
        return self.total

    @transition(Switch.B, to=Switch.A)
    async def switch_off(self, event: Go) -> int:
        self.total += event.amount
        return self.total

    @after_transition(Switch.B)
    async def done(self, old: Switch, new: Switch) -> None:
        return None


class PlainLight(Machine[Switch], initial=Switch.A):
    """The same with plain functions."""

    customer: str = "c-1"
    total: int = 0
    weight: float = 1.5
    urgent: bool = False

    @before_transition
    def allow(self, old: Switch, new: Switch) -> bool:
        return True

    @transition(Switch.A, to=Switch.B)
    def switch_on(self, event: Go) -> int:
        self.total += event.amount
        return self.total

    @transition(Switch.B, to=Switch.A)
    def switch_off(self, event: Go) -> int:
        self.total += event.amount
        return self.total

    @after_transition
    def done(self, old: Switch, new: Switch) -> None:
        return None


class SuspendingLight(Machine[Switch], initial=Switch.A):
    """The same with hooks that really wait: one turn of the loop each."""

    customer: str = "c-1"
    total: int = 0
    weight: float = 1.5
    urgent: bool = False

    @before_transition
    async def allow(self, old: Switch, new: Switch) -> bool:
        await asyncio.sleep(0)
        return True

    @transition(Switch.A, to=Switch.B)
    async def switch_on(self, event: Go) -> int:
        self.total += event.amount
        return self.total

    @transition(Switch.B, to=Switch.A)
    async def switch_off(self, event: Go) -> int:
        self.total += event.amount
        return self.total

    @after_transition
    async def done(self, old: Switch, new: Switch) -> None:
        await asyncio.sleep(0)


class Line(BaseModel):
    """One of the sub-models in the nested list."""

    article: str
    quantity: int = 0


def some_lines() -> list[Line]:
    return [Line(article=f"article-{number}") for number in range(LINES)]


class NestedLight(Machine[Switch], initial=Switch.A):
    """Its bodies change one of twenty sub-models in a list, so that the roll-back has to be armed for all of them."""

    customer: str = "c-1"
    turns: int = 0
    weight: float = 1.5
    urgent: bool = False
    lines: list[Line] = Field(default_factory=some_lines)

    @before_transition
    async def allow(self, old: Switch, new: Switch) -> bool:
        return True

    @transition(Switch.A, to=Switch.B)
    async def switch_on(self, event: Go) -> int:
        return self.add(event)

    @transition(Switch.B, to=Switch.A)
    async def switch_off(self, event: Go) -> int:
        return self.add(event)

    @after_transition
    async def done(self, old: Switch, new: Switch) -> None:
        return None

    def add(self, event: Go) -> int:
        line = self.lines[self.turns % LINES]
        self.turns += 1
        line.quantity += event.amount
        return line.quantity
