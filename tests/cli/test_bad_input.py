"""What no journal can be made of, or no system: one table of what is wrong, and one of who meets it.

Each ends with a typed error, or with one line and an exit status, that says what to do, and nothing is changed on disk.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from actorfsm import ActorSystem, JournalLocked, JournalUnusable, Quarantined
from actorfsm.errors import SchemaMismatch
from actorfsm.journal.sqlite.journal import SQLiteJournal
from tests.campaigns.disk.shim import Action, Control, Kind
from tests.cli import old_shop
from tests.cli.shop import Create, Order, Pay
from tests.postgresql_server import free_port

Call = Callable[..., Any]

SHOP: Final = "tests.cli.shop"
EVENTS: Final = '{"machine_id": "a", "event": "Create"}\n'

LOOKING: Final = [
    ("verify", "{}"),
    ("ls", "{}"),
    ("ls", "{}", "--ids"),
    ("history", "{}", "a"),
    ("export", "{}"),
    ("export", "{}", "-o", "{folder}/new.jsonl"),
    ("dead", "list", "{}"),
    ("dead", "show", "{}", "1"),
    ("check-upgrade", f"{SHOP}:Order", "{}"),
]
CHANGING: Final = [
    ("dead", "drop", "{}", "--all"),
    ("dead", "replay", "{}", "1"),
    ("run", f"{SHOP}:Order", "--journal", "{}", "--events", "{events}"),
]
IMPORT: Final = ("import", "{}", "-i", "{export}")


def not_a_journal(path: Path) -> None:
    path.write_bytes(b"certainly not a journal " * 100)


def of_another_application(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE cakes (name TEXT)")


def of_a_newer_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(
            "PRAGMA application_id = 1095125553; PRAGMA user_version = 99; CREATE TABLE t (a);"
        )


UNUSABLE: Final = [
    pytest.param(not_a_journal, "is not a journal: give another name", id="not a journal"),
    pytest.param(
        of_another_application, "of another application: give another name", id="another application"
    ),
    pytest.param(
        of_a_newer_version, "written by a newer version of actorfsm (format 99", id="a newer version"
    ),
    pytest.param(Path.mkdir, "is a folder: give the name of a file in it", id="a folder"),
]


@pytest.fixture(name="bad")
def _a_path_and_what_commands_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the journal is to be, beside nothing else; what commands read stands elsewhere."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "events.jsonl").write_text(EVENTS)
    (tmp_path / "export.jsonl").write_text('{"kind":"actorfsm journal","format":1}\n')
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "orders.db"


def filled(command: tuple[str, ...], path: Path, address: object = None) -> list[str]:
    """Return the words of a command for a journal."""
    given = {
        "{}": str(address or path),
        "{events}": str(path.parent.parent / "events.jsonl"),
        "{export}": str(path.parent.parent / "export.jsonl"),
        "{folder}/new.jsonl": str(path.parent / "new.jsonl"),
    }
    return [given.get(word, word) for word in command]


def on_disk(folder: Path, *, but: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Return what is on disk, but for files without content and those of SQLite's shared memory."""
    return {
        file.name: file.read_bytes()
        for file in folder.iterdir()
        if file.is_file() and file.stat().st_size and not file.name.endswith(("-shm", *but))
    }


def is_refused(ended: Any, said: str) -> None:
    assert ended.status == 2
    assert ended.out == ""
    assert said in ended.err
    assert ended.err.count("\n") == 1


async def start(journal: Any, *then: Any) -> None:
    async with ActorSystem(Order, journal=journal, trace=None) as system:
        for machine_id, event in then:
            await system.ask(machine_id, event)


def orders_in(path: Path) -> None:
    """Make a journal of one order that was paid and one that was not, and a dead letter."""

    async def make() -> None:
        async with ActorSystem(Order, journal=path, trace=None) as system:
            for machine_id in ("a", "b"):
                await system.ask(machine_id, Create())
            await system.ask("a", Pay(amount=5))
            system.tell("nobody", Pay(amount=5), durable=True)

    asyncio.run(make())
    Path(f"{path}-lock").unlink()


# -- what is no journal ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "said"), UNUSABLE)
def test_a_system_refuses_what_is_no_journal(make: Callable[[Path], Any], said: str, bad: Path) -> None:
    make(bad)
    before = on_disk(bad.parent)
    with pytest.raises(JournalUnusable) as refused:
        asyncio.run(start(bad))
    assert said in str(refused.value)
    assert on_disk(bad.parent) == before


@pytest.mark.parametrize(("make", "said"), UNUSABLE)
@pytest.mark.parametrize("command", [*LOOKING, *CHANGING], ids=" ".join)
def test_a_command_refuses_what_is_no_journal(
    make: Callable[[Path], Any], said: str, command: tuple[str, ...], bad: Path, call: Call
) -> None:
    make(bad)
    before, names = on_disk(bad.parent), {file.name for file in bad.parent.iterdir()}
    is_refused(call(*filled(command, bad)), said)
    assert on_disk(bad.parent) == before
    assert {file.name for file in bad.parent.iterdir()} == names


