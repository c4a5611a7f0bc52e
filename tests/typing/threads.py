"""Calls from threads as type checkers see them. Nothing here runs: mypy and pyright read it."""

from concurrent.futures import Future
from decimal import Decimal
from typing import Any, assert_type

import actorfsm
from actorfsm import ActorSystem, Outcome, Snapshot, Stats, ThreadsafeRef
from tests.typing.first_screen import Order, Pay, Receipt, Refund, Ship


def calls(system: ActorSystem[None]) -> None:
    threads = system.threadsafe
    assert_type(threads.ask("order-42", Pay(amount=Decimal(1))), Future[Receipt])
    assert_type(threads.ask("order-42", Ship(carrier="DHL")), Future[None])
    assert_type(threads.tell("order-42", Ship(carrier="DHL")), Future[Outcome])
    assert_type(threads.spawn(Order, "order-42"), Future[ThreadsafeRef[Order]])
    assert_type(threads.get_or_spawn(Order, "order-42").result(), ThreadsafeRef[Order])
    assert_type(threads.stop("order-42"), Future[None])
    assert_type(threads.snapshot("order-42"), Future[Snapshot[Any]])
    assert_type(threads.call(system.stats), Future[Stats])
    order = threads.ref(Order, "order-42")
    assert_type(order, ThreadsafeRef[Order])
    assert_type(order.ask(Refund()).result(), Receipt)
    assert_type(order.tell(Pay(amount=Decimal(1))), Future[Outcome])


async def main() -> int:
    return 1


def program() -> None:
    assert_type(actorfsm.run(main), int)
