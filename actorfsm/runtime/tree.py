"""The supervision tree as people see it: plain data, and an indented text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TreeNode"]


@dataclass(frozen=True, slots=True)
class TreeNode:
    """One child of the tree at one moment; `str()` shows it with all below it, a line for each.

    Attributes:
        name: Its name; of a machine its id, of the place of a class the class's name.
        kind: supervisor, machine, service, or machines: the place of a class, for those that are spawned by id.
        status: new, starting, running, waiting (for its restart), stopping, stopped, finished (it ended normally) or
            failed.
        restart: Its restart type.
        incarnation: How often it was started again.
        strategy: A supervisor's strategy.
        restarts: How many restarts of a supervisor's children count now.
        machines: How many machines of the class are alive.
        children: What stands under a supervisor, in the order of start.
    """

    name: str
    kind: str
    status: str
    restart: str
    incarnation: int = 0
    strategy: str = ""
    restarts: int = 0
    machines: int = 0
    children: tuple[TreeNode, ...] = ()

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self, indent: str = "") -> Iterator[str]:
        """Yield its line, then those of what is below it."""
        facts = [self.kind, self.strategy, self.restart, self.status]
        if self.kind == "machines":
            facts = [f"{self.machines} machines", self.status]
        if self.incarnation:
            facts.append(f"incarnation {self.incarnation}")
        if self.restarts:
            facts.append(f"{self.restarts} restarts count")
        yield f"{indent}{self.name}: {', '.join(filter(None, facts))}"
        for child in self.children:
            yield from child.lines(indent + "  ")
