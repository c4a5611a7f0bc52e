"""The model of a supervisor, one for one, whose children are models of machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.campaigns.p5.model import (
    LONGEST_PAUSE_S,
    MAX_RESTARTS,
    PAUSE_OF_CHILD_S,
    PAUSE_OF_SUPERVISOR_S,
    STABLE_S,
    WITHIN_S,
)

if TYPE_CHECKING:
    from tests.campaigns.p5.model import Model, One

__all__ = ["Supervisor"]


class Pauses:
    """Each pause is the last one doubled, until there was none for a while."""

    def __init__(self, first_s: float) -> None:
        self.first_s, self.streak, self.resumed_at = first_s, 0, 0.0

    def next(self, now: float) -> float:
        self.streak = 1 if now - self.resumed_at >= STABLE_S else self.streak + 1
        pause = min(self.first_s * 2.0 ** (self.streak - 1), LONGEST_PAUSE_S)
        self.resumed_at = now + pause
        return pause


class Supervisor:
    """A supervisor, one for one, of machines that are always there, under a root that never gives up.

    After too many restarts it stops all children in reverse order, waiting for events at hand, and is itself started
    again. Whether an event was at hand at that moment is the scheduler's business: the model learns it from the trace.
    """

    def __init__(self, model: Model, children: list[One]) -> None:
        self.model = model
        self.children = children
        self.restarts: list[float] = []
        self.pauses = {child.id: Pauses(PAUSE_OF_CHILD_S) for child in children}
        self.own_pauses = Pauses(PAUSE_OF_SUPERVISOR_S)
        self.due: list[tuple[float, One | None]] = []
        """When a pause is over, and whose; None for its own."""
        self.stopping: list[One] = []
        self.gave_up = False
        self.down: set[str] = set()
        for child in children:
            child.supervisor = self

    def crash(self) -> None:
        """Start again, with the children as the journal has them."""
        self.restarts, self.due, self.stopping, self.gave_up = [], [], [], False
        self.pauses = {child.id: Pauses(PAUSE_OF_CHILD_S) for child in self.children}
        self.own_pauses = Pauses(PAUSE_OF_SUPERVISOR_S)
        self.down.clear()
        for child in self.children:
            self.model.expect(child.id, "started")
        self.model.expect("supervisor", "started")

    def failed(self, child: One, now: float) -> None:
        child.is_held = True
        self.down.add(child.id)
        if self.gave_up:
            return
        self.model.expect(child.id, "child_failed")
        self.restarts = [when for when in self.restarts if when > now - WITHIN_S] + [now]
        if len(self.restarts) <= MAX_RESTARTS:
            self.due.append((now + self.pauses[child.id].next(now), child))
            return
        self.model.expect("supervisor", "escalated")
        self.gave_up, self.due = True, []
        self.stopping = list(reversed(self.children))
        self.goes_on(now)

    def goes_on(self, now: float) -> None:
        """Stop one after the other; then pause."""
        while self.stopping:
            other = self.stopping[0]
            coming = self.model.coming(other.id)
            if other.id not in self.down and coming != "stopped":
                return  # it has an event at hand
            if other.id not in self.down:
                self.model.expect(other.id, "stopped")
            other.is_held = True
            self.down.add(other.id)
            self.stopping.pop(0)
        self.model.expect("supervisor", "child_failed")
        self.due = [(now + self.own_pauses.next(now), None)]

    def passes(self, now: float) -> None:
        for when, whose in sorted(self.due, key=lambda entry: entry[0]):
            if when > now:
                return
            if whose is not None and self.gives_up_first(whose, when):
                continue
            self.due.remove((when, whose))
            if whose is None:
                self.model.expect("supervisor", "restarted")
                self.gave_up, self.restarts = False, []
            for child in self.children if whose is None else [whose]:
                self.start(child)
            if whose is None:
                self.model.expect("supervisor", "started")

    def gives_up_first(self, child: One, when: float) -> bool:
        """Tell by the trace whether it gave up when a child's pause was over, before it started it."""
        model = self.model
        for record, at, _ in [entry for entry in [model.reading, *model.records] if entry is not None]:
            if at > when or (record.machine_id == child.id and record.name == "restarted"):
                return False
            if record.machine_id == "supervisor" and record.name == "escalated":
                return True
        return False

    def start(self, child: One) -> None:
        child.incarnation += 1
        self.model.restarts += 1
        self.model.expect(child.id, "restarted")
        self.model.expect(child.id, "started")
        for timer in child.timers.values():
            timer.failures = 0
        child.is_held = False
        self.down.discard(child.id)
