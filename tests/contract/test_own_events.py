"""C5: events that a machine raises itself come before its mailbox; those that it tells itself go to the end of it."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum, auto
from typing import Any

import pytest

from actorfsm import (
    STAY,
    Event,
    HookFailed,
    InvalidEvent,
    Machine,
    MailboxFull,
    Ref,
    Veto,
    Vetoed,
    on_enter,
    on_exit,
    postpone,
    transition,
)
from tests.contract.paths import Path, Script, Style, at_rest, on_every_path


class State(StrEnum):
    START = auto()
    MIDDLE = auto()
    END = auto()


class Mark(Event):
    name: str


class Move(Event): ...


class Chain(Event):
    left: int


class Later(Event):
    name: str


class Foreign(Event): ...


def machine_of(style: Style, **options: Any) -> Any:
    class Host(Machine[State, Script], initial=State.START, final=(State.END,), **options):
        handled: tuple[str, ...] = ()
        links: int = 0

        @transition(State.START, State.MIDDLE, to=STAY)
        @style
        def mark(self, event: Mark) -> None:
            self.handled = (*self.handled, event.name)
            self.services.play(event.name, self)

        @transition(State.START, to=State.MIDDLE)
        @style
        def move(self, event: Move) -> None:
            self.handled = (*self.handled, "move")
            self.services.play("move", self)

        @on_exit(State.START)
        @style
        def leave(self, old: State, new: State) -> Any:
            return self.services.play("leave", self)

        @on_enter(State.MIDDLE)
        @style
        def enter(self, old: State, new: State) -> Any:
            return self.services.play("enter", self)

        @transition(State.START, State.MIDDLE, to=STAY)
        @style
        def chain(self, event: Chain) -> None:
            self.links += 1
            if event.left:
                self.next_event(Chain(left=event.left - 1))

        @postpone(State.START)
        @transition(State.MIDDLE, to=STAY)
        @style
        def later(self, event: Later) -> None:
            self.handled = (*self.handled, event.name)

        @transition(State.MIDDLE, to=State.END)
        @style
        def end(self, event: Foreign) -> None: ...

    return Host


HOST = {style: machine_of(style) for style in Style}


def raising(*names: str) -> Callable[[Any], None]:
    def hook(machine: Any) -> None:
        for name in names:
            machine.next_event(Mark(name=name))

    return hook


@pytest.mark.rule("C5")
@on_every_path
def test_own_events_come_before_the_mailbox_in_the_order_in_which_they_were_raised(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script(leave=raising("1"), move=raising("2", "3"), enter=raising("4"))
        async with path.system(HOST[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(HOST[path.style], "host")
            await at_rest(system)
            ref.tell(Move())
            for n in range(3):
                ref.tell(Mark(name=f"mail {n}"))
            await ref.ask(Mark(name="last"))
            assert ref.snapshot().data["handled"] == (
                *("move", "1", "2", "3", "4"),
                *("mail 0", "mail 1", "mail 2", "last"),
            )

    sim(scenario)


@pytest.mark.rule("C5")
@on_every_path
def test_an_ask_after_an_inline_turn_does_not_overtake_the_events_it_raised(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with path.system(HOST[path.style], services=Script(enter=raising("1", "2"))) as system:
            ref: Ref[Any] = await system.spawn(HOST[path.style], "host")
            await at_rest(system)
            await ref.ask(Move())
            await ref.ask(Mark(name="asked"))
            assert ref.snapshot().data["handled"] == ("move", "1", "2", "asked")
            assert getattr(system.stats(), path.counter) >= 2

    sim(scenario)


@pytest.mark.rule("C5")
@on_every_path
def test_what_an_own_event_raises_comes_before_its_siblings(path: Path, sim: Callable[..., None]) -> None:
    """As gen_statem puts what a callback raises in front of what is there."""

    async def scenario() -> None:
        script = Script(**{"enter": raising("1", "2"), "1": raising("1a", "1b")})
        async with path.system(HOST[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(HOST[path.style], "host")
            await ref.ask(Move())
            await at_rest(system)
            assert ref.snapshot().data["handled"] == ("move", "1", "1a", "1b", "2")

    sim(scenario)


@pytest.mark.rule("C5")
@pytest.mark.rule("C6")
@on_every_path
def test_own_events_come_before_released_postponed_ones(path: Path, sim: Callable[..., None]) -> None:
    """gen_statem's event_order: first the two internal events, then the two postponed ones in order of arrival."""

    async def scenario() -> None:
        async with path.system(HOST[path.style], services=Script(enter=raising("own 1", "own 2"))) as system:
            ref: Ref[Any] = await system.spawn(HOST[path.style], "host")
            ref.tell(Later(name="postponed 1"))
            ref.tell(Later(name="postponed 2"))
            ref.tell(Move())
            ref.tell(Mark(name="newer"))
            await at_rest(system)
            assert ref.snapshot().data["handled"] == (
                *("move", "own 1", "own 2"),
                *("postponed 1", "postponed 2", "newer"),
            )

    sim(scenario)


