"""Jobs: work beside the machine. Begun by a commit, cancelled with the state, answered by an event (C22).

A job is no turn: it runs in a task and a context of its own, holds nobody up, and what it sends comes from outside. It
belongs to the state that the machine is in once it has begun, and ends with it, as an invoked service in SCXML.
A turn works on a table of its own, which says what the commit will leave; a rollback drops it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import BaseModel

from actorfsm.clock import seconds
from actorfsm.errors import InvalidEvent, JobGivenUp, MailboxFull
from actorfsm.event import Event
from actorfsm.ids import MAX_ID_LENGTH, is_name
from actorfsm.machine.draft import Drafted
from actorfsm.machine.signatures import is_async
from actorfsm.runtime.reply import described
from actorfsm.runtime.stored_jobs import StoredJob, note_of
from actorfsm.runtime.tasks import start_task
from actorfsm.trace import Record
from actorfsm.values import copy_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from actorfsm.clock import Duration
    from actorfsm.machine.definition import Transition
    from actorfsm.runtime.actor import Actor
    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.turn import Turn

__all__ = [
    "Job",
    "cancel",
    "cancel_all",
    "commit",
    "interrupt",
    "left_by",
    "resume",
    "revive",
    "settled",
    "start",
]

_COPIED: Final = (list, dict, set, tuple, deque, BaseModel)
"""What an argument may share with the data of the machine. A client or a pool is passed on as it is."""


class Job:
    """One job of a machine.

    Attributes:
        actor: Its machine.
        name: Its name, one of a kind at its machine.
        origin: The event in whose turn it was started.
        key: Its key in the journal, if it is promised there.
        note: What the journal has of it, likewise.
        answer: Its answer, from the moment when it is sent until it has its outcome.
        is_over: Whether nothing will come of it any more.
        is_interrupted: Whether a restart has stopped it, and it is still to be begun again or given up.
        is_revived: Whether it was that of an earlier life of the system.
    """

    __slots__ = (
        *("_again", "_arguments", "_done", "_failed", "_function", "_run", "_task", "_timeout_s"),
        *("actor", "answer", "is_interrupted", "is_over", "is_revived", "key", "name", "note", "origin"),
    )

    def __init__(  # noqa: PLR0917 -- made in two places
        self,
        actor: Actor,
        origin: Envelope,
        name: str,
        function: Callable[..., Any] | None,
        arguments: tuple[Any, ...],
        done: Any,
        failed: Any,
        timeout_s: float | None,
        *,
        again: bool,
    ) -> None:
        self.name = name
        self.origin = origin
        self.key = ""
        self.note = ""
        self.answer: Envelope | None = None
        self.is_over = False
        self.is_interrupted = self.is_revived = False
        self.actor = actor
        self._function = function
        self._arguments = arguments
        self._done = done
        self._failed = failed
        self._timeout_s = timeout_s
        self._again = again
        self._run = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether its coroutine runs."""
        return self._task is not None

    def begin(self) -> None:
        """Begin, or begin again."""
        parts = self.actor.kind.parts
        self.is_interrupted = False
        self._run += 1
        self._task = start_task(self._work(self._run, _unshared(self._arguments)), parts.loop)
        parts.keep(self._task, f"the job {self.name} of {self.actor.id}")

    def stop(self) -> None:
        """Cancel what runs; whatever comes of it is for nobody."""
        self._run += 1
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def end(self) -> None:
        """Follow its removal from the table: it is cancelled, and its answer, if it waits, is taken away."""
        self.is_over = True
        self.stop()
        if self.answer is not None and not self.answer.begun:
            self.actor.kind.parts.dispatcher.withdraw(self.actor, self.answer)

    def interrupt(self) -> None:
        """Follow a restart of the machine: what runs belongs to the old incarnation; an answer that waits is mail."""
        if self._task is not None:
            self.stop()
            self.is_interrupted = True

    def resume(self) -> None:
        """Begin again, or give up, now that the machine goes on after its restart."""
        if self._again:
            self.begin()
            return
        self.is_interrupted = False
        why = "the system ended" if self.is_revived else f"{self.actor.id} was restarted"
        self._fail(
            JobGivenUp(
                f"{why} while the job {self.name} ran; start it with again=True if it may run twice",
                machine_id=self.actor.id,
            )
        )

    async def _work(self, run: int, arguments: tuple[Any, ...]) -> None:
        deadline = asyncio.timeout(self._timeout_s)
        assert self._function is not None  # noqa: S101 -- only what is to be given up has none
        tracing = self.actor.kind.parts.tracing
        if tracing is not None:
            tracing.enter(self.origin)
        try:
            async with deadline:
                result = await self._function(*arguments)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if isinstance(error, GeneratorExit) and asyncio._get_running_loop() is None:  # noqa: SLF001 -- the loop is gone
                raise
            if run == self._run:
                self._task = None
                if deadline.expired():
                    error = TimeoutError(f"took longer than {self._timeout_s:g} s")
                self._fail(error)
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
        else:
            if run == self._run:
                self._task = None
                self._succeed(result)

    def _succeed(self, result: Any) -> None:
        if self._done is None:
            _remove(self)
            return
        try:
            self._send(_event_of(self._done, result, f"the job {self.name} returned"))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 -- what the user makes of the result may raise anything (C13)
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self._failed is not None:
            try:
                what = described(error) if isinstance(self._failed, type) else error
                self._send(_event_of(self._failed, what, f"the job {self.name} failed with"))
            except KeyboardInterrupt:
                raise
            except BaseException as second:  # noqa: BLE001 -- as above
                error = second
            else:
                return
        _remove(self)
        self._record(error)

    def _send(self, event: Event[Any, Any]) -> None:
        parts, actor = self.actor.kind.parts, self.actor
        envelope = parts.door.prepare_answer(actor, event, self.origin)
        envelope.job, envelope.of_runtime, envelope.keeps_settlement = self, True, True
        envelope.promise = self.key or None  # its outcome settles the job
        self.answer = envelope
        parts.admission.deliver(envelope)

    def _record(self, error: BaseException) -> None:
        actor, origin = self.actor, self.origin
        parts = actor.kind.parts
        parts.counters.jobs_failed += 1
        if parts.sinks:
            event_id = parts.event_id(origin)
            record = Record(
                "job_failed",
                actor.kind.name,
                actor.id,
                actor.incarnation,
                actor.seq,
                type(origin.event).__name__,
                event_id,
                origin.causation_id,
                origin.correlation_id or event_id,
                source=actor.node.name,
                target=actor.node.name,
                reason=described(error),
                hook=self.name,
                error=error,
            )
            parts.emit_outside(record)


