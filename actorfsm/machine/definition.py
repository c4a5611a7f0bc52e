"""The definition of a machine: its tree of states and what leads from each, read once when the class is created.

A flat Enum is a tree of depth one: every state's parent is the root, the pseudo-state from which births lead. The
definition is pure data; the runtime walks it and never changes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, is_typeddict

from pydantic import TypeAdapter, ValidationError

from actorfsm.errors import InvalidData
from actorfsm.values import copy_value, is_immutable

if TYPE_CHECKING:
    from collections.abc import Callable

    from actorfsm.event import Event
    from actorfsm.machine.machine import Machine
    from actorfsm.machine.options import MachineOptions

__all__ = [
    "POSTPONE",
    "Choice",
    "Definition",
    "EventSpec",
    "Postponed",
    "Reply",
    "StateNode",
    "Step",
    "StepKind",
    "Transition",
]

StepKind: TypeAlias = Literal["before", "exit", "body", "enter", "after"]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One piece of user code of a transition: a hook or the body.

    Attributes:
        name: The method's name.
        kind: before, exit, body, enter or after.
        function: The plain function, called with the machine first.
        arguments: How many follow: 1 (event), 2 (old, new) or 3 (old, new, event).
        is_async: Whether it is `async def`.
        timeout_s: Its deadline, in seconds.
        detached: An after-hook that does not hold the machine.
    """

    name: str
    kind: StepKind
    function: Callable[..., Any]
    arguments: int
    is_async: bool
    timeout_s: float
    detached: bool = False


class Reply:
    """What an event's body must return, checked when it did."""

    __slots__ = ("_adapter", "annotation", "mutable", "plain_class")

    def __init__(self, annotation: Any) -> None:
        self.annotation: Final = annotation
        self.mutable: Final = not is_immutable(annotation)
        # Neither Any nor a TypedDict can be asked of with isinstance, though both are classes.
        is_plain = isinstance(annotation, type) and annotation is not Any and not is_typeddict(annotation)
        self.plain_class: Final = annotation if is_plain else None
        self._adapter: TypeAdapter[Any] | None = None

    def check(self, value: Any) -> Any:
        """Return the reply, a copy if it could be changed later.

        Raises:
            InvalidData: It is not what the event class declares.
        """
        if value is None and self.annotation in {None, type(None)}:
            return None
        if self.plain_class is not None and not isinstance(value, self.plain_class):
            raise InvalidData(f"replied {type(value).__name__}, where the event declares {self.plain_class.__name__}")
        if self.annotation is None:
            raise InvalidData(f"replied {type(value).__name__}, where the event declares no reply")
        if self.plain_class is None and self.annotation is not Any:
            self._check_by_adapter(value)
        return copy_value(value) if self.mutable else value

    def _check_by_adapter(self, value: Any) -> None:
        if self._adapter is None:
            self._adapter = TypeAdapter(self.annotation)
        try:
            self._adapter.validate_python(value, strict=True)
        except ValidationError as error:
            raise InvalidData(
                f"the reply is not the declared {self.annotation}: {error.error_count()} problems"
            ) from None


@dataclass(frozen=True, slots=True, eq=False)
class EventSpec:
    """An event class that a machine declares: name, whether it is copied at the door, its reply."""

    event_class: type[Event[Any, Any]]
    name: str
    mutable: bool
    reply: Reply


class Transition:
    """An edge: for one event class, from a source to a target, with all the user code on the way.

    Attributes:
        steps: Before, exit, body and enter, in the order of C3; any of them may refuse or fail.
        afters: The after-hooks that hold the machine.
        detached: The after-hooks that do not.
        changes_state: Whether source and target differ.
        is_birth: Whether it creates the machine.
    """

    __slots__ = (
        *("afters", "changes_state", "detached", "guard", "guard_name", "is_birth", "name"),
        *("new", "old", "reply", "source", "stays", "steps", "target"),
    )

    def __init__(
        self,
        name: str,
        source: StateNode,
        target: StateNode,
        guard: Callable[[Any, Any], Any] | None,
        guard_name: str,
        reply: Reply,
        *,
        stays: bool,
    ) -> None:
        self.name = name
        self.source = source
        self.target = target
        self.guard = guard
        self.guard_name = guard_name
        self.reply = reply
        self.stays = stays
        self.changes_state = source is not target
        self.is_birth = source.parent is None
        self.new = target.member
        # At birth hooks see old = new: there was no state before.
        self.old = source.member if source.parent is not None else target.member
        self.steps: tuple[Step, ...] = ()
        self.afters: tuple[Step, ...] = ()
        self.detached: tuple[Step, ...] = ()

    def __repr__(self) -> str:
        return f"<{self.name}: {self.source.name} -> {self.target.name}>"


class Postponed:
    """The choice to put the event aside until the state changes."""

    __slots__ = ()
    guard: None = None
    guard_name = ""


POSTPONE: Final = Postponed()
Choice: TypeAlias = Transition | Postponed


@dataclass(slots=True, eq=False)
class StateNode:
    """A state in the tree.

    Attributes:
        member: The Enum member; None for the root.
        parent: None for the root only.
        final: Whether the machine's life ends here.
        choices: By event class, what may be done, in the order in which it is tried.
    """

    name: str
    member: Any
    parent: StateNode | None
    final: bool = False
    choices: dict[type[Any], tuple[Choice, ...]] = field(default_factory=dict[type[Any], tuple[Choice, ...]])
    children: list[StateNode] = field(default_factory=list["StateNode"])
    allowed: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<state {self.name}>"


@dataclass(slots=True, eq=False)
class Definition:
    """All that a machine class declares.

    Attributes:
        root: The pseudo-state of a machine that is not yet born.
        states: The nodes by Enum member.
        initial: Where `spawn` leads; None if the machine is only born by events.
        events: The event classes that get in.
        births: Those of them that create a machine.
        mutable_fields: The data fields whose values could be changed in place.
        is_plain: Whether no hook and no body is async.
        any_to_any: Whether it declares no transitions, so that any state may be requested from any other.
    """

    name: str
    machine_class: type[Machine[Any, Any]]
    state_class: type[Enum]
    options: MachineOptions
    root: StateNode
    states: dict[Enum, StateNode]
    initial: StateNode | None = None
    events: dict[type[Any], EventSpec] = field(default_factory=dict[type[Any], EventSpec])
    births: frozenset[type[Any]] = frozenset()
    mutable_fields: frozenset[str] = frozenset()
    is_plain: bool = False
    any_to_any: bool = False
