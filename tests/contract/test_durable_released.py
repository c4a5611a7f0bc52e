"""C6, C23: what a machine was to try again at the end of a life is tried in the next one, without anybody asking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

import pytest

from actorfsm import STAY, AskTimeout, Event, Expired, Machine, after_transition, postpone, transition
from actorfsm.journal.memory import MemoryJournal
from actorfsm.journal.verify import verify_journal
from tests.contract.durable import Lives, in_memory, lives_on_every_journal

__all__ = ["lives_on_every_journal"]
SEEDS = range(2)
LivesOf = Callable[[], Lives]


class S(Enum):
    SHUT = auto()
    OPEN = auto()
    WIDE = auto()
    GONE = auto()


class Come(Event[None]):
    who: str


class Visit(Event[None]):
    who: str


class Open(Event[None]):
    pass


class Widen(Event[None]):
    pass


class Leave(Event[None]):
    pass


class Finish(Event[None]):
    pass


class Door(Machine[S, Any], initial=S.SHUT, final=(S.GONE,)):
    """Its services are what has come in; who comes as "wait" waits for ever, and an opening may hold it."""

    @postpone(S.SHUT)
    @transition(S.OPEN, to=STAY)
    @transition(S.WIDE, to=STAY)
    async def come(self, event: Come) -> None:
        self.services["came"].append(event.who)
        if event.who == self.services.get("fails"):
            raise ValueError("it fails")
        if event.who == self.services.get("waits"):
            await asyncio.sleep(20)

    @postpone(S.SHUT)
    @postpone(S.OPEN)
    @transition(S.WIDE, to=STAY)
    async def visit(self, event: Visit) -> None:
        self.services["came"].append(event.who)

    @transition(S.SHUT, to=S.OPEN)
    async def open(self, event: Open) -> None: ...

    @transition(S.OPEN, to=S.WIDE)
    async def widen(self, event: Widen) -> None: ...

    @transition(S.SHUT, to=STAY)
    @transition(S.OPEN, to=STAY)
    async def leave(self, event: Leave) -> None:
        self.stop()

    @transition(S.SHUT, to=S.GONE)
    @transition(S.OPEN, to=S.GONE)
    @transition(S.WIDE, to=S.GONE)
    async def finish(self, event: Finish) -> None: ...

    @after_transition(S.OPEN)
    async def hold(self, old: S, new: S) -> None:
        if self.services.get("holds"):
            await asyncio.sleep(20)


async def _end(system: Any) -> None:
    """End a life in the middle of whatever it does."""
    await system.clock.advance(1)
    await system.shutdown(queues="abandon")


async def _postponed(system: Any, *events: Event[Any, Any]) -> Any:
    door = await system.spawn(Door, "d")
    for event in events:
        await door.tell(event).accepted()
    await system.clock.advance(1)
    return door


async def _next_life(lives: Lives, seconds: float = 1, **services: Any) -> list[str]:
    """Let a system live in which nobody sends anything; return what has come in."""
    services["came"] = came = []
    async with lives.begin(Door, services=services) as system:
        await system.clock.advance(seconds)
        await system.shutdown(queues="abandon")
    return came


async def _pending(lives: Lives) -> list[str]:
    """Return what is pending, by kind, and look at the whole journal."""
    async with lives.begin(Door, services={"came": []}) as system:
        await system.clock.advance(1)
        assert (await verify_journal(system._parts.journal)).holds
        return [placed.pending.kind for placed in await system._parts.journal.pending()]


@pytest.mark.rule("C6", "C23")
def test_what_a_commit_has_released_is_tried_in_the_next_life_of_itself(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        services: dict[str, Any] = {"came": [], "holds": True}
        async with lives.begin(Door, services=services) as system:
            door = await _postponed(system, Come(who="a"), Visit(who="v"), Come(who="b"))
            await door.ask(Open())
            await _end(system)
        assert services["came"] == []
        assert await _next_life(lives) == ["a", "b"]
        assert await _next_life(lives) == []
        assert await _pending(lives) == []

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C6", "C23")
def test_what_is_still_to_be_tried_when_the_first_of_it_is_handled_is_tried_in_the_next_life(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        services: dict[str, Any] = {"came": [], "waits": "b"}
        async with lives.begin(Door, services=services) as system:
            door = await _postponed(system, Come(who="a"), Come(who="b"), Come(who="c"))
            await door.ask(Open())
            await _end(system)
        assert services["came"] == ["a", "b"]
        assert await _next_life(lives, waits="b") == ["b"]
        assert await _next_life(lives) == ["b", "c"]
        assert await _pending(lives) == []

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C6", "C29")
@pytest.mark.parametrize("ends_by", ["visit", "finish", "leave", "fail"])
def test_a_machine_that_has_nothing_to_try_again_is_not_taken_up(
    sim: Callable[..., None], lives_of: LivesOf, ends_by: str
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        services: dict[str, Any] = {"came": [], "fails": "a"}
        async with lives.begin(Door, services=services) as system:
            door = await _postponed(
                system, Come(who="a"), *([] if ends_by == "fail" else [Come(who="b"), Visit(who="v")])
            )
            if ends_by == "finish":
                await door.ask(Finish())
            elif ends_by == "leave":
                await door.ask(Leave())
            else:
                await door.ask(Open())
            await system.clock.advance(1)
            assert await system._parts.journal.pending() == []
            await _end(system)
        async with lives.begin(Door, services={"came": []}) as system:
            await system.clock.advance(1)
            assert "d" not in system._parts.registry.actors
        assert await _pending(lives) == []

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C6", "C8")
def test_an_ask_that_expires_while_another_released_event_is_handled_leaves_that_one_promised(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        services: dict[str, Any] = {"came": [], "waits": "a"}
        async with lives.begin(Door, services=services) as system:
            door = await _postponed(system, Come(who="a"))
            asked = asyncio.ensure_future(door.ask(Come(who="b"), timeout=5))
            await system.clock.advance(1)
            await door.ask(Open())
            with pytest.raises(Expired):
                await asked
            await _end(system)
        assert await _next_life(lives) == ["a"]
        assert await _pending(lives) == []

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C6", "C25")
@pytest.mark.parametrize("fate", ["full", "unknown, not stored"])
def test_a_commit_that_is_not_stored_releases_and_promises_nothing(
    sim: Callable[..., None], fate: Any
) -> None:
    async def scenario() -> None:
        lives = in_memory()
        assert lives.store is not None
        async with lives.begin(Door, services={"came": []}) as system:
            door = await _postponed(system, Come(who="a"))
            fates = iter([fate])
            lives.store.fate = lambda: next(fates, "stored")
            assert not (await door.tell(Open())).success
            assert not lives.store.pending
            assert system._parts.registry.actors["d"].track.wake == ""
            await door.ask(Open())
            await _end(system)
        assert not lives.store.pending

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C6", "C8")
def test_what_expires_while_the_commit_that_releases_it_is_stored_is_not_promised_any_more(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        lives = in_memory()
        assert lives.store is not None
        journal = _Late(lives.store)
        async with lives._replace(journal=lambda: journal).begin(Door, services={"came": []}) as system:
            door = await _postponed(system)
            asked = asyncio.ensure_future(door.ask(Come(who="a"), timeout=5))
            await system.clock.advance(1)
            journal.takes_s = 10
            opening = asyncio.ensure_future(door.ask(Open(), timeout=100))
            with pytest.raises(AskTimeout):  # nobody waits for so slow a journal
                await asked
            await opening
            await system.clock.advance(30)
            assert not journal.store.pending
            await _end(system)

    sim(scenario, seeds=SEEDS)


class _Late(MemoryJournal):
    """Stores at once, and says so late."""

    takes_s = 0.0

    def append(self, batch: Any) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[None] = loop.create_future()
        super().append(batch).add_done_callback(
            lambda _: loop.call_later(self.takes_s, answer.set_result, None)
        )
        return answer


class T(Enum):
    ON = auto()


class Last(Machine[T, Any], initial=T.ON, final=(T.ON,)):
    """Raises two events in the turn that is its last."""

    @transition(T.ON, to=STAY)
    async def leave(self, event: Leave) -> None:
        self.next_event(Come(who="1"))
        self.next_event(Come(who="2"))
        self.stop()

    @transition(T.ON, to=STAY)
    async def come(self, event: Come) -> None: ...


@pytest.mark.rule("C5", "C7")
def test_own_events_that_a_machine_did_not_come_to_before_it_stopped_are_dead_letters_in_the_next_life(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin(Last) as system:
            await system.spawn(Last, "o")
            # As a kill leaves it: the commit is stored, and what follows from it is not.
            system._parts.recording.writer.hand_in = lambda *_: None
            await system.ask("o", Leave())
            journal = system._parts.journal
            assert [placed.pending.kind for placed in await journal.pending()] == ["own", "own"]
        async with lives.begin(Last) as system:
            await system.clock.advance(1)
            assert [letter.reason for letter in system.dead_letters] == [
                "o stopped before it came to Come"
            ] * 2
            journal = system._parts.journal
            assert await journal.pending() == []
            letters = await journal.dead_letters()
            assert [(letter.machine_id, letter.message.event.json) for letter in letters] == [
                ("o", '{"who":"1"}'),
                ("o", '{"who":"2"}'),
            ]
            assert (await verify_journal(journal)).holds
            assert system.stats().balance == 0

    sim(scenario, seeds=SEEDS)
