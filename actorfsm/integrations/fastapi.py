"""FastAPI: a machine class as a router, a system and typed refs as dependencies.

The event model is the request body and the reply model the response, so that OpenAPI knows both.
"""

from __future__ import annotations

from json import JSONDecodeError
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import from_json
from typing_extensions import TypeVar

from actorfsm.errors import ActorFSMError, Unsupported
from actorfsm.event import MAX_PAYLOAD_BYTES
from actorfsm.ids import MACHINE_ID_PATTERN
from actorfsm.integrations.http import PROBLEM_JSON, EventAddress, Problem, address_of, plain_problem
from actorfsm.integrations.live import EVENT_STREAM_HEADERS, HEARTBEAT_S, live
from actorfsm.integrations.resource import MAX_HISTORY, MAX_SEQ, History, Resource
from actorfsm.problems import field_names, problems_in
from actorfsm.runtime.ref import Ref  # noqa: TC001 -- FastAPI reads annotations
from actorfsm.runtime.system import ActorSystem

try:
    from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.requests import HTTPConnection  # noqa: TC002 -- FastAPI reads annotations
    from fastapi.responses import StreamingResponse
    from fastapi.routing import APIRoute
    from starlette.exceptions import HTTPException
except ImportError as missing:
    raise Unsupported(
        "actorfsm.integrations.fastapi needs fastapi, which is not installed: pip install 'actorfsm[fastapi]'"
    ) from missing

# Starlette comes with FastAPI.
from actorfsm.integrations.starlette import PROBLEMS, lifespan, problem_response, system_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from actorfsm.clock import Duration
    from actorfsm.event import Event
    from actorfsm.machine.machine import Machine

__all__ = ["PROBLEMS", "ProblemRoute", "SystemDep", "lifespan", "ref", "router", "system_with"]

MachineT = TypeVar("MachineT", bound="Machine[Any, Any]")
_PROBLEM: Final = {"content": {PROBLEM_JSON: {"schema": Problem.model_json_schema()}}}
_REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"description": what, **_PROBLEM}
    for status, what in {
        400: "The request cannot be read",
        404: "No such machine",
        409: "Refused: see `reason`, `state` and `allowed`",
        413: "The event is too long",
        422: "The event, the id or a header is not valid",
        429: "Too much is waiting: try later",
        500: "A fault of the service",
        503: "Not now",
        504: "Not in time: `outcome` says whether it may still be done",
        507: "No room to store it",
    }.items()
}
_MACHINE_ID: Final = Path(alias="id", pattern=MACHINE_ID_PATTERN, description="the machine's id")
_Word = str | SkipJsonSchema[None]
_WORD: Final = {"pattern": r"^[!-~]([ -~]{0,198}[!-~])?$"}


# -- dependencies -----------------------------------------------------------------------------------------------------


# Coroutine functions all: FastAPI runs any other in a thread.


async def _the_system(connection: HTTPConnection) -> ActorSystem[Any]:
    return system_of(connection)


SystemDep = Annotated[ActorSystem[Any], Depends(_the_system)]
"""The system, where the application has one: `async def path(system: SystemDep)`."""


def system_with(
    machine_class: type[Machine[Any, Any]],
) -> Callable[[HTTPConnection], Coroutine[Any, Any, ActorSystem[Any]]]:
    """Return a dependency: the system in which a class of machines lives, among several.

    Example:
        `Annotated[ActorSystem, Depends(system_with(Order))]`
    """

    async def find(connection: HTTPConnection) -> ActorSystem[Any]:
        return system_of(connection, machine_class)

    return find


def ref(
    machine_class: type[MachineT], parameter: str = "id"
) -> Callable[..., Coroutine[Any, Any, Ref[MachineT]]]:
    """Return a dependency: the ref to a machine whose id stands in the path.

    Args:
        machine_class: Its class.
        parameter: The name of the parameter in the path.

    Example:
        `OrderRef = Annotated[Ref[Order], Depends(ref(Order, "order_id"))]` for `/orders/{order_id}/pay`
    """

    async def find(connection: HTTPConnection, machine_id: str) -> Ref[MachineT]:
        return system_of(connection, machine_class).ref(machine_class, machine_id)

    # As a value: the text of an annotation would be looked up where `parameter` is not known.
    find.__annotations__["machine_id"] = Annotated[str, Path(alias=parameter, pattern=MACHINE_ID_PATTERN)]
    return find


# -- the router -------------------------------------------------------------------------------------------------------


