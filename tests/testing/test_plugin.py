"""The pytest plugin, as its users meet it: in a test run of their own, in another process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import pytest

import actorfsm

PACKAGE = Path(actorfsm.__file__).parents[1]
INSTALLED = any(point.name == "actorfsm" for point in entry_points(group="pytest11"))
LOAD = ("-p", "actorfsm.testing.plugin")
ASYNCIO_MODES = ("auto", "strict") if find_spec("pytest_asyncio") else ()
RUNNERS = ((), *((f"--asyncio-mode={mode}",) for mode in ASYNCIO_MODES))

MACHINES = """
    import asyncio
    from enum import Enum, auto

    import pytest

    from actorfsm import Event, Machine, transition
    from actorfsm.testing import SimLoop

    class S(Enum):
        A = auto()
        B = auto()

    class Go(Event[int]):
        n: int

    class Light(Machine[S], initial=S.A):
        seen: list[int] = []

        @transition(S.A, S.B, to=S.B)
        async def go(self, event: Go) -> int:
            await asyncio.sleep(0)
            self.seen.append(event.n)
            return event.n
"""


def run_pytest(
    folder: Path, test: str, *arguments: str, conftest: str = "", beside_others: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run pytest with the plugin alone or, `beside_others`, with every plugin that is installed.

    Others take most of the time of such a run to import, and have nothing to do in most of them.
    """
    scope = "asyncio_default_fixture_loop_scope = function\n"  # pytest-asyncio warns if it is unset
    (folder / "pytest.ini").write_text(
        f"[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n"
        f"{scope if beside_others and ASYNCIO_MODES else ''}"
    )
    (folder / "conftest.py").write_text(dedent(conftest))
    (folder / "test_it.py").write_text(dedent(MACHINES) + dedent(test))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        *(() if beside_others and INSTALLED else LOAD),
        *arguments,
    ]
    paths = [str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTEST_ADDOPTS": "",
        "COLUMNS": "200",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "" if beside_others else "1",
    }
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def said(run: subprocess.CompletedProcess[str]) -> str:
    return run.stdout + run.stderr


@pytest.mark.parametrize("runner", RUNNERS, ids=lambda runner: runner[0] if runner else "alone")
def test_a_coroutine_test_that_takes_actor_system_runs_on_the_simulated_loop(
    tmp_path: Path, runner: tuple[str, ...]
) -> None:
    run = run_pytest(
        tmp_path,
        """
        from datetime import timedelta

        async def test_it(actor_system, actor_clock, assert_no_loss):
            assert isinstance(asyncio.get_running_loop(), SimLoop)
            async with actor_system(Light) as system:
                began = actor_clock.now()
                light = await system.spawn(Light, "light")
                assert await light.ask(Go(n=3)) == 3
                await actor_clock.advance("1h 30m")
                assert actor_clock.now() - began == timedelta(hours=1.5)
                assert [record.name for record in system.trace] == ["committed", "committed"]
                assert_no_loss()

        class TestInAClass:
            @pytest.mark.actor_seeds(3)
            async def test_it(self, actor_system):
                async with actor_system(Light) as system:
                    await system.spawn(Light, "light")
        """,
        *runner,
        beside_others=True,
    )
    assert "4 passed" in said(run)
    assert run.returncode == 0


@pytest.mark.parametrize("runner", RUNNERS, ids=lambda runner: runner[0] if runner else "alone")
def test_a_failing_seed_is_named_and_can_be_repeated(tmp_path: Path, runner: tuple[str, ...]) -> None:
    test = """
        @pytest.mark.actor_seeds(20)
        async def test_race(actor_system):
            order = []
            async def put(n):
                order.append(n)
            async with actor_system(Light) as system:
                light = await system.spawn(Light, "light")
                await light.ask(Go(n=1))
                async with asyncio.TaskGroup() as group:
                    group.create_task(put(1))
                    group.create_task(put(2))
            assert order == [1, 2]
    """
    run = run_pytest(tmp_path, test, *runner, beside_others=bool(runner))
    text = said(run)
    failed = [line for line in text.splitlines() if line.startswith("FAILED")]
    assert 1 < len(failed) < 20
    seed = failed[0].partition("seed=")[2].partition("]")[0]
    assert f'repeat it with: pytest "test_it.py::test_race[seed={seed}]" --actor-seed={seed}' in text
    assert f"simulated with seed {seed}" in text
    assert "light#0 seq=2 | Go" in text  # the last transitions

    again = run_pytest(tmp_path, test, *runner, f"--actor-seed={seed}", beside_others=bool(runner))
    assert "1 failed" in said(again)
    assert f"[seed={seed}]" in said(again)


def test_a_seed_outside_the_range_can_be_run_too(tmp_path: Path) -> None:
    run = run_pytest(
        tmp_path,
        """
        @pytest.mark.actor_seeds(2)
        def test_plain(actor_seed):
            assert actor_seed == 4711
        async def test_alone(actor_system, actor_seed):
            assert actor_seed == asyncio.get_running_loop().seed == 4711
        """,
        "--actor-seed=4711",
    )
    assert "2 passed" in said(run)


def test_each_seed_has_fixtures_of_its_own_and_works_beside_other_parameters(tmp_path: Path) -> None:
    run = run_pytest(
        tmp_path,
        """
        @pytest.fixture
        def gateway():
            return []

        @pytest.mark.parametrize("amount", [5, 7])
        @pytest.mark.actor_seeds(4)
        async def test_it(actor_system, gateway, amount):
            gateway.append(amount)
            assert gateway == [amount]

        @pytest.mark.actor_seeds(3)
        async def test_without_fixtures():
            assert isinstance(asyncio.get_running_loop(), SimLoop)
        """,
    )
    assert "11 passed" in said(run)


