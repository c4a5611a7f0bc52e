"""Mutants that no test can notice, each with the reason: file, function, change."""

from __future__ import annotations

from typing import Final

_AGAIN: Final = "the builder sets it again for each machine class"
_ID: Final = "any text will do in an id that is derived: what counts is that it differs, and that it repeats"
_SHORTCUT: Final = "a shortcut: without it the same comes about more slowly"

REASONS: Final[dict[tuple[str, str, str], str]] = {
    ("actorfsm/machine/decorators.py", "after_transition", "0 -> (-1)"): "of a tuple that has one element",
    (
        "actorfsm/machine/definition.py",
        "Transition.__init__",
        "self.is_rare = self.is_birth -> pass",
    ): _AGAIN,
    ("actorfsm/machine/definition.py", "Definition", "False -> True"): _AGAIN,
    ("actorfsm/machine/draft.py", "_count_when_unshared", "del machine -> pass"): "the function returns",
    (
        "actorfsm/machine/machine.py",
        "_callers_names",
        "1 -> (0)",
    ): "the frames of this module are stepped over anyway",
    (
        "actorfsm/runtime/dispatcher.py",
        "-",
        "1024 -> (1023)",
    ): "how many empty mailboxes are kept: speed alone",
    ("actorfsm/runtime/dispatcher.py", "-", "1024 -> 1025"): "how many empty mailboxes are kept: speed alone",
    (
        "actorfsm/runtime/dispatcher.py",
        "Dispatcher._pump",
        "self._starting = True -> pass",
    ): "from Python 3.12 on the worker starts, and resets it, before the next line",
    (
        "actorfsm/runtime/dynamic_supervisor.py",
        "DynamicSupervisor._resume",
        "0 -> (-1)",
    ): "to cancel a key that is not known does nothing",
    (
        "actorfsm/runtime/dynamic_supervisor.py",
        "DynamicSupervisor.stop_now",
        'rare.stop_reason or "stopped" -> (rare.stop_reason)',
    ): "every caller has set a reason",
    (
        "actorfsm/runtime/perform.py",
        "committed",
        (
            "mailbox is not None and mailbox.postponed and choice.changes_state"
            " -> (mailbox is not None and choice.changes_state)"
        ),
    ): _SHORTCUT,
    (
        "actorfsm/runtime/perform.py",
        "_interruption",
        "task is not None and task.cancelling() -> (task is not None or task.cancelling())",
    ): "a turn has a task, and to take back a cancellation that is not there does nothing",
    (
        "actorfsm/runtime/perform.py",
        "after_hook_failed",
        (
            "isinstance(error, GeneratorExit) and asyncio._get_running_loop() is None"
            " -> (asyncio._get_running_loop() is None)"
        ),
    ): "without a running loop nothing else than GeneratorExit comes to a hook",
    (
        "actorfsm/runtime/turn.py",
        "adopt",
        "turn is not None and not turn.closed and not task.done() -> (turn is not None and (not turn.closed))",
    ): "a task that has ended is left alone at the end of the turn, too",
    ("actorfsm/runtime/turn.py", "Turn.idempotency_key", "\"guard\" -> 'guard_'"): _ID,
    (
        "actorfsm/runtime/turn.py",
        "Turn.next_event",
        "len(self.own_events) + 1 -> (len(self.own_events) - 1)",
    ): _ID,
    ("actorfsm/runtime/turn.py", "Turn.next_event", "1 -> (0)"): _ID,
    (
        "actorfsm/runtime/door.py",
        "Door.wait",
        "envelope.deadline or 0.0 -> (envelope.deadline)",
    ): "an ask has a deadline; the type alone has it open",
}
