"""The generated log: the same for the same seed, and in its proportions like a real one."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from examples.orders import profile
from examples.orders.generate import ORDERS, SEED, generate
from examples.orders.log import SHIPPED, parse
from examples.orders.profile import LETTERS, LIVES

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[2]
REAL = ROOT / "../shared/data/olist_events.jsonl.gz"
needs_the_real_log = pytest.mark.skipif(
    not REAL.exists(), reason="the real log is not here: ../shared/data/olist_events.jsonl.gz"
)
LETTER_OF = {name: letter for letter, name in LETTERS.items()}
DIRT = {
    "hand-over before approval": ("H", "A"),
    "delivery before hand-over": ("D", "H"),
    "cancelled after delivery": ("D", "C"),
    "hand-over before the order": ("H", "P"),
    "survey before the order": ("s", "P"),
}


def lines_of(path: Path) -> list[bytes]:
    return gzip.decompress(path.read_bytes()).splitlines()


class Figures:
    """What is compared: shares of orders and of events, and medians, of a log or of the profile."""

    def __init__(self, lines: Iterable[bytes | str]) -> None:
        events = [json.loads(text) for text in lines]
        lives: dict[str, str] = defaultdict(str)
        for event in events:
            lives[event["machine_id"]] += LETTER_OF[event["event"]]
        placed = [event for event in events if event["event"] == "OrderPlaced"]
        self.orders = len(lives)
        self.lives = shares(Counter(lives.values()))
        self.payments = shares(Counter(tuple(p["type"] for p in event["payments"])[:2] for event in placed))
        self.states = shares(Counter(event["state"] for event in placed))
        self.items = shares(Counter(event["items"] for event in placed if event["items"]))
        self.no_items = sum(not event["items"] for event in placed) / len(placed)
        self.scores = shares(
            Counter(event["score"] for event in events if event["event"] == "ReviewAnswered")
        )
        self.shapes = {(event["event"], tuple(event)) for event in events}
        self.total = median(event["total"] for event in placed if event["items"])
        self.freight = median(event["freight"] for event in placed if event["items"])
        self.times = [event["at"] for event in events]


def shares(counts: dict[Any, float]) -> dict[Any, float]:
    whole = sum(counts.values())
    return {key: count / whole for key, count in counts.items()}


def median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def kinds(lives: dict[str, float]) -> dict[str, float]:
    """Return how many events of each kind an order has on average."""
    return {letter: sum(share * life.count(letter) for life, share in lives.items()) for letter in LETTERS}


def dirt(lives: dict[str, float]) -> dict[str, float]:
    """Return the shares of orders in which one event comes before another that it should follow."""
    return {
        name: sum(share for life, share in lives.items() if -1 < life.find(early) < life.find(late))
        for name, (early, late) in DIRT.items()
    }


def assert_close(found: dict[Any, float], expected: dict[Any, float], tolerance: float) -> None:
    far = {
        key: (found.get(key, 0), expected.get(key, 0))
        for key in found.keys() | expected.keys()
        if abs(found.get(key, 0) - expected.get(key, 0)) > tolerance
    }
    assert far == {}


def assert_follows_the_profile(figures: Figures, tolerance: float) -> None:
    """Shares may differ by so much, in absolute terms; medians by ten times that, in relative ones."""
    lives = shares(LIVES)
    assert_close(figures.lives, lives, tolerance)
    assert_close(kinds(figures.lives), kinds(lives), tolerance)
    assert_close(dirt(figures.lives), dirt(lives), tolerance)
    payments: Counter[tuple[str, ...]] = Counter()
    for payment_kinds, weight in profile.PAYMENTS.items():
        payments[payment_kinds[:2]] += weight
    assert_close(figures.payments, shares(payments), tolerance)
    assert_close(figures.states, shares(profile.STATES), tolerance)
    assert_close(figures.items, shares(profile.ITEMS), tolerance)
    scores = Counter(profile.SCORES_DELIVERED) + Counter(profile.SCORES_OTHERS)
    assert_close(figures.scores, shares(scores), tolerance)
    assert figures.total == pytest.approx(profile.TOTAL[3], rel=10 * tolerance)
    assert figures.freight == pytest.approx(profile.FREIGHT[3], rel=10 * tolerance)


def test_the_log_that_comes_with_the_example_is_what_the_generator_gives_for_its_seed() -> None:
    assert lines_of(SHIPPED) == [text.encode() for text in generate(SEED, ORDERS)]


def test_the_log_that_comes_with_the_example_is_small() -> None:
    assert SHIPPED.stat().st_size < 300_000


def test_the_same_seed_gives_the_same_log_and_another_seed_another() -> None:
    assert list(generate(1, 20)) == list(generate(1, 20))
    assert set(generate(1, 20)).isdisjoint(generate(2, 20))


def test_the_command_writes_the_log_and_does_not_mind_a_reader_that_has_seen_enough() -> None:
    command = [sys.executable, "-m", "examples.orders.generate", "--seed", "1", "--orders", "500"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == next(generate(1, 500)).encode() + b"\n"
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait() == 0


def test_every_generated_line_is_an_event_and_they_are_ordered_by_time() -> None:
    lines = list(generate(3, 200))
    entries = [parse(text.encode()) for text in lines]
    assert [entry.event.at for entry in entries] == sorted(entry.event.at for entry in entries)
    assert len({entry.machine_id for entry in entries}) == 200


def test_the_numbers_of_an_orders_events_are_those_that_the_shop_would_wish_for() -> None:
    orders: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for text in generate(SEED, ORDERS):
        event = json.loads(text)
        orders[event["machine_id"]].append((event["seq"], LETTER_OF[event["event"]]))
    assert all(sorted(seq for seq, _ in events) == list(range(len(events))) for events in orders.values())
    wished = {"".join(letter for _, letter in sorted(events)) for events in orders.values()}
    assert all(list(life) == sorted(life, key=list("PAISHDCUsa").index) or "sasa" in life for life in wished)
    assert any([seq for seq, _ in events] != sorted(seq for seq, _ in events) for events in orders.values())


def test_payments_add_up_to_what_the_goods_and_the_freight_cost() -> None:
    for text in generate(4, 300):
        event = json.loads(text)
        if event["event"] == "OrderPlaced" and event["items"]:
            paid = sum(payment["value"] for payment in event["payments"])
            assert paid == pytest.approx(event["total"] + event["freight"])


def test_the_log_that_comes_with_the_example_follows_the_profile_and_has_dirt_of_every_kind() -> None:
    figures = Figures(lines_of(SHIPPED))
    assert figures.orders == ORDERS
    assert_follows_the_profile(figures, 0.035)  # chance alone makes 0.016 of a half of 1,000
    assert all(share > 0 for share in dirt(figures.lives).values())


def test_a_larger_log_comes_closer_to_the_profile() -> None:
    assert_follows_the_profile(Figures(generate(5, 5000)), 0.02)


@needs_the_real_log
def test_the_profile_is_that_of_the_real_log() -> None:
    assert_follows_the_profile(Figures(lines_of(REAL)), 0.005)


@needs_the_real_log
def test_fields_of_the_generated_log_are_those_of_the_real_one() -> None:
    assert Figures(lines_of(SHIPPED)).shapes == Figures(lines_of(REAL)).shapes


@needs_the_real_log
def test_times_and_missing_items_of_a_generated_log_are_roughly_those_of_the_real_one() -> None:
    real, made = lines_of(REAL), list(generate(6, 2000))
    assert Figures(made).no_items == pytest.approx(Figures(real).no_items, abs=0.02)
    found, expected = delays(made), delays(real)
    for step in ("PA", "AH", "HD", "Hs", "sa"):
        assert found[step] == pytest.approx(expected[step], rel=0.25, abs=0.2), step


def delays(lines: Iterable[bytes | str]) -> dict[str, float]:
    """Return the median hours from one event of an order to the next."""
    import datetime

    last: dict[str, tuple[str, datetime.datetime]] = {}
    gaps: dict[str, list[float]] = defaultdict(list)
    for text in lines:
        event = json.loads(text)
        letter, at = LETTER_OF[event["event"]], datetime.datetime.fromisoformat(event["at"])
        if event["machine_id"] in last:
            before, then = last[event["machine_id"]]
            gaps[before + letter].append((at - then).total_seconds() / 3600)
        last[event["machine_id"]] = letter, at
    return {step: median(hours) for step, hours in gaps.items()}
