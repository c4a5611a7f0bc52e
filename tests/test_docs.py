"""The pages of the documentation do what they say: every Python block on them is run.

Blocks of one page share one namespace and are run from top to bottom. One with `await` outside of a function runs on
the simulated loop; nothing may be left behind at its end. A block marked `text output` is what the block above it
prints; so is one marked `mermaid`, which is a picture. A block marked `python no-run` is not run; how many a page has
of those is written down here.

A page may also be a session at a terminal. A block marked with the name of a file, such as `python light.py` or
`json events.jsonl`, is saved under it. The lines of one marked `console run` are run where the files are, and have to
end well, or as `console run exits 1` says. `text output like` is output with times and ids of that run.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

import actorfsm
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
WITH_SERVER = {"docs/how-to/rows-with-a-transition.md"}
"""Pages whose code finds a PostgreSQL server at DATABASE_URL."""
FILE = re.compile(r"\w+ (?P<name>[\w-]+\.\w+)")
CONSOLE = re.compile(r"console run(?: exits (?P<status>\d+))?")
OF_ONE_RUN = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?"), "TIME"),
    (re.compile(r"\+\d+:\d\d:\d\d(\.\d+)?"), "LATER"),
    (re.compile(r"\b[0-9a-f]{12}(?=[-.]\d)"), "ID"),
    (re.compile(r"\b[\d,]+ a second"), "RATE"),
    (re.compile(r" +"), " "),  # what aligns these
)
SERVERS = {"docs/how-to/mongodb.md": ("MONGODB_URL", "mongodb_fake")}
"""Pages that ask the environment where a server is: the variable, and the fixture of the server."""
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


def run_commands(block: Block, status: int, folder: Path) -> str:
    """Run the lines of a console block, as its reader does; return what is seen then."""
    lines = block.text.splitlines()
    assert all(line.startswith("$ ") for line in lines), f"line {block.line}: no prompt"
    environment = {
        **os.environ,
        "COLUMNS": "100",
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "PYTHONPATH": str(Path(actorfsm.__file__).parents[1]),  # installed or not
    }
    done = subprocess.run(
        ["bash", "-c", "\n".join(line.removeprefix("$ ") for line in lines)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == status, f"line {block.line}: {done.stdout}"
    return done.stdout


def without_what_is_of_one_run(text: str) -> str:
    for pattern, word in OF_ONE_RUN:
        text = pattern.sub(word, text)
    return text


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.timeout(300)  # a page with commands starts an interpreter for each
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_python_block_of_the_page_runs_and_prints_what_the_page_says(
    page: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    if name_of(page) in WITH_SERVER:
        monkeypatch.setenv("DATABASE_URL", request.getfixturevalue("postgresql_server").url())
    monkeypatch.chdir(tmp_path)  # what a page writes to a file
    if name_of(page) in SERVERS:
        variable, server = SERVERS[name_of(page)]
        monkeypatch.setenv(variable, request.getfixturevalue(server).url())
    module = ModuleType("page_" + re.sub(r"\W", "_", name_of(page)))
    monkeypatch.setitem(sys.modules, module.__name__, module)  # annotations are looked up there
    printed = ""
    for block in blocks_of(page.read_text(encoding="utf-8")):
        if block.info == "python":
            run(block, str(page), module.__dict__)
            printed = capsys.readouterr().out
        elif console := CONSOLE.fullmatch(block.info):
            printed = run_commands(block, int(console["status"] or 0), tmp_path)
        elif file := FILE.fullmatch(block.info):
            (tmp_path / file["name"]).write_text(block.text, encoding="utf-8")
        elif block.info in {"text output", "mermaid"}:
            assert block.text == printed, f"{name_of(page)}, line {block.line}"
        elif block.info == "text output like":
            seen = without_what_is_of_one_run(printed)
            assert without_what_is_of_one_run(block.text) == seen, (
                f"{name_of(page)}, line {block.line}:\n{printed}"
            )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_python_block_of_the_page_escapes_by_another_name(page: Path) -> None:
    infos = [block.info for block in blocks_of(page.read_text(encoding="utf-8"))]
    assert all(infos), "a block without a name: text, console, python ..."
    others = {info for info in infos if "py" in info.lower() and not FILE.fullmatch(info)}
    assert others <= {"python", "python no-run"}
    assert all(CONSOLE.fullmatch(info) for info in infos if info.startswith("console "))
    assert all(info in {"text output", "text output like"} for info in infos if info.startswith("text "))
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
    infos_of = {
        page: [block.info for block in blocks_of((ROOT / page).read_text(encoding="utf-8"))]
        for page in ("README.md", "docs/tutorial.md")
    }
    assert "python" in infos_of["README.md"]
    assert sum(CONSOLE.fullmatch(info) is not None for info in infos_of["docs/tutorial.md"]) >= 8


def test_each_program_of_the_tutorial_is_run_by_a_command() -> None:
    blocks = list(blocks_of((ROOT / "docs/tutorial.md").read_text(encoding="utf-8")))
    text = "".join(block.text for block in blocks)
    saved = [file["name"] for block in blocks if (file := FILE.fullmatch(block.info))]
    for name in saved:
        module = name.removesuffix(".py")
        assert f"$ python {name}\n" in text or f"from {module} import" in text, name


def test_a_command_that_does_not_end_as_the_page_says_is_reported_with_what_it_printed(
    tmp_path: Path,
) -> None:
    with pytest.raises(AssertionError, match="line 3: so it was\n"):
        run_commands(Block("console run", "$ echo so it was\n$ exit 1\n", 3), 0, tmp_path)


def test_output_of_another_run_is_alike_but_for_times_and_ids() -> None:
    one, other = (
        f"1  2026-11-25 {time}  +0:00:0{rest}  committed  {name}-1\n"
        for time, rest, name in (
            ("01:47:20.188", "0.1", "4143e1e3ef13.1"),
            ("22:00:00.5", "1", "bb43e1e3ef13.1"),
        )
    )
    assert one != other
    assert without_what_is_of_one_run(one) == without_what_is_of_one_run(other)
    assert without_what_is_of_one_run(one) != without_what_is_of_one_run(one.replace("committed", "vetoed"))


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
