"""What a customer is told: one machine for each notice, which exists until the gateway has taken it.

Orders send `Notify` and go on. Whether the gateway is up is none of their business: what may fail has a machine of its
own, and so fails alone.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum, auto
from typing import Final

from actorfsm import Event, Machine, StateTimeout, on_timeout, transition
from examples.orders.gateway import Gateway

__all__ = ["Notice", "NoticeState", "Notify"]

AT_ONCE: Final = timedelta(0)


class NoticeState(StrEnum):
    """Where a notice can be."""

    WRITTEN = auto()
    SENT = auto()


S = NoticeState


class Notify(Event[None, "Notice"]):
    """Give birth to a notice."""

    order: str
    text: str


class Notice(Machine[NoticeState, Gateway], final=(S.SENT,)):
    """One notice to one customer."""

    order: str
    text: str

    @transition(to=S.WRITTEN)
    def write(self, event: Notify) -> None:
        """Keep what is to be said."""
        self.order, self.text = event.order, event.text

    # Why a timer, if it is due at once? Because a timer whose event fails comes again: three times, after growing
    # pauses. Then the machine is put into quarantine with its timer, until somebody releases it: here the gateway.
    @on_timeout(S.WRITTEN, after=AT_ONCE, to=S.SENT)
    def send(self, event: StateTimeout) -> None:
        """Hand it to the gateway, and be gone."""
        self.services.tell_customer(self.order, self.text)
        self.stop()
