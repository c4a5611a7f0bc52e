"""Simulated systems: the trace, the notes, virtual time, and what a failing scenario shows."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Any

import pytest

from actorfsm import (
    STAY,
    Event,
    HookFailed,
    Machine,
    MachineExists,
    Outcome,
    Receipt,
    Vetoed,
    on_enter,
    transition,
)
from actorfsm.testing import ContractBroken, SimLoop, SimulatedSystem, VirtualClock, simulate
from actorfsm.testing.clock import START, parse_duration
from actorfsm.testing.notes import resolve


class S(Enum):
    A = auto()
    B = auto()


class Go(Event[str]):
    pass


class Pass(Event):
    to: str


class Keep(Event[int]):
    items: list[int]


class Light(Machine[S], initial=S.A):
    since: datetime | None = None
    refuses: bool = False

    @on_enter(S.A)
    async def arrive(self, old: S, new: S) -> bool:
        return not self.refuses

    @transition(S.A, S.B, to=S.B)
    async def go(self, event: Go) -> str:
        self.since = self.now()
        return self.id

    @transition(S.A, S.B, to=STAY)
    async def hand_on(self, event: Pass) -> None:
        self.tell(event.to, Go())
        await self.ask(event.to, Go())

    @transition(S.A, S.B, to=STAY)
    async def keep(self, event: Keep) -> int:
        return len(event.items)


# -- virtual time


def test_time_passes_on_the_simulated_loop_with_all_that_happens_in_it() -> None:
    seen: list[tuple[str, datetime]] = []

    async def scenario() -> None:
        clock = VirtualClock()

        async def alarm(hours: float) -> None:
            await asyncio.sleep(hours * 3600)
            await asyncio.sleep(0)
            seen.append((f"{hours}", clock.now()))

        async with asyncio.TaskGroup() as group:
            for hours in (2, 1, 3):
                group.create_task(alarm(hours))
            assert clock.now() == START
            assert await clock.advance("2h") == START + timedelta(hours=2)
            assert [name for name, _ in seen] == ["1", "2"]  # what is due at the end has happened
            await clock.advance(timedelta(hours=1))
        assert seen[-1] == ("3", START + timedelta(hours=3))

    for seed in range(10):
        seen.clear()
        simulate(scenario, seed=seed)


def test_a_cancelled_advance_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        task = asyncio.ensure_future(VirtualClock().advance("1d"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.get_running_loop().time() == 0

    simulate(scenario)


def test_an_advance_that_is_cancelled_at_the_moment_at_which_it_ends_is_cancelled() -> None:
    async def scenario() -> None:
        task = asyncio.ensure_future(VirtualClock().advance(1))
        loop = asyncio.get_running_loop()
        loop.call_at(1, task.cancel)
        await asyncio.sleep(2)
        assert task.cancelled()

    for seed in range(20):
        simulate(scenario, seed=seed)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1h", 3600),
        ("90s", 90),
        ("1h 30m", 5400),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("2d", 172800),
        (1.5, 1.5),
        (timedelta(days=1), 86400),
    ],
)
def test_durations_are_written_as_people_write_them(text: Any, wanted: float) -> None:
    assert parse_duration(text) == pytest.approx(wanted)


@pytest.mark.parametrize(
    "text", ["", "1", "h", "1 hour", "1h x", "-1s", -1, float("inf"), float("nan"), timedelta(-1)]
)
def test_what_is_no_duration_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match=r"forward|not a duration"):
        parse_duration(text)


def test_a_start_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        VirtualClock(datetime(2026, 1, 1))  # noqa: DTZ001 -- the case
    assert "2030-05-01" in repr(VirtualClock(datetime(2030, 5, 1, tzinfo=UTC)))


def test_a_machine_sees_virtual_time() -> None:
    async def scenario() -> None:
        clock = VirtualClock(datetime(2030, 5, 1, tzinfo=UTC))
        async with SimulatedSystem(Light, clock=clock) as system:
            light = await system.spawn(Light, "light")
            await system.clock.advance("1d 1h")
            await light.ask(Go())
            assert light.snapshot().data["since"] == datetime(2030, 5, 2, 1, tzinfo=UTC)

    simulate(scenario)


# -- a simulated system


def test_the_trace_is_kept_and_can_be_read() -> None:
    async def scenario() -> None:
        more: list[Any] = []
        async with SimulatedSystem(Light, trace=[more.append]) as system:
            await system.spawn(Light, "light")
            await system.spawn(Light, "other")
            await system.ask("light", Pass(to="other"))
        assert more == list(system.trace)
        assert len(system.trace) == len(more) == 5
        assert [record.event_type for record in system.trace.of("other")] == ["Spawn", "Go", "Go"]
        lines = system.trace.lines()
        assert len(lines) == 5
        assert lines[-2:] == system.trace.lines(2)
        assert "light#0 seq=2 | Pass" in lines[3]
        assert "because" in lines[4]
        assert repr(system.trace) == "<Trace of 5 records>"

    simulate(scenario)


def test_the_same_seed_gives_the_same_trace_and_another_seed_other_ids() -> None:
    async def scenario() -> list[str]:
        async with SimulatedSystem(Light) as system:
            await system.spawn(Light, "light")
            for _ in range(5):
                system.tell("light", Go())
        return system.trace.lines()

    assert simulate(scenario, seed=1) == simulate(scenario, seed=1)
    assert simulate(scenario, seed=1) != simulate(scenario, seed=2)


def test_senders_leave_notes() -> None:
    async def scenario() -> None:
        called: list[Outcome] = []
        async with SimulatedSystem(Light) as system:
            light = await system.spawn(Light, "light")
            await system.spawn(Light, "other")
            with pytest.raises(MachineExists):
                await system.spawn(Light, "other")
            with pytest.raises(Vetoed):
                await system.spawn(Light, "third", data={"refuses": True})
            assert await light.ask(Go(), event_id="mine") == "light"
            light.tell(Go(), callback=called.append)
            await light.ask(Pass(to="other"))
            assert await light.ask(Keep(items=[1, 2])) == 2
            assert await light.ask(Keep(items=[1, 2])) == 2
        told = [(note.how, note.sender, note.machine_id, note.ended) for note in system.notes]
        assert told == [
            ("spawn", "main", "light", "reply"),
            ("spawn", "main", "other", "reply"),
            ("spawn", "main", "other", "error"),
            ("spawn", "main", "third", "error"),
            ("ask", "main", "light", "reply"),
            ("tell", "main", "light", ""),
            ("ask", "main", "light", "reply"),
            ("message", "light", "other", ""),
            ("ask", "light", "other", "reply"),
            ("ask", "main", "light", "reply"),
            ("ask", "main", "light", "reply"),
        ]
        assert system.notes[5].calls == called
        assert len(called) == 1
        assert system.notes[7].cause == system.notes[8].cause is not None

    simulate(scenario)


def test_a_hook_that_tells_through_the_system_with_a_callback_leaves_a_note_too() -> None:
    called: list[Outcome] = []

    class Teller(Machine[S, Any], initial=S.A, final=(S.B,)):
        @transition(S.A, to=S.B)
        async def end(self, event: Keep) -> int:
            return 0

        @transition(S.A, to=STAY)
        async def hand_on(self, event: Pass) -> None:
            receipt = self.services.tell(event.to, Go(), callback=called.append)
            assert isinstance(receipt, Receipt)

        @transition(S.A, to=STAY)
        async def ask_on(self, event: Go) -> str:
            return str(await self.services.ask("light", Go()))

    class Services:
        system: Any

        def tell(self, *arguments: Any, **options: Any) -> Any:
            return self.system.tell(*arguments, **options)

        async def ask(self, *arguments: Any) -> Any:
            return await self.system.ask(*arguments)

    async def scenario() -> None:
        services = Services()
        async with SimulatedSystem(Light, Teller, services=services) as system:
            services.system = system
            await system.spawn(Light, "light")
            await system.spawn(Teller, "teller")
            await system.ask("teller", Pass(to="light"))
            assert await system.ask("teller", Go()) == "light"
        assert [note.how for note in system.notes] == ["spawn", "spawn", "ask", "message", "ask", "ask"]
        assert system.notes[3].calls == called
        assert len(called) == 1

    simulate(scenario)


def test_a_receipt_can_be_asked_without_waiting_and_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        async with SimulatedSystem(Light) as system:
            await system.spawn(Light, "light")
            receipt = system.tell("light", Go())
            assert resolve(receipt).outcome is None
            assert system.violations() == []  # what is still on its way is no loss
            await receipt
            known = resolve(receipt).outcome
            assert known is not None
            assert known.success
            nobody = resolve(system.tell("nobody", Go()))
            assert nobody.refusal is not None

    simulate(scenario)


def test_the_end_of_the_system_judges_what_happened() -> None:
    async def scenario() -> None:
        async with SimulatedSystem(Light) as system:
            light = await system.spawn(Light, "light")
            await light.ask(Go())
            del system.trace.records[1]

    with pytest.raises(ContractBroken, match="the trace has no outcome") as caught:
        simulate(scenario)
    assert any("the last 1 of 1 records" in note for note in caught.value.__notes__)


def test_who_wants_to_judge_by_himself_can() -> None:
    async def scenario() -> None:
        async with SimulatedSystem(Light, check=False) as system:
            light = await system.spawn(Light, "light")
            await light.ask(Go())
            del system.trace.records[1]
        assert {violation.rule for violation in system.violations()} == {"C7"}

    simulate(scenario)


def test_a_failing_scenario_shows_what_happened_last() -> None:
    async def scenario() -> None:
        async with SimulatedSystem(Light) as system:
            light = await system.spawn(Light, "light")
            await light.ask(Go())
            raise KeyError("told to")

    with pytest.raises(KeyError) as caught:
        simulate(scenario, seed=17)
    notes = "\n".join(caught.value.__notes__)
    assert "the last 2 of 2 records" in notes
    assert "committed A -> B" in notes
    assert "simulated with seed 17" in notes


def test_a_system_that_fails_at_its_end_shows_what_happened_last() -> None:
    async def scenario() -> None:
        async with SimulatedSystem(Light) as system:
            await system.spawn(Light, "light")
            system._fail(RuntimeError("told to"))
            await asyncio.sleep(0)

    with pytest.raises(Exception, match="a task of the runtime died") as caught:
        simulate(scenario)
    assert any("the last 1 of 1 records" in note for note in caught.value.__notes__)


def test_a_task_that_is_thrown_away_while_it_asks_has_given_up() -> None:
    class Slow(Machine[S], initial=S.A, final=(S.B,)):
        @transition(S.A, to=S.B)
        async def go(self, event: Go) -> str:
            await asyncio.sleep(1)
            raise ValueError("told to")

    async def scenario() -> None:
        async with SimulatedSystem(Slow) as system:
            slow = await system.spawn(Slow, "slow")
            task = asyncio.ensure_future(slow.ask(Go()))
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(HookFailed):
                await slow.ask(Go())
        assert [note.ended for note in system.notes] == ["reply", "cancelled", "error"]

    simulate(scenario)


def test_a_system_made_outside_a_loop_has_a_seed_too() -> None:
    system = SimulatedSystem(Light)
    assert isinstance(system.clock, VirtualClock)

    async def scenario() -> None:
        assert isinstance(asyncio.get_running_loop(), SimLoop)
        async with system:
            await system.spawn(Light, "light")
        assert len(system.trace) == 1

    simulate(scenario)


def test_a_simulated_system_runs_on_an_ordinary_loop() -> None:
    async def scenario() -> None:
        async with SimulatedSystem(Light) as system:
            light = await system.spawn(Light, "light")
            assert await light.ask(Go()) == "light"
            with pytest.raises(RuntimeError, match="simulated loop"):
                await system.clock.advance("1s")

    asyncio.run(scenario())


def test_a_note_from_no_task_says_so() -> None:
    async def scenario() -> None:
        async with SimulatedSystem(Light) as system:
            await system.spawn(Light, "light")
            asyncio.get_running_loop().call_soon(system.tell, "light", Go())
            await asyncio.sleep(1)
        assert system.notes[1].sender == "no task"

    simulate(scenario)
