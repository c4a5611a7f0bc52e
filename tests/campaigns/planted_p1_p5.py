"""Bugs to plant into the runtime, each as small as the slip of a pen; P1 or P5 must find it, unchanged.

A plant patches one function of the runtime and is taken out again by the `monkeypatch` that it is given.
"""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actorfsm import ActorSystem, Veto
from actorfsm.machine import draft
from actorfsm.runtime import actor as actor_module, perform, reply
from actorfsm.runtime.admission import Admission
from actorfsm.runtime.callbacks import Callbacks
from actorfsm.runtime.deadlines import DeadlineWheel
from actorfsm.runtime.door import Door
from actorfsm.runtime.dynamic_supervisor import DynamicSupervisor
from actorfsm.runtime.mailbox import Mailbox
from actorfsm.runtime.turn import CURRENT, Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


@dataclass(frozen=True)
class Plant:
    """A bug, and the programmes that must find it."""

    name: str
    plant: Callable[[pytest.MonkeyPatch], None]
    found_by: tuple[str, ...]


PLANTS: list[Plant] = []
CRASHES: list[BaseException] = []
"""What went wrong in a plant itself. A plant that only crashes proves nothing: it is not the bug that it says it is."""


def put(patch: pytest.MonkeyPatch, owner: Any, name: str, function: Any) -> None:
    """Put a function in the place of one of the runtime's, and notice if it crashes for reasons of its own."""

    def notice(error: BaseException) -> None:
        if isinstance(error, AttributeError | NameError):
            CRASHES.append(error)

    async def later(*arguments: Any, **named: Any) -> Any:
        try:
            return await function(*arguments, **named)
        except BaseException as error:
            notice(error)
            raise

    def at_once(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except BaseException as error:
            notice(error)
            raise

    patch.setattr(owner, name, later if inspect.iscoroutinefunction(function) else at_once)


def found_by(*programmes: str) -> Callable[[Any], Any]:
    """Enter a plant into the list."""

    def enter(plant: Any) -> Any:
        PLANTS.append(Plant(plant.__name__, plant, programmes))
        return plant

    return enter


@found_by("P1")
def a_cancelled_caller_cancels_the_event(patch: pytest.MonkeyPatch) -> None:
    wait = Door.wait

    async def cancels(self: Door, envelope: Any) -> None:
        try:
            await wait(self, envelope)
        except asyncio.CancelledError:
            for task, context in list(self._parts.dispatcher.workers.items()):
                turn = context.get(CURRENT)
                if turn is not None and turn.envelope is envelope:
                    task.cancel()
            raise

    put(patch, Door, "wait", cancels)


@found_by("P1")
def the_reply_leaves_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    select = actor_module.select

    def replies(node: Any, event: Any, machine: Any) -> Any:
        turn = CURRENT.get()
        assert turn is not None
        waiter = turn.envelope.waiter
        if waiter is not None and not waiter.done():
            turn.envelope.settled, turn.envelope.reply = (
                True,
                f"{getattr(event, 'tag', '')}@{turn.machine_id}",
            )
            waiter.set_result(None)
        return select(node, event, machine)

    put(patch, actor_module, "select", replies)


@found_by("P1", "P5")
def a_rollback_keeps_what_was_done_to_nested_data(patch: pytest.MonkeyPatch) -> None:
    put(patch, draft, "copy_value", lambda value: value)


@found_by("P1", "P5")
def a_veto_leaves_the_exit_hooks_changes(patch: pytest.MonkeyPatch) -> None:
    roll_back = perform.roll_back

    def keeps(turn: Any, error: BaseException) -> bool:
        if isinstance(error, Veto) and turn.draft is not None:
            turn.actor.data = turn.draft
        return roll_back(turn, error)

    put(patch, perform, "roll_back", keeps)


@found_by("P1", "P5")
def a_veto_is_counted_as_in_flight_for_ever(patch: pytest.MonkeyPatch) -> None:
    roll_back = perform.roll_back

    def counts(turn: Any, error: BaseException) -> bool:
        goes_on = roll_back(turn, error)
        turn.actor.kind.parts.counters.in_flight += isinstance(error, Veto)
        return goes_on

    put(patch, perform, "roll_back", counts)


@found_by("P5")
def postponed_events_come_back_in_reverse(patch: pytest.MonkeyPatch) -> None:
    def postpone(self: Mailbox, envelope: Any) -> None:
        self.postponed = [envelope, *(self.postponed or ())]

    put(patch, Mailbox, "postpone", postpone)


@found_by("P1", "P5")
def a_duplicate_is_applied_twice(patch: pytest.MonkeyPatch) -> None:
    put(patch, Admission, "_is_repetition", lambda self, actor, envelope: False)


@found_by("P1")
def who_waits_for_a_receipt_is_never_woken(patch: pytest.MonkeyPatch) -> None:
    put(patch, reply, "_wake", lambda waiters: None)


@found_by("P1", "P5")
def a_message_leaves_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    tell = Turn.tell

    def delivers(self: Turn, *arguments: Any) -> Any:
        receipt = tell(self, *arguments)
        if self.outgoing:
            envelope = self.outgoing.pop()
            envelope.sender = None
            self.actor.kind.parts.admission.deliver(envelope)
        return receipt

    put(patch, Turn, "tell", delivers)


@found_by("P1")
def a_cancelled_callback_takes_the_next_ones_with_it(patch: pytest.MonkeyPatch) -> None:
    def ended(self: Callbacks, machine_id: str, lane: Any) -> None:
        del self._lanes[machine_id]
        self._parts.note_change()

    put(patch, Callbacks, "_ended", ended)


@found_by("P1")
def a_cancelled_shutdown_swallows_the_cancellation(patch: pytest.MonkeyPatch) -> None:
    shutdown = ActorSystem.shutdown

    async def swallows(self: ActorSystem, **options: Any) -> Any:
        try:
            return await shutdown(self, **options)
        except asyncio.CancelledError:
            return self.report

    put(patch, ActorSystem, "shutdown", swallows)


@found_by("P5")
def own_events_go_to_the_end_of_the_mailbox(patch: pytest.MonkeyPatch) -> None:
    put(patch, Mailbox, "raise_own", lambda self, envelopes: self.queue.extend(envelopes))


@found_by("P5")
def a_restart_turns_the_mailbox_round(patch: pytest.MonkeyPatch) -> None:
    restart = DynamicSupervisor.restart

    def turns_round(self: DynamicSupervisor, actor: Any, cause: BaseException) -> None:
        if actor.mailbox is not None:
            actor.mailbox.queue.reverse()
        restart(self, actor, cause)

    put(patch, DynamicSupervisor, "restart", turns_round)


@found_by("P5")
def deadlines_pass_a_second_early(patch: pytest.MonkeyPatch) -> None:
    add = DeadlineWheel.add
    put(patch, DeadlineWheel, "add", lambda self, envelope, deadline: add(self, envelope, deadline - 1))


@found_by("P5")
def a_release_forgets_to_wake_the_machine(patch: pytest.MonkeyPatch) -> None:
    go_on = DynamicSupervisor.go_on

    def forgets(self: DynamicSupervisor, actor: Any) -> None:
        if actor.rare is None or actor.rare.pause_key or actor.mailbox is None:
            go_on(self, actor)

    put(patch, DynamicSupervisor, "go_on", forgets)
