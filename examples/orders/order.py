"""The order: its states, the events of a shop's log, and what each of them does.

The log is what real systems write down, so it is not in order: parcels are handed over before the payment is approved,
deliveries are reported before the hand-over, surveys go out at any time. What came too early waits (`@postpone`) until
the order has caught up; what makes no sense in a state is refused, and the summary counts it.

Two promises are made when an order is placed: until when it is handed over, and when it is delivered. Each is a timer
(`self.start_timer`); if its time comes, the customer is told.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum, auto
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from actorfsm import STAY, Event, Machine, MailboxPolicy, Overflow, postpone, transition
from examples.orders.notice import Notify

__all__ = [
    "EVENTS",
    "Canceled",
    "DeliveredToCustomer",
    "DeliveryOverdue",
    "HandedToCarrier",
    "Invoiced",
    "MarkedUnavailable",
    "Order",
    "OrderEvent",
    "OrderPlaced",
    "OrderState",
    "Payment",
    "PaymentApproved",
    "PaymentType",
    "ProcessingStarted",
    "ReviewAnswered",
    "ReviewSurveySent",
    "ShippingLimitPassed",
]

LONGEST_PROMISE: Final = timedelta(days=3650)


def as_utc(at: datetime) -> datetime:
    """Return a time of the log with a zone: it writes none, so all of its times are taken for UTC.

    Raises:
        ValueError: It is no time at which a shop of today was open.
    """
    if not 1970 <= at.year < 2100:  # noqa: PLR2004 -- before and after there are only slips
        raise ValueError("a year before 1970 or after 2099")
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


Time = Annotated[datetime, AfterValidator(as_utc)]
Money = Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=2)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Id = Annotated[str, Field(min_length=1, max_length=64)]


class OrderState(StrEnum):
    """Where an order can be."""

    PLACED = auto()
    APPROVED = auto()
    INVOICED = auto()
    PROCESSING = auto()
    SHIPPED = auto()
    DELIVERED = auto()
    CANCELED = auto()
    UNAVAILABLE = auto()


S = OrderState


class PaymentType(StrEnum):
    """How a customer can pay."""

    CREDIT_CARD = auto()
    DEBIT_CARD = auto()
    BOLETO = auto()
    VOUCHER = auto()
    NOT_DEFINED = auto()


class Payment(BaseModel):
    """One of the payments of an order."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    type: PaymentType
    installments: Count
    value: Money


class OrderEvent(Event[None, "Order"]):
    """What all events of the log have: when it happened, and its number among those of its order."""

    at: Time
    seq: Count


class OrderPlaced(OrderEvent):
    """A customer has ordered: the order's birth."""

    customer_id: Id
    city: Annotated[str, Field(max_length=100)]
    state: Annotated[str, Field(pattern="^[A-Z]{2}$")]
    items: Count
    total: Money
    freight: Money
    payments: Annotated[tuple[Payment, ...], Field(max_length=100)]  # a tuple: events are immutable
    estimated_delivery: Time
    shipping_limit: Time | None

    @model_validator(mode="after")
    def check_promises(self) -> Self:
        """Refuse a date that cannot be meant."""
        if max(self.estimated_delivery, self.shipping_limit or self.at) - self.at > LONGEST_PROMISE:
            raise ValueError("a promise for more than ten years")
        return self


class PaymentApproved(OrderEvent):
    """The payment has been approved."""


class HandedToCarrier(OrderEvent):
    """The parcel is with the carrier."""


class DeliveredToCustomer(OrderEvent):
    """The parcel is with the customer."""


class ShippingLimitPassed(Event[None, "Order"]):
    """A timer's event: the order should be with the carrier by now."""


class DeliveryOverdue(Event[None, "Order"]):
    """A timer's event: the order should be with the customer by now."""


class InferredEvent(OrderEvent):
    """An event whose time was not written down when it happened but concluded from the others."""

    at_inferred: bool = False


class Invoiced(InferredEvent):
    """The invoice has been written."""


class ProcessingStarted(InferredEvent):
    """The order is being put together."""


class Canceled(InferredEvent):
    """The customer or the shop has called the order off."""


class MarkedUnavailable(InferredEvent):
    """The goods cannot be had."""


class ReviewSurveySent(OrderEvent):
    """The customer has been asked for an opinion."""

    review_id: Id


class ReviewAnswered(OrderEvent):
    """The customer has answered."""

    review_id: Id
    score: Annotated[int, Field(ge=1, le=5)]


EVENTS: dict[str, type[OrderEvent]] = {
    event_class.__name__: event_class
    for event_class in (
        *(OrderPlaced, PaymentApproved, Invoiced, ProcessingStarted, HandedToCarrier, DeliveredToCustomer),
        *(Canceled, MarkedUnavailable, ReviewSurveySent, ReviewAnswered),
    )
}
"""The events of a log by name; those of timers are not among them."""


