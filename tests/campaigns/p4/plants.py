"""Planted bugs: what somebody could make of a journal that fails, and P4, unchanged, must find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from actorfsm.errors import NotStored
from actorfsm.journal.sqlite.store import Store
from actorfsm.runtime import perform
from actorfsm.runtime.dynamic_supervisor import DynamicSupervisor
from actorfsm.runtime.journal_writer import JournalWriter
from actorfsm.runtime.recording import Recording

PLANTS: dict[str, Callable[[], Any]] = {}


def plant(function: Callable[[], Iterator[None]]) -> Callable[[], Any]:
    manager = contextmanager(function)
    PLANTS[function.__name__.replace("_", " ")] = manager
    return manager


@plant
def not_stored_is_answered_though_it_is_stored() -> Iterator[None]:
    """A failed COMMIT is taken for a no."""

    def refused(self: Any, error: Any, _look: Any) -> Any:
        return self._refusal(error)

    with mock.patch.object(Store, "_after_failed_commit", refused):
        yield


@plant
def a_failed_commit_is_looked_up_and_not_settled() -> Iterator[None]:
    """The log is looked at as it is: a crash may leave another one."""
    with mock.patch.object(Store, "_settle_log"):
        yield


@plant
def a_failed_commit_is_taken_for_a_yes() -> Iterator[None]:
    with mock.patch.object(Store, "_after_failed_commit", return_value=None):
        yield


@plant
def memory_changes_though_nothing_is_stored() -> Iterator[None]:
    commit = Recording.commit

    async def hopeful(self: Any, *given: Any) -> None:
        try:
            await commit(self, *given)
        except perform.NotWritten as error:
            if not isinstance(error.error, NotStored):
                raise

    with mock.patch.object(Recording, "commit", hopeful):
        yield


@plant
def what_was_promised_is_tried_once() -> Iterator[None]:
    with mock.patch.object(DynamicSupervisor, "try_again", return_value=False):
        yield


@plant
def nobody_asks_again_what_became_of_a_commit() -> Iterator[None]:
    async def give_up(self: Any, machine_id: str, track: Any, lines: Any, _batch: Any, _error: Any) -> None:
        self._answer(machine_id, track, lines, NotStored("it will not have been"))

    with mock.patch.object(JournalWriter, "_find_out", give_up):
        yield
