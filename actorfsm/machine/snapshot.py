"""A machine seen from outside: its last committed state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic

from typing_extensions import TypeVar

__all__ = ["Snapshot"]

StateT = TypeVar("StateT", default=Any)


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[StateT]):
    """The last committed state of a machine, taken without a turn; what a running turn has changed is not in it.

    Attributes:
        machine: Name of the machine class.
        machine_id: Its id.
        state: Its state.
        data: A copy of its data fields.
        seq: How many transitions it has committed.
        incarnation: How often it was restarted.
        allowed: Names of the event classes that have a transition, or are postponed, in this state.
    """

    machine: str
    machine_id: str
    state: StateT
    data: dict[str, Any]
    seq: int
    incarnation: int
    allowed: tuple[str, ...]
