"""C33: a definition that cannot be meant is an error when the class is created; it names class, member and remedy."""

from __future__ import annotations

import functools
from enum import Enum, Flag, StrEnum, auto
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pytest
from pydantic import BaseModel, ConfigDict, with_config
from typing_extensions import TypedDict

from actorfsm import (
    STAY,
    ActorSystem,
    DefinitionError,
    Directive,
    Event,
    InvalidData,
    Machine,
    MailboxPolicy,
    Redelivery,
    RestartPolicy,
    Spawn,
    TransitionRequested,
    after_transition,
    before_transition,
    on_enter,
    on_exit,
    postpone,
    transition,
)
from actorfsm.machine.machine import definition_of

if TYPE_CHECKING:
    from collections.abc import Callable

    class OnlyForCheckers(Event): ...


pytestmark = pytest.mark.rule("C33")


class State(StrEnum):
    A = auto()
    B = auto()


class Twin(StrEnum):
    """Its members equal those of `State`."""

    A = auto()
    B = auto()


class Three(Enum):
    A = 1
    B = 2
    C = 3


class Go(Event):
    n: int = 0


class Back(Event): ...


class Count(Event[int]): ...


class Float(Event[float]): ...


def yes(machine: Any, event: Any) -> bool:
    return True


def unreachable() -> None:
    class Order(Machine[Three], initial=Three.A, final=(Three.B, Three.C)):
        @transition(Three.A, to=Three.B)
        def go(self, event: Go) -> None: ...


def dead_end() -> None:
    class Order(Machine[State], initial=State.A):
        @transition(State.A, to=State.B)
        def go(self, event: Go) -> None: ...


def dead_end_that_stays() -> None:
    class Order(Machine[State], initial=State.A):
        @transition(State.A, to=State.B)
        def go(self, event: Go) -> None: ...

        @transition(State.B, to=STAY)
        def stay(self, event: Go) -> None: ...


def out_of_final() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Go) -> None: ...

        @transition(State.B, to=State.A)
        def back(self, event: Back) -> None: ...


def postponed_in_final() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @postpone(State.B)
        @transition(State.A, to=State.B)
        def go(self, event: Go) -> None: ...


def unguarded_before_another() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Go) -> None: ...

        @transition(State.A, to=STAY, when=yes)
        def stay(self, event: Go) -> None: ...


def same_guard_twice() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B, when=yes)
        def go(self, event: Go) -> None: ...

        @transition(State.A, to=STAY, when=lambda machine, event: False)
        def between(self, event: Go) -> None: ...

        @transition(State.A, to=STAY, when=yes)
        def stay(self, event: Go) -> None: ...


def postponed_twice() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @postpone(State.A)
        @postpone(State.A, Back)
        @transition(State.A, to=State.B, when=yes)
        def go(self, event: Go) -> None: ...

        @postpone(State.A, Back)
        @transition(State.A, to=State.B, when=yes)
        def back(self, event: Back) -> None: ...


def postponed_although_always_taken() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @postpone(State.A)
        @transition(State.A, to=State.B)
        def go(self, event: Go) -> None: ...


def same_request_twice() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Go | TransitionRequested) -> None: ...

        @transition(State.A, to=State.B, when=yes)
        def again(self, event: TransitionRequested) -> None: ...


def postponed_request_twice() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @postpone(State.A)
        @postpone(State.A, TransitionRequested)
        @transition(State.A, to=State.B)
        def go(self, event: TransitionRequested) -> None: ...


def hook_of_another_enum() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Go) -> None: ...

        @on_enter(Twin.B)
        def enter(self, old: State, new: State) -> None: ...


def source_of_another_enum() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(Twin.A, to=State.B)
        def go(self, event: Go) -> None: ...


def target_of_another_enum() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=Twin.B)
        def go(self, event: Go) -> None: ...


def postponed_in_another_enum() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @postpone(Twin.A)
        @transition(State.A, to=State.B)
        def go(self, event: Go) -> None: ...


def initial_of_another_enum() -> None:
    class Order(Machine[State], initial=Twin.A): ...


def initial_as_text() -> None:
    class Order(Machine[State], initial="a"): ...  # type: ignore[arg-type]


def final_of_another_enum() -> None:
    class Order(Machine[State], initial=State.A, final=(Twin.B,)): ...


def final_alone() -> None:
    class Order(Machine[State], initial=State.A, final=State.B): ...  # type: ignore[arg-type]


