"""Text for log lines: what comes from outside cannot break a line, and what is secret does not get in.

Exceptions are rendered here and not by the logging library: without local variables, without the input of pydantic, and
whatever their `__str__` does.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import ValidationError

from actorfsm.problems import without_input

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["one_line", "render_exception"]

MAX_FRAMES: Final = 30
"""Of one exception; those nearest to its cause are kept."""
MAX_EXCEPTIONS: Final = 20
"""Of one chain or group."""
MAX_TEXT: Final = 2_000
"""Characters of one exception's message."""

_CAUSED: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
_MEANWHILE: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"


def one_line(text: str) -> str:
    """Return the text with everything escaped that a terminal or a reader of lines would obey."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def render_exception(error: BaseException) -> str:
    """Return an exception, its causes and its members with their frames, oldest first, bounded in every direction."""
    seen: dict[int, BaseException] = {}
    return "".join(_chain(error, seen)).rstrip("\n")


def _chain(error: BaseException, seen: dict[int, BaseException]) -> Iterator[str]:
    if id(error) in seen or len(seen) >= MAX_EXCEPTIONS:
        yield f"{type(error).__name__}, of which no more is shown\n"
        return
    seen[id(error)] = error
    if error.__cause__ is not None:
        yield from _chain(error.__cause__, seen)
        yield _CAUSED
    elif error.__context__ is not None and not error.__suppress_context__:
        yield from _chain(error.__context__, seen)
        yield _MEANWHILE
    if error.__traceback__ is not None:
        yield "Traceback (most recent call last):\n"
        yield from traceback.extract_tb(error.__traceback__, limit=-MAX_FRAMES).format()
    yield f"{type(error).__name__}: {_message(error)}\n"
    for note in _notes(error):
        yield f"{note}\n"
    if isinstance(error, BaseExceptionGroup):
        yield from _members(cast("BaseExceptionGroup[BaseException]", error), seen)


def _members(group: BaseExceptionGroup[BaseException], seen: dict[int, BaseException]) -> Iterator[str]:
    for number, member in enumerate(group.exceptions, start=1):
        yield f"  member {number}:\n"
        for line in "".join(_chain(member, seen)).splitlines():
            yield f"    {line}\n"


def _message(error: BaseException) -> str:
    try:
        text = without_input(error) if isinstance(error, ValidationError) else str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 -- an exception whose __str__ raises cannot hurt the log
        return "<its text cannot be shown>"
    return one_line(text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({len(text):,} characters)")


def _notes(error: BaseException) -> Iterator[str]:
    try:
        notes: list[Any] = list(error.__notes__)[:MAX_EXCEPTIONS]
        texts = [note if isinstance(note, str) else type(note).__name__ for note in notes]
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 -- no notes, or evil ones
        return
    yield from (one_line(text[:MAX_TEXT]) for text in texts)
