"""`actorfsm diagram module:Class`."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 -- typer reads the annotations
from typing import Annotated

import typer

from actorfsm.integrations.pictures import Picture
from actorfsm.shown import shown
from actorfsm.verify_log.command import definition_at

__all__ = ["diagram"]


def diagram(
    machine: Annotated[str, typer.Argument(metavar="module:Class", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="a file: .svg, .png, .dot, .mmd or .md", show_default=False),
    ] = None,
) -> None:
    """Draw a machine class: as a picture into a file, or as Mermaid on the standard output.

    Exit status: 0 it is drawn, 2 it is not.
    """
    machine_class = definition_at(machine).machine_class
    if output is None:
        sys.stdout.write(f"{machine_class:mermaid}\n")
    else:
        sys.stdout.write(f"{shown(str(Picture(machine_class).save(output)), 4_000)}\n")
