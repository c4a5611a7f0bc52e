"""Fault injection at every await: run a scenario once to count, then once for each place and each fault.

It knows nothing of actors. A scenario is an async function that takes a `Faults`. It has two kinds of places:

- points: each call of `Faults.point` or `Faults.hit`, in whatever task, counted over the run. A fault is raised at
  the call, or cancels the task that makes it.
- steps: each step of the loop while the scenario's main task is not done. The main task is cancelled before the
  step. As there is a step between any two things that can happen, this covers each await of the main task in each
  of its moments: what it waits for is pending, has just been done, is done and nobody has looked yet. Nothing is
  raised at a step: asyncio itself brings only cancellation into an await.

Each run has its own `SimLoop` of the same seed, so that up to its fault it is the first run again; a scenario of
which that is not true is refused.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

from actorfsm.testing.loop import Outcome, SimLoop, every_error, observe

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence

T = TypeVar("T")

MAX_STEPS: Final = 100_000  # of one run: a scenario is short


class Unprintable(Exception):
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        raise ValueError("this exception has no text")

    __repr__ = __str__


class NeedsArguments(Exception):
    """An exception that `type(error)(*error.args)` cannot make again: its arguments are keyword-only."""

    def __init__(self, *, code: int) -> None:
        super().__init__()
        self.code = code


EVIL: Final[Mapping[str, Callable[[], BaseException]]] = {
    "ValueError": lambda: ValueError("injected"),
    "CancelledError": lambda: asyncio.CancelledError("injected"),
    "StopIteration": lambda: StopIteration("injected"),
    "StopAsyncIteration": lambda: StopAsyncIteration("injected"),
    "GeneratorExit": lambda: GeneratorExit("injected"),
    "SystemExit": lambda: SystemExit("injected"),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("injected", [asyncio.CancelledError(), ValueError()]),
    "RecursionError": lambda: RecursionError("injected"),
    "MemoryError": lambda: MemoryError("injected"),
    "TimeoutError": lambda: TimeoutError("injected"),
    "Unprintable": Unprintable,
    "NeedsArguments": lambda: NeedsArguments(code=7),
}
"""The twelve exceptions that user code may raise at a runtime. KeyboardInterrupt belongs to the signal handler.

Python itself turns a StopIteration that leaves a coroutine into a RuntimeError: only `Faults.hit` in a plain
function delivers it as it is.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What is done at a place: an exception is raised, or the task is cancelled.

    Attributes:
        name: The action in reports.
        error: Makes the exception to raise; None to cancel.
        cancels: How often to cancel. Each cancellation after the first comes as soon as the task has run since the
            one before: it meets the task at the next await of its clean-up.
    """

    name: str
    error: Callable[[], BaseException] | None = None
    cancels: int = 0

    def __post_init__(self) -> None:
        """Refuse an action that does nothing, or two things.

        Raises:
            ValueError: Neither an error nor a number of cancellations is given, or both are.
        """
        if (self.error is None) == (self.cancels < 1):
            raise ValueError(f"action {self.name!r}: give either error= or cancels= (at least 1)")


CANCEL: Final = Action(name="cancel", cancels=1)
CANCEL_TWICE: Final = Action(name="cancel twice", cancels=2)


def raising(errors: Mapping[str, Callable[[], BaseException]] = EVIL) -> tuple[Action, ...]:
    """Make one action per exception."""
    return tuple(Action(name=f"raise {name}", error=error) for name, error in errors.items())


ACTIONS: Final = (CANCEL, *raising())
"""The default: cancel once, and the evil exceptions. Add `CANCEL_TWICE` for a thorough sweep."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a fault strikes: the n-th point or before the n-th step, counted from 1."""

    kind: Literal["point", "step"]
    n: int
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.n}" + (f" ({self.name})" if self.name else "")


class Faults:
    """What a scenario gets: it marks its points here, and the fault of the run strikes at one of them.

    Attributes:
        points: The names of the points that were reached, in order.
        steps: The steps of the loop before the main task was done.
        fired: Whether the fault has struck.
        injected: The exception that was raised, None before and for cancellations.
        victim: The task that is cancelled, None before and for exceptions.
    """

    def __init__(self, loop: SimLoop, place: Place | None = None, action: Action | None = None) -> None:
        self.points: list[str] = []
        self.steps = 0
        self.fired = False
        self.injected: BaseException | None = None
        self.victim: asyncio.Task[Any] | None = None
        self._loop = loop
        self._place = place
        self._action = action
        self._main: asyncio.Task[Any] | None = None
        self._cancels_left = 0
        self._victim_ran = False
        loop.on_step = self._before_step

    @property
    def repeats(self) -> bool:
        """Whether the fault of this run is still to strike: until then it is the undisturbed run once more."""
        return self._place is not None and not self.fired

    async def point(self, name: str = "") -> None:
        """Mark an await: yield to the loop once, then raise if the exception of this run belongs here."""
        error = self._reach(name)
        await asyncio.sleep(0)
        if error is not None:
            raise error

    def hit(self, name: str = "") -> None:
        """Mark a place in a plain function; a cancellation meets the task at its next await.

        In a callback that belongs to no task there is nobody to cancel, and a cancellation does nothing.
        """
        error = self._reach(name)
        if error is not None:
            raise error

    def _reach(self, name: str) -> BaseException | None:
        if self._loop.on_step is None:  # the run has ended, what is left only cleans up
            return None
        self.points.append(name)
        place, action = self._place, self._action
        if place is None or action is None or place.kind != "point" or place.n != len(self.points):
            return None
        self.fired = True
        if action.error is not None:
            self.injected = action.error()
            return self.injected
        self._start_cancelling(asyncio.current_task(), action)
        return None

    def _before_step(self, step: int) -> None:
        task = self._loop.upcoming
        if self._main is None:
            self._main = task  # the first step of a run starts the main task
        if self._main is not None and not self._main.done():
            self.steps = step
        place, action = self._place, self._action
        if place is not None and action is not None and place.kind == "step" and place.n == step:
            self.fired = True
            self._start_cancelling(self._main, action)
        self._cancel_if_due()
        if task is not None and task is self.victim:
            self._victim_ran = True

    def _start_cancelling(self, victim: asyncio.Task[Any] | None, action: Action) -> None:
        self.victim = victim
        self._cancels_left = action.cancels
        self._victim_ran = True

    def _cancel_if_due(self) -> None:
        if self.victim is not None and self._cancels_left and self._victim_ran:
            self.victim.cancel()
            self._cancels_left -= 1
            self._victim_ran = False


