"""The summary: what a run of the example tells at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from examples.orders.books import OUTCOMES, Books
from examples.orders.feed import Account

__all__ = ["Summary"]


@dataclass(frozen=True, slots=True)
class Summary:
    """What is told at the end. What became of the events and orders comes from the journal.

    Attributes:
        lines: Lines read: blank, bad, or an event each.
        known: Events that the journal had from an earlier run.
        events: Events sent to the machines.
        orders: Machines alive, by state.
        outcomes: Events by what became of them. Dead letters are those for orders that nobody has placed (yet).
        postponed: Events that still wait for their time.
        late: Promises that were not kept, by what was promised.
        gateway: What became of the gateway, and of the notices to customers.
        bad: Lines that were no event.
        days: Days of the log that passed meanwhile.
        seconds: How long it took.
        interrupted: Whether it was stopped before the end of the log.
        broken_off: Why the log could not be read to its end, or None.
    """

    lines: int
    blank: int
    bad: int
    known: int
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

    @classmethod
    def of(
        cls,
        books: Books,
        account: Account,
        *,
        days: int,
        seconds: float,
        interrupted: bool = False,
        broken_off: str | None = None,
    ) -> Self:
        """Return what the books and the account of a run tell."""
        return cls(
            lines=account.lines,
            blank=account.blank,
            bad=account.bad,
            known=account.known,
            events=account.sent,
            outcomes={kind: books.outcomes[kind] for kind in OUTCOMES},
            postponed=books.waiting,
            orders=dict(books.orders),
            late=books.late,
            gateway={"restarts": account.restarts, **books.notices},
            days=days,
            seconds=seconds,
            interrupted=interrupted,
            broken_off=broken_off,
        )

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
                f"{self.known + self.events:,} events by outcome",
                *_rows(ends | {"still waiting": self.postponed}),
                f"{sum(self.late.values()):,} promises broken",
                *_rows(self.late),
                "The gateway to the customers",
                *_rows(self.gateway),
                f"{self.lines:,} lines, {self.bad:,} of them bad, {self.blank:,} blank",
                *([f"{self.known:,} events were in the journal already"] if self.known else []),
                f"{self.days:,} days in {self.seconds:.2f} s, {rate:,.0f} events per second",
            ]
        )


def _rows(counts: dict[str, int]) -> list[str]:
    return [f"  {name.lower().replace('_', ' '):<28}{count:>10,}" for name, count in counts.items()]
