"""C8: every ask has a deadline and ends once: reply, typed error as soon as it is known, `Expired` or `AskTimeout`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from math import inf, nan
from random import Random
from typing import Any

import pytest

from actorfsm import (
    AskTimeout,
    Event,
    Expired,
    HookFailed,
    InvalidEvent,
    Limits,
    Machine,
    MachineStopped,
    MailboxPolicy,
    NoSuchMachine,
    Overflow,
    Redelivery,
    Unhandled,
    Vetoed,
    on_enter,
    transition,
)
from tests.contract.puppet import STYLES, Do, Eager, Hold, LetGo, Never, Plain, S, Suspending, took_path

pytestmark = pytest.mark.rule("C8")
ASYNC = pytest.mark.parametrize("puppet", [Eager, Suspending], ids=["eager", "suspending"])
ALL = pytest.mark.parametrize("puppet", STYLES, ids=["eager", "suspending", "plain"])
TICK_S = 0.05
"""How late a deadline may be noticed."""


@pytest.fixture
def run(inline: bool, system_of: Callable[..., Any], sim: Callable[..., None]) -> Callable[..., None]:
    """Run a scenario `(system, scripts, loop)` with the machines a and b; at its end nobody may wait."""

    def do(puppet: type[Any], scenario: Callable[..., Any], *, path: bool = True, **options: Any) -> None:
        async def main() -> None:
            scripts: dict[Any, Any] = {}
            async with system_of(puppet, services=scripts, **options) as system:
                await system.spawn(puppet, "a")
                await system.spawn(puppet, "b")
                await scenario(system, scripts, asyncio.get_running_loop())
            stats = system.stats()
            assert (stats.balance, stats.pending_asks, stats.queued, stats.postponed) == (0, 0, 0, 0)
            assert not path or took_path(stats, puppet, inline=inline)

        sim(main)

    return do


async def slow(machine: Any) -> str:
    await asyncio.sleep(5)
    return "slow"


async def ended_at(loop: Any, coroutine: Any, error: type[BaseException]) -> float:
    with pytest.raises(error):
        await coroutine
    return loop.time()


# -- reply ------------------------------------------------------------------------------------------------------------


@ALL
def test_an_ask_ends_with_the_reply_of_the_body(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        scripts["reply"] = lambda machine: f"from {machine.id}"
        assert await system.ask("a", Do(script="reply")) == "from a"
        assert await asyncio.gather(*(system.ask("a", Do(n=n)) for n in (1, 2))) == [None, None]

    run(puppet, scenario)


@ASYNC
def test_once_committed_an_ask_is_answered_even_while_after_hooks_run(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        scripts["go"], scripts["go", "after"] = lambda machine: 42, slow
        assert await system.ask("a", Do(script="go")) == 42
        assert loop.time() == 0
        assert await system.ask("a", Do()) is None
        assert loop.time() == 5  # the turn lasted until its after-hook was done

    run(puppet, scenario)


@ASYNC
def test_a_deadline_that_passes_during_the_after_hooks_takes_nothing_back(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        scripts["go"], scripts["go", "after"] = lambda machine: 42, slow
        assert await system.ask("a", Do(script="go"), timeout=1) == 42
        await asyncio.sleep(10)
        assert system.stats().late_replies == 0
        assert system.stats().outcomes["committed"] == 3

    run(puppet, scenario)


# -- typed error as soon as it is known -------------------------------------------------------------------------------


@ALL
def test_an_error_reaches_the_asker_at_once(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        def fail(machine: Any) -> None:
            raise ValueError("broken")

        scripts["fail"], scripts["no", "enter"] = fail, lambda machine: False
        for event, error in (
            (Do(script="fail"), HookFailed),
            (Do(script="no"), Vetoed),
            (Never(), Unhandled),
        ):
            with pytest.raises(error) as caught:
                await system.ask("a", event)
            assert (caught.value.machine_id, caught.value.event) == ("a", event)
        with pytest.raises(NoSuchMachine):
            await system.ask("z", Do())
        assert loop.time() == 0

    run(puppet, scenario)


@ASYNC
def test_asks_that_wait_learn_at_once_that_the_machine_was_stopped(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        scripts["slow"] = slow
        first = asyncio.create_task(system.ask("a", Do(script="slow")))
        await asyncio.sleep(0.1)
        second = asyncio.create_task(system.ask("a", Do()))
        await asyncio.sleep(0.1)
        await system.stop("a")
        assert loop.time() == 5
        assert await first == "slow"
        assert await ended_at(loop, second, MachineStopped) == 5

    run(puppet, scenario)


# -- Expired: not begun -----------------------------------------------------------------------------------------------


@ASYNC
@pytest.mark.parametrize("timeout", [1, 1.0, timedelta(seconds=1)], ids=["int", "float", "timedelta"])
def test_an_ask_that_is_still_queued_at_its_deadline_expires_and_is_surely_not_done(
    puppet: Any, timeout: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        scripts["slow"] = slow
        busy = asyncio.create_task(system.ask("a", Do(script="slow", n=1)))
        await asyncio.sleep(0.1)
        with pytest.raises(Expired) as caught:
            await system.ask("a", Do(n=2), timeout=timeout)
        assert 1.1 <= loop.time() <= 1.1 + TICK_S
        assert (caught.value.machine_id, caught.value.event) == ("a", Do(n=2))
        assert "surely not done" in str(caught.value)
        assert system.stats().queued == 0
        assert system.stats().outcomes["expired"] == 1
        await busy
        await system.ask("a", Do(n=3))
        assert system.snapshot("a").data["done"] == (1, 3)

    run(puppet, scenario)


@ALL
def test_a_postponed_ask_expires_and_is_surely_not_done(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        await system.ask("a", Hold())
        end = await ended_at(loop, system.ask("a", Do(n=1), timeout=2), Expired)
        assert 2 <= end <= 2 + TICK_S
        assert system.stats().postponed == 0
        await system.ask("a", LetGo())
        assert system.snapshot("a").data["done"] == ()

    run(puppet, scenario)


@ASYNC
def test_the_deadline_of_a_postponed_ask_keeps_running(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        scripts["slow"] = slow
        await system.ask("a", Hold())
        asker = asyncio.create_task(system.ask("a", Do(script="slow"), timeout=3))
        await asyncio.sleep(2)
        await system.ask("a", LetGo())  # tried again, and begun, at 2 s
        assert 3 <= await ended_at(loop, asker, AskTimeout) <= 3 + TICK_S

    run(puppet, scenario)


def waiting_room(base: type[Any], **policy: Any) -> type[Any]:
    """Return the puppet with a mailbox of one event, outside of which others wait."""

    class Narrow(base, mailbox=MailboxPolicy(capacity=1, overflow=Overflow.WAIT, **policy)): ...

    return Narrow


@ASYNC
def test_an_ask_that_waits_outside_a_full_mailbox_expires_and_is_surely_not_done(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        scripts["slow"] = slow
        system.tell("a", Do(script="slow", n=1))
        await asyncio.sleep(0.1)
        system.tell("a", Do(n=2))
        end = await ended_at(loop, system.ask("a", Do(n=3), timeout=1), Expired)
        assert 1.1 <= end <= 1.1 + TICK_S
        await asyncio.sleep(10)
        assert system.snapshot("a").data["done"] == (1, 2)
        assert system.stats().refused == 1  # it had never been accepted

    run(waiting_room(puppet), scenario, path=False)


@ASYNC
def test_an_ask_that_joined_one_in_flight_and_gives_up_does_not_call_that_one_undone(
    puppet: Any, run: Callable[..., None]
) -> None:
    """Its id is being handled for somebody else: whether that will be done is unknown, so it must not say `Expired`."""

    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        scripts["slow"] = slow
        first = asyncio.create_task(system.ask("a", Do(script="slow", n=1), event_id="x"))
        await asyncio.sleep(0.5)
        end = await ended_at(
            loop, system.ask("a", Do(script="slow", n=1), event_id="x", timeout=1), AskTimeout
        )
        assert 1.5 <= end <= 1.5 + TICK_S
        assert await first == "slow"
        assert system.snapshot("a").data["done"] == (1,)

    run(puppet, scenario)


@ASYNC
def test_an_ask_that_joined_a_queued_one_and_gives_up_leaves_that_one_its_own_deadline(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        scripts["slow"] = slow
        busy = asyncio.create_task(system.ask("a", Do(script="slow", n=1)))
        await asyncio.sleep(0.1)
        first = asyncio.create_task(system.ask("a", Do(n=2), event_id="x"))
        await asyncio.sleep(0.1)
        assert await ended_at(loop, system.ask("a", Do(n=2), event_id="x", timeout=1), AskTimeout) < 1.5
        assert system.stats().queued == 1
        await asyncio.gather(busy, first)
        assert system.snapshot("a").data["done"] == (1, 2)

    run(puppet, scenario)


@ASYNC
def test_an_ask_that_joined_one_that_expires_is_told_the_same(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        scripts["slow"] = slow
        busy = asyncio.create_task(system.ask("a", Do(script="slow", n=1)))
        await asyncio.sleep(0.1)
        first = asyncio.create_task(system.ask("a", Do(n=2), event_id="x", timeout=1))
        await asyncio.sleep(0.1)
        assert await ended_at(loop, system.ask("a", Do(n=2), event_id="x"), Expired) < 1.5
        assert await ended_at(loop, first, Expired) < 1.5
        await busy
        assert system.snapshot("a").data["done"] == (1,)

    run(puppet, scenario)


@ASYNC
def test_a_tell_may_have_a_deadline_too(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        scripts["slow"] = slow
        system.tell("a", Do(script="slow", n=1))
        outcome = await system.tell("a", Do(n=2), timeout=timedelta(seconds=1)).outcome()
        assert (outcome.kind, outcome.success, outcome.error.type) == ("expired", False, "Expired")
        assert 1 <= loop.time() <= 1 + TICK_S
        begun = system.tell("a", Do(script="slow", n=3), timeout=5)
        assert (await begun).kind == "committed"  # begun at 5 s, before its deadline, and not disturbed by it

    run(puppet, scenario, path=False)


# -- AskTimeout: begun ------------------------------------------------------------------------------------------------


@ASYNC
def test_an_ask_that_is_being_handled_at_its_deadline_says_that_the_outcome_is_unknown(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        scripts["slow"] = slow
        with pytest.raises(AskTimeout) as caught:
            await system.ask("a", Do(script="slow", n=1), timeout=1)
        assert 1 <= loop.time() <= 1 + TICK_S
        assert (caught.value.machine_id, caught.value.event) == ("a", Do(script="slow", n=1))
        assert "event_id" in str(caught.value)
        assert system.stats().in_flight == 1
        await asyncio.sleep(10)
        assert system.snapshot("a").data["done"] == (1,)  # it was done after all
        assert system.stats().late_replies == 1

    run(puppet, scenario)


@ASYNC
def test_the_default_deadline_is_ten_seconds(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        async def very_slow(machine: Any) -> None:
            await asyncio.sleep(20)

        scripts["very slow"] = very_slow
        first = asyncio.create_task(system.ask("a", Do(script="very slow")))
        second = asyncio.create_task(system.ask("b", Do(script="very slow")))
        third = asyncio.create_task(system.ask("a", Never()))
        assert 10 <= await ended_at(loop, first, AskTimeout) <= 10 + TICK_S
        assert 10 <= await ended_at(loop, second, AskTimeout) <= 10 + TICK_S
        with pytest.raises((Expired, Unhandled)):  # it may have come first
            await third

    run(puppet, scenario)


@ASYNC
def test_the_default_deadline_is_a_choice_of_the_system(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        scripts["slow"] = slow
        assert 2 <= await ended_at(loop, system.ask("a", Do(script="slow")), AskTimeout) <= 2 + TICK_S

    run(puppet, scenario, limits=Limits(ask_timeout_s=2))


@ASYNC
def test_a_deadline_is_never_early_and_at_most_a_tick_late(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        random = Random(3)
        await system.ask("a", Hold())

        async def one() -> None:
            await asyncio.sleep(random.random())
            timeout = random.choice([0, 0.05, 0.1, 0.35, 0.7, random.random(), 3 * random.random()])
            start = loop.time()
            end = await ended_at(loop, system.ask("a", Do(), timeout=timeout), Expired)
            assert timeout <= end - start <= timeout + TICK_S + 1e-9

        await asyncio.gather(*(one() for _ in range(50)))
        await system.stop("a")

    run(puppet, scenario)


@ALL
def test_a_reply_that_is_there_at_once_needs_no_time(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        await system.ask("a", Do(n=1), timeout=0)
        assert system.snapshot("a").data["done"] == (1,)

    run(puppet, scenario)


@pytest.mark.parametrize(
    "timeout", [-1, -0.001, nan, inf, -inf, 1e300, "soon", timedelta(seconds=-1), object()]
)
@pytest.mark.rule("C10")
def test_a_deadline_that_is_none_is_refused_before_anything_is_sent(
    timeout: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        async def in_a_hook(machine: Any) -> None:
            with pytest.raises(InvalidEvent):
                await machine.ask("b", Do(n=1), timeout=timeout)
            with pytest.raises(InvalidEvent):
                system.tell("b", Do(n=1), timeout=timeout)

        scripts["in a hook"] = in_a_hook
        with pytest.raises(InvalidEvent, match="timeout"):
            await system.ask("b", Do(n=1), timeout=timeout)
        with pytest.raises(InvalidEvent, match="timeout"):
            system.tell("b", Do(n=1), timeout=timeout)
        await system.ask("a", Do(script="in a hook"))
        await asyncio.sleep(1)
        assert system.snapshot("b").data["done"] == ()
        assert system.stats().accepted == 3  # two births and the ask

    run(Eager, scenario)


# -- nested -----------------------------------------------------------------------------------------------------------


@ASYNC
def test_a_nested_ask_gets_what_remains_of_the_deadline(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        ends: list[float] = []

        async def outer(machine: Any) -> str:
            await asyncio.sleep(2)
            with pytest.raises(AskTimeout):
                await machine.ask("b", Do(script="slow"), timeout=60)
            ends.append(loop.time())
            return "late"

        scripts["slow"], scripts["outer"] = slow, outer
        end = await ended_at(loop, system.ask("a", Do(script="outer"), timeout=3), AskTimeout)
        assert 3 <= end <= 3 + TICK_S
        await asyncio.sleep(10)
        assert len(ends) == 1
        assert 3 <= ends[0] <= 3 + TICK_S

    run(puppet, scenario)


@ASYNC
def test_a_nested_ask_may_give_up_earlier(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        async def outer(machine: Any) -> float:
            with pytest.raises(AskTimeout):
                await machine.ask("b", Do(script="slow"), timeout=timedelta(seconds=1))
            return loop.time()

        scripts["slow"], scripts["outer"] = slow, outer
        assert 1 <= await system.ask("a", Do(script="outer")) <= 1 + TICK_S

    run(puppet, scenario)


@ASYNC
def test_a_nested_ask_of_a_tell_has_the_default_deadline(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        async def very_slow(machine: Any) -> None:
            await asyncio.sleep(20)

        async def outer(machine: Any) -> float:
            with pytest.raises(AskTimeout):
                await machine.ask("b", Do(script="very slow"))
            return loop.time()

        scripts["very slow"], scripts["outer"] = very_slow, outer
        assert 10 <= (await system.tell("a", Do(script="outer"))).reply <= 10 + TICK_S

    run(puppet, scenario, path=False)


@ASYNC
def test_an_after_hook_that_asks_owes_nothing_to_the_answered_askers_deadline(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        async def after(machine: Any) -> None:
            await asyncio.sleep(2)
            seen.append(await machine.ask("b", Do(script="slow")))

        seen: list[Any] = []
        scripts["slow"], scripts["go", "after"] = slow, after
        await system.ask("a", Do(script="go"), timeout=1)
        await asyncio.sleep(10)
        assert seen == ["slow"]

    run(puppet, scenario)


# -- given up ---------------------------------------------------------------------------------------------------------


@ASYNC
def test_cancelling_the_asker_gives_up_the_reply_and_not_the_event(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        scripts["slow"] = slow
        handled = asyncio.create_task(system.ask("a", Do(script="slow", n=1)))
        await asyncio.sleep(0.1)
        queued = asyncio.create_task(system.ask("a", Do(n=2)))
        await asyncio.sleep(1)
        handled.cancel()
        queued.cancel()
        await asyncio.wait([handled, queued])
        assert (handled.cancelled(), queued.cancelled()) == (True, True)
        assert system.stats().pending_asks == 0
        await asyncio.sleep(5)
        assert system.snapshot("a").data["done"] == (1, 2)
        assert system.stats().late_replies == 2
        assert system.stats().outcomes["committed"] == 4

    run(puppet, scenario)


@ASYNC
def test_the_event_of_a_cancelled_asker_keeps_its_deadline(puppet: Any, run: Callable[..., None]) -> None:
    """Otherwise a postponed event, whose asker has gone, would wait for ever."""

    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        await system.ask("a", Hold())
        asker = asyncio.create_task(system.ask("a", Do(n=1), timeout=3))
        await asyncio.sleep(1)
        asker.cancel()
        await asyncio.wait([asker])
        assert system.stats().postponed == 1
        await asyncio.sleep(3)
        assert system.stats().postponed == 0
        assert system.stats().outcomes["expired"] == 1

    run(puppet, scenario)


@ALL
def test_a_timeout_around_an_ask_is_the_callers_own_business(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        await system.ask("a", Hold())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await system.ask("a", Do(n=1))
        assert loop.time() == 1
        await system.ask("a", LetGo())
        await asyncio.sleep(1)
        assert system.snapshot("a").data["done"] == (1,)

    run(puppet, scenario)


@ASYNC
def test_a_late_reply_is_dropped_and_counted_once(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        scripts["slow"] = slow
        for machine_id in "ab":
            with pytest.raises(AskTimeout):
                await system.ask(machine_id, Do(script="slow"), timeout=1)
        await asyncio.sleep(10)
        assert system.stats().late_replies == 2
        assert await system.ask("a", Do(n=2)) is None  # the next ask gets its own reply

    run(puppet, scenario)


@ASYNC
def test_a_reply_in_the_very_step_of_the_deadline_is_either_given_or_counted_as_late(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        async def just_in_time(machine: Any) -> str:
            await asyncio.sleep(1.05 - loop.time())
            return "just in time"

        scripts["jit"] = just_in_time
        try:
            reply = await system.ask("a", Do(script="jit"), timeout=1)
        except AskTimeout:
            await asyncio.sleep(1)
            assert system.stats().late_replies == 1
        else:
            assert (reply, system.stats().late_replies) == ("just in time", 0)

    run(puppet, scenario)


# -- births -----------------------------------------------------------------------------------------------------------


class Open(Event[str]):
    fails: int = 0


class Account(Machine[S], initial=S.RED, redelivery=Redelivery(attempts=3, first_delay_s=1)):
    """Born slowly, or after failures."""

    @transition(to=S.BLUE)
    async def open(self, event: Open) -> str:
        self.services["births"] += 1
        await asyncio.sleep(self.services["takes"])
        if self.services["births"] <= event.fails:
            raise ValueError("not yet")
        return "open"

    @on_enter(S.RED)
    async def enter(self, old: S, new: S) -> None:
        await asyncio.sleep(self.services["takes"])

    @transition(S.RED, S.BLUE, to=S.BLUE)
    async def do(self, event: Do) -> Any:
        return "done"

    @transition(S.BLUE, to=S.HELD)
    async def hold(self, event: Hold) -> None: ...

    @transition(S.HELD, to=S.END)
    async def end(self, event: LetGo) -> None: ...

    @transition(S.END, to=S.RED)
    async def again(self, event: Never) -> None: ...


@pytest.fixture
def nursery(system_of: Callable[..., Any], sim: Callable[..., None]) -> Callable[..., None]:
    def do(scenario: Callable[..., Any], takes: float) -> None:
        async def main() -> None:
            async with system_of(Account, services={"births": 0, "takes": takes}) as system:
                await scenario(system, asyncio.get_running_loop())
            assert system.stats().balance == 0

        sim(main)

    return do


def test_an_event_that_expires_behind_a_birth_does_not_disturb_the_birth(
    nursery: Callable[..., None],
) -> None:
    async def scenario(system: Any, loop: Any) -> None:
        birth = asyncio.create_task(system.spawn(Account, "new"))
        await asyncio.sleep(0.5)
        assert await ended_at(loop, system.ask("new", Do(), timeout=1), Expired) <= 1.5 + TICK_S
        ref = await birth
        assert loop.time() == 3
        assert system.ids() == ["new"]
        assert await ref.ask(Do()) == "done"

    nursery(scenario, 3)


def test_a_birth_that_expires_between_two_attempts_leaves_the_id_unknown(
    nursery: Callable[..., None],
) -> None:
    async def scenario(system: Any, loop: Any) -> None:
        await ended_at(loop, system.ask("new", Open(fails=9), timeout=0.5), Expired)
        await asyncio.sleep(5)
        assert system.ids() == []
        with pytest.raises(NoSuchMachine):
            await system.ask("new", Do())
        ref = await system.get_or_spawn(Account, "new")
        assert ref.snapshot().state is S.RED

    nursery(scenario, 0)


def test_who_comes_during_a_birth_waits_for_it_and_gets_the_same_machine(
    nursery: Callable[..., None],
) -> None:
    async def scenario(system: Any, loop: Any) -> None:
        refs = await asyncio.gather(*(system.get_or_spawn(Account, "new") for _ in range(3)))
        assert [ref.id for ref in refs] == ["new"] * 3
        assert loop.time() == 3
        assert refs[0].snapshot().seq == 1

    nursery(scenario, 3)


def test_a_birth_whose_asker_gave_up_is_finished_nevertheless(nursery: Callable[..., None]) -> None:
    async def scenario(system: Any, loop: Any) -> None:
        end = await ended_at(loop, system.ask("new", Open(), timeout=1), AskTimeout)
        assert 1 <= end <= 1 + TICK_S
        await asyncio.sleep(5)
        assert system.ids() == ["new"]
        assert await system.ask("new", Do()) == "done"

    nursery(scenario, 3)


def test_a_plain_machine_ends_its_ask_without_a_pending_future(
    inline: bool, system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with system_of(Plain) as system:
            ref = await system.spawn(Plain, "a")
            coroutine = ref.ask(Do(n=1))
            if inline:
                with pytest.raises(StopIteration):
                    coroutine.send(None)
            else:
                await coroutine
            assert ref.snapshot().data["done"] == (1,)

    sim(scenario)
