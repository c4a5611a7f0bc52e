"""A turn without a runtime: what a machine instance asks for, answered from plain attributes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from actorfsm.errors import ReadOnly

__all__ = ["PuppetTurn"]


class PuppetTurn:
    """Implements `TurnView`; `asked` is what the machine passed on."""

    def __init__(self, *, writable: bool = True) -> None:
        self.machine_id = "order-1"
        self.state: Any = None
        self.services: Any = "the services"
        self.writable = writable
        self.drafted = False
        self.touched: set[str] | None = None
        self.asked: list[tuple[Any, ...]] = []

    def now(self) -> datetime:
        return datetime(2024, 2, 29, tzinfo=UTC)

    def idempotency_key(self) -> str:
        return "order-1/7/charge"

    def tell(self, target: Any, event: Any, event_id: str | None, headers: Any) -> Any:
        self.asked.append(("tell", target, event, event_id, headers))
        return "receipt"

    async def ask(self, target: Any, event: Any, timeout: Any, headers: Any) -> Any:  # noqa: ASYNC109
        self.asked.append(("ask", target, event, timeout, headers))
        return "reply"

    def next_event(self, event: Any) -> None:
        self.asked.append(("next_event", event))

    def stop(self) -> None:
        self.asked.append(("stop",))

    def read_only_error(self) -> ReadOnly:
        return ReadOnly("look only")
