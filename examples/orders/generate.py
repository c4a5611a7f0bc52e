"""`python -m examples.orders.generate --seed 28 --orders 1000 > log.jsonl`: a log of orders that never were.

Its proportions are those of a real log (`profile`): how orders live, what comes too early, how long things take, how
people pay. Everything else is invented. The same seed gives the same log, byte for byte, on every Python.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final, NamedTuple, TypeVar

from examples.orders import profile
from examples.orders.profile import LETTERS, LEVELS, LIVES

__all__ = ["ORDERS", "SEED", "generate"]

SEED: Final = 28
ORDERS: Final = 1000
"""With these the log that comes with the example was made: `... | gzip -9n > examples/data/orders.jsonl.gz`."""

OPENED: Final = datetime(2016, 9, 5)  # noqa: DTZ001 -- the times of a log have no zone, as so often
INFERRED: Final = frozenset({"I", "S", "C", "U"})
FIRST_WORDS: Final = ("vila", "porto", "campo", "nova", "serra", "lagoa", "barra", "monte")
SECOND_WORDS: Final = ("alegria", "dourada", "verde", "do sul", "das pedras", "bonita", "do norte", "clara")

T = TypeVar("T")
Fields = dict[str, Any]


class Moment(NamedTuple):
    """One event of one order, before its fields are made."""

    letter: str
    at: datetime


def generate(seed: int = SEED, orders: int = ORDERS) -> Iterator[str]:
    """Yield the lines of a log, ordered by time over all orders."""
    rng = Random(seed)
    events = [event for _ in range(orders) for event in _order(rng)]
    events.sort(key=lambda event: event["at"])  # stable: what happened at once keeps its order
    for event in events:
        yield json.dumps(event, separators=(",", ":"))


def _order(rng: Random) -> Iterator[Fields]:
    """Yield the events of one order as they happen."""
    life = _pick(rng, LIVES)
    order_id = _new_id(rng)
    moments = list(_moments(rng, life))
    reviews = [_new_id(rng) for _ in range(life.count("s"))]
    scores = profile.SCORES_DELIVERED if "D" in life else profile.SCORES_OTHERS
    seen = {"s": 0, "a": 0}
    for moment in moments:
        letter = moment.letter
        event: Fields = {"machine_id": order_id, "event": LETTERS[letter], "at": moment.at.isoformat()}
        event["seq"] = _number(life, letter, seen.get(letter, 0))
        if letter == "P":
            event |= _placed(rng, "".join(filter(str.isupper, life)), moment.at)
        elif letter in INFERRED:
            event["at_inferred"] = True
        elif letter in seen:
            event["review_id"] = reviews[seen[letter]]
            seen[letter] += 1
            if letter == "a":
                event["score"] = _pick(rng, scores)
        yield event


def _moments(rng: Random, life: str) -> Iterator[Moment]:
    """Yield what happens to an order and when, beginning with its first letter, which need not be its birth."""
    at = OPENED + timedelta(days=_draw(rng, profile.PLACED_AFTER_DAYS))
    before = ""
    for letter in life:
        if before:
            at += timedelta(hours=_draw(rng, profile.GAPS_H.get(before + letter, profile.OTHER_GAP_H)))
        at = _midnight(at) if letter == "s" else at.replace(microsecond=0)
        yield Moment(letter, at)
        before = letter


def _midnight(at: datetime) -> datetime:
    """Return the midnight after: surveys are sent by a nightly job."""
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return day if day == at else day + timedelta(days=1)


def _number(life: str, letter: str, nth: int) -> int:
    """Return the number that the shop gave an event: in the order that it would wish for, not in that of time."""
    if letter in "sa":
        return sum(map(str.isupper, life)) + 2 * nth + (letter == "a")
    return sorted(filter(str.isupper, life), key=list(LETTERS).index).index(letter)


def _placed(rng: Random, fate: str, at: datetime) -> Fields:
    has_items = rng.random() >= profile.CHANCE_OF_NO_ITEMS.get(fate, 0.0)
    total = round(100 * _draw(rng, profile.TOTAL)) if has_items else 0
    freight = round(100 * _draw(rng, profile.FREIGHT)) if has_items else 0
    due = total + freight if has_items else round(100 * _draw(rng, profile.TOTAL_WITHOUT_ITEMS))
    promised = _midnight(at + timedelta(days=_draw(rng, profile.PROMISED_AFTER_DAYS) - 1))
    limit = at + timedelta(hours=_draw(rng, profile.SHIPPING_LIMIT_H))
    return {
        "customer_id": _new_id(rng),
        "city": f"{_one_of(rng, FIRST_WORDS)} {_one_of(rng, SECOND_WORDS)}",
        "state": _pick(rng, profile.STATES),
        "items": _pick(rng, profile.ITEMS) if has_items else 0,
        "total": total / 100,
        "freight": freight / 100,
        "payments": list(_payments(rng, due)),
        "estimated_delivery": promised.isoformat(),
        "shipping_limit": limit.replace(microsecond=0).isoformat() if has_items else None,
    }


def _payments(rng: Random, due: int) -> Iterator[Fields]:
    kinds = _pick(rng, profile.PAYMENTS)
    for nth, kind in enumerate(kinds, 1):
        part = due if nth == len(kinds) else int(due * rng.random())
        due -= part
        installments = _pick(rng, profile.INSTALLMENTS) if kind == "credit_card" else 1
        yield {"type": kind, "installments": installments, "value": part / 100}


def _draw(rng: Random, distribution: Sequence[float]) -> float:
    """Return a value of a distribution that is known by its quantiles; plain arithmetic, the same everywhere."""
    level = rng.random()
    upper = next(n for n, bound in enumerate(LEVELS) if level < bound)
    share = (level - LEVELS[upper - 1]) / (LEVELS[upper] - LEVELS[upper - 1])
    return distribution[upper - 1] + share * (distribution[upper] - distribution[upper - 1])


def _pick(rng: Random, weights: Mapping[T, int]) -> T:
    """Return a key, as often as its weight says."""
    ticket = int(rng.random() * sum(weights.values()))
    for choice, weight in weights.items():
        ticket -= weight
        if ticket < 0:
            return choice
    raise ValueError("there is nothing to pick from")


def _one_of(rng: Random, words: Sequence[str]) -> str:
    return words[int(rng.random() * len(words))]


def _new_id(rng: Random) -> str:
    return f"{rng.getrandbits(128):032x}"


def main() -> None:
    """Write a log to the standard output."""
    parser = argparse.ArgumentParser(prog="python -m examples.orders.generate", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--orders", type=int, default=ORDERS)
    options = parser.parse_args()
    try:
        for line in generate(options.seed, options.orders):
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough; nothing is left to be flushed at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
