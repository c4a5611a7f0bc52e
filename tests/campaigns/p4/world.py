"""One run of P4: a life in which the disk fails at one point, then heals; and what must be true then, and after it.

On the simulated loop, so that retries cost no time, but on a real file. Runs in a process with the shim.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

from actorfsm import (
    ActorFSMError,
    AskTimeout,
    Expired,
    JournalError,
    JournalFull,
    JournalUnusable,
    NotStored,
    OutcomeUnknown,
    Unhandled,
)
from actorfsm.journal.sqlite.journal import SQLiteJournal
from actorfsm.testing import SimulatedSystem
from actorfsm.testing.loop import simulate
from tests.campaigns.disk.power import Disk, lines_of
from tests.campaigns.disk.shim import Action, Control
from tests.campaigns.disk.verify import verified
from tests.campaigns.p3.machines import Desk, Free, Hold, Ledger, Pay, Till
from tests.campaigns.p3.oracle import Notes, judge
from tests.campaigns.p4.faults import Fault
from tests.contract.durable import hold

__all__ = ["World"]

EVENTS: Final[Any] = {"pay": Pay, "hold": Hold, "free": Free}
MACHINES: Final = ("till-0", "till-1", "desk-0")
PATIENCE_S: Final = 1e6
HEALED_S: Final = 20.0
"""Virtual seconds, in which everything that waits for the disk is tried again."""


class Asker:
    """Asks, and keeps what it was told. What it was refused it never asks again."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self.refused: dict[str, str] = {}
        self.unknown: dict[str, tuple[str, str, int]] = {}

    async def ask(self, system: Any, machine: str, what: str, number: int) -> bool:
        """Ask; return whether there was a reply."""
        event_id = f"{machine}/{what}-{number}"
        self.notes.sent.add(event_id)
        self.unknown.pop(event_id, None)
        try:
            kind = Desk if machine.startswith("desk") else Till
            await system.get_or_spawn(kind, machine)
            reply = await system.ask(
                machine, EVENTS[what](number=number), event_id=event_id, timeout=PATIENCE_S
            )
        except (OutcomeUnknown, AskTimeout):
            self.unknown[event_id] = (machine, what, number)
        except (NotStored, Unhandled, Expired, JournalError) as error:
            self.refused[event_id] = repr(error)
        except ActorFSMError as error:
            self.notes.errors.append(f"{event_id} was answered {error!r}")
        else:
            self.notes.answers[event_id] = (machine, reply, 0)
            return True
        return False


