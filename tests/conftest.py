"""What all tests share: scenarios run on the simulated loop, on every path, under several seeds."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import contextmanager, nullcontext
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from actorfsm import ActorSystem
from actorfsm.testing.loop import simulate
from tests.mongodb_server import mongodb_fake, mongodb_url
from tests.postgresql_server import postgresql_server

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

__all__ = ["mongodb_fake", "mongodb_url", "postgresql_server"]

SEEDS = range(int(os.environ.get("ACTORFSM_SEEDS", "3")))
"""Under how many seeds each scenario runs; fewer where the same suite runs again, on another Python."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the long ones begin first: so many short ones are left in the end that no process waits for another."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@contextmanager
def unmeasured() -> Generator[None]:
    """Have coverage look away, also from processes that are started: under its eye a line costs several times more."""
    coverage = sys.modules.get("coverage")
    measuring = coverage and coverage.Coverage.current()
    if not measuring:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        for name in ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"):  # of the processes that it starts
            patch.delenv(name, raising=False)
        measuring.stop()
        try:
            yield
        finally:
            measuring.start()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Look away from campaigns, where chance draws the way, and while great numbers are handled."""
    if item.get_closest_marker("slow") is None and item.get_closest_marker("many") is None:
        return (yield)
    with unmeasured():
        return (yield)


def pytest_collection_finish() -> None:
    """Let the garbage collector look at what a test makes alone, and not, each time, at all that was collected.

    A scenario that finds something left over asks for a collection, and many do: each of them would go through the
    thousands of tests and modules that pytest holds.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(params=[True, False], ids=["inline", "queued"])
def inline(request: pytest.FixtureRequest) -> bool:
    """Whether asks to idle machines may be handled inside the ask: a contract test runs on both paths."""
    return bool(request.param)


@pytest.fixture
def system_of(inline: bool) -> Callable[..., ActorSystem[Any]]:
    """Make a system on the path under test, quiet and seeded."""

    def make(*machines: Any, **options: Any) -> ActorSystem[Any]:
        options.setdefault("trace", None)
        options.setdefault("random", Random(7))
        return ActorSystem(*machines, inline=inline, **options)

    return make


@pytest.fixture
def sim() -> Callable[..., None]:
    """Run a scenario on the simulated loop under several seeds; nothing may be left behind.

    Seeds that the test does not name are there for the order of things: coverage looks at the first of them alone.
    """

    def run(scenario: Callable[[], Coroutine[Any, Any, Any]], *, seeds: Any = SEEDS) -> None:
        for seed in seeds:
            with unmeasured() if seeds is SEEDS and seed != SEEDS[0] else nullcontext():
                simulate(scenario, seed=seed)

    return run
