"""The crash capsule: a failure of user code as a file, and the failing test that it makes.

    capsule = crash_capsule(error)  # a HookFailed, or what `system.last_crash(id)` returned
    capsule.save("tests/crashes/order-17.json")

    async def test_order_17(actor_clock):
        await replay_capsule("tests/crashes/order-17.json", services=FakeGateway())

It holds one machine before one event. Its timers and mail, and other machines, are not in it.
"""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from actorfsm.errors import HookFailed, InvalidData
from actorfsm.event import Spawn, TransitionRequested
from actorfsm.machine.identity import definition_id, definition_lines
from actorfsm.machine.machine import definition_of
from actorfsm.problems import field_names, problems_of
from actorfsm.runtime.actor import Actor
from actorfsm.runtime.envelope import Envelope
from actorfsm.runtime.receipt import Receipt
from actorfsm.runtime.turn import CURRENT
from actorfsm.testing.plain_data import Encoder, decoded
from actorfsm.testing.simulation import SimulatedSystem
from actorfsm.values import copy_value

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Self

    from actorfsm.event import Event, Outcome
    from actorfsm.machine.definition import Definition
    from actorfsm.machine.machine import Machine
    from actorfsm.runtime.crash import Crash
    from actorfsm.runtime.kind import Kind

__all__ = ["CapsuleError", "CrashCapsule", "crash_capsule", "replay_capsule"]


class CapsuleError(Exception):
    """The capsule cannot be made, read or replayed; the message says what to do."""


class CrashCapsule(BaseModel):
    """A failure of user code, as plain data.

    Attributes:
        format: The version of this format.
        machine_class: Where the machine class is: `module:Class`.
        definition_id: Hash of what the class declared.
        definition: What it declared, line by line.
        machine_id: The machine's id.
        state: Its state before, by name; None if the event was to give birth to it.
        data: Its data before.
        seq: How many transitions it had committed.
        incarnation: How often it had been restarted.
        event_class: Where the event's class is.
        event: The event's fields.
        event_id: The event's id.
        causation_id: Id of the event in whose turn it was sent, or None.
        headers: Its headers.
        attempt: How often it had been delivered before.
        hook: The guard, hook or body that failed.
        error_class: Where the class of what was raised is.
        error_text: Its message.
        seed: The seed of the simulated loop, where it was simulated.
        incomplete: What is not as it was, by its place, with the reason: secrets above all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    machine_class: str
    definition_id: str
    definition: list[str]
    machine_id: str
    state: str | None
    data: dict[str, Any]
    seq: int
    incarnation: int
    event_class: str
    event: dict[str, Any]
    event_id: str
    causation_id: str | None
    headers: dict[str, str] | None
    attempt: int
    hook: str
    error_class: str
    error_text: str
    seed: int | None
    incomplete: dict[str, str]

    @property
    def is_complete(self) -> bool:
        """Whether everything in it is as it was."""
        return not self.incomplete

    def save(self, path: Path | str) -> Path:
        """Write it to a file, as JSON.

        Returns:
            The file.
        """
        file = Path(path)
        file.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return file

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read it from a file.

        Raises:
            CapsuleError: The file holds no capsule, or one of another format.
        """
        try:
            return cls.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except ValidationError as error:
            problems = problems_of(error, field_names(cls))
            raise CapsuleError(f"{path} holds no crash capsule of format 1: {problems}") from None

    def __repr__(self) -> str:
        return f"<CrashCapsule of {self.machine_id}: {self.error_class} in {self.hook}>"

    __str__ = __repr__


