"""C20: timers come at the end of the mailbox, never early; a cancelled one never comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any

import pytest

from actorfsm import (
    ActorSystem,
    Directive,
    Event,
    HookFailed,
    InvalidEvent,
    Machine,
    MailboxPolicy,
    Overflow,
    ReadOnly,
    Ref,
    RestartPolicy,
    StaleTurn,
    StateTimeout,
    TimerScope,
    TransitionRequested,
    Unhandled,
    Veto,
    Vetoed,
    on_timeout,
    transition,
)
from actorfsm.testing.clock import START, VirtualClock
from actorfsm.testing.simulation import SimulatedSystem
from tests.contract.lamp import Trace, raising, times
from tests.contract.paths import Path, Style, at_rest, on_every_path
from tests.contract.porter import (
    Again,
    Diary,
    Do,
    Finish,
    Go,
    Ping,
    State,
    Tick,
    Unknown,
    Wait,
    porter_of,
)

pytestmark = pytest.mark.rule("C20")
PORTER = {style: porter_of(style) for style in Style}


class Stranger(Event):
    """No machine takes it."""


class Note(Event):
    """Could be changed."""

    lines: list[str]


def names(system: Any, machine_id: str = "w") -> list[str]:
    """Return the names of a machine's timers, in the order of their start."""
    return [timer.name for timer in system.inspect(machine_id).timers]


