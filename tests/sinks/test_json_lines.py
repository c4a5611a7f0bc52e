"""The lean writer: whole lines of JSON, whatever is in them and whatever the file does."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from actorfsm import Record
from actorfsm.sinks import JSONLines
from actorfsm.sinks.json_lines import BLOCK_LINES, MAX_HEADS, MAX_REST

COMPLETE = Record(
    name="failed",
    machine="Order",
    machine_id="order-42",
    incarnation=1,
    seq=7,
    event_type="Pay",
    event_id="run-12",
    causation_id="run-11",
    correlation_id="run-1",
    source="CREATED",
    target="PAYING",
    reason="boom",
    hook="charge",
    queue_s=0.000123,
    run_s=0.25,
    traceparent="00-aa-bb-01",
    error=ValueError("boom"),
    event=object(),
    duplicate=True,
)


def lines_of(data: bytes | str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


@pytest.mark.rule("C30")
def test_a_line_has_all_fields_in_a_stable_order_and_a_time_in_utc() -> None:
    file = io.BytesIO()
    with JSONLines(file, clock=lambda: 1_767_312_000.25) as sink:
        sink(COMPLETE)
    [line] = lines_of(file.getvalue())
    assert list(line.items()) == [
        *(
            ("event", "failed"),
            ("level", "error"),
            ("machine", "Order"),
            ("event_type", "Pay"),
            ("source", "CREATED"),
        ),
        *(
            ("target", "PAYING"),
            ("hook", "charge"),
            ("machine_id", "order-42"),
            ("incarnation", 1),
            ("seq", 7),
        ),
        *(("event_id", "run-12"), ("correlation_id", "run-1"), ("queue_s", 0.000123), ("run_s", 0.25)),
        *(
            ("causation_id", "run-11"),
            ("reason", "boom"),
            ("traceparent", "00-aa-bb-01"),
            ("duplicate", True),
        ),
        ("timestamp", "2026-01-02T00:00:00.250Z"),
    ]


def test_what_a_record_does_not_have_is_left_out() -> None:
    file = io.StringIO()
    with JSONLines(file, clock=None) as sink:
        sink(Record("restarted", "Order", "order-42"))
    assert file.getvalue() == (
        '{"event":"restarted","level":"warning","machine":"Order","machine_id":"order-42","incarnation":0,"seq":0}\n'
    )


texts = st.text(max_size=20).map(lambda text: text or "x")


@given(
    record=st.builds(
        Record,
        *(
            texts,
            texts,
            texts,
            st.integers(0),
            st.integers(0),
            texts,
            texts,
            texts,
            texts,
            texts,
            texts,
            texts,
            texts,
        ),
        *(st.floats(0, 1e9), st.floats(0, 1e9), texts, st.none(), st.none(), st.booleans()),
    )
)
def test_any_text_comes_back_as_it_was_and_no_line_can_be_faked(record: Record) -> None:
    file = io.BytesIO()
    sink = JSONLines(file)
    sink(record)
    sink(record)
    sink.close()
    data = file.getvalue()
    assert data.isascii()
    assert not any((byte < 32 and byte != 10) or byte == 127 for byte in data)
    first, second = lines_of(data)
    assert first == second | {"timestamp": first["timestamp"]}
    for name in (
        "machine_id",
        "event_id",
        "causation_id",
        "correlation_id",
        "reason",
        "hook",
        "traceparent",
        "source",
    ):
        assert first[name] == getattr(record, name)
    assert first["queue_s"] == pytest.approx(record.queue_s, abs=1e-6)


def test_an_event_that_nobody_caused_has_no_cause() -> None:
    file = io.BytesIO()
    with JSONLines(file) as sink:
        sink(COMPLETE._replace(causation_id=None))
    assert "causation_id" not in lines_of(file.getvalue())[0]


def test_half_a_surrogate_is_escaped() -> None:
    file = io.BytesIO()
    with JSONLines(file) as sink:
        sink(COMPLETE._replace(reason="\ud800\x7f"))
    assert b"\\ud800" in file.getvalue()


def test_lines_wait_for_a_block_and_leave_whole(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    sink = JSONLines(path)
    for _ in range(BLOCK_LINES - 1):
        sink(COMPLETE)
    assert path.read_bytes() == b""
    sink(COMPLETE)
    assert len(lines_of(path.read_bytes())) == BLOCK_LINES
    sink(COMPLETE)
    sink.flush()
    assert len(lines_of(path.read_bytes())) == BLOCK_LINES + 1
    sink.flush()
    sink.close()
    assert len(lines_of(path.read_bytes())) == BLOCK_LINES + 1


def test_a_clock_that_stands_still_flushes_by_the_block_only() -> None:
    file = io.BytesIO()
    sink = JSONLines(file, clock=lambda: 1_767_312_000.0)
    for _ in range(2):
        sink(COMPLETE)
    assert file.getvalue() == b""
    sink.close()
    assert len(lines_of(file.getvalue())) == 2


def test_a_line_waits_a_second_at_most_for_the_next_one(tmp_path: Path) -> None:
    now = 1_767_312_000.0
    path = tmp_path / "trace.jsonl"
    with JSONLines(path, clock=lambda: now) as sink:
        sink(COMPLETE)
        now += 0.5
        sink(COMPLETE)
        assert path.read_bytes() == b""
        now += 0.5
        sink(COMPLETE)
        assert len(lines_of(path.read_bytes())) == 3
        sink(COMPLETE)
        assert len(lines_of(path.read_bytes())) == 3


def test_two_writers_of_one_path_do_not_tear_each_others_lines(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    with JSONLines(path) as one, JSONLines(path) as other:
        for number in range(1_000):
            one(COMPLETE._replace(machine_id="one", seq=number))
            other(COMPLETE._replace(machine_id="other", seq=number))
    written = lines_of(path.read_bytes())
    for machine_id in ("one", "other"):
        assert [line["seq"] for line in written if line["machine_id"] == machine_id] == list(range(1_000))


def test_lines_are_appended_to_those_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    for _ in range(2):
        with JSONLines(str(path)) as sink:
            sink(COMPLETE)
    assert len(lines_of(path.read_bytes())) == 2


def test_an_open_file_is_flushed_and_left_open() -> None:
    with io.BytesIO() as raw, io.BufferedWriter(raw) as file:
        with JSONLines(file) as sink:
            sink(COMPLETE)
        assert not file.closed
        assert len(lines_of(raw.getvalue())) == 1


def test_a_closed_writer_takes_no_more(tmp_path: Path) -> None:
    sink = JSONLines(tmp_path / "trace.jsonl")
    sink.close()
    sink.close()
    sink(COMPLETE)
    with pytest.raises(ValueError, match="closed"):
        sink.flush()


class Stubborn(io.RawIOBase):
    """A file that takes a few bytes at a time, and none while the disk is full."""

    def __init__(self) -> None:
        self.data = b""
        self.full = False
        self.taken = 0

    def write(self, data: Any) -> int:
        if self.full and self.taken >= 100:
            raise OSError(28, "No space left on device")
        part = bytes(data[:100])
        self.data += part
        self.taken += len(part)
        return len(part)


def test_a_full_disk_loses_no_line_and_tears_none() -> None:
    file = Stubborn()
    sink = JSONLines(file)
    file.full = True
    for number in range(3):
        sink(COMPLETE._replace(seq=number))
        with pytest.raises(OSError, match="No space"):
            sink.flush()
    file.full = False
    sink(COMPLETE._replace(seq=3))
    sink.close()
    assert [line["seq"] for line in lines_of(file.data)] == [0, 1, 2, 3]
    assert sink.lost == 0


def test_a_disk_that_stays_full_costs_bounded_memory_and_lost_lines_are_counted() -> None:
    file = Stubborn()
    file.full, file.taken = True, 100
    sink = JSONLines(file)
    for number in range(6):
        sink(COMPLETE._replace(seq=number, reason="x" * (MAX_REST // 2)))
        with pytest.raises(OSError, match="No space"):
            sink.flush()
    assert sink.lost == 4
    file.full = False
    file.write = lambda data: file.__dict__.update(data=file.data + data) or len(data)  # type: ignore[method-assign]
    sink(COMPLETE._replace(seq=6))
    sink.close()
    assert [line["seq"] for line in lines_of(file.data)] == [0, 1]
    assert sink.lost == 5


def test_kinds_without_end_cost_bounded_memory() -> None:
    sink = JSONLines(io.BytesIO())
    for number in range(3 * MAX_HEADS):
        sink(COMPLETE._replace(hook=f"hook-{number}"))
    assert len(sink._heads) <= MAX_HEADS
