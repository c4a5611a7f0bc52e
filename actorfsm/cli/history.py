"""`actorfsm history JOURNAL ID`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actorfsm.cli.journals import Address, AsJson, opened_to_read, waited_for
from actorfsm.cli.output import json_line, lasted, print_json, time_of
from actorfsm.errors import NoSuchMachine
from actorfsm.journal.history import entries_of, image_at
from actorfsm.shown import shown

if TYPE_CHECKING:
    from actorfsm.journal.entry import Entry, Payload
    from actorfsm.journal.image import Image

__all__ = ["history"]


def history(
    journal: Address,
    machine_id: Annotated[str, typer.Argument(metavar="ID", help="the machine")],
    *,
    at: Annotated[
        int | None, typer.Option("--at", metavar="SEQ", help="show the machine as this entry left it")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell what happened to a machine, and how long it was in each state; or what it was at some time.

    A journal in use is looked at as it is now.
    """
    if at is None:
        waited_for(_tell(journal, machine_id, as_json=as_json))
        return
    image = waited_for(_image(journal, machine_id, at))
    if as_json:
        print_json(_image_as_json(image))
    else:
        for name, value in _image_as_json(image).items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            sys.stdout.write(f"{name}: {shown(text, 10_000)}\n")


async def _image(address: str, machine_id: str, seq: int) -> Image:
    async with opened_to_read(address) as journal:
        return await image_at(journal, machine_id, seq)


async def _tell(address: str, machine_id: str, *, as_json: bool) -> None:
    async with opened_to_read(address) as journal:
        if await journal.load(machine_id) is None:
            raise NoSuchMachine(f"the journal has no machine {machine_id!r}: `actorfsm ls --ids` lists them")
        last: Entry | None = None
        async for entry in entries_of(journal, machine_id):
            if last is None and entry.seq > 1:
                sys.stderr.write(f"actorfsm: the {entry.seq - 1:,} entries before these were trimmed\n")
            after_us = entry.at_us - last.at_us if last is not None else 0
            line = json_line(_as_json(entry, after_us)) if as_json else _as_text(entry, after_us)
            sys.stdout.write(line + "\n")
            last = entry


def _as_text(entry: Entry, after_us: int) -> str:
    moved = f"{', '.join(entry.source) or '·'} → {', '.join(entry.target) or '·'}"
    event = "" if entry.message is None else f"  {entry.message.event.type} {entry.message.event_id}"
    why = "" if entry.answer is None or not entry.answer.reason else f"  {entry.answer.reason}"
    left = f"  now {entry.status}" if entry.status != "alive" else ""
    when = f"{time_of(entry.at_us)}  +{lasted(after_us):<14}"
    text = f"{entry.seq:>6}  {when}  {entry.kind:<13}  {moved}{event}{why}{left}"
    return shown(text, 400)


def _as_json(entry: Entry, after_us: int) -> dict[str, Any]:
    message, answer = entry.message, entry.answer
    return {
        "seq": entry.seq,
        "at": time_of(entry.at_us),
        "after_s": after_us / 1_000_000,
        "kind": entry.kind,
        "status": entry.status,
        "from": entry.source,
        "to": entry.target,
        "event": None if message is None else _payload(message.event),
        "event_id": None if message is None else message.event_id,
        "causation_id": None if message is None else message.causation_id,
        "correlation_id": None if message is None else message.correlation_id,
        "data": _payload(entry.data),
        "reply": None if answer is None else _payload(answer.reply),
        "reason": "" if answer is None else answer.reason,
        "timers_set": [timer.name for timer in entry.timers_set],
        "timers_ended": entry.timers_ended,
        "promises": [pending.key for pending in entry.promises],
        "settles": entry.settles,
    }


def _image_as_json(image: Image) -> dict[str, Any]:
    return {
        "id": image.machine_id,
        "class": image.machine,
        "seq": image.seq,
        "status": image.status,
        "state": image.state,
        "commits": image.commits,
        "incarnation": image.incarnation,
        "data": _payload(image.data),
        "timers": {name: time_of(timer.due_us) for name, timer in image.timers.items()},
        "postponed": [message.event_id for message in image.postponed],
        "watches": image.watches,
    }


def _payload(payload: Payload | None) -> dict[str, Any] | None:
    if payload is None:
        return None
    return {"type": payload.type, "version": payload.version, "fields": json.loads(payload.json)}
