"""The journal in a SQLite file: the standard library's sqlite3, one connection, one writer thread."""

from actorfsm.journal.sqlite.journal import SQLiteJournal

__all__ = ["SQLiteJournal"]
