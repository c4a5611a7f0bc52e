"""The request that started the project runs as an example, and every callback hears what the hooks say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from actorfsm import ActorSystem
from examples.payment import Order, OrderState, Shop, run

CREATED, PAYING, SHIPPED, CANCELLED = OrderState
PAID = [
    (True, CREATED, PAYING),
    (True, PAYING, SHIPPED),
    (False, SHIPPED, PAYING),  # risk control
    (True, SHIPPED, CANCELLED),
]
DECLINED = [
    (False, CREATED, PAYING),  # the gateway
    (True, CREATED, SHIPPED),
    (False, SHIPPED, PAYING),
    (True, SHIPPED, CANCELLED),
]


@pytest.mark.rule("C2")
@pytest.mark.rule("C4")
def test_every_callback_hears_what_the_hooks_say_per_order_in_order(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        shop = Shop(declined={"order-3"})
        heard = await run(shop, ("order-1", "order-2", "order-3"))
        assert heard == {"order-1": PAID, "order-2": PAID, "order-3": DECLINED}
        assert sorted(shop.audit_log) == ["order-1: created -> paying", "order-2: created -> paying"]
        assert len(set(shop.charged)) == 2

    sim(scenario, seeds=range(20))


def test_a_request_can_be_awaited_for_its_outcome(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        heard: list[object] = []
        async with ActorSystem(Order, services=Shop(declined={"order-2"}), trace=None) as system:
            order = await system.spawn(Order, "order-1")
            outcome = await order.request_transition(PAYING, lambda *answer: heard.append(answer))
            assert (outcome.success, outcome.old, outcome.new) == (True, CREATED, PAYING)
            other = await system.spawn(Order, "order-2")
            outcome = await other.request_transition(PAYING)
            assert (outcome.kind, outcome.reason, other.snapshot().state) == (
                "vetoed",
                "card declined",
                CREATED,
            )
        assert heard == [(True, CREATED, PAYING)]

    sim(scenario)


def test_it_runs_as_a_program() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "examples.payment"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        *(f"{order}  {line}" for order in ("order-1", "order-2") for line in lines_of(PAID)),
        *(f"order-3  {line}" for line in lines_of(DECLINED)),
        "charged 2 orders; audit log: order-1: created -> paying; order-2: created -> paying",
    ]


def lines_of(answers: list[tuple[bool, OrderState, OrderState]]) -> list[str]:
    return [f"{old:>9} -> {new:<9}  {'done' if success else 'refused'}" for success, old, new in answers]
