"""C21, C23, C24 with a journal: what was answered is there in the next life of the system, and is done once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actorfsm import (
    Directive,
    EventIdConflict,
    HookFailed,
    MachineExists,
    NoSuchMachine,
    Quarantined,
    RestartPolicy,
    Unhandled,
)
from tests.contract.durable import (
    End,
    Fail,
    Forget,
    Lives,
    Note,
    Order,
    Pay,
    Raise,
    Remind,
    S,
    Send,
    Ship,
    Watch,
    hold,
    lives_on_every_journal,
)

__all__ = ["lives_on_every_journal"]
SEEDS = range(2)
LivesOf = Callable[[], Lives]


class Strict(
    Order,
    initial=S.OPEN,
    final=(S.SHIPPED,),
    on_failure={ValueError: Directive.RESTART},
    restart=RestartPolicy(max_restarts=1, within_s=1000),
):
    """Is restarted once, then held."""


async def _notes(system: Any, machine_id: str) -> tuple[str, ...]:
    """Return the notes of a machine; what waits for it comes first."""
    await system.ask(machine_id, Note(text="."))
    notes: tuple[str, ...] = system.snapshot(machine_id).data["notes"]
    return notes


@pytest.mark.rule("C23")
def test_what_was_answered_is_there_after_a_restart_and_no_hook_runs_again(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives, ran = lives_of(), []
        async with lives.begin(services=ran) as system:
            order = await system.spawn(Order, "o")
            assert await order.ask(Pay(amount=5)) == 5
        assert ran == ["o PAID"]
        async with lives.begin(services=ran) as system:
            order = system.ref(Order, "o")
            assert await order.ask(Pay(amount=2)) == 7
            snapshot = order.snapshot()
            assert (snapshot.state, snapshot.data["paid"], snapshot.seq) == (S.PAID, 7, 3)
        assert ran == ["o PAID"]

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
def test_events_that_come_while_a_machine_is_loaded_wait_behind_it_in_order(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin() as system:
            await system.spawn(Order, "o")
        async with lives.begin() as system:
            receipts = [system.tell("o", Note(text=str(n))) for n in range(20)]
            assert await _notes(system, "o") == (*map(str, range(20)), ".")
            assert {(await receipt).kind for receipt in receipts} == {"committed"}

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
def test_an_id_is_known_after_a_restart_and_one_that_never_was_is_not(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin() as system:
            await system.spawn(Order, "o", data={"paid": 3})
        async with lives.begin() as system:
            with pytest.raises(MachineExists):
                await system.spawn(Order, "o")
            assert (await system.get_or_spawn(Order, "o")).snapshot().data["paid"] == 3
            with pytest.raises(NoSuchMachine):
                await system.ask("nobody", Pay(amount=1))
            with pytest.raises(NoSuchMachine):
                await system.tell("nobody", Pay(amount=1)).accepted()
            assert [letter.machine_id for letter in system.dead_letters] == ["nobody"]

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C24")
def test_an_event_id_is_applied_once_across_a_restart_and_gets_the_recorded_reply(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin() as system:
            order = await system.spawn(Order, "o", event_id="birth")
            assert await order.ask(Pay(amount=5), event_id="pay-1") == 5
            assert await order.ask(Pay(amount=5), event_id="pay-2") == 10
        for _ in range(2):
            async with lives.begin() as system:
                await system.spawn(Order, "o", event_id="birth")
                assert await system.ask("o", Pay(amount=5), event_id="pay-1") == 5
                outcome = await system.tell("o", Pay(amount=5), event_id="pay-2")
                assert (outcome.reply, outcome.duplicate, outcome.new, outcome.seq) == (10, True, S.PAID, 3)
                with pytest.raises(EventIdConflict):
                    await system.ask("o", Pay(amount=6), event_id="pay-1")
                with pytest.raises(EventIdConflict):
                    await system.ask("o", Ship(), event_id="pay-1")
                assert system.snapshot("o").data["paid"] == 10

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C24")
def test_an_event_id_that_was_refused_may_try_again_after_a_restart(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin() as system:
            order = await system.spawn(Order, "o")
            with pytest.raises(Exception, match="it fails"):
                await order.ask(Fail(), event_id="again")
        async with lives.begin() as system:
            with pytest.raises(Exception, match="it fails"):
                await system.ask("o", Fail(), event_id="again")

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C24")
def test_an_event_id_of_a_machine_that_stopped_gets_its_reply(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin() as system:
            order = await system.spawn(Order, "o")
            await order.ask(End(), event_id="end")
        async with lives.begin() as system:
            await system.ask("o", End(), event_id="end")
            with pytest.raises(NoSuchMachine):
                await system.ask("o", End(), event_id="another")
            order = await system.spawn(Order, "o")  # another machine with the same id
            assert await order.ask(Pay(amount=1)) == 1
        async with lives.begin() as system:
            assert await system.ask("o", Pay(amount=1)) == 2

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C24")
def test_a_message_that_a_commit_has_sent_is_delivered_in_the_next_life_once(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin() as system:
            sender, _ = await system.spawn(Order, "a"), await system.spawn(Order, "b")
            hold(system, "b")
            for n in range(3):
                await sender.ask(Send(to="b", text=str(n)))
            await system.shutdown(queues="abandon")
        async with lives.begin() as system:
            assert await _notes(system, "b") == ("0", "1", "2", ".")
        async with lives.begin() as system:
            assert await _notes(system, "b") == ("0", "1", "2", ".", ".")

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C24")
def test_a_message_for_nobody_is_a_dead_letter_and_not_delivered_again(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin() as system:
            sender = await system.spawn(Order, "a")
            await sender.ask(Send(to="nobody", text="x"))
            await system.clock.advance(1)
            assert [letter.machine_id for letter in system.dead_letters] == ["nobody"]
        async with lives.begin() as system:
            await system.clock.advance(1)
            assert system.dead_letters == ()
            [letter] = await system._journal.dead_letters()
            assert letter.machine_id == "nobody"

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C5")
def test_own_events_that_were_raised_come_first_in_the_next_life(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin() as system:
            await system.spawn(Order, "o")
            system.tell("o", Raise(texts=("1", "2")))
            system.tell("o", Note(text="lost with its sender"))
            while system.snapshot("o").seq < 2:  # noqa: ASYNC110 -- as soon as the first is committed
                await asyncio.sleep(0)
            await system.shutdown(queues="abandon")
        async with lives.begin() as system:
            notes = await _notes(
                system, "o"
            )  # the other one, if its turn came before the end, is behind them
            assert notes in {("1", "2", "."), ("1", "2", "lost with its sender", ".")}

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C6")
def test_postponed_events_survive_and_are_tried_after_the_next_change_of_state(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin() as system:
            await system.spawn(Order, "o")
            system.tell("o", Ship(), event_id="ship")
            await system.clock.advance(1)
            assert system.stats().postponed == 1
        async with lives.begin() as system:
            await _notes(system, "o")
            assert system.stats().postponed == 1
            repeated = system.tell("o", Ship(), event_id="ship")
            await system.ask("o", Pay(amount=1))
            assert (await repeated).reply == "parcel of o"
            assert system.snapshot("o").state is S.SHIPPED
        async with lives.begin() as system:
            assert await system.ask("o", Ship(), event_id="ship") == "parcel of o"
            with pytest.raises(Unhandled):
                await system.ask("o", Ship())

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C21")
def test_an_overdue_timer_fires_once_and_promptly_after_recovery(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin() as system:
            await (await system.spawn(Order, "paid")).ask(Pay(amount=1))
            order = await system.spawn(Order, "open")
            for name, after in (("late", 20.0), ("soon", 10.0), ("never", 10.0), ("tomorrow", 86_400.0)):
                await order.ask(Remind(after=after, name=name))
            await order.ask(Forget(name="never"))
        await asyncio.sleep(7200)
        async with lives.begin() as system:
            await system.clock.advance(1)
            assert system.snapshot("paid").state is S.LATE
            assert system.snapshot("open").data["notes"] == ("soon", "late")
        async with lives.begin() as system:
            await system.clock.advance(86_400)
            assert system.snapshot("open").data["notes"] == ("soon", "late", "tomorrow")

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C21")
def test_a_timer_that_is_not_due_keeps_its_time_and_is_never_early(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin() as system:
            await (await system.spawn(Order, "paid")).ask(Pay(amount=1))
        await asyncio.sleep(1800)
        async with lives.begin() as system:
            assert await system.ask("paid", Pay(amount=1)) == 2  # it is in memory when the timer falls due
            await system.clock.advance(1799)
            assert system.snapshot("paid").state is S.PAID
            await system.clock.advance(2)
            assert system.snapshot("paid").state is S.LATE
        async with lives.begin() as system:
            assert await system.ask("paid", Pay(amount=1)) == 3

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C18")
def test_a_watch_survives_and_brings_one_notice(sim: Callable[..., None], lives_of: LivesOf) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin() as system:
            watcher, _ = await system.spawn(Order, "w"), await system.spawn(Order, "o")
            await watcher.ask(Watch(who="o"))
        async with lives.begin() as system:
            assert await _notes(system, "w") == (".",)
            await system.clock.advance(1)
            await system.stop("o")
            await system.clock.advance(1)
            assert await _notes(system, "w") == (".", "o stopped", ".")
        async with lives.begin() as system:
            await _notes(system, "w")
            await system.clock.advance(1)
            assert (await _notes(system, "w")).count("o stopped") == 1

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C15")
@pytest.mark.rule("C17")
def test_restarts_and_a_quarantine_survive_until_the_release(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin(Strict) as system:
            await system.spawn(Strict, "o")
            for _ in range(2):
                with pytest.raises(HookFailed):
                    await system.ask("o", Fail())
                await system.clock.advance(60)
            assert system.quarantined() == ["o"]
        async with lives.begin(Strict) as system:
            await system.clock.advance(1)
            assert system.quarantined() == ["o"]
            with pytest.raises(Quarantined):
                await system.ask("o", Note(text="x"))
            system.release("o")
            await system.ask("o", Note(text="x"))
            assert system.snapshot("o").incarnation == 2
        async with lives.begin(Strict) as system:
            assert await _notes(system, "o") == ("x", ".")

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
def test_many_who_want_a_machine_that_is_not_there_get_the_same_one(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin(Order, Strict) as system:
            refs = await asyncio.gather(*(system.get_or_spawn(Order, "o") for _ in range(5)))
            assert {ref.id for ref in refs} == {"o"}
            with pytest.raises(MachineExists):
                await system.get_or_spawn(Strict, "o")
            assert system.snapshot("o").seq == 1

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C18")
def test_who_watches_twice_what_is_not_there_is_told_once(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        async with lives_of().begin() as system:
            await system.spawn(Order, "o")
            for _ in range(2):
                system.tell("o", Watch(who="nobody"))
            await system.clock.advance(1)
            assert await _notes(system, "o") == ("nobody unknown", ".")

    sim(scenario, seeds=range(4))
