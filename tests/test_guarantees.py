"""The page of guarantees and the tests agree: a rule stands on the page if, and only if, tests hold it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "guarantees.md"
HEADING = re.compile(r"^## (C\d+) ", re.MULTILINE)
TEST_FILE = re.compile(r"`(tests/[\w/]+\.py)`")


def rules_marked_in(source: str) -> set[str]:
    """Return the rules that `pytest.mark.rule(...)` names in code, whatever stands in texts and comments."""
    return {
        argument.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.rule")
        for argument in node.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def sections_of(page: str) -> dict[str, str]:
    """Return the text below each heading that names a rule."""
    sections: dict[str, str] = {}
    for section in re.split(r"^(?=## )", page, flags=re.MULTILINE):
        heading = HEADING.match(section)
        if heading is not None:
            assert heading[1] not in sections, f"{heading[1]} stands on the page twice"
            sections[heading[1]] = section
    return sections


def complaints_about(page: str, marks: dict[str, set[str]]) -> list[str]:
    """Return what is wrong with a page.

    Args:
        page: Its text.
        marks: The rules marked in each file of tests, by the file's name.
    """
    sections = sections_of(page)
    marked = set().union(*marks.values())
    found = [f"{rule} is named and no test holds it" for rule in set(re.findall(r"\bC\d+\b", page)) - marked]
    found += [f"{rule} is held by tests and has no section" for rule in marked - set(sections)]
    for rule, section in sections.items():
        files = TEST_FILE.findall(section)
        if not files:
            found.append(f"{rule} names no file of tests")
        found += [f"{rule}: there is no {name}" for name in files if name not in marks]
        found += [f"{rule}: not marked in {name}" for name in files if rule not in marks.get(name, {rule})]
    return sorted(found)


def test_the_page_names_the_rules_that_tests_hold_and_no_others_with_files_that_hold_them() -> None:
    marks = {
        path.relative_to(ROOT).as_posix(): rules_marked_in(path.read_text(encoding="utf-8"))
        for path in (ROOT / "tests").rglob("test_*.py")
    }
    assert complaints_about(PAGE.read_text(encoding="utf-8"), marks) == []


def test_the_page_says_what_is_not_promised() -> None:
    assert "\n## Not promised\n" in PAGE.read_text(encoding="utf-8")


GOOD = "# Page\n\n## C1 One\n\nTests: `tests/test_a.py`\n\n## Not promised\n\n- much\n"


@pytest.mark.parametrize(
    ("page", "marks", "complaint"),
    [
        (GOOD, {"tests/test_a.py": set()}, "C1 is named and no test holds it"),
        (GOOD, {"tests/test_a.py": {"C1", "C2"}}, "C2 is held by tests and has no section"),
        (GOOD, {"tests/test_b.py": {"C1"}}, "C1: there is no tests/test_a.py"),
        (GOOD, {"tests/test_a.py": set(), "tests/test_b.py": {"C1"}}, "C1: not marked in tests/test_a.py"),
        (GOOD.replace("Tests:", "See C9."), {"tests/test_a.py": {"C1"}}, "C9 is named and no test holds it"),
        ("## C1 One\n\nIt holds.\n", {"tests/test_a.py": {"C1"}}, "C1 names no file of tests"),
    ],
)
def test_a_page_that_says_too_much_or_too_little_is_found_out(
    page: str, marks: dict[str, set[str]], complaint: str
) -> None:
    assert complaint in complaints_about(page, marks)


def test_a_page_that_agrees_with_its_tests_has_no_complaint() -> None:
    assert complaints_about(GOOD, {"tests/test_a.py": {"C1"}}) == []


def test_a_rule_counts_as_marked_in_code_only() -> None:
    source = """
pytestmark = [pytest.mark.rule("C1"), pytest.mark.slow]
text = '@pytest.mark.rule("C2")'  # pytest.mark.rule("C3")
@pytest.mark.rule("C4")
def test(): ...
"""
    assert rules_marked_in(source) == {"C1", "C4"}


def test_a_rule_that_stands_on_the_page_twice_is_found_out() -> None:
    with pytest.raises(AssertionError, match="C1 stands on the page twice"):
        sections_of(GOOD + GOOD)
