"""What the programmes about disks share: a shim between SQLite and the disk, and what a loss of power leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["IN_MEMORY"]

_MEMORY = Path("/dev/shm")  # noqa: S108 -- folders in it are made by tempfile
IN_MEMORY: Final = _MEMORY if _MEMORY.is_dir() else None
"""Where files are kept that need no disk: there a sync costs nothing. None is the usual place."""
