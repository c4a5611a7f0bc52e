"""The seed's own style: a machine is asked to go to a state, and a callback hears `(success, old, new)`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum, auto
from itertools import product
from typing import Any

import pytest

from actorfsm import (
    DefinitionError,
    Event,
    InvalidEvent,
    Machine,
    NoSuchMachine,
    Ref,
    SystemStopping,
    TransitionRequested,
    Unhandled,
    Veto,
    after_transition,
    before_transition,
    on_enter,
    on_exit,
    transition,
)
from tests.contract.paths import Path, Script, Style, at_rest, on_every_async_path, on_every_path, until


class State(StrEnum):
    CREATED = auto()
    PAYING = auto()
    SHIPPED = auto()
    CANCELLED = auto()


class Colour(StrEnum):
    CREATED = auto()
    PAYING = auto()


class Pay(Event): ...


def machine_of(style: Style, **options: Any) -> Any:
    class Order(Machine[State, Script], initial=State.CREATED, hook_timeout=1, **options):
        visits: int = 0

        @before_transition
        @style
        def check(self, old: State, new: State) -> Any:
            return self.services.play(f"check {old} {new}", self)

        @on_exit()
        @style
        def leave(self, old: State, new: State) -> Any:
            return self.services.play(f"leave {old}", self)

        @on_enter()
        @style
        def enter(self, old: State, new: State) -> Any:
            self.visits += 1
            return self.services.play(f"enter {new}", self)

        @after_transition
        @style
        def after(self, old: State, new: State) -> Any:
            return self.services.play(f"after {new}", self)

    return Order


ORDER = {style: machine_of(style) for style in Style}
FINAL = {style: machine_of(style, final=(State.SHIPPED, State.CANCELLED)) for style in Style}


@on_every_path
def test_a_machine_without_transitions_goes_from_any_state_to_any_other(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with path.system(ORDER[path.style], services=Script()) as system:
            for n, (old, new) in enumerate(product(State, State)):
                ref: Ref[Any] = await system.spawn(ORDER[path.style], f"o{n}")
                await ref.request_transition(old)
                heard: list[Any] = []
                outcome = await ref.request_transition(new, lambda *answer: heard.append(answer))  # noqa: B023
                assert (outcome.kind, outcome.old, outcome.new) == ("committed", old, new)
                await system.ask(f"o{n}", TransitionRequested(to=new))  # as an event, too
                await until(lambda: heard)  # noqa: B023
                assert heard == [(True, old, new)]
                assert ref.snapshot().state is new

    sim(scenario, seeds=[0])


@on_every_path
def test_requests_are_queued_at_once_and_handled_in_order(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        heard: list[Any] = []
        async with path.system(ORDER[path.style], services=Script()) as system:
            ref: Ref[Any] = await system.spawn(ORDER[path.style], "o")
            await at_rest(system)
            for state in (State.PAYING, State.SHIPPED, State.PAYING, State.CANCELLED):
                ref.request_transition(state, lambda *answer: heard.append(answer))
            assert (
                ref.snapshot().state is State.CREATED
            )  # nothing has happened yet: the sender is not blocked
            assert system.stats().queued == 4
        assert heard == [
            (True, State.CREATED, State.PAYING),
            (True, State.PAYING, State.SHIPPED),
            (True, State.SHIPPED, State.PAYING),
            (True, State.PAYING, State.CANCELLED),
        ]

    sim(scenario)


@pytest.mark.rule("C3")
@pytest.mark.parametrize("hook", ["check created paying", "leave created", "enter paying"])
@on_every_path
def test_a_hook_that_vetoes_keeps_it_where_it_is_and_the_callback_hears_of_it(
    path: Path, hook: str, sim: Callable[..., None]
) -> None:
    def veto(machine: Any) -> Any:
        raise Veto("not now")

    async def scenario() -> None:
        heard: list[Any] = []
        script = Script(**{hook: veto})
        async with path.system(ORDER[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(ORDER[path.style], "o")
            outcome = await ref.request_transition(State.PAYING, lambda *answer: heard.append(answer))
            assert (outcome.kind, outcome.reason) == ("vetoed", "not now")
            assert (ref.snapshot().state, ref.snapshot().data) == (State.CREATED, {"visits": 1})
            script.does.clear()
            await ref.request_transition(State.SHIPPED, lambda *answer: heard.append(answer))
        assert heard == [(False, State.CREATED, State.PAYING), (True, State.CREATED, State.SHIPPED)]

    sim(scenario)


@on_every_path
def test_a_hook_that_raises_keeps_it_where_it_is_and_the_next_request_is_handled(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        heard: list[Any] = []
        script = Script(**{"enter paying": lambda machine: 1 / 0})
        async with path.system(ORDER[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(ORDER[path.style], "o")
            for state in (State.PAYING, State.SHIPPED):
                ref.request_transition(state, lambda *answer: heard.append(answer))
        assert heard == [(False, State.CREATED, State.PAYING), (True, State.CREATED, State.SHIPPED)]

    sim(scenario)


@on_every_path
def test_a_request_for_the_state_it_is_in_runs_all_hooks(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        heard: list[Any] = []
        script = Script()
        async with path.system(ORDER[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(ORDER[path.style], "o")
            await at_rest(system)
            script.calls.clear()
            await ref.request_transition(State.CREATED, lambda *answer: heard.append(answer))
            await at_rest(system)
            assert script.calls == [
                "check created created",
                "leave created",
                "enter created",
                "after created",
            ]
            assert ref.snapshot().seq == 2
        assert heard == [(True, State.CREATED, State.CREATED)]

    sim(scenario)


@on_every_path
def test_nothing_leads_out_of_a_final_state(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        heard: list[Any] = []
        async with path.system(FINAL[path.style], services=Script()) as system:
            ref: Ref[Any] = await system.spawn(FINAL[path.style], "o")
            for state in (State.SHIPPED, State.PAYING, State.SHIPPED):
                ref.request_transition(state, lambda *answer: heard.append(answer))
            with pytest.raises(Unhandled) as caught:
                await ref.ask(TransitionRequested(to=State.CANCELLED))
            assert (caught.value.state, caught.value.allowed) == (State.SHIPPED, ())
        assert heard == [
            (True, State.CREATED, State.SHIPPED),
            (False, State.SHIPPED, State.PAYING),
            (False, State.SHIPPED, State.SHIPPED),
        ]

    sim(scenario)


@pytest.mark.rule("C10")
@on_every_path
def test_a_state_of_another_enum_is_refused_at_the_sender_though_it_compares_equal(
    path: Path, sim: Callable[..., None]
) -> None:
    assert Colour.PAYING == State.PAYING

    async def scenario() -> None:
        async with path.system(ORDER[path.style], services=Script()) as system:
            ref: Ref[Any] = await system.spawn(ORDER[path.style], "o")
            heard: list[Any] = []
            with pytest.raises(InvalidEvent, match="State"):
                ref.request_transition(Colour.PAYING, lambda *answer: heard.append(answer))
            with pytest.raises(InvalidEvent):
                await ref.ask(TransitionRequested(to=Colour.PAYING))
            assert ref.snapshot().state is State.CREATED
            assert system.stats().accepted == 1
        assert heard == []

    sim(scenario)


def test_what_is_no_state_at_all_is_refused(system_of: Callable[..., Any], sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with system_of(ORDER[Style.ASYNC], services=Script()) as system:
            ref: Ref[Any] = await system.spawn(ORDER[Style.ASYNC], "o")
            with pytest.raises((InvalidEvent, ValueError)):
                ref.request_transition("paying")  # type: ignore[arg-type]
            assert ref.snapshot().seq == 1

    sim(scenario)


def test_a_request_to_an_unknown_id_or_a_system_that_has_stopped_is_heard_as_not_done(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        heard: list[Any] = []
        async with system_of(ORDER[Style.ASYNC], services=Script()) as system:
            await system.spawn(ORDER[Style.ASYNC], "o")
            typo = system.ref(ORDER[Style.ASYNC], "typo")
            receipt = typo.request_transition(State.PAYING, lambda *answer: heard.append(answer))
            with pytest.raises(NoSuchMachine):
                await receipt
            await asyncio.sleep(0.1)
            assert heard == [(False, None, State.PAYING)]
        with pytest.raises(SystemStopping):
            await typo.request_transition(State.PAYING)

    sim(scenario)


@on_every_async_path
def test_a_callback_may_be_async_may_ask_the_machine_and_holds_nothing(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        heard: list[Any] = []

        async def on_done(success: bool, old: State, new: State) -> None:
            heard.append((success, old, new))
            outcome = await ref.request_transition(State.SHIPPED)
            heard.append((outcome.success, outcome.old, outcome.new))

        async with path.system(ORDER[path.style], services=Script()) as system:
            ref: Ref[Any] = await system.spawn(ORDER[path.style], "o")
            await ref.request_transition(State.PAYING, on_done)
            await until(lambda: len(heard) == 2)
        assert heard == [(True, State.CREATED, State.PAYING), (True, State.PAYING, State.SHIPPED)]

    sim(scenario)


# -- with transitions ----------------------------------------------------------------------------------------------


def bridge_of(style: Style) -> Any:
    class Bridge(Machine[State, Script], initial=State.CREATED, final=(State.CANCELLED,)):
        seen: tuple[str, ...] = ()

        @transition(State.CREATED, to=State.PAYING)
        @style
        def pay(self, event: Pay | TransitionRequested) -> None:
            self.seen = (*self.seen, type(event).__name__)

        @transition(State.PAYING, to=State.SHIPPED)
        @style
        def ship(self, event: Pay) -> None: ...

        @transition(State.PAYING, to=State.CANCELLED, when=lambda machine, event: len(machine.seen) > 1)
        @transition(State.CREATED, State.SHIPPED, to=State.CANCELLED)
        @style
        def cancel(self, event: TransitionRequested) -> None: ...

    return Bridge


BRIDGE = {style: bridge_of(style) for style in Style}


@on_every_path
def test_a_machine_with_transitions_takes_a_request_only_on_edges_whose_body_accepts_it(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        heard: list[Any] = []
        async with path.system(BRIDGE[path.style], services=Script()) as system:
            ref: Ref[Any] = await system.spawn(BRIDGE[path.style], "b")
            for state in (State.SHIPPED, State.CREATED, State.PAYING, State.SHIPPED):
                ref.request_transition(state, lambda *answer: heard.append(answer))
            await ref.ask(Pay())
            await ref.request_transition(State.CANCELLED, lambda *answer: heard.append(answer))
            assert ref.snapshot().data["seen"] == ("TransitionRequested",)
        assert heard == [
            (False, State.CREATED, State.SHIPPED),  # no such edge
            (False, State.CREATED, State.CREATED),
            (True, State.CREATED, State.PAYING),
            (False, State.PAYING, State.SHIPPED),  # the edge is there, but its body takes Pay only
            (True, State.SHIPPED, State.CANCELLED),
        ]

    sim(scenario)


@on_every_path
def test_a_request_looks_at_the_edges_guard(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with path.system(BRIDGE[path.style], services=Script()) as system:
            ref: Ref[Any] = await system.spawn(BRIDGE[path.style], "b")
            await ref.request_transition(State.PAYING)
            assert (await ref.request_transition(State.CANCELLED)).kind == "unhandled"
            ready: Ref[Any] = await system.spawn(BRIDGE[path.style], "ready", data={"seen": ("one",)})
            await ready.request_transition(State.PAYING)
            assert (await ready.request_transition(State.CANCELLED)).kind == "committed"

    sim(scenario)


def test_a_machine_whose_transitions_take_no_request_refuses_it_at_the_sender(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    class Strict(Machine[Colour], initial=Colour.CREATED, final=(Colour.PAYING,)):
        @transition(Colour.CREATED, to=Colour.PAYING)
        async def pay(self, event: Pay) -> None: ...

    async def scenario() -> None:
        async with system_of(Strict) as system:
            ref: Ref[Any] = await system.spawn(Strict, "s")
            with pytest.raises(InvalidEvent, match="does not take TransitionRequested"):
                ref.request_transition(Colour.PAYING)

    sim(scenario)


@pytest.mark.rule("C33")
def test_a_hook_that_does_not_accept_the_request_is_refused_when_the_class_is_created() -> None:
    with pytest.raises(DefinitionError, match="TransitionRequested can lead there too"):

        class Wrong(Machine[Colour], initial=Colour.CREATED, final=(Colour.PAYING,)):
            @transition(Colour.CREATED, to=Colour.PAYING)
            async def pay(self, event: Pay | TransitionRequested) -> None: ...

            @on_enter(Colour.PAYING)
            async def enter(self, old: Colour, new: Colour, event: Pay) -> None: ...
