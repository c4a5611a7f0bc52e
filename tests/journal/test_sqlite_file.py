"""What may be opened as a journal, by whom, and what becomes of it when its process dies (C23, C26)."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from actorfsm import ActorFSMError, JournalFull, JournalLocked, JournalUnusable, NotStored
from actorfsm.journal.entry import Batch, Entry
from actorfsm.journal.memory import MemoryJournal
from actorfsm.journal.protocol import Journal
from actorfsm.journal.sqlite.file import APPLICATION
from actorfsm.journal.sqlite.journal import SQLiteJournal

CHILD = """
import asyncio, sys
from actorfsm.journal.entry import Batch, Entry
from actorfsm.journal.sqlite.journal import SQLiteJournal

def batch(machine_id, seq):
    return Batch(entries=(Entry(machine_id=machine_id, machine="M", seq=seq, kind="committed", at_us=seq),))

async def write_for_ever(path, durability):
    journal = SQLiteJournal(path, durability=durability)
    await journal.open()
    async def one(machine_id):
        stored = await journal.load(machine_id)
        seq = 0 if stored is None else stored.head.seq
        while True:
            seq += 1
            await journal.append(batch(machine_id, seq))
            sys.stdout.write(f"{machine_id} {seq}\\n")
            sys.stdout.flush()
    await asyncio.gather(*[one(f"m-{n}") for n in range(8)])

async def forget_to_close(path):
    journal = SQLiteJournal(path)
    await journal.open()
    await journal.append(batch("a", 1))
    journal.append(batch("a", 2))
    return journal
