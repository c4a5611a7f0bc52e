"""The site: what can be said of it without building it. CI builds it, and a warning there is an error."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import actorfsm

DOCS = Path(__file__).parents[1] / "docs"


def test_every_public_name_is_in_the_reference_and_nothing_else() -> None:
    page = (DOCS / "reference/api.md").read_text(encoding="utf-8")
    named = re.findall(r"^\.\. (?:auto\w+|py:data):: actorfsm\.(\w+)$", page, flags=re.MULTILINE)
    errors = {
        name
        for name in actorfsm.__all__
        if inspect.isclass(found := getattr(actorfsm, name)) and issubclass(found, Exception)
    }
    assert len(named) == len(set(named))
    assert set(named) == (set(actorfsm.__all__) - errors) | {"Veto"}


def test_every_page_can_be_reached_from_the_first_one() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^((?:[\w-]+/)*[\w-]+)$", index, flags=re.MULTILINE))
    pages = {
        page.relative_to(DOCS).with_suffix("").as_posix()
        for page in DOCS.rglob("*.md")
        if page.parent.name not in {"changelog.d", "decisions", "how-to"} and page != DOCS / "index.md"
    }
    assert pages == listed - {"explanation/decisions/index"}
    assert "how-to/*" in index
