"""Events: what is sent to a machine, and what comes back.

An event is a frozen pydantic class. Its first type parameter is the reply that `ask` returns, its second the machine
that takes it: both are for the type checkers, and the reply is checked at run time too.
"""

from __future__ import annotations

import sys
from enum import Enum
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar as PlainTypeVar, get_origin

from pydantic import BaseModel, ConfigDict, InstanceOf, PlainSerializer, ValidationError
from typing_extensions import TypeVar

from actorfsm.errors import InvalidEvent
from actorfsm.values import shares_nothing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Generic

    from typing_extensions import Self

__all__ = [
    "MAX_PAYLOAD_BYTES",
    "ErrorInfo",
    "Event",
    "Outcome",
    "OutcomeKind",
    "Spawn",
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
        def __class_getitem__(cls, item):
            return super().__class_getitem__(item) if cls.__is_users_generic() else GenericAlias(cls, item)

        @classmethod
        def __is_users_generic(cls):
            return bool(cls.__pydantic_generic_metadata__["parameters"])


class Event(_Typed[ReplyT, MachineT]):
    """Base of all events: immutable, no unknown fields, no NaN.

    Example:
        `class Pay(Event[Receipt])` makes `await ref.ask(Pay(...))` a `Receipt`; `class Pay(Event[Receipt, "Order"])`
        makes type checkers refuse it at another machine's ref.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

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
            raise InvalidEvent(f"not a {cls.__name__}: {_without_input(error)}") from None

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Make an event from a mapping of its fields.

        Raises:
            InvalidEvent: They do not validate. The message names fields, never their values.
        """
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise InvalidEvent(f"not a {cls.__name__}: {_without_input(error)}") from None


def _without_input(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, p['loc'])) or 'the text'}: {p['msg']}" for p in problems[:5])


def reply_annotation(event_class: type[Event[Any, Any]]) -> Any:
    """Return the reply type that an event class declares: None when it declares none.

    A forward reference is resolved in the module of the class that declares it.
    """
    for base in event_class.__mro__:
        for alias in base.__dict__.get("__orig_bases__", ()):
            origin = get_origin(alias)
            if isinstance(origin, type) and issubclass(origin, _Typed) and origin in {_Typed, Event}:
                return _resolved(alias.__args__[0], base)
    return None


def _resolved(annotation: Any, declared_in: type) -> Any:
    if isinstance(annotation, PlainTypeVar | TypeVar):
        return None
    if not isinstance(annotation, str):
        return annotation
    namespace: dict[str, Any] = vars(sys.modules.get(declared_in.__module__, object()))
    return namespace.get(annotation, Any)


StateMember = Annotated[
    InstanceOf[Enum], PlainSerializer(lambda member: member.name, return_type=str, when_used="json")
]


class Spawn(Event[None]):
    """The first event of a machine that is spawned and not born by an event of its own.

    Enter hooks of the initial state that take the event must accept it in their annotation.
    """


class TransitionRequested(Event[None]):
    """A request to go to a state, as `ref.request_transition` sends it.

    Attributes:
        to: The state asked for, a member of the machine's own Enum.
    """

    to: StateMember


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
