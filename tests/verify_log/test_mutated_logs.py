"""Logs that were changed are refused at the first line that is wrong; the unchanged are accepted."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import pytest

from tests.verify_log.mutations import MUTATIONS
from tests.verify_log.world import log_of, text_of, verify

SEEDS = range(8)
SITES = 24 * int(os.environ.get("ACTORFSM_CAMPAIGN", "1"))
"""Places at which a mutation is tried, in all the logs together."""

log_of_seed = cache(log_of)


def spread(found: list[Any]) -> list[Any]:
    step = max(1, len(found) // SITES)
    return found[::step][:SITES]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_unchanged_log_is_legal(seed: int) -> None:
    log = log_of_seed(seed)
    status, said, complaint = verify(text_of([*log]))
    assert (status, complaint) == (0, ""), said
    commits = sum(line["event"] == "committed" and not line.get("duplicate") for line in log)
    assert said.startswith(f"legal: {len(log)} lines, {commits} transitions of ")


def test_the_logs_tell_of_everything() -> None:
    seen = {(line["event"], line.get("duplicate", False)) for seed in SEEDS for line in log_of_seed(seed)}
    names = {"committed", "vetoed", "unhandled", "failed", "expired", "dead_lettered", "after_hook_failed"}
    assert {name for name, duplicate in seen if not duplicate} == names | {
        *("restarted", "quarantined", "released", "stopped")
    }
    assert ("committed", True) in seen
    events = {line.get("event_type") for seed in SEEDS for line in log_of_seed(seed)}
    assert {"Post", "Spawn", "TransitionRequested", "StateTimeout", "Note", "Deliver"} <= events


def test_there_are_more_than_fifty_kinds_of_mutation() -> None:
    assert len(MUTATIONS) > 50


@pytest.mark.rule("C30")
@pytest.mark.parametrize("kind", MUTATIONS)
def test_a_mutated_log_is_refused_at_the_first_line_that_is_wrong(kind: str) -> None:
    found = [mutant for seed in SEEDS for mutant in MUTATIONS[kind](log_of_seed(seed))]
    assert found
    for lines, wrong in spread(found):
        status, said, complaint = verify(text_of(lines))
        assert (status, complaint) == (1, ""), said
        assert said.startswith(f"line {wrong + 1}: "), (wrong + 1, said, lines[wrong])
        assert said.count("\n") == 1
        assert len(said) < 600
