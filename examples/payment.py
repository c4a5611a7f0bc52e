"""The request that this project began with, as a program: `python -m examples.payment`.

An order has four states and three hooks: one checks the risk before every transition, one calls the payment gateway
when PAYING is entered and refuses if the payment fails, one writes an audit line afterwards. Four requests are queued
at once for each of three orders, each with a callback; the gateway declines the third order's card.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import TYPE_CHECKING

from actorfsm import ActorSystem, Machine, Veto, after_transition, before_transition, on_enter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["REQUESTS", "Order", "OrderState", "Shop", "main", "run"]


class OrderState(StrEnum):
    """Where an order is."""

    CREATED = auto()
    PAYING = auto()
    SHIPPED = auto()
    CANCELLED = auto()


REQUESTS = (OrderState.PAYING, OrderState.SHIPPED, OrderState.PAYING, OrderState.CANCELLED)
"""What is asked of every order."""


@dataclass
class Shop:
    """What the hooks of an order use: stubs of a payment gateway and an audit log.

    Attributes:
        declined: Ids of the orders whose cards the gateway declines.
        charged: The keys of the payments that the gateway made.
        audit_log: The lines of the audit log.
    """

    declined: Collection[str] = ()
    charged: list[str] = field(default_factory=list[str])
    audit_log: list[str] = field(default_factory=list[str])

    async def charge(self, order_id: str, *, key: str) -> bool:
        """Pay for an order. The key tells the gateway a repetition from a second payment."""
        await asyncio.sleep(0.02)
        if order_id in self.declined:
            return False
        self.charged.append(key)
        return True

    async def write_audit(self, line: str) -> None:
        """Write a line into the audit log."""
        await asyncio.sleep(0.01)
        self.audit_log.append(line)


class Order(Machine[OrderState, Shop], initial=OrderState.CREATED):
    """An order. It declares no transitions, so it goes wherever it is asked to go unless a hook refuses."""

    @before_transition
    async def risk_control(self, old: OrderState, new: OrderState) -> bool:
        """Refuse a payment for an order that is not new."""
        return not (new is OrderState.PAYING and old is not OrderState.CREATED)

    @on_enter(OrderState.PAYING)
    async def pay(self, old: OrderState, new: OrderState) -> None:
        """Call the gateway; if the payment fails, the order is exactly as it was."""
        if not await self.services.charge(self.id, key=self.idempotency_key):
            raise Veto("card declined")

    @after_transition(OrderState.PAYING)
    async def audit(self, old: OrderState, new: OrderState) -> None:
        """Write down that the order was paid."""
        await self.services.write_audit(f"{self.id}: {old} -> {new}")


Answer = tuple[bool, OrderState, OrderState]
"""Whether a request succeeded, the state that the order was in, and the one asked for."""


async def run(shop: Shop, order_ids: Collection[str]) -> dict[str, list[Answer]]:
    """Queue all requests for all orders at once and return what the callbacks heard, per order, in order."""
    heard: dict[str, list[Answer]] = {order_id: [] for order_id in order_ids}

    def note(order_id: str) -> Callable[[bool, OrderState, OrderState], None]:
        return lambda success, old, new: heard[order_id].append((success, old, new))

    async with ActorSystem(Order, services=shop, trace=None) as system:
        orders = [await system.spawn(Order, order_id) for order_id in order_ids]
        for new_state in REQUESTS:
            for order in orders:
                # Nobody waits: the callback hears of it. `await` would give the outcome here.
                _ = order.request_transition(new_state, note(order.id))
    # The end of the block has waited for everything that was queued, and for the callbacks.
    return heard


def main() -> None:
    """Run it and tell what happened."""
    shop = Shop(declined={"order-3"})
    heard = asyncio.run(run(shop, ("order-1", "order-2", "order-3")))
    for order_id, answers in heard.items():
        for success, old, new in answers:
            print(f"{order_id}  {old:>9} -> {new:<9}  {'done' if success else 'refused'}")
    print(f"charged {len(shop.charged)} orders; audit log: " + "; ".join(sorted(shop.audit_log)))


if __name__ == "__main__":
    main()
