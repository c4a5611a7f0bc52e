"""`actorfsm dead list|show|replay|drop JOURNAL`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actorfsm.cli.journals import Address, AsJson, opened_to_read, opened_to_write, waited_for
from actorfsm.cli.output import json_line, print_json, time_of
from actorfsm.errors import EventIdUsed, NoSuchLetter
from actorfsm.journal.dead_letters import all_letters, letter_at, replay_letter
from actorfsm.shown import shown

if TYPE_CHECKING:
    from actorfsm.journal.entry import DeadMessage

__all__ = ["app"]

app = typer.Typer(help="Dead letters: events that nobody has handled.", no_args_is_help=True)

Place = Annotated[int, typer.Argument(metavar="N", help="the letter's number")]
Places = Annotated[list[int] | None, typer.Argument(metavar="[N]...", help="the letters' numbers")]
All = Annotated[bool, typer.Option("--all", help="all of them")]


@app.command("list")
def list_(journal: Address, *, as_json: AsJson = False) -> None:
    """List the dead letters of a journal."""
    waited_for(_list(journal, as_json=as_json))


async def _list(address: str, *, as_json: bool) -> None:
    async with opened_to_read(address) as journal:
        async for letter in all_letters(journal):
            if as_json:
                sys.stdout.write(json_line(_as_json(letter)) + "\n")
            else:
                text = (
                    f"{letter.place:>6}  {time_of(letter.at_us)}  {letter.machine_id}  {letter.message.event.type}  "
                    f"{letter.reason}"
                )
                sys.stdout.write(shown(text, 400) + "\n")


@app.command()
def show(journal: Address, place: Place, *, as_json: AsJson = False) -> None:
    """Show a dead letter with all that is known of it."""
    fields = _as_json(waited_for(_letter(journal, place)))
    if as_json:
        print_json(fields)
        return
    for name, value in fields.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        sys.stdout.write(f"{name}: {shown(text, 10_000)}\n")


async def _letter(address: str, place: int) -> DeadMessage:
    async with opened_to_read(address) as journal:
        return await letter_at(journal, place)


@app.command()
def replay(
    journal: Address, places: Places = None, *, everything: All = False, as_json: AsJson = False
) -> None:
    """Put dead letters back: the next system that opens the journal delivers them. No system may use it meanwhile."""
    _check(places, everything=everything)
    done, refused = waited_for(_replay(journal, places))
    if as_json:
        print_json({"replayed": done, "refused": refused})
    else:
        sys.stdout.write(f"replayed: {done:,}; the next system that opens the journal delivers them\n")
    if refused:
        sys.stderr.write(
            f"actorfsm: {len(refused):,} were applied before or wait already, drop them: "
            f"{' '.join(map(str, refused[:20]))}\n"
        )
        raise typer.Exit(1)


async def _replay(address: str, places: list[int] | None) -> tuple[int, list[int]]:
    done, refused = 0, list[int]()
    async with opened_to_write(address) as journal:
        chosen = (
            [letter async for letter in all_letters(journal)]
            if not places
            else [await letter_at(journal, place) for place in dict.fromkeys(places)]
        )
        for letter in chosen:
            try:
                await replay_letter(journal, letter)
                done += 1
            except EventIdUsed:
                refused.append(letter.place)
    return done, refused


@app.command()
def drop(
    journal: Address, places: Places = None, *, everything: All = False, as_json: AsJson = False
) -> None:
    """Forget dead letters. No system may use the journal meanwhile."""
    _check(places, everything=everything)
    count = waited_for(_drop(journal, places))
    if as_json:
        print_json({"dropped": count})
    else:
        sys.stdout.write(f"dropped: {count:,}\n")


async def _drop(address: str, places: list[int] | None) -> int:
    async with opened_to_write(address) as journal:
        if places:
            for place in places:
                await letter_at(journal, place)
            return await journal.drop_dead_letters(places)
        count = 0
        while page := await journal.dead_letters():
            count += await journal.drop_dead_letters([letter.place for letter in page])
        return count


def _check(places: list[int] | None, *, everything: bool) -> None:
    """Have either numbers or --all.

    Raises:
        NoSuchLetter: Neither, or both.
    """
    if bool(places) == everything:
        raise NoSuchLetter("name letters by their numbers, see `actorfsm dead list`, or give --all")


def _as_json(letter: DeadMessage) -> dict[str, Any]:
    message = letter.message
    return {
        "number": letter.place,
        "id": letter.machine_id,
        "at": time_of(letter.at_us),
        "reason": letter.reason,
        "type": message.event.type,
        "version": message.event.version,
        "event": json.loads(message.event.json),
        "event_id": message.event_id,
        "causation_id": message.causation_id,
        "correlation_id": message.correlation_id,
        "headers": dict(message.headers),
        "sender": message.sender,
        "attempts": message.attempt,
    }
