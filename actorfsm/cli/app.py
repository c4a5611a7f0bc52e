"""The commands that need the extra `cli`, and how each of them ends."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from actorfsm.cli import dead, diagram, export, history, journal, ls, run as run_command, verify
from actorfsm.errors import ActorFSMError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["run"]

app = typer.Typer(
    name="actorfsm", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)
app.command("run")(run_command.run)
app.command("verify")(verify.verify)
app.command("ls")(ls.ls)
app.command("history")(history.history)
app.command("export")(export.export)
app.command("import")(export.import_)
app.command("diagram")(diagram.diagram)
app.add_typer(dead.app, name="dead")
app.add_typer(journal.app, name="journal")


def run(arguments: Sequence[str]) -> int:
    """Run a command; return the exit status. What went wrong is one line on the standard error."""
    status = 0
    try:
        try:
            app(args=list(arguments), prog_name="actorfsm")
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        sys.stdout.flush()
    except ActorFSMError as error:
        _finish_output()
        sys.stderr.write(f"actorfsm: {error}\n")
        return 2
    except BrokenPipeError:
        sys.stdout = None  # whoever read has gone: there is nothing more to say, at the exit neither
        return 2
    except OSError as error:
        if error.filename is None:
            sys.stdout = None  # what could not be written is not tried again at the exit
        sys.stderr.write(f"actorfsm: {error.filename or 'the output'}: {error.strerror or error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return status


def _finish_output() -> None:
    """Write out what was said before, so that it is read before what went wrong where both go into one file."""
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = None  # what could not be written is not tried again at the exit
