"""DOT: a diagram as text for Graphviz."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from actorfsm.machine.diagram import Diagram, State

__all__ = ["dot"]

_HEAD: Final = (
    '    node [shape=Mrecord, fontname="Helvetica", fontsize=11];',
    '    edge [fontname="Helvetica", fontsize=10];',
)
_MARK: Final = 'style=filled, fillcolor="#ffdd55"'


def dot(diagram: Diagram) -> str:
    """Return the diagram as text for Graphviz."""
    taken = {state.name for state in diagram.states}
    start, end, anywhere = (_free(name, taken) for name in ("start", "end", "any state"))
    lines = [f"digraph {_quoted(diagram.name)} {{", *_HEAD]
    lines.append(f'    {start} [shape=circle, label="", style=filled, fillcolor=black, width=0.2];')
    if any(state.final for state in diagram.states):
        lines.append(f'    {end} [shape=doublecircle, label="", style=filled, fillcolor=black, width=0.15];')
    lines += (_node(state) for state in diagram.states)
    if diagram.any_event is not None:
        lines.append(f'    {anywhere} [label="any state", style=dashed];')
    for arrow in diagram.arrows:
        source = start if arrow.source is None else _quoted(arrow.source)
        lines.append(f"    {source} -> {_quoted(arrow.target)} [label={_quoted(*arrow.labels)}];")
    if diagram.any_event is not None:
        lines += (
            f"    {anywhere} -> {_quoted(state.name)} [label={_quoted(diagram.any_event)}];"
            for state in diagram.states
        )
    lines += (f"    {_quoted(state.name)} -> {end};" for state in diagram.states if state.final)
    return "\n".join([*lines, "}"])


def _node(state: State) -> str:
    inside = "".join(rf"{_escaped(text, '{}|<>')}\l" for text in state.inside)
    title = _escaped(state.name, "{}|<>")
    label = f"{{{title}|{inside}}}" if inside else title
    mark = f", {_MARK}" if state.current else ""
    return f'    {_quoted(state.name)} [label="{label}"{mark}];'


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return _quoted(name)


def _quoted(*lines: str) -> str:
    text = r"\n".join(_escaped(line) for line in lines)
    return f'"{text}"'


def _escaped(text: str, special: str = "") -> str:
    """Return text in which nothing means anything to Graphviz; `special` is what would in a record."""
    return re.sub(
        rf'[\\"{re.escape(special)}]', r"\\\g<0>", "".join(c if c.isprintable() else " " for c in text)
    )
