"""The benchmarks' contenders do the work that they are timed for; nothing here looks at a clock."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from .__main__ import main
from .contenders import everyone
from .measure import Row
from .report import plot, table
from .work import End, Load, Run, Workload, WrongResult, expected_end, verify

if TYPE_CHECKING:
    from pathlib import Path

    from .work import Contender

CASES = [
    pytest.param(contender, workload, id=f"{contender.name}-{workload}")
    for contender in everyone()
    for workload in contender.workloads
]


@pytest.mark.parametrize(("contender", "workload"), CASES)
def test_every_contender_brings_every_machine_to_the_expected_end(
    contender: Contender, workload: Workload
) -> None:
    reason = contender.missing()
    if reason is not None:
        pytest.skip(reason)
    load = Load(machines=8, senders=4, events=5)
    verify(contender.name, contender.run(workload, load), load)


@pytest.mark.parametrize("wrong", [{"state": "A"}, {"total": 12}, {"seq": 4}, {"urgent": True}])
def test_a_machine_that_ended_elsewhere_is_refused(wrong: dict[str, object]) -> None:
    load = Load(machines=2, senders=1, events=5)
    good = expected_end(5)
    with pytest.raises(WrongResult, match="machine 1"):
        verify("x", Run(1.0, [good, replace(good, **wrong)]), load)  # type: ignore[arg-type]


def test_a_machine_that_is_gone_is_refused() -> None:
    with pytest.raises(WrongResult, match="1 machines at the end, 2 at the start"):
        verify("x", Run(1.0, [expected_end(5)]), Load(machines=2, senders=1, events=5))


def test_one_command_measures_and_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--quick", "--rounds", "1", "--workload", "w4", "--only", "a,seed", "--no-pin"]
    assert main([*arguments, "--write", str(tmp_path)]) == 0
    assert "seed's sketch mended" in capsys.readouterr().out
    page = (tmp_path / "reference" / "benchmarks.md").read_text(encoding="utf-8")
    assert "| a |" in page
    assert (tmp_path / "reference" / "benchmarks.svg").read_text(encoding="utf-8").startswith("<svg")


def test_a_skipped_contender_stays_in_the_table_with_its_reason() -> None:
    rows = [Row(everyone()[0], Workload.ASK, [1e5], [1.0], [1.0]), Row(everyone()[1], Workload.ASK)]
    rows[1].trouble = "skipped: no such thing"
    assert "skipped: no such thing" in table(rows)
    assert "no such thing" not in plot(rows)


def test_the_expected_end_depends_on_every_event() -> None:
    assert expected_end(4) == End("A", "c-1", 12, 1.5, urgent=False, seq=4)
    assert expected_end(5) == End("B", "c-1", 15, 1.5, urgent=False, seq=5)
