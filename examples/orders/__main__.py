"""`python -m examples.orders [FILE | -] [--journal FILE] [--json] [--trace] [--seed N]`: orders from a log of events.

The log's own times drive the clock: two years pass in seconds, and every promise that was not kept in them is noticed
on its day. That needs a loop whose time is virtual; a shop that is open today takes asyncio's.

What happens is kept in a journal. Kill it whenever you like, and start it again: it goes on where it was.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final, TextIO

from actorfsm import JournalError, Sink, logs
from actorfsm.feed.log import Log, LogError
from actorfsm.journal.protocol import Journal
from actorfsm.journal.sqlite import SQLiteJournal
from actorfsm.sinks import StructlogSink
from actorfsm.testing import SimLoop
from examples.orders.books import Books, read_books
from examples.orders.feed import Account, Feeder, OtherLog
from examples.orders.gateway import BadLuck, Weather
from examples.orders.log import SHIPPED
from examples.orders.shop import LogClock, open_shop
from examples.orders.summary import Summary

JOURNAL: Final = Path("orders.db")
SEED: Final = 1
"""Decides about the gateway's bad luck, if nobody says otherwise."""
EXIT_READ: Final = 0
EXIT_NOT_READ: Final = 2
"""Or not told: the summary could not be written."""
EXIT_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    options = _options(arguments)
    sinks: list[Sink] = []
    if options.trace:
        logs.configure()
        sinks.append(StructlogSink())
    path: Path = options.journal
    try:
        with Log(options.file) as log, asyncio.Runner(loop_factory=_virtual_time) as runner:
            summary = runner.run(
                drive(log, lambda: SQLiteJournal(path), sinks, weather=BadLuck(options.seed), name=str(path))
            )
    except (LogError, JournalError) as error:
        _say(f"orders: {error}")
        return EXIT_NOT_READ
    except KeyboardInterrupt:  # a second Ctrl-C: at once, without a summary
        return EXIT_INTERRUPTED
    try:
        print(json.dumps(asdict(summary), indent=2) if options.json else summary, flush=True)
    except OSError as error:
        _silence(sys.stdout)
        if not isinstance(error, BrokenPipeError):  # whoever read has gone, as in `| head -1`: nothing to say
            _say(f"orders: the summary was not written: {error.strerror}")
        return EXIT_NOT_READ
    if summary.broken_off is not None:
        _say(f"orders: {summary.broken_off}")
        return EXIT_NOT_READ
    return EXIT_INTERRUPTED if summary.interrupted else EXIT_READ


async def drive(
    log: Log,
    journal: Callable[[], Journal],
    sinks: Sequence[Sink] = (),
    *,
    weather: Weather | None = None,
    name: str = "the journal",
) -> Summary:
    """Send a log to a shop, and tell what became of it. It needs a loop whose time is virtual.

    Ctrl-C arrives as a cancellation: the reading ends, what is on the way is finished, and the summary is told. A log
    that breaks off ends in the same way.

    Args:
        log: The log.
        journal: Makes the journal. It is made anew for whoever reads it.
        sinks: Where the records go.
        weather: When the line to the customers breaks.
        name: What the journal is called, for people.

    Raises:
        JournalError: The journal cannot be used.
        OtherLog: It is not the log that the journal was fed from.
    """
    began = time.perf_counter()
    account, clock = Account(), LogClock()
    interrupted, broken_off = False, None
    before = await _read(journal)
    if before.last.number:
        _say(f"{name} has the log up to line {before.last.number:,}; without that file it begins anew")
    feeder = Feeder(clock, account, _say, before)
    is_to_be_fed = False
    try:
        is_to_be_fed = await feeder.begin(log)
    except asyncio.CancelledError:
        interrupted = _is_told_to_stop()
    except OtherLog:
        raise
    except LogError as error:
        broken_off = str(error)
    opened_at = clock.now()
    if is_to_be_fed:
        async with open_shop(clock, weather or BadLuck(SEED), [account, *sinks], journal=journal()) as system:
            try:
                await feeder.feed(system)
            except asyncio.CancelledError:
                interrupted = _is_told_to_stop()
            except LogError as error:
                broken_off = str(error)
            await clock.rest()
    return Summary.of(
        await _read(journal),
        account,
        days=(clock.now() - opened_at).days,
        seconds=time.perf_counter() - began,
        interrupted=interrupted,
        broken_off=broken_off,
    )


async def _read(journal: Callable[[], Journal]) -> Books:
    opened = journal()
    await opened.open()
    try:
        return await read_books(opened)
    finally:
        await opened.close()


def _is_told_to_stop() -> bool:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
    return True


def _virtual_time() -> asyncio.AbstractEventLoop:
    return SimLoop(shuffle=False, max_steps=sys.maxsize)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    does = "Drive orders through a log of events, with the log's own times."
    parser = argparse.ArgumentParser(prog="python -m examples.orders", description=does)
    what = (
        "JSON lines, plain or gzipped; - is the standard input; by default the small log that comes with it"
    )
    parser.add_argument("file", nargs="?", default=SHIPPED, help=what)
    kept = f"the SQLite file in which it is kept; {JOURNAL} if you say nothing"
    parser.add_argument("--journal", type=Path, default=JOURNAL, metavar="FILE", help=kept)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--trace", action="store_true", help="log each event on the standard error")
    parser.add_argument("--seed", type=int, default=SEED, help="decides when the gateway fails")
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:  # nobody listens: the shop goes on
        _silence(sys.stderr)


def _silence(stream: TextIO) -> None:
    """Let what is still in a stream, and what may come, go nowhere: Python would try it again at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
