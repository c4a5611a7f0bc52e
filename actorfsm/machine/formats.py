"""What `format` makes of a machine class, and of a snapshot: `format(Order, "mermaid")`, `f"{snapshot:table}"`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from actorfsm.machine.diagram import diagram_of
from actorfsm.machine.dot import dot
from actorfsm.machine.mermaid import mermaid
from actorfsm.machine.table import table

if TYPE_CHECKING:
    from collections.abc import Callable

    from actorfsm.machine.definition import Definition
    from actorfsm.machine.diagram import Diagram

__all__ = ["check_spec", "draw"]

_RENDERERS: Final[dict[str, Callable[[Diagram], str]]] = {"mermaid": mermaid, "dot": dot, "table": table}


def check_spec(owner: str, spec: str) -> None:
    """Check what `format` was asked for, as `format` itself does.

    Raises:
        ValueError: There is no such picture.
    """
    if spec not in _RENDERERS:
        raise ValueError(f"{owner}: there is no picture {spec!r}; there are {', '.join(_RENDERERS)}")


def draw(definition: Definition, spec: str, current: object = None) -> str:
    """Return a picture of a machine as text.

    Args:
        definition: The machine's definition.
        spec: `mermaid`, `dot` or `table`.
        current: The state to be marked, or None.
    """
    return _RENDERERS[spec](diagram_of(definition, current))
