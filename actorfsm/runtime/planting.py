"""From the tree that was declared to the one that lives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from actorfsm.errors import DefinitionError, InvalidData
from actorfsm.runtime.child import Child, Supervisor
from actorfsm.runtime.supervised import ClassChild, MachineChild, ServiceChild
from actorfsm.runtime.supervisor import LiveSupervisor

if TYPE_CHECKING:
    from actorfsm.machine.machine import Machine
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.registry import Registry
    from actorfsm.runtime.system import ActorSystem

__all__ = ["check_static", "class_of", "plant"]


def check_static(declared: list[Any], registry: Registry) -> None:
    """Check the machines of the tree.

    Raises:
        DefinitionError: The data of one does not validate.
    """
    machines = [child for child in declared if isinstance(child, Child) and child.is_machine]
    for child in machines:
        try:
            registry.kinds[cast("type[Any]", child.what)].rules.at_birth(child.data)
        except InvalidData as error:
            raise DefinitionError(f"{child.name}: {error}") from None


def plant(spec: Supervisor, parts: Parts, system: ActorSystem[Any], declared: list[Any]) -> LiveSupervisor:
    """Make the live tree; classes that were not placed in it stand at the end, under the root."""
    root = LiveSupervisor(parts, spec.name, spec.strategy, spec.restart, spec.policy, None)
    stack: list[tuple[LiveSupervisor, Any]] = [(root, child) for child in spec.children][::-1]
    while stack:
        parent, child = stack.pop()
        if isinstance(child, Supervisor):
            below = LiveSupervisor(parts, child.name, child.strategy, child.restart, child.policy, parent)
            parent.add(below)
            stack += [(below, one) for one in child.children][::-1]
        elif isinstance(child, type):
            parent.add(ClassChild(parts, parent, parts.registry.kinds[child], is_shown=True))
        elif child.is_machine:
            parent.add(MachineChild(parts, child, parent, parts.registry.kinds[child.what]))
        else:
            parent.add(ServiceChild(parts, child, parent, system))
    for machine_class, kind in parts.registry.kinds.items():
        if machine_class not in declared:
            root.add(ClassChild(parts, root, kind, is_shown=False))
    return root


def class_of(declared: Any) -> type[Machine[Any, Any]] | None:
    """Return the machine class that a child of the tree needs."""
    if isinstance(declared, type):
        return declared
    if isinstance(declared, Child) and declared.is_machine:
        return cast("type[Machine[Any, Any]]", declared.what)
    return None
