"""The command line: `actorfsm COMMAND …`, or `python -m actorfsm COMMAND …`.

`verify-log`, `check` and `check-upgrade` need nothing but the package. The others need the extra `cli` and are
imported when one of them is called.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from actorfsm.check import command as check_machines
from actorfsm.check_upgrade import command as check_upgrade
from actorfsm.verify_log import command

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_OF_THE_EXTRA: Final = {
    "run": "run a system, and feed it from a file or stream of events",
    "verify": "prove that a journal is as it was written, or name what is not",
    "ls": "count the machines of a journal by class and state, or list them",
    "history": "tell what happened to a machine",
    "dead": "list, show, replay or drop dead letters",
    "diagram": "draw a machine class",
    "export": "write a journal as JSON lines",
    "import": "make a journal from an export",
    "journal": "make or upgrade a journal on a PostgreSQL server, or print the statements for it",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status: 0 done, 1 something is wrong with what was looked at, 2 not done."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in _OF_THE_EXTRA:
        return _run_with_extra(given)
    parser = argparse.ArgumentParser(prog="actorfsm", description="Tools for state machines that are actors.")
    commands = parser.add_subparsers(required=True, metavar="command")
    verify = commands.add_parser(
        "verify-log",
        help="prove a log legal, or name the first line that is not",
        description="Replays a log of JSON lines, read from the standard input, against the definitions of its "
        "machines. Exit status: 0 the log is legal, 1 it is not, 2 nothing could be said.",
    )
    command.add_arguments(verify)
    check = commands.add_parser(
        "check-upgrade",
        help="show where what a journal holds lands in the classes of today",
        description="Reads a journal as a system would, and changes nothing. Exit status: 0 all of it lands, 1 it does "
        "not, 2 nothing could be said.",
    )
    check_upgrade.add_arguments(check)
    whole = commands.add_parser(
        "check",
        help="say what the machines of a module can be seen to get wrong",
        description="Reads classes and their source, and runs nothing of them. Exit status: 0 nothing is wrong, 1 "
        "something is, 2 nothing could be said.",
    )
    check_machines.add_arguments(whole)
    verify.set_defaults(command="verify-log")
    check.set_defaults(command="check-upgrade")
    whole.set_defaults(command="check")
    for name, what in _OF_THE_EXTRA.items():
        commands.add_parser(name, help=what, add_help=False)
    options = parser.parse_args(given)
    if options.command == "check-upgrade":
        return check_upgrade.run(options, sys.stdout, sys.stderr)
    if options.command == "check":
        return check_machines.run(options, sys.stdout, sys.stderr)
    return command.verify_log(options, sys.stdin.buffer, sys.stdout, sys.stderr)


def _run_with_extra(arguments: list[str]) -> int:
    try:
        import_module("typer")
        import_module("rich")
    except ModuleNotFoundError:
        sys.stderr.write(f"actorfsm {arguments[0]} needs an extra: pip install 'actorfsm[cli]'\n")
        return 2
    app: Any = import_module("actorfsm.cli.app")
    status: int = app.run(arguments)
    return status
