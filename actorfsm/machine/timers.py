"""Timers as a machine declares them: how long they last, and what a state starts when it is entered."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actorfsm.event import StateTimeout

__all__ = ["StateTimer", "TimerScope"]


class TimerScope(StrEnum):
    """When a timer dies of itself (gen_statem's generic, state and event time-outs)."""

    NAMED = "named"
    """When it is cancelled, or its name is started again."""
    STATE = "state"
    """When the state is left, also for itself; `to=STAY` does not leave it."""
    EVENT = "event"
    """When the machine has handled, postponed or not known any other event. A veto or a failure leaves it running."""


@dataclass(frozen=True, slots=True, eq=False)
class StateTimer:
    """What an `@on_timeout` starts when its state is entered.

    Attributes:
        name: The method's name.
        after_s: How long after the commit, in seconds.
        event: What comes then.
    """

    name: str
    after_s: float
    event: StateTimeout
