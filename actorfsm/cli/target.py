"""The target: what `actorfsm run module:name` names, and the system that it becomes."""

from __future__ import annotations

import inspect
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from actorfsm.errors import ActorFSMError
from actorfsm.machine.machine import Machine
from actorfsm.object_reference import object_at
from actorfsm.runtime.system import ActorSystem

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["system_at"]

_WHAT = "a system, a function that makes one, or a machine class as module:name"


@asynccontextmanager
async def system_at(reference: str, journal: str | None) -> AsyncGenerator[ActorSystem[Any]]:
    """Yield the system that is named, not yet started.

    It may be an `ActorSystem`; a machine class, which is then all there is; or a function that returns a system, plain,
    async, or an async context manager. A function that has a parameter `journal` is given what the user said.

    Args:
        reference: `module:name`.
        journal: Where it is to be kept; None leaves it to the system.

    Raises:
        ActorFSMError: There is no such thing, or it is none of these.
    """
    found: Any = object_at(reference, what=_WHAT, example="shop.orders:system")
    if _is_system(found):
        yield _kept_in(found, journal)
    elif _is_machine(found):
        yield ActorSystem(found, journal=journal)
    elif not callable(found) or inspect.isclass(found):
        raise ActorFSMError(f"{reference} is of type {_type_of(found)}: name {_WHAT}")
    else:
        takes_journal = "journal" in inspect.signature(found).parameters
        made = _called(found, reference, journal, takes_journal=takes_journal)
        async with _entered(made, reference) as system:
            yield _kept_in(system, None if takes_journal else journal)


@asynccontextmanager
async def _entered(made: Any, reference: str) -> AsyncGenerator[ActorSystem[Any]]:
    """Yield the system that a function has made, by whatever way it did."""
    if inspect.isawaitable(made):
        made = await made
    if _is_system(made):
        yield made
    elif hasattr(made, "__aenter__"):
        async with made as system:
            if not _is_system(system):
                raise ActorFSMError(f"{reference} has yielded {_type_of(system)}, and not an ActorSystem")
            yield system
    else:
        raise ActorFSMError(f"{reference} has returned {_type_of(made)}, and not an ActorSystem")


def _is_system(found: object) -> bool:
    return isinstance(found, ActorSystem)


def _is_machine(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, Machine)


def _type_of(found: object) -> str:
    return type(found).__name__


def _called(factory: Any, reference: str, journal: str | None, *, takes_journal: bool) -> Any:
    """Call what makes a system, with the journal if it takes one and one was given."""
    given = {"journal": journal} if takes_journal and journal is not None else {}
    try:
        inspect.signature(factory).bind(**given)
    except TypeError as error:
        hint = ": say where the system is kept with --journal" if takes_journal and not given else ""
        raise ActorFSMError(
            f"{reference} cannot be called with nothing but journal= ({error}){hint or ': give it defaults'}"
        ) from None
    return factory(**given)


def _kept_in(system: ActorSystem[Any], journal: str | None) -> ActorSystem[Any]:
    if system.is_started:
        raise ActorFSMError("the system is started already: give one that is not, `run` starts it")
    return system if journal is None else system.with_journal(journal)
