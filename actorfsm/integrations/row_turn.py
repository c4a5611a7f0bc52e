"""One turn of a machine whose state somebody else keeps: a row, a document. It decides; whoever keeps the state writes.

The hooks run as those of an actor do: on a draft, each free to refuse, in the same order and with the same errors. What
takes a mailbox, a timer queue or a journal is not to be had here, and is refused with what to do instead.
"""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import uuid4

from actorfsm.errors import (
    ConcurrentTransition,
    DefinitionError,
    Discarded,
    HookFailed,
    InvalidData,
    InvalidEvent,
    ReadOnly,
    Unhandled,
    Unsupported,
    Veto,
    Vetoed,
)
from actorfsm.ids import check_event_id, derive_id
from actorfsm.machine.data import DataRules
from actorfsm.machine.definition import Transition
from actorfsm.machine.draft import Drafts, show_fields
from actorfsm.machine.machine import definition_of
from actorfsm.machine.selection import guards_that_refused, in_words, select
from actorfsm.runtime.perform import refusal
from actorfsm.runtime.reply import described, safe_text
from actorfsm.trace import Record
from actorfsm.values import copy_value

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from datetime import datetime

    from actorfsm.clock import Clock, Duration
    from actorfsm.event import Event
    from actorfsm.machine.definition import Step
    from actorfsm.machine.machine import Machine
    from actorfsm.trace import Sink

__all__ = ["RowKind", "RowTurn", "at_once"]

T = TypeVar("T")


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns that has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise AssertionError("a hook waited where nothing can")


class RowKind:
    """A machine class whose state is kept elsewhere.

    Attributes:
        machine_class: The class.
        name: Its name.
        fields: Names of its data fields.
    """

    def __init__(self, machine_class: type[Machine[Any, Any]]) -> None:
        """Read the class.

        Raises:
            DefinitionError: It is not one of a machine that can live, or needs more than a row has.
        """
        self.definition: Final = definition_of(machine_class)
        self.machine_class: Final = machine_class
        self.name: Final = self.definition.name
        self.fields: Final = tuple(machine_class.__pydantic_fields__)
        self.rules: Final = DataRules(self.definition)
        self.drafts: Final = Drafts(machine_class)
        for node in self.definition.states.values():
            if node.timers:
                self._refuse(f"the timeout of {node.name}", "nobody is there to wake it")
            if any(
                not isinstance(choice, Transition) for choices in node.choices.values() for choice in choices
            ):
                self._refuse(f"what {node.name} postpones", "it has no mailbox")
        for hook in self.definition.hooks:
            if hook.step.durable:
                self._refuse(f"the durable hook {hook.step.name}", "it has no journal")

    def _refuse(self, what: str, why: str) -> None:
        raise DefinitionError(
            f"{self.name} cannot live in a row or document with {what}: {why}; leave that away, or run it in an "
            "ActorSystem"
        )