class Rights(Flag):
    READ = auto()
    WRITE = auto()


def two_flags_at_once() -> None:
    class Order(Machine[Rights], initial=Rights.READ | Rights.WRITE): ...


def states_not_enum() -> None:
    class Order(Machine[int], initial=State.A): ...  # type: ignore[type-var]


def states_as_text() -> None:
    class Order(Machine["State"], initial=State.A): ...


def states_missing() -> None:
    class Order(Machine, initial=State.A): ...  # type: ignore[type-arg]


def birth_that_stays() -> None:
    class Order(Machine[State], final=(State.A, State.B)):
        @transition(to=STAY)
        def born(self, event: Go) -> None: ...


def exit_hook_of_a_state_never_left() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Go) -> None: ...

        @on_exit(State.B)
        def leave(self, old: State, new: State) -> None: ...


def no_arguments() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self) -> None: ...


def two_arguments() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Go, more: int) -> None: ...


def body_with_stars() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Go, *more: int) -> None: ...


def body_with_keywords() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, *, event: Go) -> None: ...


def hook_with_the_event_by_name() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Go) -> None: ...

        @on_enter(State.B)
        def look(self, old: State, new: State, *, event: Go) -> None: ...


def generator_body() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Go) -> Any:
            yield


def async_generator_hook() -> None:
    class Order(Machine[State], initial=State.A):
        @before_transition
        async def look(self, old: State, new: State) -> Any:
            yield


def hook_of_one_argument() -> None:
    class Order(Machine[State], initial=State.A):
        @before_transition
        def look(self, old: State) -> None: ...


def hook_of_four_arguments() -> None:
    class Order(Machine[State], initial=State.A):
        @before_transition
        def look(self, old: State, new: State, event: Event[Any], more: int) -> None: ...


def body_without_annotation() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event) -> None: ...


def hook_without_annotation() -> None:
    class Order(Machine[State], initial=State.A):
        @before_transition
        def look(self, old: State, new: State, event) -> None: ...


def annotation_not_an_event() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: int) -> None: ...


def body_for_every_event() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Event) -> None: ...


def annotation_only_for_checkers() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: OnlyForCheckers) -> None: ...


def annotation_that_is_no_python() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: "Go |") -> None: ...  # noqa: F722


def hook_that_forgets_an_event() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Go) -> None: ...

        @transition(State.A, to=State.B)
        def back(self, event: Back) -> None: ...

        @on_enter(State.B)
        def enter(self, old: State, new: State, event: Go) -> None: ...


def hook_that_forgets_the_spawn() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Go) -> None: ...

        @on_enter(State.A)
        def enter(self, old: State, new: State, event: Go) -> None: ...


def after_hook_that_forgets_an_event() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Go) -> None: ...

        @after_transition
        def tell_about(self, old: State, new: State, event: Go) -> None: ...


def wrong_reply() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Count) -> str:
            return ""


def reply_to_an_event_without() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Go) -> int:
            return 1


def reply_that_is_missing() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Count) -> None: ...


def reply_that_cannot_be_resolved() -> None:
    class Lost(Event["Nowhere"]): ...  # type: ignore[name-defined]

    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Lost) -> Any: ...


def reply_that_cannot_be_checked() -> None:
    class Odd(Event[Literal[()]]): ...  # type: ignore[valid-type]

    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Odd) -> Any: ...


class Unknown:
    """Nothing that pydantic knows."""


class Parts(TypedDict):
    """Its first part is known to type checkers only."""

    part: OnlyForCheckers


def reply_with_parts_only_for_checkers() -> None:
    class Odd(Event[Parts]): ...

    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Odd) -> Any: ...


def reply_whose_own_configuration_is_wrong() -> None:
    @with_config(ConfigDict(title="things"))
    class Things(TypedDict):
        thing: Unknown

    class Odd(Event[Things]): ...

    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Odd) -> Any: ...


def async_guard() -> None:
    async def ask(machine: Any, event: Any) -> bool:
        return True

    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B, when=ask)  # type: ignore[arg-type]
        def go(self, event: Go) -> None: ...


def async_guard_object() -> None:
    class Ask:
        async def __call__(self, machine: Any, event: Any) -> bool:
            return True

    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B, when=Ask())  # type: ignore[arg-type]
        def go(self, event: Go) -> None: ...


