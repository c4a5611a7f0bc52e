"""Where the laws of a journal are tried."""

from __future__ import annotations

from actorfsm.journal.memory import Fate, MemoryJournal, MemoryStore


class MemoryStage:
    """Journals in memory. What can fail is the commit; when it fails in the dark is up to `dark`."""

    def __init__(self, dark: Fate = "unknown, stored") -> None:
        self.store = MemoryStore()
        self.dark: Fate = dark
        self.count = 0

    async def open(self) -> MemoryJournal:
        journal = MemoryJournal(self.store)
        await journal.open()
        return journal

    async def crash(self, journal: MemoryJournal) -> None:
        journal.epoch = 0

    async def usurp(self) -> None:
        self.store.epoch += 1

    def fail(self, nth: int, fault: str, *, lasting: bool) -> None:
        self.count = 0

        def fate() -> Fate:
            self.count += 1
            if self.count != nth and not (lasting and self.count > nth):
                return "stored"
            self.fired = True
            return "full" if fault == "full" else self.dark

        self.fired = False
        self.store.fate = fate

    def heal(self) -> bool:
        self.store.fate = lambda: "stored"
        return self.fired
