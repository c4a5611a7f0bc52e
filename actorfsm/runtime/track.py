"""Where a machine stands in the journal, and what of it waits to be stored."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from actorfsm.errors import JournalError
    from actorfsm.journal.entry import DeadMessage, Entry, Status
    from actorfsm.journal.image import Image
    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.tasks import Verdict
    from actorfsm.runtime.timers import Timer
    from actorfsm.runtime.transaction import Transaction

__all__ = ["NOT_STORED", "Line", "Telling", "Track", "microseconds", "time_of_day"]

NOT_STORED: Final = -1
"""Instead of a number of failures: a timer that the next entry has to store."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def microseconds(when: datetime) -> int:
    """Return a time as the journal has it."""
    return (when - _EPOCH) // _MICROSECOND


def time_of_day(at_us: int) -> datetime:
    """Return a time of the journal."""
    return _EPOCH + at_us * _MICROSECOND


class Telling:
    """What is told when something is stored: an outcome, and what befell the machine after it.

    Args:
        track: Of the machine, so that what is told later can wait behind; None if there is none.
        tell: Tells it; it is given None, or why it will never be known whether it is stored.
    """

    __slots__ = ("_after", "_tell", "_track")

    def __init__(self, track: Track | None, tell: Callable[[JournalError | None], None]) -> None:
        self._track = track
        self._tell = tell
        self._after: list[Callable[[JournalError | None], None]] = []
        if track is not None:
            track.telling = self

    def add(self, tell: Callable[[JournalError | None], None]) -> None:
        """Tell something that is not stored itself after it."""
        self._after.append(tell)

    def __call__(self, error: JournalError | None) -> None:
        """Tell it."""
        if self._track is not None and self._track.telling is self:
            self._track.telling = None
        self._tell(error)
        for tell in self._after:
            tell(None)


class Line:
    """An entry on its way: the turn of a commit waits for its answer, another outcome is told when it is stored.

    One that belongs to the commit before it is stored with that, or not at all.

    Attributes:
        follows: The commit that was on its way when this was made, if there was one.
        has_status: Whether this says itself what the machine is from now on; otherwise what was before it does.
        refused: Called when a commit is not stored, before anybody hears of it.
    """

    __slots__ = (
        *("answer", "dead", "entry", "envelope", "follows", "has_status", "image", "is_of_commit", "refused"),
        "telling",
    )

    def __init__(
        self,
        entry: Entry,
        dead: tuple[DeadMessage, ...] = (),
        answer: Verdict | None = None,
        envelope: Envelope | None = None,
        telling: Telling | None = None,
        *,
        image: Image | None = None,
        follows: Line | None = None,
        has_status: bool = False,
        is_of_commit: bool = False,
    ) -> None:
        self.entry = entry
        self.is_of_commit = is_of_commit
        self.follows = follows
        self.has_status = has_status
        self.refused: Callable[[], None] | None = None
        self.image = image
        self.dead = dead
        self.answer = answer
        self.envelope = envelope
        self.telling = telling


class Track:
    """Where a machine stands in the journal.

    Attributes:
        seq: Number of its last entry that is stored.
        snapshot_seq: Number of the entry that its last snapshot shows; 0 if there is none.
        status: As its last entry in the line has it.
        last: The last entry that was stored in this life of the system.
        jobs: The keys of its jobs that are promised.
        timers: Its timers as that entry leaves them: each with how often it had failed.
        transaction: The user's own, by which what waits in the line is stored next; None if by the journal alone.
        timers_given_up: Names of stored timers that the code of today does not have: they end with each entry, which
            is the same as once.
        lines: Entries that wait to be stored.
        watches: The ids that it watches, likewise.
        telling: What is told when the last of them is stored that has something to tell.
        wake: The key under which the machine is promised to be woken in the next life, because postponed events of it
            were released and not tried yet; empty if it is not.
        is_outdated: Whether state and data are stored in an older schema version: the next entry has them anew, because
            those of two versions do not go together.
        committing: The commit that is on its way: what befalls the machine meanwhile is stored after it.
        is_writing: Whether a batch of it is on its way.
        is_left: Whether the machine is given up, so that its end is not stored.
        knows_all_ids: Whether all event ids that were applied to it are in memory.
    """

    __slots__ = (
        *(
            "committing",
            "is_left",
            "is_outdated",
            "is_writing",
            "jobs",
            "knows_all_ids",
            "last",
            "lines",
            "seq",
            "snapshot_seq",
            "status",
            "telling",
            "timers",
        ),
        *("timers_given_up", "transaction", "wake", "watches"),
    )

    def __init__(self, seq: int = 0, status: Status = "alive", *, knows_all_ids: bool = False) -> None:
        self.seq = seq
        self.snapshot_seq = 0
        self.status: Status = status
        self.timers: dict[str, tuple[Timer, int]] = {}
        self.timers_given_up: tuple[str, ...] = ()
        self.jobs: dict[str, None] = {}
        self.watches: dict[str, None] = {}
        self.lines: deque[Line] = deque()
        self.telling: Telling | None = None
        self.transaction: Transaction | None = None
        self.wake = ""
        self.is_outdated = False
        self.is_writing = False
        self.committing: Line | None = None
        self.last: Entry | None = None
        self.is_left = False
        self.knows_all_ids = knows_all_ids

    @property
    def is_over(self) -> bool:
        """Whether there is no end of the machine to be stored any more."""
        return self.is_left or self.status == "stopped"

    def follow(self, entry: Entry) -> None:
        """Take over what an entry says of the machine's jobs and watches, and whether it is to be woken."""
        if not (entry.settles or entry.promises or entry.unwatches or entry.watches):
            return
        for key in entry.settles:
            self.jobs.pop(key, None)
            if key == self.wake:
                self.wake = ""
        for pending in entry.promises:
            if pending.kind == "job":
                self.jobs[pending.key] = None
            elif pending.kind == "wake":
                self.wake = pending.key
        for machine_id in (*entry.unwatches, *entry.watches):
            self.watches.pop(machine_id, None)
        self.watches.update(dict.fromkeys(entry.watches))
