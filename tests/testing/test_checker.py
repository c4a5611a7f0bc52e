"""The checker: the trace of a real run passes; falsified ones are refused, for the right reason at the right line."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from enum import Enum, auto
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from actorfsm import (
    STAY,
    ActorFSMError,
    AskTimeout,
    Directive,
    Discarded,
    Event,
    HookFailed,
    Machine,
    Record,
    Veto,
    Vetoed,
    after_transition,
    on_enter,
    postpone,
    transition,
)
from actorfsm.testing import ContractBroken, Facts, SimulatedSystem, Violation, check, simulate
from actorfsm.testing.checker import check_account, check_trace
from actorfsm.testing.notes import Note, Resolution

if TYPE_CHECKING:
    from actorfsm import Stats


class S(Enum):
    A = auto()
    B = auto()


class Go(Event[int]):
    n: int
    act: str = ""


class Keep(Event):
    items: list[int]


class Wait(Event):
    pass


class Light(Machine[S], initial=S.A, on_failure={ValueError: Directive.RESTART}):
    seen: list[int] = []

    @transition(S.A, to=S.B)
    async def go(self, event: Go) -> int:
        return await self.work(event)

    @transition(S.B, to=S.A)
    async def back(self, event: Go) -> int:
        return await self.work(event)

    async def work(self, event: Go) -> int:
        if event.act == "tell":
            self.tell("other", Go(n=event.n + 100))
        if event.act == "tell and fail":
            self.tell("other", Go(n=event.n + 100))
            raise ValueError("told to")
        if event.act == "raise":
            self.next_event(Wait())
        await asyncio.sleep(0.2)
        return event.n

    @transition(S.A, to=STAY)
    async def keep(self, event: Keep) -> None: ...

    @postpone(S.B)
    @transition(S.A, to=STAY)
    async def wait(self, event: Wait) -> None: ...

    @on_enter()
    async def enter(self, old: S, new: S, event: Event) -> None:
        if isinstance(event, Go) and event.act == "veto":
            raise Veto("told to")

    @after_transition
    async def after(self, old: S, new: S, event: Event) -> None:
        if isinstance(event, Go) and event.act == "after":
            raise KeyError("told to")


class Run:
    """One real run: its trace, its notes, its account; each test falsifies a copy."""

    def __init__(self, system: SimulatedSystem[Any]) -> None:
        self.records: list[Record] = list(system.trace.records)
        self.times: list[float] = list(system.trace.times)
        self.notes: list[Note] = list(system.notes)
        self.stats: Stats = system.stats()
        self.facts = Facts(postponable={"Light": frozenset({"Wait"})})

    def check(self, *, at_rest: bool = True) -> list[Violation]:
        return check(
            self.records, self.notes, facts=self.facts, stats=self.stats, times=self.times, at_rest=at_rest
        )

    def line(self, name: str, nth: int = 1, **fields: Any) -> int:
        """Return the line of the nth record of that name (and fields), counted from 1."""
        lines = [
            line
            for line, record in enumerate(self.records, 1)
            if record.name == name and all(getattr(record, key) == value for key, value in fields.items())
        ]
        return lines[nth - 1]

    def change(self, line: int, **fields: Any) -> None:
        self.records[line - 1] = self.records[line - 1]._replace(**fields)

    def drop(self, line: int) -> None:
        del self.records[line - 1], self.times[line - 1]

    def note(self, n: int) -> Note:
        """Return the first note of `Go(n=...)`."""
        return next(note for note in self.notes if isinstance(note.event, Go) and note.event.n == n)

    def amend(self, note: Note, **fields: Any) -> None:
        self.notes[self.notes.index(note)] = replace(note, **fields)

    def line_of(self, n: int) -> int:
        """Return the line of the outcome of the first `Go(n=...)`."""
        return next(i for i, r in enumerate(self.records, 1) if isinstance(r.event, Go) and r.event.n == n)


@cache
def _real() -> Run:
    async def scenario() -> Run:
        async with SimulatedSystem(Light) as system:
            light = await system.spawn(Light, "light")
            await system.spawn(Light, "other")
            for n in range(1, 5):
                assert await light.ask(Go(n=n)) == n
            light.tell(Go(n=5, act="tell"), callback=lambda outcome: None)  # to B
            light.tell(Wait())  # postponed
            light.tell(Go(n=6, act="raise"))  # to A; its own event, then the postponed one
            await light.ask(Keep(items=[1]))
            with pytest.raises(Vetoed):
                await light.ask(Go(n=7, act="veto"))
            with pytest.raises(HookFailed):
                await light.ask(Go(n=8, act="tell and fail"))
            assert await light.ask(Go(n=9), event_id="mine") == 9  # to B
            assert await light.ask(Go(n=9), event_id="mine") == 9
            with pytest.raises(AskTimeout):
                await light.ask(Go(n=10), timeout=0.02)  # to A
            await light.ask(Go(n=11, act="after"))  # to B
            given_up = asyncio.ensure_future(light.ask(Go(n=12)))  # to A
            await asyncio.sleep(0.001)
            given_up.cancel()
            with pytest.raises(ActorFSMError):
                await system.ask("nobody", Go(n=13))
            await asyncio.sleep(1)
            await system.stop("light")
            await system.spawn(Light, "light")
            await light.ask(Go(n=14))
        return Run(system)

    return simulate(scenario, seed=5)


@pytest.fixture
def run() -> Run:
    whole = _real()
    copy = object.__new__(Run)
    copy.records, copy.times, copy.notes = list(whole.records), list(whole.times), list(whole.notes)
    copy.stats, copy.facts = whole.stats, whole.facts
    return copy


def test_the_trace_of_a_real_run_is_accepted(run: Run) -> None:
    assert run.check() == []
    assert {record.name for record in run.records} >= {
        *("committed", "vetoed", "failed", "restarted", "stopped", "after_hook_failed"),
    }


# -- the trace alone

COMMITS = range(2, 9)


@pytest.mark.parametrize("nth", COMMITS)
def test_a_missing_commit_leaves_a_gap_at_the_next_record(run: Run, nth: int) -> None:
    line = run.line("committed", nth, machine_id="light")
    run.drop(line)
    found = check_trace(run.records)
    assert found[0].line == next(
        i for i, r in enumerate(run.records, 1) if i >= line and r.machine_id == "light"
    )
    assert {"C2", "C30"} & {violation.rule for violation in found}


@pytest.mark.parametrize("nth", COMMITS)
def test_a_commit_that_is_there_twice_is_refused_at_the_second(run: Run, nth: int) -> None:
    line = run.line("committed", nth, machine_id="light")
    run.records.insert(line, run.records[line - 1])
    found = check_trace(run.records)
    assert ("C24", line + 1) in {(violation.rule, violation.line) for violation in found}


@pytest.mark.parametrize("nth", COMMITS)
def test_a_wrong_source_is_refused_at_its_line(run: Run, nth: int) -> None:
    line = run.line("committed", nth, machine_id="light")
    run.change(line, source="B" if run.records[line - 1].source == "A" else "A")
    assert (check_trace(run.records)[0].rule, check_trace(run.records)[0].line) == ("C2", line)


@pytest.mark.parametrize("nth", COMMITS)
def test_a_wrong_target_is_refused_at_the_next_line_of_the_machine(run: Run, nth: int) -> None:
    line = run.line("committed", nth, machine_id="light")
    run.change(line, target="B" if run.records[line - 1].target == "A" else "A")
    after = next(i for i, r in enumerate(run.records, 1) if i > line and r.machine_id == "light")
    assert (check_trace(run.records)[0].rule, check_trace(run.records)[0].line) == ("C2", after)


@pytest.mark.parametrize("nth", COMMITS)
@pytest.mark.parametrize("by", [-1, 1])
def test_a_wrong_seq_is_refused_at_its_line(run: Run, nth: int, by: int) -> None:
    line = run.line("committed", nth, machine_id="light")
    run.change(line, seq=run.records[line - 1].seq + by)
    assert (check_trace(run.records)[0].rule, check_trace(run.records)[0].line) == ("C30", line)


@pytest.mark.parametrize(
    ("name", "fields", "rule", "said"),
    [
        ("vetoed", {"seq": 99}, "C30", "seq 99"),
        ("vetoed", {"source": "B"}, "C2", "starts in B"),
        ("vetoed", {"incarnation": 3}, "C15", "incarnation 3"),
        ("failed", {"incarnation": 1}, "C15", "incarnation 1"),
        ("failed", {"seq": 0}, "C30", "seq 0"),
        ("restarted", {"incarnation": 0}, "C15", "incarnation 0"),
        ("restarted", {"seq": 0}, "C30", "seq 0"),
        ("restarted", {"source": "B"}, "C2", "starts in B"),
        ("restarted", {"machine_id": "unheard of"}, "C30", "no machine of this id"),
        ("stopped", {"incarnation": 0}, "C15", "incarnation 0"),
        ("stopped", {"seq": 1}, "C30", "seq 1"),
        ("stopped", {"machine": "Other"}, "C10", "belongs to a Light"),
        ("committed", {"target": None}, "C30", "leads to no state"),
        ("committed", {"queue_s": -0.1}, "C30", "negative time"),
        ("committed", {"run_s": -0.1}, "C30", "negative time"),
        ("committed", {"machine": "Other"}, "C10", "belongs to a Light"),
        ("after_hook_failed", {"event_id": "never seen"}, "C3", "was not committed"),
    ],
)
def test_a_falsified_field_is_refused_at_its_line(
    run: Run, name: str, fields: dict[str, Any], rule: str, said: str
) -> None:
    line = run.line(name, 3 if name == "committed" else 1)
    run.change(line, **fields)
    found = [violation for violation in check_trace(run.records) if violation.line == line]
    assert [violation.rule for violation in found][:1] == [rule]
    assert said in found[0].text


def test_a_missing_restart_is_noticed_at_the_next_line_of_the_machine(run: Run) -> None:
    line = run.line("restarted")
    run.drop(line)
    assert (check_trace(run.records)[0].rule, check_trace(run.records)[0].line) == ("C15", line)


def test_a_missing_stop_makes_the_next_birth_impossible(run: Run) -> None:
    line = run.line("stopped")
    run.drop(line)
    found = check_trace(run.records)
    assert found[0].line == line
    assert {violation.rule for violation in found if violation.line == line} == {"C2", "C15", "C30"}


def test_an_after_hook_that_ran_before_its_commit_is_refused(run: Run) -> None:
    line = run.line("after_hook_failed")
    run.records[line - 2 : line] = run.records[line - 1], run.records[line - 2]
    assert [(v.rule, v.line) for v in check_trace(run.records)] == [("C3", line - 1)]


def test_a_callback_that_ran_before_the_outcome_is_refused(run: Run) -> None:
    line = run.line_of(5)
    run.records.insert(line - 1, run.records[line - 1]._replace(name="callback_failed"))
    assert [(v.rule, v.line) for v in check_trace(run.records)] == [("C2", line)]


def test_a_duplicate_that_tells_another_outcome_is_refused(run: Run) -> None:
    line = run.line("committed", event_id="mine", duplicate=True)
    run.change(line, name="vetoed")
    assert [(v.rule, v.line) for v in check_trace(run.records)] == [("C24", line)]
    run.change(line, name="committed", seq=99)
    assert [(v.rule, v.line) for v in check_trace(run.records)] == [("C30", line)]


def test_a_duplicate_of_nothing_is_refused(run: Run) -> None:
    line = run.line("committed", event_id="mine", duplicate=True)
    run.change(line, event_id="another")
    assert [(v.rule, v.line) for v in check_trace(run.records)] == [("C24", line)]


def test_a_duplicate_may_be_a_dead_letter_with_what_waited_outside_and_was_never_accepted(run: Run) -> None:
    line = run.line("committed", event_id="mine", duplicate=True)
    run.change(line, event_id="another", name="dead_lettered", target=None)
    assert [(v.rule, v.line) for v in check_trace(run.records)] == [("C24", line)]
    assert check_trace(run.records, Facts(waiting=frozenset({"Light"}))) == []


def test_a_duplicate_that_was_applied_again_is_refused(run: Run) -> None:
    line = run.line("committed", event_id="mine", duplicate=True)
    run.change(line, duplicate=False)
    assert ("C24", line) in {(v.rule, v.line) for v in check_trace(run.records)}


def test_an_event_id_that_was_forgotten_may_come_again(run: Run) -> None:
    """What a machine remembers is bounded: many events later the id is as good as new."""
    first, second = (
        run.line("committed", event_id="mine"),
        run.line("committed", event_id="mine", duplicate=True),
    )
    unhandled = run.records[first - 1]._replace(name="unhandled", source="B", target=None)
    filler = [unhandled._replace(event_id=f"filler {number}") for number in range(40)]
    again = unhandled._replace(event_id="mine")
    run.records[second - 1 : second] = [*filler, again]
    assert [(v.rule, v.line) for v in check_trace(run.records)] == [("C24", second + 40)]
    assert check_trace(run.records, Facts(remembered={"Light": 20})) == []


# -- the trace and the notes


def rules_at(run: Run, line: int | None) -> set[str]:
    return {violation.rule for violation in run.check() if violation.line == line}


@pytest.mark.parametrize("n", [1, 5, 7, 8, 12])
def test_an_outcome_that_is_missing_is_missed_by_the_sender(run: Run, n: int) -> None:
    run.drop(run.line_of(n))
    assert {"C7", "C8"} & rules_at(run, None)


@pytest.mark.parametrize("n", [2, 6, 10, 12])
def test_a_second_outcome_is_refused_at_its_line(run: Run, n: int) -> None:
    line = run.line_of(n)
    run.records.insert(line, run.records[line - 1])
    run.times.insert(line, run.times[line - 1])
    assert "C7" in rules_at(run, line + 1)


@pytest.mark.parametrize(
    ("n", "name"),
    [(1, "vetoed"), (2, "failed"), (3, "unhandled"), (4, "expired"), (7, "committed"), (8, "vetoed")],
)
def test_an_outcome_that_contradicts_the_answer_is_refused_at_its_line(run: Run, n: int, name: str) -> None:
    line = run.line_of(n)
    run.change(line, name=name)
    assert "C7" in rules_at(run, line)


@pytest.mark.parametrize(
    "fields", [{"target": "A"}, {"source": "B"}, {"seq": 2}, {"name": "failed"}, {"duplicate": True}], ids=str
)
def test_a_receipt_that_contradicts_the_trace_is_refused_at_its_line(
    run: Run, fields: dict[str, Any]
) -> None:
    line = run.line_of(5)
    run.change(line, **fields)
    assert "C7" in rules_at(run, line)


def test_a_reply_that_was_lost_is_noticed(run: Run) -> None:
    note = run.note(10)
    run.amend(note, ended_at=note.ended_at + 1.0, ended_line=len(run.records))
    assert rules_at(run, run.line_of(10)) == {"C8"}


def test_a_timeout_that_hides_a_lost_event_is_noticed(run: Run) -> None:
    run.drop(run.line_of(10))
    assert "C7" in rules_at(run, None)


def test_an_ask_that_never_ends_is_noticed_at_rest_only(run: Run) -> None:
    run.amend(run.note(3), ended="")
    assert rules_at(run, run.line_of(3)) == {"C8"}
    assert run.check(at_rest=False) == []


def test_a_reply_before_the_commit_is_refused(run: Run) -> None:
    line = run.line_of(3)
    run.amend(run.note(3), ended_line=line - 1)
    assert rules_at(run, line) == {"C2"}


def test_an_event_that_a_cancelled_caller_took_with_him_is_missed(run: Run) -> None:
    run.records = run.records[: run.line_of(12) - 1]
    assert any(v.rule == "C8" and "given up" in v.text for v in run.check())


def test_an_event_that_was_refused_and_done_is_noticed(run: Run) -> None:
    done = run.records[run.line_of(14) - 1]
    run.records.append(
        done._replace(event=run.note(13).event, seq=done.seq + 1, source="B", target="A", event_id="x")
    )
    run.times.append(99.0)
    refused = [
        violation
        for violation in run.check()
        if "got NoSuchMachine, but the event was committed" in violation.text
    ]
    assert [(violation.rule, violation.line) for violation in refused] == [("C7", len(run.records))]


def test_mail_in_the_wrong_order_is_refused(run: Run) -> None:
    first, second = run.line_of(5), run.line_of(6)
    run.records[first - 1], run.records[second - 1] = run.records[second - 1], run.records[first - 1]
    assert "C4" in rules_at(run, second)


def test_a_postponed_event_may_be_overtaken_and_another_may_not(run: Run) -> None:
    run.facts = Facts()
    waits = next(i for i, r in enumerate(run.records, 1) if r.event_type == "Wait" and r.causation_id is None)
    assert run.line_of(6) < waits
    assert [(v.rule, v.line) for v in run.check()] == [("C4", waits)]


def test_a_message_of_a_turn_that_was_rolled_back_must_not_arrive(run: Run) -> None:
    line = run.line_of(5)
    run.change(line, name="failed")
    assert any(
        v.rule == "C2" and "left although the turn that sent it was failed" in v.text for v in run.check()
    )


def test_a_message_of_a_turn_that_nobody_knows_must_not_arrive(run: Run) -> None:
    run.drop(run.line_of(5))
    assert any(v.rule == "C2" and "was never committed" in v.text for v in run.check())


def test_a_message_of_a_committed_turn_must_not_be_discarded(run: Run) -> None:
    run.amend(run.note(105), known=Resolution(refusal=Discarded("discarded")))
    texts = {v.text.partition(" was ")[2] for v in run.check()}
    assert "discarded although the turn that sent it was committed" in texts


def test_an_own_event_of_a_committed_turn_must_not_be_lost(run: Run) -> None:
    run.drop(
        next(i for i, r in enumerate(run.records, 1) if r.event_type == "Wait" and r.causation_id is not None)
    )
    own = next(n for n in run.notes if n.how == "message" and n.machine_id == n.sender)
    run.amend(own, known=Resolution())
    assert any(v.rule == "C7" and "sent it to itself" in v.text for v in run.check())


def test_a_told_event_without_an_outcome_is_missed_at_rest_only(run: Run) -> None:
    run.drop(run.line_of(105))
    run.amend(run.note(105), known=Resolution())
    assert any(v.rule == "C7" and "accepted and has no outcome" in v.text for v in run.check())
    assert not any("accepted and has no outcome" in v.text for v in run.check(at_rest=False))


def test_a_callback_is_called_once_and_with_the_truth(run: Run) -> None:
    note = run.note(5)
    assert note.calls is not None
    run.amend(note, calls=[*note.calls, *note.calls])
    assert any(v.rule == "C7" and "called 2 times" in v.text for v in run.check())
    run.amend(run.note(5), calls=[note.calls[0].model_copy(update={"kind": "vetoed"})])
    assert any(v.rule == "C7" and "was told vetoed" in v.text for v in run.check())


def test_an_answer_of_the_door_that_the_trace_contradicts_is_refused(run: Run) -> None:
    note = run.note(2)
    run.amend(note, ended="error", error=ActorFSMError("refused"))
    assert rules_at(run, run.line_of(2)) == {"C7"}


# -- the account


@pytest.mark.parametrize("kind", ["committed", "vetoed", "failed", "unhandled", "expired"])
def test_an_account_that_differs_from_the_trace_is_refused(run: Run, kind: str) -> None:
    run.stats = replace(run.stats, outcomes={**run.stats.outcomes, kind: run.stats.outcomes[kind] + 1})
    texts = [violation.text for violation in run.check()]
    assert any("out of balance by -1" in text for text in texts)
    assert any(f"{run.stats.outcomes[kind]} {kind} are counted" in text for text in texts)


@pytest.mark.parametrize("field", ["in_flight", "outgoing", "pending_asks"])
def test_what_is_on_its_way_at_rest_is_refused(run: Run, field: str) -> None:
    stats = replace(run.stats, **{field: 1, "accepted": run.stats.accepted + (field != "pending_asks")})
    assert ["still on their way" in v.text for v in check_account(run.records, stats)] == [True]
    assert check_account(run.records, stats, at_rest=False) == []


# -- what users see


def test_the_error_shows_the_first_violations_and_counts_the_others() -> None:
    broken = ContractBroken(
        [Violation("C7", None, "gone"), *(Violation("C2", line, "odd") for line in range(1, 15))]
    )
    assert "broken 15 times" in str(broken)
    assert "C7: gone" in str(broken)
    assert "C2, line 9: odd" in str(broken)
    assert "and 5 more" in str(broken)
    assert len(broken.violations) == 15


def test_a_mutable_event_that_was_asked_is_noted_as_the_machine_got_it(run: Run) -> None:
    keep = next(i for i, r in enumerate(run.records, 1) if r.event_type == "Keep")
    note = next(n for n in run.notes if n.event_type == "Keep")
    assert note.event is run.records[keep - 1].event
    run.drop(keep)
    assert any(v.rule == "C7" and "Keep" in v.text for v in run.check())


def test_an_event_that_was_copied_at_the_door_is_found_by_its_value(run: Run) -> None:
    note = next(n for n in run.notes if n.event_type == "Keep")
    run.amend(note, event=Keep(items=[1]))
    assert run.check() == []
    other = next(n for n in run.notes if n.event_type == "Keep")
    run.amend(other, event=Keep(items=[2]))
    assert [(v.rule, v.line, "no outcome" in v.text) for v in run.check()] == [("C7", None, True)]


def test_what_is_no_event_has_no_outcome(run: Run) -> None:
    run.amend(run.note(13), event="no event")
    assert run.check() == []
    refused = next(n for n in run.notes if n.event == "no event")
    run.amend(refused, ended="reply")
    assert [(v.rule, v.line, "no outcome" in v.text) for v in run.check()] == [("C7", None, True)]


def test_a_spawn_with_an_id_of_its_own_may_be_repeated() -> None:
    async def scenario() -> list[bool]:
        async with SimulatedSystem(Light) as system:  # its end compares the notes with the trace
            for _ in range(2):
                await system.spawn(Light, "light", event_id="born")
            return [record.duplicate for record in system.trace if record.event_type == "Spawn"]

    assert simulate(scenario) == [False, True]


def test_a_note_names_itself(run: Run) -> None:
    assert str(run.note(9)) == "ask of Go mine from main to light"
