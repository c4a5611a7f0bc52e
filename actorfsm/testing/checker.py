"""The checker: was the contract kept? Judges a trace, and the notes of those who sent the events, after the fact.

Pure: it reads records and notes and knows nothing of how they came about, so that the same code judges our campaigns
and the machines of users. It never compares one counter of the runtime with another.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from actorfsm.errors import (
    AskTimeout,
    Discarded,
    Expired,
    HookFailed,
    NotStored,
    OutcomeUnknown,
    Unhandled,
    Vetoed,
)
from actorfsm.testing.tree_laws import Place, TreeLaws
from actorfsm.values import shares_nothing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from actorfsm.runtime.stats import Stats
    from actorfsm.testing.notes import Note, Resolution
    from actorfsm.trace import Record

__all__ = [
    "OUTCOMES",
    "ContractBroken",
    "Facts",
    "Violation",
    "check",
    "check_account",
    "check_notes",
    "check_trace",
]

OUTCOMES: Final = frozenset({"committed", "vetoed", "unhandled", "failed", "expired", "dead_lettered"})
"""Names of records that end an event."""

_HANDLED: Final = frozenset({"committed", "vetoed", "unhandled", "failed"})
"""Outcomes that a turn gives: these come in the order of acceptance."""

_NO_MACHINES: Final = frozenset({"supervisor", "service", "machines"})
"""What `Record.machine` is for the other children of the supervision tree."""

_REMEMBERED: Final = 128  # MachineOptions.remembered_ids
_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise.

    Attributes:
        rule: The rule of the contract.
        line: The record of the trace that breaks it, counted from 1; None if what is missing is a record.
        text: What is wrong.
    """

    rule: str
    line: int | None
    text: str

    def __str__(self) -> str:
        return f"{self.rule}{'' if self.line is None else f', line {self.line}'}: {self.text}"


class ContractBroken(AssertionError):
    """A trace, or what senders noted, contradicts the contract.

    Attributes:
        violations: Each broken promise.
    """

    def __init__(self, violations: Sequence[Violation]) -> None:
        shown = [str(violation) for violation in violations[:_SHOWN]]
        if len(violations) > _SHOWN:
            shown.append(f"and {len(violations) - _SHOWN} more")
        super().__init__("\n  ".join([f"the contract was broken {len(violations)} times:", *shown]))
        self.violations = tuple(violations)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the checker must know of the machine classes, by class name.

    Attributes:
        postponable: Names of the event classes that a machine of the class may postpone: others may overtake them.
        waiting: The classes whose full mailbox lets senders wait outside.
        redelivering: The classes that try a failed event again.
        remembered: How many event ids a machine of the class remembers.
        timeouts: By the state's name, the names of the timers that a state starts: they come in no other.
        tree: By name, where the children of the supervision tree stand; not by class name.
        ends_at: How many records the trace had when the system began to stop; None if it has not.
    """

    postponable: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    waiting: frozenset[str] = frozenset()
    redelivering: frozenset[str] = frozenset()
    remembered: Mapping[str, int] = field(default_factory=dict[str, int])
    timeouts: Mapping[str, dict[str, frozenset[str]]] = field(
        default_factory=dict[str, dict[str, frozenset[str]]]
    )
    tree: Mapping[str, Place] = field(default_factory=dict[str, Place])
    ends_at: int | None = None


def check(
    records: Sequence[Record],
    notes: Iterable[Note] = (),
    *,
    facts: Facts | None = None,
    stats: Stats | None = None,
    times: Sequence[float] | None = None,
    at_rest: bool = True,
) -> list[Violation]:
    """Judge what a system did.

    Args:
        records: Its trace, from its start, in order.
        notes: What senders noted.
        facts: What must be known of the machine classes.
        stats: Its account at the end of the trace.
        times: When each record came, on the loop's clock; without, no reply can be told to be late or lost.
        at_rest: Whether the system has come to rest, so that everything must have ended.

    Returns:
        The broken promises in the order of the trace; none if the contract was kept.
    """
    facts = facts or Facts()
    found = [
        *check_trace(records, facts, times),
        *check_notes(records, notes, facts, times=times, at_rest=at_rest),
    ]
    if stats is not None:
        found += check_account(records, stats, at_rest=at_rest)
    return sorted(found, key=lambda violation: (violation.line is None, violation.line or 0))


# -- the trace alone ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Life:
    """One machine from its first record to its stop."""

    machine: str
    state: str | None = None
    seq: int = 0
    incarnation: int = 0
    ended: int = 0
    applied: dict[str, int] = field(default_factory=dict[str, int])
    """By event id, how many events had ended when it was applied."""
    last: dict[str, str] = field(default_factory=dict[str, str])
    """By event id, the latest outcome that is not a duplicate's."""


