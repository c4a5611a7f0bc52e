"""The fields of a model as JSON, to be read back: what a capsule is filled with.

Secrets stay masked and hidden fields stay out unless they are asked for. What will not come back as it was is noted by
its place, so that nobody takes half an object for a whole one.
"""

from __future__ import annotations

import dataclasses
import json
from collections import deque
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from pydantic import BaseModel, RootModel, SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MASK", "Encoder", "decoded"]

ModelT = TypeVar("ModelT", bound=BaseModel)

MASK: Final = "**********"

_MASKED: Final = "masked"
_HIDDEN: Final = "kept out of the repr"


class Encoder:
    """Turns fields into JSON.

    Attributes:
        notes: What will not come back as it was, by its place.
    """

    def __init__(self, *, reveal_secrets: bool) -> None:
        self.notes: dict[str, str] = {}
        self._reveals = reveal_secrets

    def fields(self, model: type[BaseModel], values: Mapping[str, Any], place: str) -> dict[str, Any]:
        """Return the fields of a model as plain data; what does not come back the same is noted."""
        before = len(self.notes)
        plain = self._fields(model, values, place)
        if len(self.notes) == before:
            self._check(model, values, plain, place)
        return plain

    def _check(
        self, model: type[BaseModel], values: Mapping[str, Any], plain: dict[str, Any], place: str
    ) -> None:
        try:
            found = decoded(model, plain).__dict__
            changed = [name for name in plain if found.get(name) != values[name]]
        except Exception as error:  # noqa: BLE001 -- validators and comparisons of the user may raise anything
            self.notes[place] = f"does not validate again: {type(error).__name__}"
        else:
            self.notes.update({f"{place}.{name}": "does not come back the same" for name in changed})

    def _fields(self, model: type[BaseModel], values: Mapping[str, Any], place: str) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for name, info in model.__pydantic_fields__.items():
            if name not in values:
                continue
            if self._reveals or (info.repr and not info.exclude):
                plain[name] = self._plain(values[name], f"{place}.{name}")
            else:
                self.notes[f"{place}.{name}"] = _HIDDEN
        return plain

    def _plain(self, value: Any, place: str) -> Any:
        kind = value.__class__
        if value is None or kind in {str, int, bool}:
            return value
        if isinstance(value, Enum):
            return self._plain(value.value, place)
        if isinstance(value, SecretStr | SecretBytes):
            return self._secret(value, place)
        if isinstance(value, RootModel):
            return self._plain(cast("Any", value).root, place)
        if isinstance(value, BaseModel):
            return self._fields(kind, {**value.__dict__, **(value.__pydantic_extra__ or {})}, place)
        if dataclasses.is_dataclass(value):
            shown = [one for one in dataclasses.fields(value) if self._reveals or one.repr]
            if len(shown) < len(dataclasses.fields(value)):
                self.notes[place] = _HIDDEN
            return {one.name: self._plain(getattr(value, one.name), f"{place}.{one.name}") for one in shown}
        return self._collection(value, place)

    def _collection(self, value: Any, place: str) -> Any:
        if isinstance(value, Mapping):
            pairs: Mapping[Any, Any] = cast("Any", value)
            return {str(self._plain(key, place)): self._plain(pairs[key], f"{place}.*") for key in pairs}
        if isinstance(value, list | tuple | deque):
            return self._items(cast("list[Any]", value), place)
        if isinstance(value, set | frozenset):
            return sorted(self._items(cast("set[Any]", value), place), key=repr)
        try:
            return to_jsonable_python(value)
        except Exception:  # noqa: BLE001 -- a class of the user's may raise anything
            self.notes[place] = f"a {type(value).__name__} has no JSON"
            return None

    def _items(self, value: Iterable[Any], place: str) -> list[Any]:
        return [self._plain(item, f"{place}.{number}") for number, item in enumerate(value)]

    def _secret(self, value: SecretStr | SecretBytes, place: str) -> Any:
        if self._reveals:
            return self._plain(value.get_secret_value(), place)
        self.notes[place] = _MASKED
        return MASK


def decoded(model: type[ModelT], plain: Mapping[str, Any]) -> ModelT:
    """Return a model from plain data.

    Raises:
        pydantic.ValidationError: They do not validate.
    """
    instance: ModelT = model.__pydantic_validator__.validate_json(
        json.dumps(plain), by_alias=False, by_name=True
    )
    return instance
