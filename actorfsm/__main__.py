"""The command line: `python -m actorfsm verify-log module:Class < log.jsonl`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from actorfsm.verify_log import command

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m actorfsm", description="Tools for state machines that are actors."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    verify = commands.add_parser(
        "verify-log",
        help="prove a log legal, or name the first line that is not",
        description="Replays a log of JSON lines, read from the standard input, against the definitions of its "
        "machines. Exit status: 0 the log is legal, 1 it is not, 2 nothing could be said.",
    )
    command.add_arguments(verify)
    options = parser.parse_args(arguments)
    return command.verify_log(options, sys.stdin.buffer, sys.stdout, sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
