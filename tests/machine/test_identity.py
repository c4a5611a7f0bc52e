"""The identity of a definition, as text: all that a replay depends on stands in it, and no address of this process."""

from __future__ import annotations

from enum import StrEnum, auto
from typing import Annotated, Any, Literal, NewType

from pydantic import Field

from actorfsm import STAY, Event, Machine, on_exit, postpone, transition
from actorfsm.machine.identity import definition_lines
from actorfsm.machine.machine import definition_of

Euro = NewType("Euro", int)


class State(StrEnum):
    SHUT = auto()
    OPEN = auto()


class Enter(Event):
    who: list[Annotated[str, Field(max_length=9)]]
    how: Literal["door", "window"] = "door"


class Turn(Event): ...


class Room(Machine[State], initial=State.SHUT):
    paid: Euro = Euro(0)
    inside: dict[str, list[int]] = Field(default_factory=dict)
    note: str | None = None

    def has_room(self, event: Any) -> bool:
        return True

    @postpone(State.SHUT)
    @transition(State.OPEN, to=STAY, when=has_room)
    def enter(self, event: Enter) -> None: ...

    @transition(State.SHUT, to=State.OPEN)
    @transition(State.OPEN, to=State.SHUT)
    def turn(self, event: Turn) -> None: ...

    @on_exit()
    def leave(self, old: State, new: State) -> None: ...


def test_all_that_a_replay_depends_on_stands_in_the_lines_of_a_definition() -> None:
    lines = definition_lines(definition_of(Room))
    assert "state SHUT takes Enter, postponed" in lines
    assert "state OPEN takes Enter to OPEN when has_room and stays: body enter" in lines
    assert "state OPEN takes Turn to SHUT: exit leave, body turn" in lines
    text = "\n".join(lines)
    assert "who: list[str]" in text
    assert "how: Literal[door, window] = ..." in text
    assert "paid: " in text
    assert "Euro = ..." in text
    assert "inside: dict[str, list[int]] = ..." in text
    assert " at 0x" not in text