class World:
    """A folder with a journal, and what is known of it.

    Args:
        folder: Where; it is made anew for each run.
        control: Of the shim.
        scenario: One of `SCENARIOS`.
    """

    def __init__(self, folder: Path, control: Control, scenario: str) -> None:
        self.folder = folder
        self.control = control
        self.scenario = scenario
        self.base = folder / "base"
        self.base_notes = Notes()
        self.answers = 0
        self.refusals: dict[str, int] = {}
        control.watch(folder / "nowhere")
        self.base.mkdir(parents=True)
        if scenario != "a first life":
            simulate(self._first_life)

    async def _first_life(self) -> None:
        """Leave something of each kind: timers that run, messages on their way, events that are postponed."""
        asker = Asker(self.base_notes)
        async with SimulatedSystem(
            Till, Desk, Ledger, journal=self._journal(self.base / "journal.db"), check=False
        ) as system:
            await system.get_or_spawn(Ledger, "ledger")
            await asker.ask(system, "till-0", "pay", 101)
            await asker.ask(system, "till-0", "hold", 102)
            asking = asyncio.ensure_future(asker.ask(system, "till-0", "pay", 103))
            await asker.ask(system, "desk-0", "pay", 101)
            await asker.ask(system, "till-1", "pay", 101)
            await asyncio.sleep(0.001)  # until it has nothing to do
            hold(system, "ledger")
            await asker.ask(system, "till-1", "pay", 102)
            # What a kill leaves: a life that ended in good order would have brought it all to an end.
            await asyncio.sleep(0)
            for end in ("", "-wal"):
                shutil.copy(self.base / f"journal.db{end}", self.base / f"killed.db{end}")
            asking.cancel()
            await system.shutdown(queues="abandon")
        self.base_notes.errors.clear()
        for path in self.base.glob("journal.db*"):
            path.unlink()

    def _journal(self, path: Path) -> SQLiteJournal:
        pages = 3 if self.scenario == "checkpoints" else 1000

        def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection = sqlite3.connect(*arguments, **options)
            connection.execute(f"PRAGMA wal_autocheckpoint = {pages}").fetchall()
            return connection

        return SQLiteJournal(path, connect=connect)

    # -- a run ----------------------------------------------------------------------------------------------------

    def run(self, fault: Fault, at: int) -> tuple[bool, list[str]]:
        """Let the n-th call fail; return whether there was one, and what promises are broken."""
        self.notes = deepcopy(self.base_notes)
        self.asker = Asker(self.notes)
        self.broken: list[str] = []
        self.disk, log = self.folder / "disk", self.folder / "log"
        for path in (self.disk, self.folder / "copy", self.folder / "left"):
            shutil.rmtree(path, ignore_errors=True)
        log.unlink(missing_ok=True)
        self.disk.mkdir()
        for path in self.base.iterdir():
            shutil.copy(path, self.disk / path.name.replace("killed", "journal"))
        self.control.watch(self.disk, log)
        self.fault = fault
        self.control.arm(at, fault.kinds, fault.action, error=fault.error, lasting=fault.lasting)
        try:
            simulate(self._troubled_life)
            fired = self.control.fired > 0
            simulate(self._healthy_life)
        except Exception as error:  # noqa: BLE001 -- whatever comes out of a life is a finding
            self.broken.append(f"out of the system comes {error!r} because of {error.__cause__!r}")
            fired = self.control.fired > 0
        finally:
            self.control.disarm()
        self.answers += len(self.notes.answers) - len(self.base_notes.answers)
        return fired, self.broken

    async def _troubled_life(self) -> None:
        for _ in range(2):
            try:
                async with self._system() as system:
                    await self._trouble(system)
                return
            except (JournalUnusable, JournalFull, JournalError) as error:
                if not self.control.fired or self.control.action == Action.PASS:
                    raise
                self.refusals[type(error).__name__] = self.refusals.get(type(error).__name__, 0) + 1
                self._look("when it could not be opened")
                self.control.disarm()

    def _system(self) -> Any:
        return SimulatedSystem(
            Till, Desk, Ledger, journal=self._journal(self.disk / "journal.db"), check=False
        )

    async def _trouble(self, system: Any) -> None:
        asker, control = self.asker, self.control
        await self._spawn_ledger(system)
        asking = [
            asyncio.ensure_future(asker.ask(system, machine, what, number))
            for machine, what, number in (
                *(("till-0", "hold", 2), ("till-0", "pay", 2), ("till-0", "free", 2)),
                *(("till-1", "pay", 1), ("desk-0", "pay", 1)),
            )
        ]
        await system.clock.advance(2.0)
        asking.append(asyncio.ensure_future(asker.ask(system, "desk-0", "pay", 2)))
        await system.clock.advance(2.0)
        if control.fired and control.action != Action.PASS:
            await self._reads_go_on(system)
        self._look("while it was broken")
        self._lose_power("while it was broken")
        control.disarm()
        await system.clock.advance(HEALED_S)
        await self._works_again(system)
        left = await asyncio.gather(*asking)
        assert len(left) == len(asking)
        self.broken += await self._as_shown(system, "after it was mended")

    async def _spawn_ledger(self, system: Any) -> None:
        """Tills tell the ledger what was paid: without it there would be dead letters."""
        for _ in range(2):
            try:
                async with asyncio.timeout(
                    HEALED_S
                ):  # nobody may know what became of its last commit until then
                    await system.get_or_spawn(Ledger, "ledger")
                return
            except (JournalError, TimeoutError):
                self._look("when a machine could not be born")
                self.control.disarm()
                await asyncio.sleep(HEALED_S)
        self.broken.append("C25: a machine cannot be born after it was mended")

    async def _reads_go_on(self, system: Any) -> None:
        for machine_id in system.ids():
            system.snapshot(machine_id)
        if self.fault.action in {Action.FULL, Action.SHORT}:  # a full disk can be read
            for machine_id in (*MACHINES, "ledger"):
                try:
                    await system._journal.load(machine_id)
                except JournalError as error:
                    self.broken.append(f"C25: {machine_id} cannot be read while the disk is full: {error!r}")

    async def _works_again(self, system: Any) -> None:
        """Ask again what nobody knew, and something new of each machine: now there must be replies."""
        asker = self.asker
        for machine in MACHINES:
            await system.get_or_spawn(_class_of(machine), machine)
        for machine, what, number in list(asker.unknown.values()):
            if what != "pay" or not self._is_held(system, machine):
                await asker.ask(system, machine, what, number)
        for machine in MACHINES:
            if self._is_held(system, machine) and not await asker.ask(system, machine, "free", 50):
                self.broken.append(f"C25: {machine} does not take an event after it was mended")
        for machine, what, number in list(asker.unknown.values()):
            await asker.ask(system, machine, what, number)
        for machine in MACHINES:
            if not await asker.ask(system, machine, "pay", 51):
                said = asker.refused.get(f"{machine}/pay-51", "that nobody knows")
                self.broken.append(f"C25: {machine} answers {said} after it was mended")
        for event_id in asker.unknown.keys() - self.notes.answers.keys():
            self.broken.append(f"C25: nobody knows what became of {event_id} after it was mended")
        await system.clock.advance(HEALED_S)

    @staticmethod
    def _is_held(system: Any, machine_id: str) -> bool:
        return machine_id in system.ids() and system.snapshot(machine_id).state.name == "HELD"

    async def _as_shown(self, system: Any, when: str) -> list[str]:
        """Compare what machines show with what their entries have left."""
        found = []
        for machine_id in (*MACHINES, "ledger"):
            stored = await system._journal.load(machine_id)
            shown = system.snapshot(machine_id)
            left = None if stored is None else (stored.image.state, stored.image.commits)
            if left != ((shown.state.name,), shown.seq):
                found.append(f"I5 {when}: {machine_id} shows {shown}, its entries have left {left}")
        return found

    async def _healthy_life(self) -> None:
        """The next life: all that was promised is done, and what was answered is answered again."""
        self._look("after it was closed", at_rest=True)
        async with self._system() as system:
            for event_id, (machine, reply, _) in list(self.notes.answers.items()):
                what, _, number = event_id.partition("/")[2].partition("-")
                if await self.asker.ask(system, machine, what, int(number)):
                    again = self.notes.answers[event_id][1]
                    if again != reply:
                        self.broken.append(f"C24: {event_id} was answered {reply}, in the next life {again}")
            await system.clock.advance(HEALED_S)
            for machine_id in (*MACHINES, "ledger"):
                await system.get_or_spawn(_class_of(machine_id), machine_id)
            self.broken += await self._as_shown(system, "in the next life")
        self._look("after the next life", at_rest=True)

    # -- looking at the file --------------------------------------------------------------------------------------

    def _look(self, when: str, *, at_rest: bool = False) -> None:
        """Look at the file as a kill would have left it, and as a loss of power would have."""
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for path in self.disk.glob("journal.db*"):
            if not path.name.endswith(("-shm", "-lock")):
                shutil.copy(path, copy)
        self._judge(copy / "journal.db", when)
        if at_rest:
            self._judge_rest(copy / "journal.db", when)

    def _lose_power(self, when: str) -> None:
        """Look at the file as a loss of power would leave it now."""
        left = self.folder / "left"
        shutil.rmtree(left, ignore_errors=True)
        disk = Disk(self.base)
        disk.rename("killed.db", "journal.db")
        for line in lines_of(self.folder / "log"):
            disk.do(line)
        disk.lose_power(left)
        self._judge(left / "journal.db", f"{when}, if the power had failed")

    def _judge(self, file: Path, when: str) -> None:
        found = judge(file, self.notes) or verified(file)
        self.broken += [f"{when}: {one}" for one in found]
        self.notes.errors.clear()
        if file.exists() and not found:
            with closing(sqlite3.connect(file)) as connection:
                for event_id, said in _only_stored(connection, self.asker.refused.items()):
                    self.broken.append(f"C25 {when}: {event_id} is there, and was answered {said}")

    def _judge_rest(self, file: Path, when: str) -> None:
        with closing(sqlite3.connect(file)) as connection:
            for table in ("pending", "timers"):
                (left,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 -- two names
                if left:
                    self.broken.append(f"I7 {when}: {left} {table} are left")


def _only_stored(
    connection: sqlite3.Connection, refused: Iterable[tuple[str, str]]
) -> Iterable[tuple[str, str]]:
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
        return
    for event_id, said in refused:
        found = connection.execute("SELECT 1 FROM entries WHERE concluded_id = ?", (event_id,)).fetchone()
        if found:
            yield event_id, said


def _class_of(machine_id: str) -> Callable[..., Any]:
    return Ledger if machine_id == "ledger" else Desk if machine_id.startswith("desk") else Till
