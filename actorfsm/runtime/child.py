"""The declarations of a supervision tree: what stands where, and what becomes of it when it ends (C16).

The words and their meaning are those of OTP's child specifications. Nothing lives here: a system makes its tree of live
children from them, and may be made again from the same ones.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import partial
from math import inf
from typing import Any, Final, TypeAlias, cast

from actorfsm.clock import Duration, seconds
from actorfsm.errors import DefinitionError, InvalidEvent
from actorfsm.ids import check_machine_id
from actorfsm.machine.machine import Machine, definition_of
from actorfsm.machine.options import RestartPolicy

__all__ = [
    "Child",
    "Declared",
    "Restart",
    "Service",
    "Strategy",
    "Supervisor",
    "all_declared",
    "checked_children",
]

SERVICE_ARGUMENTS: Final = 2


class Strategy(StrEnum):
    """Which children of a supervisor are restarted when one of them is."""

    ONE_FOR_ONE = "one_for_one"
    """That one alone."""
    ONE_FOR_ALL = "one_for_all"
    """All of them: they cannot work without each other."""
    REST_FOR_ONE = "rest_for_one"
    """That one and those that were started after it: they build on it."""


class Restart(StrEnum):
    """Whether a child that ended is started again."""

    PERMANENT = "permanent"
    """Always."""
    TRANSIENT = "transient"
    """If it failed; not if it ended normally."""
    TEMPORARY = "temporary"
    """Never, not even because of a sibling."""


Service: TypeAlias = Callable[..., Coroutine[Any, Any, Any]]
"""A coroutine function without parameters, or with `(system)`, or with `(system, started)`."""


@dataclass(frozen=True, slots=True)
class Child:
    """A machine or a service of the tree (OTP: a child specification of type `worker`).

    Args:
        what: A machine class, or a coroutine function: `async def poller(system)`, or without parameters, or
            `async def poller(system, started)` for one that says itself when it has started.
        name: The machine's id; a service has its function's name by default.
        data: Values for a machine's data fields.
        restart: Whether it is started again when it has ended.
        start_timeout: How long its start may take: a machine's birth, or a service's way to `started()`. Seconds or
            timedelta.
        shutdown: How long it may take to end: a machine the event at hand, a service after it was cancelled. Seconds or
            timedelta.

    Raises:
        DefinitionError: It cannot be meant.
    """

    what: type[Machine[Any, Any]] | Service
    name: str = ""
    _: KW_ONLY
    data: Mapping[str, Any] | None = None
    restart: Restart = Restart.PERMANENT
    start_timeout: Duration = 30.0
    shutdown: Duration = 5.0

    def __post_init__(self) -> None:
        if self.is_machine:
            self._check_machine()
        else:
            self._check_service()
        _check_name(self.name)
        _check_member(self.name, "restart", self.restart, Restart)
        for option in ("start_timeout", "shutdown"):
            given = getattr(self, option)
            if not isinstance(given, int | float | timedelta) or not 0 <= seconds(given) < inf:
                raise DefinitionError(
                    f"{self.name}: {option}={given!r}; give seconds or a timedelta, not below 0"
                )

    @property
    def is_machine(self) -> bool:
        """Whether it is a machine; otherwise it is a service."""
        return _is_machine_class(self.what)

    def _check_machine(self) -> None:
        definition = definition_of(cast("type[Machine[Any, Any]]", self.what))
        if definition.initial is None:
            raise DefinitionError(
                f"Child({definition.name}, {self.name!r}): the class has no initial state, so that its supervisor "
                "could not give birth to it; declare initial=..., or place the class alone and send the event that does"
            )
        if not self.name:
            raise DefinitionError(
                f"Child({definition.name}): give the machine's id, or place the class alone, for machines that are "
                "spawned by id"
            )

    def _check_service(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", getattr(self.what, "__name__", ""))
        given: Any = self.what
        if not _is_coroutine_function(given):
            raise DefinitionError(
                f"Child({given!r}): give a machine class or a coroutine function (`async def`)"
            )
        if self.data is not None:
            raise DefinitionError(
                f"{self.name}: a service has no data=; bind its arguments with functools.partial"
            )
        count_arguments(self.name, given)


@dataclass(frozen=True, slots=True)
class Supervisor:
    """A supervisor of the tree, with its children in the order in which they are started.

    Args:
        name: Its name, unique in the system.
        strategy: Which children are restarted when one of them is.
        children: Machines and services as `Child`, supervisors, coroutine functions, and machine classes: such a class
            alone is the place where its machines that are spawned by id are supervised.
        restart: Whether it is started again, with all its children, when it has given up.
        policy: How many restarts of its children are too many, and the pauses before them.

    Raises:
        DefinitionError: It cannot be meant.
    """

    name: str
    _: KW_ONLY
    strategy: Strategy = Strategy.ONE_FOR_ONE
    children: Iterable[Declared] = ()
    restart: Restart = Restart.PERMANENT
    policy: RestartPolicy = field(default_factory=RestartPolicy)

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_member(self.name, "strategy", self.strategy, Strategy)
        _check_member(self.name, "restart", self.restart, Restart)
        _check_member(self.name, "policy", self.policy, RestartPolicy)
        object.__setattr__(self, "children", checked_children(self.name, self.children))


Declared: TypeAlias = "Supervisor | Child | type[Machine[Any, Any]] | Service"
"""What may stand among the children of a supervisor."""


def checked_children(name: str, children: Iterable[Declared]) -> tuple[Any, ...]:
    """Return the children as `Supervisor`, `Child` or machine class.

    Raises:
        DefinitionError: One of them is none of these.
    """
    found: list[Any] = []
    for child in children:
        if isinstance(child, Supervisor | Child):
            found.append(child)
        elif _is_machine_class(child):
            definition_of(cast("type[Machine[Any, Any]]", child))
            found.append(child)
        elif _is_coroutine_function(child):
            found.append(Child(cast("Service", child)))
        else:
            raise DefinitionError(
                f"{name}: {child!r} is no child; give Supervisor(...), Child(...), a machine class or a coroutine "
                "function"
            )
    return tuple(found)


def all_declared(children: Iterable[Any]) -> Iterator[Any]:
    """Yield what is declared, at every depth, in the order of start.

    Raises:
        DefinitionError: A name or a class stands in the tree twice.
    """
    seen: set[Any] = set()
    stack = list(children)[::-1]
    while stack:
        child = stack.pop()
        key = child if isinstance(child, type) else child.name
        if key in seen:
            name = key.__name__ if isinstance(key, type) else repr(key)
            raise DefinitionError(f"{name} stands in the tree twice; give each child a name of its own")
        seen.add(key)
        yield child
        if isinstance(child, Supervisor):
            stack.extend(list(child.children)[::-1])


def count_arguments(name: str, service: Service) -> int:
    """Return how many of `(system, started)` a service takes.

    Raises:
        DefinitionError: It wants others.
    """
    kinds = inspect.Parameter
    wanted = 0
    for parameter in inspect.signature(service).parameters.values():
        if parameter.default is not kinds.empty or parameter.kind in {
            kinds.VAR_POSITIONAL,
            kinds.VAR_KEYWORD,
        }:
            continue
        wanted += 1
        if parameter.kind is kinds.KEYWORD_ONLY or wanted > SERVICE_ARGUMENTS:
            raise DefinitionError(
                f"{name}: a service is called with (system, started), (system) or nothing; bind {parameter.name} with "
                "functools.partial"
            )
    return wanted


def _is_machine_class(given: object) -> bool:
    return isinstance(given, type) and issubclass(given, Machine)


def _is_coroutine_function(given: object) -> bool:
    while isinstance(given, partial):
        given = given.func
    return inspect.iscoroutinefunction(given) or inspect.iscoroutinefunction(getattr(given, "__call__", None))  # noqa: B004


def _check_name(name: object) -> None:
    try:
        check_machine_id(cast("str", name))
    except InvalidEvent as error:
        raise DefinitionError(f"the name {name!r} of a child: {error}; give name=...") from None


def _check_member(name: str, place: str, given: object, kind: type[Any]) -> None:
    # The text "permanent" equals Restart.PERMANENT, but is not it.
    if not isinstance(given, kind):
        raise DefinitionError(f"{name}: {place}={given!r} is not a {kind.__name__}")
