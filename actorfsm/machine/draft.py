"""The draft: what a turn may change, and nobody sees until it is committed.

A machine instance lives for one turn. It shares the committed data until the first write, which takes a copy; a refusal
drops the copy, a commit keeps it. So nothing has to be undone, and committed data is never changed in place.
"""

from __future__ import annotations

from functools import wraps
from inspect import isawaitable
from sys import getrefcount
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic import BaseModel

from actorfsm.errors import ReadOnly, StaleTurn
from actorfsm.values import copy_value

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from actorfsm.clock import Duration

__all__ = [
    "Drafted",
    "Drafts",
    "MutableField",
    "TurnView",
    "giving",
    "in_thread",
    "show_fields",
    "write_unless_frozen",
]


class TurnView(Protocol):
    """What a machine instance asks of the turn that it lives for; the runtime implements it.

    The machine's own methods pass on to those of the same names here.
    """

    writable: bool
    """Whether fields may change now: from before-hooks to the commit, but not in guards and after-hooks."""
    data: dict[str, Any]
    """The committed fields."""
    draft: dict[str, Any] | None
    """The copy of the fields that this turn may change; None until the first write."""
    touched: set[str]
    """Names of the fields that were written, or copied because they could be changed in place."""

    @property
    def machine_id(self) -> str:
        """The machine's id."""
        ...

    @property
    def state(self) -> Any:
        """The state it is in."""
        ...

    @property
    def is_birth(self) -> bool:
        """Whether the machine is being born."""
        ...

    @property
    def services(self) -> Any:
        """The system's services."""
        ...

    def now(self) -> datetime:
        """Return the time of day."""
        ...

    def idempotency_key(self) -> str:
        """Return the key for outside effects of the running hook."""
        ...

    def tell(self, target: Any, event: Any, event_id: str | None, headers: Any) -> Any:
        """Send after the commit."""
        ...

    async def ask(self, target: Any, event: Any, timeout: Duration | None, headers: Any) -> Any:  # noqa: ASYNC109
        """Ask at once."""
        ...

    def next_event(self, event: Any) -> None:
        """Raise an event of the machine's own."""
        ...

    def watch(self, target: Any) -> None:
        """Watch a machine after the commit."""
        ...

    def unwatch(self, target: Any) -> None:
        """Watch a machine no longer, after the commit."""
        ...

    def start_timer(self, event: Any, after: Any, at: Any, name: Any, scope: Any) -> None:
        """Send the machine an event later."""
        ...

    def cancel_timer(self, name: Any) -> bool:
        """Cancel a timer after the commit."""
        ...

    def start_job(  # noqa: PLR0917 -- as `Machine.start_job`
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        done: Any,
        failed: Any,
        name: str | None,
        timeout: Duration | None,
        *,
        again: bool,
    ) -> str:
        """Begin a job after the commit."""
        ...

    def cancel_job(self, name: str) -> bool:
        """Cancel a job after the commit."""
        ...

    def stop(self) -> None:
        """Stop the machine after the commit."""
        ...

    async def run_blocking(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function that blocks in a thread, and return what it returns."""
        ...

    def given(self, wanted: type[Any]) -> Any:
        """Return what a hook takes after the `*`: the session of this turn."""
        ...

    async def flush_given(self) -> None:
        """Let what a hook did with it be refused, if it is, as long as that hook runs."""
        ...

    def read_only_error(self) -> ReadOnly:
        """Return the error for a change where only looking is allowed."""
        ...


class Drafted(BaseModel):
    """A model whose fields are a draft while it is in a turn."""

    __slots__ = ("_turn",)

    if TYPE_CHECKING:
        _turn: TurnView

    if not TYPE_CHECKING:  # checkers know the fields of a machine, and accept no others

        def __setattr__(self, name: str, value: Any) -> None:
            """Write a data field, into the turn's draft."""
            # Module functions, not methods: on a class with `__getattr__` each look-up on self costs 0.1 µs.
            try:
                turn = _get_turn(self)
            except AttributeError:  # not in a turn: a validator at work, or an instance of the user's own
                super().__setattr__(name, value)
                return
            draft = turn.draft
            if draft is None:
                draft = _open_for_write(self, turn, name)
            elif name not in draft:
                _check_field(self, name)
            turn.touched.add(name)
            draft[name] = value

        def __getattr__(self, name: str) -> Any:
            """Report a use after the turn; anything else is a plain missing attribute."""
            if name == "_turn":
                raise AttributeError(name)
            if name in self.__class__.__pydantic_fields__:
                if _turn_of(self) is CLOSED:
                    raise _stale(name)
                raise AttributeError(f"{type(self).__name__}.{name} has no value yet: the birth must set it")
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


def write_unless_frozen(machine: Drafted, name: str, value: Any) -> None:
    """Write a data field, in a class that has some with `Field(frozen=True)`: the birth sets those, and nothing else.

    Raises:
        ReadOnly: The field is frozen, and the machine was born.
    """
    field, turn = machine.__class__.__pydantic_fields__.get(name), _turn_of(machine)
    if field is not None and field.frozen and turn is not None and turn is not CLOSED and not turn.is_birth:
        raise ReadOnly(
            f"{type(machine).__name__}.{name} is frozen: it keeps the value that it got at birth",
            machine_id=turn.machine_id,
        )
    Drafted.__setattr__(machine, name, value)


class MutableField:
    """A data field whose value could be changed in place: reading it in a turn takes a copy into the draft.

    A `__setattr__` alone would miss `self.lines.append(...)`. Where nothing may change, each read gives a fresh copy.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, machine: Any, owner: type) -> Any:
        if machine is None:
            raise AttributeError(self.name)  # pydantic looks for defaults on the class: there is none here
        turn, name = _turn_of(machine), self.name
        if turn is None:
            return _value(machine, name)
        if turn is CLOSED:
            raise _stale(name)
        if not turn.writable:
            return copy_value(_value(machine, name))
        draft = turn.draft
        if draft is None:
            draft = _open_for_write(machine, turn, name)
        if name not in turn.touched:
            draft[name] = copy_value(_value(machine, name))
            turn.touched.add(name)
        return draft[name]

    def __set__(self, machine: Any, value: Any) -> None:
        # Reached only past `Drafted.__setattr__`, as by object.__setattr__; its being here makes reads come first.
        raise AttributeError(self.name)


class Drafts:
    """Instances of one machine class, each for one turn at a time.

    An instance that nobody else holds when its turn ends is used again, which saves 0.4 µs of a turn. One that a
    task, a closure or a traceback still holds is closed for good: every later use of it is a `StaleTurn`.
    """

    __slots__ = ("_class", "_spare")

    def __init__(self, machine_class: type[Drafted]) -> None:
        self._class = machine_class
        self._spare: list[Any] = []

    def open(self, turn: TurnView) -> Any:
        """Return an instance for one turn, sharing the committed data."""
        machine = self._spare.pop() if self._spare else self._make()
        _set_fields(machine, turn.data)
        _set_turn(machine, turn)
        return machine

    def showing(self, data: dict[str, Any]) -> Any:
        """Return an instance that shows these fields and belongs to no turn."""
        machine = self._make()
        _set_fields(machine, data)
        _set_turn(machine, CLOSED)
        return machine

    def close(self, holder: _Holder) -> None:
        """End the instance that a turn holds."""
        machine = holder.machine
        _set_turn(machine, CLOSED)
        if getrefcount(machine) <= _UNSHARED and len(self._spare) < _SPARES:
            self._spare.append(machine)
        else:
            _set_fields(machine, {})

    def _make(self) -> Any:
        machine = self._class.__new__(self._class)
        _set_names(machine, self._class.__pydantic_fields__.keys())
        _set_extra(machine, None)
        _set_private(machine, None)
        return machine


def in_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a hook that blocks as one to await: it asks its turn to run it in a thread."""

    @wraps(function)
    async def run(machine: Any, *arguments: Any) -> Any:
        return await _get_turn(machine).run_blocking(function, machine, *arguments)

    return run


def giving(function: Callable[..., Any], name: str, wanted: type[Any]) -> Callable[..., Any]:
    """Return a hook that takes something after the `*` as one without: it asks its turn for it."""

    @wraps(function)
    async def run(machine: Any, *arguments: Any) -> Any:
        turn = _get_turn(machine)
        result = function(machine, *arguments, **{name: turn.given(wanted)})
        if isawaitable(result):
            result = await result
        await turn.flush_given()
        return result

    return run


def show_fields(machine: Any, data: dict[str, Any]) -> None:
    """Let an instance show these fields, without a draft."""
    _set_fields(machine, data)


def _open_for_write(machine: Any, turn: TurnView, name: str) -> dict[str, Any]:
    """Return the fields that this turn may change: a copy, made at the first write."""
    if name not in turn.data:
        _check_field(machine, name)
    if not turn.writable:
        raise turn.read_only_error()
    turn.touched = set()
    turn.draft = draft = turn.data.copy()
    _set_fields(machine, draft)
    return draft


def _check_field(machine: Any, name: str) -> None:
    if name not in machine.__class__.__pydantic_fields__:
        raise AttributeError(f"{type(machine).__name__} has no data field {name!r}; declare it in the class")


def _value(machine: Any, name: str) -> Any:
    try:
        return machine.__dict__[name]
    except KeyError:
        raise AttributeError(
            f"{type(machine).__name__}.{name} has no value yet: the birth must set it"
        ) from None


def _turn_of(machine: Any) -> Any:
    try:
        return _get_turn(machine)
    except AttributeError:
        return None


def _stale(name: str) -> StaleTurn:
    return StaleTurn(
        f"self.{name} was used after its turn. A task that a hook left behind may not touch the machine: keep what it "
        "needs in local names and send the machine an event"
    )


class _Closed:
    """The turn of an instance whose turn is over: every use is a `StaleTurn`."""

    def __getattr__(self, name: str) -> Any:
        raise _stale(name)


CLOSED: Final[Any] = _Closed()

_set_fields: Final[Callable[[Any, dict[str, Any]], None]] = BaseModel.__dict__["__dict__"].__set__
_set_names: Final[Callable[[Any, Any], None]] = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_set_extra: Final[Callable[[Any, Any], None]] = BaseModel.__dict__["__pydantic_extra__"].__set__
_set_private: Final[Callable[[Any, Any], None]] = BaseModel.__dict__["__pydantic_private__"].__set__
_set_turn: Final[Callable[[Any, Any], None]] = Drafted.__dict__["_turn"].__set__
_get_turn: Final[Callable[[Any], Any]] = Drafted.__dict__["_turn"].__get__


class _Holder(Protocol):
    machine: Any


_SPARES: Final = 16


def _count_when_unshared() -> int:
    """Return what `getrefcount` says in `Drafts.close` when only a turn and its frame hold the instance."""

    class Turn:
        machine: Any = None

    def close(holder: _Holder) -> int:
        machine = holder.machine
        return getrefcount(machine)

    turn = Turn()
    machine = turn.machine = object()
    count = close(turn)
    del machine
    return count


_UNSHARED: Final = _count_when_unshared()
