"""What the code of `shop` was once: a class that is gone, data and an event with other fields."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from actorfsm import Event, Machine, postpone, transition
from tests.cli.shop import Create, Pay, S

__all__ = ["Order", "Parcel", "Ship", "Tracked"]


class Ship(Event):
    track: int


class Parcel(Machine[S, Any], initial=S.CREATED, final=(S.SHIPPED,)):
    @transition(to=S.CREATED)
    def create(self, event: Create) -> None: ...

    @transition(S.CREATED, to=S.PAID)
    def pay(self, event: Pay) -> None: ...

    @transition(S.PAID, to=S.SHIPPED)
    def ship(self, event: Ship) -> None: ...


class _Named:
    """Room for another class of the same name."""

    class Order(Machine[S, Any], initial=S.CREATED, final=(S.SHIPPED,)):
        paid: Decimal = Decimal(0)

        @transition(to=S.CREATED)
        def create(self, event: Create) -> None: ...

        @transition(S.CREATED, to=S.PAID)
        def pay(self, event: Pay) -> None: ...

        @postpone(S.CREATED)
        @transition(S.PAID, to=S.SHIPPED)
        def ship(self, event: Ship) -> None: ...


Tracked: Any = _Named.Order
"""An order like that of today, whose event `Ship` has another field."""


class Order(Machine[S, Any], initial=S.CREATED, final=(S.SHIPPED,)):
    note: str = "x"

    @transition(to=S.CREATED)
    def create(self, event: Create) -> None: ...

    @transition(S.CREATED, to=S.PAID)
    def pay(self, event: Pay) -> None: ...

    @transition(S.PAID, to=S.SHIPPED)
    def ship(self, event: Ship) -> None: ...
