"""The bounds and deadlines of a system, with their units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from actorfsm.errors import DefinitionError

__all__ = ["MAX_TIMEOUT_S", "Limits"]

MAX_TIMEOUT_S: Final = 1e9
"""The longest deadline: 31 years, in seconds."""

_MAY_BE_ZERO: Final = frozenset(
    {
        *("dead_letters", "transitions", "header_count", "header_bytes", "inline_depth"),
        *("blocked_s", "grace_s", "stop_timeout_s"),
    }
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one system; those of a mailbox are the machine class's own.

    Times are numbers of seconds, at most 31 years, all others whole numbers. They are above 0 but where 0 has a sense:
    nothing is kept, allowed, nested, watched or waited for then.

    Raises:
        DefinitionError: A value cannot be meant.

    Attributes:
        ask_timeout_s: Deadline of an ask that names none, in seconds.
        grace_s: How long a hook may take to end after it was cancelled, in seconds.
        callback_timeout_s: Deadline of a callback, in seconds.
        stop_timeout_s: How long `stop` waits for queues to be finished, in seconds.
        pending_asks: Asks that may wait for an answer at a time.
        dead_letters: How many of the newest dead letters are kept.
        transitions: How many of the last ends of events are kept, over all machines; 0 keeps none.
        callbacks: Callbacks that may wait at one machine, and at the operator.
        header_count: Headers of one event.
        header_bytes: Characters of one event's headers, names and values together.
        turns_per_step: Events handled before the event loop gets its turn, over all machines.
        events_in_a_row: Events that one machine handles before the next ready one has its turn.
        timers_per_step: Timers that fall due before the event loop gets its turn, over all machines.
        blocking_threads: Hooks marked `@blocking` that may run at a time, each in its thread.
        inline_depth: How deep asks that are handled at once may nest before they queue.
        thread_calls: Calls of `system.threadsafe` that may wait for the event loop.
        blocked_s: How long the event loop may not answer before the line that blocks it is named, in seconds; 0 to
            never look.
    """

    ask_timeout_s: float = 10.0
    grace_s: float = 5.0
    callback_timeout_s: float = 30.0
    stop_timeout_s: float = 30.0
    pending_asks: int = 100_000
    dead_letters: int = 1_000
    transitions: int = 1_000
    callbacks: int = 10_000
    header_count: int = 32
    header_bytes: int = 8_192
    turns_per_step: int = 256
    events_in_a_row: int = 8
    timers_per_step: int = 256
    blocking_threads: int = 16
    inline_depth: int = 16
    thread_calls: int = 10_000
    blocked_s: float = 0.25

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value: Any = getattr(self, name)
            least = "0 or more" if name in _MAY_BE_ZERO else "above 0"
            if name.endswith("_s"):
                fits = _is_number(value, int | float) and 0 <= value <= MAX_TIMEOUT_S
                what = f"seconds, {least}, up to {MAX_TIMEOUT_S:,.0f}"
            else:
                fits = _is_number(value, int) and value >= 0
                what = f"a whole number, {least}"
            if not fits or (value == 0 and name not in _MAY_BE_ZERO):
                raise DefinitionError(f"Limits: {name}={value!r}; give {what}")


def _is_number(value: object, cls: Any) -> bool:
    return isinstance(value, cls) and not isinstance(value, bool)
