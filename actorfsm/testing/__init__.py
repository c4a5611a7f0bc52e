"""What the project proves itself with, for the machines of its users.

A simulated loop and clock, systems that keep a trace and notes of their senders, the checker, faults at every await.
The fixtures and the marker for pytest come by themselves where pytest is installed; without it, this package works
as well.

Its parts are loaded when they are first used: who has the package installed pays for them in no test run but his own.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actorfsm.testing.capsule import CapsuleError, CrashCapsule, crash_capsule, replay_capsule
    from actorfsm.testing.checker import ContractBroken, Facts, Violation, check
    from actorfsm.testing.clock import VirtualClock
    from actorfsm.testing.faults import CANCEL, CANCEL_TWICE, EVIL, Faults, raising, sweep
    from actorfsm.testing.loop import SimDeadlock, SimLeftovers, SimLoop, SimOverrun, observe, simulate
    from actorfsm.testing.notes import Note
    from actorfsm.testing.simulation import SimulatedSystem, Trace

__all__ = [
    "CANCEL",
    "CANCEL_TWICE",
    "EVIL",
    "CapsuleError",
    "ContractBroken",
    "CrashCapsule",
    "Facts",
    "Faults",
    "Note",
    "SimDeadlock",
    "SimLeftovers",
    "SimLoop",
    "SimOverrun",
    "SimulatedSystem",
    "Trace",
    "Violation",
    "VirtualClock",
    "check",
    "crash_capsule",
    "observe",
    "raising",
    "replay_capsule",
    "simulate",
    "sweep",
]

_HOMES = {
    "checker": ("check", "Facts", "Violation", "ContractBroken"),
    "clock": ("VirtualClock",),
    "capsule": ("crash_capsule", "replay_capsule", "CrashCapsule", "CapsuleError"),
    "faults": ("sweep", "Faults", "CANCEL", "CANCEL_TWICE", "EVIL", "raising"),
    "loop": ("simulate", "observe", "SimLoop", "SimDeadlock", "SimLeftovers", "SimOverrun"),
    "notes": ("Note",),
    "simulation": ("SimulatedSystem", "Trace"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"{__name__}.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
