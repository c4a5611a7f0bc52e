"""What a subclass inherits, what it may change, and which names its bases mean."""

from __future__ import annotations

import functools
from enum import Enum, StrEnum, auto
from typing import Any, Generic

import pytest
from typing_extensions import TypeVar

from actorfsm import (
    DefinitionError,
    Directive,
    Event,
    Machine,
    after_transition,
    before_transition,
    on_enter,
    transition,
)
from actorfsm.machine.machine import definition_of
from tests.machine import elsewhere, elsewhere_as_text

pytestmark = pytest.mark.rule("C33")


class State(StrEnum):
    A = auto()
    B = auto()


class Go(Event): ...


class Back(Event): ...


class Switch(Event):
    """Called as another class in another module."""


class Base(Machine[State], initial=State.A, on_failure={ValueError: Directive.STOP}, postpone_limit=7):
    n: int = 0
    lines: list[int] = []

    @before_transition
    def first(self, old: State, new: State) -> None: ...

    @transition(State.A, to=State.B)
    def go(self, event: Go) -> None: ...

    @transition(State.B, to=State.A)
    def back(self, event: Back) -> None: ...

    @on_enter(State.B)
    def charge(self, old: State, new: State) -> None: ...

    @after_transition
    def audit(self, old: State, new: State) -> None: ...


def steps(machine: type[Machine[Any]], state: Any = State.A, event: Any = Go) -> list[str]:
    edge: Any = definition_of(machine).states[state].choices[event][0]
    return [step.name for step in (*edge.steps, *edge.afters)]


def test_hooks_transitions_data_and_options_are_inherited_base_hooks_first() -> None:
    class Order(Base, postpone_limit=9):
        paid: int = 0

        @on_enter(State.B)
        def book(self, old: State, new: State) -> None: ...

        @before_transition
        def second(self, old: State, new: State) -> None: ...

        @transition(State.B, to=State.B)
        def again(self, event: Go) -> None: ...

    assert steps(Order) == ["first", "second", "go", "charge", "book", "audit"]
    assert steps(Order, State.B) == ["first", "second", "again", "charge", "book", "audit"]
    options = definition_of(Order).options
    assert (options.postpone_limit, options.on_failure) == (9, {ValueError: Directive.STOP})
    assert list(Order.model_fields) == ["n", "lines", "paid"]
    assert steps(Base) == ["first", "go", "charge", "audit"]
    assert definition_of(Base).options.postpone_limit == 7


def test_a_method_that_overrides_a_hook_without_marks_of_its_own_runs_where_the_hook_ran() -> None:
    class Order(Base):
        @on_enter(State.B)
        def book(self, old: State, new: State) -> None: ...

        async def charge(self, old: State, new: State) -> None: ...

    edge: Any = definition_of(Order).states[State.A].choices[Go][0]
    charge = next(step for step in edge.steps if step.name == "charge")
    assert charge.function is vars(Order)["charge"]
    assert charge.is_async
    assert steps(Order) == ["first", "go", "charge", "book", "audit"]
    assert definition_of(Base).is_plain
    assert not definition_of(Order).is_plain


def test_a_method_that_overrides_a_hook_with_marks_of_its_own_replaces_them() -> None:
    class Order(Base):
        @on_enter(State.A)
        def charge(self, old: State, new: State) -> None: ...

    assert steps(Order) == ["first", "go", "audit"]
    assert steps(Order, State.B, Back) == ["first", "back", "charge", "audit"]


def test_none_in_the_place_of_a_hook_removes_it_also_further_down() -> None:
    class Order(Base):
        charge = None  # type: ignore[assignment]

    class Further(Order):
        first: None = None  # type: ignore[assignment]

    assert steps(Order) == ["first", "go", "audit"]
    assert steps(Further) == ["go", "audit"]
    assert list(Further.model_fields) == ["n", "lines"]
    assert steps(Base) == ["first", "go", "charge", "audit"]


def test_none_in_the_place_of_a_transition_removes_it() -> None:
    with pytest.raises(DefinitionError, match="out of B"):

        class Order(Base):
            back = None  # type: ignore[assignment]


def test_mixins_bring_hooks_before_or_after_in_the_order_of_the_bases() -> None:
    class Risk:
        @before_transition
        def risk(self, old: State, new: State) -> None: ...

    class Mail:
        @after_transition(State.B)
        def mail(self, old: State, new: State) -> None: ...

    class Order(Risk, Mail, Base): ...

    class Other(Base, Risk, Mail): ...

    assert steps(Order) == ["first", "risk", "go", "charge", "audit", "mail"]
    assert steps(Other) == ["risk", "first", "go", "charge", "mail", "audit"]


