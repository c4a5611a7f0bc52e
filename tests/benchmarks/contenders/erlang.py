"""Erlang/OTP: `gen_statem:call` to 1,000 processes from 100 client processes, in a virtual machine of its own.

The sources in `erlang_gen_statem/` are compiled when `erl` and `erlc` are on the path. The work is timed
inside the virtual machine, so its start does not count. One variant shares the one core that Python has, the
other takes all cores.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..work import ALL, End, Load, Run, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
"""What this process may use, read before the harness pins itself to one of them."""

SOURCES = Path(__file__).parent / "erlang_gen_statem"


@cache
def compiled() -> str:
    """The directory with the compiled modules; removed at exit."""
    directory = tempfile.mkdtemp(prefix="gen-statem-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    sources = [str(path) for path in sorted(SOURCES.glob("*.erl"))]
    subprocess.run(["erlc", "-o", directory, *sources], check=True)
    return directory


@dataclass(frozen=True, kw_only=True)
class ErlangContender:
    """One sample is one virtual machine."""

    name: str
    schedulers: int
    workloads: Sequence[Workload] = ALL
    share: float = 3.0
    baseline: str = "a"
    goals: Mapping[Workload, float] = field(default_factory=dict)

    def missing(self) -> str | None:
        for tool in ("erl", "erlc"):
            if shutil.which(tool) is None:
                return f"{tool} is not on the path"
        return None

    def run(self, workload: Workload, load: Load) -> Run:
        numbers = [str(number) for number in (load.machines, load.senders, load.events)]
        flags = ["+S", f"{self.schedulers}:{self.schedulers}", "-noshell", "-noinput", "-pa", compiled()]
        command = ["erl", *flags, "-run", "bench", "main", str(workload), *numbers]
        output = self._output(command)
        seconds = 0.0
        ends: list[End] = []
        for line in output.splitlines():
            match line.split():
                case ["micros", micros]:
                    seconds = int(micros) / 1e6
                case ["end", state, customer, total, weight, urgent, seq]:
                    ends.append(End(state, customer, int(total), float(weight), urgent == "true", int(seq)))
                case _:
                    msg = f"the virtual machine said: {line}"
                    raise RuntimeError(msg)
        return Run(seconds, ends)

    def _output(self, command: list[str]) -> str:
        """Run it; a child has the cores of its parent, so the parent takes all of them for that long."""
        with _cores(CORES if self.schedulers > 1 else None):
            done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
        return done.stdout


@contextmanager
def _cores(wanted: set[int] | None) -> Iterator[None]:
    if wanted is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, wanted)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def contenders() -> list[ErlangContender]:
    cores = len(CORES)
    found = [ErlangContender(name="Erlang gen_statem: one core", schedulers=1)]
    if cores > 1:
        found.append(ErlangContender(name=f"Erlang gen_statem: {cores} cores", schedulers=cores))
    return found
