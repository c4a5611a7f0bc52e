"""What a supervision tree must do, as its records tell: order, restart types, intensity, and who runs at rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from actorfsm import Child, Restart, RestartPolicy, Strategy, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from actorfsm import Record

ROOT = "system"
BY_SUPERVISOR = "its supervisor stopped it"


@dataclass
class Node:
    """One child of the tree, as the trace tells of it."""

    name: str
    parent: str
    restart: Restart
    strategy: Strategy | None = None
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    children: list[str] = field(default_factory=list)
    runs: bool = False
    is_in_doubt: bool = False
    """Whether an event of it has failed, and its supervisor may not have seen to that yet."""
    is_over: bool = False
    """Whether it is a service whose coroutine has ended."""
    starts: int = 0
    has_started: bool = False
    """Whether it has started since its supervisor did so."""
    restarts: list[float] = field(default_factory=list)
    """Of a supervisor: when a child of its own was to be restarted."""
    is_spent: bool = False
    """Whether a supervisor has to give up: there were too many restarts."""

    @property
    def surely_runs(self) -> bool:
        return self.runs and not self.is_in_doubt and not self.is_over


class Tree:
    """The tree of one system."""

    def __init__(self, children: Iterable[Any], root: RestartPolicy, wrong: Callable[[str], None]) -> None:
        self.nodes = {ROOT: Node(ROOT, "", Restart.PERMANENT, Strategy.ONE_FOR_ONE, root)}
        self.has_failed = False
        self._wrong = wrong
        self._add(ROOT, children)

    def _add(self, parent: str, children: Iterable[Any]) -> None:
        for child in children:
            if isinstance(child, Supervisor):
                node = Node(child.name, parent, child.restart, child.strategy, child.policy)
            elif isinstance(child, Child):
                node = Node(child.name, parent, child.restart)
            else:
                node = Node(child.__name__, parent, Restart.PERMANENT)
            self.nodes[node.name] = node
            self.nodes[parent].children.append(node.name)
            if isinstance(child, Supervisor):
                self._add(child.name, child.children)

    def service_is(self, name: str, *, over: bool) -> None:
        """Note that the coroutine of a service begins, or is over."""
        self.nodes[name].is_over = over

    def read(self, record: Record, now: float, *, finishes: bool) -> None:
        """Follow one record; `finishes` for a commit that leads a machine to its end."""
        node = self.nodes.get(record.machine_id)
        if node is None:
            return
        if finishes:
            node.runs = False
        elif record.name == "failed":
            node.is_in_doubt = True
        elif record.name == "started":
            self._started(node)
        elif record.name == "restarted":
            self._restarted(node)
        elif record.name == "stopped":
            self._stopped(node, record.reason, now)
        elif record.name == "child_failed":
            node.runs = False
            if record.reason.startswith(f"{node.name} did not start"):
                self.has_failed = self.has_failed or not self.nodes[ROOT].starts
            elif not record.reason.endswith("not started again"):
                self._count(node, now)
        elif record.name == "escalated":
            self._gives_up(node)

    def ends(self) -> None:
        """See that nothing of the tree runs when the system has ended."""
        for node in self.nodes.values():
            if node.surely_runs and node.name != ROOT:
                self._wrong(f"{node.name} was never stopped")

    def check_rest(self) -> None:
        """See that all runs that is to be always there."""
        for node in self.nodes.values():
            parent = self.nodes.get(node.parent)
            if parent is not None and parent.runs and node.restart is Restart.PERMANENT and not node.runs:
                self._wrong(f"{node.name} does not run, nor is it started again")
            if node.is_spent:
                self._wrong(f"{node.name} had too many restarts and did not give up")

    def root_has_started(self) -> None:
        """Note that the body of the system begins."""
        self.nodes[ROOT].runs, self.nodes[ROOT].starts = True, 1

    # -- the laws ---------------------------------------------------------------------------------------------

    def _later(self, node: Node) -> list[Node]:
        siblings = self.nodes[node.parent].children
        return [self.nodes[name] for name in siblings[siblings.index(node.name) + 1 :]]

    def _started(self, node: Node) -> None:
        parent = self.nodes[node.parent]
        together = parent.strategy is not Strategy.ONE_FOR_ONE
        late = [later.name for later in self._later(node) if later.surely_runs]
        if late and (together or not node.starts):
            self._wrong(f"{node.name} was started while {late} ran, which stand behind it")
        if any(not self.nodes[name].has_started for name in node.children if self._is_permanent(name)):
            self._wrong(f"{node.name} was started before its children")
        if parent.is_spent:
            self._wrong(f"{parent.name} started {node.name} although it had too many restarts")
        node.runs, node.is_in_doubt, node.has_started = True, False, True
        node.starts += 1

    def _is_permanent(self, name: str) -> bool:
        return self.nodes[name].restart is Restart.PERMANENT

    def _restarted(self, node: Node) -> None:
        if node.restart is Restart.TEMPORARY:
            self._wrong(f"{node.name} was restarted, and is temporary")
        if node.surely_runs:
            self._wrong(f"{node.name} was restarted while it ran")
        node.restarts.clear()
        node.is_spent = False
        for name in node.children:
            self.nodes[name].has_started = False

    def _stopped(self, node: Node, reason: str, now: float) -> None:
        node.runs = False
        left = [name for name in node.children if self.nodes[name].surely_runs]
        if left:
            self._wrong(f"{node.name} was stopped before {left}, which stand below it")
        if reason == BY_SUPERVISOR:
            late = [later.name for later in self._later(node) if later.surely_runs]
            if late:
                self._wrong(f"{node.name} was stopped before {late}, which were started after it")
        elif node.restart is Restart.PERMANENT:
            self._count(node, now)

    def _count(self, node: Node, now: float) -> None:
        """Count a restart of a child at its supervisor."""
        parent = self.nodes[node.parent]
        since = now - parent.policy.within_s
        parent.restarts = [when for when in parent.restarts if when > since] + [now]
        if len(parent.restarts) > parent.policy.max_restarts:
            parent.is_spent = True

    def _gives_up(self, node: Node) -> None:
        if not node.is_spent:
            self._wrong(f"{node.name} gave up after {len(node.restarts)} restarts")
        node.is_spent = False
        if node.name == ROOT:
            self.has_failed = True
