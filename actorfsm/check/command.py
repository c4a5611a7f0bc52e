"""The command `check`: says what the machines of a module can be seen to get wrong.

Exit status 0: nothing that cannot be meant. 1: something. 2: nothing could be said.
"""

from __future__ import annotations

import json
import pkgutil
from collections import Counter
from itertools import groupby
from typing import IO, TYPE_CHECKING, Any, Final

from actorfsm.check.calls import calls_of
from actorfsm.check.findings import Level
from actorfsm.check.rules import check_machines
from actorfsm.errors import ActorFSMError, DefinitionError
from actorfsm.machine.checks import check_system
from actorfsm.machine.machine import Machine, definition_of
from actorfsm.object_reference import module_at
from actorfsm.verify_log.command import NoAnswer, definition_at

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from types import ModuleType

    from actorfsm.check.findings import Finding
    from actorfsm.machine.definition import Definition

__all__ = ["NOTHING_WRONG", "NO_ANSWER", "SOMETHING_WRONG", "add_arguments", "run"]

NOTHING_WRONG: Final = 0
SOMETHING_WRONG: Final = 1
NO_ANSWER: Final = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "modules",
        nargs="+",
        metavar="module[:Class]",
        help="a module or package with the machine classes of a system, or one class; all together are checked as one "
        "system",
    )
    parser.add_argument(
        "--total",
        action="store_true",
        help="a state that does not say what becomes of an event is wrong, and not only worth a note",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace, out: IO[str], err: IO[str]) -> int:
    """Check machines.

    Args:
        options: What `add_arguments` declares.
        out: Where the findings go.
        err: Where it goes that nothing can be said.

    Returns:
        The exit status.
    """
    try:
        definitions = list(
            dict.fromkeys(found for path in options.modules for found in _definitions_at(path))
        )
        check_system(definitions)
    except ActorFSMError as error:
        err.write(f"check: {error}\n")
        return NO_ANSWER
    calls = {definition: list(calls_of(definition.machine_class)) for definition in definitions}
    findings = list(check_machines(calls))
    is_wrong = [
        finding.level is Level.WRONG or (options.total and finding.rule == "not-total")
        for finding in findings
    ]
    if options.json:
        machines = [definition.name for definition in definitions]
        found = [
            {**finding.as_json(), "wrong": wrong} for finding, wrong in zip(findings, is_wrong, strict=True)
        ]
        out.write(json.dumps({"machines": machines, "findings": found}, ensure_ascii=False, indent=2) + "\n")
    else:
        _tell(definitions, findings, out)
    return SOMETHING_WRONG if any(is_wrong) else NOTHING_WRONG


def _tell(definitions: list[Definition], findings: list[Finding], out: IO[str]) -> None:
    for name, found in groupby(sorted(findings, key=lambda one: one.machine), key=lambda one: one.machine):
        out.write(f"{name}\n")
        for finding in found:
            out.write(f"  {finding.level:5}  {finding.text} [{finding.rule}]\n")
            if finding.where:
                out.write(f"         {finding.where}\n")
    counts = Counter(finding.level for finding in findings)
    said = f"{counts[Level.WRONG]} wrong, {counts[Level.DOUBT]} in doubt, {counts[Level.NOTE]} noted"
    classes = "1 machine class" if len(definitions) == 1 else f"{len(definitions)} machine classes"
    out.write(f"{classes}: {said}\n")


def _definitions_at(path: str) -> Iterator[Definition]:
    if ":" in path:
        yield definition_at(path)
        return
    definitions = [
        definition
        for module in _modules_at(path)
        for found in vars(module).values()
        if isinstance(found, type)
        and issubclass(found, Machine)
        and (definition := _alive(found)) is not None
    ]
    if not definitions:
        raise NoAnswer(f"{path} has no machine class; name a module that has, or module:Class")
    yield from definitions


def _modules_at(path: str) -> Iterator[ModuleType]:
    module = module_at(path)
    yield module
    for below in pkgutil.walk_packages(getattr(module, "__path__", []), f"{path}."):
        if below.name.rpartition(".")[2] != "__main__":
            yield module_at(below.name)


def _alive(machine_class: Any) -> Definition | None:
    """Return the definition of a class whose machines can live; a base of others has none."""
    try:
        return definition_of(machine_class)
    except DefinitionError:
        return None
