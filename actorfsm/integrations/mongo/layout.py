"""Where a document keeps the parts of a machine: its state, its version, its fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from actorfsm.errors import DefinitionError, SchemaMismatch
from actorfsm.integrations.mongo.fields import Fields, read_from_bson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from actorfsm.integrations.mongo.driver import CodecOptions
    from actorfsm.integrations.row_turn import RowKind, RowTurn

__all__ = ["Document", "Layout", "StateBy"]

Document: TypeAlias = "dict[str, Any]"
StateBy: TypeAlias = Literal["name", "value"]


class Layout:
    """The keys under which documents of one collection keep machines of one class.

    Attributes:
        kind: The class of the machines.
        state: Key of the state.
        version: Key of the version.
        projection: All keys that are read.
    """

    def __init__(
        self,
        kind: RowKind,
        options: CodecOptions[Document],
        *,
        state: str,
        version: str,
        keys: Mapping[str, str],
        state_by: StateBy,
    ) -> None:
        """Check the keys.

        Raises:
            DefinitionError: Two parts have one key, or a key cannot be one.
        """
        self.kind: Final = kind
        self.version: Final = version
        self.state: Final = state
        self._keys: Final = {name: keys.get(name, name) for name in kind.fields}
        unknown = keys.keys() - self._keys.keys()
        if unknown:
            raise DefinitionError(
                f"{kind.name} has no field {', '.join(sorted(unknown))}, for which keys= has a key"
            )
        used = [state, version, *self._keys.values()]
        for key in used:
            if not key or key == "_id" or key.startswith("$") or "." in key or "\0" in key:
                raise DefinitionError(f"{key!r} cannot be the key of a part of {kind.name}")
            if used.count(key) > 1:
                raise DefinitionError(
                    f"two parts of {kind.name} have the key {key!r}: give one another, by state=, version= or keys="
                )
        self.projection: Final = used
        self._fields: Final = Fields(kind, options)
        self._stored: Final = {
            member: member.name if state_by == "name" else member.value for member in kind.definition.states
        }
        self._members: Final = {stored: member for member, stored in self._stored.items()}

    def new(self, state: Any, fields: Mapping[str, Any]) -> Document:
        """Return the part of a new document that is the machine's.

        Raises:
            InvalidData: The fields do not validate, or cannot be stored.
            DefinitionError: There is no state to begin in.
        """
        if state is None:
            initial = self.kind.definition.initial
            if initial is None:
                raise DefinitionError(f"{self.kind.name} has no initial state: say in which one it is")
            state = initial.member
        data = self.kind.rules.at_birth(fields)
        return {self.state: self._stored[state], self.version: 1, **self._written(data, data)}

    def state_of(self, document: Document, where: str) -> Any:
        """Return the state.

        Raises:
            SchemaMismatch: There is none, or one that the class does not have.
        """
        stored = document.get(self.state)
        try:
            return self._members[stored]
        except (KeyError, TypeError):
            has = "no state" if stored is None else f"a state that {self.kind.name} does not have"
            raise self._mismatch(
                f"{where} has {has} under {self.state!r}; there are {', '.join(map(repr, self._members))}"
            ) from None

    def version_of(self, document: Document, where: str) -> int:
        """Return the version; 0 if the document has none yet.

        Raises:
            SchemaMismatch: It is no whole number.
        """
        version = document.get(self.version)
        if version is None:
            return 0
        # The shell writes every number as a float.
        if isinstance(version, bool) or not isinstance(version, int | float) or version % 1 != 0:
            raise self._mismatch(f"{where} has a version under {self.version!r} that is no whole number")
        return int(version)

    def fields_of(self, document: Document) -> dict[str, Any]:
        """Return the data fields that the document has, not validated."""
        return {name: read_from_bson(document[key]) for name, key in self._keys.items() if key in document}

    def change(self, turn: RowTurn) -> Document:
        """Return what a turn sets.

        Raises:
            InvalidData: It cannot be stored.
        """
        return {
            self.state: self._stored[turn.new],
            self.version: turn.seq,
            **self._written(turn.data, turn.changed),
        }

    def _written(self, data: dict[str, Any], names: Mapping[str, Any]) -> Document:
        stored = self._fields.stored(data, names.keys())
        return {self._keys[name]: value for name, value in stored.items()}

    def _mismatch(self, said: str) -> SchemaMismatch:
        return SchemaMismatch(f"{said}; nothing was changed", stored=self.kind.name)