@pytest.mark.parametrize(("make", "said"), UNUSABLE)
def test_an_import_refuses_whatever_is_there(
    make: Callable[[Path], Any], said: str, bad: Path, call: Call
) -> None:
    make(bad)
    before = on_disk(bad.parent)
    is_refused(call(*filled(IMPORT, bad)), "is there already: give the name of a new journal")
    assert on_disk(bad.parent) == before


@pytest.mark.parametrize("command", [*LOOKING, *CHANGING[:2]], ids=" ".join)
def test_where_there_is_no_journal_none_is_made(command: tuple[str, ...], bad: Path, call: Call) -> None:
    is_refused(call(*filled(command, bad)), f"there is no journal {bad}")
    assert not list(bad.parent.iterdir())


@pytest.mark.parametrize("command", [*LOOKING, *CHANGING, IMPORT], ids=" ".join)
def test_a_server_that_does_not_answer_is_said_without_the_password(
    command: tuple[str, ...], bad: Path, call: Call
) -> None:
    pytest.importorskip("psycopg")
    url = f"postgresql://me:secret@127.0.0.1:{free_port()}/orders"
    ended = call(*filled(command, bad, url))
    is_refused(ended, "does not answer; is the server there")
    assert "secret" not in ended.err
    assert not list(bad.parent.iterdir())


def test_a_system_says_too_that_a_server_does_not_answer() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(JournalUnusable, match="does not answer; is the server there") as refused:
        asyncio.run(start(f"postgresql://me:secret@127.0.0.1:{free_port()}/orders"))
    assert "secret" not in str(refused.value)


# -- in use, and read only ------------------------------------------------------------------------------------------


def test_a_journal_in_use_is_looked_at_and_who_would_change_it_is_told_by_whom(bad: Path, call: Call) -> None:
    orders_in(bad)

    async def meanwhile() -> None:
        owner = SQLiteJournal(bad)
        await owner.open()
        try:
            before = on_disk(bad.parent)
            with pytest.raises(JournalLocked, match=f"process {os.getpid()} on") as refused:
                await start(bad)
            assert refused.value.pid == os.getpid()
            for command in CHANGING[:2]:
                ended = await asyncio.to_thread(call, *filled(command, bad))
                is_refused(ended, f"is in use by process {os.getpid()}")
            for command in LOOKING:
                ended = await asyncio.to_thread(call, *filled(command, bad))
                assert (ended.status, ended.err) == (0, "")
            assert on_disk(bad.parent, but=("new.jsonl",)) == before
        finally:
            await owner.close()

    asyncio.run(meanwhile())


def test_a_run_of_a_journal_in_use_is_told_by_whom(bad: Path) -> None:
    orders_in(bad)

    async def meanwhile() -> None:
        owner = SQLiteJournal(bad)
        await owner.open()
        try:
            before = on_disk(bad.parent)
            done = await asyncio.to_thread(run_in_a_process, ["-m", "actorfsm", *filled(CHANGING[2], bad)])
            assert (done.returncode, done.stdout) == (2, "")
            assert f"is in use by process {os.getpid()}" in done.stderr
            assert done.stderr.count("\n") == 1
            assert on_disk(bad.parent) == before
        finally:
            await owner.close()

    asyncio.run(meanwhile())


_PR_CAPBSET_DROP: Final = 24
_CAP_DAC_OVERRIDE: Final = 1
READ_ONLY: Final = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="root may write everywhere elsewhere"
)


def as_whom_modes_bind() -> None:
    """Give up what lets root write where it may not: called in the child."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0)


def run_in_a_process(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path, **options.pop("environment", {})}
    command = [sys.executable, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **options)


A_SYSTEM: Final = """
import asyncio, sys
from actorfsm import ActorSystem
from tests.cli.shop import Create, Order
async def main():
    async with ActorSystem(Order, journal=sys.argv[1], trace=None) as system:
        await system.ask("new", Create())
try:
    asyncio.run(main())
except Exception as error:
    print(type(error).__name__, error)
