"""The structlog sink: one canonical line for each record."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
import structlog
from pydantic import BaseModel, Field, SecretStr

from actorfsm import Event, HookFailed, Record, Vetoed
from actorfsm.sinks import StructlogSink


class Card(BaseModel):
    holder: str
    number: str = Field(repr=False)


class Pay(Event[None]):
    amount: Decimal
    password: SecretStr
    card: Card
    note: str = Field(default="internal", repr=False)


COMPLETE = Record(
    name="committed",
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
    reason="because",
    hook="charge",
    queue_s=0.00012345,
    run_s=0.25,
    traceparent="00-aa-bb-01",
    error=None,
    event=Pay(amount=Decimal("9.90"), password=SecretStr("hunter2"), card=Card(holder="Ann", number="4111")),
    duplicate=True,
)


class Lines:
    """A logger that keeps what reaches the end of the chain."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self.binds = 0
        self.logger = structlog.wrap_logger(
            structlog.PrintLogger(),
            processors=[self._keep],
            wrapper_class=self._wrapper(),
            cache_logger_on_first_use=False,
        )

    def _wrapper(self) -> Any:
        counted = self

        class Wrapper(structlog.make_filtering_bound_logger(0)):  # type: ignore[misc]
            def bind(self, **values: Any) -> Any:
                counted.binds += 1
                return super().bind(**values)

        return Wrapper

    def _keep(self, logger: Any, method: str, fields: dict[str, Any]) -> dict[str, Any]:
        self.lines.append((method, dict(fields)))
        raise structlog.DropEvent


@pytest.mark.rule("C30")
def test_a_line_has_all_fields_in_a_stable_order_and_no_payload() -> None:
    lines = Lines()
    StructlogSink(logger=lines.logger)(COMPLETE)
    [(level, fields)] = lines.lines
    assert level == "info"
    assert list(fields) == [
        *(
            "machine",
            "machine_id",
            "incarnation",
            "seq",
            "event_type",
            "event_id",
            "causation_id",
            "correlation_id",
        ),
        *("source", "target", "hook", "reason", "queue_s", "run_s", "traceparent", "duplicate", "event"),
    ]
    assert fields["event"] == "committed"
    assert (fields["queue_s"], fields["run_s"]) == (0.000123, 0.25)
    assert "9.90" not in str(fields)


def test_what_a_record_does_not_have_is_left_out() -> None:
    lines = Lines()
    StructlogSink(logger=lines.logger, payload=True)(Record("restarted", "Order", "order-42", 1, 7))
    [(_, fields)] = lines.lines
    assert fields == {
        "machine": "Order",
        "machine_id": "order-42",
        "incarnation": 1,
        "seq": 7,
        "event": "restarted",
    }


def test_a_payload_is_shown_on_request_without_secrets() -> None:
    lines = Lines()
    StructlogSink(logger=lines.logger, payload=True)(COMPLETE)
    [(_, fields)] = lines.lines
    assert fields["payload"] == {"amount": "9.90", "password": "**********", "card": {"holder": "Ann"}}
    assert json.dumps(fields)


@pytest.mark.parametrize(
    ("name", "level"),
    [
        *(
            ("committed", "info"),
            ("vetoed", "info"),
            ("stopped", "info"),
            ("released", "info"),
            ("new", "info"),
        ),
        *(
            ("unhandled", "warning"),
            ("expired", "warning"),
            ("dead_lettered", "warning"),
            ("restarted", "warning"),
        ),
        *(
            ("failed", "error"),
            ("after_hook_failed", "error"),
            ("callback_failed", "error"),
            ("quarantined", "error"),
        ),
    ],
)
def test_the_level_tells_whether_somebody_should_look(name: str, level: str) -> None:
    lines = Lines()
    StructlogSink(logger=lines.logger)(COMPLETE._replace(name=name))
    assert lines.lines[0][0] == level


def test_a_logger_is_bound_once_per_machine_class() -> None:
    lines = Lines()
    sink = StructlogSink(logger=lines.logger.bind())
    lines.binds = 0
    for machine in ("Order", "Ledger", "Order", "Ledger"):
        sink(COMPLETE._replace(machine=machine))
    assert lines.binds == 2
    assert [fields["machine"] for _, fields in lines.lines] == ["Order", "Ledger", "Order", "Ledger"]


def test_a_logger_is_bound_anew_when_structlog_is_configured_anew(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        structlog.configure(processors=[structlog.processors.KeyValueRenderer(["event"])])
        sink = StructlogSink()
        sink(COMPLETE)
        structlog.configure(processors=[structlog.processors.JSONRenderer()])
        sink(COMPLETE)
    finally:
        structlog.reset_defaults()
    first, second = capsys.readouterr().out.splitlines()
    assert "event='committed'" in first
    assert json.loads(second)["machine"] == "Order"


@pytest.mark.parametrize(
    "field", ["machine_id", "event_id", "causation_id", "correlation_id", "reason", "hook", "traceparent"]
)
def test_text_from_outside_cannot_begin_a_line_or_talk_to_the_terminal(field: str) -> None:
    lines = Lines()
    StructlogSink(logger=lines.logger)(COMPLETE._replace(**{field: "a\n\x1b[31mFAKE\r\u202eb\x85\ud800"}))
    assert lines.lines[0][1][field] == "a\\n\\x1b[31mFAKE\\r\\u202eb\\x85\\ud800"


def failing(secret: str) -> None:
    raise ValueError("boom")


def raised(secret: str) -> BaseException:
    try:
        failing(secret)
    except ValueError as error:
        failure = HookFailed("order-42: Pay failed in charge", hook="charge")
        failure.__cause__ = error
        return failure
    raise AssertionError


@pytest.mark.parametrize(
    "name", ["failed", "after_hook_failed", "callback_failed", "quarantined", "dead_lettered"]
)
def test_an_exception_is_rendered_with_its_frames_and_without_local_variables(name: str) -> None:
    lines = Lines()
    StructlogSink(logger=lines.logger)(COMPLETE._replace(name=name, error=raised("hun" + "ter2")))
    text = lines.lines[0][1]["exception"]
    assert text.startswith("Traceback (most recent call last):\n")
    assert "in failing" in text
    assert "ValueError: boom\n" in text
    assert text.endswith("HookFailed: order-42: Pay failed in charge")
    assert "hunter2" not in text


def test_a_refusal_has_no_traceback() -> None:
    lines = Lines()
    error = Vetoed("no", by="charge", reason="card declined")
    StructlogSink(logger=lines.logger)(COMPLETE._replace(name="vetoed", error=error))
    assert "exception" not in lines.lines[0][1]
