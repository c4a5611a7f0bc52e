"""DOT: a diagram as text for Graphviz."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from actorfsm.machine.diagram import Arrow, Diagram, State

__all__ = ["dot"]

_FONT: Final = 'fontname="Helvetica,Arial,sans-serif"'
_INK: Final = "#1f2933"
_PALE: Final = "#52606d"
_GRAPH: Final = f'{_FONT}, fontsize=14, fontcolor="{_INK}", labelloc=t, bgcolor=white, pad=0.2'
_SPACE: Final = "nodesep=0.45, ranksep=0.55"
_NODE: Final = f'{_FONT}, fontsize=11, fontcolor="{_INK}", color="{_PALE}", fillcolor="#f5f7fa"'
_BOX: Final = 'shape=box, style="rounded,filled", margin="0.14,0.07"'
_EDGE: Final = f'{_FONT}, fontsize=10, fontcolor="{_INK}", color="{_PALE}", arrowsize=0.7'
_HEAD: Final = (
    f"    graph [{_GRAPH}, {_SPACE}];",
    f"    node [{_NODE}, {_BOX}];",
    f"    edge [{_EDGE}];",
)
_MARK: Final = ', fillcolor="#ffdd55", color="#884400", penwidth=2'
_FINAL: Final = ', fillcolor="#e4e7eb"'
_DOT: Final = f'label="", style=filled, fillcolor="{_INK}", color="{_INK}"'
_SPECIAL: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"})


def dot(diagram: Diagram) -> str:
    """Return the diagram as text for Graphviz."""
    taken = {state.name for state in diagram.states}
    start, end, anywhere = (_free(name, taken) for name in ("start", "end", "any state"))
    lines = [f"digraph {_quoted(diagram.name)} {{", *_HEAD, f"    label={_quoted(diagram.name)};"]
    lines.append(f"    {start} [shape=circle, {_DOT}, width=0.18];")
    if any(state.final for state in diagram.states):
        lines.append(f"    {end} [shape=doublecircle, {_DOT}, width=0.13];")
    lines += (_node(state) for state in diagram.states)
    if diagram.any_event is not None:
        lines.append(f'    {anywhere} [label="any state", style="rounded,dashed"];')
    lines += (
        _edge(start if arrow.source is None else _quoted(arrow.source), arrow) for arrow in diagram.arrows
    )
    if diagram.any_event is not None:
        lines += (
            f"    {anywhere} -> {_quoted(state.name)} [label={_label(diagram.any_event)}];"
            for state in diagram.states
        )
    lines += (f"    {_quoted(state.name)} -> {end};" for state in diagram.states if state.final)
    return "\n".join([*lines, "}"])


def _node(state: State) -> str:
    label = f"<b>{_html(state.name)}</b>"
    if state.inside:
        inside = "".join(f'{_html(text)}<br align="left"/>' for text in state.inside)
        label += (
            f'<br/><font point-size="4"> <br/></font><font point-size="9.5" color="{_PALE}">{inside}</font>'
        )
    mark = _MARK if state.current else _FINAL if state.final else ""
    return f"    {_quoted(state.name)} [label=<{label}>{mark}];"


def _edge(source: str, arrow: Arrow) -> str:
    return f"    {source} -> {_quoted(arrow.target)} [label={_label(*arrow.labels)}];"


def _label(*lines: str) -> str:
    """Return the text beside an arrow, on a ground of its own: other arrows may run behind it."""
    text = "<br/>".join(map(_html, lines))
    return (
        '<<table border="0" cellborder="0" cellspacing="4" cellpadding="0"><tr>'
        f'<td bgcolor="white">{text}</td></tr></table>>'
    )


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return _quoted(name)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def _quoted(text: str) -> str:
    """Return a name in which nothing means anything to Graphviz."""
    return '"' + re.sub(r'[\\"]', r"\\\g<0>", _printable(text)) + '"'


def _html(text: str) -> str:
    """Return text for an HTML-like label, in which nothing means anything either."""
    return _printable(text).translate(_SPECIAL)