class RowTurn:
    """The handling of one event; what the machine's instance sees of it, see `TurnView`.

    Attributes:
        seq: The version that the row has after it.
        old: The state that it found.
        new: The state that the chosen transition leads to; None if none was chosen.
        changed: The fields that a commit changes.
    """

    def __init__(  # noqa: PLR0913 -- the columns of an event
        self,
        kind: RowKind,
        machine_id: str,
        state: Any,
        fields: Mapping[str, Any],
        event: Event[Any, Any],
        *,
        seq: int,
        services: Any,
        clock: Clock,
        sinks: tuple[Sink, ...],
        event_id: str | None,
        in_loop: bool,
        given: Any = None,
    ) -> None:
        """Begin.

        Raises:
            InvalidData: The row does not hold what the machine's fields must be.
            InvalidEvent: The machine does not take this event class, or the id is malformed.
        """
        self.kind = kind
        self.machine_id = machine_id
        self.state = self.old = state
        self.seq = seq
        self.new: Any = None
        self.services = services
        self.data = kind.rules.at_birth(fields)
        self.draft: dict[str, Any] | None = None
        self.touched = set[str]()
        self.changed: dict[str, Any] = {}
        self.writable = False
        self.is_birth = False
        self.machine: Any = None
        spec = kind.definition.events.get(type(event))
        if spec is None:
            raise InvalidEvent(
                f"{kind.name} takes no {type(event).__name__}", machine_id=machine_id, event=event
            )
        self._event = copy_value(event) if spec.mutable else event
        self._event_id = uuid4().hex if event_id is None else check_event_id(event_id)
        self._clock, self._sinks, self._in_loop = clock, sinks, in_loop
        self._given = given
        self._step: Step | None = None
        self._choice: Transition | None = None
        self._began = monotonic()

    # -- the turn, in the order in which it happens ---------------------------------------------------------------

    async def decide(self) -> Any:
        """Choose the transition and run its hooks; return the reply. Nothing outside has changed then.

        Raises:
            Unhandled, Vetoed, HookFailed: As an ask does.
            Unsupported: A hook is to be awaited where nothing can be.
        """
        self.machine = self.kind.drafts.open(self)
        try:
            choice = select(self.kind.definition.states[self.state], self._event, self.machine)
            if not isinstance(choice, Transition):
                raise self._unhandled()
            self._check_runs_here(choice)
            self._choice, self.new = choice, choice.new
            self.writable = True
            reply: Any = None
            for step in choice.steps:
                result = await self._run(step, choice)
                if step.is_body:
                    reply = result
                elif result is not True and result is not None:
                    raise refusal(step, result)
            self._step, self.writable = None, False
            reply = choice.reply.check(reply)
            if self.draft is not None:
                data = self.kind.rules.at_commit(self.draft, self.touched)
                self.changed = {name: data[name] for name in self.touched if data[name] != self.data[name]}
                self.data, self.draft = data, None
        except (Exception, asyncio.CancelledError) as error:
            failure = self._failure(error)
            self.close()
            if failure is error:
                raise
            raise failure from failure.__cause__
        return reply

    def committed(self) -> None:
        """Record that what was decided is stored."""
        self._record("committed")

    async def follow(self) -> None:
        """Run the after-hooks, once what was decided is stored. They cannot undo it; what one raises is recorded."""
        choice = self._choice
        assert choice is not None  # noqa: S101 -- it was decided before
        self.state = self.new
        show_fields(self.machine, self.data)
        try:
            for step in (*choice.afters, *choice.detached):
                try:
                    await self._run(step, choice)
                except Exception as error:  # noqa: BLE001 -- what is committed stays committed
                    self._record("after_hook_failed", described(error), step.name, error)
        finally:
            self.close()

    def undone(self, error: Exception, reason: str | None = None) -> None:
        """Record that what was decided was not stored, or that nobody knows.

        Args:
            error: Why.
            reason: What is recorded of it, if not its own words: these may hold values.
        """
        if reason is not None:
            error = Discarded(f"{self.machine_id} was not stored: {reason}", machine_id=self.machine_id)
        self._record("failed", str(error) if reason is None else reason, "commit", error)
        self.close()

    def lost(self, remedy: str) -> ConcurrentTransition:
        """Return the error for a lost race, and record it."""
        error = ConcurrentTransition(
            f"{self.machine_id} was written by somebody else since it was read in {self.old.name}: {remedy}",
            machine_id=self.machine_id,
            event=self._event,
        )
        self.undone(error)
        return error

    def not_storable(self, cause: InvalidData) -> BaseException:
        """Return the error for data that cannot be stored, and record it."""
        error = self._failure(cause)
        self.close()
        return error

    def close(self) -> None:
        """End the turn; `self` is stale from now on."""
        if self.machine is not None:
            self.kind.drafts.close(self)
            self.machine = None

    def _check_runs_here(self, choice: Transition) -> None:
        """Refuse a hook that awaits where there is no event loop, before any has run."""
        for step in (*choice.steps, *choice.afters, *choice.detached):
            if not self._in_loop and inspect.iscoroutinefunction(inspect.unwrap(step.function)):
                raise Unsupported(
                    f"{self.kind.name}.{step.name} is `async def`, and nothing can wait for it here: use the async "
                    "session or client, or write it as a plain function",
                    machine_id=self.machine_id,
                    event=self._event,
                )

    async def _run(self, step: Step, choice: Transition) -> Any:
        self._step = step
        arguments = (choice.old, choice.new, self._event)
        result = step.function(
            self.machine, *(arguments[2:] if step.is_body else arguments[: step.arguments])
        )
        if not step.is_async:
            return result
        if not self._in_loop:
            return await result  # it blocks, and does so here
        deadline = asyncio.timeout(step.timeout_s)
        try:
            async with deadline:
                return await result
        except TimeoutError:
            if deadline.expired():
                raise TimeoutError(f"took longer than {step.timeout_s:g} s") from None
            raise

    # -- how it ends when it does not come to a commit ------------------------------------------------------------

    def _failure(self, error: BaseException) -> BaseException:
        """Return the error for the caller, and record it."""
        step = self._step
        if isinstance(error, Unhandled):
            self._record("unhandled", error=error)
            return error
        if isinstance(error, Veto):
            by, reason = error.by if step is None else step.name, safe_text(error.reason)
            self._record("vetoed", reason, by)
            said = f"{self.machine_id}: {type(self._event).__name__} was refused by {by}"
            said += f": {reason}" if reason else ""
            return Vetoed(said, by=by, reason=reason, machine_id=self.machine_id, event=self._event)
        task = asyncio.current_task() if self._in_loop else None
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            return error
        if isinstance(error, Unsupported) and self._choice is None:
            return error
        hook, cause = "guard" if step is None else step.name, error
        if isinstance(error, HookFailed) and step is None:
            hook, cause = error.hook, error.__cause__ or error
        elif isinstance(error, InvalidData) and step is None:
            hook = "commit"
        said = safe_text(cause)
        failure = HookFailed(
            f"{self.machine_id}: {type(self._event).__name__} failed in {hook}: {type(cause).__name__}"
            + (f": {said}" if said else ""),
            hook=hook,
            machine_id=self.machine_id,
            event=self._event,
        )
        failure.__cause__ = cause
        self._record("failed", described(cause), hook, cause)
        return failure

    def _unhandled(self) -> Unhandled:
        node = self.kind.definition.states[self.state]
        guards = guards_that_refused(node, self._event)
        allowed = [name for name in node.allowed if name != "Spawn"]
        said = in_words(guards)
        return Unhandled(
            f"{self.machine_id} has no transition for {type(self._event).__name__} in {node.name}{said}; it takes "
            + (", ".join(allowed) or "nothing"),
            state=self.state,
            allowed=allowed,
            guards=guards,
            machine_id=self.machine_id,
            event=self._event,
        )

    def _record(
        self, name: str, reason: str = "", hook: str | None = None, error: BaseException | None = None
    ) -> None:
        record = Record(
            name,
            self.kind.name,
            self.machine_id,
            seq=self.seq,
            event_type=type(self._event).__name__,
            event_id=self._event_id,
            correlation_id=self._event_id,
            source=self.old.name,
            target=None if self.new is None else self.new.name,
            reason=reason,
            hook=hook,
            run_s=monotonic() - self._began,
            error=error,
            event=self._event,
        )
        for sink in self._sinks:
            with suppress(Exception):  # a sink cannot hurt the turn (C13)
                sink(record)

    # -- what the machine's instance asks for (TurnView) ----------------------------------------------------------

    def now(self) -> datetime:
        """Return the time of day."""
        return self._clock.now()

    def idempotency_key(self) -> str:
        """Return the key for outside effects of the running hook: the same for the same event id."""
        return derive_id(self.machine_id, self._event_id, "guard" if self._step is None else self._step.name)

    async def run_blocking(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a hook that blocks, in a thread if there is a loop that it would block."""
        if not self._in_loop:
            return function(*arguments)
        return await asyncio.to_thread(function, *arguments)

    def given(self, wanted: type[Any]) -> Any:
        """Return what the caller handles the event in: the session that the row belongs to."""
        if not isinstance(self._given, wanted):
            raise Unsupported(
                f"a hook of {self.kind.name} takes a {wanted.__name__}, and the event is handled in "
                f"{type(self._given).__name__}",
                machine_id=self.machine_id,
                event=self._event,
            )
        return self._given

    async def flush_given(self) -> None:
        """Leave it to the caller when it is flushed."""

    def read_only_error(self) -> ReadOnly:
        """Return the error for a change where only looking is allowed."""
        where = "a guard" if self._step is None else f"the after-hook {self._step.name}"
        return ReadOnly(
            f"{where} of {self.machine_id} may look but not change; do it in the transition's body or in an enter hook",
            machine_id=self.machine_id,
            event=self._event,
        )

    def _only_in_a_system(self, *_arguments: Any, **_options: Any) -> Any:
        raise Unsupported(
            f"{self.kind.name} lives in a row or document, which has no mailbox, timers and jobs: send by "
            "`ref.on(session).tell` of SQLAlchemy, ask a service of your own, or run the machine in an ActorSystem",
            machine_id=self.machine_id,
            event=self._event,
        )

    tell = next_event = watch = unwatch = _only_in_a_system
    start_timer = cancel_timer = start_job = cancel_job = stop = _only_in_a_system

    async def ask(
        self,
        target: Any,  # noqa: ARG002 -- as `Machine.ask`
        event: Any,  # noqa: ARG002 -- the same
        timeout: Duration | None,  # noqa: ARG002, ASYNC109 -- the same
        headers: Any,  # noqa: ARG002 -- the same
    ) -> Any:
        """Refuse to ask: there is no deadline to share here, and no place in the graph of waits."""
        self._only_in_a_system()
