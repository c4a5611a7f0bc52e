"""The journal in memory keeps the laws of every journal."""

from __future__ import annotations

import pytest

from actorfsm.journal.memory import Fate
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
