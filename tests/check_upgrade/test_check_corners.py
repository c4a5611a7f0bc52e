"""C28: what `check-upgrade` says of timeouts that are gone, of answers to nobody, and of broken journals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, ClassVar

import pytest

from actorfsm import Event, Fields, Machine, transition, upcast
from actorfsm.check_upgrade.check import check_upgrade
from actorfsm.errors import JournalCorrupt
from actorfsm.journal.entry import Entry
from actorfsm.journal.memory import MemoryJournal, MemoryStore
from actorfsm.journal.protocol import Stored
from actorfsm.testing import SimulatedSystem
from tests.contract import shop_v1

pytestmark = pytest.mark.rule("C28")


class S(Enum):
    OPEN = auto()
    PAYING = auto()


class Go(Event[None]):
    pass


def _order(timeouts: dict[str, str | None]) -> Any:
    """Return a class that takes nothing of what the old one took."""

    class Order(Machine[S, Any], initial=S.OPEN):
        schema_version: ClassVar[int] = 2
        paid: int
        notes: tuple[str, ...]

        @transition(S.OPEN, to=S.PAYING)
        async def go(self, event: Go) -> None: ...

        @transition(S.PAYING, to=S.OPEN)
        async def back(self, event: Go) -> None: ...

    @upcast(Order, from_version=1, timeouts=timeouts)
    def same(state: str, fields: Fields) -> tuple[str, Fields]:
        return state, fields

    return Order


async def _paid(store: MemoryStore) -> None:
    async with SimulatedSystem(shop_v1.Order, journal=MemoryJournal(store), check=False) as system:
        await (await system.spawn(shop_v1.Order, "o")).ask(shop_v1.Pay(amount=5), event_id="pay")
        await system.spawn(shop_v1.Order, "held")
        await system.spawn(shop_v1.Order, "sender")
        system.suspend("held")
        await system.ask("sender", shop_v1.Send(to="held"))


async def _lines(journal: MemoryJournal, machine: Any) -> list[str]:
    await journal.open()
    report = await check_upgrade([machine], journal)
    await journal.close()
    return list(report.lines())


def test_a_timeout_that_is_given_up_lands_as_that_and_one_that_is_gone_does_not(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await _paid(store)
        lines = await _lines(MemoryJournal(store), _order({"late": None}))
        assert "           1  Order: late with StateTimeout 1 -> given up" in lines
        lines = await _lines(MemoryJournal(store), _order({}))
        assert "           1  timer of Order: late with StateTimeout 1, the first one at o" in lines
        assert any("no @on_timeout of that name there" in line for line in lines)
        # Nobody can send a Pay any more, so that its answer is in nobody's way.
        assert not any("recorded" in line for line in lines)

    sim(scenario, seeds=[0])


class Broken(MemoryJournal):
    """A journal that changes, or breaks, while it is read."""

    async def load(self, machine_id: str) -> Stored | None:
        if machine_id == "o":
            return None
        if machine_id == "held":
            raise JournalCorrupt("held is broken", seq=1, machine_id="held")
        return await super().load(machine_id)

    async def entries(self, machine_id: str, after_seq: int = 0, limit: int = 1_000) -> Sequence[Entry]:
        raise JournalCorrupt("its entries are broken", seq=1, machine_id=machine_id)


def test_what_is_gone_meanwhile_is_passed_over_and_what_is_broken_is_named(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await _paid(store)
        lines = await _lines(Broken(store), shop_v1.Order)
        assert lines == [
            "machines:",
            "           1  Order: Order 1 in OPEN -> Order 1 in OPEN",
            "promised events:",
            "           1  nobody yet: Note 1 -> Note 1",
            "these do not land:",
            "           1  machine of Order: cannot be loaded, the first one at held",
            "              held is broken",
            "           1  recorded reply of Order: cannot be read, the first one at sender",
            "              its entries are broken",
        ]

    sim(scenario, seeds=[0])
