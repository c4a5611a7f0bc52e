"""C3, C7, C10 to C12: many machines in one call, each by the rules of `spawn`, with and without hooks at birth."""

from __future__ import annotations

import asyncio
import gc
from enum import StrEnum, auto
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from pydantic import Field, field_validator

from actorfsm import (
    ActorSystem,
    AskTimeout,
    Child,
    Event,
    HookFailed,
    InvalidData,
    InvalidEvent,
    Limits,
    Machine,
    MachineExists,
    NoSuchMachine,
    Record,
    Restart,
    Snapshot,
    SpawnReport,
    StaleTurn,
    StateTimeout,
    Strategy,
    Supervisor,
    SystemStopping,
    Veto,
    Vetoed,
    WrongThread,
    after_transition,
    on_enter,
    on_timeout,
    transition,
)
from tests.contract.tree import PROMPT, Services

if TYPE_CHECKING:
    from collections.abc import Iterator


class State(StrEnum):
    WAITING = auto()
    LIT = auto()


class Light(Event[int]):
    by: int = 1


class Lamp(Machine[State], initial=State.WAITING):
    """No hook runs at its birth: it is made at the door."""

    room: str = "hall"
    watts: int = Field(default=5, ge=1)
    weight: float = 0.5
    tags: list[str] = []

    @transition(State.WAITING, to=State.LIT)
    @transition(State.LIT, to=State.WAITING)
    async def light(self, event: Light) -> int:
        self.watts += event.by
        self.tags.append("lit")
        return self.watts


class Notes(list[str]):
    """What hooks saw: the services of a system."""


class HookedLamp(Lamp, initial=State.WAITING):
    """The same with hooks at birth: each birth is a turn."""

    @on_enter(State.WAITING)
    async def enter(self, old: State, new: State, event: Any) -> None:
        if self.watts == 113:
            raise Veto("thirteen")
        if self.watts == 114:
            raise RuntimeError("fourteen")
        self.services.append(f"enter {self.id} {old}>{new}")

    @after_transition(State.WAITING)
    async def after(self, old: State, new: State) -> None:
        self.services.append(f"after {self.id}")


class PlainLamp(Lamp, initial=State.WAITING):
    """Hooks at birth that are plain functions."""

    @transition(State.WAITING, to=State.LIT)
    @transition(State.LIT, to=State.WAITING)
    def light(self, event: Light) -> int:  # type: ignore[override]
        self.watts += event.by
        self.tags.append("lit")
        return self.watts

    @on_enter(State.WAITING)
    def enter(self, old: State, new: State) -> None:
        self.services.append(f"enter {self.id} {old}>{new}")


on_every_kind = pytest.mark.parametrize("lamp", [Lamp, HookedLamp, PlainLamp])


class Seen(NamedTuple):
    """All that a sender and a sink can tell of a machine."""

    snapshot: Snapshot[Any]
    records: list[tuple[Any, ...]]


def seen(system: ActorSystem[Any], records: list[Record], machine_id: str) -> Seen:
    rows = [
        (
            row.name,
            row.machine,
            row.machine_id,
            row.incarnation,
            row.seq,
            row.event_type,
            row.source,
            row.target,
        )
        for row in records
        if row.machine_id == machine_id
    ]
    return Seen(system.snapshot(machine_id), rows)


