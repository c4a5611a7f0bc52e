"""A hook's rows, the new state and the journal's entry are stored together, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum, auto
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from actorfsm import (
    Directive,
    HookFailed,
    Limits,
    Veto,
    Vetoed,
)
from actorfsm.event import Event, StateTimeout
from actorfsm.machine.decorators import on_timeout, transition
from actorfsm.machine.machine import Machine
from tests.integrations.shop_database import PLACES, Shop, shop
from tests.integrations.shop_rows import (
    Account,
    Box,
    Counter,
    Deposit,
    Line,
    Look,
    Note,
    Order,
    OrderState,
    Pay,
    Receipt,
    Row,
    Step,
)

__all__ = ["shop"]


def test_rows_state_and_entry_are_there_together_once_the_event_is_answered(shop: Shop) -> None:
    async def scenario() -> None:
        async with shop.opened(), shop.system() as system:
            await system.spawn(Box, "evidence")
            order = await system.spawn(Order, "order-1")

            async def look(_machine: Any, _session: Any) -> None:
                assert shop.rows() == []  # nobody else sees it before the commit
                assert shop.stored_state() == ["CREATED 1"]

            async def look_again(_machine: Any, _session: Any) -> None:
                assert shop.rows() == list(PLACES)
                assert shop.stored_state() == ["PAID 2"]

            shop.services.do = {"enter": look, "after": look_again}
            assert await order.ask(Pay(amount=7)) == Receipt(number=7)
            assert shop.services.seen == [*PLACES, "after"]
            assert system.stats().after_hooks_failed == 0
            assert shop.rows() == list(PLACES)
            evidence = system.ref(Box, "evidence")
            assert await evidence.ask(Deposit()) == Receipt(number=1)
        async with shop.system() as system:
            await system.load("order-1")
            assert system.snapshot("order-1").state is OrderState.PAID

    asyncio.run(scenario())


async def veto(_machine: Any, _session: Any) -> Any:
    raise Veto("no")


async def fail(_machine: Any, _session: Any) -> None:
    raise LookupError("gone")


async def hang(_machine: Any, _session: Any) -> None:
    await asyncio.Event().wait()


async def hang_in_the_database(_machine: Any, session: Any) -> None:
    await session.execute(text("SELECT pg_sleep(60)"))


async def cancel(_machine: Any, _session: Any) -> None:
    raise asyncio.CancelledError


@pytest.mark.rule("C2")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (veto, Vetoed),
        (fail, HookFailed),
        (hang, HookFailed),
        (hang_in_the_database, HookFailed),
        (cancel, HookFailed),
    ],
)
def test_what_a_hook_refuses_leaves_no_row_no_entry_and_no_message(
    how: Callable[..., Awaitable[Any]], expected: type[Exception], place: str, shop: Shop
) -> None:
    async def scenario() -> None:
        async with shop.opened(), shop.system() as system:
            box = await system.spawn(Box, "evidence")
            order = await system.spawn(Order, "order-1")
            shop.services.do[place] = how
            if how is veto and place == "body":
                shop.services.do[place] = fail  # the body vetoes as it fails: by raising
            with pytest.raises((expected, HookFailed) if place == "body" else expected):
                await order.ask(Pay(), event_id="payment-1")
            assert shop.engine.pool.checkedout() == 0, "it is rolled back before anybody is told"  # type: ignore[attr-defined]
            assert shop.rows() == []
            assert shop.stored_state() == ["CREATED 1"]
            assert await box.ask(Deposit()) == Receipt(number=0)
            assert order.snapshot().state is OrderState.CREATED
            del shop.services.do[place]
            assert await order.ask(Pay(), event_id="payment-1") == Receipt(number=1)
            assert shop.rows() == list(PLACES)

    asyncio.run(scenario())


@pytest.mark.rule("C24")
def test_an_event_that_comes_again_writes_its_rows_once(shop: Shop) -> None:
    async def scenario() -> None:
        async with shop.opened():
            for _ in range(2):
                async with shop.system() as system:
                    await system.get_or_spawn(Box, "evidence")
                    order = await system.get_or_spawn(Order, "order-1")
                    for _ in range(2):
                        assert await order.ask(Pay(), event_id="payment-1") == Receipt(number=1)
            assert shop.rows() == list(PLACES)

    asyncio.run(scenario())


def test_a_session_that_is_not_used_asks_the_database_nothing_and_events_without_one_are_as_before(
    shop: Shop,
) -> None:
    async def scenario() -> None:
        async with shop.opened(), shop.system() as system:
            order = await system.spawn(Order, "order-1")
            box = await system.spawn(Box, "evidence")
            await order.ask(Note())
            await order.ask(Look())
            await box.ask(Deposit())
            assert shop.engine.pool.checkedin() == 0, "no connection was made"  # type: ignore[attr-defined]
            assert shop.stored_state() == ["CREATED 3"]

    asyncio.run(scenario())


def test_a_birth_and_a_timeout_write_rows_too(shop: Shop) -> None:
    class Born(Event):
        pass

    class Stage(StrEnum):
        ISSUED = auto()
        LATE = auto()

    class Invoice(Machine[Stage, Any], final=(Stage.LATE,)):
        @transition(to=Stage.ISSUED)
        async def issue(self, event: Born, *, session: AsyncSession) -> None:
            session.add(Row(machine_id=self.id, place="issue"))
            if self.id == "invoice-2":
                raise LookupError(self.id)

        @on_timeout(Stage.ISSUED, after=0.05, to=Stage.LATE)
        async def remind(self, event: StateTimeout, *, session: AsyncSession) -> None:
            session.add(Row(machine_id=self.id, place="remind"))

    async def scenario() -> None:
        async with shop.opened(), shop.system(Invoice) as system:
            await system.ask("invoice-1", Born())
            with pytest.raises(HookFailed):
                await system.ask("invoice-2", Born())
            await system.watch("invoice-1")
            assert (shop.rows("invoice-1"), shop.rows("invoice-2")) == (["issue", "remind"], [])
            assert shop.stored_state("invoice-1") == ["LATE 2"]
            assert shop.stored_state("invoice-2") == []

    asyncio.run(scenario())


# -- what the database refuses ----------------------------------------------------------------------------------------


def test_rows_that_the_database_refuses_are_a_failure_of_their_hook(shop: Shop) -> None:
    async def twice(_machine: Any, session: Any) -> None:
        session.add_all([Account(name="a", balance=1), Account(name="a", balance=2)])

    async def scenario() -> None:
        async with shop.opened(), shop.system() as system:
            order = await system.spawn(Order, "order-1")
            shop.services.do["exit"] = twice
            with pytest.raises(HookFailed) as failed:
                await order.ask(Pay())
            assert failed.value.hook == "leave"
            assert isinstance(failed.value.__cause__, IntegrityError)
            assert (shop.rows(), shop.stored_state()) == ([], ["CREATED 1"])

    asyncio.run(scenario())


def test_rows_that_the_database_refuses_at_the_commit_are_a_failure_too_and_follow_its_directive(
    shop: Shop,
) -> None:
    class Strict(Order, on_failure={IntegrityError: Directive.STOP}):
        pass

    async def to_nobody(_machine: Any, session: Any) -> None:
        session.add(Line(account="nobody"))

    async def scenario() -> None:
        async with shop.opened(), shop.system(Order, Strict) as system:
            order = await system.spawn(Order, "order-1")
            strict = await system.spawn(Strict, "order-2")
            shop.services.do["body"] = to_nobody
            for ref in (order, strict):
                with pytest.raises(HookFailed) as failed:
                    await ref.ask(Pay())
                assert failed.value.hook == "commit"
                assert isinstance(failed.value.__cause__, IntegrityError)
            assert (shop.rows(), shop.stored_state()) == ([], ["CREATED 1"])
            assert order.snapshot().state is OrderState.CREATED
            assert list(system.ids(Strict)) == []

    asyncio.run(scenario())


def test_of_two_turns_that_wait_for_each_others_rows_one_fails_and_the_other_commits(shop: Shop) -> None:
    async def scenario() -> None:
        async with shop.opened(), shop.system(Order, Box) as system:
            shop.server.do("INSERT INTO shop_accounts VALUES ('a', 0), ('b', 0)")
            shop.server.do("ALTER DATABASE postgres SET deadlock_timeout = '20ms'")
            both = asyncio.Barrier(2)

            async def move(machine: Any, session: Any) -> None:
                names = ("a", "b") if machine.id == "order-1" else ("b", "a")
                add = "UPDATE shop_accounts SET balance = balance + 1 WHERE name = :name"
                await session.execute(text(add), {"name": names[0]})
                await both.wait()
                await session.execute(text(add), {"name": names[1]})

            shop.services.do["body"] = move
            await system.spawn(Box, "evidence")
            orders = [await system.spawn(Order, name) for name in ("order-1", "order-2")]
            answers = await asyncio.gather(*(order.ask(Pay()) for order in orders), return_exceptions=True)
            shop.server.do("ALTER DATABASE postgres RESET deadlock_timeout")
            [failure] = [answer for answer in answers if isinstance(answer, BaseException)]
            assert isinstance(failure, HookFailed)
            assert isinstance(failure.__cause__, DBAPIError)
            assert getattr(failure.__cause__.orig, "sqlstate", None) == "40P01"
            assert shop.server.do("SELECT balance FROM shop_accounts") == [(1,), (1,)]
            assert sorted([*shop.stored_state("order-1"), *shop.stored_state("order-2")]) == [
                "CREATED 1",
                "PAID 2",
            ]

    asyncio.run(scenario())


def test_an_event_that_the_database_refused_is_tried_again_by_its_redelivery(shop: Shop) -> None:
    attempts = 0

    async def not_at_first(_machine: Any, session: Any) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await session.execute(text("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"))

    async def scenario() -> None:
        async with shop.opened(), shop.system(Counter) as system:
            counter = await system.spawn(Counter, "counter-1")
            shop.services.do["step"] = not_at_first
            assert await counter.ask(Step(), timeout=30) == Receipt(number=1)
            assert attempts == 2
            assert shop.rows("counter-1") == ["step"]

    asyncio.run(scenario())


# -- whose transaction it is ------------------------------------------------------------------------------------------


async def commit(_machine: Any, session: Any) -> None:
    await session.commit()


async def roll_back(_machine: Any, session: Any) -> None:
    await session.rollback()


async def close(_machine: Any, session: Any) -> None:
    async with session:
        session.add(Row(machine_id="order-1", place="more"))


async def catch(_machine: Any, session: Any) -> None:
    session.add_all([Account(name="a", balance=1), Account(name="a", balance=2)])
    with pytest.raises(IntegrityError):
        await session.flush()


async def catch_of_a_statement(_machine: Any, session: Any) -> None:
    with pytest.raises(IntegrityError):
        await session.execute(insert(Account), [{"name": "a", "balance": 1}, {"name": "a", "balance": 2}])


async def commit_of_the_connection(_machine: Any, session: Any) -> None:
    await (await session.connection()).commit()


@pytest.mark.parametrize(
    "how", [commit, roll_back, close, catch, catch_of_a_statement, commit_of_the_connection]
)
def test_a_hook_can_end_neither_its_transaction_nor_lose_what_another_wrote(
    how: Callable[..., Awaitable[Any]], shop: Shop
) -> None:
    async def scenario() -> None:
        async with shop.opened(), shop.system() as system:
            order = await system.spawn(Order, "order-1")
            shop.services.do["exit"] = how
            with pytest.raises(HookFailed, match=r"begin_nested|rolled back"):
                await order.ask(Pay())
            assert (shop.rows(), shop.stored_state()) == ([], ["CREATED 1"])

    asyncio.run(scenario())


def test_a_part_that_may_fail_is_undone_alone_in_a_savepoint(shop: Shop) -> None:
    async def in_part(_machine: Any, session: Any) -> None:
        with pytest.raises(IntegrityError):
            async with session.begin_nested():
                session.add_all([Account(name="a", balance=1), Account(name="a", balance=2)])
        async with session.begin_nested():
            session.add(Account(name="b", balance=1))

    async def scenario() -> None:
        async with shop.opened(), shop.system() as system:
            await system.spawn(Box, "evidence")
            order = await system.spawn(Order, "order-1")
            shop.services.do["body"] = in_part
            await order.ask(Pay())
            assert shop.rows() == list(PLACES)
            assert shop.server.do("SELECT name FROM shop_accounts") == [("b",)]

    asyncio.run(scenario())


def test_a_session_that_a_hook_keeps_is_of_no_use_after_its_turn(shop: Shop) -> None:
    kept: list[AsyncSession] = []

    async def keep(_machine: Any, session: Any) -> None:
        kept.append(session)

    async def scenario() -> None:
        async with shop.opened(), shop.system() as system:
            await system.spawn(Box, "evidence")
            order = await system.spawn(Order, "order-1")
            shop.services.do["enter"] = keep
            await order.ask(Pay())
            with pytest.raises(Exception, match="was used after its turn"):
                await kept[0].execute(select(Row))
            await kept[0].close()

    asyncio.run(scenario())


@pytest.mark.rule("C13")
def test_a_hook_that_refuses_to_end_loses_its_transaction_and_the_machine_goes_on(shop: Shop) -> None:
    let_go = asyncio.Event()
    errors: list[BaseException] = []

    async def refuse_to_end(_machine: Any, session: Any) -> None:
        await session.flush()
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError as error:
                errors.append(error)
        try:
            await session.execute(text("SELECT 1"))
        except Exception as error:
            errors.append(error)
            raise

    async def scenario() -> None:
        limits = Limits(grace_s=0.2)
        async with shop.opened():
            async with shop.system(limits=limits) as system:
                await system.spawn(Box, "evidence")
                order = await system.spawn(Order, "order-1")
                shop.services.do["body"] = refuse_to_end
                with pytest.raises(HookFailed, match="did not end within"):
                    await order.ask(Pay())
                del shop.services.do["body"]
                await order.ask(Pay())
                assert shop.rows() == list(PLACES)
                let_go.set()
            assert not isinstance(errors[-1], asyncio.CancelledError)
            assert shop.rows() == list(PLACES)

    asyncio.run(scenario())
