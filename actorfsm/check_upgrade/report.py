"""The report of a check: where what is stored lands, counted, and what does not land, with one example of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Landing", "Misfit", "Report", "Thing"]

Thing: TypeAlias = Literal["machine", "timer", "postponed event", "promised event", "recorded reply"]

_TITLES: Final[dict[Thing, str]] = {
    "machine": "machines",
    "timer": "timers",
    "postponed event": "postponed events",
    "promised event": "promised events",
    "recorded reply": "recorded replies",
}


class Landing(NamedTuple):
    """Things that are stored alike and land alike.

    Attributes:
        thing: What it is.
        machine: Name of the machine class, as it is stored.
        stored: What is stored, with its schema version.
        lands: What it is in the code of today.
    """

    thing: Thing
    machine: str
    stored: str
    lands: str


@dataclass(slots=True)
class Misfit:
    """Things that are stored alike and do not land.

    Attributes:
        machine_id: The first machine that has one.
        why: Why that one does not, and what to do.
        count: How many there are.
    """

    machine_id: str
    why: str
    count: int = 0


@dataclass(slots=True)
class Report:
    """What a check found. It grows with what differs, not with the journal.

    Attributes:
        landings: How many land where.
        misfits: What does not land, by what is stored.
        machines: How many machines were looked at.
        trimmed: How many entries are trimmed, so that a reply recorded in them was not looked at.
    """

    landings: dict[Landing, int] = field(default_factory=dict[Landing, int])
    misfits: dict[tuple[Thing, str, str], Misfit] = field(
        default_factory=dict[tuple[Thing, str, str], Misfit]
    )
    machines: int = 0
    trimmed: int = 0

    @property
    def lands(self) -> bool:
        """Whether all of it lands."""
        return not self.misfits

    def add(self, landing: Landing) -> None:
        """Count something that lands."""
        self.landings[landing] = self.landings.get(landing, 0) + 1

    def miss(self, thing: Thing, machine: str, stored: str, machine_id: str, why: str) -> None:
        """Count something that does not."""
        self.misfits.setdefault((thing, machine, stored), Misfit(machine_id, why)).count += 1

    def as_json(self) -> dict[str, Any]:
        """Return the report as values that JSON can say."""
        return {
            "lands": self.lands,
            "machines": self.machines,
            "trimmed": self.trimmed,
            "landings": [
                {"thing": thing, "class": machine, "stored": stored, "lands": lands, "count": count}
                for (thing, machine, stored, lands), count in sorted(self.landings.items())
            ],
            "misfits": [
                {
                    "thing": thing,
                    "class": machine,
                    "stored": stored,
                    "count": misfit.count,
                    "first_id": misfit.machine_id,
                    "why": misfit.why,
                }
                for (thing, machine, stored), misfit in sorted(self.misfits.items())
            ],
        }

    def lines(self) -> Iterator[str]:
        """Yield the report as lines of text."""
        for thing, title in _TITLES.items():
            found = sorted(
                (landing, count) for landing, count in self.landings.items() if landing.thing == thing
            )
            if found:
                yield f"{title}:"
            for landing, count in found:
                yield f"{count:>12,}  {landing.machine}: {landing.stored} -> {landing.lands}"
        if self.misfits:
            yield "these do not land:"
        for (thing, machine, stored), misfit in sorted(self.misfits.items()):
            title = thing if misfit.count == 1 else _TITLES[thing]
            yield f"{misfit.count:>12,}  {title} of {machine}: {stored}, the first one at {misfit.machine_id}"
            yield f"{'':>14}{misfit.why}"
        if self.trimmed:
            yield (
                f"{self.trimmed:,} entries are trimmed: what is recorded in them for event ids was not looked at"
            )
