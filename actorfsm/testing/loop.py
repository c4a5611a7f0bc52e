"""A seeded event loop with a virtual clock: concurrency that repeats.

Owns the order in which ready callbacks run and the time they see, and nothing else: no selector, no sockets, no
threads, no wall clock. The law: the trace is a function of the program and the seed. It is the same in another
process, whatever PYTHONHASHSEED says; nothing here iterates over a set.

`simulate` runs one coroutine function to rest and fails if anything is left behind; `observe` does the same and
reports instead of raising, for those who inject faults and judge by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import heapq
import itertools
import random
import sys
import threading
import traceback
from collections import deque
from dataclasses import dataclass
from math import inf, isnan
from pathlib import PurePath
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar, TypeVarTuple, cast
from weakref import WeakValueDictionary, ref

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
    from concurrent.futures import Executor

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MAX_STEPS = 1_000_000
_FEW_FUTURES = 256
"""So many references to futures are kept before those to dead ones are looked for."""
_LAST_STEPS = 10_000  # what tasks that are thrown away may take to clean up


class SimDeadlock(RuntimeError):
    """Nothing is ready and no timer is set, but the future that the loop runs for is not done."""


class SimOverrun(RuntimeError):
    """The run took more than `max_steps` steps: a livelock, or a bound that is too small."""


class SimLeftovers(AssertionError):
    """The main coroutine ended, and something outlived it. `found` names each thing."""

    def __init__(self, found: tuple[str, ...], *, seed: int) -> None:
        super().__init__(f"seed {seed} left behind:" + "".join(f"\n  {thing}" for thing in found))
        self.found = found
        self.seed = seed


class SimLoop(asyncio.BaseEventLoop):
    """An event loop whose order comes from a seed and whose time is virtual.

    One step runs one ready callback, picked at random (first in, first out without `shuffle`). Time starts at 0.0
    and moves only when nothing is ready: to the next timer, exactly. Timers that fall due together become ready by
    deadline, then in the order in which they were made. `stop` ends the run after the current step.

    `run_in_executor` runs the function on the loop's own thread, as a step of its own in an empty context: other
    steps may come before it, none runs during it, and a function that waits for the loop blocks for ever.

    Args:
        seed: Chooses the order, and nothing else.
        shuffle: False keeps asyncio's order, for a run that is easy to read.
        max_steps: The bound after which `SimOverrun` is raised.

    Attributes:
        steps: How many callbacks have run.
        on_step: Called with n before the n-th step runs (n counts from 1); it may cancel tasks.
        upcoming: While `on_step` is called, the task that the step will resume, None for a plain callback.
        unhandled: The contexts that reached the default exception handler, in order. They are not logged.
    """

    simulated = True
    """A system starts no thread on it that watches the computer's clock."""

    def __init__(self, seed: int = 0, *, shuffle: bool = True, max_steps: int = MAX_STEPS) -> None:
        self._thread: int | None = None  # the base class asks is_running()
        super().__init__()
        self.seed = seed
        self.shuffle = shuffle
        self.max_steps = max_steps
        self.steps = 0
        self.on_step: Callable[[int], None] | None = None
        self.upcoming: asyncio.Task[Any] | None = None
        self.unhandled: list[dict[str, Any]] = []
        self._random = random.Random(seed)
        self._now = 0.0
        self._queue: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._births = itertools.count(1)
        self._task_names = itertools.count(1)
        # Weak, as in asyncio, so that a task which nobody holds can die; in the order of birth, unlike asyncio.
        self._tasks: WeakValueDictionary[int, asyncio.Task[Any]] = WeakValueDictionary()
        self._futures: list[tuple[ref[asyncio.Future[Any]], CodeType, int]] = []
        self._many_futures = _FEW_FUTURES
        self._generators: WeakValueDictionary[int, AsyncGenerator[Any, Any]] = WeakValueDictionary()
        self._halted = False

    def __repr__(self) -> str:
        return f"<SimLoop seed={self.seed} steps={self.steps} time={self._now:g}>"

    # Running: the path of a callback, from top to bottom.

    def run_forever(self) -> None:
        """Run until `stop`.

        Raises:
            SimDeadlock: Nothing is ready and no timer is set.
            SimOverrun: The bound on steps is reached.
        """
        self._run(jump=True)

    def run_until_idle(self) -> None:
        """Run what is ready at the present time; the clock stands still.

        Raises:
            SimOverrun: The bound on steps is reached.
        """
        self._run(jump=False)

    def _run(self, *, jump: bool) -> None:
        self._check_runnable()
        hooks = sys.get_asyncgen_hooks()
        self._thread = threading.get_ident()
        sys.set_asyncgen_hooks(firstiter=self._generator_started, finalizer=self._generator_dropped)
        asyncio._set_running_loop(self)  # noqa: SLF001 - asyncio exports it for loops
        next_handle, step = self._next_handle, self._step
        try:
            while (handle := next_handle(jump=jump)) is not None:
                step(handle)
                if self._halted:
                    return
            if jump and not self._halted:
                self._raise_deadlock()
        finally:
            self._thread = None
            self._halted = False
            asyncio._set_running_loop(None)  # noqa: SLF001 - as above
            sys.set_asyncgen_hooks(*hooks)

    def _check_runnable(self) -> None:
        self._check_open()
        if self.is_running():
            raise RuntimeError("This event loop is already running")
        if asyncio._get_running_loop() is not None:  # noqa: SLF001 - the one that does not raise
            raise RuntimeError("Cannot run the event loop while another loop is running")

    def _check_open(self) -> None:
        if self.is_closed():
            raise RuntimeError("Event loop is closed")

    def _next_handle(self, *, jump: bool) -> asyncio.Handle | None:
        """Take the next callback to run, moving the clock if it has to; None when there is none."""
        timers, queue, shuffle, draw = self._timers, self._queue, self.shuffle, self._random.random
        while True:
            while timers and (timers[0][0] <= self._now or timers[0][2]._cancelled):  # noqa: SLF001 -- called per step
                queue.append(heapq.heappop(timers)[2])
            while queue:
                if not shuffle:
                    handle = queue.popleft()
                else:
                    if len(queue) > 1:
                        chosen = int(draw() * len(queue))
                        queue[chosen], queue[-1] = queue[-1], queue[chosen]
                    handle = queue.pop()
                if not handle._cancelled:  # noqa: SLF001 -- as above
                    return handle
            if not jump or not timers or timers[0][0] == inf:
                return None
            self._now = timers[0][0]

    def _step(self, handle: asyncio.Handle) -> None:
        if self.steps >= self.max_steps:
            self._queue.appendleft(handle)
            raise SimOverrun(f"more than {self.max_steps} steps (seed {self.seed}, time {self._now:g})")
        self.steps += 1
        if self.on_step is not None:
            self.upcoming = _task_resumed_by(handle)
            self.on_step(self.steps)
            self.upcoming = None
            if handle.cancelled():
                return
        handle._run()  # noqa: SLF001 - running handles is what a loop is for

    def stop(self) -> None:
        """Stop after the current step; what is ready stays ready."""
        self._halted = True

    def is_running(self) -> bool:
        """Tell whether the loop runs now."""
        return self._thread is not None

    def close(self) -> None:
        """Close the loop and forget what is ready and scheduled."""
        super().close()
        self._queue.clear()
        self._timers.clear()
        self._futures.clear()

    def abandon(self) -> None:
        """Cancel what is left, let it clean up within a bound, close the loop."""
        self.on_step = None
        self.max_steps = self.steps + _LAST_STEPS
        with contextlib.closing(self):
            while (left := self.pending_tasks()) and self.steps < self.max_steps:
                for task in left:
                    task.cancel()
                self._run_quietly(asyncio.wait(left))
            if self._generators:
                self._run_quietly(self.shutdown_asyncgens())

    def _run_quietly(self, last: Coroutine[Any, Any, object]) -> None:
        with contextlib.suppress(Exception, SystemExit, asyncio.CancelledError):
            self.run_until_complete(last)

    # Scheduling.

    def time(self) -> float:
        """Return the virtual time in seconds since the loop was made."""
        return self._now

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Make a callback ready."""
        self._check_open()
        handle = asyncio.Handle(callback, args, self, context)
        self._queue.append(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Make a callback ready, from the loop's own thread.

        Raises:
            RuntimeError: Another thread called while the loop runs: when it did so would not come from the seed.
        """
        if self._thread not in (None, threading.get_ident()):
            raise RuntimeError(
                "a SimLoop has one thread: a call from another one would come at a random moment"
            )
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Make a callback ready at a virtual time; at `inf`, never.

        Raises:
            ValueError: The time is not a number.
        """
        self._check_open()
        if isnan(when):
            raise ValueError("when must be a number, not NaN")
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._births), timer))
        return timer

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Make a callback ready after a delay in virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def run_in_executor(
        self,
        executor: Executor | None,  # noqa: ARG002 - there are no threads here
        func: Callable[[*Ts], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        """Run a function on the loop's own thread, as a step of its own; the executor is not used."""
        future: asyncio.Future[T] = self.create_future()
        self.call_soon(_run_inline, future, func, args, context=contextvars.Context())
        return future

    # Tasks, futures, generators: made as asyncio makes them, remembered in the order of birth.

    def create_future(self) -> asyncio.Future[Any]:
        """Make a future and remember where it was made."""
        future: asyncio.Future[Any] = asyncio.Future(loop=self)
        # inspect.stack() is a hundred times slower
        frame = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        self._futures.append((ref(future), frame.f_code, frame.f_lineno))
        if len(self._futures) > self._many_futures:
            self._futures = [entry for entry in self._futures if entry[0]() is not None]
            self._many_futures = 2 * len(self._futures) + _FEW_FUTURES
        return future

    def _alive_futures(self) -> Iterator[tuple[asyncio.Future[Any], CodeType, int]]:
        for reference, code, line in self._futures:
            future = reference()
            if future is not None:
                yield future, code, line

    def create_task(
        self,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        name: object = None,
        context: contextvars.Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        """Make a task. Without a name it is `task-n`, counted per loop and not, as in asyncio, per process."""
        known_as = f"task-{next(self._task_names)}" if name is None else name
        work = cast("Coroutine[Any, Any, T]", coro)  # the generators of Python 3.11 too
        task = super().create_task(work, name=known_as, context=context, **options)
        self._tasks[next(self._births)] = task
        return task

    def pending_tasks(self) -> list[asyncio.Task[Any]]:
        """Return the tasks that are not done, in the order in which they were made.

        Tasks made past `create_task`, as eager ones are on Python 3.12 and 3.13, come last, by name.
        """
        known = [task for task in self._tasks.values() if not task.done()]
        members = set(known)
        strangers = [task for task in asyncio.all_tasks(self) if task not in members]
        return known + sorted(
            strangers, key=lambda task: (len(task.get_name()), task.get_name(), _where(task))
        )

    async def shutdown_asyncgens(self) -> None:
        """Close the asynchronous generators that are still alive, in the order in which they were started."""
        generators = list(self._generators.values())
        self._generators.clear()
        for generator in generators:
            try:
                await generator.aclose()
            except Exception as error:  # noqa: BLE001 - as asyncio: report it, close the others
                said = "an error occurred during closing of an asynchronous generator"
                self.call_exception_handler({"message": said, "exception": error, "asyncgen": generator})

    def _generator_started(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._generators[next(self._births)] = generator

    def _generator_dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        if not self.is_closed():
            self.call_soon(self.create_task, generator.aclose())

    # Judging.

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Collect what nobody handled."""
        self.unhandled.append(context)

    def leftovers(self, *ignored: asyncio.Future[Any]) -> tuple[str, ...]:
        """Name everything that is still alive; at rest the answer is empty.

        Pending tasks (but the one that asks) and where they wait, ready callbacks, timers, futures of
        `create_future` that are pending, exceptions that nobody has retrieved or handled. What only waits for the
        garbage collector does not count: if something is found, garbage is collected, and the answer given anew.
        """
        found = self._find(ignored)
        if found:
            gc.collect()
            found = self._find(ignored)
        return found

    def _find(self, ignored: tuple[asyncio.Future[Any], ...]) -> tuple[str, ...]:
        tasks = [task for task in self.pending_tasks() if task not in ignored and task is not _current(self)]
        ready = [handle for handle in self._queue if not handle.cancelled()]
        timers = [timer for timer in sorted(self._timers) if not timer[2].cancelled()]
        made = list(self._alive_futures())
        futures = [(code, line) for future, code, line in made if not future.done()]
        unseen = [
            future
            for future in (*self._tasks.values(), *(future for future, _, _ in made))
            if _is_unseen(future)
        ]
        return (
            *(f"pending task {_where(task)}" for task in tasks),
            *(f"ready callback {_callback_name(handle)}" for handle in ready),
            *(f"timer at {when:g}: {_callback_name(timer)}" for when, _, timer in timers),
            *(f"pending future, made in {_place(code, line)}" for code, line in futures),
            *(f"exception never retrieved: {_unseen(future)}" for future in unseen if future not in ignored),
            *(f"unhandled: {_complaint(context)}" for context in self.unhandled),
        )

    def _raise_deadlock(self) -> NoReturn:
        waiting = "".join(f"\n  {_where(task)}" for task in self.pending_tasks())
        at = f"seed {self.seed}, step {self.steps}, time {self._now:g}"
        raise SimDeadlock(
            f"nothing is ready and no timer is set ({at}); these wait for ever:{waiting or ' nobody'}"
        )


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """How a simulated run ended.

    Attributes:
        value: What the main coroutine returned; None if it did not.
        error: What ended the run instead: the main coroutine's exception, a `SystemExit` of any task, `SimDeadlock`
            or `SimOverrun`.
        leftovers: What was alive after the main coroutine's end, besides itself: see `SimLoop.leftovers`.
        steps: Steps of the loop until then.
        time: Virtual seconds until then.
    """

    value: T | None
    error: BaseException | None
    leftovers: tuple[str, ...]
    steps: int
    time: float

    @property
    def kind(self) -> Literal["returned", "raised", "cancelled", "deadlock", "overrun"]:
        """The outcome in one word."""
        match self.error:
            case None:
                return "returned"
            case asyncio.CancelledError():
                return "cancelled"
            case SimDeadlock():
                return "deadlock"
            case SimOverrun():
                return "overrun"
            case _:
                return "raised"


def observe(main: Callable[[], Coroutine[Any, Any, T]], *, loop: SimLoop) -> Outcome[T]:
    """Run a coroutine function on a fresh loop, see what is left, close the loop; report and never raise.

    After the main coroutine's end the loop runs on until nothing is ready at that moment; the clock stands still.
    What is alive then is left over. It is noted first, then cancelled. The garbage collector is off during the
    run: when it strikes depends on the process, not on the seed.
    """
    value, error = None, None
    with _manual_gc():
        task = loop.create_task(main(), name="main")
        try:
            value = loop.run_until_complete(task)
        except BaseException as raised:  # noqa: BLE001 - reported, whatever it is
            error = raised
        if task.done():
            try:
                loop.run_until_idle()
            except BaseException as raised:  # noqa: BLE001 - as above; the first one counts
                error = error or raised
        steps, time, leftovers = loop.steps, loop.time(), loop.leftovers(task)
        if leftovers and error is not None:
            # The traceback keeps dead frames, they keep what they held: that is not what the program left behind.
            for each in every_error(error):
                traceback.clear_frames(each.__traceback__)
            leftovers = loop.leftovers(task)
        loop.abandon()
    return Outcome(value, error, leftovers, steps, time)


def simulate(
    main: Callable[[], Coroutine[Any, Any, T]],
    *,
    seed: int = 0,
    shuffle: bool = True,
    max_steps: int = MAX_STEPS,
    leftovers: Literal["fail", "ignore"] = "fail",
) -> T:
    """Run a coroutine function to rest on a fresh `SimLoop` and return what it returns.

    Args:
        main: Called without arguments; what it returns is awaited.
        seed: Chooses the order of what is ready at the same time.
        shuffle: False for asyncio's own order.
        max_steps: The bound on the steps of the loop.
        leftovers: Whether anything left alive, or any exception that nobody handled, fails the run.

    Raises:
        SimLeftovers: Something outlived the main coroutine.
        SimDeadlock: The main coroutine waits for what cannot happen.
        SimOverrun: The bound on steps is reached.
        BaseException: Whatever the main coroutine raises, with the seed as a note.
    """
    outcome = observe(main, loop=SimLoop(seed, shuffle=shuffle, max_steps=max_steps))
    if outcome.error is not None:
        outcome.error.add_note(f"simulated with seed {seed}")
        for thing in outcome.leftovers:
            outcome.error.add_note(f"left behind: {thing}")
        raise outcome.error
    if outcome.leftovers and leftovers == "fail":
        raise SimLeftovers(outcome.leftovers, seed=seed)
    return cast("T", outcome.value)


def every_error(error: BaseException) -> Iterator[BaseException]:
    """Walk through an exception, its causes, its contexts and its members, each once."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        here = todo.pop()
        if here is None or id(here) in seen:
            continue
        seen.add(id(here))
        yield here
        todo += [here.__cause__, here.__context__]
        if isinstance(here, BaseExceptionGroup):
            todo += cast("BaseExceptionGroup[BaseException]", here).exceptions


@contextlib.contextmanager
def _manual_gc() -> Generator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _run_inline(future: asyncio.Future[T], func: Callable[[*Ts], T], args: tuple[*Ts]) -> None:
    if future.cancelled():
        return
    try:
        result = func(*args)
    except KeyboardInterrupt:
        raise
    except StopIteration:
        future.set_exception(RuntimeError("the function raised StopIteration, which no future can carry"))
    except BaseException as error:  # noqa: BLE001 - as a thread of a pool does
        future.set_exception(error)
    else:
        future.set_result(result)


# Words for messages. No address, no path of this machine: two runs of one seed read the same.


def _where(task: asyncio.Task[Any]) -> str:
    """Name the task, the calls it is in, outermost first, and the task it waits for, if it is one."""
    calls: list[str] = []
    inner: Any = task.get_coro()
    while inner is not None:
        frame = _first_of(inner, "cr_frame", "gi_frame", "ag_frame")
        if isinstance(frame, FrameType):
            calls.append(_place(frame.f_code, frame.f_lineno))
        inner = _first_of(inner, "cr_await", "gi_yieldfrom", "ag_await")
    waits_for = getattr(task, "_fut_waiter", None)
    on = f", waiting for {waits_for.get_name()!r}" if isinstance(waits_for, asyncio.Task) else ""
    return f"{task.get_name()!r} in {' > '.join(calls)}{on}"


def _first_of(thing: Any, *names: str) -> Any:
    return next((found for name in names if (found := getattr(thing, name, None)) is not None), None)


def _place(code: CodeType, line: int) -> str:
    return f"{code.co_qualname} ({PurePath(code.co_filename).name}:{line})"


def _callback_of(handle: asyncio.Handle) -> Any:
    return getattr(handle, "_callback", None)


def _callback_name(handle: asyncio.Handle) -> str:
    callback = _callback_of(handle)
    return str(getattr(callback, "__qualname__", type(callback).__qualname__))


def _task_resumed_by(handle: asyncio.Handle) -> asyncio.Task[Any] | None:
    callback = _callback_of(handle)
    owner: object = getattr(callback, "__self__", None)
    if not isinstance(owner, asyncio.Task):
        return None
    task: asyncio.Task[Any] = owner  # pyright: ignore[reportUnknownVariableType]
    return None if callback == task.cancel else task


def _current(loop: SimLoop) -> asyncio.Task[Any] | None:
    return asyncio.current_task(loop)


def _is_unseen(future: asyncio.Future[Any]) -> bool:
    """Tell whether the future carries an exception that nobody has retrieved."""
    return bool(getattr(future, "_log_traceback", False))


def _unseen(future: asyncio.Future[Any]) -> str:
    owner = f"task {future.get_name()!r}" if isinstance(future, asyncio.Task) else "future"
    error: BaseException | None = getattr(future, "_exception", None)  # exception() would retrieve it
    return f"{owner}, {_told(error)}"


def _complaint(context: dict[str, Any]) -> str:
    handle = context.get("handle")
    if isinstance(handle, asyncio.Handle):  # asyncio's own message names the path of the file
        return f"exception in callback {_callback_name(handle)}: {_told(context.get('exception'))}"
    said = context.get("message", "an exception")
    task: object = context.get("task") or context.get("future")
    of = f" (task {task.get_name()!r})" if isinstance(task, asyncio.Task) else ""
    return f"{said}{of}: {_told(context.get('exception'))}"


def _told(error: BaseException | None) -> str:
    return "no exception" if error is None else traceback.format_exception_only(error)[-1].strip()
