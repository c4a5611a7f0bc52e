"""W6: a journal of many machines and entries is opened again: how soon is somebody answered, and are the timers armed?

The entries are those that a system has written for one machine, ten of them, stored again for every other machine: the
journal is filled in a minute, and a system could have written it. Each machine has one timer. The timers of the first
line fall due over the hour that follows; those of the last line have all fallen due, the worst that can be.
"""

from __future__ import annotations

import asyncio
import gc
from contextlib import ExitStack
from dataclasses import replace
from enum import Enum, auto
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from actorfsm import STAY, ActorSystem, Event, Machine, transition
from actorfsm.journal.address import journal_at
from actorfsm.journal.entry import Batch

from .report import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actorfsm.journal.entry import Entry
    from actorfsm.journal.protocol import Journal
    from tests.postgresql_server import Server

__all__ = ["Reopened", "measure_all", "measure_recovery", "w6_section"]

ENTRIES = 10
HOUR_US = 3_600_000_000
MAX_REPLY_S, MAX_ARMED_S = 0.5, 5.0
GOAL_MACHINES = 100_000
ABOUT = """\
A journal with ten entries for each machine is opened again by a system, and one machine is asked. *Started* is
when `async with` has begun: what is due in the next minute is armed then, the rest when it comes near. *First reply*
counts from the beginning too. Where all timers are overdue, *all told* is when each of them has been handled and
committed. MB is all that the store has on disk for it: rows, indexes, its log."""


class State(Enum):
    OPEN = auto()
    SHUT = auto()


class Note(Event[int]):
    text: str


class Ring(Event[None]):
    pass


class Bells:
    """Counts the machines whose timers were handled."""

    def __init__(self, expected: int) -> None:
        self._missing = expected
        self.all_told = asyncio.Event()

    def rung(self) -> None:
        """Count one."""
        self._missing -= 1
        if not self._missing:
            self.all_told.set()


class Shut(Event[None]):
    pass


class Bell(Machine[State, Any], initial=State.OPEN, final=(State.SHUT,)):
    name: str = "bell"
    notes: int = 0
    rung: bool = False
    price: float = 1.5

    @transition(State.OPEN, to=STAY)
    async def note(self, event: Note) -> int:
        if event.text == "begin":
            self.start_timer(Ring(), after=1e6, name="ring")
        self.notes += 1
        return self.notes

    @transition(State.OPEN, to=STAY)
    async def ring(self, event: Ring) -> None:
        self.rung = True
        self.services.rung()

    @transition(State.OPEN, to=State.SHUT)
    async def shut(self, event: Shut) -> None: ...


class Shelf(Protocol):
    """Where a journal is that is filled, and opened again."""

    name: str

    def journal(self, *, is_filled: bool = True) -> Journal:
        """Return the journal: to be opened again, or to be filled, for which no commit need reach the disk."""
        ...

    def megabytes(self) -> float:
        """Return how large it is on disk."""
        ...


class SQLiteShelf:
    """A file."""

    name = "SQLite"

    def __init__(self, file: Path) -> None:
        self._file = file

    def journal(self, *, is_filled: bool = True) -> Journal:
        return journal_at(self._file, durability="full" if is_filled else "process")

    def megabytes(self) -> float:
        return sum(file.stat().st_size for file in self._file.parent.glob(f"{self._file.name}*")) / 1e6


class PostgreSQLShelf:
    """A schema of a server."""

    name = "PostgreSQL"

    def __init__(self, server: Server) -> None:
        self._server = server
        self._schema = server.new_schema()

    def journal(self, *, is_filled: bool = True) -> Journal:
        from actorfsm.journal.postgresql.journal import PostgreSQLJournal

        durability: Any = "full" if is_filled else "process"
        return PostgreSQLJournal(self._server.url(), schema=self._schema, durability=durability)

    def megabytes(self) -> float:
        [(size,)] = self._server.do(
            "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class AS c JOIN pg_namespace AS n "
            "ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relkind = 'r'",
            self._schema,
        )
        return float(str(size)) / 1e6


class Reopened(NamedTuple):
    """What was measured of one journal.

    Attributes:
        store: Its store.
        machines: How many it has.
        timers: What their timers are like.
        megabytes: How large the file is.
        started_s: When the system had started.
        reply_s: When the first machine had answered.
        told_s: When all timers had been handled; None if they are not due.
    """

    store: str
    machines: int
    timers: str
    megabytes: float
    started_s: float
    reply_s: float
    told_s: float | None


