"""The base class of all machines: data fields, and what a hook finds on `self`.

An instance lives for one turn. Its fields are a draft: the first write takes a copy of the committed data, a refusal
drops the copy, a commit keeps it. So nothing has to be undone, and what a hook leaves behind holds a closed instance.
"""

from __future__ import annotations

import sys
from enum import Enum
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    TypeVar as PlainTypeVar,
    TypeVarTuple,
    get_args,
    get_origin,
)

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeVar

from actorfsm.clock import Duration, seconds
from actorfsm.errors import DefinitionError
from actorfsm.machine.builder import build_definition, marked_in
from actorfsm.machine.checks import check_class, check_definition, check_names
from actorfsm.machine.decorators import marks_of
from actorfsm.machine.draft import Drafted, MutableField, write_unless_frozen
from actorfsm.machine.formats import check_spec, draw
from actorfsm.machine.options import Directive, MachineOptions, MailboxPolicy, Redelivery, RestartPolicy
from actorfsm.machine.signatures import resolve_now
from actorfsm.machine.timers import TimerScope

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from datetime import datetime
    from types import GenericAlias
    from typing import Generic

    from actorfsm.event import Event
    from actorfsm.machine.definition import Definition

else:
    from types import GenericAlias

__all__ = ["Machine", "definition_of"]

StateT = TypeVar("StateT", bound=Enum)
ServicesT = TypeVar("ServicesT", default=Any)
ReplyT = TypeVar("ReplyT")
ResultT = TypeVar("ResultT")
Ts = TypeVarTuple("Ts")


if TYPE_CHECKING:

    class _Base(Drafted, Generic[StateT, ServicesT]): ...

else:

    class _Body(dict):
        """The body of a class statement: a hook is never lost because a second one has its name."""

        def __init__(self, class_name: str) -> None:
            self.class_name = class_name

        def __setitem__(self, name: str, value: Any) -> None:
            lost = marks_of(self.get(name))
            if lost and not all(any(mark is kept for kept in marks_of(value)) for mark in lost):
                raise DefinitionError(
                    f"{self.class_name}.{name}: defined twice, so that the first would be lost; give each its own name"
                )
            super().__setitem__(name, value)

    class _MachineMeta(type(BaseModel)):
        @classmethod
        def __prepare__(cls, name: str, bases: tuple[type, ...], /, **kwargs: Any) -> _Body:
            return _Body(name)

        def __new__(
            mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any
        ) -> type:
            # Before pydantic sees them: it would only warn that a field shadows an attribute.
            annotations = namespace.setdefault("__annotations__", {})
            if namespace.get("__module__") != __name__:
                check_names(name, annotations, "field")
            for attribute, value in namespace.items():
                # `charge = None` removes an inherited hook; for pydantic it would be a field without annotation.
                if value is None and any(marked_in(base, attribute) for base in bases):
                    annotations[attribute] = ClassVar[None]
            return super().__new__(mcs, name, bases, dict(namespace), **kwargs)

        def __format__(cls, spec: str) -> str:
            if not spec:
                return super().__format__(spec)
            check_spec(cls.__name__, spec)
            return draw(definition_of(cls), spec)

    class _Base(Drafted, metaclass=_MachineMeta):
        def __class_getitem__(cls, item: Any) -> Any:
            return GenericAlias(cls, item)


