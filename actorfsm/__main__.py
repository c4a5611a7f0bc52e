"""`python -m actorfsm`: the same as the command `actorfsm`."""

from __future__ import annotations

import sys

from actorfsm.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
