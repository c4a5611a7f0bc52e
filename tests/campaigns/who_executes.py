"""Which tests execute which line: recorded once, so that a mutant is run against those tests alone."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import coverage
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.campaigns.mutators import Mutant

PYTEST: Final = (
    *("-n0", "-p", "no:randomly", "-p", "no:cacheprovider"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # hypothesis is loaded already
)
SUITE: Final = (
    *("tests", *PYTEST, "-q", "-m", "not slow"),
    *(f"--ignore=tests/{name}" for name in ("campaigns", "benchmarks", "typing")),
)
ALLOWED_TO_FAIL: Final = 10
"""How many tests may fail while they are recorded; they are left out."""
MADE_ONCE: Final = "actorfsm/machine/"
NEAR: Final = "tests/machine/"
"""The tests of what is made once."""
AT_IMPORT: Final = ""
"""The context of a line that runs when the package is imported."""


class Recorder:
    """A pytest plugin: notes under which test, or the collection of which file, a line was executed."""

    def __init__(self, coverage: Any) -> None:
        self.coverage = coverage
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: set[str] = set()

    def _within(self, context: str) -> Iterator[None]:
        self.coverage.switch_context(context)
        try:
            return (yield)
        finally:
            self.coverage.switch_context(AT_IMPORT)

    def pytest_make_collect_report(self, collector: pytest.Collector) -> Iterator[None]:
        return (yield from self._within(collector.nodeid))

    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        return (yield from self._within(item.nodeid))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed.add(report.nodeid)


def record(target: str) -> int:
    """Run the suite in this process and write down who executes what."""
    for hook in (Recorder.pytest_make_collect_report, Recorder.pytest_runtest_protocol):
        pytest.hookimpl(wrapper=True)(hook)
    measured = coverage.Coverage(data_file=None, config_file=False, source=["actorfsm"])
    recorder = Recorder(measured)
    measured.start()
    pytest.main(list(SUITE), plugins=[recorder])
    measured.stop()
    for test in recorder.failed:  # a test of sizes or times may fail because coverage is measured
        del recorder.seconds[test]
    data = measured.get_data()
    numbers: dict[str, int] = defaultdict(lambda: len(numbers))  # names are long, and there are millions
    lines = {
        Path(file).relative_to(Path.cwd()).as_posix(): {
            line: [numbers[context] for context in contexts]
            for line, contexts in data.contexts_by_lineno(file).items()
        }
        for file in data.measured_files()
    }
    recorded = {"seconds": recorder.seconds, "contexts": list(numbers), "lines": lines}
    Path(target).write_text(json.dumps(recorded), "utf-8")
    return int(not recorder.seconds or len(recorder.failed) > ALLOWED_TO_FAIL)


class Coverage:
    """Which tests are of interest for a mutant, the most promising first."""

    def __init__(self, recorded: dict[str, Any]) -> None:
        self.seconds: dict[str, float] = recorded["seconds"]
        self.contexts: list[str] = recorded["contexts"]
        self.lines: dict[str, dict[str, list[int]]] = recorded["lines"]
        self.of_file: dict[str, list[str]] = defaultdict(list)
        for test in self.seconds:
            self.of_file[test.partition("::")[0]].append(test)

    def tests(self, mutant: Mutant) -> list[str]:
        lines = self.lines.get(mutant.path, {})
        numbers = lines.get(str(mutant.line)) or lines.get(str(mutant.statement)) or []
        contexts = {self.contexts[number] for number in numbers}
        if AT_IMPORT in contexts:  # a constant, say: whoever runs anything of the module may notice
            contexts.update(self.contexts[number] for others in lines.values() for number in others)
        direct = contexts & self.seconds.keys()
        collected = {test for context in contexts for test in self.of_file.get(context, ())}
        if not mutant.path.startswith(MADE_ONCE):
            return self._ordered(direct, collected - direct)
        # Classes are made once, in one test or file, and used in many: what is executed then concerns them all.
        others = self.seconds.keys() - direct - collected
        tests = self._ordered(direct, collected - direct, others)
        return sorted(tests, key=lambda test: not test.startswith(NEAR))

    def _ordered(self, *groups: Iterable[str]) -> list[str]:
        """Return the fastest of each group first, but one case of each function before all other cases."""
        cases: Counter[str] = Counter()
        ordered = []
        for number, group in enumerate(groups):
            for test in sorted(group, key=lambda test: (self.seconds[test], test)):
                function = test.partition("[")[0]
                ordered.append((cases[function] > 0, number, self.seconds[test], test))
                cases[function] += 1
        return [test for *_, test in sorted(ordered)]