def check_trace(
    records: Sequence[Record], facts: Facts | None = None, times: Sequence[float] | None = None
) -> list[Violation]:
    """Judge a trace by itself: each machine's records must follow from one another."""
    return _TraceCheck(facts or Facts(), times).run(records)


class _TraceCheck:
    def __init__(self, facts: Facts, times: Sequence[float] | None) -> None:
        self._facts = facts
        self._times = times
        self._tree = TreeLaws(facts.tree, facts.ends_at, self._say) if facts.tree else None
        self._found: list[Violation] = []
        self._lives: dict[str, _Life] = {}
        self._stopped: dict[str, _Life] = {}
        self._ended: set[tuple[str, str]] = set()
        self._committed: set[tuple[str, str]] = set()
        """Machine and event id, over all lives."""
        self._commits: dict[str, int] = defaultdict(int)
        """By event id, how often one was committed, at any machine."""

    def run(self, records: Sequence[Record]) -> list[Violation]:
        for line, record in enumerate(records, 1):
            name = record.name
            if name in OUTCOMES:
                if name != "dead_lettered" or record.source is not None:
                    self._outcome(line, record)
                self._ended.add((record.machine_id, record.event_id))
                continue
            if self._tree is not None:
                self._tree.follow(line, record, None if self._times is None else self._times[line - 1])
            if name in {"restarted", "quarantined", "released", "suspended", "resumed", "stopped"}:
                if record.machine not in _NO_MACHINES:
                    self._of_the_machine(line, record)
            elif name == "after_hook_failed":
                if (record.machine_id, record.event_id) not in self._committed:
                    self._say("C3", line, record, "an after-hook ran although the event was not committed")
            elif name == "callback_failed" and (record.machine_id, record.event_id) not in self._ended:
                self._say("C2", line, record, "a callback ran before the event had its outcome")
        return self._found

    def _outcome(self, line: int, record: Record) -> None:
        life = self._lives.get(record.machine_id)
        if life is None and (record.duplicate or record.name in {"expired", "dead_lettered"}):
            held = self._stopped.get(record.machine_id)  # by its supervisor, and the mail with it
            if held is not None and (record.incarnation, record.seq) == (held.incarnation, held.seq):
                life = held
        if life is None:
            self._lives[record.machine_id] = life = _Life(record.machine)
        life.ended += 1
        self._time(line, record)
        if record.duplicate:
            self._duplicate(line, record, life)
            return
        self._place(line, record, life)
        self._applied_once(line, record, life)
        if record.event_type == "StateTimeout" and record.machine in self._facts.timeouts:
            self._timed_out(line, record)
        life.last[record.event_id] = record.name
        if record.name != "committed":
            if record.seq != life.seq:
                self._say("C30", line, record, f"seq {record.seq} where {life.seq} transitions are committed")
            return
        if record.seq != life.seq + 1:
            self._say("C30", line, record, f"seq {record.seq} follows {life.seq}")
        if record.target is None:
            self._say("C30", line, record, "committed, but leads to no state")
        life.seq, life.state = record.seq, record.target

    def _time(self, line: int, record: Record) -> None:
        if record.queue_s < 0 or record.run_s < 0:
            self._say("C30", line, record, f"negative time: queue {record.queue_s}, run {record.run_s}")

    def _place(self, line: int, record: Record, life: _Life) -> None:
        if record.machine != life.machine:
            self._say("C10", line, record, f"the id belongs to a {life.machine}")
        if record.source != life.state:
            self._say("C2", line, record, f"starts in {record.source}, but the machine is in {life.state}")
            life.state = record.source  # said once
        if record.incarnation != life.incarnation:
            self._say("C15", line, record, f"incarnation {record.incarnation}, but it is {life.incarnation}")
            life.incarnation = record.incarnation

    def _applied_once(self, line: int, record: Record, life: _Life) -> None:
        before = life.applied.get(record.event_id)
        if before is not None:
            # Each id that displaces another is one of an event that ended since, or ends later: so many must there be.
            forgotten = life.ended - before > self._facts.remembered.get(record.machine, _REMEMBERED)
            # Its cause may have been applied twice by right: under one id at two machines, or at one that was stopped.
            caused_twice = self._commits[record.causation_id or ""] > 1
            if not forgotten and not caused_twice:
                self._say("C24", line, record, "the event id was applied before, this is no duplicate of it")
        if record.name == "committed":
            life.applied[record.event_id] = life.ended
            self._commits[record.event_id] += 1
            self._committed.add((record.machine_id, record.event_id))

    def _timed_out(self, line: int, record: Record) -> None:
        """A state timeout comes in a state that has it, from a turn that was committed."""
        states = self._facts.timeouts[record.machine]
        if record.event.name not in states.get(record.source or "", frozenset()):
            self._say("C20", line, record, f"{record.event.name} is no timeout of {record.source}")
        if (record.machine_id, record.causation_id) not in self._committed:
            self._say(
                "C20", line, record, f"{record.event.name} was started by a turn that was never committed"
            )

    def _duplicate(self, line: int, record: Record, life: _Life) -> None:
        known = life.last.get(record.event_id)
        if record.name == "expired":
            pass  # its own deadline: it waited no longer for the event that it joined
        elif record.name == "dead_lettered" and record.machine in self._facts.waiting:
            pass  # the event that it joined may have waited outside: never accepted, it has no record
        elif known is None:
            self._say("C24", line, record, "duplicate of an event that the machine has not ended")
        elif known != record.name:
            self._say("C24", line, record, f"duplicate of an event that was {known}")
        if record.seq > life.seq:
            self._say("C30", line, record, f"seq {record.seq} where {life.seq} transitions are committed")

    def _of_the_machine(self, line: int, record: Record) -> None:
        life = self._lives.get(record.machine_id)
        if record.name == "restarted" and life is None:  # its supervisor had stopped it, and kept it
            life = self._stopped.pop(record.machine_id, None)
            if life is not None:
                self._lives[record.machine_id] = life
        if record.name == "restarted" and life is not None and record.source is None and record.seq == 0:
            # It had been given up, and with it its past; its supervisor was started again, and all below it.
            self._lives[record.machine_id] = life = _Life(record.machine, incarnation=record.incarnation - 1)
        if life is None and record.machine_id in self._stopped:
            life = self._stopped[record.machine_id]  # it is held by its supervisor
        if life is None:
            self._say("C30", line, record, "no machine of this id has done anything")
            return
        if record.name in {"restarted", "quarantined"}:
            life.incarnation += 1
            if record.source is None:
                life.state = None  # it is born anew
        self._place(line, record, life)
        if record.seq != life.seq:
            self._say("C30", line, record, f"seq {record.seq} where {life.seq} transitions are committed")
        if record.name == "stopped":
            self._stopped[record.machine_id] = self._lives.pop(record.machine_id, life)

    def _say(self, rule: str, line: int, record: Record, text: str) -> None:
        what = f"{record.event_type} {record.event_id} " if record.event_type else ""
        self._found.append(Violation(rule, line, f"{record.machine_id} {what}{record.name}: {text}"))


