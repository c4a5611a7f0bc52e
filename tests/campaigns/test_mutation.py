"""P10's own parts: what is changed, what is left alone, and that it finds what no test notices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaigns import ledger, mutation
from tests.campaigns.mutants_that_change_nothing import REASONS
from tests.campaigns.mutation import draw
from tests.campaigns.mutators import Mutant, mutants_of
from tests.campaigns.who_executes import AT_IMPORT, Coverage


def changes(source: str) -> list[str]:
    return [mutant.change for mutant in mutants_of("x.py", source.encode())]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", ["a < b -> (a <= b)", "a < b -> (a >= b)"]),
        ("x = a is not b", ["a is not b -> (a is b)"]),
        ("x = a not in b", ["a not in b -> (a in b)"]),
        ("x = a and b", ["a and b -> (a or b)", "a and b -> (b)", "a and b -> (a)"]),
        ("x = not a", ["not a -> (a)"]),
        ("x = 3", ["3 -> 4", "3 -> (2)"]),
        ("x = True", ["True -> False"]),
        ("x = 'committed'", ["'committed' -> 'committed_'"]),
        ("x = a - b", ["a - b -> (a + b)"]),
        ("x = a if b else c", ["a if b else c -> (c if b else a)"]),
        ("x += y", ["x += y -> pass", "x += y -> x -= y"]),
        ("x.y = z", ["x.y = z -> pass"]),
        ("del x.y", ["del x.y -> pass"]),
        ("f(a, b=c)", ["f(a, b=c) -> pass", "f(...) without b="]),
        ("x = max(a, b)", ["max(a, b) -> (min(a, b))"]),
        ("x = q.popleft()", ["q.popleft() -> (q.pop())"]),
        ("raise X", ["raise X -> pass"]),
        ("while a:\n    break", ["a -> (not a)", "break -> continue"]),
        ("def f():\n    return a", ["return a -> return None"]),
        (
            "try:\n    a\nexcept (X, Y):\n    ...",
            ["(X, Y) -> ((Y,))", "(X, Y) -> ((X,))"],
        ),
    ],
)
def test_a_change_is_made_in_each_way_that_its_code_can_be_wrong(source: str, expected: list[str]) -> None:
    assert changes(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring."""',
        "__slots__ = ('b', 'a')",
        "__all__ = ['a']",
        "if TYPE_CHECKING:\n    x = 1",
        "assert x == 1",
        "x = f'{1} {y == 2}'",
        "x = 'two words'",
        "x: Literal[1]",
        "@dataclass(frozen=True)\nclass X:\n    a: int",
        "x: TypeAlias = A | B",
        "@overload\ndef f(x=1): ...",
        "x = cast('object', y)",
    ],
)
def test_what_cannot_change_behaviour_is_left_alone(source: str) -> None:
    assert changes(source) == []


def test_a_mutant_changes_its_place_and_nothing_else() -> None:
    source = '# – comment\ndef f(a):\n    """É."""\n    return "é", a < 1  # here\n'.encode()
    told = {mutant.change: mutant.applied_to(source).decode() for mutant in mutants_of("x.py", source)}
    assert told["a < 1 -> (a <= 1)"] == source.decode().replace("a < 1", "(a <= 1)")
    assert told["1 -> 2"] == source.decode().replace("1", "2")


def test_the_tests_of_a_mutant_are_those_that_execute_its_line_the_fastest_first() -> None:
    seconds = {"t/a.py::one": 0.3, "t/a.py::two": 0.1, "t/b.py::three": 0.2, "t/c.py::four": 0.1}
    lines = {
        "x.py": {
            "1": [AT_IMPORT],
            "2": ["t/a.py::one", "t/a.py::two"],
            "3": ["t/b.py"],
            "5": ["t/b.py", "t/a.py::one"],
        }
    }
    names = sorted({name for contexts in lines["x.py"].values() for name in contexts})
    numbered = {line: [names.index(name) for name in contexts] for line, contexts in lines["x.py"].items()}
    executed = Coverage({"seconds": seconds, "contexts": names, "lines": {"x.py": numbered}})

    def tests(line: int, statement: int = 0, path: str = "x.py") -> list[str]:
        return executed.tests(Mutant(path, line, statement, "-", 0, 0, "", ""))

    assert tests(2) == ["t/a.py::two", "t/a.py::one"]
    assert tests(3) == ["t/b.py::three"]  # executed when that file's classes are made
    assert tests(5) == ["t/a.py::one", "t/b.py::three"]
    assert tests(6, statement=2) == tests(2)  # inside a statement of several lines
    assert tests(7, statement=7) == []
    assert tests(2, path="y.py") == []
    assert tests(1) == ["t/a.py::two", "t/a.py::one", "t/b.py::three"]  # whoever runs anything of the module


def test_the_same_seed_draws_the_same_mutants() -> None:
    module = ["actorfsm/runtime/mailbox.py"]
    if not (ledger.ROOT / "actorfsm").is_dir():
        pytest.skip("the sources are not beside the tests")
    drawn = draw(module, 20, 1)
    assert len({str(mutant) for mutant in drawn}) == 20
    assert drawn == draw(module, 20, 1)
    assert drawn != draw(module, 20, 2)


def test_each_mutant_that_is_said_to_change_nothing_exists_and_has_a_reason() -> None:
    if not (ledger.ROOT / "actorfsm").is_dir():
        pytest.skip("the sources are not beside the tests")
    keys = {mutant.key for mutant in draw(mutation.MODULES, 10**6, 1)}
    assert set(REASONS) <= keys
    assert all(REASONS.values())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_mutant_that_no_test_notices_is_found(tmp_path: Path) -> None:
    """The whole campaign on a checkout of two functions, of which one is tested."""
    package, tests = tmp_path / "actorfsm", tmp_path / "tests"
    for folder in (package, tests, tests / "campaigns"):
        folder.mkdir()
    (package / "__init__.py").write_text("")
    (package / "sums.py").write_text(
        "def added(a, b):\n    return a + b\n\n\ndef taken(a, b):\n    return a - b\n"
    )
    (tests / "__init__.py").write_text("")
    (tests / "test_sums.py").write_text(
        "from actorfsm.sums import added, taken\n\n\ndef test_sum():\n    assert added(2, 1) == 3\n    taken(1, 0)\n"
    )
    own = Path(mutation.__file__).parent
    for name in ("__init__", "ledger", "mutation", "mutators", "mutants_that_change_nothing", "who_executes"):
        (tests / "campaigns" / f"{name}.py").write_bytes((own / f"{name}.py").read_bytes())
    (tmp_path / "pyproject.toml").write_text(
        "[tool.pytest.ini_options]\naddopts = ['--import-mode=importlib']\nmarkers = ['slow']\n"
    )
    for name in ("README.md", "LICENSE"):
        (tmp_path / name).write_text("")
    for name in ("examples", "docs"):
        (tmp_path / name).mkdir()
    environment = {
        **os.environ,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }  # the real package's plugin among them
    environment["PYTEST_PLUGINS"] = "xdist.plugin,pytest_timeout"
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [sys.executable, "-m", "tests.campaigns.mutation", "--module", "actorfsm/sums.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "killed: actorfsm/sums.py:2 added: a + b -> (a - b)" in done.stdout, done.stdout + done.stderr
    assert "survived: actorfsm/sums.py:6 taken: a - b -> (a + b)" in done.stdout
    assert "mutants=4 killed=2 survived=2 equivalent=0 score=50.0% violations=1" in done.stdout
    assert done.returncode == 1
    assert (package / "sums.py").read_text().count("a + b") == 1