def test_a_plain_test_gets_the_seed_and_simulates_by_itself(tmp_path: Path) -> None:
    run = run_pytest(
        tmp_path,
        """
        from actorfsm.testing import simulate

        @pytest.mark.actor_seeds(5)
        def test_it(actor_system, actor_seed):
            async def scenario():
                async with actor_system(Light) as system:
                    await system.spawn(Light, "light")
                return len(system.trace)
            assert simulate(scenario, seed=actor_seed) == 1
        """,
    )
    assert "5 passed" in said(run)


def test_what_outlives_a_test_fails_it(tmp_path: Path) -> None:
    run = run_pytest(
        tmp_path,
        """
        async def test_it(actor_system):
            asyncio.get_running_loop().create_task(asyncio.sleep(60), name="forgotten")
        """,
    )
    assert "pending task 'forgotten'" in said(run)
    assert "1 failed" in said(run)


def test_a_lost_event_fails_the_test_that_lost_it(tmp_path: Path) -> None:
    run = run_pytest(
        tmp_path,
        """
        async def test_it(actor_system, assert_no_loss):
            async with actor_system(Light) as system:
                light = await system.spawn(Light, "light")
                await light.ask(Go(n=1))
                del system.trace.records[-1]
                with pytest.raises(AssertionError, match="the trace has no outcome"):
                    assert_no_loss(system)
        """,
    )
    assert "1 failed" in said(run)
    assert "ContractBroken" in said(run)


def test_a_test_that_fails_on_a_loop_of_its_own_shows_the_trace_and_no_seed(tmp_path: Path) -> None:
    run = run_pytest(
        tmp_path,
        """
        def test_it(actor_system):
            async def main():
                async with actor_system(Light) as system:
                    await system.spawn(Light, "light")

            asyncio.run(main())
            assert not "what it is for"
        """,
    )
    assert "1 failed" in said(run)
    assert "actorfsm trace, the last 1 of 1 records" in said(run)
    assert "--actor-seed" not in said(run)


def test_a_marker_without_a_number_of_seeds_is_refused(tmp_path: Path) -> None:
    wrong = [
        "actor_seeds",
        "actor_seeds()",
        "actor_seeds(0)",
        "actor_seeds('5')",
        "actor_seeds(n=3)",
        "actor_seeds(True)",
    ]
    for number, marker in enumerate(wrong):
        test = f"import pytest\n@pytest.mark.{marker}\nasync def test_it(actor_system): ...\n"
        (tmp_path / f"test_wrong_{number}.py").write_text(test)
    run = run_pytest(tmp_path, "async def test_right(actor_system): ...", "--continue-on-collection-errors")
    refused = [line for line in said(run).splitlines() if "write @pytest.mark.actor_seeds(50)" in line]
    assert len(refused) >= len(wrong)
    assert f"1 passed, {len(wrong)} errors" in said(run)


def test_other_coroutine_tests_are_left_to_their_own_runner(tmp_path: Path) -> None:
    """A stand-in for a plugin that runs coroutines: it runs those that it sees."""
    run = run_pytest(
        tmp_path,
        """
        seen = []

        async def test_foreign():
            assert not isinstance(asyncio.get_running_loop(), SimLoop)

        @pytest.mark.asyncio
        async def test_marked_for_it(actor_system, actor_clock):
            assert not isinstance(asyncio.get_running_loop(), SimLoop)
            async with actor_system(Light) as system:
                light = await system.spawn(Light, "light")
                assert await light.ask(Go(n=1)) == 1
                with pytest.raises(RuntimeError, match="simulated loop"):
                    await actor_clock.advance("1s")

        async def test_ours(actor_system):
            assert isinstance(asyncio.get_running_loop(), SimLoop)
        """,
        "-p",
        "no:asyncio",
        conftest="""
            import asyncio, inspect

            def pytest_configure(config):
                config.addinivalue_line("markers", "asyncio: for the stand-in")

            def pytest_pyfunc_call(pyfuncitem):
                if inspect.iscoroutinefunction(pyfuncitem.obj):
                    names = pyfuncitem._fixtureinfo.argnames
                    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
                    return True
        """,
    )
    assert "3 passed" in said(run)


def test_loading_the_plugin_loads_no_simulator_and_the_package_works_without_pytest() -> None:
    code = """
        import sys
        import actorfsm.testing
        assert "pytest" not in sys.modules
        before = set(sys.modules)
        assert not [name for name in before if name.startswith("actorfsm.testing.")], before
        import actorfsm.testing.plugin
        loaded = {name for name in sys.modules if name.startswith("actorfsm.testing.")}
        assert loaded == {"actorfsm.testing.plugin"}, loaded

        sys.modules["pytest"] = None
        from actorfsm.testing import SimulatedSystem, VirtualClock, check, simulate, sweep
        assert set(actorfsm.testing.__all__) <= set(dir(actorfsm.testing))
        for name in actorfsm.testing.__all__:
            getattr(actorfsm.testing, name)
        try:
            actorfsm.testing.nothing
        except AttributeError as error:
            assert "nothing" in str(error)
        else:
            raise AssertionError
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(code)],
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("page", "passed"), [("test-without-waiting", 5), ("simulate-your-machine", 100)])
def test_the_tests_of_the_documentation_pass(tmp_path: Path, page: str, passed: int) -> None:
    text = (Path(__file__).parents[2] / "docs" / "how-to" / f"{page}.md").read_text("utf-8")
    blocks = [block.partition("```")[0] for block in re.split("```python(?: no-run)?\n", text)[1:]]
    run = run_pytest(tmp_path, "\n\n".join(blocks))
    assert f"{passed} passed" in said(run)
