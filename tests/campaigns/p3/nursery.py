"""The nursery: a process that has imported everything, and forks the others. To start Python anew takes far longer.

`python -m tests.campaigns.p3.nursery CONTROL` reads one command a line and answers each with a line.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tests.campaigns.disk.shim import Control
from tests.campaigns.p3 import client, victim
from tests.campaigns.p3.plants import PLANTS


def killed_at(name: str, nth: int) -> Callable[[str], None]:
    """Return what kills the process when it reaches a point for the n-th time; by no name, never."""
    seen: Counter[str] = Counter()

    def reached(point: str) -> None:
        if point == name:
            seen[name] += 1
            if seen[name] == nth:
                os.kill(os.getpid(), signal.SIGKILL)

    return reached


class Nursery:
    """Forks clients and victims."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.listening: dict[str, socket.socket] = {}

    def answer(self, command: dict[str, Any]) -> Any:
        """Do what a command says."""
        return getattr(self, command.pop("do"))(**command)

    def listen(self, folder: str) -> int:
        """Hold the socket of a round, which outlives the victims."""
        for old in self.listening.values():
            old.close()
        self.listening = {folder: socket.socket(socket.AF_UNIX)}
        self.listening[folder].bind(f"{folder}/socket")
        self.listening[folder].listen()
        return 0

    def victim(self, folder: str, plant: str | None, point: str, nth: int) -> int:
        """Start a system; return its process."""
        pid = os.fork()
        if pid == 0:
            with PLANTS[plant]() if plant else nullcontext():
                victim.run(
                    Path(folder) / "disk" / "journal.db",
                    self.listening[folder],
                    self.control,
                    killed_at(point, nth),
                )
        return pid

    def client(self, folder: str, seed: int, log: str | None) -> int:
        """Start a client; return its process."""
        pid = os.fork()
        if pid == 0:
            self.listening[folder].close()
            client.run(Path(folder), seed, None if log is None else Path(log))
        return pid

    def wait(self, pid: int) -> int:
        """Wait for the end of a process; return its exit code, or the signal as a negative number."""
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(control: str) -> None:
    """Answer commands until there are none."""
    nursery = Nursery(Control(Path(control)))
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(victim.warm_up(Path(folder) / "journal.db"))
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(nursery.answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
