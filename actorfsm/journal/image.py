"""The image of a machine: all that its entries have left, folded in their order. A snapshot is an image on disk."""

from __future__ import annotations

from dataclasses import dataclass, field

# pydantic reads these annotations when an image is encoded.
from actorfsm.journal.entry import Entry, Message, Payload, State, Status, StoredTimer

__all__ = ["Image"]


@dataclass(slots=True, kw_only=True)
class Image:
    """A machine as its last entry leaves it; what `recovery` makes an actor from.

    Attributes:
        machine_id: The machine.
        machine: Name of its class.
        seq: Number of its last entry.
        commits: How many transitions it has committed.
        incarnation: How often it was restarted.
        status: Whether it is alive.
        definition: Identity of the definition that wrote the last entry.
        state: Its state; empty if it was never born.
        data: Its data, or None.
        timers: Its timers by name, in the order in which they were started.
        postponed: Events that wait for a change of state, in order of arrival.
        watches: Ids that it watches.
    """

    machine_id: str
    machine: str = ""
    seq: int = 0
    commits: int = 0
    incarnation: int = 0
    status: Status = "alive"
    definition: str = ""
    state: State = ()
    data: Payload | None = None
    timers: dict[str, StoredTimer] = field(default_factory=dict[str, StoredTimer])
    postponed: list[Message] = field(default_factory=list[Message])
    watches: list[str] = field(default_factory=list[str])

    def apply(self, entry: Entry) -> None:
        """Go on to the next entry."""
        self.machine, self.seq, self.commits = entry.machine, entry.seq, entry.commits
        self.incarnation, self.status, self.definition = entry.incarnation, entry.status, entry.definition
        self.state = entry.target
        if entry.data is not None:
            self.data = entry.data
        for name in entry.timers_ended:
            self.timers.pop(name, None)
        for timer in entry.timers_set:
            self.timers.pop(timer.name, None)
            self.timers[timer.name] = timer
        if entry.message is not None:
            self._follow(entry, entry.message)
        gone = {*entry.unwatches, *entry.watches}
        self.watches = [watched for watched in self.watches if watched not in gone] + list(entry.watches)

    def _follow(self, entry: Entry, message: Message) -> None:
        """Keep what is postponed; what was postponed before keeps its place."""
        ids = [waiting.event_id for waiting in self.postponed]
        if entry.kind == "postponed":
            if message.event_id in ids:
                self.postponed[ids.index(message.event_id)] = message  # it was tried once more
            else:
                self.postponed.append(message)
        elif message.event_id in ids:
            del self.postponed[ids.index(message.event_id)]