# -- in a turn ---------------------------------------------------------------------------------------------------------


def start(  # noqa: PLR0917 -- as `Machine.start_job`, with the turn
    turn: Turn,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    done: Any,
    failed: Any,
    name: str | None,
    timeout: Duration | None,
    *,
    again: bool,
) -> str:
    """Start a job with the commit of the turn, and return its name; see `Machine.start_job`."""
    actor = turn.actor
    _check_function(function, arguments)
    _check_answer(turn, "done", done, many=True)
    _check_answer(turn, "failed", failed, many=False)
    table = _draft(turn)
    if name is None:
        name = _free_name(function, table)
    elif not is_name(name):
        raise InvalidEvent(
            f"the name of a job is a string of 1 to {MAX_ID_LENGTH} printable characters", machine_id=actor.id
        )
    timeout_s = None if timeout is None else seconds(timeout)
    if timeout_s is not None and not 0 < timeout_s < inf:
        raise InvalidEvent(
            f"timeout={timeout!r}: give a time above 0, in seconds or as a timedelta", machine_id=actor.id
        )
    table.pop(name, None)
    limit = actor.kind.options.job_limit
    if len(table) >= limit:
        raise MailboxFull(
            f"{actor.id} has {limit} jobs, as many as it may; raise `job_limit` if that is meant",
            machine_id=actor.id,
        )
    arguments = _unshared(arguments)
    job = Job(actor, turn.envelope, name, function, arguments, done, failed, timeout_s, again=again)
    if actor.kind.parts.has_journal:
        stored = StoredJob(name, again, function, arguments, done, failed, timeout_s)
        job.note = note_of(stored, actor.kind.parts.services)
    table[name] = job
    return name


def cancel(turn: Turn, name: str) -> bool:
    """Cancel a job with the commit of the turn; see `Machine.cancel_job`."""
    return _draft(turn).pop(name, None) is not None


def _check_function(function: Any, arguments: tuple[Any, ...]) -> None:
    inner: Any = function
    while isinstance(inner, partial):
        arguments = (*arguments, *inner.args, *inner.keywords.values())
        inner = inner.func
    cls: Any = inner.__class__
    called: Any = inner if inspect.isroutine(inner) else getattr(cls, "__call__", None)  # noqa: B004 -- to look at it
    name = getattr(inner, "__qualname__", type(inner).__name__)
    if called is None or not is_async(called):
        raise TypeError(
            f"the job {name} is not an `async def`; for a function that blocks write one that awaits "
            "asyncio.to_thread(...)"
        )
    if isinstance(getattr(inner, "__self__", None), Drafted) or any(
        isinstance(argument, Drafted) for argument in arguments
    ):
        raise TypeError(
            f"the job {name} would use the machine after its turn; write a function outside of the class, pass it the "
            "values that it needs, and let its result come back with done="
        )


