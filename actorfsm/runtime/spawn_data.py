"""Spawn data: what a machine was spawned with, as a hash, so that the same event id with other data is found (C24).

Within one life the data itself is compared. The journal has the data that the machine was born with, which hooks may
have changed; so the stored `Spawn` says what it was given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set as AbstractSet
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from actorfsm.errors import InvalidData
from actorfsm.journal.codec import fingerprint_of, hash_of
from actorfsm.journal.entry import Payload

if TYPE_CHECKING:
    from actorfsm.journal.entry import Recorded
    from actorfsm.runtime.kind import Kind

__all__ = ["is_spawned_with", "spawn_payload"]

_UNKNOWN: Final = Payload("Spawn", 1, "{}")
"""What is stored where nobody can say, and was before there was a hash."""


def spawn_payload(kind: Kind, version: int, data: Mapping[str, Any]) -> Payload:
    """Return a `Spawn` as it is stored: with the schema version of the class and a hash of what it was given.

    Args:
        kind: The class of the machine.
        version: Its schema version: what is given is compared as that one validates it.
        data: What it was given.

    Raises:
        InvalidData: What is given does not validate.
    """
    validated = kind.rules.at_birth(data) if data else {}
    try:
        text = _text({name: validated[name] for name in data if name in validated})
    except (PydanticSerializationError, TypeError, ValueError, RecursionError):
        return _UNKNOWN
    return Payload("Spawn", 1, json.dumps({"version": version, "data": hash_of(text).hex()}))


def is_spawned_with(kind: Kind, version: int, data: Mapping[str, Any], recorded: Recorded) -> bool:
    """Return whether a machine was spawned with this data; True where what is stored does not tell."""
    try:
        given = spawn_payload(kind, version, data)
    except InvalidData:
        return False  # what is stored was valid
    stored = recorded.event
    if given == _UNKNOWN:
        return True
    if stored is None:  # it was trimmed, and a hash of the whole is left
        known = {fingerprint_of(given), fingerprint_of(_UNKNOWN)}
        return version > 1 or recorded.fingerprint in known
    told: dict[str, Any] = json.loads(stored.json)
    return told.get("version", version) != version or told.get("data") in {
        None,
        json.loads(given.json)["data"],
    }


def _text(value: Any) -> str:
    """Return a value as text that is the same in every process, whatever the order in a set or a mapping."""
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, BaseModel):
        return {name: _plain(field) for name, field in value.__dict__.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    held: Any = value  # a checker knows nothing of what is in a bare collection
    if isinstance(value, Mapping):
        return sorted([_text(key), _plain(item)] for key, item in held.items())
    if isinstance(value, AbstractSet):
        return sorted(_text(item) for item in held)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in held]
    return to_jsonable_python(value)