def test_of_two_bases_the_nearer_one_has_the_last_word() -> None:
    class Left(Base):
        @on_enter(State.A)
        def charge(self, old: State, new: State) -> None: ...

    class Right(Base):
        charge = None  # type: ignore[assignment]

        @on_enter(State.B)
        def right(self, old: State, new: State) -> None: ...

    class Both(Left, Right): ...

    assert steps(Both) == ["first", "go", "right", "audit"]
    assert steps(Both, State.B, Back) == ["first", "back", "charge", "audit"]


def test_a_subclass_cannot_change_the_states() -> None:
    class Other(Enum):
        X = 1

    with pytest.raises(DefinitionError, match=r"State\.[AB].*member of Other"):

        class Order(Base, Machine[Other]): ...  # type: ignore[misc]


StateT = TypeVar("StateT", bound=Enum)
PlainT = TypeVar("PlainT")


def test_a_base_may_leave_the_states_open() -> None:
    class Audited(Machine[StateT], Generic[StateT]):
        seen: int = 0

        @after_transition
        def audit(self, old: StateT, new: StateT) -> None: ...

    class Order(Audited[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Go) -> None: ...

    with pytest.raises(DefinitionError, match="can live"):
        definition_of(Audited)
    assert steps(Order) == ["go", "audit"]
    assert list(Order.model_fields) == ["seen"]


def test_a_hook_in_an_open_base_may_not_name_states_of_another_enum() -> None:
    class Audited(Machine[StateT], Generic[StateT]):
        @on_enter(elsewhere.Light.ON)
        def audit(self, old: StateT, new: StateT) -> None: ...

    with pytest.raises(DefinitionError, match=r"Order\.audit"):

        class Order(Audited[State], initial=State.A): ...


@pytest.mark.parametrize("module", [elsewhere, elsewhere_as_text])
def test_the_names_in_a_base_mean_what_they_mean_in_its_module(module: Any) -> None:
    class Lamp(module.Glowing, module.Lamp, initial=module.Light.OFF):  # type: ignore[misc, name-defined]
        extra: int = 0

    choices = definition_of(Lamp).states[module.Light.OFF].choices
    assert list(choices) == [module.Switch]
    assert "shine" in steps(Lamp, module.Light.OFF, module.Switch)


def test_the_names_in_an_abstract_base_mean_what_they_mean_in_its_module() -> None:
    class Lamp(
        elsewhere_as_text.Base, initial=elsewhere_as_text.Light.OFF, final=(elsewhere_as_text.Light.ON,)
    ): ...

    assert list(definition_of(Lamp).states[elsewhere_as_text.Light.OFF].choices) == [elsewhere_as_text.Switch]


def test_a_local_name_hides_one_of_the_module() -> None:
    class Go(Event[int]): ...

    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Go) -> int:
            return 1

    class Further(Order): ...

    assert list(definition_of(Order).states[State.A].choices) == [Go]
    assert list(definition_of(Further).states[State.A].choices) == [Go]


def test_an_event_may_be_defined_inside_the_machine_and_annotated_as_text() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        class Pay(Event[int]): ...

        @transition(State.A, to=State.B)
        def pay(self, event: Pay) -> int:
            return 1

    assert list(definition_of(Order).states[State.A].choices) == [Order.Pay]


def test_a_method_under_another_decorator_keeps_its_signature_and_its_marks() -> None:
    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        @logged
        async def go(self, event: Go) -> None: ...

        @logged
        @on_enter(State.B)
        def enter(self, old: State, new: State, event: Go) -> None: ...

        enter = logged(enter)

    edge: Any = definition_of(Order).states[State.A].choices[Go][0]
    assert [(step.name, step.kind, step.is_async) for step in edge.steps] == [
        ("go", "body", True),
        ("enter", "enter", False),
    ]


def test_a_cooperative_base_gets_its_own_class_arguments() -> None:
    class Named:
        nickname = ""

        def __init_subclass__(cls, nickname: str = "", **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            cls.nickname = nickname

    class Order(Base, Named, nickname="o"): ...

    assert Order.nickname == "o"
    with pytest.raises(DefinitionError, match="nick"):

        class Other(Base, Named, nick="o"): ...
