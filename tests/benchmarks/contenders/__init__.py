"""One small file for each contender; `everyone()` lists them in the order of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import (
    actorfsm_contender,
    erlang,
    pykka_threads,
    pystatemachine,
    raw_asyncio,
    seed_sketch,
    transitions_async,
)

if TYPE_CHECKING:
    from ..work import Contender

MODULES = (
    raw_asyncio,
    actorfsm_contender,
    seed_sketch,
    transitions_async,
    pystatemachine,
    pykka_threads,
    erlang,
)


def everyone() -> list[Contender]:
    """All contenders, installed or not; the first is the anchor `a`."""
    return [contender for module in MODULES for contender in module.contenders()]
