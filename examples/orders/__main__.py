"""`python -m examples.orders [FILE | -] [--json] [--trace]`: drive orders through a log of events."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from actorfsm import ActorSystem, Sink, logs
from actorfsm.sinks import StructlogSink
from examples.orders.feed import Account, Feeder
from examples.orders.log import SHIPPED, Log, LogError
from examples.orders.order import Order
from examples.orders.summary import Summary

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
        with Log(options.file) as log:
            summary = asyncio.run(drive(log, sinks))
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


async def drive(log: Log, sinks: Sequence[Sink] = ()) -> Summary:
    """Send a log to a system of orders, and tell what became of it.

    Ctrl-C arrives as a cancellation: the reading ends, what is on the way is finished, and the summary is told. A log
    that breaks off ends in the same way.
    """
    began = time.perf_counter()
    account = Account()
    interrupted, broken_off = False, None
    async with ActorSystem(Order, trace=[account, *sinks]) as system:
        feeder = Feeder(system, account, _say)
        try:
            await feeder.feed(log)
            await feeder.settle()
        except asyncio.CancelledError:
            interrupted = True
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        except LogError as error:
            broken_off = str(error)
        await feeder.settle()
        seconds = time.perf_counter() - began
        return feeder.summary(seconds, interrupted=interrupted, broken_off=broken_off)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.orders", description=__doc__)
    what = (
        "JSON lines, plain or gzipped; - is the standard input; by default the small log that comes with it"
    )
    parser.add_argument("file", nargs="?", default=SHIPPED, help=what)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--trace", action="store_true", help="log each event on the standard error")
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
