"""P10: mutants of the package, each run against the tests that execute the changed line.

    python -m tests.campaigns.mutation --sample 200 --seed 1 --module actorfsm/machine

draws mutants of the named modules and prints those that no test noticed. Everything happens in a copy of the checkout,
on one core and with low priority. The campaigns themselves are not among the tests: bugs planted by hand measure them.

A mutant is killed by a failing test, an import that fails, or a run that takes far longer than the tests did without
it. One whose line no test executes has survived. See `mutants_that_change_nothing` for those that cannot be noticed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final, NoReturn

import hypothesis.strategies  # noqa: F401 -- loaded here, once, for all the forks
import pytest

from tests.campaigns import ledger
from tests.campaigns.mutants_that_change_nothing import REASONS
from tests.campaigns.mutators import Mutant, mutants_of
from tests.campaigns.who_executes import PYTEST, Coverage, record

if TYPE_CHECKING:
    from collections.abc import Iterable

MODULES: Final = (
    "actorfsm/machine",
    *(
        f"actorfsm/runtime/{name}.py"
        for name in (
            "mailbox",
            "actor",
            "dispatcher",
            "dynamic_supervisor",
            "perform",
            "settling",
            "turn",
            "door",
            "admission",
            "addressing",
            "spawning",
        )
    ),
)
GOAL: Final = 0.85
COPIED: Final = ("actorfsm", "tests", "examples", "docs", "pyproject.toml", "README.md", "LICENSE")
FIRST: Final = 60
"""How many tests run first: the fastest of those that execute the line. Most mutants die there."""
BUDGET_S: Final = 50.0
"""How long the others may take, going by what they took when they were recorded."""
MAX_BYTES: Final = 4 << 30


class Campaign:
    """A copy of the checkout in which one file after the other is changed, and put back."""

    def __init__(self, folder: Path, budget_s: float) -> None:
        self.folder = folder
        self.budget_s = budget_s

    def prepare(self, recorded: Path) -> Coverage:
        """Copy the checkout and run its suite once, unless that was recorded before."""
        for name in COPIED:
            source, target = ledger.ROOT / name, self.folder / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        if not recorded.exists():
            command = [sys.executable, "-m", "tests.campaigns.mutation", "--record", str(recorded.absolute())]
            subprocess.run(command, cwd=self.folder, check=True)
        return Coverage(json.loads(recorded.read_text("utf-8")))

    def kills(self, mutant: Mutant, tests: list[str], executed: Coverage) -> bool:
        """Return whether one of the tests notices the change."""
        rest, spent = [], 0.0
        for test in tests[FIRST:]:
            spent += executed.seconds[test]
            if spent > self.budget_s:
                break
            rest.append(test)
        file = self.folder / mutant.path
        source = file.read_bytes()
        _write(file, mutant.applied_to(source))
        try:
            return any(
                not self.passes(part, sum(executed.seconds[test] for test in part))
                for part in (tests[:FIRST], rest)
                if part
            )
        finally:
            _write(file, source)

    def passes(self, tests: list[str], seconds: float) -> bool:
        """Run some tests in a process of their own: a fork, because the libraries are loaded already."""
        chosen = self.folder / "chosen.txt"
        chosen.write_text("\n".join(tests), "utf-8")
        child = os.fork()
        if not child:
            _run_tests(self.folder, chosen)
        ends_at = time.monotonic() + 20 + 5 * seconds
        while time.monotonic() < ends_at:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return status == 0
            time.sleep(0.02)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return False


def _write(file: Path, source: bytes) -> None:
    file.write_bytes(source)
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
        compiled.unlink()  # Python compares seconds and sizes: two mutants may share theirs


def _run_tests(folder: Path, chosen: Path) -> NoReturn:
    """Run the chosen tests in this process, which is a fork, and leave it."""
    status = 1
    try:
        os.setsid()  # so that what a test starts can be ended with it
        resource.setrlimit(
            resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES)
        )  # a mutant may fill the memory for ever
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nothing, stream)
        os.chdir(folder)
        sys.path[0] = str(folder)
        for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
            del sys.modules[name]
        status = int(pytest.main([*PYTEST, "-x", "-o", "timeout=15", f"@{chosen}"]))
    finally:
        os._exit(status)


def draw(modules: Iterable[str], sample: int, seed: int) -> list[Mutant]:
    """Return the sample: the same for the same seed and sources. Mutants that change nothing are left out."""
    files = [
        file
        for module in modules
        for file in (sorted((ledger.ROOT / module).glob("*.py")) or [ledger.ROOT / module])
    ]
    everything = [
        mutant
        for file in files
        for mutant in mutants_of(file.relative_to(ledger.ROOT).as_posix(), file.read_bytes())
    ]
    drawn = Random(seed).sample(range(len(everything)), min(sample, len(everything)))
    return [everything[index] for index in sorted(drawn)]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--module", action="append", help="a file or folder; several times, or all of P10's")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds of tests for each mutant")
    parser.add_argument("--killed", type=Path, help="a file of mutants that are known to be killed")
    parser.add_argument("--recorded", type=Path, help="where to keep which tests execute which line")
    parser.add_argument("--record", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.record:
        return record(options.record)
    os.nice(15)
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background job ignores it; tests send it
    os.environ["ACTORFSM_SEEDS"] = "1"
    os.environ.pop("PYTHONPATH", None)  # the copy comes first because it is the working directory
    known = set(options.killed.read_text("utf-8").splitlines()) if options.killed else set()
    modules = options.module or MODULES
    mutants = draw(modules, options.sample, options.seed)
    survivors, same, began = [], 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder), options.budget)
        executed = campaign.prepare(options.recorded or Path(folder, "recorded.json"))
        assert campaign.passes([*executed.seconds][:FIRST], BUDGET_S), "without a mutant the tests must pass"
        for number, mutant in enumerate(mutants, 1):
            tests = executed.tests(mutant)
            if mutant.key in REASONS:
                verdict, same = "changes nothing", same + 1
            elif str(mutant) in known or campaign.kills(mutant, tests, executed):
                verdict = "killed"
            else:
                verdict = "survived" if tests else "survived: no test executes it"
                survivors.append(mutant)
            print(f"{number}/{len(mutants)} {time.monotonic() - began:.0f} s {verdict}: {mutant}", flush=True)
    print("survivors:", *survivors, sep="\n  ")
    killed = len(mutants) - same - len(survivors)
    score = killed / (killed + len(survivors))
    ledger.enter(
        "P10",
        seeds=options.seed,
        violations=int(score < GOAL),
        modules="+".join(options.module or ["all"]),
        mutants=len(mutants),
        killed=killed,
        survived=len(survivors),
        equivalent=same,
        score=f"{score:.1%}",
    )
    return int(score < GOAL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
