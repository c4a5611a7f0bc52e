"""C6: a postponed event waits for a change of state, and is then tried again in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum, auto
from typing import Any

import pytest

from actorfsm import (
    STAY,
    Directive,
    Event,
    Expired,
    HookFailed,
    Machine,
    MachineStopped,
    MailboxFull,
    Outcome,
    Ref,
    RestartPolicy,
    Unhandled,
    Vetoed,
    before_transition,
    postpone,
    transition,
)
from tests.contract.paths import Path, Script, Style, at_rest, on_every_path, until


class State(StrEnum):
    CLOSED = auto()
    AJAR = auto()
    OPEN = auto()
    GONE = auto()


class Enter(Event[int]):
    n: int


class Push(Event): ...


class Shut(Event): ...


class Knock(Event): ...


class Turn(Event): ...


class Remove(Event): ...


class Kick(Event): ...


class Broken(Exception): ...


def machine_of(style: Style, **options: Any) -> Any:
    class Door(Machine[State, Script], initial=State.CLOSED, final=(State.GONE,), **options):
        inside: tuple[int, ...] = ()

        @before_transition
        @style
        def check(self, old: State, new: State) -> Any:
            return self.services.play("check", self)

        @postpone(State.CLOSED, State.AJAR)
        @transition(State.OPEN, to=STAY)
        @style
        def enter(self, event: Enter) -> int:
            self.inside = (*self.inside, event.n)
            self.services.play(f"enter {event.n}", self)
            return event.n

        @transition(State.CLOSED, to=State.AJAR)
        @transition(State.AJAR, to=State.OPEN)
        @style
        def push(self, event: Push) -> None: ...

        @transition(State.OPEN, State.AJAR, to=State.CLOSED)
        @style
        def shut(self, event: Shut) -> None: ...

        @transition(State.CLOSED, State.OPEN, to=STAY)
        @style
        def knock(self, event: Knock) -> None: ...

        @transition(State.CLOSED, to=State.CLOSED)
        @style
        def turn(self, event: Turn) -> None: ...

        @transition(State.CLOSED, State.AJAR, State.OPEN, to=STAY)
        @style
        def kick(self, event: Kick) -> None:
            raise Broken

        @transition(State.CLOSED, State.AJAR, State.OPEN, to=State.GONE)
        @style
        def remove(self, event: Remove) -> None: ...

    return Door


DOOR = {style: machine_of(style) for style in Style}


async def closed_door(path: Path, system: Any, waiting: int) -> tuple[Ref[Any], list[Any]]:
    """Spawn a door with so many events postponed."""
    ref: Ref[Any] = await system.spawn(DOOR[path.style], "door")
    receipts = [ref.tell(Enter(n=n)) for n in range(waiting)]
    await until(lambda: system.stats().postponed == waiting)
    await at_rest(system)
    return ref, receipts


@pytest.mark.rule("C6")
@on_every_path
def test_postponed_events_are_tried_again_in_order_ahead_of_newer_ones(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with path.system(DOOR[path.style], services=Script()) as system:
            ref, receipts = await closed_door(path, system, 3)
            ref.tell(Push())
            ref.tell(Push())
            for n in range(3, 6):
                ref.tell(Enter(n=n))
            assert [(await receipt).reply for receipt in receipts] == [0, 1, 2]
            await at_rest(system)
            assert ref.snapshot().data["inside"] == (0, 1, 2, 3, 4, 5)
            assert system.stats().postponed == 0
            assert system.stats().balance == 0

    sim(scenario)


@pytest.mark.rule("C6")
@on_every_path
def test_an_ask_that_changes_the_state_inline_lets_postponed_events_go_before_the_next_ask(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with path.system(DOOR[path.style], services=Script()) as system:
            ref, _ = await closed_door(path, system, 2)
            await ref.ask(Push())
            await ref.ask(Push())
            assert await ref.ask(Enter(n=2)) == 2
            assert ref.snapshot().data["inside"] == (0, 1, 2)
            assert getattr(system.stats(), path.counter) > 0

    sim(scenario)


@pytest.mark.rule("C6")
@on_every_path
def test_a_postponed_event_is_tried_only_after_a_change_of_state(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script()
        async with path.system(DOOR[path.style], services=script) as system:
            ref, receipts = await closed_door(path, system, 2)
            await at_rest(system)
            turns = sum_of_turns(system)
            await ref.ask(Knock())  # stays
            await ref.ask(Turn())  # a transition, but to the same state
            with pytest.raises(Unhandled):
                await ref.ask(Shut())
            script.does["check"] = lambda machine: False
            with pytest.raises(Vetoed):
                await ref.ask(Push())
            with pytest.raises(HookFailed):
                await ref.ask(Kick())
            await at_rest(system)
            assert sum_of_turns(system) == turns + 5
            assert [repr(receipt) for receipt in receipts] == ["<Receipt of Enter for door: accepted>"] * 2
            script.does.clear()
            await ref.ask(Push())  # to a state in which they are postponed again
            await at_rest(system)
            assert sum_of_turns(system) == turns + 8
            assert system.stats().postponed == 2
            await ref.ask(Push())
            await at_rest(system)
            assert ref.snapshot().data["inside"] == (0, 1)

    sim(scenario)


def sum_of_turns(system: Any) -> int:
    stats = system.stats()
    total: int = stats.turns_plain + stats.turns_eager + stats.turns_queued
    return total


@pytest.mark.rule("C6")
@on_every_path
def test_events_that_are_postponed_again_keep_their_order(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with path.system(DOOR[path.style], services=Script()) as system:
            ref, _ = await closed_door(path, system, 3)
            await ref.ask(Push())
            for n in range(3, 5):
                ref.tell(Enter(n=n))
            await at_rest(system)
            for event in (Shut(), Push(), Shut(), Push()):
                await ref.ask(event)
            ref.tell(Enter(n=5))
            await ref.ask(Push())
            await at_rest(system)
            assert ref.snapshot().data["inside"] == (0, 1, 2, 3, 4, 5)

    sim(scenario)


@pytest.mark.rule("C6")
@on_every_path
def test_a_released_event_that_changes_the_state_lets_the_others_wait_again(
    path: Path, sim: Callable[..., None]
) -> None:
    class Lane(Machine[State], initial=State.CLOSED):
        passed: tuple[int, ...] = ()

        @postpone(State.CLOSED)
        @transition(State.OPEN, to=State.CLOSED)
        @path.style
        def enter(self, event: Enter) -> int:
            self.passed = (*self.passed, event.n)
            return event.n

        @transition(State.CLOSED, to=State.OPEN)
        @path.style
        def push(self, event: Push) -> None: ...

        @transition(State.CLOSED, to=State.AJAR)
        @transition(State.AJAR, to=State.GONE)
        @transition(State.GONE, to=State.CLOSED)
        @path.style
        def turn(self, event: Turn) -> None: ...

    async def scenario() -> None:
        async with path.system(Lane) as system:
            ref: Ref[Any] = await system.spawn(Lane, "lane")
            for n in range(4):
                ref.tell(Enter(n=n))
            await at_rest(system)
            for n in range(4):
                await ref.ask(Push())
                await at_rest(system)
                assert ref.snapshot().data["passed"] == tuple(range(n + 1))
                assert system.stats().postponed == 3 - n

    sim(scenario)


@pytest.mark.rule("C6")
@pytest.mark.rule("C11")
@on_every_path
def test_postponed_events_are_bounded(path: Path, sim: Callable[..., None]) -> None:
    cls = machine_of(path.style, postpone_limit=2)

    async def scenario() -> None:
        async with path.system(cls, services=Script()) as system:
            ref: Ref[Any] = await system.spawn(cls, "door")
            receipts = [ref.tell(Enter(n=n)) for n in range(3)]
            outcome = await receipts[2]
            assert (outcome.kind, outcome.error.type) == ("dead_lettered", "MailboxFull")
            with pytest.raises(MailboxFull):
                await ref.ask(Enter(n=3))
            assert system.stats().postponed == 2
            assert {letter.event.n for letter in system.dead_letters} == {2, 3}
            await ref.ask(Push())
            await ref.ask(Push())
            await at_rest(system)
            assert ref.snapshot().data["inside"] == (0, 1)

    sim(scenario)


@pytest.mark.rule("C6")
@pytest.mark.rule("C8")
@on_every_path
def test_the_deadline_of_an_ask_keeps_running_while_it_is_postponed(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with path.system(DOOR[path.style], services=Script()) as system:
            ref, _ = await closed_door(path, system, 1)
            loop = asyncio.get_running_loop()
            started_at = loop.time()
            with pytest.raises(Expired):
                await ref.ask(Enter(n=7), timeout=2)
            assert 2 <= loop.time() - started_at < 2.2
            assert system.stats().postponed == 1
            # it is surely not done, also not later
            await ref.ask(Push())
            await ref.ask(Push())
            await at_rest(system)
            assert ref.snapshot().data["inside"] == (0,)
            assert system.stats().outcomes["expired"] == 1
            assert system.stats().balance == 0

    sim(scenario)


@pytest.mark.rule("C6")
@on_every_path
def test_an_ask_that_was_postponed_in_time_is_answered_by_its_later_handling(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with path.system(DOOR[path.style], services=Script()) as system:
            ref: Ref[Any] = await system.spawn(DOOR[path.style], "door")
            asker = asyncio.create_task(ref.ask(Enter(n=7), timeout=5))
            await asyncio.sleep(1)
            assert system.stats().pending_asks == 1
            await ref.ask(Push())
            await asyncio.sleep(1)
            await ref.ask(Push())
            assert await asker == 7

    sim(scenario)


@pytest.mark.rule("C6")
@pytest.mark.rule("C15")
@on_every_path
def test_postponed_events_survive_a_restart(path: Path, sim: Callable[..., None]) -> None:
    cls = machine_of(
        path.style, on_failure={Broken: Directive.RESTART}, restart=RestartPolicy(first_delay_s=1)
    )

    async def scenario() -> None:
        async with path.system(cls, services=Script()) as system:
            ref: Ref[Any] = await system.spawn(cls, "door")
            receipts = [ref.tell(Enter(n=n)) for n in range(3)]
            await at_rest(system)
            with pytest.raises(HookFailed):
                await ref.ask(Kick())
            assert (system.stats().postponed, system.stats().restarts) == (3, 1)
            ref.tell(Push())
            ref.tell(Push())
            ref.tell(Enter(n=3))
            assert [(await receipt).reply for receipt in receipts] == [0, 1, 2]
            await at_rest(system)
            assert (ref.snapshot().incarnation, ref.snapshot().data["inside"]) == (1, (0, 1, 2, 3))

    sim(scenario)


@pytest.mark.rule("C6")
@pytest.mark.rule("C18")
@on_every_path
def test_a_final_state_answers_postponed_events_unhandled_at_once(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        told: list[Outcome] = []
        async with path.system(DOOR[path.style], services=Script()) as system:
            ref, receipts = await closed_door(path, system, 2)
            ref.tell(Enter(n=2), callback=told.append)
            asker = asyncio.create_task(ref.ask(Enter(n=3), timeout=1_000))
            await until(lambda: system.stats().postponed == 4)
            loop = asyncio.get_running_loop()
            started_at = loop.time()
            await ref.ask(Remove())
            with pytest.raises(Unhandled) as caught:
                await asker
            assert (caught.value.state, caught.value.allowed) == (State.GONE, ())
            assert [(await receipt).kind for receipt in receipts] == ["unhandled", "unhandled"]
            assert loop.time() == started_at
            assert system.stats().postponed == 0
            # the machine stays addressable
            with pytest.raises(Unhandled):
                await ref.ask(Push())
            assert ref.snapshot().state is State.GONE
        assert [outcome.kind for outcome in told] == ["unhandled"]

    sim(scenario)


@pytest.mark.rule("C6")
@on_every_path
def test_a_stop_answers_postponed_events(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with path.system(DOOR[path.style], services=Script()) as system:
            ref, receipts = await closed_door(path, system, 2)
            asker = asyncio.create_task(ref.ask(Enter(n=2)))
            await until(lambda: system.stats().postponed == 3)
            await system.stop("door")
            with pytest.raises(MachineStopped):
                await asker
            assert [(await receipt).kind for receipt in receipts] == ["dead_lettered"] * 2
            assert system.stats().balance == 0

    sim(scenario)


@pytest.mark.rule("C6")
@on_every_path
def test_a_system_that_stops_does_not_wait_for_what_is_postponed(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with path.system(DOOR[path.style], services=Script()) as system:
            _, receipts = await closed_door(path, system, 2)
            report = await system.shutdown()
            assert report.abandoned == 2
            assert report.seconds == 0
            assert [(await receipt).kind for receipt in receipts] == ["dead_lettered"] * 2

    sim(scenario)


@pytest.mark.rule("C6")
@on_every_path
def test_postponed_events_are_visible(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with path.system(DOOR[path.style], services=Script()) as system:
            ref, _ = await closed_door(path, system, 2)
            stats = system.stats()
            assert (stats.postponed, stats.queued, stats.in_flight, stats.balance) == (2, 0, 0, 0)
            assert "Enter" in ref.snapshot().allowed

    sim(scenario)
