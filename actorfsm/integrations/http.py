"""What HTTP says of a machine's answers, the same for every framework: statuses, problem documents, headers.

A refusal is a problem document (RFC 9457). Its `type` names the error, its `detail` is the error's own sentence, which
never holds a value of an event; of what user code raised nothing is shown.
"""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from actorfsm import errors
from actorfsm.errors import ActorFSMError, InvalidEvent, Unhandled, Vetoed
from actorfsm.ids import MAX_ID_LENGTH, check_event_id, is_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from actorfsm.runtime.system import ActorSystem

__all__ = [
    "EVENT_HEADERS",
    "PROBLEM_JSON",
    "RULES",
    "EventAddress",
    "Problem",
    "Rule",
    "address_of",
    "plain_problem",
    "problem_of",
]

PROBLEM_JSON: Final = "application/problem+json"
_LOG: Final = logging.getLogger("actorfsm.http")
_RETRY_AFTER_S: Final = 1
_PHRASES: Final = {413: "Content Too Large", 422: "Unprocessable Content"}  # older Pythons have older words
_MAX_TRACESTATE: Final = 512
"""Characters; what the W3C asks everybody to pass on at least."""
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?\Z"
)
EVENT_HEADERS: Final = {
    "traceparent": "traceparent",
    "tracestate": "tracestate",
    "x-request-id": "request_id",
    "x-correlation-id": "correlation_id",
}
"""Which headers of a request an event gets, and how they are called there."""


# -- problems ---------------------------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """What HTTP says of one error.

    Attributes:
        status: The status.
        retry: Whether it may pass by itself: the answer says when to try again.
        outcome: Whether the event was surely not applied, or nobody knows: then retry with the same `Idempotency-Key`.
    """

    status: HTTPStatus
    retry: bool = False
    outcome: Literal["not-applied", "unknown"] = "not-applied"


_OURS: Final = Rule(HTTPStatus.INTERNAL_SERVER_ERROR)
_LATER: Final = Rule(HTTPStatus.SERVICE_UNAVAILABLE, retry=True)
_HELD: Final = Rule(HTTPStatus.SERVICE_UNAVAILABLE)

RULES: Final[Mapping[type[ActorFSMError], Rule]] = {
    errors.NoSuchMachine: Rule(HTTPStatus.NOT_FOUND),
    errors.NoSuchLetter: Rule(HTTPStatus.NOT_FOUND),
    errors.Vetoed: Rule(HTTPStatus.CONFLICT),
    errors.Unhandled: Rule(HTTPStatus.CONFLICT),
    errors.MachineExists: Rule(HTTPStatus.CONFLICT),
    errors.MachineStopped: Rule(HTTPStatus.CONFLICT),
    errors.EventIdUsed: Rule(HTTPStatus.CONFLICT),
    errors.ConcurrentTransition: Rule(HTTPStatus.CONFLICT, retry=True),
    errors.InvalidEvent: Rule(HTTPStatus.UNPROCESSABLE_ENTITY),
    errors.InvalidData: Rule(HTTPStatus.UNPROCESSABLE_ENTITY),
    # As the IETF draft of Idempotency-Key has it.
    errors.EventIdConflict: Rule(HTTPStatus.UNPROCESSABLE_ENTITY),
    errors.MailboxFull: Rule(HTTPStatus.TOO_MANY_REQUESTS, retry=True),
    errors.Expired: Rule(HTTPStatus.GATEWAY_TIMEOUT, retry=True),
    errors.AskTimeout: Rule(HTTPStatus.GATEWAY_TIMEOUT, retry=True, outcome="unknown"),
    errors.SystemStopping: _LATER,
    errors.SystemFailed: Rule(HTTPStatus.SERVICE_UNAVAILABLE, outcome="unknown"),
    errors.Quarantined: _HELD,
    # With a journal.
    errors.JournalFull: Rule(HTTPStatus.INSUFFICIENT_STORAGE, retry=True),
    errors.NotStored: _LATER,
    errors.JournalClosed: _LATER,
    errors.Fenced: _HELD,
    errors.OutcomeUnknown: Rule(HTTPStatus.SERVICE_UNAVAILABLE, retry=True, outcome="unknown"),
    errors.JournalLocked: _HELD,
    errors.JournalUnusable: _HELD,
    errors.JournalCorrupt: _HELD,
    errors.JournalError: Rule(HTTPStatus.SERVICE_UNAVAILABLE, outcome="unknown"),
    # Mistakes in the program.
    errors.HookFailed: _OURS,
    errors.SchemaMismatch: _OURS,
    errors.AskCycle: _OURS,
    errors.DefinitionError: _OURS,
    errors.Unsupported: _OURS,
    errors.WrongThread: _OURS,
    errors.WrongProcess: _OURS,
    errors.StaleTurn: _OURS,
    errors.ReadOnly: _OURS,
    errors.Discarded: _OURS,
    errors.JobGivenUp: _OURS,
    errors.ActorFSMError: _OURS,
}
"""Every error has its row: none gets a status by chance."""


class Problem(BaseModel):
    """A problem document of RFC 9457.

    Attributes:
        type: `urn:actorfsm:problem:` and the name of the error, or `about:blank` where the status says all.
        title: The name of the error, or the phrase of the status.
        status: The status of the response.
        detail: What happened and what to do.
        outcome: `not-applied`: the event surely changed nothing. `unknown`: send it again with the same
            `Idempotency-Key`; it is answered from the record if it was applied.
        machine_id: The machine concerned.
        event: Name of the event's class.
        state: The machine's state.
        allowed: Names of the events that it takes there.
        guards: Names of the guards that said no.
        by: The hook that refused.
        reason: Why it refused, in its own words.
    """

    model_config = ConfigDict(frozen=True)

    type: str = "about:blank"
    title: str
    status: int = Field(ge=400, lt=600)
    detail: str
    outcome: Literal["not-applied", "unknown"] = "not-applied"
    machine_id: str | None = None
    event: str | None = None
    state: str | None = None
    allowed: list[str] | None = None
    guards: list[str] | None = None
    by: str | None = None
    reason: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the response."""
        return {"content-type": PROBLEM_JSON, **self._retry_after()}

    @property
    def body(self) -> bytes:
        """The document; what is not known is left away."""
        return self.model_dump_json(exclude_none=True).encode()

    def _retry_after(self) -> dict[str, str]:
        rule = _BY_TYPE.get(self.type)
        return {"retry-after": str(_RETRY_AFTER_S)} if rule is not None and rule.retry else {}


