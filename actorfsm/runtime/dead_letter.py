"""Dead letters: events that could not be delivered, kept so that somebody can look.

Bounded: the oldest make room for the newest, and a counter tells how many there were.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from actorfsm.event import Event

__all__ = ["DeadLetter", "DeadLetters"]


class DeadLetter(NamedTuple):
    """An event that could not be delivered.

    Attributes:
        machine_id: For whom it was.
        event: The event.
        event_id: Its id.
        reason: Why it could not be delivered.
        at: When (UTC).
        attempts: How often it was delivered and failed.
        has_own_id: Whether its sender chose the id.
        headers: Its headers, or None.
    """

    machine_id: str
    event: Event[Any, Any]
    event_id: str
    reason: str
    at: datetime
    attempts: int = 0
    has_own_id: bool = False
    headers: Mapping[str, str] | None = None


class DeadLetters:
    """The newest dead letters of a system."""

    def __init__(self, limit: int) -> None:
        self._letters: deque[DeadLetter] = deque(maxlen=limit)
        self.total = 0
        """How many there were since the system started."""

    def add(self, letter: DeadLetter) -> None:
        """Keep a dead letter, in the place of the oldest if there is no room."""
        self.total += 1
        self._letters.append(letter)

    def take(self, letter: DeadLetter) -> int:
        """Take a letter off the list; return its place, or -1 if it is not there."""
        for place, known in enumerate(self._letters):
            if known is letter:
                del self._letters[place]
                return place
        return -1

    def put_back(self, place: int, letter: DeadLetter) -> None:
        """Put a letter that was taken back where it was."""
        self._letters.insert(place, letter)

    def __iter__(self) -> Iterator[DeadLetter]:
        return iter(tuple(self._letters))

    def __len__(self) -> int:
        return len(self._letters)
