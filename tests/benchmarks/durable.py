"""W5: asks whose commits are stored, beside a bare loop that writes the same rows in batches of the same size.

Both run in this process, one after the other, on fresh journals: a round is the asks, then the rows that they have
left, and its ratio is that of the two. The bare loop is the store's own limit: no runtime, no event loop, no second
thread, the rows made before the clock starts, one commit for each batch.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sqlite3
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from actorfsm import ActorSystem
from actorfsm.journal.sqlite import SQLiteJournal

from .contenders.actorfsm_machines import Go, Light
from .report import Section
from .work import AMOUNT, End, WrongResult, expected_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from actorfsm.journal.protocol import Journal
    from tests.postgresql_server import Server

__all__ = ["OUTSTANDING", "Durable", "PostgreSQLPlace", "SQLitePlace", "durable_places", "w5_section"]

Durability = Literal["full", "process"]

MACHINES = 1_000
OUTSTANDING = (1, 100, 1_000)
EVENTS = {1: 3, 100: 21, 1_000: 41}
"""Events for each machine, by how many asks are outstanding; odd, so that the end state is not the first."""
GOALS = {1: 0.9, 100: 0.6, 1_000: 0.6}
ABOUT = """\
W1 (1,000 machines, async hooks, events built once, trace off) with a journal, by so many senders with one ask each.
*bare* is the store's own limit in the same round: a loop without runtime, event loop or second thread that writes the
rows which the asks have left, entry and head of the machine, as batches of so many in a commit each; × is the median
of the rounds' ratios, asks to rows. CPU is of this process, both threads; a database server's own is not in it.
Not pinned to one core: a store has a thread of its own."""


class Entry(NamedTuple):
    """A row of the table of entries, and what its machine's head says after it."""

    row: tuple[Any, ...]
    head: tuple[Any, ...]


class Timing(NamedTuple):
    """How long something took, by the clock and in CPU time of this process."""

    seconds: float
    cpu_s: float


class Place(Protocol):
    """A journal that can be filled by a system, and by hand."""

    name: str

    def journal(self) -> Journal:
        """Return a journal that is new."""
        ...

    def entries(self) -> list[Entry]:
        """Return what the system has stored in it, in order."""
        ...

    def write(self, births: Sequence[Entry], batches: Sequence[Sequence[Entry]]) -> Timing:
        """Store batches in a journal that is new, one commit each; what comes first is not timed."""
        ...


def _read(rows: Iterator[tuple[Any, ...]]) -> list[Entry]:
    found: list[Entry] = []
    for row in rows:
        body = json.loads(row[3])
        state = "".join(f"\x1f{name}\x1f" for name in body["target"])
        head = (row[0], body["machine"], body.get("status", "alive"), state, row[1], row[6])
        found.append(Entry(row, head))
    return found


def _timed(write: Callable[[Sequence[Entry]], object], batches: Sequence[Sequence[Entry]]) -> Timing:
    gc.collect()
    started, cpu = perf_counter(), process_time()
    for batch in batches:
        write(batch)
    return Timing(perf_counter() - started, process_time() - cpu)


class SQLitePlace:
    """SQLite in a folder: each journal a file."""

    def __init__(self, folder: Path, durability: Durability) -> None:
        self.name = f"SQLite, {durability}"
        self._folder = folder
        self._durability: Durability = durability
        self._number = 0

    def journal(self) -> Journal:
        self._number += 1
        return SQLiteJournal(self._path, durability=self._durability)

    @property
    def _path(self) -> Path:
        return self._folder / f"{self._durability}-{self._number}.db"

    def entries(self) -> list[Entry]:
        with closing(sqlite3.connect(self._path)) as connection:
            return _read(connection.execute("SELECT * FROM entries ORDER BY rowid"))

    def write(self, births: Sequence[Entry], batches: Sequence[Sequence[Entry]]) -> Timing:
        asyncio.run(_make(self.journal()))
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = wal").fetchall()
            connection.execute(f"PRAGMA synchronous = {2 if self._durability == 'full' else 1}")

            def write(batch: Sequence[Entry]) -> None:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(
                    "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", [entry.row for entry in batch]
                )
                connection.executemany(
                    "INSERT OR REPLACE INTO machines VALUES (?, ?, ?, ?, ?, ?)",
                    [entry.head for entry in batch],
                )
                connection.execute("COMMIT")

            write(births)
            return _timed(write, batches)


