"""Migrations: numbered files of plain SQL, each of which brings a journal to the format of its number."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

__all__ = ["FORMAT", "prologue", "sql", "steps"]

FORMAT: Final = 1
"""The format that this version reads and writes."""


@cache
def steps() -> dict[int, str]:
    """Return the text of each migration by its number, in order."""
    folder = files("actorfsm.journal.postgresql").joinpath("migrations")
    found = {
        int(file.name[:4]): file.read_text(encoding="utf-8")
        for file in folder.iterdir()
        if file.name.endswith(".sql")
    }
    return dict(sorted(found.items()))


def prologue(schema: str) -> str:
    """Return what has to stand before a migration: it names no schema, and goes where the search path leads."""
    return f'CREATE SCHEMA IF NOT EXISTS "{schema}";\nSET LOCAL search_path = "{schema}", pg_temp;\n'


def sql(schema: str = "actorfsm", *, after: int = 0) -> str:
    """Return the statements that bring a journal from a format to that of this version, for `psql` to run.

    Args:
        schema: Where to.
        after: The format that is there; 0 if there is nothing yet.
    """
    texts = [text for number, text in steps().items() if number > after]
    return "\n".join(["BEGIN;", prologue(schema), *texts, "COMMIT;\n"]) if texts else ""