def generator_guard() -> None:
    def count(machine: Any, event: Any) -> Any:
        yield True

    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B, when=count)
        def go(self, event: Go) -> None: ...


def guard_as_text() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B, when="yes")  # type: ignore[arg-type]
        def go(self, event: Go) -> None: ...


def guard_of_one_argument() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B, when=lambda machine: True)  # type: ignore[misc, arg-type]
        def go(self, event: Go) -> None: ...


def data_named_state() -> None:
    class Order(Machine[State], initial=State.A):
        state: int = 0


def data_named_id_in_a_subclass() -> None:
    class Base(Machine[State], initial=State.A): ...

    class Order(Base):
        id: str = ""


def method_named_tell() -> None:
    class Order(Machine[State], initial=State.A):
        def tell(self) -> None: ...


def method_of_the_future() -> None:
    class Order(Machine[State], initial=State.A):
        def start_timer(self) -> None: ...


def mixin_that_asks() -> None:
    class Asking:
        def ask(self) -> None: ...

    class Order(Asking, Machine[State], initial=State.A): ...


def model_with_a_state() -> None:
    class Stateful(BaseModel):
        state: int = 0

    class Order(Stateful, Machine[State], initial=State.A): ...  # type: ignore[misc]


def private_attribute() -> None:
    class Order(Machine[State], initial=State.A):
        _seen: int = 0


def cached_attribute() -> None:
    class Order(Machine[State], initial=State.A):
        @functools.cached_property
        def total(self) -> int:
            return 1


def undeclared_data() -> None:
    class Order(Machine[State], initial=State.A):
        model_config = ConfigDict(extra="allow")


def frozen_data() -> None:
    class Order(Machine[State], initial=State.A):
        model_config = ConfigDict(frozen=True)


def enter_without_parentheses() -> None:
    class Order(Machine[State], initial=State.A):
        @on_enter  # type: ignore[arg-type]
        def charge(self, old: State, new: State) -> None: ...


def exit_for_a_list() -> None:
    @on_exit([State.A])  # type: ignore[arg-type]
    def charge(self: Any, old: State, new: State) -> None: ...


def enter_for_a_text() -> None:
    @on_enter("b")  # type: ignore[arg-type]
    def charge(self: Any, old: State, new: State) -> None: ...


def after_for_a_text() -> None:
    @after_transition("b")
    def charge(self: Any, old: State, new: State) -> None: ...


def before_for_a_state() -> None:
    @before_transition(State.A)  # type: ignore[arg-type]
    def charge(self: Any, old: State, new: State) -> None: ...


def source_as_text() -> None:
    @transition("a", to=State.B)  # type: ignore[arg-type]
    def go(self: Any, event: Go) -> None: ...


def target_as_text() -> None:
    @transition(State.A, to="b")  # type: ignore[arg-type]
    def go(self: Any, event: Go) -> None: ...


def postpone_without_parentheses() -> None:
    class Order(Machine[State], initial=State.A):
        @postpone  # type: ignore[arg-type]
        def go(self, event: Go) -> None: ...


def postpone_without_a_state() -> None:
    @postpone(Go)
    def go(self: Any, event: Go) -> None: ...


def postpone_what_is_no_event() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @postpone(State.A, int)  # type: ignore[arg-type]
        @transition(State.A, to=State.B)
        def go(self, event: Go) -> None: ...


def postpone_the_enum() -> None:
    @postpone(State.A, State)  # type: ignore[arg-type]
    def go(self: Any, event: Go) -> None: ...


def hook_above_a_static_method() -> None:
    class Order(Machine[State], initial=State.A):
        @before_transition
        @staticmethod
        def look(old: State, new: State) -> None: ...


def transition_above_a_property() -> None:
    class Order(Machine[State], initial=State.A):
        @transition(State.A, to=State.B)
        @property
        def go(self) -> None: ...


def postpone_above_a_class_method() -> None:
    class Order(Machine[State], initial=State.A):
        @postpone(State.A)
        @classmethod
        def go(cls, event: Go) -> None: ...


def static_method_around_a_hook() -> None:
    class Order(Machine[State], initial=State.A):
        @staticmethod
        @before_transition
        def look(old: State, new: State) -> None: ...


def property_around_a_hook() -> None:
    class Order(Machine[State], initial=State.A):
        @property
        @before_transition
        def look(self) -> None: ...


