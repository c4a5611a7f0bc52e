"""Reading a log of order events: a stream of JSON lines, plain or gzipped, in constant memory.

Owns what may be wrong with a line. Each bad one is a `BadLine` that says why, in words that fit on a terminal; what a
line holds is never trusted and never printed as it is. Good ones go to `feed`.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Final, NamedTuple, NoReturn, Self, TypeVar, cast

from pydantic_core import from_json

from actorfsm import InvalidEvent
from examples.orders.order import EVENTS, OrderEvent

__all__ = ["MAX_LINE_BYTES", "SHIPPED", "BadLine", "Entry", "Log", "LogError", "Splitter", "parse", "shown"]

MAX_LINE_BYTES: Final = 64 * 1024
"""The longest line that is read; the longest of a real log had 2 kB."""
MAX_ID_LENGTH: Final = 100
"""The longest id of an order, in characters: its notices have its id and a little more."""
CHUNK_BYTES: Final = 64 * 1024
PATIENCE_S: Final = 0.1
"""How long the loop waits for the log before it looks whether it was told to stop, in seconds of ours."""
SHIPPED: Final = Path(__file__).parents[1] / "data" / "orders.jsonl.gz"
"""The small log that comes with the example; `generate` made it."""

T = TypeVar("T")


class LogError(Exception):
    """The log cannot be read, or not to its end."""


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
        raise BadLine("no event" if name is None else f"unknown event {shown(name)}")
    try:
        return Entry(machine_id, event_class.from_fields(fields))
    except InvalidEvent as error:
        raise BadLine(shown(str(error), 400)) from None


def shown(value: object, limit: int = 40) -> str:
    """Return something from a log so that it can be printed: short, and without control characters."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: limit + 1])
    return text if len(text) <= limit else text[:limit] + "…"


class Splitter:
    """Makes lines from chunks. Of a line that is too long only the beginning is kept, so that `parse` can refuse it."""

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the lines that the chunk completes, without their ends."""
        first, *others = chunk.split(b"\n")
        self._rest = self._rest[: self._limit + 1] + first
        for line in others:
            yield self._rest
            self._rest = line

    def end(self) -> Iterator[bytes]:
        """Yield the last line, if the log did not end with a line's end."""
        if self._rest:
            yield self._rest
            self._rest = b""


class Log:
    """A log that is open for reading.

    Args:
        source: Path of a file, plain or gzipped, or `-` for the standard input.

    Raises:
        LogError: It cannot be opened.
    """

    def __init__(self, source: str | Path) -> None:
        self.name = "standard input" if str(source) == "-" else str(source)
        try:
            # A buffer of our own on the standard input: the interpreter's would be in use when it wants to exit.
            file = open(0 if str(source) == "-" else source, "rb", closefd=str(source) != "-")  # noqa: SIM115 -- closed in __exit__
            self.size: int | None = os.fstat(file.fileno()).st_size if str(source) != "-" else None
        except OSError as error:
            raise LogError(f"{self.name}: {error.strerror}") from None
        self._file: io.BufferedReader = file
        self._data: io.BufferedReader | gzip.GzipFile | None = None

    async def lines(self) -> AsyncIterator[list[bytes]]:
        """Yield the lines, as many at a time as have arrived.

        Raises:
            LogError: It cannot be read to its end.
        """
        splitter = Splitter()
        while chunk := await in_thread(self._read):
            yield list(splitter.feed(chunk))
        yield list(splitter.end())

    @property
    def progress(self) -> float | None:
        """Which part of the file has been read; None for the standard input."""
        return self._file.tell() / self.size if self.size else None

    def _read(self) -> bytes:
        try:
            if self._data is None:
                is_gzip = self._file.peek(2)[:2] == b"\x1f\x8b"
                self._data = gzip.GzipFile(fileobj=self._file) if is_gzip else self._file
            return self._data.read1(CHUNK_BYTES)  # what there is, without waiting for more
        except EOFError:
            raise LogError(f"{self.name}: the compressed data ends in the middle") from None
        except (OSError, zlib.error) as error:
            raise LogError(f"{self.name}: {getattr(error, 'strerror', None) or error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.size is not None:
            self._file.close()


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
