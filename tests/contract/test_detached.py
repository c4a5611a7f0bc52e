"""Detached after-hooks (C3, C19): they hold no machine, may only look, have deadlines, and are waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum, auto
from typing import Any

import pytest

from actorfsm import (
    STAY,
    Event,
    Limits,
    Machine,
    ReadOnly,
    Record,
    StaleTurn,
    after_transition,
    transition,
)
from actorfsm.testing.faults import EVIL
from tests.contract.paths import Path, Script, at_rest, on_every_path, until

pytestmark = pytest.mark.rule("C3")


class S(StrEnum):
    A = auto()
    B = auto()


class Go(Event[None]):
    pass


class Back(Event[None]):
    pass


class Count(Event[int]):
    pass


def machine_of(path: Path) -> Any:
    class Counter(Machine[S, Script], initial=S.A, hook_timeout=1):
        count: int = 0

        @transition(S.A, to=S.B)
        @path.style
        def go(self, event: Go) -> None:
            self.count += 1

        @transition(S.B, to=S.A)
        @path.style
        def back(self, event: Back) -> None: ...

        @transition(S.A, S.B, to=STAY)
        @path.style
        def counted(self, event: Count) -> int:
            self.count += 1
            return self.count

        @after_transition(S.B, detached=True)
        async def beside(self, old: S, new: S) -> None:
            result = self.services.play("beside", self)
            if result is not None:
                await result

    return Counter


LOOKS: dict[str, Callable[[Any], Any]] = {
    "write": lambda machine: setattr(machine, "count", 9),
    "tell": lambda machine: machine.tell("m", Count()),
    "next_event": lambda machine: machine.next_event(Count()),
    "start_timer": lambda machine: machine.start_timer(Count(), after=1),
    "cancel_timer": lambda machine: machine.cancel_timer(Count),
    "start_job": lambda machine: machine.start_job(asyncio.sleep, 1),
    "cancel_job": lambda machine: machine.cancel_job("sleep"),
    "unwatch": lambda machine: machine.unwatch("other"),
    "stop": lambda machine: machine.stop(),
}


@on_every_path
@pytest.mark.parametrize("look", LOOKS)
def test_a_detached_hook_may_only_look(path: Path, look: str, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        cls, records = machine_of(path), list[Record]()
        async with path.system(cls, services=Script(beside=LOOKS[look]), trace=records.append) as system:
            ref = await system.spawn(cls, "m")
            await ref.ask(Go())
            await until(lambda: system.stats().after_hooks_failed)
            assert (records[-1].name, type(records[-1].error)) == ("after_hook_failed", ReadOnly)
            assert ref.snapshot().data == {"count": 1}
            assert system.stats().queued == system.stats().timers == system.stats().jobs == 0

    sim(scenario, seeds=range(2))


@on_every_path
@pytest.mark.rule("C13")
def test_whatever_a_detached_hook_raises_is_recorded_and_nobody_else_notices(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        cls, records, script = machine_of(path), list[Record](), Script()
        async with path.system(cls, services=script, trace=records.append) as system:
            ref = await system.spawn(cls, "m")
            for number, name in enumerate(EVIL, 1):

                def evil(_: Any, name: str = name) -> Any:
                    raise EVIL[name]()  # noqa: RSE102 -- a factory

                script.does = {"beside": evil}
                await ref.ask(Go())
                await until(lambda number=number: system.stats().after_hooks_failed == number)
                expected = RuntimeError if name == "StopIteration" else type(EVIL[name]())
                assert type(records[-1].error) is expected
                await ref.ask(Back())
            assert ref.snapshot().incarnation == 0

    sim(scenario, seeds=range(2))


@on_every_path
def test_a_detached_hook_has_its_deadline_and_does_not_hold_the_machine_until_then(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        cls, records = machine_of(path), list[Record]()
        script = Script(beside=lambda _: asyncio.sleep(1e6))
        async with path.system(cls, services=script, trace=records.append) as system:
            ref = await system.spawn(cls, "m")
            await ref.ask(Go(), event_id="go-1")
            for count in (2, 3, 4):
                assert await ref.ask(Count()) == count
            await ref.ask(Back())
            await ref.ask(Go())  # another one beside it
            await asyncio.sleep(0.9)
            assert system.stats().after_hooks_failed == 0
            await asyncio.sleep(0.2)
            await at_rest(system)
            failed = [record for record in records if record.name == "after_hook_failed"]
            assert [(record.hook, type(record.error)) for record in failed] == [("beside", TimeoutError)] * 2
            assert "go-1" in {record.event_id for record in failed}

    sim(scenario)


@on_every_path
@pytest.mark.rule("C19")
def test_shutdown_waits_for_detached_hooks_and_their_asks(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        cls, seen = machine_of(path), list[Any]()

        async def beside(machine: Any) -> None:
            await asyncio.sleep(0.5)
            seen.append(machine.count)

        async with path.system(cls, services=Script(beside=beside)) as system:
            ref = await system.spawn(cls, "m")
            await ref.ask(Go())
        assert seen == [1]
        assert (system.report.finished, system.report.unstopped) == (True, ())

    sim(scenario)


@on_every_path
@pytest.mark.rule("C9")
def test_a_detached_hook_may_wait_for_the_outcome_of_an_event_of_its_own_machine(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        cls, replies = machine_of(path), list[Any]()
        sent: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def beside(machine: Any) -> None:
            receipt = await sent
            replies.append((await receipt.outcome()).reply)

        async with path.system(cls, services=Script(beside=beside)) as system:
            ref = await system.spawn(cls, "m")
            await ref.ask(Go())
            system.suspend("m")
            sent.set_result(ref.tell(Count()))
            await asyncio.sleep(0.1)
            assert replies == []  # it waits, and is refused nothing: it holds up nobody
            system.resume("m")
            await until(lambda: replies)
            assert replies == [2]
            assert system.stats().after_hooks_failed == 0

    sim(scenario)


@on_every_path
@pytest.mark.rule("C19")
@pytest.mark.parametrize(
    ("limits", "cancels"),
    [(Limits(grace_s=0.5, stop_timeout_s=3), 2), (Limits(grace_s=0.2, stop_timeout_s=0.2), 1)],
    ids=["left behind at its deadline", "left behind by the shutdown"],
)
def test_a_detached_hook_that_refuses_to_end_is_named_and_cannot_touch_the_machine_later(
    limits: Limits, cancels: int, path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        cls, refused = machine_of(path), list[str]()
        release: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def beside(machine: Any) -> None:
            while not release.done():
                try:
                    await asyncio.wait([release])
                except asyncio.CancelledError:
                    refused.append("cancelled")
            try:
                machine.count = 5
            except StaleTurn:
                refused.append("write")
            try:
                await machine.ask("other", Count())
            except StaleTurn:
                refused.append("ask")
            held.append(machine)

        held: list[Any] = []
        records: list[Record] = []
        async with path.system(
            cls, services=Script(beside=beside), limits=limits, trace=records.append
        ) as system:
            ref = await system.spawn(cls, "m")
            await system.spawn(cls, "other")
            await ref.ask(Go())
            assert await ref.ask(Count()) == 2
        assert system.report.unstopped == ("m.beside",)
        failed = [record for record in records if record.name == "after_hook_failed"]
        assert [(record.hook, type(record.error)) for record in failed] == [("beside", TimeoutError)]
        release.set_result(None)
        await until(lambda: held)
        await asyncio.sleep(0.1)
        assert refused == ["cancelled"] * cancels + ["write", "ask"]
        assert ref.snapshot().data == {"count": 2}
        with pytest.raises(StaleTurn):
            held[0].count = 5

    sim(scenario)
