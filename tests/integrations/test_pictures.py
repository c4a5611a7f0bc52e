"""Pictures as SVG and PNG: drawn without any program beside Python, the same as what the text says."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum, auto
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from actorfsm import ActorFSMError, DefinitionError, Event, Machine, Unsupported, postpone, transition
from actorfsm.cli import main
from actorfsm.integrations.pictures import Picture
from examples.orders.order import Order

TEXT = "{http://www.w3.org/2000/svg}text"


class Light(StrEnum):
    RED = auto()
    GREEN = auto()
    DEAD = auto()


class Switch(Event): ...


class Break(Event): ...


class Signal(Machine[Light], initial=Light.RED, final=(Light.DEAD,)):
    @transition(Light.RED, to=Light.GREEN)
    def go(self, event: Switch) -> None: ...

    @postpone(Light.RED)
    @transition(Light.GREEN, to=Light.DEAD)
    def fail(self, event: Break) -> None: ...


@pytest.fixture(autouse=True)
def no_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing that is on the path can help."""
    monkeypatch.setenv("PATH", str(tmp_path))


def words(svg: str) -> list[str]:
    texts = [text.text or "" for text in ElementTree.fromstring(svg).iter(TEXT)]  # noqa: S314 -- our own
    return list(filter(None, (text.replace("\xa0", " ").strip() for text in texts)))


def test_an_svg_says_what_the_definition_says_and_can_stand_in_a_page() -> None:
    svg = Picture(Signal).svg
    assert svg.startswith("<svg")
    assert svg.endswith("</svg>")
    assert sorted(words(svg)) == sorted(
        ["Signal", "RED", "Break / postpone", "GREEN", "DEAD", "Spawn", "Switch", "Break"]
    )


@pytest.mark.parametrize("machine_class", [Order, Signal], ids=lambda machine_class: machine_class.__name__)
def test_a_notebook_shows_the_same_picture_each_time(machine_class: Any) -> None:
    picture = Picture(machine_class)
    assert picture._repr_svg_() == picture.svg == Picture(machine_class).svg


def test_a_png_has_as_many_dots_as_were_asked_for() -> None:
    def width(png: bytes) -> int:
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        return int(struct.unpack(">I", png[16:20])[0])

    coarse, fine = width(Picture(Signal, dpi=72).png), width(Picture(Signal, dpi=144).png)
    assert fine == pytest.approx(2 * coarse, abs=4)


def test_a_snapshot_is_drawn_with_its_state_marked(system_of: Any, sim: Any) -> None:
    async def scenario() -> None:
        async with system_of(Signal) as system:
            signal = await system.spawn(Signal, "s-1")
            await signal.ask(Switch())
            assert "#ffdd55" in Picture(signal.snapshot()).svg
            assert "#ffdd55" not in Picture(Signal).svg

    sim(scenario)


def test_threads_can_draw_at_once() -> None:
    with ThreadPoolExecutor(8) as threads:
        drawn = set(threads.map(lambda _: Picture(Signal).svg, range(40)))
    assert drawn == {Picture(Signal).svg}


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("s.svg", b"<svg"),
        ("s.PNG", b"\x89PNG"),
        ("s.dot", b'digraph "Signal"'),
        ("s.gv", b'digraph "Signal"'),
        ("s.mmd", b"stateDiagram-v2"),
        ("s.md", b"| state"),
    ],
)
def test_the_ending_of_a_file_says_what_is_drawn(tmp_path: Path, name: str, begins: bytes) -> None:
    path = Picture(Signal).save(tmp_path / name)
    assert path == tmp_path / name
    assert path.read_bytes().startswith(begins)


def test_an_ending_that_says_nothing_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ActorFSMError, match=r"s\.jpg: .* there are \.svg, \.png, "):
        Picture(Signal).save(tmp_path / "s.jpg")
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_text_is_still_drawn_and_a_picture_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    assert Picture(Signal).save(tmp_path / "s.mmd").exists()
    for ending in ("svg", "png"):
        with pytest.raises(Unsupported, match=r"pip install 'actorfsm\[diagrams\]'"):
            Picture(Signal).save(tmp_path / f"s.{ending}")


def test_what_is_no_machine_has_no_picture() -> None:
    with pytest.raises(DefinitionError):
        Picture(Machine)


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def diagram(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def diagram(*arguments: object) -> tuple[int, str, str]:
        status = main(["diagram", *map(str, arguments)])
        return status, *capsys.readouterr()

    return diagram


def test_the_command_writes_a_picture_and_says_where(tmp_path: Path, diagram: Any) -> None:
    path = tmp_path / "order.svg"
    assert diagram("examples.orders.order:Order", "-o", path) == (0, f"{path}\n", "")
    assert "APPROVED" in words(path.read_text())


def test_the_command_prints_mermaid_without_a_file(diagram: Any) -> None:
    assert diagram("examples.orders.order:Order") == (0, f"{Order:mermaid}\n", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["examples.orders.order"], "name a machine class as module:Class"),
        (["no_such_module:Order"], "cannot be imported"),
        (["examples.orders.order:Nobody"], "has no Nobody"),
        (["enum:Enum"], "not a machine"),
        (["examples.orders.order:Order", "-o", "x.jpg"], "its ending says what to draw"),
        (["examples.orders.order:Order", "-o", "no-such-folder/x.svg"], "No such file"),
    ],
)
def test_what_cannot_be_drawn_is_one_line_that_says_what_to_do(
    arguments: list[str], says: str, diagram: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = diagram(*arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err
    assert list(tmp_path.iterdir()) == []