def _type_of(error: type[ActorFSMError]) -> str:
    return f"urn:actorfsm:problem:{error.__name__}"


_BY_TYPE: Final = {_type_of(error): rule for error, rule in RULES.items()}


def problem_of(error: ActorFSMError, systems: Iterable[ActorSystem[Any]] = ()) -> Problem:
    """Return what HTTP says of an error; one that is no answer but a fault goes to the log `actorfsm.http` too.

    Args:
        error: The error.
        systems: Where to look which events a machine takes whose hook refused one.
    """
    known = next(cls for cls in type(error).__mro__ if cls in RULES)
    rule = RULES[known]
    detail = str(error)
    if rule is _OURS:
        _LOG.error("%s: answered %d", type(error).__name__, rule.status, exc_info=error)
        detail = "a fault of the service, which its log tells"
    says: dict[str, Any] = {}
    if isinstance(error, Unhandled):
        says = {"state": _name(error.state), "allowed": list(error.allowed), "guards": list(error.guards)}
    elif isinstance(error, Vetoed):
        says = {"by": error.by, "reason": error.reason, **_now(error.machine_id, systems)}
    return Problem(
        type=_type_of(known),
        title=known.__name__,
        status=rule.status,
        detail=detail,
        outcome=rule.outcome,
        machine_id=error.machine_id,
        event=None if error.event is None else type(error.event).__name__,
        **says,
    )


def plain_problem(status: int, detail: str = "") -> Problem:
    """Return a problem of which the status says all."""
    phrase = _PHRASES.get(status) or HTTPStatus(status).phrase
    return Problem(title=phrase, status=status, detail=detail or phrase)


def _now(machine_id: str | None, systems: Iterable[ActorSystem[Any]]) -> dict[str, Any]:
    for system in systems:
        try:
            snapshot = system.snapshot(machine_id or "")
        except ActorFSMError:
            continue
        return {"state": _name(snapshot.state), "allowed": list(snapshot.allowed)}
    return {}


def _name(state: Any) -> str:
    return str(getattr(state, "name", state))


# -- headers ----------------------------------------------------------------------------------------------------------


class EventAddress(NamedTuple):
    """What the headers of a request say of the event in it: to be given to `ask`, `tell` and `spawn` by name.

    Attributes:
        event_id: From `Idempotency-Key`; None if there was none.
        headers: The event's headers.
    """

    event_id: str | None
    headers: dict[str, str]


def address_of(headers: Mapping[str, str]) -> EventAddress:
    """Return the event id and the event's headers that a request brings.

    `X-Request-ID` is the `correlation_id` too, unless there is an `X-Correlation-ID`.

    Args:
        headers: Those of the request, looked up by names in small letters.

    Raises:
        InvalidEvent: An `Idempotency-Key` or a request id that is not 1 to 200 printable characters, a `traceparent`
            that is none, or a `tracestate` of more than 512 characters.
    """
    found = {ours: value for name, ours in EVENT_HEADERS.items() if (value := headers.get(name)) is not None}
    for name in ("request_id", "correlation_id"):
        if name in found and not is_name(found[name]):
            raise InvalidEvent(f"the header of the {name} is 1 to 200 printable characters")
    if "traceparent" not in found:
        found.pop("tracestate", None)  # says nothing alone
    elif not _TRACEPARENT.match(found["traceparent"]) or len(found["traceparent"]) > MAX_ID_LENGTH:
        raise InvalidEvent("traceparent is no trace context of the W3C: 00-<32 hex>-<16 hex>-<2 hex>")
    state = found.get("tracestate", "")
    if len(state) > _MAX_TRACESTATE or not state.isprintable():
        raise InvalidEvent(f"tracestate is at most {_MAX_TRACESTATE} printable characters")
    if "request_id" in found:
        found.setdefault("correlation_id", found["request_id"])
    return EventAddress(_event_id(headers.get("idempotency-key")), found)


def _event_id(key: str | None) -> str | None:
    if key is None:
        return None
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]  # a string of a structured field, as the draft has it
    try:
        return check_event_id(key)
    except InvalidEvent:
        raise InvalidEvent("Idempotency-Key is 1 to 200 printable characters") from None