def crash_capsule(failure: HookFailed | Crash | None, *, reveal_secrets: bool = False) -> CrashCapsule:
    """Return a failure as a capsule. Until this is called nothing was copied.

    Args:
        failure: The error that an ask raised, or what `system.last_crash(id)` returned.
        reveal_secrets: Whether `SecretStr` and fields with `repr=False` or `exclude=True` are in it. Without them the
            capsule is incomplete: give what is missing to `replay_capsule`.

    Raises:
        CapsuleError: The failure did not come from a machine of this process.
    """
    crash = failure.crash if isinstance(failure, HookFailed) else failure
    if crash is None:
        raise CapsuleError(
            "there is no failure to make a capsule of: give the HookFailed that an ask raised, or "
            "system.last_crash(id) of a machine that has failed"
        )
    definition = definition_of(crash.machine_class)
    encoder = Encoder(reveal_secrets=reveal_secrets)
    data = encoder.fields(crash.machine_class, crash.committed, "data")
    event_class = type(crash.event)
    if isinstance(crash.event, TransitionRequested):
        event: dict[str, Any] = {"to": crash.event.to.name}
    else:
        event = encoder.fields(event_class, crash.event.__dict__, "event")
    if crash.event_may_have_changed:
        encoder.notes.setdefault("event", "can be changed in place: shown as the hook left it")
    return CrashCapsule(
        machine_class=_path_of(crash.machine_class),
        definition_id=definition_id(definition),
        definition=definition_lines(definition),
        machine_id=crash.machine_id,
        state=None if crash.state is None else crash.state.name,
        data=data,
        seq=crash.seq,
        incarnation=crash.incarnation,
        event_class=_path_of(event_class),
        event=event,
        event_id=crash.event_id,
        causation_id=crash.causation_id,
        headers=None if crash.headers is None else dict(crash.headers),
        attempt=crash.attempt,
        hook=crash.hook,
        error_class=_path_of(crash.error_class),
        error_text=crash.error_text,
        seed=crash.seed,
        incomplete=encoder.notes,
    )


async def replay_capsule(
    capsule: CrashCapsule | Path | str,
    *others: type[Machine[Any, Any]],
    machine: type[Machine[Any, Any]] | None = None,
    services: Any = None,
    data: Mapping[str, Any] | None = None,
    event: Event[Any, Any] | None = None,
    prepare: Callable[[SimulatedSystem[Any]], Awaitable[object]] | None = None,
    any_definition: bool = False,
) -> Outcome:
    """Send the event of a capsule to its machine once more: same state, same data, same ids, in a system of its own.

    Args:
        capsule: The capsule, or its file.
        others: More machine classes for the system.
        machine: The machine class, if it is no longer where it was.
        services: What hooks find as `self.services`.
        data: Data fields in the place of those in the capsule, as for what it leaves out.
        event: An event in the place of the one in the capsule.
        prepare: Called with the system before the event is sent: it may spawn the machines that the hooks ask.
        any_definition: Whether to go on though the definition has changed since.

    Returns:
        How the event ended, if no hook failed: mended, then.

    Raises:
        HookFailed: A hook failed, as it did then or otherwise.
        CapsuleError: The definition has changed, or something is missing.
    """
    if not isinstance(capsule, CrashCapsule):
        capsule = CrashCapsule.load(capsule)
    machine = machine or _found(capsule.machine_class)
    definition = definition_of(machine)
    if not any_definition:
        _check_definition(capsule, definition)
    system = SimulatedSystem[Any](
        machine, *others, services=services, random=Random(capsule.seed or 0), check=False
    )
    async with system:
        if prepare is not None:
            await prepare(system)
        try:
            return await _send(system, capsule, definition, data or {}, event)
        except HookFailed as failure:
            then = f"{capsule.error_class} in {capsule.hook}"
            failure.add_note(f"replayed from the crash capsule of {capsule.machine_id}, where it was {then}")
            raise


