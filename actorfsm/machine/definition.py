"""The definition of a machine: its tree of states and what leads from each, read once when the class is created.

A flat Enum is a tree of depth one: every state's parent is the root, the pseudo-state from which births lead. The
definition is pure data; the runtime walks it and never changes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from typing_extensions import is_protocol, is_typeddict

from actorfsm.errors import DefinitionError, InvalidData
from actorfsm.problems import problems_of
from actorfsm.values import copy_value, is_immutable

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import Enum

    from actorfsm.event import Event
    from actorfsm.machine.machine import Machine
    from actorfsm.machine.options import MachineOptions
    from actorfsm.machine.timers import StateTimer

__all__ = [
    "POSTPONE",
    "Choice",
    "Definition",
    "EventSpec",
    "Hook",
    "Postponed",
    "Reply",
    "StateNode",
    "Step",
    "StepKind",
    "Transition",
]

_NUMBERS: Final[dict[type[Any], tuple[type[Any], ...]]] = {
    float: (float, int),
    complex: (complex, float, int),
}
"""As for type checkers, an int will do for a float."""
StepKind: TypeAlias = Literal["before", "exit", "body", "enter", "after"]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One piece of user code of a transition: a hook or the body.

    Attributes:
        name: The method's name.
        kind: before, exit, body, enter or after.
        function: The plain function, called with the machine first.
        arguments: How many follow: 1 (event), 2 (old, new) or 3 (old, new, event).
        is_async: Whether it is `async def`, or blocks and is awaited while it runs in a thread.
        timeout_s: Its deadline, in seconds.
        detached: An after-hook that does not hold the machine.
        durable: One of these that is run at least once.
        is_body: Whether its result is the reply.
    """

    name: str
    kind: StepKind
    function: Callable[..., Any]
    arguments: int
    is_async: bool
    timeout_s: float
    detached: bool = False
    durable: bool = False
    is_body: bool = False


@dataclass(frozen=True, slots=True)
class Hook:
    """A hook as declared: its step, where it runs, and which events it accepts (None: it does not look)."""

    step: Step
    states: tuple[Enum, ...]
    accepts: tuple[type[Event[Any, Any]], ...] | None

    def applies_to(self, state: object) -> bool:
        """Return whether it runs for this state."""
        return not self.states or any(state is member for member in self.states)


class Reply:
    """What an event's body must return, checked when it did.

    Attributes:
        annotation: As the event class declares it.
        name: How it is called in messages.
        mutable: Whether a reply could be changed later, so that it is copied.
        classes: The classes whose instances are replies; None if that alone does not decide.
    """

    __slots__ = ("_adapter", "annotation", "certain_class", "classes", "mutable", "name")

    def __init__(self, annotation: Any, owner: str) -> None:
        """Read the annotation.

        Raises:
            DefinitionError: Nothing can be checked against it.
        """
        self.annotation: Final = annotation
        self.name: Final[str] = (
            "no reply" if annotation is None else getattr(annotation, "__name__", str(annotation))
        )
        self.mutable: Final = not is_immutable(annotation)
        self.classes: Final = _classes_of(annotation)
        # A reply of just this class needs no check: 0.02 µs instead of 0.12.
        is_certain = not self.mutable and self.classes is not None and len(self.classes) == 1
        self.certain_class: Final = self.classes[0] if is_certain and self.classes else None
        self._adapter: TypeAdapter[Any] | None = None
        if self.classes is None and annotation is not Any:
            self._adapter = _adapter_for(annotation, owner)

    def check(self, value: Any) -> Any:
        """Return the reply, a copy if it could be changed later.

        Raises:
            InvalidData: It is not what the event class declares.
        """
        if self.classes is not None:
            if not isinstance(value, self.classes):
                raise InvalidData(f"replied {type(value).__name__}, where the event declares {self.name}")
        elif self._adapter is not None:
            try:
                self._adapter.validate_python(value, strict=True)
            except ValidationError as error:
                raise InvalidData(
                    f"replied {type(value).__name__}, where the event declares {self.name}: {problems_of(error)}"
                ) from None
        return copy_value(value) if self.mutable else value


def _classes_of(annotation: Any) -> tuple[type[Any], ...] | None:
    if annotation is None:
        return (type(None),)
    # Any, a TypedDict and a Protocol are classes, but isinstance does not decide; list[int] says more than list.
    if (
        not isinstance(annotation, type)
        or annotation is Any
        or is_typeddict(annotation)
        or get_args(annotation)
    ):
        return None
    if is_protocol(annotation):
        return (object,)
    return _NUMBERS.get(annotation, (annotation,))


def _adapter_for(annotation: Any, owner: str) -> TypeAdapter[Any]:
    try:
        adapter = _adapter(annotation)
        adapter.rebuild(raise_errors=True)  # a name inside that is not known now will not be known later
    except Exception as error:  # noqa: BLE001 -- pydantic says in many ways what it cannot do
        problem = str(error).partition("\n")[0]
        raise DefinitionError(
            f"{owner}: {annotation!r} is nothing that a value could be checked against ({problem}); declare a "
            "class, a union of classes or a container of them"
        ) from None
    return adapter


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # it brings its own configuration
        return TypeAdapter(annotation)


@dataclass(frozen=True, slots=True, eq=False)
class EventSpec:
    """An event class that a machine declares.

    Attributes:
        event_class: The class.
        name: Its name.
        mutable: Whether its instances could be changed, so that they are copied at the door.
        reply: What the body returns.
        needs_care: Whether the door has more to do than to look it up.
    """

    event_class: type[Event[Any, Any]]
    name: str
    mutable: bool
    reply: Reply
    needs_care: bool


class Transition:
    """An edge: for one event class, from a source to a target, with all the user code on the way.

    Attributes:
        steps: Before, exit, body and enter, in the order of C3; any of them may refuse or fail.
        afters: The after-hooks that hold the machine.
        detached: The after-hooks that do not.
        changes_state: Whether source and target differ.
        is_birth: Whether it creates the machine.
        is_rare: Whether more than a reply follows its commit: a birth, an end, detached hooks, or timers of the new
            state.
    """

    __slots__ = (
        *("afters", "changes_state", "detached", "guard", "guard_name", "is_birth", "is_rare", "name"),
        *("new", "old", "reply", "source", "stays", "steps", "target"),
    )

    def __init__(  # noqa: PLR0917 -- made in one place
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
        self.is_rare = self.is_birth
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
    guard_name = name = ""


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
        timers: What is started when it is entered.
        refused: The event classes of which is said that they are not handled here.
    """

    name: str
    member: Any
    parent: StateNode | None
    final: bool = False
    choices: dict[type[Any], tuple[Choice, ...]] = field(default_factory=dict[type[Any], tuple[Choice, ...]])
    children: list[StateNode] = field(default_factory=list["StateNode"])
    allowed: tuple[str, ...] = ()
    timers: tuple[StateTimer, ...] = ()
    refused: frozenset[type[Any]] = frozenset()

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
        hooks: The hooks, in the order in which they run.
        mutable_fields: The data fields whose values could be changed in place.
        given: What its hooks and bodies take after the `*`, by their names: the class of a session.
        is_plain: Whether no hook and no body is async, or runs in a thread.
        any_to_any: Whether it declares no transitions and no timeouts, so that any state may be requested from any
            other.
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
    hooks: tuple[Hook, ...] = ()
    mutable_fields: frozenset[str] = frozenset()
    given: dict[str, type[Any]] = field(default_factory=dict[str, type[Any]])
    is_plain: bool = False
    any_to_any: bool = False
