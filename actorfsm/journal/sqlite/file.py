"""The file: whether it is a journal that may be opened, and the lock that keeps a second process out (C26).

Whatever is refused is refused before anything is changed on disk.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from actorfsm.errors import JournalLocked, JournalUnusable

__all__ = ["APPLICATION", "FORMAT", "Lock", "check", "is_new"]

APPLICATION: Final = 0x41464A31
"""What SQLite calls the application id: AFJ1."""

FORMAT: Final = 1
"""The newest format that this version reads and the one that it writes."""

_SMALLEST: Final = 512
"""Bytes of the smallest database: what is shorter is none."""


def check(path: Path) -> None:
    """Look whether the file is a journal, or may become one.

    Raises:
        JournalUnusable: It may not.
    """
    if path.is_dir():
        raise JournalUnusable(f"{path} is a folder: give the name of a file in it")
    if not path.parent.is_dir():
        raise JournalUnusable(f"there is no folder {path.parent} for the journal {path.name}: make it first")
    if is_new(path):
        return
    try:
        application, version = _header(path)
    except sqlite3.Error as error:
        match error_code(error):
            case sqlite3.SQLITE_CANTOPEN:
                raise JournalUnusable(f"{path} cannot be read: may this user read it?") from error
            case sqlite3.SQLITE_BUSY:
                raise JournalLocked(f"{path} is in use by another process: stop that one first") from error
            case _:
                raise _not_a_journal(path) from error
    if not is_new(path):
        _check_header(path, application, version)


def _header(path: Path) -> tuple[int, int]:
    """Return application and version of a database.

    A process that was killed may have left the file amid a checkpoint, or before it was made: the truth is in the log
    beside it. SQLite is to bring it together only where the file is ours, or cannot be read without.
    """
    # Through SQLite: to open the file in another way and close it would drop SQLite's own locks in this process.
    try:
        header = _header_by(path, "immutable=1")
    except sqlite3.DatabaseError:
        if not (_is_beside(path, "-journal") or _is_beside(path, "-wal")):
            raise
        header = None
    if _is_beside(path, "-journal") and (header is None or header[0] == APPLICATION):
        return _header_by(path, "mode=rw")  # it was not made to the end: nothing is left of it after this
    return header or _header_by(path, "mode=ro")


def _header_by(path: Path, how: str) -> tuple[int, int]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)) as reader:
        (application,) = reader.execute("PRAGMA application_id").fetchone()
        (version,) = reader.execute("PRAGMA user_version").fetchone()
    return application, version


def _is_beside(path: Path, end: str) -> bool:
    beside = Path(f"{path}{end}")
    return beside.exists() and beside.stat().st_size > 0


def is_new(path: Path) -> bool:
    """Return whether there is no journal yet."""
    return not path.exists() or path.stat().st_size == 0


def _check_header(path: Path, application: int, version: int) -> None:
    if path.stat().st_size < _SMALLEST:
        raise _not_a_journal(path)
    if application != APPLICATION:
        raise JournalUnusable(
            f"{path} is a database of another application: give another name, nothing was changed in this one"
        )
    if version > FORMAT:
        raise JournalUnusable(
            f"{path} was written by a newer version of actorfsm (format {version}, this one reads up to {FORMAT}): "
            "use that version"
        )


def _not_a_journal(path: Path) -> JournalUnusable:
    return JournalUnusable(f"{path} is not a journal: give another name, nothing was changed in this file")


class Lock:
    """Keeps the journal to one process: held as long as the process lives, however it ends.

    It is a lock of SQLite on an empty file beside the journal, so that it works wherever SQLite does, and is
    not inherited by a forked child. The file stays where it is: to remove it would open a gap for two owners.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            JournalLocked: Another process has it.
            JournalUnusable: The folder cannot be written to.
        """
        name = Path(f"{self._path}-lock")
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(name, timeout=0, isolation_level=None, check_same_thread=False)
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            if error_code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise self._locked() from None
            raise JournalUnusable(
                f"{name} cannot be written ({error}): may this user write the file and its folder?"
            ) from error
        self._connection = connection

    def release(self) -> None:
        """Let others have it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _locked(self) -> JournalLocked:
        owner: Any = None
        try:
            with closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)) as reader:
                owner = reader.execute("SELECT pid, host FROM owners").fetchone()
        except sqlite3.Error:
            owner = None  # it is about to be made
        who = "another process" if owner is None else f"process {owner[0]} on {owner[1]}"
        return JournalLocked(
            f"{self._path} is in use by {who}: stop that one first, or give this one a journal of its own",
            pid=None if owner is None else owner[0],
        )


def error_code(error: sqlite3.Error) -> int:
    """Return the primary code of an error of SQLite; 0 if it has none."""
    code: int = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF
