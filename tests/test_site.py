"""The site: what can be said of it without building it. CI builds it, and a warning there is an error."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

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
    how_tos = {page for page in listed if page.startswith("how-to/")}
    assert pages == listed - how_tos - {"explanation/decisions/index"}
    assert "how-to/*" in index  # three in the morning, and what has no place of its own


def test_every_how_to_is_named_on_the_first_page() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    assert {path.name for path in (DOCS / "how-to").glob("*.md")} == set(
        re.findall(r"\(how-to/([\w-]+\.md)\)", index)
    )


PACKAGE = Path(actorfsm.__file__).parent  # installed or not
INTEGRATIONS = PACKAGE / "integrations"
# What several of them are built of. Nobody imports these from outside.
PARTS = {"figures", "http", "live", "resource", "row_turn"}


def module_names() -> list[str]:
    return sorted(
        path.stem for path in INTEGRATIONS.iterdir() if path.stem.isidentifier() and path.stem[0] != "_"
    )


def public_names(module: str) -> set[str]:
    """Return what a module says is public; read, not imported, so that no extra is needed."""
    path = (PACKAGE.parent / module.replace(".", "/")).with_suffix(".py")
    tree = ast.parse(
        (path if path.exists() else path.with_suffix("") / "__init__.py").read_text(encoding="utf-8")
    )
    (names,) = (
        ast.literal_eval(statement.value)
        for statement in tree.body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__"
    )
    return set(names)


@pytest.mark.parametrize(
    "module",
    [*(f"actorfsm.integrations.{name}" for name in module_names() if name not in PARTS), "actorfsm.testing"],
)
def test_every_public_name_of_an_integration_is_in_the_reference_and_nothing_else(module: str) -> None:
    page = (DOCS / "reference/api.md").read_text(encoding="utf-8")
    section = page.partition(f".. currentmodule:: {module}\n")[2].partition("```")[0]
    named = re.findall(r"^\.\. (?:auto\w+|py:data):: (\w+)$", section, flags=re.MULTILINE)
    assert len(named) == len(set(named))
    assert set(named) == public_names(module)


def test_what_integrations_are_built_of_is_still_there() -> None:
    assert PARTS.issubset(module_names())
