"""The shim between SQLite and the disk: how it is built, and how a process that has it is told what to do.

`shim.c` counts the calls with which SQLite changes the files of one folder. It can let the n-th of them fail, kill the
process there, and keep a log of them all, from which `power.py` makes what a loss of power would have left.
"""

from __future__ import annotations

import atexit
import errno
import mmap
import os
import shutil
import struct
import subprocess
import sys
from enum import IntEnum, IntFlag
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from typing import Final

import pytest

SOURCE: Final = Path(__file__).with_name("shim.c")
ENVIRONMENT: Final = "ACTORFSM_DISK"

_FIELDS: Final = (
    *("at", "kinds", "action", "lasting", "error", "seen", "fired", "calls", "generation", "busy", "commits"),
)
_TEXT: Final = 1024
_SIZE: Final = 8 * len(_FIELDS) + 2 * _TEXT


class Kind(IntFlag):
    """Calls that change a file."""

    WRITE = 1
    SYNC = 2
    TRUNCATE = 4


ALL: Final = Kind.WRITE | Kind.SYNC | Kind.TRUNCATE


class Action(IntEnum):
    """What becomes of a call that is struck."""

    PASS = 0
    FAIL = 1
    FULL = 2
    """A write that needs more room fails; others pass and do not count."""
    SHORT = 3
    """Half of it is written."""
    KILL_BEFORE = 4
    KILL_TORN = 5
    """The process is killed when half of it is written."""
    KILL_AFTER = 6


@cache
def library() -> Path | None:
    """Return the shim, built if it was not; None where it cannot be."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    folder = Path(gettempdir()) / f"actorfsm-disk-{os.getuid()}-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    made = folder / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(made), str(SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(folder)
        raise RuntimeError(f"{SOURCE.name} could not be compiled:\n{done.stderr}")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return made


def needed() -> Path:
    """Return the shim; a test that needs it is skipped where it cannot be built, and fails in CI."""
    found = library()
    if found is None:
        reason = "needs Linux and a C compiler, to stand between SQLite and the disk"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def _attribute(place: int) -> property:
    def read(self: Control) -> int:
        return int(struct.unpack_from("<Q", self._block, 8 * place)[0])

    def write(self: Control, value: int) -> None:
        struct.pack_into("<Q", self._block, 8 * place, value)

    return property(read, write)


class Control:
    """The memory that is shared with the processes that have the shim.

    Args:
        path: The file behind it; it is made by whoever starts the processes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as file:
            self._block = mmap.mmap(file.fileno(), _SIZE)

    at = _attribute(0)
    kinds = _attribute(1)
    action = _attribute(2)
    lasting = _attribute(3)
    error = _attribute(4)
    seen = _attribute(5)
    fired = _attribute(6)
    calls = _attribute(7)
    generation = _attribute(8)
    busy = _attribute(9)
    commits = _attribute(10)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to have the shim."""
        return {"LD_PRELOAD": str(needed()), ENVIRONMENT: str(self.path)}

    def watch(self, folder: Path, log: Path | None = None) -> None:
        """Look at the files of a folder from now on, and keep a log of what is done to them."""
        self.disarm()
        start = 8 * len(_FIELDS)
        for place, text in enumerate((str(folder), "" if log is None else str(log))):
            raw = text.encode()
            assert len(raw) < _TEXT
            begin = start + place * _TEXT
            self._block[begin : begin + _TEXT] = raw.ljust(_TEXT, b"\0")
        self.generation += 1

    def arm(
        self, at: int, kinds: Kind, action: Action, *, error: int = errno.EIO, lasting: bool = False
    ) -> None:
        """Strike the n-th call of these kinds from now on, and all after it if that lasts."""
        self.disarm()
        self.at, self.kinds, self.error, self.lasting = at, kinds, error, lasting
        self.seen = self.fired = 0
        self.action = action

    def disarm(self) -> None:
        """Let all calls pass."""
        self.action = Action.PASS

    def close(self) -> None:
        """Give the memory back."""
        self._block.close()
