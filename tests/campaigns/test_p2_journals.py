"""P2 over journals in the size of a build, and the bugs that it must find."""

from __future__ import annotations

import gc
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from actorfsm.journal import codec
from actorfsm.runtime.perform import NotWritten
from actorfsm.runtime.recording import Recording
from actorfsm.runtime.stored_values import StoredValues
from actorfsm.runtime.tasks import start_task
from tests.campaigns.journals import OnAServer
from tests.campaigns.p2_journals import FULL_SIZE, REQUIRED, Tally, report, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.postgresql_server import Server

SEEDS, SEEDS_ON_A_SERVER, BUDGET = 8, 1, 6


@pytest.mark.timeout(120)
@pytest.mark.rule("C23")
@pytest.mark.rule("C24")
@pytest.mark.rule("C25")
@pytest.mark.rule("C26")
def test_a_seed_has_the_same_history_in_memory_and_in_a_file_and_no_promise_is_broken() -> None:
    tally = run(range(SEEDS))
    report(tally, "memory,sqlite")
    assert tally.broken == []
    assert tally.missing() == []


@pytest.mark.timeout(120)
@pytest.mark.rule("C23")
def test_a_seed_has_the_same_history_on_a_server(postgresql_server: Server) -> None:
    def on_a_server() -> OnAServer:
        return OnAServer(postgresql_server.url(more=f"?schema={postgresql_server.new_schema()}"))

    tally = run(range(SEEDS_ON_A_SERVER), on_a_server)
    report(tally, "memory,sqlite,postgresql")
    assert tally.broken == []


def test_a_campaign_that_does_not_reach_what_it_must_fails() -> None:
    tally = Tally(seeds=FULL_SIZE)
    tally.reached.update(dict.fromkeys(REQUIRED, 99))
    assert len(tally.missing()) == len(REQUIRED)


def a_reply_leaves_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    commit = Recording.commit

    async def ahead(self: Recording, turn: Any, *arguments: Any) -> None:
        async def later() -> None:
            with suppress(NotWritten):
                await commit(self, turn, *arguments)

        start_task(later(), self._parts.loop)

    patch.setattr(Recording, "commit", ahead)


def a_journal_drops_the_messages_of_an_entry(patch: pytest.MonkeyPatch) -> None:
    plan = codec.plan

    def drops(*arguments: Any) -> Any:
        planned = plan(*arguments)
        if planned.rows:
            planned.promises.clear()
        return planned

    patch.setattr(codec, "plan", drops)


def an_applied_event_id_is_forgotten_on_recovery(patch: pytest.MonkeyPatch) -> None:
    async def forgets(self: Recording, turn: Any) -> bool:
        return False

    patch.setattr(Recording, "is_done", forgets)


def a_timer_is_not_restored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StoredValues, "timer", lambda self, stored, node: None)


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # what a plant leaves spins for ever
@pytest.mark.parametrize(
    "plant",
    [
        a_reply_leaves_before_the_commit,
        a_journal_drops_the_messages_of_an_entry,
        an_applied_event_id_is_forgotten_on_recovery,
        a_timer_is_not_restored,
    ],
)
def test_a_planted_bug_is_found(plant: Callable[[pytest.MonkeyPatch], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        for seed in range(BUDGET):
            found = run(range(seed, seed + 1)).broken
            if found:
                break
    gc.collect()  # here, where the warnings of what is left belong
    assert found, f"{BUDGET} seeds did not find it"
    print(f"found after {seed + 1} seeds: {plant.__name__}: {found[0]}")
