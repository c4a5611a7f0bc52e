"""The directive `machine`: draws a machine class when the page is built, so that the picture cannot be out of date."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from actorfsm.integrations.pictures import Picture

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class Machine(SphinxDirective):
    """`{machine} module:Class`."""

    required_arguments: ClassVar[int] = 1
    has_content = False

    def run(self) -> list[nodes.Node]:
        """Draw it."""
        module, _, name = self.arguments[0].partition(":")
        machine_class = getattr(importlib.import_module(module), name)
        svg = re.sub(r'<svg width="[^"]*" height="[^"]*"', "<svg", Picture(machine_class).svg, count=1)
        text = f"The states of {name}, and what leads from one to another"
        figure = f'<figure class="machine" role="img" aria-label="{text}">{svg}</figure>'
        return [nodes.raw("", figure, format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register it."""
    app.add_directive("machine", Machine)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
