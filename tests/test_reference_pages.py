"""The reference pages list what there is: every error, every record name with its level, every field of a record."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from actorfsm import errors
from actorfsm.errors import ActorFSMError
from actorfsm.sinks.fields import LEVELS
from actorfsm.trace import Record

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
ROW = re.compile(r"^\| `(\w+)` \|(.*)\|$", re.MULTILINE)


def rows_of(page: str) -> list[tuple[str, list[str]]]:
    """Return the rows of the tables of a page: the name in the first column, then the other columns."""
    return [(name, [cell.strip() for cell in rest.split("|")]) for name, rest in ROW.findall(page)]


def section(page: str, title: str) -> str:
    """Return what stands below a heading."""
    (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    return text


@pytest.fixture(scope="module")
def log_events() -> str:
    return (REFERENCE / "log-events.md").read_text(encoding="utf-8")


def test_the_page_of_errors_lists_every_error_once_and_nothing_else() -> None:
    rows = rows_of((REFERENCE / "errors.md").read_text(encoding="utf-8"))
    assert [name for name, _ in rows] == sorted(errors.__all__)


def test_the_page_of_errors_says_when_and_what_to_do() -> None:
    for name, cells in rows_of((REFERENCE / "errors.md").read_text(encoding="utf-8")):
        assert len(cells) == 2, name
        assert all(cell.endswith(".") for cell in cells), name


def test_all_errors_but_a_veto_have_the_base_that_the_page_says() -> None:
    others = [name for name in errors.__all__ if not issubclass(getattr(errors, name), ActorFSMError)]
    assert others == ["Veto"]


def test_the_page_of_log_events_lists_every_name_with_its_level(log_events: str) -> None:
    rows = rows_of(section(log_events, "Names"))
    assert len(rows) == len(LEVELS)
    assert {name: cells[0] for name, cells in rows} == LEVELS


def test_the_page_of_log_events_lists_every_field_of_a_record_in_order(log_events: str) -> None:
    assert tuple(name for name, _ in rows_of(section(log_events, "Fields"))) == Record._fields


def test_the_page_of_log_events_gives_the_defaults_of_a_record(log_events: str) -> None:
    shown = {name: cells[1] for name, cells in rows_of(section(log_events, "Fields")) if cells[1]}
    defaults = {name: str(value) or "empty" for name, value in Record._field_defaults.items()}
    assert shown == defaults


def test_fields_that_are_times_have_seconds_as_their_unit(log_events: str) -> None:
    rows = rows_of(section(log_events, "Fields"))
    assert {name for name, cells in rows if cells[0] == "seconds"} == {
        name for name in Record._fields if name.endswith("_s")
    }


def test_a_row_is_read_from_its_table() -> None:
    page = "| a | b | c |\n|---|---|---|\n| `Veto` | When. | |\ntext `x`\n"
    assert rows_of(page) == [("Veto", ["When.", ""])]
