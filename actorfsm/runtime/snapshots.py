"""Snapshots: where loading a machine begins, so that it reads few entries; and how long entries stay behind them.

After so many entries a commit carries the machine's image, in the same batch: it restates data and timers, so that the
image is at hand and nothing has to be read. Where no commit comes, or an event is postponed, the journal makes the
image out of what it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actorfsm.errors import DefinitionError, JournalError
from actorfsm.journal.image import Image
from actorfsm.runtime.tasks import start_task

if TYPE_CHECKING:
    from actorfsm.journal.entry import Entry
    from actorfsm.journal.protocol import Journal
    from actorfsm.runtime.actor import Actor
    from actorfsm.runtime.parts import Parts
    from actorfsm.runtime.track import Line, Track

__all__ = ["SnapshotPolicy", "Snapshots"]


@dataclass(frozen=True, slots=True)
class SnapshotPolicy:
    """When a system with a journal stores the image of a machine, and what it keeps behind that.

    Attributes:
        every: After so many entries of a machine. To load it reads at most twice as many.
        keep_entries: How many of a machine's newest entries stay whole when an image is stored; None for all.
        keep_ids: Of how many of its newest entries the event ids and answers stay, so that an event that is sent again
            is known; None for all. At least `keep_entries`, without which nothing is trimmed.

    Raises:
        DefinitionError: A value cannot be meant.
    """

    every: int = 100
    keep_entries: int | None = None
    keep_ids: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("every", 1), ("keep_entries", 0), ("keep_ids", 0)):
            given: Any = getattr(self, name)
            if given is None and name != "every":
                continue
            if not isinstance(given, int) or isinstance(given, bool) or given < least:
                raise DefinitionError(f"SnapshotPolicy: {name}={given!r}; give a whole number from {least}")
        if self.keep_ids is not None and (self.keep_entries is None or self.keep_ids < self.keep_entries):
            raise DefinitionError(
                "SnapshotPolicy: keep_ids is at least keep_entries: ids go after their entries"
            )


class Snapshots:
    """Stores the images of one system's machines."""

    def __init__(self, parts: Parts, journal: Journal, policy: SnapshotPolicy) -> None:
        self._parts = parts
        self._journal = journal
        self._policy = policy
        self._busy: set[str] = set()
        """The machines of which the journal makes an image, or trims entries."""

    def is_due(self, actor: Actor, track: Track) -> bool:
        """Return whether the next commit of a machine carries its image; what is postponed would not be in it."""
        if track.seq + len(track.lines) + 1 - track.snapshot_seq < self._policy.every:
            return False
        return not any(envelope.is_put_aside for envelope in actor.mailbox or ())

    @staticmethod
    def image_after(entry: Entry, track: Track) -> Image:
        """Return the image of a machine after an entry that restates its data and timers."""
        image = Image(machine_id=entry.machine_id, watches=list(track.watches))
        image.apply(entry)
        return image

    def follow(self, machine_id: str, track: Track, last: Line) -> None:
        """Follow entries that were stored, of which this was the last."""
        if last.image is not None:
            track.snapshot_seq = last.entry.seq
            if self._policy.keep_entries is not None:
                self._begin(machine_id, track)
        elif track.seq - track.snapshot_seq >= 2 * self._policy.every:
            self._begin(machine_id, track)

    def _begin(self, machine_id: str, track: Track) -> None:
        if machine_id not in self._busy and not self._parts.stopping:
            self._busy.add(machine_id)
            task = start_task(self._work(machine_id, track), self._parts.loop)
            self._parts.keep(task, f"the snapshot of {machine_id}")

    async def _work(self, machine_id: str, track: Track) -> None:
        """Let the journal make an image, and trim what is behind it. If it cannot now, the next entries bring it up."""
        policy, seq = self._policy, track.seq
        try:
            await self._journal.snapshot(machine_id, keep=policy.keep_entries)
            track.snapshot_seq = max(track.snapshot_seq, seq)
            if policy.keep_ids is not None and seq > policy.keep_ids:
                await self._journal.forget(machine_id, seq - policy.keep_ids)
        except JournalError:
            pass
        finally:
            self._busy.discard(machine_id)