@pytest.mark.rule("C3")
@pytest.mark.rule("C30")
@on_every_kind
def test_each_machine_is_what_spawn_would_have_made_with_one_record_each(
    lamp: Any, sim: Any, system_of: Any
) -> None:
    async def scenario() -> None:
        found: list[list[Any]] = []
        for many in (True, False):
            records: list[Record] = []
            notes = Notes()
            async with system_of(lamp, services=notes, trace=records.append) as system:
                data = {
                    "a-1": None,
                    "a-2": {"watts": 7, "weight": 2, "tags": ["x"]},
                    "a-3": {"room": "attic"},
                }
                if many:
                    assert await system.spawn_many(lamp, data) == SpawnReport(3, {})
                else:
                    for machine_id, given in data.items():
                        await system.spawn(lamp, machine_id, data=given)
                await asyncio.sleep(1)
                stats = system.stats()
                assert (stats.accepted, stats.outcomes["committed"], stats.balance) == (3, 3, 0)
                assert stats.refused == stats.in_flight == stats.pending_asks == 0
                found.append([*(seen(system, records, each) for each in data), sorted(notes)])
        assert found[0] == found[1]
        assert [len(each.records) for each in found[0][:3]] == [1, 1, 1]
        assert found[0][1].snapshot.data == {"room": "hall", "watts": 7, "weight": 2.0, "tags": ["x"]}
        assert type(found[0][1].snapshot.data["weight"]) is float

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_kind
def test_the_newborn_machines_live_each_for_itself(lamp: Any, sim: Any, system_of: Any) -> None:
    async def scenario() -> None:
        async with system_of(lamp, services=Notes()) as system:
            report = await system.spawn_many(lamp, (f"a-{number}" for number in range(5)))
            assert report.spawned == 5
            assert await system.ask("a-1", Light(by=3)) == 8
            assert await system.ask("a-1", Light(by=1)) == 9
            others = [system.snapshot(f"a-{number}") for number in (0, 2, 3, 4)]
            assert [(one.state, one.seq, one.data["watts"], one.data["tags"]) for one in others] == [
                (State.WAITING, 1, 5, [])
            ] * 4
            assert system.snapshot("a-1").data["tags"] == ["lit", "lit"]
            assert system.ids(lamp, state=State.WAITING) == [f"a-{number}" for number in range(5)]

    sim(scenario)


@pytest.mark.rule("C10")
@on_every_kind
def test_what_was_given_stays_the_callers(lamp: Any, sim: Any, system_of: Any) -> None:
    async def scenario() -> None:
        async with system_of(lamp, services=Notes()) as system:
            tags = ["mine"]
            await system.spawn_many(lamp, [("a-1", {"tags": tags}), ("a-2", {"tags": tags})])
            tags.append("changed")
            await system.ask("a-1", Light())
            assert tags == ["mine", "changed"]
            assert system.snapshot("a-1").data["tags"] == ["mine", "lit"]
            assert system.snapshot("a-2").data["tags"] == ["mine"]

    sim(scenario)


@pytest.mark.rule("C3")
@pytest.mark.rule("C10")
@on_every_kind
def test_each_refused_machine_is_reported_with_its_error_and_the_others_live(
    lamp: Any, sim: Any, system_of: Any
) -> None:
    async def scenario() -> None:
        async with system_of(lamp, services=Notes()) as system:
            await system.spawn(lamp, "taken")
            report = await system.spawn_many(
                lamp,
                [
                    ("good-1", None),
                    "taken",
                    "not an id",
                    ("low", {"watts": 0}),
                    ("unknown", {"colour": "red"}),
                    ("no-data", 5),
                    (17, None),
                    "good-2",
                    "good-1",
                    3.5,
                    ("a", {}, "b"),
                    (),
                ],
            )
            assert report.spawned == 2
            assert {name: type(error) for name, error in report.refused.items()} == {
                "taken": MachineExists,
                "not an id": InvalidEvent,
                "low": InvalidData,
                "unknown": InvalidData,
                "no-data": InvalidData,
                "17": InvalidEvent,
                "good-1": MachineExists,
                "3.5": InvalidEvent,
                "a": InvalidEvent,
                "()": InvalidEvent,
            }
            assert sorted(system.ids()) == ["good-1", "good-2", "taken"]
            assert system.snapshot("good-1").seq == 1
            for error in report.refused.values():
                assert error.__traceback__ is error.__context__ is None  # they hold what was given
            assert system.stats().balance == 0

    sim(scenario)


@pytest.mark.rule("C3")
def test_a_birth_that_a_hook_refuses_or_fails_is_reported_and_leaves_the_id_unknown(
    sim: Any, system_of: Any
) -> None:
    async def scenario() -> None:
        async with system_of(HookedLamp, services=Notes()) as system:
            data = {f"a-{watts}": {"watts": watts} for watts in (112, 113, 114, 115)}
            report = await system.spawn_many(HookedLamp, data)
            assert report.spawned == 2
            assert list(report.refused) == ["a-113", "a-114"]
            vetoed, failed = report.refused.values()
            assert isinstance(vetoed, Vetoed)
            assert vetoed.reason == "thirteen"
            assert isinstance(failed, HookFailed)
            assert isinstance(failed.__cause__, RuntimeError)
            assert system.ids() == ["a-112", "a-115"]
            with pytest.raises(NoSuchMachine):
                system.snapshot("a-113")
            stats = system.stats()
            assert (stats.outcomes["vetoed"], stats.outcomes["failed"], stats.balance) == (1, 1, 0)
            again = await system.spawn_many(HookedLamp, ["a-113", "a-114"])
            assert again == SpawnReport(2, {})

    sim(scenario)


