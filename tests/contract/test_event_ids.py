"""C24, in memory: an event id is applied to a machine at most once, as far as the machine remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum, auto
from typing import Any

import pytest
from pydantic import BaseModel

from actorfsm import (
    STAY,
    Event,
    EventIdConflict,
    Expired,
    HookFailed,
    Machine,
    MachineExists,
    MachineStopped,
    MailboxFull,
    MailboxPolicy,
    Overflow,
    Unhandled,
    Vetoed,
    transition,
)
from tests.contract.puppet import STYLES, Do, Eager, Finish, Hold, LetGo, Never, S, Suspending, took_path

pytestmark = pytest.mark.rule("C24")
ASYNC = pytest.mark.parametrize("puppet", [Eager, Suspending], ids=["eager", "suspending"])
ALL = pytest.mark.parametrize("puppet", STYLES, ids=["eager", "suspending", "plain"])


@pytest.fixture
def run(inline: bool, system_of: Callable[..., Any], sim: Callable[..., None]) -> Callable[..., None]:
    """Run a scenario `(system, scripts)` with the machines a and b."""

    def do(puppet: type[Any], scenario: Callable[..., Any], **options: Any) -> None:
        async def main() -> None:
            scripts: dict[Any, Any] = {}
            async with system_of(puppet, services=scripts, **options) as system:
                await system.spawn(puppet, "a")
                await system.spawn(puppet, "b")
                await scenario(system, scripts)
                assert system.stats().balance == 0
            stats = system.stats()
            assert (stats.balance, stats.queued, stats.postponed, stats.in_flight) == (0, 0, 0, 0)
            if issubclass(puppet, STYLES):
                assert took_path(stats, puppet.__mro__[1] if puppet not in STYLES else puppet, inline=inline)

        sim(main)

    return do


async def slow(machine: Any) -> str:
    await asyncio.sleep(5)
    return f"reply {len(machine.done)}"


@ALL
def test_the_same_id_again_gets_the_recorded_reply_and_changes_nothing(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        replies = iter(range(10))
        scripts["next"] = lambda machine: next(replies)
        assert await system.ask("a", Do(script="next", n=1), event_id="x") == 0
        assert await system.ask("a", Do(n=2)) is None
        assert await system.ask("a", Do(script="next", n=1), event_id="x") == 0
        snapshot = system.snapshot("a")
        assert (snapshot.data["done"], snapshot.seq) == ((1, 2), 3)
        assert system.stats().duplicates == 1
        assert system.stats().outcomes["committed"] == 5  # a, b, x, 2, and x's duplicate

    run(puppet, scenario)


@ALL
def test_an_id_belongs_to_one_machine(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        await system.ask("a", Do(n=1), event_id="x")
        await system.ask("b", Do(n=2), event_id="x")
        assert system.snapshot("a").data["done"] == (1,)
        assert system.snapshot("b").data["done"] == (2,)

    run(puppet, scenario)


@ASYNC
def test_the_ask_of_a_hook_with_an_id_of_its_own_is_applied_once_though_the_hook_runs_twice(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        replies = iter(range(10))
        scripts["next"] = lambda machine: next(replies)
        scripts["ask"] = lambda machine: system.ask("b", Do(script="next", n=7), event_id="x")
        for _ in range(2):
            assert await system.ask("a", Do(script="ask")) == 0
        assert system.snapshot("b").data["done"] == (7,)
        assert await system.ask("b", Do(script="next", n=7), event_id="x") == 0  # it is the id that was given
        assert system.stats().duplicates == 2

    run(puppet, scenario)


@ALL
def test_a_duplicate_is_marked_in_its_outcome(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        seen: list[Any] = []
        first = await system.tell("a", Do(n=1), event_id="x", callback=seen.append).outcome()
        await system.ask("a", Do(n=2))
        again = await system.tell("a", Do(n=1), event_id="x", callback=seen.append).outcome()
        assert (first.duplicate, again.duplicate) == (False, True)
        assert again.model_copy(update={"duplicate": False, "seq": first.seq}) == first
        assert (again.old, again.new, again.event_id, again.success) == (S.RED, S.BLUE, "x", True)
        await asyncio.sleep(0.1)
        assert seen == [first, again]

    run(puppet, scenario)


@ASYNC
@pytest.mark.parametrize("style", ["ask", "tell"])
def test_the_same_id_joins_the_one_in_flight(puppet: Any, style: str, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        scripts["slow"] = slow
        event = Do(script="slow", n=1)
        first = asyncio.create_task(system.ask("a", event, event_id="x"))
        await asyncio.sleep(1)
        if style == "ask":
            assert (
                await asyncio.gather(*(system.ask("a", event, event_id="x") for _ in range(3)))
                == ["reply 1"] * 3
            )
        else:
            receipts = [system.tell("a", event, event_id="x") for _ in range(3)]
            for receipt in receipts:
                await receipt.accepted()
            assert asyncio.get_running_loop().time() == 1  # accepted at once
            assert system.stats().queued == 3
            assert system.stats().balance == 0
            outcomes = [await receipt for receipt in receipts]
            assert [(o.reply, o.duplicate) for o in outcomes] == [("reply 1", True)] * 3
        assert asyncio.get_running_loop().time() == 5
        assert await first == "reply 1"
        assert system.snapshot("a").data["done"] == (1,)
        assert system.stats().duplicates == 3

    run(puppet, scenario)


@ALL
def test_the_same_id_joins_the_one_that_is_postponed(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        await system.ask("a", Hold())
        asks = [asyncio.create_task(system.ask("a", Do(n=1), event_id="x")) for _ in range(3)]
        await asyncio.sleep(1)
        assert (system.stats().postponed, system.stats().queued) == (1, 2)
        await system.ask("a", LetGo())
        assert await asyncio.gather(*asks) == [None] * 3
        assert system.snapshot("a").data["done"] == (1,)

    run(puppet, scenario)


@ASYNC
def test_a_duplicate_whose_asker_gave_up_takes_nothing_from_the_others(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        scripts["slow"] = slow
        event = Do(script="slow", n=1)
        asks = [asyncio.create_task(system.ask("a", event, event_id="x")) for _ in range(3)]
        await asyncio.sleep(1)
        asks[0].cancel()
        assert await asyncio.gather(*asks[1:]) == ["reply 1"] * 2
        assert system.snapshot("a").data["done"] == (1,)
        assert system.stats().late_replies == 1

    run(puppet, scenario)


@ALL
@pytest.mark.parametrize("other", [Do(n=2), Never()], ids=["other content", "other class"])
@pytest.mark.parametrize("when", ["settled", "postponed"])
def test_the_same_id_with_other_content_is_a_conflict(
    puppet: Any, other: Any, when: str, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        if when == "postponed":
            await system.ask("a", Hold())
        receipt = system.tell("a", Do(n=1), event_id="x")
        await asyncio.sleep(0.1)
        with pytest.raises(EventIdConflict) as caught:
            await system.ask("a", other, event_id="x")
        assert (caught.value.machine_id, caught.value.event) == ("a", other)
        refused = system.tell("a", other, event_id="x")
        with pytest.raises(EventIdConflict):
            await refused.accepted()
        with pytest.raises(EventIdConflict):
            await refused.outcome()
        assert system.stats().refused == 2
        await system.ask("a", LetGo()) if when == "postponed" else None
        assert (await receipt).kind == "committed"
        assert await system.ask("a", Do(n=1), event_id="x") is None  # the first one is still known
        assert system.snapshot("a").data["done"] == (1,)
        await system.ask("b", Do())

    run(puppet, scenario)


@ALL
def test_an_id_that_was_vetoed_failed_or_unhandled_tries_again(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        answers = iter([Vetoed, HookFailed, None])
        seen: list[Any] = []

        def enter(machine: Any) -> Any:
            answer = next(answers)
            seen.append(answer)
            if answer is HookFailed:
                raise ValueError("broken")
            return answer is None

        scripts["try", "enter"] = enter
        for error in (Vetoed, HookFailed):
            with pytest.raises(error):
                await system.ask("a", Do(script="try", n=1), event_id="x")
        for _ in range(2):
            assert await system.ask("a", Do(script="try", n=1), event_id="x") is None
        assert seen == [Vetoed, HookFailed, None]
        assert system.snapshot("a").data["done"] == (1,)
        await system.ask("b", Hold())
        for _ in range(2):
            with pytest.raises(Unhandled):
                await system.ask("b", Never(), event_id="y")
        assert system.stats().outcomes["unhandled"] == 2
        assert system.stats().duplicates == 1

    run(puppet, scenario)


@ASYNC
def test_duplicates_in_flight_share_a_refusal_too(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        async def no(machine: Any) -> bool:
            calls.append(1)
            await asyncio.sleep(1)
            return False

        calls: list[int] = []
        scripts["no", "enter"] = no
        asks = [system.ask("a", Do(script="no"), event_id="x") for _ in range(3)]
        ends = await asyncio.gather(*asks, return_exceptions=True)
        assert [type(end) for end in ends] == [Vetoed] * 3
        assert calls == [1]
        assert system.stats().outcomes["vetoed"] == 3
        await system.ask("b", Do())

    run(puppet, scenario)


@ASYNC
def test_an_id_that_expired_or_was_stopped_is_not_remembered(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        await system.ask("a", Hold())
        with pytest.raises(Expired):
            await system.ask("a", Do(n=1), event_id="x", timeout=1)
        await system.ask("a", LetGo())
        await system.ask("a", Do(n=1), event_id="x")
        assert system.snapshot("a").data["done"] == (1,)
        await system.ask("b", Hold())
        asks = [asyncio.create_task(system.ask("b", Do(n=1), event_id="y")) for _ in range(2)]
        await asyncio.sleep(0.1)
        await system.stop("b")
        ends = await asyncio.gather(*asks, return_exceptions=True)
        assert [type(end) for end in ends] == [MachineStopped] * 2
        await system.spawn(puppet, "b")
        await system.ask("b", Do(n=1), event_id="y")  # a new machine, which knows nothing
        assert system.snapshot("b").data["done"] == (1,)

    run(puppet, scenario)


@ASYNC
def test_an_id_refused_by_a_full_mailbox_is_not_remembered(puppet: Any, run: Callable[..., None]) -> None:
    class Small(puppet, mailbox=MailboxPolicy(capacity=1)): ...

    async def scenario(system: Any, scripts: Any) -> None:
        scripts["slow"] = slow
        await system.ask("a", Do())
        asyncio.create_task(system.ask("a", Do(script="slow"))).add_done_callback(
            lambda task: task.exception()
        )
        await asyncio.sleep(0.1)
        system.tell("a", Do(n=1))
        with pytest.raises(MailboxFull):
            await system.ask("a", Do(n=2), event_id="x")
        with pytest.raises(MailboxFull):
            await system.tell("a", Do(n=3), event_id="y")
        await asyncio.sleep(6)
        await system.ask("a", Do(n=20), event_id="x")  # other content: nobody remembers the first
        await system.ask("a", Do(n=30), event_id="y")
        assert system.snapshot("a").data["done"] == (0, 0, 1, 20, 30)

    run(Small, scenario)


@ASYNC
@pytest.mark.rule("C11")
def test_an_id_turned_away_while_it_waited_outside_is_not_remembered(
    puppet: Any, run: Callable[..., None]
) -> None:
    class Waiting(puppet, mailbox=MailboxPolicy(capacity=1, overflow=Overflow.WAIT, wait_timeout_s=1)): ...

    async def scenario(system: Any, scripts: Any) -> None:
        scripts["slow"] = slow
        await system.ask("a", Do())
        system.tell("a", Do(script="slow"))
        await asyncio.sleep(0.1)
        system.tell("a", Do(n=1))
        first = asyncio.create_task(system.ask("a", Do(n=2), event_id="x", timeout=1))
        await asyncio.sleep(0.1)
        with pytest.raises(Expired):
            await system.ask("a", Do(n=2), event_id="x")
        with pytest.raises(Expired):
            await first
        receipts = [system.tell("a", Do(n=3), event_id="y") for _ in range(2)]
        with pytest.raises(MailboxFull):
            await receipts[0]
        assert (await receipts[1]).error.type == "MailboxFull"
        await asyncio.sleep(6)
        await system.ask("a", Do(n=20), event_id="x")
        await system.ask("a", Do(n=30), event_id="y")
        assert system.snapshot("a").data["done"] == (0, 0, 1, 20, 30)
        assert system.stats().balance == 0

    run(Waiting, scenario)


@ALL
@pytest.mark.rule("C11")
def test_a_machine_remembers_so_many_ids_and_no_more(puppet: Any, run: Callable[..., None]) -> None:
    class Forgetful(puppet, remembered_ids=3): ...

    async def scenario(system: Any, scripts: Any) -> None:
        for n in range(5):
            await system.ask("a", Do(n=n), event_id=f"id-{n}")
        known = system._parts.registry.actors["a"].rare.ids
        assert list(known) == ["id-2", "id-3", "id-4"]
        await system.ask("a", Do(n=3), event_id="id-3")
        await system.ask("a", Do(n=0), event_id="id-0")  # forgotten: done again
        assert system.snapshot("a").data["done"] == (0, 1, 2, 3, 4, 0)
        assert list(known) == ["id-3", "id-4", "id-0"]

    run(Forgetful, scenario)


@ALL
@pytest.mark.rule("C11")
def test_ids_in_flight_are_never_forgotten_and_later_give_their_room_back(
    puppet: Any, run: Callable[..., None]
) -> None:
    class Forgetful(puppet, remembered_ids=3): ...

    async def scenario(system: Any, scripts: Any) -> None:
        await system.ask("a", Hold())
        asks = [asyncio.create_task(system.ask("a", Do(n=n), event_id=f"id-{n}")) for n in range(10)]
        await asyncio.sleep(0.1)
        twin = asyncio.create_task(system.ask("a", Do(n=0), event_id="id-0"))
        await asyncio.sleep(0.1)
        assert len(system._parts.registry.actors["a"].rare.ids) == 10
        await system.ask("a", LetGo())
        await asyncio.gather(twin, *asks)
        assert sorted(system.snapshot("a").data["done"]) == list(range(10))
        await system.ask("a", Do(n=10), event_id="id-10")
        assert len(system._parts.registry.actors["a"].rare.ids) == 3

    run(Forgetful, scenario)


@ALL
def test_an_event_without_an_id_is_not_remembered(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        await system.ask("a", Do(n=1))
        await system.tell("a", Do(n=2))
        rare = system._parts.registry.actors["a"].rare
        assert rare is None or not rare.ids

    run(puppet, scenario)


@ASYNC
def test_an_ask_of_a_machine_is_applied_once_however_often_its_turn_is_repeated(
    puppet: Any, run: Callable[..., None]
) -> None:
    """The id of a nested ask comes from the event's own: a retry of the outer event finds the recorded reply."""

    async def scenario(system: Any, scripts: Any) -> None:
        async def pay(machine: Any) -> Any:
            reply = await machine.ask("b", Do(n=7))
            if next(attempts) == 0:
                raise ValueError("after the ask")
            return reply

        attempts = iter(range(9))
        scripts["pay"] = pay
        with pytest.raises(HookFailed):
            await system.ask("a", Do(script="pay"), event_id="x")
        assert await system.ask("a", Do(script="pay"), event_id="x") is None
        assert system.snapshot("b").data["done"] == (7,)
        assert system.stats().duplicates == 1

    run(puppet, scenario)


