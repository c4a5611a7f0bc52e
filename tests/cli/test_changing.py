"""The commands that change a journal or make one: dead replay and drop, export and import."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actorfsm.journal.memory import MemoryJournal
from actorfsm.journal.sqlite.journal import SQLiteJournal
from actorfsm.journal.transfer import exported, imported

Call = Callable[..., Any]


def letters(call: Call, path: Path) -> list[int]:
    return [json.loads(line)["number"] for line in call("dead", "list", path, "--json").out.splitlines()]


def test_dead_letters_are_listed_shown_and_dropped(orders: Path, call: Call) -> None:
    assert call("dead", "list", orders).out.splitlines()[0].split() == [
        "1", "1970-01-01", "00:00:00.000", "x", "Pay", "no", "1",
    ]  # fmt: skip
    shown = call("dead", "show", orders, 2, "--json").json()
    assert (shown["id"], shown["event_id"], shown["event"]) == ("x", "d-2", {"amount": "9.90"})
    assert "reason: no 2" in call("dead", "show", orders, 2).out
    assert call("dead", "drop", orders, 2).out == "dropped: 1\n"
    assert letters(call, orders) == [1, 3]
    assert call("dead", "drop", orders, "--all").out == "dropped: 2\n"
    assert letters(call, orders) == []


def test_a_dead_letter_that_is_replayed_waits_for_the_next_system(orders: Path, call: Call) -> None:
    assert call("dead", "replay", orders, 1, 3, "--json").json() == {"replayed": 2, "refused": []}
    assert letters(call, orders) == [2]
    assert call("verify", orders, "--json").json()["pending"] == 3

    async def pending() -> list[tuple[str, str]]:
        journal = SQLiteJournal(orders, read_only=True)
        await journal.open()
        found = [
            (placed.pending.machine_id, placed.pending.message.event_id) for placed in await journal.pending()
        ]
        await journal.close()
        return found

    assert asyncio.run(pending()) == [("b", "p"), ("x", "d-1"), ("x", "d-3")]


@pytest.mark.parametrize("words", [("drop",), ("replay",), ("drop", "1", "--all")])
def test_letters_are_named_or_all_are_meant(words: tuple[str, ...], orders: Path, call: Call) -> None:
    ended = call("dead", words[0], orders, *words[1:])
    assert ended.status == 2
    assert "or give --all" in ended.err
    assert letters(call, orders) == [1, 2, 3]


@pytest.mark.parametrize("word", ["show", "drop", "replay"])
def test_a_letter_that_is_not_there_is_refused(word: str, orders: Path, call: Call) -> None:
    ended = call("dead", word, orders, 9)
    assert (ended.status, ended.err) == (
        2,
        "actorfsm: there is no dead letter 9: `actorfsm dead list` lists them\n",
    )
    assert letters(call, orders) == [1, 2, 3]


def test_an_import_of_an_export_is_the_same_journal(orders: Path, tmp_path: Path, call: Call) -> None:
    first, copy, second = tmp_path / "first.jsonl", tmp_path / "copy.db", tmp_path / "second.jsonl"
    assert call("export", orders, "-o", first).status == 0
    ended = call("import", copy, "-i", first)
    assert ended.out == ("imported: 3 machine, 11 entry, 1 snapshot, 1 timer, 1 pending, 3 dead_letter\n")
    assert call("export", copy, "-o", second).status == 0
    assert second.read_text() == first.read_text()
    assert call("verify", copy).status == 0
    assert call("export", orders).out == first.read_text()
    assert not [file.name for file in tmp_path.iterdir() if "importing" in file.name]


def changed(text: str, how: Callable[[list[str]], list[str]]) -> str:
    return "".join(line + "\n" for line in how(text.splitlines()))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda lines: [], "the export ends before its end"),
        (lambda lines: lines[:-1], "the export ends before its end"),
        (lambda lines: lines[:5] + lines[6:], "lines are missing"),
        (lambda lines: [*lines, lines[1]], "there is more behind the end"),
        (lambda lines: lines[1:], "this is no export"),
        (lambda lines: [lines[0].replace('"format":1', '"format":9')], "newer version of actorfsm (format 9"),
        (lambda lines: [lines[0], "{", *lines[1:]], "line 2 is no line of an export"),
        (lambda lines: [lines[0], '{"kind":"cake"}', *lines[1:]], "line 2 is no line of an export"),
        (
            lambda lines: [line.replace("S4", "S1") for line in lines],
            "what was exported is not as it was written",
        ),
        (
            lambda lines: [line.replace("9.90", "1.90") for line in lines],
            "is no line of an export, or was changed",
        ),
    ],
)
def test_an_export_that_was_changed_is_refused_and_leaves_no_journal(
    how: Callable[[list[str]], list[str]], said: str, orders: Path, tmp_path: Path, call: Call
) -> None:
    file, copy = tmp_path / "export.jsonl", tmp_path / "copy.db"
    file.write_text(changed(call("export", orders).out, how))
    ended = call("import", copy, "-i", file)
    assert (ended.status, ended.out) == (2, "")
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert not [file.name for file in tmp_path.iterdir() if file.name.startswith("copy")]


def test_what_is_there_already_is_not_written_over(orders: Path, tmp_path: Path, call: Call) -> None:
    file = tmp_path / "export.jsonl"
    assert call("export", orders, "-o", file).status == 0
    before = orders.read_bytes(), file.read_bytes()
    assert "is there already" in call("export", orders, "-o", file).err
    assert "is there already" in call("import", orders, "-i", file).err
    assert "No such file" in call("import", tmp_path / "new.db", "-i", tmp_path / "nothing").err
    assert (orders.read_bytes(), file.read_bytes()) == before


def test_a_journal_of_one_kind_is_carried_to_another(orders: Path) -> None:
    async def scenario() -> None:
        source, target = SQLiteJournal(orders, read_only=True, still=True), MemoryJournal()
        await source.open()
        await target.open()
        lines = [json.dumps(line) async for line in exported(source)]
        await imported(target, lines)
        assert [json.dumps(line) async for line in exported(target)] == lines
        await source.close()
        await target.close()

    asyncio.run(scenario())
