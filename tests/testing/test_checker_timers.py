"""The checker knows timers: events without a sender, of the state in which they come."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actorfsm import Record
from actorfsm.testing import Facts, SimulatedSystem, check, simulate
from actorfsm.testing.simulation import facts_of
from tests.contract.paths import Style
from tests.contract.porter import Diary, Do, Go, Tick, porter_of

pytestmark = pytest.mark.rule("C20")
PORTER = porter_of(Style.ASYNC)


def a_run() -> tuple[list[Record], Facts]:
    found: list[Any] = []

    async def scenario() -> None:
        diary = Diary(do=lambda machine: machine.start_timer(Tick(n=1), after=1))
        async with SimulatedSystem(PORTER, services=diary) as system:  # its end judges, too
            ref = await system.spawn(PORTER, "w")
            await ref.ask(Do())
            await ref.ask(Go())
            await asyncio.sleep(20)
            found.extend([list(system.trace.records), facts_of(system)])

    simulate(scenario)
    return found[0], found[1]


def test_a_run_with_timers_keeps_the_contract() -> None:
    records, facts = a_run()
    assert [record.event_type for record in records].count("StateTimeout") == 2
    assert check(records, facts=facts) == []


def test_a_state_timeout_in_a_state_that_has_none_is_found() -> None:
    records, facts = a_run()
    stateless = Facts(timeouts={"Porter": {"NIGHT": facts.timeouts["Porter"]["NIGHT"] - {"dawn"}}})
    (violation,) = check(records, facts=stateless)
    assert violation.rule == "C20"
    assert "dawn is no timeout of NIGHT" in violation.text


def test_a_state_timeout_of_a_turn_that_was_never_committed_is_found() -> None:
    records, facts = a_run()
    line = next(line for line, record in enumerate(records) if record.event_type == "StateTimeout")
    records[line] = records[line]._replace(causation_id="never")
    (violation,) = check(records, facts=facts)
    assert (violation.rule, violation.line) == ("C20", line + 1)
    assert "was never committed" in violation.text
