"""C28: journals that older code has written are read for ever, and the format does not change unnoticed."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from actorfsm import NoSuchMachine, Unhandled
from actorfsm.check_upgrade.check import check_upgrade
from actorfsm.journal import entry as entry_words, image as image_words
from actorfsm.journal.entry import Batch, Head, Payload
from actorfsm.journal.sqlite.file import FORMAT
from actorfsm.journal.sqlite.journal import SQLiteJournal
from actorfsm.testing import SimulatedSystem
from tests.contract import shop_v1, shop_v2
from tests.journal.golden import words
from tests.journal.golden.make import FOLDER, WORDS_NUMBER

pytestmark = pytest.mark.rule("C28")

SHOPS = sorted(FOLDER.glob("sqlite-*.db"))
ALL_WORDS = sorted(FOLDER.glob("words-*.jsonl"))
NEW_GOLDEN = (
    "the format has changed: if that is meant, and what was stored before is still read, raise the number in "
    "tests/journal/golden/make.py, or FORMAT, and make a new golden journal with it"
)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_there_is_a_golden_journal_of_every_format_and_of_every_change_of_the_words() -> None:
    assert [path.name for path in SHOPS] == [f"sqlite-{number}.db" for number in range(1, FORMAT + 1)], (
        NEW_GOLDEN
    )
    assert [path.name for path in ALL_WORDS] == [
        f"words-{number}.jsonl" for number in range(1, WORDS_NUMBER + 1)
    ], NEW_GOLDEN


def test_what_todays_code_writes_is_the_newest_golden_file_to_the_letter() -> None:
    assert words.lines() == _lines(FOLDER / f"words-{WORDS_NUMBER}.jsonl"), NEW_GOLDEN


def test_every_field_of_every_word_is_in_the_golden_words() -> None:
    seen: set[tuple[str, str]] = set()
    pending: list[Any] = list(words.WORDS)
    while pending:
        word = pending.pop()
        if isinstance(word, list | tuple) and not hasattr(word, "_fields"):
            pending.extend(word)
        elif isinstance(word, dict):
            pending.extend(word.values())
        elif dataclasses.is_dataclass(word):
            for field in dataclasses.fields(word):
                value = getattr(word, field.name)
                if value not in (field.default, (), [], {}):
                    seen.add((type(word).__name__, field.name))
                pending.append(value)
    known = {
        (cls.__name__, field.name)
        for module in (entry_words, image_words)
        for cls in vars(module).values()
        if dataclasses.is_dataclass(cls) and isinstance(cls, type) and cls is not Batch
        for field in dataclasses.fields(cls)
    }
    assert seen == known, "add the new fields to tests/journal/golden/words.py and make a new golden file"


@pytest.mark.parametrize("path", ALL_WORDS, ids=lambda path: path.name)
def test_words_of_any_age_are_read(path: Path) -> None:
    entry, recorded, image, timer, pending, dead = words.read(_lines(path))
    if path.name == f"words-{WORDS_NUMBER}.jsonl":
        assert [entry, image, timer, pending, dead] == list(words.WORDS)
        assert (recorded.event_type, recorded.event_version) == ("Pay", 2)
        assert recorded.answer == words.ENTRY.answer
    assert entry.message.event == Payload("Pay", 2, '{"cents":500}')
    assert entry.data == image.data == Payload("Order", 3, '{"cents":500}')


@pytest.fixture(name="shop", params=SHOPS, ids=lambda path: path.name)
def a_copy_of_a_golden_journal(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(shutil.copyfile(request.param, tmp_path / "shop.db"))


def test_a_golden_journal_is_replayed_with_state_data_timers_mail_and_replies(
    sim: Callable[..., None], shop: str
) -> None:
    async def scenario() -> None:
        async with SimulatedSystem(shop_v1.Order, shop_v1.Parcel, journal=shop, check=False) as system:
            for name in ("paid", "trimmed", "done"):
                receipt = await system.ask(name, shop_v1.Pay(amount=5), event_id="pay")
                assert receipt == shop_v1.Receipt(number=f"R-{name}")
                assert system.snapshot(name).data == {"paid": 5, "notes": ()}
            assert [system.snapshot(name).state for name in ("paid", "trimmed", "done")] == [
                *(shop_v1.S.PAYING, shop_v1.S.PAYING, shop_v1.S.DONE)
            ]
            with pytest.raises(Unhandled):
                await system.ask("done", shop_v1.Ship())
            assert (await system.get_or_spawn(shop_v1.Parcel, "parcel")).snapshot().state is shop_v1.P.PACKED
            with pytest.raises(NoSuchMachine):
                await system.ask("stopped", shop_v1.Ship())
            assert [timer.name for timer in system.inspect("paid").timers] == ["late"]
            # What was promised, what was postponed and what was to come.
            for name in ("held", "waiting", "reminded"):
                await system.ask(name, shop_v1.Pay(amount=1))
            await system.clock.advance(200)
            assert system.snapshot("held").data["notes"] == ("from sender",)
            assert system.snapshot("waiting").data["notes"] == ("zero", "one", "two")
            assert system.snapshot("reminded").data["notes"] == ("a reminder",)
            await system.clock.advance(4000)
            assert system.snapshot("paid").state is shop_v1.S.OPEN
            assert system.snapshot("paid").data["notes"] == ("late",)

    sim(scenario, seeds=[0])


def test_a_golden_journal_lands_in_a_newer_version_of_the_shop(sim: Callable[..., None], shop: str) -> None:
    async def scenario() -> None:
        journal = SQLiteJournal(shop, read_only=True)
        await journal.open()
        report = await check_upgrade([shop_v2.PurchaseOrder, shop_v2.Parcel], journal)
        (letter,) = await journal.dead_letters()
        await journal.close()
        assert report.lands, list(report.lines())
        assert report.machines == 9
        assert letter.machine_id == "nobody"
        assert letter.message.event == Payload("Note", 1, '{"text":"from sender"}')

    sim(scenario, seeds=[0])


def test_the_same_entries_make_the_same_file_today(sim: Callable[..., None], tmp_path: Path) -> None:
    golden, today = FOLDER / f"sqlite-{FORMAT}.db", tmp_path / "today.db"

    async def scenario() -> None:
        old, new = (
            SQLiteJournal(shutil.copyfile(golden, tmp_path / "old.db"), read_only=True),
            SQLiteJournal(today),
        )
        await old.open()
        await new.open()
        heads: list[Head] = list(await old.machines())
        for head in heads:
            entries = await old.entries(head.machine_id)
            if len(entries) == head.seq:
                await new.append(Batch(entries=tuple(entries)))
        await old.close()
        await new.close()

    sim(scenario, seeds=[0])
    then, now = _content(golden), _content(today)
    # What each start looks for by an index gets that when it is not there: it is no part of the format.
    added = {row for row in now["schema"] if row[1] == "machines_held"}
    assert len(added) == 1
    assert now.pop("schema") - added == then.pop("schema"), NEW_GOLDEN
    assert now["entries"], "nothing was written"
    for table in ("entries", "machines", "timers"):
        assert now[table] <= then[table], NEW_GOLDEN


def _content(path: Path) -> dict[str, set[Any]]:
    with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as connection:
        found = {"schema": set(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))}
        for table in ("entries", "machines", "timers"):
            found[table] = set(connection.execute(f"SELECT * FROM {table}"))
    return found
