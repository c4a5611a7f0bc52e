"""Reading a log: a stream of lines, plain or gzipped, in constant memory.

Owns what may be wrong with the file. What may be wrong with a line is for whoever parses it.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import threading
import zlib
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from actorfsm.errors import ActorFSMError

if TYPE_CHECKING:
    import io
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from types import TracebackType
    from typing import Self

__all__ = ["MAX_LINE_BYTES", "STANDARD_INPUT", "Log", "LogError", "Splitter", "in_thread"]

MAX_LINE_BYTES: Final = 512 * 1024
"""The longest line that is read: twice what the longest event may have."""
CHUNK_BYTES: Final = 64 * 1024
STANDARD_INPUT: Final = "-"
_GZIP: Final = b"\x1f\x8b"

T = TypeVar("T")

Elsewhere: TypeAlias = "Callable[[Callable[[], bytes]], Awaitable[bytes]]"


class LogError(ActorFSMError):
    """The log cannot be read, or not to its end."""


class Splitter:
    """Makes lines from chunks. Of a line that is too long only the beginning is kept: longer than the limit by one."""

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the lines that the chunk completes, without their ends."""
        first, *others = chunk.split(b"\n")
        self._rest = self._rest[: self._limit + 1] + first
        for line in others:
            yield self._rest[: self._limit + 1]
            self._rest = line

    def end(self) -> Iterator[bytes]:
        """Yield the last line, if the log did not end with a line's end."""
        if self._rest:
            yield self._rest[: self._limit + 1]
            self._rest = b""


class Log:
    """A log that is open for reading.

    Args:
        source: Path of a file, plain or gzipped, or `-` for the standard input.

    Raises:
        LogError: It cannot be opened.
    """

    def __init__(self, source: str | os.PathLike[str]) -> None:
        is_stream = str(source) == STANDARD_INPUT
        self.name = "standard input" if is_stream else str(source)
        try:
            # A buffer of our own on the standard input: the interpreter's would be in use when it wants to exit.
            file = open(0, "rb", closefd=False) if is_stream else Path(source).open("rb")  # noqa: SIM115 -- closed in __exit__
            self.size: int | None = None if is_stream else os.fstat(file.fileno()).st_size
        except OSError as error:
            raise LogError(f"{self.name}: {error.strerror}") from None
        self._file: io.BufferedReader = file
        self._data: io.BufferedReader | gzip.GzipFile | None = None

    async def chunks(self, elsewhere: Elsewhere | None = None) -> AsyncIterator[list[bytes]]:
        """Yield the lines, as many at a time as have arrived.

        Args:
            elsewhere: Makes the calls that may block; a thread by default.

        Raises:
            LogError: It cannot be read to its end.
        """
        splitter = Splitter()
        call: Any = elsewhere or in_thread
        while chunk := await call(self._read):
            yield list(splitter.feed(chunk))
        yield list(splitter.end())

    @property
    def progress(self) -> float | None:
        """Which part of the file has been read; None for the standard input."""
        return self._file.tell() / self.size if self.size else None

    def _read(self) -> bytes:
        try:
            if self._data is None:
                is_gzip = self._file.peek(2)[:2] == _GZIP
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
    """Call a function that may block in a thread that nobody has to wait for: a standard input may say no more."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def work() -> None:
        try:
            tell: Callable[[], None] = partial(_settle, answer.set_result, answer, function())
        except Exception as error:  # noqa: BLE001 -- handed over to whoever waits
            tell = partial(_settle, answer.set_exception, answer, error)
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(tell)

    threading.Thread(target=work, daemon=True, name="actorfsm-reader").start()
    return await answer


def _settle(settle: Callable[[Any], None], answer: asyncio.Future[Any], what: object) -> None:
    if not answer.done():
        settle(what)
