"""`actorfsm run module:name [--events FILE|-] [--journal URL]`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import structlog
import typer

from actorfsm import logs
from actorfsm.cli.journals import AsJson  # noqa: TC001 -- typer reads the annotations
from actorfsm.cli.ls import Counts, counted, rows_of, tell
from actorfsm.cli.output import Progress, print_json, table
from actorfsm.cli.target import system_at
from actorfsm.errors import ActorFSMError, JournalError
from actorfsm.feed.feeder import Account, Feeder
from actorfsm.feed.log import STANDARD_INPUT, Log
from actorfsm.feed.position import Position, read_position
from actorfsm.ids import is_name
from actorfsm.machine.machine import definition_of
from actorfsm.runtime.run import run as run_to_the_end

if TYPE_CHECKING:
    from actorfsm.runtime.system import ActorSystem

__all__ = ["run"]

_LONGEST_SOURCE: Final = 180
"""A source, a colon and the number of a line are an event id."""


class OnError(StrEnum):
    """What becomes of a line that is no event, or whose event is refused."""

    STOP = "stop"
    SKIP = "skip"


class Level(StrEnum):
    """The lowest level of log lines that is shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class _Order:
    """What the user wants."""

    target: str
    events: str | None
    journal: str | None
    source: str | None
    skips: bool
    stays: bool
    as_json: bool


