"""Schema versions, and upcasts: what an older version of a class has stored becomes what the code has now (C28).

A class says its version as `schema_version`, from 1. An upcast makes the stored fields of one version those of the next
one; they are applied one after the other. What is stored is never rewritten by it: a machine's next commit is stored in
the new version, and until then every load does the same again. As eventsourcing's `upcast_vN_vM` and Axon's upcaster
chains.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, overload

from actorfsm.errors import DefinitionError
from actorfsm.event import Event
from actorfsm.machine.draft import Drafted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from actorfsm.machine.definition import Definition
    from actorfsm.machine.machine import Machine

__all__ = ["Fields", "Lineage", "Upcast", "check_upcasts", "schema_version_of", "upcast"]

Fields: TypeAlias = dict[str, Any]
"""Stored fields by name, as JSON has them: texts, numbers, lists and dicts."""

FieldsF = TypeVar("FieldsF", bound=Callable[[Fields], Fields])
MachineF = TypeVar("MachineF", bound=Callable[[str, Fields], tuple[str, Fields]])

_UPCASTS: Final = "__actorfsm_upcasts__"


@dataclass(frozen=True, slots=True)
class Upcast:
    """A step from one schema version of a class to the next.

    Attributes:
        function: Makes the next version's fields of the stored ones; of a machine, with the name of its state.
        from_version: The version that it reads.
        named: What the class was called then; None for its name of today.
        states: Of a machine: states that have another name from the next version on.
        timeouts: Of a machine: methods of timeouts that have another name from then on, or None for gone.
    """

    function: Callable[..., Any]
    from_version: int
    named: str | None
    states: Mapping[str, str]
    timeouts: Mapping[str, str | None]

    def __str__(self) -> str:
        return str(getattr(self.function, "__qualname__", self.function))


def schema_version_of(cls: Any) -> int:
    """Return the schema version of a class, 1 if it does not say."""
    version: Any = getattr(cls, "schema_version", 1) if isinstance(cls, type) else 1
    return version if isinstance(version, int) else 1  # a slot or a property of this name says nothing


@overload
def upcast(  # type: ignore[overload-overlap]  # of a machine the state is read too
    cls: type[Machine[Any, Any]],
    /,
    *,
    from_version: int,
    named: str | None = None,
    states: Mapping[str, str] | None = None,
    timeouts: Mapping[str, str | None] | None = None,
) -> Callable[[MachineF], MachineF]: ...
@overload
def upcast(
    cls: type[object], /, *, from_version: int, named: str | None = None
) -> Callable[[FieldsF], FieldsF]: ...
def upcast(
    cls: type[Any],
    /,
    *,
    from_version: int,
    named: str | None = None,
    states: Mapping[str, str] | None = None,
    timeouts: Mapping[str, str | None] | None = None,
) -> Callable[[Any], Any]:
    """Declare how what an older version of a class has stored becomes the next version's.

    Of an event or a reply, a plain function `(fields) -> fields`; of a machine `(state, fields) -> (state, fields)`. It
    must only compute: it runs whenever something of that version is read. The fields are those of the JSON that was
    stored, and the class validates what comes of them.

    Args:
        cls: The class: an event, a machine, or a model that is a reply. Its subclasses inherit its upcasts, as they
            inherit its `schema_version`.
        from_version: The version that the function reads. The next one is 1 higher.
        named: What the class was called then, if it has another name now.
        states: For a machine: states that have another name in the next version. It holds for all that is stored by the
            name of a state, also for recorded answers; the function gets the new name. A name that was given up is
            not used again.
        timeouts: For a machine: methods with `@on_timeout` that have another name in the next version, or None for a
            timeout that is no more.

    Raises:
        DefinitionError: The class has no such older version, or the function cannot be meant.
    """
    owner = f"@upcast({getattr(cls, '__name__', cls)}, from_version={from_version!r})"
    _check_arguments(owner, cls, from_version, named)
    is_machine = issubclass(cls, Drafted)
    if not is_machine and (states is not None or timeouts is not None):
        raise DefinitionError(f"{owner}: states= and timeouts= are for machine classes")

    def register(function: Any) -> Any:
        _check_function(owner, function, ("state", "fields") if is_machine else ("fields",))
        step = Upcast(function, from_version, named, dict(states or {}), dict(timeouts or {}))
        _register(owner, cls, step)
        return function

    return register


def _check_arguments(owner: str, cls: Any, from_version: Any, named: Any) -> None:
    if not isinstance(cls, type):
        raise DefinitionError(f"{owner}: give the class itself, not {cls!r}")
    if not _is_version(from_version):
        raise DefinitionError(f"{owner}: from_version is a whole number from 1")
    version = schema_version_of(cls)
    if from_version >= version:
        raise DefinitionError(
            f"{owner}: {cls.__name__} has schema version {version}, so that this leads into the future; write "
            f"`schema_version: ClassVar[int] = {from_version + 1}` in the class, or mend from_version"
        )
    if named is not None and not (isinstance(named, str) and named):
        raise DefinitionError(f"{owner}: named={named!r}; give the name that the class had then")


def _check_function(owner: str, function: Any, arguments: tuple[str, ...]) -> None:
    said = ", ".join(arguments)
    if not inspect.isfunction(function) or inspect.iscoroutinefunction(function):
        raise DefinitionError(f"{owner}: stands above a plain function ({said}) -> ({said}), not async")
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        raise DefinitionError(
            f"{owner}: {function.__qualname__} takes ({said}) and returns the same"
        ) from None


def _register(owner: str, cls: Any, step: Upcast) -> None:
    known = _own_upcasts(cls)
    other = known.get(step.from_version)
    if other is not None and _place_of(other) != _place_of(
        step
    ):  # a module that is imported anew brings its own
        raise DefinitionError(
            f"{owner}: {other} is that already; one function leads from each version to the next, so remove one"
        )
    try:
        setattr(cls, _UPCASTS, {**known, step.from_version: step})
    except TypeError:
        raise DefinitionError(f"{owner}: give a class of your own") from None


def _own_upcasts(cls: type[Any]) -> dict[int, Upcast]:
    found: dict[int, Upcast] = vars(cls).get(_UPCASTS, {})
    return found


def _place_of(step: Upcast) -> tuple[str, str]:
    return (step.function.__module__, step.function.__qualname__)


def _is_version(given: object) -> bool:
    return isinstance(given, int) and not isinstance(given, bool) and given >= 1


class Lineage:
    """One class with its older versions.

    Attributes:
        cls: The class.
        name: Its name.
        version: Its schema version.
        known: What can be read, as name and version of what is stored: its own, and those that upcasts lead from.
        states: Of a machine: the names of states that were given up, with what they are called now.
        timeouts: Of a machine: the same of its timeouts; None for one that is no more.
    """

    def __init__(self, cls: type[Any]) -> None:
        """Read the upcasts of a class and its bases.

        Raises:
            DefinitionError: They are no chain that ends at the class's own version.
        """
        self.cls: Final = cls
        self.name: Final = cls.__name__
        _check_version(cls)
        self.version: Final = schema_version_of(cls)
        self._steps: Final[dict[int, Upcast]] = {}
        for base in reversed(cls.__mro__):
            self._steps.update(_own_upcasts(base))
        self._check_chain()
        self.known: Final = {(self.name, self.version)} | {
            (step.named or self.name, version) for version, step in self._steps.items()
        }
        self.states: Final[dict[str, str]] = _followed(self.name, [s.states for s in self._ordered()])
        self.timeouts: Final[dict[str, str | None]] = _followed(
            self.name, [step.timeouts for step in self._ordered()]
        )

    @property
    def names(self) -> set[str]:
        """The names that the class has and had."""
        return {name for name, _ in self.known}

    def steps_from(self, version: int) -> list[Upcast]:
        """Return what leads from a version to that of the class; nothing from its own."""
        return [self._steps[number] for number in range(version, self.version)]

    def why_not(self, name: str, version: int) -> str:
        """Return why what is stored in this version cannot be read, and what to do."""
        if version > self.version and name == self.name:
            return (
                f"it was stored by newer code: {name} has version {self.version} here; run the code that has version "
                f"{version}, or a newer one"
            )
        was = "" if name == self.name else f", named={name!r}"
        return (
            f"{self.name} has version {self.version} now, and nothing leads there; write "
            f"@upcast({self.name}, from_version={version}{was})"
        )

    def _ordered(self) -> Iterable[Upcast]:
        return [self._steps[version] for version in sorted(self._steps)]

    def _check_chain(self) -> None:
        for version in self._steps:
            if version >= self.version:
                raise DefinitionError(
                    f"{self.name}: an upcast leads from version {version}, and its schema_version is {self.version}; "
                    f"write `schema_version: ClassVar[int] = {version + 1}`"
                )
        for version in range(min(self._steps, default=self.version), self.version):
            if version not in self._steps:
                raise DefinitionError(
                    f"{self.name}: there is an upcast from version {min(self._steps)}, and none from {version}, so "
                    f"that it leads nowhere; write @upcast({self.name}, from_version={version})"
                )


def _check_version(cls: Any) -> None:
    if issubclass(cls, Event | Drafted) and "schema_version" in cls.__pydantic_fields__:
        raise DefinitionError(
            f"{cls.__name__}.schema_version is a field; write `schema_version: ClassVar[int] = ...`"
        )
    given: Any = schema_version_of(cls)
    if not _is_version(given):
        raise DefinitionError(f"{cls.__name__}.schema_version is {given!r}; give a whole number from 1")


def _followed(owner: str, steps: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return names that were given up, each with the name at the end of the chain.

    Raises:
        DefinitionError: One of them was given up twice, so that it could not be said which is meant.
    """
    found: dict[str, Any] = {}
    for step in steps:
        for old, new in found.items():
            found[old] = step.get(new, new)
        for old, new in step.items():
            if found.setdefault(old, new) != new:
                raise DefinitionError(
                    f"{owner}: upcasts give up the name {old} twice, for {found[old]} and for {new}; a name that was "
                    "given up is not used again: give the newer one another"
                )
    return found


def check_upcasts(definition: Definition) -> None:
    """Check the versions of a machine class and of its events.

    Raises:
        DefinitionError: A version is none, or a chain has a gap or leads nowhere.
    """
    lineage = Lineage(definition.machine_class)
    _check_names(lineage.name, "state", lineage.states, {node.name for node in definition.states.values()})
    timeouts = {timer.name for node in definition.states.values() for timer in node.timers}
    _check_names(lineage.name, "timeout", lineage.timeouts, timeouts)
    for event_class in definition.events:
        Lineage(event_class)


def _check_names(owner: str, what: str, given_up: Mapping[str, str | None], known: set[str]) -> None:
    for old, new in given_up.items():
        if old in known:
            raise DefinitionError(
                f"{owner}: an upcast gives up the {what} {old}, and there is one; a name that was given up is not used "
                "again: give the newer one another"
            )
        if new is not None and new not in known:
            raise DefinitionError(
                f"{owner}: upcasts lead from the {what} {old} to {new}, and there is none of that name; there are "
                f"{', '.join(sorted(known)) or 'none'}"
            )
