"""The check: all that a journal holds is read as a system would read it, a page at a time, and nothing is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from actorfsm.check_upgrade.report import Landing, Report
from actorfsm.errors import JournalCorrupt, SchemaMismatch
from actorfsm.machine.checks import check_system
from actorfsm.machine.data import DataRules
from actorfsm.machine.machine import definition_of
from actorfsm.machine.upcasts import schema_version_of
from actorfsm.runtime.stored_values import StoredValues, no_such_class, values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from actorfsm.check_upgrade.report import Thing
    from actorfsm.journal.entry import Entry, Message, Payload, Pending
    from actorfsm.journal.image import Image
    from actorfsm.journal.protocol import Journal
    from actorfsm.machine.definition import StateNode
    from actorfsm.machine.machine import Machine

__all__ = ["check_upgrade"]


async def check_upgrade(
    machines: Iterable[type[Machine[Any, Any]]],
    journal: Journal,
    *,
    progress: Callable[[int], None] = lambda _count: None,
) -> Report:
    """Read what a journal holds with these classes, and return where each thing lands.

    Args:
        machines: All machine classes of the system.
        journal: The journal, open; to read only is enough.
        progress: Is told after each page how many machines were looked at.

    Raises:
        DefinitionError: A class, or a chain of upcasts, is wrong.
        JournalError: The journal cannot be read.
    """
    check = _Check(machines, journal)
    after = ""
    while heads := await journal.machines(after=after):
        for head in heads:
            await check.machine(head.machine_id, head.machine)
        after = heads[-1].machine_id
        progress(check.report.machines)
    place = 0
    while page := await journal.pending(after=place):
        for _, pending in page:
            await check.pending(pending)
        place = page[-1].place
    return check.report


class _Check:
    def __init__(self, machines: Iterable[type[Machine[Any, Any]]], journal: Journal) -> None:
        classes = list(machines)
        definitions = [definition_of(cls) for cls in classes]
        check_system(definitions)
        for definition in definitions:
            DataRules(definition)  # makes its validator complete
        self.report: Final = Report()
        self._journal: Final = journal
        self._values, self._readers, _ = values_of({cls: cls for cls in classes})

    async def machine(self, machine_id: str, name: str) -> None:
        """Look at one machine and at the answers that it has recorded."""
        self.report.machines += 1
        try:
            stored = await self._journal.load(machine_id)
        except JournalCorrupt as error:
            self.report.miss("machine", name, "cannot be loaded", machine_id, str(error))
            return
        if stored is None:
            return  # it has gone meanwhile
        image, reader = stored.image, self._readers.get(stored.image.machine)
        if reader is None:
            self.report.miss("machine", name, "its class", machine_id, str(no_such_class(machine_id, name)))
            return
        values = self._values[reader]
        try:
            node = self._state(values, image)
        except SchemaMismatch as error:
            said = f"{_said(image.data)} in {_state(image.state)}"
            self.report.miss("machine", name, said, machine_id, str(error))
        else:
            self._timers(values, node, image)
        for message in image.postponed:
            self._message("postponed event", [values], name, machine_id, message)
        await self._answers(values, image)

    def _state(self, values: StoredValues, image: Image) -> StateNode:
        node, _ = values.machine(image)
        lands = f"{values.lineage.name} {values.lineage.version} in {node.name}"
        stored = f"{_said(image.data)} in {_state(image.state)}"
        self.report.add(Landing("machine", image.machine, stored, lands))
        return node

    def _timers(self, values: StoredValues, node: StateNode, image: Image) -> None:
        for timer in image.timers.values():
            said = f"{timer.name} with {_said(timer.message.event)}"
            try:
                kept = values.timer(timer, node)
                if kept is None:
                    lands = "given up"
                else:
                    where = f"the timer {timer.name} of {image.machine_id}"
                    event = values.event(kept.message.event, where)
                    lands = f"{kept.name} with {type(event).__name__} {type(event).schema_version}"
            except SchemaMismatch as error:
                self.report.miss("timer", image.machine, said, image.machine_id, str(error))
            else:
                self.report.add(Landing("timer", image.machine, said, lands))

    def _message(
        self, thing: Thing, readers: Sequence[StoredValues], name: str, machine_id: str, message: Message
    ) -> None:
        takers = [values for values in readers if values.takes(message.event)]
        values, said = (takers or readers)[0], _said(message.event)
        try:
            read = values.arriving if thing == "promised event" else values.event
            event = read(message.event, f"event {message.event_id} for {machine_id}")
        except SchemaMismatch as error:
            self.report.miss(thing, name, said, machine_id, str(error))
        else:
            lands = f"{type(event).__name__} {type(event).schema_version}"
            self.report.add(Landing(thing, name, said, lands))

    async def pending(self, pending: Pending) -> None:
        """Look at an event that was promised; one for a machine that is not there may be of any class."""
        try:
            stored = await self._journal.load(pending.machine_id)
        except JournalCorrupt:
            stored = None  # it was said of the machine
        name = "" if stored is None else stored.image.machine
        reader = self._readers.get(name)
        readers = list(self._values.values()) if reader is None else [self._values[reader]]
        self._message("promised event", readers, name or "nobody yet", pending.machine_id, pending.message)

    async def _answers(self, values: StoredValues, image: Image) -> None:
        seq = seen = 0
        while seq < image.seq:
            try:
                page = await self._journal.entries(image.machine_id, after_seq=seq)
            except JournalCorrupt as error:
                self.report.miss(
                    "recorded reply", image.machine, "cannot be read", image.machine_id, str(error)
                )
                return
            if not page:
                break
            for entry in page:
                self._answer(values, entry)
            seen, seq = seen + len(page), page[-1].seq
        self.report.trimmed += max(0, image.seq - seen)

    def _answer(self, values: StoredValues, entry: Entry) -> None:
        answer, message = entry.answer, entry.message
        if answer is None or message is None:
            return
        event_class = values.event_class(message.event)
        if event_class is None and not values.takes(message.event):
            return  # nobody can ask with it again
        said = f"to {_said(message.event)}" + (f", {_said(answer.reply)}" if answer.reply else "")
        where = f"entry {entry.seq} of {entry.machine_id}"
        try:
            event = values.event(message.event, where)
            for state in (answer.old, answer.new):
                if state:
                    values.node(state, where)
            reply = values.replies.reply(type(event), answer.reply, where)
        except SchemaMismatch as error:
            self.report.miss("recorded reply", entry.machine, said, entry.machine_id, str(error))
        else:
            lands = f"to {type(event).__name__} {type(event).schema_version}"
            lands += "" if reply is None else f", {type(reply).__name__} {schema_version_of(type(reply))}"
            self.report.add(Landing("recorded reply", entry.machine, said, lands))


def _said(payload: Payload | None) -> str:
    return "no data" if payload is None else f"{payload.type} {payload.version}"


def _state(state: Sequence[str]) -> str:
    return ", ".join(state) or "no state"
