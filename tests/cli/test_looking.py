"""The commands that look at a journal: verify, ls, history, dead list and show."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from actorfsm.journal.sqlite.journal import SQLiteJournal

Call = Callable[..., Any]


def test_verify_passes_a_journal_that_is_as_it_was_written(orders: Path, call: Call) -> None:
    ended = call("verify", orders)
    assert ended.status == 0
    assert ended.out == (
        "as it was written: 11 entries of 3 machines (2 trimmed), 1 timer, 1 pending, 3 dead letters\n"
    )
    found = call("verify", orders, "--json").json()
    assert (found["holds"], found["entries"], found["faults"]) == (True, 11, [])


def test_verify_names_the_first_entry_that_is_wrong_and_ends_with_1(orders: Path, call: Call) -> None:
    with closing(sqlite3.connect(orders)) as connection, connection:
        connection.execute(
            "UPDATE entries SET body = replace(body, 'S4', 'S1') WHERE machine_id = 'a' AND seq = 4"
        )
    ended = call("verify", orders)
    assert ended.status == 1
    assert ended.out.startswith("entry 4 of a: ")
    assert "1 machine is not as it was written" in ended.out
    again = call("verify", orders, "--json")
    assert again.status == 1
    assert [(fault["machine_id"], fault["seq"], fault["rule"]) for fault in again.json()["faults"]] == [
        ("a", 4, "I6")
    ]


def test_ls_counts_machines_by_class_and_state_or_lists_them(orders: Path, call: Call) -> None:
    assert call("ls", orders, "--json").json() == [
        {"class": "Order", "status": "alive", "state": "S2", "machines": 1},
        {"class": "Order", "status": "alive", "state": "S3", "machines": 1},
        {"class": "Order", "status": "finished", "state": "S6", "machines": 1},
    ]
    lines = call("ls", orders).out.splitlines()
    assert lines[-1] == "Order  finished  S6     1"
    assert [line for line in lines if line.endswith(" ")] == []
    assert call("ls", orders, "--ids").out.splitlines() == [
        "a  Order  finished  S6  6",
        "b  Order  alive  S3  3",
        "ü  Order  alive  S2  2",
    ]
    assert call("ls", orders, "--ids", "--state", "S3", "--json").json()["id"] == "b"
    assert call("ls", orders, "--ids", "--class", "Payment").out == ""
    assert call("ls", orders, "--ids", "--status", "finished").out == "a  Order  finished  S6  6\n"


def test_history_tells_what_happened_with_durations(orders: Path, call: Call) -> None:
    ended = call("history", orders, "a")
    assert ended.status == 0
    lines = ended.out.splitlines()
    assert len(lines) == 6
    assert lines[1].split() == [
        "2",
        "2023-11-14",
        "22:16:20.000",
        "+0:01:30",
        "committed",
        "S1",
        "→",
        "S2",
        "Pay",
        "e-2",
    ]
    assert lines[5].endswith("now finished")


def test_history_says_what_was_trimmed(orders: Path, call: Call) -> None:
    ended = call("history", orders, "b", "--json")
    assert ended.err == "actorfsm: the 2 entries before these were trimmed\n"
    assert (ended.json()["seq"], ended.json()["data"]["fields"]) == (3, {"paid": 3})


def test_history_shows_the_machine_as_an_entry_left_it(orders: Path, call: Call) -> None:
    then = call("history", orders, "a", "--at", 3, "--json").json()
    assert (then["seq"], then["state"], then["status"], then["data"]["fields"]) == (
        3,
        ["S3"],
        "alive",
        {"paid": 3},
    )
    now = call("history", orders, "a", "--at", 6, "--json").json()
    assert (now["state"], now["status"], list(now["timers"])) == (["S6"], "finished", ["t"])
    assert 'state: ["S2"]' in call("history", orders, "a", "--at", 2).out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nobody",), "the journal has no machine 'nobody': `actorfsm ls --ids` lists them"),
        (("a", "--at", "7"), "a has no entry 7: give one from 1 to 6"),
        (
            ("b", "--at", "2"),
            "entries of b before 3 were trimmed: of what it was only its last entry, 3, can be shown",
        ),
    ],
)
def test_history_says_what_it_cannot_show(
    arguments: tuple[str, ...], said: str, orders: Path, call: Call
) -> None:
    ended = call("history", orders, *arguments)
    assert (ended.status, ended.out, ended.err) == (2, "", f"actorfsm: {said}\n")


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


BAD = [
    (not_a_journal, "is not a journal"),
    (of_another_application, "is a database of another application"),
    (of_a_newer_version, "was written by a newer version of actorfsm (format 99"),
    (Path.mkdir, "is a folder"),
    (lambda path: None, "there is no journal"),
]
COMMANDS = [
    ("verify", "{}"),
    ("ls", "{}"),
    ("history", "{}", "a"),
    ("export", "{}"),
    ("dead", "list", "{}"),
    ("dead", "show", "{}", "1"),
    ("dead", "drop", "{}", "--all"),
    ("dead", "replay", "{}", "1"),
]


@pytest.mark.parametrize(("make", "said"), BAD)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_what_is_no_journal_is_refused_in_one_line_and_left_as_it_is(
    make: Callable[[Path], Any], said: str, command: tuple[str, ...], tmp_path: Path, call: Call
) -> None:
    path = tmp_path / "bad"
    make(path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    ended = call(*(str(path) if word == "{}" else word for word in command))
    assert (ended.status, ended.out) == (2, "")
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before


@pytest.mark.parametrize("command", COMMANDS[:6], ids=" ".join)
def test_looking_changes_nothing_on_disk(command: tuple[str, ...], orders: Path, call: Call) -> None:
    before = orders.read_bytes()
    ended = call(*(str(orders) if word == "{}" else word for word in command))
    assert ended.status == 0
    assert orders.read_bytes() == before
    log = Path(f"{orders}-wal")  # SQLite may leave an empty one
    assert not log.exists() or log.stat().st_size == 0


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_journal_that_may_only_be_read_is_looked_at(orders: Path, call: Call) -> None:
    orders.chmod(0o444)
    assert call("verify", orders).status == 0


def test_a_journal_in_use_is_looked_at_and_not_changed(orders: Path, call: Call) -> None:
    """Its owner goes on; what would change it is refused with the owner's pid."""
    program = (
        "import asyncio, sys\n"
        "from actorfsm.journal.sqlite.journal import SQLiteJournal\n"
        "async def main():\n"
        "    journal = SQLiteJournal(sys.argv[1])\n"
        "    await journal.open()\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.read()\n"
        "    await journal.close()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(orders)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "open\n"
        for command in COMMANDS[:6]:
            assert call(*(str(orders) if word == "{}" else word for word in command)).status == 0
        for command in COMMANDS[6:]:
            ended = call(*(str(orders) if word == "{}" else word for word in command))
            assert ended.status == 2
            assert f"is in use by process {owner.pid}" in ended.err
        owner.communicate("")
    assert owner.returncode == 0


def test_what_a_killed_process_has_left_in_the_log_is_seen(orders: Path, tmp_path: Path, call: Call) -> None:
    """The entries of the last moments stand in the write-ahead log only."""
    from tests.cli.conftest import entry

    async def leave() -> None:
        from actorfsm.journal.entry import Batch

        journal = SQLiteJournal(orders)
        await journal.open()
        await journal.append(Batch(entries=(entry("ü", 3),)))
        for end in ("", "-wal"):
            shutil.copy(f"{orders}{end}", tmp_path / f"killed.db{end}")
        await journal.close()

    asyncio.run(leave())
    assert call("history", tmp_path / "killed.db", "ü").out.count("\n") == 3


def test_python_m_actorfsm_is_the_same(orders: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "actorfsm", "ls", str(orders), "--ids"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("\n") == 3


def test_without_the_extra_one_line_names_it(
    orders: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)
    ended = call("verify", orders)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == "actorfsm verify needs an extra: pip install 'actorfsm[cli]'\n"