def partial_around_a_hook() -> None:
    @before_transition
    def look(self: Any, old: State, new: State) -> None: ...

    class Mixin:
        looking = functools.partialmethod(look)

    class Order(Mixin, Machine[State], initial=State.A): ...


def two_hooks_of_one_name() -> None:
    class Order(Machine[State], initial=State.A):
        @on_enter(State.A)
        def note(self, old: State, new: State) -> None: ...

        @on_enter(State.B)
        def note(self, old: State, new: State) -> None: ...  # type: ignore[no-redef]  # noqa: F811


def before_hook_with_a_timeout_of_zero() -> None:
    @before_transition(timeout=0)
    def note(self: Any, old: State, new: State) -> None: ...


def hook_with_a_timeout_of_zero() -> None:
    @on_enter(State.A, timeout=0)
    def note(self: Any, old: State, new: State) -> None: ...


def body_with_an_endless_timeout() -> None:
    @transition(State.A, to=State.B, timeout=float("nan"))
    def go(self: Any, event: Go) -> None: ...


def unknown_option() -> None:
    class Order(Machine[State], inital=State.A): ...  # type: ignore[call-arg]


def hook_timeout_below_zero() -> None:
    class Order(Machine[State], initial=State.A, hook_timeout=-1): ...


def no_room_to_postpone() -> None:
    class Order(Machine[State], initial=State.A, postpone_limit=0): ...


def directive_as_text() -> None:
    class Order(Machine[State], initial=State.A, on_failure={ValueError: "restart"}): ...  # type: ignore[dict-item]


def failure_of_no_class() -> None:
    class Order(Machine[State], initial=State.A, on_failure={"ValueError": Directive.STOP}): ...  # type: ignore[dict-item]


def failure_of_another_class() -> None:
    class Order(Machine[State], initial=State.A, on_failure={int: Directive.STOP}): ...  # type: ignore[dict-item]


