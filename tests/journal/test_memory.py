"""The journal in memory keeps the laws of every journal."""

from __future__ import annotations

import asyncio

import pytest

from actorfsm import OutcomeUnknown
from actorfsm.journal.codec import Plan
from actorfsm.journal.entry import Batch, Entry
from actorfsm.journal.memory import Fate, MemoryJournal, MemoryStore
from actorfsm.testing.journal_laws import FAULT_LAWS, LAWS, Law
from actorfsm.testing.loop import simulate
from tests.journal.stages import MemoryStage


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_journal_in_memory_keeps_the_law(law: Law) -> None:
    simulate(lambda: law(MemoryStage()))


@pytest.mark.parametrize("dark", ["unknown, stored", "unknown, not stored", "not stored"])
@pytest.mark.parametrize("law", FAULT_LAWS, ids=lambda law: law.__name__)
def test_the_journal_in_memory_keeps_the_law_when_it_fails(law: Law, dark: Fate) -> None:
    simulate(lambda: law(MemoryStage(dark)))


def test_a_commit_whose_answer_is_lost_is_there_in_the_next_life() -> None:
    async def scenario() -> None:
        journal = MemoryJournal()
        await journal.open()
        assert repr(journal) == "<MemoryJournal epoch=1 machines=0>"
        journal.store.fate = lambda: "lost"
        entry = Entry(machine_id="a", machine="M", seq=1, kind="committed", at_us=1)
        answer = journal.append(Batch(entries=(entry,)))
        await asyncio.sleep(1e6)
        assert not answer.done()
        journal.store.fate = lambda: "unknown, not stored"
        with pytest.raises(OutcomeUnknown):
            await journal.append(Batch(entries=(entry,)))
        journal = MemoryJournal(journal.store)
        await journal.open()
        assert repr(journal) == "<MemoryJournal epoch=2 machines=1>"
        assert list(await journal.entries("a")) == [entry]

    simulate(scenario)


class Careless(MemoryStore):
    """Refuses nothing."""

    def _check(self, batch: Batch, plan: Plan) -> None: ...


def test_a_journal_that_takes_what_it_must_refuse_breaks_the_law() -> None:
    stage = MemoryStage()
    stage.store = Careless()
    (law,) = (law for law in LAWS if law.__name__ == "an_event_id_is_used_up_once_per_machine")
    with pytest.raises(AssertionError, match="EventIdUsed was not raised"):
        simulate(lambda: law(stage))