@pytest.mark.rule("C3")
def test_no_machines_are_no_error(sim: Any, system_of: Any) -> None:
    async def scenario() -> None:
        async with system_of(Lamp) as system:
            assert await system.spawn_many(Lamp, []) == SpawnReport(0, {})
            assert await system.spawn_many(Lamp, {}) == SpawnReport(0, {})

    sim(scenario)


@pytest.mark.rule("C10")
def test_one_id_is_not_taken_for_its_letters(sim: Any, system_of: Any) -> None:
    async def scenario() -> None:
        async with system_of(Lamp) as system:
            with pytest.raises(InvalidEvent, match="many ids"):
                await system.spawn_many(Lamp, "abc")
            assert system.ids() == []

    sim(scenario)


class Ticket(Machine[State]):
    """Born by an event only."""

    @transition(to=State.WAITING)
    async def buy(self, event: Light) -> int:
        return 1

    @transition(State.WAITING, to=State.LIT)
    @transition(State.LIT, to=State.WAITING)
    async def use(self, event: Light) -> int:
        return 2


@pytest.mark.rule("C3")
def test_a_class_without_initial_state_is_refused_before_the_first_machine(sim: Any, system_of: Any) -> None:
    async def scenario() -> None:
        async with system_of(Ticket) as system:
            with pytest.raises(InvalidEvent, match="has no initial state: it is born by Light"):
                await system.spawn_many(Ticket, ["a", "b"])
            assert system.stats().machines == 0

    sim(scenario)


@pytest.mark.rule("C10")
@on_every_kind
def test_machines_that_exist_in_another_class_are_refused(lamp: Any, sim: Any, system_of: Any) -> None:
    async def scenario() -> None:
        async with system_of(lamp, Ticket, services=Notes()) as system:
            await system.ask("a", Light())
            report = await system.spawn_many(lamp, ["a", "b"])
            assert report.spawned == 1
            assert "as Ticket" in str(report.refused["a"])

    sim(scenario)


class Doubled(Machine[State], initial=State.WAITING):
    """Its validator does not bear to run twice: a birth validates what is given, and again at its commit."""

    number: int = 1

    @field_validator("number")
    @classmethod
    def double(cls, number: int) -> int:
        if number > 10:
            raise ValueError("too much")
        return number * 2

    @transition(State.WAITING, to=State.LIT)
    @transition(State.LIT, to=State.WAITING)
    async def light(self, event: Light) -> int:
        return self.number


@pytest.mark.rule("C2")
def test_data_that_fails_only_at_the_commit_of_the_birth_fails_as_with_spawn(
    sim: Any, system_of: Any
) -> None:
    async def scenario() -> None:
        records: list[Record] = []
        async with system_of(Doubled, trace=records.append) as system:
            report = await system.spawn_many(Doubled, {"a": {"number": 2}, "b": {"number": 6}})
            assert report.spawned == 1
            assert system.snapshot("a").data == {"number": 8}
            with pytest.raises(HookFailed) as spawned:
                await system.spawn(Doubled, "c", data={"number": 6})
            assert isinstance(report.refused["b"], HookFailed)
            assert str(report.refused["b"]) == str(spawned.value).replace("c:", "b:")
            assert [record.name for record in records] == ["committed", "failed", "failed"]
            assert system.stats().balance == 0

    sim(scenario)


