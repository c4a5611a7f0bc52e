"""A life: what is known of one machine while its log is read. Bounded, however long the log is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from actorfsm.trace import Record
    from actorfsm.verify_log.laws import Law

__all__ = ["Life", "is_numbered"]

RECENT: Final = 16
"""How many of the newest refusals a machine's duplicates are compared with."""
_NUMBERED: Final = re.compile(r"[0-9a-f]{12}-\d+(?:/|\Z)")


def is_numbered(event_id: str) -> bool:
    """Return whether the runtime gave the id, or derived it from one that it gave: no two events have the same."""
    return _NUMBERED.match(event_id) is not None


class Life:
    """One machine from its birth to its stop.

    Attributes:
        law: What its class may do.
        state: Its state.
        seq: How many transitions are committed.
        incarnation: How often it was restarted.
        whole: Whether the log shows all of it, and nothing has been forgotten.
        held: Whether it is in quarantine; None if the log does not show its beginning.
        stopped: Whether it has been stopped.
        ended: How many of its events have ended.
        given: What was committed under explicit event ids, the newest: when, the transition, and the class of
            the event.
        numbered: The same for the ids that the runtime gives.
        refused: The newest events that were not committed: the outcome, the states, and the class of the event.
        former: The life before, if the id had one: its hooks beside the machine may still be heard of.
        last: The event id of the last commit.
        failed_afters: The after-hooks of the last commit that failed.
    """

    __slots__ = (
        *(
            "ended",
            "failed_afters",
            "former",
            "given",
            "held",
            "incarnation",
            "last",
            "law",
            "numbered",
            "refused",
        ),
        *("seq", "state", "stopped", "whole"),
    )

    def __init__(self, law: Law, state: str | None, seq: int, incarnation: int, *, whole: bool) -> None:
        self.law = law
        self.state = state
        self.seq = seq
        self.incarnation = incarnation
        self.whole = whole
        self.held: bool | None = False if whole else None
        self.stopped = False
        self.former: Life | None = None
        self.ended = 0
        self.given: dict[str, tuple[int, str | None, str | None, str]] = {}
        self.numbered: dict[str, tuple[int, str | None, str | None, str]] = {}
        self.refused: dict[str, tuple[str, str | None, str | None, str]] = {}
        self.last = ""
        self.failed_afters: set[str | None] | None = None

    def commit(self, record: Record) -> None:
        """Take a commit over, and remember it in the place of the oldest if there is no room."""
        self.state, self.seq = record.target, record.seq
        self.ended += 1
        ids = self.numbered if is_numbered(record.event_id) else self.given
        ids.pop(record.event_id, None)
        ids[record.event_id] = (self.ended, record.source, record.target, record.event_type)
        if len(ids) > self.law.remembered:
            del ids[next(iter(ids))]
            self.whole = False
        self.last, self.failed_afters = record.event_id, None

    def refuse(self, record: Record) -> None:
        """Remember an event that was not committed, for its duplicates."""
        self.ended += 1
        self.refused.pop(record.event_id, None)
        self.refused[record.event_id] = (record.name, record.source, record.target, record.event_type)
        if len(self.refused) > RECENT:
            del self.refused[next(iter(self.refused))]

    def follow(self, former: Life) -> None:
        """Begin after a former life of the same id; what was before that one is forgotten."""
        if former.former is not None:
            former.former, former.whole = None, False
        self.former = former

    def find(self, event_id: str) -> tuple[int, str | None, str | None, str] | None:
        """Return the commit of an event id, if it is remembered."""
        return self.given.get(event_id) or self.numbered.get(event_id)
