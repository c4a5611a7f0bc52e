"""What a machine class may choose, with the defaults and their units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from math import inf
from typing import Any

from actorfsm.errors import DefinitionError

__all__ = [
    "Directive",
    "MachineOptions",
    "MailboxPolicy",
    "Overflow",
    "Redelivery",
    "RestartPolicy",
    "backoff",
]


class Directive(StrEnum):
    """What becomes of the machine after an event failed (the event is answered and rolled back in any case)."""

    RESUME = "resume"
    RESTART = "restart"
    STOP = "stop"


class Overflow(StrEnum):
    """What a full mailbox does with one more event."""

    REFUSE = "refuse"
    """The sender gets `MailboxFull` at once."""
    WAIT = "wait"
    """It waits outside for room: an ask until its deadline, a tell until `wait_timeout_s`."""
    DROP_NEWEST = "drop_newest"
    """It becomes a dead letter."""
    DROP_OLDEST = "drop_oldest"
    """The event that has waited longest becomes a dead letter."""


def _check_member(place: str, given: object, members: type[Enum]) -> None:
    # The text "restart" equals Directive.RESTART, but is not it.
    if not isinstance(given, members):
        raise DefinitionError(f"{place}: {given!r} is not a member of {members.__name__}")


def _is_whole(given: object, least: int) -> bool:
    return isinstance(given, int) and not isinstance(given, bool) and given >= least


def _is_time(given: object) -> bool:
    """Return whether it is a number of seconds, 0 or more; infinity is one."""
    return isinstance(given, int | float) and not isinstance(given, bool) and given >= 0


@dataclass(frozen=True, slots=True)
class MailboxPolicy:
    """How much a mailbox holds.

    Attributes:
        capacity: Events that may wait, per machine.
        overflow: What happens to one more.
        waiting: With `Overflow.WAIT`, and for messages of other machines: how many may wait outside.
        wait_timeout_s: How long a tell, or a message of another machine, waits for room, in seconds.
    """

    capacity: int = 1024
    overflow: Overflow = Overflow.REFUSE
    waiting: int = 1024
    wait_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        figures = _is_whole(self.capacity, 1) and _is_whole(self.waiting, 0)
        if not (figures and _is_time(self.wait_timeout_s) and self.wait_timeout_s > 0):
            raise DefinitionError("MailboxPolicy: capacity >= 1, waiting >= 0 and wait_timeout_s > 0")
        _check_member("MailboxPolicy.overflow", self.overflow, Overflow)


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How often, and how soon, a failing machine is restarted (OTP's intensity and period, with backoff).

    Attributes:
        max_restarts: More restarts than this within the period are too many: a machine that was spawned by id goes into
            quarantine, a declared supervisor stops its children and fails to the one above.
        within_s: The period, in seconds.
        first_delay_s: Pause before the first restart, in seconds; each further one doubles it.
        max_delay_s: The longest pause, in seconds.
        jitter: Share of the pause that is random: 0.2 spreads it over 80 to 120 percent.
        stable_after_s: After this long without a restart the pause begins anew at `first_delay_s`.
        escalate: For machines that are spawned by id: whether too many restarts of one fail the supervisor of its class
            to the one above, instead of putting the machine into quarantine.
    """

    max_restarts: int = 3
    within_s: float = 5.0
    first_delay_s: float = 0.1
    max_delay_s: float = 30.0
    jitter: float = 0.2
    stable_after_s: float = 60.0
    escalate: bool = False

    def __post_init__(self) -> None:
        figures = _is_whole(self.max_restarts, 0) and _is_time(self.within_s) and _is_time(self.jitter)
        if not (figures and self.within_s > 0 and self.jitter < 1):
            raise DefinitionError("RestartPolicy: max_restarts >= 0, within_s > 0, 0 <= jitter < 1")
        pauses = (self.first_delay_s, self.max_delay_s, self.stable_after_s)
        if not all(map(_is_time, pauses)) or self.first_delay_s > self.max_delay_s:
            raise DefinitionError("RestartPolicy: 0 <= first_delay_s <= max_delay_s and stable_after_s >= 0")


