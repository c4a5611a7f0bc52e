"""A machine seen from outside: its last committed state."""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from actorfsm.machine.formats import check_spec, draw

if TYPE_CHECKING:
    from actorfsm.machine.definition import Definition

__all__ = ["Snapshot"]

StateT = TypeVar("StateT", default=Any)


class _Drawn:
    """Knows the definition, for pictures. It is no field, so that neither repr, comparison nor `asdict` shows it."""

    __slots__ = ("_definition",)

    _definition: Definition | None


@dataclass(frozen=True, slots=True)
class Snapshot(_Drawn, Generic[StateT]):
    """The last committed state of a machine, taken without a turn; what a running turn has changed is not in it.

    It draws itself, with the state marked: `format(snapshot, "mermaid")`, `"dot"` (Graphviz) or `"table"`.

    Attributes:
        machine: Name of the machine class.
        machine_id: Its id.
        state: Its state.
        data: A copy of its data fields.
        seq: How many transitions it has committed.
        incarnation: How often it was restarted.
        allowed: Names of the event classes that have a transition, or are postponed, in this state.
    """

    machine: str
    machine_id: str
    state: StateT
    data: dict[str, Any]
    seq: int
    incarnation: int
    allowed: tuple[str, ...]
    definition: InitVar[Definition | None] = None

    def __post_init__(self, definition: Definition | None) -> None:
        object.__setattr__(self, "_definition", definition)

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        check_spec(f"the snapshot of {self.machine_id}", spec)
        definition = getattr(self, "_definition", None)  # a copy that was unpickled has none
        if definition is None:
            raise ValueError(
                f"the snapshot of {self.machine_id} does not know its machine class: draw one that comes from "
                "ref.snapshot()"
            )
        return draw(definition, spec, self.state)
