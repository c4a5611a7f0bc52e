"""The last transitions of a whole system: a ring that is always on, for whoever asks afterwards what happened.

An entry is one small tuple of references, made where an event ends; names, ids and times of day are made when somebody
looks. It holds no event, no data and no machine. To read a clock would cost half as much again, so how long an event
took is known only where a sink needs it too.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from actorfsm.clock import roughly

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from actorfsm.event import OutcomeKind
    from actorfsm.ids import EventIds
    from actorfsm.runtime.kind import Kind

__all__ = ["Ring", "TransitionEntry"]

Row: TypeAlias = "tuple[Kind, str, int, type[Any], str | int, float, Any, Any, OutcomeKind, float | None]"


@dataclass(frozen=True, slots=True)
class TransitionEntry:
    """How one event of one machine ended.

    Attributes:
        accepted_at: When the event was accepted (UTC).
        machine: Name of the machine class.
        machine_id: The machine's id.
        seq: Number of its last committed transition then.
        event_type: Name of the event's class.
        event_id: The event's id.
        source: State before, by name; None if it was not yet born.
        target: State that the transition leads to, by name; None where none was chosen.
        outcome: committed, vetoed, unhandled, failed, expired or dead_lettered.
        seconds: From then to its outcome: the wait and the hooks. None in a system without a sink, which
            does not measure it.
    """

    accepted_at: datetime
    machine: str
    machine_id: str
    seq: int
    event_type: str
    event_id: str
    source: str | None
    target: str | None
    outcome: OutcomeKind
    seconds: float | None

    def __str__(self) -> str:
        moved = f"{self.source or '-'} -> {self.target or '-'}"
        return (
            f"{self.accepted_at:%H:%M:%S.%f} {self.machine_id} #{self.seq} {self.event_type} {self.event_id}: "
            f"{self.outcome} {moved}{'' if self.seconds is None else f' in {roughly(self.seconds)}'}"
        )


class Ring:
    """The newest ends of events, oldest first.

    Attributes:
        rows: What was noted; `settling.settle` appends.
    """

    __slots__ = ("rows",)

    def __init__(self, limit: int) -> None:
        self.rows: deque[Row] = deque(maxlen=limit)

    def _newest(self, machine_id: str | None) -> Iterator[Row]:
        for row in reversed(self.rows.copy()):
            if machine_id is None or row[1] == machine_id:
                yield row

    def entries(
        self, ids: EventIds, now: float, today: datetime, machine_id: str | None, limit: int | None
    ) -> tuple[TransitionEntry, ...]:
        """Return the newest entries, oldest first.

        Args:
            ids: Makes the text of ids.
            now: The loop's time.
            today: The time of day that this is.
            machine_id: Only those of this machine.
            limit: At most so many.
        """
        found: list[TransitionEntry] = []
        for row in self._newest(machine_id):
            if limit is not None and len(found) >= limit:
                break
            kind, actor_id, seq, event_class, known, accepted_at, old, new, outcome, took_s = row
            found.append(
                TransitionEntry(
                    today - timedelta(seconds=now - accepted_at),
                    kind.name,
                    actor_id,
                    seq,
                    event_class.__name__,
                    _text(known, ids),
                    None if old is None else old.name,
                    None if new is None else new.name,
                    outcome,
                    took_s,
                )
            )
        return tuple(reversed(found))

    def machine_of(self, ids: EventIds, event_id: str) -> str | None:
        """Return the machine that handled an event, if that is remembered."""
        for row in self._newest(None):
            if _text(row[4], ids) == event_id:
                return row[1]
        return None


def _text(known: str | int, ids: EventIds) -> str:
    return known if isinstance(known, str) else ids.text(known)