class Machine(_Base[StateT, ServicesT]):
    """Base of all machines: `class Order(Machine[OrderState], initial=OrderState.CREATED)`.

    Annotated fields are the machine's data. Methods marked by `@transition` and the hook decorators are what it does.
    The first type parameter is its Enum of states, the second the type of `self.services`.

    The class draws itself: `format(Order, "mermaid")`, `"dot"` (Graphviz) or `"table"`.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)

    schema_version: ClassVar[int] = 1
    """Which version of states and data this is; what was stored of an older one is read by way of `@upcast`."""

    __definition__: ClassVar[Definition | None] = None
    __choices__: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(  # noqa: PLR0913 -- the options of a class
        cls,
        *,
        initial: Enum | None = None,
        final: tuple[Enum, ...] | list[Enum] | None = None,
        on_failure: Mapping[type[BaseException], Directive] | None = None,
        redelivery: Redelivery | None = None,
        mailbox: MailboxPolicy | None = None,
        restart: RestartPolicy | None = None,
        postpone_limit: int | None = None,
        own_event_limit: int | None = None,
        remembered_ids: int | None = None,
        timer_limit: int | None = None,
        timer_attempts: int | None = None,
        job_limit: int | None = None,
        hook_timeout: Duration | None = None,
        durable_inbox: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Read the class's choices; see `MachineOptions` for their meaning. What is not given is inherited."""
        if isinstance(final, Enum):
            raise DefinitionError(f"{cls.__name__}: final= takes several states: final=({final},)")
        try:
            super().__init_subclass__(**kwargs)
        except TypeError:
            raise DefinitionError(
                f"{cls.__name__}: {', '.join(kwargs)}: no such option; there are initial, final, on_failure, "
                "redelivery, mailbox, restart, postpone_limit, own_event_limit, remembered_ids, timer_limit, "
                "timer_attempts, job_limit, hook_timeout, durable_inbox"
            ) from None
        given: dict[str, Any] = {
            "initial": initial,
            "final": final,
            "on_failure": on_failure,
            "redelivery": redelivery,
            "mailbox": mailbox,
            "restart": restart,
            "postpone_limit": postpone_limit,
            "own_event_limit": own_event_limit,
            "remembered_ids": remembered_ids,
            "timer_limit": timer_limit,
            "timer_attempts": timer_attempts,
            "job_limit": job_limit,
            "durable_inbox": durable_inbox,
            "hook_timeout_s": None if hook_timeout is None else seconds(hook_timeout),
        }
        cls.__choices__ = cls.__choices__ | {
            name: value for name, value in given.items() if value is not None
        }

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Build and check the definition, once pydantic has read the fields."""
        super().__pydantic_init_subclass__()
        names = _callers_names()
        check_class(cls, Machine.__mro__)
        for attribute in vars(cls).values():
            if marks_of(attribute):
                resolve_now(attribute, {**vars(cls), **names})
        choices = dict(cls.__choices__)
        initial, final = choices.pop("initial", None), tuple(choices.pop("final", ()))
        state_class = _state_class(cls)
        if state_class is None:
            if initial is not None:
                raise DefinitionError(
                    f"{cls.__name__}: say which states it has: class {cls.__name__}(Machine[States])"
                )
            return
        options = MachineOptions(**choices)
        options.check(cls.__name__)
        definition = build_definition(
            cls,
            state_class,
            initial=initial,
            final=final,
            options=options,
            namespace=names,
        )
        if definition.initial is None and not definition.births:
            cls.__definition__ = None  # abstract: a base for others
            return
        check_definition(definition)
        cls.__definition__ = definition
        for name in definition.mutable_fields:
            setattr(cls, name, MutableField(name))
        if any(field.frozen for field in cls.__pydantic_fields__.values()):
            type.__setattr__(cls, "__setattr__", write_unless_frozen)

    # -- what a hook finds on self ------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The machine's id."""
        return self._turn.machine_id

    @property
    def state(self) -> StateT:
        """The state it is in: the old one until the transition is committed, the new one in after-hooks."""
        state: StateT = self._turn.state
        return state

    @property
    def services(self) -> ServicesT:
        """What was given as `ActorSystem(..., services=...)`."""
        services: ServicesT = self._turn.services
        return services

    @property
    def idempotency_key(self) -> str:
        """A key for outside effects of the running hook.

        The same for the same machine, event id and hook, also when the event is delivered again; another for another
        event.
        """
        return self._turn.idempotency_key()

    def now(self) -> datetime:
        """Return the time of day (UTC, aware) from the system's clock."""
        return self._turn.now()

    def tell(
        self,
        target: Any,
        event: Event[Any, Any],
        *,
        event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send an event to another machine, or to the end of the own mailbox, once the transition is committed.

        Args:
            target: A machine id or a ref.
            event: The event.
            event_id: Its id; derived from the turn's by default.
            headers: More headers; those of the event being handled are inherited.

        Returns:
            A `Receipt`; it is refused with `Discarded` if the turn is rolled back.
        """
        return self._turn.tell(target, event, event_id, headers)

    async def ask(
        self,
        target: Any,
        event: Event[ReplyT, Any],
        *,
        timeout: Duration | None = None,  # noqa: ASYNC109 -- part of the public interface, as in `ref.ask`
        headers: Mapping[str, str] | None = None,
    ) -> ReplyT:
        """Ask another machine. It leaves at once and is not undone by a rollback.

        Its event id is derived from `idempotency_key`, so that a repetition is answered from the record. It gets at
        most what remains of the deadline of the event being handled.

        Raises:
            AskCycle: The other machine waits, directly or not, for this one.
            ActorFSMError: As `Ref.ask`.
        """
        reply: ReplyT = await self._turn.ask(target, event, timeout, headers)
        return reply

    def next_event(self, event: Event[Any, Any]) -> None:
        """Raise an event of the machine's own: handled next, before the mailbox, with its own outcome.

        As gen_statem's `next_event` action.
        """
        self._turn.next_event(event)

    def watch(self, target: Any) -> None:
        """Watch another machine, once the transition is committed: its end comes as one `Terminated`, an event.

        At once if it has ended already, or if there is none with this id. Watching twice is one watch; a restart of
        either machine changes nothing. As Erlang's monitor, with the idempotence of Pekko's `watch`.

        Args:
            target: A machine id or a ref.

        Raises:
            InvalidEvent: The machine has no transition for `Terminated`, or would watch itself.
        """
        self._turn.watch(target)

    def unwatch(self, target: Any) -> None:
        """Watch a machine no longer, once the transition is committed.

        A `Terminated` that waits in the mailbox already is withdrawn.

        Args:
            target: A machine id or a ref.
        """
        self._turn.unwatch(target)

    def start_timer(
        self,
        event: Event[Any, Any],
        *,
        after: Duration | None = None,
        at: datetime | None = None,
        name: str | None = None,
        scope: TimerScope = TimerScope.NAMED,
    ) -> None:
        """Send the machine an event later, counted from the commit; a rollback starts nothing.

        A timer of the same name is replaced. It comes at the end of the mailbox, also of a full one.

        Args:
            event: The event, of a class that the machine declares.
            after: How long after the commit, seconds or timedelta; 0 means: after the events that wait already.
            at: Instead of `after`, a time of day, aware; if it is past, at once. What becomes of the computer's clock
                after the commit does not move it.
            name: The timer's name; by default that of the event's class.
            scope: When it dies of itself.

        Raises:
            InvalidEvent: Not one of `after` and `at`, neither a time that can be meant nor an event that the machine
                takes.
            MailboxFull: The machine has `timer_limit` timers.
        """
        self._turn.start_timer(event, after, at, name, scope)

    def cancel_timer(self, name: str | type[Event[Any, Any]]) -> bool:
        """Cancel a timer once the transition is committed: then it never comes, even if it was due and waits.

        Args:
            name: Its name, or the event class it is named after.

        Returns:
            Whether there was one: as the commit would leave them, so that one which dies with the state left, or whose
            event is being handled, is gone already.
        """
        return self._turn.cancel_timer(name)

    def start_job(
        self,
        function: Callable[[*Ts], Coroutine[Any, Any, ResultT]],
        *arguments: *Ts,
        done: Callable[[ResultT], Event[Any, Any]] | type[Event[Any, Any]] | None = None,
        failed: Callable[[BaseException], Event[Any, Any]] | type[Event[Any, Any]] | None = None,
        name: str | None = None,
        timeout: Duration | None = None,
        again: bool = False,
    ) -> str:
        """Let a coroutine function run beside the machine, once the transition is committed; a rollback starts nothing.

        It runs outside the turn: it does not see `self`, and what it sends comes from outside. It is cancelled when the
        state that the transition leads to is left (`to=STAY` does not leave it), and when the machine finishes or
        stops. Its answer is an event, which finds room also in a full mailbox; that of a cancelled job never comes.

        Args:
            function: The coroutine function. What it needs is passed to it; containers and models are copied.
            arguments: What it is called with.
            done: Makes an event of its result: an event class, whose one field takes the result (several take a
                mapping, none takes nothing), or a plain function. None: nobody is told.
            failed: Makes an event of what it raised: an event class, whose one field takes the error's text, or a plain
                function of the exception. None: a record `job_failed` says so.
            name: Its name; a job of the same name is cancelled. By default the function's, with a number if that is
                taken.
            timeout: How long it may take, seconds or timedelta; by default, until its state is left.
            again: Whether it is begun again when the machine was restarted meanwhile, or, with a journal, the system;
                otherwise it is given up, and `failed` gets a `JobGivenUp`. With a journal `failed`, and for a job that
                is begun again the function and `done` too, are event classes, functions of a module or methods of a
                service, and its arguments are services or values of the types that the parameters are annotated with.

        Returns:
            Its name, for `cancel_job`.

        Raises:
            TypeError: It is no coroutine function, or would use the machine after its turn.
            InvalidEvent: `done` or `failed` do not lead to an event that the machine takes, or something could not be
                found again after a crash.
            MailboxFull: The machine has `job_limit` jobs.
        """
        return self._turn.start_job(function, arguments, done, failed, name, timeout, again=again)

    def cancel_job(self, name: str) -> bool:
        """Cancel a job once the transition is committed: its answer never comes, even if it waits in the mailbox.

        Returns:
            Whether there was one: as the commit would leave them.
        """
        return self._turn.cancel_job(name)

    def stop(self) -> None:
        """Stop the machine once the transition is committed: a normal exit."""
        self._turn.stop()


def definition_of(machine_class: type[Machine[Any, Any]]) -> Definition:
    """Return the definition of a machine class.

    Raises:
        DefinitionError: It is abstract, or no machine class.
    """
    definition: Definition | None = getattr(machine_class, "__definition__", None)
    if definition is None:
        raise DefinitionError(
            f"{machine_class!r} is not a machine that can live: give its class initial=STATE or a birth transition"
        )
    return definition


def _state_class(cls: type) -> type[Enum] | None:
    for base in cls.__mro__:
        for alias in base.__dict__.get("__orig_bases__", ()):
            origin = get_origin(alias)
            if isinstance(origin, type) and issubclass(origin, _Base):
                found = get_args(alias)[0]
                if isinstance(found, type) and issubclass(found, Enum):
                    return found
                if not isinstance(found, PlainTypeVar | TypeVar):
                    raise DefinitionError(
                        f"{cls.__name__}: Machine[...] takes the Enum class of its states, not {found!r}; "
                        "define it before"
                    )
    return None


def _callers_names() -> dict[str, Any]:
    """Return the local names of the code that holds the class statement, for annotations given as text.

    As pydantic and dataclasses do: there is no public way.
    """
    frame: Any = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    while str(frame.f_globals.get("__name__")).startswith((__name__, "pydantic.")):
        frame = frame.f_back
    return dict(frame.f_locals)
