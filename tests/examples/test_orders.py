"""The orders example: what it makes of every kind of line, of logs that are long, broken off or interrupted."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
from hypothesis import given, strategies as st

from actorfsm.feed.log import Log, LogError, Splitter
from actorfsm.feed.position import WINDOW
from actorfsm.journal.memory import MemoryJournal, MemoryStore
from actorfsm.testing import simulate
from examples.orders.__main__ import drive, main
from examples.orders.books import OUTCOMES, Books, LastLine, read_books
from examples.orders.feed import Account, Feeder, Progress
from examples.orders.gateway import CONNECTS_IN_S, BadLuck, Weather
from examples.orders.log import MAX_LINE_BYTES, SHIPPED, BadLine, parse
from examples.orders.order import EVENTS, Order, OrderState
from examples.orders.shop import LogClock, open_shop
from examples.orders.summary import Summary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from actorfsm import Record

ROOT = Path(__file__).parents[2]
REAL = ROOT / "../shared/data/olist_events.jsonl.gz"

NOON = "2016-09-04T12:00:00"
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
    known = {"machine_id": order, "event": event, "at": NOON, "seq": seq}
    return json.dumps(known | fields).encode()


class Lines:
    """A log in memory: what a test says is read, as many lines at a time as it says."""

    def __init__(
        self, *chunks: Iterable[bytes], pause_s: float = 0, error: BaseException | None = None
    ) -> None:
        self.pieces = [list(chunk) for chunk in chunks]
        self.pause_s = pause_s
        self.error = error
        self.progress = None

    async def chunks(self, elsewhere: object = None) -> AsyncIterator[list[bytes]]:
        for chunk in self.pieces:
            await asyncio.sleep(self.pause_s)
            yield chunk
        if self.error is not None:
            raise self.error


class Outages:
    """A gateway whose line breaks then and then, for so many minutes; by default it holds."""

    def __init__(self, *breaks: tuple[str, float]) -> None:
        begins = [datetime.fromisoformat(at).replace(tzinfo=UTC) for at, _ in breaks]
        self.breaks = [
            (at, at + timedelta(minutes=lasts)) for at, (_, lasts) in zip(begins, breaks, strict=True)
        ]

    def breaks_at(self, now: datetime) -> datetime:
        ahead = [begins for begins, ends in self.breaks if now < ends]
        return min(ahead, default=datetime.max.replace(tzinfo=UTC))


class Run:
    """A shop with its feeder, and what was said."""

    def __init__(self, weather: Weather | None = None) -> None:
        self.said: list[str] = []
        self.account = Account()
        self.clock = LogClock()
        self.clock.begin(parse(line("o-1", "OrderPlaced")).event.at)
        self.records = Counter[tuple[str, str]]()
        self.store = MemoryStore()
        self.system = open_shop(
            self.clock,
            weather or Outages(),
            [self.account, self.count],
            journal=MemoryJournal(self.store),
        )

    def count(self, record: Record) -> None:
        self.records[record.name, record.event_type] += 1

    async def __aenter__(self) -> Self:
        await self.system.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.system.__aexit__(*error)

    async def feed(self, *lines: bytes) -> Run:
        """Feed lines as the next ones of one log."""
        return await self.read(Lines(lines))

    async def read(self, log: Any, books: Books | None = None) -> Run:
        feeder = Feeder(self.clock, self.account, self.said.append, books)
        if await feeder.begin(log):
            await feeder.feed(self.system)
        await self.clock.rest()
        return self

    async def summary(self) -> Summary:
        journal = MemoryJournal(self.store)
        journal._closed = False  # it looks, and takes nothing over
        return Summary.of(await read_books(journal), self.account, days=0, seconds=1.0)

    def ended(self) -> int:
        """Return how many events of the log have their outcome."""
        return sum(self.records[kind, name] for kind in OUTCOMES for name in EVENTS)

    def state(self, order: str) -> OrderState:
        return self.system.snapshot(order).state

    async def outcomes(self) -> dict[str, int]:
        return {kind: count for kind, count in (await self.summary()).outcomes.items() if count}


def in_memory() -> Callable[[], MemoryJournal]:
    store = MemoryStore()
    return lambda: MemoryJournal(store)


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
    "a year of no meaning": (
        line("o-1", "PaymentApproved", at="0016-09-04T21:15:19"),
        "not a PaymentApproved: at: ",
    ),
    "a promise of no meaning": (
        line("o-1", "OrderPlaced", estimated_delivery="2098-01-01T00:00:00"),
        "not a OrderPlaced: ",
    ),
    "an event of a timer": (line("o-1", "DeliveryOverdue"), "unknown event DeliveryOverdue"),
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
            assert (run.state("o-1"), await run.outcomes(), run.said) == (state, outcomes, [])

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
            assert data["approved_at"].isoformat() == "2016-09-05T08:00:00+00:00"

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
                line("x" * 101, "OrderPlaced"),
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
            assert await run.outcomes() == {"dead_lettered": 2, "committed": 1}
            assert [letter.machine_id for letter in run.system.dead_letters] == ["o-9", "o-9"]
            assert run.system.ids(Order) == ["o-1"]

    sim(scenario)


@pytest.mark.rule("C4")
def test_a_mailbox_never_overflows_and_the_order_of_events_is_kept(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with Run() as run:
            most, tell = 0, run.system.tell

            def watching(*arguments: Any, **options: Any) -> Any:
                nonlocal most
                most = max(most, 1 + run.account.sent - run.ended())
                return tell(*arguments, **options)

            run.system.tell = watching
            scores = [1 + n % 5 for n in range(3 * WINDOW)]
            answers = (line("o-1", "ReviewAnswered", n, score=score) for n, score in enumerate(scores))
            await run.feed(line("o-1", "OrderPlaced"), *answers)
            assert await run.outcomes() == {"committed": len(scores) + 1}
            assert list(run.system.snapshot("o-1").data["scores"]) == scores
            assert 0 < most <= WINDOW

    sim(scenario, seeds=range(2))


@pytest.mark.rule("C23")
def test_a_line_that_was_overtaken_on_its_way_to_the_disk_is_sent_by_the_run_after_a_kill(
    sim: Callable[..., None],
) -> None:
    """A line waits for its order to be loaded, the next one does not; then somebody kills the shop."""

    async def scenario() -> None:
        async with Run() as run:
            books = Books()
            for number, event in ((1, "OrderPlaced"), (2, "OrderPlaced"), (4, "PaymentApproved")):
                books.position.see(number, f"o-{2 - number % 2}")
                books.last = LastLine(number, event, f"o-{2 - number % 2}")
            for order in ("o-1", "o-2"):
                _ = run.system.tell(order, parse(line(order, "OrderPlaced")).event)
            _ = run.system.tell("o-2", parse(line("o-2", "PaymentApproved")).event)
            await run.clock.rest()
            log = Lines(
                [
                    line("o-1", "OrderPlaced"),
                    line("o-2", "OrderPlaced"),
                    line("o-1", "PaymentApproved", 1),  # this one
                    line("o-2", "PaymentApproved", 1),
                    line("o-2", "Invoiced", 2),
                ]
            )
            await run.read(log, books)
            assert (run.account.known, run.account.sent) == (3, 2)
            assert (run.state("o-1"), run.state("o-2")) == (OrderState.APPROVED, OrderState.INVOICED)

    sim(scenario)


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
            summary = await run.summary()
            assert (summary.postponed, summary.outcomes["committed"]) == (len(early), len(early) + 1)
            await run.feed(*(line(order, "PaymentApproved") for order in early))
            summary = await run.summary()
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
            summary = await run.summary()
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
            stats, account, summary = run.system.stats(), run.account, await run.summary()
            assert account.lines == account.blank + account.bad + run.ended() + stats.postponed
            assert sum(summary.outcomes.values()) == run.ended()
            recorded = Counter[str]()
            for (name, _), count in run.records.items():
                recorded[name] += count
            assert {kind: stats.outcomes[kind] for kind in OUTCOMES if kind != "dead_lettered"} == {
                kind: recorded[kind] for kind in OUTCOMES if kind != "dead_lettered"
            }
            assert stats.dead_letters == summary.outcomes["dead_lettered"] == recorded["dead_lettered"]
            of_timers = stats.timers_fired - stats.timers_withdrawn
            assert of_timers > 0
            of_orders = run.records["committed", "Notify"]
            assert stats.accepted == account.sent - stats.refused + of_timers + of_orders

    sim(scenario, seeds=range(2))


def test_progress_is_told_about_every_second_once_it_takes_long() -> None:
    said: list[str] = []
    account, now = Account(), 0.0
    progress = Progress(Lines(), account, said.append, lambda: now)
    for lines in range(1, 41):
        account.lines, now = lines, lines / 8
        progress.tick()
    assert [text.split(" lines")[0] for text in said] == ["16", "24", "32", "40"]
    assert said[0] == "16 lines, 8 per second"


def test_a_short_log_is_read_without_a_word(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with Run() as run:
            await run.read(Lines(*[[line("o-1", "OrderPlaced")]] * 10))
            assert run.said == []

    sim(scenario)


@pytest.mark.rule("C19")
def test_an_interrupted_run_finishes_what_was_read_and_tells_it(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        read = [[line("o-1", "OrderPlaced"), line("o-1", "PaymentApproved")], [line("o-2", "OrderPlaced")]]
        running = asyncio.create_task(drive(Lines(*read, pause_s=1), in_memory(), weather=Outages()))
        await asyncio.sleep(CONNECTS_IN_S + 1.5)
        running.cancel()
        summary = await running
        assert summary.interrupted
        assert (summary.lines, summary.events, summary.outcomes["committed"]) == (2, 2, 2)
        assert summary.orders["APPROVED"] == 1
        assert str(summary).startswith("Not the whole log")

    sim(scenario)


def test_a_log_that_breaks_off_is_told_up_to_there(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        summary = await drive(
            Lines([line("o-1", "OrderPlaced")], error=LogError("log: it broke")), in_memory()
        )
        assert (summary.broken_off, summary.outcomes["committed"]) == ("log: it broke", 1)
        assert str(summary).startswith("Not the whole log")

    sim(scenario)


# -- time, and the gateway --------------------------------------------------------------------------------------------

PROMISES = {"shipping_limit": "2016-09-06T12:00:00", "estimated_delivery": "2016-09-10T00:00:00"}


def life(*moments: str, **placed: Any) -> list[bytes]:
    """Return the lines of an order from "day event": the days of September, at noon."""
    parts = [moment.split() for moment in moments]
    return [
        line("o-1", event, seq, at=f"2016-09-{day}T12:00:00", **(placed if event == "OrderPlaced" else {}))
        for seq, (day, event) in enumerate(parts)
    ]


LATE = {
    "in time": (("05 PaymentApproved", "05 HandedToCarrier", "09 DeliveredToCustomer"), False, False),
    "handed over at the very second of the limit": (
        ("05 PaymentApproved", "06 HandedToCarrier", "08 DeliveredToCustomer"),
        True,
        False,
    ),
    "both late": (("05 PaymentApproved", "07 HandedToCarrier", "11 DeliveredToCustomer"), True, True),
    "never delivered": (("05 PaymentApproved", "05 HandedToCarrier", "11 ReviewSurveySent"), False, True),
    "not yet late when the log ends": (("05 PaymentApproved", "05 ReviewSurveySent"), False, False),
    "never paid": (("11 ReviewSurveySent",), False, True),
    "paid after the limit": (("07 PaymentApproved", "08 HandedToCarrier"), True, False),
    "paid after the limit, and handed over before": (
        ("05 HandedToCarrier", "07 PaymentApproved"),
        False,
        False,
    ),
    "canceled before": (("05 Canceled", "11 ReviewSurveySent"), False, False),
}


@pytest.mark.rule("C20")
@pytest.mark.parametrize(("moments", "handed_over", "delivered"), LATE.values(), ids=LATE.keys())
def test_an_order_notices_on_its_day_that_a_promise_is_broken(
    moments: tuple[str, ...], handed_over: bool, delivered: bool, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with Run() as run:
            await run.feed(*life("04 OrderPlaced", *moments, **PROMISES))
            data = run.system.snapshot("o-1").data
            assert (data["is_handed_over_late"], data["is_delivered_late"]) == (handed_over, delivered)
            late = (await run.summary()).late
            assert list(late.values()) == [int(handed_over), int(delivered)]

    sim(scenario)


def test_an_order_without_a_shipping_limit_is_never_handed_over_late(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with Run() as run:
            await run.feed(*life("04 OrderPlaced", "05 PaymentApproved", "30 HandedToCarrier"))
            assert run.system.snapshot("o-1").data["is_handed_over_late"] is False

    sim(scenario)


def test_the_times_of_the_log_drive_the_clock_and_never_turn_it_back(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with Run() as run:
            seen = []
            for day in ("04", "09", "07", "11"):
                await run.feed(line("o-1", "ReviewSurveySent", at=f"2016-09-{day}T12:00:00"))
                seen.append(run.clock.now().day)
            assert seen == [4, 9, 9, 11]

    sim(scenario)


def test_times_with_a_zone_and_without_one_are_the_same_clock() -> None:
    plain = parse(line("o-1", "PaymentApproved", at="2016-09-04T12:00:00")).event.at
    there = parse(line("o-1", "PaymentApproved", at="2016-09-04T09:00:00-03:00")).event.at
    assert plain == there


@pytest.mark.rule("C16")
def test_the_gateway_is_restarted_after_growing_pauses_and_nobody_else_notices(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        async with Run(Outages(("2016-09-06T00:00:02", 10))) as run:
            await run.feed(
                line("o-1", "OrderPlaced"), line("o-1", "PaymentApproved", at="2016-09-06T12:00:00")
            )
            assert str(run.system.tree()).splitlines() == [
                "system: supervisor, one_for_one, permanent, running",
                "  outside: supervisor, one_for_one, permanent, running",
                "    gateway: service, permanent, running, incarnation 4",
                "    Notice: 0 machines, running",
                "  Order: 1 machines, running",
            ]
            assert run.state("o-1") is OrderState.APPROVED
            assert (await run.summary()).gateway["restarts"] == 4

    sim(scenario)


@pytest.mark.rule("C17")
def test_a_notice_that_cannot_reach_the_customer_is_held_until_the_gateway_is_back_and_the_order_goes_on(
    sim: Callable[..., None],
) -> None:
    """The line breaks two minutes before the delivery is due, and is back after some ten."""

    async def scenario() -> None:
        due = "2016-09-05T12:02:00"
        async with Run(Outages(("2016-09-05T12:00:02", 5))) as run:
            await run.feed(
                line("o-1", "OrderPlaced", estimated_delivery=due),
                line("o-1", "PaymentApproved", at="2016-09-05T12:03:00"),
            )
            assert run.system.quarantined() == ["late-delivery-o-1"]
            assert (await run.summary()).gateway["customers told"] == 0
            assert run.state("o-1") is OrderState.APPROVED
            assert run.system.snapshot("o-1").data["is_delivered_late"] is True
            await run.feed(line("o-1", "HandedToCarrier", at="2016-09-05T13:00:00"))
            assert run.system.ids() == ["o-1"]  # a notice that was sent is gone
            assert (await run.summary()).gateway == {
                "customers told": 1,
                "restarts": 3,
                "notices put into quarantine": 1,
                "of them released": 1,
            }

    sim(scenario)


@pytest.mark.timeout(240)
def test_bad_luck_is_repeated_with_its_seed_and_changes_nothing_about_the_orders() -> None:
    lines = gzip.decompress(SHIPPED.read_bytes()).splitlines()
    runs = []
    for seed in (1, 1, 2):
        summary = simulate(
            lambda seed=seed: drive(Lines(lines), in_memory(), weather=BadLuck(seed)), shuffle=False
        )
        runs.append(replace(summary, seconds=0.0))
    assert runs[0] == runs[1]
    assert runs[0].gateway != runs[2].gateway
    assert replace(runs[0], gateway={}) == replace(runs[2], gateway={})
    assert runs[0].days == 770


# -- the program ----------------------------------------------------------------------------------------------------


def run_orders(*arguments: str, cwd: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "examples.orders", *arguments]
    home = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=home, input=stdin, capture_output=True, check=False)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the program finds itself, and leaves its journal."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_a_reader_that_has_gone_is_no_traceback(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "examples.orders", "-", *arguments]
    log = line("o-1", "OrderPlaced") + b"\noops\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            input=log,
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
        assert (done.returncode, done.stderr.count(b"\n")) == (2, 1), (
            done.stderr
        )  # the bad line, nothing else
        both = subprocess.run(
            command, cwd=tmp_path, env=environment, input=log, stdout=writer, stderr=writer, check=False
        )
        assert both.returncode == 2
    finally:
        os.close(writer)
    quiet = run_orders("-", "--json", cwd=tmp_path, stdin=log)  # what was to be done is done all the same
    assert summary_of(quiet.stdout)["known"] == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_summary_that_finds_no_room_is_told_so(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "examples.orders", "-"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            input=line("o-1", "OrderPlaced"),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        2,
        b"orders: the summary was not written: No space left on device\n",
    )


def summary_of(output: str | bytes) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads(output)
    del summary["seconds"]
    return summary


@pytest.mark.timeout(240)
def test_without_arguments_it_reads_the_log_that_comes_with_it_and_again_has_nothing_to_do(
    tmp_path: Path,
) -> None:
    done = run_orders(cwd=tmp_path)
    said = done.stdout.decode()
    assert done.returncode == 0
    assert re.fullmatch(r"([\d,]+ lines .*\n)*", done.stderr.decode())  # its progress, on a busy computer
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
    assert int(rows["not handed over in time"]) == expected.totals["handed over late"] > 0
    assert int(rows["not delivered in time"]) == expected.totals["delivered late"] > 0
    assert (
        int(rows["customers told"]) == expected.totals["handed over late"] + expected.totals["delivered late"]
    )
    assert int(rows["notices put into quarantine"]) == int(rows["of them released"]) > 0
    again = run_orders(cwd=tmp_path)
    assert again.stderr.decode().startswith("orders.db has the log up to line 5,635;")
    told = again.stdout.decode().splitlines()
    assert told[-2] == "5,635 events were in the journal already"
    assert [row for row in told[:-2] if "restarts" not in row] == [
        row for row in said.splitlines()[:-1] if "restarts" not in row
    ]


def test_a_journal_that_was_fed_from_another_log_is_refused_and_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = {"one": ["o-1", "o-2"], "other": ["o-1", "o-3"], "shorter": ["o-1"]}
    for name, orders in logs.items():
        (tmp_path / name).write_bytes(b"\n".join(line(order, "OrderPlaced") for order in orders))
    journal = tmp_path / "orders.db"
    assert main([str(tmp_path / "one"), "--journal", str(journal)]) == 0
    capsys.readouterr()
    for name in ("other", "shorter"):
        assert main([str(tmp_path / name), "--journal", str(journal)]) == 2
        assert "fed from another log" in capsys.readouterr().err
    assert main([str(tmp_path / "one"), "--journal", str(journal), "--json"]) == 0
    assert summary_of(capsys.readouterr().out)["orders"]["PLACED"] == 2


def test_a_journal_that_is_none_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = tmp_path / "orders.db"
    journal.write_bytes(b"no journal at all, but a text that is long enough to be one" * 100)
    assert main([str(SHIPPED), "--journal", str(journal)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("orders: ")
    assert captured.err.count("\n") == 1


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
        assert main([str(tmp_path / name), "--json", "--journal", str(tmp_path / f"{name}.db")]) == 0
        captured = capsys.readouterr()
        assert captured.err == bad
        summaries.append(summary_of(captured.out))
    for stdin in (data, gzip.compress(data)):
        done = run_orders("-", "--json", "--journal", f"{len(summaries)}.db", cwd=tmp_path, stdin=stdin)
        assert (done.returncode, done.stderr.decode()) == (0, bad)
        summaries.append(summary_of(done.stdout))
    first = summaries[0]
    assert summaries == [first] * 4
    assert (first["lines"], first["bad"], first["events"]) == (4, 1, 3)
    assert (first["outcomes"]["committed"], first["outcomes"]["dead_lettered"]) == (2, 1)


@pytest.mark.usefixtures("elsewhere")
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
    assert main([str(tmp_path / "log.gz"), "--journal", str(tmp_path / "orders.db")]) == 2
    captured = capsys.readouterr()
    assert captured.out.startswith("Not the whole log")
    assert captured.err.endswith("the compressed data ends in the middle\n")


def test_compressed_data_that_is_damaged_is_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = gzip.compress(b"\n".join(line(f"o-{n}", "OrderPlaced") for n in range(2000)))
    (tmp_path / "log.gz").write_bytes(whole[:200] + b"\x00" * 200 + whole[400:])
    assert main([str(tmp_path / "log.gz"), "--journal", str(tmp_path / "orders.db")]) == 2
    captured = capsys.readouterr()
    assert captured.out.startswith("Not the whole log")
    assert captured.err.splitlines()[-1].startswith("orders: ")
    assert "Traceback" not in captured.err


def test_an_empty_log_is_no_error(tmp_path: Path) -> None:
    done = run_orders("-", "--json", cwd=tmp_path)
    assert (done.returncode, summary_of(done.stdout)["lines"]) == (0, 0)


def test_the_trace_is_a_line_of_json_for_each_event_on_the_standard_error(
    tmp_path: Path,
) -> None:
    text = line("o-1", "OrderPlaced") + b"\n" + line("o-9", "Canceled")
    done = run_orders("-", "--trace", cwd=tmp_path, stdin=text)
    records = [json.loads(text) for text in done.stderr.splitlines()]
    seen = {(record["event"], record["machine_id"]): record.get("event_type") for record in records}
    assert seen.pop(("committed", "o-1")) == "OrderPlaced"
    assert seen.pop(("dead_lettered", "o-9")) == "Canceled"
    # What became of the tree: its parts were started, and stopped in the end.
    assert {name for _, name in seen} == {"gateway", "Notice", "outside", "Order"}


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send to a single process")
def test_ctrl_c_stops_in_order_and_tells_what_was_done_although_the_input_says_no_more(
    tmp_path: Path,
) -> None:
    journal = str(tmp_path / "orders.db")
    command = [sys.executable, "-m", "examples.orders", "-", "--json", "--journal", journal]
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
    """What becomes of the orders of a log, by a few lines that know nothing of machines and timers."""

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
        self.delivery_due: dict[str, str] = {}
        self.shipping_due: dict[str, str] = {}
        self.limits: dict[str, str] = {}
        self.totals: Counter[str] = Counter()

    def add(self, fields: dict[str, Any]) -> None:
        order, event = fields["machine_id"], fields["event"]
        if event == "OrderPlaced" and order not in self.states:
            self.delivery_due[order] = fields["estimated_delivery"]
            self.limits[order] = fields["shipping_limit"] or "never"
        self.happen(order, event, fields["at"])

    def happen(self, order: str, event: str, at: str) -> None:
        state = self.states.get(order)
        if state is None and event != "OrderPlaced":
            self.totals["lost"] += 1
        elif state is None:
            self.states[order] = "PLACED"
            self.totals["committed"] += 1
        elif event.startswith("Review"):
            self.totals["committed"] += 1
        elif state in self.STEPS.get(event, ((), ""))[0]:
            self.states[order] = state = self.STEPS[event][1]
            self.totals["committed"] += 1
            if state not in {"APPROVED", "INVOICED", "PROCESSING"}:
                self.judge("handed over late", self.shipping_due.pop(order, "never"), at)
            if state in {"DELIVERED", "CANCELED", "UNAVAILABLE"}:
                self.judge("delivered late", self.delivery_due.pop(order, "never"), at)
            waited = self.early.pop(order, [])
            self.totals["waiting"] -= len(waited)
            for earlier in waited:
                self.happen(order, earlier, at)
            if event == "PaymentApproved" and self.states[order] == "APPROVED":
                # A limit that has passed already is noticed after what the log says of the same second.
                self.shipping_due[order] = max(self.limits[order], f"{at} and a moment")
        elif state in self.EARLY.get(event, ()):
            self.early.setdefault(order, []).append(event)
            self.totals["waiting"] += 1
        else:
            self.totals["unhandled"] += 1

    def judge(self, promise: str, due: str, at: str) -> None:
        self.totals[promise] += due <= at

    def end(self, at: str) -> None:
        """Judge what is still promised when the log ends."""
        for due in self.shipping_due.values():
            self.judge("handed over late", due, at)
        for due in self.delivery_due.values():
            self.judge("delivered late", due, at)


def fold_log(lines: Iterable[bytes]) -> Fold:
    fold, fields = Fold(), dict[str, Any]()
    for text in lines:
        fields = json.loads(text)
        fold.add(fields)
    fold.end(fields["at"])
    return fold


@pytest.mark.slow
@pytest.mark.skipif(
    not REAL.exists(), reason="the real log is not here: ../shared/data/olist_events.jsonl.gz"
)
@pytest.mark.timeout(300)
def test_the_real_log_is_read_to_its_last_line_and_every_order_is_where_it_belongs() -> None:
    said: list[str] = []

    async def scenario() -> tuple[Summary, dict[str, str]]:
        async with Run(BadLuck(1)) as run:
            with Log(REAL) as log:
                await run.read(log)
            assert run.system.stats().balance == 0
            said.extend(run.said)
            states = {order: run.system.snapshot(order).state.name for order in run.system.ids(Order)}
            return await run.summary(), states

    summary, states = simulate(scenario, shuffle=False)
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
    assert list(summary.late.values()) == [
        expected.totals["handed over late"],
        expected.totals["delivered late"],
    ]
    assert summary.gateway["customers told"] == sum(summary.late.values())
    assert summary.gateway["notices put into quarantine"] > 0
    assert [text for text in said if text.startswith("line")] == []