async def _template(name: Path) -> Sequence[Entry]:
    """Return the entries of one machine, as a system writes them."""
    async with ActorSystem(Bell, journal=name, trace=None, services=Bells(1)) as system:
        await system.spawn(Bell, "template")
        for number in range(ENTRIES - 1):
            await system.ask(
                "template", Note(text="begin" if number == 0 else "more"), event_id=f"n-{number}"
            )
    journal = journal_at(name)
    await journal.open()
    entries = await journal.entries("template")
    await journal.close()
    assert len(entries) == ENTRIES
    return entries


def _copy(entry: Entry, machine_id: str, due_us: int) -> Entry:
    timers = tuple(replace(timer, machine_id=machine_id, due_us=due_us) for timer in entry.timers_set)
    return replace(entry, machine_id=machine_id, timers_set=timers)


async def _fill(shelf: Shelf, template: Sequence[Entry], machines: int, *, overdue: bool) -> None:
    journal = shelf.journal(is_filled=False)
    await journal.open()
    now_us = time_ns() // 1_000
    for first in range(0, machines, 500):
        stored: list[asyncio.Future[None]] = []
        for number in range(first, min(first + 500, machines)):
            share = HOUR_US * (number + 1) // machines
            due_us = now_us - share if overdue else now_us + 60_000_000 + share
            entries = tuple(_copy(entry, f"bell-{number}", due_us) for entry in template)
            stored.append(journal.append(Batch(entries=entries)))
        await asyncio.gather(*stored)
    await journal.close()


async def _reopen(shelf: Shelf, machines: int, *, overdue: bool) -> Reopened:
    services, journal = Bells(machines), shelf.journal()
    megabytes = shelf.megabytes()
    gc.collect()
    began = perf_counter()
    async with ActorSystem(Bell, journal=journal, trace=None, services=services) as system:
        started = perf_counter()
        assert await system.ask(f"bell-{machines // 2}", Note(text="."), timeout=600) == ENTRIES
        answered = perf_counter()
        told = None
        if overdue:
            await services.all_told.wait()
            told = perf_counter() - began
    return Reopened(
        shelf.name,
        machines,
        "all overdue" if overdue else "due within the hour",
        megabytes,
        started - began,
        answered - began,
        told,
    )


def measure_recovery(machines: int, *, overdue: bool = False, server: Server | None = None) -> Reopened:
    """Fill a journal, open it again, and look how long that takes; what is not as it was stored is an error.

    Args:
        machines: How many machines it has.
        overdue: Whether all timers have fallen due.
        server: The server to have it on; a file of SQLite's without.
    """
    with TemporaryDirectory() as folder:
        template = asyncio.run(_template(Path(folder) / "template.db"))
        shelf: Shelf = SQLiteShelf(Path(folder) / "bells.db") if server is None else PostgreSQLShelf(server)
        asyncio.run(_fill(shelf, template, machines, overdue=overdue))
        return asyncio.run(_reopen(shelf, machines, overdue=overdue))


def measure_all(machines: int) -> list[Reopened]:
    """Measure each store that is here: so many machines, and a tenth of them with all timers overdue."""
    with ExitStack() as stack:
        servers: list[Server | None] = [None]
        try:
            from tests.postgresql_server import started_server
        except ImportError:  # the extra is not installed
            pass
        else:
            server = stack.enter_context(started_server())
            servers += [] if server is None else [server]
        return [
            measure_recovery(count, overdue=overdue, server=server)
            for server in servers
            for count, overdue in ((machines, False), (machines // 10, True))
        ]


def w6_section(found: Sequence[Reopened]) -> Section:
    """The table of W6."""
    head = (
        "store",
        "timers",
        "machines",
        "entries",
        "MB",
        "B an entry",
        "started s",
        "first reply s",
        "all told s",
        "goal",
    )
    lines: list[tuple[str, ...]] = []
    for each in found:
        entries = each.machines * ENTRIES
        goal = ""
        if each.told_s is None and each.machines >= GOAL_MACHINES:
            is_met = each.reply_s <= MAX_REPLY_S and each.started_s <= MAX_ARMED_S
            goal = f"reply ≤ {MAX_REPLY_S} s, armed ≤ {MAX_ARMED_S:.0f} s {'yes' if is_met else 'no'}"
        lines.append(
            (
                each.store,
                each.timers,
                f"{each.machines:,}",
                f"{entries:,}",
                f"{each.megabytes:,.0f}",
                f"{each.megabytes * 1e6 / entries:,.0f}",
                f"{each.started_s:.3f}",
                f"{each.reply_s:.3f}",
                "" if each.told_s is None else f"{each.told_s:.1f}",
                goal,
            )
        )
    return Section("W6 recovery: a journal is opened again", ABOUT, head, lines)
