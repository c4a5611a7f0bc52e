"""Births of many machines in one call, each by the rules of `spawn`, and fair to everything else on the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from actorfsm.errors import (
    ActorFSMError,
    InvalidData,
    InvalidEvent,
    StaleTurn,
    SystemFailed,
    SystemStopping,
    WrongThread,
)
from actorfsm.event import Spawn
from actorfsm.ids import check_machine_id
from actorfsm.runtime.spawning import check_spawnable
from actorfsm.runtime.turn import CURRENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from actorfsm.machine.definition import Transition
    from actorfsm.runtime.door import Door
    from actorfsm.runtime.envelope import Envelope
    from actorfsm.runtime.kind import Kind

__all__ = ["Births", "Newborn", "SpawnReport"]

Newborn: TypeAlias = "str | tuple[str, Mapping[str, Any] | None]"
"""A machine to be: its id, or its id and its data."""

_OF_THE_CALL: Final = (StaleTurn, SystemFailed, SystemStopping, WrongThread)
"""What ends the whole call: it is not about one machine."""


@dataclass(frozen=True, slots=True)
class SpawnReport:
    """What became of the machines of one `spawn_many`.

    Attributes:
        spawned: How many were created.
        refused: The others by id, each with the error that `spawn` would have raised; of an id that was refused more
            than once, the first.
    """

    spawned: int
    refused: dict[str, ActorFSMError]


class Births:
    """The births of one call.

    A birth that runs no hook needs no turn: the machine is made at the door. Any other is an ask, as in `spawn`; those
    whose hooks wait for something wait beside each other.
    """

    def __init__(self, door: Door, kind: Kind, at_once: int) -> None:
        self._door = door
        self._kind = kind
        self._at_once = at_once
        self._begun: deque[tuple[str, Envelope]] = deque()
        """Births that have begun, the oldest first."""
        self._spawned = 0
        self._refused: dict[str, ActorFSMError] = {}

    async def run(self, machines: Any, step: int) -> SpawnReport:
        """Create the machines; after each `step` of them the event loop has its turn."""
        kind = self._kind
        check_spawnable(kind)
        in_turn = CURRENT.get() is not None
        # With a journal every birth is a commit, and a commit takes a turn.
        birth = None if in_turn or kind.parts.has_journal else _birth_without_hooks(kind)
        rest: Iterator[Any] = iter(_pairs(machines))
        recovery = None if in_turn else kind.parts.recovery
        while batch := list(islice(rest, step)):
            if recovery is None:
                await self._bear(batch, birth, in_turn=in_turn)
            else:
                names = list(_names_of(batch))
                with recovery.needing(names):
                    await recovery.ensure_all(names)
                    await self._bear(batch, birth, in_turn=in_turn)
            await asyncio.sleep(0)
        while self._begun:
            await self._finish_oldest()
        return SpawnReport(self._spawned, self._refused)

    async def _bear(self, batch: list[Any], birth: Transition | None, *, in_turn: bool) -> None:
        """Create some of the machines, or begin to."""
        door, kind = self._door, self._kind
        for given in batch:
            try:
                machine_id, data = _id_and_data(given)
                if birth is not None and door.spawning.bear(kind, birth, machine_id, data):
                    self._spawned += 1
                elif in_turn:
                    await door.spawn(kind, machine_id, data, None, None)
                    self._spawned += 1
                else:
                    await self._begin(machine_id, data)
            except ActorFSMError as error:
                self._refuse(_name_of(given), error)

    async def _begin(self, machine_id: str, data: Mapping[str, Any] | None) -> None:
        """Begin a birth; wait for the oldest one if as many have begun as may."""
        recovery = self._kind.parts.recovery
        if recovery is not None:
            recovery.check_can_be_loaded(machine_id)
        self._begun.append((machine_id, self._door.begin_birth(self._kind, machine_id, data)))
        if len(self._begun) >= self._at_once:
            await self._finish_oldest()

    async def _finish_oldest(self) -> None:
        machine_id, envelope = self._begun.popleft()
        try:
            await self._door.wait_for_end(envelope)
            self._spawned += 1
        except ActorFSMError as error:
            self._refuse(machine_id, error)

    def _refuse(self, name: str, error: ActorFSMError) -> None:
        if isinstance(error, _OF_THE_CALL):
            raise error
        # Without the frames that it passed and what led to it: they hold the data that was given.
        error.__context__ = None
        self._refused.setdefault(name, error.with_traceback(None))


def _birth_without_hooks(kind: Kind) -> Transition | None:
    """Return the birth by `spawn` if a commit is all that happens in it; otherwise None."""
    (birth,) = cast("tuple[Transition]", kind.root.choices[Spawn])
    has_hooks = birth.steps or birth.afters or birth.detached
    return None if has_hooks or birth.target.timers or birth.target.final else birth


def _pairs(machines: Any) -> Any:
    if isinstance(machines, str):
        raise InvalidEvent(f"spawn_many takes many ids; for one use `spawn`, or [{machines!r}]")
    items = getattr(machines, "items", None)
    return machines if items is None else items()


def _id_and_data(given: Any) -> tuple[str, Mapping[str, Any] | None]:
    """Return the id and the data of a machine to be.

    Raises:
        InvalidEvent: It is neither an id nor a pair.
        InvalidData: The data is no mapping.
    """
    if isinstance(given, str):
        return given, None
    try:
        machine_id, data = given
    except (TypeError, ValueError):
        raise InvalidEvent(
            f"spawn_many takes ids or pairs of id and data, not {type(given).__name__}"
        ) from None
    if data is not None and data.__class__ is not dict and not isinstance(data, Mapping):
        kind = type(data).__name__
        raise InvalidData(f"the data of a machine is a mapping of field names to values, not {kind}")
    return machine_id, cast("Mapping[str, Any] | None", data)


def _names_of(batch: list[Any]) -> Iterator[str]:
    """Yield the ids of machines to be, but for what is no id: that is refused when it is its turn."""
    for given in batch:
        with suppress(ActorFSMError):
            yield check_machine_id(_id_and_data(given)[0])


def _name_of(given: Any) -> str:
    """Return what a refused machine is called in the report: its id, whatever that is."""
    machine_id = given[0] if isinstance(given, tuple) and given else given  # pyright: ignore[reportUnknownVariableType]
    return machine_id if isinstance(machine_id, str) else repr(machine_id)  # pyright: ignore[reportUnknownArgumentType]
