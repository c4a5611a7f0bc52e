"""Starlette: a lifespan that runs a system, where requests find it, and its errors as problem documents.

FastAPI is Starlette: what stands here holds there too. The extra `fastapi` brings both.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from typing_extensions import TypeVar

from actorfsm.errors import ActorFSMError, DefinitionError, Unsupported
from actorfsm.integrations.http import problem_of
from actorfsm.integrations.live import Streams
from actorfsm.integrations.resource import the_one
from actorfsm.runtime.system import ActorSystem

try:
    from starlette.requests import HTTPConnection, Request  # noqa: TC002 -- whoever reads annotations finds them
    from starlette.responses import Response
except ImportError as missing:
    raise Unsupported(
        "actorfsm.integrations.starlette needs starlette, which is not installed: pip install 'actorfsm[fastapi]'"
    ) from missing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from actorfsm.machine.machine import Machine

__all__ = ["PROBLEMS", "lifespan", "problem_response", "system_of", "systems_of"]

AppT = TypeVar("AppT", default=Any)
Lifespan: TypeAlias = "Callable[[AppT], AbstractAsyncContextManager[Mapping[str, Any] | None]]"


def lifespan(
    make: Callable[[], ActorSystem[Any]],
    *,
    inner: Lifespan[AppT] | None = None,
    name: str = "actorfsm",
) -> Callable[[AppT], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """Return a lifespan that runs a system: `FastAPI(lifespan=lifespan(lambda: ActorSystem(Order)))`.

    A system that does not start ends the application's start. A lifespan of your own does the same as this one if it
    yields a system in its state, under any name.

    Args:
        make: Makes the system, anew at each start of the application.
        inner: The application's own lifespan. It begins before the system and ends after it.
        name: What the system is called in the lifespan's state, and so in `request.state`: give each its own.

    Raises:
        DefinitionError: When the application starts: the name is taken by the application's own lifespan.
    """

    @asynccontextmanager
    async def run(app: AppT) -> AsyncGenerator[Mapping[str, Any], None]:
        if inner is None:
            async with _running(make) as system:
                yield {name: system}
            return
        async with inner(app) as state:
            known = dict(state or {})
            if name in known:
                raise DefinitionError(f"the lifespan's state has {name!r} already: give name= another one")
            async with _running(make) as system:
                yield {**known, name: system}

    return run


@asynccontextmanager
async def _running(make: Callable[[], ActorSystem[Any]]) -> AsyncGenerator[ActorSystem[Any], None]:
    async with make() as system:
        try:
            yield system
        finally:
            Streams.of(system).close()


def systems_of(connection: HTTPConnection) -> list[ActorSystem[Any]]:
    """Return the systems in the state of the application's lifespan."""
    state: Mapping[str, Any] = connection.scope.get("state") or {}
    return [found for found in state.values() if isinstance(found, ActorSystem)]


def system_of(
    connection: HTTPConnection, machine_class: type[Machine[Any, Any]] | None = None
) -> ActorSystem[Any]:
    """Return the system of a request or a websocket.

    Args:
        connection: The request.
        machine_class: A class that lives in it; needed where there are several systems.

    Raises:
        DefinitionError: There is no such system, or more than one.
    """
    where = "in the state of the application's lifespan"
    remedy = "give the application lifespan(...), and let it run"
    return the_one(systems_of(connection), machine_class, where, remedy)


async def problem_response(request: Request, error: Exception) -> Response:
    """Answer an error of the package with a problem document: a handler of exceptions."""
    assert isinstance(error, ActorFSMError)  # noqa: S101 -- registered for these
    problem = problem_of(error, systems_of(request))
    return Response(problem.body, problem.status, problem.headers)


PROBLEMS: Final[dict[Any, Any]] = {ActorFSMError: problem_response}
"""For `exception_handlers=` of an application."""
