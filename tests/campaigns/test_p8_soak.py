"""P8 in the size of a build: half a minute of everything at once, twice: in memory and with a journal."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from tests.campaigns import ledger
from tests.campaigns.p8_plants import PLANTS
from tests.campaigns.p8_soak import CI_SECONDS, LONG_S, REQUIRED, Result, Sample, main, report, run


@pytest.mark.slow
@pytest.mark.rule("C19")
@pytest.mark.rule("C7")
@pytest.mark.timeout(180)
@pytest.mark.rule("C29")
@pytest.mark.parametrize("kept", [[], ["--journal"]], ids=["in memory", "with a journal"])
def test_after_a_while_of_mixed_load_nothing_is_left_and_every_event_is_accounted_for(
    kept: list[str],
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.campaigns.p8_soak", "--seconds", str(CI_SECONDS), *kept],
        cwd=ledger.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert f"P8 seeds=1 seconds={CI_SECONDS:.0f}"[:-1] in done.stdout
    assert " violations=0 " in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTS)
def test_what_a_soak_promises_can_be_broken_and_is_found_in_seconds(plant: str) -> None:
    planted, says = PLANTS[plant]
    with planted():
        result = asyncio.run(run(4.0, round_s=0.3, patience_s=1.0))
    assert any(says in violation for violation in result.violations), result.violations


def test_the_programme_can_be_run_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    broken = main(["--seconds", "0.1"])  # one round: too short for figures, but the account is exact
    assert [violation for violation in broken if "no soak" not in violation] == []
    out = capsys.readouterr().out
    assert "P8 seeds=1 seconds=" in out
    assert "rounds=1 " in out


AT_REST = Sample(at_s=0.0, rss_mib=40.0, blocks=100_000, tasks=2, threads=2, fds=9, machines=7)
GOOD = Result(
    seconds=60.0,
    samples=[replace(AT_REST, at_s=float(second)) for second in range(60)],
    reached=Counter({what: round(60 * each) for what, each in REQUIRED.items()}),
)


def last_ten(**change: float) -> list[Sample]:
    return [*GOOD.samples[:50], *(replace(sample, **change) for sample in GOOD.samples[50:])]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"samples": last_ten(rss_mib=45.0)}, "memory grew"),
        ({"samples": last_ten(blocks=110_000) + last_ten(blocks=110_000)[50:] * 2}, "objects more"),
        ({"samples": last_ten(tasks=3)}, "tasks changed by 1"),
        ({"samples": last_ten(threads=3)}, "threads changed by 1"),
        ({"samples": last_ten(fds=10)}, "fds changed by 1"),
        ({"samples": last_ten(machines=8)}, "machines changed by 1"),
        ({"errors": ["booked: orders 5, ledgers 6"]}, "booked"),
        ({"left": ["1 threads"]}, "left at the end: 1 threads"),
        ({"reached": GOOD.reached - Counter({"watches": 1})}, "watches"),
    ],
)
def test_each_promise_of_the_programme_can_be_broken(change: dict[str, object], says: str) -> None:
    assert GOOD.violations == []
    (violation,) = replace(GOOD, **change).violations
    assert says in violation


def test_over_a_long_time_memory_may_grow_by_no_more_than_a_mebibyte_an_hour() -> None:
    def over_hours(mib_per_h: float) -> Result:
        samples = [replace(AT_REST, at_s=60.0 * n, rss_mib=40 + mib_per_h * n / 60) for n in range(91)]
        reached = Counter({what: round(5_400 * each) for what, each in REQUIRED.items()})
        return replace(GOOD, seconds=3 * LONG_S, samples=samples, reached=reached)

    assert over_hours(0.9).violations == []
    (violation,) = over_hours(1.2).violations
    assert "1.2 MiB an hour" in violation


def test_the_line_of_the_ledger_has_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    line = report(GOOD)
    assert line.startswith("P8 seeds=1 seconds=60 rounds=60 ")
    for figure in (
        "growth_mib=0.00",
        "slope_mib_per_h=0.0",
        "growth_blocks=0",
        "tasks=2",
        "threads=2",
        "fds=9",
    ):
        assert figure in line
    assert line in capsys.readouterr().out