@pytest.mark.rule("C5")
@on_every_path
def test_an_own_event_has_its_own_commit_and_outcome(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        def veto(machine: Any) -> None:
            raise Veto("not this one")

        script = Script(enter=raising("good", "bad", "good"), bad=veto)
        records: list[Any] = []
        async with path.system(HOST[path.style], services=script, trace=records.append) as system:
            ref: Ref[Any] = await system.spawn(HOST[path.style], "host")
            await ref.ask(Move(), event_id="move-1")
            await at_rest(system)
            # the one that was refused takes nothing with it
            assert ref.snapshot().data["handled"] == ("move", "good", "good")
            assert ref.snapshot().seq == 4
            own = [record for record in records if record.event_type == "Mark"]
            assert [(record.name, record.causation_id) for record in own] == [
                ("committed", "move-1"),
                ("vetoed", "move-1"),
                ("committed", "move-1"),
            ]
            assert len({record.event_id for record in own}) == 3
            assert system.stats().balance == 0
            assert system.stats().accepted == 5

    sim(scenario)


@pytest.mark.rule("C5")
@pytest.mark.rule("C2")
@on_every_path
def test_an_own_event_of_a_turn_that_is_rolled_back_is_never_handled(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        def raise_and_refuse(machine: Any) -> Any:
            machine.next_event(Mark(name="never"))
            return False

        async with path.system(HOST[path.style], services=Script(enter=raise_and_refuse)) as system:
            ref: Ref[Any] = await system.spawn(HOST[path.style], "host")
            with pytest.raises(Vetoed):
                await ref.ask(Move())
            await at_rest(system)
            assert ref.snapshot().data["handled"] == ()
            assert system.stats().accepted == 2

    sim(scenario)


@pytest.mark.rule("C5")
@on_every_path
def test_a_chain_that_ends_in_time_is_handled_whole(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with path.system(HOST[path.style], services=Script()) as system:
            ref: Ref[Any] = await system.spawn(HOST[path.style], "host")
            await ref.ask(Chain(left=100))
            await at_rest(system)
            assert ref.snapshot().data["links"] == 101

    sim(scenario)


@pytest.mark.rule("C5")
@on_every_path
def test_an_endless_chain_is_a_typed_failure_not_a_hang(path: Path, sim: Callable[..., None]) -> None:
    cls = machine_of(path.style, own_event_limit=5)

    async def scenario() -> None:
        records: list[Any] = []
        async with path.system(cls, services=Script(), trace=records.append) as system:
            ref: Ref[Any] = await system.spawn(cls, "host")
            await ref.ask(Chain(left=10**6))
            await ref.ask(Mark(name="after the chain"))
            assert ref.snapshot().data == {"handled": ("after the chain",), "links": 5}
            (failed,) = (record for record in records if record.name == "failed")
            assert isinstance(failed.error, HookFailed)
            assert isinstance(failed.error.__cause__, MailboxFull)
            assert "own_event_limit" in str(failed.error.__cause__)

    sim(scenario)


@pytest.mark.rule("C5")
@on_every_path
def test_too_many_own_events_of_one_turn_fail_it(path: Path, sim: Callable[..., None]) -> None:
    cls = machine_of(path.style, own_event_limit=5)

    async def scenario() -> None:
        script = Script(enter=raising(*"abcdef"))
        async with path.system(cls, services=script) as system:
            ref: Ref[Any] = await system.spawn(cls, "host")
            with pytest.raises(HookFailed) as caught:
                await ref.ask(Move())
            assert isinstance(caught.value.__cause__, MailboxFull)
            assert ref.snapshot().state is State.START
            script.does["enter"] = raising(*"abcde")
            await ref.ask(Move())
            await at_rest(system)
            assert ref.snapshot().data["handled"] == ("move", *"abcde")

    sim(scenario)


@pytest.mark.rule("C5")
@on_every_path
def test_an_own_event_that_the_machine_does_not_declare_fails_the_turn(
    path: Path, sim: Callable[..., None]
) -> None:
    class Unknown(Event): ...

    async def scenario() -> None:
        script = Script(enter=lambda machine: machine.next_event(Unknown()))
        async with path.system(HOST[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(HOST[path.style], "host")
            with pytest.raises(HookFailed) as caught:
                await ref.ask(Move())
            assert isinstance(caught.value.__cause__, InvalidEvent)

    sim(scenario)


@pytest.mark.rule("C5")
@on_every_path
def test_a_tell_to_oneself_goes_to_the_end_of_the_mailbox_after_the_commit(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        def send(machine: Any) -> None:
            machine.tell(machine.id, Mark(name="told"))
            machine.next_event(Mark(name="raised"))

        async with path.system(HOST[path.style], services=Script(move=send)) as system:
            ref: Ref[Any] = await system.spawn(HOST[path.style], "host")
            ref.tell(Move())
            ref.tell(Mark(name="mail"))
            await at_rest(system)
            assert ref.snapshot().data["handled"] == ("move", "raised", "mail", "told")

    sim(scenario)


@pytest.mark.rule("C5")
@on_every_path
def test_an_own_event_may_be_postponed_like_any_other(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        def raise_early(machine: Any) -> None:
            machine.next_event(Later(name="own"))

        async with path.system(HOST[path.style], services=Script(first=raise_early)) as system:
            ref: Ref[Any] = await system.spawn(HOST[path.style], "host")
            ref.tell(Later(name="earlier"))
            await ref.ask(Mark(name="first"))
            await at_rest(system)
            assert (ref.snapshot().data["handled"], system.stats().postponed) == (("first",), 2)
            await ref.ask(Move())
            await at_rest(system)
            assert ref.snapshot().data["handled"] == ("first", "move", "earlier", "own")

    sim(scenario)
