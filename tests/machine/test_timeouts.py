"""C33 and C20: what an `@on_timeout` may look like is checked when the class is created."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum, auto
from typing import Any

import pytest

from actorfsm import (
    STAY,
    DefinitionError,
    Event,
    Machine,
    StateTimeout,
    on_enter,
    on_timeout,
    postpone,
    transition,
)
from actorfsm.machine.machine import definition_of

pytestmark = [pytest.mark.rule("C33"), pytest.mark.rule("C20")]


class State(StrEnum):
    A = auto()
    B = auto()
    END = auto()


class Go(Event): ...


def late(self: Any, event: StateTimeout) -> None: ...


def machine_with(**members: Any) -> Any:
    """Make a class with a way from A to B to the end, and these members."""

    class Base(Machine[State], initial=State.A, final=(State.END,)):
        @transition(State.A, to=State.B)
        @transition(State.B, to=State.END)
        def go(self, event: Go) -> None: ...

    return type(Machine)("Made", (Base,), {"__module__": __name__, **members})


def test_timeouts_are_listed_at_their_states_and_lead_somewhere() -> None:
    class Light(Machine[State], initial=State.A, final=(State.END,)):
        @on_timeout(State.A, after=2, to=State.B)
        @on_timeout(State.B, after=timedelta(minutes=1), to=State.END)
        def late(self, event: StateTimeout) -> None: ...

        @on_timeout(State.A, after=0, to=STAY)
        def early(self, event: StateTimeout) -> None: ...

    definition = definition_of(Light)  # the end is reached by timeouts alone
    timers = {
        state: [(timer.name, timer.after_s, timer.event) for timer in node.timers]
        for state, node in definition.states.items()
    }
    assert timers == {
        State.A: [("late", 2.0, StateTimeout(name="late")), ("early", 0.0, StateTimeout(name="early"))],
        State.B: [("late", 60.0, StateTimeout(name="late"))],
        State.END: [],
    }
    assert not definition.any_to_any
    assert definition.states[State.A].allowed == ()  # nobody else sends it


def test_a_transition_into_a_state_with_a_timeout_is_one_with_more_to_do() -> None:
    cls = machine_with(late=on_timeout(State.B, after=1, to=STAY)(late))
    definition = definition_of(cls)
    (into,) = definition.states[State.A].choices[Go]
    (stays,) = definition.states[State.B].choices[StateTimeout]
    assert (into.is_rare, stays.is_rare) == (True, False)


def test_an_overridden_timeout_keeps_its_marks_and_none_removes_it() -> None:
    class Base(Machine[State], initial=State.A, final=(State.END,)):
        @transition(State.A, to=State.B)
        @transition(State.B, to=State.END)
        def go(self, event: Go) -> None: ...

        @on_timeout(State.A, after=1, to=State.END)
        def late(self, event: StateTimeout) -> None: ...

    class Kept(Base):
        def late(self, event: StateTimeout) -> None: ...

    class Removed(Base):
        late = None  # type: ignore[assignment]

    assert [timer.name for timer in definition_of(Kept).states[State.A].timers] == ["late"]
    assert definition_of(Removed).states[State.A].timers == ()


def wrong_signature(self: Any, event: Go) -> None: ...


def wrong_reply(self: Any, event: StateTimeout) -> int:
    return 1


def hook_for_go_only(self: Any, old: State, new: State, event: Go) -> None: ...


async def slow(machine: Any, event: Any) -> bool:
    return True


@pytest.mark.parametrize(
    ("members", "says"),
    [
        (lambda: {"late": on_timeout(State.END, after=1, to=STAY)(late)}, "END is final, its timers"),
        (lambda: {"late": on_timeout(after=1, to=State.B)(late)}, "names at least one state"),
        (lambda: {"late": on_timeout("a", after=1, to=State.B)(late)}, "not a state"),
        (lambda: {"late": on_timeout(State.A, after=1, to="b")(late)}, "not a state"),
        (lambda: {"late": on_timeout(State.A, after=-1, to=State.B)(late)}, "a time from 0 on"),
        (lambda: {"late": on_timeout(State.A, after=float("inf"), to=State.B)(late)}, "a time from 0 on"),
        (lambda: {"late": on_timeout(State.A, after=float("nan"), to=State.B)(late)}, "a time from 0 on"),
        (lambda: {"late": on_timeout(State.A, after=1, to=State.B, timeout=0)(late)}, "above 0"),
        (lambda: {"late": on_timeout(State.A, after=1, to=State.B, when=slow)(late)}, "is async"),
        (lambda: {"late": on_timeout(State.A, after=1, to=State.B)(wrong_signature)}, "event: StateTimeout"),
        (lambda: {"late": on_timeout(State.A, after=1, to=State.B)(wrong_reply)}, "annotated to return int"),
        (
            lambda: {
                "late": on_timeout(State.A, after=1, to=STAY)(on_timeout(State.A, after=2, to=STAY)(late))
            },
            "two timeouts of one name in A",
        ),
        (lambda: {"late": transition(State.A, to=STAY)(late)}, "write @on_timeout"),
        (lambda: {"late": postpone(State.A)(late)}, "never postponed"),
        (
            lambda: {
                "late": on_timeout(State.A, after=1, to=State.B)(late),
                "entered": on_enter(State.B)(hook_for_go_only),
            },
            "StateTimeout can lead there too",
        ),
        (lambda: {"late": on_timeout(State.A, after=1, to=State.B)(property(late))}, "stands above a method"),
    ],
)
def test_a_timeout_that_cannot_be_meant_is_an_error_of_the_class(
    members: Callable[[], dict[str, Any]], says: str
) -> None:
    with pytest.raises(DefinitionError, match=says):
        machine_with(**members())


@pytest.fixture(autouse=True)
def fresh_functions() -> Any:
    """Marks are left on the functions themselves: take them off again."""
    yield
    for function in (late, wrong_signature, wrong_reply, hook_for_go_only):
        function.__dict__.clear()


@pytest.mark.parametrize("choice", [{"timer_limit": 0}, {"timer_attempts": -1}])
def test_limits_of_timers_are_checked(choice: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=next(iter(choice))):

        class Made(Machine[State], initial=State.A, **choice): ...
