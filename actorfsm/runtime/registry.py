"""The registry: which ids are alive, and which event classes give birth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from actorfsm.runtime.actor import Actor
    from actorfsm.runtime.kind import Kind
    from actorfsm.runtime.supervised import MachineChild

__all__ = ["Registry"]


class Registry:
    """The actors of a system by id.

    Attributes:
        actors: All of them, also those whose birth is still going on.
        kinds: The machine classes.
        births: By event class, the machine class that it creates.
        reserved: The places of machines that are declared in the supervision tree, by id: only supervisors start
            them.
    """

    __slots__ = ("actors", "births", "kinds", "reserved")

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self.actors: dict[str, Actor] = {}
        self.reserved: dict[str, MachineChild] = {}
        self.kinds: dict[type[Any], Kind] = {kind.machine_class: kind for kind in kinds}
        self.births: dict[type[Any], Kind] = {
            event_class: kind for kind in self.kinds.values() for event_class in kind.definition.births
        }

    def alive(self, machine_id: str) -> Actor | None:
        """Return the actor with this id if its birth is finished."""
        actor = self.actors.get(machine_id)
        return actor if actor is not None and actor.node.parent is not None else None

    def of_kind(self, kind: Kind | None) -> Iterator[Actor]:
        """Yield the actors of a class, or all, that are born."""
        for actor in list(self.actors.values()):
            if (kind is None or actor.kind is kind) and actor.node.parent is not None:
                yield actor
