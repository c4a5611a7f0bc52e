"""The pages of the documentation do what they say: every Python block on them is run.

Blocks of one page share one namespace and are run from top to bottom. One with `await` outside of a function runs on
the simulated loop; nothing may be left behind at its end. A block marked `text output` is what the Python block above
it prints; so is one marked `mermaid`, which is a picture. A block marked `python no-run` is not run; how many a page
has of those is written down here.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from actorfsm.testing.loop import simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOT_RUN = {
    "docs/contributing.md": 2,
    "docs/how-to/run-on-postgresql.md": 3,  # they name a server; what they do is in tests/journal/test_postgresql*.py
    "docs/how-to/simulate-your-machine.md": 2,  # tests for pytest: run as such by tests/testing/test_plugin.py
}
FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>.*)$")


@dataclass(frozen=True)
class Block:
    info: str
    text: str
    line: int


def blocks_of(page: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page, with the number of the line before their first."""
    lines = page.splitlines()
    start: re.Match[str] | None = None
    first, inside = 0, list[str]()
    for number, text in enumerate(lines, 1):
        fence = FENCE.match(text)
        if start is None:
            if fence is not None:
                start, first, inside = fence, number, []
        elif fence is not None and fence["fence"].startswith(start["fence"]) and not fence["info"].strip():
            indent = len(start["indent"])
            yield Block(start["info"].strip(), "".join(f"{line[indent:]}\n" for line in inside), first)
            start = None
        else:
            inside.append(text)
    assert start is None, f"a block that begins in line {first} does not end"


def run(block: Block, page: str, namespace: dict[str, object]) -> None:
    """Run a block so that a traceback names the line of the page."""
    source = "\n" * block.line + block.text
    code = compile(source, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    if code.co_flags & inspect.CO_COROUTINE:
        simulate(lambda: eval(code, namespace))  # noqa: S307 -- it is our own page
    else:
        exec(code, namespace)  # noqa: S102 -- the same


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_python_block_of_the_page_runs_and_prints_what_the_page_says(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # what a page writes to a file
    module = ModuleType("page_" + re.sub(r"\W", "_", name_of(page)))
    monkeypatch.setitem(sys.modules, module.__name__, module)  # annotations are looked up there
    printed = ""
    for block in blocks_of(page.read_text(encoding="utf-8")):
        if block.info == "python":
            run(block, str(page), module.__dict__)
            printed = capsys.readouterr().out
        elif block.info in {"text output", "mermaid"}:
            assert block.text == printed, f"{name_of(page)}, line {block.line}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_python_block_of_the_page_escapes_by_another_name(page: Path) -> None:
    infos = [block.info for block in blocks_of(page.read_text(encoding="utf-8"))]
    assert all(infos), "a block without a name: text, console, python ..."
    assert {info for info in infos if "py" in info.lower()} <= {"python", "python no-run"}
    assert infos.count("python no-run") == NOT_RUN.get(name_of(page), 0)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_the_page_lead_to_files_that_are_there(page: Path) -> None:
    text = re.sub(
        r"^(```+)[^\n]*\n.*?^\1$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    missing = {link for link in links if "://" not in link and not (page.parent / link).exists()}
    assert missing == set()


def test_the_readme_and_the_tutorial_have_blocks_that_run() -> None:
    for page, least in (("README.md", 1), ("docs/tutorial.md", 10)):
        infos = [block.info for block in blocks_of((ROOT / page).read_text(encoding="utf-8"))]
        assert infos.count("python") >= least


def test_a_block_that_fails_is_reported_with_the_line_of_the_page() -> None:
    page = "# Title\n\n```python\nx = 1\nassert x == 2\n```\n"
    (block,) = blocks_of(page)
    with pytest.raises(AssertionError) as caught:
        run(block, "page.md", {})
    assert (str(caught.traceback[-1].path), caught.traceback[-1].lineno + 1) == ("page.md", 5)


def test_a_block_with_await_runs_on_the_simulated_loop() -> None:
    names: dict[str, object] = {}
    run(Block("python", "import asyncio\nawait asyncio.sleep(3600)\ndone = True\n", 0), "page.md", names)
    assert names["done"] is True


def test_a_page_whose_block_does_not_end_is_an_error() -> None:
    with pytest.raises(AssertionError, match="line 2 does not end"):
        list(blocks_of("text\n```python\nx = 1\n"))
