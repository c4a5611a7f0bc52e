"""Object references, `module:name`: what a user calls a class or a system on the command line."""

from __future__ import annotations

import sys
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actorfsm.errors import ActorFSMError
from actorfsm.shown import shown

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["module_at", "object_at"]


def module_at(name: str) -> ModuleType:
    """Return a module, which may stand in the current folder.

    Raises:
        ActorFSMError: There is none, or it cannot be imported.
    """
    here = str(Path.cwd())
    if (
        here not in sys.path and "" not in sys.path
    ):  # so it is with `python -m`, and not with a console script
        sys.path.insert(0, here)
    try:
        return import_module(name)
    except Exception as error:  # noqa: BLE001 -- a module may raise anything when it is imported
        raise ActorFSMError(
            f"{shown(name)} cannot be imported ({type(error).__name__}: {shown(str(error), 200)}); run this in "
            "the folder or environment in which your program runs"
        ) from None


def object_at(reference: str, *, what: str, example: str) -> Any:
    """Return the object that is named `module:name`; the module may stand in the current folder.

    Args:
        reference: The name, as it was given.
        what: What it should be, for people.
        example: A reference that would do.

    Raises:
        ActorFSMError: There is none.
    """
    module_name, colon, name = reference.partition(":")
    if not (module_name and colon and name):
        raise ActorFSMError(f"{shown(reference)}: name {what}, for example {example}")
    module = module_at(module_name)
    try:
        found: Any = reduce(getattr, name.split("."), module)
    except AttributeError:
        raise ActorFSMError(f"{shown(module_name)} has no {shown(name)}") from None
    return found
