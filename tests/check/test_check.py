"""The static check finds each mistake where it is, and nothing on machines that are right."""

from __future__ import annotations

import inspect
import io
import json
import re
import sys
from enum import StrEnum, auto
from pathlib import Path
from typing import Any

import pytest

from actorfsm import DefinitionError, Event, Machine, postpone, refuse, transition
from actorfsm.check import rules
from actorfsm.check.calls import calls_of
from actorfsm.check.findings import Level
from actorfsm.check.rules import check_machines
from actorfsm.cli import main
from actorfsm.machine.machine import definition_of
from tests.check import machines
from tests.check.machines import Go, S

WRONG, DOUBT, NOTE = Level


def findings(*classes: Any) -> list[tuple[Level, str, str, tuple[str, ...]]]:
    calls = {definition_of(one): list(calls_of(one)) for one in classes}
    return [(found.level, found.rule, found.state, found.events) for found in check_machines(calls)]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("Sound", []),
        ("Silent", [(NOTE, "not-total", "B", ("Note",))]),
        ("Forgetful", [(WRONG, "postponed-for-ever", "B", ("Note",))]),
        ("Overtaken", [(WRONG, "unreachable-timeout", "A", ())]),
        ("Timed", [(WRONG, "timer-without-handler", "B", ("Late",))]),
        (
            "Working",
            [
                (WRONG, "job-without-handler", "B", ("Late",)),
                (WRONG, "job-without-handler", "", ("Elsewhere",)),
            ],
        ),
        ("Raising", [(WRONG, "raised-without-handler", "B", ("Late",))]),
        ("Watching", [(WRONG, "watch-without-handler", "", ("Terminated",))]),
        ("Expecting", [(DOUBT, "handler-without-watch", "", ("Terminated",))]),
        ("Telling", [(DOUBT, "nobody-takes-it", "", ("Elsewhere",))]),
        ("Asking", [(DOUBT, "nobody-takes-it", "", ("Answer",))]),
        ("Asking Answering", [(DOUBT, "ask-cycle", "", ())]),
        ("AskingItsLike", [(DOUBT, "ask-cycle", "", ())]),
        ("Mailing", [(NOTE, "final-takes-events", "END", ("Note",))]),
    ],
)
def test_each_mistake_is_found_where_it_is(names: str, found: list[Any]) -> None:
    assert findings(*(getattr(machines, name) for name in names.split())) == found


def test_a_finding_names_the_line_of_the_source() -> None:
    definition = definition_of(machines.Timed)
    (found,) = check_machines({definition: list(calls_of(machines.Timed))})
    file, _, line = found.where.rpartition(":")
    assert "self.start_timer(reminder" in Path(file).read_text(encoding="utf-8").splitlines()[int(line) - 1]
    assert found.text.startswith("remind starts a timer for Late on the way to B")


def test_a_class_without_its_source_is_checked_by_its_definition_alone() -> None:
    names: dict[str, Any] = {"machines": machines, "__name__": "tests.check.nowhere"}
    source = (
        "class Made(machines.Watching):\n"
        "    def look(self, old: machines.S, new: machines.S) -> None: self.watch('other')\n"
    )
    exec(source, names)  # noqa: S102 -- a class as an interactive session makes it
    assert list(calls_of(names["Made"])) == []
    assert findings(names["Made"]) == []


# -- @refuse ----------------------------------------------------------------------------------------------------------


def test_what_is_refused_is_unhandled_as_it_was(system_of: Any, sim: Any) -> None:
    async def scenario() -> None:
        async with system_of(machines.Sound) as system:
            sound = await system.spawn(machines.Sound, "s-1")
            outcome = await sound.tell(machines.Done()).outcome()
            assert outcome.kind == "unhandled"
            assert sound.snapshot().allowed == ("Go", "Late", "Note")

    sim(scenario)


def test_an_event_is_not_both_handled_and_refused_in_a_state() -> None:
    with pytest.raises(DefinitionError, match=r"Both\.go: in A, Go is handled or postponed, and refused too"):

        class Both(machines.Base):
            @refuse(S.A)
            @transition(S.A, to=S.B)
            def go(self, event: Go) -> None: ...

    with pytest.raises(DefinitionError, match="handled or postponed, and refused too"):

        class Waits(machines.Base):
            @refuse(S.B)
            @postpone(S.B)
            @transition(S.A, to=S.B)
            def go(self, event: Go) -> None: ...