WRONG: list[tuple[Callable[[], None], tuple[str, ...]]] = [
    (unreachable, ("Order", "leads to C", "add one or remove")),
    (dead_end, ("Order", "out of B", "final=(...)")),
    (dead_end_that_stays, ("Order", "out of B", "final=(...)")),
    (out_of_final, ("Order.back", "final state B", "take the state out")),
    (postponed_in_final, ("Order", "B is final", "postponed")),
    (unguarded_before_another, ("Order", "in A", "go takes every Go", "stay", "when=...")),
    (same_guard_twice, ("Order", "in A", "go takes every Go", "stay", "when=...")),
    (postponed_twice, ("Order", "in A", "@postpone", "Back")),
    (postponed_although_always_taken, ("Order", "in A", "go", "@postpone", "Go")),
    (same_request_twice, ("Order", "in A", "go takes every TransitionRequested", "again")),
    (postponed_request_twice, ("Order", "in A", "@postpone", "TransitionRequested")),
    (hook_of_another_enum, ("Order.enter", "Twin.B", "member of State")),
    (source_of_another_enum, ("Order.go", "Twin.A", "member of State")),
    (target_of_another_enum, ("Order.go", "Twin.B", "member of State")),
    (postponed_in_another_enum, ("Order.go", "Twin.A", "member of State")),
    (initial_of_another_enum, ("initial= of Order", "Twin.A", "member of State")),
    (initial_as_text, ("initial= of Order", "'a'", "member of State")),
    (final_of_another_enum, ("final=(...) of Order", "Twin.B", "member of State")),
    (final_alone, ("Order", "final=(b,)")),
    (two_flags_at_once, ("initial= of Order", "READ|WRITE", "member of Rights")),
    (states_not_enum, ("Order", "Enum class", "int")),
    (states_as_text, ("Order", "Enum class", "'State'", "before")),
    (states_missing, ("Order", "Machine[States]")),
    (birth_that_stays, ("Order.born", "birth", "STAY")),
    (exit_hook_of_a_state_never_left, ("Order.leave", "B is never left", "remove it or add")),
    (no_arguments, ("Order.go", "(self, event: SomeEvent)")),
    (two_arguments, ("Order.go", "(self, event: SomeEvent)")),
    (body_with_stars, ("Order.go", "positional", "*more")),
    (body_with_keywords, ("Order.go", "(self, event: SomeEvent)")),
    (hook_with_the_event_by_name, ("Order.look", "'event'", "before the *")),
    (generator_body, ("Order.go", "without yield")),
    (async_generator_hook, ("Order.look", "without yield")),
    (hook_of_one_argument, ("Order.look", "(self, old, new)")),
    (hook_of_four_arguments, ("Order.look", "(self, old, new)")),
    (body_without_annotation, ("Order.go", "annotate 'event'")),
    (hook_without_annotation, ("Order.look", "annotate 'event'")),
    (annotation_not_an_event, ("Order.go", "'event'", "int", "not an event class")),
    (body_for_every_event, ("Order.go", "annotate 'event'")),
    (annotation_only_for_checkers, ("Order.go", "'event'", "OnlyForCheckers", "not under TYPE_CHECKING")),
    (annotation_that_is_no_python, ("Order.go", "'event'", "cannot be resolved")),
    (hook_that_forgets_an_event, ("Order.enter", "Back can lead there", "add it")),
    (hook_that_forgets_the_spawn, ("Order.enter", "Spawn can lead there", "add it")),
    (after_hook_that_forgets_an_event, ("Order.tell_about", "Spawn can lead there", "add it")),
    (wrong_reply, ("Order.go", "str", "Count declares int", "change one")),
    (reply_to_an_event_without, ("Order.go", "int", "Go declares no reply")),
    (reply_that_is_missing, ("Order.go", "NoneType", "Count declares int")),
    (reply_that_cannot_be_resolved, ("Lost", "Nowhere", "define the class before")),
    (reply_that_cannot_be_checked, ("reply of Odd", "Literal")),
    (reply_with_parts_only_for_checkers, ("reply of Odd", "Parts", "'OnlyForCheckers' is not defined")),
    (reply_whose_own_configuration_is_wrong, ("reply of Odd", "Things", "declare a class")),
    (async_guard, ("Order.go", "guard ask is async", "before hook")),
    (async_guard_object, ("Order.go", "guard Ask is async", "before hook")),
    (generator_guard, ("Order.go", "guard count has a yield", "True or False")),
    (guard_as_text, ("Order.go", "when=", "plain function")),
    (guard_of_one_argument, ("Order.go", "(machine, event)")),
    (data_named_state, ("Order.state", "rename the field")),
    (data_named_id_in_a_subclass, ("Order.id", "rename the field")),
    (method_named_tell, ("Order.tell", "rename the member")),
    (method_of_the_future, ("Order.start_timer", "rename the member")),
    (mixin_that_asks, ("Asking.ask", "rename the member")),
    (model_with_a_state, ("Order.state", "rename the field")),
    (private_attribute, ("Order._seen", "without the underscore")),
    (cached_attribute, ("Order.total", "use property")),
    (undeclared_data, ("Order.model_config", "extra=")),
    (frozen_data, ("Order.model_config", "frozen=")),
    (enter_without_parentheses, ("Order.charge", "@on_enter(STATE, ...)")),
    (exit_for_a_list, ("@on_exit(STATE, ...)",)),
    (enter_for_a_text, ("'b'", "@on_enter(STATE, ...)")),
    (after_for_a_text, ("'b'", "@after_transition(STATE, ...)")),
    (before_for_a_state, ("State.A", "@on_exit(STATE) or @on_enter(STATE)")),
    (source_as_text, ("'a'", "@transition(STATE, ...)")),
    (target_as_text, ("'b'", "@transition(STATE, ...)")),
    (postpone_without_parentheses, ("Order.go", "@postpone(STATE, ...)")),
    (postpone_without_a_state, ("@postpone(STATE, ...)", "at least one state")),
    (postpone_what_is_no_event, ("Order.go", "@postpone", "int")),
    (postpone_the_enum, ("State", "@postpone(STATE, ...)")),
    (hook_above_a_static_method, ("Order.look", "@before_transition stands above a method")),
    (transition_above_a_property, ("@transition(...) stands above a method",)),
    (postpone_above_a_class_method, ("Order.go", "@postpone(...) stands above a method")),
    (static_method_around_a_hook, ("Order.look", "staticmethod", "on top")),
    (property_around_a_hook, ("Order.look", "property", "on top")),
    (partial_around_a_hook, ("Mixin.looking", "partialmethod", "on top")),
    (two_hooks_of_one_name, ("Order.note", "defined twice", "its own name")),
    (hook_with_a_timeout_of_zero, ("@on_enter(timeout=0)", "above 0")),
    (before_hook_with_a_timeout_of_zero, ("@before_transition(timeout=0)", "above 0")),
    (body_with_an_endless_timeout, ("@transition(timeout=nan)", "above 0")),
    (unknown_option, ("Order", "inital", "initial")),
    (hook_timeout_below_zero, ("Order", "hook_timeout=-1", "above 0")),
    (no_room_to_postpone, ("Order", "postpone_limit=0", "above 0")),
    (directive_as_text, ("Order", "on_failure[ValueError]", "'restart'", "Directive")),
    (failure_of_no_class, ("Order", "on_failure", "'ValueError'", "classes of exceptions")),
    (failure_of_another_class, ("Order", "on_failure", "int", "classes of exceptions")),
]