class ProblemRoute(APIRoute):
    """A route whose refusals are problem documents and whose body is bounded; also for routers of your own."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(_Request(request.scope, _bounded(request)))
            except ActorFSMError as error:
                return await problem_response(request, error)
            except RequestValidationError as error:
                problem = plain_problem(422, problems_in(error.errors(), self._names()))
            except HTTPException as error:
                if error.status_code not in {400, 413}:
                    raise  # the application's own
                problem = plain_problem(error.status_code, str(error.detail))
            return Response(problem.body, problem.status, problem.headers)

        return answer

    def _names(self) -> frozenset[str]:
        """Return what may be shown of where a problem is; other words there came with the request."""
        known = frozenset({"body", "path", "query", "header", "id", "after", "limit"})
        body: Any = None if self.body_field is None else self.body_field.field_info.annotation
        return known if body is None else known | field_names(TypeAdapter[Any](body))


class _Request(Request):
    """A request whose JSON is read as the journal will read it: no half characters, no NaN, not nested without end."""

    async def json(self) -> Any:
        try:
            return from_json(await self.body(), allow_inf_nan=False)
        except ValueError as error:
            raise JSONDecodeError(str(error), "", 0) from None


def _bounded(request: Request) -> Callable[[], Coroutine[Any, Any, Any]]:
    """Return how the body of a request is received: not more of it than an event may have."""
    size = 0

    async def receive() -> Any:
        nonlocal size
        message = await request.receive()
        size += len(message.get("body", b""))
        if size > MAX_PAYLOAD_BYTES:
            raise HTTPException(413, f"the limit is {MAX_PAYLOAD_BYTES:,} bytes")
        return message

    return receive


def router(
    machine_class: type[Machine[Any, Any]],
    *,
    events: Iterable[type[Event[Any, Any]]] | None = None,
    timeout: Duration | None = None,
    heartbeat_s: float = HEARTBEAT_S,
    **options: Any,
) -> APIRouter:
    """Return a router for one class of machines: `app.include_router(router(Order), prefix="/orders")`.

    `PUT /{id}` creates a machine, `POST /{id}/events/Pay` sends it an event and answers with the reply, `GET /{id}`
    shows it with the events that it takes now, `GET /{id}/history` says what happened to it, and `GET /{id}/live` what
    happens from now on.

    Args:
        machine_class: The class.
        events: Which of its events may be sent; all that it declares by default.
        timeout: Deadline of an event, seconds or timedelta; the system's own by default.
        heartbeat_s: How long a live stream may be silent, in seconds.
        options: More for the router: `prefix=`, `tags=`, `dependencies=` for who may come in.

    Raises:
        DefinitionError: The class cannot live, or does not take an event that was named.
    """
    resource = Resource(machine_class, events, timeout)
    options = {"tags": [resource.name], "route_class": ProblemRoute, "responses": _REFUSALS, **options}
    made = APIRouter(**options)
    system = Annotated[ActorSystem[Any], Depends(system_with(machine_class))]
    if resource.can_spawn:
        _add_create(made, resource, system)
    for name in resource.events:
        _add_event(made, resource, system, name)
    _add_views(made, resource, system, heartbeat_s)
    return made


async def _address(
    request: Request,
    _key: Annotated[
        _Word,
        Header(
            alias="Idempotency-Key",
            description="the event's id: it is applied once, and a repetition gets the same answer",
            json_schema_extra=_WORD,
        ),
    ] = None,
    _request_id: Annotated[_Word, Header(alias="X-Request-ID", json_schema_extra=_WORD)] = None,
) -> EventAddress:
    return address_of(request.headers)


_MachineId = Annotated[str, _MACHINE_ID]
_Address = Annotated[EventAddress, Depends(_address)]


def _typed(endpoint: Callable[..., Any], **annotations: Any) -> Callable[..., Any]:
    """Say of what classes the parameters of an endpoint are: FastAPI reads the request by them."""
    endpoint.__annotations__.update(annotations)
    return endpoint


def _add_create(made: APIRouter, resource: Resource, system: Any) -> None:
    async def create(
        request: Request,
        response: Response,
        machine_id: _MachineId,
        system: Any,
        address: _Address,
        *,
        data: Any,
    ) -> Any:
        shown = await resource.create(system, machine_id, data, address)
        response.headers["location"] = request.url.path
        return shown

    if resource.has_defaults:
        create.__kwdefaults__ = {"data": None}
    made.put("/{id}", status_code=201, response_model=resource.snapshot, name=f"create {resource.name}")(
        _typed(create, data=resource.given, system=system)
    )


def _add_event(made: APIRouter, resource: Resource, system: Any, name: str) -> None:
    async def send(machine_id: _MachineId, event: Any, system: Any, address: _Address) -> Any:
        return await resource.send(system, machine_id, event, address)

    reply = resource.replies[name]
    made.post(
        f"/{{id}}/events/{name}",
        status_code=200 if reply is not None else 204,
        response_model=reply if reply is not Any else None,
        name=f"{resource.name} {name}",
        description=resource.events[name].__doc__,
    )(_typed(send, event=resource.events[name], system=system))


def _add_views(made: APIRouter, resource: Resource, system: Any, heartbeat_s: float) -> None:
    async def show(machine_id: _MachineId, system: Any) -> Any:
        return await resource.show(system, machine_id)

    async def history(
        machine_id: _MachineId,
        system: Any,
        after: Annotated[int, Query(ge=0, le=MAX_SEQ)] = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_HISTORY)] = 100,
    ) -> History:
        return await resource.history(system, machine_id, after=after, limit=limit)

    async def stream(
        machine_id: _MachineId, system: Any, last_event_id: Annotated[str | None, Header()] = None
    ) -> Response:
        frames = await live(
            resource, system, machine_id, last_event_id=last_event_id, heartbeat_s=heartbeat_s
        )
        return StreamingResponse(frames, headers=EVENT_STREAM_HEADERS)

    made.get("/{id}", response_model=resource.snapshot, name=f"show {resource.name}")(
        _typed(show, system=system)
    )
    made.get("/{id}/history", name=f"{resource.name} history")(_typed(history, system=system))
    made.get(
        "/{id}/live",
        name=f"{resource.name} live",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    )(_typed(stream, system=system))
