"""A real journal, what is true of it, and what a damaged copy of it says."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

from actorfsm import (
    ActorFSMError,
    AskTimeout,
    Expired,
    JournalCorrupt,
    JournalError,
    JournalUnusable,
    NoSuchMachine,
    Quarantined,
    SystemFailed,
)
from actorfsm.journal.sqlite.journal import SQLiteJournal
from actorfsm.testing import SimulatedSystem
from actorfsm.testing.loop import simulate
from tests.campaigns.p3.machines import Desk, Free, Hold, Ledger, Pay, Till
from tests.campaigns.p6.damage import Damage, damage
from tests.contract.durable import hold

__all__ = ["World"]

TILLS: Final = ("till-0", "till-1", "till-2")
DESKS: Final = ("desk-0", "desk-1", "desk-2")
PAYMENTS: Final = 6


class World:
    """A journal as a kill leaves it, with all kinds of rows, in one file.

    Args:
        folder: Where.
    """

    def __init__(self, folder: Path) -> None:
        self.sound = folder / "sound.db"
        self.path = folder / "damaged.db"
        self.truth: dict[str, Any] = {}
        self.replies: dict[tuple[str, int], int] = {}
        self.forgotten = 0
        """Event ids that were applied again, because of what only a look at the whole journal finds."""
        self.refused: dict[str, int] = {}
        simulate(self._live)
        simulate(self._learn)

    async def _live(self) -> None:
        working = self.sound.with_name("working.db")
        async with SimulatedSystem(Till, Desk, Ledger, journal=working, check=False) as system:
            await system.get_or_spawn(Ledger, "ledger")
            for machine_id in (*TILLS, *DESKS):
                await system.spawn(Desk if machine_id in DESKS else Till, machine_id)
            for number in range(1, PAYMENTS + 1):
                for machine_id in (*TILLS, *DESKS):
                    reply = await system.ask(machine_id, Pay(number=number), event_id=f"pay-{number}")
                    self.replies[machine_id, number] = reply
                await system.clock.advance(1)
            await system._journal.snapshot("till-1")
            await system._journal.snapshot("desk-1", keep=2)
            for machine_id in (*TILLS, *DESKS):
                await system.ask(machine_id, Pay(number=50), event_id="pay-50")
                self.replies[machine_id, 50] = system.snapshot(machine_id).data["paid"]
            await system.ask("till-2", Hold(number=7), event_id="hold-7")
            system.tell("till-2", Pay(number=8), event_id="pay-8")
            system.tell("nobody", Free(number=1))
            hold(system, "ledger")
            await system.ask("till-0", Pay(number=9), event_id="pay-9")
            self.replies["till-0", 9] = system.snapshot("till-0").data["paid"]
            await asyncio.sleep(0.001)
            with closing(sqlite3.connect(working)) as source, closing(sqlite3.connect(self.sound)) as target:
                source.backup(target)
                target.execute("PRAGMA journal_mode = delete").fetchall()
            await system.shutdown(queues="abandon")

    async def _learn(self) -> None:
        shutil.copy(self.sound, self.path)
        journal = SQLiteJournal(self.path)
        await journal.open()
        for head in await journal.machines():
            stored = await journal.load(head.machine_id)
            assert stored is not None
            self.truth[head.machine_id] = stored.image
        assert await journal.pending()
        assert await journal.timers(2**62)
        await journal.close()

    # -- a damaged copy -------------------------------------------------------------------------------------------

    def run(self, seed: int) -> tuple[Damage, list[str]]:
        """Damage a copy; return how, and where it was believed, or somebody else had to suffer."""
        for path in self.path.parent.glob("damaged.db*"):
            path.unlink()
        shutil.copy(self.sound, self.path)
        done = damage(self.path, Random(seed))
        self.broken: list[str] = []
        whole = self.path.read_bytes()
        for look in (self._load_all, self._run_a_system):
            self.path.write_bytes(whole)
            try:
                simulate(partial(look, done))
            except Exception as error:  # noqa: BLE001 -- what is no answer of the package is a finding
                self.broken.append(f"{look.__name__}: out comes {error!r} because of {error.__cause__!r}")
        return done, self.broken

    def _count(self, error: Exception) -> None:
        self.refused[type(error).__name__] = self.refused.get(type(error).__name__, 0) + 1

    def _forgets_ids(self, done: Damage) -> bool:
        """Return whether an event id may be forgotten: its index is damaged, or its entry, which was trimmed, is gone.

        Neither is looked at when a machine is loaded; to verify the whole journal finds both.
        """
        if done.machines is not None:
            return done.of_trimmed
        try:
            with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection:
                (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        except sqlite3.DatabaseError:
            return True
        return bool(found != "ok")

    async def _load_all(self, done: Damage) -> None:
        journal = SQLiteJournal(self.path)
        try:
            await journal.open()
        except JournalUnusable as error:
            self._count(error)
            if done.machines is not None:
                self.broken.append(f"nothing can be opened: {error}")
            return
        try:
            for machine_id, image in self.truth.items():
                try:
                    stored = await journal.load(machine_id)
                except JournalError as error:
                    self._count(error)
                    if isinstance(error, JournalCorrupt) and machine_id not in str(error) and done.machines:
                        self.broken.append(f"the error does not name {machine_id}: {error}")
                    if done.machines is not None and machine_id not in done.machines:
                        self.broken.append(f"{machine_id} has nothing to do with it: {error}")
                    continue
                if stored is None:
                    self.broken.append(f"{machine_id} is said never to have been")
                elif stored.image != image:
                    self.broken.append(f"{machine_id} is believed to be {stored.image}, and is {image}")
        finally:
            await journal.close()

    async def _run_a_system(self, done: Damage) -> None:
        try:
            async with SimulatedSystem(Till, Desk, Ledger, journal=self.path, check=False) as system:
                await system.clock.advance(1)
                for machine_id in (*TILLS, *DESKS):
                    await self._ask(system, machine_id, done)
                await system.shutdown(queues="abandon")
        except (JournalError, SystemFailed) as error:
            self._count(error)
            if done.machines is not None:
                self.broken.append(f"the system ends: {error!r} because of {error.__cause__!r}")

    async def _ask(self, system: Any, machine_id: str, done: Damage) -> None:
        """Ask for what was answered before, and for something new."""
        paid = self.truth[machine_id].data.json
        for number in (2, 50, 60):
            known = self.replies.get((machine_id, number))
            if number == 60:
                if machine_id == "till-2":
                    continue  # it would wait
                paid = system.snapshot(machine_id).data["paid"] if machine_id in system.ids() else None
                known = None if paid is None else paid + (60 if machine_id in DESKS else 1)
            try:
                reply = await system.ask(machine_id, Pay(number=number), event_id=f"pay-{number}", timeout=30)
            except (Quarantined, JournalError) as error:
                self._count(error)
                if done.machines is not None and machine_id not in done.machines:
                    self.broken.append(f"{machine_id} has nothing to do with it, and answers {error!r}")
            except (AskTimeout, Expired) as error:
                self._count(error)  # it is tried again and again
                if done.machines is not None:
                    self.broken.append(f"{machine_id} answers {error!r}")
            except NoSuchMachine:
                self.broken.append(f"{machine_id} is said never to have been, when it is asked")
            except ActorFSMError as error:
                self.broken.append(f"{machine_id} answers {error!r}")
            else:
                if number != 60 and reply != known and self._forgets_ids(done):
                    self.forgotten += 1
                elif known is not None and reply != known:
                    self.broken.append(
                        f"{machine_id} answers {reply} to payment {number}, and {known} is true"
                    )
