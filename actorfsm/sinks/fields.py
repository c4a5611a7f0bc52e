"""What both sinks agree on: how serious each record is."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

__all__ = ["LEVELS", "Level"]

Level: TypeAlias = Literal["info", "warning", "error"]

LEVELS: Final[dict[str, Level]] = {
    # the machine did what it is for; to refuse is part of that
    "committed": "info",
    "vetoed": "info",
    "stopped": "info",
    "released": "info",
    "suspended": "info",
    "resumed": "info",
    "started": "info",
    # a sender's event came to nothing, or the machine needed help: somebody should look when there are many
    "unhandled": "warning",
    "expired": "warning",
    "dead_lettered": "warning",
    "restarted": "warning",
    "loop_blocked": "warning",
    # user code is broken
    "failed": "error",
    "after_hook_failed": "error",
    "callback_failed": "error",
    "job_failed": "error",
    "quarantined": "error",
    "child_failed": "error",
    # the tree could not help itself
    "escalated": "error",
}
"""The level of each record by its name; a name that is not here is `info`."""
