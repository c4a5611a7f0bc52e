"""P5 over journals: the runtime against the model, with crashes; memory, SQLite and PostgreSQL have stored the same."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis.stateful import RuleBasedStateMachine

from tests.campaigns.journals import InAFile, OnAServer
from tests.campaigns.ledger import enter
from tests.campaigns.p5.against import FIGURES
from tests.campaigns.p5.over_journals import OverJournals
from tests.campaigns.p5.test_p5_model import CAMPAIGN, STEPS, campaign

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.campaigns.journals import Place
    from tests.postgresql_server import Server

EXAMPLES_OVER_A_FILE, EXAMPLES_ON_A_SERVER = 20 * CAMPAIGN, 5 * CAMPAIGN


def campaign_over(examples: int, where: str, *others: Callable[[], Place]) -> None:
    """Run the campaign over a journal in memory, and each example once more over each of the others."""
    FIGURES.clear()
    over: type[RuleBasedStateMachine] = type("Over", (OverJournals,), {"others": others})
    campaign(examples, over)
    figures = {name: FIGURES[name] for name in ("events", "crashes", "entries")}
    enter("P5", seeds=FIGURES["compared"], over=where, steps=STEPS, **figures, violations=0)
    assert FIGURES["compared"] >= len(others) * examples
    assert FIGURES["crashes"] > examples
    assert FIGURES["entries"] > 10 * examples


@pytest.mark.timeout(120 * CAMPAIGN)
@pytest.mark.rule("C23")
@pytest.mark.rule("C24")
def test_the_runtime_does_what_the_model_says_over_a_journal_also_after_crashes(tmp_path: Path) -> None:
    numbers = count()
    campaign_over(EXAMPLES_OVER_A_FILE, "memory,sqlite", lambda: InAFile(tmp_path / f"{next(numbers)}.db"))


@pytest.mark.slow
@pytest.mark.timeout(120 * CAMPAIGN)
@pytest.mark.rule("C23")
@pytest.mark.rule("C24")
def test_a_server_stores_what_memory_stores(postgresql_server: Server) -> None:
    campaign_over(
        EXAMPLES_ON_A_SERVER,
        "memory,postgresql",
        lambda: OnAServer(postgresql_server.url(more=f"?schema={postgresql_server.new_schema()}")),
    )


@pytest.mark.rule("C16")
@pytest.mark.rule("C23")
def test_a_crash_does_not_bring_back_how_often_a_timer_had_failed_before_its_machine_was_restarted() -> None:
    """An example that failed once."""
    quiet = {"slow": 0, "to": (), "own": (), "at": "before", "watch": "", "timer": "", "fate": "restart"}
    rules = OverJournals()
    rules.start(seed=172, inline=False, spawned=0)
    rules.tell(
        to="s",
        events=[("stay", {**quiet, "timer": "failing"}), ("go", quiet)],
        own_id=True,
        callback=False,
        then=False,
    )
    rules.advance(seconds=3)
    rules.crash()
    rules.repeat(pick=1, same=True, timeout=0)
    rules.advance(seconds=2)
    rules.crash()
    rules.teardown()
