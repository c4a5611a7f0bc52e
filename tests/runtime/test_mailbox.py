"""The lanes of a mailbox: what is taken first, and what a removal leaves."""

from __future__ import annotations

from typing import Any

import pytest

from actorfsm import Spawn
from actorfsm.runtime.envelope import Envelope
from actorfsm.runtime.mailbox import Mailbox

pytestmark = pytest.mark.rule("C4")


def envelopes(n: int) -> list[Envelope]:
    return [Envelope(Spawn(), "a", number, 0.0) for number in range(n)]


def taken(mailbox: Mailbox) -> list[int]:
    found = []
    while (envelope := mailbox.take()) is not None:
        found.append(envelope.number)
    return found


def test_a_new_mailbox_is_empty() -> None:
    mailbox = Mailbox()
    assert (mailbox.take(), mailbox.waiting, mailbox.is_empty) == (None, 0, True)
    assert list(mailbox.drain()) == []
    assert not mailbox.remove(envelopes(1)[0])


def test_own_events_come_first_then_released_ones_then_the_queue() -> None:
    mailbox, (a, b, c, d, e, f) = Mailbox(), envelopes(6)
    mailbox.queue.extend([a, b])
    mailbox.postpone(c)
    mailbox.postpone(d)
    assert (mailbox.waiting, mailbox.is_empty) == (2, False)
    mailbox.release_postponed()
    mailbox.raise_own([e, f])
    assert mailbox.waiting == 6
    assert taken(mailbox) == [4, 5, 2, 3, 0, 1]
    assert mailbox.is_empty


def test_later_own_events_come_before_earlier_ones_each_batch_in_its_order() -> None:
    mailbox, (a, b, c, d) = Mailbox(), envelopes(4)
    mailbox.raise_own([a, b])
    mailbox.raise_own([c, d])
    assert taken(mailbox) == [2, 3, 0, 1]


def test_an_event_that_is_tried_again_comes_before_all_others() -> None:
    mailbox, (a, b, c) = Mailbox(), envelopes(3)
    mailbox.queue.append(a)
    mailbox.raise_own([b])
    mailbox.put_back(c)
    assert taken(mailbox) == [2, 1, 0]


def test_what_was_postponed_again_comes_before_what_was_not_yet_tried() -> None:
    mailbox, (a, b, c) = Mailbox(), envelopes(3)
    for envelope in (a, b, c):
        mailbox.postpone(envelope)
    mailbox.release_postponed()
    first = mailbox.take()
    assert first is a
    mailbox.postpone(a)
    mailbox.release_postponed()
    assert taken(mailbox) == [0, 1, 2]


def test_a_release_of_nothing_changes_nothing() -> None:
    mailbox, (a, b) = Mailbox(), envelopes(2)
    mailbox.postpone(a)
    mailbox.release_postponed()
    mailbox.release_postponed()
    mailbox.queue.append(b)
    assert taken(mailbox) == [0, 1]


@pytest.mark.parametrize("lane", ["queue", "own", "released", "postponed", "outside"])
def test_an_event_is_removed_wherever_it_waits(lane: str) -> None:
    mailbox, (a, b, c) = Mailbox(), envelopes(3)
    for envelope in (
        (c, b, a) if lane == "own" else (a, b, c)
    ):  # own events are put before those that are there
        _put(mailbox, lane, envelope)
    assert not mailbox.is_empty
    assert mailbox.remove(b)
    assert not mailbox.remove(b)
    assert [envelope.number for envelope in mailbox.drain()] == [0, 2]
    assert mailbox.is_empty


def _put(mailbox: Mailbox, lane: str, envelope: Any) -> None:
    match lane:
        case "queue":
            mailbox.queue.append(envelope)
        case "own":
            mailbox.raise_own([envelope])
        case "released":
            mailbox.postpone(envelope)
            if envelope.number == 2:
                mailbox.release_postponed()
        case "postponed":
            mailbox.postpone(envelope)
        case _:
            mailbox.wait_outside(envelope)


def test_draining_yields_everything_once_those_outside_last() -> None:
    mailbox, (a, b, c, d, e) = Mailbox(), envelopes(5)
    mailbox.wait_outside(a)
    mailbox.queue.append(b)
    mailbox.postpone(c)
    mailbox.postpone(d)
    mailbox.raise_own([e])
    assert [envelope.number for envelope in mailbox.drain()] == [4, 2, 3, 1, 0]
    assert mailbox.is_empty
