"""A Python runtime in which every state machine is an actor."""

from actorfsm.clock import Clock, Duration, SystemClock
from actorfsm.errors import (
    ActorFSMError,
    AskCycle,
    AskTimeout,
    ConcurrentTransition,
    DefinitionError,
    Discarded,
    EventIdConflict,
    EventIdUsed,
    Expired,
    Fenced,
    HookFailed,
    InvalidData,
    InvalidEvent,
    JobGivenUp,
    JournalClosed,
    JournalCorrupt,
    JournalError,
    JournalFull,
    JournalLocked,
    JournalUnusable,
    MachineExists,
    MachineStopped,
    MailboxFull,
    NoSuchLetter,
    NoSuchMachine,
    NotStored,
    OutcomeUnknown,
    Quarantined,
    ReadOnly,
    SchemaMismatch,
    StaleTurn,
    SystemFailed,
    SystemStopping,
    Unhandled,
    Unsupported,
    Veto,
    Vetoed,
    WrongProcess,
    WrongThread,
)
from actorfsm.event import ErrorInfo, Event, Outcome, Spawn, StateTimeout, Terminated, TransitionRequested
from actorfsm.machine.decorators import (
    STAY,
    after_transition,
    before_transition,
    blocking,
    on_enter,
    on_exit,
    on_timeout,
    postpone,
    refuse,
    transition,
)
from actorfsm.machine.machine import Machine
from actorfsm.machine.options import Directive, MailboxPolicy, Overflow, Redelivery, RestartPolicy
from actorfsm.machine.snapshot import Snapshot
from actorfsm.machine.timers import TimerScope
from actorfsm.machine.upcasts import Fields, upcast
from actorfsm.runtime.births import SpawnReport
from actorfsm.runtime.child import Child, Restart, Strategy, Supervisor
from actorfsm.runtime.crash import Crash
from actorfsm.runtime.dead_letter import DeadLetter
from actorfsm.runtime.inspection import FailureSeen, Inspection, JobSeen, RunningSeen, TimerSeen, WaitingSeen
from actorfsm.runtime.limits import Limits
from actorfsm.runtime.passivation import PassivationPolicy
from actorfsm.runtime.receipt import Receipt
from actorfsm.runtime.ref import Ref
from actorfsm.runtime.run import run
from actorfsm.runtime.shutdown import StopReport
from actorfsm.runtime.snapshots import SnapshotPolicy
from actorfsm.runtime.stats import Stats
from actorfsm.runtime.system import ActorSystem
from actorfsm.runtime.threadsafe import Threadsafe, ThreadsafeRef
from actorfsm.runtime.transitions import TransitionEntry
from actorfsm.runtime.tree import TreeNode
from actorfsm.runtime.watchdog import LoopBlocked
from actorfsm.trace import Record, Sink

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022 -- in themed groups; type checkers read plain strings only
    # the system
    "ActorSystem",
    "run",
    "Threadsafe",
    "ThreadsafeRef",
    "Limits",
    "SpawnReport",
    "StopReport",
    "Stats",
    "DeadLetter",
    "Inspection",
    "RunningSeen",
    "WaitingSeen",
    "TimerSeen",
    "FailureSeen",
    "TransitionEntry",
    "Crash",
    "LoopBlocked",
    # the supervision tree
    "Supervisor",
    "Strategy",
    "Child",
    "Restart",
    "TreeNode",
    # a machine and its definition
    "Machine",
    "Snapshot",
    "transition",
    "STAY",
    "postpone",
    "refuse",
    "before_transition",
    "on_exit",
    "on_enter",
    "after_transition",
    "on_timeout",
    "TimerScope",
    "blocking",
    "Veto",
    "Directive",
    "MailboxPolicy",
    "Overflow",
    "PassivationPolicy",
    "Redelivery",
    "RestartPolicy",
    "SnapshotPolicy",
    # versions of what is stored
    "upcast",
    "Fields",
    # events and what comes back
    "Event",
    "Spawn",
    "StateTimeout",
    "Terminated",
    "TransitionRequested",
    "Outcome",
    "ErrorInfo",
    "Ref",
    "Receipt",
    # time and trace
    "Clock",
    "Duration",
    "SystemClock",
    "Record",
    "Sink",
    # errors
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
    "JobSeen",
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
    "Vetoed",
    "WrongProcess",
    "WrongThread",
]
