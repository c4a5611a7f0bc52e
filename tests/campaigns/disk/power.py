"""A loss of power: what would be on the disk if all that was not yet synced were lost, in whole or in part.

Read from the log of the shim. A file has what was synced; what was written after that is there, or not, or some
sectors of it are. A name is there from the sync of its folder on; what was removed may come back until then. After a
sync that failed, what was written before it is lost for good, although it can still be read: the kernel says so once.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

SECTOR: Final = 512
_RECORD: Final = struct.Struct("<BBB5xqq")


class Did(IntEnum):
    """What a line of the log says."""

    WRITE = 1
    SYNC = 2
    TRUNCATE = 4
    UNLINK = 8
    CREATE = 16


class Line(NamedTuple):
    """One call. `end` is where its line ends in the log, in bytes."""

    did: Did
    name: str
    failed: bool
    offset: int
    length: int
    data: bytes
    end: int


def lines_of(log: Path) -> Iterator[Line]:
    """Yield the calls of a log; the last one may have been cut short by the end of the process."""
    raw = log.read_bytes() if log.exists() else b""
    at = 0
    while at + _RECORD.size <= len(raw):
        kind, name_length, failed, offset, length = _RECORD.unpack_from(raw, at)
        data_at = at + _RECORD.size + name_length
        end = data_at + (length if kind == Did.WRITE else 0)
        if end > len(raw):
            return
        name = raw[at + _RECORD.size : data_at].decode()
        yield Line(Did(kind), name, bool(failed), offset, length, raw[data_at:end], end)
        at = end


@dataclass
class _File:
    synced: bytearray = field(default_factory=bytearray)
    waiting: list[Line] = field(default_factory=list)


def _apply(content: bytearray, line: Line, first: int = 0, last: int | None = None) -> None:
    """Do to a file what a line says, or to some of its bytes."""
    if line.did is Did.TRUNCATE:
        content[line.length :] = bytes(max(0, line.length - len(content)))
        return
    begin = line.offset + first
    data = line.data[first:last]
    if len(content) < begin + len(data):
        content.extend(bytes(begin + len(data) - len(content)))
    content[begin : begin + len(data)] = data


class Disk:
    """What is on the disk, as far as one can be sure of it.

    Args:
        folder: Where it begins; all there is synced. None begins with nothing.
    """

    def __init__(self, folder: Path | None = None) -> None:
        found = [] if folder is None else [path for path in folder.iterdir() if path.is_file()]
        self._names = {path.name: _File(bytearray(path.read_bytes())) for path in found}
        self._synced_names = dict(self._names)

    def rename(self, old: str, new: str) -> None:
        """Call the files by another name, with whatever stands behind it."""
        for names in (self._names, self._synced_names):
            for name in [name for name in names if name.startswith(old)]:
                names[name.replace(old, new)] = names.pop(name)

    def do(self, line: Line) -> None:
        """Follow a call."""
        if line.did is Did.CREATE:
            self._names[line.name] = _File()
        elif line.did is Did.UNLINK:
            self._names.pop(line.name, None)
        elif line.did is Did.SYNC and not line.name:
            if not line.failed:
                self._synced_names = dict(self._names)
        elif line.did is Did.SYNC:
            file = self._names.get(line.name)
            if file is not None:
                for waiting in () if line.failed else file.waiting:
                    _apply(file.synced, waiting)
                file.waiting.clear()
        elif line.name in self._names:
            self._names[line.name].waiting.append(line)

    def lose_power(self, folder: Path, random: Random | None = None) -> None:
        """Write what is left into a new folder.

        Args:
            folder: Where.
            random: What was not synced is there by chance, sector by sector, and so is a name; without it, it is not.
        """
        folder.mkdir(parents=True)
        names = self._synced_names
        if random is not None and random.random() < 0.5:
            names = self._names
        for name, file in names.items():
            content = bytearray(file.synced)
            if random is not None:
                _some_of(content, file.waiting, random)
            (folder / name).write_bytes(content)


def _some_of(content: bytearray, waiting: list[Line], random: Random) -> None:
    """Do what was not synced, in part: all of it up to a point, or each sector by chance."""
    share = random.choice([0.5, 0.9, 1.0])
    upto = random.randint(0, len(waiting))
    for line in waiting[:upto]:
        if line.did is Did.TRUNCATE:
            if random.random() < share:
                _apply(content, line)
            continue
        for first in range(0, len(line.data), SECTOR):
            if random.random() < share:
                _apply(content, line, first, first + SECTOR)
