"""What committed turns have promised: timers, jobs, watches. The trace must keep it, and bring nothing else.

The books follow the trace alone. What a hook asks for is a plan, until the record of its turn says that it was
committed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from actorfsm import TimerScope
from tests.campaigns.p1.machines import tag_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from actorfsm import Record

KINDS = frozenset({"committed", "vetoed", "unhandled", "failed", "expired", "dead_lettered"})
TURNS = frozenset({"committed", "vetoed", "failed"})
"""Records that only a turn can bring."""


@dataclass
class Timer:
    """A timer that a committed turn has started."""

    tag: str
    scope: TimerScope
    due: float


@dataclass
class Job:
    """A job that a committed turn has started; `answers` are the tags of the events that may tell how it ended."""

    tag: str
    answers: tuple[str, ...]


@dataclass
class Book:
    """What the trace says a machine must be: steps of committed turns, state, seq, and what is promised it."""

    steps: list[str]
    state: str | None
    seq: int
    lives: bool = True
    timers: dict[str, Timer] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    watching: set[str] = field(default_factory=set)


class Promises:
    """The plans of turns, and the books of all machines."""

    def __init__(self, wrong: Callable[[str], None]) -> None:
        self.books: dict[str, Book] = {}
        self.wrong = wrong
        self._plans: dict[tuple[str, str], tuple[Any, list[Callable[[Book], None]]]] = {}
        self.known: set[str] = set()
        """The tags of all events that timers or jobs may bring, whether they were promised or only planned."""
        self.begun: Counter[str] = Counter()
        self.promised_jobs: set[str] = set()
        self._owed: Counter[tuple[str, str]] = Counter()
        """By watcher and watched, how many `Terminated` are on their way."""
        self._held: dict[str, int] = {}
        """By the machine that is suspended, how many turns it may still end."""

    # -- plans ------------------------------------------------------------------------------------------------

    def plan(self, machine: Any, does: Callable[[Book], None]) -> None:
        """Note what the commit of a machine's turn will do; another attempt at the event plans anew."""
        key = machine.id, tag_of(machine._turn.envelope.event)
        if key not in self._plans or self._plans[key][0] is not machine._turn:
            self._plans[key] = machine._turn, []
        self._plans[key][1].append(does)

    def timer(self, machine: Any, name: str, tag: str, scope: TimerScope, after_s: float, now: Any) -> None:
        self.known.add(tag)
        self.plan(machine, lambda book: book.timers.__setitem__(name, Timer(tag, scope, now() + after_s)))

    def job(self, machine: Any, name: str, tag: str, answers: tuple[str, ...]) -> None:
        self.known.update(answers)

        def begins(book: Book) -> None:
            self.promised_jobs.add(tag)
            book.jobs[name] = Job(tag, answers)

        self.plan(machine, begins)

    def watch(self, machine: Any, watched: str) -> None:
        watcher = machine.id

        def begins(book: Book) -> None:
            if self.has_ended(watched):
                self._owed[watcher, watched] = 1  # what is on its way says so already
            else:
                book.watching.add(watched)

        self.plan(machine, begins)

    def unwatch(self, machine: Any, watched: str) -> None:
        watcher = machine.id

        def ends(book: Book) -> None:
            book.watching.discard(watched)
            self._owed[watcher, watched] = 0

        self.plan(machine, ends)

    def hold(self, machine_id: str, *, turns: int) -> None:
        """Note that a machine is suspended, and how many turns it may still end before it is resumed."""
        self._held[machine_id] = turns

    def has_ended(self, machine_id: str) -> bool:
        """Tell whether the trace says that a machine has ended, or never lived."""
        book = self.books.get(machine_id)
        return book is None or not book.lives or book.state == "END"

    # -- the trace --------------------------------------------------------------------------------------------

    def read(self, record: Record, choice: Any, now: float) -> None:
        """Follow one record; `choice` is the transition of a commit."""
        book = self.books.get(record.machine_id)
        if book is None or record.duplicate:
            return
        tag = "" if record.event is None else tag_of(record.event)
        if record.name in {"resumed", "stopped"}:
            self._held.pop(record.machine_id, None)
        if record.name in TURNS and record.machine_id in self._held:
            self._held[record.machine_id] -= 1
            if self._held[record.machine_id] < 0:
                self.wrong(f"{record.machine_id} handled {tag} although it is suspended")
        if record.name in KINDS and tag.startswith("end of "):
            self._notified(record.machine_id, tag.removeprefix("end of "))
        if record.name in KINDS and (tag in self.known or tag.startswith("timeout ")):
            self._came(record, book, tag, now)
        if record.name == "committed":
            self._committed(record, book, choice, tag, now)
        elif record.name == "job_failed" and book.jobs.pop(str(record.hook), None) is None:
            self.wrong(f"{record} of a job that is over")
        elif record.name == "stopped" and record.reason != "its supervisor stopped it":
            book.lives = False
            book.timers, book.jobs, book.watching = {}, {}, set()
            self._ended(record.machine_id)

    def _came(self, record: Record, book: Book, tag: str, now: float) -> None:
        """Follow an event that a timer or a job has brought: it must be promised, and a timer must be due."""
        if record.name == "dead_lettered" and not book.lives:
            return
        for name, timer in book.timers.items():
            if timer.tag == tag:
                if now < timer.due:
                    self.wrong(f"the timer {tag} of {record.machine_id} came {timer.due - now:g} s early")
                if record.name not in {"failed", "committed"}:
                    del book.timers[name]
                return
        for name, job in book.jobs.items():
            if tag in job.answers:
                if record.name != "committed":
                    del book.jobs[name]
                return
        self.wrong(f"{record.machine_id} was brought {tag} ({record.name}), which nobody has promised")

    def _committed(self, record: Record, book: Book, choice: Any, tag: str, now: float) -> None:
        book.timers = {
            name: timer
            for name, timer in book.timers.items()
            if timer.tag != tag
            and (timer.scope is TimerScope.NAMED or (timer.scope is TimerScope.STATE and choice.stays))
        }
        book.jobs = {name: job for name, job in book.jobs.items() if choice.stays and tag not in job.answers}
        if not choice.stays:
            for spec in choice.target.timers:
                book.timers[spec.name] = Timer(f"timeout {spec.name}", TimerScope.STATE, now + spec.after_s)
        for does in self._plans.get((record.machine_id, tag), (None, ()))[1]:
            does(book)
        if choice.target.final and not choice.stays:
            book.timers, book.jobs = {}, {}
            self._ended(record.machine_id)

    def _ended(self, machine_id: str) -> None:
        for watcher, book in self.books.items():
            if machine_id in book.watching:
                book.watching.remove(machine_id)
                self._owed[watcher, machine_id] += 1

    def _notified(self, watcher: str, watched: str) -> None:
        self._owed[watcher, watched] -= 1
        if self._owed[watcher, watched] < 0:
            self.wrong(f"{watcher} was told of the end of {watched} too often")

    # -- at rest ----------------------------------------------------------------------------------------------

    def check_rest(self, living: list[str], now: float) -> None:
        """See that all that was promised to a machine that lives and is free to go on has come."""
        for machine_id in living:
            book = self.books[machine_id]
            for timer in book.timers.values():
                # Whether an event was postponed, with which those of the third kind die, is in no record.
                if timer.due < now and timer.scope is not TimerScope.EVENT:
                    self.wrong(f"the timer {timer.tag} of {machine_id} never came")
            for job in book.jobs.values():
                self.wrong(f"the job {job.tag} of {machine_id} was never answered")
            for (watcher, watched), n in self._owed.items():
                if watcher == machine_id and n > 0:
                    self.wrong(f"{watcher} was never told of the end of {watched}")
        for tag in self.begun:
            if tag not in self.promised_jobs:
                self.wrong(f"the job {tag} was begun, and its turn was not committed")

    def job_begins(self, tag: str, *, again: bool) -> None:
        """Note that a job's coroutine runs."""
        self.begun[tag] += 1
        if tag not in self.promised_jobs:
            self.wrong(f"the job {tag} was begun before its turn was committed")
        if self.begun[tag] > 1 and not again:
            self.wrong(f"the job {tag} was begun twice")

    def job_returned(self, tag: str) -> None:
        """Note that a job of which nobody is told has ended well."""
        for book in self.books.values():
            for name, job in list(book.jobs.items()):
                if job.tag == tag and not job.answers:
                    del book.jobs[name]
