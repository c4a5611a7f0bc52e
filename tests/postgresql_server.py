"""A PostgreSQL server of the tests' own: on a free port, in a temporary folder, stopped at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest

__all__ = ["Server", "free_port", "postgresql_server", "started_server"]

_INITDB = ("-E", "UTF8", "--locale=C", "-A", "trust", "--no-sync")
_HBA = """
host all locked 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""


def _folder_of_binaries() -> Path | None:
    """Return where the server's programs are; Debian keeps them out of the way."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).parent] if on_path else []
    folders += sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name), reverse=True
    )
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def _user() -> dict[str, str]:
    """Return as whom the server runs: it refuses to be root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": name}
    return {}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A server, and new schemas on it.

    Attributes:
        port: Where it listens, on 127.0.0.1.
    """

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self._folder = folder
        self._user = _user()
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self.port = free_port()

    def make(self) -> None:
        if self._user:
            shutil.chown(self._folder, **self._user)
        data = self._folder / "data"
        subprocess.run(
            [self._binaries / "initdb", "-D", data, "-U", "tester", *_INITDB],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self._folder,
            **self._user,
        )
        (data / "pg_hba.conf").write_text(_HBA)

    def start(self) -> None:
        """Start it, also after it was stopped, and wait until it answers."""
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "shared_buffers": "32MB",
            "max_connections": 40,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._folder / "data", *options],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,  # Ctrl-C is for the tests, which stop it then
                **self._user,
            )
        for _ in range(600):
            try:
                psycopg.connect(self.url()).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self._folder / "log").read_text()
                time.sleep(0.05)
            else:
                return
        raise AssertionError((self._folder / "log").read_text())

    def ensure_started(self) -> None:
        if self._process is None:
            self.start()

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop it: SIGQUIT is what `pg_ctl stop -m immediate` sends, after which it recovers as from a crash."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(30)

    def url(
        self, *, user: str = "tester", password: str = "", port: int | None = None, more: str = ""
    ) -> str:
        secret = f":{password}" if password else ""
        return f"postgresql://{user}{secret}@127.0.0.1:{port or self.port}/postgres{more}"

    def new_schema(self) -> str:
        return f"journal_{next(self._numbers)}"

    def do(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Make a statement by a connection of its own, and return what it returns."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            done = connection.execute(statement.encode(), values)
            return done.fetchall() if done.description else []


@contextmanager
def started_server() -> Generator[Server | None]:
    """Start a server, and stop it at the end; None if there is none to be started here."""
    binaries = _folder_of_binaries()
    if binaries is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="actorfsm-postgresql-"))
    server = Server(binaries, folder)
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    with started_server() as server:
        if server is not None:
            yield server
            return
    if os.environ.get("CI") == "true":
        pytest.fail("there is no PostgreSQL server to be started here: install one (initdb, postgres)")
    pytest.skip("there is no PostgreSQL server to be started here: its initdb is not installed")
