"""C16, C17: restarts are counted and spaced out; too many put a machine into quarantine, and its siblings go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from actorfsm import Directive, Event, HookFailed, Limits, NoSuchMachine, Quarantined, RestartPolicy
from actorfsm.testing.faults import EVIL
from tests.contract.lamp import Birth, Count, Later, Stubborn, Switch, Trace, lamp_of, raising, times
from tests.contract.paths import Path, Script, Style, on_every_async_path, on_every_path

pytestmark = [pytest.mark.rule("C16"), pytest.mark.rule("C17")]
RESTART = {Exception: Directive.RESTART}


def fragile(style: Style, **policy: Any) -> Any:
    return lamp_of(
        style, on_failure=RESTART, restart=RestartPolicy(**({"jitter": 0, "first_delay_s": 1} | policy))
    )


async def fail(lamp: Any, event: Event[Any] | None = None) -> None:
    with pytest.raises(HookFailed):
        await lamp.ask(event or Switch(), timeout=1_000)


@on_every_path
def test_more_restarts_than_allowed_within_the_period_end_in_quarantine(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script, trace = Script(body=raising(ValueError)), Trace()
        lamp_class = fragile(path.style, max_restarts=2, within_s=100)
        async with path.system(lamp_class, services=script, trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            other = await system.spawn(lamp_class, "other")
            for _ in range(3):
                await fail(lamp)
            assert system.quarantined() == ["lamp"]
            assert system.stats().quarantined == 1
            assert trace.names()[1:] == ["failed", "restarted"] * 2 + ["failed", "quarantined"]
            assert trace[-1].reason == "more than 2 restarts"
            assert type(trace[-1].error) is ValueError
            assert await other.ask(Count()) == 1

    sim(scenario)


@on_every_path
def test_only_restarts_count(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script(body=raising(ValueError), count=raising(lambda: KeyError("resumed")))
        lamp_class = lamp_of(
            path.style,
            on_failure=RESTART | {KeyError: Directive.RESUME},
            restart=RestartPolicy(max_restarts=0, within_s=100),
        )
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            for _ in range(10):
                await fail(lamp, Count())
            assert system.quarantined() == []
            await fail(lamp)
            assert system.quarantined() == ["lamp"]

    sim(scenario, seeds=range(2))


@on_every_path
def test_restarts_that_lie_further_apart_than_the_period_do_not_add_up(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script(body=raising(ValueError))
        lamp_class = fragile(path.style, max_restarts=1, within_s=10, stable_after_s=1_000)
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            for _ in range(5):
                await fail(lamp)
                await asyncio.sleep(100)
            await fail(lamp)
            assert (system.quarantined(), lamp.snapshot().incarnation) == ([], 6)
            await fail(lamp)  # more than 10 s later, for the pause is that long by now
            assert system.quarantined() == []

    sim(scenario, seeds=range(2))


@on_every_path
def test_a_restart_at_the_end_of_the_period_still_counts(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script(body=raising(ValueError))
        lamp_class = fragile(path.style, max_restarts=1, within_s=10)
        async with path.system(lamp_class, services=script) as system:
            for name, wait_s, is_too_much in (("early", 9.9, True), ("late", 10.1, False)):
                lamp = await system.spawn(lamp_class, name)
                await fail(lamp)
                await asyncio.sleep(wait_s)
                await fail(lamp)
                assert (name in system.quarantined()) is is_too_much

    sim(scenario, seeds=range(2))


@on_every_path
def test_each_pause_doubles_the_last_up_to_the_longest(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        loop, script = asyncio.get_running_loop(), Script(count=times(5, raising(ValueError)))
        lamp_class = fragile(path.style, max_restarts=10, first_delay_s=1, max_delay_s=5)
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            at = []
            for _ in range(5):
                await fail(lamp, Count())
                at.append(loop.time())
            assert await lamp.ask(Count()) == 1
            assert [*at, loop.time()] == [0, 1, 3, 7, 12, 17]

    sim(scenario)


@on_every_path
def test_after_a_stable_time_the_pause_begins_anew(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        loop, script = asyncio.get_running_loop(), Script(count=raising(ValueError))
        lamp_class = fragile(path.style, max_restarts=10, first_delay_s=1, stable_after_s=60)
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            for _ in range(3):
                await fail(lamp, Count())
            await asyncio.sleep(4 + 60)  # the stable time begins when the last pause ends
            at = loop.time()
            await fail(lamp, Count())
            await fail(lamp, Count())
            assert loop.time() == at + 1

    sim(scenario, seeds=range(2))


def test_jitter_comes_from_the_seed_and_stays_within_its_share(sim: Callable[..., None]) -> None:
    async def run(seed: int) -> list[float]:
        loop, script = asyncio.get_running_loop(), Script(count=times(20, raising(ValueError)))
        lamp_class = fragile(Style.ASYNC, max_restarts=100, max_delay_s=1, jitter=0.2)
        async with Path(Style.ASYNC, inline=True).system(
            lamp_class, services=script, random=Random(seed)
        ) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            lengths, last = [], loop.time()
            for _ in range(20):
                await fail(lamp, Count())
                lengths.append(loop.time() - last)
                last = loop.time()
            return lengths[1:]

    async def scenario() -> None:
        first, again, other = await run(1), await run(1), await run(2)
        assert first == pytest.approx(again)
        assert first != pytest.approx(other)
        assert len({round(length, 6) for length in first}) > 10
        assert all(0.8 <= length <= 1.2 + 1e-9 for length in first)

    sim(scenario, seeds=range(1))


@on_every_path
def test_siblings_are_served_while_a_machine_waits_for_its_restart(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        loop, script = asyncio.get_running_loop(), Script(body=times(1, raising(ValueError)))
        lamp_class = fragile(path.style)
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            other = await system.spawn(lamp_class, "other")
            await fail(lamp)
            waiting = lamp.tell(Count())
            for turn in range(1, 50):
                assert await other.ask(Count()) == turn
            assert loop.time() == 0
            assert "accepted" in repr(waiting)
            assert (await waiting.outcome()).success
            assert loop.time() == 1

    sim(scenario)


@on_every_path
def test_in_quarantine_queued_asks_are_answered_tells_are_held_and_new_events_refused(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script(body=times(2, raising(ValueError)))
        lamp_class = fragile(path.style, max_restarts=1)
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            held = [lamp.tell(Later(n=1)), lamp.tell(Later(n=2))]
            postponed = asyncio.ensure_future(lamp.ask(Later(n=3)))
            await asyncio.sleep(0.1)
            await fail(lamp)
            failed = lamp.tell(Switch())
            held += [lamp.tell(Count(n=4)), lamp.tell(Count(n=5))]
            queued = asyncio.ensure_future(lamp.ask(Count(n=6)))
            assert (await failed.outcome()).kind == "failed"
            for asked in (postponed, queued):
                with pytest.raises(Quarantined, match="lamp was quarantined before it came to this event"):
                    await asked
            with pytest.raises(Quarantined, match=r"system\.release"):
                await lamp.ask(Count(n=7))
            refused = lamp.tell(Count(n=8))
            with pytest.raises(Quarantined):
                await refused.accepted()
            assert [letter.event for letter in system.dead_letters] == [Count(n=8)]
            assert system.stats().queued + system.stats().postponed == 4
            assert system.stats().balance == 0
            assert lamp.snapshot().data["seen"] == ()
            system.release("lamp")
            assert system.quarantined() == []
            await lamp.ask(Switch())
            for receipt in held:
                assert (await receipt.outcome()).success
            assert lamp.snapshot().data["seen"] == (4, 5, 1, 2)

    sim(scenario)


@on_every_path
def test_released_with_discard_what_was_held_becomes_dead_letters(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script, trace = Script(body=times(1, raising(ValueError))), Trace()
        lamp_class = fragile(path.style, max_restarts=0)
        async with path.system(lamp_class, services=script, trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            held = [lamp.tell(Later(n=1))]
            await fail(lamp)
            system.release("lamp")
            script.does = {"body": times(1, raising(ValueError))}
            failed = lamp.tell(Switch())
            held += [lamp.tell(Count(n=2)), lamp.tell(Count(n=3))]
            await failed.outcome()
            system.release("lamp", discard=True)
            for receipt in held:
                outcome = await receipt.outcome()
                assert (outcome.kind, outcome.reason) == (
                    "dead_lettered",
                    "lamp was released without the events that were held",
                )
            assert [letter.event for letter in system.dead_letters] == [Later(n=1), Count(n=2), Count(n=3)]
            assert "released" in trace.names()
            assert await lamp.ask(Count(n=4)) == 1
            assert system.stats().balance == 0

    sim(scenario)


@on_every_path
def test_a_release_gives_all_restarts_back_and_is_harmless_elsewhere(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script(body=raising(ValueError))
        lamp_class = fragile(path.style, max_restarts=1, within_s=1_000)
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            system.release("lamp")
            for _ in range(2):
                await fail(lamp)
            assert system.quarantined() == ["lamp"]
            system.release("lamp")
            system.release("lamp", discard=True)
            await fail(lamp)
            assert system.quarantined() == []
            await fail(lamp)
            assert system.quarantined() == ["lamp"]
            assert lamp.snapshot().incarnation == 4
            with pytest.raises(NoSuchMachine):
                system.release("nobody")

    sim(scenario)


@on_every_path
@pytest.mark.parametrize("kind", ["plain", "async", *EVIL])
def test_the_operator_is_told_whatever_his_callback_does(
    path: Path, kind: str, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        told: list[tuple[str, str]] = []

        def tell(machine_id: str, cause: BaseException) -> None:
            told.append((machine_id, type(cause).__name__))
            if kind in EVIL:
                raise EVIL[kind]()  # noqa: RSE102 -- a factory

        async def tell_later(machine_id: str, cause: BaseException) -> None:
            await asyncio.sleep(0)
            tell(machine_id, cause)

        script = Script(body=raising(ValueError))
        lamp_class = fragile(path.style, max_restarts=0)
        callback = tell_later if kind == "async" or path.inline else tell
        async with path.system(lamp_class, services=script, on_quarantine=callback) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await fail(lamp)
        assert told == [("lamp", "ValueError")]
        assert system.stats().callbacks_failed == (kind in EVIL)

    sim(scenario, seeds=range(2))


@on_every_path
def test_a_callback_to_the_operator_that_hangs_is_cancelled_when_the_system_stops(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async def hang(machine_id: str, cause: BaseException) -> None:
            await asyncio.sleep(1e9)

        lamp_class = fragile(path.style, max_restarts=0)
        script = Script(body=raising(ValueError))
        async with path.system(lamp_class, services=script, on_quarantine=hang) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await fail(lamp)
        assert system.report.unstopped == ()
        assert system.stats().callbacks_failed == 1

    sim(scenario, seeds=range(2))


@on_every_path
def test_a_machine_in_quarantine_can_be_stopped_and_does_not_hold_up_the_end(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script(body=raising(ValueError))
        lamp_class = fragile(path.style, max_restarts=0)
        async with path.system(lamp_class, services=script) as system:
            held = []
            for name in ("one", "two"):
                lamp = await system.spawn(lamp_class, name)
                failed, waiting = lamp.tell(Switch()), lamp.tell(Count())
                held.append(waiting)
                await failed.outcome()
            assert sorted(system.quarantined()) == ["one", "two"]
            await system.stop("one")
            assert system.quarantined() == ["two"]
        assert [(await receipt.outcome()).kind for receipt in held] == ["dead_lettered"] * 2
        assert asyncio.get_running_loop().time() == 0

    sim(scenario)


@on_every_async_path
def test_forced_restarts_count_too(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        stubborn = [Stubborn(), Stubborn()]
        todo = iter(stubborn)
        script = Script(body=lambda machine: next(todo)(machine))  # noqa: PLW0108 -- the next one each time
        lamp_class = lamp_of(path.style, restart=RestartPolicy(max_restarts=1, within_s=100))
        async with path.system(lamp_class, services=script, limits=Limits(grace_s=0.5)) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await fail(lamp)
            await fail(lamp)
            assert system.quarantined() == ["lamp"]
            for each in stubborn:
                await each.let_go()

    sim(scenario)


@on_every_path
def test_a_birth_that_fails_is_no_restart(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script(birth=times(5, raising(ValueError)))
        lamp_class = fragile(path.style, max_restarts=0)
        async with path.system(lamp_class, services=script) as system:
            for _ in range(5):
                with pytest.raises(HookFailed):
                    await system.ask("lamp", Birth())
            await system.ask("lamp", Birth())
            assert system.stats().restarts == 0
            assert system.quarantined() == []

    sim(scenario)
