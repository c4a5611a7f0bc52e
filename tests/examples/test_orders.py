"""The orders example: what it makes of every kind of line, of logs that are long, broken off or interrupted."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Self

import pytest
from hypothesis import given, strategies as st

from actorfsm import ActorSystem
from examples.orders.__main__ import drive, main
from examples.orders.feed import WINDOW, Account, Feeder
from examples.orders.log import MAX_LINE_BYTES, SHIPPED, BadLine, Log, LogError, Splitter, parse
from examples.orders.order import Order, OrderState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

ROOT = Path(__file__).parents[2]
REAL = ROOT / "../shared/data/olist_events.jsonl.gz"

PLACED = {
    "customer_id": "c-1",
    "city": "porto verde",
    "state": "SP",
    "items": 1,
    "total": 72.89,
    "freight": 63.34,
    "payments": [{"type": "credit_card", "installments": 1, "value": 136.23}],
    "estimated_delivery": "2016-10-20T00:00:00",
    "shipping_limit": None,
}


def line(order: str, event: str, seq: int = 0, **fields: Any) -> bytes:
    if event == "OrderPlaced":
        fields = {**PLACED, **fields}
    if event.startswith("Review"):
        fields.setdefault("review_id", "r-1")
    if event == "ReviewAnswered":
        fields.setdefault("score", 5)
    known = {"machine_id": order, "event": event, "at": "2016-09-04T21:15:19", "seq": seq}
    return json.dumps(known | fields).encode()


class Lines:
    """A log in memory: what a test says is read, as many lines at a time as it says."""

    def __init__(
        self, *chunks: Iterable[bytes], pause_s: float = 0, error: BaseException | None = None
    ) -> None:
        self.chunks = [list(chunk) for chunk in chunks]
        self.pause_s = pause_s
        self.error = error
        self.progress = None

    async def lines(self) -> AsyncIterator[list[bytes]]:
        for chunk in self.chunks:
            await asyncio.sleep(self.pause_s)
            yield chunk
        if self.error is not None:
            raise self.error


class Run:
    """A system of orders with its feeder, and what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.account = Account()
        self.system = ActorSystem(Order, trace=self.account, random=Random(7))

    async def __aenter__(self) -> Self:
        await self.system.__aenter__()
        self.feeder = Feeder(self.system, self.account, self.said.append)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.system.__aexit__(*error)

    async def feed(self, *lines: bytes) -> Run:
        await self.feeder.feed(Lines(lines))
        await self.feeder.settle()
        return self

    def state(self, order: str) -> OrderState:
        return self.system.snapshot(order).state

    def outcomes(self) -> dict[str, int]:
        return dict(self.account.outcomes)


# -- lines ----------------------------------------------------------------------------------------------------------

BAD_LINES = {
    "not JSON": (b'{"machine_id": "o-1", ', "not JSON: EOF"),
    "not an object": (b"[1, 2]", "not a JSON object but list"),
    "a number": (b"17", "not a JSON object but int"),
    "not UTF-8": (b'{"machine_id": "\xff\xfe"}', "not JSON: invalid unicode code point"),
    "NaN": (line("o-1", "OrderPlaced", total=float("nan")), "not JSON: expected value"),
    "300 kB": (line("o-1", "OrderPlaced", city="x" * 300_000), "longer than 65,536 bytes"),
    "10,000 deep": (b"[" * 10_000 + b"]" * 10_000, "not JSON: recursion limit exceeded"),
    "no machine id": (b'{"event": "OrderPlaced"}', "no machine_id"),
    "a number as machine id": (b'{"machine_id": 1, "event": "Canceled"}', "the machine_id is not a string"),
    "no event": (b'{"machine_id": "o-1"}', "no event"),
    "unknown event": (line("o-1", "OrderEaten"), "unknown event OrderEaten"),
    "an event that is no name": (b'{"machine_id": "o-1", "event": ["x"]}', "unknown event ['x']"),
    "missing field": (line("o-1", "ReviewAnswered", score=None), "not a ReviewAnswered: score: "),
    "extra field": (line("o-1", "PaymentApproved", color="red"), "not a PaymentApproved: "),
    "negative money": (line("o-1", "OrderPlaced", total=-1), "not a OrderPlaced: total: "),
    "a payment of an unknown kind": (
        line("o-1", "OrderPlaced", payments=[{"type": "shells", "installments": 1, "value": 1}]),
        "not a OrderPlaced: payments.0.type: ",
    ),
    "a time that is none": (line("o-1", "PaymentApproved", at="soon"), "not a PaymentApproved: at: "),
}