async def _send(
    system: SimulatedSystem[Any],
    capsule: CrashCapsule,
    definition: Definition,
    given: Mapping[str, Any],
    event: Event[Any, Any] | None,
) -> Outcome:
    event = _event_of(capsule, definition) if event is None else copy_value(event)
    assert event is not None  # noqa: S101 -- one of the two
    parts = system._parts  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- no sender may put a machine into a state
    kind = parts.registry.kinds[definition.machine_class]
    if capsule.state is None and not isinstance(event, Spawn):
        receipt = system.tell(capsule.machine_id, event, event_id=capsule.event_id, headers=capsule.headers)
        return _judged(receipt, await receipt.outcome())
    envelope = Envelope(event, capsule.machine_id, parts.ids.next_number(), parts.time())
    envelope.event_id, envelope.causation_id = capsule.event_id, capsule.causation_id
    envelope.headers, envelope.attempt, envelope.keeps_settlement = capsule.headers, capsule.attempt, True
    node = kind.root if capsule.state is None else definition.states[_state(capsule, definition)]
    actor = Actor(kind, capsule.machine_id, node, _data_of(capsule, kind, given))
    parts.registry.actors[capsule.machine_id] = actor
    actor.seq, actor.incarnation = capsule.seq, capsule.incarnation
    parts.dispatcher.admit(actor, envelope)
    receipt = Receipt(envelope, parts, CURRENT.get)
    return _judged(receipt, await receipt.outcome())


def _judged(receipt: Receipt, outcome: Outcome) -> Outcome:
    """Return how the event ended.

    Raises:
        HookFailed: A hook failed.
    """
    settlement = receipt._envelope.settlement  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- the error itself
    if settlement is not None and isinstance(settlement.error, HookFailed):
        raise settlement.error
    return outcome


def _check_definition(capsule: CrashCapsule, definition: Definition) -> None:
    now = definition_id(definition)
    if now == capsule.definition_id:
        return
    lines = difflib.unified_diff(
        capsule.definition, definition_lines(definition), "then", "now", lineterm="", n=0
    )
    changes = "\n  ".join(line for line in lines if not line.startswith(("---", "+++", "@@")))
    raise CapsuleError(
        f"the definition of {definition.name} has changed since the crash ({capsule.definition_id}, now {now}):\n  "
        f"{changes}\nIf the state, the data and the event still make sense, replay it with any_definition=True"
    )


def _state(capsule: CrashCapsule, definition: Definition) -> Any:
    for member in definition.states:
        if member.name == capsule.state:
            return member
    raise CapsuleError(f"{definition.name} has no state {capsule.state} any more")


def _event_of(capsule: CrashCapsule, definition: Definition) -> Event[Any, Any]:
    known = {_path_of(event_class): event_class for event_class in definition.events}
    event_class = known.get(capsule.event_class) or next(
        (cls for cls in known.values() if cls.__name__ == capsule.event_class.rpartition(":")[2]), None
    )
    if event_class is None:
        raise CapsuleError(f"{definition.name} does not take {capsule.event_class} any more")
    if event_class is TransitionRequested:
        name = capsule.event["to"]
        return TransitionRequested(to=next(member for member in definition.states if member.name == name))
    try:
        return decoded(event_class, capsule.event)
    except ValidationError as error:
        problems = problems_of(error, field_names(event_class))
        raise CapsuleError(
            f"the capsule's {event_class.__name__} does not validate: {problems}. Give one to "
            "replay_capsule(event=...), or make the capsule with reveal_secrets=True"
        ) from None


def _data_of(capsule: CrashCapsule, kind: Kind, given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        if given:
            return kind.rules.at_birth({**capsule.data, **given})
        return dict(decoded(kind.machine_class, capsule.data).__dict__)
    except (InvalidData, ValidationError) as error:
        if isinstance(error, ValidationError):
            problems = problems_of(error, field_names(kind.machine_class))
        else:
            problems = str(error)
        raise CapsuleError(
            f"the capsule's data of {kind.name} does not validate: {problems}. Give what is missing to "
            "replay_capsule(data=...), or make the capsule with reveal_secrets=True"
        ) from None


def _path_of(cls: type[Any]) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _found(path: str) -> type[Machine[Any, Any]]:
    module, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        machine: type[Machine[Any, Any]] = found
    except (ImportError, AttributeError) as error:
        raise CapsuleError(
            f"{path} cannot be imported ({error}): give the class to replay_capsule(machine=...)"
        ) from None
    return machine