"""


def entry(seq: int, machine_id: str = "a", **more: Any) -> Entry:
    return Entry(machine_id=machine_id, machine="M", seq=seq, kind="committed", at_us=seq, **more)


def child(code: str, *arguments: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", f"{CHILD}\n{code}", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def opened(path: Path, **options: Any) -> SQLiteJournal:
    journal = SQLiteJournal(path, **options)
    await journal.open()
    return journal


def is_opened(path: Path, **options: Any) -> None:
    async def scenario() -> None:
        await (await opened(path, **options)).close()

    asyncio.run(scenario())


# -- what is no journal ------------------------------------------------------------------------------------------------


def make_text(path: Path) -> None:
    path.write_text("an order, a payment, a device\n" * 100)


def make_short(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0")


def make_cut_off(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
    path.write_bytes(path.read_bytes()[:100])


def make_other_application(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (id)")


def make_other_application_with_a_log(path: Path) -> None:
    make_other_application(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE more (id)")


def make_newer(path: Path) -> None:
    is_opened(path)
    Path(f"{path}-lock").unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def make_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (make_text, "is not a journal"),
        (make_short, "is not a journal"),
        (make_cut_off, "is not a journal"),
        (make_other_application, "another application"),
        (make_other_application_with_a_log, "another application"),
        (make_newer, "newer version"),
        (make_folder, "is a folder"),
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_what_is_no_journal_is_refused_and_left_as_it_is(
    make: Any, said: str, read_only: bool, tmp_path: Path
) -> None:
    path = tmp_path / "orders.db"
    make(path)
    before = {each.name: each.is_file() and each.read_bytes() for each in tmp_path.iterdir()}
    with pytest.raises(JournalUnusable, match=said):
        is_opened(path, read_only=read_only)
    assert {each.name: each.is_file() and each.read_bytes() for each in tmp_path.iterdir()} == before


def test_a_journal_that_may_not_be_read_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "orders.db"
    is_opened(path)

    def refuse(*_given: Any, **_more: Any) -> Any:  # as SQLite does it for whoever is not root
        error = sqlite3.OperationalError("unable to open database file")
        error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", refuse)
        with pytest.raises(JournalUnusable, match=r"orders\.db cannot be read: may this user read it\?"):
            is_opened(path)
    is_opened(path)


def test_a_journal_in_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalUnusable, match="there is no folder"):
        is_opened(tmp_path / "none" / "orders.db")


def test_a_journal_that_is_not_there_is_not_made_to_look_at_it(tmp_path: Path) -> None:
    with pytest.raises(JournalUnusable, match="there is no journal"):
        is_opened(tmp_path / "orders.db", read_only=True)
    assert not list(tmp_path.iterdir())


def test_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "orders.db"
    is_opened(path)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    with pytest.raises(JournalUnusable, match="damaged"):
        is_opened(path)


def test_a_file_system_that_does_not_keep_the_promise_is_refused(tmp_path: Path) -> None:
    def connect(_path: Any, **options: Any) -> sqlite3.Connection:
        return sqlite3.connect(":memory:", **options)

    with pytest.raises(JournalUnusable, match="journal_mode = memory where wal"):
        is_opened(tmp_path / "orders.db", connect=connect)


def test_a_durability_that_there_is_not_is_refused(tmp_path: Path) -> None:
    choice: Any = "some"
    with pytest.raises(ActorFSMError, match="give 'full' or 'process'"):
        SQLiteJournal(tmp_path / "orders.db", durability=choice)


# -- one owner ---------------------------------------------------------------------------------------------------------


def test_a_second_process_is_refused_with_the_pid_of_the_first_until_that_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "orders.db"
    with child("asyncio.run(write_for_ever(sys.argv[1], 'process'))", path) as first:
        assert first.stdout is not None
        first.stdout.readline()
        with pytest.raises(JournalLocked, match=f"in use by process {first.pid} on ") as refused:
            is_opened(path)
        assert refused.value.pid == first.pid
        first.kill()
    is_opened(path)


def test_a_journal_that_is_open_is_not_opened_again_by_a_second_system(tmp_path: Path) -> None:
    async def twice(journal: Any) -> None:
        await journal.open()
        with pytest.raises(JournalLocked, match="open already"):
            await journal.open()
        await journal.append(Batch(entries=(entry(1),)))  # the refusal has not closed it
        await journal.close()
        await journal.open()
        await journal.close()

    asyncio.run(twice(SQLiteJournal(tmp_path / "orders.db")))
    asyncio.run(twice(MemoryJournal()))


async def two_in_one_process(path: Path) -> None:
    first = await opened(path)
    with pytest.raises(JournalLocked) as refused:
        await opened(path)
    assert refused.value.pid == os.getpid()
    # The refusal has not cost the first one its own lock.
    with pytest.raises(JournalLocked):
        await opened(path)
    await first.append(Batch(entries=(entry(1),)))
    await first.close()
    second = await opened(path)
    assert second.epoch == first.epoch + 1
    await second.close()


def test_a_second_journal_in_one_process_is_refused_until_the_first_is_closed(tmp_path: Path) -> None:
    asyncio.run(two_in_one_process(tmp_path / "orders.db"))


def test_who_opens_it_at_the_same_time_is_told_so_even_if_the_owner_is_not_yet_known(tmp_path: Path) -> None:
    path = tmp_path / "orders.db"
    with closing(sqlite3.connect(f"{path}-lock", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(JournalLocked, match="in use by another process") as refused:
            is_opened(path)
        assert refused.value.pid is None
    assert not path.exists()
    is_opened(path)


def test_others_may_look_while_the_owner_writes(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "orders.db"
        owner = await opened(path)
        await owner.append(Batch(entries=(entry(1),)))
        looker = await opened(path, read_only=True)
        await owner.append(Batch(entries=(entry(2),)))
        assert [each.seq for each in await looker.entries("a")] == [1, 2]
        with pytest.raises(NotStored, match="read only"):
            await looker.append(Batch(entries=(entry(3),)))
        with pytest.raises(NotStored, match="read only"):
            await looker.snapshot("a")
        await owner.append(Batch(entries=(entry(3),)))
        await owner.close()
        assert len(await looker.entries("a")) == 3
        await looker.close()

    asyncio.run(scenario())


# -- when the process dies ---------------------------------------------------------------------------------------------


@pytest.mark.many
@pytest.mark.parametrize("durability", ["full", "process"])
def test_what_was_acknowledged_before_a_kill_is_there(durability: str, tmp_path: Path) -> None:
    path = tmp_path / "orders.db"
    total = 0
    for lines in (1, 10, 100, 300):
        with child("asyncio.run(write_for_ever(*sys.argv[1:]))", path, durability) as writer:
            assert writer.stdout is not None
            said = [writer.stdout.readline() for _ in range(lines)]
            os.kill(writer.pid, signal.SIGKILL)
            said += writer.stdout.readlines()  # what it had said before it died
        heads = asyncio.run(all_heads(path))
        for line in said:
            if line.endswith("\n"):
                machine_id, seq = line.split()
                assert heads[machine_id] >= int(seq)
        total = sum(heads.values())
    assert total > 400


async def all_heads(path: Path) -> dict[str, int]:
    journal = await opened(path)
    heads = {head.machine_id: head.seq for head in await journal.machines()}
    for machine_id, seq in heads.items():
        stored = await journal.load(machine_id)
        assert stored is not None
        assert stored.image.seq == seq
        assert [each.seq for each in await journal.entries(machine_id, limit=10**6)] == list(
            range(1, seq + 1)
        )
    await journal.close()
    return heads


@pytest.mark.parametrize(
    "code", ["asyncio.run(forget_to_close(sys.argv[1]))", "kept = asyncio.run(forget_to_close(sys.argv[1]))"]
)
def test_a_program_that_forgets_to_close_the_journal_ends(code: str, tmp_path: Path) -> None:
    path = tmp_path / "orders.db"
    with child(code, path) as forgetful:
        assert forgetful.wait(timeout=30) == 0
    heads = asyncio.run(all_heads(path))
    assert heads["a"] >= 1


# -- room --------------------------------------------------------------------------------------------------------------


def test_when_sqlite_finds_no_room_that_is_said_and_what_was_there_stays(tmp_path: Path) -> None:
    connections: list[sqlite3.Connection] = []

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connections.append(sqlite3.connect(*arguments, **options))
        return connections[-1]

    async def fill(journal: Journal) -> int:
        for seq in range(1, 1_000):
            try:
                await journal.append(Batch(entries=(entry(seq, definition="x" * 2_000),)))
            except JournalFull:
                return seq - 1
        raise AssertionError("there is no end of room")

    async def scenario() -> None:
        journal = await opened(tmp_path / "orders.db", connect=connect)
        connections[-1].execute("PRAGMA max_page_count = 60")
        filled = await fill(journal)
        assert filled > 20
        stored = await journal.load("a")
        assert stored is not None
        assert stored.image.seq == filled
        connections[-1].execute("PRAGMA max_page_count = 600")
        await journal.append(Batch(entries=(entry(filled + 1),)))
        await journal.close()

    asyncio.run(scenario())


def test_without_room_to_begin_a_journal_there_is_none(tmp_path: Path) -> None:
    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = sqlite3.connect(*arguments, **options)
        connection.execute("PRAGMA max_page_count = 3")
        return connection

    path = tmp_path / "orders.db"
    with pytest.raises(JournalFull, match="no room for the journal"):
        is_opened(path, connect=connect)
    is_opened(path)  # and neither a lock nor half a journal is left


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("process", 1)])
def test_sqlite_is_told_how_durable_a_commit_is_to_be(durability: Any, level: int, tmp_path: Path) -> None:
    connections: list[sqlite3.Connection] = []

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connections.append(sqlite3.connect(*arguments, **options))
        return connections[-1]

    async def scenario() -> None:
        journal = await opened(tmp_path / "orders.db", connect=connect, durability=durability)
        assert connections[-1].execute("PRAGMA synchronous").fetchone() == (level,)
        assert connections[-1].execute("PRAGMA journal_mode").fetchone() == ("wal",)
        await journal.close()

    asyncio.run(scenario())


# -- groups ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [64, 2_500])
def test_what_is_handed_in_together_is_committed_together(count: int, tmp_path: Path) -> None:
    commits: list[str] = []

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = sqlite3.connect(*arguments, **options)
        connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
        return connection

    async def scenario() -> None:
        journal = await opened(tmp_path / "orders.db", connect=connect)
        commits.clear()
        await asyncio.gather(*[journal.append(Batch(entries=(entry(1, f"m-{n}"),))) for n in range(count)])
        assert len(commits) == -(-count // 1_000)
        await journal.close()

    asyncio.run(scenario())


@pytest.mark.rule("C23")
def test_a_journal_whose_process_was_killed_amid_a_checkpoint_is_opened(tmp_path: Path) -> None:
    """The first page is written first: until the others are, the file alone is shorter than it says it is."""
    path, killed = tmp_path / "orders.db", tmp_path / "killed.db"
    log, log_of_killed = tmp_path / "orders.db-wal", tmp_path / "killed.db-wal"

    async def scenario() -> None:
        journal = await opened(path)
        await journal.append(Batch(entries=(entry(1),)))
        await journal.close()
        before = path.read_bytes()
        journal = await opened(path)
        for seq in range(2, 200):
            await journal.append(Batch(entries=(entry(seq, message=None, definition="x" * 200),)))
        log_of_killed.write_bytes(log.read_bytes())
        await journal.close()
        killed.write_bytes(path.read_bytes()[:4096] + before[4096:])
        journal = await opened(killed)
        stored = await journal.load("a")
        assert stored is not None
        assert stored.head.seq == 199
        await journal.close()

    asyncio.run(scenario())


@pytest.mark.rule("C23")
def test_a_journal_whose_process_was_killed_while_it_was_made_is_made_anew(tmp_path: Path) -> None:
    path, killed = tmp_path / "orders.db", tmp_path / "killed.db"
    asyncio.run(_open_and_close(path))
    whole = path.read_bytes()
    with closing(sqlite3.connect(tmp_path / "other.db", isolation_level=None)) as connection:
        # SQLite notes first, in a file beside it, that the database was empty.
        connection.executescript("PRAGMA cache_size = 1; BEGIN IMMEDIATE; CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 4000,)] * 50)
        rolls_back = (tmp_path / "other.db-journal").read_bytes()
        connection.execute("ROLLBACK")
    for written in (whole[:4096], whole[:-4096], whole):
        killed.write_bytes(written)
        Path(f"{killed}-journal").write_bytes(rolls_back)
        asyncio.run(_open_and_close(killed))
        assert asyncio.run(all_heads(killed)) == {}
        killed.unlink()


async def _open_and_close(path: Path) -> None:
    await (await opened(path)).close()


@pytest.mark.rule("C29")
def test_what_a_journal_remembers_of_a_machine_goes_with_its_end_and_its_id_can_be_used_again(
    tmp_path: Path,
) -> None:
    async def end_many() -> None:
        journal = SQLiteJournal(tmp_path / "j.db", durability="process")
        await journal.open()
        try:
            await journal.append(Batch(entries=(entry(1, "kept"),)))
            for number in range(50):
                await journal.append(
                    Batch(entries=(entry(1, f"m-{number}"), entry(2, f"m-{number}", status="stopped")))
                )
            assert set(journal._store._heads) == {"kept"}
            await journal.append(Batch(entries=(entry(3, "m-7"),)))
            stored = await journal.load("m-7")
            assert stored is not None
            assert stored.head.seq == 3
        finally:
            await journal.close()

    asyncio.run(end_many())


@pytest.mark.parametrize("is_older", [False, True])
def test_the_machines_that_are_held_are_found_without_a_look_at_all_others(
    tmp_path: Path, is_older: bool
) -> None:
    """A journal that an earlier version has begun gets the index when it is opened to be written."""
    name = tmp_path / "a.db"

    async def scenario() -> None:
        journal = await opened(name)
        for machine_id, status in (("a", "alive"), ("b", "quarantined"), ("c", "suspended"), ("d", "alive")):
            await journal.append(Batch(entries=(entry(1, machine_id, status=status),)))
        await journal.close()
        if is_older:
            with closing(sqlite3.connect(name)) as connection, connection:
                connection.execute("DROP INDEX machines_held")
            journal = await opened(name, read_only=True)
            assert [head.machine_id for head in await journal.machines(status="suspended")] == ["c"]
            await journal.close()
        journal = await opened(name)
        for status, expected in (("quarantined", ["b"]), ("suspended", ["c"]), ("alive", ["a", "d"])):
            found = await journal.machines(status=status)  # type: ignore[arg-type]
            assert [head.machine_id for head in found] == expected
        said: list[str] = []
        connection: Any = journal._store._connection
        connection.set_trace_callback(said.append)
        await journal.machines(status="suspended")
        connection.set_trace_callback(None)
        [plan] = connection.execute(f"EXPLAIN QUERY PLAN {said[0]}").fetchall()
        assert "machines_held" in plan[-1]
        await journal.close()

    asyncio.run(scenario())
