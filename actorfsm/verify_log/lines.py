"""Lines: the trace read back, from what `JSONLines` or structlog's `JSONRenderer` wrote.

Owns what may be wrong with a line by itself. Nothing of a line is trusted; what is shown of it is escaped and short.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, Final, cast

from pydantic_core import from_json

from actorfsm.shown import shown
from actorfsm.trace import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_LINE_BYTES", "BadLine", "CutOff", "read", "split"]

MAX_LINE_BYTES: Final = 4 * 1024 * 1024
"""The longest line that is read. A record with a long traceback and a long payload has some 100 kB."""
_GZIP: Final = b"\x1f\x8b"
_COUNTS: Final = ("incarnation", "seq")
_NEEDED: Final = ("event", "machine_id", "incarnation", "seq")
_TEXTS: Final = (
    *("event", "machine", "machine_id", "event_type", "event_id", "causation_id"),
    *("source", "target", "hook"),
)
_OURS: Final = ("machine", "machine_id", "incarnation", "seq")


class BadLine(ValueError):
    """A line that is no record; its text says why."""


class CutOff(BadLine):
    """The last line, which ends in the middle."""


def split(log: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines with their ends; of a line that is too long only the beginning, which `read` refuses.

    Raises:
        OSError: It cannot be read.
    """
    while line := log.readline(MAX_LINE_BYTES + 1):
        yield line


def read(line: bytes) -> Record | None:
    """Return the record of a line; None if it is a JSON object that some other logger wrote.

    Raises:
        BadLine: It is none. `CutOff`, if that may be because the writer did not come to its end.
    """
    if len(line) > MAX_LINE_BYTES:
        raise BadLine(f"longer than {MAX_LINE_BYTES:,} bytes, as no record is")
    try:
        value: Any = from_json(line, allow_inf_nan=False)
    except ValueError as error:  # not JSON, not UTF-8, nested too deep
        raise _refused(line, str(error)) from None
    if type(value) is not dict:
        raise BadLine(f"not a JSON object but {type(value).__name__}")
    fields = cast("dict[str, Any]", value)
    if not any(name in fields for name in _OURS):
        return None
    _check(fields)
    get = fields.get
    return Record(
        fields["event"],
        get("machine", ""),
        fields["machine_id"],
        fields["incarnation"],
        fields["seq"],
        get("event_type", ""),
        get("event_id", ""),
        get("causation_id"),
        source=get("source"),
        target=get("target"),
        hook=get("hook"),
        duplicate=get("duplicate", False),
    )


def _check(fields: dict[str, Any]) -> None:
    """Check that the fields of a record are there, and of their types."""
    get = fields.get
    for name in _NEEDED:
        if name not in fields:
            raise BadLine(f"no {name}")
    for name in _TEXTS:
        if type(get(name, "")) is not str:
            raise BadLine(f"{name} is {shown(fields[name])}, not a text")
    for name in _COUNTS:
        if type(fields[name]) is not int or fields[name] < 0:
            raise BadLine(f"{name} is {shown(fields[name])}, not a count")
    if type(get("duplicate", False)) is not bool:
        raise BadLine(f"duplicate is {shown(fields['duplicate'])}, not true or false")


def _refused(line: bytes, problem: str) -> BadLine:
    if line.startswith(_GZIP):
        return BadLine("compressed: hand it over as text, with `zcat`")
    if not line.strip():
        return BadLine("an empty line")
    if not line.endswith(b"\n"):
        return CutOff(
            "cut off in the middle: its writer was killed or is still writing; --partial passes over it"
        )
    return BadLine(
        f"not JSON ({shown(problem, 100)}): is it the log of JSONLines, or of structlog's JSONRenderer?"
    )
