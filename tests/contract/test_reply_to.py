"""Callbacks and `reply_to`: an event's end as an `Outcome`, after the turn, in order per machine, holding nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum, auto
from typing import Any

import pytest

from actorfsm import STAY, InvalidEvent, Limits, Machine, Outcome, Veto, transition
from actorfsm.testing.faults import EVIL
from tests.contract.puppet import STYLES, Do, Eager, Finish, Hold, LetGo, Never, S, Suspending

ASYNC = pytest.mark.parametrize("puppet", [Eager, Suspending], ids=["eager", "suspending"])
ALL = pytest.mark.parametrize("puppet", STYLES, ids=["eager", "suspending", "plain"])


class Book(StrEnum):
    OPEN = auto()


class Ledger(Machine[Book], initial=Book.OPEN):
    """Takes Outcomes, and refuses those of events named `Hold`."""

    seen: tuple[str, ...] = ()

    @transition(Book.OPEN, to=STAY)
    async def note(self, event: Outcome) -> None:
        self.seen = (*self.seen, f"{event.machine_id} {event.event_type} {event.kind} {event.reply}")
        if event.event_type == "Hold":
            raise Veto("not this one")


@pytest.fixture
def run(system_of: Callable[..., Any], sim: Callable[..., None]) -> Callable[..., None]:
    """Run a scenario `(system, scripts, records)` with the machines a, b and the ledger."""

    def do(puppet: type[Any], scenario: Callable[..., Any], **options: Any) -> None:
        async def main() -> None:
            scripts: dict[Any, Any] = {}
            records: list[Any] = []
            async with system_of(puppet, Ledger, services=scripts, trace=records.append, **options) as system:
                for machine_id in "ab":
                    await system.spawn(puppet, machine_id)
                await system.spawn(Ledger, "ledger")
                await scenario(system, scripts, records)
            stats = system.stats()
            assert (stats.balance, stats.queued, stats.outgoing) == (0, 0, 0)

        sim(main)

    return do


def fail(machine: Any) -> None:
    raise ValueError("broken")


# -- callbacks -------------------------------------------------------------------------------------------------------


@ALL
@pytest.mark.rule("C7")
def test_a_callback_gets_every_kind_of_outcome_in_order(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, records: Any) -> None:
        outcomes: list[Outcome] = []
        scripts["fail"], scripts["no", "enter"] = fail, lambda machine: False
        events = (Do(n=1), Do(script="no"), Do(script="fail"), Never(), Finish(), Do(n=2))
        for event in events:
            system.tell("a", event, callback=outcomes.append)
        system.tell("nobody", Do(), callback=outcomes.append)
        await asyncio.sleep(0.1)
        mine = [o for o in outcomes if o.machine_id == "a"]
        assert [(o.event_type, o.kind) for o in mine] == [
            ("Do", "committed"),
            ("Do", "vetoed"),
            ("Do", "failed"),
            ("Never", "unhandled"),
            ("Finish", "committed"),
            ("Do", "unhandled"),
        ]
        assert [(o.old, o.new) for o in mine] == [
            (S.RED, S.BLUE),
            (S.BLUE, S.RED),
            (S.BLUE, S.RED),
            (S.BLUE, None),
            (S.BLUE, S.END),
            (S.END, None),
        ]
        assert [o.kind for o in outcomes if o.machine_id == "nobody"] == ["dead_lettered"]

    run(puppet, scenario)


@ALL
def test_callbacks_are_called_after_the_turn_and_in_the_order_of_the_events(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, records: Any) -> None:
        log: list[Any] = []

        async def callback(outcome: Outcome) -> None:
            log.append(f"{outcome.reply} called")
            await asyncio.sleep(1 if outcome.reply == 0 else 0)
            log.append(f"{outcome.reply} done")

        for n in range(3):
            scripts[f"{n}"] = lambda machine, n=n: n
            scripts[f"{n}", "after"] = lambda machine, n=n: log.append(f"{n} after-hook")
            system.tell("a", Do(script=f"{n}"), callback=callback)
        await asyncio.sleep(5)
        called = [line for line in log if "after-hook" not in line]
        assert called == [f"{n} {what}" for n in range(3) for what in ("called", "done")]
        for n in range(3):
            assert log.index(f"{n} after-hook") < log.index(f"{n} called")

    run(puppet, scenario)


@ALL
def test_a_slow_callback_holds_neither_the_machine_nor_other_machines_callbacks(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, records: Any) -> None:
        loop = asyncio.get_running_loop()
        called: list[Any] = []

        async def slow(outcome: Outcome) -> None:
            await asyncio.sleep(5)

        await system.tell("a", Do(n=1), callback=slow)
        await system.ask("a", Do(n=2))
        await system.tell(
            "a", Do(n=3), callback=lambda outcome: called.append((outcome.machine_id, loop.time()))
        )
        await system.tell(
            "b", Do(n=3), callback=lambda outcome: called.append((outcome.machine_id, loop.time()))
        )
        await asyncio.sleep(0.1)
        assert system.snapshot("a").data["done"] == (1, 2, 3)
        assert called == [("b", 0)]
        await asyncio.sleep(10)
        assert called == [("b", 0), ("a", 5)]

    run(puppet, scenario)


@ALL
def test_a_callback_may_ask_its_own_machine(puppet: Any, run: Callable[..., None]) -> None:
    """It runs outside of every turn, so there is no cycle."""

    async def scenario(system: Any, scripts: Any, records: Any) -> None:
        async def callback(outcome: Outcome) -> None:
            await system.ask("a", Do(n=2))
            done.set_result(None)

        done = asyncio.get_running_loop().create_future()
        system.tell("a", Do(n=1), callback=callback)
        await done
        assert system.snapshot("a").data["done"] == (1, 2)

    run(puppet, scenario)


@ALL
@pytest.mark.rule("C13")
@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("style", ["plain", "async"])
def test_whatever_a_callback_raises_is_counted_and_hurts_nobody(
    puppet: Any, name: str, style: str, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, records: Any) -> None:
        error = EVIL[name]()

        def plain(outcome: Outcome) -> None:
            raise error

        async def coroutine(outcome: Outcome) -> None:
            await asyncio.sleep(0)
            raise error

        called: list[Any] = []
        await system.tell("a", Do(n=1), callback=plain if style == "plain" else coroutine)
        await system.tell("a", Do(n=2), callback=called.append)
        await asyncio.sleep(0.1)
        assert [outcome.kind for outcome in called] == ["committed"]
        assert system.stats().callbacks_failed == 1
        failures = [record for record in records if record.name == "callback_failed"]
        assert [(record.machine_id, record.event_type) for record in failures] == [("a", "Do")]
        assert await system.ask("a", Do()) is None

    run(puppet, scenario)


@ALL
@pytest.mark.rule("C13")
def test_a_callback_that_hangs_is_cancelled_at_its_deadline_and_the_next_is_called(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, records: Any) -> None:
        loop = asyncio.get_running_loop()
        called: list[float] = []

        async def hangs(outcome: Outcome) -> None:
            await loop.create_future()

        await system.tell("a", Do(n=1), callback=hangs)
        await system.tell("a", Do(n=2), callback=lambda outcome: called.append(loop.time()))
        await asyncio.sleep(10)
        assert called == [2]
        assert system.stats().callbacks_failed == 1
        assert [record.name for record in records][-1] == "callback_failed"
        assert "2 s" in records[-1].reason

    run(puppet, scenario, limits=Limits(callback_timeout_s=2))


@ALL
def test_a_callback_that_is_no_function_is_counted_like_one_that_raises(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, records: Any) -> None:
        await system.tell("a", Do(n=1), callback="print")
        await asyncio.sleep(0.1)
        assert system.stats().callbacks_failed == 1
        assert system.snapshot("a").data["done"] == (1,)

    run(puppet, scenario)


@ALL
@pytest.mark.rule("C10")
def test_a_callback_shares_nothing_with_the_machine_or_the_receipt(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, records: Any) -> None:
        scripts["list"] = lambda machine: [1]
        receipt = system.tell("a", Do(script="list"), callback=lambda o: o.reply.append(2), reply_to="ledger")
        await receipt
        await asyncio.sleep(0.1)
        assert (await receipt).reply == [1]
        assert system.snapshot("ledger").data["seen"] == ("a Do committed [1]",)

    run(puppet, scenario)


# -- reply_to --------------------------------------------------------------------------------------------------------


@ALL
@pytest.mark.rule("C7")
def test_the_machine_named_in_reply_to_gets_every_outcome_in_order(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, records: Any) -> None:
        scripts["fail"], scripts["no", "enter"], scripts["yes"] = (
            fail,
            lambda machine: False,
            lambda machine: "R",
        )
        for event in (Do(script="yes"), Do(script="no"), Do(script="fail"), Never()):
            system.tell("a", event, reply_to="ledger")
        await asyncio.sleep(0.1)
        assert system.snapshot("ledger").data["seen"] == (
            "a Do committed R",
            "a Do vetoed None",
            "a Do failed None",
            "a Never unhandled None",
        )

    run(puppet, scenario)


@ALL
def test_reply_to_works_for_messages_of_machines(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, records: Any) -> None:
        def send(machine: Any) -> None:
            system.tell("b", Do(n=1), reply_to="ledger")

        scripts["send"] = send
        await system.ask("a", Do(script="send"), headers={"correlation_id": "c-1"})
        await asyncio.sleep(0.1)
        assert system.snapshot("ledger").data["seen"] == ("b Do committed None",)
        outcome = next(record for record in records if record.event_type == "Outcome")
        told = next(r for r in records if r.machine_id == "b" and r.event_type == "Do")
        assert outcome.correlation_id == told.correlation_id == "c-1"
        assert outcome.causation_id == told.event_id

    run(puppet, scenario)


@ALL
def test_a_tell_that_is_refused_reports_to_reply_to_as_well(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, records: Any) -> None:
        system.tell("nobody", Do(), reply_to="ledger")
        await asyncio.sleep(0.1)
        assert system.snapshot("ledger").data["seen"] == ("nobody Do dead_lettered None",)

    run(puppet, scenario)


@ALL
@pytest.mark.rule("C7")
@pytest.mark.parametrize("receiver", ["nobody", "b"], ids=["dead", "takes no Outcome"])
def test_an_outcome_that_cannot_be_delivered_is_a_dead_letter_and_the_event_stays_committed(
    puppet: Any, receiver: str, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, records: Any) -> None:
        outcome = await system.tell("a", Do(n=1), reply_to=receiver)
        assert outcome.kind == "committed"
        (letter,) = system.dead_letters
        assert letter.machine_id == receiver
        assert letter.event == outcome
        assert system.stats().outcomes["dead_lettered"] == 1
        assert system.stats().refused == 0

    run(puppet, scenario)


@ALL
def test_a_sender_that_was_stopped_meanwhile_leaves_a_dead_letter(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, records: Any) -> None:
        await system.ask("a", Hold())
        receipt = system.tell("a", Do(n=1), reply_to="ledger")
        await asyncio.sleep(0.1)
        await system.stop("ledger")
        await system.ask("a", LetGo())
        assert (await receipt).kind == "committed"
        assert [letter.machine_id for letter in system.dead_letters] == ["ledger"]

    run(puppet, scenario)


@ALL
@pytest.mark.rule("C7")
def test_an_outcome_never_causes_another(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any, records: Any) -> None:
        def send(machine: Any) -> None:
            with pytest.raises(InvalidEvent):
                system.tell("ledger", outcome, reply_to="ledger")

        outcome = await system.tell("a", Hold(), reply_to="ledger")  # the ledger vetoes this one
        await asyncio.sleep(0.1)
        assert [record.name for record in records if record.event_type == "Outcome"] == ["vetoed"]
        with pytest.raises(InvalidEvent, match="never causes another"):
            system.tell("ledger", outcome, reply_to="ledger")
        scripts["send"] = send
        await system.ask("b", Do(script="send"))
        await asyncio.sleep(0.1)
        assert sum(1 for record in records if record.event_type == "Outcome") == 1

    run(puppet, scenario)


@ALL
@pytest.mark.rule("C10")
@pytest.mark.parametrize("address", ["", "a b", "x" * 201, "ledger\n", 7])
def test_a_malformed_reply_to_is_refused_before_anything_is_sent(
    puppet: Any, address: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, records: Any) -> None:
        def send(machine: Any) -> None:
            with pytest.raises(InvalidEvent):
                system.tell("b", Do(n=1), reply_to=address)

        with pytest.raises(InvalidEvent):
            system.tell("b", Do(n=1), reply_to=address)
        scripts["send"] = send
        await system.ask("a", Do(script="send"))
        await asyncio.sleep(0.1)
        assert system.snapshot("b").data["done"] == ()

    run(puppet, scenario)


@ALL
def test_a_callback_and_a_reply_to_may_be_given_together_and_to_duplicates(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any, records: Any) -> None:
        called: list[Outcome] = []
        for _ in range(2):
            await system.tell("a", Do(n=1), event_id="x", callback=called.append, reply_to="ledger")
        await asyncio.sleep(0.1)
        assert [outcome.duplicate for outcome in called] == [False, True]
        assert system.snapshot("ledger").data["seen"] == ("a Do committed None",) * 2

    run(puppet, scenario)
