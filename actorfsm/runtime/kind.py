"""A machine class as it lives in one system: its definition, the rules of its data, its supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from actorfsm.machine.data import DataRules
from actorfsm.machine.draft import Drafts
from actorfsm.machine.machine import definition_of

if TYPE_CHECKING:
    from actorfsm.machine.machine import Machine
    from actorfsm.runtime.dynamic_supervisor import DynamicSupervisor
    from actorfsm.runtime.parts import Parts

__all__ = ["Kind"]


class Kind:
    """What all actors of one machine class share."""

    __slots__ = (
        *("capacity", "definition", "drafts", "events", "is_plain", "machine_class", "name", "options"),
        *("parts", "root", "rules", "supervisor"),
    )

    supervisor: DynamicSupervisor

    def __init__(self, machine_class: type[Machine[Any, Any]], parts: Parts) -> None:
        definition = definition_of(machine_class)
        self.machine_class: Final = machine_class
        self.definition: Final = definition
        self.rules: Final = DataRules(definition)
        self.drafts: Final = Drafts(machine_class)
        self.parts: Final = parts
        self.name: Final = definition.name
        self.events: Final = definition.events
        self.options: Final = definition.options
        self.capacity: Final = definition.options.mailbox.capacity
        self.root: Final = definition.root
        # To wait for a journal takes a task.
        self.is_plain: Final = definition.is_plain and not parts.has_journal
