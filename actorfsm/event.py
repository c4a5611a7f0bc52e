"""Events: what is sent to a machine, and what comes back.

An event is a frozen pydantic class. Its first type parameter is the reply that `ask` returns, its second the machine
that takes it: both are for the type checkers, and the reply is checked at run time too.
"""

from __future__ import annotations

import sys
from enum import Enum
from types import GenericAlias, SimpleNamespace
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Final,
    Literal,
    TypeVar as PlainTypeVar,
    get_origin,
    get_type_hints,
)

from pydantic import BaseModel, ConfigDict, InstanceOf, PlainSerializer, ValidationError
from typing_extensions import TypeVar

from actorfsm.errors import DefinitionError, InvalidEvent
from actorfsm.problems import field_names, problems_of
from actorfsm.values import shares_nothing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Generic, Self

__all__ = [
    "MAX_PAYLOAD_BYTES",
    "EndReason",
    "ErrorInfo",
    "Event",
    "Outcome",
    "OutcomeKind",
    "Spawn",
    "StateTimeout",
    "Terminated",
    "TransitionRequested",
    "reply_annotation",
    "shares_nothing",
]

MAX_PAYLOAD_BYTES: Final = 256 * 1024
"""The longest text that `Event.from_json` reads, in bytes."""

ReplyT = TypeVar("ReplyT", default=None, covariant=True)
MachineT = TypeVar("MachineT", default=Any, contravariant=True)

if TYPE_CHECKING:

    class _Typed(BaseModel, Generic[ReplyT, MachineT]): ...

else:

    class _Typed(BaseModel):
        # Not generic for pydantic: a parametrisation would be a class of its own, with its own validator.
        def __class_getitem__(cls, item: Any) -> Any:
            return super().__class_getitem__(item) if cls.__is_users_generic() else GenericAlias(cls, item)

        @classmethod
        def __is_users_generic(cls) -> bool:
            return bool(cls.__pydantic_generic_metadata__["parameters"])


class Event(_Typed[ReplyT, MachineT]):
    """Base of all events: immutable, no unknown fields, no NaN.

    Example:
        `class Pay(Event[Receipt])` makes `await ref.ask(Pay(...))` a `Receipt`; `class Pay(Event[Receipt, "Order"])`
        makes type checkers refuse it at another machine's ref.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: ClassVar[int] = 1
    """Which version of the fields this is; what was stored of an older one is read by way of `@upcast`."""

    @classmethod
    def from_json(cls, text: str | bytes, *, max_bytes: int = MAX_PAYLOAD_BYTES) -> Self:
        """Read an event from JSON.

        Args:
            text: The fields as a JSON object.
            max_bytes: A longer text is refused before it is parsed.

        Raises:
            InvalidEvent: Too long, not JSON, nested too deep, or fields that do not validate. The message names
                fields, never their values.
        """
        size = len(text) if isinstance(text, bytes) else len(text.encode("utf-8", "surrogatepass"))
        if size > max_bytes:
            raise InvalidEvent(f"{cls.__name__} of {size:,} bytes: the limit is {max_bytes:,}")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise InvalidEvent(f"not a {cls.__name__}: {problems_of(error, field_names(cls))}") from None

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Make an event from a mapping of its fields.

        Raises:
            InvalidEvent: They do not validate. The message names fields, never their values.
        """
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise InvalidEvent(f"not a {cls.__name__}: {problems_of(error, field_names(cls))}") from None


def reply_annotation(event_class: type[Event[Any, Any]], names: Mapping[str, Any] | None = None) -> Any:
    """Return the reply type that an event class declares: None when it declares none.

    Args:
        event_class: The event class.
        names: Names that a forward reference may mean, besides those of the module that declares it.

    Raises:
        DefinitionError: A forward reference cannot be resolved.
    """
    for base in event_class.__mro__:
        for alias in base.__dict__.get("__orig_bases__", ()):
            if get_origin(alias) is Event:
                annotation = alias.__args__[0]
                if isinstance(annotation, PlainTypeVar | TypeVar):
                    return _given(event_class, base, annotation)
                return _resolved(event_class, annotation, base, names or {})
    return None


