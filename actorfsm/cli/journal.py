"""`actorfsm journal upgrade | sql`: what a journal on a server needs to be there."""

from __future__ import annotations

import sys
from typing import Annotated, Any, TypeAlias

import typer

from actorfsm.cli.journals import AsJson  # noqa: TC001 -- typer reads the annotations
from actorfsm.cli.output import print_json
from actorfsm.errors import JournalUnusable

__all__ = ["app"]

app = typer.Typer(help="Make and upgrade a journal on a PostgreSQL server.", rich_markup_mode=None)

Schema: TypeAlias = Annotated[
    str | None, typer.Option(help="the schema; by default what the URL names, or actorfsm")
]


@app.command()
def upgrade(
    url: Annotated[str, typer.Argument(metavar="URL", help="postgresql://…", show_default=False)],
    *,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Bring a journal to the format of this version, or make a new one: all of it or nothing."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise JournalUnusable(
            f"{url} is not on a PostgreSQL server: only those are upgraded; a SQLite file is when it is opened"
        )
    from actorfsm.journal.postgresql.schema import upgrade as upgrade_journal  # noqa: PLC0415 -- needs an extra

    done = upgrade_journal(url, schema=schema)
    if as_json:
        print_json(done._asdict())
    elif done.before == done.after:
        sys.stdout.write(f"format {done.after} already\n")
    else:
        came_from = f"format {done.before}" if done.before else "nothing"
        sys.stdout.write(f"from {came_from} to format {done.after}\n")


@app.command()
def sql(
    *,
    schema: Annotated[str, typer.Option(help="the schema")] = "actorfsm",
    after: Annotated[int, typer.Option(min=0, help="the format that is there; 0: there is nothing yet")] = 0,
) -> None:
    """Print the statements that `upgrade` would make, for whoever may make them."""
    from actorfsm.journal.postgresql import migration  # noqa: PLC0415 -- not every command is about a server

    statements: Any = migration.sql(schema, after=after)
    sys.stdout.write(statements)
