"""The journal in a SQLite file keeps the laws of every journal, on its thread and on the simulated loop."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actorfsm.testing.journal_laws import FAULT_LAWS, LAWS, Law
from actorfsm.testing.loop import simulate
from tests.journal.stages import SQLiteStage

by_name = {"ids": lambda law: law.__name__}


@pytest.mark.parametrize("law", LAWS, **by_name)
@pytest.mark.parametrize("durability", ["full", "process"])
def test_the_journal_in_a_file_keeps_the_law_on_its_thread(law: Law, durability: Any, tmp_path: Path) -> None:
    asyncio.run(law(SQLiteStage(tmp_path, durability=durability)))


@pytest.mark.parametrize("law", LAWS, **by_name)
def test_the_journal_in_a_file_keeps_the_law_on_the_simulated_loop(law: Law, tmp_path: Path) -> None:
    simulate(lambda: law(SQLiteStage(tmp_path)))


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("law", FAULT_LAWS, **by_name)
def test_the_journal_in_a_file_keeps_the_law_when_it_fails(law: Law, late: bool, tmp_path: Path) -> None:
    simulate(lambda: law(SQLiteStage(tmp_path, late=late)))
