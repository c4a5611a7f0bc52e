"""Gives each row of a reference table an anchor: what stands as code in its first cell, `errors.html#AskTimeout`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def add_anchors(app: Sphinx, doctree: nodes.document) -> None:
    """Add the anchors to the pages of the reference."""
    if not app.env.docname.startswith("reference/"):
        return
    taken: set[str] = set(doctree.ids)
    for table in doctree.findall(nodes.tbody):
        for row in table.findall(nodes.row):
            literal = next(iter(row[0].findall(nodes.literal)), None)
            if literal is None:
                continue
            name = re.sub(r"[^\w.-]+", "-", literal.astext().split(" ")[0]).strip("-")
            if name and name not in taken:
                taken.add(name)
                row[0].insert(0, nodes.target("", "", ids=[name]))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register it."""
    app.connect("doctree-read", add_anchors)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
