"""C20: timers come at the end of the mailbox, never early; a cancelled one never comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actorfsm import (
    HookFailed,
    Machine,
    Ref,
    StateTimeout,
    Vetoed,
    on_timeout,
    transition,
)
from actorfsm.runtime.timers import list_timers
from tests.contract.paths import Path, Style, on_every_path
from tests.contract.porter import Again, Diary, Do, Go, State, Tick, porter_of

pytestmark = pytest.mark.rule("C20")
PORTER = {style: porter_of(style) for style in Style}


def names(system: Any, machine_id: str = "w") -> list[str]:
    """Return the names of a machine's timers, in the order of their start."""
    return [timer.name for timer in list_timers(system._parts.registry.actors[machine_id])]


def assert_balanced(system: Any) -> None:
    stats = system.stats()
    assert stats.balance == 0
    assert stats.timers == sum(
        not timer.waits for actor in system._parts.registry.actors.values() for timer in list_timers(actor)
    )


async def do(ref: Ref[Any], diary: Diary, action: Callable[[Any], Any]) -> Any:
    """Run an action in a turn that stays."""
    diary.does["do"] = action
    try:
        return await ref.ask(Do())
    finally:
        del diary.does["do"]


# -- state timeouts ----------------------------------------------------------------------------------------------------


@on_every_path
def test_a_state_timeout_comes_once_so_long_after_the_commit_that_entered_the_state(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary = Diary()
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")
            await asyncio.sleep(5)
            await ref.ask(Go())
            assert names(system) == ["dawn", "midnight"]
            assert_balanced(system)
            await asyncio.sleep(60)
            assert diary.when("midnight") == [9.0]
            assert diary.when("dawn") == [15.0]
            assert ref.snapshot().state is State.DAY
            assert names(system) == []
            stats = system.stats()
            assert (stats.timers, stats.timers_fired, stats.timers_withdrawn) == (0, 2, 0)
            assert stats.outcomes["committed"] == stats.accepted == 4
            assert_balanced(system)

    sim(scenario)


@on_every_path
def test_a_state_timeout_dies_with_the_state_and_starts_again_with_it(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary = Diary()
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")
            await ref.ask(Go())
            await asyncio.sleep(3)
            await ref.ask(Go())  # back, before midnight
            assert names(system) == []
            await asyncio.sleep(3)
            await ref.ask(Go())
            await asyncio.sleep(3)
            await ref.ask(Again())  # leaves the state, for itself
            assert [timer.due_in_s for timer in list_timers(system._parts.registry.actors["w"])] == [10, 4]
            await asyncio.sleep(60)
            assert diary.when("midnight") == [13.0]
            assert diary.when("dawn") == [19.0]
            assert_balanced(system)

    sim(scenario)


@on_every_path
def test_a_transition_that_stays_leaves_a_state_timeout_alone(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        diary = Diary()
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")
            await ref.ask(Go())
            for _ in range(9):
                await asyncio.sleep(1)
                await ref.ask(Tick())
            assert diary.when("midnight") == [4.0]
            await asyncio.sleep(60)
            assert diary.when("dawn") == [10.0]
            assert diary.when("midnight") == [4.0]  # to=STAY does not start it again

    sim(scenario)


@on_every_path
def test_a_timer_is_started_and_cancelled_with_the_commit_or_not_at_all(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary = Diary()
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")
            await do(ref, diary, lambda m: m.start_timer(Tick(n=1), after=5, name="kept"))

            def change(machine: Any) -> None:
                machine.start_timer(Tick(n=2), after=1, name="new")
                machine.start_timer(Tick(n=3), after=2, name="kept")
                assert machine.cancel_timer("kept") is True
                assert machine.cancel_timer("kept") is False

            def refuse(machine: Any) -> bool:
                change(machine)
                return False

            def fail(machine: Any) -> None:
                change(machine)
                raise ValueError

            def spoil(machine: Any) -> None:
                change(machine)
                machine.seen = "not a tuple of numbers"

            before = list_timers(system._parts.registry.actors["w"])
            diary.does["enter"] = refuse
            with pytest.raises(Vetoed):
                await ref.ask(Go())
            diary.does["enter"] = fail
            with pytest.raises(HookFailed):
                await ref.ask(Go())
            diary.does["enter"] = spoil
            with pytest.raises(HookFailed, match="does not validate"):
                await ref.ask(Go())
            assert list_timers(system._parts.registry.actors["w"]) == before
            assert_balanced(system)
            await asyncio.sleep(60)
            assert diary.when("tick 1") == [5.0]
            assert ref.snapshot().data["seen"] == (1,)

    sim(scenario)


@on_every_path
def test_the_state_in_which_a_machine_is_born_starts_its_timeout_at_the_birth(
    path: Path, sim: Callable[..., None]
) -> None:
    cls = porter_of(path.style, initial=State.NIGHT)

    class Bare(Machine[State], initial=State.NIGHT):
        """Its birth runs no hook."""

        @on_timeout(State.NIGHT, after=4, to=State.DAY)
        @path.style
        def midnight(self, event: StateTimeout) -> None: ...

        @on_timeout(State.DAY, after=4, to=State.OVER)
        @path.style
        def noon(self, event: StateTimeout) -> None: ...

        @transition(State.OVER, to=State.NIGHT)
        @path.style
        def again(self, event: Again) -> None: ...

    async def scenario() -> None:
        diary = Diary()
        async with path.system(cls, Bare, services=diary) as system:
            await asyncio.sleep(1)
            ref: Ref[Any] = await system.spawn(cls, "w")
            await system.spawn_many(Bare, ["a", "b"])
            await asyncio.sleep(3.9)
            assert [system.snapshot(bare).state for bare in ("a", "b")] == [State.NIGHT] * 2
            await asyncio.sleep(0.2)
            assert [system.snapshot(bare).state for bare in ("a", "b")] == [State.DAY] * 2
            await asyncio.sleep(20)
            assert diary.when("midnight") == [5.0]
            assert diary.when("dawn") == [11.0]
            assert ref.snapshot().state is State.DAY
            assert [system.snapshot(bare).state for bare in ("a", "b")] == [State.OVER] * 2
            assert_balanced(system)

    sim(scenario)
