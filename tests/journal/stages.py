"""Where the laws of a journal are tried."""

from __future__ import annotations

import shutil
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from actorfsm.journal.memory import Fate, MemoryJournal, MemoryStore
from actorfsm.journal.postgresql.journal import PostgreSQLJournal
from actorfsm.journal.sqlite.journal import SQLiteJournal
from tests.postgresql_server import Server


class MemoryStage:
    """Journals in memory. What can fail is the commit; when it fails in the dark is up to `dark`."""

    def __init__(self, dark: Fate = "unknown, stored") -> None:
        self.store = MemoryStore()
        self.dark: Fate = dark
        self.count = 0

    async def open(self) -> MemoryJournal:
        journal = MemoryJournal(self.store)
        await journal.open()
        return journal

    async def crash(self, journal: MemoryJournal) -> None:
        journal.epoch = 0

    async def usurp(self) -> None:
        self.store.epoch += 1

    def fail(self, nth: int, fault: str, *, lasting: bool) -> None:
        self.count = 0

        def fate() -> Fate:
            self.count += 1
            if self.count != nth and not (lasting and self.count > nth):
                return "stored"
            self.fired = True
            return "full" if fault == "full" else self.dark

        self.fired = False
        self.store.fate = fate

    def heal(self) -> bool:
        self.store.fate = lambda: "stored"
        return self.fired


class Trouble:
    """Lets a connection fail at the n-th statement: before it is done, or after it."""

    def __init__(self) -> None:
        self.nth = 0
        self.count = 0
        self.lasting = self.full = self.late = self.fired = False

    def strikes(self, sql: str) -> bool:
        if not self.nth or (self.full and not sql.startswith(("INSERT", "DELETE", "UPDATE", "COMMIT"))):
            return False
        self.count += 1
        struck = self.count == self.nth or (self.lasting and self.count > self.nth)
        self.fired = self.fired or struck
        return struck

    def error(self) -> sqlite3.OperationalError:
        error = sqlite3.OperationalError("injected")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL if self.full else sqlite3.SQLITE_IOERR
        return error

    def connect(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        trouble = self

        class Troubled(sqlite3.Connection):
            def execute(self, sql: str, *values: Any) -> Any:
                return self.troubled(sql, lambda: super(Troubled, self).execute(sql, *values))

            def executemany(self, sql: str, values: Any) -> Any:
                return self.troubled(sql, lambda: super(Troubled, self).executemany(sql, values))

            def troubled(self, sql: str, run: Callable[[], Any]) -> Any:
                if not trouble.strikes(sql):
                    return run()
                if trouble.full and sql == "COMMIT":
                    super().execute("ROLLBACK")  # as SQLite does it
                elif trouble.late:
                    run()
                raise trouble.error()

        return sqlite3.connect(*arguments, factory=Troubled, **options)


class SQLiteStage:
    """Journals in a SQLite file."""

    def __init__(self, folder: Path, *, late: bool = False, **options: Any) -> None:
        self.folder = folder
        self.trouble = Trouble()
        self.trouble.late = late
        self.lives = 0
        self.options = options

    @property
    def path(self) -> Path:
        return self.folder / f"life-{self.lives}.db"

    async def open(self) -> SQLiteJournal:
        journal = SQLiteJournal(self.path, connect=self.trouble.connect, **self.options)
        await journal.open()
        return journal

    async def crash(self, journal: SQLiteJournal) -> None:
        """What kill -9 leaves behind is the files as they are."""
        self.copy_files()
        await journal.close()

    def copy_files(self) -> None:
        old = self.path
        self.lives += 1
        for end in ("", "-wal"):
            if Path(f"{old}{end}").exists():
                shutil.copy(f"{old}{end}", f"{self.path}{end}")

    async def usurp(self) -> None:
        with closing(sqlite3.connect(self.path)) as other, other:
            other.execute("UPDATE owners SET epoch = epoch + 1")

    def fail(self, nth: int, fault: str, *, lasting: bool) -> None:
        trouble = self.trouble
        trouble.nth, trouble.count, trouble.fired = nth, 0, False
        trouble.full, trouble.lasting = fault == "full", lasting

    def heal(self) -> bool:
        self.trouble.nth = 0
        return self.trouble.fired


class PostgreSQLTrouble:
    """Lets a connection end at the n-th statement: before it is done, or after it; or the room end there."""

    def __init__(self) -> None:
        self.nth = 0
        self.count = 0
        self.lasting = self.full = self.late = self.fired = False
        self.settings: dict[str, str] = {}
        self.before_append: Callable[[], object] = lambda: None

    def strikes(self, statement: str) -> bool:
        if not self.nth or (self.full and "append(" not in statement):
            return False
        self.count += 1
        struck = self.count == self.nth or (self.lasting and self.count > self.nth)
        self.fired = self.fired or struck
        return struck

    def connect(self, *arguments: Any, **options: Any) -> psycopg.Connection:
        trouble = self

        class Troubled(psycopg.Connection):
            def execute(self, query: Any, *values: Any, **more: Any) -> Any:
                if "append(" in str(query):
                    trouble.before_append()
                if not trouble.strikes(str(query)):
                    done = super().execute(query, *values, **more)
                    if "set_config('search_path'" in str(query):
                        for name, value in trouble.settings.items():
                            super().execute("SELECT set_config(%s, %s, false)", (name, value))
                    return done
                if trouble.full:
                    raise psycopg.errors.DiskFull("injected")
                if trouble.late:
                    super().execute(query, *values, **more)
                self.close()
                raise psycopg.OperationalError("injected")

        return Troubled.connect(*arguments, **options)


class PostgreSQLStage:
    """Journals in a schema of their own."""

    def __init__(self, server: Server, *, late: bool = False, **options: Any) -> None:
        self.server = server
        self.schema = server.new_schema()
        self.trouble = PostgreSQLTrouble()
        self.trouble.late = late
        self.options = options

    def journal(self, **options: Any) -> PostgreSQLJournal:
        given = {"schema": self.schema, "connect": self.trouble.connect, **self.options, **options}
        return PostgreSQLJournal(self.server.url(), **given)

    async def open(self) -> PostgreSQLJournal:
        journal = self.journal()
        await journal.open()
        return journal

    async def crash(self, journal: PostgreSQLJournal) -> None:
        """What kill -9 does to a connection is to end it without a word."""
        connection = journal._store._connection
        if connection is not None:
            with socket.socket(fileno=connection.fileno()) as cut:
                cut.shutdown(socket.SHUT_RDWR)
                cut.detach()
        await journal.close()

    async def usurp(self) -> None:
        other = self.journal(take_over=True)
        await other.open()
        await other.close()

    def fail(self, nth: int, fault: str, *, lasting: bool) -> None:
        trouble = self.trouble
        trouble.nth, trouble.count, trouble.fired = nth, 0, False
        trouble.full, trouble.lasting = fault == "full", lasting

    def heal(self) -> bool:
        self.trouble.nth = 0
        return self.trouble.fired