@pytest.mark.parametrize(("define", "words"), WRONG, ids=[define.__name__ for define, _ in WRONG])
def test_a_definition_that_cannot_be_meant_is_refused_by_name(
    define: Callable[[], None], words: tuple[str, ...]
) -> None:
    with pytest.raises(DefinitionError) as caught:
        define()
    said = str(caught.value)
    for word in words:
        assert word in said


def test_a_forgotten_target_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="to"):
        transition(State.A)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "make",
    [
        lambda: MailboxPolicy(capacity=0),
        lambda: MailboxPolicy(waiting=-1),
        lambda: MailboxPolicy(wait_timeout_s=float("nan")),
        lambda: MailboxPolicy(overflow="wait"),  # type: ignore[arg-type]
        lambda: RestartPolicy(max_restarts=-1),
        lambda: RestartPolicy(within_s=0),
        lambda: RestartPolicy(jitter=1),
        lambda: RestartPolicy(first_delay_s=2, max_delay_s=1),
        lambda: RestartPolicy(stable_after_s=-1),
        lambda: Redelivery(attempts=-1),
        lambda: Redelivery(first_delay_s=-1),
        lambda: Redelivery(first_delay_s=9),
    ],
)
def test_policies_with_figures_that_cannot_be_meant_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(DefinitionError):
        make()


def test_the_most_specific_directive_wins_and_none_means_resume() -> None:
    class Order(
        Machine[State],
        initial=State.A,
        on_failure={Exception: Directive.RESTART, LookupError: Directive.STOP},
    ): ...

    options = definition_of(Order).options
    assert options.directive_for(KeyError()) is Directive.STOP
    assert options.directive_for(ValueError()) is Directive.RESTART
    assert options.directive_for(SystemExit()) is Directive.RESUME


# -- what is right, although it looks odd --------------------------------------------------------------------------


def test_a_machine_of_one_state_needs_no_way_out_of_it() -> None:
    class Only(Enum):
        OPEN = 1

    class Ledger(Machine[Only], initial=Only.OPEN):
        @transition(Only.OPEN, to=STAY)
        def count(self, event: Count) -> int:
            return 1

    assert definition_of(Ledger).states[Only.OPEN].allowed == ("Count",)


def test_a_machine_of_one_state_that_takes_nothing_is_a_dead_end() -> None:
    class Only(Enum):
        OPEN = 1

    with pytest.raises(DefinitionError, match="out of OPEN"):

        class Ledger(Machine[Only]):
            @transition(to=Only.OPEN)
            def born(self, event: Go) -> None: ...


def test_a_float_may_be_answered_with_an_int_as_for_type_checkers() -> None:
    class Scale(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def weigh(self, event: Float) -> int:
            return 1

    reply = definition_of(Scale).events[Float].reply
    assert reply.check(1) == 1
    assert reply.check(1.5) == 1.5


def test_a_body_without_return_annotation_or_one_that_cannot_be_resolved_is_checked_when_it_returns() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=STAY)
        def count(self, event: Count):
            return 1

        @transition(State.A, to=State.B)
        def go(self, event: Go) -> OnlyForCheckers: ...  # type: ignore[empty-body]

        @transition(State.A, to=STAY)
        def anything(self, event: Back) -> Any: ...

    assert {spec.name for spec in definition_of(Order).events.values()} == {"Count", "Go", "Back", "Spawn"}


