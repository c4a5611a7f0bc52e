"""The faults of P4, each at the n-th call, and the scenarios in which they strike."""

from __future__ import annotations

import errno
from typing import Final, NamedTuple

from tests.campaigns.disk.shim import Action, Kind

__all__ = ["FAULTS", "SCENARIOS", "STEPS", "Fault"]


class Fault(NamedTuple):
    """What fails, from the n-th call on or once."""

    kinds: Kind
    action: Action
    error: int
    lasting: bool


FAULTS: Final = {
    "a sync fails": Fault(Kind.SYNC, Action.FAIL, errno.EIO, lasting=False),
    "syncs fail": Fault(Kind.SYNC, Action.FAIL, errno.EIO, lasting=True),
    "a sync finds no room": Fault(Kind.SYNC, Action.FAIL, errno.ENOSPC, lasting=False),
    "a truncation fails": Fault(Kind.TRUNCATE, Action.FAIL, errno.EIO, lasting=False),
    "truncations fail": Fault(Kind.TRUNCATE, Action.FAIL, errno.EIO, lasting=True),
    "the disk is full": Fault(Kind.WRITE, Action.FULL, errno.ENOSPC, lasting=True),
    "the disk is full once": Fault(Kind.WRITE, Action.FULL, errno.ENOSPC, lasting=False),
    "the disk fills amid a write": Fault(Kind.WRITE, Action.SHORT, errno.ENOSPC, lasting=True),
    "a write fails": Fault(Kind.WRITE, Action.FAIL, errno.EIO, lasting=False),
    "writes fail": Fault(Kind.WRITE, Action.FAIL, errno.EIO, lasting=True),
}

STEPS: Final = {Kind.SYNC: 4, Kind.TRUNCATE: 1, Kind.WRITE: 37}
"""In the size of a build, so many calls lie between two that are struck; SQLite writes a page in two calls, and a
commit in twenty. By hand all are struck.
"""

SCENARIOS: Final = ("a first life", "a later life", "checkpoints")
