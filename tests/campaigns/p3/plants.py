"""Planted bugs: patches to the runtime and its journal that P3, unchanged, must find in the processes that it kills."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from unittest import mock

from actorfsm.journal import codec
from actorfsm.journal.sqlite import changes, file, store
from actorfsm.journal.sqlite.journal import SQLiteJournal
from actorfsm.runtime import entries, recording
from actorfsm.runtime.entries import Entries
from actorfsm.runtime.recording import Recording
from actorfsm.runtime.recovery import Recovery

PLANTS: dict[str, Callable[[], Any]] = {}
NEEDS_POWER_LOSS: set[str] = set()
"""Those that a kill cannot show: the kernel keeps what was written."""


def plant(function: Callable[[], Iterator[None]]) -> Callable[[], Any]:
    manager = contextmanager(function)
    PLANTS[function.__name__.replace("_", " ")] = manager
    return manager


def plant_on_disk(function: Callable[[], Iterator[None]]) -> Callable[[], Any]:
    NEEDS_POWER_LOSS.add(function.__name__.replace("_", " "))
    return plant(function)


@plant
def a_reply_before_the_commit() -> Iterator[None]:
    """The batch is handed in, and nobody waits for its answer."""

    async def at_once(_answer: Any) -> None:
        return

    with mock.patch.object(recording, "_settled", at_once):
        yield


@plant_on_disk
def a_skipped_fsync() -> Iterator[None]:
    with mock.patch.object(store, "_SYNCHRONOUS", {"full": 0}):
        yield


@plant_on_disk
def an_fsync_at_checkpoints_only() -> Iterator[None]:
    with mock.patch.object(store, "_SYNCHRONOUS", {"full": 1}):
        yield


@plant
def a_lost_row_of_the_outbox() -> Iterator[None]:
    """The entry says what was promised, but now and then there is no row of it."""
    follow, numbers = codec._follow, count(1)

    def forgetful(planned: Any, entry: Any) -> None:
        follow(planned, entry)
        if entry.promises and next(numbers) % 5 == 0:
            planned.promises.pop(entry.promises[-1].key)

    with mock.patch.object(codec, "_follow", forgetful):
        yield


@plant
def a_batch_in_two_transactions() -> Iterator[None]:
    """The entries first, then what stands beside them."""
    move_heads = changes._move_heads

    def moved(connection: Any, *given: Any) -> None:
        move_heads(connection, *given)
        connection.execute("COMMIT")
        connection.execute("BEGIN IMMEDIATE")

    with mock.patch.object(changes, "_move_heads", moved):
        yield


@plant
def an_event_id_that_is_not_looked_up() -> Iterator[None]:
    async def never(_self: Any, _turn: Any) -> bool:
        return False

    with mock.patch.object(Recording, "is_done", never):
        yield


@plant
def a_delivery_that_is_not_settled() -> Iterator[None]:
    """Now and then what was delivered is not crossed off, and comes again in the next life."""
    settles, numbers = entries.settles, count(1)

    def forgetful(envelope: Any) -> Any:
        found = settles(envelope)
        return () if found and next(numbers) % 7 == 0 else found

    with mock.patch.object(entries, "settles", forgetful):
        yield


@plant
def a_timer_that_fired_is_not_ended() -> Iterator[None]:
    timers = Entries._timers

    def running(self: Any, *given: Any) -> Any:
        return timers(self, *given)[0], ()

    with mock.patch.object(Entries, "_timers", running):
        yield


@plant
def what_is_pending_is_delivered_backwards() -> Iterator[None]:
    pending = SQLiteJournal.pending

    async def backwards(self: Any, after: int = 0, limit: int = 1_000) -> Any:
        return list(reversed(await pending(self, after, limit))) if not after else []

    with mock.patch.object(SQLiteJournal, "pending", backwards):
        yield


@plant
def own_events_come_last_after_a_restart() -> Iterator[None]:
    promised = Recovery._promised

    def late(self: Any, pending: Any, actor: Any) -> Any:
        envelope = promised(self, pending, actor)
        if pending.kind == "own":
            object.__setattr__(pending, "kind", "event")
        return envelope

    with mock.patch.object(Recovery, "_promised", late):
        yield


@plant
def a_checksum_that_is_not_chained() -> Iterator[None]:
    encode = codec._encode

    with mock.patch.object(codec, "_encode", lambda entry, _previous: encode(entry, codec.FIRST)):
        yield


@plant
def a_file_that_is_judged_without_its_log() -> Iterator[None]:
    """A kill amid a checkpoint leaves a file that cannot be read by itself."""
    with mock.patch.object(file, "_is_beside", return_value=False):
        yield


@plant
def a_recorded_reply_that_is_another() -> Iterator[None]:
    """Who asks again in another life is told what is true now, not what was answered then."""
    settlement_of = Recording.settlement_of

    def now(self: Any, actor: Any, envelope: Any, recorded: Any) -> Any:
        found = settlement_of(self, actor, envelope, recorded)
        found.reply = actor.data.get("paid")
        return found

    with mock.patch.object(Recording, "settlement_of", now):
        yield
