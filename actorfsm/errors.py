"""Every error of the package, in one small tree.

Each says who (the machine), what (the event) and what to do. The event itself rides along as an attribute, never in
the message: payloads may hold secrets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actorfsm.runtime.crash import Crash

__all__ = [
    "ActorFSMError",
    "AskCycle",
    "AskTimeout",
    "ConcurrentTransition",
    "DefinitionError",
    "Discarded",
    "EventIdConflict",
    "EventIdUsed",
    "Expired",
    "Fenced",
    "HookFailed",
    "InvalidData",
    "InvalidEvent",
    "JobGivenUp",
    "JournalClosed",
    "JournalCorrupt",
    "JournalError",
    "JournalFull",
    "JournalLocked",
    "JournalUnusable",
    "MachineExists",
    "MachineStopped",
    "MailboxFull",
    "NoSuchLetter",
    "NoSuchMachine",
    "NotStored",
    "OutcomeUnknown",
    "Quarantined",
    "ReadOnly",
    "SchemaMismatch",
    "StaleTurn",
    "SystemFailed",
    "SystemStopping",
    "Unhandled",
    "Unsupported",
    "Veto",
    "Vetoed",
    "WrongProcess",
    "WrongThread",
]


class Veto(Exception):  # a hook says `raise Veto("card declined")`: a word of the domain, not a fault
    """Raised or returned by a hook to refuse the transition; the machine stays exactly as it was.

    Args:
        reason: Why, in words for the sender of the event.

    Attributes:
        by: Name of the guard that raised it; of hooks the turn knows.
    """

    by = "guard"

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class ActorFSMError(Exception):
    """Base of every error that this package raises.

    Attributes:
        machine_id: The machine concerned, or None.
        event: The event concerned, undelivered or refused, or None.
    """

    def __init__(self, message: str, *, machine_id: str | None = None, event: Any = None) -> None:
        super().__init__(message)
        self.machine_id = machine_id
        self.event = event


class DefinitionError(ActorFSMError):
    """A machine class, or a set of them, is wrong; raised when the class is created or the system is made."""


class Unsupported(ActorFSMError):
    """A feature that this release does not have was asked for."""


class InvalidEvent(ActorFSMError):
    """The event, its id, headers or address is not one that the machine takes; nothing was sent."""


class InvalidData(ActorFSMError):
    """The machine's data does not validate; nothing was committed."""


class SchemaMismatch(InvalidData):
    """What is stored does not fit what the code has now, and no upcast leads there. Nothing was changed.

    Attributes:
        stored: Name of the class that was stored.
        version: Its schema version.
    """

    def __init__(
        self,
        message: str,
        *,
        stored: str = "",
        version: int = 0,
        machine_id: str | None = None,
        event: Any = None,
    ) -> None:
        super().__init__(message, machine_id=machine_id, event=event)
        self.stored = stored
        self.version = version


class NoSuchMachine(ActorFSMError):
    """No machine has this id: spawn it first, or send an event that a birth transition takes."""


class MachineExists(ActorFSMError):
    """The id is taken: use `get_or_spawn`, or another id."""


class Unhandled(ActorFSMError):
    """The machine has no transition for this event in its state.

    Attributes:
        state: The state it is in.
        allowed: Names of the event classes that it takes there.
        guards: Names of the guards that said no.
    """

    def __init__(
        self,
        message: str,
        *,
        state: Any,
        allowed: Sequence[str],
        guards: Sequence[str] = (),
        machine_id: str | None = None,
        event: Any = None,
    ) -> None:
        super().__init__(message, machine_id=machine_id, event=event)
        self.state = state
        self.allowed = tuple(allowed)
        self.guards = tuple(guards)


class Vetoed(ActorFSMError):
    """A hook refused the transition; the machine is exactly as it was.

    Attributes:
        by: The hook's name.
        reason: What the hook said.
    """

    def __init__(
        self, message: str, *, by: str, reason: str, machine_id: str | None = None, event: Any = None
    ) -> None:
        super().__init__(message, machine_id=machine_id, event=event)
        self.by = by
        self.reason = reason


class HookFailed(ActorFSMError):
    """User code of the machine failed; the event was rolled back. `__cause__` is what it raised.

    Attributes:
        hook: The name of the guard, hook or body; `commit` when the data did not validate; `turn` when the process
            ended in too many lives while the event was handled.
        crash: What it was made of, for `actorfsm.testing.crash_capsule`.
    """

    def __init__(self, message: str, *, hook: str, machine_id: str | None = None, event: Any = None) -> None:
        super().__init__(message, machine_id=machine_id, event=event)
        self.hook = hook
        self.crash: Crash | None = None