"""


@READ_ONLY
@pytest.mark.parametrize("what", ["the file", "the folder"])
def test_a_journal_that_may_not_be_written_is_refused_and_stays_as_it_is(what: str, bad: Path) -> None:
    orders_in(bad)
    before = on_disk(bad.parent)
    locked, mode = (bad, 0o444) if what == "the file" else (bad.parent, 0o555)
    locked.chmod(mode)
    in_process = partial(run_in_a_process, preexec_fn=as_whom_modes_bind)
    try:
        done = in_process(["-c", A_SYSTEM, str(bad)])
        assert done.stdout.startswith("JournalUnusable ")
        assert "may this user write" in done.stdout
        for command in CHANGING:
            done = in_process(["-m", "actorfsm", *filled(command, bad)])
            assert (done.returncode, done.stdout) == (2, "")
            assert "may this user write" in done.stderr or (what, command[0]) == ("the folder", "dead")
            assert done.stderr.count("\n") == 1
        for command in (LOOKING[0], LOOKING[1], LOOKING[3]):
            done = in_process(["-m", "actorfsm", *filled(command, bad)])
            if what == "the file":
                assert (done.returncode, done.stderr) == (0, "")
            else:  # SQLite makes files beside it, to look at it too
                assert done.returncode == 2
                assert "copy it to another folder" in done.stderr
    finally:
        locked.chmod(0o755)
    assert on_disk(bad.parent) == before


# -- no room --------------------------------------------------------------------------------------------------------


@pytest.fixture(name="disk")
def _a_disk_that_can_be_full(tmp_path: Path, bad: Path) -> Any:
    control = Control(tmp_path / "control")
    control.watch(bad.parent)
    yield control
    control.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("is_there", [True, False])
def test_without_room_a_system_says_so_and_the_journal_holds(
    is_there: bool, bad: Path, disk: Control
) -> None:
    if is_there:
        orders_in(bad)
    before = on_disk(bad.parent)
    disk.arm(1, Kind.WRITE, Action.FULL, error=errno.ENOSPC, lasting=True)
    done = run_in_a_process(["-c", A_SYSTEM, str(bad)], environment=disk.environment)
    assert disk.fired
    assert done.stdout.startswith("JournalFull "), done.stdout + done.stderr
    assert "room" in done.stdout
    assert on_disk(bad.parent, but=("-wal", "-lock")) == before


@pytest.mark.timeout(240)
def test_without_room_commands_say_so_in_one_line_and_the_journal_holds(bad: Path, disk: Control) -> None:
    orders_in(bad)
    export = run_in_a_process(["-m", "actorfsm", "export", str(bad)]).stdout
    (bad.parent.parent / "export.jsonl").write_text(export)
    (bad.parent.parent / "events.jsonl").write_text('{"machine_id": "new", "event": "Create"}\n')
    before = on_disk(bad.parent)
    for command in (*CHANGING, IMPORT):
        path = bad.with_name("new.db") if command is IMPORT else bad
        disk.arm(1, Kind.WRITE, Action.FULL, error=errno.ENOSPC, lasting=True)
        done = run_in_a_process(["-m", "actorfsm", *filled(command, path)], environment=disk.environment)
        assert disk.fired, command
        assert done.returncode == 2, command
        assert "room" in done.stderr, (command, done.stderr)
        assert "dead lettered" not in done.stdout
        assert done.stderr.count("\n") == 1, (command, done.stderr)
        assert on_disk(bad.parent, but=("-wal",)) == before, command
    disk.disarm()
    done = run_in_a_process(["-m", "actorfsm", *filled(CHANGING[2], bad), "--json"])
    assert done.returncode == 0
    assert '"sent": 1' in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is of Linux")
def test_without_room_for_what_it_prints_a_command_says_so(bad: Path) -> None:
    orders_in(bad)
    for command in (("export", "{}"), ("verify", "{}"), ("ls", "{}", "--json")):
        with Path("/dev/full").open("w") as full:
            path = os.pathsep.join(filter(None, sys.path))
            done = subprocess.run(
                [sys.executable, "-m", "actorfsm", *filled(command, bad)],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                env={**os.environ, "PYTHONPATH": path},
            )
        assert (done.returncode, done.stderr) == (2, "actorfsm: the output: No space left on device\n"), (
            command
        )


# -- classes that are not there, events that do not validate ----------------------------------------------------------


def of_code_that_was(machine: Any, *events: Any) -> Callable[[Path], None]:
    """Return what makes a journal of a machine as the code of then knew it."""

    def make(path: Path) -> None:
        async def live() -> None:
            async with ActorSystem(machine, journal=path, trace=None) as system:
                for event in events:
                    system.tell("a", event, durable=True)
                system.tell("nobody", Pay(amount=5), durable=True)

        asyncio.run(live())

    return make


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (of_code_that_was(old_shop.Parcel, Create()), "the system has no such class"),
        (of_code_that_was(old_shop.Order, Create()), "note"),
        (of_code_that_was(old_shop.Tracked, Create(), old_shop.Ship(track=1)), "carrier"),
    ],
    ids=["a class that is gone", "data", "an event"],
)
def test_a_machine_that_the_code_has_no_place_for_is_held_and_named_and_the_others_go_on(
    make: Callable[[Path], Any], said: str, bad: Path, call: Call
) -> None:
    make(bad)
    copy = bad.parent.parent / "copy.db"
    shutil.copy(bad, copy)
    with pytest.raises(Quarantined) as refused:
        asyncio.run(start(copy, ("a", Pay(amount=5))))
    assert isinstance(refused.value.__cause__, SchemaMismatch)
    assert said in str(refused.value)
    for command in LOOKING[:-1]:
        assert call(*filled(command, bad)).status == 0, command
    assert call(*filled(LOOKING[-1], bad)).status == 1
    before = call("history", bad, "a").out
    (bad.parent.parent / "events.jsonl").write_text(
        '{"machine_id": "new", "event": "Create"}\n{"machine_id": "a", "event": "Pay", "data": {"amount": 5}}\n'
    )
    ended = call(*filled(CHANGING[2], bad), "--log", "error")
    assert ended.status == 2
    assert "events.jsonl:2: a is quarantined, because it cannot be loaded" in ended.err
    assert call("history", bad, "a").out == before
    assert call("history", bad, "new").out.count("\n") == 1
