"""The decorators of a machine class. They only leave marks; the definition reads them when the class is created."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar, overload

from actorfsm.clock import Duration, seconds
from actorfsm.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from actorfsm.event import Event

__all__ = [
    "STAY",
    "BlockingMark",
    "HookMark",
    "Mark",
    "PostponeMark",
    "RefuseMark",
    "Stay",
    "TimeoutMark",
    "TransitionMark",
    "after_transition",
    "before_transition",
    "blocking",
    "marks_inside",
    "marks_of",
    "on_enter",
    "on_exit",
    "on_timeout",
    "postpone",
    "refuse",
    "transition",
]

F = TypeVar("F", bound="Callable[..., Any]")
HookKind: TypeAlias = Literal["before", "exit", "enter", "after"]
_MARKS: Final = "__actorfsm_marks__"
_DECORATORS: Final[dict[HookKind, str]] = {
    "before": "before_transition",
    "exit": "on_exit",
    "enter": "on_enter",
    "after": "after_transition",
}


class Stay(Enum):
    """The type of `STAY`."""

    STAY = "STAY"

    def __repr__(self) -> str:
        return "STAY"


STAY: Final = Stay.STAY
"""As `to=STAY`: the transition stays in the state; body and commit, no hooks."""


@dataclass(frozen=True, slots=True)
class TransitionMark:
    """`@transition(*sources, to=..., when=...)`; no source means birth."""

    sources: tuple[Enum, ...]
    to: Enum
    when: Callable[[Any, Any], bool] | None
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class TimeoutMark:
    """`@on_timeout(*states, after=..., to=..., when=...)`."""

    states: tuple[Enum, ...]
    after_s: float
    to: Enum
    when: Callable[[Any, Any], bool] | None
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class PostponeMark:
    """`@postpone(*states, *event_classes)`; no event class means those of the method."""

    states: tuple[Enum, ...]
    events: tuple[type[Event[Any, Any]], ...]


@dataclass(frozen=True, slots=True)
class RefuseMark:
    """`@refuse(*states, *event_classes)`; no event class means those of the method."""

    states: tuple[Enum, ...]
    events: tuple[type[Event[Any, Any]], ...]


@dataclass(frozen=True, slots=True)
class HookMark:
    """A hook; no state means every transition."""

    kind: HookKind
    states: tuple[Enum, ...]
    timeout_s: float | None
    detached: bool = False
    durable: bool = False


@dataclass(frozen=True, slots=True)
class BlockingMark:
    """`@blocking`: runs in a thread."""


Mark: TypeAlias = TransitionMark | TimeoutMark | PostponeMark | RefuseMark | HookMark | BlockingMark


def marks_of(attribute: object) -> list[Mark]:
    """Return the marks on a class attribute, in the order in which the decorators are read."""
    return list(getattr(attribute, _MARKS, ()))


def marks_inside(attribute: object) -> list[Mark]:
    """Return the marks on the function that a class attribute wraps: a static method, a property, a partial."""
    wrapped = (getattr(attribute, name, None) for name in ("__func__", "fget", "func", "__wrapped__"))
    return [mark for function in wrapped for mark in marks_of(function)]


def _mark(function: F, mark: Mark) -> F:
    if not _is_function(function):
        raise DefinitionError(
            f"{_name_of(function)}: {_written(mark)} stands above a method, `def` or `async def`, and below any "
            "decorator that makes something else of it"
        )
    # Decorators are applied from the bottom up and read from the top down.
    setattr(function, _MARKS, [mark, *getattr(function, _MARKS, ())])
    return function


def transition(
    *sources: Enum,
    to: Enum,
    when: Callable[[Any, Any], bool] | None = None,
    timeout: Duration | None = None,
) -> Callable[[F], F]:
    """Declare that the method's event leads from the sources to `to`; the method is the transition's body.

    The event class is read from the annotation of the method's `event` argument (a union for several). Several
    transitions for one event and state are tried in order of definition; the first whose guard holds wins (SCXML's
    document order).

    Args:
        sources: The states it leads from. None at all: a birth, the event creates the machine.
        to: The state it leads to, or `STAY`: body and commit, but no hooks.
        when: A plain function `(machine, event) -> bool` that must hold. It may look but not change.
        timeout: Deadline of the body, seconds or timedelta; the class's `hook_timeout` by default.
    """
    _check_states("transition", (*sources, to))
    mark = TransitionMark(sources, to, when, _checked("transition", timeout))
    return lambda function: _mark(function, mark)


def on_timeout(
    *states: Enum,
    after: Duration,
    to: Enum,
    when: Callable[[Any, Any], bool] | None = None,
    timeout: Duration | None = None,
) -> Callable[[F], F]:
    """Declare what happens when the machine has been in a state for some time (gen_statem's `state_timeout`).

    The method is the body of a transition for the event `StateTimeout`. A timer of the method's name starts with the
    commit that enters the state, also from itself, and dies when the state is left. `to=STAY` leaves it alone.

    Args:
        states: The states.
        after: How long, seconds or timedelta; 0 means: after the events that wait already.
        to: The state it leads to, or `STAY`: body and commit, but no hooks, and the timer does not start again.
        when: A plain function `(machine, event) -> bool`. If it says no the timer is used up.
        timeout: Deadline of the body, seconds or timedelta; the class's `hook_timeout` by default.
    """
    _check_states("on_timeout", (*states, to))
    if not states:
        raise DefinitionError("@on_timeout(STATE, ...) names at least one state")
    after_s = seconds(after)
    if not 0 <= after_s < inf:
        raise DefinitionError(
            f"@on_timeout(after={after!r}): give a time from 0 on, in seconds or as a timedelta"
        )
    mark = TimeoutMark(states, after_s, to, when, _checked("on_timeout", timeout))
    return lambda function: _mark(function, mark)


def postpone(*states_and_events: Enum | type[Event[Any, Any]]) -> Callable[[F], F]:
    """Declare that in these states these events wait for a change of state (gen_statem's `postpone`).

    Args:
        states_and_events: The states, then the event classes; without event classes, those of the method's own
            annotation, so that the decorator may stand above a `@transition`.
    """
    mark = PostponeMark(*_states_then_events("postpone", states_and_events))
    return lambda function: _mark(function, mark)


def refuse(*states_and_events: Enum | type[Event[Any, Any]]) -> Callable[[F], F]:
    """Declare that in these states these events are not handled, and that this is meant.

    Nothing is done differently: an event that a state does not handle is `Unhandled` anyway. But `actorfsm check`,
    which asks of each state what becomes of each event, has an answer; and so has whoever reads the class.

    Args:
        states_and_events: The states, then the event classes; without event classes, those of the method's own
            annotation, so that the decorator may stand above a `@transition`.
    """
    mark = RefuseMark(*_states_then_events("refuse", states_and_events))
    return lambda function: _mark(function, mark)


def _states_then_events(
    decorator: str, states_and_events: tuple[Enum | type[Event[Any, Any]], ...]
) -> tuple[tuple[Enum, ...], tuple[type[Event[Any, Any]], ...]]:
    states = tuple(item for item in states_and_events if isinstance(item, Enum))
    events: tuple[Any, ...] = tuple(item for item in states_and_events if not isinstance(item, Enum))
    for event in events:
        if not isinstance(event, type) or issubclass(event, Enum):
            raise DefinitionError(
                f"{_name_of(event)}: write @{decorator}(STATE, ...) with states, then event classes"
            )
    if not states:
        raise DefinitionError(f"@{decorator}(STATE, ...) names at least one state")
    return states, events


def blocking(function: F) -> F:
    """Declare that a plain hook or body blocks: it runs in a thread, and the event loop goes on meanwhile.

    The turn waits for it, so that it may read and write `self` as others do; what it cannot do is await. Threads cannot
    be cancelled: one that goes on after its deadline is left behind when the grace is over, its machine is restarted
    without it, and all it does with `self` is a `StaleTurn`. At most `Limits.blocking_threads` run at a time.

    It stands above or below the decorator that makes a hook or a body of the method.
    """
    return _mark(function, BlockingMark())


@overload
def before_transition(function: F, /) -> F: ...
@overload
def before_transition(*, timeout: Duration | None = None) -> Callable[[F], F]: ...
def before_transition(
    function: F | None = None, /, *, timeout: Duration | None = None
) -> F | Callable[[F], F]:
    """Declare a hook that runs before every transition and may refuse it.

    It is called with `(old, new)` or `(old, new, event)`. It refuses by `return False`, `return Veto(reason)` or `raise
    Veto(reason)`; `True` and `None` allow; anything else is a failure.

    Args:
        function: The method.
        timeout: Its deadline, seconds or timedelta; the class's `hook_timeout` by default.
    """
    mark = HookMark("before", (), _checked("before_transition", timeout))
    if function is None:
        return lambda method: _mark(method, mark)
    if isinstance(function, Enum):
        raise DefinitionError(
            f"{function!r}: @before_transition is for every transition; for one state write @on_exit(STATE) or "
            "@on_enter(STATE)"
        )
    return _mark(function, mark)


def on_exit(*states: Enum, timeout: Duration | None = None) -> Callable[[F], F]:
    """Declare a hook that runs when one of the states is left and may refuse; no state means any.

    What it changes in the machine does not survive a refusal that comes after it.
    """
    return _hook("exit", states, timeout)


def on_enter(*states: Enum, timeout: Duration | None = None) -> Callable[[F], F]:
    """Declare a hook that runs when one of the states is entered and may refuse; no state means any.

    The place for irreversible outside effects: it runs last before the commit.
    """
    return _hook("enter", states, timeout)


@overload
def after_transition(function: F, /) -> F: ...
@overload
def after_transition(
    *states: Enum, timeout: Duration | None = None, detached: bool = False, durable: bool = False
) -> Callable[[F], F]: ...
def after_transition(
    *states: Any, timeout: Duration | None = None, detached: bool = False, durable: bool = False
) -> Any:
    """Declare a hook that runs once the machine has entered one of the states; no state means any.

    It cannot undo and may only look: assignment and `self.tell` are errors there.

    Args:
        states: The states.
        timeout: Its deadline, seconds or timedelta; the class's `hook_timeout` by default.
        detached: Run it beside the machine, which goes on to its next event meanwhile.
        durable: Run it beside the machine and at least once: with a journal it is stored with the commit, and run again
            by the next system if this one does not get to its end. One that fails is tried again five times, after
            pauses that double from a second, then it is a dead letter. `self.idempotency_key` is the same each time;
            `old`, `new` and the event are those of the transition. `self` shows the machine as the commit left it, or,
            in the next system, as it is then.
    """
    if len(states) == 1 and inspect.isfunction(states[0]):
        return _mark(states[0], HookMark("after", (), None))
    return _hook("after", states, timeout, detached=detached or durable, durable=durable)


def _hook(
    kind: HookKind,
    states: tuple[Enum, ...],
    timeout: Duration | None,
    *,
    detached: bool = False,
    durable: bool = False,
) -> Callable[[F], F]:
    _check_states(_DECORATORS[kind], states)
    mark = HookMark(kind, states, _checked(_DECORATORS[kind], timeout), detached, durable)
    return lambda function: _mark(function, mark)


def _check_states(decorator: str, states: tuple[Any, ...]) -> None:
    for state in states:
        if not isinstance(state, Enum):
            raise DefinitionError(
                f"{_name_of(state)}: not a state; write @{decorator}(STATE, ...) with members of the machine's Enum"
            )


def _checked(decorator: str, timeout: Duration | None) -> float | None:
    if timeout is None:
        return None
    timeout_s = seconds(timeout)
    if not 0 < timeout_s < inf:
        raise DefinitionError(
            f"@{decorator}(timeout={timeout!r}): give a time above 0, in seconds or as a timedelta"
        )
    return timeout_s


def _is_function(thing: object) -> bool:
    return inspect.isfunction(thing)


def _name_of(thing: Any) -> str:
    """Return the class and the name of a method, or what else was given."""
    return str(getattr(thing, "__qualname__", None) or repr(thing))


def _written(mark: Mark) -> str:
    if isinstance(mark, HookMark):
        return f"@{_DECORATORS[mark.kind]}"
    if isinstance(mark, TimeoutMark):
        return "@on_timeout(...)"
    if isinstance(mark, BlockingMark):
        return "@blocking"
    return "@transition(...)" if isinstance(mark, TransitionMark) else "@postpone(...)"
