"""The ledger's line: what it says, and that it is written down only where somebody asked for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.campaigns import ledger

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_line_is_printed_and_nothing_is_written_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ledger, "PAGE", tmp_path / "docs" / "ledger.md")
    monkeypatch.delenv(ledger.ASKED_BY, raising=False)
    line = ledger.enter("P2", seeds=3, events=700, violations=0)
    assert capsys.readouterr().out == f"{line}\n"
    assert re.fullmatch(r"P2 seeds=3 events=700 violations=0 commit=(unknown|[0-9a-f]{7,}\+?)", line)
    assert not ledger.PAGE.exists()


def test_a_line_is_appended_where_the_environment_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "PAGE", tmp_path / "docs" / "ledger.md")
    monkeypatch.setenv(ledger.ASKED_BY, "1")
    lines = [ledger.enter("P1", seeds="0..9", violations=0), ledger.enter("P2", seeds=1, violations=2)]
    assert ledger.PAGE.read_text("utf-8") == "".join(f"- `{line}`\n" for line in lines)


def test_outside_a_checkout_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert ledger.commit() == "unknown"


def test_the_environment_multiplies_a_campaign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACTORFSM_CAMPAIGN", raising=False)
    assert ledger.multiplier() == 1
    monkeypatch.setenv("ACTORFSM_CAMPAIGN", "100")
    assert ledger.multiplier() == 100
