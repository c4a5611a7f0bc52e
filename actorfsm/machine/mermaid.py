"""Mermaid: a diagram as the text of a `stateDiagram-v2`, which GitHub and most wikis draw."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from actorfsm.machine.diagram import Diagram

__all__ = ["mermaid"]

_RESERVED: Final = frozenset(
    {
        *(
            "accdescr",
            "acctitle",
            "as",
            "choice",
            "class",
            "classdef",
            "click",
            "default",
            "direction",
            "end",
        ),
        *("fork", "hide", "href", "join", "left", "note", "of", "right", "root_end", "root_start", "scale"),
        *("state", "statediagram", "style"),
    }
)
"""Words that Mermaid would not read as the name of a state, in any case."""
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SPECIAL: Final = re.compile(r"[^\w \[\](),./+*=?!-]")
_MARK: Final = "fill:#fd5,stroke:#840,color:#000"


def mermaid(diagram: Diagram) -> str:
    """Return the diagram as text for Mermaid."""
    names = _names_of(diagram)
    lines = ["stateDiagram-v2"]
    for state in diagram.states:
        name = names[state.name]
        lines.append(f'    state "{_text(state.name)}" as {name}')
        lines += (f"    {name} : {_text(text)}" for text in state.inside)
    for arrow in diagram.arrows:
        source = "[*]" if arrow.source is None else names[arrow.source]
        lines.append(f"    {source} --> {names[arrow.target]} : {_text(', '.join(arrow.labels))}")
    if diagram.any_event is not None:
        lines.append(f'    state "any state" as {names[""]}')
        lines += (
            f"    {names['']} --> {names[state.name]} : {_text(diagram.any_event)}"
            for state in diagram.states
        )
    lines += (f"    {names[state.name]} --> [*]" for state in diagram.states if state.final)
    for state in diagram.states:
        if state.current:
            lines += (f"    classDef current {_MARK}", f"    class {names[state.name]} current")
    return "\n".join(lines)


def _names_of(diagram: Diagram) -> dict[str, str]:
    """Return what each state is called within the text, and, under an empty name, the picture of all of them."""
    taken = {state.name for state in diagram.states}
    names: dict[str, str] = {}
    for number, state in enumerate(diagram.states, start=1):
        name = state.name
        if name.lower() in _RESERVED or not _PLAIN.match(name):
            name = f"state_{number}"
            while name in taken:
                name += "_"
            taken.add(name)
        names[state.name] = name
    name = "any_state"
    while name in taken:
        name += "_"
    return {**names, "": name}


def _text(text: str) -> str:
    """Return text in which nothing means anything to Mermaid."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return _SPECIAL.sub(lambda found: f"#{ord(found[0])};", printable)
