"""Reading a log of order events: JSON lines, as `actorfsm.feed.log` cuts them off a file or a stream.

Owns what may be wrong with a line. Each bad one is a `BadLine` that says why, in words that fit on a terminal; what a
line holds is never trusted and never printed as it is. Good ones go to `feed`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, NoReturn, TypeVar, cast

from pydantic_core import from_json

from actorfsm import InvalidEvent
from actorfsm.shown import shown
from examples.orders.order import EVENTS, OrderEvent

__all__ = ["MAX_LINE_BYTES", "SHIPPED", "BadLine", "Entry", "in_thread", "parse"]

MAX_LINE_BYTES: Final = 64 * 1024
"""The longest line that is read; the longest of a real log had 2 kB."""
MAX_ID_LENGTH: Final = 100
"""The longest id of an order, in characters: its notices have its id and a little more."""
PATIENCE_S: Final = 0.1
"""How long the loop waits for the log before it looks whether it was told to stop, in seconds of ours."""
SHIPPED: Final = Path(__file__).parents[1] / "data" / "orders.jsonl.gz"
"""The small log that comes with the example; `generate` made it."""

T = TypeVar("T")


class BadLine(ValueError):
    """A line that is no event; its text says why."""


class Entry(NamedTuple):
    """One event of the log, and whose it is."""

    machine_id: str
    event: OrderEvent


def parse(line: bytes) -> Entry:
    """Read one line.

    Raises:
        BadLine: It is no event of an order.
    """
    if len(line) > MAX_LINE_BYTES:
        raise BadLine(f"longer than {MAX_LINE_BYTES:,} bytes")
    try:
        value: Any = from_json(line, allow_inf_nan=False)
    except ValueError as error:  # not JSON, not UTF-8, nested too deep
        raise BadLine(f"not JSON: {error}") from None
    if type(value) is not dict:
        raise BadLine(f"not a JSON object but {type(value).__name__}")
    fields = cast("dict[str, Any]", value)
    machine_id, name = fields.pop("machine_id", None), fields.pop("event", None)
    if not isinstance(machine_id, str):
        raise BadLine("no machine_id" if machine_id is None else "the machine_id is not a string")
    if len(machine_id) > MAX_ID_LENGTH:
        raise BadLine("the machine_id is too long")
    event_class = EVENTS.get(name) if isinstance(name, str) else None
    if event_class is None:
        raise BadLine("no event" if name is None else f"unknown event {shown(name, 40)}")
    try:
        return Entry(machine_id, event_class.from_fields(fields))
    except InvalidEvent as error:
        raise BadLine(shown(str(error), 400)) from None


async def in_thread(function: Callable[[], T]) -> T:
    """Call a function that may block in a thread that nobody has to wait for.

    The loop stands still meanwhile, and with it the time of the log, but for Ctrl-C: a standard input may say no more.
    """
    answer: SimpleQueue[Callable[[], T]] = SimpleQueue()

    def work() -> None:
        try:
            result = function()
        except Exception as error:  # noqa: BLE001 -- handed over to whoever waits
            answer.put(partial(_raise, error))
        else:
            answer.put(lambda: result)

    threading.Thread(target=work, daemon=True, name="reader").start()
    while True:
        try:
            return answer.get(timeout=PATIENCE_S)()
        except Empty:
            await asyncio.sleep(0)  # a cancellation arrives here


def _raise(error: Exception) -> NoReturn:
    raise error
