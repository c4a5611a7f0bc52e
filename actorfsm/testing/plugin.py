"""The pytest plugin: fixtures and a marker for tests of machines. Loaded by pytest itself, through an entry point.

    @pytest.mark.actor_seeds(50)
    async def test_an_order_is_paid_once(actor_system, actor_clock):
        async with actor_system(Order) as system:
            ...

Such a test runs on the simulated loop, once for each seed, each a test of its own with fixtures of its own. A coroutine
test runs there too, once, if it takes `actor_system` or `actor_clock` and is not marked for another runner. All others
are left alone.

Nothing but pytest is imported here: what the fixtures need is loaded when they are first used.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from random import Random

    from actorfsm.machine.machine import Machine
    from actorfsm.testing.clock import VirtualClock
    from actorfsm.testing.simulation import SimulatedSystem

__all__ = ["SystemMaker", "actor_clock", "actor_seed", "actor_system", "assert_no_loss"]

MARKER: Final = "actor_seeds"
SEED: Final = "actor_seed"
OTHER_RUNNERS: Final = ("asyncio", "anyio", "trio", "twisted")
SHOWN: Final = 20
_MAKER: Final = pytest.StashKey["SystemMaker"]()
_SIMULATED: Final = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that repeats one seed."""
    parser.getgroup("actorfsm").addoption(
        "--actor-seed",
        type=int,
        default=None,
        metavar="N",
        help="run tests on the simulated loop under this seed only, to repeat one that failed",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(count): run the test under so many seeds, from 0; a coroutine on the simulated loop",
    )


# -- the seeds of a test --------------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test for each seed of a marked one."""
    marker = metafunc.definition.get_closest_marker(MARKER)
    if marker is None:
        return
    only = metafunc.config.getoption("--actor-seed")
    seeds = range(_count(metafunc.definition, marker)) if only is None else [only]
    if SEED not in metafunc.fixturenames:
        metafunc.fixturenames.append(SEED)
    metafunc.parametrize(SEED, seeds, indirect=True, ids=[f"seed={seed}" for seed in seeds])


def _count(item: pytest.Item, marker: pytest.Mark) -> int:
    count = marker.args[0] if len(marker.args) == 1 and not marker.kwargs else None
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise pytest.UsageError(
            f"{item.nodeid}: write @pytest.mark.{MARKER}(50), with a number of seeds of at least 1"
        )
    return count


@pytest.fixture(name=SEED)
def actor_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run: of the marker's range, or what `--actor-seed` says, or 0."""
    only: int | None = request.config.getoption("--actor-seed")
    seed: int = getattr(request, "param", only or 0)
    return seed


# -- tests on the simulated loop ------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_pycollect_makeitem() -> Generator[None, object, object]:
    """Make plain functions of our coroutine tests, before a plugin that runs coroutines sees them."""
    made = yield
    for item in cast("list[object]", made if issubclass(type(made), list) else [made]):
        if isinstance(item, pytest.Function) and _is_ours(item):
            item.stash[_SIMULATED] = True
            item.obj = _simulated(item, item.obj)
    return made


def _is_ours(item: pytest.Function) -> bool:
    if not inspect.iscoroutinefunction(item.obj):
        return False
    if item.get_closest_marker(MARKER) is not None:
        return True
    takes_ours = not {"actor_system", "actor_clock"}.isdisjoint(item.fixturenames)
    return takes_ours and not any(item.get_closest_marker(name) for name in OTHER_RUNNERS)


def _simulated(item: pytest.Function, test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        __tracebackhide__ = True
        from actorfsm.testing.loop import simulate

        simulate(lambda: test(**arguments), seed=_seed_of(item))

    return run


def _seed_of(item: pytest.Item) -> int:
    only: int | None = item.config.getoption("--actor-seed")
    callspec = getattr(item, "callspec", None)
    seed: int = (only or 0) if callspec is None else callspec.params.get(SEED, only or 0)
    return seed


# -- the fixtures ---------------------------------------------------------------------------------------------------


class SystemMaker:
    """Makes systems for one test: `async with actor_system(Order, services=...) as system`.

    Each is quiet and seeded, has the test's virtual clock, keeps its trace, and is judged at the end of `async with`.

    Attributes:
        systems: Those made so far.
    """

    def __init__(self, clock: VirtualClock, seed: int) -> None:
        self.systems: list[SimulatedSystem[Any]] = []
        self._clock = clock
        self._seed = seed

    def __call__(
        self, *machines: type[Machine[Any, Any]], random: Random | None = None, **options: Any
    ) -> SimulatedSystem[Any]:
        """Make a system, not yet started.

        Args:
            machines: The machine classes.
            random: For ids and jitter; seeded with the test's seed by default.
            options: As for `actorfsm.testing.SimulatedSystem`.
        """
        from random import Random

        from actorfsm.testing.simulation import SimulatedSystem

        options.setdefault("clock", self._clock)
        system: SimulatedSystem[Any] = SimulatedSystem(
            *machines, random=random or Random(self._seed), **options
        )
        system.shows_last = False  # the report does
        self.systems.append(system)
        return system

    def assert_no_loss(self, *systems: SimulatedSystem[Any]) -> None:
        """Compare what senders noted with the trace, for these systems or all that the test made.

        Raises:
            ContractBroken: Something was lost, done twice, out of order, or half.
        """
        for system in systems or self.systems:
            system.assert_no_loss()


@pytest.fixture
def actor_clock() -> VirtualClock:
    """The time of day in this test: `await actor_clock.advance("1h")`."""
    from actorfsm.testing.clock import VirtualClock

    return VirtualClock()


@pytest.fixture
def actor_system(request: pytest.FixtureRequest, actor_clock: VirtualClock, actor_seed: int) -> SystemMaker:
    """Make a fresh system with `async with` and its machines."""
    maker = SystemMaker(actor_clock, actor_seed)
    request.node.stash[_MAKER] = maker
    return maker


@pytest.fixture
def assert_no_loss(actor_system: SystemMaker) -> Callable[..., None]:
    """Compare replies, receipts and callbacks with the trace, here and now: `assert_no_loss()`."""
    return actor_system.assert_no_loss


# -- the report -----------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Name the seed of a failed test, and show the last transitions of its systems."""
    report = yield
    if report.when == "call" and report.failed:
        if item.stash.get(_SIMULATED, False) or item.get_closest_marker(MARKER) is not None:
            seed = _seed_of(item)
            told = f'seed {seed} failed; repeat it with: pytest "{item.nodeid}" --actor-seed={seed}'
            report.sections.append(("actorfsm seed", told))
        maker = item.stash.get(_MAKER, None)
        for system in () if maker is None else maker.systems:
            lines = system.trace.lines(SHOWN)
            title = f"actorfsm trace, the last {len(lines)} of {len(system.trace)} records"
            report.sections.append((title, "\n".join(lines)))
    return report
