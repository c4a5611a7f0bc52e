"""A lean writer of JSON lines, for heavy traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

if TYPE_CHECKING:
    from pathlib import Path

    from actorfsm.trace import Record

__all__ = ["JSONLines"]


class JSONLines:
    """Writes each record as one line of JSON to a file."""

    def __init__(self, path: str | Path) -> None:
        self._file: Any = open(path, "ab", buffering=1 << 16)  # noqa: SIM115, PTH123

    def __call__(self, record: Record) -> None:
        """Write one line."""
        fields = record._asdict()
        del fields["error"], fields["event"]
        self._file.write(to_json(fields) + b"\n")

    def flush(self) -> None:
        """Bring what was written to the file."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
