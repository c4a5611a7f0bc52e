"""The summary: what a run of the example tells at its end."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Summary"]


@dataclass(frozen=True, slots=True)
class Summary:
    """What is told at the end.

    Attributes:
        lines: Lines read: blank, bad, or an event each.
        events: Events sent to the machines.
        orders: Machines alive, by state.
        outcomes: Events by what became of them. Dead letters are those for orders that nobody has placed (yet).
        postponed: Events that still wait for their time.
        late: Promises that were not kept, by what was promised.
        gateway: What became of the gateway, and of the notices to customers.
        bad: Lines that were no event.
        days: Days from the first event of the log to the last.
        seconds: How long it took.
        interrupted: Whether it was stopped before the end of the log.
        broken_off: Why the log could not be read to its end, or None.
    """

    lines: int
    blank: int
    bad: int
    events: int
    outcomes: dict[str, int]
    postponed: int
    orders: dict[str, int]
    late: dict[str, int]
    gateway: dict[str, int]
    days: int
    seconds: float
    interrupted: bool
    broken_off: str | None

    def __str__(self) -> str:
        rate = self.events / self.seconds if self.seconds else 0
        ends = {
            kind: count
            for kind, count in self.outcomes.items()
            if count or kind in {"committed", "unhandled", "dead_lettered"}
        }
        return "\n".join(
            [
                *(
                    ["Not the whole log: this is what was done until then."]
                    if self.interrupted or self.broken_off
                    else []
                ),
                f"{sum(self.orders.values()):,} orders by state",
                *_rows(self.orders),
                f"{self.events:,} events by outcome",
                *_rows(ends | {"still waiting": self.postponed}),
                f"{sum(self.late.values()):,} promises broken",
                *_rows(self.late),
                "The gateway to the customers",
                *_rows(self.gateway),
                f"{self.lines:,} lines, {self.bad:,} of them bad, {self.blank:,} blank",
                f"{self.days:,} days in {self.seconds:.2f} s, {rate:,.0f} events per second",
            ]
        )


def _rows(counts: dict[str, int]) -> list[str]:
    return [f"  {name.lower().replace('_', ' '):<28}{count:>10,}" for name, count in counts.items()]