class PostgreSQLPlace:
    """A PostgreSQL server: each journal a schema."""

    def __init__(self, server: Server, durability: Durability) -> None:
        self.name = f"PostgreSQL, {durability}"
        self._server = server
        self._durability: Durability = durability
        self._schema = ""

    def journal(self) -> Journal:
        from actorfsm.journal.postgresql.journal import PostgreSQLJournal

        self._schema = self._server.new_schema()
        return PostgreSQLJournal(self._server.url(), schema=self._schema, durability=self._durability)

    def entries(self) -> list[Entry]:
        # Nothing is deleted: the rows lie in the order in which they were written.
        return _read(iter(self._server.do(f"SELECT * FROM {self._schema}.entries ORDER BY ctid")))  # noqa: S608

    def write(self, births: Sequence[Entry], batches: Sequence[Sequence[Entry]]) -> Timing:
        import psycopg

        asyncio.run(_make(self.journal()))
        # One statement, and so one commit and one round trip.
        insert = (
            "INSERT INTO entries SELECT * FROM unnest(%b::text[], %b::bigint[], %b::text[], %b::text[], %b::text[], "
            "%b::bytea[], %b::bytea[])"
        )
        head = (
            "INSERT INTO machines SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::bigint[], "
            "%b::bytea[]) ON CONFLICT (machine_id) DO UPDATE SET machine = excluded.machine, status = excluded.status, "
            "state = excluded.state, seq = excluded.seq, checksum = excluded.checksum"
        )
        with psycopg.connect(self._server.url(), autocommit=True) as connection:
            connection.execute("SELECT set_config('search_path', %s, false)", (self._schema,))
            if self._durability == "process":
                connection.execute("SET synchronous_commit = off")
            statement = f"WITH written AS ({insert}) {head}".encode()

            def write(batch: Sequence[Entry]) -> None:
                rows = zip(*(entry.row for entry in batch), strict=True)
                heads = zip(*(entry.head for entry in batch), strict=True)
                values = [list(column) for columns in (rows, heads) for column in columns]
                connection.execute(statement, values, prepare=True)

            write(births)
            return _timed(write, batches)


async def _make(journal: Journal) -> None:
    await journal.open()
    await journal.close()


async def _ask_all(journal: Journal, outstanding: int, machines: int, events: int) -> Timing:
    """Time the asks of so many senders, each with machines of its own, and look at every machine."""
    ids = [f"order-{number}" for number in range(machines)]
    async with ActorSystem(Light, journal=journal, trace=None) as system:
        for machine_id in ids:
            await system.spawn(Light, machine_id)
        go = Go(amount=AMOUNT)

        async def sender(own: Sequence[str]) -> None:
            for _ in range(events):
                for machine_id in own:
                    await system.ask(machine_id, go)

        gc.collect()
        started, cpu = perf_counter(), process_time()
        await asyncio.gather(*(sender(ids[number::outstanding]) for number in range(outstanding)))
        timing = Timing(perf_counter() - started, process_time() - cpu)
        for machine_id in ids:
            snapshot = system.ref(Light, machine_id).snapshot()
            data = dict(snapshot.data)
            end = End(str(snapshot.state), **data, seq=snapshot.seq - 1)
            if end != expected_end(events):
                msg = f"{machine_id} ended as {end}, not as {expected_end(events)}"
                raise WrongResult(msg)
    return timing


@dataclass(slots=True)
class Durable:
    """What was measured of one store with so many asks outstanding."""

    name: str
    outstanding: int
    asks: list[Timing] = field(default_factory=list[Timing])
    bare: list[Timing] = field(default_factory=list[Timing])
    count: int = 0

    def measure(self, place: Place, machines: int = MACHINES, events: int | None = None) -> None:
        """Add a round.

        Raises:
            WrongResult: A machine has not ended where its events led, or an entry is missing.
        """
        each = events or EVENTS[self.outstanding]
        outstanding = min(self.outstanding, machines)
        self.count = machines * each
        asks = asyncio.run(_ask_all(place.journal(), outstanding, machines, each))
        found = place.entries()
        births, rows = found[:machines], found[machines:]
        if len(rows) != self.count:
            msg = f"{place.name} has {len(rows)} entries of {self.count} asks"
            raise WrongResult(msg)
        batches = [rows[at : at + outstanding] for at in range(0, len(rows), outstanding)]
        self.asks.append(asks)
        self.bare.append(place.write(births, batches))

    @property
    def ratio(self) -> float:
        """How many asks are answered in the time of a bare row."""
        return median(self._ratios())

    def _ratios(self) -> list[float]:
        return [bare.seconds / asks.seconds for asks, bare in zip(self.asks, self.bare, strict=True)]

    def line(self) -> tuple[str, ...]:
        """The line of the table."""
        ratios, goal = self._ratios(), GOALS[self.outstanding]

        def middle(of: Sequence[float]) -> float:
            return median(of) / self.count

        return (
            self.name,
            f"{self.outstanding:,}",
            f"{1 / middle([timing.seconds for timing in self.asks]):,.0f}",
            f"{1 / middle([timing.seconds for timing in self.bare]):,.0f}",
            f"{self.ratio:.2f}",
            f"{min(ratios):.2f}",
            f"{max(ratios):.2f}",
            f"{1e6 * middle([timing.cpu_s for timing in self.asks]):.0f}",
            f"{1e6 * middle([timing.cpu_s for timing in self.bare]):.0f}",
            f"≥ {goal:g} {'yes' if self.ratio >= goal else 'no'}",
        )


def durable_places(stack: ExitStack) -> list[Place]:
    """Return the stores that are here; they are gone when the stack is closed."""
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="actorfsm-benchmark-")))
    places: list[Place] = [SQLitePlace(folder, "full"), SQLitePlace(folder, "process")]
    try:
        from tests.postgresql_server import started_server
    except ImportError:  # the extra is not installed
        return places
    server = stack.enter_context(started_server())
    if server is not None:
        places += [PostgreSQLPlace(server, "full"), PostgreSQLPlace(server, "process")]
    return places


def w5_section(found: Sequence[Durable]) -> Section:
    """The table of W5."""
    head = (
        *("store", "outstanding", "asks/s", "bare rows/s", "×", "from", "to", "CPU µs an ask"),
        *("CPU µs a bare row", "goal"),
    )
    return Section(
        "W5 durable ask: every commit is stored", ABOUT, head, [each.line() for each in found if each.asks]
    )
