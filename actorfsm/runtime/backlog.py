"""Backlog: what earlier lives of the system have promised and not done. It comes before whatever is new for a machine.

The first page of it is read before the system starts, and the rest while that runs, so that a start does not depend on
how much there is. Who is needed before its turn has its own part of the rest looked up.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from actorfsm.errors import JournalCorrupt, JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from actorfsm.errors import ActorFSMError
    from actorfsm.journal.entry import Pending
    from actorfsm.journal.protocol import Journal, Placed
    from actorfsm.runtime.rehydration import Item

__all__ = ["Backlog"]

_AT_ONCE: Final = 25
"""So many machines are loaded at once for what was promised to them: who is asked meanwhile waits behind them."""
_PAUSE_S: Final = 0.01
_RETRY_S: Final = 1.0


class Backlog:
    """What one system has taken over.

    Args:
        journal: The journal, of which everything that is pending now is of earlier lives.
        hold: Holds a machine of which something cannot be read.
    """

    def __init__(self, journal: Journal, hold: Callable[[str, ActorFSMError], None]) -> None:
        self._journal = journal
        self._hold = hold
        self._owed: dict[str, list[Item]] = {}
        """What was read, for machines that are not loaded yet."""
        self._last = 0
        """The last place that is of an earlier life."""
        self._read_to = 0
        self._looked_up: dict[str, int] = {}
        """Machines that were loaded before all was read: the place up to which their part has been taken."""
        self._is_closed = False

    @property
    def is_read(self) -> bool:
        """Whether there is nothing more to read."""
        return self._is_closed or self._read_to >= self._last

    def __contains__(self, machine_id: str) -> bool:
        """Return whether something was read for a machine that has not taken it."""
        return machine_id in self._owed

    async def prepare(self) -> None:
        """Read the first page, before anything else happens."""
        self._last = await self._journal.last_pending()
        if self._last:
            await self._read_page()

    async def _next_page(self) -> Sequence[Placed]:
        while True:
            try:
                return await self._journal.pending(after=self._read_to)
            except JournalCorrupt as error:
                if error.machine_id is None or error.place is None:
                    raise
                self._read_to = error.place
                if error.machine_id not in self._looked_up:  # who looks up its own part finds it there
                    self._hold(error.machine_id, error)

    async def _read_page(self) -> None:
        page = await self._next_page()
        if self._is_closed:
            return  # meanwhile: it is for the next system
        for place, pending in page:
            if place <= self._last and pending.machine_id not in self._looked_up:
                self._owed.setdefault(pending.machine_id, []).append(pending)
        self._read_to = page[-1].place if page else self._last
        if self.is_read:  # who has yet to look up its part still does
            self._looked_up = {who: place for who, place in self._looked_up.items() if place < self._last}

    def take(self, machine_id: str) -> list[Item]:
        """Return what was read for a machine that is about to be loaded; see `rest_of` for what was not."""
        if not self.is_read:
            self._looked_up.setdefault(machine_id, self._read_to)
        return self._owed.pop(machine_id, [])

    async def rest_of(self, machine_id: str) -> list[Pending]:
        """Return what is still to be read for a machine that was taken.

        Raises:
            JournalError: It cannot be read.
        """
        after = self._looked_up.get(machine_id, self._last)
        found: list[Pending] = []
        while after < self._last:
            page = await self._journal.pending(after=after, machine_id=machine_id)
            found += [pending for place, pending in page if place <= self._last]
            after = page[-1].place if page else self._last
        if self.is_read:
            self._looked_up.pop(machine_id, None)
        elif machine_id in self._looked_up:
            self._looked_up[machine_id] = self._last
        return found

    def put_back(self, machine_id: str, item: Item) -> None:
        """Keep something for the next try to load its machine."""
        self._owed.setdefault(machine_id, []).append(item)

    def close(self) -> list[Item]:
        """Read no more, and return what was read and not taken: it waits no more."""
        self._is_closed = True
        owed, self._owed = self._owed, {}
        return [item for items in owed.values() for item in items]

    def deliver_some(self, load: Callable[[str], object], busy: Callable[[], int]) -> bool:
        """Load machines for which something was read, as many as may be at once; return whether that is all for now."""
        for machine_id in list(self._owed):
            if busy() >= _AT_ONCE:
                return False
            load(machine_id)
        return self.is_read

    async def deliver(self, load: Callable[[str], object], busy: Callable[[], int]) -> None:
        """Read the rest, and load the machines for it."""
        while not self.deliver_some(load, busy):
            if busy() >= _AT_ONCE:
                await asyncio.sleep(_PAUSE_S)
                continue
            if self.is_read:
                continue
            try:
                await self._read_page()
            except JournalError:
                await asyncio.sleep(_RETRY_S)
