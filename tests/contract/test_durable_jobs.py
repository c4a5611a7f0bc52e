"""C22 with a journal: after a crash a job is begun again or given up, as declared, and its answer is applied once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Any

import pytest

from actorfsm import STAY, Event, HookFailed, InvalidEvent, JobGivenUp, Machine, Quarantined, transition
from tests.contract.durable import Lives, hold, in_memory, lives_on_every_journal

__all__ = ["lives_on_every_journal"]
pytestmark = pytest.mark.rule("C22")
SEEDS = range(2)
LivesOf = Callable[[], Lives]


class S(Enum):
    IDLE = auto()
    BUSY = auto()
    OVER = auto()


class Charge(Event[None]):
    """Begin a job; see `Till.charge`."""

    amount: int = 1
    again: bool = True
    how: str = "gateway"


class Move(Event[None]):
    to: str


class Charged(Event[None]):
    amount: int


class Refused(Event[None]):
    why: str


class Unheard(Event[None]):
    pass


class Gateway:
    """A service that needs ten seconds.

    Attributes:
        calls: The amounts so far.
    """

    def __init__(self) -> None:
        self.calls: list[int] = []

    async def charge(self, amount: int) -> int:
        self.calls.append(amount)
        await asyncio.sleep(10)
        return amount


@dataclass
class Services:
    gateway: Gateway


async def of_the_module(gateway: Gateway, amount: int, *, twice: bool = False) -> int:
    return await gateway.charge(2 * amount if twice else amount)


async def fails(amount: int) -> int:
    raise ValueError(f"no {amount}")


def why(error: BaseException) -> Refused:
    return Refused(why=type(error).__name__)


class Till(Machine[S, Services], initial=S.IDLE, final=(S.OVER,)):
    paid: tuple[int, ...] = ()
    refused: tuple[str, ...] = ()

    @transition(S.IDLE, S.BUSY, to=S.BUSY)
    async def charge(self, event: Charge) -> None:
        gateway, start = self.services.gateway, self.start_job
        if event.how == "gateway":
            start(gateway.charge, event.amount, done=Charged, failed=why, again=event.again)
        elif event.how == "module":
            start(of_the_module, gateway, event.amount, done=Charged, failed=Refused, again=event.again)
        elif event.how == "partial":
            twice = partial(of_the_module, gateway, twice=True)
            start(twice, event.amount, done=Charged, again=event.again, timeout=20, name="twice")
        elif event.how == "silent":
            start(gateway.charge, event.amount, again=event.again)
        elif event.how == "fails":
            start(fails, event.amount, done=Charged, failed=why, again=event.again)
        elif event.how == "object":
            start(of_the_module, object(), event.amount, again=event.again)  # type: ignore[arg-type]
        elif event.how == "lambda":
            start(
                gateway.charge, event.amount, failed=lambda error: Refused(why=str(error)), again=event.again
            )
        else:

            async def local(amount: int) -> int:
                return amount

            start(local, event.amount, done=Charged, again=event.again)

    @transition(S.BUSY, to=STAY)
    async def charged(self, event: Charged) -> None:
        self.paid = (*self.paid, event.amount)

    @transition(S.BUSY, to=STAY)
    async def was_refused(self, event: Refused) -> None:
        self.refused = (*self.refused, event.why)

    @transition(S.BUSY, to=S.IDLE)
    async def idle(self, event: Unheard) -> None: ...

    @transition(S.BUSY, to=STAY)
    async def move(self, event: Move) -> None:
        if event.to == "stop":
            self.stop()
        elif event.to == "cancel":
            self.cancel_job("charge")

    @transition(S.IDLE, to=S.OVER)
    async def over(self, event: Move) -> None: ...


def _begin(lives: Lives, gateway: Gateway) -> Any:
    return lives.begin(Till, services=Services(gateway))


@pytest.mark.parametrize("how", ["gateway", "module", "partial"])
def test_a_job_that_may_run_twice_is_begun_again_and_answers_once(
    sim: Callable[..., None], lives_of: LivesOf, how: str
) -> None:
    async def scenario() -> None:
        lives, gateway = lives_of(), Gateway()
        async with _begin(lives, gateway) as system:
            till = await system.spawn(Till, "t")
            await till.ask(Charge(amount=5, how=how))
            await system.clock.advance(5)
            await system.shutdown(queues="abandon")
        amount = 10 if how == "partial" else 5
        assert gateway.calls == [amount]
        async with _begin(lives, gateway) as system:
            await system.clock.advance(11)
            assert system.snapshot("t").data["paid"] == (amount,)
        assert gateway.calls == [amount, amount]
        async with _begin(lives, gateway) as system:
            await system.clock.advance(30)
            await system.get_or_spawn(Till, "t")
            assert system.snapshot("t").data["paid"] == (amount,)
            assert await system._journal.pending() == []
        assert gateway.calls == [amount, amount]

    sim(scenario, seeds=SEEDS)


def test_a_job_that_may_not_run_twice_is_given_up_and_the_machine_is_told_once(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives, gateway = lives_of(), Gateway()
        async with _begin(lives, gateway) as system:
            till = await system.spawn(Till, "t")
            await till.ask(Charge(again=False))
            await system.clock.advance(5)
            await system.shutdown(queues="abandon")
        for _ in range(2):
            async with _begin(lives, gateway) as system:
                await system.clock.advance(30)
                await system.get_or_spawn(Till, "t")
                assert system.snapshot("t").data["refused"] == (JobGivenUp.__name__,)
        assert gateway.calls == [1]

    sim(scenario, seeds=SEEDS)


def test_a_job_that_nobody_is_told_of_is_recorded_as_given_up_once(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lives, gateway, failed = in_memory(), Gateway(), []
        async with _begin(lives, gateway) as system:
            await (await system.spawn(Till, "t")).ask(Charge(how="silent", again=False))
            await system.clock.advance(5)
            await system.shutdown(queues="abandon")
        for _ in range(2):
            async with _begin(lives, gateway) as system:
                await system.clock.advance(30)
                failed += [record.reason for record in system.trace if record.name == "job_failed"]
        assert len(failed) == 1
        assert "the system ended while the job charge ran" in failed[0]

    sim(scenario, seeds=SEEDS)


@pytest.mark.parametrize("how", ["gateway", "silent", "fails"])
def test_a_job_that_has_ended_is_not_begun_again(
    sim: Callable[..., None], lives_of: LivesOf, how: str
) -> None:
    async def scenario() -> None:
        lives, gateway = lives_of(), Gateway()
        async with _begin(lives, gateway) as system:
            await (await system.spawn(Till, "t")).ask(Charge(how=how))
            await system.clock.advance(11)
            data = system.snapshot("t").data
        async with _begin(lives, gateway) as system:
            await system.clock.advance(30)
            await system.get_or_spawn(Till, "t")
            assert system.snapshot("t").data == data
            assert await system._journal.pending() == []
        assert len(gateway.calls) == (how != "fails")
        assert data["refused"] == (("ValueError",) if how == "fails" else ())

    sim(scenario, seeds=SEEDS)


@pytest.mark.parametrize("end", [Unheard(), Move(to="stop"), Move(to="cancel"), Charge(how="silent")])
def test_a_job_that_was_ended_by_a_commit_is_not_begun_again(
    sim: Callable[..., None], lives_of: LivesOf, end: Any
) -> None:
    async def scenario() -> None:
        lives, gateway = lives_of(), Gateway()
        async with _begin(lives, gateway) as system:
            till = await system.spawn(Till, "t")
            await till.ask(Charge(amount=7))
            await system.clock.advance(5)
            await till.ask(end)
            await system.shutdown(queues="abandon")
        async with _begin(lives, gateway) as system:
            await system.clock.advance(30)
        assert gateway.calls.count(7) == 1

    sim(scenario, seeds=SEEDS)


def test_an_answer_that_waits_when_the_system_ends_comes_of_another_run(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lives, gateway = in_memory(), Gateway()
        async with _begin(lives, gateway) as system:
            await (await system.spawn(Till, "t")).ask(Charge(amount=3))
            hold(system, "t")
            await system.clock.advance(11)
            assert system.stats().queued == 1
            await system.shutdown(queues="abandon")
        async with _begin(lives, gateway) as system:
            await system.clock.advance(11)
            assert system.snapshot("t").data["paid"] == (3,)

    sim(scenario, seeds=SEEDS)


@pytest.mark.parametrize(
    ("how", "again", "said"),
    [
        ("local", True, "local could not be found again after a crash"),
        ("object", True, "argument 1: a object would not be the same after a crash"),
        (
            "lambda",
            False,
            "failed: .* give a function of a module or a method of a service, or an event class",
        ),
    ],
)
def test_what_could_not_be_found_again_is_refused_where_the_job_is_started(
    sim: Callable[..., None], how: str, again: bool, said: str
) -> None:
    async def scenario() -> None:
        async with _begin(in_memory(), Gateway()) as system:
            till = await system.spawn(Till, "t")
            with pytest.raises(HookFailed, match=said) as caught:
                await till.ask(Charge(how=how, again=again))
            assert isinstance(caught.value.__cause__, InvalidEvent)

    sim(scenario, seeds=SEEDS)


def test_a_machine_whose_job_is_not_there_any_more_is_held_until_it_is(
    sim: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        lives, gateway = in_memory(), Gateway()
        async with _begin(lives, gateway) as system:
            await (await system.spawn(Till, "t")).ask(Charge(how="module"))
            await system.shutdown(queues="abandon")
        with monkeypatch.context() as patch:
            patch.delattr("tests.contract.test_durable_jobs.of_the_module")
            async with _begin(lives, gateway) as system:
                await system.clock.advance(1)
                with pytest.raises(Quarantined, match="of_the_module, which is not there"):
                    await system.ask("t", Unheard())
        async with _begin(lives, gateway) as system:
            await system.clock.advance(11)
            assert system.snapshot("t").data["paid"] == (1,)

    sim(scenario, seeds=SEEDS)
