"""`tell` never blocks: its receipt knows whether the event was accepted and how it ended (C11, C7)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actorfsm import (
    Discarded,
    HookFailed,
    NoSuchMachine,
    SystemStopping,
    Vetoed,
)
from tests.contract.puppet import STYLES, Do, Eager, Hold, LetGo, Never, S, Suspending

pytestmark = pytest.mark.rule("C11")
ASYNC = pytest.mark.parametrize("puppet", [Eager, Suspending], ids=["eager", "suspending"])
ALL = pytest.mark.parametrize("puppet", STYLES, ids=["eager", "suspending", "plain"])


@pytest.fixture
def run(system_of: Callable[..., Any], sim: Callable[..., None]) -> Callable[..., None]:
    def do(puppet: type[Any], scenario: Callable[..., Any], **options: Any) -> None:
        async def main() -> None:
            scripts: dict[Any, Any] = {}
            async with system_of(puppet, services=scripts, **options) as system:
                await system.spawn(puppet, "a")
                await system.spawn(puppet, "b")
                await scenario(system, scripts, asyncio.get_running_loop())
            assert system.stats().balance == 0

        sim(main)

    return do


@ALL
def test_a_receipt_is_there_at_once_and_nothing_has_run(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        receipt = system.tell("a", Do(n=1), event_id="x")
        assert (receipt.event_id, receipt.machine_id, receipt.durable) == ("x", "a", False)
        assert repr(receipt) == "<Receipt of Do for a: accepted>"
        assert system.snapshot("a").data["done"] == ()
        assert await receipt.accepted() is receipt
        assert system.snapshot("a").data["done"] == ()  # that took no step of the loop
        outcome = await receipt
        assert (outcome.kind, outcome.old, outcome.new, outcome.seq) == ("committed", S.RED, S.BLUE, 2)
        assert repr(receipt) == "<Receipt of Do for a: committed>"
        assert await receipt.outcome() == outcome

    run(puppet, scenario)


@ALL
def test_an_event_id_is_made_for_who_gives_none(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        receipts = [system.tell("a", Do()) for _ in range(3)]
        outcomes = [await receipt for receipt in receipts]
        assert [o.event_id for o in outcomes] == [receipt.event_id for receipt in receipts]
        assert len({o.event_id for o in outcomes}) == 3

    run(puppet, scenario)


@ALL
def test_a_receipt_tells_of_every_end(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        def fail(machine: Any) -> None:
            raise ValueError("broken")

        scripts["fail"], scripts["no", "enter"] = fail, lambda machine: False
        outcomes = [
            await system.tell("a", event)
            for event in (Do(n=1), Do(script="no"), Do(script="fail"), Never(), Hold())
        ]
        postponed = system.tell("a", Do(n=2), timeout=1)
        outcomes += [await postponed]
        stopped = system.tell("a", Do(n=3))
        await asyncio.sleep(0.1)
        await system.stop("a")
        outcomes += [await stopped]
        kinds = ["committed", "vetoed", "failed", "unhandled", "committed", "expired", "dead_lettered"]
        assert [o.kind for o in outcomes] == kinds
        assert [o.success for o in outcomes] == [kind == "committed" for kind in kinds]
        assert [o.error and o.error.type for o in outcomes] == [
            *(None, "Vetoed", "ValueError", "Unhandled", None, "Expired", "MachineStopped")
        ]
        assert [o.error and o.error.hook for o in outcomes[:4]] == [None, "enter", "back", None]
        assert outcomes[2].error.text == "broken"
        assert [o.seq for o in outcomes] == [2, 2, 2, 2, 3, 3, 3]
        assert all(o.machine_id == "a" for o in outcomes)

    run(puppet, scenario)


@ALL
def test_a_tell_to_nobody_is_refused_in_its_receipt_and_a_dead_letter(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        receipt = system.tell("nobody", Do(n=1))
        assert repr(receipt) == "<Receipt of Do for nobody: refused: NoSuchMachine>"
        for _ in range(2):
            with pytest.raises(NoSuchMachine):
                await receipt.accepted()
            with pytest.raises(NoSuchMachine):
                await receipt
        assert [(letter.machine_id, letter.event, letter.event_id) for letter in system.dead_letters] == [
            ("nobody", Do(n=1), receipt.event_id)
        ]
        assert system.stats().refused == 1

    run(puppet, scenario)


@ALL
def test_many_may_wait_for_one_receipt_and_one_may_give_up(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        await system.ask("a", Hold())
        receipt = system.tell("a", Do(n=1))
        waiting = [asyncio.create_task(receipt.outcome()) for _ in range(3)]
        await asyncio.sleep(1)
        waiting[1].cancel()
        await system.ask("a", LetGo())
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert ends[0] == ends[2]
        assert ends[0].kind == "committed"
        assert isinstance(ends[1], asyncio.CancelledError)

    run(puppet, scenario)


@ALL
def test_a_message_of_a_turn_is_accepted_when_the_turn_is_committed(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        receipts: list[Any] = []

        def send(machine: Any) -> None:
            receipts.append(machine.tell("b", Do(n=1), event_id="x"))
            receipts.append(system.tell("b", Do(n=2)))
            assert [("not yet accepted" in repr(receipt)) for receipt in receipts] == [True, True]
            assert system.stats().outgoing == 0

        scripts["send"] = send
        await system.ask("a", Do(script="send"))
        for receipt in receipts:
            assert await receipt.accepted() is receipt
            assert (await receipt).kind == "committed"
        assert receipts[0].event_id == "x"
        assert receipts[1].event_id.endswith("tell/2")
        assert system.snapshot("b").data["done"] == (1, 2)

    run(puppet, scenario)


@ALL
@pytest.mark.rule("C2")
def test_a_message_of_a_turn_that_is_rolled_back_is_discarded(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        receipts: list[Any] = []
        called: list[Any] = []

        def send(machine: Any) -> None:
            receipts.append(system.tell("b", Do(n=1), callback=called.append, reply_to="a"))

        scripts["no"], scripts["no", "enter"] = send, lambda machine: False
        with pytest.raises(Vetoed):
            await system.ask("a", Do(script="no"))
        with pytest.raises(Discarded):
            await receipts[0].accepted()
        with pytest.raises(Discarded):
            await receipts[0]
        await asyncio.sleep(0.1)
        assert called == []  # it never was an event
        assert system.snapshot("b").data["done"] == ()
        assert (system.stats().refused, system.dead_letters) == (0, ())

    run(puppet, scenario)


@ASYNC
def test_somebody_outside_may_wait_for_a_message_that_is_then_discarded(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        receipts: list[Any] = []

        async def send(machine: Any) -> None:
            receipts.append(machine.tell("b", Do(n=1)))
            await asyncio.sleep(1)
            raise ValueError("after the tell")

        scripts["send"] = send
        asker = asyncio.create_task(system.ask("a", Do(script="send")))
        await asyncio.sleep(0.1)
        waiting = [asyncio.create_task(receipts[0].accepted()), asyncio.create_task(receipts[0].outcome())]
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(end) for end in ends] == [Discarded] * 2
        with pytest.raises(HookFailed):
            await asker

    run(puppet, scenario)


@ALL
def test_receipts_of_what_was_queued_at_the_end_of_the_system_are_settled(
    puppet: Any, system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        system = system_of(puppet)
        async with system:
            await system.spawn(puppet, "a")
            await system.ask("a", Hold())
            postponed = system.tell("a", Do(n=1))
            await asyncio.sleep(0.1)
        outcome = await postponed
        assert (outcome.kind, outcome.error.type) == ("dead_lettered", "SystemStopping")
        late = system.tell("a", Do(n=2))
        with pytest.raises(SystemStopping):
            await late
        assert [letter.event.n for letter in system.dead_letters] == [1, 2]

    sim(scenario)


@ALL
def test_the_outcome_of_a_receipt_shares_nothing_with_the_next(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, loop: Any) -> None:
        scripts["list"] = lambda machine: [1, 2]
        receipt = system.tell("a", Do(script="list"))
        first, second = await receipt, await receipt
        first.reply.append(3)
        assert second.reply == [1, 2]
        assert (await receipt).reply == [1, 2]

    run(puppet, scenario)
