"""The rules of P5 over a journal: the system dies without a word and is opened again; and elsewhere all is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis.stateful import rule

from actorfsm.testing import VirtualClock
from actorfsm.testing.loop import SimLoop
from tests.campaigns.journals import InMemory, Place, history, throw_away, verified
from tests.campaigns.p5.against import FIGURES, AgainstModel, noted

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OverJournals"]


class OverJournals(AgainstModel):
    """Does all over a journal in memory, then the same over others: they must have stored the same.

    Attributes:
        others: Make the other places.
    """

    keeps_journal = True
    others: tuple[Callable[[], Place], ...] = ()

    def __init__(self, place: Place | None = None) -> None:
        super().__init__()
        self.place: Place = place or InMemory()
        self.lives = 0
        self.seen: list[str] = []

    def options(self) -> dict[str, Any]:
        return {"journal": self.place.journal(), "clock": VirtualClock()}

    @rule()
    @noted
    def crash(self) -> None:
        """Drop the system as it is, and open another one behind it."""
        self.run()
        FIGURES["crashes"] += 1
        now = self.loop.time()
        self.place.crash()
        self.drop()
        self.lives += 1
        self.records = []
        self.loop = SimLoop(self.seed + 1_000 * self.lives)
        self.loop._now = now
        self.model.crash()
        self.system = self.new_system()
        self.loop.run_until_complete(self.system.__aenter__())
        recovery = self.system._parts.recovery
        self.loop.run_until_complete(recovery.ensure_all(sorted(self.model.machines)))
        self.run()

    def drop(self) -> None:
        """Forget the loop, its tasks and who waits for an answer: nobody is left to be told."""
        throw_away(self.loop)
        for _, task in [*self.asks, *self.stops]:
            if task.done() and not task.cancelled():
                task.exception()
        self.tells, self.asks, self.stops = [], [], []

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        super().teardown()
        if self.agrees:
            assert verified(self.place) == []
            for make in self.others:
                self.do_again(make())

    def do_again(self, place: Place) -> None:
        """Do the same elsewhere, and compare what is stored."""
        twin = type(self)(place)
        twin.others = ()
        try:
            for name, drawn in self.done:
                getattr(twin, name)(**drawn)
        finally:
            twin.teardown()
        mine, its = history(self.place), history(place)
        for name, rows in mine.items():
            assert its[name] == rows, f"{name} differ"
        FIGURES["compared"] += 1
        FIGURES["entries"] += len(mine["entries"])
