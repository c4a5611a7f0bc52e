"""Pictures of machines as SVG and PNG, drawn by Graphviz out of a wheel: nothing has to be installed beside it.

The extra `diagrams` brings `pygraphviz`. Text (Mermaid, DOT, a table) needs no extra: `format(Order, "mermaid")`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from actorfsm.errors import ActorFSMError, Unsupported

if TYPE_CHECKING:
    from os import PathLike

    from actorfsm.machine.machine import Machine
    from actorfsm.machine.snapshot import Snapshot

__all__ = ["Picture"]

_ONE_AT_A_TIME: Final = Lock()
"""Graphviz is a library of C with global variables."""
_TEXT: Final = {".dot": "dot", ".gv": "dot", ".mmd": "mermaid", ".md": "table"}
_DRAWN: Final = (".svg", ".png")


class Picture:
    """A machine class, or a snapshot with its state marked, as a picture. A notebook shows it as it is.

    Args:
        what: A machine class, or what `ref.snapshot()` gave.
        dpi: Dots per inch of a PNG.

    Raises:
        DefinitionError: The class is not one of a machine that can live.
        ValueError: The snapshot does not know its class any more.
    """

    def __init__(self, what: type[Machine[Any, Any]] | Snapshot[Any], *, dpi: int = 144) -> None:
        self._what = what
        self._dot = format(what, "dot")
        self._dpi = dpi

    @property
    def svg(self) -> str:
        """SVG, from `<svg` on: it can stand in a page of HTML as it is.

        Raises:
            Unsupported: The extra `diagrams` is not installed.
        """
        text = self._drawn("svg").decode()
        return text[text.index("<svg") :].rstrip()

    @property
    def png(self) -> bytes:
        """PNG.

        Raises:
            Unsupported: The extra `diagrams` is not installed.
        """
        return self._drawn("png", f"-Gdpi={self._dpi}")

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the picture to a file, and return its path.

        Args:
            path: What it is comes from its ending: `.svg`, `.png`; `.dot` or `.gv` for Graphviz, `.mmd` for Mermaid,
                `.md` for a table.

        Raises:
            ActorFSMError: The ending says nothing.
            Unsupported: The extra `diagrams` is not installed.
            OSError: The file cannot be written.
        """
        path = Path(path)
        ending = path.suffix.lower()
        if ending in _TEXT:
            content = f"{format(self._what, _TEXT[ending])}\n".encode()
        elif ending in _DRAWN:
            content = self.png if ending == ".png" else f"{self.svg}\n".encode()
        else:
            endings = ", ".join([*_DRAWN, *_TEXT])
            raise ActorFSMError(f"{path.name}: its ending says what to draw; there are {endings}")
        path.write_bytes(content)
        return path

    def _repr_svg_(self) -> str:
        return self.svg

    def _drawn(self, what: str, options: str = "") -> bytes:
        try:
            pygraphviz: Any = import_module("pygraphviz")
        except ImportError as missing:
            raise Unsupported(
                f"a picture as {what.upper()} needs pygraphviz, which is not installed: "
                "pip install 'actorfsm[diagrams]'"
            ) from missing
        with _ONE_AT_A_TIME:
            graph = pygraphviz.AGraph(string=self._dot)
            try:
                drawn: bytes = graph.draw(prog="dot", format=what, args=options)
            finally:
                graph.close()
        return drawn
