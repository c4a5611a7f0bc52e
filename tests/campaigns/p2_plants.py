"""Planted bugs: patches to the runtime that P2, unchanged, must find.

Each is one that somebody could write. They are rare on purpose: not every time, only where a condition holds.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any
from unittest import mock

from actorfsm import Veto
from actorfsm.machine.definition import Transition
from actorfsm.machine.selection import select
from actorfsm.runtime import actor as actor_module, perform
from actorfsm.runtime.admission import Admission
from actorfsm.runtime.door import Door
from actorfsm.runtime.mailbox import Mailbox
from actorfsm.runtime.turn import CURRENT, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLANTS: dict[str, tuple[Callable[[], Any], frozenset[str]]] = {}
"""By name: what plants it, and the rules of which at least one must be reported broken."""


def plant(*rules: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def add(function: Callable[[], Iterator[None]]) -> Callable[[], Any]:
        manager = contextmanager(function)
        PLANTS[function.__name__.replace("_", " ")] = manager, frozenset(rules)
        return manager

    return add


@plant("C8")
def a_lost_reply() -> Iterator[None]:
    """The event is committed, its deadline still runs, but the asker is not woken."""
    settle, numbers = perform.settle, count(1)

    def losing(actor: Any, envelope: Any, *arguments: Any, **options: Any) -> None:
        waiter = envelope.waiter
        if waiter is None or waiter.done() or next(numbers) % 10:
            settle(actor, envelope, *arguments, **options)
            return
        envelope.waiter = None
        settle(actor, envelope, *arguments, **options)
        envelope.waiter = waiter
        actor.kind.parts.deadlines.add(envelope, envelope.deadline)

    with mock.patch.object(perform, "settle", losing):
        yield


@plant("C4")
def a_reordered_mailbox() -> Iterator[None]:
    """Now and then the newest event is taken, not the oldest."""
    take, numbers = Mailbox.take, count(1)

    def jumping(self: Mailbox) -> Any:
        if len(self.queue) > 1 and not self.own and not self.released and next(numbers) % 20 == 0:
            return self.queue.pop()
        return take(self)

    with mock.patch.object(Mailbox, "take", jumping):
        yield


@plant("C2", "C7", "C8")
def a_reply_before_the_commit() -> Iterator[None]:
    """The asker is answered when the transition is chosen, while its hooks are still to come."""

    def answering(node: Any, event: Any, machine: Any) -> Any:
        choice = select(node, event, machine)
        envelope = machine._turn.envelope
        if (
            isinstance(choice, Transition)
            and any(step.kind == "enter" for step in choice.steps)
            and hasattr(event, "n")
            and envelope.waiter is not None
            and not envelope.waiter.done()
        ):
            envelope.reply = event.n
            envelope.waiter.set_result(None)
        return choice

    with mock.patch.object(actor_module, "select", answering):
        yield


@plant("C2")
def a_veto_that_leaves_an_exit_hooks_changes() -> Iterator[None]:
    """A refusal by an enter hook keeps the draft, so that the next commit takes it along."""
    roll_back = perform.roll_back

    def keeping(turn: Turn, error: BaseException) -> bool:
        refused = isinstance(error, Veto) and turn.step is not None and turn.step.kind == "enter"
        if refused and not turn.closed and turn.draft is not None and turn.actor.node.parent is not None:
            turn.actor.data = dict(turn.draft)
        return roll_back(turn, error)

    with mock.patch.object(perform, "roll_back", keeping):
        yield


@plant("C13", "C8")
def a_cancelled_caller_that_cancels_the_event() -> Iterator[None]:
    """Whoever gives up waiting takes the running hook with him."""
    wait = Door.wait

    async def cancelling(self: Any, envelope: Any) -> None:
        try:
            await wait(self, envelope)
        except asyncio.CancelledError:
            for task, context in list(self._parts.dispatcher.workers.items()):
                turn = context.get(CURRENT)
                if turn is not None and turn.envelope is envelope:
                    task.cancel()
            raise

    with mock.patch.object(Door, "wait", cancelling):
        yield


@plant("C7")
def a_postponed_event_forgotten() -> Iterator[None]:
    """When the state changes, the last of several postponed events is not tried again."""
    release = Mailbox.release_postponed

    def forgetting(self: Mailbox) -> None:
        if self.postponed and len(self.postponed) > 1:
            self.postponed.pop()
        release(self)

    with mock.patch.object(Mailbox, "release_postponed", forgetting):
        yield


@plant("C24")
def a_duplicate_applied_twice() -> Iterator[None]:
    """An event id is forgotten when its event is committed."""
    is_repetition = Admission._is_repetition

    def forgetful(self: Any, actor: Any, envelope: Any) -> bool:
        known = None if actor.rare is None else actor.rare.ids.get(envelope.event_id)
        if known is not None and known.settlement is not None:
            del actor.rare.ids[envelope.event_id]
        return is_repetition(self, actor, envelope)

    with mock.patch.object(Admission, "_is_repetition", forgetful):
        yield


@plant("C2")
def an_outgoing_message_sent_although_rolled_back() -> Iterator[None]:
    """What a turn wanted to send leaves when the turn ends, however it ends."""

    def sending(self: Turn, outgoing: list[Any]) -> None:
        for envelope in outgoing:
            envelope.sender = None
            self.actor.kind.parts.admission.deliver(envelope)

    with mock.patch.object(Turn, "_discard", sending):
        yield
