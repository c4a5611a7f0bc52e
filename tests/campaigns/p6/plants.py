"""Planted bugs: what a journal could believe that it should not, and P6, unchanged, must find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from actorfsm.journal import codec, loading
from actorfsm.journal.sqlite import queries

PLANTS: dict[str, Callable[[], Any]] = {}


def plant(function: Callable[[], Iterator[None]]) -> Callable[[], Any]:
    manager = contextmanager(function)
    PLANTS[function.__name__.replace("_", " ")] = manager
    return manager


@plant
def a_checksum_that_is_not_checked() -> Iterator[None]:
    def believed(row: Any, _previous: bytes) -> Any:
        return codec._load(codec._ENTRY, row.body, row.machine_id, row.seq)

    with mock.patch.object(loading, "decode", believed):
        yield


@plant
def a_snapshot_that_is_believed() -> Iterator[None]:
    with mock.patch.object(loading, "checksum_of_image", return_value=mock.ANY):
        yield


@plant
def entries_that_are_missing_and_not_missed() -> Iterator[None]:
    """The fold goes over what there is."""

    def folded(image: Any, checksum: bytes, rows: Any, _head: Any) -> Any:
        for row in rows:
            image.apply(codec.decode(row, checksum))
            checksum = row.checksum
        return image

    with mock.patch.object(loading, "_folded", folded):
        yield


@plant
def a_machine_without_a_head_that_never_was() -> Iterator[None]:
    load = queries.load

    def believed(connection: Any, machine_id: str) -> Any:
        return None if queries.head_of(connection, machine_id) is None else load(connection, machine_id)

    with mock.patch.object(queries, "load", believed):
        yield


@plant
def one_damaged_row_that_stops_all() -> Iterator[None]:
    def strict(rows: Any, read: Any, _place_of: Any) -> Any:
        return [read(row) for row in rows]

    with mock.patch.object(queries, "page_of", strict):
        yield
