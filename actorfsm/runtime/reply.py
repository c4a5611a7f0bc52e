"""Replies: how an event's end reaches whoever waits for it, within this process.

Nothing here knows actors. A waiter is only ever woken; what it finds is on the envelope, so that a reply that nobody
waits for any more hurts nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from actorfsm.event import ErrorInfo, Outcome
from actorfsm.problems import without_input
from actorfsm.runtime.envelope import Settlement
from actorfsm.values import copy_value, is_immutable

if TYPE_CHECKING:
    import asyncio

    from actorfsm.errors import ActorFSMError
    from actorfsm.runtime.envelope import Envelope

__all__ = [
    "describe_error",
    "described",
    "finish",
    "outcome_of",
    "refuse",
    "refused_with",
    "safe_text",
    "tell_accepted",
]

MAX_REASON_LENGTH: Final = 2_000
"""Characters of a reason, or of the message of an error of user code, that are passed on."""


def tell_accepted(envelope: Envelope) -> None:
    """Note that the event is in the mailbox."""
    envelope.accepted = True
    _wake(envelope.accept_waiters)
    envelope.accept_waiters = None


def refuse(envelope: Envelope, error: ActorFSMError) -> None:
    """Note that the event was never accepted."""
    envelope.refusal = error
    _wake(envelope.accept_waiters)
    _wake(envelope.outcome_waiters)
    envelope.accept_waiters = envelope.outcome_waiters = None
    if envelope.waiter is not None and not envelope.waiter.done():
        envelope.error = error
        envelope.settled = True
        envelope.waiter.set_result(None)


def refused_with(error: ActorFSMError) -> Settlement:
    """Return the end of an event that was never accepted."""
    return Settlement("dead_lettered", None, None, None, error, safe_text(error), 0)


def finish(envelope: Envelope, settlement: Settlement) -> None:
    """Note how the event ended."""
    envelope.settlement = settlement
    envelope.accepted = True
    _wake(envelope.accept_waiters)
    _wake(envelope.outcome_waiters)
    envelope.accept_waiters = envelope.outcome_waiters = None


def _wake(waiters: list[asyncio.Future[None]] | None) -> None:
    for waiter in waiters or ():
        if not waiter.done():
            waiter.set_result(None)


def outcome_of(envelope: Envelope, event_id: str, settlement: Settlement) -> Outcome:
    """Return an event's end as plain data."""
    reply = settlement.reply
    return Outcome(
        kind=settlement.kind,
        success=settlement.kind == "committed",
        machine=envelope.machine_name,
        machine_id=envelope.machine_id,
        event_type=type(envelope.event).__name__,
        event_id=event_id,
        old=settlement.old,
        new=settlement.new,
        reply=reply if is_immutable(type(reply)) else copy_value(reply),
        reason=settlement.reason,
        error=None if settlement.error is None else describe_error(settlement.error),
        seq=settlement.seq,
        duplicate=settlement.duplicate,
    )


def describe_error(error: ActorFSMError) -> ErrorInfo:
    """Return an error as plain data: its cause where user code raised."""
    cause: BaseException = error.__cause__ or error
    hook: Any = getattr(error, "hook", None) or getattr(error, "by", None)
    return ErrorInfo(type=type(cause).__name__, text=safe_text(cause), hook=hook)


def safe_text(said: object) -> str:
    """Return the text of an exception, or of what user code gave as a reason: without what pydantic was given.

    Whatever its `__str__` does, and not without end.
    """
    try:
        text = without_input(said) if isinstance(said, ValidationError) else str(said)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 -- an exception whose __str__ raises cannot hurt the runtime (C13)
        return f"<{type(said).__name__} whose text cannot be shown>"
    if not text.isascii():
        text = text.encode(
            errors="backslashreplace"
        ).decode()  # half of a surrogate pair can be stored nowhere
    if len(text) <= MAX_REASON_LENGTH:
        return text
    # Half of what may be, so that a message that quotes it is not cut again.
    return f"{text[: MAX_REASON_LENGTH // 2]}... ({len(text):,} characters)"


def described(error: BaseException) -> str:
    """Return an error in a few words: its class and what it says."""
    said = safe_text(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
