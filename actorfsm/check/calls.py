"""What a machine's methods send, as their source says it: nothing is run."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from actorfsm.event import Event
from actorfsm.machine.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Call", "calls_of"]

EventClass: TypeAlias = type[Event[Any, Any]]

_EVENT_AT: Final[Mapping[str, int]] = {"tell": 1, "ask": 1, "next_event": 0, "start_timer": 0}
"""By what `self` is asked to do, which argument is the event."""
_OF_JOBS: Final = ("done", "failed")


@dataclass(frozen=True, slots=True)
class Call:
    """Something that a method asks of its machine.

    Attributes:
        verb: `tell`, `ask`, `next_event`, `start_timer`, `start_job` or `watch`.
        event: The class of the event that it sends, or that a job sends when it has ended; None if the source does not
            show it, and for `watch`.
        method: The method's name.
        where: File and line.
    """

    verb: str
    event: EventClass | None
    method: str
    where: str


def calls_of(machine_class: type[Machine[Any, Any]]) -> Iterator[Call]:
    """Yield what the methods of a machine class send, also those that its other methods call.

    A method whose source is not at hand is passed over. An event that is made elsewhere than in the method is not seen.
    """
    seen: set[str] = set()
    for base in machine_class.__mro__:
        if base is Machine:
            break
        for name, attribute in vars(base).items():
            if inspect.isfunction(attribute) and name not in seen:
                yield from _Method(name, inspect.unwrap(attribute)).calls()
            seen.add(name)


class _Method:
    """The source of one method."""

    def __init__(self, name: str, function: Any) -> None:
        self.name = name
        self.function = function
        self.made: dict[str, ast.expr] = {}
        """What its local names were given first."""

    def calls(self) -> Iterator[Call]:
        try:
            lines, first = inspect.getsourcelines(self.function)
            (tree,) = ast.parse(textwrap.dedent("".join(lines))).body
        except (OSError, SyntaxError, ValueError):
            return
        if not isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef) or not tree.args.args:
            return
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        self.made.setdefault(target.id, node.value)
        file = inspect.getsourcefile(self.function)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (verb := _verb(node, tree.args.args[0].arg)):
                for event in self._events(verb, node):
                    yield Call(verb, event, self.name, f"{file}:{first + node.lineno - 1}")

    def _events(self, verb: str, call: ast.Call) -> Iterator[EventClass | None]:
        named = {keyword.arg: keyword.value for keyword in call.keywords}
        if verb == "watch":
            yield None
        elif verb == "start_job":
            for name in _OF_JOBS:
                if name in named and (event_class := self._class(named[name])) is not None:
                    yield event_class
        elif (place := _EVENT_AT[verb]) < len(call.args):
            yield self._made_by(call.args[place])
        else:
            yield self._made_by(named.get("event"))

    def _made_by(self, expression: ast.expr | None) -> EventClass | None:
        """Return the class whose call an expression is, or the local name of one."""
        if isinstance(expression, ast.Name):
            expression = self.made.get(expression.id)
        return self._class(expression.func) if isinstance(expression, ast.Call) else None

    def _class(self, expression: ast.expr) -> EventClass | None:
        """Return the event class that an expression names."""
        path: list[str] = []
        while isinstance(expression, ast.Attribute):
            path.insert(0, expression.attr)
            expression = expression.value
        if not isinstance(expression, ast.Name):
            return None
        found: Any = self._names().get(expression.id)
        for name in path:
            found = getattr(found, name, None)
        is_event = isinstance(found, type) and issubclass(found, Event)
        return cast("EventClass", found) if is_event else None

    def _names(self) -> dict[str, Any]:
        names = dict(self.function.__globals__)
        for name, cell in zip(
            self.function.__code__.co_freevars, self.function.__closure__ or (), strict=True
        ):
            try:
                names[name] = cell.cell_contents
            except ValueError:
                continue  # not filled yet
        return names


def _verb(call: ast.Call, own: str) -> str:
    """Return what a call asks of the machine itself; empty if it asks something else."""
    function = call.func
    if not isinstance(function, ast.Attribute) or not isinstance(function.value, ast.Name):
        return ""
    verbs = {*_EVENT_AT, "start_job", "watch"}
    return function.attr if function.value.id == own and function.attr in verbs else ""
