"""Journals in memory that take their time, or do not know."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from actorfsm.errors import OutcomeUnknown
from actorfsm.journal.memory import MemoryJournal

if TYPE_CHECKING:
    from actorfsm.journal.entry import Batch
    from actorfsm.journal.protocol import Stored

__all__ = ["Slow", "SlowToLoad", "SlowToSay", "Unsure"]


class Unsure(MemoryJournal):
    """Does not know for a while what became of a commit."""

    knows = False
    asked = 0

    async def settle(self, batch: Batch) -> bool:
        self.asked += 1
        if not self.knows:
            raise OutcomeUnknown("still unknown")
        return await super().settle(batch)


class Slow(MemoryJournal):
    """Needs a while for each commit; what it is asked meanwhile waits its turn."""

    takes_s = 100.0

    def append(self, batch: Batch) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[None] = loop.create_future()

        def store() -> None:
            super(Slow, self).append(batch).add_done_callback(lambda done: _pass_on(done, answer))

        loop.call_later(self.takes_s, store)
        return answer


class SlowToSay(Unsure):
    """Stores at once, and needs `takes_s` to say so, for dead letters `dead_take_s`."""

    takes_s = 0.0
    dead_take_s: float | None = None
    knows = True

    def append(self, batch: Batch) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[None] = loop.create_future()
        takes_s = self.takes_s if self.dead_take_s is None or not batch.dead else self.dead_take_s
        loop.call_later(takes_s, _pass_on, super().append(batch), answer)
        return answer


class SlowToLoad(MemoryJournal):
    """Needs `takes_s` to find a machine."""

    takes_s = 1.0

    async def load(self, machine_id: str) -> Stored | None:
        await asyncio.sleep(self.takes_s)
        return await super().load(machine_id)


def _pass_on(done: asyncio.Future[None], answer: asyncio.Future[None]) -> None:
    error = done.exception()
    if answer.done():
        return
    if error is None:
        answer.set_result(None)
    else:
        answer.set_exception(error)
