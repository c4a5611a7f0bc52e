"""The names of OpenTelemetry's conventions for messaging, and our own: the one place in which they stand.

The conventions for messaging are those of version 1.44.0, where they have the status Development.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CONVERSATION_ID",
    "DESTINATION_NAME",
    "DESTINATION_TEMPLATE",
    "ERROR_TYPE",
    "MESSAGE_ID",
    "OPERATION_NAME",
    "OPERATION_TYPE",
    "SCHEMA_URL",
    "SYSTEM",
]

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
SYSTEM_NAME: Final = "actorfsm"

SYSTEM: Final = "messaging.system"
OPERATION_NAME: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION_TEMPLATE: Final = "messaging.destination.template"
DESTINATION_NAME: Final = "messaging.destination.name"
MESSAGE_ID: Final = "messaging.message.id"
CONVERSATION_ID: Final = "messaging.message.conversation_id"
ERROR_TYPE: Final = "error.type"

EVENT_TYPE: Final = "actorfsm.event.type"
ATTEMPT: Final = "actorfsm.event.attempt"
QUEUE_TIME: Final = "actorfsm.event.queue_time"
OUTCOME: Final = "actorfsm.outcome"
REASON: Final = "actorfsm.reason"
HOOK: Final = "actorfsm.hook"
SOURCE: Final = "actorfsm.transition.source"
TARGET: Final = "actorfsm.transition.target"
SEQ: Final = "actorfsm.seq"
INCARNATION: Final = "actorfsm.incarnation"

SPAN_ATTRIBUTES: Final = (
    *(SYSTEM, OPERATION_NAME, OPERATION_TYPE, DESTINATION_TEMPLATE, DESTINATION_NAME),
    *(MESSAGE_ID, CONVERSATION_ID, ERROR_TYPE),
    *(EVENT_TYPE, ATTEMPT, QUEUE_TIME, OUTCOME, REASON, HOOK, SOURCE, TARGET, SEQ, INCARNATION),
)
"""All attributes that a span may have."""