def _check_answer(turn: Turn, argument: str, given: Any, *, many: bool) -> None:
    """Check what makes an event of a result or an error.

    Raises:
        InvalidEvent: It cannot.
    """
    if given is None or (not isinstance(given, type) and callable(given) and not is_async(given)):
        return
    events, who = turn.actor.kind.events, turn.actor
    event_class: Any = given
    if event_class not in events:
        takes = ", ".join(sorted(spec.name for spec in events.values()))
        raise InvalidEvent(
            f"{argument}={getattr(given, '__name__', given)}: give an event class that {who.kind.name} takes "
            f"({takes}), or a plain function that returns such an event",
            machine_id=who.id,
        )
    if not many and len(event_class.model_fields) > 1:
        raise InvalidEvent(
            f"{argument}={given.__name__}: it has several fields, and there is only the error's text; give a function "
            "of the error instead",
            machine_id=who.id,
        )


def _free_name(function: Any, table: dict[str, Job]) -> str:
    """Return the function's name, with a number if it is taken: only who names a job replaces one."""
    while isinstance(function, partial):
        function = function.func
    base = str(getattr(function, "__name__", type(function).__name__))
    name, number = base, 1
    while name in table:
        number += 1
        name = f"{base}-{number}"
    return name


def _draft(turn: Turn) -> dict[str, Job]:
    if turn.jobs is None:
        assert turn.choice is not None  # noqa: S101 -- a turn is writable from the choice on
        turn.jobs = _left_by(turn, turn.choice)
    return turn.jobs


def _left_by(turn: Turn, choice: Transition) -> dict[str, Job]:
    """Return the jobs that the commit of a transition leaves if the turn starts and cancels nothing."""
    if not choice.stays:
        return {}
    jobs = turn.actor.jobs or {}
    return {name: job for name, job in jobs.items() if job.answer is not turn.envelope}


def left_by(turn: Turn, choice: Transition) -> dict[str, Job]:
    """Return the jobs as the commit of a turn leaves them."""
    if choice.target.final and not choice.stays:
        return {}
    return _left_by(turn, choice) if turn.jobs is None else turn.jobs


# -- afterwards --------------------------------------------------------------------------------------------------------


def commit(turn: Turn, choice: Transition) -> None:
    """Let the commit of a turn start and cancel: the table of the turn is that of the machine now."""
    actor = turn.actor
    if actor.is_stopped:
        return  # the system went down meanwhile: nothing begins any more
    before = actor.jobs or {}
    table = {name: job for name, job in left_by(turn, choice).items() if not job.is_over}
    actor.jobs = table or None
    for job in before.values():
        if table.get(job.name) is not job:
            job.end()
    for job in table.values():
        if before.get(job.name) is not job:
            job.begin()


def settled(job: Job) -> None:
    """Follow the outcome of a job's answer: that was the last of it, and the journal knows by the answer."""
    job.key = ""
    _remove(job)


def _remove(job: Job) -> None:
    job.is_over = True
    actor, recording = job.actor, job.actor.kind.parts.recording
    if job.key and recording is not None:
        recording.job_is_over(actor, job.key)
    if actor.jobs is not None and actor.jobs.get(job.name) is job:
        del actor.jobs[job.name]
        if not actor.jobs:
            actor.jobs = None


def cancel_all(actor: Actor) -> None:
    """Cancel all jobs of a machine that is to run no more."""
    table, actor.jobs = actor.jobs or {}, None
    for job in table.values():
        job.end()


def revive(actor: Actor, origin: Envelope, key: str, stored: StoredJob) -> None:
    """Give a machine a job of an earlier life of the system; `resume` begins it again or gives it up."""
    name, again, function, arguments, done, failed, timeout_s = stored
    job = Job(actor, origin, name, function, arguments, done, failed, timeout_s, again=again)
    job.key, job.is_interrupted, job.is_revived = key, True, True
    actor.jobs = {**(actor.jobs or {}), job.name: job}


def interrupt(actor: Actor) -> None:
    """Stop the jobs of a machine that is to be restarted."""
    for job in (actor.jobs or {}).values():
        job.interrupt()


def resume(actor: Actor) -> None:
    """Begin the jobs of a restarted machine again, or give them up, as each was started."""
    for job in list((actor.jobs or {}).values()):
        if job.is_interrupted:
            job.resume()


def _event_of(given: Any, value: Any, what: str) -> Any:
    """Return the answer for a result or an error."""
    if not isinstance(given, type):
        made: Any = given(value)
        if not issubclass(type(made), Event):
            raise TypeError(f"what {what} was made into {type(made).__name__}, which is no event")
        return made
    event_class: type[Event[Any, Any]] = given
    fields = list(event_class.model_fields)
    if not fields:
        return event_class()
    if len(fields) == 1:
        return event_class.from_fields({fields[0]: value})
    if not isinstance(value, Mapping):
        raise InvalidEvent(
            f"{what} a {type(value).__name__}, where {event_class.__name__} takes a mapping of {', '.join(fields)}"
        )
    return event_class.from_fields(cast("Mapping[str, Any]", value))


def _unshared(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        copy_value(argument) if isinstance(argument, _COPIED) or is_dataclass(argument) else argument
        for argument in arguments
    )
