"""C4: events of one sender to one machine are handled in the order of acceptance, also across a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum, auto
from random import Random
from typing import Any

import pytest

from actorfsm import STAY, Directive, Event, HookFailed, Machine, Redelivery, Ref, RestartPolicy, transition
from tests.contract.paths import PATHS, Path, Script, Style, on_every_async_path, on_every_path


class State(StrEnum):
    ON = auto()


class Add(Event[int]):
    n: int


class Crash(Event): ...


class Relay(Event):
    numbers: list[int]


class Poison(Exception): ...


def machine_of(style: Style, **options: Any) -> Any:
    class Log(Machine[State, Script], initial=State.ON, final=(State.ON,), **options):
        numbers: tuple[int, ...] = ()

        @transition(State.ON, to=STAY)
        @style
        def add(self, event: Add) -> int:
            self.numbers = (*self.numbers, event.n)
            return self.services.play(f"add {event.n}", self, event.n)

        @transition(State.ON, to=STAY)
        @style
        def crash(self, event: Crash) -> None:
            self.services.play("crash", self)
            raise Poison

        @transition(State.ON, to=STAY)
        @style
        def relay(self, event: Relay) -> Any:
            for number in event.numbers:
                self.tell("log", Add(n=number))
            return self.services.play("relay", self)

    return Log


LOG = {style: machine_of(style) for style in Style}
RESTARTED = {style: machine_of(style, on_failure={Poison: Directive.RESTART}) for style in Style}
REDELIVERED = {style: machine_of(style, redelivery=Redelivery(attempts=2)) for style in Style}


@pytest.mark.rule("C4")
@on_every_path
def test_tells_are_handled_in_order(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with path.system(LOG[path.style], services=Script()) as system:
            ref: Ref[Any] = await system.spawn(LOG[path.style], "log")
            receipts = [ref.tell(Add(n=n)) for n in range(300)]  # more than one step of the loop handles
            await asyncio.gather(*receipts)
            assert ref.snapshot().data["numbers"] == tuple(range(300))

    sim(scenario, seeds=range(3))


@pytest.mark.rule("C4")
@on_every_path
def test_asks_mixed_with_tells_keep_their_order_whether_inline_or_queued(
    path: Path, sim: Callable[..., None]
) -> None:
    seeds = iter(range(100))

    async def scenario() -> None:
        random = Random(next(seeds))
        async with path.system(LOG[path.style], services=Script()) as system:
            ref: Ref[Any] = await system.spawn(LOG[path.style], "log")
            for n in range(60):
                way = random.choice(["ask", "tell", "system.tell", "pause", "many asks"])
                if way == "ask":
                    assert await ref.ask(Add(n=n)) == n
                    continue
                if way == "pause":
                    await asyncio.sleep(random.choice([0, 0.01]))
                if way == "many asks":
                    # Three nested calls in one step: the first may go inline, the others must not overtake it.
                    await asyncio.gather(*(ref.ask(Add(n=n)) for _ in range(3)))
                    continue
                (ref.tell if way != "system.tell" else lambda event: system.tell("log", event))(Add(n=n))
            await ref.ask(Add(n=60))
            numbers = list(ref.snapshot().data["numbers"])
            assert numbers == sorted(numbers)
            assert numbers[-1] == 60
            assert getattr(system.stats(), path.counter) > 0
            assert system.stats().turns_queued > 0

    sim(scenario)


@pytest.mark.rule("C4")
@on_every_async_path
def test_an_ask_does_not_overtake_what_waits_behind_a_suspended_one(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async def slowly(machine: Any) -> None:
            await asyncio.sleep(0.5)

        async with path.system(LOG[path.style], services=Script(**{"add 0": slowly})) as system:
            ref: Ref[Any] = await system.spawn(LOG[path.style], "log")
            first = asyncio.create_task(ref.ask(Add(n=0)))
            await asyncio.sleep(0.1)
            ref.tell(Add(n=1))
            second = asyncio.create_task(ref.ask(Add(n=2)))
            await asyncio.sleep(0.1)
            ref.tell(Add(n=3))
            await asyncio.gather(first, second)
            assert await ref.ask(Add(n=4)) == 4
            assert ref.snapshot().data["numbers"] == (0, 1, 2, 3, 4)

    sim(scenario)


@pytest.mark.rule("C4")
@on_every_path
def test_order_is_kept_across_a_failure(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with path.system(LOG[path.style], services=Script()) as system:
            ref: Ref[Any] = await system.spawn(LOG[path.style], "log")
            ref.tell(Add(n=0))
            ref.tell(Crash())
            ref.tell(Add(n=1))
            with pytest.raises(HookFailed):
                await ref.ask(Crash())
            ref.tell(Add(n=2))
            await ref.ask(Add(n=3))
            assert ref.snapshot().data["numbers"] == (0, 1, 2, 3)

    sim(scenario)


@pytest.mark.rule("C4")
@pytest.mark.parametrize("how", ["told", "asked"])
@on_every_path
def test_order_is_kept_across_a_restart_and_its_backoff(
    path: Path, how: str, sim: Callable[..., None]
) -> None:
    cls = RESTARTED[path.style]

    async def scenario() -> None:
        async with path.system(cls, services=Script()) as system:
            ref: Ref[Any] = await system.spawn(cls, "log")
            if how == "told":
                ref.tell(Crash())
            else:
                with pytest.raises(HookFailed):
                    await ref.ask(Crash())
            ref.tell(Add(n=0))
            second = asyncio.create_task(ref.ask(Add(n=1)))
            await asyncio.sleep(0.01)  # within the backoff
            ref.tell(Add(n=2))
            assert ref.snapshot().data["numbers"] == ()
            assert await second == 1
            await ref.ask(Add(n=3))
            assert ref.snapshot().data["numbers"] == (0, 1, 2, 3)
            assert (ref.snapshot().incarnation, system.stats().restarts) == (1, 1)

    sim(scenario)


@pytest.mark.rule("C4")
@on_every_path
def test_order_is_kept_across_several_restarts_in_a_burst(path: Path, sim: Callable[..., None]) -> None:
    cls = machine_of(
        path.style,
        on_failure={Poison: Directive.RESTART},
        restart=RestartPolicy(max_restarts=100, first_delay_s=0.1),
    )

    async def scenario() -> None:
        async with path.system(cls, services=Script()) as system:
            ref: Ref[Any] = await system.spawn(cls, "log")
            for n in range(20):
                ref.tell(Add(n=n))
                if n % 5 == 4:
                    ref.tell(Crash())
            await ref.ask(Add(n=20), timeout=60)
            assert ref.snapshot().data["numbers"] == tuple(range(21))
            assert system.stats().restarts == 4

    sim(scenario)


@pytest.mark.rule("C4")
@on_every_path
def test_an_event_that_is_tried_again_is_not_overtaken_by_newer_ones(
    path: Path, sim: Callable[..., None]
) -> None:
    cls = REDELIVERED[path.style]

    async def scenario() -> None:
        fails = [True, True, False]

        def fail_twice(machine: Any) -> None:
            if fails.pop(0):
                raise Poison

        async with path.system(cls, services=Script(**{"add 0": fail_twice})) as system:
            ref: Ref[Any] = await system.spawn(cls, "log")
            for n in range(3):
                ref.tell(Add(n=n))
            await ref.ask(Add(n=3), timeout=30)
            assert ref.snapshot().data["numbers"] == (0, 1, 2, 3)

    sim(scenario)


@pytest.mark.rule("C4")
@on_every_path
def test_messages_of_one_machine_to_another_keep_their_order(path: Path, sim: Callable[..., None]) -> None:
    class Sender(LOG[path.style]):  # type: ignore[misc]
        ...

    async def scenario() -> None:
        async with path.system(LOG[path.style], Sender, services=Script()) as system:
            ref: Ref[Any] = await system.spawn(LOG[path.style], "log")
            sender: Ref[Any] = await system.spawn(Sender, "sender")
            for start in (0, 10, 20):
                sender.tell(Relay(numbers=list(range(start, start + 5))))
                await sender.ask(Relay(numbers=list(range(start + 5, start + 10))))
            await system.shutdown()
            assert ref.snapshot().data["numbers"] == tuple(range(30))

    sim(scenario)


@pytest.mark.rule("C4")
@pytest.mark.parametrize("path", PATHS, ids=str)
def test_callbacks_of_one_machine_are_called_in_order_though_they_take_their_time(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        called: list[int] = []

        async def slowly(outcome: Any) -> None:
            if outcome.reply % 2 == 0:
                await asyncio.sleep(0.1)
            called.append(outcome.reply)

        async with path.system(LOG[path.style], services=Script()) as system:
            ref: Ref[Any] = await system.spawn(LOG[path.style], "log")
            for n in range(6):
                ref.tell(Add(n=n), callback=slowly)
        assert called == list(range(6))

    sim(scenario)
