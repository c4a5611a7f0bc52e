"""aiohttp: a system as part of an application, its errors as problem documents, a machine class as routes."""

from __future__ import annotations

from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, TypeAdapter, ValidationError
from typing_extensions import TypeVar

from actorfsm.errors import ActorFSMError, DefinitionError, InvalidEvent, Unsupported
from actorfsm.event import MAX_PAYLOAD_BYTES
from actorfsm.integrations.http import Problem, address_of, plain_problem, problem_of
from actorfsm.integrations.live import EVENT_STREAM_HEADERS, HEARTBEAT_S, Streams, live
from actorfsm.integrations.resource import MAX_HISTORY, MAX_SEQ, Resource, the_one
from actorfsm.problems import field_names, problems_of
from actorfsm.runtime.system import ActorSystem

try:
    from aiohttp import web
except ImportError as missing:
    raise Unsupported(
        "actorfsm.integrations.aiohttp needs aiohttp, which is not installed: pip install 'actorfsm[aiohttp]'"
    ) from missing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from actorfsm.clock import Duration
    from actorfsm.event import Event
    from actorfsm.machine.machine import Machine
    from actorfsm.runtime.ref import Ref

__all__ = ["SYSTEM", "problems", "ref_of", "routes", "setup", "system_of"]

MachineT = TypeVar("MachineT", bound="Machine[Any, Any]")
SYSTEM: Final[web.AppKey[ActorSystem[Any]]] = web.AppKey("actorfsm", ActorSystem)
"""Where an application has its system."""


# -- the application --------------------------------------------------------------------------------------------------


def setup(
    app: web.Application,
    make: Callable[[], ActorSystem[Any]],
    *,
    key: web.AppKey[ActorSystem[Any]] = SYSTEM,
) -> None:
    """Let an application run a system: `setup(app, lambda: ActorSystem(Order))`.

    The system begins after what stands before it in `app.cleanup_ctx`, and ends before that does. A system that does
    not start ends the application's start. What the package raises in a handler is answered by a problem document.

    Args:
        app: The application, not yet started.
        make: Makes the system when the application starts.
        key: Where the application has it; give each of several systems a key of its own.

    Raises:
        DefinitionError: The application has a system under this key.
    """

    async def run(app: web.Application) -> AsyncIterator[None]:
        async with make() as system:
            app[key] = system
            yield

    async def end_streams(app: web.Application) -> None:
        Streams.of(app[key]).close()

    taken = app.setdefault(_KEYS, [])
    if key in taken:
        raise DefinitionError(f"the application has a system under {key} already: give key= another one")
    taken.append(key)
    app.cleanup_ctx.append(run)
    app.on_shutdown.append(end_streams)
    if problems not in app.middlewares:
        app.middlewares.append(problems)


_KEYS: Final[web.AppKey[list[Any]]] = web.AppKey("actorfsm.keys", list)


