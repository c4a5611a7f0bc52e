"""Money is Decimal, and Decimal arithmetic leaves a context variable behind: it may neither cost a worker nor leak."""

from __future__ import annotations

import decimal
from decimal import Decimal
from enum import StrEnum, auto
from typing import TYPE_CHECKING, Any

import pytest

from actorfsm import STAY, Event, Machine, transition

if TYPE_CHECKING:
    from collections.abc import Callable


class State(StrEnum):
    OPEN = auto()
    CLOSED = auto()


class Add(Event[Decimal]):
    amount: Decimal


class Blur(Event):
    pass


class Close(Event):
    pass


class Account(Machine[State], initial=State.OPEN, final=(State.CLOSED,)):
    balance: Decimal = Decimal(0)

    @transition(State.OPEN, to=STAY)
    def add(self, event: Add) -> Decimal:
        self.balance += event.amount
        assert not decimal.getcontext().flags[decimal.DivisionByZero]
        return self.balance

    @transition(State.OPEN, to=STAY)
    def blur(self, event: Blur) -> None:
        decimal.getcontext().prec = 2

    @transition(State.OPEN, to=State.CLOSED)
    def close(self, event: Close) -> None: ...


@pytest.mark.rule("C12")
def test_machines_that_compute_with_decimals_do_not_cost_a_worker_each(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with system_of(Account) as system:
            for number in range(40):
                await system.spawn(Account, f"a-{number}")
            workers = []
            start = system._parts.dispatcher._work

            def counting(worker: Any) -> Any:
                workers.append(worker)
                return start(worker)

            system._parts.dispatcher._work = counting
            receipts = [system.tell(f"a-{number}", Add(amount=Decimal("0.1"))) for number in range(40)]
            assert [(await receipt).reply for receipt in receipts] == [Decimal("0.1")] * 40
            assert len(workers) < 5  # Python 3.11 may start a second one

    sim(scenario)


@pytest.mark.rule("C13")
def test_a_hook_that_changes_the_decimal_context_is_not_felt_by_the_next_machine(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with system_of(Account) as system:
            for machine_id in ("a-1", "a-2"):
                await system.spawn(Account, machine_id)
            blurred = system.tell("a-1", Blur())
            told = [system.tell("a-2", Add(amount=Decimal("1.2345"))) for _ in range(2)]
            assert (await blurred).kind == "committed"
            assert [(await receipt).reply for receipt in told] == [Decimal("1.2345"), Decimal("2.4690")]
            await system.ask("a-1", Blur())
            assert await system.ask("a-2", Add(amount=Decimal(0))) == Decimal("2.4690")

    sim(scenario)
