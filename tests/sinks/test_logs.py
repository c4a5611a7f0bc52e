"""The ready configuration of structlog."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from actorfsm import ActorFSMError, Record, logs
from actorfsm.sinks import StructlogSink

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD = Record("committed", "Order", "order-42", 0, 1, "Pay", "run-1", None, "run-1", "CREATED", "PAYING")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _configured_by_nobody() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def test_a_terminal_gets_coloured_lines() -> None:
    terminal = Terminal()
    logs.configure(terminal)
    StructlogSink()(RECORD)
    [line] = terminal.getvalue().splitlines()
    assert "\x1b[" in line
    assert "order-42" in line


def test_anything_else_gets_json_lines_with_times_in_utc() -> None:
    stream = io.StringIO()
    logs.configure(stream)
    StructlogSink()(RECORD)
    [line] = map(json.loads, stream.getvalue().splitlines())
    assert line["event"] == "committed"
    assert line["level"] == "info"
    assert line["machine_id"] == "order-42"
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)


@pytest.mark.parametrize("level", ["error", "ERROR", logging.ERROR])
def test_lines_below_the_level_are_not_written(level: Any) -> None:
    stream = io.StringIO()
    logs.configure(stream, level=level)
    StructlogSink()(RECORD)
    StructlogSink()(RECORD._replace(name="failed"))
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["failed"]


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ActorFSMError, match="level='loud': one of critical, debug"):
        logs.configure(level="loud")


def test_configuring_twice_writes_each_line_once() -> None:
    stream = io.StringIO()
    logs.configure(stream)
    sink = StructlogSink()
    sink(RECORD)
    logs.configure(stream)
    sink(RECORD)
    assert len(stream.getvalue().splitlines()) == 2


def test_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    StructlogSink()(RECORD)
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["event"] == "committed"


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_exceptions_are_rendered_without_local_variables(stream: io.StringIO) -> None:
    logs.configure(stream)

    def failing(secret: str) -> None:
        raise ValueError("boom")

    try:
        failing("hun" + "ter2")
    except ValueError:
        structlog.get_logger().exception("sad")
    assert "ValueError: boom" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_importing_the_package_configures_nothing() -> None:
    code = "import structlog, actorfsm, actorfsm.logs, actorfsm.sinks; assert not structlog.is_configured()"
    subprocess.run([sys.executable, "-c", code], check=True)
