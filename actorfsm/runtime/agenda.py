"""The agenda: when machines that are not in memory have timers due.

The journal lists timers by deadline. Those due soon are read and armed, a page after the other; the rest stays where it
is until its time comes near. So a start costs what is due, however many machines there are.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, Protocol

from actorfsm.errors import ActorFSMError, JournalCorrupt, JournalError
from actorfsm.runtime.tasks import start_task
from actorfsm.runtime.track import microseconds

if TYPE_CHECKING:
    from actorfsm.journal.entry import StoredTimer
    from actorfsm.journal.protocol import Journal
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.timers import Timer

__all__ = ["Agenda"]

_WINDOW_S: Final = 60.0
"""Timers that fall due within so many seconds are read."""
_AHEAD_S: Final = 30.0
"""So long before the next one is due they are read again."""
_PAGE: Final = 50
"""Of what is overdue so many machines are loaded at once: who is asked meanwhile waits behind them."""
_MOST: Final = 10_000
"""So many are read in one go."""
_TOO_BUSY: Final = 25
"""While so many machines are being loaded no more are woken."""
_PAUSE_S: Final = 0.01
_RETRY_S: Final = 1.0
_EVER_US: Final = 2**62


class Wakes(Protocol):
    """Who loads machines."""

    @property
    def loading(self) -> int:
        """How many machines are being loaded."""
        ...

    def wake(self, machine_id: str) -> None:
        """Load a machine: a timer of it is due."""
        ...

    def hold(self, machine_id: str, error: ActorFSMError) -> None:
        """Hold a machine of which something cannot be read."""
        ...


class Agenda:
    """Wakes the machines of one system in time for their timers."""

    def __init__(self, parts: Parts, journal: Journal, wakes: Wakes) -> None:
        self._parts = parts
        self._journal = journal
        self._wakes = wakes
        self._last: tuple[int, str, str] | None = None
        """The last row that was read."""
        self._before_us = 0
        """All rows that fall due before have been read."""
        self._key = 0
        self._reads_at = inf

    def left(self, timer: Timer, machine_id: str) -> None:
        """Follow a timer whose machine leaves memory: what will not be read any more is armed."""
        row = (timer.due_us, machine_id, timer.name)
        if timer.due_us < self._before_us or (self._last is not None and row <= self._last):
            self._parts.timers.call_at(timer.due, self._wakes.wake, machine_id)
        else:
            self._read_at(timer.due - _AHEAD_S)

    def _read_at(self, when: float) -> None:
        if when < self._reads_at:
            if self._key:
                self._parts.timers.cancel(self._key)
            self._reads_at = when
            self._key = self._parts.timers.call_at(when, self._begin)

    def _begin(self) -> None:
        self._key, self._reads_at = 0, inf
        if self._wakes.loading >= _TOO_BUSY:
            self._read_at(self._parts.loop.time() + _PAUSE_S)
            return
        self._parts.keep(start_task(self._read_again(), self._parts.loop), "the timers that are due soon")

    async def _read_again(self) -> None:
        try:
            await self.read()
        except JournalError:
            self._read_at(self._parts.loop.time() + _RETRY_S)

    async def read(self) -> None:
        """Read and arm what is due soon, and note when to read again.

        Raises:
            JournalError: It cannot be read.
        """
        self._before_us = max(self._before_us, microseconds(self._parts.clock.now()) + int(_WINDOW_S * 1e6))
        read = 0
        while page := await self._page(self._before_us, _PAGE):
            for timer in page:
                self._parts.timers.call_at(self._due(timer), self._wakes.wake, timer.machine_id)
            read += len(page)
            # What is overdue keeps the journal busy from now on: the rest has its turn, and others too.
            if read >= _MOST or self._due(page[-1]) <= self._parts.loop.time():
                self._before_us = page[-1].due_us
                self._read_at(self._due(page[-1]))
                return
        for timer in await self._page(_EVER_US, 1):
            self._read_at(self._due(timer) - _AHEAD_S)

    async def _page(self, before_us: int, limit: int) -> list[StoredTimer]:
        """Return the next rows. A machine whose row cannot be read is held, and the others are not concerned."""
        while True:
            try:
                page = list(await self._journal.timers(before_us, self._last, limit))
            except JournalCorrupt as error:
                if error.machine_id is None or error.place is None:
                    raise
                self._last = error.place
                self._wakes.hold(error.machine_id, error)
                continue
            if page and limit > 1:
                self._last = (page[-1].due_us, page[-1].machine_id, page[-1].name)
            return page

    def _due(self, timer: StoredTimer) -> float:
        """Return when a timer falls due, on the loop's clock."""
        delay_us = timer.due_us - microseconds(self._parts.clock.now())
        return self._parts.loop.time() + max(0.0, delay_us / 1e6)