def assert_balanced(system: Any) -> None:
    stats = system.stats()
    assert stats.balance == 0
    assert stats.timers == sum(
        timer.due_in_s is not None
        for machine_id in system.ids()
        for timer in system.inspect(machine_id).timers
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
            assert [timer.due_in_s for timer in system.inspect("w").timers] == [10, 4]
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

            before = system.inspect("w").timers
            diary.does["enter"] = refuse
            with pytest.raises(Vetoed):
                await ref.ask(Go())
            diary.does["enter"] = fail
            with pytest.raises(HookFailed):
                await ref.ask(Go())
            diary.does["enter"] = spoil
            with pytest.raises(HookFailed, match="does not validate"):
                await ref.ask(Go())
            assert system.inspect("w").timers == before
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


@on_every_path
def test_a_timer_whose_guard_says_no_is_used_up_and_the_others_of_the_state_are_not_asked(
    path: Path, sim: Callable[..., None]
) -> None:
    class Guarded(Machine[State, Diary], initial=State.DAY):
        def no(self, event: StateTimeout) -> bool:
            return self.services.play(f"no to {event.name}", self, False)

        @on_timeout(State.DAY, after=1, to=State.NIGHT, when=no)
        @path.style
        def first(self, event: StateTimeout) -> Any:
            return self.services.play("first", self)

        @on_timeout(State.DAY, State.NIGHT, after=timedelta(seconds=2), to=State.OVER)
        @path.style
        def second(self, event: StateTimeout) -> Any:
            return self.services.play(f"second {event.name}", self)

        @transition(State.OVER, State.NIGHT, to=State.DAY)
        @path.style
        def again(self, event: Again) -> None: ...

    async def scenario() -> None:
        diary, trace = Diary(), Trace()
        async with path.system(Guarded, services=diary, trace=trace) as system:
            await system.spawn(Guarded, "w")
            await asyncio.sleep(10)
            assert diary.lines == [(1, "no to first"), (2, "second second")]
            assert [(record.name, record.event_type) for record in trace] == [
                ("committed", "Spawn"),
                ("unhandled", "StateTimeout"),
                ("committed", "StateTimeout"),
            ]
            assert "no said no" in trace[1].reason
            assert names(system) == []

    sim(scenario)


# -- named timers ------------------------------------------------------------------------------------------------------


@on_every_path
def test_a_named_timer_survives_changes_of_state_and_is_named_after_its_event_by_default(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary = Diary()
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")
            await do(ref, diary, lambda m: m.start_timer(Tick(n=1), after=timedelta(seconds=5)))
            assert names(system) == ["Tick"]
            await ref.ask(Go())
            await ref.ask(Again())
            await ref.ask(Go())
            await asyncio.sleep(60)
            assert diary.when("tick 1") == [5.0]
            assert names(system) == []

    sim(scenario)


@on_every_path
def test_a_name_that_is_started_again_replaces_the_timer_also_its_event_and_its_place(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary = Diary()
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")

            def start(machine: Any) -> None:
                machine.start_timer(Tick(n=1), after=5, name="a")
                machine.start_timer(Tick(n=2), after=5, name="b")

            await do(ref, diary, start)
            await do(ref, diary, lambda m: m.start_timer(Tick(n=3), after=5, name="a"))
            assert names(system) == ["b", "a"]
            await asyncio.sleep(2)
            assert diary.when("tick 1") == []

            def twice(machine: Any) -> None:
                machine.start_timer(Ping(), after=1, name="b")
                machine.start_timer(Tick(n=4), after=8, name="b")

            await do(ref, diary, twice)
            await asyncio.sleep(60)
            assert [line for line in diary.lines if "tick" in line[1] or "ping" in line[1]] == [
                (5, "tick 3"),
                (10, "tick 4"),
            ]
            assert system.stats().timers_fired == 2
            assert_balanced(system)

    sim(scenario)


@on_every_path
def test_a_cancelled_timer_is_never_delivered(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        diary = Diary()
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")

            def start(machine: Any) -> None:
                machine.start_timer(Tick(n=1), after=5)
                machine.start_timer(Ping(), after=5, name="other")
                machine.start_timer(Tick(n=2), after=3, name="third")

            await do(ref, diary, start)
            await asyncio.sleep(1)
            told: list[bool] = []

            def cancel(machine: Any) -> None:
                told.extend(machine.cancel_timer(name) for name in (Tick, "other", "other", "nothing", Ping))

            await do(ref, diary, cancel)
            assert told == [True, True, False, False, False]
            assert names(system) == ["third"]
            await asyncio.sleep(60)
            assert diary.when("tick 1") == diary.when("ping") == []
            assert diary.when("tick 2") == [3.0]
            assert system.stats().timers_withdrawn == 0
            assert_balanced(system)

    sim(scenario)


@on_every_path
@pytest.mark.parametrize("how", ["cancelled", "replaced", "died with the state", "died with an event"])
def test_a_timer_that_has_come_and_waits_is_taken_out_of_the_mailbox_when_it_is(
    how: str, path: Path, sim: Callable[..., None]
) -> None:
    scope = {"died with the state": TimerScope.STATE, "died with an event": TimerScope.EVENT}

    async def scenario() -> None:
        diary, trace = Diary(), Trace()
        seen: list[Any] = []
        async with path.system(PORTER[path.style], services=diary, trace=trace) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")

            def start(machine: Any) -> None:
                machine.start_timer(Tick(n=1), after=0, scope=scope.get(how, TimerScope.NAMED))

            def end(machine: Any) -> None:
                seen.append((system.inspect("w").timers[0].due_in_s is None, system.stats().queued))
                assert system.stats().timers_fired == 1
                if how == "cancelled":
                    assert machine.cancel_timer(Tick)
                elif how == "replaced":
                    machine.start_timer(Tick(n=2), after=5)

            diary.does |= {"do": start, "again": end}
            ref.tell(Do())
            ref.tell(Again())
            ref.tell(Ping())  # was accepted before the timer came
            await at_rest(system)
            assert seen == [(True, 2)]
            assert names(system) == (["Tick"] if how == "replaced" else [])
            assert system.stats().timers_withdrawn == system.stats().withdrawn == 1
            assert system.stats().accepted == 4
            assert_balanced(system)
            await asyncio.sleep(60)
            assert diary.when("tick 1") == []
            assert diary.when("tick 2") == ([5.0] if how == "replaced" else [])
            assert len(diary.when("ping")) == 1
            assert trace.names("w") == ["committed"] * (5 if how == "replaced" else 4)
            assert_balanced(system)

    sim(scenario)


@on_every_path
def test_a_rollback_of_the_turn_that_cancels_leaves_even_the_waiting_timer_where_it_is(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary = Diary()
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")

            def refuse(machine: Any) -> Any:
                assert machine.cancel_timer("Tick")
                raise Veto("not now")

            diary.does |= {"do": lambda m: m.start_timer(Tick(n=1), after=0), "again": refuse}
            ref.tell(Do())
            assert (await ref.tell(Again())).kind == "vetoed"
            await at_rest(system)
            assert diary.when("tick 1") == [0.0]
            assert system.stats().timers_withdrawn == 0

    sim(scenario)


@on_every_path
def test_in_the_turn_of_its_own_event_a_timer_is_gone_and_may_be_started_again(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary = Diary()
        cancelled: list[bool] = []
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")

            def again(machine: Any) -> None:
                cancelled.append(machine.cancel_timer(Tick))
                if len(machine.seen) < 4:
                    machine.start_timer(Tick(n=1), after=1.5)

            diary.does["tick 1"] = again
            await do(ref, diary, lambda m: m.start_timer(Tick(n=1), after=1))
            await asyncio.sleep(60)
            assert diary.when("tick 1") == [1.0, 2.5, 4.0, 5.5]
            assert cancelled == [False] * 4
            assert names(system) == []
            assert_balanced(system)

    sim(scenario)


# -- timers of a state and of an event ---------------------------------------------------------------------------------


@on_every_path
def test_a_timer_with_the_scope_of_a_state_belongs_to_the_state_that_the_transition_leads_to(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary = Diary()
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")
            state = TimerScope.STATE
            diary.does["go"] = lambda m: m.start_timer(Tick(n=1), after=3, scope=state)
            diary.does["exit"] = lambda m: m.start_timer(Ping(), after=2, scope=state)
            await ref.ask(Go())
            assert names(system) == ["dawn", "midnight", "Ping", "Tick"]
            await asyncio.sleep(2.5)
            assert diary.when("ping") == [2.0]
            await ref.ask(Go())  # leaves
            await do(ref, diary, lambda m: m.start_timer(Tick(n=2), after=3, scope=state))
            await ref.ask(Tick(n=9))  # stays
            await asyncio.sleep(1)
            diary.does["exit"] = diary.does["go"] = lambda machine: None
            await ref.ask(Again())
            assert names(system) == []
            await asyncio.sleep(60)
            assert diary.when("tick 1") == diary.when("tick 2") == []

    sim(scenario)


@on_every_path
@pytest.mark.parametrize(
    ("event", "dies"),
    [
        ("handled", True),
        ("unhandled", True),
        ("postponed", True),
        ("another timer", True),
        ("vetoed", False),
        ("failed", False),
    ],
)
def test_a_timer_with_the_scope_of_an_event_dies_with_any_other_event_but_a_refused_or_failed_one(
    event: str, dies: bool, path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary = Diary()
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")

            def start(machine: Any) -> None:
                machine.start_timer(Tick(n=1), after=5, scope=TimerScope.EVENT)
                if event == "another timer":
                    machine.start_timer(Ping(), after=1)

            await do(ref, diary, start)
            await asyncio.sleep(1)
            if event == "handled":
                await ref.ask(Tick(n=9))
            elif event == "unhandled":
                with pytest.raises(Unhandled):
                    await ref.ask(Unknown())
            elif event == "postponed":
                ref.tell(Wait())
            elif event == "vetoed":
                diary.does["before"] = lambda machine: False
                with pytest.raises(Vetoed):
                    await ref.ask(Go())
            elif event == "failed":
                diary.does["ping"] = raising(ValueError)
                with pytest.raises(HookFailed):
                    await ref.ask(Ping())
            await asyncio.sleep(0.1)
            assert names(system) == ([] if dies else ["Tick"])
            assert_balanced(system)
            await asyncio.sleep(60)
            assert diary.when("tick 1") == ([] if dies else [5.0])
            assert_balanced(system)

    sim(scenario)


@on_every_path
def test_a_timer_of_an_event_that_comes_is_used_up_like_any_other(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary = Diary()
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")

            def idle(machine: Any) -> None:
                machine.start_timer(Tick(n=1), after=5, name="idle", scope=TimerScope.EVENT)

            def start_unknown(machine: Any) -> None:
                machine.start_timer(Unknown(), after=5, scope=TimerScope.EVENT)

            for _ in range(3):  # the idle timeout of an actor that hears from others
                await do(ref, diary, idle)
                await asyncio.sleep(4)
            assert diary.when("tick 1") == []
            await asyncio.sleep(2)
            assert diary.when("tick 1") == [13.0]
            await do(ref, diary, start_unknown)
            await asyncio.sleep(6)
            assert system.stats().outcomes["unhandled"] == 1
            assert names(system) == []
            assert_balanced(system)

    sim(scenario)


# -- the order of events (gen_statem's event_order) -------------------------------------------------------------------


@on_every_path
def test_own_events_come_first_then_postponed_ones_and_a_zero_timer_after_them_unless_they_end_it(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        for scope, comes in ((TimerScope.EVENT, False), (TimerScope.STATE, True), (TimerScope.NAMED, True)):
            diary = Diary()
            async with path.system(PORTER[path.style], services=diary) as system:
                ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")
                ref.tell(Wait(n=1))
                ref.tell(Wait(n=2))
                await at_rest(system)

                def go(machine: Any, scope: TimerScope = scope) -> None:
                    machine.start_timer(Tick(n=3), after=0, scope=scope)
                    machine.next_event(Tick(n=1))
                    machine.next_event(Tick(n=2))

                diary.does["go"] = go
                before = len(diary.calls)
                await ref.ask(Go())
                await at_rest(system)
                handled = [call for call in diary.calls[before:] if call.startswith(("tick", "wait"))]
                assert handled == ["tick 1", "tick 2", "wait 1", "wait 2", *["tick 3"] * comes]
                assert names(system) == ["dawn", "midnight"]
                assert_balanced(system)

    sim(scenario)


@on_every_path
def test_a_zero_timer_comes_after_what_waits_already_and_before_what_comes_later(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary = Diary()
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")
            diary.does["do"] = lambda m: m.start_timer(Tick(n=2), after=0)
            ref.tell(Do())
            ref.tell(Tick(n=1))
            await at_rest(system)
            await ref.ask(Do())
            await ref.ask(Tick(n=3))  # also if it is handled inside the ask
            assert ref.snapshot().data["seen"] == (1, 2, 2, 3)
            assert diary.lines[-1][0] == 0.0

    sim(scenario)


@on_every_path
def test_timers_that_are_due_come_by_deadline_then_by_the_order_of_their_start_and_never_early(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary = Diary()
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")
            delays = [5, 1, 3, 1, 5, 0.25, 3, 1]

            def start(machine: Any) -> None:
                for number, delay in enumerate(delays):
                    machine.start_timer(Tick(n=number), after=delay, name=f"t{number}")

            await do(ref, diary, start)
            await asyncio.sleep(10)
            expected = sorted(range(len(delays)), key=lambda number: (delays[number], number))
            assert ref.snapshot().data["seen"] == tuple(expected)
            assert [diary.when(f"tick {number}") for number in range(len(delays))] == [[at] for at in delays]

    sim(scenario)


def test_timers_of_many_machines_that_are_due_at_once_come_in_the_order_of_their_start(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        cls, diary = PORTER[Style.PLAIN], Diary()
        async with SimulatedSystem(cls, services=diary) as system:
            await system.spawn_many(cls, [f"w{n}" for n in range(50)])
            diary.does["do"] = lambda m: m.start_timer(Tick(n=int(m.id[1:])), at=START + timedelta(hours=1))
            order = Random(3).sample(range(50), 50)
            for number in order:
                await asyncio.sleep(0.1)
                await system.ask(f"w{number}", Do())
            await asyncio.sleep(3600)
            handled = [(at, name) for at, name in diary.lines if name.startswith("tick")]
            assert handled == [(3600.0, f"tick {number}") for number in order]

    sim(scenario)


# -- absolute time -----------------------------------------------------------------------------------------------------


@on_every_path
def test_a_timer_for_a_time_of_day_comes_then_and_at_once_if_that_is_past(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary, clock = Diary(), VirtualClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
        async with path.system(PORTER[path.style], services=diary, clock=clock) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")
            await asyncio.sleep(1)
            elsewhere = timezone(timedelta(hours=2))

            def start(machine: Any) -> None:
                machine.start_timer(Tick(n=1), at=datetime(2026, 3, 1, 14, 1, tzinfo=elsewhere), name="a")
                machine.start_timer(Tick(n=2), at=machine.now() + timedelta(days=1), name="b")
                machine.start_timer(Tick(n=3), at=datetime(1999, 12, 31, tzinfo=UTC), name="c")

            await do(ref, diary, start)
            await asyncio.sleep(100_000)
            assert [diary.when(f"tick {n}") for n in (1, 2, 3)] == [[60.0], [86_401.0], [1.0]]

    sim(scenario)


def test_a_step_of_the_wall_clock_does_not_move_a_timer_that_runs(sim: Callable[..., None]) -> None:
    class Wall:
        at = datetime(2026, 3, 1, 12, tzinfo=UTC)

        def now(self) -> datetime:
            return self.at

    async def scenario() -> None:
        diary, clock, cls = Diary(), Wall(), PORTER[Style.PLAIN]
        async with ActorSystem(cls, services=diary, clock=clock, trace=None) as system:
            ref: Ref[Any] = await system.spawn(cls, "w")
            await do(ref, diary, lambda m: m.start_timer(Tick(n=1), at=m.now() + timedelta(seconds=60)))
            await do(ref, diary, lambda m: m.start_timer(Tick(n=2), after=50, name="b"))
            clock.at += timedelta(days=365)
            await asyncio.sleep(30)
            clock.at -= timedelta(days=1000)
            await asyncio.sleep(100)
            assert [diary.when(f"tick {n}") for n in (1, 2)] == [[60.0], [50.0]]

    sim(scenario)


# -- what cannot be meant ----------------------------------------------------------------------------------------------


@on_every_path
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({}, "takes one of after= and at="),
        ({"after": 1, "at": datetime(2026, 1, 1, tzinfo=UTC)}, "takes one of after= and at="),
        ({"at": datetime(2026, 1, 1)}, "with a time zone"),  # noqa: DTZ001 -- that is what is wrong with it
        ({"at": "tomorrow"}, "with a time zone"),
        ({"at": datetime(9999, 1, 1, tzinfo=UTC)}, "in the next 31 years"),
        ({"after": -1}, "from 0 to"),
        ({"after": timedelta(seconds=-1)}, "from 0 to"),
        ({"after": float("nan")}, "from 0 to"),
        ({"after": float("inf")}, "from 0 to"),
        ({"after": "soon"}, "from 0 to"),
        ({"after": 1, "name": ""}, "the name of a timer"),
        ({"after": 1, "name": "n" * 201}, "the name of a timer"),
        ({"after": 1, "name": 7}, "the name of a timer"),
        ({"after": 1, "scope": "state"}, "a member of TimerScope"),
        ({"after": 1, "event": Stranger()}, "does not take Stranger; it takes Again, Do, Finish"),
        ({"after": 1, "event": 7}, "does not take int, which is no event"),
        ({"after": 1, "event": StateTimeout(name="dawn")}, "only the runtime sends StateTimeout"),
        ({"after": 1, "event": TransitionRequested(to=State.DAY)}, "does not take TransitionRequested"),
    ],
)
def test_a_timer_that_cannot_be_meant_fails_where_it_is_started(
    wrong: dict[str, Any], says: str, path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary = Diary()
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")

            def start(machine: Any) -> str:
                arguments = dict(wrong)
                with pytest.raises(InvalidEvent, match=says):
                    machine.start_timer(arguments.pop("event", Tick()), **arguments)
                return "checked"

            assert await do(ref, diary, start) == "checked"
            assert names(system) == []

    sim(scenario, seeds=range(1))


@on_every_path
def test_nobody_else_sends_a_state_timeout(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        diary = Diary()
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")
            await ref.ask(Go())
            event = StateTimeout(name="dawn")
            with pytest.raises(InvalidEvent, match="only the runtime sends StateTimeout"):
                await ref.ask(event)
            with pytest.raises(InvalidEvent, match="only the runtime sends StateTimeout"):
                ref.tell(event)

            def send(machine: Any) -> str:
                with pytest.raises(InvalidEvent, match="only the runtime"):
                    machine.tell("w", event)
                with pytest.raises(InvalidEvent, match="only the runtime"):
                    machine.next_event(event)
                return "checked"

            assert await do(ref, diary, send) == "checked"
            assert "StateTimeout" not in ref.snapshot().allowed
            assert ref.snapshot().state is State.NIGHT

    sim(scenario, seeds=range(1))


@on_every_path
def test_guards_and_after_hooks_start_and_cancel_nothing_and_neither_does_what_they_leave_behind(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary, kept = Diary(), []
        async with path.system(PORTER[path.style], services=diary) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")

            def look(machine: Any) -> None:
                kept.append(machine)
                with pytest.raises(ReadOnly):
                    machine.start_timer(Tick(), after=1)
                with pytest.raises(ReadOnly):
                    machine.cancel_timer("midnight")

            diary.does["after"] = look
            await ref.ask(Go())
            await at_rest(system)
            assert system.stats().after_hooks_failed == 0
            with pytest.raises(StaleTurn):
                kept[0].start_timer(Tick(), after=1)
            with pytest.raises(StaleTurn):
                kept[0].cancel_timer("midnight")
            assert names(system) == ["dawn", "midnight"]

    sim(scenario, seeds=range(1))


# -- in the mailbox ----------------------------------------------------------------------------------------------------


@on_every_path
@pytest.mark.parametrize(
    ("overflow", "seen"),
    [
        (Overflow.REFUSE, (0, 1, 2)),
        (Overflow.WAIT, (0, 1, 2, 3, 4)),
        (Overflow.DROP_NEWEST, (0, 1, 2)),
        (Overflow.DROP_OLDEST, (1, 2, 4)),
    ],
)
def test_a_timer_finds_room_in_a_full_mailbox_and_is_not_dropped_for_others(
    overflow: Overflow, seen: tuple[int, ...], path: Path, sim: Callable[..., None]
) -> None:
    cls = porter_of(
        path.style,
        mailbox=MailboxPolicy(capacity=1, overflow=overflow),
        on_failure={ValueError: Directive.RESTART},
        restart=RestartPolicy(first_delay_s=1, jitter=0),
    )

    async def scenario() -> None:
        for filled in (True, False):
            diary = Diary()
            async with path.system(cls, services=diary) as system:
                ref: Ref[Any] = await system.spawn(cls, "w")

                def start(machine: Any) -> None:
                    machine.start_timer(Tick(n=1), after=0.5, name="a")
                    machine.start_timer(Tick(n=2), after=0.5, name="b")

                await do(ref, diary, start)
                diary.does["ping"] = raising(ValueError)
                ref.tell(Ping())
                await asyncio.sleep(0.1)  # mail is kept from now on, and not handled
                if filled:
                    ref.tell(Tick(n=0))
                await asyncio.sleep(0.5)
                assert system.stats().queued == 2 + filled
                ref.tell(Tick(n=3))
                ref.tell(Tick(n=4))
                assert_balanced(system)
                await asyncio.sleep(100)
                assert ref.snapshot().data["seen"] == (seen if filled else tuple(n for n in seen if n))
                assert_balanced(system)

    sim(scenario, seeds=range(1))


@on_every_path
def test_what_a_timer_sends_is_never_postponed(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        diary, trace = Diary(), Trace()
        async with path.system(PORTER[path.style], services=diary, trace=trace) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")
            await do(ref, diary, lambda m: m.start_timer(Wait(n=1), after=1))
            ref.tell(Wait(n=2))
            await asyncio.sleep(2)
            assert trace[-1].name == "unhandled"
            assert "what a timer sends is not postponed" in trace[-1].reason
            assert system.stats().postponed == 1
            assert names(system) == []
            await ref.ask(Go())
            await at_rest(system)
            assert diary.when("wait 1") == []
            assert diary.when("wait 2") == [2.0]
            assert_balanced(system)

    sim(scenario)


@on_every_path
def test_a_timer_carries_the_ids_and_headers_of_the_event_that_set_it(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        diary, trace = Diary(), Trace()
        async with path.system(PORTER[path.style], services=diary, trace=trace) as system:
            ref: Ref[Any] = await system.spawn(PORTER[path.style], "w")
            diary.does["go"] = lambda m: m.start_timer(Ping(), after=2, name="remind")
            diary.does["ping"] = lambda m: m.start_timer(Ping(), after=1, name="remind")
            await ref.ask(Go(), event_id="go-1", headers={"correlation_id": "c-7", "traceparent": "00-ab"})
            await asyncio.sleep(4.5)
            pings = [record for record in trace if record.event_type == "Ping"]
            assert [(ping.event_id, ping.causation_id) for ping in pings] == [
                ("go-1/timer/remind", "go-1"),
                ("go-1/timer/remind/timer/remind", "go-1/timer/remind"),
                ("go-1/timer/remind/timer/remind/timer/remind", "go-1/timer/remind/timer/remind"),
            ]
            midnight = next(record for record in trace if record.event_type == "StateTimeout")
            assert (midnight.event_id, midnight.causation_id) == ("go-1/timer/midnight", "go-1")
            for record in (*pings, midnight):
                assert (record.correlation_id, record.traceparent) == ("c-7", "00-ab")
                assert record.queue_s == 0

    sim(scenario)


@on_every_path
def test_an_event_that_could_be_changed_is_copied_for_the_timer(path: Path, sim: Callable[..., None]) -> None:
    class Book(Machine[State, Diary], initial=State.DAY):
        @transition(State.DAY, to=State.NIGHT)
        @path.style
        def open(self, event: Go) -> None:
            note = Note(lines=["one"])
            self.start_timer(note, after=1)
            note.lines.append("two")

        @transition(State.NIGHT, to=State.DAY)
        @path.style
        def read(self, event: Note) -> Any:
            event.lines.append("read")
            return self.services.play(" ".join(event.lines), self)

        @transition(State.DAY, State.NIGHT, to=State.OVER)
        @path.style
        def close(self, event: Finish) -> None: ...

        @transition(State.OVER, to=State.DAY)
        @path.style
        def again(self, event: Again) -> None: ...

    async def scenario() -> None:
        diary = Diary(**{"one read": times(2, raising(ValueError))})
        async with path.system(Book, services=diary) as system:
            ref: Ref[Any] = await system.spawn(Book, "w")
            await ref.ask(Go())
            await asyncio.sleep(5)
            assert [name for at, name in diary.lines] == ["one read"] * 3

    sim(scenario)
