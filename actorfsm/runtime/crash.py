"""The crash: what a failure of user code was made of, so that somebody can repeat it.

It holds references and copies nothing: committed data is never changed in place. An event whose class can be changed in
place is shown as the hook left it, unless its sender gave it an id: then it was kept as it was sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actorfsm.values import copy_value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from enum import Enum

    from actorfsm.event import Event
    from actorfsm.machine.machine import Machine

__all__ = ["Crash"]


@dataclass(frozen=True, slots=True, eq=False)
class Crash:
    """A failure of user code; `actorfsm.testing.crash_capsule` makes a test of it.

    Attributes:
        machine_class: The machine's class.
        machine_id: Its id.
        state: Its state before; None if it was not yet born.
        committed: Its committed data before; where a birth failed, what that began with. The machine's own: `data` is
            a copy.
        seq: How many transitions it had committed.
        incarnation: How often it had been restarted.
        event: The event.
        event_may_have_changed: Whether the hook could change the event in place before it failed.
        event_id: Its id.
        causation_id: Id of the event in whose turn it was sent, or None.
        headers: Its headers.
        attempt: How often it had been delivered before.
        hook: The guard, hook or body that failed.
        error_class: The class of what was raised.
        error_text: Its message.
        at: When, on the loop's clock, in seconds.
        seed: The seed of the simulated loop; None on any other.
    """

    machine_class: type[Machine[Any, Any]]
    machine_id: str
    state: Enum | None
    committed: Mapping[str, Any]
    seq: int
    incarnation: int
    event: Event[Any, Any]
    event_may_have_changed: bool
    event_id: str
    causation_id: str | None
    headers: Mapping[str, str] | None
    attempt: int
    hook: str
    error_class: type[BaseException]
    error_text: str
    at: float
    seed: int | None

    @property
    def data(self) -> dict[str, Any]:
        """A copy of the committed data before."""
        return {name: copy_value(value) for name, value in self.committed.items()}

    def __repr__(self) -> str:
        return f"<{self.error_class.__name__} in {self.hook} of {self.machine_id} at {type(self.event).__name__}>"
