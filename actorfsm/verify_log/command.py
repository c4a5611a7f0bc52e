"""The command `verify-log`: reads a log from the standard input and says whether it is legal.

Exit status 0: it is. 1: it is not, and the first line that is wrong is named. 2: nothing could be said.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Final

from actorfsm.errors import ActorFSMError
from actorfsm.machine.machine import definition_of
from actorfsm.object_reference import object_at
from actorfsm.shown import counted, shown
from actorfsm.verify_log.laws import Illegal
from actorfsm.verify_log.lines import BadLine, CutOff, read, split
from actorfsm.verify_log.replay import Replay

if TYPE_CHECKING:
    import argparse

    from actorfsm.machine.definition import Definition
    from actorfsm.trace import Record

__all__ = ["LEGAL", "NOT_LEGAL", "NO_ANSWER", "add_arguments", "definition_at", "verify_log"]

LEGAL: Final = 0
NOT_LEGAL: Final = 1
NO_ANSWER: Final = 2
_PROGRESS_LINES: Final = 100_000


class NoAnswer(ActorFSMError):
    """The log, or a class, cannot be had; the message says what to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "classes", nargs="+", metavar="module:Class", help="the machine classes that the log names"
    )
    parser.add_argument(
        "--partial", action="store_true", help="the log may begin in the middle, and its last line be cut off"
    )
    parser.add_argument(
        "--runs",
        action="store_true",
        help="several runs of a program wrote to it, so that a machine may be born anew",
    )
    parser.add_argument(
        "--mixed", action="store_true", help="other loggers wrote to it too; their lines are passed over"
    )


def verify_log(options: argparse.Namespace, log: IO[bytes], out: IO[str], err: IO[str]) -> int:
    """Verify a log.

    Args:
        options: What `add_arguments` declares.
        log: The log.
        out: Where the verdict goes.
        err: Where progress goes, if it is a terminal, and what is wrong with the arguments.

    Returns:
        The exit status.
    """
    try:
        if log.isatty():
            raise NoAnswer("the log is read from the standard input: add `< log.jsonl`")
        replay = Replay(
            [definition_at(path) for path in options.classes], partial=options.partial, runs=options.runs
        )
        return _verify(options, replay, log, out, err)
    except NoAnswer as error:
        err.write(f"verify-log: {error}\n")
    except OSError as error:
        err.write(f"verify-log: the log cannot be read: {error.strerror or error}\n")
    return NO_ANSWER


def _verify(options: argparse.Namespace, replay: Replay, log: IO[bytes], out: IO[str], err: IO[str]) -> int:
    show_progress = err.isatty()
    number = others = 0
    for number, line in enumerate(split(log), start=1):
        record: Record | None = None
        try:
            record = read(line)
            if record is not None:
                replay.see(record)
            elif options.mixed:
                others += 1
            else:
                raise BadLine("no record of a machine: if other loggers write to the log too, pass --mixed")
        except CutOff as error:
            if not options.partial:
                out.write(f"line {number:,}: {error}\n")
                return NOT_LEGAL
            others += 1
        except (BadLine, Illegal) as error:
            out.write(f"line {number:,}: {_what(record)}{error}\n")
            return NOT_LEGAL
        if show_progress and number % _PROGRESS_LINES == 0:
            err.write(f"\r{number:,} lines")
            err.flush()
    if show_progress and number >= _PROGRESS_LINES:
        err.write("\r\x1b[K")
    if number == others:
        raise NoAnswer(
            "the log has no record: is it the right file? A JSONLines sink holds lines back until flush() or close()"
        )
    passed = f" ({others:,} of others passed over)" if others else ""
    out.write(
        f"legal: {counted(number, 'line')}{passed}, {counted(replay.commits, 'transition')} of "
        f"{counted(replay.machines, 'machine')}\n"
    )
    return LEGAL


def _what(record: Record | None) -> str:
    if record is None:
        return ""
    words = (record.machine, record.machine_id, record.name, record.event_type, record.event_id)
    return " ".join(shown(word) for word in words if word) + ": "


def definition_at(path: str) -> Definition:
    """Return the definition of the machine class that is named `module:Class`.

    Raises:
        NoAnswer: There is none.
    """
    try:
        return definition_of(
            object_at(path, what="a machine class as module:Class", example="shop.orders:Order")
        )
    except ActorFSMError as error:
        raise NoAnswer(str(error)) from None
