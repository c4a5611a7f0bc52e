"""Faults to plant into the runtime, one for each thing that a soak promises; the unchanged soak must find each."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

from actorfsm.runtime import settling
from actorfsm.runtime.dynamic_supervisor import DynamicSupervisor
from actorfsm.runtime.jobs import Job
from actorfsm.runtime.mailbox import Mailbox
from actorfsm.runtime.supervised import ServiceChild
from actorfsm.runtime.tasks import start_task
from actorfsm.runtime.watches import Watches

PLANTS: dict[str, tuple[Callable[[], AbstractContextManager[None]], str]] = {}
"""By name: what plants it, and a word of what is said then."""


def found_as(says: str) -> Callable[[Callable[[], Iterator[None]]], Any]:
    def enter(function: Callable[[], Iterator[None]]) -> Any:
        PLANTS[function.__name__] = contextmanager(function), says
        return function

    return enter


@found_as("memory grew")
def memory_is_kept_for_each_event() -> Iterator[None]:
    settle, kept = settling.settle, []

    def hoards(*arguments: Any, **named: Any) -> None:
        kept.append(bytes(20_000))
        settle(*arguments, **named)

    with mock.patch.object(settling, "settle", hoards):
        yield


@found_as("objects more")
def a_small_object_is_kept_for_each_event() -> Iterator[None]:
    settle, kept = settling.settle, []

    def hoards(actor: Any, envelope: Any, *arguments: Any, **named: Any) -> None:
        kept.append((envelope, object(), object()))
        settle(actor, envelope, *arguments, **named)

    with mock.patch.object(settling, "settle", hoards):
        yield


@found_as("has no outcome")
def an_event_is_lost() -> Iterator[None]:
    take, taken = Mailbox.take, 0

    def loses(self: Mailbox) -> Any:
        nonlocal taken
        if self.queue and type(self.queue[0].event).__name__ == "Add" and not self.queue[0].is_ask:
            taken += 1
            if taken % 50 == 0:
                self.queue.popleft()
        return take(self)

    with mock.patch.object(Mailbox, "take", loses):
        yield


@found_as("booked")
def a_message_is_delivered_twice() -> Iterator[None]:
    take, seen = Mailbox.take, 0

    def repeats(self: Mailbox) -> Any:
        nonlocal seen
        envelope = take(self)
        if envelope is not None and type(envelope.event).__name__ == "Book":
            seen += 1
            if seen % 10 == 0:
                envelope.event = envelope.event.model_copy(update={"amount": 2})
        return envelope

    with mock.patch.object(Mailbox, "take", repeats):
        yield


@found_as("ends: ")
def the_end_of_a_machine_is_told_twice() -> Iterator[None]:
    ended, number = Watches.ended, 0

    def repeats(self: Watches, actor: Any, reason: Any, *cause: Any) -> None:
        nonlocal number
        number += 1
        watchers = list(self._watchers.get(actor.id, ()))
        ended(self, actor, reason, *cause)
        if number % 10 == 0:
            for watcher in watchers:
                self._watchers[actor.id] = {watcher: None}
                self._watched.setdefault(watcher, {})[actor.id] = None
                ended(self, actor, reason, *cause)

    with mock.patch.object(Watches, "ended", repeats):
        yield


@found_as("tasks changed")
def a_task_is_kept_for_some_jobs() -> Iterator[None]:
    begin, number, kept = Job.begin, 0, []

    async def waits() -> None:
        await asyncio.get_running_loop().create_future()

    def begins(self: Job) -> None:
        nonlocal number
        number += 1
        if number % 10 == 0:
            kept.append(start_task(waits(), asyncio.get_running_loop()))
        begin(self)

    with mock.patch.object(Job, "begin", begins):
        yield


@found_as("threads changed")
def a_thread_is_kept_for_some_jobs() -> Iterator[None]:
    begin, number, over = Job.begin, 0, threading.Event()

    def begins(self: Job) -> None:
        nonlocal number
        number += 1
        if number % 10 == 0:
            threading.Thread(target=over.wait, daemon=True).start()
        begin(self)

    with mock.patch.object(Job, "begin", begins):
        yield
    over.set()


@found_as("fds changed")
def a_file_stays_open_for_each_start_of_a_service() -> Iterator[None]:
    start, opened = ServiceChild.start, []

    async def opens(self: ServiceChild) -> None:
        opened.append(os.open(os.devnull, os.O_RDONLY))
        await start(self)

    with mock.patch.object(ServiceChild, "start", opens):
        yield
    for descriptor in opened:
        os.close(descriptor)


@found_as("machines: ")
def a_machine_is_kept_although_it_stopped() -> Iterator[None]:
    stop_now, number = DynamicSupervisor.stop_now, 0

    def keeps(self: DynamicSupervisor, actor: Any, **named: Any) -> None:
        nonlocal number
        number += 1
        stop_now(self, actor, **named)
        if number % 20 == 0:
            self._parts.registry.actors[actor.id] = actor

    with mock.patch.object(DynamicSupervisor, "stop_now", keeps):
        yield
