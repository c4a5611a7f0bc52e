"""P4: starts a process with the shim for each scenario, and collects what it finds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import actorfsm
from tests.campaigns.disk import IN_MEMORY
from tests.campaigns.disk.shim import Control
from tests.campaigns.p4.faults import SCENARIOS

__all__ = ["Result", "run"]

ROOT: Final = Path(__file__).parents[3]
HANGS_S: Final = 60.0
"""A run takes a tenth of a second."""


@dataclass
class Result:
    """What was done and found.

    Attributes:
        runs: Lives in which a call was struck.
        answers: What clients were answered.
        violations: What was found.
    """

    runs: int = 0
    answers: int = 0
    violations: list[str] = field(default_factory=list)


def run(*, every_call: bool, plant: str = "", scenarios: tuple[str, ...] = SCENARIOS) -> Result:
    """Run the programme."""
    result = Result()
    for scenario in scenarios:
        _run_one(scenario, "all" if every_call else "build", plant, result)
        if result.violations:
            break
    return result


def _run_one(scenario: str, stride: str, plant: str, result: Result) -> None:
    paths = [str(ROOT), str(Path(actorfsm.__file__).parents[1])]
    with tempfile.TemporaryDirectory(prefix="p4-", dir=IN_MEMORY) as folder:
        control = Control(Path(folder) / "control")
        command = [
            *(sys.executable, "-m", "tests.campaigns.p4.worker", str(control.path), f"{folder}/world"),
            *(scenario, stride, plant),
        ]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **control.environment}
        with (
            (Path(folder) / "said").open("w+") as said,
            subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=said, text=True
            ) as worker,
        ):
            answers, last = 0, "the start"
            assert worker.stdout is not None
            for _ in range(1_000_000):
                alarm = threading.Timer(HANGS_S, worker.send_signal, [signal.SIGKILL])
                alarm.start()
                line = worker.stdout.readline()
                alarm.cancel()
                if not line:
                    break
                if line.startswith("?"):
                    last = line[2:].strip()
                    continue
                told = json.loads(line)
                result.runs += told["runs"]
                answers = told["answers"]
                result.violations += told["broken"]
            status = worker.wait()
            if status:
                said.seek(0)
                result.violations.append(f"{last}: the process ended with {status}, or hung: {said.read()}")
            result.answers += answers
        control.close()