@dataclass(frozen=True, slots=True)
class Run(Generic[T]):
    """One run of a sweep: the fault, and what became of the scenario.

    Attributes:
        place: Where the fault struck; None in the first run, which has no fault.
        action: What was done there.
        outcome: How the run ended.
        faults: What the scenario had in hand: the points it reached, what was injected.
    """

    place: Place | None
    action: Action | None
    outcome: Outcome[T]
    faults: Faults

    def __str__(self) -> str:
        fault = "no fault" if self.action is None else f"{self.action.name} at {self.place}"
        return f"{fault}: {self.outcome.kind}"


@dataclass(frozen=True, slots=True)
class Sweep(Generic[T]):
    """All runs of a sweep, the undisturbed one apart."""

    baseline: Run[T]
    runs: tuple[Run[T], ...]

    def __str__(self) -> str:
        faults = self.baseline.faults
        return f"points={len(faults.points)} steps={faults.steps} runs={len(self.runs)}"

    def tally(self) -> Counter[str]:
        """Count the runs by action and kind of outcome."""
        return Counter(f"{run.action.name}: {run.outcome.kind}" for run in self.runs if run.action)


def sweep(
    scenario: Callable[[Faults], Coroutine[Any, Any, T]],
    *,
    actions: Sequence[Action] = ACTIONS,
    check: Callable[[Run[T]], None] | None = None,
    seed: int = 0,
    shuffle: bool = True,
    steps: bool = True,
    max_steps: int = MAX_STEPS,
) -> Sweep[T]:
    """Run a scenario undisturbed, then once for each place and each action that fits it.

    Args:
        scenario: The same each time it is called: it makes its own world and keeps nothing outside.
        actions: What to do at each place.
        check: Called with each run, the undisturbed one first; it raises if it does not like what it sees. The run
            is added to its exception as a note.
        seed: The seed of all runs.
        shuffle: False for asyncio's own order in all runs.
        steps: Whether to cancel the main task before each step, besides the points.
        max_steps: The bound on the steps of each run; a run that takes more ends as "overrun".

    Returns:
        The runs, points first. After `check` the tracebacks are dropped, so that the worlds of the runs can die.

    Raises:
        BaseException: What the undisturbed scenario raises, and what `check` raises.
        RuntimeError: The fault did not strike: the scenario is not the same each time.
    """

    def one(place: Place | None, action: Action | None) -> Run[T]:
        loop = SimLoop(seed, shuffle=shuffle, max_steps=max_steps)
        faults = Faults(loop, place, action)
        run = Run(place, action, observe(lambda: scenario(faults), loop=loop), faults)
        _judge(run, check)
        loop.unhandled.clear()
        return run

    baseline = one(None, None)
    return Sweep(
        baseline, tuple(one(*fault) for fault in _every_fault(baseline.faults, actions, steps=steps))
    )


def _every_fault(seen: Faults, actions: Sequence[Action], *, steps: bool) -> Iterator[tuple[Place, Action]]:
    for n, name in enumerate(seen.points, start=1):
        for action in actions:
            yield Place("point", n, name), action
    if not steps:
        return
    for n in range(1, seen.steps + 1):
        for action in actions:
            if action.cancels:
                yield Place("step", n), action


def _judge(run: Run[T], check: Callable[[Run[T]], None] | None) -> None:
    error = run.outcome.error
    if error is not None and run.action is None:
        raise error
    if isinstance(error, KeyboardInterrupt) and error is not run.faults.injected:
        raise error
    if run.action is not None and not run.faults.fired:
        raise RuntimeError(f"{run.place} was not reached again: the scenario is not the same each time")
    if check is not None:
        try:
            check(run)
        except BaseException as refusal:
            refusal.add_note(f"sweep: {run}")
            raise
    if error is not None:
        for each in every_error(error):
            each.__traceback__ = None