class MailboxFull(ActorFSMError):
    """The receiver has as many events waiting as it may; nothing was sent. Try later."""


class Expired(ActorFSMError):
    """The deadline passed before the event was begun: it was removed, surely not done."""


class AskTimeout(ActorFSMError):
    """The deadline passed while the event was being handled: the outcome is unknown. Retry with the same event id."""


class AskCycle(ActorFSMError):
    """The ask would wait for itself.

    Attributes:
        path: The machine ids of the cycle, the asker first and last.
    """

    def __init__(
        self, message: str, *, path: Sequence[str], machine_id: str | None = None, event: Any = None
    ) -> None:
        super().__init__(message, machine_id=machine_id, event=event)
        self.path = tuple(path)


class MachineStopped(ActorFSMError):
    """The machine was stopped before it came to this event."""


class NoSuchLetter(ActorFSMError):
    """The dead letter is no longer on the list: it was sent again, or newer ones took its place."""


class Quarantined(ActorFSMError):
    """The machine failed too often and is held until an operator releases it: `system.release(id)`."""


class SystemStopping(ActorFSMError):
    """The system takes no new events: it is stopping, has stopped, or was not started (`async with system`)."""


class SystemFailed(ActorFSMError):
    """The system did not start, or it ended: its root supervisor gave up, or a task of the runtime itself died.

    `__cause__` is what was at the bottom of it.
    """


class WrongThread(ActorFSMError):
    """The call came from another thread than the one of the system's event loop."""


class WrongProcess(WrongThread):
    """The system was started before a fork and belongs to the parent process: each process makes its own."""


class StaleTurn(ActorFSMError):
    """`self` was used after its turn: what a hook leaves behind may not touch the machine. Send it an event."""


class ReadOnly(ActorFSMError):
    """Guards and after-hooks may look but not change: change in the body or in an enter hook."""


class Discarded(ActorFSMError):
    """The message was never sent: the turn that would have sent it was rolled back."""


class ConcurrentTransition(ActorFSMError):
    """Somebody else has written the row or document since it was read. Surely not stored: read it again.

    What the hooks have done outside is done: use `self.idempotency_key` there, and the same event id again.
    """


class JobGivenUp(ActorFSMError):
    """The machine was restarted while the job ran, and the job was not started with `again=True`."""


class EventIdConflict(ActorFSMError):
    """The event id was used before with other content: an id belongs to one event."""


# -- with a journal ---------------------------------------------------------------------------------------------------


class JournalError(ActorFSMError):
    """The journal could not do what was asked. Its subclasses say what that means for what was to be stored."""


class NotStored(JournalError):
    """Surely not stored: nothing of it is on disk, and it may be tried again."""


class JournalFull(NotStored):
    """There is no room on the disk. Surely not stored; reading goes on. Make room, then try again."""


class Fenced(NotStored):
    """Another process has taken the machines over. Surely not stored: what is in memory here counts no more."""


class EventIdUsed(NotStored):
    """The event id was applied to this machine before, or waits for it. Surely not stored: look up the answer."""


class JournalClosed(NotStored):
    """The journal was closed, or not yet opened. Surely not stored."""


class OutcomeUnknown(JournalError):
    """The commit failed in a way that leaves open whether it is on disk, until the journal has settled it.

    Retry with the same event id: it is answered from the record if it was stored.
    """


class JournalLocked(JournalError):
    """Another process uses the journal, or another system of this one the same journal object.

    Attributes:
        pid: Its process id, or None if it could not be read.
    """

    def __init__(
        self, message: str, *, pid: int | None = None, machine_id: str | None = None, event: Any = None
    ) -> None:
        super().__init__(message, machine_id=machine_id, event=event)
        self.pid = pid


class JournalUnusable(JournalError):
    """What was given as a journal is none that this version can use; nothing was changed on disk."""


class JournalCorrupt(JournalError):
    """What is stored of a machine is not what was written. The machine is held; the others are not concerned.

    Attributes:
        seq: The entry at which that was found.
        place: In a list of the journal, where that stands, so that one can go on behind it; otherwise None.
    """

    def __init__(self, message: str, *, seq: int, machine_id: str | None = None, event: Any = None) -> None:
        super().__init__(message, machine_id=machine_id, event=event)
        self.seq = seq
        self.place: Any = None