@dataclass(frozen=True, slots=True)
class Redelivery:
    """Try a failed event again before giving it up as poison. The machine handles nothing else meanwhile.

    Attributes:
        attempts: How many times more; 0 means never.
        first_delay_s: Pause before the first, in seconds; each further one doubles it.
        max_delay_s: The longest pause, in seconds.
    """

    attempts: int = 0
    first_delay_s: float = 0.1
    max_delay_s: float = 5.0

    def __post_init__(self) -> None:
        figures = _is_whole(self.attempts, 0) and _is_time(self.first_delay_s) and _is_time(self.max_delay_s)
        if not figures or self.first_delay_s > self.max_delay_s:
            raise DefinitionError("Redelivery: attempts >= 0 and 0 <= first_delay_s <= max_delay_s")


def backoff(policy: RestartPolicy | Redelivery, failures_before: int) -> float:
    """Return the pause, in seconds: the first one doubled with each failure before, bounded before it overflows."""
    return min(policy.first_delay_s * 2.0 ** min(failures_before, 64), policy.max_delay_s)


@dataclass(frozen=True, slots=True)
class MachineOptions:
    """The choices of one machine class.

    Attributes:
        on_failure: Directive by exception type; the most specific class wins. Where none fits, a machine that was
            spawned by id resumes, and one that is declared in the supervision tree is restarted.
        redelivery: Whether a failed event is tried again.
        mailbox: Its bounds.
        restart: Restart intensity and backoff.
        postpone_limit: Events that may be postponed at a time.
        own_event_limit: Events that a machine may raise in a row with `next_event` before one from outside.
        remembered_ids: How many of the newest explicit event ids are remembered per machine.
        timer_limit: Timers that a machine may have at a time.
        job_limit: Jobs that a machine may have at a time.
        timer_attempts: How many times more a timer comes whose event failed, before the machine is quarantined.
        durable_inbox: Whether each event that is told to it is stored before it is accepted, where there is a journal.
        hook_timeout_s: Deadline of each hook and body, in seconds.
    """

    on_failure: Mapping[type[BaseException], Directive] = field(
        default_factory=dict[type[BaseException], Directive]
    )
    redelivery: Redelivery = Redelivery()
    mailbox: MailboxPolicy = MailboxPolicy()
    restart: RestartPolicy = RestartPolicy()
    postpone_limit: int = 1024
    own_event_limit: int = 100
    remembered_ids: int = 128
    timer_limit: int = 100
    timer_attempts: int = 3
    job_limit: int = 16
    hook_timeout_s: float = 30.0
    durable_inbox: bool = False

    def check(self, class_name: str) -> None:
        """Check the figures and the directives.

        Raises:
            DefinitionError: One of them cannot be meant.
        """
        if not _is_whole(self.timer_attempts, 0):
            raise DefinitionError(f"{class_name}: timer_attempts={self.timer_attempts!r}; give 0 or more")
        for name in ("postpone_limit", "own_event_limit", "remembered_ids", "timer_limit", "job_limit"):
            if not _is_whole(getattr(self, name), 1):
                raise DefinitionError(f"{class_name}: {name}={getattr(self, name)!r}; give a number above 0")
        if not 0 < self.hook_timeout_s < inf:
            raise DefinitionError(
                f"{class_name}: hook_timeout={self.hook_timeout_s!r}; give a time above 0, in seconds or as a timedelta"
            )
        for name, policy in (
            ("redelivery", Redelivery),
            ("mailbox", MailboxPolicy),
            ("restart", RestartPolicy),
        ):
            if not isinstance(getattr(self, name), policy):
                raise DefinitionError(
                    f"{class_name}: {name}={getattr(self, name)!r}; give a {policy.__name__}"
                )
        self._check_choices(class_name)

    def _check_choices(self, class_name: str) -> None:
        given: Any = self.durable_inbox
        if not isinstance(given, bool):
            raise DefinitionError(f"{class_name}: durable_inbox={given!r}; give True or False")
        given = self.on_failure
        if not isinstance(given, Mapping):
            raise DefinitionError(
                f"{class_name}: on_failure={given!r}; give a directive for each class of exceptions: {{Exception: ...}}"
            )
        for error, directive in self.on_failure.items():
            given = error
            if not isinstance(given, type) or not issubclass(given, BaseException):
                raise DefinitionError(
                    f"{class_name}: on_failure={{{error!r}: ...}}; give classes of exceptions"
                )
            _check_member(f"{class_name}: on_failure[{error.__name__}]", directive, Directive)

    def directive_for(self, error: BaseException, otherwise: Directive = Directive.RESUME) -> Directive:
        """Return what to do with the machine after this error; `otherwise` where the class says nothing."""
        for cls in type(error).__mro__:
            if cls in self.on_failure:
                return self.on_failure[cls]
        return otherwise
