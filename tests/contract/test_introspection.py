"""C31: what a person on call asks a running system: what is stuck, who waits for whom, what happened, what was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr

from actorfsm import (
    STAY,
    Child,
    Directive,
    Event,
    HookFailed,
    InvalidEvent,
    Limits,
    Machine,
    MailboxPolicy,
    NoSuchLetter,
    NoSuchMachine,
    Redelivery,
    RestartPolicy,
    Supervisor,
    Terminated,
    TimerScope,
    Vetoed,
    on_enter,
    transition,
)
from actorfsm.testing import SimulatedSystem, VirtualClock
from actorfsm.testing.faults import EVIL
from tests.contract.lamp import (
    Birth,
    Count,
    Later,
    Reset,
    State,
    Stubborn,
    Switch,
    Trace,
    hang,
    lamp_of,
    raising,
    times,
)
from tests.contract.paths import Path, Script, Style, at_rest, on_every_async_path, on_every_path

pytestmark = pytest.mark.rule("C31")
INLINE = Path(Style.ASYNC, inline=True)


class Mode(StrEnum):
    ON = "on"


# -- one machine ----------------------------------------------------------------------------------------------------


@on_every_path
def test_an_idle_machine_shows_what_it_is_and_what_it_takes(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script()) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await lamp.ask(Switch(), event_id="one")
            await at_rest(system)
            seen = system.inspect("lamp")
            assert (seen.machine, seen.machine_id, seen.state, seen.status) == (
                "Lamp",
                "lamp",
                State.ON,
                "idle",
            )
            assert (seen.data, seen.seq, seen.incarnation) == ({"count": 1, "seen": []}, 2, 0)
            assert seen.allowed == lamp.snapshot().allowed
            assert (seen.queued, seen.postponed, seen.outside, seen.oldest) == (0, 0, 0, None)
            assert (seen.running, seen.waits_for, seen.waited_for_by, seen.failure) == (None, (), (), None)
            assert (seen.is_suspended, seen.resumes_in_s, seen.restarts) == (False, None, 0)
            assert seen.remembered_ids == 1
            text = str(seen)
            assert text.startswith("Lamp lamp is in ON, idle, #2, life 0\n")
            assert "count=1" in text

    sim(scenario, seeds=range(2))


@on_every_async_path
def test_a_hook_that_hangs_is_named_with_its_run_time_and_the_sender_of_the_event(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async def slow(machine: Any) -> None:
            await asyncio.sleep(0.5 if machine.id == "lamp" else 0)

        def pass_on(machine: Any) -> None:
            machine.tell("lamp", Count(n=1))

        lamp_class = lamp_of(path.style, mailbox=MailboxPolicy(capacity=2))
        async with path.system(lamp_class, services=Script(count=slow, body=pass_on)) as system:
            await system.spawn(lamp_class, "lamp")
            switch = await system.spawn(lamp_class, "switch")
            await at_rest(system)
            await switch.ask(Switch())
            await asyncio.sleep(0.25)
            waiting = [system.tell("lamp", Later(n=2)), system.tell("lamp", Count(n=3))]
            await asyncio.sleep(0.125)
            seen = system.inspect("lamp")
            assert (seen.status, seen.queued) == ("running", 2)
            running = seen.running
            assert running is not None
            assert (running.event_type, running.hook, running.sent_by) == ("Count", "counted", "switch")
            assert running.hook_s == pytest.approx(0.375, abs=0.01)
            assert running.seconds == pytest.approx(0.375, abs=0.01)
            assert (running.is_committed, running.is_cancelled) == (False, False)
            assert running.causation_id is not None
            assert seen.oldest is not None
            assert seen.oldest.event_type == "Later"
            assert seen.oldest.event_id == waiting[0].event_id
            assert seen.oldest.seconds == pytest.approx(0.125, abs=0.01)
            text = str(seen)
            assert "in counted for 0.375 s, sent by switch 0.375 s ago" in text
            assert "2 queued, 0 postponed, 0 outside; oldest Later" in text

    sim(scenario, seeds=range(2))


@on_every_async_path
def test_a_hook_that_ignores_its_deadline_is_shown_as_cancelled(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        stubborn = Stubborn()
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script(count=stubborn)) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            lamp.tell(Count())
            await asyncio.sleep(4)
            running = system.inspect("lamp").running
            assert running is not None
            assert (running.is_cancelled, running.sent_by, running.causation_id) == (True, None, None)
            assert running.hook_s == pytest.approx(4, abs=0.1)
            assert "cancelled, sent by outside" in str(running)
            await asyncio.sleep(10)
            failure = system.inspect("lamp").failure
            assert failure is not None
            assert (failure.error_type, failure.hook, failure.event_type) == (
                "TimeoutError",
                "counted",
                "Count",
            )
            await stubborn.let_go()

    sim(scenario, seeds=range(2))


@on_every_async_path
def test_an_after_hook_is_shown_as_one_of_a_committed_event(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script(after=hang)) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            assert await lamp.ask(Switch()) == "on"
            await asyncio.sleep(0.5)
            seen = system.inspect("lamp")
            assert seen.running is not None
            assert (seen.running.hook, seen.running.is_committed, seen.seq) == ("after", True, 2)
            assert ", committed, sent by outside" in str(seen)

    sim(scenario, seeds=range(2))


@on_every_path
def test_a_hook_can_inspect_its_own_machine_and_others_and_sees_what_is_committed(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        found: list[Any] = []

        def look(machine: Any) -> None:
            found.extend([system.inspect("lamp"), system.inspect("other")])

        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script(body=look)) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await system.spawn(lamp_class, "other")
            await at_rest(system)
            await lamp.ask(Switch())
            mine, other = found
            assert (mine.status, mine.state, mine.data["count"]) == ("running", State.OFF, 0)
            assert (mine.running.event_type, mine.running.hook) == ("Switch", "body")
            assert (other.status, other.running) == ("idle", None)

    sim(scenario, seeds=range(2))


@on_every_async_path
def test_it_shows_who_waits_for_whom(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async def ask_next(machine: Any) -> None:
            following = {"a": "b", "b": "c"}.get(machine.id)
            if following is None:
                await asyncio.sleep(0.5)
            else:
                await machine.ask(following, Count())

        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script(count=ask_next)) as system:
            for name in "abc":
                await system.spawn(lamp_class, name)
            await at_rest(system)
            system.tell("a", Count())
            await asyncio.sleep(0.25)
            seen = {name: system.inspect(name) for name in "abc"}
            assert [seen[name].waits_for for name in "abc"] == [("b",), ("c",), ()]
            assert [seen[name].waited_for_by for name in "abc"] == [(), ("a",), ("b",)]
            assert [seen[name].running.sent_by for name in "abc"] == [None, "a", "b"]
            assert "waits for     c" in str(seen["b"])
            assert "waited for by a" in str(seen["b"])
            await asyncio.sleep(10)
            assert [system.inspect(name).waits_for for name in "abc"] == [(), (), ()]

    sim(scenario, seeds=range(2))


class Look(Event[bool]):
    """Look at whoever asks."""


class Relay(Event[bool]):
    """Ask the one that looks."""


class Looker(Machine[Mode, Any], initial=Mode.ON):
    @transition(Mode.ON, to=STAY)
    def look(self, event: Look) -> bool:
        self.services(self)
        return True


class Relayer(Machine[Mode, Any], initial=Mode.ON):
    @transition(Mode.ON, to=STAY)
    async def relay(self, event: Relay) -> bool:
        return await self.ask("looker", Look())


def test_a_plain_hook_inside_an_ask_sees_the_one_that_waits_for_it(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        found: list[Any] = []

        def look(machine: Any) -> None:
            found.extend([system.inspect("relayer"), system.inspect("looker")])

        async with system_of(Looker, Relayer, services=look) as system:
            await system.spawn(Looker, "looker")
            relayer = await system.spawn(Relayer, "relayer")
            assert await relayer.ask(Relay())
            asker, looker = found
            assert (asker.status, asker.running.hook, asker.waits_for) == ("running", "relay", ("looker",))
            assert (looker.status, looker.running.hook, looker.running.sent_by) == (
                "running",
                "look",
                "relayer",
            )
            assert looker.running.hook_s == 0

    sim(scenario, seeds=range(2))


def test_a_sink_that_looks_during_a_turn_sees_it_running_though_it_cannot_see_the_turn(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        found: list[Any] = []

        def sink(record: Any) -> None:
            if record.event_type == "Look":
                found.append(Context().run(system.inspect, "looker"))

        async with system_of(Looker, services=lambda _: None, trace=sink) as system:
            looker = await system.spawn(Looker, "looker")
            await looker.ask(Look())
            (seen,) = found
            assert (seen.status, seen.seq) == ("running", 2)
            assert (seen.running is None) or seen.running.is_committed

    sim(scenario, seeds=range(2))


@on_every_async_path
def test_a_machine_that_is_being_born_can_be_inspected(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script(birth=hang)) as system:
            born = system.tell("lamp", Birth())
            await asyncio.sleep(0.5)
            seen = system.inspect("lamp")
            assert (seen.state, seen.status, seen.seq) == (None, "running", 0)
            assert seen.running is not None
            assert seen.running.hook == "birth"
            assert str(seen).startswith("Lamp lamp is being born, running, #0, life 0\n")
            with pytest.raises(NoSuchMachine):
                system.suspend("lamp")
            assert (await born.outcome()).kind == "failed"
            with pytest.raises(NoSuchMachine):
                system.inspect("lamp")

    sim(scenario, seeds=range(2))


@on_every_path
def test_failures_restarts_and_the_pause_are_shown_with_text_that_breaks_no_line(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(
            path.style,
            on_failure={Exception: Directive.RESTART},
            restart=RestartPolicy(jitter=0, first_delay_s=10, max_restarts=1, within_s=100),
        )
        script = Script(body=raising(lambda: ValueError("no\nbulb")))
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            with pytest.raises(HookFailed):
                await lamp.ask(Switch())
            await asyncio.sleep(4)
            seen = system.inspect("lamp")
            assert (seen.status, seen.restarts, seen.incarnation) == ("paused", 1, 1)
            assert seen.resumes_in_s == pytest.approx(6, abs=0.1)
            assert seen.failure is not None
            assert (seen.failure.error_type, seen.failure.hook) == ("ValueError", "body")
            assert seen.failure.seconds == pytest.approx(4, abs=0.1)
            assert "paused, goes on in 6 s" in str(seen)
            assert "restarts      1 that count" in str(seen)
            assert r"no\nbulb" in str(seen)
            await asyncio.sleep(1_000)
            seen = system.inspect("lamp")
            assert (seen.status, seen.restarts, seen.resumes_in_s) == ("idle", 0, None)

    sim(scenario, seeds=range(2))


class Card(BaseModel):
    number: SecretStr
    cvc: str = Field(repr=False)
    holder: str


class Odd:
    def __deepcopy__(self, memo: Any) -> Odd:
        return self


class Wallet(Machine[Mode], initial=Mode.ON):
    model_config = {"arbitrary_types_allowed": True}

    pin: str = Field("1234", repr=False)
    token: SecretStr = SecretStr("t0ken")
    cards: list[Card] = [Card(number=SecretStr("4711"), cvc="999", holder="Ada")]
    note: str = "a\nb"
    odd: Odd = Odd()

    @transition(Mode.ON, to=STAY)
    async def count(self, event: Count) -> int:
        return 1


def test_secrets_are_masked_in_nested_models_too_and_nothing_is_shared(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with SimulatedSystem(Wallet) as system:
            wallet = await system.spawn(Wallet, "w")
            seen = system.inspect("w")
            assert seen.data == {
                "pin": "**********",
                "token": "**********",
                "cards": [{"number": "**********", "holder": "Ada"}],
                "note": r"a\nb",
                "odd": "<Odd>",
            }
            for secret in ("1234", "t0ken", "4711", "999"):
                assert secret not in str(seen)
                assert secret not in repr(seen)
            seen.data["cards"].clear()
            assert len(wallet.snapshot().data["cards"]) == 1
            with pytest.raises(AttributeError):
                seen.status = "idle"  # type: ignore[misc]

    sim(scenario, seeds=range(1))


class Ring(Event):
    """What the alarm's timer sends."""


