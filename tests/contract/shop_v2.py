"""A shop as the second version of its code has it, with upcasts from the first one, which is `shop_v1`.

Nearly all is another: states, fields, a timeout and classes have other names, amounts are in cents.
Two steps lead to the machine, to a reply and to an event, as if there had been a version between.
"""

from __future__ import annotations

from enum import Enum, StrEnum, auto
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from actorfsm import STAY, Event, Fields, Machine, StateTimeout, on_timeout, postpone, transition, upcast

__all__ = ["Parcel", "Pay", "PurchaseOrder", "Remark", "S", "Ship", "Slip"]


class S(StrEnum):
    OPEN = "open"
    CHARGED = "charged"
    DONE = "done"


class Slip(BaseModel):
    model_config = ConfigDict(frozen=True)
    schema_version: ClassVar[int] = 3

    text: str
    currency: str


@upcast(Slip, from_version=1, named="Receipt")
def a_slip_has_a_text(fields: Fields) -> Fields:
    return {"text": fields["number"]}


@upcast(Slip, from_version=2)
def a_slip_has_a_currency(fields: Fields) -> Fields:
    return {**fields, "currency": "EUR"}


class Pay(Event[Slip]):
    schema_version: ClassVar[int] = 2

    cents: int


@upcast(Pay, from_version=1)
def in_cents(fields: Fields) -> Fields:
    return {"cents": fields["amount"] * 100}


class Remark(Event[None]):
    schema_version: ClassVar[int] = 3

    words: tuple[str, ...]
    is_loud: bool


@upcast(Remark, from_version=1, named="Note")
def a_note_is_a_remark(fields: Fields) -> Fields:
    return {"words": fields["text"].split()}


@upcast(Remark, from_version=2)
def notes_were_never_loud(fields: Fields) -> Fields:
    return {**fields, "is_loud": False}


class Ship(Event[None]):
    carrier: str = "any"


class Remind(Event[None]):
    after: float


class PurchaseOrder(Machine[S, Any], initial=S.OPEN, final=(S.DONE,)):
    schema_version: ClassVar[int] = 3

    cents: int
    remarks: tuple[str, ...] = ()
    was: str = ""

    @transition(S.OPEN, to=S.CHARGED)
    async def pay(self, event: Pay) -> Slip:
        self.cents += event.cents
        return Slip(text=f"R-{self.id}", currency="EUR")

    @postpone(S.OPEN, Remark)
    @transition(S.CHARGED, to=STAY)
    async def remark(self, event: Remark) -> None:
        self.remarks = (*self.remarks, *event.words)

    @transition(S.OPEN, S.CHARGED, to=STAY)
    async def remind(self, event: Remind) -> None:
        """A timer of today would be a remark."""

    @on_timeout(S.CHARGED, after=3600, to=S.OPEN)
    def too_late(self, event: StateTimeout) -> None:
        self.remarks = (*self.remarks, "late")

    @transition(S.CHARGED, to=S.DONE)
    async def ship(self, event: Ship) -> None: ...


@upcast(
    PurchaseOrder, from_version=1, named="Order", states={"PAYING": "PAID"}, timeouts={"late": "too_late"}
)
def an_order_in_cents(state: str, fields: Fields) -> tuple[str, Fields]:
    return state, {"cents": fields["paid"] * 100, "remarks": fields["notes"]}


@upcast(PurchaseOrder, from_version=2, states={"PAID": "CHARGED"})
def an_order_remembers_its_state(state: str, fields: Fields) -> tuple[str, Fields]:
    return state, {**fields, "was": state}


class P(Enum):
    WRAPPED = auto()
    SENT = auto()


class Parcel(Machine[P, Any], initial=P.WRAPPED, final=(P.SENT,)):
    schema_version: ClassVar[int] = 2


@upcast(Parcel, from_version=1, states={"PACKED": "WRAPPED"})
def packed_is_wrapped(state: str, fields: Fields) -> tuple[str, Fields]:
    return state, fields
