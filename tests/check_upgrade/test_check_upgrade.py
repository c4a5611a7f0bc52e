"""C28: `check-upgrade` shows where what a journal holds lands in the classes of today, or names what does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actorfsm.__main__ import main
from actorfsm.check_upgrade.check import check_upgrade
from actorfsm.journal.memory import MemoryJournal, MemoryStore
from actorfsm.testing import SimulatedSystem
from tests.contract import shop_v1, shop_v2

pytestmark = pytest.mark.rule("C28")

V1 = ("tests.contract.shop_v1:Order", "tests.contract.shop_v1:Parcel")
V2 = ("tests.contract.shop_v2:PurchaseOrder", "tests.contract.shop_v2:Parcel")


async def _a_shop(journal: Any) -> None:
    """Store something of all that can be stored, with the old code."""
    async with SimulatedSystem(shop_v1.Order, shop_v1.Parcel, journal=journal, check=False) as system:
        for name in ("paid-1", "paid-2"):
            await (await system.spawn(shop_v1.Order, name)).ask(shop_v1.Pay(amount=5), event_id="pay")
        await system.ask("paid-1", shop_v1.Remind(after=100))
        waiting = await system.spawn(shop_v1.Order, "waiting")
        waiting.tell(shop_v1.Note(text="x"))
        await system.spawn(shop_v1.Parcel, "parcel")
        sender, _ = await system.spawn(shop_v1.Order, "sender"), await system.spawn(shop_v1.Order, "held")
        system.suspend("held")
        await sender.ask(shop_v1.Send(to="held"))


@pytest.fixture(name="journal")
def a_journal_of_the_old_code(sim: Callable[..., None], tmp_path: Path) -> str:
    name = str(tmp_path / "shop.db")
    sim(lambda: _a_shop(name), seeds=[0])
    return name


def test_it_shows_where_each_thing_lands_and_changes_nothing(
    journal: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path(journal).read_bytes()
    assert main(["check-upgrade", *V2, journal]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "machines:",
        "           3  Order: Order 1 in OPEN -> PurchaseOrder 3 in OPEN",
        "           2  Order: Order 1 in PAYING -> PurchaseOrder 3 in CHARGED",
        "           1  Parcel: Parcel 1 in PACKED -> Parcel 2 in WRAPPED",
        "timers:",
        "           1  Order: Note with Note 1 -> Remark with Remark 3",
        "           2  Order: late with StateTimeout 1 -> too_late with StateTimeout 1",
        "postponed events:",
        "           1  Order: Note 1 -> Remark 3",
        "promised events:",
        "           1  Order: Note 1 -> Remark 3",
        "recorded replies:",
        "           2  Order: to Pay 1, Receipt 1 -> to Pay 2, Slip 3",
        "lands: all that 6 machines have stored",
    ]
    assert Path(journal).read_bytes() == before


def test_it_names_what_does_not_land_with_an_example_and_the_remedy(
    journal: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-upgrade", "tests.check_upgrade.shop_without:Order", journal]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["machines:", "           3  Order: Order 1 in OPEN -> Order 1 in OPEN"]
    lines = lines[lines.index("these do not land:") :]
    named = [line for line in lines if ", the first one at " in line]
    assert named == [
        "           2  machines of Order: Order 1 in PAYING, the first one at paid-1",
        "           1  machine of Parcel: its class, the first one at parcel",
        "           1  postponed event of Order: Note 1, the first one at waiting",
        "           1  promised event of Order: Note 1, the first one at held",
        "           2  recorded replies of Order: to Pay 1, Receipt 1, the first one at paid-1",
    ]
    text = "\n".join(lines)
    for said in (
        "Order has no state PAYING, which is stored; there are OPEN, DONE",
        "parcel is a Parcel, and the system has no such class",
        "named='Note'",
        "entry 2 of paid-1",
        "amount: Extra inputs are not permitted",
    ):
        assert said in text
    assert lines[-1] == "does not land: 7 of what 6 machines have stored"


def test_the_report_is_printed_as_json(journal: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-upgrade", "--json", *V2, journal]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["lands"], report["machines"], report["trimmed"], report["misfits"]) == (True, 6, 0, [])
    parcels = [landing for landing in report["landings"] if landing["class"] == "Parcel"]
    assert parcels == [
        {
            "thing": "machine",
            "class": "Parcel",
            "stored": "Parcel 1 in PACKED",
            "lands": "Parcel 2 in WRAPPED",
            "count": 1,
        }
    ]
    assert main(["check-upgrade", "tests.check_upgrade.shop_without:Order", journal, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["lands"] is False
    assert [(misfit["thing"], misfit["first_id"], misfit["count"]) for misfit in report["misfits"]] == [
        ("machine", "paid-1", 2),
        ("machine", "parcel", 1),
        ("postponed event", "waiting", 1),
        ("promised event", "held", 1),
        ("recorded reply", "paid-1", 2),
    ]
    assert "Order has no state PAYING" in report["misfits"][0]["why"]


def test_a_class_in_the_current_folder_is_found_by_the_installed_command(
    journal: str, tmp_path: Path
) -> None:
    (tmp_path / "shop_here.py").write_text("from tests.contract.shop_v2 import Parcel, PurchaseOrder\n")
    program = "import sys; sys.path.remove(''); from actorfsm.cli import main; sys.exit(main())"
    names = ("shop_here:PurchaseOrder", "shop_here:Parcel")
    done = subprocess.run(
        [sys.executable, "-c", program, "check-upgrade", *names, journal],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_newer_code_has_stored_does_not_land(
    sim: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(tmp_path / "new.db")

    async def scenario() -> None:
        async with SimulatedSystem(shop_v2.Parcel, journal=name, check=False) as system:
            await system.spawn(shop_v2.Parcel, "p")

    sim(scenario, seeds=[0])
    assert main(["check-upgrade", *V1, name]) == 1
    assert "it was stored by newer code" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("classes", "name", "said"),
    [
        (V1, "nowhere.db", "nowhere.db"),
        (("nowhere:Order",), "shop.db", "nowhere cannot be imported"),
        (("tests.contract.shop_v1:Pay",), "shop.db", "not a machine that can live"),
        (
            (V1[0], "tests.check_upgrade.shop_without:Order"),
            "shop.db",
            "two machine classes are called Order",
        ),
    ],
)
def test_where_nothing_can_be_said_it_says_why(
    journal: str, classes: tuple[str, ...], name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-upgrade", *classes, str(Path(journal).with_name(name))]) == 2
    assert said in capsys.readouterr().err


def test_progress_is_shown_on_a_terminal_only(
    journal: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["check-upgrade", *V2, journal]) == 0
    assert capsys.readouterr().err == "\r6 machines\r\x1b[K"


def test_it_takes_a_page_at_a_time_and_its_report_does_not_grow_with_the_journal(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        store, told = MemoryStore(), list[int]()
        async with SimulatedSystem(shop_v1.Parcel, journal=MemoryJournal(store), check=False) as system:
            for n in range(2_050):
                await system.spawn(shop_v1.Parcel, f"p{n}")
        journal = MemoryJournal(store)
        await journal.open()
        report = await check_upgrade([shop_v2.Parcel], journal, progress=told.append)
        await journal.close()
        assert told == [1_000, 2_000, 2_050]
        assert list(report.landings.values()) == [2_050]
        assert report.lands

    sim(scenario, seeds=[0])


def test_what_is_trimmed_or_corrupt_is_said(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await _a_shop(MemoryJournal(store))
        journal = MemoryJournal(store)
        await journal.open()
        await journal.snapshot("paid-1", keep=0)
        rows = store.rows["paid-2"]
        rows[1] = rows[1]._replace(body=(rows[1].body or "").replace('"paid\\":5', '"paid\\":9'))
        report = await check_upgrade([shop_v2.PurchaseOrder, shop_v2.Parcel], journal)
        await journal.close()
        assert report.trimmed == 3
        lines = list(report.lines())
        assert lines[-1].startswith("3 entries are trimmed")
        assert any("entry 2 of paid-2 is not what was written" in line for line in lines)
        assert [misfit.machine_id for misfit in report.misfits.values()] == ["paid-2"]

    sim(scenario, seeds=[0])