def test_a_hook_may_take_every_event_as_event_any_object_or_a_union() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def go(self, event: Go | Back) -> None: ...

        @before_transition
        def one(self, old: State, new: State, event: Event) -> None: ...

        @on_exit()
        def two(self, old: State, new: State, event: Any) -> None: ...

        @on_enter(timeout=2)
        def three(self, old: State, new: State, event: object) -> None: ...

        @after_transition(State.B)
        def four(self, old: State, new: State, event: Go | Back) -> None: ...

        @after_transition(detached=True)
        def five(self, old: State, new: State, event: Go | Back | Spawn) -> None: ...

        @before_transition(timeout=3)
        def six(self, old: State, new: State, event: Event[Any]) -> None: ...

    edge = definition_of(Order).states[State.A].choices[Go][0]
    assert [(step.name, step.kind, step.arguments) for step in edge.steps] == [
        ("one", "before", 3),
        ("six", "before", 3),
        ("two", "exit", 3),
        ("go", "body", 1),
        ("three", "enter", 3),
    ]
    assert [step.timeout_s for step in edge.steps] == [30, 3, 30, 30, 2]
    assert [step.name for step in edge.afters] == ["four"]
    assert [step.name for step in edge.detached] == ["five"]
    assert repr(edge) == "<go: A -> B>"
    assert repr(edge.source) == "<state A>"


def test_replies_that_isinstance_cannot_decide_are_checked_by_their_annotation() -> None:
    class Shape(TypedDict):
        sides: int

    class Drawable(Protocol):
        def draw(self) -> None: ...

    class Widget: ...

    class AskShape(Event[Shape]): ...

    class AskDrawable(Event[Drawable]): ...

    class AskWidgets(Event[list[Widget]]): ...

    class AskAnything(Event[Any]): ...

    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=STAY)
        def shape(self, event: AskShape) -> Shape:
            return {"sides": 3}

        @transition(State.A, to=STAY)
        def drawable(self, event: AskDrawable) -> Any: ...

        @transition(State.A, to=STAY)
        def widgets(self, event: AskWidgets) -> list[Widget]:
            return []

        @transition(State.A, to=State.B)
        def anything(self, event: AskAnything) -> object: ...

    replies = {spec.name: spec.reply for spec in definition_of(Order).events.values()}
    assert replies["AskShape"].check({"sides": 3}) == {"sides": 3}
    assert len(replies["AskWidgets"].check([Widget()])) == 1
    assert replies["AskDrawable"].check(7) == 7
    assert replies["AskAnything"].check([1]) == [1]
    for name, wrong in {"AskShape": {"sides": "many"}, "AskWidgets": [1]}.items():
        with pytest.raises(Exception, match="where the event declares"):
            replies[name].check(wrong)


def test_a_reply_that_brings_its_own_configuration_inside_annotated_is_checked_too() -> None:
    from typing import Annotated

    class Receipt(BaseModel):
        number: int

    class Pay(Event[Annotated[Receipt, "the receipt"]]): ...

    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def pay(self, event: Pay) -> Receipt:
            return Receipt(number=1)

    reply = definition_of(Order).events[Pay].reply
    assert reply.check(Receipt(number=1)) == Receipt(number=1)
    with pytest.raises(Exception, match="replied int"):
        reply.check(1)


def test_a_machine_without_transitions_goes_from_any_state_to_any() -> None:
    class Order(Machine[Three], initial=Three.A, final=(Three.C,)):
        @on_exit(Three.A)
        def leave(self, old: Three, new: Three, event: TransitionRequested) -> None: ...

    definition = definition_of(Order)
    assert definition.any_to_any
    assert [edge.target.name for edge in definition.states[Three.B].choices[TransitionRequested]] == [
        "A",
        "B",
        "C",
    ]
    assert definition.states[Three.C].choices == {}


def test_a_builtin_without_a_signature_is_taken_as_a_guard_as_it_is() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B, when=max)  # type: ignore[arg-type]
        def go(self, event: Go) -> None: ...

    assert definition_of(Order).states[State.A].choices[Go][0].guard_name == "max"


def test_stay_is_shown_by_its_name() -> None:
    assert repr(STAY) == "STAY"


@pytest.mark.rule("C10")
def test_a_reply_of_another_class_is_refused() -> None:
    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=STAY)
        def count(self, event: Count) -> int:
            return 1

        @transition(State.A, to=State.B)
        def go(self, event: Go) -> None: ...

    replies = {spec.name: spec.reply for spec in definition_of(Order).events.values()}
    assert (replies["Count"].check(1), replies["Go"].check(None)) == (1, None)
    with pytest.raises(InvalidData, match="replied str, where the event declares int"):
        replies["Count"].check("1")
    with pytest.raises(InvalidData, match="replied int, where the event declares no reply"):
        replies["Go"].check(1)


