"""The laws of the supervision tree, for the checker: what may follow what in a trace (C16, C17).

They are those of OTP: start in order, stop in reverse, restart together what depends on each other, count the restarts.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from actorfsm.runtime.child import Restart, Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from actorfsm.machine.options import RestartPolicy
    from actorfsm.trace import Record

__all__ = ["Place", "TreeLaws"]

_ENDED: Final = frozenset({"stopped", "child_failed"})
_BY_SUPERVISOR: Final = "its supervisor stopped it"
_FOR_GOOD: Final = "; not started again"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a child stands in the tree.

    Attributes:
        supervisor: Name of the supervisor above.
        number: Its place in the order of start there.
        restart: Its restart type.
        strategy: The supervisor's strategy.
        policy: The supervisor's policy.
    """

    supervisor: str
    number: int
    restart: Restart
    strategy: Strategy
    policy: RestartPolicy


class TreeLaws:
    """Follows the records of a tree.

    Args:
        places: By name, the children that have records.
        ends_at: How many records there were when the system began to stop: then each child is by itself.
        say: Called with the rule, the line, the record and what is wrong.
    """

    def __init__(
        self,
        places: Mapping[str, Place],
        ends_at: int | None,
        say: Callable[[str, int, Record, str], None],
    ) -> None:
        self._places = places
        self._ends_at = ends_at
        self._say = say
        self._below: dict[str, list[str]] = defaultdict(list)
        for name in sorted(places, key=lambda name: places[name].number):
            self._below[places[name].supervisor].append(name)
        self._began: dict[str, int] = {}
        """By name, the line of its last restart; 0 before the first."""
        self._started: dict[str, int] = {}
        self._ended: dict[str, int] = {}
        self._failures: dict[str, deque[float]] = defaultdict(deque)
        """By supervisor, when children failed that are to be restarted."""
        self._endings: dict[str, int] = defaultdict(int)
        """By supervisor, how many children ended by themselves since it was started."""
        self._must_give_up: set[str] = set()
        self._last_stopped: dict[str, int] = {}
        self._to_follow: dict[str, list[str]] = {}
        """By supervisor, the children that are to be restarted next, in their order."""

    def follow(self, line: int, record: Record, time: float | None) -> None:
        """Take the next record that is not an event's."""
        name, place = record.machine_id, self._places.get(record.machine_id)
        if record.name == "escalated":
            self._gave_up(line, record)
            self._ended[name] = line
            self._to_follow.pop(name, None)
        if place is None:
            return
        match record.name:
            case "restarted":
                self._restarts(line, record, place)
            case "started":
                self._starts(line, record, place)
            case "stopped" if record.reason == _BY_SUPERVISOR:
                self._stops(line, record, place)
            case "stopped":
                self._endings[place.supervisor] += 1
            case "child_failed":
                self._fails(line, record, place, time)
            case _:
                return
        if record.name in _ENDED:
            self._ended[name] = line

    def _restarts(self, line: int, record: Record, place: Place) -> None:
        name, above = record.machine_id, place.supervisor
        is_anew = self._began.get(above, 0) > self._began.get(
            name, 0
        )  # with all that is below its supervisor
        if not is_anew and place.restart is Restart.TEMPORARY:
            self._say("C16", line, record, f"it is temporary, and {above} was not restarted")
        if not self._is_stopping(line):
            if not is_anew and place.strategy is Strategy.ONE_FOR_ONE and not self._has_ended(name):
                self._say("C16", line, record, "it had not ended, and only those that have are restarted")
            self._in_its_group(line, record, place, is_anew=is_anew)
            if above in self._must_give_up:
                self._say("C17", line, record, f"{above} has restarted as many children as it may")
        self._began[name] = line
        self._last_stopped.pop(above, None)
        if name in self._below:
            self._failures[name].clear()
            self._endings[name] = 0
            self._must_give_up.discard(name)
            self._last_stopped.pop(name, None)
            self._to_follow.pop(name, None)

    def _in_its_group(self, line: int, record: Record, place: Place, *, is_anew: bool) -> None:
        """See that those which come after a child follow when it is restarted, each in its order."""
        name, above = record.machine_id, place.supervisor
        if place.strategy is Strategy.ONE_FOR_ONE and not is_anew:
            return
        waiting = self._to_follow.pop(above, [])
        if waiting and waiting[0] == name:
            waiting = waiting[1:]
        elif not waiting or not (place.restart is Restart.TRANSIENT and self._comes_before(name, waiting[0])):
            if waiting:
                self._say("C16", line, record, f"{waiting[0]} was to be restarted before it")
            later = [child for child in self._below[above] if self._comes_before(name, child)]
            # A transient one may have ended normally while it waited for its restart.
            waiting = [c for c in later if is_anew or self._places[c].restart is Restart.PERMANENT]
        if waiting:
            self._to_follow[above] = waiting

    def _comes_before(self, name: str, other: str) -> bool:
        return self._places[name].number < self._places[other].number

    def _has_ended(self, name: str) -> bool:
        return name not in self._started or self._ended.get(name, 0) > self._began.get(name, 0)

    def _is_stopping(self, line: int) -> bool:
        return self._ends_at is not None and line > self._ends_at

    def _starts(self, line: int, record: Record, place: Place) -> None:
        self._started[record.machine_id] = line
        self._last_stopped.pop(place.supervisor, None)
        latest = self._began.get(record.machine_id, 0)
        for child in self._below.get(record.machine_id, ()):
            if self._started.get(child, 0) <= latest:
                self._say("C16", line, record, f"{child} has not started, or not in its order")
                return
            latest = self._started[child]

    def _stops(self, line: int, record: Record, place: Place) -> None:
        last = self._last_stopped.get(place.supervisor)
        if last is not None and last < place.number:
            self._say("C16", line, record, "a child that was started before it was stopped before it")
        self._to_follow.pop(place.supervisor, None)
        self._last_stopped[place.supervisor] = place.number

    def _fails(self, line: int, record: Record, place: Place, time: float | None) -> None:
        above, policy = place.supervisor, place.policy
        if "did not start" in record.reason:
            self._to_follow.pop(above, None)  # a new attempt begins with it
        if record.reason.endswith(_FOR_GOOD):
            if place.restart is not Restart.TEMPORARY and not self._is_stopping(line):
                self._say("C16", line, record, f"it is {place.restart}, and was not started again")
            return
        if record.reason.startswith(f"{record.machine_id} did not start"):
            return  # with its supervisor
        self._endings[above] += 1
        if time is None:
            return
        times = self._failures[above]
        times.append(time)
        while times[0] <= time - policy.within_s:
            times.popleft()
        if len(times) > policy.max_restarts:
            self._must_give_up.add(above)

    def _gave_up(self, line: int, record: Record) -> None:
        below = self._below.get(record.machine_id)
        self._must_give_up.discard(record.machine_id)
        if below and self._endings[record.machine_id] <= self._places[below[0]].policy.max_restarts:
            self._say("C17", line, record, "it gave up, though its children had not ended so often")
