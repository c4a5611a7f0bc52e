"""The web frameworks as type checkers see them. Nothing here runs: mypy and pyright read it."""

from enum import StrEnum, auto
from typing import Annotated, Any, assert_type

from aiohttp import web
from fastapi import APIRouter, Depends, FastAPI
from starlette.requests import HTTPConnection

from actorfsm import ActorSystem, Event, Machine, Ref, transition
from actorfsm.integrations import aiohttp as on_aiohttp, starlette as on_starlette
from actorfsm.integrations.fastapi import PROBLEMS, SystemDep, lifespan, ref, router, system_with
from actorfsm.integrations.http import Problem, problem_of


class LampState(StrEnum):
    OFF = auto()
    ON = auto()


class Switch(Event[int, "Lamp"]): ...


class Other(Event[None, "Desk"]): ...


class Lamp(Machine[LampState], initial=LampState.OFF):
    """A lamp."""

    @transition(LampState.OFF, to=LampState.ON)
    @transition(LampState.ON, to=LampState.OFF)
    def switch(self, event: Switch) -> int:
        """Switch it."""
        return 1


class Desk(Machine[LampState], initial=LampState.OFF):
    """A desk."""


def make() -> ActorSystem[str]:
    """Make a system."""
    return ActorSystem(Lamp, services="")


app = FastAPI(lifespan=lifespan(make, inner=lifespan(make, name="other")), exception_handlers=PROBLEMS)
assert_type(router(Lamp, events=[Switch], prefix="/lamps"), APIRouter)
router("Lamp")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
lifespan(make())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
LampRef = Annotated[Ref[Lamp], Depends(ref(Lamp, "lamp_id"))]


async def switch(lamp: LampRef, system: SystemDep) -> int:
    """Switch a lamp."""
    assert_type(lamp, Ref[Lamp])
    await lamp.ask(Other())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(system, ActorSystem[Any])
    return assert_type(await lamp.ask(Switch()), int)


async def found(connection: HTTPConnection) -> None:
    """Find a system."""
    assert_type(on_starlette.system_of(connection, Lamp), ActorSystem[Any])
    assert_type(await system_with(Lamp)(connection), ActorSystem[Any])


# -- aiohttp ----------------------------------------------------------------------------------------------------------

KEY = web.AppKey("lamps", ActorSystem[Any])
on_aiohttp.setup(web.Application(), make, key=KEY)
on_aiohttp.setup(web.Application(), make())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def handle(request: web.Request) -> web.StreamResponse:
    """Switch a lamp."""
    assert_type(request.app[on_aiohttp.SYSTEM], ActorSystem[Any])
    lamp = on_aiohttp.ref_of(request, Lamp)
    assert_type(lamp, Ref[Lamp])
    assert_type(await lamp.ask(Switch()), int)
    return web.Response()


web.Application().add_routes(on_aiohttp.routes(Lamp, "/lamps"))


async def looked_at(system: ActorSystem[str]) -> None:
    """See what the frameworks need."""
    assert_type(system.machine_classes, tuple[type[Machine[Any, Any]], ...])
    assert_type(system.class_of("lamp-1"), type[Machine[Any, Any]])
    system.listen(lambda record: print(record.name))()


def said(error: ValueError) -> Problem:
    """Say what HTTP says."""
    return problem_of(error)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
