"""C14: a failed event is answered and rolled back; then the directive for its error applies, or it is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actorfsm import (
    Directive,
    HookFailed,
    Limits,
    Machine,
    MachineStopped,
    NoSuchMachine,
    Redelivery,
    Veto,
    Vetoed,
)
from tests.contract.lamp import (
    PLACES,
    Birth,
    Count,
    Later,
    Reset,
    State,
    Stubborn,
    Switch,
    Trace,
    lamp_of,
    raising,
    times,
)
from tests.contract.paths import Path, Script, on_every_async_path, on_every_path

pytestmark = pytest.mark.rule("C14")

DIRECTIVES = {
    Exception: Directive.RESTART,
    LookupError: Directive.RESUME,
    KeyError: Directive.STOP,
    asyncio.CancelledError: Directive.STOP,
    TimeoutError: Directive.RESTART,
}


@on_every_path
@pytest.mark.parametrize("place", PLACES[:-1])
@pytest.mark.parametrize(
    ("error", "directive"),
    [
        (ValueError, Directive.RESTART),
        (IndexError, Directive.RESUME),
        (KeyError, Directive.STOP),
        (asyncio.CancelledError, Directive.STOP),
        (SystemExit, Directive.RESUME),
    ],
)
def test_the_most_specific_class_of_the_error_decides_what_becomes_of_the_machine(
    path: Path, place: str, error: type[BaseException], directive: Directive, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script, trace = Script(**{place: times(1, raising(error))}), Trace()
        lamp_class = lamp_of(path.style, on_failure=DIRECTIVES)
        async with path.system(lamp_class, services=script, trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            with pytest.raises(HookFailed):
                await lamp.ask(Switch())
            if directive is Directive.STOP:
                await asyncio.sleep(0)
                with pytest.raises(NoSuchMachine):
                    await lamp.ask(Switch())
                assert (
                    trace.names() == ["committed", "failed", "stopped", "dead_lettered"][: len(trace.names())]
                )
                assert trace[2].reason == f"stopped after {error.__name__}"
                return
            assert lamp.snapshot().incarnation == (directive is Directive.RESTART)
            assert lamp.snapshot().state is State.OFF
            assert await lamp.ask(Switch()) == "on"
            restarted = ["restarted"] if directive is Directive.RESTART else []
            assert trace.names() == ["committed", "failed", *restarted, "committed"]

    sim(scenario, seeds=range(2))


@on_every_path
def test_a_stop_after_a_failure_answers_what_waits(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script(body=raising(ValueError))
        lamp_class = lamp_of(path.style, on_failure={ValueError: Directive.STOP})
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            postponed = lamp.tell(Later())
            failed, queued = lamp.tell(Switch()), lamp.tell(Count())
            with pytest.raises(MachineStopped, match="lamp stopped after ValueError before it came to Count"):
                await lamp.ask(Count())
            outcomes = [await receipt.outcome() for receipt in (postponed, failed, queued)]
            assert [outcome.kind for outcome in outcomes] == ["dead_lettered", "failed", "dead_lettered"]
            assert [letter.event for letter in system.dead_letters] == [Later(), Count()]

    sim(scenario)


@on_every_path
def test_without_a_directive_the_machine_goes_on(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script(body=times(100, raising(ValueError)))
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            receipts = [lamp.tell(Switch()) for _ in range(101)]
            kinds = [(await receipt.outcome()).kind for receipt in receipts]
            assert kinds == ["failed"] * 100 + ["committed"]
            assert (lamp.snapshot().incarnation, system.stats().restarts) == (0, 0)

    sim(scenario, seeds=range(2))


@on_every_path
@pytest.mark.parametrize("place", PLACES[1:-1])
def test_a_veto_is_never_a_failure(path: Path, place: str, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script(**{place: raising(lambda: Veto("no"))})
        lamp_class = lamp_of(
            path.style,
            on_failure={BaseException: Directive.STOP, Veto: Directive.STOP, Vetoed: Directive.STOP},
            redelivery=Redelivery(attempts=3),
        )
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            with pytest.raises(Vetoed) as caught:
                await lamp.ask(Switch())
            assert (caught.value.by, caught.value.reason) == (place, "no")
            assert lamp.snapshot().incarnation == 0
            assert await lamp.ask(Count()) == 1
            assert asyncio.get_running_loop().time() == 0

    sim(scenario)


@on_every_async_path
def test_a_hook_that_hung_past_its_grace_forces_a_restart_whatever_the_directive_says(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        stubborn = Stubborn()
        script = Script(body=stubborn)
        lamp_class = lamp_of(path.style, on_failure={BaseException: Directive.RESUME})
        async with path.system(lamp_class, services=script, limits=Limits(grace_s=0.5)) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            with pytest.raises(HookFailed):
                await lamp.ask(Switch())
            assert lamp.snapshot().incarnation == 1
            assert await lamp.ask(Count()) == 1
            await stubborn.let_go()

    sim(scenario)


# -- redelivery ----------------------------------------------------------------------------------------------------


@on_every_path
def test_a_failed_event_is_tried_again_before_all_others_and_order_is_kept(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script, trace = Script(count=times(2, raising(ValueError))), Trace()
        lamp_class = lamp_of(path.style, redelivery=Redelivery(attempts=3, first_delay_s=1))
        async with path.system(lamp_class, services=script, trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            other = await system.spawn(lamp_class, "other")
            receipts = [lamp.tell(Count(n=n)) for n in range(3)]
            await asyncio.sleep(0.5)
            assert system.stats().in_flight == 0
            assert system.stats().balance == 0
            assert lamp.snapshot().data["seen"] == ()
            assert await other.ask(Reset()) is None  # nobody else waits
            for receipt in receipts:
                assert (await receipt.outcome()).success
            assert asyncio.get_running_loop().time() == 3  # 1 s, then 2
            assert lamp.snapshot().data == {"count": 3, "seen": (0, 1, 2)}
            assert lamp.snapshot().incarnation == 0
            assert trace.names() == ["committed"] * 4

    sim(scenario)


@on_every_path
def test_an_event_that_keeps_failing_is_poison_and_becomes_a_dead_letter_with_its_history(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script, trace, told = Script(count=times(4, raising(ValueError))), Trace(), []
        lamp_class = lamp_of(path.style, redelivery=Redelivery(attempts=3, first_delay_s=1, max_delay_s=2))
        async with path.system(lamp_class, services=script, trace=trace) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            poison = lamp.tell(Count(n=7), callback=told.append)
            following = lamp.tell(Count(n=8))
            outcome = await poison.outcome()
            assert (outcome.kind, outcome.error.type, outcome.error.hook) == (
                "dead_lettered",
                "ValueError",
                "counted",
            )
            assert asyncio.get_running_loop().time() == 5  # 1 + 2 + 2 s
            assert (await following.outcome()).reply == 1
            [letter] = system.dead_letters
            assert (letter.event, letter.attempts, letter.machine_id) == (Count(n=7), 3, "lamp")
            assert letter.event_id == poison.event_id
            assert letter.reason.startswith(
                "poison: failed 4 times, last with lamp: Count failed in counted: ValueError"
            )
            assert trace.names() == ["committed", "dead_lettered", "committed"]
            assert system.stats().balance == 0
        assert [outcome.kind for outcome in told] == ["dead_lettered"]

    sim(scenario)


@on_every_path
def test_an_ask_for_poison_gets_the_failure(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script(body=raising(ValueError))
        lamp_class = lamp_of(path.style, redelivery=Redelivery(attempts=2, first_delay_s=1))
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            with pytest.raises(HookFailed):
                await lamp.ask(Switch())
            assert script.calls.count("body") == 3

    sim(scenario)


@on_every_path
def test_the_directive_applies_once_the_event_is_given_up(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script(body=times(2, raising(ValueError)))
        lamp_class = lamp_of(
            path.style, redelivery=Redelivery(attempts=1), on_failure={ValueError: Directive.RESTART}
        )
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await lamp.tell(Switch()).outcome()
            assert system.stats().restarts == 1
            assert await lamp.ask(Switch()) == "on"

    sim(scenario)


@on_every_path
def test_an_idempotency_key_is_the_same_when_the_event_is_delivered_again(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        keys: list[str] = []

        def use_key(machine: Machine[Any, Any]) -> None:
            keys.append(machine.idempotency_key)
            if len(keys) < 3:
                raise ValueError

        lamp_class = lamp_of(path.style, redelivery=Redelivery(attempts=5))
        async with path.system(lamp_class, services=Script(enter=use_key)) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await lamp.ask(Switch())
            await lamp.ask(Reset())
            await lamp.ask(Switch())
        assert len(set(keys[:3])) == 1
        assert keys[3] != keys[0]

    sim(scenario)


@on_every_path
def test_a_birth_is_tried_again_and_given_up_like_any_event(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script(birth=times(2, raising(ValueError)))
        lamp_class = lamp_of(path.style, redelivery=Redelivery(attempts=1, first_delay_s=1))
        async with path.system(lamp_class, services=script) as system:
            birth, following = system.tell("lamp", Birth()), system.tell("lamp", Count())
            assert (await birth.outcome()).kind == "dead_lettered"
            assert (await following.outcome()).kind == "dead_lettered"
            assert system.ids() == []
            script.does = {"birth": times(1, raising(ValueError))}
            birth, following = system.tell("lamp", Birth()), system.tell("lamp", Count())
            assert (await birth.outcome()).kind == "committed"
            assert (await following.outcome()).reply == 1

    sim(scenario)


@on_every_path
def test_a_machine_that_waits_to_try_again_can_be_stopped(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script(count=raising(ValueError))
        lamp_class = lamp_of(path.style, redelivery=Redelivery(attempts=5, first_delay_s=5))
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            receipts = [lamp.tell(Count()), lamp.tell(Count())]
            await asyncio.sleep(1)
            await system.stop("lamp")
            kinds = [(await receipt.outcome()).kind for receipt in receipts]
            assert kinds == ["dead_lettered"] * 2
            assert asyncio.get_running_loop().time() == 1

    sim(scenario)