@ALL
@pytest.mark.parametrize("when", ["settled", "postponed"])
def test_a_machine_that_sends_a_message_twice_with_one_id_has_it_applied_once(
    puppet: Any, when: str, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        receipts: list[Any] = []

        def send(machine: Any) -> None:
            receipts.extend(machine.tell("b", Do(n=n), event_id="x") for n in (1, 1, 2))

        scripts["send"] = send
        if when == "postponed":
            await system.ask("b", Hold())
        await system.ask("a", Do(script="send"))
        await asyncio.sleep(0.1)
        assert (system.stats().outgoing, system.stats().balance) == (0, 0)
        if when == "postponed":
            assert (system.stats().postponed, system.stats().queued) == (1, 1)
            await system.ask("b", LetGo())
        assert [(await receipt).duplicate for receipt in receipts[:2]] == [False, True]
        with pytest.raises(EventIdConflict):
            await receipts[2]
        assert [letter.event for letter in system.dead_letters] == [Do(n=2)]
        assert system.snapshot("b").data["done"] == (1,)

    run(puppet, scenario)


@ALL
def test_a_machine_that_is_final_still_answers_from_the_record(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        scripts["reply"] = lambda machine: "paid"
        assert await system.ask("a", Do(script="reply"), event_id="x") == "paid"
        await system.ask("a", Finish())
        assert await system.ask("a", Do(script="reply"), event_id="x") == "paid"
        with pytest.raises(Unhandled):
            await system.ask("a", Do(script="reply"), event_id="y")

    run(puppet, scenario)


# -- mutable events and replies --------------------------------------------------------------------------------------


class Shelf(StrEnum):
    OPEN = auto()


class Line(BaseModel):
    name: str


class Put(Event[list[Line]]):
    lines: list[Line]


class Library(Machine[Shelf], initial=Shelf.OPEN):
    lines: list[Line] = []

    @transition(Shelf.OPEN, to=STAY)
    async def put(self, event: Put) -> list[Line]:
        self.lines.extend(event.lines)
        await asyncio.sleep(1)
        event.lines.append(Line(name="scribbled by the hook"))
        return self.lines


@pytest.mark.rule("C10")
def test_what_the_first_asker_does_to_its_reply_does_not_reach_the_next(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        event = Put(lines=[Line(name="one")])
        first, twin = await asyncio.gather(*(system.ask("a", event, event_id="x") for _ in range(2)))
        assert first is not twin
        first.append("scribbled by the asker")
        first[0].name = "changed by the asker"
        assert twin == [Line(name="one")]
        twin.clear()
        again = await system.ask("a", Put(lines=[Line(name="one")]), event_id="x")
        assert again == [Line(name="one")]
        again.clear()
        outcome = await system.tell("a", Put(lines=[Line(name="one")]), event_id="x")
        assert outcome.reply == [Line(name="one")]
        outcome.reply.clear()
        assert await system.ask("a", Put(lines=[Line(name="one")]), event_id="x") == [Line(name="one")]
        assert system.snapshot("a").data["lines"] == [Line(name="one")]

    run(Library, scenario)


@pytest.mark.rule("C10")
def test_what_a_hook_does_to_its_event_does_not_make_the_senders_retry_a_conflict(
    run: Callable[..., None],
) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        event = Put(lines=[Line(name="one")])
        first = asyncio.create_task(system.ask("a", event, event_id="x"))
        await asyncio.sleep(1.5)
        event.lines.append(Line(name="scribbled by the sender, after the fact"))
        assert await first == [Line(name="one")]
        with pytest.raises(EventIdConflict):
            await system.ask("a", event, event_id="x")
        assert await system.ask("a", Put(lines=[Line(name="one")]), event_id="x") == [Line(name="one")]

    run(Library, scenario)


# -- spawn -----------------------------------------------------------------------------------------------------------


@ALL
def test_a_spawn_with_the_same_id_is_done_once(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        refs = await asyncio.gather(*(system.spawn(puppet, "new", event_id="x") for _ in range(3)))
        assert [ref.id for ref in refs] == ["new"] * 3
        assert (await system.spawn(puppet, "new", event_id="x")).snapshot().seq == 1
        for event_id in (None, "y"):
            with pytest.raises(MachineExists):
                await system.spawn(puppet, "new", event_id=event_id)

    run(puppet, scenario)


def test_a_spawn_with_the_same_id_and_another_class_is_refused(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with system_of(Eager, Library) as system:
            await system.spawn(Eager, "new", event_id="x")
            with pytest.raises(MachineExists):
                await system.spawn(Library, "new", event_id="x")

    sim(scenario)


def test_a_spawn_with_the_same_id_and_other_data_is_a_conflict(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with system_of(Eager) as system:
            await system.spawn(Eager, "new", event_id="x", data={"done": (1,)})
            await system.spawn(Eager, "new", event_id="x", data={"done": (1,)})
            with pytest.raises(EventIdConflict):
                await system.spawn(Eager, "new", event_id="x", data={"done": (2,)})
            with pytest.raises(EventIdConflict):
                await system.spawn(Eager, "new", event_id="x")
            assert system.snapshot("new").data == {"done": (1,)}

    sim(scenario)