@pytest.mark.parametrize(("bad", "why"), BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_bad_line_says_why_it_is_one(bad: bytes, why: str) -> None:
    with pytest.raises(BadLine) as caught:
        parse(bad[: MAX_LINE_BYTES + 1])
    assert str(caught.value).startswith(why)


def test_what_is_said_of_a_bad_line_is_short_and_holds_no_control_characters() -> None:
    for name in ("\x1b[31mred\x07\n" + "x" * 1000, "\u202e" * 50, "x" * 60_000):
        with pytest.raises(BadLine) as caught:
            parse(line("o-1", name))
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 100


def test_what_is_said_of_a_bad_line_names_fields_and_not_their_values() -> None:
    with pytest.raises(BadLine) as caught:
        parse(line("o-1", "OrderPlaced", state="secret-4711"))
    assert "state" in str(caught.value)
    assert "4711" not in str(caught.value)


def test_money_is_exact() -> None:
    entry = parse(line("o-1", "OrderPlaced", total=0.1, freight=0.2))
    assert (str(entry.event.total), str(entry.event.freight)) == ("0.1", "0.2")
    assert str(entry.event.payments[0].value) == "136.23"


@given(st.binary(max_size=300), st.lists(st.integers(1, 40)))
def test_a_log_gives_the_same_lines_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    splitter, lines, rest = Splitter(limit=16), [], data
    for cut in cuts:
        lines += splitter.feed(rest[:cut])
        rest = rest[cut:]
    lines += [*splitter.feed(rest), *splitter.end()]
    whole = data.split(b"\n")
    if not whole[-1]:
        whole.pop()
    assert [found[:17] for found in lines] == [expected[:17] for expected in whole]


def test_a_line_without_end_takes_no_more_memory_than_one_that_is_too_long() -> None:
    splitter = Splitter(limit=100)
    for _ in range(1000):
        assert list(splitter.feed(b"x" * 50)) == []
        assert len(splitter._rest) <= 151
    (only,) = splitter.end()
    assert len(only) > 100


# -- orders ---------------------------------------------------------------------------------------------------------

PATHS = {
    "as it should be": (
        "OrderPlaced PaymentApproved Invoiced ProcessingStarted HandedToCarrier DeliveredToCustomer",
        OrderState.DELIVERED,
        {"committed": 6},
    ),
    "handed over before the approval": (
        "OrderPlaced HandedToCarrier PaymentApproved",
        OrderState.SHIPPED,
        {"committed": 3},
    ),
    "delivered before the hand-over": (
        "OrderPlaced PaymentApproved DeliveredToCustomer HandedToCarrier",
        OrderState.DELIVERED,
        {"committed": 4},
    ),
    "everything before the approval": (
        "OrderPlaced DeliveredToCustomer HandedToCarrier PaymentApproved",
        OrderState.DELIVERED,
        {"committed": 4},
    ),
    "canceled after the delivery": (
        "OrderPlaced PaymentApproved HandedToCarrier DeliveredToCustomer Canceled",
        OrderState.DELIVERED,
        {"committed": 4, "unhandled": 1},
    ),
    "canceled on its way": (
        "OrderPlaced PaymentApproved HandedToCarrier Canceled",
        OrderState.CANCELED,
        {"committed": 4},
    ),
    "canceled with a hand-over that waits": (
        "OrderPlaced HandedToCarrier Canceled",
        OrderState.CANCELED,
        {"committed": 2, "unhandled": 1},
    ),
    "not to be had": (
        "OrderPlaced PaymentApproved MarkedUnavailable",
        OrderState.UNAVAILABLE,
        {"committed": 3},
    ),
    "reviewed at any time": (
        "OrderPlaced ReviewSurveySent PaymentApproved HandedToCarrier DeliveredToCustomer ReviewAnswered",
        OrderState.DELIVERED,
        {"committed": 6},
    ),
    "placed twice": ("OrderPlaced OrderPlaced", OrderState.PLACED, {"committed": 1, "unhandled": 1}),
    "surveyed before it was placed": (
        "ReviewSurveySent OrderPlaced ReviewAnswered",
        OrderState.PLACED,
        {"committed": 2, "dead_lettered": 1},
    ),
}


@pytest.mark.parametrize(("events", "state", "outcomes"), PATHS.values(), ids=PATHS.keys())
def test_an_order_goes_where_its_events_lead_it(
    events: str, state: OrderState, outcomes: dict[str, int], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with Run() as run:
            await run.feed(*(line("o-1", event, seq) for seq, event in enumerate(events.split())))
            assert (run.state("o-1"), run.outcomes(), run.said) == (state, outcomes, [])

    sim(scenario)


def test_an_order_keeps_what_its_events_say(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with Run() as run:
            await run.feed(
                line("o-1", "OrderPlaced"),
                line("o-1", "PaymentApproved", at="2016-09-05T08:00:00"),
                line("o-1", "ReviewSurveySent"),
                line("o-1", "ReviewAnswered", score=2),
                line("o-1", "ReviewAnswered", score=4),
            )
            data = run.system.snapshot("o-1").data
            assert (str(data["paid"]), data["scores"], data["surveys_sent"]) == ("136.23", (2, 4), 1)
            assert data["approved_at"].isoformat() == "2016-09-05T08:00:00"

    sim(scenario)


# -- feeding --------------------------------------------------------------------------------------------------------


def test_bad_lines_are_reported_with_their_numbers_and_the_reading_goes_on(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with Run() as run:
            await run.feed(
                line("o-1", "OrderPlaced"),
                b"oops",
                b"  \r",
                line("bad\nid", "OrderPlaced"),
                line("x" * 201, "OrderPlaced"),
                line("", "OrderPlaced"),
                line("o-1", "PaymentApproved"),
            )
            assert run.state("o-1") is OrderState.APPROVED
            assert [said.split(":")[0] for said in run.said] == ["line 2", "line 4", "line 5", "line 6"]
            assert all(said.isprintable() and len(said) < 300 for said in run.said)
            account = run.account
            assert (account.lines, account.blank, account.bad, account.sent) == (7, 1, 4, 2)
            assert run.system.ids(Order) == ["o-1"]

    sim(scenario)


def test_events_for_unknown_orders_are_dead_letters_and_create_none(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with Run() as run:
            await run.feed(
                line("o-9", "PaymentApproved"), line("o-9", "ReviewSurveySent"), line("o-1", "OrderPlaced")
            )
            assert run.outcomes() == {"dead_lettered": 2, "committed": 1}
            assert [letter.machine_id for letter in run.system.dead_letters] == ["o-9", "o-9"]
            assert run.system.ids(Order) == ["o-1"]

    sim(scenario)


@pytest.mark.rule("C4")
def test_a_mailbox_never_overflows_and_the_order_of_events_is_kept(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with Run() as run:
            most, tell = 0, run.system.tell

            def watching(*arguments: Any) -> Any:
                nonlocal most
                most = max(most, run.account.under_way)
                return tell(*arguments)

            run.system.tell = watching
            scores = [1 + n % 5 for n in range(3000)]
            answers = (line("o-1", "ReviewAnswered", n, score=score) for n, score in enumerate(scores))
            await run.feed(line("o-1", "OrderPlaced"), *answers)
            assert run.outcomes() == {"committed": 3001}
            assert list(run.system.snapshot("o-1").data["scores"]) == scores
            assert most == WINDOW

    sim(scenario, seeds=range(2))


@pytest.mark.rule("C6")
def test_postponed_events_do_not_block_the_road(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with Run() as run:
            early = [f"o-{n}" for n in range(WINDOW + 100)]
            await run.feed(
                *(line(order, "OrderPlaced") for order in early),
                *(line(order, "HandedToCarrier") for order in early),
                line("late", "OrderPlaced"),
            )
            summary = run.feeder.summary(1.0)
            assert (summary.postponed, summary.outcomes["committed"]) == (len(early), len(early) + 1)
            await run.feed(*(line(order, "PaymentApproved") for order in early))
            summary = run.feeder.summary(1.0)
            assert (summary.postponed, summary.orders["SHIPPED"], summary.orders["PLACED"]) == (
                0,
                len(early),
                1,
            )

    sim(scenario, seeds=range(2))


@pytest.mark.rule("C11")
def test_an_order_that_floods_its_own_waiting_room_loses_nothing_unseen(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with Run() as run:
            flood = 1500
            await run.feed(
                line("o-1", "OrderPlaced"),
                *(line("o-1", "HandedToCarrier", n) for n in range(flood)),
                line("o-2", "OrderPlaced"),
            )
            summary = run.feeder.summary(1.0)
            assert summary.outcomes["dead_lettered"] + summary.postponed == flood
            assert summary.postponed > 0
            assert run.state("o-2") is OrderState.PLACED

    sim(scenario, seeds=range(2))


@pytest.mark.rule("C7")
def test_the_senders_books_agree_with_the_systems_own(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lines = gzip.decompress(SHIPPED.read_bytes()).splitlines()[:1500]
        async with Run() as run:
            await run.feed(*lines)
            stats, account = run.system.stats(), run.account
            assert account.lines == account.blank + account.bad + account.ended + stats.postponed
            assert stats.outcomes["committed"] == account.outcomes["committed"]
            assert stats.outcomes["unhandled"] == account.outcomes["unhandled"]
            assert stats.dead_letters == account.outcomes["dead_lettered"]
            assert stats.accepted == account.sent - stats.refused

    sim(scenario, seeds=range(2))


def test_progress_is_told_about_every_second_once_it_takes_long(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with Run() as run:
            chunks = [[line("o-1", "ReviewSurveySent")] for _ in range(40)]
            await run.feeder.feed(Lines(*chunks, pause_s=0.125))
            assert [said.split(" lines")[0] for said in run.said] == ["16", "24", "32", "40"]
            assert run.said[0] == "16 lines, 8 per second"

    sim(scenario)


def test_a_short_log_is_read_without_a_word(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with Run() as run:
            await run.feeder.feed(Lines(*[[line("o-1", "OrderPlaced")]] * 10, pause_s=0.1))
            assert run.said == []

    sim(scenario)


@pytest.mark.rule("C19")
def test_an_interrupted_run_finishes_what_was_read_and_tells_it(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        read = [[line("o-1", "OrderPlaced"), line("o-1", "PaymentApproved")], [line("o-2", "OrderPlaced")]]
        running = asyncio.create_task(drive(Lines(*read, pause_s=1)))
        await asyncio.sleep(1.5)
        running.cancel()
        summary = await running
        assert summary.interrupted
        assert (summary.lines, summary.events, summary.outcomes["committed"]) == (2, 2, 2)
        assert summary.orders["APPROVED"] == 1
        assert str(summary).startswith("Not the whole log")

    sim(scenario)


def test_a_log_that_breaks_off_is_told_up_to_there(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        summary = await drive(Lines([line("o-1", "OrderPlaced")], error=LogError("log: it broke")))
        assert (summary.broken_off, summary.outcomes["committed"]) == ("log: it broke", 1)
        assert str(summary).startswith("Not the whole log")

    sim(scenario)


# -- the program ----------------------------------------------------------------------------------------------------


def run_orders(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "examples.orders", *arguments]
    return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, check=False)


def summary_of(output: str | bytes) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads(output)
    del summary["seconds"]
    return summary


def test_without_arguments_it_reads_the_log_that_comes_with_it() -> None:
    done = run_orders()
    said = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b"")
    assert said.startswith("1,000 orders by state\n")
    assert "events per second" in said
    rows = dict(row.strip().rsplit(maxsplit=1) for row in said.splitlines() if row.startswith("  "))
    expected = fold_log(gzip.decompress(SHIPPED.read_bytes()).splitlines())
    assert {name: int(rows[name.lower()].replace(",", "")) for name in OrderState.__members__} == {
        name: Counter(expected.states.values())[name] for name in OrderState.__members__
    }
    assert int(rows["still waiting"]) == expected.totals["waiting"] > 0
    assert int(rows["dead lettered"]) == expected.totals["lost"] > 0
    assert int(rows["unhandled"]) == expected.totals["unhandled"] > 0


def test_a_file_plain_or_gzipped_and_the_standard_input_give_the_same_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = b"\n".join(
        [line("o-1", "OrderPlaced"), b"oops", line("o-1", "PaymentApproved"), line("o-2", "Canceled")]
    )
    bad = "line 2: not JSON: expected value at line 1 column 1\n"
    summaries = []
    for name, content in (("log.jsonl", data), ("log.jsonl.gz", gzip.compress(data))):
        (tmp_path / name).write_bytes(content)
        assert main([str(tmp_path / name), "--json"]) == 0
        captured = capsys.readouterr()
        assert captured.err == bad
        summaries.append(summary_of(captured.out))
    for stdin in (data, gzip.compress(data)):
        done = run_orders("-", "--json", stdin=stdin)
        assert (done.returncode, done.stderr.decode()) == (0, bad)
        summaries.append(summary_of(done.stdout))
    first = summaries[0]
    assert summaries == [first] * 4
    assert (first["lines"], first["bad"], first["events"]) == (4, 1, 3)
    assert (first["outcomes"]["committed"], first["outcomes"]["dead_lettered"]) == (2, 1)


@pytest.mark.parametrize("missing", ["no-such-log.jsonl", "."])
def test_a_file_that_cannot_be_read_is_one_line_and_status_2(
    missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([missing]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"orders: {missing}: ")
    assert captured.err.count("\n") == 1


def test_compressed_data_that_ends_in_the_middle_is_told_after_the_summary_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = gzip.compress(b"\n".join(line(f"o-{n}", "OrderPlaced") for n in range(2000)))
    (tmp_path / "log.gz").write_bytes(whole[:-10])
    assert main([str(tmp_path / "log.gz")]) == 2
    captured = capsys.readouterr()
    assert captured.out.startswith("Not the whole log")
    assert captured.err.endswith("the compressed data ends in the middle\n")


def test_compressed_data_that_is_damaged_is_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = gzip.compress(b"\n".join(line(f"o-{n}", "OrderPlaced") for n in range(2000)))
    (tmp_path / "log.gz").write_bytes(whole[:200] + b"\x00" * 200 + whole[400:])
    assert main([str(tmp_path / "log.gz")]) == 2
    captured = capsys.readouterr()
    assert captured.out.startswith("Not the whole log")
    assert captured.err.splitlines()[-1].startswith("orders: ")
    assert "Traceback" not in captured.err


def test_an_empty_log_is_no_error() -> None:
    done = run_orders("-", "--json")
    assert (done.returncode, summary_of(done.stdout)["lines"]) == (0, 0)


def test_the_trace_is_a_line_of_json_for_each_event_on_the_standard_error() -> None:
    done = run_orders("-", "--trace", stdin=line("o-1", "OrderPlaced") + b"\n" + line("o-9", "Canceled"))
    records = [json.loads(text) for text in done.stderr.splitlines()]
    seen = {(record["event"], record["machine_id"], record["event_type"]) for record in records}
    assert seen == {("committed", "o-1", "OrderPlaced"), ("dead_lettered", "o-9", "Canceled")}


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send to a single process")
def test_ctrl_c_stops_in_order_and_tells_what_was_done_although_the_input_says_no_more() -> None:
    command = [sys.executable, "-m", "examples.orders", "-", "--json"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdin.write(line("o-1", "OrderPlaced") + b"\n" + line("o-1", "PaymentApproved") + b"\noops\n")
        running.stdin.flush()
        assert running.stderr.readline().startswith(b"line 3: ")  # it has read them all, and waits for more
        running.send_signal(signal.SIGINT)
        summary = json.loads(running.stdout.read())
        assert running.wait() == 130
        assert running.stderr.read() == b""
    assert (summary["interrupted"], summary["orders"]["APPROVED"], summary["bad"]) == (True, 1, 1)


# -- real input -----------------------------------------------------------------------------------------------------


class Fold:
    """What becomes of the orders of a log, by a few lines that know nothing of machines."""

    EARLY = {
        "HandedToCarrier": ("PLACED",),
        "DeliveredToCustomer": ("PLACED", "APPROVED", "INVOICED", "PROCESSING"),
    }
    STEPS = {
        "PaymentApproved": (("PLACED",), "APPROVED"),
        "Invoiced": (("APPROVED",), "INVOICED"),
        "ProcessingStarted": (("APPROVED", "INVOICED"), "PROCESSING"),
        "HandedToCarrier": (("APPROVED", "INVOICED", "PROCESSING"), "SHIPPED"),
        "DeliveredToCustomer": (("SHIPPED",), "DELIVERED"),
        "Canceled": (("PLACED", "APPROVED", "INVOICED", "PROCESSING", "SHIPPED"), "CANCELED"),
        "MarkedUnavailable": (("PLACED", "APPROVED", "INVOICED", "PROCESSING"), "UNAVAILABLE"),
    }

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.early: dict[str, list[str]] = {}
        self.totals: Counter[str] = Counter()

    def add(self, order: str, event: str) -> None:
        state = self.states.get(order)
        if state is None and event != "OrderPlaced":
            self.totals["lost"] += 1
        elif state is None:
            self.states[order] = "PLACED"
            self.totals["committed"] += 1
        elif event.startswith("Review"):
            self.totals["committed"] += 1
        elif state in self.STEPS.get(event, ((), ""))[0]:
            self.states[order] = self.STEPS[event][1]
            self.totals["committed"] += 1
            waited = self.early.pop(order, [])
            self.totals["waiting"] -= len(waited)
            for earlier in waited:
                self.add(order, earlier)
        elif state in self.EARLY.get(event, ()):
            self.early.setdefault(order, []).append(event)
            self.totals["waiting"] += 1
        else:
            self.totals["unhandled"] += 1


def fold_log(lines: Iterable[bytes]) -> Fold:
    fold = Fold()
    for text in lines:
        fields = json.loads(text)
        fold.add(fields["machine_id"], fields["event"])
    return fold


@pytest.mark.slow
@pytest.mark.skipif(
    not REAL.exists(), reason="the real log is not here: ../shared/data/olist_events.jsonl.gz"
)
def test_the_real_log_is_read_to_its_last_line_and_every_order_is_where_it_belongs() -> None:
    said: list[str] = []

    async def scenario() -> tuple[Any, dict[str, str]]:
        account = Account()
        async with ActorSystem(Order, trace=account) as system:
            feeder = Feeder(system, account, said.append)
            with Log(REAL) as log:
                await feeder.feed(log)
            await feeder.settle()
            assert system.stats().balance == 0
            return feeder.summary(1.0), {
                order: system.snapshot(order).state.name for order in system.ids(Order)
            }

    summary, states = asyncio.run(scenario())
    expected = fold_log(gzip.decompress(REAL.read_bytes()).splitlines())
    assert states == expected.states
    assert len(states) == 8135
    assert (summary.lines, summary.events, summary.bad, summary.blank) == (45_946, 45_946, 0, 0)
    assert sum(summary.outcomes.values()) + summary.postponed == summary.events
    assert {kind: count for kind, count in summary.outcomes.items() if count} == {
        "committed": expected.totals["committed"],
        "unhandled": expected.totals["unhandled"],
        "dead_lettered": expected.totals["lost"],
    }
    assert summary.postponed == expected.totals["waiting"]
    assert [text for text in said if text.startswith("line")] == []