class Alarm(Machine[Mode, Any], initial=Mode.ON):
    @on_enter(Mode.ON)
    async def arm(self, old: Mode, new: Mode, event: Any) -> None:
        self.start_timer(Ring(), after=10)
        self.start_timer(Ring(), after=100, name="second", scope=TimerScope.STATE)

    @transition(Mode.ON, to=STAY)
    async def ring(self, event: Ring) -> None:
        self.services(self)

    @transition(Mode.ON, to=STAY)
    async def count(self, event: Count) -> int:
        self.watch("watched")
        return 1

    @transition(Mode.ON, to=STAY)
    async def gone(self, event: Terminated) -> None: ...


def test_a_time_that_is_long_is_shown_in_days_and_hours(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    class Patient(Machine[Mode], initial=Mode.ON):
        @on_enter(Mode.ON)
        async def arm(self, old: Mode, new: Mode) -> None:
            self.start_timer(Ring(), after=5 * 86_400 + 3_600)

        @transition(Mode.ON, to=STAY)
        async def ring(self, event: Ring) -> None: ...

        @transition(Mode.ON, to=STAY)
        async def count(self, event: Count) -> int:
            return 1

    async def scenario() -> None:
        async with system_of(Patient) as system:
            patient = await system.spawn(Patient, "patient")
            system.suspend("patient")
            waiting = patient.tell(Count())
            await asyncio.sleep(2 * 3_600)
            text = str(system.inspect("patient"))
            assert "timers        Ring in 4 d 23 h" in text
            assert " for 2 h" in text
            system.resume("patient")
            await waiting

    sim(scenario)


def test_timers_and_watchers_are_shown(system_of: Callable[..., Any], sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        fail = times(1, raising(ValueError))

        def ring(machine: Any) -> None:
            if machine.id == "alarm":
                fail(machine)

        async with system_of(Alarm, services=ring) as system:
            for name in ("alarm", "watched"):
                await system.spawn(Alarm, name)
            await system.ask("alarm", Count())
            watch = asyncio.ensure_future(system.watch("watched"))
            system.suspend("alarm")
            await asyncio.sleep(4)
            assert set(system.inspect("watched").watchers) == {"alarm", None}
            first, second = system.inspect("alarm").timers
            assert (first.name, first.event_type, first.scope) == ("Ring", "Ring", TimerScope.NAMED)
            assert (second.name, second.scope, second.failures) == ("second", TimerScope.STATE, 0)
            assert [first.due_in_s, second.due_in_s] == pytest.approx([6, 96], abs=0.1)
            await asyncio.sleep(10)
            seen = system.inspect("alarm")
            assert (seen.timers[0].due_in_s, seen.queued) == (None, 1)
            assert "timers        Ring has fired; second in 86 s" in str(seen)
            system.resume("alarm")
            await asyncio.sleep(0.05)
            assert "Ring in 0.0" in str(system.inspect("alarm"))
            assert ", failed 1 times" in str(system.inspect("alarm"))
            text = str(system.inspect("watched"))
            assert "watched by    alarm, outside" in text or "watched by    outside, alarm" in text
            await system.stop("watched")
            assert (await watch).reason == "stopped"

    sim(scenario, seeds=range(2))


class Fetch(Event[None]): ...


class Fetched(Event[None]): ...


async def _fetch(opened: asyncio.Event) -> None:
    await opened.wait()


class Fetcher(
    Machine[Mode, Any],
    initial=Mode.ON,
    on_failure={ValueError: Directive.RESTART},
    restart=RestartPolicy(first_delay_s=5, jitter=0),
):
    @transition(Mode.ON, to=STAY)
    async def fetch(self, event: Fetch) -> None:
        self.start_job(_fetch, self.services, done=Fetched, name="again", again=True)
        self.start_job(_fetch, self.services, name="once")

    @transition(Mode.ON, to=STAY)
    async def fetched(self, event: Fetched) -> None: ...

    @transition(Mode.ON, to=STAY)
    async def break_down(self, event: Count) -> int:
        raise ValueError


def test_jobs_are_shown_whether_they_run_have_answered_or_were_interrupted(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        opened = asyncio.Event()
        async with system_of(Fetcher, services=opened) as system:
            fetcher = await system.spawn(Fetcher, "fetcher")
            assert system.inspect("fetcher").jobs == ()
            await fetcher.ask(Fetch(), event_id="one")
            seen = system.inspect("fetcher")
            assert [(job.name, job.status, job.causation_id) for job in seen.jobs] == [
                ("again", "running", "one"),
                ("once", "running", "one"),
            ]
            assert "jobs          again running; once running" in str(seen)
            with pytest.raises(HookFailed):
                await fetcher.ask(Count())
            seen = system.inspect("fetcher")
            assert (seen.status, seen.resumes_in_s) == ("paused", pytest.approx(5, abs=0.1))
            assert [job.status for job in seen.jobs] == ["interrupted", "interrupted"]
            await asyncio.sleep(6)
            system.suspend("fetcher")
            opened.set()
            await asyncio.sleep(1)
            assert [(job.name, job.status) for job in system.inspect("fetcher").jobs] == [
                ("again", "answered")
            ]
            system.resume("fetcher")
            await at_rest(system)
            assert system.inspect("fetcher").jobs == ()

    sim(scenario, seeds=range(2))


def test_the_pause_of_a_machine_of_the_supervision_tree_is_shown(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        tree = Supervisor(
            "root",
            policy=RestartPolicy(first_delay_s=5, jitter=0),
            children=[Child(Fetcher, "fetcher")],
        )
        async with SimulatedSystem(children=[tree], services=asyncio.Event()) as system:
            with pytest.raises(HookFailed):
                await system.ask("fetcher", Count())
            await asyncio.sleep(1)
            seen = system.inspect("fetcher")
            assert seen.resumes_in_s == pytest.approx(4, abs=0.1)
            assert "goes on in" in str(seen)
            await asyncio.sleep(6)
            assert system.inspect("fetcher").resumes_in_s is None

    sim(scenario, seeds=range(2))


# -- the ring -------------------------------------------------------------------------------------------------------


@on_every_path
def test_the_last_ends_of_events_of_the_whole_system_are_listed_the_newest_last(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script(enter=times(1, raising(ValueError)), before=times(1, lambda _: False))
        lamp_class, trace = lamp_of(path.style), Trace()
        async with path.system(lamp_class, services=script, trace=trace, clock=VirtualClock()) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await system.spawn(lamp_class, "other")
            with pytest.raises(Vetoed):
                await lamp.ask(Switch())
            with pytest.raises(HookFailed):
                await lamp.ask(Switch())
            assert await lamp.ask(Switch(), event_id="mine") == "on"
            assert await lamp.ask(Switch(), event_id="mine") == "on"
            told = lamp.tell(Count())
            await told.outcome()
            await at_rest(system)
            rows = system.transitions()
            assert [
                (row.machine_id, row.event_type, row.outcome, row.source, row.target) for row in rows
            ] == [
                ("lamp", "Spawn", "committed", None, "OFF"),
                ("other", "Spawn", "committed", None, "OFF"),
                *[("lamp", "Switch", kind, "OFF", "ON") for kind in ("vetoed", "failed", "committed")],
                ("lamp", "Count", "committed", "ON", "ON"),
            ]
            assert [row.seq for row in system.transitions("lamp")] == [1, 1, 1, 2, 3]
            assert [row.event_id for row in rows[-2:]] == ["mine", told.event_id]
            assert [row.event_id for row in rows] == [r.event_id for r in trace if not r.duplicate]
            assert rows[-1].seconds == pytest.approx(0, abs=1)
            assert {row.machine for row in rows} == {"Lamp"}
            assert system.transitions(limit=2) == rows[-2:]
            assert system.transitions("other", limit=5) == (rows[1],)
            assert system.transitions(limit=0) == system.transitions("nobody") == ()
            assert "lamp #2 Switch mine: committed OFF -> ON in " in str(rows[-2])

    sim(scenario, seeds=range(2))


def test_times_of_day_are_those_of_the_acceptance_and_durations_need_a_sink(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async def slow(machine: Any) -> None:
            await asyncio.sleep(0.5)

        lamp_class = lamp_of(Style.ASYNC)
        async with SimulatedSystem(lamp_class, services=Script(count=slow)) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await asyncio.sleep(60)
            lamp.tell(Count())
            await lamp.ask(Count())
            await asyncio.sleep(3_600)
            rows = system.transitions("lamp", limit=2)
            start = datetime(2026, 1, 1, tzinfo=UTC)
            assert [row.seconds for row in rows] == pytest.approx([0.5, 1.0], abs=0.01)
            for row in rows:
                assert abs(row.accepted_at - (start + timedelta(seconds=60))) < timedelta(milliseconds=10)
            assert str(rows[0]).startswith("00:01:00.")
        async with INLINE.system(lamp_class, services=Script()) as system:
            await system.spawn(lamp_class, "lamp")
            (row,) = system.transitions()
            assert row.seconds is None
            assert str(row).endswith(": committed - -> OFF")

    sim(scenario, seeds=range(1))


@on_every_path
def test_the_ring_is_bounded_and_can_be_switched_off(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(path.style)
        for limit in (3, 0):
            async with path.system(lamp_class, services=Script(), limits=Limits(transitions=limit)) as system:
                lamp = await system.spawn(lamp_class, "lamp")
                for n in range(10):
                    await lamp.ask(Count(n=n))
                assert [row.seq for row in system.transitions()] == [9, 10, 11][3 - limit :][:limit]
                await system.stop("lamp")
                assert len(system.transitions("lamp")) == limit  # it need not be alive

    sim(scenario, seeds=range(2))


# -- dead letters ---------------------------------------------------------------------------------------------------


@on_every_path
def test_a_dead_letter_is_sent_again_and_taken_off_the_list(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class, trace = lamp_of(path.style), Trace()
        async with path.system(lamp_class, services=Script(), trace=trace) as system:
            headers = {"correlation_id": "order-7"}
            system.tell("lamp", Count(n=1), event_id="mine", headers=headers)
            system.tell("lamp", Count(n=2))
            system.tell("nobody", Count(n=3))
            assert [letter.event.n for letter in system.dead_letters_for("lamp")] == [1, 2]
            first, second = system.dead_letters_for("lamp")
            assert (first.has_own_id, first.event_id, first.headers) == (True, "mine", headers)
            assert (second.has_own_id, second.headers) == (False, None)
            lamp = await system.spawn(lamp_class, "lamp")
            receipt = system.replay(first)
            assert receipt.event_id == "mine"
            assert (await receipt.outcome()).success
            assert (await system.replay(second).outcome()).success
            assert lamp.snapshot().data["seen"] == (1, 2)
            assert [letter.machine_id for letter in system.dead_letters] == ["nobody"]
            mine = next(
                record for record in trace if record.event_id == "mine" and record.name == "committed"
            )
            assert mine.correlation_id == "order-7"
            with pytest.raises(NoSuchLetter, match="for lamp"):
                system.replay(first)
            assert (await lamp.ask(Count(n=1), event_id="mine")) == 1  # known, and answered from the record
            assert lamp.snapshot().data["seen"] == (1, 2)
            assert system.stats().balance == 0

    sim(scenario, seeds=range(2))


def test_a_letter_that_is_refused_again_is_a_new_letter(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(Style.ASYNC)
        async with INLINE.system(lamp_class, services=Script(), limits=Limits(dead_letters=2)) as system:
            for n in range(2):
                system.tell("nobody", Count(n=n))
            receipt = system.replay(system.dead_letters[0])
            with pytest.raises(NoSuchMachine):
                await receipt.outcome()
            assert [letter.event.n for letter in system.dead_letters] == [1, 0]

    sim(scenario, seeds=range(1))


class Press(Event):
    """Only presses take it."""


class PressMachine(Machine[Mode], initial=Mode.ON):
    @transition(Mode.ON, to=STAY)
    def press(self, event: Press) -> None: ...


def test_a_letter_for_an_id_that_is_another_machine_now_stays_where_it_was(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(Style.ASYNC)
        async with INLINE.system(lamp_class, PressMachine, services=Script()) as system:
            for n in range(3):
                system.tell("it", Count(n=n))
            before = system.dead_letters
            await system.spawn(PressMachine, "it")
            with pytest.raises(InvalidEvent):
                system.replay(before[1])
            assert system.dead_letters == before

    sim(scenario, seeds=range(1))


@on_every_path
def test_a_replay_from_a_hook_is_sent_at_once_and_outlives_a_rollback(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        def replay(machine: Any) -> None:
            (letter,) = system.dead_letters
            system.replay(letter)
            raise ValueError

        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script(body=replay)) as system:
            system.tell("other", Count(n=5))
            lamp = await system.spawn(lamp_class, "lamp")
            other = await system.spawn(lamp_class, "other")
            with pytest.raises(HookFailed):
                await lamp.ask(Switch())
            await at_rest(system)
            assert other.snapshot().data["seen"] == (5,)
            assert system.dead_letters == ()

    sim(scenario, seeds=range(2))


def test_a_poison_event_can_be_sent_again_under_its_own_id(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(Style.ASYNC, redelivery=Redelivery(attempts=2, first_delay_s=1))
        script = Script(body=times(3, raising(ValueError)))
        async with INLINE.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            assert (await lamp.tell(Switch(), event_id="poison")).kind == "dead_lettered"
            (letter,) = system.dead_letters
            assert (letter.attempts, letter.has_own_id) == (2, True)
            assert (await system.replay(letter)).success
            assert script.calls.count("body") == 4

    sim(scenario, seeds=range(2))


# -- calls to the operator ------------------------------------------------------------------------------------------


@pytest.mark.rule("C13")
@pytest.mark.parametrize("kind", [*EVIL, None])
def test_the_operator_is_told_of_each_dead_letter_in_order_and_cannot_hurt_the_runtime(
    kind: str | None, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        told: list[int] = []

        async def tell_operator(letter: Any) -> None:
            told.append(letter.event.n)
            if kind is not None and letter.event.n == 1:
                error = EVIL[kind]()
                raise error

        lamp_class = lamp_of(Style.ASYNC)
        async with INLINE.system(lamp_class, services=Script(), on_dead_letter=tell_operator) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            for n in range(4):
                system.tell("nobody", Count(n=n))
            assert told == []  # not in the sender's call
            assert await lamp.ask(Count()) == 1
        assert told == [0, 1, 2, 3]
        assert system.stats().callbacks_failed == (kind is not None)

    sim(scenario, seeds=range(2))


@pytest.mark.rule("C13")
def test_a_callback_that_has_its_own_task_cancelled_does_not_keep_the_others_from_being_called(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        told: list[int] = []

        async def tell_operator(letter: Any) -> None:
            told.append(letter.event.n)
            if letter.event.n == 0:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.sleep(0)

        lamp_class = lamp_of(Style.ASYNC)
        async with INLINE.system(lamp_class, services=Script(), on_dead_letter=tell_operator) as system:
            for n in range(3):
                system.tell("nobody", Count(n=n))
        assert told == [0, 1, 2]
        assert system.stats().callbacks_failed == 1

    sim(scenario, seeds=range(2))


@pytest.mark.rule("C13")
def test_a_callback_that_hangs_delays_no_machine_and_what_finds_no_room_is_counted(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        told: list[int] = []

        async def tell_operator(letter: Any) -> None:
            told.append(letter.event.n)
            await asyncio.sleep(1e9 if letter.event.n == 0 else 0)

        lamp_class = lamp_of(Style.ASYNC)
        limits = Limits(callbacks=3, callback_timeout_s=5)
        async with INLINE.system(
            lamp_class, services=Script(), on_dead_letter=tell_operator, limits=limits
        ) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            system.tell("nobody", Count(n=0))
            await asyncio.sleep(1)
            for n in range(1, 6):
                system.tell("nobody", Count(n=n))
            assert await lamp.ask(Count()) == 1
            assert asyncio.get_running_loop().time() == 1
            assert system.stats().callbacks_failed == 2
            await asyncio.sleep(10)
            assert told == [0, 1, 2, 3]
            assert system.stats().callbacks_failed == 3

    sim(scenario, seeds=range(2))


@pytest.mark.rule("C19")
def test_letters_that_the_end_itself_makes_are_told_too_but_a_callback_that_hangs_is_not_waited_for(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        told: list[int] = []

        async def tell_operator(letter: Any) -> None:
            told.append(letter.event.n)
            await asyncio.sleep(1e9 if letter.event.n == 1 else 0)

        lamp_class = lamp_of(Style.ASYNC)
        limits = Limits(stop_timeout_s=2, grace_s=1)
        async with INLINE.system(
            lamp_class, services=Script(), on_dead_letter=tell_operator, limits=limits
        ) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            system.suspend("lamp")
            for n in range(3):
                lamp.tell(Count(n=n))
        assert told == [0, 1]
        assert system.stats().callbacks_failed == 2
        system.tell("lamp", Count(n=9))
        assert system.stats().callbacks_failed == 3
        assert system.report is not None
        assert system.report.unstopped == ()

    sim(scenario, seeds=range(2))


def test_the_last_failure_of_a_machine_is_kept_for_whoever_wants_to_repeat_it(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(Style.ASYNC)
        async with INLINE.system(lamp_class, services=Script(body=raising(ValueError))) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            assert system.last_crash("lamp") is None
            with pytest.raises(HookFailed) as caught:
                await lamp.ask(Switch(n=1))
            crash = system.last_crash("lamp")
            assert crash is caught.value.crash
            assert repr(crash) == "<ValueError in body of lamp at Switch>"
            crash.data["count"] = 99
            assert crash.data == {"count": 0, "seen": ()}
            with pytest.raises(NoSuchMachine):
                system.last_crash("nobody")

    sim(scenario, seeds=range(1))


def test_a_system_says_its_classes_the_class_of_a_machine_and_where_commits_go(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(Style.ASYNC)
        async with INLINE.system(lamp_class, services=Script()) as system:
            assert (system.machine_classes, system.journal) == ((lamp_class,), None)
            with pytest.raises(NoSuchMachine):
                system.class_of("lamp")
            await system.spawn(lamp_class, "lamp")
            assert system.class_of("lamp") is lamp_class

    sim(scenario, seeds=range(1))


@pytest.mark.rule("C30")
def test_a_listener_hears_every_record_from_when_it_comes_until_it_goes(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lamp_class = lamp_of(Style.ASYNC)
        async with INLINE.system(lamp_class, services=Script()) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            first: list[str] = []
            second: list[str] = []
            end_first = system.listen(lambda record: first.append(record.event_type))
            await lamp.ask(Switch(n=1))
            end_second = system.listen(lambda record: second.append(record.event_type))
            await lamp.ask(Count())
            end_first()
            end_first()
            await lamp.ask(Reset())
            end_second()
            await lamp.ask(Count())
            assert first == ["Switch", "Count"]
            assert second == ["Count", "Reset"]

    sim(scenario, seeds=range(1))