class Order(
    Machine[OrderState],
    final=(S.DELIVERED, S.CANCELED, S.UNAVAILABLE),
    mailbox=MailboxPolicy(
        overflow=Overflow.WAIT
    ),  # should a mailbox be full after all, the log waits; nothing is lost
):
    """One order of the shop. It has no initial state: only an `OrderPlaced` gives birth to it."""

    customer_id: str
    placed_at: datetime
    items: int
    total: Decimal
    freight: Decimal
    paid: Decimal
    estimated_delivery: datetime
    shipping_limit: datetime | None = None
    approved_at: datetime | None = None
    handed_over_at: datetime | None = None
    ended_at: datetime | None = None
    is_handed_over_late: bool = False
    is_delivered_late: bool = False
    surveys_sent: int = 0
    scores: tuple[int, ...] = ()

    @transition(to=S.PLACED)
    def place(self, event: OrderPlaced) -> None:
        """Give birth to the order: the fields without a default must be set here."""
        self.customer_id = event.customer_id
        self.placed_at = event.at
        self.items = event.items
        self.total, self.freight = event.total, event.freight
        self.paid = sum((payment.value for payment in event.payments), Decimal(0))
        self.estimated_delivery, self.shipping_limit = event.estimated_delivery, event.shipping_limit
        self.start_timer(DeliveryOverdue(), at=event.estimated_delivery)  # until a final state is entered

    @transition(S.PLACED, to=S.APPROVED)
    def approve(self, event: PaymentApproved) -> None:
        """Take note of the money: from now on the warehouse has to keep its limit."""
        self.approved_at = event.at
        if self.shipping_limit is not None:
            self.start_timer(ShippingLimitPassed(), at=self.shipping_limit)

    @transition(S.APPROVED, to=S.INVOICED)
    def invoice(self, event: Invoiced) -> None:
        """Change the state, and nothing else."""

    @transition(S.APPROVED, S.INVOICED, to=S.PROCESSING)
    def start_processing(self, event: ProcessingStarted) -> None:
        """Change the state, and nothing else."""

    @postpone(S.PLACED)
    @transition(S.APPROVED, S.INVOICED, S.PROCESSING, to=S.SHIPPED)
    def hand_over(self, event: HandedToCarrier) -> None:
        """Ship the order. The warehouse can be quicker than the bank: then its report waits for the approval."""
        self.handed_over_at = event.at
        self.cancel_timer(ShippingLimitPassed)

    @postpone(S.PLACED, S.APPROVED, S.INVOICED, S.PROCESSING)
    @transition(S.SHIPPED, to=S.DELIVERED)
    def deliver(self, event: DeliveredToCustomer) -> None:
        """End the order well. The carrier's reports overtake each other: a delivery waits for its hand-over.

        If that never comes, the delivery still waits when the log ends. Somebody should look at such an order, and the
        summary says how many there are.
        """
        self.ended_at = event.at

    # Messages leave with the commit, and the sender does not wait: a gateway that is down holds up no order.
    @transition(S.APPROVED, S.INVOICED, S.PROCESSING, to=STAY)
    def be_handed_over_late(self, event: ShippingLimitPassed) -> None:
        """Tell the customer that the order leaves late."""
        self.tell(f"late-handover-{self.id}", Notify(order=self.id, text="your order has not left us yet"))
        self.is_handed_over_late = True

    @transition(S.PLACED, S.APPROVED, S.INVOICED, S.PROCESSING, S.SHIPPED, to=STAY)
    def be_delivered_late(self, event: DeliveryOverdue) -> None:
        """Tell the customer that the order comes late."""
        self.tell(f"late-delivery-{self.id}", Notify(order=self.id, text="your order is late"))
        self.is_delivered_late = True

    # What a shop must decide: may an order be canceled after its delivery? Real logs say it happens. Here a parcel
    # under way can be called back, so SHIPPED leads to CANCELED; a delivered order cannot, because what the customer
    # wants then is a return, a process of its own with states of its own. So DELIVERED has no transition for Canceled:
    # its sender is told `unhandled`, the order stays delivered, and the summary shows how often that happened.
    @transition(S.PLACED, S.APPROVED, S.INVOICED, S.PROCESSING, S.SHIPPED, to=S.CANCELED)
    def cancel(self, event: Canceled) -> None:
        """Call the order off."""
        self.ended_at = event.at

    @transition(S.PLACED, S.APPROVED, S.INVOICED, S.PROCESSING, to=S.UNAVAILABLE)
    def mark_unavailable(self, event: MarkedUnavailable) -> None:
        """Give the order up: the goods cannot be had."""
        self.ended_at = event.at

    # Surveys follow a calendar of their own: they may come in any state, final ones too, and change none.
    @transition(*OrderState, to=STAY)
    def send_survey(self, event: ReviewSurveySent) -> None:
        """Count the surveys."""
        self.surveys_sent += 1

    @transition(*OrderState, to=STAY)
    def note_score(self, event: ReviewAnswered) -> None:
        """Keep what the customer thinks."""
        self.scores += (event.score,)
