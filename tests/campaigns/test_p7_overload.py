"""P7 in the size of a build: 20 s of ten times more than the machines can do."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from tests.campaigns.p7_overload import CI_SECONDS, Result, Spread, jain, main, report, run


@pytest.mark.slow
@pytest.mark.rule("C11")
@pytest.mark.rule("C12")
@pytest.mark.timeout(120)
def test_under_ten_times_the_load_machines_do_their_work_and_refuse_the_rest_at_once() -> None:
    result = asyncio.run(run(CI_SECONDS))
    report(result)
    assert result.violations == []


def test_the_programme_can_be_run_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    broken = main(["--seconds", "0.5"])  # too short to promise figures; the account is exact all the same
    assert not any("unexplained" in violation for violation in broken)
    assert "P7 seeds=1 seconds=0 capacity=" in capsys.readouterr().out


GOOD = Result(
    seconds=10.0,
    capacity=1000.0,
    offered=100_000,
    goodput=950.0,
    worst=0.9,
    jain=0.99,
    refusals=Counter(MailboxFull=90_000),
    refusal_s=Spread({1: 89_000, 200: 1_000}),
    refusal_processor_s=Spread({1: 89_950, 200: 50}),
    growth_mib=3.0,
    unexplained=0,
)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"goodput": 850.0}, "goodput"),
        ({"offered": 50_000}, "no overload"),
        ({"jain": 0.9}, "Jain"),
        ({"refusals": Counter(MailboxFull=9, KeyError=1)}, "KeyError"),
        ({"refusals": Counter()}, "nobody was refused"),
        ({"refusal_processor_s": Spread({1: 89_000, 200: 1_000})}, "one refusal of a thousand took 20.1 ms"),
        ({"refusal_s": Spread({1: 80_000, 200: 10_000})}, "one refusal of twenty took 20.1 ms"),
        ({"growth_mib": 100.0}, "memory"),
        ({"unexplained": 1}, "unexplained"),
    ],
)
def test_each_promise_of_the_programme_can_be_broken(change: dict[str, object], says: str) -> None:
    assert GOOD.violations == []
    (violation,) = replace(GOOD, **change).violations
    assert says in violation


def test_the_index_of_fairness_is_one_for_equals_and_a_share_for_one_alone() -> None:
    assert jain([5, 5, 5]) == pytest.approx(1.0)
    assert jain([9, 0, 0]) == pytest.approx(1 / 3)
    assert jain([0, 0]) == 0.0


def test_a_spread_tells_how_long_all_but_the_longest_took_at_most() -> None:
    spread = Spread()
    for tenth in range(1_000):
        spread.add(tenth / 10_000 + 0.00005)
    assert spread.least_of_the_longest(0.0) == 0.1
    assert spread.least_of_the_longest(0.5) == pytest.approx(0.05)
    assert spread.longest_s == pytest.approx(0.09995)
    assert Spread().least_of_the_longest(0.5) == 0.0
