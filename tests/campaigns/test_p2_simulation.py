"""P2 in the size of a build: 4,000 seeds, in chunks that the test processes share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import actorfsm
from tests.campaigns import ledger
from tests.campaigns.p2_simulation import REQUIRED, USUAL_SEEDS, Tally, main, report, run
from tests.campaigns.p2_world import EVENTS, run_seed

SEEDS = 4_000 * ledger.multiplier()
"""A planted bug is found within 200; as many as a release needs are run by hand."""
CHUNK = 500
CHUNKS = SEEDS // CHUNK


@pytest.mark.slow
@pytest.mark.timeout(600)  # a chunk takes about 12 s; much more where the machine is shared
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_seed_breaks_the_contract_and_each_chunk_reaches_everything(chunk: int) -> None:
    first = chunk * CHUNK
    tally = run(range(first, first + CHUNK))
    figures = {"events": tally.events, "violations": tally.violations}
    ledger.enter("P2", seeds=f"{first}..{first + CHUNK - 1}", **figures)
    for seed, found in tally.broken.items():
        print(f"seed {seed}:", *found, sep="\n  ")
    print(report(tally))
    assert not tally.broken, f"seeds that break the contract: {sorted(tally.broken)}"
    assert not tally.missing()
    assert tally.events >= EVENTS * CHUNK


@pytest.mark.many
def test_a_few_seeds_keep_the_contract() -> None:
    """So that a run without campaigns has looked at some."""
    tally = run(range(1_000_000, 1_000_025))
    assert tally.broken == {}
    assert tally.events >= EVENTS * 25


def test_a_campaign_that_does_not_reach_what_it_must_fails() -> None:
    tally = Tally(seeds=USUAL_SEEDS)
    tally.reached.update(dict.fromkeys(REQUIRED, 99))
    assert len(tally.missing()) == len(REQUIRED)
    tally.reached.update(dict.fromkeys(REQUIRED, 1))
    assert tally.missing() == []


def test_the_campaign_can_be_run_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--seeds", "2", "--first", "7"])
    assert "P2 seeds=2 events=" in capsys.readouterr().out


SHOW = """
from tests.campaigns.p2_world import run_seed
for seed in range(12):
    result = run_seed(seed)
    print(seed, len(result.violations), sorted(result.reached.items()))
    print("\\n".join(result.system.trace.lines()))
"""


@pytest.mark.many
@pytest.mark.rule("C32")
def test_the_same_seed_gives_the_same_trace_byte_for_byte_whatever_the_hash_seed_is() -> None:
    root = str(Path(__file__).parents[2])
    package = str(Path(actorfsm.__file__).parents[1])
    traces = [
        subprocess.run(
            [sys.executable, "-c", SHOW],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join([root, package])},
            cwd=root,
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "4242")
    ]
    assert traces[0].count(b"\n") > 12 * EVENTS
    assert traces[0] == traces[1]


@pytest.mark.rule("C32")
def test_another_seed_gives_another_trace() -> None:
    first, second = run_seed(1).system, run_seed(2).system
    assert first is not None
    assert second is not None
    assert first.trace.lines() != second.trace.lines()