@pytest.mark.rule("C12")
@on_every_kind
def test_asks_are_answered_while_machines_are_spawned(lamp: Any, system_of: Any) -> None:
    async def scenario() -> None:
        async with system_of(lamp, services=Notes(), limits=Limits(turns_per_step=16)) as system:
            await system.spawn(lamp, "asked")
            spawning = asyncio.ensure_future(system.spawn_many(lamp, (f"a-{n}" for n in range(320))))
            alive: list[int] = []
            while not spawning.done():
                await system.ask("asked", Light())
                alive.append(system.stats().machines - 1)
                await asyncio.sleep(0)
            assert spawning.result() == SpawnReport(320, {})
            gaps = [after - before for before, after in zip([0, *alive], alive, strict=False)]
            assert max(gaps) <= 64

    asyncio.run(
        scenario()
    )  # in the order of the real loop: the simulated one lets a task wait for many steps


@pytest.mark.rule("C12")
def test_refused_machines_do_not_keep_the_loop_from_its_turn_either(system_of: Any) -> None:
    async def scenario() -> None:
        async with system_of(HookedLamp, services=Notes(), limits=Limits(turns_per_step=4)) as system:
            spawning = asyncio.ensure_future(system.spawn_many(HookedLamp, ["?"] * 40))
            turns = 0
            while not spawning.done():
                turns += 1
                await asyncio.sleep(0)
            assert turns >= 10
            assert spawning.result().spawned == 0

    asyncio.run(scenario())


class Slow(Machine[State, Any], initial=State.WAITING):
    """Its enter hook waits a second."""

    @on_enter(State.WAITING)
    async def enter(self, old: State, new: State) -> None:
        self.services.append(self.id)
        await asyncio.sleep(1)

    @transition(State.WAITING, to=State.LIT)
    @transition(State.LIT, to=State.WAITING)
    async def light(self, event: Light) -> int:
        return 1


@pytest.mark.rule("C11")
def test_hooks_that_wait_do_so_beside_each_other_and_no_more_than_allowed(sim: Any, system_of: Any) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        begun: list[str] = []
        async with system_of(Slow, services=begun) as system:
            started = loop.time()
            spawning = asyncio.ensure_future(
                system.spawn_many(Slow, (f"a-{n}" for n in range(30)), at_once=10)
            )
            await asyncio.sleep(0.5)
            assert len(begun) == 10
            assert await spawning == SpawnReport(30, {})
            assert 3 <= loop.time() - started < 12
            assert begun == [f"a-{n}" for n in range(30)]

    sim(scenario)


@pytest.mark.rule("C8")
def test_a_birth_that_takes_too_long_is_reported_as_unknown(sim: Any, system_of: Any) -> None:
    async def scenario() -> None:
        async with system_of(Slow, services=[], limits=Limits(ask_timeout_s=0.5)) as system:
            report = await system.spawn_many(Slow, ["a", "b"])
            assert report.spawned == 0
            assert {type(error) for error in report.refused.values()} == {AskTimeout}
            await asyncio.sleep(2)
            assert system.ids() == ["a", "b"]

    sim(scenario)


@pytest.mark.rule("C8")
def test_a_cancelled_call_gives_up_its_report_and_no_birth_that_has_begun(sim: Any, system_of: Any) -> None:
    async def scenario() -> None:
        async with system_of(Slow, services=[]) as system:
            spawning = asyncio.ensure_future(
                system.spawn_many(Slow, (f"a-{n}" for n in range(30)), at_once=4)
            )
            await asyncio.sleep(0.5)
            spawning.cancel()
            await asyncio.sleep(5)
            assert spawning.cancelled()
            assert system.ids() == [f"a-{n}" for n in range(4)]
            assert system.stats().balance == 0

    sim(scenario)


@pytest.mark.rule("C2")
@on_every_kind
def test_what_was_created_stays_when_the_callers_iterable_raises(lamp: Any, sim: Any, system_of: Any) -> None:
    def ids() -> Iterator[str]:
        yield from ("a", "b", "c")
        raise LookupError("no more")

    async def scenario() -> None:
        async with system_of(lamp, services=Notes(), limits=Limits(turns_per_step=2)) as system:
            with pytest.raises(LookupError):
                await system.spawn_many(lamp, ids())
            await asyncio.sleep(1)  # what was begun goes on
            assert system.ids() == ["a", "b"]
            assert system.stats().balance == 0

    sim(scenario)