@web.middleware
async def problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer errors of the package with problem documents: a middleware, which `setup` installs."""
    try:
        return await handler(request)
    except ActorFSMError as error:
        return _refused(problem_of(error, _systems_of(request)))


def _refused(problem: Problem) -> web.Response:
    return web.Response(body=problem.body, status=problem.status, headers=problem.headers)


def _systems_of(request: web.Request) -> list[ActorSystem[Any]]:
    return [found for found in request.config_dict.values() if isinstance(found, ActorSystem)]


def system_of(request: web.Request, machine_class: type[Machine[Any, Any]] | None = None) -> ActorSystem[Any]:
    """Return the system of the application that a request is for, or of one around it.

    Args:
        request: The request.
        machine_class: A class that lives in it; needed where there are several systems.

    Raises:
        DefinitionError: There is no such system, or more than one.
    """
    systems = _systems_of(request)
    return the_one(systems, machine_class, "in the application", "call setup(app, ...) before it starts")


def ref_of(request: web.Request, machine_class: type[MachineT], parameter: str = "id") -> Ref[MachineT]:
    """Return a ref to the machine whose id stands in the path.

    Args:
        request: The request.
        machine_class: The machine's class.
        parameter: The name of the parameter in the path.

    Raises:
        InvalidEvent: That is no id.
        DefinitionError: As `system_of`.
    """
    return system_of(request, machine_class).ref(machine_class, request.match_info[parameter])


# -- routes -----------------------------------------------------------------------------------------------------------


def routes(
    machine_class: type[Machine[Any, Any]],
    prefix: str,
    *,
    events: Iterable[type[Event[Any, Any]]] | None = None,
    timeout: Duration | None = None,
    heartbeat_s: float = HEARTBEAT_S,
) -> list[web.RouteDef]:
    """Return routes for one class of machines: `app.add_routes(routes(Order, "/orders"))`.

    `PUT /{id}` creates a machine, `POST /{id}/events/Pay` sends it an event and answers with the reply, `GET /{id}`
    shows it with the events that it takes now, `GET /{id}/history` says what happened to it, and `GET /{id}/live` what
    happens from now on.

    Args:
        machine_class: The class.
        prefix: What the paths begin with.
        events: Which of its events may be sent; all that it declares by default.
        timeout: Deadline of an event, seconds or timedelta; the system's own by default.
        heartbeat_s: How long a live stream may be silent, in seconds.

    Raises:
        DefinitionError: The class cannot live, or does not take an event that was named.
    """
    served = _Served(Resource(machine_class, events, timeout), heartbeat_s)
    path = f"{prefix}/{{id}}"
    made = [
        web.get(path, served.show, allow_head=False),
        web.get(f"{path}/history", served.history, allow_head=False),
        web.get(f"{path}/live", served.live, allow_head=False),
        *(web.post(f"{path}/events/{name}", served.sender(name)) for name in served.resource.events),
    ]
    if served.resource.can_spawn:
        made.append(web.put(path, served.create))
    return made


class _Served:
    """The handlers of one machine class."""

    def __init__(self, resource: Resource, heartbeat_s: float) -> None:
        self.resource = resource
        self._heartbeat_s = heartbeat_s
        self._given = TypeAdapter[Any](resource.given)
        self._replies = {
            name: TypeAdapter[Any](reply) for name, reply in resource.replies.items() if reply is not None
        }

    def _found(self, request: web.Request) -> tuple[ActorSystem[Any], str]:
        return system_of(request, self.resource.machine_class), request.match_info["id"]

    async def create(self, request: web.Request) -> web.StreamResponse:
        body = await _body_of(request)
        if isinstance(body, web.Response):
            return body
        try:
            data = self._given.validate_json(body) if body or not self.resource.has_defaults else None
        except ValidationError as error:
            raise InvalidEvent(
                f"not the data of a {self.resource.name}: {_said(error, self._given)}"
            ) from None
        shown = await self.resource.create(*self._found(request), data, address_of(request.headers))
        return _json(shown, 201, {"location": request.path})

    def sender(self, name: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        event_class, reply_as = self.resource.events[name], self._replies.get(name)

        async def send(request: web.Request) -> web.StreamResponse:
            body = await _body_of(request)
            if isinstance(body, web.Response):
                return body
            event = event_class.from_json(body)
            reply = await self.resource.send(*self._found(request), event, address_of(request.headers))
            if reply_as is None:
                return web.Response(status=204)
            return web.Response(
                body=reply_as.dump_json(reply, by_alias=True), content_type="application/json"
            )

        return send

    async def show(self, request: web.Request) -> web.StreamResponse:
        return _json(await self.resource.show(*self._found(request)))

    async def history(self, request: web.Request) -> web.StreamResponse:
        after = _number(request, "after", 0, 0, MAX_SEQ)
        limit = _number(request, "limit", 100, 1, MAX_HISTORY)
        return _json(await self.resource.history(*self._found(request), after=after, limit=limit))

    async def live(self, request: web.Request) -> web.StreamResponse:
        frames = await live(
            self.resource,
            *self._found(request),
            last_event_id=request.headers.get("last-event-id"),
            heartbeat_s=self._heartbeat_s,
        )
        response = web.StreamResponse(headers=EVENT_STREAM_HEADERS)
        await response.prepare(request)
        async with aclosing(frames):
            with suppress(ConnectionResetError):  # the reader has gone
                async for frame in frames:
                    await response.write(frame)
        return response


async def _body_of(request: web.Request) -> bytes | web.Response:
    """Return the body of a request, or what is answered to one that is too long."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > MAX_PAYLOAD_BYTES:
            return _refused(plain_problem(413, f"the limit is {MAX_PAYLOAD_BYTES:,} bytes"))
    return bytes(body)


def _json(shown: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    body = shown.model_dump_json(by_alias=True).encode()
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def _said(error: ValidationError, adapter: TypeAdapter[Any]) -> str:
    return problems_of(error, field_names(adapter))


def _number(request: web.Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query.get(name, str(default))
    if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most:
        return int(text)
    raise InvalidEvent(f"{name} is a whole number from {least:,} to {most:,}")
