"""The checker's laws of the supervision tree, each broken by hand (C16, C17)."""

from __future__ import annotations

from typing import Any

import pytest

from actorfsm import Record, Restart, RestartPolicy, Strategy
from actorfsm.testing.checker import Facts, check_trace
from actorfsm.testing.tree_laws import Place

ONCE = RestartPolicy(max_restarts=1, within_s=5)


def records_of(text: str) -> list[Record]:
    """Return records from words such as `started a, child_failed a: ValueError`."""
    found = []
    for step in text.split(", "):
        what, _, reason = step.partition(": ")
        name, child = what.split()
        found.append(Record(name, "service", child, reason=reason))
    return found


def judge(text: str, strategy: Strategy = Strategy.ONE_FOR_ONE, **options: Any) -> list[str]:
    """Return the rules that a trace of the tree `group (a, b, c)` breaks."""
    types = options.pop("types", (Restart.PERMANENT,) * 3)
    tree = {"group": Place("system", 0, Restart.PERMANENT, Strategy.ONE_FOR_ONE, ONCE)}
    for number, (name, restart) in enumerate(zip("abc", types, strict=True)):
        tree[name] = Place("group", number, restart, strategy, ONCE)
    records = records_of(text)
    times = options.pop("times", [float(number) for number in range(len(records))])
    found = check_trace(records, Facts(tree=tree, **options), times)
    return [f"{violation.rule} {violation.line}" for violation in found]


UP = "started a, started b, started c, started group"
DOWN = ", ".join(f"stopped {name}: its supervisor stopped it" for name in "cba")
AGAIN = "restarted a, started a, restarted b, started b, restarted c, started c"


@pytest.mark.rule("C16")
@pytest.mark.parametrize("strategy", Strategy)
def test_what_a_supervisor_may_do_is_found_right(strategy: Strategy) -> None:
    group = "child_failed a: ValueError, " + (
        "restarted a, started a" if strategy == "one_for_one" else AGAIN
    )
    assert judge(f"{UP}, {group}, {DOWN}", strategy) == []
    assert (
        judge(
            f"{UP}, {DOWN}, stopped group: its supervisor stopped it, restarted group, {AGAIN}, started group",
            strategy,
        )
        == []
    )


@pytest.mark.rule("C16")
@pytest.mark.parametrize(
    ("trace", "strategy", "broken"),
    [
        ("started a, started c, started b, started group", "one_for_one", ["C16 4"]),
        ("started a, started b, started group", "one_for_one", ["C16 3"]),
        (f"{UP}, restarted b", "one_for_one", ["C16 5"]),
        (f"{UP}, child_failed a: ValueError, restarted a, restarted c", "one_for_all", ["C16 7"]),
        (
            f"{UP}, child_failed b: ValueError, restarted b, child_failed a: x, restarted a",
            "rest_for_one",
            ["C16 8", "C17 8"],
        ),
        (
            f"{UP}, stopped a: its supervisor stopped it, stopped c: its supervisor stopped it",
            "one_for_all",
            ["C16 6"],
        ),
        (f"{UP}, child_failed b: ValueError; not started again", "one_for_one", ["C16 5"]),
    ],
)
def test_what_breaks_the_order_or_the_restart_type_is_found(
    trace: str, strategy: str, broken: list[str]
) -> None:
    assert judge(trace, Strategy(strategy)) == broken


@pytest.mark.rule("C16")
def test_a_temporary_child_is_started_again_with_its_supervisor_only() -> None:
    types = (Restart.TEMPORARY, Restart.TEMPORARY, Restart.TRANSIENT)
    failed = "child_failed a: ValueError; not started again"
    assert judge(f"{UP}, {failed}", types=types) == []
    assert judge(f"{UP}, {failed}, restarted a", types=types) == ["C16 6"]
    assert (
        judge(f"{UP}, {failed}, child_failed group: x, restarted group, {AGAIN}, started group", types=types)
        == []
    )


@pytest.mark.rule("C17")
def test_a_supervisor_gives_up_after_too_many_restarts_and_not_before() -> None:
    fails = "child_failed a: ValueError, restarted a, started a"
    again = "child_failed b: ValueError"
    assert judge(f"{UP}, {fails}, {again}, restarted b") == ["C17 9"]
    assert judge(f"{UP}, {fails}, {again}, escalated group") == []
    assert judge(f"{UP}, {fails}, {again}, restarted b", times=[0, 0, 0, 0, 1, 1, 1, 6, 6]) == []
    assert judge(f"{UP}, {fails}, escalated group") == ["C17 8"]
    assert judge(f"{UP}, {fails}, stopped b: returned, escalated group") == []


@pytest.mark.rule("C17")
def test_without_times_restarts_are_not_counted() -> None:
    tree = {"a": Place("system", 0, Restart.PERMANENT, Strategy.ONE_FOR_ONE, ONCE)}
    fails = "child_failed a: ValueError, restarted a, started a"
    assert check_trace(records_of(f"started a, {fails}, {fails}"), Facts(tree=tree)) == []


@pytest.mark.rule("C16")
def test_a_start_that_fails_begins_a_new_attempt() -> None:
    trace = (
        f"{UP}, child_failed a: ValueError, restarted a, started a, restarted b, "
        "child_failed b: did not start: ValueError, stopped a: its supervisor stopped it, escalated group, "
        "child_failed group: x, restarted group, restarted a, started a, restarted b, "
        "child_failed b: b did not start: ValueError, stopped a: its supervisor stopped it"
    )
    assert judge(trace, Strategy.ONE_FOR_ALL) == []


@pytest.mark.rule("C16")
def test_while_the_system_stops_each_child_is_by_itself() -> None:
    trace = (
        f"{UP}, child_failed a: ValueError, restarted a, restarted c, child_failed b: x; not started again"
    )
    assert judge(trace, Strategy.ONE_FOR_ALL, ends_at=4) == []
