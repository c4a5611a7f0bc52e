"""The table: a diagram as plain text, aligned, that a terminal shows well and Markdown reads as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from unicodedata import east_asian_width

from actorfsm.machine.diagram import ReactionKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from actorfsm.machine.diagram import Diagram, Reaction, State

__all__ = ["table"]

Row = tuple[str, str, str]
_HEAD: Final = ("state", "event", "leads to")


def table(diagram: Diagram) -> str:
    """Return the diagram as a table: state, event, and where it leads, with the guard in brackets."""
    rows = [_HEAD, *([_escaped(cell) for cell in row] for row in _rows(diagram))]
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    lines = [
        " | ".join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)) for row in rows
    ]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def _rows(diagram: Diagram) -> Iterator[Row]:
    for reaction in diagram.reactions:
        if reaction.source is None:
            yield "(start)", reaction.event, _aim(reaction)
    if diagram.any_event is not None:
        yield "(any)", diagram.any_event, "(any)"
    for state in diagram.states:
        title = _title(state)
        reactions = [reaction for reaction in diagram.reactions if reaction.source == state.name]
        for reaction in reactions:
            yield title, reaction.event, _aim(reaction)
        if not reactions:
            yield title, "", ""


def _title(state: State) -> str:
    words = [word for word, holds in (("final", state.final), ("current", state.current)) if holds]
    return f"{state.name} ({', '.join(words)})" if words else state.name


def _aim(reaction: Reaction) -> str:
    aim = reaction.target if reaction.kind is ReactionKind.GO else f"({reaction.kind})"
    return f"{aim} [{reaction.guard}]" if reaction.guard else f"{aim}"


def _escaped(cell: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in cell)
    return printable.replace("\\", "\\\\").replace("|", "\\|").replace("<", "\\<")


def _width(text: str) -> int:
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - _width(cell))