def run(
    target: Annotated[
        str,
        typer.Argument(
            metavar="module:name",
            help="an ActorSystem that is not started, a function that makes one, or a machine class",
            show_default=False,
        ),
    ],
    *,
    events: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="JSON lines, plain or gzipped; - is the standard input"),
    ] = None,
    journal: Annotated[
        str | None,
        typer.Option(
            metavar="JOURNAL", help="where it is kept, whatever the system says: a file, or postgresql://…"
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="what the events are called in event ids; by default the name of the file"
        ),
    ] = None,
    on_error: Annotated[
        OnError, typer.Option(help="what to do with a line that is no event, or is refused")
    ] = OnError.STOP,
    stay: Annotated[bool, typer.Option("--stay", help="run on after the last event")] = False,
    log: Annotated[
        Level | None,
        typer.Option(
            help="log lines to show, if the program has no logging of its own",
            show_default="info; with --events warning",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a system until it is told to stop, or feed it with events and stop after the last one.

    Started again on the same file and journal, it goes on where it was.
    """
    order = _Order(target, events, journal, source, on_error is OnError.SKIP, stay, as_json)
    _check(order)
    if not structlog.is_configured():
        logs.configure(level=log or (Level.INFO if events is None else Level.WARNING))
    went_well = run_to_the_end(lambda: _Run(order).main())
    if not went_well:
        raise typer.Exit(1)


def _check(order: _Order) -> None:
    if order.events is None and (order.source is not None or order.stays):
        raise ActorFSMError("--source and --stay need --events")
    if order.source is not None and not (is_name(order.source) and len(order.source) <= _LONGEST_SOURCE):
        raise ActorFSMError(f"--source: give 1 to {_LONGEST_SOURCE} printable characters")


class _Run:
    """One run, with the account that it gives."""

    def __init__(self, order: _Order) -> None:
        self._order = order
        self._account = Account()
        self._began_at = time.monotonic()
        self._is_interrupted = False

    async def main(self) -> bool:
        """Run; return whether all lines were events, and none was refused."""
        order = self._order
        with ExitStack() as stack:
            log = None if order.events is None else stack.enter_context(Log(order.events))
            async with system_at(order.target, order.journal) as system:
                await self._run(system, log)
        return not (self._account.bad or self._account.refused)

    async def _run(self, system: ActorSystem[Any], log: Log | None) -> None:
        has_begun = False
        try:
            async with system:
                has_begun = True
                if log is not None:
                    await self._feed(system, log)
                if log is None or self._order.stays:
                    await asyncio.get_running_loop().create_future()  # until a signal cancels it
        except asyncio.CancelledError:
            self._is_interrupted = True
            raise
        finally:
            if has_begun:
                self._tell(await _machines(system))

    async def _feed(self, system: ActorSystem[Any], log: Log) -> None:
        source, position, progress = self._source(), Position(), Progress("entries looked at")
        if source is not None and system.journal is not None:
            position = await read_position(system.journal, source, progress)
            progress.end()
        if position.last:
            _say(f"the journal has {source} up to line {position.last:,}: going on from there")
        reading = _Reading(log)
        feeder = Feeder(
            system,
            log,
            source=source,
            position=position,
            passes_over=self._order.skips,
            say=_say,
            now=lambda: datetime.now(UTC),
            progress=reading,
        )
        self._account = feeder.account
        try:
            await feeder.feed()
        finally:
            reading.end()

    def _source(self) -> str | None:
        order = self._order
        if order.source is not None or order.events is None or order.events == STANDARD_INPUT:
            return order.source
        return Path(order.events).name[-_LONGEST_SOURCE:]

    def _tell(self, machines: Counts | None) -> None:
        account = self._account
        seconds = time.monotonic() - self._began_at
        if self._order.as_json:
            print_json(
                {
                    **{name: getattr(account, name) for name in ("lines", "blank", "bad", "known", "sent")},
                    **{name: getattr(account, name) for name in ("refused", "duplicates", "waiting")},
                    "outcomes": dict(sorted((+account.outcomes).items())),
                    "machines": None if machines is None else rows_of(machines),
                    "seconds": round(seconds, 3),
                    "interrupted": self._is_interrupted,
                }
            )
            return
        if self._order.events is not None:
            _tell_account(account, seconds)
        if machines:
            tell(machines)


def _tell_account(account: Account, seconds: float) -> None:
    counts = [("sent", account.sent), ("known from an earlier run", account.known)]
    counts += [("bad", account.bad), ("refused", account.refused), ("blank", account.blank)]
    told = ", ".join(f"{count:,} {what}" for what, count in counts if count or what == "sent")
    sys.stdout.write(f"{account.lines:,} lines: {told}; {account.sent / seconds:,.0f} a second\n")
    ends = [
        *sorted((+account.outcomes).items()),
        *([("still waiting", account.waiting)] if account.waiting else []),
    ]
    if ends:
        table(("outcome", "events"), [(what.replace("_", " "), f"{count:,}") for what, count in ends])
    if account.duplicates:
        sys.stdout.write(f"{account.duplicates:,} of them had been applied before\n")


async def _machines(system: ActorSystem[Any]) -> Counts | None:
    """Count machines by class, status and state: those in the journal, where there is one."""
    counts: Counts = Counter()
    journal = system.journal
    if journal is None:
        for machine_class in system.machine_classes:
            for state in definition_of(machine_class).state_class:
                count = len(system.ids(machine_class, state=state))
                if count:
                    counts[definition_of(machine_class).name, "in memory", state.name] += count
        return counts
    try:
        await journal.open()
        try:
            counts = await counted(journal, {})
        finally:
            await journal.close()
    except JournalError as error:
        _say(f"the machines were not counted: {error}")
        return None
    return counts


class _Reading:
    """How far the reading of a log has come, on the standard error, if that is a terminal."""

    _EVERY_S: Final = 0.2

    def __init__(self, log: Log) -> None:
        self._log = log
        self._began_at = self._next_at = time.monotonic()
        self._is_shown = False

    def __call__(self, account: Account) -> None:
        """Show it, now and then."""
        now = time.monotonic()
        if now < self._next_at or not sys.stderr.isatty():
            return
        self._next_at, self._is_shown = now + self._EVERY_S, True
        part = self._log.progress
        share = "" if part is None else f" ({part:.0%})"
        rate = account.lines / max(now - self._began_at, 0.001)
        sys.stderr.write(f"\r{account.lines:,} lines{share}, {rate:,.0f} a second\x1b[K")
        sys.stderr.flush()

    def end(self) -> None:
        """Leave an empty line behind."""
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")


def _say(text: str) -> None:
    sys.stdout.flush()  # what was said before is read before, where both go into one file
    sys.stderr.write(f"actorfsm: {text}\n")
