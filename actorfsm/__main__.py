"""The command line: `python -m actorfsm verify-log module:Class < log.jsonl`, `check-upgrade module:Class JOURNAL`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from actorfsm.check_upgrade import command as check_upgrade
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
    verify.set_defaults(command="verify-log")
    check = commands.add_parser(
        "check-upgrade",
        help="show where what a journal holds lands in the classes of today",
        description="Reads a journal as a system would, and changes nothing. Exit status: 0 all of it lands, 1 it does "
        "not, 2 nothing could be said.",
    )
    check_upgrade.add_arguments(check)
    check.set_defaults(command="check-upgrade")
    options = parser.parse_args(arguments)
    if options.command == "check-upgrade":
        return check_upgrade.run(options, sys.stdout, sys.stderr)
    return command.verify_log(options, sys.stdin.buffer, sys.stdout, sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
