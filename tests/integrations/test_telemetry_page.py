"""The page of spans and metrics lists what there is, with its kind, unit and attributes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from actorfsm.integrations.figures import FIGURES, PROCESS_DURATION, SYSTEM
from actorfsm.integrations.opentelemetry import conventions

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "telemetry.md"


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def table(page: str, title: str) -> dict[str, list[str]]:
    (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| `([\w.]+)` \|(.*)\|$", text, re.MULTILINE)
    assert len(rows) == len(dict(rows)), "a row stands twice"
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in rows}


def test_every_attribute_of_spans_has_a_row(page: str) -> None:
    rows = table(page, "Attributes of spans")
    assert tuple(rows) == conventions.SPAN_ATTRIBUTES
    assert {on for on, _ in rows.values()} == {"process", "send, process"}


def test_every_metric_has_a_row_that_says_what_the_code_says(page: str) -> None:
    rows = table(page, "Metrics")
    assert list(rows) == [*(figure.name for figure in FIGURES), PROCESS_DURATION]
    for figure in FIGURES:
        kind, unit, attributes, meaning = rows[figure.name]
        assert (kind, unit, meaning) == (figure.kind, figure.unit, figure.description)
        assert tuple(re.findall(r"`([\w.]+)`", attributes)) == figure.attributes


def test_every_attribute_of_metrics_has_a_row_here_or_among_those_of_spans(page: str) -> None:
    used = {name for figure in FIGURES for name in figure.attributes} | {SYSTEM}
    assert used - set(conventions.SPAN_ATTRIBUTES) == set(table(page, "Attributes of metrics"))


def test_the_page_names_the_version_of_the_conventions(page: str) -> None:
    assert f"version {conventions.SCHEMA_URL.rpartition('/')[2]}" in page


def test_both_spans_have_rows(page: str) -> None:
    assert list(table(page, "Spans")) == ["send", "process"]
