"""C11: all that can grow has a bound; there, a typed refusal, a wait with an end, or a dead letter."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from math import inf, nan
from typing import Any

import pytest

from actorfsm import (
    DefinitionError,
    Directive,
    Expired,
    HookFailed,
    InvalidEvent,
    Limits,
    MachineStopped,
    MailboxFull,
    MailboxPolicy,
    Outcome,
    Overflow,
    Quarantined,
    RestartPolicy,
)
from tests.contract.puppet import STYLES, Do, Eager, Hold, LetGo, Plain, Suspending

pytestmark = pytest.mark.rule("C11")
ASYNC = pytest.mark.parametrize("puppet", [Eager, Suspending], ids=["eager", "suspending"])
ALL = pytest.mark.parametrize("puppet", STYLES, ids=["eager", "suspending", "plain"])


@pytest.fixture
def run(system_of: Callable[..., Any], sim: Callable[..., None]) -> Callable[..., None]:
    """Run a scenario `(system, scripts, loop)` with the machines a (of the class under test) and b (unbounded)."""

    def do(puppet: type[Any], scenario: Callable[..., Any], policy: Any = None, **options: Any) -> None:
        bounded = puppet if policy is None else type("Bounded", (puppet,), {}, mailbox=policy)

        async def main() -> None:
            records: list[Any] = []
            scripts: dict[Any, Any] = {"slow": slow}
            async with system_of(bounded, Eager, services=scripts, trace=records.append, **options) as system:
                await system.spawn(bounded, "a")
                await system.spawn(Eager, "b")
                await scenario(system, scripts, asyncio.get_running_loop())
                assert system.stats().balance == 0
            stats = system.stats()
            assert (stats.balance, stats.queued, stats.postponed, stats.in_flight, stats.outgoing) == (
                0,
                0,
                0,
                0,
                0,
            )
            assert stats.pending_asks == 0
            recorded = Counter(record.name for record in records)
            lost = recorded["dead_lettered"] - stats.outcomes["dead_lettered"]
            assert 0 <= lost <= stats.refused  # a tell that was never accepted leaves a record, too
            assert stats.outcomes == {kind: recorded[kind] for kind in stats.outcomes} | {
                "dead_lettered": recorded["dead_lettered"] - lost
            }

        sim(main)

    return do


async def slow(machine: Any) -> str:
    await asyncio.sleep(5)
    return "slow"


async def fill(system: Any, n: int) -> list[Any]:
    """Let a be busy for 5 s, and n events wait in its mailbox; return the receipts."""
    busy = system.tell("a", Do(script="slow", n=-1))
    await asyncio.sleep(0.1)
    return [busy, *(system.tell("a", Do(n=n)) for n in range(n))]


def done(system: Any, machine_id: str = "a") -> list[int]:
    return list(system.snapshot(machine_id).data["done"])


# -- a full mailbox: refuse ------------------------------------------------------------------------------------------


@ASYNC
def test_a_full_mailbox_refuses_at_once(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        await fill(system, 3)
        assert system.stats().queued == 3
        with pytest.raises(MailboxFull) as caught:
            await system.ask("a", Do(n=98))
        assert (caught.value.machine_id, caught.value.event) == ("a", Do(n=98))
        outcomes: list[Outcome] = []
        receipt = system.tell("a", Do(n=99), callback=outcomes.append)
        for wait in (receipt.accepted, receipt.outcome):
            with pytest.raises(MailboxFull):
                await wait()
        assert loop.time() == 0.1
        await asyncio.sleep(0)
        letter = system.dead_letters[-1]
        assert (letter.machine_id, letter.event, letter.event_id) == ("a", Do(n=99), receipt.event_id)
        assert (system.stats().refused, system.stats().queued) == (2, 3)
        await asyncio.sleep(10)
        assert [(o.kind, o.success, o.error.type) for o in outcomes] == [
            ("dead_lettered", False, "MailboxFull")
        ]
        assert done(system) == [-1, 0, 1, 2]

    run(puppet, scenario, MailboxPolicy(capacity=3))


@ALL
def test_a_machine_holds_1024_events_by_default(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        receipts = [system.tell("a", Do(n=n)) for n in range(1025)]  # no step of the loop between them
        assert system.stats().queued == 1024
        assert "MailboxFull" in repr(receipts[-1])
        await receipts[-2]
        assert done(system) == list(range(1024))

    run(puppet, scenario)


@ALL
def test_room_is_there_again_as_soon_as_an_event_is_taken(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        for n in range(20):
            await system.tell("a", Do(n=n)).accepted()
            if n % 2:
                await asyncio.sleep(0.01)
        assert done(system) == list(range(20))
        assert system.stats().refused == 0

    run(puppet, scenario, MailboxPolicy(capacity=2))


# -- a full mailbox: drop --------------------------------------------------------------------------------------------


@ASYNC
def test_drop_newest_makes_the_newcomer_a_dead_letter_and_refuses_asks(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        receipts = await fill(system, 5)
        with pytest.raises(MailboxFull):
            await system.ask("a", Do(n=9))
        outcomes = [await receipt.outcome() for receipt in receipts]
        assert [o.kind for o in outcomes] == ["committed"] * 4 + ["dead_lettered"] * 2
        assert outcomes[-1].error.type == "MailboxFull"
        assert done(system) == [-1, 0, 1, 2]
        assert [letter.event.n for letter in system.dead_letters] == [3, 4]
        assert system.stats().outcomes["dead_lettered"] == 2
        for receipt in receipts:
            assert await receipt.accepted() is receipt

    run(puppet, scenario, MailboxPolicy(capacity=3, overflow=Overflow.DROP_NEWEST))


@ASYNC
def test_drop_oldest_makes_the_longest_waiting_a_dead_letter(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        asker = asyncio.create_task(fill_and_ask(system))
        await asyncio.sleep(0.5)
        receipts = [system.tell("a", Do(n=n)) for n in range(10, 13)]
        with pytest.raises(MailboxFull):
            await asker
        with pytest.raises(MailboxFull):
            await system.ask("a", Do(n=20))
        assert [(await receipt).kind for receipt in receipts] == ["committed"] * 3
        assert done(system) == [-1, 10, 11, 12]
        assert [letter.event.n for letter in system.dead_letters] == [
            0,
            1,
        ]  # an ask that has its answer is no dead letter

    async def fill_and_ask(system: Any) -> None:
        await fill(system, 2)
        await system.ask("a", Do(n=2))

    run(puppet, scenario, MailboxPolicy(capacity=3, overflow=Overflow.DROP_OLDEST))


# -- a full mailbox: wait --------------------------------------------------------------------------------------------


@ASYNC
def test_with_wait_a_receipt_is_accepted_when_there_is_room(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        scripts["one"] = lambda machine: asyncio.sleep(1)
        busy = await fill(system, 0)
        waiting = [system.tell("a", Do(script="one", n=n)) for n in range(4)]
        assert [("not yet accepted" in repr(receipt)) for receipt in waiting] == [False, True, True, True]
        assert (system.stats().queued, system.stats().accepted) == (1, 4)
        when = []
        for receipt in waiting:
            assert await receipt.accepted() is receipt
            when.append(loop.time())
        assert when == [0.1, 5, 6, 7]
        for receipt in [*busy, *waiting]:
            assert (await receipt).kind == "committed"
        assert done(system) == [-1, 0, 1, 2, 3]

    run(puppet, scenario, MailboxPolicy(capacity=1, overflow=Overflow.WAIT))


@ASYNC
def test_with_wait_a_tell_is_turned_away_after_the_policys_time(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        outcomes: list[Outcome] = []
        await fill(system, 1)
        receipt = system.tell("a", Do(n=9), callback=outcomes.append)
        with pytest.raises(MailboxFull):
            await receipt.accepted()
        assert 2.1 <= loop.time() <= 2.15 + 1e-9
        with pytest.raises(MailboxFull):
            await receipt.outcome()
        assert [letter.event.n for letter in system.dead_letters] == [9]
        await asyncio.sleep(10)
        assert [(o.kind, o.error.type) for o in outcomes] == [("dead_lettered", "MailboxFull")]
        assert done(system) == [-1, 0]
        assert system.stats().refused == 1

    run(puppet, scenario, MailboxPolicy(capacity=1, overflow=Overflow.WAIT, wait_timeout_s=2))


@ASYNC
def test_with_wait_a_tell_with_a_deadline_of_its_own_waits_until_that(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        await fill(system, 1)
        receipt = system.tell("a", Do(n=9), timeout=1)
        with pytest.raises(Expired):
            await receipt.accepted()
        assert 1.1 <= loop.time() <= 1.15 + 1e-9
        patient = system.tell("a", Do(n=10), timeout=60)
        assert (await patient).kind == "committed"
        assert done(system) == [-1, 0, 10]

    run(puppet, scenario, MailboxPolicy(capacity=1, overflow=Overflow.WAIT, wait_timeout_s=2))


@ASYNC
def test_with_wait_an_ask_waits_until_its_deadline(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        await fill(system, 1)
        with pytest.raises(Expired):
            await system.ask("a", Do(n=8), timeout=3)
        assert 3.1 <= loop.time() <= 3.15 + 1e-9
        assert await system.ask("a", Do(script="slow", n=9)) == "slow"
        assert done(system) == [-1, 0, 9]

    run(puppet, scenario, MailboxPolicy(capacity=1, overflow=Overflow.WAIT, wait_timeout_s=1))


@ASYNC
def test_with_wait_the_wait_list_is_bounded_too(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        await fill(system, 1)
        waiting = [system.tell("a", Do(n=n)) for n in (1, 2)]
        with pytest.raises(MailboxFull):
            await system.tell("a", Do(n=3)).accepted()
        with pytest.raises(MailboxFull):
            await system.ask("a", Do(n=4))
        assert loop.time() == 0.1
        for receipt in waiting:
            await receipt
        assert done(system) == [-1, 0, 1, 2]

    run(puppet, scenario, MailboxPolicy(capacity=1, overflow=Overflow.WAIT, waiting=2))


@ASYNC
def test_whoever_waits_outside_comes_before_whoever_comes_later(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        receipts = await fill(system, 6)

        async def ask(n: int) -> None:
            await system.ask("a", Do(n=n))

        asks = []
        for n in range(6, 9):
            asks.append(asyncio.create_task(ask(n)))
            await asyncio.sleep(0.1)
        await asyncio.gather(*asks, *(receipt.outcome() for receipt in receipts))
        assert done(system) == [-1, *range(9)]

    run(puppet, scenario, MailboxPolicy(capacity=2, overflow=Overflow.WAIT))


@ASYNC
def test_room_that_an_expired_event_makes_is_given_to_whoever_waits_outside(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        system.tell("a", Do(script="slow", n=-1))
        await asyncio.sleep(0.1)
        first = asyncio.create_task(system.ask("a", Do(n=0), timeout=1))
        await asyncio.sleep(0.1)
        waits = system.tell("a", Do(n=1))
        await waits.accepted()
        assert 1.1 <= loop.time() <= 1.15 + 1e-9
        with pytest.raises(Expired):
            await first
        assert (await waits).kind == "committed"
        assert loop.time() == 5
        assert done(system) == [-1, 1]
        await system.ask("a", Do(n=2))
        assert system._parts.registry.actors["a"].mailbox is None

    run(puppet, scenario, MailboxPolicy(capacity=1, overflow=Overflow.WAIT))


@ASYNC
def test_whoever_waits_outside_a_machine_that_is_stopped_is_told(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        outcomes: list[Outcome] = []
        await fill(system, 1)
        receipt = system.tell("a", Do(n=1), callback=outcomes.append)
        asker = asyncio.create_task(system.ask("a", Do(n=2), event_id="x"))
        await asyncio.sleep(0.1)
        await system.stop("a")
        with pytest.raises(MachineStopped):
            await receipt.outcome()
        with pytest.raises(MachineStopped):
            await asker
        await asyncio.sleep(0.1)
        assert [(o.kind, o.error.type) for o in outcomes] == [("dead_lettered", "MachineStopped")]
        assert [letter.event.n for letter in system.dead_letters] == [0, 1]
        assert system.stats().refused == 2

    run(puppet, scenario, MailboxPolicy(capacity=1, overflow=Overflow.WAIT))


@ASYNC
def test_whoever_waits_outside_a_quarantined_machine_comes_in_after_its_release(
    puppet: Any, run: Callable[..., None]
) -> None:
    class Fragile(
        puppet,
        mailbox=MailboxPolicy(capacity=1, overflow=Overflow.WAIT),
        on_failure={ValueError: Directive.RESTART},
        restart=RestartPolicy(max_restarts=0),
    ): ...

    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        async def fail(machine: Any) -> None:
            await asyncio.sleep(1)
            raise ValueError("broken")

        scripts["fail"] = fail
        failing = asyncio.create_task(system.ask("a", Do(script="fail")))
        await asyncio.sleep(0.1)
        queued = asyncio.create_task(system.ask("a", Do(n=1)))
        await asyncio.sleep(0.1)
        waits = system.tell("a", Do(n=2))
        with pytest.raises(HookFailed):
            await failing
        with pytest.raises(Quarantined):
            await queued
        system.release("a")
        assert (await waits).kind == "committed"
        assert loop.time() == 1
        assert done(system) == [2]

    run(Fragile, scenario)


# -- messages of machines --------------------------------------------------------------------------------------------


@ASYNC
def test_messages_of_a_machine_wait_for_room_in_order_whatever_the_policy(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        async def send(machine: Any) -> None:
            for n in range(4):
                machine.tell("a", Do(n=n))

        async def send_more(machine: Any) -> None:
            machine.tell("a", Do(n=4))

        scripts["send"], scripts["more"] = send, send_more
        await fill(system, 0)
        await system.ask("b", Do(script="send"))
        assert (system.stats().queued, system.stats().outgoing) == (1, 3)
        assert system.stats().balance == 0
        await system.ask("b", Do(script="more"))
        assert system.stats().outgoing == 4
        with pytest.raises(MailboxFull):
            await system.tell("a", Do(n=9)).accepted()
        await asyncio.sleep(10)
        assert done(system) == [-1, 0, 1, 2, 3, 4]
        assert system.stats().outgoing == 0

    run(puppet, scenario, MailboxPolicy(capacity=1))


@ASYNC
def test_a_message_of_a_machine_that_waits_too_long_is_a_dead_letter(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        receipts: list[Any] = []

        async def send(machine: Any) -> None:
            receipts.extend(machine.tell("a", Do(n=n)) for n in range(2))

        scripts["send"] = send
        await fill(system, 0)
        await system.ask("b", Do(script="send"))
        outcome = await receipts[1].outcome()
        assert (outcome.kind, outcome.error.type) == ("dead_lettered", "MailboxFull")
        assert 2.1 <= loop.time() <= 2.15 + 1e-9
        assert [letter.event.n for letter in system.dead_letters] == [1]
        assert (system.stats().outgoing, system.stats().outcomes["dead_lettered"]) == (0, 1)
        await receipts[0]
        assert done(system) == [-1, 0]

    run(puppet, scenario, MailboxPolicy(capacity=1, wait_timeout_s=2))


@ASYNC
def test_a_message_of_a_machine_for_which_even_the_wait_list_is_full_is_a_dead_letter(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        receipts: list[Any] = []

        async def send(machine: Any) -> None:
            receipts.extend(machine.tell("a", Do(n=n)) for n in range(4))

        scripts["send"] = send
        await fill(system, 0)
        await system.ask("b", Do(script="send"))
        assert system.stats().outgoing == 2
        with pytest.raises(MailboxFull):
            await receipts[3].accepted()
        assert system.stats().outcomes["dead_lettered"] == 1
        assert system.stats().refused == 0  # it was accepted with the sender's commit
        await receipts[2]
        assert done(system) == [-1, 0, 1, 2]

    run(puppet, scenario, MailboxPolicy(capacity=1, waiting=2))


@ASYNC
def test_messages_that_wait_outside_a_machine_that_is_stopped_are_dead_letters(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        async def send(machine: Any) -> None:
            for n in range(3):
                machine.tell("a", Do(n=n))

        scripts["send"] = send
        await fill(system, 0)
        await system.ask("b", Do(script="send"))
        await system.stop("a")
        assert [letter.event.n for letter in system.dead_letters] == [0, 1, 2]
        assert system.stats().outcomes["dead_lettered"] == 3
        assert system.stats().outgoing == 0

    run(puppet, scenario, MailboxPolicy(capacity=1))


# -- other bounds ----------------------------------------------------------------------------------------------------


@ASYNC
def test_the_asks_that_wait_at_a_time_are_bounded(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        asks = [asyncio.create_task(system.ask("a", Do(script="slow"))) for _ in range(2)]
        await asyncio.sleep(0.1)
        assert system.stats().pending_asks == 2
        for refused in (system.ask("b", Do()), system.spawn(Eager, "c"), system.get_or_spawn(Eager, "c")):
            with pytest.raises(MailboxFull):
                await refused
        assert system.ids() == ["a", "b"]
        assert loop.time() == 0.1
        assert (await system.tell("b", Do(n=1))).kind == "committed"  # a tell does not wait
        await asyncio.wait(asks, return_when=asyncio.FIRST_COMPLETED)
        assert await system.ask("b", Do()) is None
        await system.spawn(Eager, "c")
        await asyncio.gather(*asks)

    run(puppet, scenario, limits=Limits(pending_asks=2, ask_timeout_s=60))


@ALL
def test_dead_letters_are_bounded_and_the_newest_are_kept(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        for n in range(5):
            system.tell("nobody", Do(n=n))
        assert [letter.event.n for letter in system.dead_letters] == [2, 3, 4]
        assert system.stats().dead_letters == 5

    run(puppet, scenario, limits=Limits(dead_letters=3))


@ALL
def test_callbacks_that_wait_are_bounded_and_those_not_called_are_counted(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        called: list[int] = []

        async def first(outcome: Outcome) -> None:
            called.append(0)
            await asyncio.sleep(5)

        await system.tell("a", Do(), callback=first)
        await asyncio.sleep(0.1)
        for n in range(1, 5):
            await system.tell("a", Do(n=n), callback=lambda outcome, n=n: called.append(n))
        assert called == [0]
        await asyncio.sleep(10)
        assert called == [0, 1, 2]
        assert system.stats().callbacks_failed == 2
        assert done(system) == [0, 1, 2, 3, 4]

    run(puppet, scenario, limits=Limits(callbacks=2))


@ALL
def test_postponed_events_are_bounded_and_one_more_is_a_dead_letter(
    puppet: Any, run: Callable[..., None]
) -> None:
    class Narrow(puppet, postpone_limit=2): ...

    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        await system.ask("a", Hold())
        receipts = [system.tell("a", Do(n=n)) for n in range(3)]
        await asyncio.sleep(0.1)
        with pytest.raises(MailboxFull):
            await system.ask("a", Do(n=3))
        assert system.stats().postponed == 2
        outcome = await receipts[2].outcome()
        assert (outcome.kind, outcome.error.type) == ("dead_lettered", "MailboxFull")
        assert [letter.event.n for letter in system.dead_letters][:1] == [2]
        await system.ask("a", LetGo())
        await asyncio.sleep(0.1)
        assert done(system) == [0, 1]

    run(Narrow, scenario)


@ALL
def test_own_events_in_a_row_are_bounded_and_an_endless_chain_is_a_typed_failure(
    puppet: Any, run: Callable[..., None]
) -> None:
    class Chain(puppet, own_event_limit=5): ...

    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        def again(machine: Any) -> None:
            machine.next_event(Do(script="again"))

        scripts["again"] = again
        await system.ask("a", Do(script="again"))
        await asyncio.sleep(0.1)
        stats = system.stats()
        assert (stats.outcomes["failed"], stats.outcomes["committed"]) == (1, 2 + 5)
        assert await system.ask("a", Do(n=1)) is None

    run(Chain, scenario)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({str(n): "" for n in range(4)}, "4 headers: the limit is 3"),
        ({"a": "x" * 20}, "longer than 20 characters"),
        ({"a": 1}, "strings"),
        ({1: "a"}, "strings"),
        (7, "strings"),
        ("text", "strings"),
    ],
    ids=["count", "size", "value", "name", "number", "text"],
)
def test_headers_are_bounded_strings(headers: Any, said: str, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        async def send(machine: Any) -> None:
            with pytest.raises(InvalidEvent, match=said):
                machine.tell("a", Do(), headers=headers)
            with pytest.raises(InvalidEvent, match=said):
                await machine.ask("a", Do(), headers=headers)

        scripts["send"] = send
        for refused in (
            lambda: system.ask("a", Do(), headers=headers),
            lambda: system.spawn(Eager, "c", headers=headers),
        ):
            with pytest.raises(InvalidEvent, match=said):
                await refused()
        with pytest.raises(InvalidEvent, match=said):
            system.tell("a", Do(), headers=headers)
        await system.ask("b", Do(script="send"))
        assert system.stats().accepted == 3
        assert system.ids() == ["a", "b"]

    run(Plain, scenario, limits=Limits(header_count=3, header_bytes=20))


def test_headers_up_to_the_limit_are_taken(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        await system.ask("a", Do(), headers={"a": "x" * 9, "b": "y" * 9})

    run(Plain, scenario, limits=Limits(header_count=2, header_bytes=20))


@pytest.mark.parametrize("wrong", [{"capacity": 0}, {"waiting": -1}, {"wait_timeout_s": 0}])
def test_a_mailbox_policy_that_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises(DefinitionError):
        MailboxPolicy(**wrong)


# -- the bounds themselves ------------------------------------------------------------------------------------------

TIMES = [field.name for field in fields(Limits) if field.name.endswith("_s")]
NUMBERS = [field.name for field in fields(Limits) if not field.name.endswith("_s")]
MAY_BE_ZERO = {
    *("dead_letters", "transitions", "header_count", "header_bytes", "inline_depth"),
    *("blocked_s", "grace_s", "stop_timeout_s"),
}


@pytest.mark.parametrize("name", TIMES + NUMBERS)
@pytest.mark.parametrize("value", [-1, nan, inf, True, "5", None, 1e300], ids=repr)
def test_a_limit_that_cannot_be_meant_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(DefinitionError, match=rf"^Limits: {name}=.*; give "):
        Limits(**{name: value})


@pytest.mark.parametrize("name", NUMBERS)
def test_half_an_event_is_no_limit(name: str) -> None:
    with pytest.raises(DefinitionError, match=rf"^Limits: {name}=1\.5; give a whole number"):
        Limits(**{name: 1.5})


@pytest.mark.parametrize("name", TIMES + NUMBERS)
def test_a_limit_of_zero_is_taken_only_where_it_has_a_sense(name: str) -> None:
    if name in MAY_BE_ZERO:
        assert getattr(Limits(**{name: 0}), name) == 0
    else:
        with pytest.raises(DefinitionError, match=rf"^Limits: {name}=0; give .*above 0"):
            Limits(**{name: 0})


@ALL
def test_a_system_may_keep_and_nest_nothing(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: dict[Any, Any], loop: Any) -> None:
        await system.ask("a", Do(script="nothing"))
        system.tell("nobody", Do(script="nothing"))
        assert list(system.dead_letters) == []
        assert list(system.transitions()) == []
        with pytest.raises(InvalidEvent, match="headers"):
            await system.ask("a", Do(script="nothing"), headers={"traceparent": "00"})
        assert system.stats().turns_queued > 0

    nothing = Limits(
        dead_letters=0, transitions=0, header_count=0, header_bytes=0, inline_depth=0, blocked_s=0
    )
    run(puppet, scenario, limits=nothing)
