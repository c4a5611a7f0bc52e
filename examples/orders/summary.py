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
        bad: Lines that were no event.
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
    seconds: float
    interrupted: bool
    broken_off: str | None

    def __str__(self) -> str:
        rate = self.events / self.seconds if self.seconds else 0
        states = [f"  {state.lower():<14}{count:>10,}" for state, count in self.orders.items()]
        ends = [
            f"  {kind.replace('_', ' '):<14}{count:>10,}"
            for kind, count in self.outcomes.items()
            if count or kind in {"committed", "unhandled", "dead_lettered"}
        ]
        return "\n".join(
            [
                *(
                    ["Not the whole log: this is what was done until then."]
                    if self.interrupted or self.broken_off
                    else []
                ),
                f"{sum(self.orders.values()):,} orders by state",
                *states,
                f"{self.events:,} events by outcome",
                *ends,
                f"  {'still waiting':<14}{self.postponed:>10,}",
                f"{self.lines:,} lines, {self.bad:,} of them bad, {self.blank:,} blank",
                f"{self.seconds:.2f} s, {rate:,.0f} events per second",
            ]
        )
