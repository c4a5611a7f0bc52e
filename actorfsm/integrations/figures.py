"""The figures of systems as metrics: one table, which OpenTelemetry and Prometheus read alike.

Nothing is counted here. A system keeps plain ints, and whoever collects reads them: once for each collection, on the
thread of the system's event loop.
"""

from __future__ import annotations

from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from weakref import ref

from actorfsm.errors import ActorFSMError, HookFailed, WrongThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from actorfsm.runtime.stats import Stats
    from actorfsm.runtime.system import ActorSystem
    from actorfsm.trace import Record

__all__ = [
    "FIGURES",
    "HANDLED",
    "PROCESS_DURATION",
    "PROCESS_SECONDS",
    "SYSTEM",
    "Figure",
    "Values",
    "Watched",
    "error_type",
]

Values: TypeAlias = "Mapping[tuple[str, ...], int]"
"""Figures by the values of their attributes, which have the order of `Figure.attributes`."""

SYSTEM: Final = "actorfsm.system"
"""The attribute that tells systems apart that were given names."""
PROCESS_DURATION: Final = "messaging.process.duration"
PROCESS_SECONDS: Final = (
    0.0001,
    0.0005,
    0.001,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
"""The bounds of its buckets. Most turns take less than the smallest bound of the conventions."""
HANDLED: Final = frozenset({"committed", "vetoed", "unhandled", "failed"})
"""The outcomes of events that had their turn."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric.

    Attributes:
        name: Its name.
        kind: `counter` for what only grows, `gauge` for what goes up and down.
        unit: What is counted, as UCUM writes it.
        description: What it says.
        attributes: The names of its attributes.
        read: Takes its values from the account of a system.
    """

    name: str
    kind: Literal["counter", "gauge"]
    unit: str
    description: str
    attributes: tuple[str, ...]
    read: Callable[[Stats], Values]


def _one(read: Callable[[Stats], int]) -> Callable[[Stats], Values]:
    return lambda stats: {(): read(stats)}


_MESSAGING: Final = ("messaging.system", "messaging.operation.name")

FIGURES: Final = (
    Figure(
        "messaging.client.sent.messages",
        "counter",
        "{message}",
        "Events that were sent: accepted, or refused, which error.type says.",
        (*_MESSAGING, "error.type"),
        lambda stats: {
            # What was taken back counts as never accepted from then on; a counter does not go back.
            ("actorfsm", "send", ""): stats.accepted + stats.withdrawn,
            ("actorfsm", "send", "_OTHER"): stats.refused,
        },
    ),
    Figure(
        "messaging.client.consumed.messages",
        "counter",
        "{message}",
        "Events that machines took up, each time that they did.",
        _MESSAGING,
        lambda stats: {("actorfsm", "process"): stats.turns_queued + stats.turns_eager + stats.turns_plain},
    ),
    Figure(
        "actorfsm.events.outcomes",
        "counter",
        "{event}",
        "Events by how they ended.",
        ("actorfsm.outcome",),
        lambda stats: {(kind,): count for kind, count in stats.outcomes.items()},
    ),
    Figure(
        "actorfsm.events.held",
        "gauge",
        "{event}",
        "Accepted events that have not ended, by where they are.",
        ("actorfsm.event.place",),
        lambda stats: {
            ("queued",): stats.queued,
            ("postponed",): stats.postponed,
            ("in_flight",): stats.in_flight,
            ("outgoing",): stats.outgoing,
        },
    ),
    Figure(
        "actorfsm.events.duplicates",
        "counter",
        "{event}",
        "Events that were answered by the outcome of an earlier one with the same id.",
        (),
        _one(lambda stats: stats.duplicates),
    ),
    Figure(
        "actorfsm.dead_letters",
        "counter",
        "{event}",
        "Dead letters.",
        (),
        _one(lambda stats: stats.dead_letters),
    ),
    Figure(
        "actorfsm.turns",
        "counter",
        "{turn}",
        "Turns by how they were run: from the mailbox, or inside the ask with a task or without one.",
        ("actorfsm.turn.path",),
        lambda stats: {
            ("queued",): stats.turns_queued,
            ("eager",): stats.turns_eager,
            ("plain",): stats.turns_plain,
        },
    ),
    Figure(
        "actorfsm.asks.pending",
        "gauge",
        "{ask}",
        "Asks that wait for an answer.",
        (),
        _one(lambda stats: stats.pending_asks),
    ),
    Figure(
        "actorfsm.asks.late_replies",
        "counter",
        "{ask}",
        "Replies that nobody waited for any more.",
        (),
        _one(lambda stats: stats.late_replies),
    ),
    Figure(
        "actorfsm.machines",
        "gauge",
        "{machine}",
        "Machines in memory, by class.",
        ("actorfsm.machine",),
        lambda stats: {(name,): count for name, count in stats.machines_by_class.items()},
    ),
    Figure(
        "actorfsm.machines.held",
        "gauge",
        "{machine}",
        "Machines that handle nothing until somebody lets them: quarantined, or suspended.",
        ("actorfsm.machine.status",),
        lambda stats: {("quarantined",): stats.quarantined, ("suspended",): stats.suspended},
    ),
    Figure(
        "actorfsm.machines.restarts",
        "counter",
        "{restart}",
        "Restarts of machines.",
        (),
        _one(lambda stats: stats.restarts),
    ),
    Figure(
        "actorfsm.machines.passivated",
        "counter",
        "{machine}",
        "How often a machine left memory.",
        (),
        _one(lambda stats: stats.passivated),
    ),
    Figure(
        "actorfsm.failures",
        "counter",
        "{failure}",
        "Failures of user code that are no outcomes of events, by what failed.",
        ("actorfsm.failure",),
        lambda stats: {
            ("after_hook",): stats.after_hooks_failed,
            ("callback",): stats.callbacks_failed,
            ("job",): stats.jobs_failed,
            ("sink",): stats.sinks_failed,
        },
    ),
    Figure(
        "actorfsm.loop.blocked",
        "counter",
        "{time}",
        "How often the event loop was found blocked.",
        (),
        _one(lambda stats: stats.loop_blocked),
    ),
    Figure("actorfsm.jobs", "gauge", "{job}", "Jobs that run.", (), _one(lambda stats: stats.jobs)),
    Figure("actorfsm.timers", "gauge", "{timer}", "Timers that run.", (), _one(lambda stats: stats.timers)),
    Figure(
        "actorfsm.timers.fired",
        "counter",
        "{timer}",
        "Timers that fell due.",
        (),
        _one(lambda stats: stats.timers_fired),
    ),
    Figure(
        "actorfsm.timers.withdrawn",
        "counter",
        "{timer}",
        "Timers that were cancelled while their events waited.",
        (),
        _one(lambda stats: stats.timers_withdrawn),
    ),
    Figure(
        "actorfsm.journal.unwritten",
        "gauge",
        "{entry}",
        "Entries, and outcomes without one, that the journal has not yet stored.",
        (),
        _one(lambda stats: stats.unwritten),
    ),
)
"""All metrics but the histogram."""


def error_type(record: Record) -> str:
    """Return what user code raised, or the error that an event ended in, by class; empty if it is none."""
    error = record.error
    if error is None or record.name in {"committed", "vetoed"}:
        return ""
    return type(error.__cause__ or error if isinstance(error, HookFailed) else error).__name__


class Watched:
    """The systems whose figures somebody reads. One that has ended is forgotten; nobody is kept alive.

    Args:
        timeout_s: How long a collection on another thread waits for the event loop; a system that does not answer is
            left out of it.
    """

    def __init__(self, timeout_s: float) -> None:
        self._systems: dict[ref[ActorSystem[Any]], str] = {}
        self._timeout_s = timeout_s

    def add(self, system: ActorSystem[Any], name: str) -> None:
        """Read one more system.

        Raises:
            ActorFSMError: Another one has this name, so that nobody could tell whose the figures are.
        """
        alive = {known() for known, its_name in self._systems.items() if its_name == name}
        if any(other is not None and other is not system and other.report is None for other in alive):
            raise ActorFSMError(
                f"another system is called {name!r}"
                if name
                else "two systems need names: add(system, name='orders')"
            )
        self._systems[ref(system)] = name

    def accounts(self) -> list[tuple[str, Stats]]:
        """Return the accounts of the systems that run, each with the system's name."""
        return list(self._read())

    def _read(self) -> Iterator[tuple[str, Stats]]:
        for known, name in list(self._systems.items()):
            system = known()
            if system is None or system.report is not None:
                self._systems.pop(known, None)
                continue
            stats = self._account_of(system)
            if stats is not None:
                yield name, stats

    def _account_of(self, system: ActorSystem[Any]) -> Stats | None:
        try:
            return system.stats()
        except WrongThread:
            pass
        except ActorFSMError:  # in a forked child
            return None
        answer = system.threadsafe.call(system.stats)
        try:
            return answer.result(self._timeout_s)
        except (ActorFSMError, TookTooLong):
            answer.cancel()
            return None
