"""`python -m examples.orders [FILE | -] [--json] [--trace] [--seed N]`: drive orders through a log of events.

The log's own times drive the clock: two years pass in a second or two, and every promise that was not kept in them is
noticed on its day. That needs a loop whose time is virtual; a shop that is open today takes asyncio's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from random import Random
from typing import Final

from actorfsm import Sink, logs
from actorfsm.sinks import StructlogSink
from actorfsm.testing import SimLoop
from examples.orders.feed import Account, Feeder
from examples.orders.log import SHIPPED, Log, LogError
from examples.orders.shop import LogClock, open_shop
from examples.orders.summary import Summary

SEED: Final = 1
"""Decides about the gateway's bad luck, if nobody says otherwise."""
EXIT_READ: Final = 0
EXIT_NOT_READ: Final = 2
EXIT_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    options = _options(arguments)
    sinks: list[Sink] = []
    if options.trace:
        logs.configure()
        sinks.append(StructlogSink())
    try:
        with Log(options.file) as log, asyncio.Runner(loop_factory=_virtual_time) as runner:
            summary = runner.run(drive(log, sinks, seed=options.seed))
    except LogError as error:
        _say(f"orders: {error}")
        return EXIT_NOT_READ
    except KeyboardInterrupt:  # a second Ctrl-C: at once, without a summary
        return EXIT_INTERRUPTED
    print(json.dumps(asdict(summary), indent=2) if options.json else summary)
    if summary.broken_off is not None:
        _say(f"orders: {summary.broken_off}")
        return EXIT_NOT_READ
    return EXIT_INTERRUPTED if summary.interrupted else EXIT_READ


async def drive(log: Log, sinks: Sequence[Sink] = (), *, seed: int = SEED) -> Summary:
    """Send a log to a shop, and tell what became of it. It needs a loop whose time is virtual.

    Ctrl-C arrives as a cancellation: the reading ends, what is on the way is finished, and the summary is told. A log
    that breaks off ends in the same way.
    """
    began = time.perf_counter()
    account, clock = Account(), LogClock()
    interrupted, broken_off = False, None
    random = Random(seed)
    async with open_shop(clock, random, [account, *sinks]) as system:
        feeder = Feeder(system, clock, account, _say)
        try:
            await feeder.feed(log)
        except asyncio.CancelledError:
            interrupted = True
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        except LogError as error:
            broken_off = str(error)
        await clock.rest()
        seconds = time.perf_counter() - began
        return feeder.summary(seconds, interrupted=interrupted, broken_off=broken_off)


def _virtual_time() -> asyncio.AbstractEventLoop:
    return SimLoop(shuffle=False, max_steps=sys.maxsize)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    does = "Drive orders through a log of events, with the log's own times."
    parser = argparse.ArgumentParser(prog="python -m examples.orders", description=does)
    what = (
        "JSON lines, plain or gzipped; - is the standard input; by default the small log that comes with it"
    )
    parser.add_argument("file", nargs="?", default=SHIPPED, help=what)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--trace", action="store_true", help="log each event on the standard error")
    parser.add_argument("--seed", type=int, default=SEED, help="decides when the gateway fails")
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
