"""`python -m actorfsm verify-log`: exit status, verdicts, and what it says of bad input."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from actorfsm.__main__ import main
from actorfsm.feed.log import Log
from actorfsm.journal.memory import MemoryJournal, MemoryStore
from actorfsm.machine.machine import definition_of
from actorfsm.sinks.fields import LEVELS
from actorfsm.sinks.json_lines import JSONLines
from actorfsm.sinks.structlog_sink import StructlogSink
from actorfsm.testing import simulate
from actorfsm.trace import Record
from actorfsm.verify_log import command
from actorfsm.verify_log.laws import Illegal
from actorfsm.verify_log.lines import MAX_LINE_BYTES
from actorfsm.verify_log.replay import Replay
from examples.orders.__main__ import drive
from examples.orders.log import SHIPPED
from tests.campaigns.p2_machines import CLASSES as P2_CLASSES
from tests.campaigns.p2_world import run_seed
from tests.verify_log.world import CLASSES, HERE, Parcel, Signal, log_of, records_of, text_of, verify

ROOT = Path(__file__).parents[2]


def seen(*records: Record, **options: bool) -> None:
    replay = Replay([definition_of(Parcel), definition_of(Signal)], **options)
    for record in records:
        replay.see(record)


def refused(*records: Record, **options: bool) -> str:
    with pytest.raises(Illegal) as caught:
        seen(*records, **options)
    return str(caught.value)


def commit(
    source: str | None, event: str, target: str, seq: int, event_id: str = "", **fields: Any
) -> Record:
    made = Record("committed", "Parcel", "p", seq=seq, event_type=event, event_id=event_id or f"e-{seq}")
    return made._replace(source=source, target=target, **fields)


def outcome(
    name: str, source: str | None, event: str, seq: int, event_id: str = "r", **fields: Any
) -> Record:
    made = Record(name, "Parcel", "p", seq=seq, event_type=event, event_id=event_id, source=source)
    return made._replace(**fields)


def told(name: str, source: str, seq: int, incarnation: int = 0) -> Record:
    return Record(name, "Parcel", "p", incarnation, seq, source=source, target=source)


BIRTH = commit(None, "Post", "SHELF", 1)
LEFT = commit("SHELF", "Move", "ROAD", 2)
DONE = commit("ROAD", "Deliver", "DOOR", 3)


# -- what is legal ----------------------------------------------------------------------------------------------------


def test_a_log_of_structlog_is_read_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        logger_factory=structlog.WriteLoggerFactory(file=out),
    )
    try:
        records_of(3, StructlogSink())
    finally:
        structlog.configure(**before)
    status, said, complaint = verify(out.getvalue().encode())
    assert (status, complaint) == (0, "")
    assert said == verify(text_of([*log_of(3)]))[1]


@pytest.mark.many
def test_the_log_of_the_orders_example_is_legal() -> None:
    file = io.BytesIO()
    with JSONLines(file) as sink, Log(SHIPPED) as log:
        store = MemoryStore()
        simulate(partial(drive, log, lambda: MemoryJournal(store), [sink]), shuffle=False)
    status, said, complaint = verify(
        file.getvalue(), "examples.orders.order:Order", "examples.orders.notice:Notice"
    )
    assert (status, complaint) == (0, ""), said


@pytest.mark.parametrize("seed", range(5))
def test_the_trace_of_a_campaign_is_legal(seed: int) -> None:
    result = run_seed(seed)
    replay = Replay(map(definition_of, P2_CLASSES))
    for record in result.system.trace.records:
        replay.see(record)
    assert replay.machines > 5
    result.let_go()


@pytest.mark.parametrize("seed", range(3))
def test_a_log_that_begins_in_the_middle_is_legal_if_that_is_said(seed: int) -> None:
    log: list[Any] = log_of(seed)
    for first in range(1, len(log), 9):
        status, said, _ = verify(text_of(log[first:]), partial=True)
        assert status == 0, (first, said)


def test_a_partial_log_is_still_judged() -> None:
    assert "begins in ROAD, but the machine is in DOOR" in refused(
        DONE, commit("ROAD", "Note", "ROAD", 4), partial=True
    )
    assert "seq is 5, where it must be 4" in refused(DONE, commit("DOOR", "Thank", "DOOR", 5), partial=True)
    seen(told("released", "ROAD", 4, 2), commit("ROAD", "Note", "ROAD", 5, incarnation=2), partial=True)
    seen(told("restarted", "ROAD", 4, 2), commit("ROAD", "Note", "ROAD", 5, incarnation=2), partial=True)


def test_several_runs_in_one_log_are_legal_if_that_is_said() -> None:
    log = text_of([*log_of(0)])
    assert verify(log + log)[0] == 1
    status, said, _ = verify(log + log, runs=True)
    assert status == 0, said


def test_lines_of_others_are_passed_over_if_that_is_said() -> None:
    log: list[Any] = log_of(0)
    log.insert(7, b'{"event":"user logged in","level":"info"}\n')
    status, said, _ = verify(text_of(log))
    assert (status, said) == (
        1,
        "line 8: no record of a machine: if other loggers write to the log too, pass --mixed\n",
    )
    status, said, _ = verify(text_of(log), mixed=True)
    assert status == 0
    assert f"{len(log):,} lines (1 of others passed over)" in said


def test_a_last_line_that_is_cut_off_is_passed_over_in_a_partial_log() -> None:
    log = text_of([*log_of(0)])
    status, said, _ = verify(log[:-9])
    assert (status, "--partial passes over it" in said) == (1, True)
    assert verify(log[:-9], partial=True)[0] == 0
    assert verify(log[:-1])[0] == 0  # whole, but for the end of the line


def test_every_record_that_a_sink_knows_is_known() -> None:
    for name in LEVELS:
        try:
            seen(Record(name, "service", "poller"))
        except Illegal as illegal:
            assert "there is no record" not in str(illegal)  # noqa: PT017 -- some need a machine
    assert refused(Record("comitted", "Parcel", "p")) == "there is no record 'comitted'"


def test_what_was_postponed_may_be_unhandled_at_the_end_and_nowhere_else() -> None:
    seen(BIRTH, LEFT, DONE, outcome("unhandled", "DOOR", "Note", 3))
    assert "Note is unhandled, but is postponed in SHELF" in refused(
        BIRTH, outcome("unhandled", "SHELF", "Note", 1)
    )
    assert "a transition without a guard takes it" in refused(
        BIRTH, LEFT, outcome("unhandled", "ROAD", "Deliver", 2)
    )
    seen(BIRTH, outcome("unhandled", "SHELF", "Note", 1, "e-1/timer/Note", causation_id="e-1"))


def test_an_event_id_that_was_forgotten_may_come_again() -> None:
    notes = [commit("ROAD", "Note", "ROAD", n, f"n-{n}") for n in range(3, 140)]
    again = commit("ROAD", "Note", "ROAD", 140, "n-3")
    seen(BIRTH, LEFT, *notes, again)
    assert "event n-139 was committed before" in refused(
        BIRTH, LEFT, *notes, commit("ROAD", "Note", "ROAD", 140, "n-139")
    )


def test_an_id_derived_from_an_explicit_one_may_come_twice_and_one_from_a_number_may_not() -> None:
    tells = [commit("ROAD", "Note", "ROAD", n, "mine/tell/1", causation_id="mine") for n in (3, 4)]
    seen(BIRTH, LEFT, *tells)
    cause = "0123456789ab-7"
    tells = [commit("ROAD", "Note", "ROAD", n, f"{cause}/tell/1", causation_id=cause) for n in (3, 4)]
    assert "was committed before" in refused(BIRTH, LEFT, *tells)


def test_a_hook_beside_the_machine_may_fail_in_its_next_life() -> None:
    back = commit("ROAD", "Move", "SHELF", 3, "b")
    failed = outcome("after_hook_failed", "ROAD", "Move", 3, "b", target="SHELF", hook="count")
    reborn = BIRTH._replace(event_id="again")
    seen(BIRTH, LEFT, back, told("stopped", "SHELF", 3), failed)
    seen(BIRTH, LEFT, back, told("stopped", "SHELF", 3), reborn, failed)
    third = [told("stopped", "SHELF", 1), reborn._replace(event_id="third")]
    assert "event b was not committed" in refused(BIRTH, LEFT, failed)
    seen(BIRTH, LEFT, back, told("stopped", "SHELF", 3), reborn, *third, failed)
    assert "event b is not the last commit" in refused(
        BIRTH, LEFT, outcome("after_hook_failed", "SHELF", "Move", 2, "b", target="ROAD", hook="tell_them")
    )
    assert "has not been born" in refused(failed)
    seen(failed, partial=True)


def test_the_duplicate_of_a_birth_is_legal() -> None:
    seen(BIRTH, LEFT, BIRTH._replace(seq=2, duplicate=True))
    assert "the machine is not born" in refused(BIRTH._replace(duplicate=True))
    seen(
        outcome("vetoed", None, "Post", 0, target="SHELF"), outcome("vetoed", None, "Post", 0, duplicate=True)
    )
    assert "the id belongs to a Parcel" in refused(
        BIRTH, BIRTH._replace(machine="Signal", event_type="Spawn", target="RED", duplicate=True)
    )


def test_records_of_supervisors_and_services_are_no_machines() -> None:
    seen(Record("restarted", "service", "poller", 1), Record("stopped", "supervisor", "payments"))
    assert "changes no state" in refused(BIRTH, told("stopped", "SHELF", 1)._replace(target="ROAD"))


def anew(name: str, seq: int, incarnation: int) -> Record:
    return Record(name, "Parcel", "p", incarnation, seq)


def test_a_machine_of_the_tree_is_stopped_and_goes_on_in_a_new_incarnation() -> None:
    begun = [BIRTH, told("started", "SHELF", 1), LEFT, told("stopped", "ROAD", 2)]
    goes_on = [told("restarted", "ROAD", 2, 1), commit("ROAD", "Note", "ROAD", 3, incarnation=1)]
    seen(*begun, outcome("dead_lettered", "ROAD", "Note", 2), *goes_on)
    seen(*begun, LEFT._replace(duplicate=True), *goes_on)
    assert "has not been born or restarted since" in refused(*begun, goes_on[1]._replace(incarnation=0))
    assert "incarnation is 2, where 1 begins" in refused(*begun, told("restarted", "ROAD", 2, 2))
    assert "begins in SHELF, but the machine is in ROAD" in refused(*begun, told("restarted", "SHELF", 2, 1))


def test_a_machine_of_the_tree_that_ended_is_born_anew_with_what_was_kept_of_it_or_without() -> None:
    for ended in ([told("stopped", "SHELF", 1)], [LEFT, DONE]):
        seq = ended[-1].seq
        born = commit(None, "Post", "SHELF", seq + 1, "anew", incarnation=1)
        seen(
            BIRTH,
            *ended,
            anew("restarted", seq, 1),
            outcome("vetoed", None, "Post", seq, target="SHELF", incarnation=1),
            born,
        )
        seen(BIRTH, *ended, anew("restarted", 0, 1), born._replace(seq=1))
        assert "seq is 9, where it must be" in refused(BIRTH, *ended, anew("restarted", 9, 1))
        assert f"seq is {seq + 2}, where it must be {seq + 1}" in refused(
            BIRTH, *ended, anew("restarted", seq, 1), born._replace(seq=seq + 2)
        )
        assert "incarnation is 2, where 1 begins" in refused(BIRTH, *ended, anew("restarted", seq, 2))
    assert "is to be born anew, but is in SHELF" in refused(BIRTH, anew("restarted", 1, 1))


def test_a_birth_that_fails_in_the_tree_is_tried_again() -> None:
    tried = [outcome("vetoed", None, "Post", 0, target="SHELF"), anew("restarted", 0, 1)]
    seen(*tried, BIRTH._replace(incarnation=1))
    seen(*tried, anew("restarted", 0, 2), anew("stopped", 0, 2), BIRTH)
    seen(anew("restarted", 7, 3), commit(None, "Post", "SHELF", 8, incarnation=3), partial=True)
    assert "incarnation is 0, but it is 1" in refused(*tried, BIRTH)


def test_a_machine_that_is_not_born_may_be_stopped() -> None:
    seen(anew("stopped", 0, 0))
    assert "is for a machine that is not born, but it is, and is in SHELF" in refused(
        BIRTH, anew("stopped", 0, 0)
    )


def test_an_operator_may_hold_a_machine_where_it_is() -> None:
    seen(BIRTH, told("suspended", "SHELF", 1), told("resumed", "SHELF", 1), LEFT)
    assert "begins in ROAD, but the machine is in SHELF" in refused(BIRTH, told("suspended", "ROAD", 1))


def test_what_contradicts_itself_is_refused() -> None:
    assert "leads to ROAD, but no transition was chosen" in refused(
        BIRTH, outcome("unhandled", "SHELF", "Move", 1, target="ROAD")
    )
    birth = Record("committed", "Signal", "p", 0, 1, "Spawn", "s")._replace(target="RED")
    light = birth._replace(
        event_type="TransitionRequested", source="RED", target="GREEN", event_id="t", seq=2
    )
    assert "the id belongs to a Parcel" in refused(BIRTH, light)
    seen(birth, light, light._replace(source="GREEN", target="RED", event_id="u", seq=3))
    request = Record("unhandled", "Signal", "p", 0, 1, "TransitionRequested", "t")._replace(source="RED")
    assert "a transition without a guard takes it" in refused(birth, request)
    hook = outcome("after_hook_failed", "SHELF", "Move", 4, "x", target="ROAD", hook="tell_them")
    seen(outcome("unhandled", "ROAD", "Thank", 4), hook, partial=True)


# -- the command ------------------------------------------------------------------------------------------------------


def run(log: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    words = [sys.executable, "-m", "actorfsm", *arguments]
    return subprocess.run(words, input=log, capture_output=True, cwd=ROOT, check=False)


@pytest.mark.rule("C30")
def test_the_command_says_legal_or_names_the_line() -> None:
    log: list[Any] = log_of(1)
    done = run(text_of(log), "verify-log", *CLASSES)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"legal: ")
    assert b" of 1 machine\n" in run(text_of(log[:1]), "verify-log", *CLASSES).stdout
    done = run(text_of([*log[:20], log[0], *log[20:]]), "verify-log", *CLASSES)
    assert (done.returncode, done.stderr) == (1, b"")
    assert done.stdout.startswith(b"line 21: ")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("Order", "name a machine class as module:Class"),
        ("nowhere:Order", "nowhere cannot be imported (ModuleNotFoundError"),
        (f"{HERE}:Nobody", f"{HERE} has no Nobody"),
        (f"{HERE}:live", "is not a machine that can live"),
        (f"{HERE}:Machine", "is not a machine that can live"),
    ],
)
def test_a_class_that_cannot_be_had_is_a_line_with_the_remedy(path: str, words: str) -> None:
    status, said, complaint = verify(b"", path)
    assert (status, said, complaint.count("\n")) == (2, "", 1)
    assert words in complaint


def test_an_empty_log_proves_nothing() -> None:
    status, said, complaint = verify(b"")
    assert (status, said) == (2, "")
    assert "the log has no record: is it the right file?" in complaint


def test_a_compressed_log_is_named_as_such() -> None:
    assert "compressed: hand it over as text" in verify(gzip.compress(text_of([*log_of(0)])))[1]


def test_a_line_without_end_is_not_read_whole() -> None:
    status, said, _ = verify(b'{"event":"' + b"x" * (3 * MAX_LINE_BYTES))
    assert (status, said) == (1, f"line 1: longer than {MAX_LINE_BYTES:,} bytes, as no record is\n")


def test_what_a_log_holds_is_shown_short_and_without_control_characters() -> None:
    evil = {
        "event": "committed",
        "machine": "\x1b[31m" + "x" * 999,
        "machine_id": "m\n",
        "incarnation": 0,
        "seq": 1,
    }
    status, said, _ = verify(json.dumps(evil).encode() + b"\n")
    assert status == 1
    assert said.isascii() is False
    assert said.rstrip("\n").isprintable()
    assert len(said) < 400


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_PROGRESS_LINES", 50)
    options: Any = SimpleNamespace(classes=CLASSES, partial=False, runs=False, mixed=False)
    err = Terminal()
    assert command.verify_log(options, io.BytesIO(text_of([*log_of(0)])), io.StringIO(), err) == 0
    assert err.getvalue().startswith("\r50 lines\r100 lines")


def test_a_log_that_cannot_be_read_and_a_terminal_are_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    class Keyboard(io.BytesIO):
        def isatty(self) -> bool:
            return True

    options: Any = SimpleNamespace(classes=CLASSES, partial=False, runs=False, mixed=False)
    for log, words in ((Broken(), "cannot be read: Input/output error"), (Keyboard(), "add `< log.jsonl`")):
        err = io.StringIO()
        assert command.verify_log(options, log, io.StringIO(), err) == 2
        assert words in err.getvalue()


def test_wrong_usage_is_exit_status_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments in ([], ["verify-log"], ["prove"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text_of([*log_of(0)]))))
    assert main(["verify-log", *CLASSES]) == 0
    assert capsys.readouterr().out.startswith("legal: ")