# -- several classes ------------------------------------------------------------------------------------------------


def test_a_class_without_initial_state_and_births_is_abstract() -> None:
    class Base(Machine[State]):
        @on_enter(State.B)
        def enter(self, old: State, new: State) -> None: ...

    class Bare(Machine):  # type: ignore[type-arg]
        n: int = 0

    for abstract in (Base, Bare, Machine):
        with pytest.raises(DefinitionError, match=r"initial=STATE or a birth transition"):
            definition_of(abstract)
        with pytest.raises(DefinitionError, match=abstract.__name__):
            ActorSystem(abstract)
    with pytest.raises(DefinitionError, match="int"):
        ActorSystem(int)  # type: ignore[arg-type]


def test_two_classes_of_a_system_may_not_have_one_name_or_one_birth() -> None:
    def order() -> type[Machine[State]]:
        class Order(Machine[State], final=(State.A, State.B)):
            @transition(to=State.A)
            def born(self, event: Go) -> None: ...

            @transition(to=State.B)
            def born_b(self, event: Back) -> None: ...

        return Order

    class Ledger(Machine[State], final=(State.A, State.B)):
        @transition(to=State.A)
        def born(self, event: Go) -> None: ...

        @transition(to=State.B)
        def born_b(self, event: Count) -> int:
            return 1

    with pytest.raises(DefinitionError, match="two machine classes are called Order: rename one"):
        ActorSystem(order(), order())
    with pytest.raises(
        DefinitionError, match=r"Go gives birth to Order and to Ledger.*use two event classes"
    ):
        ActorSystem(order(), Ledger)


def test_two_classes_that_are_spawned_do_not_contradict_each_other() -> None:
    class Order(Machine[State], initial=State.A): ...

    class Ledger(Machine[State], initial=State.A): ...

    ActorSystem(Order, Ledger)


@pytest.mark.parametrize(
    "name",
    [
        *("id", "state", "services", "now", "idempotency_key", "tell", "ask", "next_event", "stop"),
        *("start_timer", "cancel_timer", "start_job", "watch", "unwatch"),
    ],
)
def test_no_field_and_no_method_takes_a_name_that_a_machine_has_itself(name: str) -> None:
    with pytest.raises(DefinitionError, match=rf"^Order\.{name}: .* rename the field"):
        type(Machine)("Order", (Machine,), {"__module__": __name__, "__annotations__": {name: int}})
    with pytest.raises(DefinitionError, match=rf"^Order\.{name}: .* rename the member"):
        type(Machine)("Order", (Machine,), {"__module__": __name__, name: lambda self: None})


def test_states_and_transitions_are_shown_by_their_names() -> None:
    class Order(Machine[State], initial=State.A): ...

    root = definition_of(Order).root
    born = root.choices[Spawn][0]
    assert (repr(root), repr(root.children)) == ("<state (unborn)>", "[<state A>, <state B>]")
    assert repr(born) == "<spawn: (unborn) -> A>"
    assert [repr(edge) for edge in definition_of(Order).states[State.B].choices[TransitionRequested]] == [
        "<request_transition: B -> A>",
        "<request_transition: B -> B>",
    ]


def test_a_method_that_is_no_state_is_named_and_not_shown_as_an_object() -> None:
    with pytest.raises(DefinitionError) as caught:
        enter_without_parentheses()
    assert str(caught.value).startswith("enter_without_parentheses.<locals>.Order.charge: not a state")


def test_a_reply_that_could_be_changed_is_copied_though_its_class_alone_decides() -> None:
    class AskList(Event[list]):  # type: ignore[type-arg]
        pass

    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def listed(self, event: AskList) -> list[Any]:
            return []

    reply = definition_of(Order).events[AskList].reply
    given = [1]
    assert (reply.check(given), reply.certain_class) == ([1], None)
    assert reply.check(given) is not given


def test_the_parts_of_a_reply_are_checked_as_they_are_and_not_converted() -> None:
    class AskNumbers(Event[list[int]]):
        pass

    class Order(Machine[State], initial=State.A, final=(State.B,)):
        @transition(State.A, to=State.B)
        def numbers(self, event: AskNumbers) -> list[int]:
            return []

    reply = definition_of(Order).events[AskNumbers].reply
    assert reply.check([1]) == [1]
    with pytest.raises(InvalidData, match="replied list, where the event declares"):
        reply.check(["1"])
