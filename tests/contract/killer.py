"""A program whose machine ends the process in a hook: at each start it goes on where the last one was killed.

    python -m tests.contract.killer JOURNAL HOW [begin]

It prints what its machine has handled when nothing is left to do.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from enum import Enum, auto
from typing import Any

from actorfsm import STAY, ActorSystem, Event, Machine, postpone, transition
from actorfsm.runtime import deliveries

__all__ = ["Bomb", "Born"]


class S(Enum):
    CALM = auto()
    ARMED = auto()


class Kill(Event[None]):
    how: str


class Note(Event[None]):
    text: str


class Arm(Event[None]):
    how: str


class Raise(Event[None]):
    how: str


class Start(Event[None]):
    how: str


def die(how: str) -> None:
    """End the process, as nothing in it can notice."""
    if how == "exit":
        os._exit(9)
    os.kill(os.getpid(), signal.SIGKILL)


class Bomb(Machine[S, Any], initial=S.CALM):
    notes: tuple[str, ...] = ()

    @postpone(S.CALM)
    @transition(S.ARMED, to=STAY)
    async def kill(self, event: Kill) -> None:
        die(event.how)

    @transition(S.CALM, to=STAY)
    @transition(S.ARMED, to=STAY)
    async def note(self, event: Note) -> None:
        self.notes = (*self.notes, event.text)

    @transition(S.CALM, to=S.ARMED)
    async def arm(self, event: Arm) -> None:
        if event.how == "timer":
            self.start_timer(Kill(how="signal"), after=0.01, name="fuse")

    @transition(S.ARMED, to=S.CALM)
    async def calm(self, event: Arm) -> None: ...

    @transition(S.ARMED, to=STAY)
    async def raise_own(self, event: Raise) -> None:
        self.next_event(Note(text="own"))
        self.next_event(Kill(how="signal"))
        self.next_event(Note(text="behind"))


class B(Enum):
    BORN = auto()


class Born(Machine[B, Any], final=(B.BORN,)):
    notes: tuple[str, ...] = ()

    @transition(to=B.BORN)
    async def start(self, event: Start) -> None:
        die(event.how)

    @transition(B.BORN, to=STAY)
    async def note(self, event: Note) -> None:
        self.notes = (*self.notes, event.text)


async def _begin(system: ActorSystem[Any], how: str) -> None:
    if how == "birth":
        system.tell("bomb", Start(how="exit"), durable=True)
        await asyncio.sleep(60)
    bomb = await system.spawn(Bomb, "bomb")
    if how == "postponed":
        await bomb.tell(Kill(how="signal")).accepted()
        await bomb.tell(Note(text="behind"), durable=True).accepted()
    await bomb.ask(Arm(how=how))
    if how == "own":
        bomb.tell(Raise(how=how), durable=True)
    elif how == "durable":
        bomb.tell(Kill(how="exit"), durable=True)
        bomb.tell(Note(text="behind"), durable=True)
    await asyncio.sleep(60)


async def main(journal: str, how: str, *, begins: bool) -> None:
    """Begin, or go on."""
    deliveries._LIVES = 3  # a life takes a second
    async with ActorSystem(Bomb, Born, journal=journal, trace=None) as system:
        if begins:
            await _begin(system, how)
        journal: Any = system._parts.journal
        await asyncio.sleep(0.5)
        while not system.quarantined() and await journal.pending():  # noqa: ASYNC110 -- the journal has no event
            await asyncio.sleep(0.01)
        if how != "birth":
            await system.load("bomb")
            print("notes", *system.snapshot("bomb").data["notes"], sep=",", end=" ")
        letters = await journal.dead_letters()
        print("dead", *(letter.message.event.type for letter in letters), sep=",", end=" ")
        print("held", *system.quarantined(), sep=",")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], begins=len(sys.argv) > 3))
