"""The benchmarks' contenders do the work that they are timed for; nothing here looks at a clock."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from .__main__ import main
from .contenders import everyone
from .contenders.fleets import fleets
from .durable import Durable, PostgreSQLPlace, SQLitePlace, Timing, w5_section
from .fleet import Sample, Samples, measure_fleet, wanted_end
from .fleet_report import w3_section, w8_section
from .measure import Row
from .recovery import Reopened, measure_recovery, w6_section
from .report import Section, plot, table, write
from .work import End, Load, Run, Workload, WrongResult, expected_end, verify

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.postgresql_server import Server

    from .durable import Place
    from .fleet import Fleet, FleetContender
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


@pytest.mark.parametrize("contender", fleets(), ids=lambda each: each.name)
def test_every_fleet_is_spawned_asked_and_found_where_its_events_led(
    contender: FleetContender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gc.freeze", lambda: None)  # this process goes on
    monkeypatch.setattr("tests.benchmarks.fleet.BIRTHS", 0)
    monkeypatch.setattr("tests.benchmarks.fleet.EVENTS", 600)
    found: list[Sample] = []
    asyncio.run(measure_fleet(contender, 200, found.append))
    assert len(found) == 1
    assert found[0].spawn_us > 0
    assert (found[0].event_us is None) == (found[0].used_bytes is None)


def test_a_machine_of_a_fleet_that_ended_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.benchmarks.fleet.BIRTHS", 0)
    wrong = replace(fleets()[0], open=lambda: _with_one_wrong_machine(fleets()[0]))
    with pytest.raises(WrongResult, match="machine 7 is"):
        asyncio.run(measure_fleet(wrong, 200, print))


@asynccontextmanager
async def _with_one_wrong_machine(contender: FleetContender) -> AsyncIterator[Fleet]:
    async with contender.open() as fleet:

        def end(machine_id: str) -> End:
            found = fleet.end(machine_id)
            return replace(found, seq=5) if machine_id == "order-7" else found

        yield replace(fleet, end=end)


def test_the_tables_of_fleets_name_every_contender_and_its_goals() -> None:
    samples = Samples(fleets(), 1)
    for each in fleets():
        for machines in (10, 1_000_000):
            event_us = 9.0 if each.name == "actorfsm" and machines > 10 else 6.0
            samples.add(
                each.name,
                machines,
                Sample(
                    spawn_us=4.0,
                    spawn_cpu_us=2.0 if each.grows else 4.0,
                    idle_bytes=300.0 if each.name.startswith("dict") else 500.0,
                    resident_mb=600.0,
                    event_us=event_us,
                    event_cpu_us=event_us,
                    used_bytes=510.0,
                ),
            )
    w3, w8 = w3_section(samples, (10, 1_000_000)), w8_section(samples, (10, 1_000_000))
    ours = [line for line in w3.lines if line[0] == "actorfsm"]
    assert [line[-1] for line in ours] == ["≤ 250 B yes", "≤ 250 B yes, ≤ 5 s yes, ≤ 650 MB yes"]
    assert ours[1][1:6] == ("1,000,000", "4.00", "2.00", "1.0", "500")
    assert ("actorfsm", "an ask", "6.00", "9.00", "1.50", "≤ 1.3 no") in w8.lines
    assert ("actorfsm", "a birth", "2.00", "2.00", "1.00", "≤ 1.3 yes") in w8.lines
    assert {line[0] for line in w3.lines} == {each.name for each in fleets()}
    assert "W3 fleet" in w3.text()
    assert "| actorfsm | 1,000,000 | 4.00 |" in w3.markdown("a machine")


def test_a_section_that_was_measured_again_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    page = tmp_path / "reference" / "benchmarks.md"
    page.parent.mkdir()
    page.write_text("# Benchmarks\n\nHead.\n\n## W1 ask\n\nold\n\n## W8 x\n\nold\n", encoding="utf-8")
    new = [Section("W3 fleet", "About.", ("a", "b"), [("1", "2")]), Section("W8 x", "New.", ("a",), [("1",)])]
    assert write([], "here", tmp_path, new) == page
    text = page.read_text(encoding="utf-8")
    assert text.startswith(
        "# Benchmarks\n\nHead.\n\n## W1 ask\n\nold\n\n## W3 fleet\n\nAbout.\n\nMeasured with here."
    )
    assert text.count("## W8 x") == 1
    assert "New." in text


def test_the_end_of_a_machine_of_a_fleet_depends_on_every_event() -> None:
    assert wanted_end(4, 3) == End("B", "c-4", 13, 2.0, urgent=False, seq=3)


@pytest.mark.parametrize("overdue", [False, True])
@pytest.mark.parametrize("store", ["SQLite", "PostgreSQL"])
def test_a_journal_that_is_opened_again_is_measured_and_has_what_was_stored(
    overdue: bool, store: str, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue("postgresql_server") if store == "PostgreSQL" else None
    found = measure_recovery(20, overdue=overdue, server=server)
    assert found.store == store
    assert found.megabytes > 0
    assert (found.machines, found.told_s is not None) == (20, overdue)
    assert 0 < found.started_s < found.reply_s
    assert [line[2:4] for line in w6_section([found]).lines] == [("20", "200")]


def test_the_table_of_recovery_says_whether_the_goal_is_met() -> None:
    lines = w6_section(
        [Reopened("x", 100_000, "due", 500.0, 0.1, reply_s, None) for reply_s in (0.2, 0.6)]
    ).lines
    assert [line[-1] for line in lines] == ["reply ≤ 0.5 s, armed ≤ 5 s yes", "reply ≤ 0.5 s, armed ≤ 5 s no"]


@pytest.mark.parametrize("durability", ["full", "process"])
@pytest.mark.parametrize("store", ["SQLite", "PostgreSQL"])
def test_durable_asks_are_measured_beside_the_rows_that_they_have_left(
    store: str, durability: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place: Place = SQLitePlace(tmp_path, durability)
    if store == "PostgreSQL":
        server: Server = request.getfixturevalue("postgresql_server")
        place = PostgreSQLPlace(server, durability)
    found = Durable(place.name, 100)
    for _ in range(2):
        found.measure(place, machines=8, events=3)
    assert (found.name, found.count) == (f"{store}, {durability}", 24)
    assert (
        len(place.entries()) == 32
    )  # the births too: the loop that knows only statements has written all of it
    assert found.ratio > 0
    assert [line[:2] for line in w5_section([found]).lines] == [(f"{store}, {durability}", "100")]


def test_the_table_of_durable_asks_says_whether_the_goal_is_met() -> None:
    slow, fast = (
        Durable("SQLite, full", 1_000, [Timing(seconds, 2.0)], [Timing(1.0, 0.5)], 10_000)
        for seconds in (2.0, 1.25)
    )
    assert [line[-1] for line in w5_section([slow, fast]).lines] == ["≥ 0.6 no", "≥ 0.6 yes"]
    assert fast.line()[:-1] == (
        *("SQLite, full", "1,000", "8,000", "10,000", "0.80", "0.80", "0.80", "200", "50"),
    )
