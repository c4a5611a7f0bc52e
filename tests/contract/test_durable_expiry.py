"""C25: what befalls a machine while the journal stores a commit is stored after it, and does not undo it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actorfsm import Expired
from actorfsm.journal.memory import MemoryStore
from actorfsm.journal.verify import verify_journal
from tests.contract.durable import Lives, Order, Pay, Ship
from tests.contract.slow_journals import SlowToSay


@pytest.mark.rule("C25")
def test_a_postponed_event_that_expires_while_a_commit_is_stored_does_not_undo_it(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        lives = Lives(lambda: SlowToSay(store), store)
        journal: Any = lives.journal()
        async with Lives(lambda: journal, store).begin() as system:
            await system.spawn(Order, "o")
            shipping = asyncio.ensure_future(system.ask("o", Ship(), timeout=3))
            await system.clock.advance(2)
            journal.takes_s = 2.0
            assert await system.ask("o", Pay(amount=5), event_id="pay") == 5
            with pytest.raises(Expired):
                await shipping
            journal.takes_s = 0.0
        async with lives.begin() as system:
            assert await system.ask("o", Pay(amount=1)) == 6
            snapshot = system.snapshot("o")
            assert (snapshot.state.name, snapshot.seq) == ("PAID", 3)
        reader = lives.journal()
        await reader.open()
        assert (await verify_journal(reader)).faults == []
        await reader.close()

    sim(scenario, seeds=range(2))
