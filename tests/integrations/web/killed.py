"""A server in a process of its own, to be killed: `python -m tests.integrations.web.killed aiohttp PORT JOURNAL`."""

from __future__ import annotations

import sys

from actorfsm import ActorSystem
from tests.integrations.web.shop import Order, Shop


def main(framework: str, port: int, journal: str) -> None:
    def make() -> ActorSystem[Shop]:
        return ActorSystem(Order, services=Shop(), journal=journal, trace=None)

    if framework == "aiohttp":
        from aiohttp import web

        from actorfsm.integrations.aiohttp import routes, setup

        app = web.Application()
        setup(app, make)
        app.add_routes(routes(Order, "/orders"))
        web.run_app(app, host="127.0.0.1", port=port, print=None)
    else:
        import uvicorn
        from fastapi import FastAPI

        from actorfsm.integrations.fastapi import lifespan, router

        api = FastAPI(lifespan=lifespan(make))
        api.include_router(router(Order), prefix="/orders")
        uvicorn.run(api, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
