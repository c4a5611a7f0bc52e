"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any

__all__ = ["Finding", "Level"]


class Level(StrEnum):
    """How sure it is that something should be changed."""

    WRONG = auto()
    """It cannot be meant."""
    DOUBT = auto()
    """It can go wrong, depending on ids and times that the source does not show."""
    NOTE = auto()
    """It may well be meant; look at it once."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found.

    Attributes:
        level: How sure it is.
        rule: Its name, as the reference page has it.
        machine: Name of the machine class.
        state: The state, or an empty text.
        events: Names of the event classes.
        text: What is so.
        where: File and line, or an empty text.
    """

    level: Level
    rule: str
    machine: str
    text: str
    state: str = ""
    events: tuple[str, ...] = ()
    where: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {name: getattr(self, name) for name in self.__slots__}
