"""Selection is a table: from a state, an event and the answers of guards to what is done."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

import pytest

from actorfsm import (
    STAY,
    Event,
    HookFailed,
    Machine,
    TransitionRequested,
    Veto,
    Vetoed,
    on_enter,
    postpone,
    transition,
)
from actorfsm.machine.definition import Transition
from actorfsm.machine.machine import definition_of
from actorfsm.machine.selection import guards_that_refused, select

if TYPE_CHECKING:
    from collections.abc import Callable


class State(Enum):
    NEW = 1
    SMALL = 2
    LARGE = 3


class Pay(Event):
    amount: int = 0


class HandOver(Event): ...


class Question(Event[str]): ...


def is_small(machine: Any, event: Any) -> bool:
    return bool(event.amount < 10)


def is_large(machine: Any, event: Any) -> bool:
    return bool(event.amount > 100)


class Answers:
    """A guard that answers as it is told."""

    def __init__(self) -> None:
        self.answer: Any = True

    def __call__(self, machine: Any, event: Any) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


answers = Answers()


class Order(Machine[State], initial=State.NEW):
    @postpone(State.NEW, HandOver)
    @transition(State.NEW, to=State.SMALL, when=is_small)
    def small(self, event: Pay) -> None: ...

    @transition(State.NEW, to=State.LARGE, when=is_large)
    def large(self, event: Pay) -> None: ...

    @transition(State.SMALL, to=STAY, when=is_small)
    def again(self, event: Pay) -> None: ...

    @transition(State.SMALL, to=State.NEW)
    def otherwise(self, event: Pay) -> None: ...

    @postpone(State.LARGE)
    @transition(State.LARGE, to=State.NEW, when=answers)
    def asked(self, event: Question) -> str:
        return ""


NODES = definition_of(Order).states


@pytest.mark.rule("C33")
@pytest.mark.parametrize(
    ("state", "event", "chosen", "refused"),
    [
        (State.NEW, Pay(amount=1), "small", ()),
        (State.NEW, Pay(amount=101), "large", ()),
        (State.NEW, Pay(amount=50), None, ("is_small", "is_large")),
        (State.NEW, HandOver(), "postponed", ()),
        (State.NEW, Question(), None, ()),
        (State.SMALL, Pay(amount=1), "again", ()),
        (State.SMALL, Pay(amount=50), "otherwise", ()),
        (State.SMALL, HandOver(), None, ()),
    ],
)
def test_the_first_choice_whose_guard_holds_is_taken_in_order_of_definition(
    state: State, event: Event[Any], chosen: str | None, refused: tuple[str, ...]
) -> None:
    choice = select(NODES[state], event, None)
    found = choice.name if isinstance(choice, Transition) else None if choice is None else "postponed"
    assert found == chosen
    if choice is None:
        assert guards_that_refused(NODES[state], event) == refused


@pytest.mark.rule("C6")
def test_an_event_whose_guards_say_no_is_postponed_where_that_is_declared() -> None:
    answers.answer = False
    assert not isinstance(select(NODES[State.LARGE], Question(), None), Transition | None)
    answers.answer = True
    assert isinstance(select(NODES[State.LARGE], Question(), None), Transition)


async def later() -> bool:
    return True


@pytest.mark.rule("C13")
@pytest.mark.parametrize("answer", [1, 0, "", None, [], later], ids=lambda answer: type(answer).__name__)
def test_a_guard_that_answers_neither_true_nor_false_is_a_failure_that_names_it(answer: Any) -> None:
    answers.answer = answer() if answer is later else answer
    with pytest.raises(HookFailed, match=r"the guard Answers returned .*not True or False") as caught:
        select(NODES[State.LARGE], Question(), None)
    assert caught.value.hook == "Answers"


@pytest.mark.rule("C13")
@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), StopIteration()], ids=repr)
def test_a_guard_that_raises_is_a_failure_that_names_it_and_keeps_the_cause(error: BaseException) -> None:
    answers.answer = error
    with pytest.raises(HookFailed) as caught:
        select(NODES[State.LARGE], Question(), None)
    assert (caught.value.hook, caught.value.__cause__) == ("Answers", error)


@pytest.mark.rule("C13")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_a_signal_that_reaches_a_guard_passes_through(error: BaseException) -> None:
    answers.answer = error
    with pytest.raises(type(error)) as caught:
        select(NODES[State.LARGE], Question(), None)
    assert caught.value is error


@pytest.mark.rule("C3")
def test_a_guard_that_raises_a_veto_is_named_in_it() -> None:
    answers.answer = Veto("not today")
    with pytest.raises(Veto) as caught:
        select(NODES[State.LARGE], Question(), None)
    assert (caught.value.by, caught.value.reason) == ("Answers", "not today")


@pytest.mark.rule("C3")
def test_what_a_guard_does_reaches_the_sender_with_the_guards_name(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    def grumpy(machine: Any, event: Pay) -> bool:
        if event.amount == 1:
            raise Veto("closed")
        if event.amount == 2:
            raise LookupError("nothing there")
        return 3  # type: ignore[return-value]

    class Shop(Machine[State], initial=State.NEW, final=(State.SMALL, State.LARGE)):
        @transition(State.NEW, to=State.SMALL, when=grumpy)
        def pay(self, event: Pay) -> None: ...

        @transition(State.NEW, to=State.LARGE)
        def hand_over(self, event: HandOver) -> None: ...

    async def scenario() -> None:
        async with system_of(Shop) as system:
            shop = await system.spawn(Shop, "shop")
            with pytest.raises(Vetoed) as vetoed:
                await shop.ask(Pay(amount=1))
            assert (vetoed.value.by, vetoed.value.reason) == ("grumpy", "closed")
            with pytest.raises(HookFailed, match="LookupError: nothing there") as failed:
                await shop.ask(Pay(amount=2))
            assert failed.value.hook == "grumpy"
            with pytest.raises(HookFailed, match="grumpy returned int") as odd:
                await shop.ask(Pay(amount=3))
            assert odd.value.hook == "grumpy"
            assert shop.snapshot().state is State.NEW

    sim(scenario)


# -- requests for a state -------------------------------------------------------------------------------------------


def may_grow(machine: Any, event: Any) -> bool:
    return isinstance(event, TransitionRequested)


class Grown(Machine[State], initial=State.NEW):
    @transition(State.NEW, to=State.SMALL)
    def to_small(self, event: Pay | TransitionRequested) -> None: ...

    @transition(State.NEW, State.SMALL, to=State.LARGE, when=may_grow)
    def to_large(self, event: TransitionRequested) -> None: ...

    @transition(State.LARGE, to=State.NEW, when=lambda machine, event: False)
    def never(self, event: TransitionRequested) -> None: ...

    @transition(State.LARGE, to=State.SMALL, when=lambda machine, event: event.to)
    def oddly(self, event: TransitionRequested) -> None: ...

    @transition(State.SMALL, to=State.NEW)
    def back(self, event: HandOver) -> None: ...

    @postpone(State.SMALL)
    @transition(State.NEW, to=STAY, when=lambda machine, event: False)
    def wait(self, event: TransitionRequested) -> None: ...

    @on_enter()
    def enter(self, old: State, new: State) -> None: ...


@pytest.mark.rule("C33")
@pytest.mark.parametrize(
    ("state", "to", "chosen", "refused"),
    [
        (State.NEW, State.SMALL, "to_small", ()),
        (State.NEW, State.LARGE, "to_large", ()),
        (State.NEW, State.NEW, None, ("may_grow", "<lambda>")),
        (State.SMALL, State.LARGE, "to_large", ()),
        (State.SMALL, State.NEW, "postponed", ()),
        (State.LARGE, State.NEW, None, ("<lambda>", "<lambda>")),
    ],
)
def test_a_request_for_a_state_takes_the_edge_that_leads_there_and_takes_requests(
    state: State, to: State, chosen: str | None, refused: tuple[str, ...]
) -> None:
    node, event = definition_of(Grown).states[state], TransitionRequested(to=to)
    choice = select(node, event, None)
    found = choice.name if isinstance(choice, Transition) else None if choice is None else "postponed"
    assert found == chosen
    if choice is None:
        assert guards_that_refused(node, event) == refused


@pytest.mark.rule("C13")
def test_the_guard_of_a_request_must_answer_true_or_false_too() -> None:
    with pytest.raises(HookFailed, match="<lambda> returned State"):
        select(definition_of(Grown).states[State.LARGE], TransitionRequested(to=State.SMALL), None)
