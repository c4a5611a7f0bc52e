"""C29: an idle machine leaves memory and comes back at its next event; nobody can tell but by the time it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from random import Random
from typing import Any

import pytest

from actorfsm import (
    ActorSystem,
    DefinitionError,
    Directive,
    MachineExists,
    NoSuchMachine,
    PassivationPolicy,
    RestartPolicy,
    Unsupported,
)
from actorfsm.testing import SimulatedSystem
from tests.contract.durable import (
    End,
    Fail,
    Lives,
    Note,
    Order,
    Pay,
    Raise,
    Remind,
    S,
    Send,
    Ship,
    Watch,
    in_memory,
    lives_on_every_journal,
)

__all__ = ["lives_on_every_journal"]
SEEDS = range(3)
LivesOf = Callable[[], Lives]
SOON = PassivationPolicy(idle_s=10)


class Strict(
    Order,
    initial=S.OPEN,
    final=(S.SHIPPED,),
    on_failure={ValueError: Directive.RESTART},
    restart=RestartPolicy(max_restarts=1, within_s=1000, stable_after_s=1000),
):
    """Is restarted once, then held."""


def _notes(system: Any, machine_id: str) -> tuple[str, ...]:
    notes: tuple[str, ...] = system.snapshot(machine_id).data["notes"]
    return notes


@pytest.mark.rule("C29")
def test_an_idle_machine_leaves_memory_and_comes_back_as_it_was(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        async with lives_of().begin(passivation=SOON) as system:
            order = await system.spawn(Order, "o", data={"paid": 3})
            await order.ask(Pay(amount=2))
            before = order.snapshot()
            await system.clock.advance(9)
            assert system.ids() == ["o"]
            await system.clock.advance(2)
            assert system.ids() == []
            assert (system.stats().machines, system.stats().passivated) == (0, 1)
            assert await order.ask(Pay(amount=2)) == 7
            after = order.snapshot()
            assert (after.state, after.seq, after.incarnation) == (
                before.state,
                before.seq + 1,
                before.incarnation,
            )

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C29")
def test_where_there_are_too_many_those_leave_that_were_used_longest_ago(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        policy = PassivationPolicy(idle_s=inf, in_memory=3)
        async with in_memory().begin(passivation=policy) as system:
            for name in "abcde":
                await system.spawn(Order, name)
                await system.clock.advance(1)
            assert system.ids() == ["c", "d", "e"]
            await system.ask("c", Note(text="."))
            await system.ask("a", Note(text="."))
            await system.clock.advance(1)
            assert sorted(system.ids()) == ["a", "c", "e"]

    sim(scenario, seeds=SEEDS)


@pytest.mark.many
@pytest.mark.rule("C29")
def test_events_that_race_with_eviction_are_handled_once_and_in_order(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        policy = PassivationPolicy(idle_s=0.001, in_memory=1)
        async with lives_of().begin(passivation=policy) as system:
            names = ["a", "b", "c"]
            for name in names:
                await system.spawn(Order, name)

            async def send(name: str) -> None:
                random = Random(name)
                for number in range(30):
                    system.tell(name, Note(text=str(number)))
                    await asyncio.sleep(random.choice([0, 0, 0.0005, 0.001, 0.002]))

            await asyncio.gather(*map(send, names))
            for name in names:
                await system.ask(name, Note(text="end"))
                assert _notes(system, name) == (*map(str, range(30)), "end")
            assert system.stats().passivated > 3

    sim(scenario, seeds=range(10))


@pytest.mark.rule("C29")
def test_a_timer_is_due_at_a_machine_that_is_not_in_memory(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        async with lives_of().begin(passivation=SOON) as system:
            await system.spawn(Order, "o")
            await system.ask("o", Remind(after=100, name="late"))
            await system.ask("o", Remind(after=50, name="early"))
            await system.clock.advance(20)
            assert system.ids() == []
            assert system.stats().timers == 0
            await system.clock.advance(29)
            assert system.ids() == []
            await system.clock.advance(2)
            assert _notes(system, "o") == ("early",)
            await system.clock.advance(20)
            assert system.ids() == []
            await system.clock.advance(30)
            assert _notes(system, "o") == ("early", "late")

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C29")
def test_a_postponed_event_waits_on_and_its_sender_learns_how_it_ended(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        async with lives_of().begin(passivation=SOON, check=True) as system:
            await system.spawn(Order, "o")
            told: list[Any] = []
            receipt = system.tell("o", Ship(), callback=told.append, event_id="ship")
            await system.clock.advance(20)
            assert system.ids() == []
            assert (system.stats().postponed, system.stats().balance) == (1, 0)
            await system.ask("o", Note(text="still open"))
            assert system.stats().postponed == 1
            await system.clock.advance(20)
            assert system.ids() == []
            await system.ask("o", Pay(amount=1))
            assert (await receipt).reply == "parcel of o"
            await system.clock.advance(1)
            assert [outcome.reply for outcome in told] == ["parcel of o"]

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C29")
def test_an_ask_that_is_postponed_keeps_its_machine_in_memory(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with in_memory().begin(passivation=SOON) as system:
            await system.spawn(Order, "o")
            asking = asyncio.ensure_future(system.ask("o", Ship(), timeout=1000))
            await system.clock.advance(100)
            assert system.ids() == ["o"]
            await system.ask("o", Pay(amount=1))
            assert await asking == "parcel of o"
            await system.clock.advance(100)
            assert system.ids() == []

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C29")
def test_what_waits_for_a_machine_that_is_not_in_memory_is_answered_when_the_system_stops(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin(passivation=SOON) as system:
            await system.spawn(Order, "o")
            receipt = system.tell("o", Ship())
            await system.clock.advance(20)
            assert system.ids() == []
        assert (await receipt).kind == "dead_lettered"
        async with lives.begin(passivation=SOON) as system:
            await system.ask("o", Pay(amount=1))
            await system.clock.advance(1)
            assert system.snapshot("o").state is S.SHIPPED

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C29")
def test_watches_go_on_and_passivation_ends_none(sim: Callable[..., None], lives_of: LivesOf) -> None:
    async def scenario() -> None:
        async with lives_of().begin(passivation=SOON) as system:
            for name in ("watcher", "watched"):
                await system.spawn(Order, name)
            await system.ask("watcher", Watch(who="watched"))
            outside = asyncio.ensure_future(system.watch("watched"))
            await system.clock.advance(100)
            assert system.ids() == []
            assert not outside.done()
            await system.ask("watcher", Note(text="."))
            await system.clock.advance(100)
            assert system.ids() == []
            await system.ask("watched", End())
            await system.clock.advance(1)
            assert _notes(system, "watcher") == (".", "watched stopped")
            assert (await outside).reason == "stopped"
            await system.clock.advance(100)
            await system.ask("watcher", Note(text="."))
            await system.clock.advance(1)
            assert _notes(system, "watcher") == (".", "watched stopped", ".")

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C29")
def test_who_comes_back_in_a_later_life_hears_that_what_it_watches_has_stopped(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin() as system:
            for name in ("watcher", "watched"):
                await system.spawn(Order, name)
            await system.ask("watcher", Watch(who="watched"))
        async with lives.begin() as system:
            await system.stop("watched")
            assert (await system.watch("watched")).reason == "stopped"
        async with lives.begin() as system:
            await system.load("watcher")
            await system.clock.advance(1)
            assert _notes(system, "watcher") == ("watched stopped",)
            assert (await system.watch("nobody")).reason == "unknown"

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C29")
def test_the_end_of_the_system_is_told_to_who_watches_a_machine_that_is_not_in_memory(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        async with in_memory().begin(passivation=SOON) as system:
            await system.spawn(Order, "o")
            outside = asyncio.ensure_future(system.watch("o"))
            await system.clock.advance(100)
            assert system.ids() == []
        assert (await outside).reason == "stopped"

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C29")
def test_incarnation_and_restarts_that_count_are_not_forgotten(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with in_memory().begin(Strict, passivation=SOON) as system:
            await system.spawn(Strict, "o")
            with pytest.raises(Exception, match="it fails"):
                await system.ask("o", Fail())
            await system.clock.advance(100)
            assert system.ids() == ["o"]
            await system.clock.advance(2000)
            assert system.ids() == []
            await system.ask("o", Note(text="."))
            assert system.snapshot("o").incarnation == 1

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C29")
def test_what_an_operator_holds_stays_in_memory(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with in_memory().begin(Strict, passivation=SOON) as system:
            for name in ("suspended", "quarantined"):
                await system.spawn(Strict, name)
            system.suspend("suspended")
            for _ in range(2):
                with pytest.raises(Exception, match="it fails"):
                    await system.ask("quarantined", Fail())
                await system.clock.advance(1)
            assert system.quarantined() == ["quarantined"]
            await system.clock.advance(5000)
            assert system.ids() == ["suspended", "quarantined"]

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C29")
def test_an_id_that_is_not_in_memory_is_taken_and_its_event_ids_are_known(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        async with lives_of().begin(passivation=SOON) as system:
            await system.spawn(Order, "o", event_id="birth")
            assert await system.ask("o", Pay(amount=5), event_id="pay") == 5
            await system.clock.advance(20)
            assert await system.ask("o", Pay(amount=5), event_id="pay") == 5
            await system.clock.advance(20)
            await system.spawn(Order, "o", event_id="birth")
            await system.clock.advance(20)
            with pytest.raises(MachineExists):
                await system.spawn(Order, "o")
            await system.clock.advance(20)
            assert (await system.get_or_spawn(Order, "o")).snapshot().data["paid"] == 5
            await system.clock.advance(20)
            report = await system.spawn_many(Order, ["n", "o"])
            assert (report.spawned, list(report.refused)) == (1, ["o"])
            await system.clock.advance(20)
            await system.stop("o")
            assert await system.watch("o")

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C29")
def test_a_machine_stays_while_its_commit_is_not_stored(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lives = in_memory()
        store = lives.store
        assert store is not None
        async with lives.begin(passivation=SOON) as system:
            await system.spawn(Order, "o")
            await system.ask("o", Remind(after=30))
            store.fate = lambda: "not stored"
            await system.clock.advance(100)
            assert system.ids() == ["o"]
            store.fate = lambda: "stored"
            await system.clock.advance(100)
            assert system.ids() == []
            await system.ask("o", Note(text="."))
            assert _notes(system, "o") == ("reminder", ".")

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C31")
def test_a_machine_that_is_not_in_memory_is_looked_at_once_it_is_loaded(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        async with lives_of().begin(passivation=SOON) as system:
            for name in ("a", "b", "c", "d"):
                await system.spawn(Order, name)
            await system.ask("b", Pay(amount=1))
            await system.stop("d")
            await system.clock.advance(20)
            assert system.ids() == []
            assert [name async for name in system.stored_ids(Order)] == ["a", "b", "c"]
            assert [name async for name in system.stored_ids(Order, state=S.PAID)] == ["b"]
            assert system.ids() == []
            for look in (system.snapshot, system.inspect, system.suspend):
                with pytest.raises(NoSuchMachine, match=r"in memory; `await system.load"):
                    look("b")
            await system.load("b")
            assert system.snapshot("b").state is S.PAID
            assert system.inspect("b").status == "idle"
            system.suspend("b")
            await system.clock.advance(100)
            assert system.ids() == ["b"]
            for name in ("d", "nobody"):
                with pytest.raises(NoSuchMachine):
                    await system.load(name)

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C31")
def test_without_a_journal_what_is_in_memory_is_all(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with SimulatedSystem(Order, check=False) as system:
            await system.spawn(Order, "o")
            await system.load("o")
            with pytest.raises(Unsupported, match="needs a journal"):
                await anext(system.stored_ids())
            with pytest.raises(NoSuchMachine, match=r"is alive$"):
                system.snapshot("nobody")

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C29")
def test_without_a_journal_nothing_is_passivated() -> None:
    with pytest.raises(DefinitionError, match="needs a journal"):
        ActorSystem(Order, passivation=SOON)
    given: Any = {"idle_s": 10}
    with pytest.raises(DefinitionError, match="PassivationPolicy"):
        ActorSystem(Order, journal="never-made.db", passivation=given)


@pytest.mark.rule("C29")
@pytest.mark.parametrize(
    "values",
    [{"idle_s": 0}, {"idle_s": -1}, {"idle_s": "x"}, {"idle_s": True}, {"in_memory": 0}, {"in_memory": 1.5}],
)
def test_a_policy_that_cannot_be_meant_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=next(iter(values))):
        PassivationPolicy(**values)


# -- machines that leave memory all the time, and machines that stay ---------------------------------------------------

MACHINES = tuple("abcd")


def _steps(seed: int) -> list[tuple[str, Any, float]]:
    """Return what is sent: for whom, what, and the pause after it."""
    random = Random(seed)
    steps: list[tuple[str, Any, float]] = []
    for number in range(40):
        name, other = random.sample(MACHINES, 2)
        event = random.choice(
            [
                Note(text=str(number)),
                Send(to=other, text=f"{name}{number}"),
                Raise(texts=(f"r{number}", f"s{number}")),
                Remind(after=random.choice([1.0, 5.0, 40.0]), name=f"t{random.randrange(3)}"),
                Watch(who=other),
                Fail(),
                *([Pay(amount=number), Ship(), End()] if random.random() < 0.2 else []),
            ]
        )
        steps.append((name, event, random.choice([0.3, 0.3, 1.1, 7.7])))
    return steps


async def _run(lives: Lives, seed: int, policy: PassivationPolicy | None) -> tuple[Any, ...]:
    """Return all that can be seen of a run."""
    outcomes: list[Any] = []
    async with lives.begin(Strict, passivation=policy) as system:
        for name in MACHINES:
            await system.spawn(Strict, name)
        for number, (name, event, pause) in enumerate(_steps(seed)):
            system.tell(name, event, event_id=f"e{number}", callback=outcomes.append)
            await system.clock.advance(pause)
        await system.clock.advance(100)
        left = system.stats().passivated
        ends = {
            outcome.event_id: (
                outcome.kind,
                outcome.old,
                outcome.new,
                outcome.reply,
                outcome.seq,
                outcome.duplicate,
            )
            for outcome in outcomes
        }
        stats = system.stats()
        counted = (stats.accepted, stats.outcomes, stats.postponed, stats.restarts, stats.balance)
        alive: list[Any] = []
        for name in MACHINES:
            try:
                await (await system.get_or_spawn(Strict, name)).ask(Note(text="last"))
            except Exception as error:  # noqa: BLE001 -- whatever it is, it has to be the same
                alive.append(type(error).__name__)
            await system.load(name)
            shown = system.snapshot(name)
            alive.append((shown.state, shown.data, shown.seq, shown.incarnation))
        return left, ends, counted, alive


async def _agree(lives_of: LivesOf) -> None:
    """Compare two runs of the same steps, as the seed of the loop has them."""
    loop: Any = asyncio.get_running_loop()
    random = Random(loop.seed)
    policy = PassivationPolicy(idle_s=random.choice([0.01, 0.5, 3.0]), in_memory=random.choice([1, 2, 100]))
    stays = await _run(lives_of(), loop.seed, None)
    leaves = await _run(lives_of(), loop.seed, policy)
    assert leaves[0] > 0
    assert leaves[1:] == stays[1:]


@pytest.mark.rule("C29")
def test_a_run_in_which_machines_leave_memory_all_the_time_agrees_with_one_in_which_they_stay(
    sim: Callable[..., None],
) -> None:
    sim(lambda: _agree(in_memory), seeds=range(4))


@pytest.mark.slow
@pytest.mark.timeout(300)  # stopped inside a statement it looks like a lost connection
@pytest.mark.rule("C29")
def test_many_such_runs_agree_on_every_journal(sim: Callable[..., None], lives_of: LivesOf) -> None:
    sim(lambda: _agree(lives_of), seeds=range(4, 40))