def _given(event_class: type[BaseModel], generic: type[BaseModel], parameter: Any) -> Any:
    """Return what stands for the parameter of a generic event: `int` for `Batch[int]`."""
    place = generic.__pydantic_generic_metadata__["parameters"].index(parameter)
    for base in event_class.__mro__:
        metadata = base.__dict__.get("__pydantic_generic_metadata__")
        if metadata and metadata["origin"] is generic:
            return _none_for_its_type(metadata["args"][place])
    return Any


def _resolved(event_class: type[Any], annotation: Any, declared_in: type, names: Mapping[str, Any]) -> Any:
    module = vars(sys.modules.get(declared_in.__module__, declared_in))
    # The nearest name is meant, as in the code that declares the class.
    known = {**module, **names} if "<locals>" in declared_in.__qualname__ else {**names, **module}
    holder = SimpleNamespace(__annotations__={"reply": annotation})
    try:
        return _none_for_its_type(get_type_hints(holder, known, include_extras=True)["reply"])
    except Exception as error:  # noqa: BLE001 -- evaluating an annotation may raise anything
        raise DefinitionError(
            f"{event_class.__name__}: its reply {annotation!r} cannot be resolved ({error}); define the class before "
            "the machine, or import it at run time, not under TYPE_CHECKING"
        ) from None


def _none_for_its_type(annotation: Any) -> Any:
    return None if annotation is type(None) else annotation


StateMember = Annotated[
    InstanceOf[Enum], PlainSerializer(lambda member: member.name, return_type=str, when_used="json")
]


class Spawn(Event[None]):
    """The first event of a machine that is spawned and not born by an event of its own.

    Enter hooks of the initial state that take the event must accept it in their annotation.
    """


class StateTimeout(Event[None]):
    """A machine has been in a state for as long as an `@on_timeout` says. Only the machine's own timers send it.

    Attributes:
        name: The timer's name: that of the method.
    """

    name: str


class TransitionRequested(Event[None]):
    """A request to go to a state, as `ref.request_transition` sends it.

    Attributes:
        to: The state asked for, a member of the machine's own Enum.
    """

    to: StateMember


EndReason = Literal["finished", "stopped", "failed", "unknown"]


class Terminated(Event[None]):
    """A machine that was watched has ended: see `Machine.watch`. Only the runtime sends it.

    Attributes:
        machine_id: The machine's id.
        incarnation: How often it had been restarted.
        reason: `finished` (it entered a final state), `stopped` (it stopped itself or was stopped), `failed` (a failure
            stopped it) or `unknown` (there was no machine with this id).
    """

    machine_id: str
    incarnation: int
    reason: EndReason


OutcomeKind = Literal["committed", "vetoed", "unhandled", "failed", "expired", "dead_lettered"]


class ErrorInfo(BaseModel):
    """What went wrong, as plain data.

    Attributes:
        type: Name of the error's class.
        text: Its message.
        hook: The guard, hook or body where it happened, or None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str
    text: str
    hook: str | None = None


class Outcome(Event[None]):
    """How an event ended: given to callbacks, to `await receipt.outcome()` and to the machine named in `reply_to`.

    Attributes:
        kind: committed, vetoed, unhandled, failed, expired or dead_lettered.
        success: Whether it was committed.
        machine_id: The machine that the event was for.
        machine: Name of its class; empty if there was no such machine.
        event_type: Name of the event's class.
        event_id: The event's id.
        old: The state before, or None if the machine did not exist.
        new: The state that the transition leads to; None where no transition was chosen.
        reply: What the body returned.
        reason: Why not, in words.
        error: The error as data, if there was one.
        seq: Number of the machine's last committed transition when the event ended.
        duplicate: Whether this event id had been seen before and this is the recorded answer.
    """

    kind: OutcomeKind
    success: bool
    machine_id: str
    event_type: str
    event_id: str
    old: StateMember | None = None
    new: StateMember | None = None
    reply: Any = None
    reason: str = ""
    error: ErrorInfo | None = None
    seq: int = 0
    duplicate: bool = False
    machine: str = ""
