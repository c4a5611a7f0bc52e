"""C27 with a journal in a file: what was damaged on disk costs the machine that it belongs to, and no other."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from actorfsm import MachineExists, Quarantined
from actorfsm.testing import SimulatedSystem
from tests.contract.durable import Note, Order, Remind, Send, hold

SEEDS = range(2)


@pytest.mark.rule("C27")
@pytest.mark.parametrize(
    ("statement", "held"),
    [
        ("UPDATE pending SET body = replace(body, 'parcel', 'barrel')", "receiver"),
        ("UPDATE pending SET machine_id = 'other'", "receiver"),
        ("UPDATE pending SET key = 'other'", "receiver"),
        ("UPDATE timers SET body = replace(body, 'reminder', 'remainder')", "waiting"),
        ("UPDATE timers SET due_us = due_us + 1", "waiting"),
        ("UPDATE timers SET machine_id = 'other'", "waiting"),
        ("DELETE FROM machines WHERE machine_id = 'waiting'", "waiting"),
        ("UPDATE machines SET machine_id = 'nobody' WHERE machine_id = 'receiver'", "receiver"),
    ],
)
def test_a_damaged_row_beside_the_entries_holds_its_machine_and_the_others_run(
    statement: str, held: str, sim: Callable[..., None], tmp_path: Path
) -> None:
    journals = iter(tmp_path / f"{n}.db" for n in range(len(SEEDS)))

    async def scenario() -> None:
        journal = next(journals)
        async with SimulatedSystem(Order, journal=journal, check=False) as system:
            for name in ("sender", "receiver", "waiting", "another"):
                await system.spawn(Order, name)
            hold(system, "receiver")
            for _ in range(2):
                await system.ask("sender", Send(to="receiver", text="parcel"))
            await system.ask("another", Remind(after=50))
            await system.ask("waiting", Remind(after=55))
            await system.shutdown(queues="abandon")
        with closing(sqlite3.connect(journal)) as connection, connection:
            one = " AND rowid IN (SELECT min(place) FROM pending)" if "pending" in statement else ""
            of = f" WHERE machine_id = '{held}'{one}" if "WHERE" not in statement else ""
            assert connection.execute(statement + of).rowcount == 1
        told = []
        async with SimulatedSystem(
            Order, journal=journal, check=False, on_quarantine=lambda who, _: told.append(who)
        ) as system:
            with pytest.raises(Quarantined):
                await system.ask(held, Note(text="."))
            with pytest.raises((Quarantined, MachineExists)):
                await system.spawn(Order, held)
            for name in {"sender", "receiver", "waiting", "another"} - {held}:
                await system.ask(name, Note(text="."))
            await system.clock.advance(60)
            assert told == [held]
            assert system.snapshot("another").data["notes"] == (".", "reminder")
            if held != "receiver":
                assert system.snapshot("receiver").data["notes"] == ("parcel", "parcel", ".")

    sim(scenario, seeds=SEEDS)
