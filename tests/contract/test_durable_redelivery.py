"""C14 with a journal: how often an event was tried is stored, so that its attempts are bounded over all lives."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any

import pytest

from actorfsm import STAY, Event, Machine, Redelivery, postpone, transition
from actorfsm.journal.verify import verify_journal
from tests.contract.durable import Lives, in_memory, lives_on_every_journal

__all__ = ["lives_on_every_journal"]
SEEDS = range(2)
LivesOf = Callable[[], Lives]


class S(Enum):
    OPEN = auto()
    READY = auto()


class Send(Event[None]):
    to: str


class Work(Event[None]):
    pass


class Next(Event[None]):
    pass


class Wait(Event[None]):
    pass


class Ready(Event[None]):
    pass


class Box(
    Machine[S, Any], initial=S.OPEN, redelivery=Redelivery(attempts=3, first_delay_s=10, max_delay_s=20)
):
    """Its services are what it tried, and whether that fails."""

    @transition(S.OPEN, to=STAY)
    async def send(self, event: Send) -> None:
        self.tell(event.to, Work())
        self.tell(event.to, Next())

    @transition(S.OPEN, to=STAY)
    async def work(self, event: Work) -> None:
        self._try("work")

    @transition(S.OPEN, to=STAY)
    async def next(self, event: Next) -> None:
        self.services["tried"].append("next")

    @postpone(S.OPEN)
    @transition(S.READY, to=STAY)
    async def wait(self, event: Wait) -> None:
        self._try("wait")

    @transition(S.OPEN, to=S.READY)
    @transition(S.READY, to=S.OPEN)
    async def ready(self, event: Ready) -> None: ...

    def _try(self, what: str) -> None:
        self.services["tried"].append(what)
        if self.services["fails"]:
            raise ValueError("it fails")


async def _life(lives: Lives, told: str, seconds: float = 1, *, fails: bool = True) -> tuple[list[str], int]:
    """Let a system live for so long; return what was tried, and how many dead letters there are."""
    services: dict[str, Any] = {"tried": [], "fails": fails}
    async with lives.begin(Box, services=services) as system:
        await system.clock.advance(seconds)
        letters = len(await system._parts.journal.dead_letters())
        assert (await verify_journal(system._parts.journal)).holds
        await system.shutdown(queues="abandon")
    return services["tried"], letters


async def _begin(lives: Lives, told: str) -> None:
    """Let an event fail once, and another one wait behind it."""
    services: dict[str, Any] = {"tried": [], "fails": True}
    async with lives.begin(Box, services=services) as system:
        await system.spawn(Box, "a")
        box = await system.spawn(Box, "b")
        if told == "message":
            await system.ask("a", Send(to="b"))
        elif told == "durably":
            await box.tell(Work(), durable=True).accepted()
        else:
            await box.tell(Wait()).accepted()
            await box.ask(Ready())
        await system.clock.advance(1)
        assert services["tried"] == ["wait" if told == "postponed" else "work"]
        await system.shutdown(queues="abandon")


@pytest.mark.rule("C14")
@pytest.mark.parametrize("told", ["message", "durably", "postponed"])
def test_an_event_that_always_fails_is_poison_after_its_attempts_over_all_lives(
    sim: Callable[..., None], lives_of: LivesOf, told: str
) -> None:
    """Each life is shorter than the pause before the next try, so that none of them comes to the end of it."""

    async def scenario() -> None:
        lives = lives_of()
        what, behind = "wait" if told == "postponed" else "work", ["next"] if told == "message" else []
        await _begin(lives, told)
        assert await _life(lives, told) == ([what], 0)
        assert await _life(lives, told) == ([what], 0)
        assert await _life(lives, told) == ([what, *behind], 1)
        assert await _life(lives, told) == ([], 1)

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C14")
@pytest.mark.rule("C24")
@pytest.mark.parametrize("told", ["message", "durably", "postponed"])
def test_an_event_that_succeeds_in_the_next_life_is_applied_once_and_what_waits_comes_after_it(
    sim: Callable[..., None], lives_of: LivesOf, told: str
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        what, behind = "wait" if told == "postponed" else "work", ["next"] if told == "message" else []
        await _begin(lives, told)
        assert await _life(lives, told, fails=False) == ([what, *behind], 0)
        assert await _life(lives, told, 100) == ([], 0)

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C14")
def test_a_plain_event_that_is_tried_again_writes_nothing_but_its_end(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lives = in_memory()
        services: dict[str, Any] = {"tried": [], "fails": True}
        async with lives.begin(Box, services=services) as system:
            box = await system.spawn(Box, "b")
            receipt = box.tell(Work())
            await system.clock.advance(100)
            assert (await receipt).kind == "dead_lettered"
            assert services["tried"] == ["work"] * 4
            assert [entry.kind for entry in await system._parts.journal.entries("b")] == ["committed"]

    sim(scenario, seeds=SEEDS)