# -- the trace and the notes ----------------------------------------------------------------------------------------


def check_notes(
    records: Sequence[Record],
    notes: Iterable[Note],
    facts: Facts | None = None,
    *,
    times: Sequence[float] | None = None,
    at_rest: bool = True,
) -> list[Violation]:
    """Compare what senders noted with the trace."""
    return _NoteCheck(records, facts or Facts(), times, at_rest=at_rest).run(notes)


class _NoteCheck:
    def __init__(
        self, records: Sequence[Record], facts: Facts, times: Sequence[float] | None, *, at_rest: bool
    ) -> None:
        self._records = records
        self._times = times
        self._facts = facts
        self._at_rest = at_rest
        self._found: list[Violation] = []
        self._by_event: dict[int, list[int]] = defaultdict(list)
        self._by_id: dict[tuple[str, str], list[int]] = defaultdict(list)
        for line, record in enumerate(records, 1):
            if record.name in OUTCOMES:
                self._by_event[id(record.event)].append(line)
                self._by_id[record.machine_id, record.event_id].append(line)
        self._order: dict[tuple[str, str, str], _Order] = {}
        self._claimed: set[int] = set()
        self._copied: dict[type, bool] = {}
        self._outside = frozenset(record.machine_id for record in records if record.machine in facts.waiting)

    def run(self, notes: Iterable[Note]) -> list[Violation]:
        for note in notes:
            lines = self._lines_of(note)
            for extra in lines[1:]:
                self._say("C7", extra, note, f"has a second outcome, {self._records[extra - 1].name}")
            line = lines[0] if lines else None
            if note.receipt is None:
                self._asked(note, line)
            else:
                self._told(note, line)
            if line is not None:
                self._handled_in_order(note, line)
        return self._found

    def _lines_of(self, note: Note) -> list[int]:
        lines = self._by_event.get(id(note.event))
        if lines:
            return lines
        if note.how == "spawn":
            return self._births(note)
        return self._equal_to(note) if self._is_copied(note.event) else []

    def _is_copied(self, event: Any) -> bool:
        """Return whether the door makes a copy of such an event, because it could be changed."""
        if not isinstance(event, BaseModel):
            return False
        cls = type(event)
        if cls not in self._copied:
            self._copied[cls] = not shares_nothing(cls)
        return self._copied[cls]

    def _equal_to(self, note: Note) -> list[int]:
        """Find an event that was copied at the door by its value, or by its id if a hook has changed it since."""
        changed = None
        for line, record in enumerate(self._records[note.line :], note.line + 1):
            if (
                record.name in OUTCOMES
                and line not in self._claimed
                and record.machine_id == note.machine_id
                and type(record.event) is type(note.event)
                and note.event_id in {"", record.event_id}
            ):
                if record.event == note.event:
                    break
                if changed is None and note.event_id:
                    changed = line
        else:
            if changed is None:
                return []
            line = changed
        self._claimed.add(line)
        return [line]

    def _births(self, note: Note) -> list[int]:
        until = note.ended_line if note.ended else len(self._records)
        return [
            line
            for line, record in enumerate(self._records[note.line : until], note.line + 1)
            if record.machine_id == note.machine_id and record.event_type == "Spawn" and not record.duplicate
        ][:1]

    # -- asks

    def _asked(self, note: Note, line: int | None) -> None:
        match note.ended:
            case "":
                if self._at_rest:
                    self._say("C8", line, note, "was never answered")
            case "reply":
                self._answered(note, line, frozenset({"committed"}))
            case "cancelled":
                self._given_up(note, line)
            case _:  # error
                self._refused(note, line)

    def _answered(self, note: Note, line: int | None, names: frozenset[str]) -> None:
        how = "got a reply" if note.ended == "reply" else f"got {type(note.error).__name__}"
        if line is None:
            if not (note.how == "spawn" and note.event_id):
                self._say("C7", None, note, f"{how}, but the trace has no outcome")
            return
        name = self._records[line - 1].name
        if name not in names:
            self._say("C7", line, note, f"{how}, but the event was {name}")
        if line > note.ended_line:
            self._say("C2", line, note, f"{how} before the event had its outcome")

    def _given_up(self, note: Note, line: int | None) -> None:
        if line is None and self._at_rest and note.machine_id not in self._outside:
            self._say("C8", None, note, "was given up by its caller, and the event is lost")

    def _refused(self, note: Note, line: int | None) -> None:
        match note.error:
            case Vetoed():
                self._answered(note, line, frozenset({"vetoed"}))
            case Unhandled():
                self._answered(note, line, frozenset({"unhandled"}))
            case HookFailed() | NotStored():
                self._answered(note, line, frozenset({"failed", "dead_lettered"}))
            case Expired():
                if line is not None or note.machine_id not in self._outside:
                    self._answered(note, line, frozenset({"expired", "dead_lettered"}))
            case AskTimeout() | OutcomeUnknown():
                self._left_open(note, line)
            case _:
                if line is not None and self._records[line - 1].name != "dead_lettered":
                    name = self._records[line - 1].name
                    self._say("C7", line, note, f"got {type(note.error).__name__}, but the event was {name}")

    def _left_open(self, note: Note, line: int | None) -> None:
        how = type(note.error).__name__
        if line is None:
            if self._at_rest:
                self._say("C7", None, note, f"got {how}, and the event is lost")
        elif isinstance(note.error, AskTimeout) and self._had_ended(note, line):
            self._say("C8", line, note, "got AskTimeout although the event had ended: the reply was lost")

    def _had_ended(self, note: Note, line: int) -> bool:
        # At the same moment is not before: the deadline may have passed first. A duplicate ends by its own deadline.
        if self._times is None or self._records[line - 1].duplicate:
            return False
        return line <= note.ended_line and self._times[line - 1] < note.ended_at

    # -- tells

    def _told(self, note: Note, line: int | None) -> None:
        how = note.resolved()
        if note.how == "message":
            self._waited_for_commit(note, line, how)
        if how.refusal is not None:
            if line is not None and (
                isinstance(how.refusal, Discarded) or self._records[line - 1].name != "dead_lettered"
            ):
                name = self._records[line - 1].name
                self._say(
                    "C7",
                    line,
                    note,
                    f"was refused with {type(how.refusal).__name__}, but the event was {name}",
                )
        elif how.outcome is None:
            # An event that a machine raises has no receipt for its machine to see: discarded, it just ends.
            if self._at_rest and not (
                note.how == "message" and note.sender == note.machine_id and line is None
            ):
                self._say("C7", line, note, "was accepted and has no outcome")
        elif line is None:
            self._say("C7", None, note, f"was {how.outcome.kind}, but the trace has no outcome")
        else:
            self._same(note, line, how)
        self._called_once(note, line, how)

    def _same(self, note: Note, line: int, how: Resolution) -> None:
        assert how.outcome is not None  # noqa: S101 -- asked by the caller
        outcome, record = how.outcome, self._records[line - 1]
        said = (outcome.kind, _name(outcome.old), _name(outcome.new), outcome.duplicate)
        seen = (record.name, record.source, record.target, record.duplicate)
        if said != seen:
            self._say("C7", line, note, f"its receipt says {said}, the trace {seen}")
        if not outcome.duplicate and outcome.seq != record.seq:
            self._say("C7", line, note, f"its receipt says seq {outcome.seq}, the trace {record.seq}")

    def _called_once(self, note: Note, line: int | None, how: Resolution) -> None:
        if not note.calls:
            return
        if len(note.calls) > 1:
            self._say("C7", line, note, f"its callback was called {len(note.calls)} times")
        if how.outcome is not None and note.calls[0] != how.outcome:
            self._say(
                "C7",
                line,
                note,
                f"its callback was told {note.calls[0].kind}, its receipt {how.outcome.kind}",
            )

    def _waited_for_commit(self, note: Note, line: int | None, how: Resolution) -> None:
        """A message of a machine leaves if, and only if, the turn that sent it was committed."""
        turn = next(
            (
                record
                for at in self._by_id.get((note.sender, note.cause or ""), ())
                if at > note.line and not (record := self._records[at - 1]).duplicate
            ),
            None,
        )
        if turn is None:
            if line is not None:
                self._say("C2", line, note, "left although the turn that sent it was never committed")
            return
        committed = turn.name == "committed"
        own = note.sender == note.machine_id
        again = turn.machine in self._facts.redelivering
        if own and committed and line is None and how.refusal is None and not again:
            self._say(
                "C7", None, note, "was committed by the machine that sent it to itself, and has no outcome"
            )
        if not committed and not isinstance(how.refusal, Discarded) and (line is not None or not own):
            self._say("C2", line, note, f"left although the turn that sent it was {turn.name}")
        if committed and isinstance(how.refusal, Discarded) and not again:
            self._say("C2", line, note, "was discarded although the turn that sent it was committed")

    # -- order

    def _handled_in_order(self, note: Note, line: int) -> None:
        record = self._records[line - 1]
        if record.name not in _HANDLED or record.duplicate or note.sender == note.machine_id:
            return
        key = (note.sender, "ask" if note.receipt is None else note.how, note.machine_id)
        order = self._order.get(key)
        if order is None:
            self._order[key] = order = _Order()
        may_wait = record.event_type in self._facts.postponable.get(record.machine, frozenset())
        overtook = order.place(line, record.event_type, may_wait=may_wait)
        if overtook is not None:
            self._say("C4", overtook, note, f"sent later, was handled before at line {line}", swap=True)

    def _say(self, rule: str, line: int | None, note: Note, text: str, *, swap: bool = False) -> None:
        told = f"{text}: {note}" if swap else f"{note} {text}"
        self._found.append(Violation(rule, line, told))