@pytest.mark.rule("C19")
@on_every_kind
def test_a_system_that_stops_ends_the_call(lamp: Any, sim: Any, system_of: Any) -> None:
    async def scenario() -> None:
        async with system_of(lamp, services=Notes(), limits=Limits(turns_per_step=8)) as system:
            spawning = asyncio.ensure_future(system.spawn_many(lamp, (f"a-{n}" for n in range(10**6))))
            for _ in range(5):
                await asyncio.sleep(0)
            await system.shutdown()
            with pytest.raises(SystemStopping):
                await spawning
            assert system.stats().balance == 0
        with pytest.raises(SystemStopping):
            await system.spawn_many(lamp, ["late"])

    sim(scenario)


class World(Notes):
    """The services of a system whose machines spawn others."""

    system: ActorSystem[Any]
    lamp: Any

    def __init__(self) -> None:
        self.stale: list[StaleTurn] = []
        self.reports: list[SpawnReport] = []


class Parent(Machine[State, World], initial=State.WAITING):
    """Spawns others in its body; the second one leaves a task behind that tries to."""

    @transition(State.WAITING, to=State.LIT)
    async def light(self, event: Light) -> int:
        world = self.services
        world.reports.append(await world.system.spawn_many(world.lamp, ["c-1", "c-2", "c-1"]))
        return world.reports[0].spawned

    @transition(State.LIT, to=State.WAITING)
    async def dim(self, event: Light) -> int:
        world = self.services
        asyncio.ensure_future(_too_late(world))  # noqa: RUF006 -- it is to be left behind
        await asyncio.sleep(0.1)
        return 0


async def _too_late(world: World) -> None:
    try:
        await asyncio.sleep(10)
    finally:
        try:
            await world.system.spawn_many(world.lamp, ["c-3"])
        except StaleTurn as error:
            world.stale.append(error)


@pytest.mark.rule("C2")
@on_every_kind
def test_a_hook_spawns_with_causes_and_is_answered(lamp: Any, sim: Any, system_of: Any) -> None:
    async def scenario() -> None:
        records: list[Record] = []
        world = World()
        async with system_of(Parent, lamp, services=world, trace=records.append) as system:
            world.system, world.lamp = system, lamp
            await system.spawn(Parent, "parent")
            assert await system.ask("parent", Light(), event_id="why") == 2
            assert list(world.reports[0].refused) == ["c-1"]
            causes = [row.causation_id for row in records if row.machine_id in {"c-1", "c-2"}]
            assert causes[0] == causes[1] == "why"
            await system.ask("parent", Light())
            await asyncio.sleep(1)
            assert len(world.stale) == 1
            assert sorted(system.ids()) == ["c-1", "c-2", "parent"]

    sim(scenario)


@pytest.mark.rule("C12")
@pytest.mark.parametrize("lamp", [Lamp, HookedLamp])
def test_another_thread_is_refused(lamp: Any) -> None:
    async def scenario() -> None:
        async with ActorSystem(lamp, trace=None, services=Notes()) as system:

            def elsewhere() -> None:
                coroutine = system.spawn_many(lamp, ["a", "b"])
                with pytest.raises(WrongThread):
                    coroutine.send(None)

            await asyncio.to_thread(elsewhere)
            assert system.ids() == []

    asyncio.run(scenario())


@pytest.mark.rule("C13")
@on_every_kind
def test_a_sink_that_raises_does_not_hurt_a_birth(lamp: Any, sim: Any, system_of: Any) -> None:
    def bad(_record: Record) -> None:
        raise SystemExit

    async def scenario() -> None:
        async with system_of(lamp, services=Notes(), trace=bad) as system:
            assert await system.spawn_many(lamp, ["a", "b"]) == SpawnReport(2, {})
            assert system.stats().sinks_failed >= 2

    sim(scenario)


class Stillborn(Machine[State], initial=State.LIT, final=(State.LIT,)):
    """Its life is over when it begins."""


class Timed(Machine[State], initial=State.WAITING):
    """A timer starts at its birth, with no hook."""

    @on_timeout(State.WAITING, after=5, to=State.LIT)
    async def late(self, event: StateTimeout) -> None: ...

    @transition(State.LIT, to=State.WAITING)
    async def light(self, event: Light) -> int:
        return 1


