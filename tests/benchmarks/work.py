"""The work that every contender does, and the proof that it was done.

The machine has two states, `A` and `B`, and one event that moves it from either to the other. A transition
is: one async before-hook that returns True, one body that adds the event's amount to one of four scalar data
fields, one async after-hook. So the life is cyclic, and after `n` events state, data and number of
transitions of each machine are known exactly: a contender that loses, repeats or cuts short an event is
refused, however fast it was.

Timed: only the sending and the handling. Not timed: spawning, stopping, verifying.
"""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

AMOUNT = 3
"""What each event adds to the field `total`."""

LINES = 20
"""Sub-models in the nested list of the variant that has one."""

LoopFactory = Callable[[], "asyncio.AbstractEventLoop"]


class Workload(StrEnum):
    """What is sent, by whom, and what is waited for."""

    ASK = "w1"
    """1,000 machines, 100 senders with one outstanding ask each; each sender has its own ten machines."""
    ROUND = "w2-round"
    """One tell to each machine, then one turn of the loop, again and again, then drain."""
    BURST = "w2-burst"
    """All tells at once, then drain."""
    HOT = "w4"
    """One machine, one caller, one ask after the other."""


ALL = tuple(Workload)
ASKS = (Workload.ASK, Workload.HOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much of a workload one run does.

    `events` are per machine, and odd, so that the end state is not the first.
    """

    machines: int
    senders: int
    events: int
    loop_factory: LoopFactory | None = None

    @property
    def ids(self) -> list[str]:
        return [f"order-{number}" for number in range(self.machines)]

    @property
    def total_events(self) -> int:
        return self.machines * self.events

    def hands(self) -> list[list[str]]:
        """The machines of each sender."""
        ids = self.ids
        return [ids[sender :: self.senders] for sender in range(self.senders)]


@dataclass(frozen=True, slots=True)
class End:
    """How one machine was found after a run."""

    state: str
    customer: str
    total: int
    weight: float
    urgent: bool
    seq: int


@dataclass(frozen=True, slots=True)
class Run:
    """One timed run and the machines it left."""

    seconds: float
    ends: Sequence[End]


class WrongResult(Exception):
    """A contender did not do the work that it was timed for."""


def expected_end(events: int) -> End:
    """Every machine after `events` events."""
    return End("B" if events % 2 else "A", "c-1", events * AMOUNT, 1.5, False, events)


def verify(name: str, run: Run, load: Load) -> None:
    """Refuse a run whose machines are not all exactly where the events lead.

    Raises:
        WrongResult: with the first machine that is elsewhere.
    """
    if len(run.ends) != load.machines:
        msg = f"{name}: {len(run.ends)} machines at the end, {load.machines} at the start"
        raise WrongResult(msg)
    wanted = expected_end(load.events)
    for number, end in enumerate(run.ends):
        if end != wanted:
            msg = f"{name}: machine {number} ended as {end}, not as {wanted}"
            raise WrongResult(msg)


class Contender(Protocol):
    """One row of the table."""

    @property
    def name(self) -> str: ...

    @property
    def workloads(self) -> Sequence[Workload]: ...

    @property
    def share(self) -> float:
        """Part of the events that this contender does in a run; slow ones do fewer, the rate is what counts."""

    @property
    def baseline(self) -> str:
        """The variant of `a` that does the same work."""

    @property
    def goals(self) -> Mapping[Workload, float]:
        """Wanted ratio to `baseline`; shown, never enforced."""

    def missing(self) -> str | None:
        """Why it cannot run here, or None."""

    def run(self, workload: Workload, load: Load) -> Run:
        """Set up, time the workload, collect the ends, take down."""


@dataclass(frozen=True, slots=True)
class Session:
    """An asyncio contender with its machines alive: what the senders call, bound once."""

    make_event: Callable[[int], Any]
    ask: Callable[[str, Any], Any]
    end: Callable[[str], End]
    tell: Callable[[str, Any], Any] | None = None
    tell_last: Callable[[str, Any], Any] | None = None
    """A tell whose handling can be awaited: the last one to each machine."""


class Opener(Protocol):
    """Spawns the machines with these ids, yields the session, stops them."""

    def __call__(self, ids: Sequence[str], /) -> Any: ...


def not_installed(*modules: str) -> str | None:
    """A sentence that names the first module that cannot be imported, or None."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed"
    return None


@dataclass(frozen=True, kw_only=True)
class AsyncContender:
    """A contender whose senders are coroutines; all of them are driven by the same code (`drive.py`)."""

    name: str
    open: Opener
    workloads: Sequence[Workload] = ALL
    share: float = 1.0
    baseline: str = "a"
    goals: Mapping[Workload, float] = field(default_factory=dict)
    requires: Sequence[str] = ()
    build_per_send: bool = False
    check: Callable[[], str | None] | None = None

    def missing(self) -> str | None:
        return not_installed(*self.requires) or (self.check() if self.check else None)

    def run(self, workload: Workload, load: Load) -> Run:
        import asyncio

        from .drive import drive

        gc.collect()
        with asyncio.Runner(loop_factory=load.loop_factory) as runner:
            return runner.run(drive(self, workload, load))