def _name(state: object) -> str | None:
    return None if state is None else str(getattr(state, "name", state))


class _Order:
    """The events of one sender to one machine: where in the trace the latest so far stand."""

    __slots__ = ("_by_type", "_plain")

    def __init__(self) -> None:
        self._plain = 0
        self._by_type: dict[str, int] = {}

    def place(self, line: int, event_type: str, *, may_wait: bool) -> int | None:
        """Take the next event in the order of sending; return the line of an earlier one that it overtook."""
        earlier = max(self._plain, self._by_type.get(event_type, 0))
        if may_wait:
            self._by_type[event_type] = max(line, self._by_type.get(event_type, 0))
        else:
            self._plain = max(line, self._plain)
        return earlier if earlier > line else None


# -- the account ----------------------------------------------------------------------------------------------------


def check_account(records: Sequence[Record], stats: Stats, *, at_rest: bool = True) -> list[Violation]:
    """Compare the runtime's account with the trace, and see whether it balances."""
    found: list[Violation] = []
    if stats.balance:
        found.append(Violation("C7", None, f"the account is out of balance by {stats.balance}: {stats}"))
    for name in sorted(OUTCOMES - {"dead_lettered"}):  # the trace also has those that were never accepted
        seen = sum(1 for record in records if record.name == name)
        if seen != stats.outcomes[name]:
            found.append(
                Violation("C7", None, f"{stats.outcomes[name]} {name} are counted, the trace has {seen}")
            )
    left = stats.in_flight + stats.outgoing + stats.pending_asks
    if at_rest and left:
        found.append(Violation("C7", None, f"{left} events or asks are still on their way at rest: {stats}"))
    return found