def test_what_nothing_handles_need_not_be_refused() -> None:
    with pytest.raises(DefinitionError, match="nothing in it takes Note"):

        class Odd(machines.Base):
            @refuse(S.B, machines.Note)
            @transition(S.A, to=S.B)
            def go(self, event: Go) -> None: ...


@pytest.mark.parametrize("arguments", [(), (Go,), (S.A, "Go"), (S.A, S)])
def test_refuse_takes_states_and_then_event_classes(arguments: Any) -> None:
    with pytest.raises(DefinitionError, match=r"@refuse\(STATE, \.\.\.\)"):
        refuse(*arguments)


# -- the command ------------------------------------------------------------------------------------------------------


def check(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        status = main(["check", *arguments])
    return status, out.getvalue(), err.getvalue()


def test_a_module_is_checked_as_one_system_and_what_is_wrong_shows_in_the_exit_status() -> None:
    status, out, err = check("tests.check.machines")
    assert (status, err) == (1, "")
    assert out.splitlines()[-1].startswith("15 machine classes: 7 wrong, ")
    assert "Forgetful\n  wrong  B postpones Note, and no state that can come after it handles that" in out


def test_one_class_alone_can_be_right() -> None:
    assert check("tests.check.machines:Sound", "--total") == (
        0,
        "1 machine class: 0 wrong, 0 in doubt, 0 noted\n",
        "",
    )


def test_silence_is_noted_and_wrong_only_if_that_was_asked_for() -> None:
    assert check("tests.check.machines:Silent")[0] == 0
    status, out, _ = check("tests.check.machines:Silent", "--total", "--json")
    assert status == 1
    said = json.loads(out)
    assert said["machines"] == ["Silent"]
    (found,) = said["findings"]
    assert (found["rule"], found["state"], found["events"], found["wrong"]) == (
        "not-total",
        "B",
        ["Note"],
        True,
    )


@pytest.mark.parametrize("module", ["examples.orders", "examples.payment"])
def test_nothing_is_wrong_or_in_doubt_on_the_examples(module: str) -> None:
    status, out, _ = check(module)
    assert status == 0
    assert " 0 wrong, 0 in doubt" in out


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("no_such_module", "cannot be imported (ModuleNotFoundError"),
        ("json", "has no machine class"),
        ("tests.check.machines:Nobody", "has no Nobody"),
        ("", "cannot be imported"),
    ],
)
def test_what_cannot_be_checked_is_one_line_that_says_what_to_do(path: str, says: str) -> None:
    status, out, err = check(path)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err


def test_a_module_of_the_current_folder_is_found_also_by_the_console_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop_of_this_folder.py").write_text("from tests.check.machines import Sound\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "path", [entry for entry in sys.path if entry]
    )  # a script has no current folder there
    status, out, err = check("shop_of_this_folder")
    sys.modules.pop("shop_of_this_folder")
    assert (status, out, err) == (0, "1 machine class: 0 wrong, 0 in doubt, 0 noted\n", "")


class Twin(StrEnum):
    ONE = auto()
    TWO = auto()


class Switch(Event): ...


class Sound(Machine[Twin], initial=Twin.ONE, final=(Twin.TWO,)):
    @transition(Twin.ONE, to=Twin.TWO)
    def switch(self, event: Switch) -> None: ...


def test_classes_that_no_system_could_have_together_are_refused() -> None:
    status, _, err = check("tests.check.machines:Sound", "tests.check.test_check:Sound")
    assert status == 2
    assert "two machine classes are called Sound" in err


def test_the_page_has_every_rule_with_its_level_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/check-a-system.md").read_text(encoding="utf-8")
    said = {tuple(line.split(" | ")[:2]) for line in page.splitlines() if line.startswith("| `")}
    source = inspect.getsource(rules)
    known = {
        (f"| `{rule}`", level.lower()) for level, rule in re.findall(r"Level\.(\w+),\s+\"([\w-]+)\"", source)
    }
    known |= {(f"| `{rule}`", "wrong") for rule in re.findall(r'\("([\w-]+)", "(?:starts|raises)', source)}
    assert said == known
