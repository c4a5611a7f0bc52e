"""A turn without a runtime: what a machine instance asks for, answered from plain attributes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from actorfsm.errors import ReadOnly

if TYPE_CHECKING:
    from actorfsm.machine.data import DataRules

__all__ = ["PuppetTurn", "commit"]


class PuppetTurn:
    """Implements `TurnView`; `asked` is what the machine passed on."""

    def __init__(self, *, writable: bool = True) -> None:
        self.machine_id = "order-1"
        self.state: Any = None
        self.services: Any = "the services"
        self.writable = writable
        self.data: dict[str, Any] = {}
        self.draft: dict[str, Any] | None = None
        self.touched: set[str] = set()
        self.machine: Any = None
        self.asked: list[tuple[Any, ...]] = []

    def now(self) -> datetime:
        return datetime(2024, 2, 29, tzinfo=UTC)

    def idempotency_key(self) -> str:
        return "order-1/7/charge"

    def tell(self, target: Any, event: Any, event_id: str | None, headers: Any) -> Any:
        self.asked.append(("tell", target, event, event_id, headers))
        return "receipt"

    async def ask(self, target: Any, event: Any, timeout: Any, headers: Any) -> Any:
        self.asked.append(("ask", target, event, timeout, headers))
        return "reply"

    def next_event(self, event: Any) -> None:
        self.asked.append(("next_event", event))

    def watch(self, target: Any) -> None:
        self.asked.append(("watch", target))

    def unwatch(self, target: Any) -> None:
        self.asked.append(("unwatch", target))

    def start_timer(self, event: Any, after: Any, at: Any, name: Any, scope: Any) -> None:
        self.asked.append(("start_timer", event, after, at, name, scope))

    def cancel_timer(self, name: Any) -> bool:
        self.asked.append(("cancel_timer", name))
        return True

    def start_job(
        self,
        function: Any,
        arguments: Any,
        done: Any,
        failed: Any,
        name: Any,
        timeout: Any,
        *,
        again: bool,
    ) -> str:
        self.asked.append(("start_job", function, arguments, done, failed, name, timeout, again))
        return "job"

    def cancel_job(self, name: str) -> bool:
        self.asked.append(("cancel_job", name))
        return True

    def stop(self) -> None:
        self.asked.append(("stop",))

    async def run_blocking(self, function: Any, *arguments: Any) -> Any:
        return function(*arguments)

    def read_only_error(self) -> ReadOnly:
        return ReadOnly("look only")


def commit(rules: DataRules, committed: dict[str, Any], draft: dict[str, Any]) -> dict[str, Any]:
    """Commit a draft as a turn does, where all that differs from the committed data was touched."""
    missing = object()
    touched = {name for name, value in draft.items() if value is not committed.get(name, missing)}
    if committed.keys() != draft.keys():  # a birth
        return rules.validated(draft, touched)
    return rules.at_commit(draft, touched)
