"""C1: during a turn nothing else of the machine runs, and nobody sees a state in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum, auto
from typing import Any

import pytest

from actorfsm import Event, Machine, Ref, after_transition, before_transition, on_enter, on_exit, transition
from tests.contract.paths import Path, Script, Style, at_rest, on_every_async_path, on_every_path


class State(StrEnum):
    IDLE = auto()
    BUSY = auto()


class Work(Event[int]):
    n: int = 0


def machine_of(style: Style) -> Any:
    class Worker(Machine[State, Script], initial=State.IDLE):
        total: int = 0
        log: list[str] = []

        @before_transition
        @style
        def before(self, old: State, new: State) -> Any:
            return self.services.play("before", self)

        @on_exit()
        @style
        def leave(self, old: State, new: State) -> Any:
            return self.services.play("exit", self)

        @transition(State.IDLE, to=State.BUSY)
        @transition(State.BUSY, to=State.IDLE)
        @style
        def work(self, event: Work) -> int:
            self.total += 1
            self.log.append(f"n{event.n}")
            return self.services.play("body", self, self.total)

        @on_enter(State.BUSY)
        @style
        def enter(self, old: State, new: State) -> Any:
            self.log.append("entered")
            return self.services.play("enter", self)

        @after_transition
        @style
        def after(self, old: State, new: State) -> Any:
            return self.services.play("after", self)

    return Worker


WORKER = {style: machine_of(style) for style in Style}
STAGES = ("before", "exit", "body", "enter", "after")


def one_at_a_time(script: Script) -> list[str]:
    """Let every hook take a while, and check from inside that no other of the machine has begun meanwhile."""
    log: list[str] = []

    def stage(name: str) -> Callable[[Any], Any]:
        async def take_a_while(machine: Any) -> None:
            log.append(f"{machine.id} {name} begins")
            await asyncio.sleep(0.1)
            log.append(f"{machine.id} {name} ends")

        return take_a_while

    script.does.update({name: stage(name) for name in STAGES})
    return log


@pytest.mark.rule("C1")
@on_every_async_path
def test_no_other_event_begins_while_a_hook_awaits(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script()
        async with path.system(WORKER[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(WORKER[path.style], "m")
            await at_rest(system)
            log = one_at_a_time(script)
            first = asyncio.create_task(ref.ask(Work(n=0)))
            await asyncio.sleep(0.01)
            receipts = [ref.tell(Work(n=n)) for n in range(1, 4)]
            asks = [asyncio.create_task(system.ask("m", Work(n=n))) for n in range(4, 7)]
            assert await first == 1
            assert sorted([(await receipt).reply for receipt in receipts] + [await ask for ask in asks]) == [
                2,
                3,
                4,
                5,
                6,
                7,
            ]
        # Every hook ends before another of the machine begins.
        begins, ends = log[0::2], log[1::2]
        assert [line.replace(" begins", "") for line in begins] == [
            line.replace(" ends", "") for line in ends
        ]
        assert len(log) == 2 * (
            4 * 5 + 3 * 4
        )  # four times into BUSY, which has the enter hook, three times out of it
        assert system.snapshot("m").data["total"] == 7

    sim(scenario)


@pytest.mark.rule("C1")
@on_every_async_path
def test_two_machines_do_not_wait_for_each_other(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script()
        async with path.system(WORKER[path.style], services=script) as system:
            refs: list[Ref[Any]] = [await system.spawn(WORKER[path.style], f"m{n}") for n in range(5)]
            one_at_a_time(script)
            loop = asyncio.get_running_loop()
            started_at = loop.time()
            await asyncio.gather(*(ref.ask(Work()) for ref in refs))
            assert loop.time() - started_at < 0.6  # five hooks of 0.1 s each, not twenty-five

    sim(scenario)


@pytest.mark.rule("C1")
@on_every_async_path
def test_a_snapshot_during_a_turn_shows_what_was_committed_last(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        seen: list[Any] = []
        script = Script()
        async with path.system(WORKER[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(WORKER[path.style], "m")
            await at_rest(system)
            await ref.ask(Work(n=1))
            await at_rest(system)
            committed = ref.snapshot()
            assert committed.data == {"total": 1, "log": ["n1", "entered"]}

            def look(name: str) -> Callable[[Any], Any]:
                async def hook(machine: Any) -> None:
                    await asyncio.sleep(0.1)
                    snapshot = ref.snapshot()
                    seen.append((name, snapshot == committed, machine.total, system.ids(state=State.BUSY)))

                return hook

            script.does.update({name: look(name) for name in STAGES})
            asker = asyncio.create_task(ref.ask(Work(n=2)))
            watcher: list[Any] = []
            for _ in range(6):  # and from outside, at any time
                await asyncio.sleep(0.05)
                watcher.append(ref.snapshot())
            await asker
            assert all(snapshot == committed for snapshot in watcher[:5])
            assert (ref.snapshot().state, ref.snapshot().seq) == (State.IDLE, committed.seq + 1)
        assert seen == [
            ("before", True, 1, ["m"]),
            ("exit", True, 1, ["m"]),
            ("body", True, 2, ["m"]),
            ("after", False, 2, []),
        ]

    sim(scenario)


@pytest.mark.rule("C1")
@on_every_path
def test_a_snapshot_is_no_turn_and_waits_for_nothing(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with path.system(WORKER[path.style], services=Script()) as system:
            ref: Ref[Any] = await system.spawn(WORKER[path.style], "m")
            await at_rest(system)
            await ref.ask(Work())
            await at_rest(system)
            for _ in range(3):
                ref.snapshot()
            path.assert_taken(system, 2)

    sim(scenario)


@pytest.mark.rule("C1")
@on_every_async_path
def test_no_callback_of_the_machine_runs_before_the_turn_is_over(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        order: list[str] = []
        script = Script()

        async def slowly(machine: Any) -> None:
            order.append("after begins")
            await asyncio.sleep(0.5)
            order.append("after ends")

        async with path.system(WORKER[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(WORKER[path.style], "m")
            await at_rest(system)
            script.does["after"] = slowly
            ref.tell(Work(), event_id="w", callback=lambda outcome: order.append("callback"))
            ref.tell(Work(), event_id="w", callback=lambda outcome: order.append("callback of the duplicate"))
        assert order == ["after begins", "after ends", "callback", "callback of the duplicate"]

    sim(scenario)


@pytest.mark.rule("C1")
@on_every_async_path
def test_a_stop_takes_effect_between_two_events_never_within_one(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script()
        async with path.system(WORKER[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(WORKER[path.style], "m")
            await at_rest(system)
            log = one_at_a_time(script)
            asker = asyncio.create_task(ref.ask(Work()))
            await asyncio.sleep(0.05)
            waiting = ref.tell(Work())
            await system.stop("m")
            assert log[-1] == "m after ends"
            assert await asker == 1
            assert (await waiting).kind == "dead_lettered"

    sim(scenario)


@pytest.mark.rule("C1")
@on_every_path
def test_increments_from_many_senders_are_all_counted(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async def yield_twice(machine: Any) -> None:
            total = machine.total
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert machine.total == total  # nobody else has been here

        script = Script()
        if path.is_async:
            script.does["body"] = yield_twice
        async with path.system(WORKER[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(WORKER[path.style], "m")
            await at_rest(system)

            async def send(n: int) -> None:
                for k in range(5):
                    await ref.ask(Work(n=n * 10 + k))

            await asyncio.gather(*(send(n) for n in range(10)))
            assert ref.snapshot().data["total"] == 50
            assert getattr(system.stats(), path.counter) > 0

    sim(scenario)