@pytest.mark.rule("C18")
@pytest.mark.rule("C20")
def test_what_else_happens_at_a_birth_happens_here_too(sim: Any, system_of: Any) -> None:
    async def scenario() -> None:
        async with system_of(Timed, Stillborn) as system:
            await system.spawn_many(Timed, ["t-1", "t-2"])
            await system.spawn_many(Stillborn, ["s-1"])
            assert (await system.watch("s-1")).reason == "finished"
            await asyncio.sleep(4)
            assert system.ids(Timed, state=State.WAITING) == ["t-1", "t-2"]
            await asyncio.sleep(2)
            assert system.ids(Timed, state=State.LIT) == ["t-1", "t-2"]
            assert [entry.event_type for entry in system.transitions("t-1")] == ["Spawn", "StateTimeout"]

    sim(scenario)


@pytest.mark.rule("C16")
@on_every_kind
def test_an_id_that_stands_in_the_supervision_tree_is_refused(lamp: Any, sim: Any, system_of: Any) -> None:
    async def scenario() -> None:
        children = [Child(lamp, "declared", restart=Restart.TEMPORARY)]
        async with system_of(children=children, services=Notes()) as system:
            await system.stop("declared")
            report = await system.spawn_many(lamp, ["declared", "free"])
            assert report.spawned == 1
            assert isinstance(report.refused["declared"], MachineExists)
            assert system.ids() == ["free"]

    sim(scenario)


@pytest.mark.rule("C16")
@on_every_kind
def test_what_is_born_while_the_tree_holds_the_class_waits_with_it(
    lamp: Any, sim: Any, system_of: Any
) -> None:
    async def scenario() -> None:
        services = Services()
        group = Supervisor(
            "group", strategy=Strategy.ONE_FOR_ALL, children=[services("gateway"), lamp], policy=PROMPT
        )
        async with system_of(children=[group], services=Notes()) as system:
            services.does["gateway"] = lambda: asyncio.sleep(5)
            services.fail("gateway")
            await asyncio.sleep(1)
            spawning = asyncio.ensure_future(system.spawn_many(lamp, ["a", "b"]))
            await asyncio.sleep(2)
            assert system.ids() == []
            assert not spawning.done()
            assert await spawning == SpawnReport(2, {})
            assert system.ids() == ["a", "b"]

    sim(scenario)


@on_every_kind
def test_the_ring_of_the_last_transitions_knows_every_birth(lamp: Any, sim: Any, system_of: Any) -> None:
    async def scenario() -> None:
        async with system_of(lamp, services=Notes()) as system:
            await system.spawn_many(lamp, ["a", "b"])
            seen = sorted(
                (row.machine_id, row.event_type, row.outcome, row.target) for row in system.transitions()
            )
            assert seen == [(machine_id, "Spawn", "committed", "WAITING") for machine_id in ("a", "b")]

    sim(scenario)


def test_machines_without_hooks_at_birth_take_no_turn_and_share_their_defaults() -> None:
    class Small(Machine[State], initial=State.WAITING):
        room: str = "hall"
        watts: int = 5
        weight: float = 0.5

        @transition(State.WAITING, to=State.LIT)
        @transition(State.LIT, to=State.WAITING)
        async def light(self, event: Light) -> int:
            self.watts += event.by
            return self.watts

    async def scenario() -> None:
        async with ActorSystem(Small, trace=None) as system:
            await system.spawn_many(Small, ["a", "b"])
            stats = system.stats()
            assert stats.turns_plain == stats.turns_eager == stats.turns_queued == 0
            actors = system._parts.registry.actors
            assert actors["a"].data is actors["b"].data
            assert await system.ask("a", Light()) == 6
            assert actors["a"].data is not actors["b"].data
            assert system.snapshot("b").data["watts"] == 5

    asyncio.run(scenario())


def test_an_idle_machine_that_was_spawned_holds_nothing_it_does_not_need() -> None:
    async def scenario() -> None:
        async with ActorSystem(Lamp, trace=None) as system:
            await system.spawn_many(Lamp, (f"a-{n}" for n in range(10)))
            for n in range(10):
                await system.ask(f"a-{n}", Light())
            actors = system._parts.registry.actors.values()
            assert all(actor.mailbox is None and actor.rare is None for actor in actors)
        assert all(actor.rare is None for actor in actors)  # nor does the stop give it anything
        gc.collect()

    asyncio.run(scenario())
