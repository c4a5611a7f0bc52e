"""C20 with C2, C15, C17, C18, C19: what becomes of timers when events fail and machines restart, are held, and end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from actorfsm import (
    Directive,
    HookFailed,
    Limits,
    NoSuchMachine,
    Quarantined,
    Redelivery,
    Ref,
    RestartPolicy,
    SystemFailed,
    TimerScope,
    Veto,
)
from tests.contract.lamp import Trace, hang, raising, times
from tests.contract.paths import Path, Style, at_rest, on_every_async_path, on_every_path, until
from tests.contract.porter import Diary, Do, Finish, Go, Ping, State, Tick, Wait, porter_of
from tests.contract.test_timers import assert_balanced, do, names

pytestmark = pytest.mark.rule("C20")
PORTER = {style: porter_of(style) for style in Style}
RESTART = {"on_failure": {Exception: Directive.RESTART}, "restart": RestartPolicy(first_delay_s=2, jitter=0)}


def remind(after: float = 1, n: int = 1) -> Callable[[Any], None]:
    return lambda machine: machine.start_timer(Tick(n=n), after=after, name="remind")


# -- a timer whose event fails -----------------------------------------------------------------------------------------


@on_every_path
def test_a_timer_whose_event_failed_comes_again_with_growing_pauses_and_the_same_event_id(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary, trace = Diary(**{"tick 1": times(3, raising(ValueError))}), Trace()
        async with path.system(PORTER[path.style], services=diary, trace=trace) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")
            await do(ref, diary, remind())
            await asyncio.sleep(1.05)
            (timer,) = system.inspect("w").timers
            assert (timer.name, timer.due_in_s is None, round(timer.due_in_s, 6)) == ("remind", False, 0.05)
            assert_balanced(system)
            await asyncio.sleep(60)
            assert diary.when("tick 1") == [1.0, 1.1, 1.3, 1.7]
            ticks = [record for record in trace if record.event_type == "Tick"]
            assert [record.name for record in ticks] == ["failed"] * 3 + ["committed"]
            assert len({record.event_id for record in ticks}) == 1
            assert ref.snapshot().data["seen"] == (1,)
            stats = system.stats()
            assert (stats.timers_fired, stats.outcomes["failed"], stats.timers) == (4, 3, 0)
            assert names(system) == []
            assert system.quarantined() == []
            assert_balanced(system)

    sim(scenario)


@on_every_path
def test_the_state_timeout_of_a_state_too_comes_again_until_the_state_is_left(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary = Diary(midnight=raising(ValueError))
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")
            await ref.ask(Go())
            await asyncio.sleep(4.2)
            await ref.ask(Go())
            await asyncio.sleep(60)
            assert diary.when("midnight") == [4.0, 4.1]
            assert names(system) == []
            assert_balanced(system)

    sim(scenario)


@on_every_path
@pytest.mark.parametrize("attempts", [0, 2])
def test_a_timer_that_fails_too_often_puts_its_machine_into_quarantine_and_is_held_there(
    attempts: int, path: Path, sim: Callable[..., None]
) -> None:
    cls = porter_of(path.style, timer_attempts=attempts)

    async def scenario() -> None:
        diary, trace = Diary(**{"tick 1": raising(ValueError)}), Trace()
        told: list[Any] = []
        async with path.system(
            cls, services=diary, trace=trace, on_quarantine=lambda who, why: told.append((who, type(why)))
        ) as system:
            ref: Ref[Any] = await system.spawn(cls, "w")
            await do(ref, diary, remind())
            await asyncio.sleep(60)
            assert diary.when("tick 1") == [1.0, 1.1, 1.3][: attempts + 1]
            assert system.quarantined() == ["w"]
            assert told == [("w", ValueError)]
            assert trace[-1].name == "quarantined"
            assert trace[-1].reason == f"the timer remind failed {attempts + 1} times"
            (timer,) = system.inspect("w").timers
            assert (timer.name, timer.due_in_s is None) == ("remind", True)
            assert system.stats().queued == 1
            assert_balanced(system)
            with pytest.raises(Quarantined):
                await ref.ask(Ping())
            # Released, it comes at once; if it fails again it has all its attempts.
            system.release("w")
            await asyncio.sleep(60)
            assert diary.when("tick 1")[attempts + 1 :] == [60.0, 60.1, 60.3][: attempts + 1]
            assert system.quarantined() == ["w"]
            del diary.does["tick 1"]
            system.release("w")
            await asyncio.sleep(1)
            assert ref.snapshot().data["seen"] == (1,)
            assert names(system) == []
            assert system.quarantined() == []
            assert_balanced(system)

    sim(scenario, seeds=range(2))


@on_every_path
def test_timers_that_become_due_in_quarantine_are_held_and_come_at_the_release_in_order(
    path: Path, sim: Callable[..., None]
) -> None:
    cls = porter_of(path.style, **(RESTART | {"restart": RestartPolicy(max_restarts=0)}))

    async def scenario() -> None:
        for discard in (False, True):
            diary = Diary(ping=raising(ValueError))
            async with path.system(cls, services=diary) as system:
                ref: Ref[Any] = await system.spawn(cls, "w")

                def start(machine: Any) -> None:
                    machine.start_timer(Tick(n=1), after=30, name="later")
                    machine.start_timer(Tick(n=2), after=3, name="second")
                    machine.start_timer(Tick(n=3), after=2, name="first")

                await do(ref, diary, start)
                with pytest.raises(HookFailed):
                    await ref.ask(Ping())
                assert system.quarantined() == ["w"]
                await asyncio.sleep(10)
                assert ref.snapshot().data["seen"] == ()
                assert system.stats().queued == 2
                assert sorted(names(system)) == ["first", "later", "second"]
                assert_balanced(system)
                system.release("w", discard=discard)
                await asyncio.sleep(1)
                assert names(system) == ["later"]
                assert len(system.dead_letters) == (2 if discard else 0)
                assert_balanced(system)
                await asyncio.sleep(60)
                assert ref.snapshot().data["seen"] == ((1,) if discard else (3, 2, 1))
                assert_balanced(system)

    sim(scenario)


@on_every_path
def test_redelivery_is_for_events_of_others_a_timer_comes_again_by_itself(
    path: Path, sim: Callable[..., None]
) -> None:
    cls = porter_of(path.style, redelivery=Redelivery(attempts=5, first_delay_s=10, max_delay_s=10))

    async def scenario() -> None:
        diary = Diary(**{"tick 1": times(2, raising(ValueError))})
        async with path.system(cls, services=diary) as system:
            ref: Ref[Any] = await system.spawn(cls, "w")
            await do(ref, diary, remind())
            await asyncio.sleep(1.05)
            await ref.ask(Tick(n=2))  # it keeps nobody waiting
            await asyncio.sleep(60)
            assert diary.when("tick 1") == [1.0, 1.1, 1.3]
            assert diary.when("tick 2") == [1.05]
            assert len(system.dead_letters) == 0
            assert ref.snapshot().data["seen"] == (2, 1)

    sim(scenario)


@on_every_path
def test_a_timer_whose_event_was_vetoed_is_used_up(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        def refuse(machine: Any) -> None:
            machine.start_timer(Tick(n=2), after=1, name="remind")
            raise Veto("not today")

        diary = Diary(**{"tick 1": refuse})
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")
            await do(ref, diary, remind())
            await asyncio.sleep(60)
            assert diary.when("tick 1") == [1.0]
            assert diary.when("tick 2") == []
            assert system.stats().outcomes["vetoed"] == 1
            assert names(system) == []
            assert_balanced(system)

    sim(scenario)


@on_every_path
@pytest.mark.parametrize("replace", [False, True])
def test_a_timer_that_is_to_come_again_can_be_cancelled_and_replaced(
    replace: bool, path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary = Diary(**{"tick 1": raising(ValueError)})
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")
            await do(ref, diary, remind())
            await asyncio.sleep(1.15)
            await do(ref, diary, remind(1, 2) if replace else lambda machine: machine.cancel_timer("remind"))
            await asyncio.sleep(60)
            assert diary.when("tick 1") == [1.0, 1.1]
            assert diary.when("tick 2") == ([2.15] if replace else [])
            assert_balanced(system)

    sim(scenario)


# -- restart -----------------------------------------------------------------------------------------------------------


@pytest.mark.rule("C15")
@on_every_path
def test_a_restart_keeps_the_timers_with_their_names_and_deadlines_and_what_has_come_keeps_its_place(
    path: Path, sim: Callable[..., None]
) -> None:
    cls = porter_of(path.style, **RESTART)

    async def scenario() -> None:
        diary = Diary(ping=raising(ValueError))
        async with path.system(cls, services=diary) as system:
            ref: Ref[Any] = await system.spawn(cls, "w")
            await ref.ask(Go())

            def start(machine: Any) -> None:
                machine.start_timer(Tick(n=1), after=1, name="in the pause")
                machine.start_timer(Tick(n=2), after=6, name="later", scope=TimerScope.EVENT)

            await do(ref, diary, start)
            with pytest.raises(HookFailed):
                await ref.ask(Ping())
            ref.tell(Wait(n=1))
            assert ref.snapshot().incarnation == 1
            assert names(system) == ["dawn", "midnight", "in the pause", "later"]
            await asyncio.sleep(1.5)
            assert diary.when("tick 1") == []  # the machine pauses
            assert system.stats().queued == 2
            assert_balanced(system)
            ref.tell(Wait(n=2))
            await asyncio.sleep(60)
            order = [
                (at, name) for at, name in diary.lines if name not in {"before", "exit", "enter", "after"}
            ]
            assert order[3:] == [
                (2.0, "wait 1"),
                (2.0, "tick 1"),
                (2.0, "wait 2"),
                (4.0, "midnight"),
                (10.0, "dawn"),
            ]
            assert names(system) == []
            assert_balanced(system)

    sim(scenario)


@pytest.mark.rule("C15")
@on_every_path
def test_what_a_failed_turn_of_the_old_incarnation_started_never_comes(
    path: Path, sim: Callable[..., None]
) -> None:
    cls = porter_of(path.style, **RESTART)

    async def scenario() -> None:
        def start_and_fail(machine: Any) -> None:
            machine.start_timer(Tick(n=1), after=0)
            machine.start_timer(Tick(n=2), after=3, name="b")
            raise ValueError

        diary = Diary(ping=start_and_fail)
        async with path.system(cls, services=diary) as system:
            ref: Ref[Any] = await system.spawn(cls, "w")
            with pytest.raises(HookFailed):
                await ref.ask(Ping())
            await asyncio.sleep(60)
            assert ref.snapshot().data["seen"] == ()
            assert system.stats().timers_fired == 0

    sim(scenario)


@on_every_async_path
def test_a_timer_whose_hook_hangs_comes_again_after_the_restart_and_too_often_ends_in_quarantine(
    path: Path, sim: Callable[..., None]
) -> None:
    cls = porter_of(
        path.style, hook_timeout=1, timer_attempts=1, restart=RestartPolicy(first_delay_s=1, jitter=0)
    )

    async def scenario() -> None:
        release = asyncio.get_running_loop().create_future()

        async def hang_on(machine: Any) -> None:
            while not release.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([release])

        diary, trace = Diary(**{"tick 1": hang_on}), Trace()
        async with path.system(cls, services=diary, trace=trace, limits=Limits(grace_s=0.5)) as system:
            ref: Ref[Any] = await system.spawn(cls, "w")
            await do(ref, diary, remind())
            await asyncio.sleep(60)
            # Came at 1, was left behind at 2.5; due again at 2.6, in the pause of the restart that ends at 3.5.
            assert diary.when("tick 1") == [1.0, 3.5]
            assert trace.names("w")[2:] == ["failed", "restarted", "failed", "quarantined"]
            assert trace[-1].reason == "the timer remind failed 2 times"
            assert_balanced(system)
            release.set_result(None)
            del diary.does["tick 1"]
            system.release("w")
            await at_rest(system)
            assert ref.snapshot().data["seen"] == (1,)
            assert_balanced(system)

    sim(scenario)


@on_every_async_path
def test_a_timer_whose_hook_exceeds_its_deadline_and_ends_comes_again(
    path: Path, sim: Callable[..., None]
) -> None:
    cls = porter_of(path.style, hook_timeout=1)

    async def scenario() -> None:
        diary = Diary(**{"tick 1": times(1, hang)})
        async with path.system(cls, services=diary) as system:
            ref: Ref[Any] = await system.spawn(cls, "w")
            await do(ref, diary, remind())
            await asyncio.sleep(60)
            assert diary.when("tick 1") == [1.0, 2.1]
            assert ref.snapshot().data["seen"] == (1,)
            assert_balanced(system)

    sim(scenario)


# -- the end -----------------------------------------------------------------------------------------------------------


@pytest.mark.rule("C18")
@on_every_path
def test_entry_into_a_final_state_cancels_all_timers_also_those_of_its_own_turn_and_those_that_wait(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary = Diary()
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")
            await ref.ask(Go())

            def start(machine: Any) -> None:
                machine.start_timer(Tick(n=1), after=0, name="waits")
                machine.start_timer(Tick(n=2), after=3, name="runs")

            diary.does |= {"do": start, "finish": remind(1, 3)}
            ref.tell(Do())
            await ref.tell(Finish())
            await at_rest(system)
            assert ref.snapshot().state is State.OVER
            assert names(system) == []
            assert system.stats().timers == 0
            assert system.stats().timers_withdrawn == 1
            assert_balanced(system)
            await asyncio.sleep(60)
            assert not [name for at, name in diary.lines if name.startswith(("tick", "dawn", "midnight"))]
            assert system.stats().timers_fired == 1
            # It stays addressable, and what it starts then is its own affair.
            await do(ref, diary, lambda machine: machine.start_timer(Do(), after=1))
            assert names(system) == ["Do"]
            await asyncio.sleep(2)
            assert names(system) == []
            assert_balanced(system)

    sim(scenario)


@pytest.mark.rule("C19")
@on_every_path
@pytest.mark.parametrize("how", ["from outside", "by itself", "after a failure of the timer"])
def test_a_stop_cancels_all_timers_and_takes_those_that_wait_away(
    how: str, path: Path, sim: Callable[..., None]
) -> None:
    cls = porter_of(path.style, timer_attempts=0, on_failure={KeyError: Directive.STOP})

    async def scenario() -> None:
        diary, trace = Diary(**{"tick 1": raising(KeyError)}), Trace()
        async with path.system(cls, services=diary, trace=trace) as system:
            ref: Ref[Any] = await system.spawn(cls, "w")

            def start(machine: Any) -> None:
                machine.start_timer(Ping(), after=5, name="runs")
                machine.start_timer(Tick(n=2), after=0, name="waits")
                if how == "by itself":
                    machine.stop()
                else:
                    machine.start_timer(Tick(n=1), after=1, name="fails")

            if how == "from outside":
                await do(ref, diary, lambda m: m.start_timer(Ping(), after=5, name="runs"))
                await system.stop("w")
            else:
                await do(ref, diary, start)
                await asyncio.sleep(2)
            assert system.stats().timers == 0
            assert_balanced(system)
            await asyncio.sleep(60)
            assert diary.when("ping") == []
            assert trace[-1].name == "stopped"
            with pytest.raises(NoSuchMachine):
                ref.snapshot()
            assert len(system.dead_letters) == 0
            if how == "by itself":
                assert system.stats().timers_withdrawn == 1
            assert_balanced(system)

    sim(scenario)


@pytest.mark.rule("C19")
@on_every_path
@pytest.mark.parametrize("queues", ["finish", "abandon"])
def test_the_end_of_the_system_cancels_all_timers_and_does_not_wait_for_them(
    queues: str, path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary = Diary()
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")
            await ref.ask(Go())
            await do(ref, diary, remind(3600))
            diary.does["do"] = lambda machine: machine.start_timer(Tick(n=2), after=0)
            ref.tell(Do())
            await until(lambda: len(diary.when("do")) == 2)
            report = await system.shutdown(queues=queues)
            assert report.seconds < 1
            assert report.unstopped == ()
            stats = system.stats()
            assert (stats.timers, stats.balance) == (0, 0)
            await asyncio.sleep(7200)
            assert diary.when("tick 1") == diary.when("dawn") == []

    sim(scenario)


@on_every_async_path
@pytest.mark.rule("C19")
def test_a_timer_whose_event_is_at_hand_when_the_system_ends_does_not_come_again(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary, trace = Diary(**{"tick 1": hang}), Trace()
        cls = porter_of(path.style, hook_timeout=1e6)
        async with path.system(cls, services=diary, trace=trace) as system:
            ref: Ref[Any] = await system.spawn(cls, "w")
            await do(ref, diary, remind())
            await asyncio.sleep(1.5)
            report = await system.shutdown(queues="abandon")
            assert (report.unstopped, names(system)) == ((), [])
            stats = system.stats()
            assert (stats.timers, stats.timers_fired, stats.balance) == (0, 1, 0)
            assert [record.name for record in trace if record.event_type == "Tick"] == ["failed"]
            await asyncio.sleep(7200)
            assert diary.when("tick 1") == [1.0]

    sim(scenario)


@pytest.mark.rule("C19")
@pytest.mark.parametrize("inline", [True, False])
def test_a_plain_turn_that_commits_after_the_runtime_has_failed_starts_no_timer(
    inline: bool, sim: Callable[..., None]
) -> None:
    cls = PORTER[Style.PLAIN]  # nothing interrupts it between its hook and its commit

    async def scenario() -> None:
        diary, trace = Diary(), Trace()
        system = Path(Style.PLAIN, inline).system(cls, services=diary, trace=trace)

        def start(machine: Any) -> None:
            machine.start_timer(Tick(n=1), after=5)
            system._fail(ValueError("the runtime is at fault"))

        diary.does |= {"go": start, "after": lambda machine: running.append(system._parts.counters.timers)}
        running: list[int] = []

        async def live() -> None:
            async with system:
                ref: Ref[Any] = await system.spawn(cls, "w")
                ref.tell(Go())
                await asyncio.sleep(1)

        with pytest.raises(SystemFailed):
            await live()
        # On Python 3.11 the turn has a task that is interrupted: its after-hook is reported, behind the commit.
        assert [record.name for record in trace if record.name != "after_hook_failed"][-1] == "committed"
        assert running == [0]
        assert system.stats().timers == 0
        assert system.inspect("w").timers == ()

    sim(scenario)


@on_every_path
def test_a_birth_that_fails_or_is_refused_starts_nothing(path: Path, sim: Callable[..., None]) -> None:
    cls = porter_of(path.style, initial=State.NIGHT)

    async def scenario() -> None:
        def start_and_refuse(machine: Any) -> bool:
            machine.start_timer(Tick(n=1), after=1)
            return False

        diary = Diary(enter=start_and_refuse)
        async with path.system(cls, services=diary) as system:
            with pytest.raises(Exception, match="refused"):
                await system.spawn(cls, "w")
            diary.does["enter"] = times(1, remind())
            await system.spawn(cls, "w")
            assert names(system) == ["dawn", "midnight", "remind"]
            await asyncio.sleep(60)
            assert diary.when("tick 1") == [1.0]
            assert system.stats().timers_fired == 3

    sim(scenario)
